//! The receiver: a lean server that notes when each event arrived and answers at
//! once, or is out of order in the way it is told to be.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::figures::percentile;
use crate::machine::now_ns;
use crate::peer::{Peer, runtime, say};
use crate::{event, within};

/// Of this many arrivals the delay is kept.
const DELAYS_KEPT_MAX: usize = 4_000_000;
/// How often it is asked how many came.
const ASK_EVERY: Duration = Duration::from_millis(5);

#[derive(Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[repr(u8)]
pub(crate) enum Mode {
    /// 200
    #[default]
    Well,
    /// 503, with the wish to be left alone for a day.
    Tomorrow,
    /// Takes requests and never answers.
    Hang,
}

#[derive(Serialize, Deserialize)]
struct Task {
    /// So many ports, each an endpoint of its own.
    ports: usize,
    tls: bool,
    mode: Mode,
}

#[derive(Serialize, Deserialize)]
struct Listening {
    ports: Vec<u16>,
    ca_pem: Option<String>,
}

#[derive(Serialize, Deserialize)]
enum Order {
    Mode(Mode),
    /// Forget what came so far.
    Reset,
    Count,
    Report,
}

/// What came since the last reset.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Arrivals {
    pub(crate) count: u64,
    pub(crate) first_ns: u64,
    pub(crate) last_ns: u64,
    /// From publishing to receipt.
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

/// A receiver in a process of its own.
pub(crate) struct Receiver {
    peer: Peer,
    listening: Listening,
}

impl Receiver {
    /// One endpoint without TLS.
    pub(crate) async fn start(mode: Mode) -> Receiver {
        Receiver::listen(Task { ports: 1, tls: false, mode }).await
    }

    /// That many endpoints.
    pub(crate) async fn endpoints(ports: usize, tls: bool) -> Receiver {
        Receiver::listen(Task { ports, tls, mode: Mode::Well }).await
    }

    async fn listen(task: Task) -> Receiver {
        let mut peer = Peer::start("receiver", &task);
        let listening = peer.hear().await;
        Receiver { peer, listening }
    }

    /// Where endpoint `index` is; counted round.
    pub(crate) fn address(&self, index: usize) -> SocketAddr {
        let ports = &self.listening.ports;
        SocketAddr::from(([127, 0, 0, 1], ports[index % ports.len()]))
    }

    pub(crate) fn url(&self, index: usize) -> String {
        let scheme = if self.listening.ca_pem.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/hooks", self.address(index))
    }

    /// What its callers are to trust.
    pub(crate) fn ca_pem(&self) -> Option<&str> {
        self.listening.ca_pem.as_deref()
    }

    pub(crate) async fn set_mode(&mut self, mode: Mode) {
        self.peer.tell(&Order::Mode(mode)).await;
        self.peer.hear::<u64>().await;
    }

    pub(crate) async fn reset(&mut self) {
        self.peer.tell(&Order::Reset).await;
        self.peer.hear::<u64>().await;
    }

    pub(crate) async fn count(&mut self) -> u64 {
        self.peer.tell(&Order::Count).await;
        self.peer.hear().await
    }

    /// Waits until that many came, and says how they did.
    pub(crate) async fn reaches(&mut self, wanted: u64) -> Arrivals {
        within("what was published to arrive", async {
            while self.count().await < wanted {
                tokio::time::sleep(ASK_EVERY).await;
            }
        })
        .await;
        self.peer.tell(&Order::Report).await;
        self.peer.hear().await
    }
}

/// A port where nobody listens.
pub(crate) fn closed_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[derive(Default)]
struct Seen {
    count: u64,
    first_ns: u64,
    last_ns: u64,
    delays_ns: Vec<u64>,
}

impl Seen {
    fn add(&mut self, body: &[u8]) {
        let now = now_ns();
        if self.count == 0 {
            self.first_ns = now;
        }
        self.count += 1;
        self.last_ns = now;
        if self.delays_ns.len() < DELAYS_KEPT_MAX
            && let Some(published_at) = event::published_at_ns(body)
        {
            self.delays_ns.push(now.saturating_sub(published_at));
        }
    }

    fn report(&self) -> Arrivals {
        let mut delays = self.delays_ns.clone();
        delays.sort_unstable();
        let ms = |share| percentile(&delays, share) as f64 / 1e6;
        Arrivals {
            count: self.count,
            first_ns: self.first_ns,
            last_ns: self.last_ns,
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
        }
    }
}

#[derive(Default)]
struct State {
    mode: AtomicU8,
    seen: Mutex<Seen>,
}

/// In the receiver's process: listens, then does as it is told until its input ends.
pub(crate) fn run(task: &str) {
    let task: Task = serde_json::from_str(task).unwrap();
    let runtime = runtime();
    let state = Arc::new(State::default());
    state.mode.store(task.mode as u8, Ordering::Relaxed);
    let (acceptor, ca_pem) = task.tls.then(certificate).unzip();
    let mut ports = Vec::new();
    for _ in 0..task.ports {
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        ports.push(listener.local_addr().unwrap().port());
        runtime.spawn(accept(listener, acceptor.clone(), state.clone()));
    }
    say(&Listening { ports, ca_pem });
    for line in std::io::stdin().lines() {
        match serde_json::from_str(&line.unwrap()).unwrap() {
            Order::Mode(mode) => state.mode.store(mode as u8, Ordering::Relaxed),
            Order::Reset => *state.seen.lock().unwrap() = Seen::default(),
            Order::Count => {}
            Order::Report => {
                say(&state.seen.lock().unwrap().report());
                continue;
            }
        }
        say(&state.seen.lock().unwrap().count);
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<State>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (tls, state) = (tls.clone(), state.clone());
        tokio::spawn(async move {
            match tls {
                None => serve(stream, state).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, state).await;
                    }
                }
            }
        });
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, state: Arc<State>) {
    let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
        let state = state.clone();
        async move {
            let body = request.into_body().collect().await?.to_bytes();
            let mut answer = hyper::Response::new(Full::new(Bytes::new()));
            let mode = state.mode.load(Ordering::Relaxed);
            if mode == Mode::Hang as u8 {
                std::future::pending::<()>().await;
            } else if mode == Mode::Tomorrow as u8 {
                *answer.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
                answer.headers_mut().insert("retry-after", http::HeaderValue::from_static("86400"));
            } else {
                state.seen.lock().unwrap().add(&body);
            }
            Ok::<_, hyper::Error>(answer)
        }
    });
    // Whoever goes away has seen enough.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// A certificate for 127.0.0.1, and the authority that made it.
fn certificate() -> (TlsAcceptor, String) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let ca_pem = authority.self_signed(&authority_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let parameters = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = parameters.signed_by(&key, &Issuer::new(authority, authority_key)).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), ca_pem)
}
