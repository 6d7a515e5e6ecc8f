//! The daemon under test: the real binary, with a store of its own on the real disk.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use crate::bare_loop::CONNECTIONS;
use crate::load::{Load, Pace, Published};
use crate::machine::{self, Usage, now_ns};
use crate::receiver::{self, Receiver};
use crate::within;

/// The binary, built by the command that built this program.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_posthaste");
/// Where stores go: on the disk that the project is on.
pub(crate) const FOLDER: &str = env!("CARGO_TARGET_TMPDIR");

/// Attempts in flight to the one endpoint that gets everything.
const CONCURRENCY: u32 = 256;
/// Batches of a preload under way, and events in each.
const PRELOAD: (usize, u64) = (4, 1000);
/// Subscriptions that are made at the same time.
const CALLS_AT_ONCE: usize = 32;

/// A running daemon; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
    /// From its start until it took events.
    pub(crate) ready_after: Duration,
}

impl Daemon {
    /// On an empty store.
    pub(crate) async fn start() -> Daemon {
        let folder = tempfile::Builder::new().prefix("throughput-").tempdir_in(FOLDER).unwrap();
        let store = folder.path().join("data");
        // Everything else as it comes. A JSON string is a TOML string.
        let config = format!(
            "[service]\nlisten = [\"127.0.0.1:0\"]\nauth = \"none\"\n[storage]\npath = {}\n[delivery]\nallow_http = \
             true\nallow_networks = [\"127.0.0.1/32\"]\n[delivery.retry]\nmax_delay = \"24h\"\n[log]\nformat = \
             \"json\"\n",
            json!(store)
        );
        std::fs::write(folder.path().join("config.toml"), config).unwrap();
        Daemon::on(folder).await
    }

    async fn on(folder: TempDir) -> Daemon {
        let began_at = now_ns();
        let (child, address) = within("the daemon to listen", spawn(folder.path())).await;
        let mut daemon = Daemon { child, address, folder, ready_after: Duration::ZERO };
        within("the daemon to be ready", async {
            while daemon.call("GET", "/readyz", Value::Null).await.is_err() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        daemon.ready_after = Duration::from_nanos(now_ns() - began_at);
        daemon
    }

    /// Stopped in order and started again on the same store.
    pub(crate) async fn restart(self) -> Daemon {
        self.end(rustix::process::Signal::TERM).await
    }

    /// Killed and started again on the same store.
    pub(crate) async fn crash(self) -> Daemon {
        self.end(rustix::process::Signal::KILL).await
    }

    async fn end(mut self, signal: rustix::process::Signal) -> Daemon {
        let process = rustix::process::Pid::from_raw(self.process() as i32).unwrap();
        rustix::process::kill_process(process, signal).unwrap();
        within("the daemon to end", self.child.wait()).await.unwrap();
        Daemon::on(self.folder).await
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.id().unwrap()
    }

    pub(crate) fn usage(&self) -> Usage {
        Usage::of(self.process())
    }

    pub(crate) fn resident_mib(&self) -> f64 {
        machine::resident_mib(self.process())
    }

    /// A subscription of the receiver to that type; its path.
    pub(crate) async fn subscribe(&self, receiver: &Receiver, event_type: &str) -> String {
        self.create(settings(&receiver.url(0), receiver.ca_pem(), event_type)).await
    }

    /// The same of a port where nobody listens.
    pub(crate) async fn subscribe_nobody(&self, event_type: &str) {
        let port = receiver::closed_port();
        self.create(settings(&format!("http://127.0.0.1:{port}/hooks"), None, event_type)).await;
    }

    /// That many subscriptions to that type, of the receiver's endpoints in turn.
    pub(crate) async fn subscribe_many(&self, receiver: &Receiver, count: usize, event_type: &str) {
        let mut made = JoinSet::new();
        for index in 0..count {
            if made.len() == CALLS_AT_ONCE {
                made.join_next().await.unwrap().unwrap();
            }
            let (to, settings) = (self.address, settings(&receiver.url(index), receiver.ca_pem(), event_type));
            made.spawn(async move { call(to, "POST", "/v1/subscriptions", settings).await.unwrap() });
        }
        made.join_all().await;
    }

    async fn create(&self, settings: Value) -> String {
        let made = self.call("POST", "/v1/subscriptions", settings).await.unwrap();
        format!("/v1/subscriptions/{}", made["id"].as_str().unwrap())
    }

    /// `enable` or `disable`, as the subscription at `path` is to be.
    pub(crate) async fn switch(&self, path: &str, how: &str) {
        self.call("POST", &format!("{path}/{how}"), Value::Null).await.unwrap();
    }

    /// One by one from many connections.
    pub(crate) fn load(&self, event_type: &str, pace: Pace) -> Load {
        Load {
            to: self.address,
            path: "/v1/events".to_owned(),
            event_type: event_type.to_owned(),
            events_per_request: 1,
            connections: CONNECTIONS,
            pace,
        }
    }

    /// In batches of that many.
    pub(crate) fn batches(&self, event_type: &str, of: u64, connections: usize, pace: Pace) -> Load {
        let path = "/v1/events/batch".to_owned();
        Load { path, events_per_request: of, connections, ..self.load(event_type, pace) }
    }

    /// That many events, as quickly as it gets.
    pub(crate) async fn preload(&self, event_type: &str, events: u64) -> Published {
        let (connections, of) = PRELOAD;
        self.batches(event_type, of, connections, Pace::Count(events)).run().await
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> Result<Value, u16> {
        call(self.address, method, path, body).await
    }
}

fn settings(url: &str, ca_pem: Option<&str>, event_type: &str) -> Value {
    json!({
        "url": url,
        "events": [event_type],
        "tls": ca_pem.map_or(json!({}), |ca_pem| json!({"ca_pem": ca_pem})),
        "delivery": {"concurrency": CONCURRENCY},
    })
}

/// Starts the binary and waits until it listens.
async fn spawn(folder: &Path) -> (Child, SocketAddr) {
    let mut child = Command::new(BINARY)
        .arg("serve")
        .arg("--config")
        .arg(folder.join("config.toml"))
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = loop {
        let line = log.next_line().await.unwrap().expect("the daemon goes on");
        let entry: Value = serde_json::from_str(&line).unwrap_or_default();
        let fields = &entry["fields"];
        if fields["message"] == "listening" {
            break fields["address"].as_str().unwrap().parse().unwrap();
        }
    };
    tokio::spawn(async move {
        while let Ok(Some(line)) = log.next_line().await {
            let entry: Value = serde_json::from_str(&line).unwrap_or_default();
            if entry["level"] == "ERROR" || entry["level"].is_null() {
                eprintln!("daemon: {line}");
            }
        }
    });
    (child, address)
}

/// One request on a connection of its own; what was answered, or the status when that
/// is none of success.
async fn call(to: SocketAddr, method: &str, path: &str, body: Value) -> Result<Value, u16> {
    let stream = TcpStream::connect(to).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = http::Request::builder().method(method).uri(path).header("host", to.to_string());
    let mut text = String::new();
    if !body.is_null() {
        request = request.header("content-type", "application/json");
        text = body.to_string();
    }
    let answer = sender.send_request(request.body(Full::new(Bytes::from(text))).unwrap()).await.unwrap();
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    if status.is_success() { Ok(serde_json::from_slice(&body).unwrap_or_default()) } else { Err(status.as_u16()) }
}
