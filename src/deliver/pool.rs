//! Connections that wait for the next request to the same receiver.
//!
//! **Nothing here resends.** A request that hyper gives back untouched may go out
//! on another connection; one of which a byte may have left has failed.
//!
//! **Whoever uses a connection drives it.** A task of its own for each would cost two
//! changes of task for every request. So nobody watches one that waits: whether its
//! receiver has closed it shows when it is used next, before anything is written, or
//! when the pool is swept.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};

use super::later;
use super::tls::Fingerprint;
use crate::config::Proxy;
use crate::limits::{
    IDLE_CONNECTIONS_MAX, IDLE_CONNECTIONS_PER_ENDPOINT_MAX, IDLE_LOOK_INTERVAL, IDLE_SWEEP_INTERVAL,
    RESPONSE_HEAD_BYTES_MAX, RESPONSE_HEADERS_MAX,
};

/// What hyper asks of a connection's buffer; it would panic.
const _: () = assert!(RESPONSE_HEAD_BYTES_MAX >= 8192);

/// Which connections are alike.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Endpoint {
    /// The host as the URL has it.
    pub(super) host: Arc<str>,
    /// The port.
    pub(super) port: u16,
    /// The TLS settings; none: plain HTTP.
    pub(super) tls: Option<Fingerprint>,
    /// By whom it is reached; none: directly.
    pub(super) proxy: Option<Proxy>,
}

/// One HTTP/1.1 connection. **Dropped, it is gone at once**: a graceful close
/// could wait for ever on a peer that does not read.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: Driver,
    address: SocketAddr,
}

/// What moves a connection's bytes, and how that ended.
enum Driver {
    Running(Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>),
    Ended(hyper::Result<()>),
}

impl Driver {
    /// Does what can be done. Answers whether it has ended.
    fn advance(&mut self, context: &mut Context<'_>) -> bool {
        if let Driver::Running(running) = self
            && let Poll::Ready(result) = running.as_mut().poll(context)
        {
            *self = Driver::Ended(result);
        }
        matches!(self, Driver::Ended(_))
    }

    /// Waits for what needs the connection to move.
    async fn run<T>(&mut self, waiting: impl Future<Output = T>) -> T {
        let mut waiting = pin!(waiting);
        poll_fn(|context| {
            if let Poll::Ready(done) = waiting.as_mut().poll(context) {
                return Poll::Ready(done);
            }
            self.advance(context);
            waiting.as_mut().poll(context)
        })
        .await
    }
}

/// What came of handing a request to a connection.
pub(super) enum Sent {
    /// The head of an answer.
    Answered(Response<Incoming>),
    /// Nothing of the request was written; here it is again.
    Unsent(Request<Full<Bytes>>, hyper::Error),
    /// It was written, at least in part, and no answer came.
    Failed(hyper::Error),
}

impl Connection {
    /// Speaks HTTP/1.1 on `stream`, which leads to `address`.
    pub(super) async fn start<T>(stream: T, address: SocketAddr) -> hyper::Result<Connection>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = Builder::new();
        builder.max_header_size(RESPONSE_HEAD_BYTES_MAX).max_headers(RESPONSE_HEADERS_MAX);
        // As large as a head may be: what exceeds it is over the limit either way.
        builder.max_buf_size(RESPONSE_HEAD_BYTES_MAX);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        Ok(Connection { sender, driver: Driver::Running(Box::pin(connection)), address })
    }

    /// Sends `request` and waits for the head of the answer.
    pub(super) async fn send(&mut self, request: Request<Full<Bytes>>) -> Sent {
        let mut error = match self.driver.run(self.sender.try_send_request(request)).await {
            Ok(response) => return Sent::Answered(response),
            Err(error) => error,
        };
        match error.take_message() {
            Some(request) => Sent::Unsent(request, error.into_error()),
            None => Sent::Failed(error.into_error()),
        }
    }

    /// Why nothing could be sent: where a connection ended before it took a
    /// request, only its driver knows.
    pub(super) async fn why(self, error: hyper::Error) -> hyper::Error {
        let ended = match self.driver {
            Driver::Running(running) => running.await,
            Driver::Ended(ended) => ended,
        };
        ended.err().unwrap_or(error)
    }

    /// The next piece of an answer's body.
    pub(super) async fn frame(&mut self, incoming: &mut Incoming) -> Option<hyper::Result<Frame<Bytes>>> {
        self.driver.run(incoming.frame()).await
    }

    /// Waits until another request can be sent; `false`: never.
    pub(super) async fn is_reusable(&mut self) -> bool {
        self.driver.run(self.sender.ready()).await.is_ok()
    }

    /// Whether it has ended, as far as can be seen without waiting.
    fn has_ended(&mut self) -> bool {
        self.driver.advance(&mut Context::from_waker(Waker::noop()))
    }
}

