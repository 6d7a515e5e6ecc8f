//! What a subscription may not be. Each case is a subscription without fault, but
//! for one change; what is told are the fields at fault.

use serde_json::{Map, Value, json};

use crate::sorted;
use crate::support::Daemon;

/// The fields told when a subscription with these changes is created. Empty: it was made.
async fn faults(daemon: &Daemon, changes: &Value) -> Vec<String> {
    let mut body = json!({"url": "https://a.example/hook", "events": ["door.opened"]});
    for (name, value) in changes.as_object().unwrap() {
        body[name] = value.clone();
    }
    let answer = daemon.post("/v1/subscriptions", body).await;
    if answer.status == 201 { Vec::new() } else { sorted(answer.refused(422, "validation_failed")) }
}

async fn check(daemon: &Daemon, cases: Vec<(Value, &[&str])>) {
    for (changes, fields) in cases {
        let told = faults(daemon, &changes).await;
        let shown: String = changes.to_string().chars().take(200).collect();
        assert_eq!(told, fields, "{shown}");
    }
}

fn long(chars: usize) -> String {
    "x".repeat(chars)
}

/// An object of that many entries.
fn entries(count: usize) -> Value {
    let entries: Map<String, Value> = (0..count).map(|index| (format!("x-{index}"), json!("v"))).collect();
    Value::Object(entries)
}

#[tokio::test]
async fn unknown_fields_are_named_wherever_they_stand() {
    let daemon = Daemon::start().await;
    check(
        &daemon,
        vec![
            (json!({"nmae": "x"}), &["nmae"]),
            (json!({"authentication": {"type": "bearer", "token": "t", "user": "u"}}), &["authentication.user"]),
            (json!({"authentication": {"type": "none", "token": "t"}}), &["authentication.token"]),
            (json!({"tls": {"verfy": false}}), &["tls.verfy"]),
            (json!({"delivery": {"timout": "1s"}}), &["delivery.timout"]),
            (json!({"delivery": {"retry": {"firts": "1s"}}}), &["delivery.retry.firts"]),
            (json!({"filter": [{"path": "/data", "op": "exists", "value": true, "not": 1}]}), &["filter[0].not"]),
            // Read-only fields are ignored, so that what was read can be written back.
            (
                json!({"id": 1, "number": "x", "stats": [], "status_reason": 2, "created_at": 3, "updated_at": 4,
                       "created_by": 5, "managed_by": 6, "declared_as": 7, "certificate_expires_at": 8}),
                &[],
            ),
        ],
    )
    .await;
    let body = json!({"url": "https://a.example", "events": [], "extrnal_id": "x"});
    let shown = daemon.post("/v1/subscriptions", body).await.expect(422);
    let message = shown["errors"][0]["message"].as_str().unwrap();
    assert!(message.contains("external_id"), "the nearest known name is told: {message}");
}

#[tokio::test]
async fn values_of_the_wrong_type_are_refused() {
    let daemon = Daemon::start().await;
    let mut cases: Vec<(Value, &[&str])> = Vec::new();
    for name in [
        "organization",
        "name",
        "description",
        "external_id",
        "url",
        "method",
        "content_type",
        "body",
        "format",
        "secret",
        "status",
        "expires_at",
    ] {
        cases.push((json!({name: 7}), std::slice::from_ref(Box::leak(Box::new(name)))));
    }
    for name in [
        "metadata",
        "form",
        "query",
        "headers",
        "authentication",
        "tls",
        "delivery",
        "events",
        "scope",
        "filter",
        "notify",
        "secrecy_level",
        "failure_limit",
    ] {
        cases.push((json!({name: "text"}), std::slice::from_ref(Box::leak(Box::new(name)))));
    }
    cases.extend([
        (json!({"events": [1]}), &["events[0]"][..]),
        (json!({"scope": [1]}), &["scope[0]"]),
        (json!({"notify": [[]]}), &["notify[0]"]),
        (json!({"filter": [1]}), &["filter[0]"]),
        (json!({"headers": {"x-a": 1}}), &["headers.x-a"]),
        (json!({"query": {"a": null}}), &["query.a"]),
        (
            json!({"authentication": {"type": "basic", "user": 1, "password": 2}}),
            &["authentication.password", "authentication.user"],
        ),
        (json!({"tls": {"verify": "no"}}), &["tls.verify"]),
        (
            json!({"delivery": {"timeout": 5, "concurrency": "3", "rate_per_second": "1", "retry": 1, "ordering": 1}}),
            &[
                "delivery.concurrency",
                "delivery.ordering",
                "delivery.rate_per_second",
                "delivery.retry",
                "delivery.timeout",
            ],
        ),
    ]);
    check(&daemon, cases).await;
    for body in [json!([]), json!("x"), json!(7)] {
        let answer = daemon.post("/v1/subscriptions", body).await;
        assert_eq!(answer.refused(422, "validation_failed"), [""]);
    }
    let answer = daemon.post("/v1/subscriptions", json!({})).await;
    assert_eq!(sorted(answer.refused(422, "validation_failed")), ["events", "url"]);
}

