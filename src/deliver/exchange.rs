//! One request and its answer, over a connection that waits or a new one. Deliveries
//! and token calls both go this way, so both are vetted, capped and timed alike.
//!
//! **The status decides.** Once the head of an answer has come, the receiver has
//! answered: a body that hangs, breaks or never ends changes nothing, because
//! sending again would only give the receiver a duplicate.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::uri::PathAndQuery;
use http::{HeaderValue, StatusCode};
use tokio::time::{Instant, timeout_at};
use url::{Host, Url};

use super::connection::{Broken, Connection, Ended, Unwritten};
use super::http1::{AnswerHead, Body, Malformed, RequestHead};
use super::pool::Endpoint;
use super::{Client, Failure, Rules, dial, later, tls};
use crate::limits::COPIED_BODY_BYTES_MAX;
use crate::model::{FailureCode, Method, Outgoing, Target, TlsSettings};

/// Framing and the connection are ours, whatever a subscription's headers say:
/// two opinions about where a request ends are two requests.
const OWN_HEADERS: [&str; 9] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "te",
    "trailer",
    "upgrade",
    "keep-alive",
    "proxy-connection",
];

/// What a head takes beside its path and the headers that are given, roughly.
const FRAMING_BYTES: usize = 256;

/// Under which rules a request is sent.
#[derive(Clone, Copy)]
pub(super) struct Terms<'a> {
    pub(super) organization: &'a str,
    pub(super) tls: &'a TlsSettings,
    /// When the whole exchange must have ended.
    pub(super) deadline: Instant,
    pub(super) reading: Reading,
}

/// How much of an answer's body is of interest.
#[derive(Clone, Copy)]
pub(super) struct Reading {
    /// Beyond this it is not read on.
    pub(super) read_bytes_max: usize,
    /// Of what was read, this much is kept.
    pub(super) kept_bytes_max: usize,
    /// How long it is waited for, within the exchange's deadline.
    pub(super) wait: Duration,
}

/// An answer.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    /// The `Retry-After` header, unread.
    pub(super) retry_after: Option<String>,
    /// The beginning of the body.
    pub(super) body: Bytes,
    /// Whether that is all of it.
    pub(super) is_whole: bool,
}

/// A request that is ready to go out.
pub(super) struct Prepared<'a> {
    terms: Terms<'a>,
    rules: Arc<Rules>,
    target: Arc<Target>,
    endpoint: Endpoint,
    request: Unwritten,
}

impl Client {
    /// Writes `request` out, with `authorization` in place of what it has of that. Nothing of
    /// it needs waiting; its headers and a small body are not kept.
    pub(super) fn prepare<'a>(
        &self,
        request: Outgoing,
        authorization: Option<HeaderValue>,
        terms: Terms<'a>,
    ) -> Result<Prepared<'a>, Failure> {
        let (rules, target) = (self.rules(), request.target.clone());
        let endpoint = endpoint(&target, terms.tls, &rules)?;
        let request = written_out(request, authorization, &rules)?;
        Ok(Prepared { terms, rules, target, endpoint, request })
    }

    /// Sends a request once, and reads what comes back.
    #[expect(clippy::manual_async_fn, reason = "an async function has room for its arguments twice")]
    pub(super) fn exchange<'a>(
        &'a self,
        mut prepared: Prepared<'a>,
    ) -> impl Future<Output = Result<Reply, Failure>> + Send + 'a {
        async move {
            let deadline = prepared.terms.deadline;
            let (mut connection, head) =
                timeout_at(deadline, self.answer(&mut prepared)).await.unwrap_or_else(|_| Err(Failure::timeout()))?;

            let AnswerHead { status, retry_after, mut body, is_kept } = head;
            let (request, reading) = (&mut prepared.request, &prepared.terms.reading);
            let body_deadline = later(Instant::now(), reading.wait).min(deadline);
            let mut kept = BytesMut::new();
            let to_the_end = read(&mut connection, &mut body, request, reading, &mut kept);
            let is_whole = timeout_at(body_deadline, to_the_end).await.unwrap_or(false);
            // Who takes the request before all of it has come is to get the rest.
            if status.is_success() && !request.is_written() {
                let _ = timeout_at(deadline, connection.finish(request)).await;
            }
            if is_whole && is_kept && request.is_written() && connection.rest() {
                self.0.pool.give(prepared.endpoint, connection, prepared.rules.options.keep_alive);
            }
            Ok(Reply { status, retry_after, body: kept.freeze(), is_whole })
        }
    }

    /// The head of the answer, and the connection its body comes on.
    async fn answer(&self, prepared: &mut Prepared<'_>) -> Result<(Connection, AnswerHead), Failure> {
        let Prepared { terms, rules, target, endpoint, request } = prepared;
        let admits = |address: SocketAddr| dial::may_be_dialled(address, terms.organization, &rules.policy);
        loop {
            let waiting = self.0.pool.take(endpoint, admits);
            let is_new = waiting.is_none();
            let mut connection = match waiting {
                Some(connection) => connection,
                // Boxed, because it is rare and large: every attempt would carry its size.
                None => Box::pin(self.connect(&target.url, terms, endpoint, rules)).await?,
            };
            match connection.ask(request).await {
                Ok(head) => return Ok((connection, head)),
                // Nothing was written: the next one may still be open.
                Err(Broken::Unsent(_)) if !is_new => {}
                Err(Broken::Unsent(ended) | Broken::Sent(ended)) => return Err(explain(&ended)),
            }
        }
    }

    /// A new connection to where `url` leads.
    async fn connect(
        &self,
        url: &Url,
        terms: &Terms<'_>,
        endpoint: &Endpoint,
        rules: &Rules,
    ) -> Result<Connection, Failure> {
        let host = host(url)?;
        let (stream, address) = self.0.dialer.dial(host.clone(), endpoint.port, terms.organization, rules).await?;
        if endpoint.tls.is_none() {
            return Ok(Connection::new(stream, address));
        }
        let stream = self.0.tls.handshake(stream, host, endpoint.port, terms.tls).await?;
        Ok(Connection::new(stream, address))
    }
}