struct Idle {
    connection: Connection,
    until: Instant,
}

#[derive(Default)]
struct State {
    /// For each endpoint, the one used longest ago first. No list is empty.
    idle: HashMap<Endpoint, VecDeque<Idle>>,
    count: usize,
    is_swept: bool,
}

/// See the module.
pub(super) struct Pool {
    state: Mutex<State>,
    idle_max: usize,
}

impl Pool {
    /// A pool of at most so many connections, and [`IDLE_CONNECTIONS_MAX`].
    pub(super) fn of(idle_max: usize) -> Pool {
        Pool { state: Mutex::default(), idle_max: idle_max.min(IDLE_CONNECTIONS_MAX) }
    }

    /// A connection to `endpoint`, the one used last, whose address `admits` takes: it was
    /// vetted for whoever dialled it, under the policy of that time. Whether it is still
    /// open shows when a request is handed to it.
    pub(super) fn take(&self, endpoint: &Endpoint, admits: impl Fn(SocketAddr) -> bool) -> Option<Connection> {
        let now = Instant::now();
        let mut state = self.state();
        let list = state.idle.get_mut(endpoint)?;
        // From the end, so that the others are not looked at.
        let usable = |idle: &Idle| now < idle.until && admits(idle.connection.address);
        let found = list.iter().rposition(usable).and_then(|position| list.remove(position))?;
        if list.is_empty() {
            state.idle.remove(endpoint);
        }
        state.count -= 1;
        Some(found.connection)
    }

