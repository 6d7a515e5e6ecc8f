//! Subscriptions and deliveries by the command line, from making one to replaying what
//! it missed; names that mean one or several; completions and manual pages; terminals.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::daemon::{Daemon, Home, binary, run, text};
use crate::support::{Receiver, Reply, within};

/// A daemon without keys, and a way to call it.
struct Line {
    daemon: Daemon,
    url: String,
    _home: Home,
}

impl Line {
    async fn start() -> Line {
        let home = Home::new();
        let daemon = Daemon::start(&home.configure("")).await;
        Line { url: daemon.url(), daemon, _home: home }
    }

    /// The exit code, what was written to stdout, what to stderr.
    async fn run(&self, words: &[&str]) -> (i32, String, String) {
        let output = run(&[words, &["--url", &self.url]].concat()).await;
        (output.status.code().expect("it ended"), text(&output.stdout), text(&output.stderr))
    }

    /// What a command that succeeds writes.
    async fn told(&self, words: &[&str]) -> String {
        let (code, told, complaint) = self.run(words).await;
        assert_eq!((code, complaint.as_str()), (0, ""), "{words:?}: {told}");
        told
    }

    /// What it writes with `--json`.
    async fn json(&self, words: &[&str]) -> Value {
        serde_json::from_str(&self.told(&[words, &["--json"]].concat()).await).expect("JSON")
    }

    /// The one line with which a command is refused.
    async fn refused(&self, words: &[&str]) -> (i32, String) {
        let (code, told, complaint) = self.run(words).await;
        assert_eq!((told.as_str(), complaint.lines().count()), ("", 1), "{words:?}: {complaint}");
        (code, complaint)
    }

    async fn publish(&self, event_type: &str) {
        self.told(&["publish", "--type", event_type]).await;
    }
}

#[tokio::test]
async fn a_subscription_lives_by_the_command_line() {
    let line = Line::start().await;
    let mut receiver = Receiver::plain(|_, _| Reply::status(200)).await;
    let create = ["subscriptions", "create", &receiver.url, "--name", "front", "--event", "door.*"];
    let told = line.told(&[&create[..], &["--set", "delivery.timeout=7s", "--header", "x-site: north"]].concat()).await;
    assert!(told.starts_with("subscription 1 (front) is made: ") && told.contains("\nsecret: whsec_"), "{told}");

    // By number, by name and by id it is the same.
    let shown = line.json(&["subscriptions", "show", "front"]).await;
    let id = shown["id"].as_str().expect("an id").to_owned();
    for name in ["1", id.as_str()] {
        assert_eq!(line.json(&["subscriptions", "show", name]).await["id"], shown["id"], "{name}");
    }
    assert_eq!((&shown["delivery"]["timeout"], &shown["headers"]["x-site"]), (&json!("7s"), &json!("north")));
    let told = line.told(&["subscriptions", "show", "front"]).await;
    assert!(told.lines().any(|line| line.starts_with("delivery timeout ") && line.ends_with(" 7s")), "{told}");

    let told = line.told(&["subscriptions", "update", "front", "--set", "failure_limit=3", "--event", "door.*"]).await;
    assert_eq!(told, "subscription 1 (front) is changed\n");
    let changed = line.json(&["subscriptions", "show", "1"]).await;
    assert_eq!((&changed["failure_limit"], &changed["delivery"]["timeout"]), (&json!(3), &json!("7s")));
    let listed = line.told(&["subscriptions", "list", "--event", "door.opened"]).await;
    assert_eq!(listed.lines().count(), 2, "{listed}");
    assert!(listed.starts_with("NUMBER  NAME ") && listed.contains("  enabled "), "{listed}");
    let (code, told, complaint) = line.run(&["subscriptions", "list", "--event", "panel.x"]).await;
    assert_eq!((code, told.as_str(), complaint.lines().count()), (0, "", 1), "{complaint}");

    let told = line.told(&["subscriptions", "test", "front"]).await;
    assert!(told.lines().nth(1).is_some_and(|row| row.contains("  success  ") && row.contains("  200 ")), "{told}");
    assert_eq!(receiver.next().await.header("x-site"), "north");

    // Disabled, it misses an event, and has it by replay.
    let told = line.told(&["subscriptions", "disable", "front"]).await;
    assert_eq!(told, "subscription 1 (front) is disabled\n");
    line.publish("door.opened").await;
    assert_eq!(line.told(&["subscriptions", "enable", "front"]).await, "subscription 1 (front) is enabled\n");
    let told = line.told(&["replay", "front", "--since", "1h", "--state", "failed"]).await;
    assert_eq!(told, "nothing to send again: none of that time is failed\n");
    let told = line.told(&["subscriptions", "replay", "front", "--since", "1h", "--state", "missed"]).await;
    assert_eq!(told, "1 delivery is sent again\n");
    assert!(receiver.next().await.json()["type"] == "door.opened");

    let secrets = line.json(&["subscriptions", "rotate", "front", "--overlap", "2h"]).await;
    assert_eq!(secrets["secrets"].as_array().map(Vec::len), Some(2));
    let told = line.told(&["subscriptions", "secret", "front"]).await;
    assert!(told.starts_with("SECRET ") && told.lines().count() == 3, "{told}");
    assert!(told.contains(secrets["secrets"][1]["secret"].as_str().expect("a secret")), "{told}");

    line.daemon.until("/v1/subscriptions", |page| page["data"][0]["stats"]["pending"] == 0).await;
    let told = line.told(&["subscriptions", "delete", "1"]).await;
    assert_eq!(told, "subscription 1 (front) is deleted; its 0 pending deliveries are cancelled\n");
    let (code, told) = line.refused(&["subscriptions", "show", "front"]).await;
    assert!(code == 4 && told.contains("no subscription has the name front: `posthaste subscriptions list`"), "{told}");
}

