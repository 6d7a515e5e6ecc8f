//! One attempt: resolve, vet every address, dial the vetted one, TLS, send, read
//! within limits. Knows no store, no schedule and no format.
//!
//! - `address` says what may be dialled, `dial` dials it and nothing else, through the
//!   `tunnel` of a proxy where one is configured;
//! - `tls` checks who answers, `certificates` keeps until when they may, `pool` keeps
//!   connections;
//! - `exchange` sends one request and reads its answer, over a `connection` that speaks
//!   `http1`; `oauth2` fetches tokens.
//!
//! **No redirect is followed, no cookie kept, nothing sent twice**, but for one
//! case: a receiver that answers 401 to a token from the cache gets the request
//! again with a new one.

mod address;
mod cache;
mod certificates;
mod connection;
mod dial;
mod exchange;
mod http1;
mod oauth2;
mod pool;
#[cfg(test)]
pub(crate) mod simulated;
#[cfg(test)]
mod tests;
mod tls;
mod tunnel;

use std::borrow::Cow;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use tokio::time::Instant;
use url::Url;
use zeroize::Zeroizing;

use crate::config::{self, AllowedNetwork, Proxy, environment};
use crate::id::Lane;
use crate::limits::{DETAIL_CHARS_MAX, RESPONSE_BODY_WAIT, RESPONSE_KEPT_BYTES_MAX};
use crate::model::{Authentication, FailureCode, Name, Outgoing, TlsSettings};
use crate::secret;
use crate::time::Timestamp;

use address::Policy;
use dial::Dialer;
use exchange::{Reading, Reply, Terms};
use oauth2::{Credentials, Errand, Tokens};
use pool::Pool;
use tls::Tls;
pub use tls::TlsError;

/// What can be set, and changed by [`Client::reconfigure`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Resolving and connecting.
    pub connect_timeout: Duration,
    /// Idle connections are closed after this; zero: none are kept.
    pub keep_alive: Duration,
    /// The `user-agent` of requests that have none; what no header can carry is not sent.
    pub user_agent: String,
    /// Networks opened beside the public ones.
    pub allow_networks: Vec<AllowedNetwork>,
    /// By whom receivers are reached; none: directly.
    pub proxy: Option<Proxy>,
}

impl From<&config::Delivery> for Options {
    fn from(delivery: &config::Delivery) -> Options {
        Options {
            connect_timeout: delivery.connect_timeout,
            keep_alive: delivery.keep_alive,
            user_agent: delivery.user_agent.clone(),
            allow_networks: delivery.allow_networks.clone(),
            proxy: delivery.proxy.clone(),
        }
    }
}

/// Whom we trust to say who a receiver is, beside a subscription's `ca_pem`.
#[derive(Clone, Debug)]
pub enum Roots {
    /// Whom the platform trusts.
    Platform,
    /// The authorities in this PEM text, and nobody else.
    Pem(String),
}

/// One exchange to be made.
pub struct Call<'a> {
    /// What to send.
    pub request: Outgoing,
    /// Whose it is: decides which networks are open.
    pub organization: &'a Name,
    /// Whose token cache is used.
    pub lane: Lane,
    /// How to prove who sends.
    pub authentication: &'a Authentication,
    /// How to check the receiver.
    pub tls: &'a TlsSettings,
    /// The whole exchange, tokens included.
    pub timeout: Duration,
    /// What is read of the answer's body.
    pub response_read_bytes_max: usize,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// How long it took.
    pub duration: Duration,
    /// The host's answer, or why there is none.
    pub result: Result<Answer, Failure>,
}

/// What a receiver answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The `Retry-After` header, unread.
    pub retry_after: Option<String>,
    /// The beginning of the body, at most [`crate::limits::RESPONSE_KEPT_BYTES_MAX`],
    /// without what the request was authenticated by.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The stable name.
    pub code: FailureCode,
    /// More, for people; no secrets, nothing of a token endpoint's body.
    pub detail: String,
    /// Of code `oauth2`: the token endpoint's status, where it was 429 or a 5xx.
    pub token_status: Option<u16>,
}

impl Failure {
    fn new(code: FailureCode, detail: impl Into<String>) -> Failure {
        let detail: String = detail.into();
        let cut = detail.char_indices().nth(DETAIL_CHARS_MAX).map_or(detail.len(), |(at, _)| at);
        Failure { code, detail: detail[..cut].to_owned(), token_status: None }
    }

