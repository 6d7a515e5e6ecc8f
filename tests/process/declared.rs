//! Files that declare subscriptions, through the real binary: `check`, `check --diff`,
//! SIGHUP, and a start that is refused.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::daemon::{Daemon, Home, run, text};

fn write(folder: &Path, text: &str) {
    let path = folder.join("orders.toml");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test]
async fn a_dry_run_says_what_a_reload_then_does() {
    let home = Home::new();
    let config = home.write_config("auth = \"none\"\ndeclared_in = \"subscriptions.d\"", "");
    let (config, folder) = (config.to_str().expect("text"), home.path("subscriptions.d"));

    let refused = run(&["serve", "--config", config]).await;
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("subscriptions.d: cannot be read: "), "{}", text(&refused.stderr));
    std::fs::create_dir(&folder).unwrap();
    let mut daemon = Daemon::start(Path::new(config)).await;
    let url = daemon.url();
    let diff = ["check", "--config", config, "--diff", "--url", &url];

    write(&folder, "[subscriptions.orders]\nurl = \"https://r.example\"\nevnts = [\"*\"]\n");
    for words in [&diff[..], &diff[..3]] {
        let told = run(words).await;
        assert_eq!(told.status.code(), Some(2));
        let told = text(&told.stderr).to_owned();
        assert!(
            told.contains("orders.toml:3: subscriptions.orders.evnts is not known; did you mean \"events\"?"),
            "{told}"
        );
    }
    // What only the daemon knows has its line too.
    let declared = "[subscriptions.orders]\nurl = \"https://r.example\"\nevents = [\"*\"]\n";
    write(&folder, &format!("{declared}organization = \"acme\"\n"));
    let told = run(&diff).await;
    assert!(text(&told.stderr).contains("orders.toml:4: subscriptions.orders.organization names"), "{told:?}");

    write(&folder, declared);
    let told = run(&diff).await;
    assert_eq!((told.status.code(), text(&told.stdout).trim()), (Some(0), "create subscriptions.orders"));
    let stands = async |daemon: &Daemon| daemon.get("/v1/subscriptions").await.expect(200)["data"].clone();
    assert_eq!(stands(&daemon).await.as_array().map(Vec::len), Some(0), "a dry run changes nothing");
    daemon.signal(Signal::HUP);
    let is_it = |entry: &Value| entry["fields"]["message"] == "declared by files";
    let entry = daemon.logs("the step", is_it).await;
    assert_eq!(entry["fields"]["object"], "subscriptions.orders", "{entry}");
    daemon.logs("the reload", |entry| entry["fields"]["message"] == "configuration reloaded").await;
    assert_eq!(stands(&daemon).await[0]["declared_as"], "orders");
    assert_eq!(text(&run(&diff).await.stdout).trim(), "nothing would change");
}