/// Reads `body` to its end (`true`), or as far as it is of interest.
async fn read(
    connection: &mut Connection,
    body: &mut Body,
    request: &mut Unwritten,
    reading: &Reading,
    kept: &mut BytesMut,
) -> bool {
    let mut read_bytes = 0;
    loop {
        let keep = |data: &[u8]| {
            read_bytes += data.len();
            let wanted = data.len().min(reading.kept_bytes_max - kept.len());
            kept.extend_from_slice(&data[..wanted]);
        };
        let is_at_end = connection.body(body, request, keep).await;
        match is_at_end {
            _ if read_bytes > reading.read_bytes_max => return false,
            Some(true) => return true,
            Some(false) => {}
            None => return false,
        }
    }
}

fn host(url: &Url) -> Result<Host<&str>, Failure> {
    url.host().ok_or_else(|| Failure::new(FailureCode::Render, "the URL has no host"))
}

fn endpoint(target: &Target, settings: &TlsSettings, rules: &Rules) -> Result<Endpoint, Failure> {
    let tls = match target.url.scheme() {
        "https" => Some(tls::fingerprint(settings)),
        "http" => None,
        _ => return Err(Failure::new(FailureCode::Render, "the URL is neither https nor http")),
    };
    Ok(Endpoint { host: target.host.clone(), port: target.port, tls, proxy: rules.options.proxy.clone() })
}

/// The request as it goes out: origin form, exact length, our own framing. A body that is
/// small enough stands behind the head, and what it was made of is not kept.
fn written_out(request: Outgoing, authorization: Option<HeaderValue>, rules: &Rules) -> Result<Unwritten, Failure> {
    let Outgoing { method, target, headers, body, .. } = request;
    let unsendable = |name: &str| Failure::new(FailureCode::Render, format!("the header {name} cannot be sent"));
    let is_one_of = |name: &str, names: &[&str]| names.iter().any(|known| name.eq_ignore_ascii_case(known));
    let body_bytes = body.len();
    let (copied, apart) = if body_bytes <= COPIED_BODY_BYTES_MAX { (body, Bytes::new()) } else { (Bytes::new(), body) };

    let root = PathAndQuery::from_static("/");
    let path = target.path.path_and_query().unwrap_or(&root);
    let headers_bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    let mut head = RequestHead::new(method, path, path.as_str().len() + headers_bytes + FRAMING_BYTES + copied.len());
    let mut add = |name: &str, value: &[u8]| head.add(name, value).map_err(|_| unsendable(name));
    add("host", target.authority.as_bytes())?;
    for (name, value) in &headers {
        let is_replaced = authorization.is_some() && is_one_of(name, &["authorization"]);
        if !is_replaced && !is_one_of(name, &OWN_HEADERS) {
            add(name, value.as_bytes())?;
        }
    }
    if let Some(authorization) = &authorization {
        add("authorization", authorization.as_bytes())?;
    }
    if let Some(user_agent) = &rules.user_agent
        && !headers.iter().any(|(name, _)| is_one_of(name, &["user-agent"]))
    {
        add("user-agent", user_agent.as_bytes())?;
    }
    // RFC 9110, section 8.6: without content, the methods that usually have some say so.
    let expects_content = !matches!(method, Method::Get | Method::Delete);
    if body_bytes > 0 || expects_content {
        add("content-length", body_bytes.to_string().as_bytes())?;
    }
    let mut head = head.end();
    head.extend_from_slice(&copied);
    Ok(Unwritten::new(head, apart))
}

/// Why no answer came. What TLS says counts more than what it led to: a refused client
/// certificate, for one, arrives as a broken connection.
fn explain(ended: &Ended) -> Failure {
    match ended {
        Ended::Closed => Failure::new(FailureCode::Closed, "the connection closed before an answer"),
        Ended::Io(error) => match tls::find(error) {
            Some(error) => Failure::new(FailureCode::Tls, tls::explain(error)),
            None => {
                let detail = format!("the connection broke before an answer: {}", error.kind());
                Failure::new(FailureCode::Closed, detail)
            }
        },
        Ended::Unasked => Failure::new(FailureCode::InvalidResponse, "the receiver spoke before it was asked"),
        Ended::Malformed(Malformed::TooLarge) => {
            Failure::new(FailureCode::ResponseTooLarge, Malformed::TooLarge.to_string())
        }
        Ended::Malformed(malformed) => Failure::new(FailureCode::InvalidResponse, malformed.to_string()),
    }
}
