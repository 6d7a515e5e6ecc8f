//! FerrisKey's management API, and a webhook's life through it.

use serde_json::{Value, json};

use crate::support::{Daemon, Receiver, Reply};
use crate::{call_as, daemon, daemon_with_keys, key, verify_ferriskey};

const ON: &str = "[dialects.ferriskey]\nenabled = true\n";
const ALL: &str = "/ferriskey/realms/master/webhooks";

async fn with_realm(text: &str) -> Daemon {
    let daemon = daemon(text).await;
    daemon.call("PUT", "/v1/organizations/master", json!({})).await.expect(201);
    daemon
}

async fn create(daemon: &Daemon, url: &str, triggers: &[&str]) -> Value {
    let body = json!({"endpoint": url, "subscribers": triggers});
    daemon.post(ALL, body).await.expect(200)["data"].clone()
}

fn path(webhook: &Value) -> String {
    format!("{ALL}/{}", webhook["id"].as_str().unwrap())
}

#[tokio::test]
async fn a_webhook_lives_as_the_vendor_documents_it() {
    let daemon = with_realm(ON).await;
    let body = json!({
        "name": "n",
        "description": "d",
        "endpoint": "https://a.example/hooks",
        "headers": {"Authorization": "Bearer x"},
        "subscribers": ["user.created", "client.deleted"],
        "whatever": 1,
    });
    let made = daemon.post(ALL, body).await.expect(200)["data"].clone();
    let names: Vec<&str> = made.as_object().unwrap().keys().map(String::as_str).collect();
    let documented =
        ["id", "endpoint", "headers", "name", "description", "subscribers", "triggered_at", "updated_at", "created_at"];
    assert_eq!(names, documented);
    assert_eq!(made["headers"], json!({"Authorization": "Bearer x"}));
    let subscriber = &made["subscribers"][1];
    assert_eq!((&subscriber["name"], &subscriber["webhook_id"]), (&json!("client.deleted"), &made["id"]));
    assert_eq!(daemon.get(&path(&made)).await.expect(200), made, "one is not wrapped");
    assert_eq!(daemon.get(ALL).await.expect(200), json!({"data": [made]}));

    // The same object in the native API.
    let native = daemon.get(&format!("/v1/subscriptions/{}", made["id"].as_str().unwrap())).await.expect(200);
    assert_eq!((&native["format"], &native["organization"]), (&json!("ferriskey"), &json!("master")));
    assert_eq!(native["events"], json!(["user.created", "client.deleted"]));

    let whole = json!({"endpoint": "https://b.example", "subscribers": []});
    let put = daemon.call("PUT", &path(&made), whole).await.expect(200)["data"].clone();
    assert_eq!(
        (&put["endpoint"], &put["name"], &put["headers"]),
        (&json!("https://b.example"), &Value::Null, &json!({}))
    );
    assert_eq!(put["subscribers"], json!([]));

    let deleted = daemon.call("DELETE", &path(&made), Value::Null).await.expect(200);
    assert_eq!(deleted, json!({"message": "", "realm_name": "master"}));
    assert_eq!(daemon.get(&path(&made)).await.expect(200), Value::Null, "what is not there is null");
    assert_eq!(daemon.get(ALL).await.expect(200), json!({"data": []}));
}

