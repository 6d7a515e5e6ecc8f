//! Peridio's management API, and a webhook's life through it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Answer, Daemon, Receiver, Reply};
use crate::{daemon, verify_peridio};

const ON: &str = "[dialects.peridio]\nenabled = true\n";
const ALL: &str = "/peridio/webhooks";

/// A webhook made for that URL, with its secret.
async fn create(daemon: &Daemon, url: &str, events: &[&str]) -> Value {
    let made = daemon.post(ALL, json!({"url": url, "enabled_events": events})).await;
    made.expect(201)["webhook"].clone()
}

fn path(webhook: &Value) -> String {
    format!("{ALL}/{}", webhook["prn"].as_str().unwrap())
}

/// Where the native API has it.
fn native(webhook: &Value) -> String {
    format!("/v1/subscriptions/{}", webhook["prn"].as_str().unwrap().rsplit(':').next().unwrap())
}

/// The messages of that field, which alone is at fault.
#[track_caller]
fn only_fault(answer: Answer, field: &str) -> Vec<Value> {
    let errors = answer.expect(422)["errors"].clone();
    let fields: Vec<&String> = errors.as_object().unwrap().keys().collect();
    assert_eq!(fields, [field], "{errors}");
    errors[field].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_webhook_lives_as_the_vendor_documents_it() {
    let daemon = daemon(ON).await;
    let mut receiver = Receiver::start().await;
    let body = json!({
        "url": receiver.url,
        "description": "device monitoring",
        "enabled_events": ["device.connected", "device.release-changed", "device.claimed_release"],
        "whatever": 1,
    });
    let answer = daemon.post(ALL, body).await;
    assert_eq!(answer.header("cache-control"), "no-store");
    let mut made = answer.expect(201)["webhook"].clone();
    let secret = made.as_object_mut().unwrap().shift_remove("secret").unwrap();
    let secret = secret.as_str().unwrap();
    let prn = made["prn"].as_str().unwrap().to_owned();
    assert!(prn.starts_with("prn:1:default:webhook:"), "{prn}");
    let documented = json!({
        "prn": prn,
        "organization_prn": "prn:1:default",
        "url": receiver.url,
        "description": "device monitoring",
        "enabled_events": ["device.connected", "device.release-changed", "device.claimed_release"],
        "state": "enabled",
        "inserted_at": "2027-01-15T08:00:00Z",
        "updated_at": "2027-01-15T08:00:00Z",
    });
    assert_eq!(made.to_string(), documented.to_string());
    let verification = receiver.next().await;
    assert!(verify_peridio(&verification, secret), "it was signed with the secret that is to be its");
    assert_eq!(verification.json()["data"]["type"], "test_fire");

    assert_eq!(daemon.get(&path(&made)).await.expect(200), json!({"webhook": made}), "without the secret");
    assert_eq!(daemon.get(ALL).await.expect(200), json!({"webhooks": [made], "next_page": null}));
    let shown = daemon.get(&native(&made)).await.expect(200);
    assert_eq!((&shown["format"], &shown["organization"]), (&json!("peridio"), &json!("default")));

    // What an update leaves out stays; what names it may stand there too.
    daemon.pass(Duration::from_secs(5));
    let updated = daemon.call("PATCH", &path(&made), json!({"prn": prn, "description": null})).await.expect(200);
    let mut expected = made.clone();
    expected["description"] = Value::Null;
    expected["updated_at"] = json!("2027-01-15T08:00:05Z");
    assert_eq!(updated, json!({"webhook": expected}));
    let events = json!({"enabled_events": ["api_key.created"], "description": "d"});
    let updated = daemon.call("PATCH", &path(&made), events).await.expect(200)["webhook"].clone();
    assert_eq!((&updated["enabled_events"], &updated["description"]), (&json!(["api_key.created"]), &json!("d")));
    assert_eq!(receiver.total(), 1, "the URL is as it was");

    // Another URL is verified, in the webhook's own name.
    let mut other = Receiver::start().await;
    let updated = daemon.call("PATCH", &path(&made), json!({"url": other.url})).await.expect(200);
    assert_eq!(updated["webhook"]["url"], other.url);
    let verification = other.next().await;
    assert!(verify_peridio(&verification, secret));
    assert_eq!(verification.json()["data"]["data"], json!({"webhook_prn": prn}));

    let answer = daemon.call("DELETE", &path(&made), Value::Null).await;
    assert!(answer.body.is_empty());
    answer.expect(204);
    let told = daemon.get(&path(&made)).await.expect(404);
    assert_eq!(told, json!({"errors": {"detail": "there is no such webhook"}}));
    assert_eq!(daemon.get(ALL).await.expect(200), json!({"webhooks": [], "next_page": null}));
}

#[tokio::test]
async fn lists_go_page_by_page_in_either_order_and_are_searched() {
    let daemon = daemon(ON).await;
    let receiver = Receiver::start().await;
    let mut prns = Vec::new();
    for number in 0..12 {
        let body = json!({"url": receiver.url, "description": format!("Webhook {number}")});
        let made = daemon.post(ALL, body).await.expect(201)["webhook"].clone();
        assert_eq!(made["enabled_events"], json!([]));
        prns.push(made["prn"].clone());
        daemon.pass(Duration::from_secs(1));
    }
    let list = async |query: &str| {
        let encoded = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(query.split('&').filter_map(|pair| pair.split_once('=')))
            .finish();
        let listed = daemon.get(&format!("{ALL}?{encoded}")).await.expect(200);
        let found: Vec<Value> = listed["webhooks"].as_array().unwrap().iter().map(|it| it["prn"].clone()).collect();
        (found, listed["next_page"].clone())
    };
    let (first, next) = list("").await;
    assert_eq!(first, prns[..10], "ten, oldest first");
    assert_eq!(list(&format!("page={}", next.as_str().unwrap())).await, (prns[10..].to_vec(), Value::Null));

    let newest_first: Vec<Value> = prns.iter().rev().cloned().collect();
    let (mut all, mut page) = list("order=desc&limit=5").await;
    while let Some(next) = page.as_str() {
        let (found, following) = list(&format!("order=desc&limit=5&page={next}")).await;
        assert!(found.len() <= 5);
        all.extend(found);
        page = following;
    }
    assert_eq!(all, newest_first);
    assert_eq!(list("order=asc&limit=100").await, (prns.clone(), Value::Null));

    for (search, found) in [
        ("", &prns[..10]),
        (
            "organization_prn:'prn:1:default' and description~'ook 1'",
            &[prns[1].clone(), prns[10].clone(), prns[11].clone()],
        ),
        ("description:'Webhook 3'", &prns[3..4]),
        ("description:'webhook 3'", &[]),
        ("inserted_at>='2027-01-15T08:00:03Z' and inserted_at<'2027-01-15T08:00:05Z'", &prns[3..5]),
        (&format!("prn:'{}'", prns[7].as_str().unwrap()), &prns[7..8]),
    ] {
        assert_eq!(list(&format!("search={search}")).await.0, found, "{search}");
    }
    // Pages of what was searched for.
    let (found, next) = list("limit=2&search=description~'ook 1'").await;
    assert_eq!(found, [prns[1].clone(), prns[10].clone()]);
    let following = list(&format!("limit=2&search=description~'ook 1'&page={}", next.as_str().unwrap())).await;
    assert_eq!(following, (vec![prns[11].clone()], Value::Null));

    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=ten", "limit"),
        ("order=up", "order"),
        ("page=first", "page"),
        ("search=url:%27a%27", "search"),
    ] {
        only_fault(daemon.get(&format!("{ALL}?{query}")).await, field);
    }
    let told = daemon.get(&format!("{ALL}?search=organization_prn:%27prn:1:nowhere%27")).await.expect(404);
    assert_eq!(told, json!({"errors": {"detail": "there is no such organization"}}));
}

