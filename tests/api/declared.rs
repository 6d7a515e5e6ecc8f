//! What files declare: put in force as a whole at the start and by a reload, taken
//! away when it is declared no longer, and out of the API's reach.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Daemon, Receiver, Reply};

const CONFIG: &str = "[service]\ndeclared_in = \"subscriptions.d\"\n";
const ALL: &str = "
[organizations.acme]
name = \"Acme\"
[organizations.acme-eu]
parent = \"acme\"
[sources.panel-1]
organization = \"acme-eu\"
[event_types.\"door.opened\"]
description = \"A door was opened\"
fields = [\"door\"]
[subscriptions.orders]
organization = \"acme-eu\"
url = \"https://receiver.example/orders\"
events = [\"door.*\"]
scope = [\"panel-1\"]
[subscriptions.orders.delivery]
rate_per_second = 2.5
";

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join("subscriptions.d").join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// A daemon on a folder that declares nothing yet, without one named.
async fn daemon() -> Daemon {
    let daemon = Daemon::start().await;
    std::fs::create_dir(daemon.folder().join("subscriptions.d")).unwrap();
    daemon
}

/// Puts this in force as the one file there is.
async fn declare(daemon: &Daemon, text: &str) {
    write(daemon.folder(), "all.toml", text);
    if let Err(error) = daemon.try_reload(CONFIG).await {
        panic!("{error}");
    }
}

/// The one declared under that key.
async fn declared(daemon: &Daemon, key: &str) -> Option<Value> {
    let all = daemon.get("/v1/subscriptions").await.expect(200);
    all["data"].as_array().unwrap().iter().find(|it| it["declared_as"] == key).cloned()
}

#[tokio::test]
async fn files_own_what_they_declare_and_the_api_is_refused() {
    let daemon = daemon().await;
    declare(&daemon, ALL).await;
    let orders = declared(&daemon, "orders").await.expect("orders");
    assert_eq!((&orders["managed_by"], &orders["created_by"]), (&json!("file"), &json!("files")));
    assert_eq!(orders["secret"], "***");
    for path in ["/v1/organizations/acme", "/v1/sources/panel-1", "/v1/event-types/door.opened"] {
        let stands = daemon.get(path).await.expect(200);
        assert_eq!(stands["managed_by"], "file");
        // What was read can be written back; anything else cannot.
        daemon.call("PUT", path, stands).await.expect(200);
        let field = if path.contains("event-types") { "description" } else { "name" };
        daemon.call("PUT", path, json!({field: "x"})).await.refused(409, "managed_by_file");
        let code = if path.contains("event-types") { "managed_by_file" } else { "in_use" };
        daemon.call("DELETE", path, Value::Null).await.refused(409, code);
    }
    let path = format!("/v1/subscriptions/{}", orders["id"].as_str().unwrap());
    daemon.call("PATCH", &path, json!({"name": "x"})).await.refused(409, "managed_by_file");
    daemon.call("DELETE", &path, Value::Null).await.refused(409, "managed_by_file");
    // Status and generated secrets are run-time state, and stay over a reload.
    daemon.post(&format!("{path}/disable"), Value::Null).await.expect(200);
    let rotated = daemon.post(&format!("{path}/secret/rotate"), json!({})).await.expect(200);
    declare(&daemon, &ALL.replace("2.5", "3")).await;
    let stands = daemon.get(&path).await.expect(200);
    assert_eq!((&stands["status"], &stands["delivery"]["rate_per_second"]), (&json!("disabled"), &json!(3.0)));
    let secrets = daemon.get(&format!("{path}/secret")).await.expect(200);
    assert_eq!(secrets["secrets"].as_array().unwrap().len(), 2, "{secrets} {rotated}");
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_says_where() {
    let daemon = daemon().await;
    declare(&daemon, ALL).await;
    let entries = |audit: Value| audit["data"].as_array().unwrap().len();
    let before = entries(daemon.get("/v1/audit").await.expect(200));
    let extra = "[organizations.other]\n[subscriptions.bad]\nurl = \"https://r.example\"\nevents = [\"*\"]\n";
    for (text, wanted) in [
        ("urll = \"x\"\n", "bad.toml:5: subscriptions.bad.urll is not known; did you mean \"url\"?"),
        (
            "organization = \"nobody\"\n",
            "bad.toml:5: subscriptions.bad.organization names an organization that neither",
        ),
        ("secrecy_level = 3\n", "bad.toml:5: subscriptions.bad.secrecy_level must be"),
        ("scope = [\"panel-1\"]\n", "bad.toml:5: subscriptions.bad.scope names the source panel-1, which"),
        ("version = 1\nid = \"x\"\n", "bad.toml:6: subscriptions.bad.id cannot be declared"),
        ("[sources.panel-1]\n", "bad.toml:5: sources.panel-1 is declared in all.toml:6 too"),
        (
            "[organizations.a]\nparent = \"b\"\n[organizations.b]\nparent = \"a\"\n",
            "bad.toml:6: organizations.a.parent leads",
        ),
    ] {
        write(daemon.folder(), "bad.toml", &format!("{extra}{text}"));
        let told = daemon.try_reload(CONFIG).await.expect_err("refused").to_string();
        assert!(told.contains(wanted), "{told}\nwanted: {wanted}");
        daemon.get("/v1/organizations/other").await.expect(404);
    }
    // The catalog's fields are known once both are declared.
    write(
        daemon.folder(),
        "bad.toml",
        "[subscriptions.c]\nurl = \"https://r.example/{dor}\"\nevents = [\"door.opened\"]\n",
    );
    let told = daemon.try_reload(CONFIG).await.expect_err("refused").to_string();
    assert!(told.contains("bad.toml:2: subscriptions.c.url"), "{told}");
    std::fs::rename(daemon.folder().join("subscriptions.d"), daemon.folder().join("away")).unwrap();
    let told = daemon.try_reload(CONFIG).await.expect_err("refused").to_string();
    assert!(told.contains("subscriptions.d: cannot be read: "), "{told}");
    assert!(declared(&daemon, "orders").await.is_some());
    assert_eq!(entries(daemon.get("/v1/audit").await.expect(200)), before, "nothing changed");
}

/// What is the same is left alone: no entry, no version, no other id or secret.
#[tokio::test]
async fn the_same_again_and_a_restart_change_nothing() {
    let mut daemon = daemon().await;
    write(daemon.folder(), "all.toml", ALL);
    daemon.set_text(CONFIG);
    daemon.restart().await;
    let first = declared(&daemon, "orders").await.expect("orders");
    let audit = daemon.get("/v1/audit").await.expect(200);
    declare(&daemon, ALL).await;
    daemon.restart().await;
    assert_eq!(declared(&daemon, "orders").await.expect("orders"), first);
    assert_eq!(daemon.get("/v1/audit").await.expect(200), audit);
    assert_eq!(audit["data"].as_array().unwrap().iter().filter(|entry| entry["actor"] == "files").count(), 5);
}

#[tokio::test]
async fn what_is_declared_no_longer_ends_once_nothing_is_pending() {
    let receiver = Receiver::answering(|_, _| Reply::status(500)).await;
    let daemon = daemon().await;
    let text = format!(
        "[organizations.acme]\n[subscriptions.a]\norganization = \"acme\"\nurl = \"{}\"\nevents = [\"*\"]\n\
         [subscriptions.b]\nurl = \"https://r.example\"\nevents = []\n",
        receiver.url
    );
    declare(&daemon, &text).await;
    let a = declared(&daemon, "a").await.expect("a");
    daemon.post("/v1/events", json!({"type": "a.b", "organization": "acme", "data": 1})).await.expect(202);
    let path = format!("/v1/subscriptions/{}", a["id"].as_str().unwrap());
    daemon.until(&path, |it| it["stats"]["attempts"] == 1).await;

    declare(&daemon, "").await;
    assert!(declared(&daemon, "b").await.is_none(), "nothing was pending");
    let held = daemon.get(&path).await.expect(200);
    assert_eq!((&held["status"], &held["status_reason"]["code"]), (&json!("disabled"), &json!("undeclared")));
    daemon.post(&format!("{path}/enable"), Value::Null).await.refused(409, "managed_by_file");
    daemon.get("/v1/organizations/acme").await.expect(200);

    // Declared again, it is the same one, and goes on.
    declare(&daemon, &text).await;
    let back = daemon.get(&path).await.expect(200);
    assert_eq!((&back["status"], &back["declared_as"]), (&json!("enabled"), &json!("a")));
    declare(&daemon, "").await;
    daemon.post(&format!("{path}/cancel"), json!({})).await.expect(202);
    daemon.until(&path, |it| it["stats"]["pending"] == 0).await;
    daemon.pass(Duration::from_secs(61));
    crate::support::within("the end of what is declared no longer", async {
        while daemon.get("/v1/organizations/acme").await.status != 404 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    daemon.get(&path).await.expect(404);
}

#[tokio::test]
async fn a_secret_of_a_file_is_the_files_alone_and_status_where_it_is_said() {
    let daemon = daemon().await;
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    std::fs::write(daemon.folder().join("secret"), format!("{secret}\n")).unwrap();
    std::fs::set_permissions(daemon.folder().join("secret"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let text = "[subscriptions.a]\nurl = \"https://r.example\"\nevents = [\"*\"]\nsecret_file = \"../secret\"\n";
    declare(&daemon, &format!("{text}status = \"disabled\"\nexpires_at = 2020-01-01T00:00:00Z\n")).await;
    let a = declared(&daemon, "a").await.expect("a");
    let path = format!("/v1/subscriptions/{}", a["id"].as_str().unwrap());
    assert_eq!(a["status"], "disabled");
    assert_eq!(daemon.get(&format!("{path}/secret")).await.expect(200)["secrets"][0]["secret"], secret);
    daemon.post(&format!("{path}/secret/rotate"), json!({})).await.refused(409, "managed_by_file");
    declare(&daemon, &format!("{text}status = \"enabled\"\n")).await;
    assert_eq!(daemon.get(&path).await.expect(200)["status"], "enabled");
    // Taken away from the file, it stays, and is run-time state.
    declare(&daemon, &text.replace("secret_file = \"../secret\"\n", "")).await;
    assert_eq!(daemon.get(&format!("{path}/secret")).await.expect(200)["secrets"][0]["secret"], secret);
    daemon.post(&format!("{path}/secret/rotate"), json!({})).await.expect(200);
}

#[tokio::test]
async fn vendors_apis_leave_files_alone_too() {
    let on = [("POSTHASTE_DIALECTS_FERRISKEY_ENABLED", "true"), ("POSTHASTE_DIALECTS_PERIDIO_ENABLED", "true")];
    let daemon = Daemon::with("", &on).await;
    std::fs::create_dir(daemon.folder().join("subscriptions.d")).unwrap();
    declare(
        &daemon,
        "[subscriptions.f]\nurl = \"https://r.example\"\nevents = [\"*\"]\nformat = \"ferriskey\"\n\
         [subscriptions.p]\nurl = \"https://r.example\"\nevents = [\"*\"]\nformat = \"peridio\"\n",
    )
    .await;
    let f = declared(&daemon, "f").await.expect("f")["id"].as_str().unwrap().to_owned();
    let path = format!("/ferriskey/realms/default/webhooks/{f}");
    daemon.get(&path).await.expect(200);
    let body = json!({"endpoint": "https://other.example", "subscribers": []});
    assert_eq!(daemon.call("PUT", &path, body).await.status, 409);
    assert_eq!(daemon.call("DELETE", &path, Value::Null).await.status, 409);
    let listed = daemon.get("/peridio/webhooks").await.expect(200);
    let prn = listed["webhooks"][0]["prn"].as_str().expect("a prn").to_owned();
    let path = format!("/peridio/webhooks/{prn}");
    assert_eq!(daemon.call("PATCH", &path, json!({"url": "https://other.example"})).await.status, 409);
    assert_eq!(daemon.call("DELETE", &path, Value::Null).await.status, 409);
}

#[tokio::test]
async fn a_plan_says_what_would_change_and_changes_nothing() {
    let daemon = daemon().await;
    declare(&daemon, ALL).await;
    let plan = |body: Value| daemon.post("/v1/declarations/plan", body);
    let body = json!({
        "organizations": {"acme": {"name": "Acme"}, "acme-eu": {"parent": "acme"}},
        "sources": {"panel-1": {"organization": "acme-eu"}},
        "subscriptions": {"orders": {"organization": "acme-eu", "url": "https://receiver.example/new",
            "events": ["door.*"], "scope": ["panel-1"], "headers": {"x-key": "s3cret"},
            "delivery": {"rate_per_second": 2.5}}},
    });
    let answer = plan(body).await.expect(200);
    assert!(!answer.to_string().contains("s3cret"), "{answer}");
    let steps = answer["steps"].as_array().unwrap();
    let told: Vec<(&str, &str)> =
        steps.iter().map(|it| (it["action"].as_str().unwrap(), it["object"].as_str().unwrap())).collect();
    assert_eq!(told, [("update", "subscriptions.orders"), ("delete", "event_types.door.opened")]);
    let urls = json!(["https://receiver.example/orders", "https://receiver.example/new"]);
    assert_eq!(steps[0]["changes"]["url"], urls);
    let refused = plan(json!({"subscriptions": {"x": {"url": "https://r.example", "organization": "none"}}})).await;
    assert_eq!(refused.refused(422, "validation_failed"), ["subscriptions.x.events"]);
    assert_eq!(declared(&daemon, "orders").await.expect("orders")["url"], "https://receiver.example/orders");
}

/// What the API made is taken over where its id says that it is meant, and never a subscription.
#[tokio::test]
async fn organizations_made_before_are_taken_over_and_subscriptions_are_not() {
    let daemon = daemon().await;
    daemon.call("PUT", "/v1/organizations/acme", json!({"name": "old"})).await.expect(201);
    let by_api = daemon.subscribe(json!({"url": "https://receiver.example/orders", "external_id": "x"})).await;
    declare(&daemon, &format!("{ALL}[organizations.default]\n[sources.p]\n")).await;
    assert_eq!(daemon.get("/v1/organizations/acme").await.expect(200)["name"], "Acme");
    assert_eq!(daemon.get("/v1/organizations/default").await.expect(200)["managed_by"], "file");
    let orders = declared(&daemon, "orders").await.expect("orders");
    assert_ne!(orders["id"], by_api["id"]);
    declare(&daemon, "").await;
    assert_eq!(daemon.get("/v1/organizations/default").await.expect(200)["managed_by"], "api");
    daemon.get("/v1/organizations/acme").await.expect(404);
    daemon.get(&format!("/v1/subscriptions/{}", by_api["id"].as_str().unwrap())).await.expect(200);
}