#[tokio::test]
async fn what_is_wrong_is_told_as_the_vendor_does() {
    let daemon = with_realm(ON).await;
    let made = create(&daemon, "https://a.example", &["user.created"]).await;
    let long = "x".repeat(256);
    for (body, field) in [
        (json!({"endpoint": "", "subscribers": ["user.created"]}), "endpoint"),
        (json!({"subscribers": ["user.created"]}), "endpoint"),
        (json!({"endpoint": "http://a.example", "subscribers": ["user.created"]}), "endpoint"),
        (json!({"endpoint": format!("https://a.example/{long}"), "subscribers": ["user.created"]}), "endpoint"),
        (json!({"endpoint": "https://a.example", "subscribers": []}), "subscribers"),
        (json!({"endpoint": "https://a.example"}), "subscribers"),
        (json!({"endpoint": "https://a.example", "subscribers": ["user.nonsense"]}), "subscribers[0]"),
        (json!({"endpoint": "https://a.example", "subscribers": ["door.request.allowed"]}), "subscribers[0]"),
        (json!({"endpoint": "https://a.example", "subscribers": ["user.created"], "name": long}), "name"),
        (
            json!({"endpoint": "https://a.example", "subscribers": ["user.created"], "headers": {"Host": "x"}}),
            "headers.Host",
        ),
    ] {
        let errors = daemon.post(ALL, body.clone()).await.expect(422);
        let told: Vec<&str> =
            errors["errors"].as_array().unwrap().iter().map(|it| it["field"].as_str().unwrap()).collect();
        assert_eq!(told, [field], "{body}");
        assert!(!errors["errors"][0]["message"].as_str().unwrap().is_empty());
    }
    assert_eq!(daemon.get(ALL).await.expect(200)["data"].as_array().unwrap().len(), 1, "nothing was made");
    let missing = format!("{ALL}/01a3185c-5000-7fbd-adbe-42f814a9bf77");
    let body = json!({"endpoint": "https://a.example", "subscribers": []});
    for answer in [
        daemon.call("PUT", &missing, body.clone()).await,
        daemon.call("DELETE", &missing, Value::Null).await,
        daemon.get("/ferriskey/realms/nowhere/webhooks").await,
        daemon.get("/ferriskey/nonsense").await,
    ] {
        let told = answer.expect(404);
        assert_eq!((&told["code"], &told["status"]), (&json!("E_NOT_FOUND"), &json!(404)));
    }
    let told = daemon.call("PATCH", &path(&made), body).await.expect(405);
    assert_eq!(told["code"], "E_METHOD_NOT_ALLOWED");

    // Subscriptions of other formats and organizations are not there.
    let other = daemon.subscribe(json!({"url": "https://a.example", "organization": "master"})).await;
    assert_eq!(daemon.get(&path(&other)).await.expect(200), Value::Null);
    daemon.call("PUT", "/v1/organizations/other", json!({})).await.expect(201);
    let elsewhere = path(&made).replace("master", "other");
    assert_eq!(daemon.get(&elsewhere).await.expect(200), Value::Null);
    let off = with_realm("").await;
    off.get(ALL).await.expect(404);
}

#[tokio::test]
async fn keys_reach_their_realms_and_do_what_their_roles_say() {
    let keys = |name: &str, roles: &str, organizations: &str| {
        let sha256 = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(name));
        format!(
            "[[api_keys]]\nname = \"{name}\"\nsha256 = \"{sha256}\"\nroles = [{roles}]\norganizations = [{organizations}]\n"
        )
    };
    let text = [
        ON.to_owned(),
        keys("admin", "\"admin\"", "\"*\""),
        keys("reader", "\"read\"", "\"master\""),
        keys("foreign", "\"admin\"", "\"other\""),
    ]
    .concat();
    let daemon = Daemon::with(&text, &[("POSTHASTE_SERVICE_AUTH", "keys")]).await;
    let with = async |key: &str, method: &str, path: &str, body: Value| {
        daemon.call_with(method, path, body, &[("authorization", &format!("Bearer {key}"))]).await
    };
    for organization in ["master", "other"] {
        with("admin", "PUT", &format!("/v1/organizations/{organization}"), json!({})).await.expect(201);
    }
    let body = json!({"endpoint": "https://a.example", "subscribers": ["user.created"]});
    assert_eq!(daemon.post(ALL, body.clone()).await.expect(401)["code"], "E_UNAUTHORIZED");
    assert_eq!(with("reader", "POST", ALL, body.clone()).await.expect(403)["code"], "E_FORBIDDEN");
    assert_eq!(with("foreign", "POST", ALL, body.clone()).await.expect(404)["code"], "E_NOT_FOUND");
    with("admin", "POST", ALL, body).await.expect(200);
    with("reader", "GET", ALL, Value::Null).await.expect(200);
    assert_eq!(with("foreign", "GET", ALL, Value::Null).await.expect(404)["code"], "E_NOT_FOUND");
}

