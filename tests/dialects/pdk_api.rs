//! PDK's management API, and a webhook's life through it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Daemon, Receiver, Reply};
use crate::{call_as, daemon, daemon_with_keys, key, verify_pdk};

const ON: &str = "[dialects.pdk]\nenabled = true\n";
const ALL: &str = "/pdk/api/ous/acme/hooks";

async fn with_organization(text: &str) -> Daemon {
    let daemon = daemon(text).await;
    daemon.call("PUT", "/v1/organizations/acme", json!({})).await.expect(201);
    for (panel, organization) in [("1070000", "acme"), ("1070001", "other")] {
        daemon.call("PUT", &format!("/v1/organizations/{organization}"), json!({})).await;
        let body = json!({"organization": organization});
        daemon.call("PUT", &format!("/v1/sources/{panel}"), body).await.expect(201);
    }
    daemon
}

/// What the vendor's own example sends.
fn example() -> Value {
    json!({
        "name": "Test Subscription",
        "url": "https://example.com",
        "scope": "ouRecursive",
        "authentication": {"type": "None"},
        "events": ["door.request.allowed", "door.request.denied", "door.request.unknown"],
    })
}

/// The same with these members instead.
fn with(mut body: Value, members: Value) -> Value {
    for (name, value) in members.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

/// What a PUT must hold.
fn whole(members: Value) -> Value {
    with(with(example(), json!({"active": true, "sslVerification": true, "secrecyLevel": 1})), members)
}

async fn create(daemon: &Daemon, members: Value) -> String {
    let made = daemon.post(ALL, with(example(), members)).await.expect(201);
    assert_eq!(made.as_object().unwrap().len(), 1, "the answer is the id alone");
    format!("{ALL}/{}", made["id"].as_str().unwrap())
}

fn native(path: &str) -> String {
    path.replace(ALL, "/v1/subscriptions")
}

#[tokio::test]
async fn a_webhook_lives_as_the_vendor_documents_it() {
    let daemon = with_organization(ON).await;
    let path = create(&daemon, json!({"secret": "vvHkDbPeIespEKDprlvzlstDPPhLJnxG"})).await;
    let id = path.rsplit('/').next().unwrap().to_owned();
    let expected = json!({
        "id": id,
        "name": "Test Subscription",
        "url": "https://example.com",
        "scope": "ouRecursive",
        "authentication": {"type": "None"},
        "events": ["door.request.allowed", "door.request.denied", "door.request.unknown"],
        "active": true,
        "sslVerification": true,
        "secrecyLevel": 1,
        "expiresAt": null,
        "userId": "anonymous",
        "odometer": 0,
        "secret": "vvHkDbPeIespEKDprlvzlstDPPhLJnxG",
    });
    let answer = daemon.get(&path).await;
    assert_eq!(answer.header("cache-control"), "no-store", "it holds a secret");
    assert_eq!(answer.expect(200).to_string(), expected.to_string(), "member by member, in the vendor's order");
    assert_eq!(daemon.get(ALL).await.expect(200), json!([expected]));

    // The same object in the native API, and its number as an id.
    let shown = daemon.get(&native(&path)).await.expect(200);
    assert_eq!((&shown["format"], &shown["scope"]), (&json!("pdk"), &json!("recursive")));
    let by_number = format!("{ALL}/{}", shown["number"]);
    assert_eq!(daemon.get(&by_number).await.expect(200), expected);

    // What was read can be written back.
    daemon.call("PUT", &by_number, expected.clone()).await.expect(204);
    assert_eq!(daemon.get(&path).await.expect(200), expected);

    // So can be made what another one's list shows.
    let copied = daemon.post(ALL, expected.clone()).await.expect(201);
    assert_ne!(copied["id"], expected["id"]);
    daemon.call("DELETE", &format!("{ALL}/{}", copied["id"].as_str().unwrap()), Value::Null).await.expect(204);

    let body = json!({
        "name": "n",
        "url": "https://b.example/x",
        "scope": ["1070000"],
        "authentication": {"type": "Basic", "user": "u", "password": "p"},
        "events": ["door.request.allowed"],
        "active": false,
        "sslVerification": false,
        "secrecyLevel": 0,
        "expiresAt": "2027-02-01T00:00:00Z",
    });
    assert_eq!(daemon.call("PUT", &path, body.clone()).await.expect(204), Value::Null);
    let read = with(expected, with(body, json!({"expiresAt": "2027-02-01T00:00:00.000Z"})));
    assert_eq!(daemon.get(&path).await.expect(200), read, "the secret stayed");

    daemon.call("PUT", &path, whole(json!({"secret": null}))).await.expect(204);
    let read = daemon.get(&path).await.expect(200);
    assert_eq!((&read["secret"], &read["expiresAt"], &read["active"]), (&Value::Null, &Value::Null, &json!(true)));

    assert_eq!(daemon.call("DELETE", &path, Value::Null).await.expect(204), Value::Null);
    daemon.get(&path).await.expect(404);
    daemon.get(&by_number).await.expect(404);
    assert_eq!(daemon.get(ALL).await.expect(200), json!([]));
}

#[tokio::test]
async fn what_is_wrong_is_told_by_the_vendors_names() {
    let daemon = with_organization(ON).await;
    let path = create(&daemon, json!({})).await;
    let long = "x".repeat(71);
    let basic = |members: Value| json!({"authentication": with(json!({"type": "Basic"}), members)});
    for (members, told) in [
        (json!({"name": null}), "name is required"),
        (json!({"name": long}), "name must have at most 70 characters"),
        (json!({"name": 1}), "name must be a string"),
        (json!({"url": null}), "url is required"),
        (json!({"url": "http://a.example"}), "url must begin with https://"),
        (json!({"url": "https://"}), "url must"),
        (json!({"scope": null}), "scope is required"),
        (json!({"scope": "own"}), "scope must be \"ou\""),
        (json!({"scope": []}), "scope must"),
        (json!({"scope": ["1070001"]}), "scope[0] names a source that is not of"),
        (json!({"scope": ["nowhere"]}), "scope[0] names"),
        (json!({"scope": ["1070000"], "events": ["ou.created"]}), "scope may list panels only for panel events"),
        (json!({"authentication": null}), "authentication is required"),
        (json!({"authentication": {}}), "authentication.type is required"),
        (json!({"authentication": {"type": "Bearer"}}), "authentication.type must be None or Basic"),
        (basic(json!({"user": "u"})), "authentication.password is required"),
        (basic(json!({"password": "p"})), "authentication.user is required"),
        (basic(json!({"user": "u", "password": "***"})), "authentication.password must be given"),
        (json!({"events": null}), "events is required"),
        (json!({"events": ["ou.created", "door.request.allowed"]}), "events must be either"),
        (json!({"events": ["door.nonsense"]}), "events[0] \"door.nonsense\" is no event"),
        (json!({"events": ["user.created"]}), "events[0] \"user.created\" is no event"),
        (json!({"active": "yes"}), "active must be true or false"),
        (json!({"sslVerification": 1}), "sslVerification must be true or false"),
        (json!({"secrecyLevel": 3}), "secrecyLevel must be"),
        (json!({"expiresAt": "soon"}), "expiresAt must be"),
        (json!({"expiresAt": "2027-01-15T08:00:00Z"}), "expiresAt must be in the future"),
        (json!({"secret": ""}), "secret must have 1 to 255 characters"),
        (json!({"secret": "x".repeat(256)}), "secret must have 1 to 255 characters"),
        (json!({"secret": "***"}), "secret must be given"),
        (json!({"secret": 1}), "secret must be a string"),
    ] {
        for (method, path, body) in [("POST", ALL, example()), ("PUT", &path, whole(json!({})))] {
            daemon.pass(Duration::from_secs(1));
            let mut members = members.clone();
            if members["expiresAt"] == "2027-01-15T08:00:00Z" {
                members["expiresAt"] = json!(daemon.clock.now().to_string());
            }
            let refused = daemon.call(method, path, with(body, members.clone())).await.expect(400);
            let message = refused["message"].as_str().unwrap();
            assert!(message.starts_with(told) && !message.contains(';'), "{method} {members}: {message}");
            assert_eq!(refused.as_object().unwrap().len(), 1);
        }
    }
    for name in ["active", "sslVerification", "secrecyLevel"] {
        daemon.pass(Duration::from_secs(1));
        let refused = daemon.call("PUT", &path, whole(json!({name: null}))).await.expect(400);
        assert_eq!(refused["message"], format!("{name} is required"));
    }
    let all_at_once = json!({"name": long, "url": "ftp://x", "secrecyLevel": 9, "expiresAt": 1});
    let refused = daemon.post(ALL, with(example(), all_at_once)).await.expect(400);
    let message = refused["message"].as_str().unwrap();
    for name in ["name ", "; url ", "; secrecyLevel ", "; expiresAt "] {
        assert!(message.contains(name), "{message}");
    }
    daemon.pass(Duration::from_secs(1));
    let refused = daemon.post(ALL, json!([])).await.expect(400);
    assert_eq!(refused["message"], "the body must be an object, not a list");
    assert_eq!(daemon.get(ALL).await.expect(200).as_array().unwrap().len(), 1, "nothing was made");
    let read = daemon.get(&path).await.expect(200);
    assert_eq!((&read["name"], &read["secret"]), (&json!("Test Subscription"), &Value::Null), "nothing changed");
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let daemon = with_organization(ON).await;
    let path = create(&daemon, json!({})).await;
    let other = daemon.subscribe(json!({"url": "https://a.example", "organization": "acme"})).await;
    for missing in [
        format!("{ALL}/01a3185c-5000-7fbd-adbe-42f814a9bf77"),
        format!("{ALL}/{}", other["id"].as_str().unwrap()),
        format!("{ALL}/{}", other["number"]),
        format!("{ALL}/nonsense"),
        path.replace("acme", "other"),
        path.replace("acme", "nowhere"),
    ] {
        daemon.pass(Duration::from_secs(1));
        for (method, body) in [("GET", Value::Null), ("PUT", whole(json!({}))), ("DELETE", Value::Null)] {
            let refused = daemon.call(method, &missing, body).await.expect(404);
            assert!(refused["message"].as_str().unwrap().starts_with("there is no such"), "{method} {missing}");
        }
    }
    daemon.get("/pdk/api/ous/nowhere/hooks").await.expect(404);
    daemon.get("/pdk/api/nonsense").await.expect(404);
    assert_eq!(daemon.get("/pdk/api/ous/other/hooks").await.expect(200), json!([]));
    assert!(daemon.reload("").await, "switched off");
    let refused = daemon.get(ALL).await.expect(404);
    assert_eq!(refused["message"], "the API of pdk is not switched on: [dialects.pdk] enabled");
}

#[tokio::test]
async fn keys_reach_their_organizations_and_do_what_their_roles_say() {
    let keys = [
        key("admin", &["admin"], &["*"]),
        key("reader", &["read"], &["acme"]),
        key("manager", &["read", "manage"], &["acme"]),
        key("keeper", &["read", "manage", "secrets"], &["acme"]),
        key("foreign", &["admin"], &["other"]),
    ];
    let daemon = daemon_with_keys(ON, &keys).await;
    for organization in ["acme", "other"] {
        let path = format!("/v1/organizations/{organization}");
        call_as(&daemon, "admin", "PUT", &path, json!({})).await.expect(201);
    }
    let refused = daemon.post(ALL, example()).await;
    assert!(refused.header("www-authenticate").starts_with("Bearer"));
    assert!(refused.expect(401)["message"].is_string());
    let as_key = async |key: &str, method: &str, path: &str, body: Value| {
        daemon.pass(Duration::from_secs(1));
        call_as(&daemon, key, method, path, body).await
    };
    as_key("nobody", "GET", ALL, Value::Null).await.expect(401);
    as_key("reader", "POST", ALL, example()).await.expect(403);
    as_key("foreign", "POST", ALL, example()).await.expect(404);
    as_key("foreign", "GET", ALL, Value::Null).await.expect(404);

    // Levels below the default, or the stored one, need the role of secrets.
    let bare = with(example(), json!({"secrecyLevel": 0}));
    as_key("manager", "POST", ALL, bare.clone()).await.expect(403);
    as_key("keeper", "POST", ALL, bare).await.expect(201);
    let basic = json!({"type": "Basic", "user": "u", "password": "p"});
    let body = with(example(), json!({"secret": "first", "authentication": basic}));
    let made = as_key("manager", "POST", ALL, body).await.expect(201);
    let path = format!("{ALL}/{}", made["id"].as_str().unwrap());
    as_key("manager", "PUT", &path, whole(json!({"secrecyLevel": 0}))).await.expect(403);

    // Who may see secrets sees them, others see that there are some.
    let hidden = as_key("reader", "GET", &path, Value::Null).await.expect(200);
    assert_eq!((&hidden["secret"], &hidden["authentication"]["password"]), (&json!("***"), &json!("***")));
    assert_eq!(hidden["userId"], "manager");
    let seen = as_key("keeper", "GET", &path, Value::Null).await.expect(200);
    assert_eq!((&seen["secret"], &seen["authentication"]["password"]), (&json!("first"), &json!("p")));
    assert_eq!(as_key("reader", "GET", ALL, Value::Null).await.expect(200)[1]["secret"], "***");

    // What was read can be written back while it goes to the same place.
    as_key("manager", "PUT", &path, hidden.clone()).await.expect(204);
    assert_eq!(as_key("keeper", "GET", &path, Value::Null).await.expect(200), seen);
    let elsewhere = with(hidden, json!({"url": "https://thief.example"}));
    let refused = as_key("manager", "PUT", &path, elsewhere).await.expect(400);
    assert!(refused["message"].as_str().unwrap().starts_with("authentication.password must be given anew"));
    as_key("reader", "PUT", &path, whole(json!({}))).await.expect(403);
    as_key("reader", "DELETE", &path, Value::Null).await.expect(403);
    as_key("foreign", "DELETE", &path, Value::Null).await.expect(404);
    as_key("manager", "DELETE", &path, Value::Null).await.expect(204);
}

#[tokio::test]
async fn a_key_may_write_ten_times_and_ask_thirty_five_times_a_second() {
    let keys = [key("admin", &["admin"], &["*"]), key("other", &["admin"], &["*"])];
    let text = [ON.to_owned(), keys.concat()].concat();
    let daemon = daemon_with_keys(&text, &[]).await;
    call_as(&daemon, "admin", "PUT", "/v1/organizations/acme", json!({})).await.expect(201);
    let standing = |answer: &crate::support::Answer| {
        ["limit", "remaining", "reset"].map(|name| answer.header(&format!("x-ratelimit-{name}")).to_owned())
    };
    for remaining in (0..10).rev() {
        // Refusals count, and tell how much is left too.
        let body = if remaining == 3 { json!({}) } else { example() };
        let answer = call_as(&daemon, "admin", "POST", ALL, body).await;
        assert_eq!(standing(&answer), ["10", &remaining.to_string(), "1800000001"]);
        answer.expect(if remaining == 3 { 400 } else { 201 });
    }
    assert!(daemon.reload(&text).await);
    let answer = call_as(&daemon, "admin", "POST", ALL, example()).await;
    assert_eq!(standing(&answer), ["10", "0", "1800000001"]);
    assert_eq!(answer.header("retry-after"), "1");
    assert!(answer.expect(429)["message"].is_string());
    for remaining in (0..25).rev() {
        let answer = call_as(&daemon, "admin", "GET", ALL, Value::Null).await;
        assert_eq!(standing(&answer), ["35", &remaining.to_string(), "1800000001"]);
        answer.expect(200);
    }
    call_as(&daemon, "admin", "GET", ALL, Value::Null).await.expect(429);
    call_as(&daemon, "other", "GET", ALL, Value::Null).await.expect(200);
    call_as(&daemon, "admin", "GET", "/v1/subscriptions", Value::Null).await.expect(200);
    daemon.pass(Duration::from_secs(1));
    let answer = call_as(&daemon, "admin", "POST", ALL, example()).await;
    assert_eq!(standing(&answer), ["10", "9", "1800000002"]);
    answer.expect(201);
}

/// Publishes a door's event of the panel that is registered.
async fn publish(daemon: &Daemon) -> Value {
    let event = json!({"type": "door.request.allowed", "source": "1070000", "data": {"body": {"doorId": 1}}});
    daemon.post("/v1/events", event).await.expect(202)
}

#[tokio::test]
async fn it_receives_fails_is_disabled_and_comes_back() {
    let daemon = with_organization(ON).await;
    let mut receiver = Receiver::answering(|_, nth| Reply::status(if (2..4).contains(&nth) { 500 } else { 200 })).await;
    let fields = json!({"url": receiver.url, "scope": ["1070000"], "secret": "first"});
    let path = create(&daemon, fields.clone()).await;
    publish(&daemon).await;
    let received = receiver.next().await;
    assert!(verify_pdk(&received, "first"));
    assert_eq!(
        (&received.json()["topic"], &received.json()["panelId"]),
        (&json!("door.request.allowed"), &json!("1070000"))
    );
    assert_eq!(daemon.get(&path).await.expect(200)["odometer"], 1);

    // A new secret takes the old one's place at once.
    let put = async |members: Value| {
        daemon.call("PUT", &path, whole(with(fields.clone(), members))).await.expect(204);
    };
    put(json!({"secret": "second", "authentication": {"type": "Basic", "user": "u", "password": "p"}})).await;
    publish(&daemon).await;
    let received = receiver.next().await;
    assert!(verify_pdk(&received, "second"));
    assert_eq!(received.header("authorization"), "Basic dTpw");
    // What succeeded ends a row of failures: were it recorded after the first of
    // the next two, these would not be two in a row.
    daemon.until(&native(&path), |hook| hook["stats"]["attempts"] == 2).await;

    // The vendor has no limit of failures; the native API sets one, and PUT keeps it.
    let limited = json!({"failure_limit": 2, "description": "d"});
    daemon.call("PATCH", &native(&path), limited).await.expect(200);
    put(json!({"secret": null})).await;
    let delivery = daemon.delivery(&daemon.get(&native(&path)).await.expect(200), &publish(&daemon).await).await;
    assert_eq!(receiver.next().await.header("x-pdk-signature"), "", "no secret, no signature");
    daemon.attempted(&delivery, 1).await;
    daemon.pass(Duration::from_secs(60));
    receiver.next().await;
    let shown = daemon.until(&native(&path), |hook| hook["status"] == "disabled_due_to_errors").await;
    assert_eq!(shown["description"], "d");
    assert_eq!(daemon.get(&path).await.expect(200)["active"], false);
    assert_eq!(publish(&daemon).await["deliveries"], 0);
    put(json!({"active": false, "secret": "third"})).await;
    assert_eq!(daemon.get(&native(&path)).await.expect(200)["status"], "disabled_due_to_errors");

    put(json!({"active": true, "secret": "third"})).await;
    daemon.pass(Duration::from_secs(600));
    assert!(verify_pdk(&receiver.next().await, "third"), "what was pending goes on");
    daemon.in_state(&delivery, "delivered").await;
}

#[tokio::test]
async fn it_ends_at_its_time_and_needs_a_new_one_to_go_on() {
    let daemon = with_organization(ON).await;
    let path = create(&daemon, json!({"expiresAt": "2027-01-15T09:00:00Z"})).await;
    daemon.pass(Duration::from_secs(3600));
    daemon.until(&native(&path), |hook| hook["status"] == "disabled").await;
    let ended = daemon.get(&path).await.expect(200);
    assert_eq!(ended["active"], false);
    assert_eq!(ended["expiresAt"], "2027-01-15T09:00:00.000Z");
    daemon.call("PUT", &path, ended.clone()).await.expect(204);
    let refused = daemon.call("PUT", &path, with(ended.clone(), json!({"active": true}))).await.expect(400);
    assert_eq!(refused["message"], "expiresAt has passed; enabling needs a later one");
    daemon.call("PUT", &path, whole(json!({}))).await.expect(204);
    let read = daemon.get(&path).await.expect(200);
    assert_eq!((&read["active"], &read["expiresAt"]), (&json!(true), &Value::Null), "absent, it is no more");
}

/// What the vendor's API does not show must not be sent to a place that it names:
/// a key that manages webhooks and sees no secrets would have it sent to itself.
#[tokio::test]
async fn what_only_the_native_api_sets_stays_and_goes_nowhere_else() {
    let daemon = with_organization(ON).await;
    let fields = json!({
        "url": "https://a.example",
        "organization": "acme",
        "format": "pdk",
        "events": ["door.*"],
        "headers": {"X-Api-Key": "k"},
        "authentication": {"type": "bearer", "token": "t"},
        "delivery": {"timeout": "7s"},
    });
    let made = daemon.subscribe(fields).await;
    let path = format!("{ALL}/{}", made["id"].as_str().unwrap());
    let read = daemon.get(&path).await.expect(200);
    assert_eq!((&read["authentication"], &read["events"]), (&json!({"type": "Bearer"}), &json!(["door.*"])));
    daemon.call("PUT", &path, with(read.clone(), json!({"name": "n"}))).await.expect(204);
    let shown = daemon.get(&native(&path)).await.expect(200);
    assert_eq!(shown["delivery"]["timeout"], "7s");
    assert_eq!((&shown["name"], &shown["authentication"]["type"]), (&json!("n"), &json!("bearer")));
    let elsewhere = with(read, json!({"url": "https://thief.example"}));
    let refused = daemon.call("PUT", &path, elsewhere).await.expect(400);
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("headers.X-Api-Key must") && message.contains("authentication.token must"), "{message}");
}

#[tokio::test]
async fn a_new_url_is_verified_with_the_secret_that_comes_with_it() {
    let daemon = with_organization(&format!("{ON}[delivery]\nverify_urls = true\n")).await;
    let mut receiver = Receiver::answering(|_, nth| Reply::status(if nth == 2 { 500 } else { 200 })).await;
    let path = create(&daemon, json!({"url": receiver.url, "secret": "first"})).await;
    assert!(verify_pdk(&receiver.next().await, "first"));
    let moved = whole(json!({"url": format!("{}/moved", receiver.url), "secret": "second"}));
    daemon.call("PUT", &path, moved.clone()).await.expect(204);
    assert!(verify_pdk(&receiver.next().await, "second"));
    let refused = daemon.call("PUT", &path, with(moved, json!({"url": receiver.url, "secret": "third"}))).await;
    assert_eq!(refused.expect(400)["message"], "the test event was answered with status 500");
    assert_eq!(daemon.get(&path).await.expect(200)["secret"], "second", "nothing changed");
}
