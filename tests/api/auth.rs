//! Keys: which role each route needs, and what a key of one organization reaches.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use crate::support::Daemon;
use crate::{call_as, daemon_with_keys, key, path_of, sorted, texts, token};

/// Every route that needs a key: method, path, role, whether for all organizations.
const ROUTES: &[(&str, &str, &str, bool)] = &[
    ("GET", "/metrics", "read", true),
    ("GET", "/v1/stats", "read", true),
    ("GET", "/v1/audit", "admin", false),
    ("GET", "/v1/backup", "admin", true),
    ("POST", "/v1/resume", "admin", true),
    ("POST", "/v1/declarations/plan", "read", true),
    ("GET", "/v1/organizations", "read", false),
    ("GET", "/v1/organizations/x", "read", false),
    ("PUT", "/v1/organizations/x", "manage", false),
    ("DELETE", "/v1/organizations/x", "manage", false),
    ("GET", "/v1/sources", "read", false),
    ("GET", "/v1/sources/x", "read", false),
    ("PUT", "/v1/sources/x", "manage", false),
    ("DELETE", "/v1/sources/x", "manage", false),
    ("GET", "/v1/event-types", "read", false),
    ("GET", "/v1/event-types/x", "read", false),
    ("PUT", "/v1/event-types/x", "manage", true),
    ("DELETE", "/v1/event-types/x", "manage", true),
    ("POST", "/v1/events", "publish", false),
    ("POST", "/v1/events/batch", "publish", false),
    ("GET", "/v1/events", "read", false),
    ("GET", "/v1/events/x", "read", false),
    ("POST", "/v1/subscriptions", "manage", false),
    ("GET", "/v1/subscriptions", "read", false),
    ("GET", "/v1/subscriptions/x", "read", false),
    ("PUT", "/v1/subscriptions/x", "manage", false),
    ("PATCH", "/v1/subscriptions/x", "manage", false),
    ("DELETE", "/v1/subscriptions/x", "manage", false),
    ("POST", "/v1/subscriptions/x/test", "manage", false),
    ("POST", "/v1/subscriptions/x/enable", "manage", false),
    ("POST", "/v1/subscriptions/x/disable", "manage", false),
    ("GET", "/v1/subscriptions/x/secret", "secrets", false),
    ("POST", "/v1/subscriptions/x/secret/rotate", "manage", false),
    ("POST", "/v1/subscriptions/x/replay", "manage", false),
    ("POST", "/v1/subscriptions/x/cancel", "manage", false),
    ("GET", "/v1/subscriptions/x/deliveries", "read", false),
    ("GET", "/v1/deliveries", "read", false),
    ("GET", "/v1/deliveries/x", "read", false),
    ("POST", "/v1/deliveries/x/retry", "manage", false),
    ("POST", "/v1/deliveries/x/cancel", "manage", false),
];

#[tokio::test]
async fn each_route_needs_its_role() {
    let roles = ["publish", "read", "manage", "secrets", "admin"];
    let mut keys: Vec<String> = roles.iter().map(|role| key(role, &[role], &["*"])).collect();
    keys.push(key("limited", &["admin"], &["acme"]));
    let daemon = daemon_with_keys(&keys).await;
    for (method, path, role, for_all) in ROUTES {
        for caller in roles {
            let answer = call_as(&daemon, caller, method, path, Value::Null).await;
            let is_let_in = caller == *role || caller == "admin";
            assert_eq!(answer.status != 403, is_let_in, "{caller}: {method} {path}: {}", answer.status);
            if !is_let_in {
                let detail = answer.json()["detail"].as_str().unwrap().to_owned();
                assert!(detail.contains(role), "the role is named: {detail}");
                answer.refused(403, "forbidden");
            }
        }
        let answer = call_as(&daemon, "limited", method, path, Value::Null).await;
        assert_eq!(answer.status == 403, *for_all, "limited: {method} {path}: {}", answer.status);
    }
}

