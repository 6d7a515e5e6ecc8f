//! A webhook receiver for development and demonstration. Hands each request to
//! its owner, who decides the answer, and when: holding it is a slow receiver.
//! Bounds connections, waiting requests and bodies; checks nothing by itself.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::limits::{RECEIVER_CONNECTIONS_MAX, RECEIVER_IDLE, RECEIVER_QUEUE_MAX, RENDERED_BODY_BYTES_MAX};
use crate::sign::{self, Received, StandardKey};
use crate::time::{Clock, Timestamp};

/// A receiver at work.
pub(super) struct Receiver {
    requests: mpsc::Receiver<Request>,
    task: JoinHandle<TcpListener>,
}

/// One request, waiting for its answer. Dropped: answered 503.
pub(super) struct Request {
    /// When its body had come.
    pub(super) received_at: Timestamp,
    pub(super) method: String,
    /// With its query.
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    answer: oneshot::Sender<StatusCode>,
}

/// What a request's signature is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signature {
    /// By the secret, over this body, now.
    Right,
    /// There is one, and it is not.
    Wrong(sign::Unverified),
    /// There is none.
    Unsigned,
}

impl Receiver {
    /// Serves on `listener`, with TLS where `acceptor` is given.
    pub(super) fn start(listener: TcpListener, acceptor: Option<TlsAcceptor>) -> Receiver {
        let (sender, requests) = mpsc::channel(RECEIVER_QUEUE_MAX);
        Receiver { requests, task: tokio::spawn(accept(listener, acceptor, sender)) }
    }

    /// The next request.
    pub(super) async fn next(&mut self) -> Option<Request> {
        self.requests.recv().await
    }

    /// Cuts every connection and gives the listener back. None: it was lost.
    pub(super) async fn stop(self) -> Option<TcpListener> {
        drop(self.requests);
        self.task.await.ok()
    }
}

impl Request {
    /// Answers with `status`, without a body.
    pub(super) fn answer(self, status: StatusCode) {
        // Who has hung up meanwhile needs no answer.
        let _ = self.answer.send(status);
    }

    /// A header, where it is there and text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The event's type, where the body's envelope names one.
    pub(super) fn event_type(&self) -> Option<String> {
        let body: Value = serde_json::from_slice(&self.body).ok()?;
        Some(body.get("type")?.as_str()?.to_owned())
    }

    /// Checks the Standard Webhooks headers against `key`.
    pub(super) fn signature(&self, key: &StandardKey, now: Timestamp) -> Signature {
        let Some(signature) = self.header("webhook-signature") else { return Signature::Unsigned };
        self.signature_by(signature, key, now)
    }

    /// The same for one of several signatures.
    pub(super) fn signature_by(&self, signature: &str, key: &StandardKey, now: Timestamp) -> Signature {
        let received = Received {
            id: self.header("webhook-id").unwrap_or_default(),
            timestamp: self.header("webhook-timestamp").unwrap_or_default(),
            signature,
            body: &self.body,
        };
        match sign::verify(std::slice::from_ref(key), &received, now, sign::TOLERANCE) {
            Ok(()) => Signature::Right,
            Err(reason) => Signature::Wrong(reason),
        }
    }
}

