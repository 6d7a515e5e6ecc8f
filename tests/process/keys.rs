//! The key that encrypts secrets in the store: made, changed by a reload, taken away.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::daemon::{Daemon, Home, run, text};

/// Makes a key. Answers its file and its id.
async fn new_key(home: &Home, name: &str) -> (PathBuf, String) {
    let file = home.path(name);
    let made = run(&["key", "storage", file.to_str().expect("text"), "--json"]).await;
    let told: Value = serde_json::from_slice(&made.stdout).expect("JSON");
    (file, told["key"].as_str().expect("an id").to_owned())
}

/// A configuration with these lines in `[storage]`.
fn configure(home: &Home, storage: &str) -> PathBuf {
    let path = home.configure("");
    let config = std::fs::read_to_string(&path).expect("written");
    std::fs::write(&path, config.replace("[storage]\n", &format!("[storage]\n{storage}\n"))).expect("written");
    path
}

fn under(key: &Path, previous: &[&Path]) -> String {
    format!("encryption_key_file = {key:?}\nprevious_encryption_key_files = {previous:?}")
}

#[tokio::test]
async fn a_key_is_changed_by_a_reload_and_the_earlier_one_taken_away() {
    let home = Home::new();
    let ((first, first_id), (second, second_id)) = (new_key(&home, "first").await, new_key(&home, "second").await);
    let config = configure(&home, &under(&first, &[]));
    let mut daemon = Daemon::start(&config).await;
    let fields = json!({"url": "https://a.example/", "events": [], "authentication": {"type": "bearer", "token": "t"}});
    let made = daemon.post("/v1/subscriptions", &fields).await.expect(201);

    // Without the key in force nothing changes.
    configure(&home, &under(&second, &[]));
    daemon.signal(Signal::HUP);
    let is_refused = |entry: &Value| {
        let text = entry.to_string();
        text.contains("was not reloaded") && text.contains(&first_id)
    };
    daemon.logs("the refusal", is_refused).await;
    configure(&home, &under(&second, &[&first]));
    daemon.signal(Signal::HUP);
    daemon.logs("the end of it", |entry| entry.to_string().contains("they can be taken away")).await;
    let stats = daemon.get("/v1/stats").await.expect(200);
    assert_eq!(stats["storage"]["encryption"], json!({"key": second_id, "needs_previous_keys": false}));
    assert_eq!(stats["work"], json!([]));
    daemon.kill().await;

    for (storage, needed) in [(under(&first, &[]), &second_id), (String::new(), &second_id)] {
        let config = configure(&home, &storage);
        let output = run(&["serve", "--config", config.to_str().expect("text")]).await;
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains(needed.as_str()) && told.contains("storage.encryption_key_file"), "{told}");
    }
    let daemon = Daemon::start(&configure(&home, &under(&second, &[]))).await;
    let mode = std::fs::metadata(home.path("store")).expect("the store's folder").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let secret = format!("/v1/subscriptions/{}/secret", made["id"].as_str().expect("an id"));
    let shown = daemon.get(&secret).await.expect(200);
    assert_eq!(shown["secrets"][0]["secret"], made["secret"]);
}

#[tokio::test]
async fn a_key_is_made_once_and_for_its_owner_alone() {
    let home = Home::new();
    let (file, id) = new_key(&home, "storage.key").await;
    let mode = std::fs::metadata(&file).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let key = std::fs::read_to_string(&file).expect("text");
    let output = run(&["key", "storage", file.to_str().expect("text")]).await;
    assert_eq!(output.status.code(), Some(1), "one that is there is not overwritten");
    assert_eq!(std::fs::read_to_string(&file).expect("text"), key);
    let other = home.path("other.key");
    let output = run(&["key", "storage", other.to_str().expect("text")]).await;
    let told = text(&output.stdout);
    assert!(told.contains("encryption_key_file = ") && !told.contains(&id), "{told}");
    assert!(!told.contains(std::fs::read_to_string(&other).expect("text").trim()), "the key itself is not shown");
}