#[tokio::test]
async fn every_route_of_the_description_is_in_that_table() {
    let daemon = Daemon::start().await;
    let document = daemon.get("/openapi.json").await.expect(200);
    let mut described = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            if operation.get("security").is_some() {
                let path = path.replace("{id}", "x").replace("{name}", "x");
                described.push(format!("{} {path}", method.to_uppercase()));
            }
        }
    }
    let tested = ROUTES.iter().map(|(method, path, ..)| format!("{method} {path}")).collect();
    assert_eq!(sorted(described), sorted(tested));
}

#[tokio::test]
async fn without_a_known_key_nothing_but_health_is_answered() {
    let expiring = format!("{}expires_at = \"2027-01-15T08:01:00Z\"\n", key("expiring", &["admin"], &["*"]));
    let daemon = daemon_with_keys(&[key("known", &["admin"], &["*"]), expiring]).await;
    for (method, path, ..) in ROUTES {
        let answer = daemon.call(method, path, Value::Null).await;
        assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"posthaste\"", "{method} {path}");
        answer.refused(401, "unauthenticated");
    }
    let known = token("known");
    for authorization in [
        "Bearer ph_unknown".to_owned(),
        "Bearer ".to_owned(),
        known.clone(),
        format!("Basic {known}"),
        format!("Bearer {}", known.to_uppercase()),
        format!("Bearer {known}x"),
    ] {
        let answer = daemon.call_with("GET", "/v1/stats", Value::Null, &[("authorization", &authorization)]).await;
        answer.refused(401, "unauthenticated");
    }
    daemon
        .call_with("GET", "/v1/stats", Value::Null, &[("authorization", &format!("bearer {known}"))])
        .await
        .expect(200);
    for path in ["/healthz", "/readyz", "/openapi.json"] {
        daemon.get(path).await.expect(200);
    }
    daemon.get("/v1/nothing").await.refused(404, "not_found");

    call_as(&daemon, "expiring", "GET", "/v1/stats", Value::Null).await.expect(200);
    daemon.pass(Duration::from_secs(60));
    let answer = call_as(&daemon, "expiring", "GET", "/v1/stats", Value::Null).await;
    assert!(answer.header("www-authenticate").contains("invalid_token"));
    answer.refused(401, "expired_key");
}

