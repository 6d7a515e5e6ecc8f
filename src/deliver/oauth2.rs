//! OAuth 2.0 client credentials (RFC 6749, section 4.4): fetches tokens and holds
//! each for its lane until it expires. **One request at a time a lane**: who comes
//! while a token is fetched waits for it.
//!
//! A token call is an exchange like a delivery: vetted, capped, timed. It uses the
//! platform's authorities, not the subscription's TLS settings, which are for the
//! receiver. **Nothing of its answer's body is ever told**, because an error page
//! may repeat what was sent.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};
use url::{Url, form_urlencoded};

use super::cache::Cache;
use super::exchange::{Reading, Terms};
use super::tls::{Fingerprint, digest};
use super::{Client, Failure, later};
use crate::id::Lane;
use crate::limits::{
    ACCESS_TOKEN_BYTES_MAX, TOKEN_ANSWER_BYTES_MAX, TOKEN_LIFETIME_DEFAULT, TOKEN_LIFETIME_MAX, TOKEN_MARGIN_MAX,
    TOKENS_MAX,
};
use crate::model::{FailureCode, Method, Outgoing, Target, TlsSettings};
use crate::secret::Secret;

/// What a token is fetched with.
pub(super) struct Credentials<'a> {
    pub(super) token_url: &'a str,
    pub(super) client_id: &'a str,
    pub(super) client_secret: &'a Secret,
    pub(super) scope: Option<&'a str>,
    pub(super) audience: Option<&'a str>,
}

/// For whom, and until when.
#[derive(Clone, Copy)]
pub(super) struct Errand<'a> {
    pub(super) organization: &'a str,
    pub(super) lane: Lane,
    pub(super) deadline: Instant,
}

/// A token to send.
pub(super) struct Held {
    pub(super) token: Secret,
    /// Whether it was fetched for this very request.
    pub(super) is_new: bool,
}

/// The tokens of all lanes.
pub(super) struct Tokens(Mutex<Cache<Lane, Arc<Slot>>>);

/// One lane's token, of one set of credentials.
struct Slot {
    credentials: Fingerprint,
    token: Mutex<Option<Token>>,
    fetching: tokio::sync::Mutex<()>,
}

struct Token {
    token: Secret,
    until: Instant,
}

impl Tokens {
    pub(super) fn new() -> Tokens {
        Tokens(Mutex::new(Cache::new(TOKENS_MAX)))
    }

    /// Drops the token of `lane`.
    pub(super) fn forget(&self, lane: Lane) {
        self.slots().remove(&lane);
    }

    /// Drops the token of `lane` if it still is `rejected`: the receiver refused it.
    pub(super) fn discard(&self, lane: Lane, rejected: &Secret) {
        if let Some(slot) = self.slots().get(&lane) {
            slot.token().take_if(|held| held.token == *rejected);
        }
    }

    /// The slot of `lane`; a new one where the credentials have changed.
    fn slot(&self, lane: Lane, credentials: &Credentials<'_>) -> Arc<Slot> {
        let fingerprint = credentials.fingerprint();
        let mut slots = self.slots();
        if let Some(slot) = slots.get(&lane).filter(|slot| slot.credentials == fingerprint) {
            return slot.clone();
        }
        let fetching = tokio::sync::Mutex::new(());
        let slot = Arc::new(Slot { credentials: fingerprint, token: Mutex::new(None), fetching });
        slots.insert(lane, slot.clone());
        slot
    }

    fn slots(&self) -> MutexGuard<'_, Cache<Lane, Arc<Slot>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn token(&self) -> MutexGuard<'_, Option<Token>> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn valid(&self, now: Instant) -> Option<Held> {
        let token = self.token();
        let valid = token.as_ref().filter(|held| now < held.until)?;
        Some(Held { token: valid.token.clone(), is_new: false })
    }
}

