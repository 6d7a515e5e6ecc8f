//! Where requests come in: TCP, TLS and Unix sockets. Whoever owns the listeners
//! owns their end: they are bound first, served when everything else stands, and
//! stopped by a signal.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixSocket, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::config::environment::{self, Handed};
use crate::config::{Listen, ServerTls};
use crate::fault::{self, Part};
use crate::limits::{CONNECTIONS_MAX, REQUEST_HEAD_TIMEOUT};

use super::Service;
use super::connection::{self, Link, RequestIds, Shared, stopped};
use super::tls::Certificate;

/// How long accepting pauses after it failed, as it does while the process has
/// no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections that the kernel holds until they are accepted.
const BACKLOG: u32 = 1024;

/// Why a listener cannot be.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// An address is taken or not ours.
    #[error("cannot listen on {address}: {error}")]
    Address {
        /// Which.
        address: String,
        /// Why.
        error: io::Error,
    },
    /// What was handed over is no listener.
    #[error("a socket that was handed over cannot be used: {0}")]
    Handed(io::Error),
    /// The certificate or its key cannot be used.
    #[error("cannot use the certificate of [service] tls: {0}")]
    Tls(String),
}

enum Socket {
    Tcp(TcpListener),
    /// With its file, where that is ours to remove.
    Unix(UnixListener, Option<PathBuf>),
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Sockets that are bound and not served yet.
pub struct Listeners {
    sockets: Vec<(Socket, Listen)>,
    tls: Option<Certificate>,
}

impl Listeners {
    /// Binds every address of `listen`. TCP listeners speak TLS where `tls` is
    /// given, Unix sockets have `socket_mode`. A socket file that nobody listens on any
    /// more is replaced.
    pub async fn bind(listen: &[Listen], tls: Option<&ServerTls>, socket_mode: u32) -> Result<Listeners, BindError> {
        let tls = read_certificate(tls)?;
        let mut sockets = Vec::with_capacity(listen.len());
        for listen in listen {
            let bound = match listen {
                Listen::Tcp(address) => bind_tcp(*address).await,
                Listen::Unix(path) => bind_unix(path, socket_mode).await,
            };
            let name = match listen {
                Listen::Tcp(address) => address.to_string(),
                Listen::Unix(path) => format!("unix:{}", path.display()),
            };
            sockets.push(bound.map_err(|error| BindError::Address { address: name, error })?);
        }
        Ok(Listeners { sockets, tls })
    }

    /// Takes listeners that were handed over. Their files stay when they end.
    ///
    /// # Errors
    /// When one of them does not listen.
    pub fn take(handed: Vec<Handed>, tls: Option<&ServerTls>) -> Result<Listeners, BindError> {
        let tls = read_certificate(tls)?;
        let sockets = handed.into_iter().map(take).collect::<io::Result<_>>();
        Ok(Listeners { sockets: sockets.map_err(BindError::Handed)?, tls })
    }

    /// Where is listened, in the order of the configuration; port 0 has become a real one.
    pub fn addresses(&self) -> Vec<Listen> {
        self.sockets.iter().map(|(_, listen)| listen.clone()).collect()
    }

    /// The certificate that TCP listeners show, to be renewed while they do.
    pub fn certificate(&self) -> Option<Certificate> {
        self.tls.clone()
    }

    /// Answers requests by `service` until `shutdown` holds `true` (or can never
    /// change again) and everything in flight has been answered; earlier only where
    /// one of the sockets is not served any more. Dropping this
    /// future cuts off what is still in flight.
    pub async fn serve(self, service: Service, shutdown: watch::Receiver<bool>) {
        let shared = Arc::new(Shared { service, ids: RequestIds::new() });
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX.min(environment::open_files_share())));
        let mut loops = JoinSet::new();
        for (socket, _) in self.sockets {
            let door = Door { shared: shared.clone(), slots: slots.clone(), tls: self.tls.clone() };
            loops.spawn(door.keep(socket, shutdown.clone()));
        }
        // One that ended by itself ends all, so that who waits for us notices.
        let is_told = || *shutdown.borrow() || shutdown.has_changed().is_err();
        while loops.join_next().await.is_some() && is_told() {}
    }
}

