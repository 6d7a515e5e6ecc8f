//! One request and its answer, over a connection that waits or a new one. Deliveries
//! and token calls both go this way, so both are vetted, capped and timed alike.
//!
//! **The status decides.** Once the head of an answer has come, the receiver has
//! answered: a body that hangs, breaks or never ends changes nothing, because
//! sending again would only give the receiver a duplicate.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};
use url::{Host, Url};

use super::pool::{Connection, Endpoint, Sent};
use super::{Client, Failure, Rules, dial, later, tls};
use crate::model::{FailureCode, Target, TlsSettings};

/// Framing and the connection are ours, whatever a subscription's headers say:
/// two opinions about where a request ends are two requests.
static OWN_HEADERS: [HeaderName; 9] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// What is to be sent, and under which rules.
pub(super) struct Outbound<'a> {
    pub(super) method: Method,
    pub(super) target: &'a Target,
    /// All but framing and `host`; moved into the request.
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) organization: &'a str,
    pub(super) tls: &'a TlsSettings,
    /// When the whole exchange must have ended.
    pub(super) deadline: Instant,
    pub(super) reading: Reading,
}

/// How much of an answer's body is of interest.
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
    pub(super) headers: HeaderMap,
    /// The beginning of the body.
    pub(super) body: Bytes,
    /// Whether that is all of it.
    pub(super) is_whole: bool,
}

impl Client {
    /// Sends `outbound` once, and reads what comes back.
    pub(super) async fn exchange(&self, mut outbound: Outbound<'_>) -> Result<Reply, Failure> {
        let rules = self.rules();
        let endpoint = endpoint(&outbound, &rules)?;
        let message = message(&mut outbound, &rules);
        let (deadline, reading) = (outbound.deadline, &outbound.reading);
        let answering = self.answer(&outbound, &endpoint, message, &rules);
        let (mut connection, response) =
            timeout_at(deadline, answering).await.unwrap_or_else(|_| Err(Failure::timeout()))?;

        let (head, mut incoming) = response.into_parts();
        let body_deadline = later(Instant::now(), reading.wait).min(deadline);
        let (mut kept, mut is_whole) = (BytesMut::new(), false);
        let to_the_end = async {
            is_whole = read(&mut connection, &mut incoming, reading, &mut kept).await;
            is_whole && connection.is_reusable().await
        };
        if timeout_at(body_deadline, to_the_end).await.unwrap_or(false) {
            self.0.pool.give(endpoint, connection, rules.options.keep_alive);
        }
        Ok(Reply { status: head.status, headers: head.headers, body: kept.freeze(), is_whole })
    }

    /// The head of the answer to `message`, and the connection its body comes on.
    async fn answer(
        &self,
        outbound: &Outbound<'_>,
        endpoint: &Endpoint,
        mut message: Request<Full<Bytes>>,
        rules: &Rules,
    ) -> Result<(Connection, http::Response<Incoming>), Failure> {
        let admits = |address: SocketAddr| dial::may_be_dialled(address, outbound.organization, &rules.policy);
        while let Some(mut connection) = self.0.pool.take(endpoint, admits) {
            match connection.send(message).await {
                Sent::Answered(response) => return Ok((connection, response)),
                Sent::Unsent(unsent, _) => message = unsent,
                Sent::Failed(error) => return Err(explain(&error)),
            }
        }
        // Boxed, because it is rare and large: every attempt would carry its size.
        let mut connection = Box::pin(self.connect(outbound, endpoint, rules)).await?;
        match connection.send(message).await {
            Sent::Answered(response) => Ok((connection, response)),
            Sent::Unsent(_, error) => Err(explain(&connection.why(error).await)),
            Sent::Failed(error) => Err(explain(&error)),
        }
    }

    /// A new connection to where `outbound` goes.
    async fn connect(
        &self,
        outbound: &Outbound<'_>,
        endpoint: &Endpoint,
        rules: &Rules,
    ) -> Result<Connection, Failure> {
        let host = host(&outbound.target.url)?;
        let (stream, address) = self.0.dialer.dial(host.clone(), endpoint.port, outbound.organization, rules).await?;
        let started = if endpoint.tls.is_some() {
            let stream = self.0.tls.handshake(stream, host, endpoint.port, outbound.tls).await?;
            Connection::start(stream, address).await
        } else {
            Connection::start(stream, address).await
        };
        started.map_err(|error| explain(&error))
    }
}