#[tokio::test]
async fn what_is_wrong_is_told_as_the_vendor_does() {
    let daemon = daemon(ON).await;
    let receiver = Receiver::start().await;
    let url = &receiver.url;
    let made = create(&daemon, url, &[]).await;
    let long = |chars: usize| format!("{url}/{}", "x".repeat(chars - url.len() - 1));
    for (body, field) in [
        (json!({}), "url"),
        (json!({"url": 1}), "url"),
        (json!({"url": "http://a.example"}), "url"),
        (json!({"url": "ftp://a.example"}), "url"),
        (json!({"url": long(1029)}), "url"),
        (json!({"url": url, "enabled_events": ["device.nonsense"]}), "enabled_events"),
        (json!({"url": url, "enabled_events": ["user.created"]}), "enabled_events"),
        (json!({"url": url, "enabled_events": ["device.*"]}), "enabled_events"),
        (json!({"url": url, "enabled_events": [1, "a"]}), "enabled_events"),
        (json!({"url": url, "enabled_events": "device.connected"}), "enabled_events"),
        (json!({"url": url, "description": 1}), "description"),
        (json!({"url": url, "description": "x".repeat(1025)}), "description"),
        (json!({"url": url, "organization_prn": "default"}), "organization_prn"),
    ] {
        assert!(!only_fault(daemon.post(ALL, body).await, field).is_empty());
    }
    for (body, field) in [
        (json!({"url": "http://a.example"}), "url"),
        (json!({"state": "paused"}), "state"),
        (json!({"enabled_events": ["device.nonsense"]}), "enabled_events"),
    ] {
        only_fault(daemon.call("PATCH", &path(&made), body).await, field);
    }
    for body in [json!({"webhook_ttl": 604_801}), json!({"webhook_ttl": -1}), json!({"webhook_ttl": "1"})] {
        let told = only_fault(daemon.post(&format!("{}/roll_secret", path(&made)), body).await, "webhook_ttl");
        assert_eq!(told, [json!("must be a whole number of seconds from 0 to 604800 (7 days)")]);
    }
    assert_eq!(
        daemon.post(ALL, json!([])).await.expect(422)["errors"]["detail"],
        "the body must be an object, not a list"
    );
    assert_eq!(receiver.total(), 1, "nothing was sent");
    create(&daemon, &long(1028), &["webhook.test_fire"]).await;

    let missing = format!("{ALL}/prn:1:default:webhook:01a3185c-5000-7fbd-adbe-42f814a9bf77");
    let of_another_kind = path(&made).replace(":webhook:", ":device:");
    let elsewhere = path(&made).replace(":default:", ":other:");
    let other = daemon.subscribe(json!({"url": "https://a.example"})).await;
    let of_another_format = format!("{ALL}/prn:1:default:webhook:{}", other["id"].as_str().unwrap());
    daemon.call("PUT", "/v1/organizations/other", json!({})).await.expect(201);
    for path in [&missing, &of_another_kind, &elsewhere, &of_another_format, &format!("{ALL}/1")] {
        for (method, path) in [
            ("GET", path.clone()),
            ("PATCH", path.clone()),
            ("DELETE", path.clone()),
            ("POST", format!("{path}/roll_secret")),
            ("POST", format!("{path}/test_fire")),
        ] {
            let told = daemon.call(method, &path, Value::Null).await.expect(404);
            assert_eq!(told, json!({"errors": {"detail": "there is no such webhook"}}), "{method} {path}");
        }
    }
    for (answer, status) in [
        (daemon.get("/peridio/nonsense").await, 404),
        (daemon.call("PUT", &path(&made), json!({})).await, 405),
        (daemon.call_with("POST", ALL, json!({}), &[("content-encoding", "gzip")]).await, 415),
        (daemon.call_with("GET", ALL, Value::Null, &[("host", "evil.example")]).await, 421),
    ] {
        assert_eq!(answer.header("peridio-request-id"), answer.header("x-request-id"));
        assert!(!answer.header("peridio-request-id").is_empty());
        let told = answer.expect(status);
        assert!(told["errors"]["detail"].is_string(), "{told}");
    }
    let answer = daemon.call_with("GET", ALL, Value::Null, &[("x-request-id", "mine")]).await;
    assert_eq!((answer.status, answer.header("peridio-request-id")), (200, "mine"));
    assert_eq!(daemon.get("/v1/subscriptions").await.header("peridio-request-id"), "", "it is this vendor's alone");

    let off = crate::daemon("").await;
    let told = off.get(ALL).await.expect(404);
    assert_eq!(told["errors"]["detail"], "the API of peridio is not switched on: [dialects.peridio] enabled");
}