/// Takes connections until the owner is gone, then drops them all.
async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, sender: mpsc::Sender<Request>) -> TcpListener {
    let slots = Arc::new(Semaphore::new(RECEIVER_CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let taken = async {
            let slot = slots.clone().acquire_owned().await;
            (slot, listener.accept().await)
        };
        tokio::select! {
            () = sender.closed() => {
                connections.shutdown().await;
                return listener;
            }
            Some(_) = connections.join_next() => {}
            (slot, accepted) = taken => {
                // A connection that ended before it was taken is nobody's loss.
                let Ok((stream, _)) = accepted else { continue };
                // Or an answer over TLS waits 40 ms for what came before it to be acknowledged.
                let _ = stream.set_nodelay(true);
                let (acceptor, sender) = (acceptor.clone(), sender.clone());
                connections.spawn(async move {
                    let _slot = slot;
                    connection(stream, acceptor, sender).await;
                });
            }
        }
    }
}

async fn connection(stream: TcpStream, acceptor: Option<TlsAcceptor>, sender: mpsc::Sender<Request>) {
    match acceptor {
        None => serve(stream, sender).await,
        Some(acceptor) => {
            if let Ok(Ok(stream)) = tokio::time::timeout(RECEIVER_IDLE, acceptor.accept(stream)).await {
                serve(stream, sender).await;
            }
        }
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, sender: mpsc::Sender<Request>) {
    let service = service_fn(|request| respond(request, sender.clone()));
    // However a connection ends, its requests have had their answers or need none.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(RECEIVER_IDLE)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn respond(
    request: http::Request<Incoming>,
    sender: mpsc::Sender<Request>,
) -> Result<http::Response<Empty<Bytes>>, Infallible> {
    let status = take(request, sender).await.unwrap_or_else(|status| status);
    let mut response = http::Response::new(Empty::new());
    *response.status_mut() = status;
    Ok(response)
}

async fn take(request: http::Request<Incoming>, sender: mpsc::Sender<Request>) -> Result<StatusCode, StatusCode> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, RENDERED_BODY_BYTES_MAX).collect().await;
    let body = body.map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)?.to_bytes();
    let (answer, answered) = oneshot::channel();
    let request = Request {
        received_at: Clock::system().now(),
        method: head.method.to_string(),
        path: head.uri.to_string(),
        headers: head.headers,
        body,
        answer,
    };
    sender.send(request).await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    answered.await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cli::client::Client;
    use crate::secret::Secret;
    use url::Url;

    /// A request as a receiver would hand it over, and a way to see its answer.
    pub(in crate::cli) fn request(headers: &[(&str, &str)], body: &str) -> (Request, oneshot::Receiver<StatusCode>) {
        let (answer, answered) = oneshot::channel();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = http::HeaderName::from_bytes(name.as_bytes()).expect("a name");
            map.insert(name, value.parse().expect("a value"));
        }
        let received_at = Timestamp::from_millis(1_700_000_000_000);
        let body = Bytes::from(body.to_owned());
        (Request { received_at, method: "POST".into(), path: "/hooks".into(), headers: map, body, answer }, answered)
    }

    pub(in crate::cli) fn key() -> StandardKey {
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into());
        StandardKey::read(&secret).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn signatures_are_told_apart() {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let body = r#"{"type":"a.b"}"#;
        let signature = key().sign("msg_1", now.as_secs(), body.as_bytes());
        let seconds = now.as_secs().to_string();
        let mut headers =
            vec![("webhook-id", "msg_1"), ("webhook-timestamp", &seconds), ("webhook-signature", &signature)];
        let (signed, _) = request(&headers, body);
        assert_eq!(signed.signature(&key(), now), Signature::Right);
        assert_eq!(signed.event_type().as_deref(), Some("a.b"));
        let (other_body, _) = request(&headers, "{}");
        assert_eq!(other_body.signature(&key(), now), Signature::Wrong(sign::Unverified::Signature));
        assert_eq!(other_body.event_type(), None);
        headers.pop();
        assert_eq!(request(&headers, body).0.signature(&key(), now), Signature::Unsigned);
    }

    #[tokio::test]
    async fn the_owner_decides_the_answer_and_gets_the_listener_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let url = Url::parse(&format!("http://{address}")).expect("a URL");
        let client = Client::of_url(&url, None, None).unwrap_or_else(|failure| panic!("{failure}"));
        let mut receiver = Receiver::start(listener, None);
        for status in [StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GONE] {
            let owner = async {
                let request = receiver.next().await.expect("a request");
                assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/hooks?a=1"));
                assert_eq!(request.header("x-test"), Some("yes"));
                assert_eq!(&request.body[..], b"{}");
                request.answer(status);
            };
            let call = client.post("/hooks?a=1", &[("x-test", "yes")], "{}".into());
            let (answer, ()) = tokio::join!(call, owner);
            assert_eq!(answer.unwrap_or_else(|failure| panic!("{failure}")).status, status);
        }
        let dropped = async { drop(receiver.next().await.expect("a request")) };
        let (answer, ()) = tokio::join!(client.get("/"), dropped);
        assert_eq!(answer.unwrap_or_else(|failure| panic!("{failure}")).status, StatusCode::SERVICE_UNAVAILABLE);

        let listener = receiver.stop().await.expect("the listener");
        assert_eq!(listener.local_addr().expect("an address"), address);
    }

    #[tokio::test]
    async fn a_self_made_certificate_is_trusted_by_its_authority_alone() {
        let certificates = crate::cli::certificates::make(vec!["localhost".into(), "127.0.0.1".into()])
            .unwrap_or_else(|f| panic!("{f}"));
        let folder = tempfile::tempdir().expect("a folder");
        let ca_file = folder.path().join("ca.pem");
        std::fs::write(&ca_file, &certificates.ca_pem).expect("written");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = Url::parse(&format!("https://{}", listener.local_addr().expect("an address"))).expect("a URL");
        let mut receiver = Receiver::start(listener, Some(certificates.acceptor));
        let trusting = Client::of_url(&url, None, Some(ca_file)).unwrap_or_else(|failure| panic!("{failure}"));
        let owner = async { receiver.next().await.expect("a request").answer(StatusCode::NO_CONTENT) };
        let (answer, ()) = tokio::join!(trusting.get("/"), owner);
        assert_eq!(answer.unwrap_or_else(|failure| panic!("{failure}")).status, StatusCode::NO_CONTENT);
        let wary = Client::of_url(&url, None, None).unwrap_or_else(|failure| panic!("{failure}"));
        assert!(wary.get("/").await.is_err());
    }
}