#[tokio::test]
async fn what_is_too_long_or_too_much_is_refused() {
    let daemon = Daemon::start().await;
    let sources: Vec<String> = (0..1001).map(|index| format!("s{index}")).collect();
    let patterns: Vec<String> = (0..201).map(|index| format!("t{index}")).collect();
    let condition = json!({"path": "/data", "op": "exists", "value": true});
    check(
        &daemon,
        vec![
            (json!({"name": long(256)}), &["name"]),
            (json!({"description": long(1025)}), &["description"]),
            (json!({"external_id": long(256)}), &["external_id"]),
            (json!({"metadata": {"x": long(4096)}}), &["metadata"]),
            (json!({"url": format!("https://a.example/{}", long(2048))}), &["url"]),
            (json!({"headers": entries(33)}), &["headers"]),
            (json!({"headers": {"x-a": long(4097)}}), &["headers.x-a"]),
            (json!({"body": format!("\"{}\"", long(64 * 1024))}), &["body"]),
            (json!({"query": entries(65)}), &["query"]),
            (json!({"query": {"q": long(4097)}}), &["query.q"]),
            (json!({"body": format!("[{}0]", "{x},".repeat(257))}), &["body"]),
            (json!({"events": patterns}), &["events"]),
            (json!({"events": [long(256)]}), &["events[0]"]),
            (json!({"scope": sources}), &["scope"]),
            (json!({"filter": vec![condition; 33]}), &["filter"]),
            (json!({"filter": [{"path": "/data", "op": "in", "value": vec![1; 101]}]}), &["filter[0].value"]),
            (json!({"notify": vec!["u"; 65]}), &["notify"]),
            (json!({"notify": [long(256)]}), &["notify[0]"]),
            (json!({"authentication": {"type": "bearer", "token": long(4097)}}), &["authentication.token"]),
            (json!({"tls": {"ca_pem": long(32 * 1024 + 1)}}), &["tls.ca_pem"]),
        ],
    )
    .await;
    check(
        &daemon,
        vec![
            (json!({"name": "é".repeat(255), "description": "é".repeat(1024), "external_id": long(255)}), &[]),
            (json!({"url": format!("https://a.example/{}", long(2048 - 18))}), &[]),
            (json!({"headers": entries(32)}), &[]),
            (json!({"headers": {"x-a": long(4096)}}), &[]),
        ],
    )
    .await;
}