/// Reads `incoming` to its end (`true`), or as far as it is of interest.
async fn read(connection: &mut Connection, incoming: &mut Incoming, reading: &Reading, kept: &mut BytesMut) -> bool {
    let mut read_bytes = 0;
    while let Some(frame) = connection.frame(incoming).await {
        let Ok(frame) = frame else { return false };
        let Some(data) = frame.data_ref() else { continue };
        read_bytes += data.len();
        let wanted = data.len().min(reading.kept_bytes_max - kept.len());
        kept.extend_from_slice(&data[..wanted]);
        if read_bytes > reading.read_bytes_max {
            return false;
        }
    }
    true
}

fn host(url: &Url) -> Result<Host<&str>, Failure> {
    url.host().ok_or_else(|| Failure::new(FailureCode::Render, "the URL has no host"))
}

fn endpoint(outbound: &Outbound<'_>, rules: &Rules) -> Result<Endpoint, Failure> {
    let target = outbound.target;
    let tls = match target.url.scheme() {
        "https" => Some(tls::fingerprint(outbound.tls)),
        "http" => None,
        _ => return Err(Failure::new(FailureCode::Render, "the URL is neither https nor http")),
    };
    Ok(Endpoint { host: target.host.clone(), port: target.port, tls, proxy: rules.options.proxy.clone() })
}

/// The request as it goes out: origin form, exact length, our own framing.
fn message(outbound: &mut Outbound<'_>, rules: &Rules) -> Request<Full<Bytes>> {
    let mut headers = std::mem::take(&mut outbound.headers);
    for name in &OWN_HEADERS {
        headers.remove(name);
    }
    headers.insert(header::HOST, outbound.target.authority.clone());
    if let (false, Some(user_agent)) = (headers.contains_key(header::USER_AGENT), &rules.user_agent) {
        headers.insert(header::USER_AGENT, user_agent.clone());
    }
    // RFC 9110, section 8.6: without content, the methods that usually have some say so.
    let expects_content = !matches!(outbound.method, Method::GET | Method::DELETE);
    if !outbound.body.is_empty() || expects_content {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(outbound.body.len()));
    }
    let mut message = Request::new(Full::new(std::mem::take(&mut outbound.body)));
    *message.method_mut() = outbound.method.clone();
    *message.uri_mut() = outbound.target.path.clone();
    *message.headers_mut() = headers;
    message
}

/// Why no answer came. What hyper passes on from below counts more than its own
/// word for it: a refused client certificate, for one, arrives as a broken
/// connection.
fn explain(error: &hyper::Error) -> Failure {
    let mut innermost = error;
    let mut io = None;
    let mut source = error.source();
    while let Some(current) = source {
        innermost = current.downcast_ref().unwrap_or(innermost);
        io = current.downcast_ref::<std::io::Error>().or(io);
        source = current.source();
    }
    if let Some(error) = tls::find(error) {
        return Failure::new(FailureCode::Tls, tls::explain(error));
    }
    if let Some(error) = io {
        return Failure::new(FailureCode::Closed, format!("the connection broke before an answer: {}", error.kind()));
    }
    if innermost.is_parse_too_large() {
        return Failure::new(FailureCode::ResponseTooLarge, "the head of the answer is over its limits");
    }
    if innermost.is_parse() {
        return Failure::new(FailureCode::InvalidResponse, format!("the answer is not HTTP/1.1: {innermost}"));
    }
    if innermost.is_incomplete_message() || innermost.is_canceled() || innermost.is_closed() {
        return Failure::new(FailureCode::Closed, "the connection closed before an answer");
    }
    if innermost.is_user() {
        return Failure::new(FailureCode::Internal, format!("the request was not sent: {innermost}"));
    }
    // What hyper has no question for: bytes that came before anything was asked.
    Failure::new(FailureCode::InvalidResponse, format!("the answer is not HTTP/1.1: {innermost}"))
}