    fn timeout() -> Failure {
        Failure::new(FailureCode::Timeout, "no answer within timeout")
    }
}

/// Makes exchanges. Clones share connections, tokens and settings. Belongs into a
/// tokio runtime.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

struct Shared {
    rules: RwLock<Arc<Rules>>,
    dialer: Dialer,
    tls: Tls,
    pool: Arc<Pool>,
    tokens: Tokens,
    warnings: Vec<String>,
    /// Answers in place of the network.
    #[cfg(test)]
    simulated: Option<simulated::Network>,
}

/// The options in force, as an exchange needs them.
struct Rules {
    options: Options,
    policy: Policy,
    user_agent: Option<HeaderValue>,
}

impl Rules {
    fn new(options: Options, own: Vec<SocketAddr>) -> Rules {
        let policy = Policy { allowed: options.allow_networks.clone(), own };
        let user_agent = HeaderValue::from_str(&options.user_agent).ok();
        Rules { options, policy, user_agent }
    }
}

impl Shared {
    fn new(options: Options, roots: &Roots) -> Result<Shared, TlsError> {
        let (tls, warnings) = Tls::new(roots)?;
        Ok(Shared {
            rules: RwLock::new(Arc::new(Rules::new(options, Vec::new()))),
            dialer: Dialer::new(),
            tls,
            pool: Arc::new(Pool::of(environment::open_files_share())),
            tokens: Tokens::new(),
            warnings,
            #[cfg(test)]
            simulated: None,
        })
    }
}

impl Client {
    /// A client that trusts `roots`. Reads the platform's from its files.
    ///
    /// # Errors
    /// When `roots` are given and are not certificates.
    pub fn new(options: Options, roots: &Roots) -> Result<Client, TlsError> {
        Ok(Client(Arc::new(Shared::new(options, roots)?)))
    }

    /// What the log should say at start: authorities of the platform that cannot
    /// be read, or that there are none.
    pub fn warnings(&self) -> &[String] {
        &self.0.warnings
    }

    /// Puts other options in force. Connections stay, and are vetted anew by the
    /// new networks before they are used again.
    pub fn reconfigure(&self, options: Options) {
        let mut rules = self.0.rules.write().unwrap_or_else(PoisonError::into_inner);
        *rules = Arc::new(Rules::new(options, rules.policy.own.clone()));
    }

    /// Names the daemon's own listening sockets: they are never dialled, whatever
    /// networks are open. Replaces those named before. Belongs before the first exchange.
    pub fn refuse(&self, listeners: Vec<SocketAddr>) {
        let mut rules = self.0.rules.write().unwrap_or_else(PoisonError::into_inner);
        *rules = Arc::new(Rules::new(rules.options.clone(), listeners));
    }

    /// Drops the token of a lane, because its subscription changed or is gone.
    pub fn forget(&self, lane: Lane) {
        self.0.tokens.forget(lane);
    }

