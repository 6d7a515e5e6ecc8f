//! The load generator: publishes over a number of kept connections, as fast as the
//! answers come or at a given pace, and notes how long each answer took.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::event;
use crate::figures::percentile;
use crate::machine::now_ns;
use crate::peer::{Peer, runtime, say};

/// How much is published, and how fast.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Pace {
    /// As fast as the answers come, for so many seconds.
    For(f64),
    /// As fast as the answers come, so many events.
    Count(u64),
    /// So many events a second, for so many seconds, whether the answers come or not.
    PerSecond(f64, f64),
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Load {
    pub(crate) to: SocketAddr,
    pub(crate) path: String,
    pub(crate) event_type: String,
    /// Events in a request; one goes as JSON, more as one a line.
    pub(crate) events_per_request: u64,
    pub(crate) connections: usize,
    pub(crate) pace: Pace,
}

/// What became of a load.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Published {
    /// Events that were answered 2xx.
    pub(crate) events: u64,
    pub(crate) first_ns: u64,
    pub(crate) last_ns: u64,
    /// From a request to its answer.
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// Requests that were answered otherwise.
    pub(crate) refused: u64,
}

impl Published {
    pub(crate) fn per_second(&self) -> f64 {
        self.events as f64 * 1e9 / (self.last_ns - self.first_ns) as f64
    }
}

impl Load {
    /// Runs it in a process of its own.
    pub(crate) async fn run(&self) -> Published {
        let published: Published = Peer::start("load", self).hear().await;
        assert_eq!(published.refused, 0, "requests were refused");
        published
    }

    fn request(&self) -> http::Request<Full<Bytes>> {
        let at = now_ns();
        let mut body = String::new();
        for _ in 0..self.events_per_request {
            body.push_str(&event::text(&self.event_type, at));
            body.push('\n');
        }
        let media_type = if self.events_per_request > 1 { "application/x-ndjson" } else { "application/json" };
        http::Request::post(self.path.as_str())
            .header("host", self.to.to_string())
            .header("content-type", media_type)
            .body(Full::new(Bytes::from(body)))
            .unwrap()
    }
}

type Connection = SendRequest<Full<Bytes>>;

async fn connect(to: SocketAddr) -> Connection {
    let stream = TcpStream::connect(to).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// How long each answer took, and how many were not 2xx.
#[derive(Default)]
struct Answers {
    took_ns: Vec<u64>,
    refused: u64,
}

impl Answers {
    async fn ask(&mut self, load: &Load, connection: &mut Connection) {
        let began_at = now_ns();
        let answer = connection.send_request(load.request()).await.unwrap();
        let status = answer.status();
        answer.into_body().collect().await.unwrap();
        if status.is_success() {
            self.took_ns.push(now_ns() - began_at);
        } else {
            self.refused += 1;
        }
    }

    fn extend(&mut self, other: Answers) {
        self.took_ns.extend(other.took_ns);
        self.refused += other.refused;
    }
}

/// In the generator's process.
pub(crate) fn run(task: &str) {
    let load: Load = serde_json::from_str(task).unwrap();
    runtime().block_on(async {
        // On the workers, not on the thread that waits for them.
        tokio::spawn(async move { say(&publish(load).await) }).await.unwrap();
    });
}

async fn publish(load: Load) -> Published {
    let load = Arc::new(load);
    let mut connections = Vec::new();
    for _ in 0..load.connections {
        connections.push(connect(load.to).await);
    }
    let first_ns = now_ns();
    let mut answers = match load.pace {
        Pace::For(seconds) => one_after_the_other(&load, connections, u64::MAX, seconds).await,
        Pace::Count(events) => {
            let requests = events.div_ceil(load.events_per_request);
            one_after_the_other(&load, connections, requests, f64::INFINITY).await
        }
        Pace::PerSecond(rate, seconds) => at_its_pace(&load, connections, rate, seconds).await,
    };
    let last_ns = now_ns();
    answers.took_ns.sort_unstable();
    let ms = |share| percentile(&answers.took_ns, share) as f64 / 1e6;
    Published {
        events: answers.took_ns.len() as u64 * load.events_per_request,
        first_ns,
        last_ns,
        p50_ms: ms(0.5),
        p99_ms: ms(0.99),
        refused: answers.refused,
    }
}

async fn one_after_the_other(load: &Arc<Load>, connections: Vec<Connection>, requests: u64, seconds: f64) -> Answers {
    let begun = Arc::new(AtomicU64::new(0));
    let until = now_ns() as f64 + seconds * 1e9;
    let mut publishers = JoinSet::new();
    for mut connection in connections {
        let (load, begun) = (load.clone(), begun.clone());
        publishers.spawn(async move {
            let mut answers = Answers::default();
            while (now_ns() as f64) < until && begun.fetch_add(1, Ordering::Relaxed) < requests {
                answers.ask(&load, &mut connection).await;
            }
            answers
        });
    }
    let mut all = Answers::default();
    for answers in publishers.join_all().await {
        all.extend(answers);
    }
    all
}

/// Each request goes out when its time has come, on a connection that is free or new:
/// a slow answer delays no other request, and counts in full.
async fn at_its_pace(load: &Arc<Load>, connections: Vec<Connection>, rate: f64, seconds: f64) -> Answers {
    let free = Arc::new(Mutex::new(connections));
    let all = Arc::new(Mutex::new(Answers::default()));
    let mut publishers = JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
    for _ in 0..(rate * seconds) as u64 {
        ticks.tick().await;
        let (load, free, all) = (load.clone(), free.clone(), all.clone());
        publishers.spawn(async move {
            let taken = free.lock().unwrap().pop();
            let mut connection = match taken {
                Some(connection) => connection,
                None => connect(load.to).await,
            };
            let mut answers = Answers::default();
            answers.ask(&load, &mut connection).await;
            free.lock().unwrap().push(connection);
            all.lock().unwrap().extend(answers);
        });
    }
    publishers.join_all().await;
    std::mem::take(&mut *all.lock().unwrap())
}
