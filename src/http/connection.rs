//! One connection: reads its requests one after the other, has each answered,
//! and ends gracefully when told to. **A panic costs its request, not more.**

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::limits::{REQUEST_HEAD_BYTES_MAX, REQUEST_HEAD_TIMEOUT, REQUEST_ID_CHARS_MAX};

use super::stall::Stallable;
use super::{Answering, Body, Code, HeaderMap, HeaderName, HeaderValue, Problem, Response, Service, header};

/// By what a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// TCP, to this address of ours.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix,
}

/// What a new id takes at most.
const REQUEST_ID_BYTES: usize = 8 + 1 + 16;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// An answer with this extension names its request in that header too.
#[derive(Clone)]
pub struct RequestIdAlso(pub HeaderName);

/// Names requests: a random word for this process, and a count.
pub(super) struct RequestIds {
    process: u32,
    count: AtomicU64,
}

impl RequestIds {
    pub(super) fn new() -> RequestIds {
        // Without randomness, ids of two processes may coincide: no harm is done.
        RequestIds { process: getrandom::u32().unwrap_or_default(), count: AtomicU64::new(0) }
    }

    /// The caller's own id, where it is one, else a new one.
    fn name(&self, headers: &HeaderMap) -> HeaderValue {
        match headers.get(&REQUEST_ID) {
            Some(own) if is_request_id(own) => own.clone(),
            _ => {
                let mut id = String::with_capacity(REQUEST_ID_BYTES);
                let _ = write!(id, "{:08x}-{:x}", self.process, self.count.fetch_add(1, Ordering::Relaxed));
                HeaderValue::try_from(id).unwrap_or_else(|_| HeaderValue::from_static("-"))
            }
        }
    }
}

/// Letters, digits, `.`, `_` and `-`: nothing that a log or a header could misread.
fn is_request_id(value: &HeaderValue) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    (1..=REQUEST_ID_CHARS_MAX).contains(&value.len()) && value.as_bytes().iter().all(is_plain)
}

/// What all connections share.
pub(super) struct Shared {
    pub(super) service: Service,
    pub(super) ids: RequestIds,
}

/// Waits until the stop signal is given, or can never be given.
pub(super) async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// Serves one connection to its end. Once `shutdown` says so, the request in
/// flight is answered and no further one is read.
pub(super) async fn serve<I>(stream: I, link: Link, shared: Arc<Shared>, mut shutdown: watch::Receiver<bool>)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |request| answer(&shared, link, request));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(REQUEST_HEAD_TIMEOUT).max_header_size(REQUEST_HEAD_BYTES_MAX);
    // Who has sent all it has to send may close its side and wait for the answer. Nor is there
    // a second buffer for what may follow, while the request still holds on to the first. That
    // a caller went away is only seen once it is answered: what it asked for is done to its end.
    builder.half_close(true);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(Stallable::new(stream)), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = stopped(&mut shutdown) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}

/// Has a request answered. What is done with it before anything is waited for is done at
/// once: a request is large, and each future that it stood in would have room for it.
fn answer(
    shared: &Shared,
    link: Link,
    request: ::http::Request<Incoming>,
) -> impl Future<Output = Result<Response, Infallible>> + use<> {
    let id = shared.ids.name(request.headers());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let begun = caught(|| match framing_fault(request.headers()) {
        Some(problem) => Box::pin(std::future::ready(problem.into_response())) as Answering,
        None => (shared.service)(request.map(Body::Incoming), link),
    });
    async move {
        let answered = match begun {
            Some(answering) => unless_it_panics(answering).await,
            None => None,
        };
        let mut response = match answered {
            Some(response) => response,
            None => {
                tracing::error!(request_id = ?id, %method, path, "answering a request panicked");
                Problem::new(Code::Internal).into_response()
            }
        };
        tracing::debug!(request_id = ?id, %method, path, status = response.status().as_u16(), "answered");
        if let Some(RequestIdAlso(name)) = response.extensions_mut().remove() {
            response.headers_mut().insert(name, id.clone());
        }
        response.headers_mut().insert(REQUEST_ID, id);
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        Ok(response)
    }
}

/// Refuses bodies in a coding that we do not undo, or in one that is named in a way that
/// somebody on the way may have read otherwise. hyper refuses lengths that contradict each
/// other; where one stands beside chunks it reads the chunks and closes after the answer
/// (RFC 9112, section 6.1), so that nothing behind them is taken for a request.
fn framing_fault(headers: &HeaderMap) -> Option<Problem> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let is_plain = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    let is_fine = codings.next().is_none_or(is_plain) && codings.next().is_none();
    let detail = "the only transfer-encoding is chunked, once";
    (!is_fine).then(|| Problem::new(Code::BadRequest).detail(detail).closing())
}

/// What it made; none where it panicked. Nothing is used after a panic that could be
/// half done: the future is dropped, and locks say so by poison.
fn caught<T>(make: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(AssertUnwindSafe(make)).ok()
}

/// The answer; none where making it panicked.
async fn unless_it_panics(mut answering: Answering) -> Option<Response> {
    std::future::poll_fn(move |context| match caught(|| answering.as_mut().poll(context)) {
        Some(Poll::Ready(response)) => Poll::Ready(Some(response)),
        Some(Poll::Pending) => Poll::Pending,
        None => Poll::Ready(None),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_request_id_is_taken_over_only_where_it_is_plain() {
        let ids = RequestIds { process: 0xab, count: AtomicU64::new(16) };
        for (own, name) in [
            (Some("trace-1.a_B"), "trace-1.a_B"),
            (Some("has space"), "000000ab-10"),
            (Some(""), "000000ab-11"),
            (Some(&*"x".repeat(REQUEST_ID_CHARS_MAX + 1)), "000000ab-12"),
            (None, "000000ab-13"),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(own) = own {
                headers.insert(REQUEST_ID, HeaderValue::from_str(own).expect("a header"));
            }
            assert_eq!(ids.name(&headers), name, "{own:?}");
        }
    }
}