/// What one socket's loop needs.
struct Door {
    shared: Arc<Shared>,
    slots: Arc<Semaphore>,
    tls: Option<Certificate>,
}

impl Door {
    async fn keep(self, socket: Socket, mut shutdown: watch::Receiver<bool>) {
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = stopped(&mut shutdown) => break,
                Some(_) = connections.join_next() => continue,
                accepted = accept(&socket, &self.slots) => accepted,
            };
            if fault::ends(Part::Listener) {
                return;
            }
            match accepted {
                Ok((stream, slot)) => {
                    connections.spawn(greet(stream, self.shared.clone(), self.tls.clone(), shutdown.clone(), slot));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        if let Socket::Unix(_, Some(path)) = &socket {
            let _ = std::fs::remove_file(path);
        }
        drop(socket);
        while connections.join_next().await.is_some() {}
    }
}

/// Takes a slot first: connections beyond [`CONNECTIONS_MAX`] wait in the kernel.
async fn accept(socket: &Socket, slots: &Arc<Semaphore>) -> io::Result<(Stream, OwnedSemaphorePermit)> {
    let slot = slots.clone().acquire_owned().await.map_err(io::Error::other)?;
    let stream = match socket {
        Socket::Tcp(listener) => Stream::Tcp(listener.accept().await?.0),
        Socket::Unix(listener, _) => Stream::Unix(listener.accept().await?.0),
    };
    Ok((stream, slot))
}

/// Serves one stream; its slot is free again once this ends.
async fn greet(
    stream: Stream,
    shared: Arc<Shared>,
    tls: Option<Certificate>,
    mut shutdown: watch::Receiver<bool>,
    _slot: OwnedSemaphorePermit,
) {
    let stream = match stream {
        Stream::Unix(stream) => return connection::serve(stream, Link::Unix, shared, shutdown).await,
        Stream::Tcp(stream) => stream,
    };
    // Gone already: there is nobody to serve.
    let Ok(local) = stream.local_addr() else { return };
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else { return connection::serve(stream, Link::Tcp(local), shared, shutdown).await };
    let handshake = tokio::select! {
        () = stopped(&mut shutdown) => return,
        handshake = tokio::time::timeout(REQUEST_HEAD_TIMEOUT, tls.acceptor().accept(stream)) => handshake,
    };
    match handshake {
        Ok(Ok(stream)) => connection::serve(stream, Link::Tcp(local), shared, shutdown).await,
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

fn read_certificate(tls: Option<&ServerTls>) -> Result<Option<Certificate>, BindError> {
    tls.map(Certificate::read).transpose().map_err(BindError::Tls)
}

fn take(handed: Handed) -> io::Result<(Socket, Listen)> {
    match handed {
        Handed::Tcp(listener) => {
            listens(&listener)?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok((Socket::Tcp(TcpListener::from_std(listener)?), Listen::Tcp(address)))
        }
        Handed::Unix(listener) => {
            listens(&listener)?;
            listener.set_nonblocking(true)?;
            // One without a file has an abstract name.
            let path = listener.local_addr()?.as_pathname().unwrap_or(Path::new("@")).to_owned();
            Ok((Socket::Unix(UnixListener::from_std(listener)?, None), Listen::Unix(path)))
        }
    }
}

/// Whether it waits for connections, and is not one itself, as a socket unit hands
/// over that has `Accept=yes`.
fn listens(socket: impl AsFd) -> io::Result<()> {
    match rustix::net::sockopt::socket_acceptconn(socket)? {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it does not listen; Accept= must be \"no\"")),
    }
}

async fn bind_tcp(address: std::net::SocketAddr) -> io::Result<(Socket, Listen)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    Ok((Socket::Tcp(listener), Listen::Tcp(address)))
}