#[tokio::test]
async fn a_url_that_fails_its_verification_changes_nothing() {
    let daemon = daemon(ON).await;
    let refusing = Receiver::answering(|_, _| Reply::status(204)).await;
    let told = only_fault(daemon.post(ALL, json!({"url": refusing.url})).await, "url");
    assert_eq!(told, [json!("the test event was answered with status 204")]);
    assert_eq!(daemon.get("/v1/subscriptions").await.expect(200)["data"], json!([]), "nothing is stored");

    let mut receiver = Receiver::answering(|_, nth| Reply::status(if nth == 1 { 500 } else { 200 })).await;
    let made = create(&daemon, &receiver.url, &[]).await;
    receiver.next().await;
    only_fault(daemon.call("PATCH", &path(&made), json!({"url": refusing.url, "description": "d"})).await, "url");
    let shown = daemon.get(&path(&made)).await.expect(200)["webhook"].clone();
    assert_eq!((&shown["url"], &shown["description"]), (&made["url"], &Value::Null));

    // While it is disabled, a URL is written unseen, and verified once it is enabled.
    let state = async |state: &str| daemon.call("PATCH", &path(&made), json!({"state": state})).await;
    assert_eq!(state("disabled").await.expect(200)["webhook"]["state"], "disabled");
    only_fault(state("enabled").await, "url");
    receiver.next().await;
    assert_eq!(daemon.get(&path(&made)).await.expect(200)["webhook"]["state"], "disabled");
    assert_eq!(state("enabled").await.expect(200)["webhook"]["state"], "enabled");
}