#[tokio::test]
async fn bad_urls_are_refused() {
    let daemon = Daemon::with("", &[("POSTHASTE_DELIVERY_ALLOW_HTTP", "false")]).await;
    for url in [
        "",
        "hooks",
        "/hooks",
        "//a.example/x",
        "http://a.example/x",
        "HTTP://a.example/x",
        "ftp://a.example",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "unix:/run/x.sock",
        "https:a.example",
        "https://",
        "https:///x",
        "https://user@a.example",
        "https://user:pass@a.example/x",
        "https://@a.example/x",
        "https://{host}/x",
        "https://a.example:{port}/x",
        "https://{user}@a.example/x",
        "https://a{x}.example/x",
        "{scheme}://a.example/x",
        "https://a.example:99999/",
        "https://a.example/a b",
        "https://a.example/\n",
        "https://a.example\\@b.example/",
        "https://a.example/#fragment",
        "https://a.example/./x",
        "https://a.example/x/../y",
        "https://a.example/%2e%2E/y",
    ] {
        let told = faults(&daemon, &json!({"url": url})).await;
        assert_eq!(told, ["url"], "{url:?}");
    }
    for url in
        ["https://a.example", "https://a.example:8443/x/{data.door}?y={id}&z=1", "HTTPS://a.example/", "https://[::1]/"]
    {
        assert_eq!(faults(&daemon, &json!({"url": url})).await, Vec::<String>::new(), "{url}");
    }
    let oauth2 = |token_url: &str| json!({"authentication": {"type": "oauth2", "token_url": token_url, "client_id": "c", "client_secret": "s"}});
    for token_url in ["http://id.example/token", "https://u:p@id.example/token", "token", "https://id.example/#x"] {
        assert_eq!(faults(&daemon, &oauth2(token_url)).await, ["authentication.token_url"], "{token_url}");
    }
    let open = Daemon::start().await;
    assert_eq!(faults(&open, &json!({"url": "http://a.example/x"})).await, Vec::<String>::new(), "allow_http");
    assert_eq!(faults(&open, &json!({"url": "ftp://a.example/x"})).await, ["url"]);
}

#[tokio::test]
async fn reserved_and_malformed_headers_are_refused() {
    let daemon = Daemon::start().await;
    for name in [
        "Host",
        "content-length",
        "Content-Type",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "proxy-authorization",
        "Proxy-Connection",
        "webhook-id",
        "Webhook-Timestamp",
        "webhook-signature",
        "",
        "x y",
        "x:y",
        "ä",
        "x\r\ny",
    ] {
        assert_eq!(faults(&daemon, &json!({"headers": {name: "v"}})).await, [format!("headers.{name}")], "{name:?}");
    }
    for value in ["a\r\nx-evil: 1", "a\nb", "a\rb", "a\0b", "a\u{7f}", "a\u{85}"] {
        assert_eq!(faults(&daemon, &json!({"headers": {"x-a": value}})).await, ["headers.x-a"], "{value:?}");
    }
    check(
        &daemon,
        vec![
            (json!({"headers": {"x-a": "1", "X-A": "2"}}), &["headers.X-A"]),
            (
                json!({"headers": {"Authorization": "x"}, "authentication": {"type": "bearer", "token": "t"}}),
                &["headers.Authorization"],
            ),
            (json!({"headers": {"Authorization": "x"}}), &[]),
            (json!({"headers": {"x-empty": "", "x-tab": "a\tb"}}), &[]),
        ],
    )
    .await;
}

#[tokio::test]
async fn authentication_must_be_whole_and_fit_a_header() {
    let daemon = Daemon::start().await;
    check(
        &daemon,
        vec![
            (json!({"authentication": {}}), &["authentication.type"]),
            (json!({"authentication": {"type": "digest", "user": "u"}}), &["authentication.type"]),
            (json!({"authentication": {"type": "basic"}}), &["authentication.password", "authentication.user"]),
            (json!({"authentication": {"type": "basic", "user": "a:b", "password": "p"}}), &["authentication.user"]),
            (
                json!({"authentication": {"type": "basic", "user": "a", "password": "p\n"}}),
                &["authentication.password"],
            ),
            (json!({"authentication": {"type": "bearer"}}), &["authentication.token"]),
            (json!({"authentication": {"type": "bearer", "token": "a b"}}), &["authentication.token"]),
            (json!({"authentication": {"type": "bearer", "token": "a\r\nb"}}), &["authentication.token"]),
            (
                json!({"authentication": {"type": "oauth2"}}),
                &["authentication.client_id", "authentication.client_secret", "authentication.token_url"],
            ),
            (json!({"authentication": {"type": "none"}}), &[]),
        ],
    )
    .await;
}

