//! A receiver on a real socket that answers as the test says and keeps what it got.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use super::within;

/// An authority made for this test process, which every daemon trusts.
pub struct Authority {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate for this machine and its key, in PEM.
pub struct Identity {
    pub cert_pem: String,
    pub key_pem: String,
}

impl Authority {
    /// An authority that nobody trusts yet.
    pub fn unknown() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate for `localhost`, signed by this authority.
    pub fn identity(&self) -> Identity {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity { cert_pem: certificate.pem(), key_pem: key.serialize_pem() }
    }

    fn roots(&self) -> rustls::RootCertStore {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        roots
    }
}

/// See [`Authority`].
pub fn authority() -> &'static Authority {
    static AUTHORITY: LazyLock<Authority> = LazyLock::new(Authority::unknown);
    &AUTHORITY
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Received {
    pub method: String,
    /// Path and query.
    pub path: String,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl Received {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// What is answered.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Bytes,
}

impl Reply {
    pub fn status(status: u16) -> Reply {
        Reply { status, headers: Vec::new(), body: Bytes::new() }
    }
}

type Answers = Arc<dyn Fn(&Received, usize) -> Reply + Send + Sync>;

#[derive(Default)]
struct Inbox {
    waiting: VecDeque<Received>,
    total: usize,
}

/// See the file's beginning. Stops when it is dropped.
pub struct Receiver {
    pub address: SocketAddr,
    /// Where it takes webhooks.
    pub url: String,
    inbox: Arc<Mutex<Inbox>>,
    arrived: Arc<Notify>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    /// Answers 200 to everything, over TLS.
    pub async fn start() -> Receiver {
        Receiver::answering(|_, _| Reply::status(200)).await
    }

    /// Answers what `answers` says of a request and its number, from 0, over TLS.
    pub async fn answering(answers: impl Fn(&Received, usize) -> Reply + Send + Sync + 'static) -> Receiver {
        Receiver::showing(&authority().identity(), None, answers).await
    }

    /// The same with this certificate, and only for callers that show one by
    /// `clients`, where that is given.
    pub async fn showing(
        identity: &Identity,
        clients: Option<&Authority>,
        answers: impl Fn(&Received, usize) -> Reply + Send + Sync + 'static,
    ) -> Receiver {
        let chain = vec![CertificateDer::from_pem_slice(identity.cert_pem.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::new(clients.roots()), provider).build().unwrap(),
            ),
        };
        let config = builder.with_single_cert(chain, key).unwrap();
        Receiver::listen(Some(TlsAcceptor::from(Arc::new(config))), Arc::new(answers)).await
    }

    /// The same without TLS.
    pub async fn plain(answers: impl Fn(&Received, usize) -> Reply + Send + Sync + 'static) -> Receiver {
        Receiver::listen(None, Arc::new(answers)).await
    }

    async fn listen(tls: Option<TlsAcceptor>, answers: Answers) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://localhost:{}/hooks", address.port());
        let inbox = Arc::new(Mutex::new(Inbox::default()));
        let arrived = Arc::new(Notify::new());
        let (kept, notify) = (inbox.clone(), arrived.clone());
        let task = tokio::spawn(async move {
            // Dropped with the task, and every connection with it.
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                // Or an answer waits until the tickets of a new TLS session are acknowledged.
                let _ = stream.set_nodelay(true);
                let (tls, answers, kept, notify) = (tls.clone(), answers.clone(), kept.clone(), notify.clone());
                connections.spawn(async move {
                    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                        let (answers, kept, notify) = (answers.clone(), kept.clone(), notify.clone());
                        async move {
                            let (parts, body) = request.into_parts();
                            let received = Received {
                                method: parts.method.to_string(),
                                path: parts.uri.to_string(),
                                headers: parts.headers,
                                body: body.collect().await?.to_bytes(),
                            };
                            let reply = {
                                let mut inbox = kept.lock().unwrap();
                                let reply = answers(&received, inbox.total);
                                inbox.total += 1;
                                inbox.waiting.push_back(received);
                                reply
                            };
                            notify.notify_one();
                            let mut response = hyper::Response::builder().status(reply.status);
                            for (name, value) in &reply.headers {
                                response = response.header(*name, value);
                            }
                            Ok::<_, hyper::Error>(response.body(Full::new(reply.body)).unwrap())
                        }
                    });
                    let server = hyper::server::conn::http1::Builder::new();
                    match tls {
                        Some(tls) => {
                            let Ok(stream) = tls.accept(stream).await else { return };
                            let _ = server.serve_connection(TokioIo::new(stream), service).await;
                        }
                        None => {
                            let _ = server.serve_connection(TokioIo::new(stream), service).await;
                        }
                    }
                });
            }
        });
        Receiver { address, url, inbox, arrived, task }
    }

    /// The next request, waiting for it.
    pub async fn next(&mut self) -> Received {
        within("a request to the receiver", async {
            loop {
                if let Some(received) = self.inbox.lock().unwrap().waiting.pop_front() {
                    return received;
                }
                self.arrived.notified().await;
            }
        })
        .await
    }

    /// How many requests came so far.
    pub fn total(&self) -> usize {
        self.inbox.lock().unwrap().total
    }
}