#[tokio::test]
async fn secrets_roll_and_both_sign_until_the_old_one_ends() {
    let daemon = daemon(ON).await;
    let mut receiver = Receiver::start().await;
    let made = create(&daemon, &receiver.url, &["device.connected"]).await;
    receiver.next().await;
    let roll = async |body: Value| {
        let answer = daemon.post(&format!("{}/roll_secret", path(&made)), body).await;
        assert_eq!(answer.header("cache-control"), "no-store");
        let rolled = answer.expect(200)["webhook"].clone();
        assert_eq!(rolled["prn"], made["prn"]);
        rolled["secret"].as_str().unwrap().to_owned()
    };
    let first = made["secret"].as_str().unwrap();
    let second = roll(json!({"webhook_ttl": 60})).await;
    assert_ne!(first, second);
    daemon.publish("device.connected", json!({})).await;
    let received = receiver.next().await;
    assert!(verify_peridio(&received, first) && verify_peridio(&received, &second));
    let signatures = received.header("peridio-signature");
    assert_eq!((signatures.len(), signatures.find(',')), (64 + 1 + 64, Some(64)), "{signatures}");

    daemon.pass(Duration::from_secs(60));
    daemon.publish("device.connected", json!({})).await;
    let received = receiver.next().await;
    assert!(!verify_peridio(&received, first) && verify_peridio(&received, &second));

    let third = roll(Value::Null).await;
    daemon.publish("device.connected", json!({})).await;
    let received = receiver.next().await;
    assert_eq!(received.header("peridio-signature").len(), 64);
    assert!(verify_peridio(&received, &third), "without a time the old one ends at once");
    let longest = roll(json!({"webhook_ttl": 604_800})).await;
    assert_eq!(longest.len(), 32);
    for _ in 0..3 {
        roll(json!({"webhook_ttl": 60})).await;
    }
    let told = daemon.post(&format!("{}/roll_secret", path(&made)), json!({"webhook_ttl": 60})).await.expect(409);
    assert_eq!(told, json!({"errors": {"detail": "too many secrets are valid at the same time"}}));
}