#[tokio::test]
async fn bodies_and_methods_must_go_together() {
    let daemon = Daemon::start().await;
    check(
        &daemon,
        vec![
            (json!({"method": "HEAD"}), &["method"]),
            (json!({"method": "post"}), &["method"]),
            (json!({"content_type": "xml"}), &["content_type"]),
            (json!({"body": "not json"}), &["body"]),
            (json!({"body": "{\"a\": {data.x}"}), &["body"]),
            (json!({"body": "not json", "content_type": "text"}), &[]),
            (json!({"content_type": "form"}), &["content_type"]),
            (json!({"form": {"a": "1"}}), &["form"]),
            (json!({"form": {"a": "1"}, "content_type": "form", "body": "a=1"}), &["form"]),
            (json!({"form": {"a": "1"}, "content_type": "form", "method": "GET"}), &["form"]),
            (json!({"form": {"a": "1"}, "content_type": "form"}), &[]),
            (json!({"method": "GET"}), &[]),
            (json!({"body": "{\"door\": {data.door}, \"name\": \"{data.name}\", \"literal\": {\"a\": 1}}"}), &[]),
        ],
    )
    .await;
}

#[tokio::test]
async fn events_scope_and_filter_are_checked() {
    let daemon = Daemon::start().await;
    daemon.call("PUT", "/v1/organizations/other", json!({})).await.expect(201);
    daemon.call("PUT", "/v1/sources/foreign", json!({"organization": "other"})).await.expect(201);
    daemon.call("PUT", "/v1/sources/own", json!({})).await.expect(201);
    let filter = |path: &str, op: &str, value: Value| json!({"filter": [{"path": path, "op": op, "value": value}]});
    check(
        &daemon,
        vec![
            (json!({"events": ["door..opened"]}), &["events[0]"]),
            (json!({"events": ["a", "*.opened", "do*r"]}), &["events[1]", "events[2]"]),
            (json!({"events": ["a", "a"]}), &["events[1]"]),
            (json!({"events": []}), &[]),
            (json!({"events": ["posthaste.*", "*"]}), &[]),
            (json!({"scope": "all"}), &["scope"]),
            (json!({"scope": {}}), &["scope"]),
            (json!({"scope": []}), &["scope"]),
            (json!({"scope": ["foreign"]}), &["scope[0]"]),
            (json!({"scope": ["nowhere"]}), &["scope[0]"]),
            (json!({"scope": ["own", "foreign"]}), &["scope[1]"]),
            (json!({"scope": ["own", "own"]}), &["scope[1]"]),
            (json!({"scope": ["own"]}), &[]),
            (json!({"scope": "recursive"}), &[]),
            (filter("data", "eq", json!(1)), &["filter[0].path"]),
            (filter("/secret", "eq", json!(1)), &["filter[0].path"]),
            (filter("/data/a", "like", json!(1)), &["filter[0].op"]),
            (filter("/data/a", "lt", json!([])), &["filter[0].value"]),
            (filter("/data/a", "in", json!([])), &["filter[0].value"]),
            (filter("/data/a", "exists", json!(1)), &["filter[0].value"]),
            (filter("/data/a", "prefix", json!(1)), &["filter[0].value"]),
            (json!({"filter": [{}]}), &["filter[0].op", "filter[0].path", "filter[0].value"]),
            (filter("/data/a~1b/0", "eq", Value::Null), &[]),
            (filter("/type", "prefix", json!("door.")), &[]),
        ],
    )
    .await;
    let made = daemon.subscribe(json!({"url": "https://a.example"})).await;
    let answer = daemon.call("PATCH", &crate::path_of(&made), json!({"scope": ["foreign"]})).await;
    assert_eq!(answer.refused(422, "validation_failed"), ["scope[0]"]);
}

#[tokio::test]
async fn organizations_that_do_not_exist_have_no_subscriptions() {
    let daemon = Daemon::start().await;
    check(
        &daemon,
        vec![
            (json!({"organization": "nowhere"}), &["organization"]),
            (json!({"organization": "a b"}), &["organization"]),
            (json!({"organization": "default"}), &[]),
        ],
    )
    .await;
}