/// `acme` has the child `unit`, `other` stands beside it. Each has a source, a
/// subscription and an event with one delivery, which are answered as paths of an
/// organization's things.
struct World {
    daemon: Daemon,
    paths: Vec<(&'static str, Vec<String>)>,
}

async fn world() -> World {
    let roles = ["publish", "read", "manage", "secrets", "admin"];
    let keys = [key("all", &roles, &["*"]), key("acme", &roles, &["acme"]), key("unit", &roles, &["unit"])];
    let daemon = daemon_with_keys(&keys).await;
    let mut paths = Vec::new();
    for (organization, parent) in [("acme", Value::Null), ("unit", json!("acme")), ("other", Value::Null)] {
        let all = async |method: &str, path: &str, body: Value| call_as(&daemon, "all", method, path, body).await;
        all("PUT", &format!("/v1/organizations/{organization}"), json!({"parent": parent})).await.expect(201);
        let source = format!("/v1/sources/source-{organization}");
        all("PUT", &source, json!({"organization": organization})).await.expect(201);
        let body = json!({"organization": organization, "url": "https://127.0.0.1:1/", "events": ["*"]});
        let subscription = path_of(&all("POST", "/v1/subscriptions", body).await.expect(201));
        let event = json!({"type": "a", "organization": organization, "data": organization});
        let event = all("POST", "/v1/events", event).await.expect(202);
        let event = format!("/v1/events/{}", event["id"].as_str().unwrap());
        let delivery = all("GET", &event, Value::Null).await.expect(200)["deliveries"][0]["id"].clone();
        let delivery = format!("/v1/deliveries/{}", delivery.as_str().unwrap());
        paths.push((
            organization,
            vec![format!("/v1/organizations/{organization}"), source, subscription, event, delivery],
        ));
    }
    World { daemon, paths }
}

#[tokio::test]
async fn a_key_reaches_its_organization_and_those_below() {
    let World { daemon, paths } = world().await;
    for (caller, reached) in [("all", &["acme", "unit", "other"][..]), ("acme", &["acme", "unit"]), ("unit", &["unit"])]
    {
        for (organization, paths) in &paths {
            for path in paths {
                let answer = call_as(&daemon, caller, "GET", path, Value::Null).await;
                if reached.contains(organization) {
                    answer.expect(200);
                } else {
                    answer.refused(404, "not_found");
                }
            }
        }
        for (list, pointer) in [
            ("/v1/organizations", "/id"),
            ("/v1/sources", "/organization"),
            ("/v1/subscriptions", "/organization"),
            ("/v1/events", "/organization"),
            ("/v1/deliveries", "/organization"),
        ] {
            let listed = call_as(&daemon, caller, "GET", list, Value::Null).await.expect(200);
            let mut organizations = sorted(texts(listed["data"].as_array().unwrap(), pointer));
            organizations.retain(|organization| organization != "default");
            assert_eq!(
                organizations,
                sorted(reached.iter().map(|name| (*name).to_owned()).collect()),
                "{caller} {list}"
            );
        }
        for list in ["/v1/sources", "/v1/subscriptions", "/v1/events", "/v1/deliveries"] {
            let asked = call_as(&daemon, caller, "GET", &format!("{list}?organization=other"), Value::Null).await;
            let found = asked.expect(200)["data"].as_array().unwrap().len();
            assert_eq!(found == 1, reached.contains(&"other"), "{caller} {list}");
        }
        let audit = call_as(&daemon, caller, "GET", "/v1/audit?limit=500", Value::Null).await.expect(200);
        for entry in audit["data"].as_array().unwrap() {
            assert!(reached.iter().any(|name| entry["organization"] == *name), "{caller} {entry}");
        }
        assert_eq!(audit["data"].as_array().unwrap().len(), 3 * reached.len(), "{caller}");
    }
}

#[tokio::test]
async fn what_a_key_does_not_reach_it_does_not_change() {
    let World { daemon, paths } = world().await;
    let body = json!({"url": "https://a.example", "events": []});
    let replay = json!({"since": "2026-01-01T00:00:00Z", "states": ["failed"]});
    for (organization, paths) in &paths {
        let [own, source, subscription, _, delivery] = &paths[..] else { panic!("five paths") };
        if *organization == "unit" {
            continue;
        }
        for (method, path, body) in [
            ("PUT", own.clone(), json!({"parent": "unit"})),
            ("DELETE", own.clone(), Value::Null),
            ("PUT", source.clone(), json!({"organization": "unit"})),
            ("DELETE", source.clone(), Value::Null),
            ("PUT", subscription.clone(), body.clone()),
            ("PATCH", subscription.clone(), json!({})),
            ("DELETE", subscription.clone(), Value::Null),
            ("POST", format!("{subscription}/test"), Value::Null),
            ("POST", format!("{subscription}/enable"), Value::Null),
            ("POST", format!("{subscription}/disable"), Value::Null),
            ("GET", format!("{subscription}/secret"), Value::Null),
            ("POST", format!("{subscription}/secret/rotate"), Value::Null),
            ("POST", format!("{subscription}/replay"), replay.clone()),
            ("POST", format!("{subscription}/cancel"), Value::Null),
            ("GET", format!("{subscription}/deliveries"), Value::Null),
            ("POST", format!("{delivery}/retry"), Value::Null),
            ("POST", format!("{delivery}/cancel"), Value::Null),
        ] {
            call_as(&daemon, "unit", method, &path, body).await.refused(404, "not_found");
        }
    }
    let unit = async |method: &str, path: &str, body: Value| call_as(&daemon, "unit", method, path, body).await;
    let root = unit("PUT", "/v1/organizations/new-root", json!({})).await;
    root.refused(403, "forbidden");
    for parent in ["acme", "other", "nowhere"] {
        let answer = unit("PUT", "/v1/organizations/new", json!({"parent": parent})).await;
        assert_eq!(answer.refused(422, "validation_failed"), ["parent"], "{parent}: the same whether it is there");
    }
    for organization in ["acme", "other", "nowhere", "default"] {
        let source = unit("PUT", "/v1/sources/new", json!({"organization": organization})).await;
        assert_eq!(source.refused(422, "validation_failed"), ["organization"]);
        let mut body = body.clone();
        body["organization"] = json!(organization);
        let subscription = unit("POST", "/v1/subscriptions", body).await;
        assert_eq!(subscription.refused(422, "validation_failed"), ["organization"]);
    }
    unit("PUT", "/v1/organizations/unit", json!({"name": "renamed", "parent": "acme"})).await.expect(200);
    unit("PUT", "/v1/organizations/below", json!({"parent": "unit"})).await.expect(201);
    unit("PUT", "/v1/sources/new", json!({"organization": "below"})).await.expect(201);
}

#[tokio::test]
async fn a_recursive_subscriptions_deliveries_are_its_owners() {
    let World { daemon, .. } = world().await;
    let body = json!({"organization": "acme", "url": "https://127.0.0.1:1/", "events": ["b"], "scope": "recursive"});
    let subscription = path_of(&call_as(&daemon, "acme", "POST", "/v1/subscriptions", body).await.expect(201));
    let event = json!({"type": "b", "organization": "unit", "data": 1});
    let published = call_as(&daemon, "unit", "POST", "/v1/events", event).await.expect(202);
    assert_eq!(published["deliveries"], 2);
    let event = format!("/v1/events/{}", published["id"].as_str().unwrap());
    let seen = async |caller: &str| {
        let shown = call_as(&daemon, caller, "GET", &event, Value::Null).await.expect(200);
        let deliveries = shown["deliveries"].as_array().unwrap().clone();
        let listed = call_as(&daemon, caller, "GET", "/v1/deliveries?type=b", Value::Null).await.expect(200);
        assert_eq!(sorted(texts(&deliveries, "/id")), sorted(texts(listed["data"].as_array().unwrap(), "/id")));
        deliveries.len()
    };
    assert_eq!(
        (seen("acme").await, seen("unit").await),
        (2, 1),
        "the owner of the endpoint is not told to those below"
    );
    // Once the subscription is gone, its deliveries stay its owner's.
    call_as(&daemon, "acme", "DELETE", &subscription, Value::Null).await.expect(204);
    assert_eq!((seen("acme").await, seen("unit").await), (2, 1));
}

#[tokio::test]
async fn keys_change_with_a_reload() {
    let daemon = daemon_with_keys(&[key("old", &["read"], &["*"])]).await;
    let ask = async |caller: &str| call_as(&daemon, caller, "GET", "/v1/stats", Value::Null).await.status;
    assert_eq!((ask("old").await, ask("new").await), (200, 401));
    assert!(daemon.reload(&key("new", &["read"], &["*"])).await);
    assert_eq!((ask("old").await, ask("new").await), (401, 200));
}

/// Who was let in stays in until the answer, and the connection stays.
#[tokio::test]
async fn a_request_in_flight_keeps_its_key_over_a_reload() {
    let daemon = daemon_with_keys(&[key("old", &["publish"], &["*"])]).await;
    let body = r#"{"type": "door.opened", "data": 1}"#;
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
        daemon.address,
        token("old"),
        body.len()
    );
    let stream = tokio::net::TcpStream::connect(daemon.address).await.unwrap();
    let mut stream = BufReader::new(stream);
    for (status, is_reloaded) in [("202", true), ("401", false)] {
        stream.write_all(head.as_bytes()).await.unwrap();
        if is_reloaded {
            // Asked for its body, it has been let in.
            assert!(status_line(&mut stream).await.contains("100"));
            assert!(daemon.reload(&key("new", &["publish"], &["*"])).await);
            stream.write_all(body.as_bytes()).await.unwrap();
        }
        let line = status_line(&mut stream).await;
        assert!(line.contains(status), "{line}");
    }
}