async fn bind_unix(path: &Path, mode: u32) -> io::Result<(Socket, Listen)> {
    match std::fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"));
        }
        Ok(_) if UnixStream::connect(path).await.is_ok() => return Err(io::ErrorKind::AddrInUse.into()),
        Ok(_) => std::fs::remove_file(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let socket = UnixSocket::new_stream()?;
    // On Linux the file takes over the mode that its socket has when it is bound,
    // so that at no moment others can connect. Elsewhere the second call does it.
    let _ = rustix::fs::fchmod(&socket, rustix::fs::Mode::from_raw_mode(mode));
    socket.bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    let listener = socket.listen(BACKLOG)?;
    Ok((Socket::Unix(listener, Some(path.to_owned())), Listen::Unix(path.to_owned())))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::http::BodyRoom;
    use crate::http::{Body, Request, Response};

    /// Echoes bodies of up to 8 bytes and says by what they came; `/panic` panics, `/later` takes a while.
    fn service() -> Service {
        Arc::new(|request: Request, link| {
            Box::pin(async move {
                assert_ne!(request.uri().path(), "/panic", "on purpose");
                if request.uri().path() == "/later" {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                match request.into_body().read(8, &BodyRoom::new(8)).await {
                    Ok((body, _)) => {
                        let mut response = Response::new(body.into());
                        response.headers_mut().insert("link", format!("{link:?}").parse().expect("a value"));
                        response
                    }
                    Err(problem) => problem.into_response(),
                }
            })
        })
    }

    async fn talk(stream: impl AsyncReadExt + AsyncWriteExt, request: &str) -> String {
        let mut stream = std::pin::pin!(stream);
        stream.write_all(request.as_bytes()).await.expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("read");
        answer
    }

    #[tokio::test]
    async fn requests_are_answered_within_limits_until_the_stop() {
        let any = Listen::Tcp("127.0.0.1:0".parse().expect("an address"));
        let listeners = Listeners::bind(&[any], None, 0o600).await.expect("bound");
        let Listen::Tcp(address) = listeners.addresses()[0] else { panic!("TCP was asked for") };
        assert_ne!(address.port(), 0);
        let (stop, shutdown) = watch::channel(false);
        let served = tokio::spawn(listeners.serve(service(), shutdown));
        let headers = (0..120).map(|n| format!("x-{n}: 1\r\n")).collect::<String>();
        let long = "x".repeat(crate::limits::REQUEST_HEAD_BYTES_MAX);
        for (request, status, part) in [
            ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok", 200, "\r\n\r\nok"),
            ("GET / HTTP/1.1\r\nx-request-id: mine\r\nconnection: close\r\n\r\n", 200, "x-request-id: mine\r\n"),
            ("POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\n", 413, "too_large"),
            (
                "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n9\r\n123456789\r\n0\r\n\r\n",
                413,
                "application/problem+json",
            ),
            ("GET /panic HTTP/1.1\r\nconnection: close\r\n\r\n", 500, "\"code\":\"internal\""),
            (&format!("GET / HTTP/1.1\r\n{headers}\r\n"), 431, ""),
            (&format!("GET / HTTP/1.1\r\nx: {long}\r\n\r\n"), 431, ""),
            ("nonsense\r\n\r\n", 400, ""),
        ] {
            let answer = talk(TcpStream::connect(address).await.expect("connected"), request).await;
            let begin: String = request.chars().take(60).collect();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{begin}: {answer}");
            assert!(answer.contains(part), "{begin}: {answer}");
        }
        // An idle connection does not hold the stop up.
        let idle = TcpStream::connect(address).await.expect("connected");
        stop.send(true).expect("served");
        served.await.expect("ended");
        assert!(TcpStream::connect(address).await.is_err());
        drop(idle);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_does_not_come_ends_its_connection() {
        let (ours, theirs) = tokio::io::duplex(1024);
        let shared = Arc::new(Shared { service: service(), ids: RequestIds::new() });
        let (_stop, shutdown) = watch::channel(false);
        let served = connection::serve(ours, Link::Unix, shared, shutdown);
        // Time is virtual: it jumps to the timeout once everybody waits.
        let (answer, ()) = tokio::join!(talk(theirs, "GET / HTTP/1.1\r\nhost: "), served);
        assert_eq!(answer, "");
    }

    /// Whoever sent all it has and closed its side got no answer, unless that was there at once.
    #[tokio::test(start_paused = true)]
    async fn a_caller_that_closed_its_side_is_answered() {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let shared = Arc::new(Shared { service: service(), ids: RequestIds::new() });
        let (_stop, shutdown) = watch::channel(false);
        let served = tokio::spawn(connection::serve(ours, Link::Unix, shared, shutdown));
        theirs.write_all(b"GET /later HTTP/1.1\r\n\r\n").await.expect("written");
        theirs.shutdown().await.expect("closed");
        let mut answer = String::new();
        theirs.read_to_string(&mut answer).await.expect("read");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        served.await.expect("ended with its caller");
    }

    /// A slow loris keeps its connections busy with a byte now and then.
    #[tokio::test(start_paused = true)]
    async fn a_head_or_body_that_trickles_has_no_more_time_than_one_that_does_not_come() {
        for (begin, limit) in [
            ("GET / HTTP/1.1\r\nx: ", REQUEST_HEAD_TIMEOUT),
            ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n4;", crate::limits::REQUEST_BODY_TIMEOUT),
        ] {
            let (ours, mut theirs) = tokio::io::duplex(1024);
            let shared = Arc::new(Shared { service: service(), ids: RequestIds::new() });
            let (_stop, shutdown) = watch::channel(false);
            let served = tokio::spawn(connection::serve(ours, Link::Unix, shared, shutdown));
            let begun = tokio::time::Instant::now();
            theirs.write_all(begin.as_bytes()).await.expect("written");
            while theirs.write_all(b"a").await.is_ok() && !served.is_finished() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            served.await.expect("ended");
            assert!(begun.elapsed() <= limit + Duration::from_secs(2), "{begin}: {:?}", begun.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_408_and_an_answer_not_taken_ends_the_connection() {
        let shared = Arc::new(Shared { service: service(), ids: RequestIds::new() });
        let (_stop, shutdown) = watch::channel(false);
        let (ours, theirs) = tokio::io::duplex(4096);
        let served = connection::serve(ours, Link::Unix, shared.clone(), shutdown.clone());
        let (answer, ()) = tokio::join!(talk(theirs, "POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\n1"), served);
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");

        let (ours, mut theirs) = tokio::io::duplex(64);
        let served = tokio::spawn(connection::serve(ours, Link::Unix, shared, shutdown));
        theirs.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("written");
        served.await.expect("ended by the stall, though nothing was read");
    }

    #[tokio::test]
    async fn unix_sockets_have_their_mode_and_replace_what_is_stale() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("api.sock");
        let listen = [Listen::Unix(path.clone())];
        // What a killed process leaves behind.
        drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
        let listeners = Listeners::bind(&listen, None, 0o660).await.expect("bound over the stale file");
        let mode = std::fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        let taken = Listeners::bind(&listen, None, 0o660).await;
        assert!(matches!(taken, Err(BindError::Address { error, .. }) if error.kind() == io::ErrorKind::AddrInUse));

        let (stop, shutdown) = watch::channel(false);
        let served = tokio::spawn(listeners.serve(service(), shutdown));
        let stream = UnixStream::connect(&path).await.expect("connected");
        let answer = talk(stream, "GET / HTTP/1.1\r\nconnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        stop.send(true).expect("served");
        served.await.expect("ended");
        assert!(!path.exists());

        std::fs::write(&path, "not a socket").expect("written");
        assert!(Listeners::bind(&listen, None, 0o660).await.is_err());
        assert!(path.exists());
    }

    /// Whether a caller that trusts `certificate` alone is answered.
    async fn is_shown(address: std::net::SocketAddr, certificate: &rcgen::Certificate) -> bool {
        is_answered(address, certificate, None).await
    }

    /// The same of a caller that shows a certificate of its own.
    async fn is_answered(
        address: std::net::SocketAddr,
        certificate: &rcgen::Certificate,
        own: Option<&rcgen::CertifiedKey<rcgen::KeyPair>>,
    ) -> bool {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate.der().clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let config = match own {
            None => config.with_no_client_auth(),
            Some(own) => {
                let key = rustls::pki_types::PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
                config.with_client_auth_cert(vec![own.cert.der().clone()], key.into()).expect("a certificate")
            }
        };
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = TcpStream::connect(address).await.expect("connected");
        let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
        let Ok(mut stream) = connector.connect(name, stream).await else { return false };
        // Who is refused for its certificate is told so behind the handshake.
        let request = stream.write_all(b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n").await;
        let mut answer = String::new();
        request.is_ok()
            && stream.read_to_string(&mut answer).await.is_ok()
            && answer.starts_with("HTTP/1.1 200 ")
            && answer.contains(&format!("\r\nlink: Tcp({address})\r\n"))
    }

    #[tokio::test]
    async fn tls_shows_the_configured_certificate() {
        let folder = tempfile::tempdir().expect("a folder");
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let [cert_file, key_file] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
        let files = ServerTls { cert_file, key_file, client_ca_file: None };
        std::fs::write(&files.cert_file, made.cert.pem()).expect("written");
        std::fs::write(&files.key_file, made.signing_key.serialize_pem()).expect("written");
        let any = [Listen::Tcp("127.0.0.1:0".parse().expect("an address"))];
        let listeners = Listeners::bind(&any, Some(&files), 0o600).await.expect("bound");
        let Listen::Tcp(address) = listeners.addresses()[0] else { panic!("TCP was asked for") };
        let certificate = listeners.certificate().expect("there is one");
        let (_stop, shutdown) = watch::channel(false);
        let served = tokio::spawn(listeners.serve(service(), shutdown));

        assert!(is_shown(address, &made.cert).await);
        // Renewed, and asked for with a key that does not fit.
        let renewed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        std::fs::write(&files.cert_file, renewed.cert.pem()).expect("written");
        assert!(certificate.renew(&files).is_err());
        assert!(is_shown(address, &made.cert).await, "nothing changed");
        std::fs::write(&files.key_file, renewed.signing_key.serialize_pem()).expect("written");
        certificate.renew(&files).expect("renewed")();
        assert!(is_shown(address, &renewed.cert).await && !is_shown(address, &made.cert).await);
        served.abort();

        let missing = ServerTls { cert_file: folder.path().join("none.pem"), ..files };
        assert!(matches!(Listeners::bind(&any, Some(&missing), 0o600).await, Err(BindError::Tls(_))));
    }

    #[tokio::test]
    async fn callers_show_a_certificate_where_authorities_are_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let caller = rcgen::generate_simple_self_signed(["caller".to_owned()]).expect("a certificate");
        let stranger = rcgen::generate_simple_self_signed(["caller".to_owned()]).expect("a certificate");
        let [cert_file, key_file, ca] = ["cert.pem", "key.pem", "ca.pem"].map(|name| folder.path().join(name));
        std::fs::write(&cert_file, made.cert.pem()).expect("written");
        std::fs::write(&key_file, made.signing_key.serialize_pem()).expect("written");
        std::fs::write(&ca, caller.cert.pem()).expect("written");
        let files = ServerTls { cert_file, key_file, client_ca_file: Some(ca.clone()) };
        let any = [Listen::Tcp("127.0.0.1:0".parse().expect("an address"))];
        let listeners = Listeners::bind(&any, Some(&files), 0o600).await.expect("bound");
        let Listen::Tcp(address) = listeners.addresses()[0] else { panic!("TCP was asked for") };
        let certificate = listeners.certificate().expect("there is one");
        let (_stop, shutdown) = watch::channel(false);
        let served = tokio::spawn(listeners.serve(service(), shutdown));

        assert!(is_answered(address, &made.cert, Some(&caller)).await);
        assert!(!is_answered(address, &made.cert, None).await, "without one");
        assert!(!is_answered(address, &made.cert, Some(&stranger)).await, "of nobody we know");
        // A reload names other authorities, or a file that has none: nothing changes then.
        std::fs::write(&ca, "nobody").expect("written");
        assert!(certificate.renew(&files).is_err());
        std::fs::write(&ca, stranger.cert.pem()).expect("written");
        assert!(is_answered(address, &made.cert, Some(&caller)).await);
        certificate.renew(&files).expect("renewed")();
        assert!(is_answered(address, &made.cert, Some(&stranger)).await);
        assert!(!is_answered(address, &made.cert, Some(&caller)).await);
        served.abort();
    }

    #[tokio::test]
    async fn a_whole_body_has_the_same_limit() {
        let room = BodyRoom::new(8);
        let at_most = Body::from(Bytes::from_static(b"12345678")).read(8, &room).await;
        assert_eq!(at_most.expect("within").0, "12345678");
        let problem = Body::from(Bytes::from_static(b"123456789")).read(8, &room).await.expect_err("beyond");
        assert_eq!(problem.code(), crate::http::Code::TooLarge);
    }
}
