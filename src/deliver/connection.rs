//! One connection to a receiver: a request goes out, its answer comes in. Knows bytes and
//! where an answer ends (`http1`), and neither whom they are for nor how long that may take.
//!
//! **Whoever uses a connection drives it.** A task of its own for each would cost two
//! changes of task for every request. So nobody watches one that waits: whether its
//! receiver has closed it shows when it is used next, before anything is written.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::task::unconstrained;

use super::http1::{AnswerHead, Body, HeadReader, Malformed};

/// Room that is made for what comes: most answers fit.
const READ_BYTES: usize = 2048;
/// Room that one which waits may keep: there are many of them.
const IDLE_BUFFER_BYTES_MAX: usize = 2 * READ_BYTES;

/// What HTTP is spoken on.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// One HTTP/1.1 connection. **Dropped, it is gone at once**: a graceful close
/// could wait for ever on a peer that does not read.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    /// What came and is not read yet.
    buffer: BytesMut,
    address: SocketAddr,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Broken {
    /// It had ended before anything was written: the request may go another way.
    Unsent(Ended),
    /// It ended after that.
    Sent(Ended),
}

/// How a connection ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The receiver closed it.
    Closed,
    /// It broke.
    Io(io::Error),
    /// The receiver spoke though nothing was asked.
    Unasked,
    /// What came is no answer.
    Malformed(Malformed),
}

impl Connection {
    /// HTTP/1.1 on `stream`, which leads to `address`.
    pub(super) fn new(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, address: SocketAddr) -> Connection {
        Connection { stream: Box::new(stream), buffer: BytesMut::new(), address }
    }

    /// Where it leads.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends `request`, and reads the head of the answer. That may come before all is sent.
    pub(super) async fn ask(&mut self, request: &mut Unwritten) -> Result<AnswerHead, Broken> {
        // Whoever has used up what a task may do at a time is told that nothing is there.
        if let Some(ended) = unconstrained(poll_fn(|context| Poll::Ready(self.ended(context)))).await {
            return Err(Broken::Unsent(ended));
        }
        let mut reader = HeadReader::default();
        poll_fn(|context| {
            request.write(&mut self.stream, context);
            loop {
                let found = reader.read(&mut self.buffer);
                if let Some(answer) = found.map_err(|malformed| Broken::Sent(Ended::Malformed(malformed)))? {
                    return Poll::Ready(Ok(answer));
                }
                ready!(self.fill(context)).map_err(Broken::Sent)?;
            }
        })
        .await
    }

    /// Reads the next of the answer's body, and hands it to `keep`; meanwhile goes on with
    /// the request. Answers whether that was the end of the body; none: it broke off or
    /// breaks the rules.
    pub(super) async fn body(
        &mut self,
        body: &mut Body,
        request: &mut Unwritten,
        mut keep: impl FnMut(&[u8]),
    ) -> Option<bool> {
        if body.take(&mut self.buffer, &mut keep).ok()? {
            return Some(true);
        }
        let filled = poll_fn(|context| {
            request.write(&mut self.stream, context);
            self.fill(context)
        });
        match filled.await {
            Ok(()) => body.take(&mut self.buffer, keep).ok(),
            Err(Ended::Closed) => (*body == Body::ToTheEnd).then_some(true),
            Err(_) => None,
        }
    }

    /// Sends the rest of a request that was answered before all of it was sent. What comes
    /// meanwhile is read, lest both wait for each other, and left where it is: the connection
    /// is not kept then.
    pub(super) async fn finish(&mut self, request: &mut Unwritten) {
        let mut is_readable = true;
        poll_fn(|context| {
            loop {
                request.write(&mut self.stream, context);
                if request.state != State::Writing {
                    return Poll::Ready(());
                }
                if !is_readable {
                    return Poll::Pending;
                }
                // Only the last of it, as what is not read on is of no interest.
                self.buffer.truncate(1);
                // A receiver that says no more may still read.
                is_readable = ready!(self.fill(context)).is_ok();
            }
        })
        .await;
    }