/// The first line of an answer; its headers and its body are passed over.
async fn status_line(stream: &mut BufReader<tokio::net::TcpStream>) -> String {
    let (mut first, mut length) = (String::new(), 0);
    stream.read_line(&mut first).await.unwrap();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    first
}

/// A reload with `auth = "none"` and a loopback `listen` passed the file's own
/// check, while the listeners in force were still those that everybody reaches:
/// the API stood open to the network.
#[tokio::test]
async fn a_reload_does_not_open_listeners_that_others_reach() {
    let ops = key("ops", &["admin"], &["*"]);
    let open = format!("[service]\nlisten = [\"0.0.0.0:0\"]\nauth = \"keys\"\n{ops}");
    let variables = [("POSTHASTE_SERVICE_LISTEN", ""), ("POSTHASTE_SERVICE_AUTH", "")];
    let daemon = Daemon::with(&open, &variables).await;
    let host = format!("localhost:{}", daemon.address.port());
    let ask = async |name: &str| {
        let authorization = format!("Bearer {}", token(name));
        let headers = [("host", &host[..]), ("authorization", &authorization)];
        daemon.call_with("GET", "/v1/stats", Value::Null, &headers).await.status
    };
    assert_eq!((ask("ops").await, ask("nobody").await), (200, 401));
    let added = key("added", &["read"], &["*"]);
    assert!(!daemon.reload(&format!("[service]\nlisten = [\"127.0.0.1:0\"]\nauth = \"none\"\n{ops}{added}")).await);
    assert_eq!((ask("ops").await, ask("nobody").await, ask("added").await), (200, 401, 401), "nothing changes");
    assert!(daemon.reload(&format!("[service]\nlisten = [\"127.0.0.1:0\"]\nauth = \"keys\"\n{ops}{added}")).await);
    // What was read last is not what is listened at.
    assert!(!daemon.reload(&format!("[service]\nlisten = [\"127.0.0.1:0\"]\nauth = \"none\"\n{ops}")).await);
    assert_eq!((ask("ops").await, ask("nobody").await, ask("added").await), (200, 401, 200));
}

