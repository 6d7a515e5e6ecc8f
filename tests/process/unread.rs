//! Whoever reads what a command prints may stop before its end, as `head` does: the
//! command ends quietly, as other programs do.

use std::process::{Output, Stdio};

use crate::daemon::{Daemon, Home, binary, run, text};
use crate::support::{Receiver, Reply, within};

/// 128 and the number of SIGPIPE, as shells tell it of programs that the signal ends.
const UNREAD: i32 = 141;

/// A pipe that nobody reads.
fn unread() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

async fn printing_to_nobody(words: &[&str]) -> Output {
    let child = binary().args(words).stdout(unread()).stderr(Stdio::piped()).spawn().expect("started");
    within("the command's end", child.wait_with_output()).await.expect("it ran")
}

/// `deliveries list | head -1` ended with an error about a broken pipe.
#[tokio::test]
async fn what_nobody_reads_ends_every_command_quietly() {
    let (home, stopped) = (Home::new(), Home::new());
    let daemon = Daemon::start(&home.configure("")).await;
    let receiver = Receiver::plain(|_, _| Reply::status(200)).await;
    let stopped_config = stopped.configure("");
    Daemon::start(&stopped_config).await.stop().await;
    let url = daemon.url();
    let online = async |words: &[&str]| printing_to_nobody(&[words, &["--url", &url]].concat()).await;
    let path = |path: std::path::PathBuf| path.into_os_string().into_string().expect("text");
    let offline = path(stopped_config);

    let create = ["subscriptions", "create", &receiver.url, "--name", "front", "--event", "*"];
    let made = run(&[&create[..], &["--url", &url]].concat()).await;
    assert!(made.status.success(), "{made:?}");
    run(&["publish", "--type", "a", "--url", &url]).await;
    let listed = text(&run(&["deliveries", "list", "--json", "--url", &url]).await.stdout);
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    let id = listed[0]["id"].as_str().expect("an id");

    for words in [
        &["status"][..],
        &["status", "--watch=100ms"],
        &["event-types"],
        &["audit"],
        &["audit", "--json"],
        &["publish", "--type", "b"],
        &["deliveries", "list"],
        &["deliveries", "list", "--watch=100ms"],
        &["deliveries", "show", id],
        &["subscriptions", "list"],
        &["subscriptions", "show", "front"],
        &["subscriptions", "secret", "front"],
        &["subscriptions", "test", "front"],
        &["subscriptions", "create", &receiver.url, "--event", "c"],
        &["replay", "front", "--since", "1h", "--state", "failed"],
        &["backup", "-"],
    ] {
        let output = online(words).await;
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(UNREAD), String::new()), "{words:?}");
    }
    for words in [
        &["check", "--config", &offline][..],
        &["check-store", "--config", &offline],
        &["backup", "-", "--offline", "--config", &offline],
        &["backup", &path(stopped.path("backup")), "--offline", "--config", &offline],
        &["key", "new"],
        &["key", "storage", &path(stopped.path("storage.key"))],
        &["completions", "bash"],
        &["man"],
        &["listen", "--address", "127.0.0.1:0"],
        &["demo"],
    ] {
        let output = printing_to_nobody(words).await;
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(UNREAD), String::new()), "{words:?}");
    }
}

/// An error that nobody could be told was a panic, and not the exit code of the error.
#[tokio::test]
async fn the_exit_code_is_told_where_nobody_reads_errors() {
    let silent = |words: &[&str]| binary().args(words).stdout(Stdio::null()).stderr(unread()).status();
    for (words, code) in [
        (&["status", "--socket", "/nowhere"][..], 3),
        (&["check", "--config", "/nowhere"], 2),
        (&["status", "--socket", "/nowhere", "--watch"], UNREAD),
    ] {
        let status = within("the command's end", silent(words)).await.expect("it ran");
        assert_eq!(status.code(), Some(code), "{words:?}");
    }
}