    /// Makes it fit to wait for another request. False: something came behind the answer.
    pub(super) fn rest(&mut self) -> bool {
        let is_empty = self.buffer.is_empty();
        if self.buffer.try_reclaim(IDLE_BUFFER_BYTES_MAX + 1) {
            self.buffer = BytesMut::new();
        }
        is_empty
    }

    /// Whether it has ended, as far as can be seen without waiting.
    pub(super) fn has_ended(&mut self) -> bool {
        self.ended(&mut Context::from_waker(Waker::noop())).is_some()
    }

    /// How it has ended while nothing was asked.
    fn ended(&mut self, context: &mut Context<'_>) -> Option<Ended> {
        match self.fill(context) {
            Poll::Pending => None,
            Poll::Ready(Ok(())) => Some(Ended::Unasked),
            Poll::Ready(Err(ended)) => Some(ended),
        }
    }

    /// Reads what is there.
    fn fill(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        self.buffer.reserve(READ_BYTES);
        let filled = ready!(pin!(self.stream.read_buf(&mut self.buffer)).poll(context));
        Poll::Ready(match filled {
            Ok(0) => Err(Ended::Closed),
            Ok(_) => Ok(()),
            Err(error) => Err(Ended::Io(error)),
        })
    }
}

/// What of a request is still to be written. **Once all of it is, it is gone**, long before
/// there is an answer: a thousand requests in flight would be more than a processor's cache
/// holds, and each would be made in memory that no cache has any more.
pub(super) struct Unwritten {
    head: Vec<u8>,
    body: Bytes,
    written_bytes: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Writing,
    /// All of it is on its way.
    Written,
    /// It cannot be written to its end. The receiver may have said why: what it says counts.
    Failed,
}

impl Unwritten {
    /// All of a request: `head`, then `body`.
    pub(super) fn new(head: Vec<u8>, body: Bytes) -> Unwritten {
        Unwritten { head, body, written_bytes: 0, state: State::Writing }
    }

    /// Whether all of it was written.
    pub(super) fn is_written(&self) -> bool {
        self.state == State::Written
    }

    /// Writes as much as can be.
    fn write(&mut self, stream: &mut Box<dyn Stream>, context: &mut Context<'_>) {
        if self.state != State::Writing {
            return;
        }
        self.state = match self.poll_write(stream, context) {
            Poll::Pending => return,
            Poll::Ready(Ok(())) => State::Written,
            Poll::Ready(Err(_)) => State::Failed,
        };
        (self.head, self.body) = (Vec::new(), Bytes::new());
    }

    fn poll_write(&mut self, mut stream: &mut Box<dyn Stream>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.rest() {
            match ready!(Pin::new(&mut stream).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                bytes => self.written_bytes += bytes,
            }
        }
        Pin::new(&mut stream).poll_flush(context)
    }

    /// What is to be written next; none: nothing is left.
    fn rest(&self) -> Option<&[u8]> {
        let of_head = self.head.get(self.written_bytes..).unwrap_or_default();
        let of_body = || self.body.get(self.written_bytes.saturating_sub(self.head.len())..).unwrap_or_default();
        let rest = if of_head.is_empty() { of_body() } else { of_head };
        (!rest.is_empty()).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};
    use proptest::prelude::*;
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const HEAD: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