#[tokio::test]
async fn deliveries_are_listed_shown_cancelled_and_sent_again() {
    let line = Line::start().await;
    let mut receiver = Receiver::plain(|_, number| Reply::status(if number == 0 { 500 } else { 200 })).await;
    let unhurried = "delivery.retry.first=1h";
    line.told(&["subscriptions", "create", &receiver.url, "--name", "front", "--event", "*", "--set", unhurried]).await;
    line.told(&["subscriptions", "create", &receiver.url, "--name", "other", "--event", "other"]).await;
    line.publish("door.opened").await;
    let event_id = receiver.next().await.header("webhook-id").to_owned();
    let id = line.json(&["deliveries", "list"]).await[0]["id"].as_str().expect("an id").to_owned();
    line.daemon.until(&format!("/v1/deliveries/{id}"), |delivery| delivery["attempts"] == 1).await;

    let list = ["deliveries", "list", "--state", "pending", "--subscription", "front"];
    let listed = line.json(&list).await;
    assert_eq!((listed.as_array().map(Vec::len), &listed[0]["id"]), (Some(1), &json!(id)));
    let listed = line.told(&list).await;
    let row: Vec<&str> = listed.lines().nth(1).expect("a row").split_whitespace().collect();
    assert_eq!(row[..5], [id.as_str(), "1", "pending", "1", "door.opened"], "{listed}");
    let (code, _, complaint) = line.run(&["deliveries", "list", "--subscription", "other"]).await;
    assert!(code == 0 && complaint.starts_with("no delivery is like that"), "{complaint}");
    let shown = line.told(&["deliveries", "show", &id]).await;
    let attempt: Vec<&str> = shown.lines().last().expect("an attempt").split_whitespace().collect();
    assert_eq!((attempt[0], attempt[3], attempt[4]), ("1", "status", "500"), "{shown}");

    // What is pending may be cancelled, once; what has ended may be sent again.
    assert_eq!(line.told(&["deliveries", "cancel", &id]).await, format!("{id} is cancelled\n"));
    assert_eq!(line.refused(&["deliveries", "cancel", &id]).await.0, 4);
    assert_eq!(line.told(&["deliveries", "retry", &id]).await, format!("{id} is sent again\n"));
    assert_eq!(receiver.next().await.header("webhook-id"), event_id);
    line.daemon.until(&format!("/v1/deliveries/{id}"), |delivery| delivery["state"] == "delivered").await;
    assert_eq!(line.told(&["subscriptions", "cancel", "front"]).await, "0 deliveries are cancelled\n");
    line.told(&["subscriptions", "disable", "front"]).await;
    let (code, told) = line.refused(&["deliveries", "retry", &id]).await;
    assert!(code == 4 && told.contains("`posthaste subscriptions enable NAME` first"), "{told}");
}

#[tokio::test]
async fn a_name_that_several_have_is_not_guessed_at() {
    let line = Line::start().await;
    for name in ["twin", "twin", "7"] {
        line.told(&["subscriptions", "create", "http://127.0.0.1:9/", "--name", name, "--event", "a"]).await;
    }
    let (code, told) = line.refused(&["subscriptions", "delete", "twin"]).await;
    assert!(code == 4 && told.contains("2 subscriptions are named twin") && told.contains("1, 2"), "{told}");
    // Digits are a number, whatever somebody is called.
    let (code, told) = line.refused(&["subscriptions", "show", "7"]).await;
    assert!(code == 4 && told.contains("has the number 7"), "{told}");
    assert_eq!(line.json(&["subscriptions", "show", "3"]).await["name"], "7");
    // A refusal says each fault once, and stays on its line.
    let (code, told) = line.refused(&["subscriptions", "create", "nonsense", "--event", "a..b"]).await;
    assert_eq!((code, told.matches("url ").count(), told.matches("events[0]").count()), (4, 1, 1), "{told}");
    for (words, wanted) in [
        (&["subscriptions", "create", "--event", "a"][..], "posthaste subscriptions create URL"),
        (&["subscriptions", "update", "1"], "nothing to change"),
    ] {
        let (code, told) = line.refused(words).await;
        assert!(code == 2 && told.contains(wanted), "{told}");
    }
}