#[tokio::test]
async fn numbers_and_spans_have_their_ranges() {
    let daemon = Daemon::start().await;
    let delivery = |name: &str, value: Value| json!({"delivery": {name: value}});
    let retry = |name: &str, value: Value| json!({"delivery": {"retry": {name: value}}});
    check(
        &daemon,
        vec![
            (json!({"failure_limit": 0}), &["failure_limit"]),
            (json!({"failure_limit": 100_001}), &["failure_limit"]),
            (json!({"failure_limit": 1.5}), &["failure_limit"]),
            (json!({"failure_limit": -1}), &["failure_limit"]),
            (json!({"failure_limit": 100_000}), &[]),
            (json!({"secrecy_level": 3}), &["secrecy_level"]),
            (json!({"secrecy_level": 2}), &[]),
            (delivery("timeout", json!("999ms")), &["delivery.timeout"]),
            (delivery("timeout", json!("61s")), &["delivery.timeout"]),
            (delivery("timeout", json!("soon")), &["delivery.timeout"]),
            (delivery("timeout", json!("60s")), &[]),
            (delivery("concurrency", json!(0)), &["delivery.concurrency"]),
            (delivery("concurrency", json!(1025)), &["delivery.concurrency"]),
            (delivery("rate_per_second", json!(-0.1)), &["delivery.rate_per_second"]),
            (delivery("rate_per_second", json!(1_000_001)), &["delivery.rate_per_second"]),
            (delivery("rate_per_second", json!(0.25)), &[]),
            (retry("first", json!("99ms")), &["delivery.retry.first"]),
            (retry("first", json!("25h")), &["delivery.retry.first"]),
            (retry("factor", json!(0.9)), &["delivery.retry.factor"]),
            (retry("factor", json!(10.1)), &["delivery.retry.factor"]),
            (retry("max_delay", json!("25h")), &["delivery.retry.max_delay"]),
            (json!({"delivery": {"retry": {"first": "1m", "max_delay": "59s"}}}), &["delivery.retry.max_delay"]),
            (retry("jitter", json!(0.6)), &["delivery.retry.jitter"]),
            (retry("give_up_after", json!("59s")), &["delivery.retry.give_up_after"]),
            (retry("give_up_after", json!("31d")), &["delivery.retry.give_up_after"]),
            (retry("on", json!("never")), &["delivery.retry.on"]),
            (retry("on", json!("transient")), &[]),
        ],
    )
    .await;
}

#[tokio::test]
async fn certificates_must_be_certificates() {
    let daemon = Daemon::start().await;
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().pem();
    let key = key.serialize_pem();
    check(
        &daemon,
        vec![
            (json!({"tls": {"ca_pem": "nonsense"}}), &["tls.ca_pem"]),
            (json!({"tls": {"ca_pem": key}}), &["tls.ca_pem"]),
            (json!({"tls": {"client_cert_pem": certificate}}), &["tls.client_key_pem"]),
            (json!({"tls": {"client_key_pem": key}}), &["tls.client_cert_pem"]),
            (json!({"tls": {"client_cert_pem": certificate, "client_key_pem": certificate}}), &["tls.client_key_pem"]),
            (json!({"tls": {"client_cert_pem": certificate, "client_key_pem": key, "ca_pem": certificate}}), &[]),
        ],
    )
    .await;
}

