//! The demonstration's daemon: this very executable as a child process, so that it
//! can be killed. Killed when dropped.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::oneshot;

use super::STEP_TIME;
use crate::cli::Failure;

/// Lines of the log that are shown when something goes wrong.
const LOG_LINES_KEPT: usize = 20;

/// The end of the log of all daemons of one demonstration.
#[derive(Clone, Default)]
pub(super) struct LogTail(Arc<Mutex<VecDeque<String>>>);

impl LogTail {
    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LOG_LINES_KEPT {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// What is there, oldest first.
    pub(super) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// A running daemon.
pub(super) struct Daemon {
    child: Child,
    /// Where its API listens.
    pub(super) address: SocketAddr,
}

impl Daemon {
    /// Starts one and waits until it listens. It must log JSON.
    pub(super) async fn start(config: &Path, log: &LogTail) -> Result<Daemon, Failure> {
        let failed = |error: std::io::Error| Failure::failed(format!("the daemon cannot be started: {error}"));
        let mut child = Command::new(std::env::current_exe().map_err(failed)?)
            .arg("serve")
            .arg("--config")
            .arg(config)
            // Its variables would override the demonstration's own configuration.
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let (sender, listening) = oneshot::channel();
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(follow(stderr, sender, log.clone()));
        }
        match tokio::time::timeout(STEP_TIME, listening).await {
            Ok(Ok(address)) => Ok(Daemon { child, address }),
            Ok(Err(_)) => Err(Failure::failed("expected the daemon to listen; it ended")),
            Err(_) => Err(Failure::failed(format!("expected the daemon to listen within {} s", STEP_TIME.as_secs()))),
        }
    }

    /// SIGKILL: it gets no chance to do anything.
    pub(super) async fn kill(mut self) -> Result<(), Failure> {
        self.child.kill().await.map_err(|error| Failure::failed(format!("the daemon cannot be killed: {error}")))
    }

    /// SIGTERM, then its end.
    pub(super) async fn stop(mut self) -> Result<ExitStatus, Failure> {
        let gone = || Failure::failed("expected the daemon to run until it is stopped; it had ended before");
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(id.ok_or_else(gone)?, rustix::process::Signal::TERM).map_err(|_| gone())?;
        match tokio::time::timeout(STEP_TIME, self.child.wait()).await {
            Ok(status) => status.map_err(|_| gone()),
            Err(_) => {
                let limit = STEP_TIME.as_secs();
                Err(Failure::failed(format!("expected the daemon to end within {limit} s of SIGTERM")))
            }
        }
    }
}

async fn follow(stderr: ChildStderr, sender: oneshot::Sender<SocketAddr>, log: LogTail) {
    let mut waiting = Some(sender);
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(address) = listening_address(&line)
            && let Some(sender) = waiting.take()
        {
            // Nobody waits any longer: the demonstration is over.
            let _ = sender.send(address);
        }
        log.push(line);
    }
}

/// The address in the log entry that says where the API listens.
fn listening_address(line: &str) -> Option<SocketAddr> {
    let entry: Value = serde_json::from_str(line).ok()?;
    let fields = entry.get("fields")?;
    if fields.get("message")?.as_str()? != "listening" {
        return None;
    }
    fields.get("address")?.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_says_where_the_api_listens() {
        for (line, wanted) in [
            (
                r#"{"level":"INFO","fields":{"message":"listening","address":"127.0.0.1:43121"}}"#,
                Some("127.0.0.1:43121"),
            ),
            (r#"{"level":"INFO","fields":{"message":"listening","address":"unix:/run/x"}}"#, None),
            (r#"{"level":"INFO","fields":{"message":"started","address":"127.0.0.1:1"}}"#, None),
            ("thread 'main' panicked", None),
        ] {
            assert_eq!(listening_address(line).map(|address| address.to_string()).as_deref(), wanted, "{line}");
        }
    }

    #[test]
    fn the_tail_is_bounded() {
        let tail = LogTail::default();
        for number in 0..LOG_LINES_KEPT + 5 {
            tail.push(number.to_string());
        }
        assert_eq!((tail.lines().len(), tail.lines()[0].as_str()), (LOG_LINES_KEPT, "5"));
    }
}