#[tokio::test]
async fn a_test_event_that_fails_is_a_failure() {
    let line = Line::start().await;
    let receiver = Receiver::plain(|_, _| Reply::status(404)).await;
    line.told(&["subscriptions", "create", &receiver.url, "--name", "front", "--event", "a"]).await;
    let (code, told, complaint) = line.run(&["subscriptions", "test", "front"]).await;
    assert!(code == 1 && told.contains(" 404 ") && complaint.lines().count() == 1, "{told}{complaint}");
    let (code, _, _) = line.run(&["subscriptions", "test", "front", "--json"]).await;
    assert_eq!(code, 1);
}

/// What `bash` would be offered after these words, once that is something: where the
/// daemon takes its time it is nothing.
async fn completed_by_daemon(url: &str, words: &[&str]) -> Vec<String> {
    within("completions by the daemon", async {
        loop {
            let found = completed(url, words).await;
            if !found.is_empty() {
                return found;
            }
        }
    })
    .await
}

/// What `bash` would be offered after these words.
async fn completed(url: &str, words: &[&str]) -> Vec<String> {
    let mut command = binary();
    command.args(["--", "posthaste"]).args(words);
    command.env("POSTHASTE_COMPLETE", "bash").env("POSTHASTE_URL", url).env("_CLAP_IFS", "\n");
    command.env("_CLAP_COMPLETE_INDEX", words.len().to_string());
    let output = within("completions", command.output()).await.expect("run");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{words:?}");
    text(&output.stdout).lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn shells_complete_commands_and_names_and_never_wait_for_the_daemon() {
    for (shell, mark) in
        [("bash", "complete "), ("zsh", "#compdef posthaste"), ("fish", "complete "), ("elvish", "edit:")]
    {
        let output = run(&["completions", shell]).await;
        let script = text(&output.stdout);
        assert!(output.status.success() && script.contains(mark), "{shell}: {script}");
        assert!(script.contains("POSTHASTE_COMPLETE"), "{shell}: {script}");
    }
    let mut line = Line::start().await;
    for name in ["front", "fence", "back"] {
        line.told(&["subscriptions", "create", "http://127.0.0.1:9/", "--name", name, "--event", "a"]).await;
    }
    assert_eq!(completed(&line.url, &["subscr"]).await, ["subscriptions"]);
    assert_eq!(completed_by_daemon(&line.url, &["subscriptions", "show", "f"]).await, ["front", "fence"]);
    assert_eq!(completed_by_daemon(&line.url, &["deliveries", "list", "--subscription", "b"]).await, ["back"]);
    assert_eq!(completed_by_daemon(&line.url, &["replay", "3"]).await, ["3"]);

    // One that takes the connection and says nothing, and none at all.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", silent.local_addr().expect("bound"));
    assert!(completed(&url, &["subscriptions", "show", "f"]).await.is_empty());
    line.daemon.stop().await;
    assert!(completed(&line.url, &["subscriptions", "show", "f"]).await.is_empty());
    assert_eq!(completed(&line.url, &["subscr"]).await, ["subscriptions"]);
}

#[tokio::test]
async fn manual_pages_are_of_every_command() {
    let home = Home::new();
    let folder = home.path("man/man1");
    let output = run(&["man", folder.to_str().expect("text")]).await;
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), String::new()), "{output:?}");
    for (page, says) in [
        ("posthaste.1", "Exit codes:"),
        ("posthaste-serve.1", "posthaste serve"),
        ("posthaste-subscriptions-create.1", "dotted path"),
        ("posthaste-deliveries-show.1", "attempt"),
    ] {
        let text = std::fs::read_to_string(folder.join(page)).unwrap_or_else(|error| panic!("{page}: {error}"));
        assert!(text.contains(".TH ") && text.replace('\\', "").contains(says), "{page}: {text}");
    }
    let output = run(&["man"]).await;
    assert!(output.status.success() && text(&output.stdout).contains(".TH posthaste 1"), "{output:?}");
    let (code, told) = (run(&["man", "/dev/null/x"]).await, "cannot be written");
    assert!(code.status.code() == Some(1) && text(&code.stderr).contains(told), "{code:?}");
}

