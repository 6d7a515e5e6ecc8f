//! The client against real sockets on the loopback address, which the tests open
//! by `allow_networks`. Receivers are scripts over bytes, so that they can be
//! as wrong as receivers are.

mod http;
mod injection;
mod oauth2;
mod pooling;
mod proxy;
mod tls;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use url::Url;

use super::{Answer, Call, Client, Failure, Options, Roots};
use crate::config::AllowedNetwork;
use crate::id::Lane;
use crate::limits::RESPONSE_READ_BYTES_MAX;
use crate::model::{Authentication, FailureCode, Method, Name, Outgoing, Target, TlsSettings};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What a receiver has seen.
#[derive(Default)]
struct Seen {
    connections: usize,
    requests: Vec<String>,
}

/// One connection, on the receiver's side.
struct Peer {
    stream: Box<dyn Stream>,
    seen: Arc<Mutex<Seen>>,
}

impl Peer {
    /// The next request as text, head and body; none: the client has closed.
    async fn request(&mut self) -> Option<String> {
        let mut bytes = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = header(head, "content-length").map_or(0, |value| value.parse().expect("a length"));
                if body.len() >= length {
                    self.seen.lock().unwrap().requests.push(text.clone());
                    return Some(text);
                }
            }
            if self.stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// Writes an answer, or whatever it is. The client may have had enough of it.
    async fn write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok() && self.stream.flush().await.is_ok()
    }
}

/// A receiver on a free port.
struct Receiver {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

impl Receiver {
    /// Each connection goes to `script`.
    async fn scripted<F>(script: impl Fn(Peer) -> F + Send + 'static) -> Receiver
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Receiver::listening("127.0.0.1:0", None, script).await
    }

    /// Each request is answered by what `answer` makes of it.
    async fn answering(answer: impl Fn(&str) -> String + Clone + Send + Sync + 'static) -> Receiver {
        Receiver::scripted(answer_each(answer)).await
    }

    async fn listening<F>(
        address: &str,
        tls: Option<TlsAcceptor>,
        script: impl Fn(Peer) -> F + Send + 'static,
    ) -> Receiver
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.lock().unwrap().connections += 1;
                let stream: Box<dyn Stream> = match &tls {
                    None => Box::new(stream),
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => Box::new(stream),
                        Err(_) => continue,
                    },
                };
                tokio::spawn(script(Peer { stream, seen: shared.clone() }));
            }
        });
        Receiver { address, seen }
    }

    fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    fn connections(&self) -> usize {
        self.seen.lock().unwrap().connections
    }

    fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap().requests.clone()
    }
}

fn answer_each(
    answer: impl Fn(&str) -> String + Clone + Send + Sync + 'static,
) -> impl Fn(Peer) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> + Send + 'static {
    move |mut peer| {
        let answer = answer.clone();
        Box::pin(async move {
            while let Some(request) = peer.request().await {
                if !peer.write(answer(&request)).await {
                    return;
                }
            }
        })
    }
}

/// The value of a header in a head.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.split("\r\n\r\n").next()?.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(": ")?;
        (found == name).then_some(value)
    })
}

fn target(url: &str) -> Arc<Target> {
    Arc::new(Target::new(Url::parse(url).expect("a URL")).expect("a target"))
}

/// What a call is made of, with defaults that a test changes.
struct Sending {
    request: Outgoing,
    organization: Name,
    lane: Lane,
    authentication: Authentication,
    tls: TlsSettings,
    timeout: Duration,
    response_read_bytes_max: usize,
}

impl Sending {
    fn to(url: &str) -> Sending {
        Sending {
            request: Outgoing {
                method: Method::Post,
                target: target(url),
                headers: vec![("content-type".into(), "application/json".to_owned())],
                body: Bytes::from_static(b"{}"),
                missing: Vec::new(),
            },
            organization: "acme".into(),
            lane: Lane(1),
            authentication: Authentication::None,
            tls: TlsSettings::default(),
            timeout: Duration::from_secs(30),
            response_read_bytes_max: RESPONSE_READ_BYTES_MAX,
        }
    }

    async fn by(&self, client: &Client) -> Result<Answer, Failure> {
        let call = Call {
            request: self.request.clone(),
            organization: &self.organization,
            lane: self.lane,
            authentication: &self.authentication,
            tls: &self.tls,
            timeout: self.timeout,
            response_read_bytes_max: self.response_read_bytes_max,
        };
        client.send(call).await.result
    }
}

fn options(allowed: &[&str]) -> Options {
    let network = |cidr: &&str| AllowedNetwork { cidr: cidr.parse().expect("a network"), organizations: None };
    Options {
        connect_timeout: Duration::from_secs(20),
        keep_alive: Duration::from_secs(60),
        user_agent: "Posthaste/test".to_owned(),
        allow_networks: allowed.iter().map(network).collect(),
        proxy: None,
    }
}

/// A client that may dial the loopback addresses.
fn client() -> Client {
    client_of(options(&["127.0.0.0/8", "::1/128"]))
}

fn client_of(options: Options) -> Client {
    let authority = rcgen::generate_simple_self_signed(vec!["nobody".to_owned()]).expect("a certificate");
    Client::new(options, &Roots::Pem(authority.cert.pem())).expect("a client")
}

fn status(result: Result<Answer, Failure>) -> u16 {
    result.expect("an answer").status
}

fn code(result: Result<Answer, Failure>) -> FailureCode {
    result.expect_err("no answer").code
}
