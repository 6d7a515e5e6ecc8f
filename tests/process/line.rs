//! The command line: what it prints, how it ends, what it refuses.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::daemon::{Daemon, Home, binary, run, text};
use crate::support::{Receiver, Reply, within};

/// The exit code and what was written to stderr.
async fn refusal(words: &[&str]) -> (Option<i32>, String) {
    let output = run(words).await;
    (output.status.code(), text(&output.stderr))
}

/// How a command is refused while everybody can read this file; they cannot after.
async fn refused_until_closed(file: &str, words: &[&str]) -> (Option<i32>, String) {
    let set = |mode| std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).expect("changed");
    set(0o644);
    let refusal = refusal(words).await;
    set(0o600);
    refusal
}

#[tokio::test]
async fn help_and_version_are_not_errors() {
    for words in [&["--help"][..], &["--version"], &["serve", "--help"], &["key", "new", "--help"], &["help"]] {
        let output = run(words).await;
        assert_eq!(output.status.code(), Some(0), "{words:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{words:?}");
    }
    assert!(text(&run(&["--version"]).await.stdout).contains(env!("CARGO_PKG_VERSION")));
    for words in [&[][..], &["serf"], &["serve", "--nonsense"], &["publish"]] {
        assert_eq!(run(words).await.status.code(), Some(2), "{words:?}");
    }
}

#[tokio::test]
async fn check_says_what_is_wrong_and_where() {
    let home = Home::new();
    let path = home.configure("");
    let config = path.to_str().expect("text");
    let output = run(&["check", "--config", config]).await;
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    let output = run(&["check", "--config", config, "--json"]).await;
    let shown: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&shown["ok"], &shown["faults"]), (&json!(true), &json!([])));

    std::fs::write(&path, "[service]\nauth = \"none\"\n[delivery]\ntimeuot = \"1s\"\nconcurrency = 0\n")
        .expect("written");
    let (code, told) = refusal(&["check", "--config", config]).await;
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!((code, lines.len()), (Some(2), 2), "{told}");
    assert!(
        lines[0].starts_with(&format!("{config}:4: delivery.timeuot ")) && lines[0].contains("\"timeout\""),
        "{told}"
    );
    assert!(lines[1].starts_with(&format!("{config}:5: delivery.concurrency ")), "{told}");
    let output = run(&["check", "--config", config, "--json"]).await;
    let shown: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((output.status.code(), &shown["ok"], &shown["faults"][0]["line"]), (Some(2), &json!(false), &json!(4)));
    // The daemon refuses the same, and makes no store.
    assert_eq!(refusal(&["serve", "--config", config]).await, (Some(2), told));

    let absent = home.path("absent.toml");
    let (code, told) = refusal(&["check", "--config", absent.to_str().expect("text")]).await;
    assert!(code == Some(2) && told.contains("absent.toml") && told.lines().count() == 1, "{told}");
}

#[tokio::test]
async fn a_daemon_that_nobody_could_call_or_everybody_is_refused() {
    let home = Home::new();
    let path = home.write_config("auth = \"keys\"", "");
    let (code, told) = refusal(&["serve", "--config", path.to_str().expect("text")]).await;
    assert_eq!((code, told.lines().count()), (Some(2), 1), "{told}");
    assert!(told.contains("posthaste key new") && told.contains("auth = \"none\""), "both ways out: {told}");

    let path = home.configure("");
    let open = std::fs::read_to_string(&path).expect("written").replace("127.0.0.1:0", "0.0.0.0:0");
    std::fs::write(&path, open).expect("written");
    let (code, told) = refusal(&["serve", "--config", path.to_str().expect("text")]).await;
    assert_eq!((code, told.lines().count()), (Some(2), 1), "{told}");
    assert!(told.contains("service.auth") && !home.path("store").exists(), "{told}");
}

#[tokio::test]
async fn a_second_daemon_on_a_store_is_refused() {
    let home = Home::new();
    let path = home.configure("");
    let mut daemon = Daemon::start(&path).await;
    let (code, told) = refusal(&["serve", "--config", path.to_str().expect("text")]).await;
    assert_eq!(code, Some(1), "{told}");
    let last = told.lines().last().expect("a line");
    assert!(last.contains("store") && last.contains("in use by another process"), "{told}");
    daemon.get("/readyz").await.expect(200);
    assert_eq!(daemon.stop().await.code(), Some(0));
}