/// Runs the binary on a terminal of that many columns, and answers what it showed.
async fn on_terminal(words: &[&str], columns: u16, variables: &[(&str, &str)]) -> String {
    on_terminal_until(words, columns, variables, None).await
}

/// The same, with Ctrl-C once it has shown `last`.
async fn on_terminal_until(
    words: &[&str],
    columns: u16,
    variables: &[(&str, &str)],
    last: Option<&'static str>,
) -> String {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&master).expect("granted");
    unlockpt(&master).expect("unlocked");
    let name = ptsname(&master, Vec::new()).expect("a name").into_string().expect("text");
    let open = || OwnedFd::from(std::fs::File::options().read(true).write(true).open(&name).expect("opened"));
    let terminal = open();
    tcsetwinsize(&terminal, Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).expect("set");
    let mut command = binary();
    command.args(words).envs(variables.iter().copied()).stdout(terminal).stderr(open());
    let mut child = command.spawn().expect("started");
    drop(command);
    let id = i32::try_from(child.id().expect("it runs")).expect("an id");
    // Reading ends with an error once nobody has the other side open any more.
    let reading = tokio::task::spawn_blocking(move || {
        let (mut screen, mut shown, mut part) = (std::fs::File::from(master), Vec::new(), [0; 4096]);
        while let Ok(length @ 1..) = screen.read(&mut part) {
            shown.extend_from_slice(&part[..length]);
            if last.is_some_and(|last| String::from_utf8_lossy(&shown).contains(last)) {
                // It may have come to its end since.
                let _ = kill_process(Pid::from_raw(id).expect("not 0"), Signal::INT);
            }
        }
        shown
    });
    let status = within("the command's end", child.wait()).await.expect("ended");
    let shown = within("what it showed", reading).await.expect("read");
    assert!(status.success(), "{}", String::from_utf8_lossy(&shown));
    text(&shown).replace("\r\n", "\n")
}

#[tokio::test]
async fn tables_fit_the_terminal_and_colours_are_for_it_alone() {
    let line = Line::start().await;
    let far = format!("http://127.0.0.1:9/{}", "x".repeat(200));
    line.told(&["subscriptions", "create", &far, "--name", "front", "--event", "door.*"]).await;
    let list = ["subscriptions", "list", "--url", &line.url];
    let whole = text(&run(&list).await.stdout);
    assert!(whole.contains(&far) && !whole.contains('\u{1b}'), "not cut, not coloured: {whole}");
    let plain = on_terminal(&list, 80, &[("NO_COLOR", "1")]).await;
    assert!(plain.lines().all(|line| line.chars().count() <= 80) && plain.lines().count() == 2, "{plain}");
    assert!(plain.contains("http://") && plain.contains('…') && !plain.contains('\u{1b}'), "{plain}");
    let coloured = on_terminal(&list, 80, &[]).await;
    assert!(coloured.contains("\u{1b}[32menabled\u{1b}[0m"), "{coloured}");
    assert!(!on_terminal(&list, 80, &[("TERM", "dumb")]).await.contains('\u{1b}'));
    // Long work shows that it goes on, and leaves nothing behind.
    let replayed = on_terminal(&["replay", "front", "--since", "1h", "--url", &line.url], 80, &[]).await;
    assert!(replayed.contains("replay: 0 deliveries\r\u{1b}[K") && replayed.contains("nothing to send"), "{replayed}");
}

/// Ctrl-C during a look, not between two, was heard by nobody: the watch went on for ever.
#[tokio::test]
async fn status_and_deliveries_are_watched() {
    let line = Line::start().await;
    for words in [&["status", "--json"][..], &["deliveries", "list", "--json"]] {
        let mut command = binary();
        command.args(words).args(["--watch=100ms", "--url", &line.url]).stdout(Stdio::piped());
        let mut child = command.spawn().expect("started");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        for _ in 0..3 {
            let looked = within("a look", lines.next_line()).await.expect("read").expect("a line");
            serde_json::from_str::<Value>(&looked).expect("JSON");
        }
        let id = i32::try_from(child.id().expect("it runs")).expect("an id");
        kill_process(Pid::from_raw(id).expect("not 0"), Signal::INT).expect("sent");
        assert!(within("its end", child.wait()).await.expect("ended").success(), "{words:?}");
    }
    // What is said beside a look was wiped away by the look itself.
    let words = ["deliveries", "list", "--watch=100ms", "--url", &line.url];
    let shown = on_terminal_until(&words, 80, &[], Some("no delivery is like that")).await;
    assert!(shown.starts_with("\u{1b}[H\u{1b}[2J"), "{shown:?}");
    // What is refused is not asked for again.
    let (code, told) = line.refused(&["deliveries", "list", "--watch", "--state", "lost"]).await;
    assert!(code == 4 && told.contains("state "), "{told}");
}