/// A source of another tenant kept a key from publishing under that source's name,
/// and told that the name was taken, and by whom: 404 or "another organization".
#[tokio::test]
async fn a_source_out_of_reach_is_as_good_as_unregistered() {
    let keys = [key("ops", &["admin"], &["*"]), key("acme", &["publish", "read", "manage"], &["acme"])];
    let daemon = daemon_with_keys(&keys).await;
    for organization in ["acme", "other"] {
        let path = format!("/v1/organizations/{organization}");
        call_as(&daemon, "ops", "PUT", &path, json!({})).await.expect(201);
    }
    call_as(&daemon, "ops", "PUT", "/v1/sources/panel", json!({"organization": "other"})).await.expect(201);
    for source in ["panel", "unregistered"] {
        let event = json!({"type": "a", "organization": "acme", "source": source, "data": 1});
        let published = call_as(&daemon, "acme", "POST", "/v1/events", event.clone()).await.expect(202);
        let path = format!("/v1/events/{}", published["id"].as_str().unwrap());
        let shown = call_as(&daemon, "acme", "GET", &path, Value::Null).await.expect(200);
        assert_eq!((&shown["organization"], &shown["source"]), (&json!("acme"), &json!(source)));
        let event = json!({"type": "a", "source": source, "data": 1});
        let refused = call_as(&daemon, "acme", "POST", "/v1/events", event).await;
        refused.refused(404, "not_found");
        let body = json!({"organization": "acme", "url": "https://a.example", "events": [], "scope": [source]});
        let refused = call_as(&daemon, "acme", "POST", "/v1/subscriptions", body).await;
        assert_eq!(refused.refused(422, "validation_failed"), ["scope[0]"], "{source}");
        let path = format!("/v1/sources/{source}");
        call_as(&daemon, "acme", "GET", &path, Value::Null).await.refused(404, "not_found");
        call_as(&daemon, "acme", "DELETE", &path, Value::Null).await.refused(404, "not_found");
    }
    // Who reaches it is still told of a contradiction.
    let event = json!({"type": "a", "organization": "acme", "source": "panel", "data": 1});
    let refused = call_as(&daemon, "ops", "POST", "/v1/events", event).await;
    assert_eq!(refused.refused(422, "validation_failed"), ["source"]);
}