    /// Keeps `connection` for `keep_alive`. Where there is no room, the one that
    /// waited longest is closed.
    pub(super) fn give(self: &Arc<Pool>, endpoint: Endpoint, connection: Connection, keep_alive: Duration) {
        if keep_alive.is_zero() {
            return;
        }
        let until = later(Instant::now(), keep_alive);
        let mut state = self.state();
        if state.idle.get(&endpoint).is_some_and(|list| list.len() >= IDLE_CONNECTIONS_PER_ENDPOINT_MAX) {
            state.drop_oldest(&endpoint);
        } else if state.count >= self.idle_max {
            let first = |list: &VecDeque<Idle>| list.front().map(|idle| idle.until);
            let oldest = state.idle.iter().min_by_key(|(_, list)| first(list)).map(|(endpoint, _)| endpoint.clone());
            if let Some(oldest) = oldest {
                state.drop_oldest(&oldest);
            }
        }
        state.idle.entry(endpoint).or_default().push_back(Idle { connection, until });
        state.count += 1;
        if !state.is_swept {
            state.is_swept = true;
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Closes what is over its time or was closed by its receiver. When to look again;
    /// none: nothing is left, and the next [`Pool::give`] starts another sweep.
    fn drop_expired(&self, now: Instant) -> Option<Instant> {
        let mut state = self.state();
        for list in state.idle.values_mut() {
            list.retain_mut(|idle| now < idle.until && !idle.connection.has_ended());
        }
        state.idle.retain(|_, list| !list.is_empty());
        state.count = state.idle.values().map(VecDeque::len).sum();
        let next = state.idle.values().flatten().map(|idle| idle.until).min();
        state.is_swept = next.is_some();
        next.map(|next| next.clamp(later(now, IDLE_SWEEP_INTERVAL), later(now, IDLE_LOOK_INTERVAL)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn drop_oldest(&mut self, endpoint: &Endpoint) {
        let Some(list) = self.idle.get_mut(endpoint) else { return };
        if list.pop_front().is_some() {
            self.count -= 1;
        }
        if list.is_empty() {
            self.idle.remove(endpoint);
        }
    }
}

/// Closes idle connections when their time is up or their receiver has closed them,
/// for as long as there are any: a pool that is empty costs nothing.
async fn sweep(pool: Weak<Pool>) {
    loop {
        let next = pool.upgrade().and_then(|pool| pool.drop_expired(Instant::now()));
        match next {
            Some(next) => sleep_until(next).await,
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf, duplex};

    use super::*;

    const KEEP_ALIVE: Duration = Duration::from_secs(60);

    fn endpoint(port: u16) -> Endpoint {
        Endpoint { host: "example.com".into(), port, tls: None, proxy: None }
    }

    async fn connection(port: u16) -> (Connection, DuplexStream) {
        let (ours, theirs) = duplex(4096);
        let connection = Connection::start(ours, SocketAddr::from(([192, 0, 2, 1], port))).await;
        (connection.expect("a connection"), theirs)
    }

    fn request() -> Request<Full<Bytes>> {
        Request::new(Full::new(Bytes::from_static(b"body")))
    }

    #[tokio::test]
    async fn what_is_over_its_time_is_not_handed_out() {
        let pool = Arc::new(Pool::of(usize::MAX));
        let (open, _peer) = connection(1).await;
        pool.give(endpoint(1), open, KEEP_ALIVE);
        assert!(pool.take(&endpoint(2), |_| true).is_none(), "of another endpoint");
        assert!(pool.take(&endpoint(1), |_| false).is_none(), "not admitted");
        let now = Instant::now();
        assert!(pool.drop_expired(now).is_some_and(|next| next >= later(now, IDLE_SWEEP_INTERVAL)));
        assert_eq!(pool.drop_expired(later(now, KEEP_ALIVE + KEEP_ALIVE)), None);
        assert!(pool.take(&endpoint(1), |_| true).is_none(), "over its time");
        assert_eq!(pool.state().count, 0);
    }

    #[tokio::test]
    async fn the_pool_is_bounded() {
        let pool = Arc::new(Pool::of(usize::MAX));
        let mut peers = Vec::new();
        let endpoints = IDLE_CONNECTIONS_MAX / IDLE_CONNECTIONS_PER_ENDPOINT_MAX + 1;
        for port in 1..=u16::try_from(endpoints).expect("few") {
            for _ in 0..=IDLE_CONNECTIONS_PER_ENDPOINT_MAX {
                let (open, peer) = connection(port).await;
                pool.give(endpoint(port), open, KEEP_ALIVE);
                peers.push(peer);
                assert!(pool.state().idle[&endpoint(port)].len() <= IDLE_CONNECTIONS_PER_ENDPOINT_MAX);
            }
        }
        assert_eq!(pool.state().count, IDLE_CONNECTIONS_MAX);
        assert!(!pool.state().idle.contains_key(&endpoint(1)), "the ones that waited longest made room");
        let mut taken = 0;
        while pool.take(&endpoint(2), |_| true).is_some() {
            taken += 1;
        }
        assert_eq!(taken, IDLE_CONNECTIONS_PER_ENDPOINT_MAX);
        assert_eq!(pool.state().count, IDLE_CONNECTIONS_MAX - taken);
    }

    #[tokio::test]
    async fn a_request_comes_back_only_where_nothing_of_it_was_written() {
        let (mut closed, peer) = connection(1).await;
        drop(peer);
        assert!(!closed.is_reusable().await);
        assert!(matches!(closed.send(request()).await, Sent::Unsent(..)));

        // Its end has not been seen yet when the request is handed over.
        let (mut closing, peer) = connection(1).await;
        drop(peer);
        assert!(matches!(closing.send(request()).await, Sent::Unsent(..)));

        // Some say why they close, to nobody who asked.
        let (mut spoken, mut peer) = connection(1).await;
        peer.write_all(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n").await.expect("written");
        assert!(matches!(spoken.send(request()).await, Sent::Unsent(..)));

        let (mut open, mut peer) = connection(1).await;
        let reading = tokio::spawn(async move { peer.read_u8().await });
        assert!(matches!(open.send(request()).await, Sent::Failed(_)));
        assert_eq!(reading.await.expect("no panic").expect("a byte"), b'G');
    }

    /// A stream whose graceful end never comes, as that of TLS to a peer that does not read.
    struct Endless(DuplexStream);

    impl AsyncRead for Endless {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(context, buffer)
        }
    }

    impl AsyncWrite for Endless {
        fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.0).poll_write(context, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(context)
        }

        fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn a_dropped_connection_is_gone_although_its_graceful_end_never_comes() {
        let (ours, mut peer) = duplex(16);
        let address = SocketAddr::from(([192, 0, 2, 1], 1));
        let mut stuck = Connection::start(Endless(ours), address).await.expect("a connection");
        tokio::select! {
            biased;
            _ = stuck.send(request()) => panic!("nobody answers"),
            first = peer.read_u8() => assert_eq!(first.expect("a byte"), b'G'),
        }
        drop(stuck);
        let ended = tokio::time::timeout(Duration::from_secs(20), peer.read_to_end(&mut Vec::new())).await;
        ended.expect("no waiting").expect("the end");
    }
}
