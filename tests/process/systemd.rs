//! The service manager, played by the test: what it is told, and what it hands over.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Stdio;

use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::net::UnixDatagram;
use tokio::process::Command;

use crate::daemon::{Daemon, Home, binary, text};
use crate::support::within;

/// Where a daemon's words arrive.
struct Manager {
    socket: UnixDatagram,
    path: String,
}

impl Manager {
    fn of(home: &Home) -> Manager {
        let path = home.path("notify");
        Manager { socket: UnixDatagram::bind(&path).expect("bound"), path: path.to_str().expect("text").to_owned() }
    }

    fn variable(&self) -> (&str, &str) {
        ("NOTIFY_SOCKET", &self.path)
    }

    /// The next words of which a line begins with `word`.
    async fn hears(&self, word: &str) -> String {
        within(word, async {
            loop {
                let mut told = [0; 4096];
                let length = self.socket.recv(&mut told).await.expect("received");
                let told = text(&told[..length]);
                if told.lines().any(|line| line.starts_with(word)) {
                    return told;
                }
            }
        })
        .await
    }
}

#[tokio::test]
async fn start_reload_and_stop_are_told() {
    let home = Home::new();
    let manager = Manager::of(&home);
    let config = home.configure("");
    let mut daemon = Daemon::start_with(&config, &[manager.variable()]).await;
    manager.hears("READY=1").await;
    manager.hears("STATUS=0 subscriptions; deliveries: 0 pending, 0 in flight, 0 delivered").await;
    daemon.get("/readyz").await.expect(200);

    daemon.signal(Signal::HUP);
    let reloading = manager.hears("RELOADING=1").await;
    assert!(reloading.lines().any(|line| line.starts_with("MONOTONIC_USEC=")), "{reloading}");
    manager.hears("READY=1").await;
    let stats = daemon.get("/v1/stats").await.expect(200);
    assert_eq!(stats["configuration"]["generation"], 2);

    home.configure("nonsense = 1");
    daemon.signal(Signal::HUP);
    manager.hears("RELOADING=1").await;
    let ready = manager.hears("READY=1").await;
    assert!(ready.contains("STATUS=the configuration was not reloaded"), "{ready}");

    daemon.signal(Signal::TERM);
    let stopping = manager.hears("STOPPING=1").await;
    assert!(stopping.contains("EXTEND_TIMEOUT_USEC="), "{stopping}");
    assert_eq!(daemon.ended().await.code(), Some(0));
}

#[tokio::test]
async fn the_watchdog_is_fed_while_the_engine_goes_round() {
    let home = Home::new();
    let manager = Manager::of(&home);
    let variables = [manager.variable(), ("WATCHDOG_USEC", "300000")];
    let mut daemon = Daemon::start_with(&home.configure(""), &variables).await;
    for _ in 0..3 {
        manager.hears("WATCHDOG=1").await;
    }
    assert_eq!(daemon.stop().await.code(), Some(0));
}

/// A daemon that was told to reload while it read its configuration died of the signal.
#[tokio::test]
async fn a_reload_that_is_asked_for_during_the_start_is_not_lost() {
    let home = Home::new();
    let text = std::fs::read(home.configure("")).expect("a configuration");
    // Reading it takes until somebody writes: so long the start takes.
    let pipe = home.path("pipe.toml");
    let make_pipe = || mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).expect("a pipe");
    make_pipe();
    let mut command = binary();
    command.arg("serve").arg("--config").arg(&pipe).stderr(Stdio::null());
    let mut child = command.spawn().expect("started");
    let id = i32::try_from(child.id().expect("it runs")).expect("an id");
    let open = async || {
        let pipe = pipe.clone();
        let opened = tokio::task::spawn_blocking(move || std::fs::OpenOptions::new().write(true).open(pipe));
        within("the configuration being read", opened).await.expect("joined").expect("opened")
    };
    let first = open().await;
    // Another one, or the second text could still be read with the first.
    std::fs::remove_file(&pipe).expect("removed");
    make_pipe();
    let process = Pid::from_raw(id).expect("an id");
    kill_process(process, Signal::HUP).expect("sent");
    std::io::Write::write_all(&mut &first, &text).expect("written");
    drop(first);
    // It is read once more, as the signal asked.
    let again = open().await;
    std::io::Write::write_all(&mut &again, &text).expect("written");
    drop(again);
    kill_process(process, Signal::TERM).expect("sent");
    assert_eq!(within("its end", child.wait()).await.expect("ended").code(), Some(0));
}

/// `posthaste serve` with a socket as its file 3, as systemd starts it.
fn handed(socket: impl Into<OwnedFd>, config: &Path) -> Command {
    let mut command = Command::new("/bin/sh");
    let script = "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" serve --config \"$1\"";
    command.env_clear().args(["-c", script, env!("CARGO_BIN_EXE_posthaste")]).arg(config);
    command.stdin(Stdio::from(socket.into())).kill_on_drop(true);
    command
}

#[tokio::test]
async fn listeners_are_taken_over_and_outlive_the_daemon() {
    let home = Home::new();
    let config = home.configure("");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("bound");
    // Connected before there is a daemon, and answered by it.
    let early = std::net::TcpStream::connect(address).expect("connected");
    let mut daemon = Daemon::launch(handed(listener.try_clone().expect("a copy"), &config)).await;
    assert_eq!(daemon.address, address);
    assert_eq!(daemon.get("/readyz").await.expect(200)["status"], "ready");
    drop(early);
    assert_eq!(daemon.stop().await.code(), Some(0));
    std::net::TcpStream::connect(address).expect("it still listens");

    let path = home.path("api.sock");
    let mut daemon = Daemon::launch(handed(UnixListener::bind(&path).expect("bound"), &config)).await;
    let status = crate::daemon::run(&["status", "--json", "--socket", path.to_str().expect("text")]).await;
    let status: Value = serde_json::from_slice(&status.stdout).expect("JSON");
    assert_eq!(status["ready"], true);
    assert_eq!(daemon.stop().await.code(), Some(0));
    assert!(path.exists(), "it is not ours to remove");
}

/// What is configured is checked for this; what is handed over must be too.
#[tokio::test]
async fn a_handed_over_listener_for_everybody_needs_keys() {
    let home = Home::new();
    let listener = std::net::TcpListener::bind("0.0.0.0:0").expect("bound");
    let ended = within("its end", handed(listener, &home.configure("")).output());
    let output = ended.await.expect("ran");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("service.auth must not be \"none\""), "{}", text(&output.stderr));
}