/// Whoever could read webhooks was shown their credentials, whatever the key's roles.
#[tokio::test]
async fn credentials_in_headers_are_for_who_may_see_secrets() {
    let keys = [
        key("all", &["admin"], &["*"]),
        key("reader", &["read", "manage"], &["*"]),
        key("secrets", &["read", "secrets"], &["*"]),
    ];
    let daemon = daemon_with_keys(ON, &keys).await;
    call_as(&daemon, "all", "PUT", "/v1/organizations/master", json!({})).await.expect(201);
    let headers = json!({"Authorization": "Bearer x", "X-Tenant": "acme"});
    let body = json!({"endpoint": "https://a.example/", "subscribers": ["user.created"], "headers": headers});
    let made = call_as(&daemon, "all", "POST", ALL, body.clone()).await.expect(200)["data"].clone();
    let masked = json!({"Authorization": "***", "X-Tenant": "acme"});
    for (caller, shown) in [("reader", &masked), ("secrets", &headers)] {
        let one = call_as(&daemon, caller, "GET", &path(&made), Value::Null).await.expect(200);
        let all = call_as(&daemon, caller, "GET", ALL, Value::Null).await.expect(200);
        assert_eq!((&one["headers"], &all["data"][0]["headers"]), (shown, shown), "{caller}");
    }
    // What was read can be written back to the same place, and keeps what it is.
    let back = |url: &str| json!({"endpoint": url, "subscribers": ["user.created"], "headers": masked});
    call_as(&daemon, "reader", "PUT", &path(&made), back("https://a.example/b")).await.expect(200);
    call_as(&daemon, "reader", "PUT", &path(&made), back("https://thief.example/")).await.expect(422);
    let one = call_as(&daemon, "secrets", "GET", &path(&made), Value::Null).await.expect(200);
    assert_eq!((&one["headers"], &one["endpoint"]), (&headers, &json!("https://a.example/b")));
}

#[tokio::test]
async fn header_values_may_be_hidden() {
    let daemon = with_realm(&format!("{ON}hide_headers = true\n")).await;
    let mut receiver = Receiver::start().await;
    let body =
        json!({"endpoint": receiver.url, "subscribers": ["user.created"], "headers": {"Authorization": "Bearer x"}});
    let made = daemon.post(ALL, body).await.expect(200)["data"].clone();
    assert_eq!(made["headers"], json!({"Authorization": "***"}));
    // What was read can be written back, as long as it goes to the same place.
    let mut back = json!({"endpoint": receiver.url, "subscribers": ["user.created"], "headers": made["headers"]});
    daemon.call("PUT", &path(&made), back.clone()).await.expect(200);
    daemon.post("/v1/events", json!({"type": "user.created", "organization": "master", "data": {}})).await.expect(202);
    assert_eq!(receiver.next().await.header("authorization"), "Bearer x");
    back["endpoint"] = json!("https://thief.example");
    let told = daemon.call("PUT", &path(&made), back).await.expect(422);
    assert_eq!(told["errors"][0]["field"], "headers.Authorization");
}