    fn address() -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], 1))
    }

    fn asking() -> Unwritten {
        Unwritten::new(HEAD.to_vec(), Bytes::new())
    }

    fn connection() -> (Connection, DuplexStream) {
        let (ours, theirs) = duplex(4096);
        (Connection::new(ours, address()), theirs)
    }

    #[tokio::test]
    async fn a_request_is_unsent_only_where_nothing_of_it_was_written() {
        let (mut closed, peer) = connection();
        assert!(!closed.has_ended());
        drop(peer);
        assert!(closed.has_ended());
        assert!(matches!(closed.ask(&mut asking()).await, Err(Broken::Unsent(Ended::Closed))));

        // Some say why they close, to nobody who asked.
        let (mut spoken, mut peer) = connection();
        peer.write_all(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n").await.expect("written");
        assert!(matches!(spoken.ask(&mut asking()).await, Err(Broken::Unsent(Ended::Unasked))));

        let (mut open, mut peer) = connection();
        let reading = tokio::spawn(async move { peer.read_u8().await });
        assert!(matches!(open.ask(&mut asking()).await, Err(Broken::Sent(Ended::Closed))));
        assert_eq!(reading.await.expect("no panic").expect("a byte"), b'G');
    }

    /// An answer that comes first: its status, and how much the receiver got of a request of
    /// `HEAD` and 100,000 bytes that it reads to its end.
    async fn early(answer: &str) -> (u16, usize, bool) {
        let (mut connection, mut peer) = connection();
        let body = vec![b'x'; 100_000];
        let mut request = Unwritten::new(HEAD.to_vec(), Bytes::copy_from_slice(&body));
        let reading = async {
            let mut received = vec![0; 1000];
            peer.read_exact(&mut received).await.expect("a beginning");
            peer.write_all(answer.as_bytes()).await.expect("written");
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            peer.read_to_end(&mut received).await.expect("the end");
            received.len()
        };
        let asking = async {
            let mut answer = connection.ask(&mut request).await.expect("an answer");
            assert!(!request.is_written());
            while connection.body(&mut answer.body, &mut request, |_| ()).await == Some(false) {}
            connection.finish(&mut request).await;
            drop(connection);
            (answer.status.as_u16(), request.is_written())
        };
        let ((status, is_written), received) = tokio::join!(asking, reading);
        (status, received, is_written)
    }

    /// Some receivers answer as soon as they have the head, and read on: a request that is
    /// cut off then would count as delivered and be half of one.
    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_answered_early_is_sent_to_its_end() {
        let whole = HEAD.len() + 100_000;
        let endless = format!("transfer-encoding: chunked\r\n\r\nno chunk{}", "y".repeat(100_000));
        for body in ["content-length: 0\r\n\r\n", "content-length: 2\r\n\r\nok", &endless] {
            assert_eq!(early(&format!("HTTP/1.1 200 OK\r\n{body}")).await, (200, whole, true));
        }
    }

    /// It goes out in whatever pieces the connection takes.
    #[tokio::test]
    async fn a_request_arrives_as_it_was_written() {
        for piece_bytes in [1, 7, HEAD.len(), HEAD.len() + 1, 1000] {
            let (ours, mut peer) = duplex(piece_bytes);
            let mut connection = Connection::new(ours, address());
            let body: Vec<u8> = (0..100).collect();
            let mut request = Unwritten::new(HEAD.to_vec(), body.clone().into());
            let mut received = vec![0; HEAD.len() + body.len()];
            let answering = async {
                peer.read_exact(&mut received).await.expect("all of it");
                peer.write_all(b"HTTP/1.1 204 OK\r\n\r\n").await.expect("written");
            };
            let (answer, ()) = tokio::join!(connection.ask(&mut request), answering);
            assert!(answer.is_ok() && request.is_written());
            assert_eq!(received, [HEAD, &body].concat());
        }
    }

    /// Receivers that refuse a large body say so before they have read it, and do not read on.
    #[tokio::test]
    async fn what_was_said_before_the_connection_broke_counts() {
        let (ours, mut peer) = duplex(200);
        let mut connection = Connection::new(ours, address());
        let refusing = async move {
            peer.read_u8().await.expect("a byte");
            peer.write_all(b"HTTP/1.1 413 Too Large\r\n\r\n").await.expect("written");
        };
        let body = [b'x'; 10_000];
        let mut request = Unwritten::new(HEAD.to_vec(), Bytes::copy_from_slice(&body));
        let (answer, ()) = tokio::join!(connection.ask(&mut request), refusing);
        assert_eq!(answer.expect("an answer").status.as_u16(), 413);
        connection.finish(&mut request).await;
        assert!(!request.is_written());
    }

    /// A task may do so much at a time and is then told that nothing is there. So it was
    /// that of many connections that a receiver had closed the last ones looked open.
    #[tokio::test]
    async fn closed_ones_are_known_however_many_there_are() {
        for _ in 0..1000 {
            let (mut closed, peer) = connection();
            drop(peer);
            let asked = closed.ask(&mut asking()).await;
            assert!(matches!(asked, Err(Broken::Unsent(Ended::Closed))));
        }
    }

    #[tokio::test]
    async fn a_large_answer_leaves_no_large_buffer_behind() {
        let (mut connection, mut peer) = connection();
        let head = format!("HTTP/1.1 204 OK\r\nx: {}\r\n\r\n", "y".repeat(30_000));
        let mut request = Unwritten::new(HEAD.to_vec(), Bytes::from_static(b"a body"));
        let (answer, written) = tokio::join!(connection.ask(&mut request), peer.write_all(head.as_bytes()));
        assert!(written.is_ok() && answer.expect("an answer").is_kept && request.is_written());
        assert!(request.head.capacity() == 0 && request.body.is_empty(), "nor does a request");
        assert!(connection.buffer.try_reclaim(IDLE_BUFFER_BYTES_MAX + 1));
        assert!(connection.rest() && !connection.buffer.try_reclaim(IDLE_BUFFER_BYTES_MAX + 1));
    }

    /// What came of an answer: its status, its body, whether that is whole, and whether
    /// another request may follow.
    type Outcome = Option<(u16, Vec<u8>, bool, bool)>;

    /// A peer that reads a request, writes `answer` in pieces of so many bytes and closes,
    /// or (`stays`) waits.
    async fn receiver(mut peer: DuplexStream, answer: &[u8], piece_bytes: usize, stays: bool) -> DuplexStream {
        peer.read_u8().await.expect("a request");
        for piece in answer.chunks(piece_bytes) {
            // Whoever had enough has closed.
            let _ = peer.write_all(piece).await;
            tokio::task::yield_now().await;
        }
        if !stays {
            let _ = peer.shutdown().await;
        }
        peer
    }

    /// Of a peer that keeps silent nothing more is expected. The time is the runtime's, which
    /// passes as soon as nobody has anything to do.
    async fn or_none<T>(waiting: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout(std::time::Duration::from_secs(1), waiting).await.ok()
    }

    async fn ours(answer: &[u8], piece_bytes: usize, stays: bool) -> Outcome {
        let (mut connection, peer) = connection();
        let asking = async {
            let mut request = asking();
            let mut head = or_none(connection.ask(&mut request)).await?.ok()?;
            let mut kept = Vec::new();
            let reading = async {
                loop {
                    match connection.body(&mut head.body, &mut request, |data| kept.extend_from_slice(data)).await {
                        Some(true) => break true,
                        Some(false) => {}
                        None => break false,
                    }
                }
            };
            let is_whole = or_none(reading).await.unwrap_or(false);
            let is_kept = is_whole && head.is_kept && connection.rest();
            Some((head.status.as_u16(), kept, is_whole, is_kept))
        };
        let (_peer, outcome) = tokio::join!(receiver(peer, answer, piece_bytes, stays), asking);
        // What came late shows when it is used next.
        outcome.map(|(status, kept, is_whole, is_kept)| (status, kept, is_whole, is_kept && !connection.has_ended()))
    }

    async fn hypers(answer: &[u8], stays: bool) -> Outcome {
        let (stream, peer) = duplex(4096);
        let asking = async {
            let stream = hyper_util::rt::TokioIo::new(stream);
            let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.ok()?;
            tokio::spawn(connection);
            let request = http::Request::new(Full::new(Bytes::new()));
            let (head, mut body) = or_none(sender.send_request(request)).await?.ok()?.into_parts();
            let mut kept = Vec::new();
            let reading = async {
                loop {
                    match body.frame().await {
                        None => break true,
                        Some(Ok(frame)) => kept.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new())),
                        Some(Err(_)) => break false,
                    }
                }
            };
            let is_whole = or_none(reading).await.unwrap_or(false);
            let is_kept = is_whole && or_none(sender.ready()).await.is_some_and(|ready| ready.is_ok());
            Some((head.status.as_u16(), kept, is_whole, is_kept))
        };
        tokio::join!(receiver(peer, answer, usize::MAX, stays), asking).1
    }

    fn any_answer() -> impl Strategy<Value = String> {
        let version = prop_oneof![9 => Just("1.1"), 1 => Just("1.0")];
        let status = prop::sample::select(vec![200, 200, 200, 201, 204, 304, 404, 500, 999]);
        let length = vec!["5", "05", "0", "+5", "5, 5", "5,6", "", " 5 ", "-1", "5x", "99999999999999999999", "6"];
        let coding = vec!["chunked", "gzip, chunked", "chunked, gzip", "CHUNKED", "identity", "chunked,", ""];
        let connection = vec!["close", "keep-alive", "x, Close", "upgrade", "Keep-Alive, x"];
        let header = prop_oneof![
            4 => prop::sample::select(length).prop_map(|value| format!("Content-Length: {value}")),
            4 => prop::sample::select(coding).prop_map(|value| format!("transfer-encoding: {value}")),
            1 => prop::sample::select(connection).prop_map(|value| format!("connection: {value}")),
            1 => prop::sample::select(vec!["x: y", "x:", "x : y", "retry-after: 5", " folded", ": y", "x"]).prop_map(str::to_owned),
        ];
        let part = prop::sample::select(vec![
            "hello",
            "5\r\nhello\r\n",
            "5;a=b\r\nhello\r\n",
            "05\r\nhello\r\n",
            "a\r\n0123456789\r\n",
            "0\r\n\r\n",
            "0\r\nx: y\r\n\r\n",
            "5\r\nhelloX\r\n",
            "5\r\nhelloXX",
            "zz\r\n",
            "0\n\n",
            "\r\n",
            "-1\r\n",
            "ffffffffffffffffff\r\n",
        ]);
        let interim = prop_oneof![9 => Just(""), 1 => Just("HTTP/1.1 103 Early\r\nlink: a\r\n\r\n")];
        let headers = prop::collection::vec(header, 0..3);
        (interim, version, status, headers, prop::collection::vec(part, 0..4)).prop_map(
            |(interim, version, status, headers, parts)| {
                let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
                format!("{interim}HTTP/{version} {status} X\r\n{headers}\r\n{}", parts.concat())
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// hyper reads the same answers, and is never the more careful one.
        #[test]
        fn answers_are_read_as_hyper_reads_them(answer in any_answer(), piece_bytes in 1usize..40, stays in any::<bool>()) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let (ours, hypers) = runtime.block_on(async {
                (ours(answer.as_bytes(), piece_bytes, stays).await, hypers(answer.as_bytes(), stays).await)
            });
            match (ours, hypers) {
                (Some((status, body, is_whole, is_kept)), Some(theirs)) => {
                    prop_assert_eq!((status, body, is_whole), (theirs.0, theirs.1, theirs.2));
                    prop_assert!(!is_kept || theirs.3, "only ours is used again");
                }
                // The status decides: what is odd beside it costs the connection, not the answer.
                (Some((.., is_kept)), None) => prop_assert!(!is_kept),
                (ours, hypers) => prop_assert_eq!(ours, hypers),
            }
        }
    }
}