    /// Until when the certificates of the endpoints of `urls` are valid, as they were last
    /// seen: one an endpoint, none of those that were not seen since the start.
    pub fn certificates<'a>(&self, urls: impl IntoIterator<Item = &'a str>) -> Vec<Timestamp> {
        let urls = urls.into_iter().filter_map(|url| Url::parse(url).ok()).filter(|url| url.scheme() == "https");
        let endpoints: HashSet<(String, u16)> =
            urls.filter_map(|url| Some((url.host_str()?.to_owned(), url.port_or_known_default()?))).collect();
        endpoints.into_iter().filter_map(|endpoint| self.0.tls.certificates.valid_until(&endpoint)).collect()
    }

    /// Makes one exchange. Never fails otherwise than by the exchange's own result;
    /// dropping the future closes the connection.
    pub async fn send(&self, call: Call<'_>) -> Exchange {
        #[cfg(test)]
        if let Some(network) = &self.0.simulated {
            return network.exchange(call).await;
        }
        let started = Instant::now();
        let deadline = later(started, call.timeout);
        let result = self.attempt(call, deadline).await;
        Exchange { duration: started.elapsed(), result: result.map(answer) }
    }

    async fn attempt(&self, call: Call<'_>, deadline: Instant) -> Result<Reply, Failure> {
        let authentication = call.authentication;
        let authorization = match authentication {
            Authentication::None => None,
            Authentication::Basic { user, password } => Some(oauth2::basic(user, password.expose())?),
            Authentication::Bearer { token } => Some(oauth2::bearer(token)?),
            Authentication::OAuth2 { token_url, client_id, client_secret, scope, audience } => {
                let (scope, audience) = (scope.as_deref(), audience.as_deref());
                let credentials = Credentials { token_url, client_id, client_secret, scope, audience };
                // Boxed as connecting is: most attempts need no token.
                return Box::pin(self.attempt_with_token(call, credentials, deadline)).await;
            }
        };
        let terms = terms(&call, deadline);
        let reply = self.exchange(self.prepare(call.request, authorization, terms)?).await?;
        Ok(match authentication {
            Authentication::Basic { user, password } => {
                let sent = Zeroizing::new(oauth2::basic_credentials(user, password.expose()));
                unrepeated(reply, &[&sent, password.expose()])
            }
            Authentication::Bearer { token } => unrepeated(reply, &[token.expose()]),
            Authentication::None | Authentication::OAuth2 { .. } => reply,
        })
    }

    /// A 401 to a token that was held may only mean that it was revoked: it is
    /// fetched anew and the request sent once more, because the receiver took
    /// nothing. A token fetched in this very attempt is not better the second time.
    async fn attempt_with_token(
        &self,
        call: Call<'_>,
        credentials: Credentials<'_>,
        deadline: Instant,
    ) -> Result<Reply, Failure> {
        let terms = terms(&call, deadline);
        let errand = Errand { organization: call.organization, lane: call.lane, deadline };
        let (mut request, mut is_repeated) = (call.request, false);
        loop {
            let held = self.token(&credentials, errand).await?;
            let authorization = Some(oauth2::bearer(&held.token)?);
            let again = (!held.is_new && !is_repeated).then(|| request.clone());
            let reply = self.exchange(self.prepare(request, authorization, terms)?).await?;
            let reply = unrepeated(reply, &[held.token.expose()]);
            if reply.status != StatusCode::UNAUTHORIZED {
                return Ok(reply);
            }
            self.0.tokens.discard(call.lane, &held.token);
            let Some(again) = again else { return Ok(reply) };
            (request, is_repeated) = (again, true);
        }
    }

    fn rules(&self) -> Arc<Rules> {
        self.0.rules.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// For the fuzz targets: an answer's status and body, whether that came to its end and whether
/// its connection is kept, read from these pieces.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_answer<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Option<(u16, Vec<u8>, bool, bool)> {
    http1::read(pieces)
}

/// For the fuzz targets: the address that the host of `url` is, where it may be dialled
/// though nothing was opened, or the name that is to be looked up.
#[cfg(any(test, fuzzing))]
pub(crate) fn dialled(url: &url::Url) -> Option<Result<SocketAddr, &str>> {
    match dial::literal(url.host()?, url.port_or_known_default()?) {
        Ok(address) => dial::may_be_dialled(address, "acme", &Policy::default()).then_some(Ok(address)),
        Err(name) => Some(Err(name)),
    }
}

fn terms<'a>(call: &Call<'a>, deadline: Instant) -> Terms<'a> {
    Terms {
        organization: call.organization,
        tls: call.tls,
        deadline,
        reading: Reading {
            read_bytes_max: call.response_read_bytes_max,
            kept_bytes_max: RESPONSE_KEPT_BYTES_MAX,
            wait: RESPONSE_BODY_WAIT,
        },
    }
}

/// What a receiver repeats of what it was sent is not kept: who may read answers may
/// not read secrets.
fn unrepeated(reply: Reply, sent: &[&str]) -> Reply {
    match secret::redact(&reply.body, sent) {
        Cow::Borrowed(_) => reply,
        Cow::Owned(body) => Reply { body: body.into(), ..reply },
    }
}

fn answer(reply: Reply) -> Answer {
    let Reply { status, retry_after, body, .. } = reply;
    Answer { status: status.as_u16(), retry_after, body }
}

/// `now` and `span`; where that is beyond what the clock can say, in some years.
fn later(now: Instant, span: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(365 * 86_400);
    now.checked_add(span).unwrap_or_else(|| now + FAR)
}