#[tokio::test]
async fn a_test_fire_is_sent_now_and_shown_as_it_was_sent() {
    let daemon = daemon(ON).await;
    let mut receiver = Receiver::answering(|_, nth| Reply::status(if nth == 2 { 500 } else { 200 })).await;
    let made = create(&daemon, &receiver.url, &[]).await;
    receiver.next().await;
    let fire = format!("{}/test_fire", path(&made));
    let answer = daemon.post(&fire, Value::Null).await;
    let received = receiver.next().await;
    assert!(verify_peridio(&received, made["secret"].as_str().unwrap()), "whatever its enabled events are");
    assert_eq!(answer.body, format!(r#"{{"event":{}}}"#, String::from_utf8_lossy(&received.body)));
    let event = answer.expect(200)["event"].clone();
    assert_eq!(event["data"], json!({"type": "test_fire", "data": {"webhook_prn": made["prn"]}}));

    let told = only_fault(daemon.post(&fire, Value::Null).await, "url");
    assert_eq!(told, [json!("the test event was answered with status 500")]);
    daemon.call("PATCH", &path(&made), json!({"state": "disabled"})).await.expect(200);
    assert_eq!(only_fault(daemon.post(&fire, Value::Null).await, "state"), [json!("must be enabled")]);
    assert_eq!(receiver.total(), 3);
}

#[tokio::test]
async fn an_organization_has_no_more_webhooks_than_it_may() {
    let daemon = daemon(&format!("{ON}webhooks_max = 2\n")).await;
    let receiver = Receiver::start().await;
    let first = create(&daemon, &receiver.url, &[]).await;
    create(&daemon, &receiver.url, &[]).await;
    let told = only_fault(daemon.post(ALL, json!({"url": receiver.url})).await, "organization_prn");
    assert_eq!(told, [json!("has 2 webhooks, the most that it may have")]);
    assert_eq!(receiver.total(), 2);
    daemon.call("PUT", "/v1/organizations/other", json!({})).await.expect(201);
    let body = json!({"url": receiver.url, "organization_prn": "prn:1:other"});
    assert_eq!(daemon.post(ALL, body).await.expect(201)["webhook"]["organization_prn"], "prn:1:other");
    daemon.call("DELETE", &path(&first), Value::Null).await.expect(204);
    create(&daemon, &receiver.url, &[]).await;
}

#[tokio::test]
async fn keys_reach_their_organizations_and_do_what_their_roles_say() {
    let keys = |name: &str, roles: &str, organizations: &str| {
        let sha256 = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(name));
        format!(
            "[[api_keys]]\nname = \"{name}\"\nsha256 = \"{sha256}\"\nroles = [{roles}]\norganizations = [{organizations}]\n"
        )
    };
    let text = [
        ON.to_owned(),
        "organization = \"acme\"\n".to_owned(),
        keys("admin", "\"admin\"", "\"*\""),
        keys("acme", "\"manage\", \"read\"", "\"acme\""),
        keys("other", "\"manage\", \"read\"", "\"other\""),
        keys("two", "\"read\"", "\"other\", \"third\""),
        keys("reader", "\"read\"", "\"acme\""),
    ]
    .concat();
    let daemon = Daemon::with(&text, &[("POSTHASTE_SERVICE_AUTH", "keys")]).await;
    let receiver = Receiver::start().await;
    let with = async |key: &str, method: &str, path: &str, body: Value| {
        daemon.call_with(method, path, body, &[("authorization", key)]).await
    };
    for organization in ["acme", "other", "third"] {
        let path = format!("/v1/organizations/{organization}");
        with("Bearer admin", "PUT", &path, json!({})).await.expect(201);
    }
    let body = json!({"url": receiver.url});
    let told = daemon.post(ALL, body.clone()).await.expect(401);
    assert!(told["errors"]["detail"].is_string(), "{told}");
    for key in ["Bearer nobody", "Basic acme", "acme"] {
        with(key, "GET", ALL, Value::Null).await.expect(401);
    }
    let forbidden = with("Token reader", "POST", ALL, body.clone()).await.expect(403);
    assert_eq!(forbidden, json!({"status": "forbidden"}));

    // The key's only organization, by either scheme; else the configured one; else the one named.
    let made = |answer: Answer| answer.expect(201)["webhook"].clone();
    let of_other = made(with("Token other", "POST", ALL, body.clone()).await);
    assert_eq!(of_other["organization_prn"], "prn:1:other");
    let of_acme = made(with("bearer admin", "POST", ALL, body.clone()).await);
    assert_eq!(of_acme["organization_prn"], "prn:1:acme");
    let named = json!({"url": receiver.url, "organization_prn": "prn:1:third"});
    assert_eq!(made(with("Bearer admin", "POST", ALL, named.clone()).await)["organization_prn"], "prn:1:third");
    with("Bearer acme", "POST", ALL, named).await.expect(404);
    with("Bearer two", "GET", ALL, Value::Null).await.expect(404);
    let listed = with("Token reader", "GET", ALL, Value::Null).await.expect(200);
    assert_eq!(listed["webhooks"][0]["prn"], of_acme["prn"]);
    assert_eq!(listed["webhooks"].as_array().unwrap().len(), 1);

    // What is foreign is not there.
    with("Token reader", "GET", &path(&of_acme), Value::Null).await.expect(200);
    with("Bearer admin", "GET", &path(&of_other), Value::Null).await.expect(200);
    with("Token reader", "DELETE", &path(&of_acme), Value::Null).await.expect(403);
    for (method, suffix) in
        [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/roll_secret"), ("POST", "/test_fire")]
    {
        let path = format!("{}{suffix}", path(&of_other));
        let told = with("Token acme", method, &path, Value::Null).await.expect(404);
        assert_eq!(told, json!({"errors": {"detail": "there is no such webhook"}}));
    }
}

/// Whoever may write URLs here, but not see credentials, must not have those that
/// the native API set sent to themselves.
#[tokio::test]
async fn credentials_do_not_move_to_another_host() {
    let daemon = daemon(ON).await;
    let (receiver, thief) = (Receiver::start().await, Receiver::start().await);
    let made = create(&daemon, &receiver.url, &[]).await;
    for credentials in [
        json!({"headers": {"X-Api-Key": "k"}}),
        json!({"headers": {}, "authentication": {"type": "bearer", "token": "t"}}),
    ] {
        daemon.call("PATCH", &native(&made), credentials).await.expect(200);
        only_fault(daemon.call("PATCH", &path(&made), json!({"url": thief.url})).await, "url");
        let within = json!({"url": format!("{}/elsewhere", receiver.url)});
        daemon.call("PATCH", &path(&made), within).await.expect(200);
    }
    assert_eq!(thief.total(), 0);
}

#[tokio::test]
async fn what_the_native_api_wrote_can_be_written_back() {
    let daemon = daemon(ON).await;
    let mut receiver = Receiver::start().await;
    let fields = json!({"url": receiver.url, "format": "peridio", "events": ["device.*"], "failure_limit": 7});
    let subscription = daemon.subscribe(fields).await;
    receiver.next().await;
    let prn = format!("prn:1:default:webhook:{}", subscription["id"].as_str().unwrap());
    let shown = daemon.get(&format!("{ALL}/{prn}")).await.expect(200)["webhook"].clone();
    assert_eq!(shown["enabled_events"], json!(["device.*"]));
    let written = daemon.call("PATCH", &path(&shown), shown.clone()).await.expect(200)["webhook"].clone();
    assert_eq!(written, shown);
    let added = json!({"enabled_events": ["device.*", "api_key.created"]});
    daemon.call("PATCH", &path(&shown), added).await.expect(200);
    assert_eq!(daemon.get(&native(&shown)).await.expect(200)["failure_limit"], 7);
    daemon.publish("device.updated", json!({})).await;
    assert_eq!(receiver.next().await.json()["data"]["type"], "updated");
}

#[tokio::test]
async fn it_receives_fails_is_disabled_and_comes_back() {
    let daemon = daemon(ON).await;
    // The first request verifies it, the third comes to nobody any more.
    let mut receiver = Receiver::answering(|_, nth| Reply::status(if nth == 2 { 410 } else { 200 })).await;
    let made = create(&daemon, &receiver.url, &["device.release_changed"]).await;
    let secret = made["secret"].as_str().unwrap();
    receiver.next().await;
    let publish = async || daemon.publish("device.release-changed", json!({"device": {"identifier": "SN1337"}})).await;

    publish().await;
    let received = receiver.next().await;
    assert!(verify_peridio(&received, secret));
    let body = received.json();
    assert_eq!((&body["version"], &body["type"]), (&json!(1), &json!("device")));
    assert_eq!(
        body["data"],
        json!({"type": "release-changed", "data": {"device": {"identifier": "SN1337"}}}),
        "the setting spells what is sent, not the webhook"
    );
    assert_eq!(daemon.publish("device.connected", json!({})).await["deliveries"], 0);

    publish().await;
    receiver.next().await;
    daemon.until(&path(&made), |shown| shown["webhook"]["state"] == "disabled").await;
    assert_eq!(publish().await["deliveries"], 0);
    // What was read and is written back does not hide why.
    daemon.call("PATCH", &path(&made), json!({"state": "disabled", "description": "d"})).await.expect(200);
    assert_eq!(daemon.get(&native(&made)).await.expect(200)["status"], "disabled_due_to_errors");

    daemon.call("PATCH", &path(&made), json!({"state": "enabled"})).await.expect(200);
    assert_eq!(receiver.next().await.json()["data"]["type"], "test_fire", "it is verified first");
    // What was pending goes on, by its schedule.
    daemon.pass(Duration::from_secs(15));
    let pending = receiver.next().await;
    assert!(verify_peridio(&pending, secret));
    assert_eq!(pending.json()["data"]["type"], "release-changed");
}