/// Who may manage webhooks but not see secrets had credentials that the native API
/// keeps sent to themselves, by changing the endpoint here.
#[tokio::test]
async fn credentials_of_the_native_api_do_not_follow_a_changed_endpoint() {
    let daemon = with_realm(ON).await;
    let made = create(&daemon, "https://a.example/one", &["user.created"]).await;
    let native = format!("/v1/subscriptions/{}", made["id"].as_str().unwrap());
    let bearer = json!({"authentication": {"type": "bearer", "token": "hush"}});
    daemon.call("PATCH", &native, bearer).await.expect(200);
    let body = |url: &str| json!({"endpoint": url, "subscribers": ["user.created"]});
    let told = daemon.call("PUT", &path(&made), body("https://thief.example/one")).await.expect(422);
    assert_eq!(told["errors"][0]["field"], "endpoint");
    daemon.call("PUT", &path(&made), body("https://a.example/two")).await.expect(200);
    assert_eq!(daemon.get(&native).await.expect(200)["authentication"]["type"], "bearer");
}

#[tokio::test]
async fn it_receives_fails_is_disabled_and_comes_back() {
    let daemon = with_realm(ON).await;
    let mut receiver = Receiver::answering(|_, nth| Reply::status(if nth == 1 { 410 } else { 200 })).await;
    let made = create(&daemon, &receiver.url, &["user.created"]).await;
    let native = format!("/v1/subscriptions/{}", made["id"].as_str().unwrap());
    let secret = daemon.get(&format!("{native}/secret")).await.expect(200);
    let secret = secret["secrets"][0]["secret"].as_str().unwrap();
    let publish = async || {
        let event = json!({"type": "user.created", "organization": "master", "subject": "u", "data": {}});
        daemon.post("/v1/events", event).await.expect(202)
    };
    publish().await;
    assert!(verify_ferriskey(&receiver.next().await, secret));
    let shown = daemon.until(&path(&made), |webhook| webhook["triggered_at"] != Value::Null).await;
    assert_eq!(shown["triggered_at"], "2027-01-15T08:00:00.000Z");
    publish().await;
    receiver.next().await;
    daemon.until(&native, |subscription| subscription["status"] == "disabled_due_to_errors").await;
    assert_eq!(publish().await["deliveries"], 0);
    daemon.post(&format!("{native}/enable"), Value::Null).await.expect(200);
    // What was pending goes on, when it is due.
    daemon.pass(std::time::Duration::from_secs(60));
    assert!(verify_ferriskey(&receiver.next().await, secret));
}

#[tokio::test]
async fn changes_of_webhooks_are_events_themselves() {
    let daemon = with_realm(ON).await;
    let mut watcher = Receiver::start().await;
    let triggers = ["webhook.created", "webhook.updated", "webhook.deleted"];
    create(&daemon, &watcher.url, &triggers).await;
    let body = json!({"endpoint": "https://a.example", "subscribers": ["user.created"], "headers": {"X-Token": "t"}});
    let made = daemon.post(ALL, body.clone()).await.expect(200)["data"].clone();
    let told = watcher.next().await.json();
    assert_eq!((&told["event"], &told["resource_id"]), (&json!("webhook.created"), &made["id"]));
    let mut expected = made.clone();
    expected.as_object_mut().unwrap().shift_remove("headers");
    assert_eq!(told["data"], expected, "without headers");

    let mut changed = body;
    changed["name"] = json!("other");
    daemon.call("PUT", &path(&made), changed).await.expect(200);
    let told = watcher.next().await.json();
    assert_eq!((&told["event"], &told["data"]["name"]), (&json!("webhook.updated"), &json!("other")));
    daemon.call("DELETE", &path(&made), Value::Null).await.expect(200);
    let told = watcher.next().await.json();
    assert_eq!((&told["event"], &told["resource_id"]), (&json!("webhook.deleted"), &made["id"]));

    // Subscriptions of other formats are no webhooks of this vendor's.
    daemon.subscribe(json!({"url": "https://a.example", "organization": "master"})).await;
    daemon
        .post("/v1/events", json!({"type": "webhook.created", "organization": "master", "data": 1}))
        .await
        .expect(202);
    assert_eq!(watcher.next().await.json()["data"], 1);
}