impl Credentials<'_> {
    fn fingerprint(&self) -> Fingerprint {
        let secret = self.client_secret.expose();
        digest(&[Some(self.token_url), Some(self.client_id), Some(secret), self.scope, self.audience])
    }

    /// HTTP Basic with the id and the secret form-encoded: the one method that
    /// every server must know (RFC 6749, section 2.3.1).
    fn authorization(&self) -> Result<HeaderValue, Failure> {
        let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        basic(&encode(self.client_id), &encode(self.client_secret.expose()))
    }

    fn form(&self) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        for (name, value) in [("scope", self.scope), ("audience", self.audience)] {
            if let Some(value) = value {
                form.append_pair(name, value);
            }
        }
        form.finish()
    }
}

impl Client {
    /// The lane's token: the one it holds, else a new one.
    pub(super) async fn token(&self, credentials: &Credentials<'_>, errand: Errand<'_>) -> Result<Held, Failure> {
        let slot = self.0.tokens.slot(errand.lane, credentials);
        if let Some(held) = slot.valid(Instant::now()) {
            return Ok(held);
        }
        let Ok(_alone) = timeout_at(errand.deadline, slot.fetching.lock()).await else {
            return Err(told_of_endpoint(Failure::timeout()));
        };
        if let Some(held) = slot.valid(Instant::now()) {
            return Ok(held);
        }
        let asked_at = Instant::now();
        let (token, lifetime) = self.fetch(credentials, errand).await?;
        let margin = TOKEN_MARGIN_MAX.min(lifetime / 10);
        *slot.token() = Some(Token { token: token.clone(), until: later(asked_at, lifetime - margin) });
        Ok(Held { token, is_new: true })
    }

    /// Asks the token endpoint.
    async fn fetch(&self, credentials: &Credentials<'_>, errand: Errand<'_>) -> Result<(Secret, Duration), Failure> {
        let target = Url::parse(credentials.token_url).ok().and_then(|url| Target::new(url).ok());
        let target = target.ok_or_else(|| failure("token_url is not a URL"))?;
        let tls = TlsSettings::default();
        let headers = vec![
            ("accept".into(), "application/json".to_owned()),
            ("content-type".into(), "application/x-www-form-urlencoded".to_owned()),
        ];
        let (target, body) = (Arc::new(target), credentials.form().into());
        let request = Outgoing { method: Method::Post, target, headers, body, missing: Vec::new() };
        let terms = Terms {
            organization: errand.organization,
            tls: &tls,
            deadline: errand.deadline,
            reading: Reading {
                read_bytes_max: TOKEN_ANSWER_BYTES_MAX,
                kept_bytes_max: TOKEN_ANSWER_BYTES_MAX,
                wait: Duration::MAX,
            },
        };
        let authorization = Some(credentials.authorization()?);
        let prepared = self.prepare(request, authorization, terms).map_err(told_of_endpoint)?;
        let reply = self.exchange(prepared).await.map_err(told_of_endpoint)?;
        if !reply.status.is_success() {
            let status = reply.status.as_u16();
            let speaks_against_it = status == 429 || reply.status.is_server_error();
            let failure = failure(&format!("it answered {status}"));
            return Err(Failure { token_status: speaks_against_it.then_some(status), ..failure });
        }
        if !reply.is_whole {
            return Err(failure("its answer is too large or was cut off"));
        }
        read(&reply.body)
    }
}

/// An answer with a token (RFC 6749, section 5.1).
#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    token_type: String,
    #[serde(default)]
    expires_in: Option<Seconds>,
}

/// Some servers write the number as a string.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(f64),
    Text(String),
}

/// The token of an answer, and how long it lives.
fn read(body: &[u8]) -> Result<(Secret, Duration), Failure> {
    let answer: TokenAnswer =
        serde_json::from_slice(body).map_err(|_| failure("its answer is not JSON with a token and its type"))?;
    let token = Secret::new(answer.access_token);
    if !answer.token_type.eq_ignore_ascii_case("bearer") {
        return Err(failure("its token is not a bearer token"));
    }
    if token.expose().is_empty() || token.expose().len() > ACCESS_TOKEN_BYTES_MAX {
        return Err(failure("its token is empty or too long"));
    }
    bearer(&token).map_err(|_| failure("its token cannot be sent in a header"))?;
    let lifetime = match answer.expires_in {
        None => Some(TOKEN_LIFETIME_DEFAULT),
        Some(Seconds::Number(seconds)) => Duration::try_from_secs_f64(seconds).ok(),
        Some(Seconds::Text(text)) => text.parse().ok().map(Duration::from_secs),
    };
    let lifetime = lifetime.ok_or_else(|| failure("its expires_in is not a number of seconds"))?;
    Ok((token, lifetime.min(TOKEN_LIFETIME_MAX)))
}

