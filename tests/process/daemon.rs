//! A daemon as a child process, killed when dropped.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::support::daemon::send;
use crate::support::{Answer, within};

/// The binary without a variable of ours.
pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_posthaste"));
    command.env_clear().stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs the binary to its end.
pub(crate) async fn run(words: &[&str]) -> Output {
    within("the command's end", binary().args(words).output()).await.unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A folder with a configuration and a store.
pub(crate) struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    pub(crate) fn new() -> Home {
        Home { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The configuration file of a daemon without keys, on a free port, to which
    /// loopback networks are open; `more` is its end.
    pub(crate) fn configure(&self, more: &str) -> PathBuf {
        self.write_config("auth = \"none\"", more)
    }

    /// The same file without its tracing, which under load would be most of the work.
    pub(crate) fn quiet(&self, config: &Path) -> PathBuf {
        let text = std::fs::read_to_string(config).unwrap().replace("\"trace\"", "\"info\"");
        std::fs::write(config, text).unwrap();
        config.to_owned()
    }

    /// The same with these lines in `[service]`, in place of the one about keys.
    pub(crate) fn write_config(&self, service: &str, more: &str) -> PathBuf {
        let text = format!(
            "[service]\nlisten = [\"127.0.0.1:0\"]\n{service}\n[log]\nformat = \"json\"\nlevel = \"trace\"\n\
             [storage]\npath = \"{}\"\nreserve_bytes = \"0\"\n\
             [delivery]\nallow_http = true\nallow_networks = [\"127.0.0.0/8\"]\n\
             connect_timeout = \"60s\"\ntimeout = \"60s\"\n{more}",
            self.path("store").display()
        );
        let path = self.path("config.toml");
        std::fs::write(&path, text).unwrap();
        path
    }
}

async fn keep(output: impl AsyncRead + Unpin, log: Arc<Mutex<Vec<String>>>, count: watch::Sender<usize>) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        log.lock().unwrap().push(line);
        count.send_modify(|count| *count += 1);
    }
}

/// See the file's beginning.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) address: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
    lines: watch::Receiver<usize>,
}

impl Daemon {
    pub(crate) async fn start(config: &Path) -> Daemon {
        Daemon::start_with(config, &[]).await
    }

    /// Starts it with these variables and waits until it listens.
    pub(crate) async fn start_with(config: &Path, variables: &[(&str, &str)]) -> Daemon {
        let mut command = binary();
        command.arg("serve").arg("--config").arg(config).envs(variables.iter().copied());
        Daemon::launch(command).await
    }

    /// Runs `command`, which ends in a daemon, and waits until that listens.
    pub(crate) async fn launch(mut command: Command) -> Daemon {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (count, lines) = watch::channel(0);
        tokio::spawn(keep(child.stderr.take().unwrap(), log.clone(), count.clone()));
        tokio::spawn(keep(child.stdout.take().unwrap(), log.clone(), count));
        let mut daemon = Daemon { child, address: SocketAddr::from(([0, 0, 0, 0], 0)), log, lines };
        let is_address = |entry: &Value| entry["fields"]["message"] == "listening";
        let entry = daemon.logs("listening", is_address).await;
        if let Some(Ok(address)) = entry["fields"]["address"].as_str().map(str::parse) {
            daemon.address = address;
        }
        daemon
    }

    /// Waits for a log entry, also an earlier one.
    pub(crate) async fn logs(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let mut from = 0;
        within(&format!("the log entry {what}"), async {
            loop {
                self.lines.borrow_and_update();
                let entries: Vec<String> = self.log.lock().unwrap()[from..].to_vec();
                from += entries.len();
                for line in entries {
                    if let Ok(entry) = serde_json::from_str::<Value>(&line)
                        && is_it(&entry)
                    {
                        return entry;
                    }
                }
                if self.lines.changed().await.is_err() {
                    panic!("it ended without {what}:\n{}", self.log());
                }
            }
        })
        .await
    }

    /// Everything it wrote so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Everything it wrote, once it has ended.
    pub(crate) async fn whole_log(&mut self) -> String {
        within("the end of its log", async { while self.lines.changed().await.is_ok() {} }).await;
        self.log()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.id()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    pub(crate) async fn ended(&mut self) -> ExitStatus {
        within("the daemon's end", self.child.wait()).await.unwrap()
    }

    /// SIGTERM and its end.
    pub(crate) async fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended().await
    }

    /// SIGKILL: it gets no chance to do anything.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    pub(crate) async fn call(&self, method: &str, path: &str, token: Option<&str>, body: &Value) -> Answer {
        let mut request = http::Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let bytes = if body.is_null() {
            bytes::Bytes::new()
        } else {
            request = request.header("content-type", "application/json");
            body.to_string().into()
        };
        within("an answer", send(self.address, request.body(bytes).unwrap())).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, None, &Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.call("POST", path, None, body).await
    }

    /// Asks for `path` again until `is_so` holds of the answer.
    pub(crate) async fn until(&self, path: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        within(&format!("what is waited for at {path}"), async {
            loop {
                let answer = self.get(path).await.expect(200);
                if is_so(&answer) {
                    return answer;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }
}