#[tokio::test]
async fn the_command_line_publishes_tells_signs_and_verifies() {
    let home = Home::new();
    let made = run(&["key", "new", "--name", "shop", "--json"]).await;
    let key: Value = serde_json::from_slice(&made.stdout).expect("JSON");
    let (token, block) = (key["token"].as_str().expect("a token"), key["toml"].as_str().expect("a block"));
    let path = home.write_config("auth = \"keys\"", block);
    let daemon = Daemon::start(&path).await;
    let mut receiver = Receiver::plain(|_, _| Reply::status(200)).await;
    let fields = json!({"url": receiver.url, "events": ["*"]});
    let subscription = daemon.call("POST", "/v1/subscriptions", Some(token), &fields).await.expect(201);

    let token_file = home.path("token");
    std::fs::write(&token_file, format!("{token}\n")).expect("written");
    let (url, token_file) = (daemon.url(), token_file.to_str().expect("text").to_owned());
    let status = ["status", "--url", &url, "--token-file", &token_file];
    let (code, told) = refused_until_closed(&token_file, &status).await;
    assert!(code == Some(2) && told.contains("chmod o="), "{told}");
    let called = [&["--url", &url, "--token-file", &token_file][..], &[]].concat();
    let data = r#"{"b":1.0,"a":1e3}"#;
    let publish = ["publish", "--type", "door.opened", "--event-id", "mine", "--data", data];
    let output = run(&[&publish[..], &called].concat()).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).contains("1 delivery"), "{output:?}");
    let received = receiver.next().await;
    assert!(received.body.ends_with(format!("\"data\":{data}}}").as_bytes()));
    // The same again is nothing new.
    let output = run(&[&publish[..], &called, &["--json"]].concat()).await;
    let again: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&again["duplicate"], &again["id"]), (&json!(true), &json!(received.header("webhook-id"))));

    let output = run(&[&["status", "--json"][..], &called].concat()).await;
    let status: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((output.status.code(), &status["ready"]), (Some(0), &json!(true)));
    let output = run(&[&["status"][..], &called].concat()).await;
    assert!(text(&output.stdout).starts_with("ready"), "{output:?}");

    let output = run(&[&["event-types", "--format", "pdk"][..], &called].concat()).await;
    let listed = text(&output.stdout);
    assert_eq!(listed.lines().count(), 70);
    assert!(listed.lines().any(|line| line.starts_with("door.request.allowed") && line.contains("let in")));
    let output = run(&[&["event-types", "--format", "nonsense"][..], &called].concat()).await;
    assert_eq!(output.status.code(), Some(4), "{output:?}");

    let output = run(&[&["audit", "--limit", "1", "--json"][..], &called].concat()).await;
    let entries: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((entries.as_array().map(Vec::len), &entries[0]["action"]), (Some(1), &json!("subscription.create")));
    assert!(text(&run(&[&["audit"][..], &called].concat()).await.stdout).contains("  subscription.create  "));

    // What arrived verifies by hand, and not with a byte changed.
    let secret_file = home.path("secret");
    std::fs::write(&secret_file, subscription["secret"].as_str().expect("a secret")).expect("written");
    let body = home.path("body.json");
    let verify = [
        "verify",
        "--secret-file",
        secret_file.to_str().expect("text"),
        "--id",
        received.header("webhook-id"),
        "--timestamp",
        received.header("webhook-timestamp"),
        "--signature",
        received.header("webhook-signature"),
        body.to_str().expect("text"),
    ];
    std::fs::write(&body, &received.body).expect("written");
    let (code, told) = refused_until_closed(verify[2], &verify).await;
    assert!(code == Some(2) && told.contains("chmod o="), "{told}");
    assert_eq!(run(&verify).await.status.code(), Some(0));
    std::fs::write(&body, b"{}").expect("written");
    let (code, told) = refusal(&verify).await;
    assert_eq!((code, told.lines().count()), (Some(1), 1), "{told}");

    // `sign` makes the very headers.
    let mut child = binary()
        .args(["sign", "--json", "--id", received.header("webhook-id")])
        .args(["--timestamp", received.header("webhook-timestamp")])
        .env("POSTHASTE_SECRET", subscription["secret"].as_str().expect("a secret"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("started");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(&received.body).await.expect("written");
    drop(stdin);
    let output = within("sign", child.wait_with_output()).await.expect("ended");
    let signed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(signed["webhook-signature"], received.header("webhook-signature"));
}

#[tokio::test]
async fn exit_codes_tell_who_refused() {
    let home = Home::new();
    let made = run(&["key", "new", "--json"]).await;
    let key: Value = serde_json::from_slice(&made.stdout).expect("JSON");
    let path = home.write_config("auth = \"keys\"", key["toml"].as_str().expect("a block"));
    let mut daemon = Daemon::start(&path).await;
    let url = daemon.url();
    for (words, wanted) in [
        (&["status", "--url", &url, "--token", "wrong"][..], 4),
        (&["publish", "--type", "a.b", "--url", &url], 4),
        (&["publish", "--type", "a..b", "--url", &url, "--token", key["token"].as_str().expect("a token")], 4),
        (&["publish", "--type", "a.b", "--data", "{", "--url", &url], 2),
    ] {
        let (code, told) = refusal(words).await;
        assert_eq!((code, told.lines().count()), (Some(wanted), 1), "{words:?}: {told}");
    }
    daemon.stop().await;
    let (code, told) = refusal(&["status", "--url", &url]).await;
    assert_eq!((code, told.lines().count()), (Some(3), 1), "{told}");
}

#[tokio::test]
async fn a_store_of_a_newer_program_is_refused_and_stays_as_it_is() {
    let home = Home::new();
    let path = home.configure("");
    let mut daemon = Daemon::start(&path).await;
    daemon.stop().await;
    let file = std::fs::read_dir(home.path("store"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .find(|path| redb::Database::open(path).is_ok())
        .expect("a database");
    set_version(&file, posthaste::store::SCHEMA_VERSION + 1);
    let before = std::fs::read(&file).expect("read");
    let (code, told) = refusal(&["serve", "--config", path.to_str().expect("text")]).await;
    assert_eq!(code, Some(5), "{told}");
    assert!(told.lines().last().expect("a line").contains("run the newer program"), "{told}");
    assert!(std::fs::read(&file).expect("read") == before, "not a byte of it");
    set_version(&file, posthaste::store::SCHEMA_VERSION);
    Daemon::start(&path).await.get("/readyz").await.expect(200);
}

fn set_version(file: &std::path::Path, version: u32) {
    const META: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("meta");
    let database = redb::Database::open(file).expect("a database");
    let transaction = database.begin_write().expect("a transaction");
    {
        let mut meta = transaction.open_table(META).expect("the table");
        meta.insert("schema_version", &version.to_be_bytes()[..]).expect("written").expect("it had one");
    }
    transaction.commit().expect("committed");
}
