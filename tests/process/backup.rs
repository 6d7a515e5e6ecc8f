//! Backup of a daemon at work, restore, what is held after it; a store that is damaged.

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::daemon::{Daemon, Home, run, text};
use crate::load::Load;
use crate::support::{Receiver, Reply};

const BEFORE: u64 = 600;
const QUICK: &str = "[delivery.retry]\nfirst = \"100ms\"\nmax_delay = \"100ms\"\n";

/// Runs a command to its end. Answers its code, and what it wrote to stdout and stderr.
async fn command(words: &[&str]) -> (Option<i32>, String, String) {
    let output = run(words).await;
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn shown(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// What was answered before the backup began is delivered by the restored store, once
/// it is let go; nothing before that, and what is published meanwhile is taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_is_backed_up_under_load_and_goes_on_elsewhere() {
    let (old, new) = (Home::new(), Home::new());
    let is_up = Arc::new(AtomicBool::new(false));
    let up = is_up.clone();
    let mut receiver =
        Receiver::plain(move |_, _| Reply::status(if up.load(Ordering::Relaxed) { 200 } else { 503 })).await;
    let daemon = Daemon::start(&old.quiet(&old.configure(QUICK))).await;
    daemon.post("/v1/subscriptions", &json!({"url": receiver.url, "events": ["*"]})).await.expect(201);
    let before = Load::of(BEFORE).publish(daemon.address).await;

    let load = Load::of(u64::MAX);
    let file = old.path("backup");
    let (url, address) = (daemon.url(), daemon.address);
    let backed_up = async {
        load.reaches(100).await;
        let answer = command(&["backup", shown(&file), "--url", &url, "--json"]).await;
        // The one before has its turn until its thread has ended.
        let streamed = loop {
            let streamed = run(&["backup", "-", "--url", &url]).await;
            if streamed.status.code() != Some(4) {
                break streamed;
            }
        };
        daemon.kill().await;
        (answer, streamed)
    };
    let (_, ((code, told, complaint), streamed)) = tokio::join!(load.publish(address), backed_up);
    assert_eq!((code, complaint.as_str()), (Some(0), ""));
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert!(told["tables"]["event"].as_u64().expect("a count") >= BEFORE + 100, "{told}");
    let metadata = file.metadata().expect("it is there");
    assert_eq!((metadata.permissions().mode() & 0o777, Some(metadata.len())), (0o600, told["bytes"].as_u64()));
    assert!(streamed.status.success() && streamed.stdout.starts_with(b"posthaste backup 1\n"));

    let config = new.quiet(&new.configure(QUICK));
    let config_file = shown(&config);
    let cut = new.path("cut");
    std::fs::write(&cut, &streamed.stdout[..streamed.stdout.len() / 2]).expect("written");
    let (code, _, complaint) = command(&["restore", shown(&cut), "--config", config_file]).await;
    assert!(code == Some(1) && complaint.contains("cut short") && !new.path("store").exists(), "{complaint}");
    let (code, told, complaint) = command(&["restore", shown(&file), "--config", config_file]).await;
    assert_eq!((code, complaint.as_str()), (Some(0), ""));
    assert!(told.contains("until `posthaste resume`"), "{told}");
    let (code, _, complaint) = command(&["restore", shown(&file), "--config", config_file]).await;
    assert!(code == Some(1) && complaint.contains("there is a store"), "{complaint}");
    let (code, told, complaint) = command(&["check-store", "--config", config_file]).await;
    assert!(code == Some(0) && told.contains("fine"), "{told}{complaint}");

    let already = receiver.total();
    for _ in 0..already {
        receiver.next().await;
    }
    is_up.store(true, Ordering::Relaxed);
    let mut daemon = Daemon::start(&config).await;
    daemon.logs("held", |entry| entry["fields"]["message"].to_string().contains("deliveries are held")).await;
    let ready = daemon.get("/readyz").await.expect(200);
    assert!(ready["deliveries_held"].to_string().contains("posthaste resume"), "{ready}");
    let late = daemon.post("/v1/events", &json!({"type": "load.late", "data": 1})).await.expect(202);
    let (code, _, hint) = command(&["status", "--url", &daemon.url()]).await;
    assert!(code == Some(0) && hint.contains("`posthaste resume`"), "{hint}");
    let stats = daemon.get("/v1/stats").await.expect(200);
    assert!(stats["deliveries"]["pending"].as_u64() > Some(BEFORE + 100) && stats["deliveries"]["delivered"] == 0);
    // Held over a restart too.
    assert_eq!(daemon.stop().await.code(), Some(0));
    let daemon = Daemon::start(&config).await;
    assert!(daemon.get("/v1/stats").await.expect(200)["deliveries_held_since"].is_string());
    assert_eq!(receiver.total(), already, "nothing is attempted while all are held");

    let (code, told, _) = command(&["resume", "--url", &daemon.url()]).await;
    assert_eq!((code, told.trim()), (Some(0), "deliveries go on"));
    let mut missing: HashSet<String> = before.into_iter().collect();
    missing.insert(late["id"].as_str().expect("an id").to_owned());
    while !missing.is_empty() {
        missing.remove(receiver.next().await.header("webhook-id"));
    }
    assert_eq!(command(&["resume", "--url", &daemon.url()]).await.1.trim(), "nothing was held");
}

/// Where every request counts on those before it, a restore must not change their
/// order: neither what waited for a retry, nor what is published while all are held.
#[tokio::test]
async fn what_keeps_its_order_keeps_it_over_a_restore_and_a_hold() {
    const BEFORE: usize = 20;
    const AFTER: usize = 10;
    let (old, new) = (Home::new(), Home::new());
    let mut receiver = Receiver::plain(|_, number| Reply::status(if number == 0 { 503 } else { 200 })).await;
    let mut daemon = Daemon::start(&old.quiet(&old.configure(QUICK))).await;
    // The first fails and is retried late, so that nothing is delivered before the backup.
    let delivery = json!({"ordering": "fifo", "retry": {"first": "1h", "max_delay": "1h"}});
    let ordered = json!({"url": receiver.url, "events": ["*"], "delivery": delivery});
    let made = daemon.post("/v1/subscriptions", &ordered).await.expect(201);
    let publish = async |daemon: &Daemon, numbers: std::ops::Range<usize>| {
        for number in numbers {
            daemon.post("/v1/events", &json!({"type": "door.opened", "data": number})).await.expect(202);
        }
    };
    publish(&daemon, 0..BEFORE).await;
    assert_eq!(receiver.next().await.json()["data"], 0);
    let id = made["id"].as_str().expect("an id");
    daemon.until("/v1/deliveries", |page| page.to_string().contains("\"attempts\":1")).await;
    daemon.stop().await;
    let file = old.path("backup");
    let config = shown(&old.configure(QUICK)).to_owned();
    assert_eq!(command(&["backup", shown(&file), "--offline", "--config", &config]).await.0, Some(0));
    let config = new.quiet(&new.configure(QUICK));
    assert_eq!(command(&["restore", shown(&file), "--config", shown(&config)]).await.0, Some(0));

    let daemon = Daemon::start(&config).await;
    publish(&daemon, BEFORE..BEFORE + AFTER).await;
    assert_eq!(command(&["resume", "--url", &daemon.url()]).await.0, Some(0));
    assert_eq!(receiver.total(), 1, "the first is due in an hour, and all others wait for it");
    let first = daemon.get(&format!("/v1/subscriptions/{id}/deliveries?state=pending")).await.expect(200);
    let first = first["data"].as_array().expect("a page").iter().find(|it| it["attempts"] == 1).expect("the first");
    let path = format!("/v1/deliveries/{}/cancel", first["id"].as_str().expect("an id"));
    daemon.post(&path, &Value::Null).await.expect(200);
    for number in 1..BEFORE + AFTER {
        assert_eq!(receiver.next().await.json()["data"], number);
    }
}

#[tokio::test]
async fn a_stopped_daemon_is_backed_up_offline_and_restored_without_a_hold() {
    let (old, new) = (Home::new(), Home::new());
    let config = old.configure("");
    let mut daemon = Daemon::start(&config).await;
    daemon.post("/v1/events", &json!({"type": "a.b", "data": 1})).await.expect(202);
    for words in [&["check-store"][..], &["backup", shown(&old.path("backup")), "--offline"]] {
        let (code, _, complaint) = command(&[words, &["--config", shown(&config)]].concat()).await;
        assert!(code == Some(1) && complaint.contains("in use by another process"), "{complaint}");
        assert!(!old.path("backup").exists() && complaint.lines().count() == 1, "{complaint}");
    }
    daemon.stop().await;
    let file = old.path("backup");
    let (code, told, _) = command(&["backup", shown(&file), "--offline", "--config", shown(&config)]).await;
    assert!(code == Some(0) && told.contains("1 events"), "{told}");
    let left: Vec<_> = std::fs::read_dir(file.parent().expect("a folder")).expect("read").collect();
    assert_eq!(left.len(), 3, "backup, configuration and store, nothing unfinished: {left:?}");
    let config = new.configure("");
    let (code, ..) = command(&["restore", shown(&file), "--config", shown(&config), "--resume"]).await;
    assert_eq!(code, Some(0));
    let daemon = Daemon::start(&config).await;
    assert_eq!(daemon.get("/readyz").await.expect(200), json!({"status": "ready"}));
    assert_eq!(daemon.get("/v1/stats").await.expect(200)["events"], 1);
}

/// The service manager must not start a daemon again and again on a damaged store, and
/// a file without a byte is no new store: a daemon started on one had lost everything.
#[tokio::test]
async fn a_damaged_store_ends_the_start_with_a_code_of_its_own() {
    let home = Home::new();
    let config = home.configure("");
    let mut daemon = Daemon::start(&config).await;
    daemon.post("/v1/events", &json!({"type": "a.b", "data": 1})).await.expect(202);
    daemon.stop().await;
    let file = home.path("store/posthaste.redb");
    let whole = std::fs::read(&file).expect("read");
    let damage: [fn(&mut Vec<u8>); 4] =
        [Vec::clear, |bytes| bytes.truncate(5000), |bytes| bytes[..4096].fill(0x5a), |bytes| bytes[64..320].fill(0xff)];
    let backup = home.path("backup");
    for (case, spoil) in damage.iter().enumerate() {
        let mut bytes = whole.clone();
        spoil(&mut bytes);
        std::fs::write(&file, &bytes).expect("written");
        for words in [&["serve"][..], &["check-store"], &["backup", shown(&backup), "--offline"]] {
            let (code, _, complaint) = command(&[words, &["--config", shown(&config)]].concat()).await;
            let last = complaint.lines().last().unwrap_or_default();
            let says_what_to_do = last.contains("is damaged") && last.contains("`posthaste restore`");
            assert!(code == Some(5) && says_what_to_do, "case {case}: {words:?}: {code:?}: {complaint}");
        }
    }
    std::fs::write(&file, &whole).expect("written");
    let daemon = Daemon::start(&config).await;
    assert_eq!(daemon.get("/v1/stats").await.expect(200)["events"], 1);
}

/// A backup was broken off before it began, which read as if no daemon ran; and that the
/// storage is full was told by the log alone.
#[tokio::test]
async fn a_full_disk_is_told_by_status_and_backup() {
    let home = Home::new();
    let daemon = Daemon::start_with(&home.configure(""), &[("POSTHASTE_STORAGE_RESERVE_BYTES", "1000000 GiB")]).await;
    daemon.post("/v1/events", &json!({"type": "a.b", "data": 1})).await.expect(507);
    let (code, told, complaint) = command(&["status", "--url", &daemon.url()]).await;
    assert!(code == Some(1) && told.contains("ready  "), "{told}");
    assert!(complaint.starts_with("the daemon is not ready: the storage is full"), "{complaint}");
    let file = home.path("backup");
    let (code, _, complaint) = command(&["backup", shown(&file), "--url", &daemon.url()]).await;
    assert!(code == Some(4) && complaint.contains(": the storage is full; free space"), "{complaint}");
    assert!(!file.exists());
}

/// A large file that is mostly free is made smaller before anything is served.
#[tokio::test]
async fn a_store_is_compacted_at_the_start_where_that_is_worth_it() {
    let home = Home::new();
    let mut daemon = Daemon::start(&home.configure("")).await;
    daemon.post("/v1/events", &json!({"type": "a.b", "data": 1})).await.expect(202);
    daemon.stop().await;
    let file = home.path("store/posthaste.redb");
    let before = file.metadata().expect("it is there").len();
    let variables = [("POSTHASTE_STORAGE_COMPACT_ABOVE", "1 KiB")];
    let mut daemon = Daemon::start_with(&home.configure(""), &variables).await;
    daemon.logs("compacted", |entry| entry["fields"]["message"] == "the store is compacted").await;
    assert!(file.metadata().expect("it is there").len() < before, "{before} bytes before");
    assert_eq!(daemon.get("/v1/stats").await.expect(200)["events"], 1);
}