/// The `authorization` of a bearer token (RFC 6750).
pub(super) fn bearer(token: &Secret) -> Result<HeaderValue, Failure> {
    authorization("Bearer", token.expose())
}

/// The `authorization` of a user and a password (RFC 7617, UTF-8).
pub(super) fn basic(user: &str, password: &str) -> Result<HeaderValue, Failure> {
    authorization("Basic", &basic_credentials(user, password))
}

/// What stands behind `Basic`.
pub(super) fn basic_credentials(user: &str, password: &str) -> String {
    STANDARD.encode(format!("{user}:{password}"))
}

fn authorization(scheme: &str, credentials: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::from_str(&format!("{scheme} {credentials}"))
        .map_err(|_| Failure::new(FailureCode::Render, "the credentials cannot be sent in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// What kept the token endpoint from being asked, by its own code: an endpoint that
/// cannot be reached is one, whichever of the two it is.
fn told_of_endpoint(failure: Failure) -> Failure {
    Failure::new(failure.code, format!("token endpoint: {}", failure.detail))
}

/// A wrong answer of the token endpoint.
fn failure(detail: &str) -> Failure {
    Failure::new(FailureCode::Oauth2, format!("token endpoint: {detail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_servers_write_them() {
        let lifetime = |body: &str| {
            read(body.as_bytes()).map(|(token, lifetime)| {
                assert_eq!(token.expose(), "t");
                lifetime.as_secs()
            })
        };
        for (body, seconds) in [
            (r#"{"access_token":"t","token_type":"Bearer","expires_in":60}"#, 60),
            (r#"{"access_token":"t","token_type":"bearer","expires_in":"60","scope":"x"}"#, 60),
            (r#"{"access_token":"t","token_type":"BEARER"}"#, 300),
            (r#"{"access_token":"t","token_type":"bearer","expires_in":null}"#, 300),
            (r#"{"access_token":"t","token_type":"bearer","expires_in":0}"#, 0),
            (r#"{"access_token":"t","token_type":"bearer","expires_in":1e18}"#, 86_400),
        ] {
            assert_eq!(lifetime(body), Ok(seconds), "{body}");
        }
        for body in [
            "",
            "<html>secret</html>",
            "{}",
            r#"{"access_token":"secret"}"#,
            r#"{"access_token":"secret","token_type":"mac"}"#,
            r#"{"access_token":"","token_type":"bearer"}"#,
            r#"{"access_token":"secret\r\nx: y","token_type":"bearer"}"#,
            r#"{"access_token":"secret","token_type":"bearer","expires_in":-1}"#,
            r#"{"access_token":"secret","token_type":"bearer","expires_in":"secret"}"#,
            r#"{"access_token":"secret","token_type":"bearer","expires_in":1e400}"#,
        ] {
            let failure = lifetime(body).expect_err(body);
            assert_eq!(failure.code, FailureCode::Oauth2, "{body}");
            assert!(!failure.detail.contains("secret"), "{}", failure.detail);
        }
    }

    #[test]
    fn id_and_secret_are_form_encoded_before_they_are_base64() {
        let secret = Secret::new("a b+c".to_owned());
        let credentials = Credentials {
            token_url: "",
            client_id: "we:us",
            client_secret: &secret,
            scope: Some("read write"),
            audience: None,
        };
        let header = credentials.authorization().expect("a header");
        assert_eq!(header.to_str().expect("text"), format!("Basic {}", STANDARD.encode("we%3Aus:a+b%2Bc")));
        assert_eq!(credentials.form(), "grant_type=client_credentials&scope=read+write");
    }
}