#[tokio::test]
async fn secrets_must_be_of_the_format() {
    let daemon = Daemon::start().await;
    check(
        &daemon,
        vec![
            (json!({"secret": null}), &["secret"]),
            (json!({"secret": ""}), &["secret"]),
            (json!({"secret": "***"}), &["secret"]),
            (json!({"secret": "not a secret"}), &["secret"]),
            (json!({"secret": "whsec_AAAA"}), &["secret"]),
            (json!({"secret": "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}), &[]),
        ],
    )
    .await;
}

#[tokio::test]
async fn names_of_a_few_are_refused_with_those_there_are() {
    let daemon = Daemon::start().await;
    let ordering = |name| json!({"delivery": {"ordering": name}});
    check(&daemon, vec![(ordering("fifo"), &[]), (ordering("none"), &[]), (ordering("lifo"), &["delivery.ordering"])])
        .await;
    let message = async |changes: Value| {
        let mut body = json!({"url": "https://a.example", "events": ["a"]});
        body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let shown = daemon.post("/v1/subscriptions", body).await.expect(422);
        shown["errors"][0]["message"].as_str().unwrap().to_owned()
    };
    let told = message(ordering("lifo")).await;
    assert!(told.contains("none, fifo"), "{told}");
    assert_eq!(faults(&daemon, &json!({"format": "nonsense"})).await, ["format"]);
    let told = message(json!({"format": "nonsense"})).await;
    assert!(told.contains("standard, peridio, pdk"), "what is spoken is told: {told}");
}

#[tokio::test]
async fn pdk_subscriptions_are_for_one_kind_of_events() {
    let daemon = Daemon::start().await;
    let pdk = |events: &[&str]| json!({"format": "pdk", "events": events});
    for (events, fields) in [
        (&["ou.created", "door.opened"][..], &["events"][..]),
        (&["panel.*"], &["events[0]"]),
        (&["ou.*", "*"], &["events[1]"]),
    ] {
        assert_eq!(faults(&daemon, &pdk(events)).await, fields, "{events:?}");
    }
    for events in [["ou.created", "permission.*"], ["door.*", "panel.connected"]] {
        daemon.subscribe(json!({"url": "https://a.example", "format": "pdk", "events": events})).await;
    }
}

#[tokio::test]
async fn all_faults_are_told_at_once() {
    let daemon = Daemon::start().await;
    let changes = json!({
        "url": "ftp://a.example",
        "nmae": "x",
        "description": 7,
        "events": ["a..b"],
        "headers": {"Host": "x", "x-a": "a\nb"},
        "authentication": {"type": "bearer", "token": "a b"},
        "failure_limit": 0,
        "expires_at": "2020-01-01T00:00:00Z",
        "tls": {"ca_pem": "x"},
        "delivery": {"timeout": "1ms", "ordering": "lifo"},
        "filter": [{"path": "x", "op": "eq", "value": 1}],
        "organization": "nowhere",
        "notify": [""],
    });
    assert_eq!(
        faults(&daemon, &changes).await,
        [
            "authentication.token",
            "delivery.ordering",
            "delivery.timeout",
            "description",
            "events[0]",
            "expires_at",
            "failure_limit",
            "filter[0].path",
            "headers.Host",
            "headers.x-a",
            "nmae",
            "notify[0]",
            "organization",
            "tls.ca_pem",
            "url",
        ]
    );
}

/// Faulty items were dropped before the rest was looked at: what stood behind them
/// was told under another item's index.
#[tokio::test]
async fn items_of_lists_are_told_by_their_own_index() {
    let daemon = Daemon::start().await;
    check(
        &daemon,
        vec![
            (json!({"events": [1, "a..b", "c", "c"]}), &["events[0]", "events[1]", "events[3]"][..]),
            (json!({"events": ["a..b", "*", "b..c"]}), &["events[0]", "events[2]"]),
            (json!({"notify": [1, "u", ""]}), &["notify[0]", "notify[2]"]),
            (json!({"scope": [1, "", "nowhere"]}), &["scope[0]", "scope[1]", "scope[2]"]),
            (
                json!({"filter": [1, {"path": "/type", "op": "like", "value": 1}, {"path": "data", "op": "eq", "value": 1},
                                  {"path": "b", "value": 1}, {"path": "/type", "op": "lt", "value": []}]}),
                &["filter[0]", "filter[1].op", "filter[2].path", "filter[3].op", "filter[3].path", "filter[4].value"],
            ),
        ],
    )
    .await;
    let path = crate::path_of(&daemon.subscribe(json!({"url": "https://a.example"})).await);
    let body = json!({"since": "2026-01-01T00:00:00Z", "states": [1, "lost"], "events": [1, "a..b"]});
    let answer = daemon.post(&format!("{path}/replay"), body).await;
    assert_eq!(sorted(answer.refused(422, "validation_failed")), ["events[0]", "events[1]", "states[0]", "states[1]"]);
}
