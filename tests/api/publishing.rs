//! Publishing: one event or a batch, once each, byte for byte.

use std::time::Duration;

use http::Request;
use serde_json::{Value, json};

use crate::support::{Answer, Daemon};
use crate::{call_as, daemon_with_keys, key, send_bytes};

const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";

async fn publish_with_key(daemon: &Daemon, idempotency_key: &str, event: Value) -> Answer {
    daemon.call_with("POST", "/v1/events", event, &[("idempotency-key", idempotency_key)]).await
}

#[tokio::test]
async fn an_event_is_taken_and_read_back_whole() {
    let daemon = Daemon::start().await;
    let event = json!({
        "type": "door.request.allowed",
        "organization": "acme",
        "source": "panel:1",
        "subject": "Käse",
        "occurred_at": "2026-03-17T15:30:00.5+01:00",
        "event_id": "mine/1",
        "data": {"door": 7},
    });
    let answer = daemon.post("/v1/events", event.clone()).await.expect(202);
    let id = answer["id"].as_str().unwrap().to_owned();
    assert_eq!(answer, json!({"id": id, "event_id": "mine/1", "duplicate": false, "deliveries": 0}));
    assert!(id.len() == 36 && &id[14..15] == "7", "a UUIDv7: {id}");
    let mut shown = daemon.get(&format!("/v1/events/{id}")).await.expect(200);
    assert_eq!(shown["occurred_at"], "2026-03-17T14:30:00.500Z");
    assert_eq!(shown["accepted_at"], daemon.clock.now().to_string());
    assert_eq!(shown["deliveries"], json!([]));
    shown["occurred_at"] = event["occurred_at"].clone();
    for (name, value) in event.as_object().unwrap() {
        assert_eq!(&shown[name], value, "{name}");
    }
    // The organization was first named by a caller for all: it is a root now.
    assert_eq!(daemon.get("/v1/organizations/acme").await.expect(200)["parent"], Value::Null);
}

#[tokio::test]
async fn what_is_left_out_is_filled_in() {
    let daemon = Daemon::start().await;
    let id = daemon.publish("a", Value::Null).await["id"].as_str().unwrap().to_owned();
    let shown = daemon.get(&format!("/v1/events/{id}")).await.expect(200);
    let now = daemon.clock.now().to_string();
    assert_eq!(
        shown,
        json!({"id": id, "type": "a", "organization": "default", "source": null, "subject": null, "occurred_at": now,
               "accepted_at": now, "event_id": null, "data": null, "deliveries": []})
    );
}

#[tokio::test]
async fn the_publishers_bytes_come_back_as_they_were() {
    let daemon = Daemon::start().await;
    for data in [
        "1.0",
        "1e3",
        "-0",
        "123456789012345678901234567890",
        "0.1000000000000000055511151231257827",
        "1E+400",
        r#"{"b":1,"a":2,"b":3}"#,
        "{ \"spaced\" :\t[ 1 ,2 ]\n}",
        r#""\" \\ \/ \b \f \n \r \t \u0041 \u00e9 \ud83d\ude00 \ud800 é 😀""#,
        r#"{"":{"\u0061":null}}"#,
        "[]",
        "true",
    ] {
        let body = format!(r#"{{"type":"a","data":{data}}}"#);
        let published = send_bytes(&daemon, "POST", "/v1/events", JSON, body).await.expect(202);
        let shown = daemon.get(&format!("/v1/events/{}", published["id"].as_str().unwrap())).await;
        let text = String::from_utf8(shown.body.to_vec()).unwrap();
        assert!(text.contains(&format!(r#""data":{data},"deliveries""#)), "{data} in {text}");
        let listed = daemon.get("/v1/events?limit=1").await;
        let text = String::from_utf8(listed.body.to_vec()).unwrap();
        assert!(text.contains(&format!(r#""data":{data}}}"#)), "{data} in {text}");
    }
}

#[tokio::test]
async fn faulty_events_are_refused_with_all_their_fields() {
    let daemon = Daemon::start().await;
    let long = "x".repeat(256);
    let cases = [
        (json!({"data": 1}), &["type"][..]),
        (json!({"type": "a"}), &["data"]),
        (json!({"type": "a", "data": 1, "dta": 2}), &["dta"]),
        (json!({"type": 1, "data": 1}), &["type"]),
        (json!({"type": "a..b", "data": 1}), &["type"]),
        (json!({"type": "a.*", "data": 1}), &["type"]),
        (json!({"type": long, "data": 1}), &["type"]),
        (json!({"type": "posthaste.test", "data": 1}), &["type"]),
        (json!({"type": "a", "data": 1, "organization": "a b"}), &["organization"]),
        (json!({"type": "a", "data": 1, "source": long}), &["source"]),
        (json!({"type": "a", "data": 1, "subject": long}), &["subject"]),
        (json!({"type": "a", "data": 1, "event_id": long}), &["event_id"]),
        (json!({"type": "a", "data": 1, "event_id": ""}), &["event_id"]),
        (json!({"type": "a", "data": 1, "occurred_at": 7}), &["occurred_at"]),
        (json!({"type": "a", "data": 1, "occurred_at": "2026-03-17"}), &["occurred_at"]),
        (json!([]), &[""]),
        (
            json!({"type": 1, "organization": 2, "source": 3, "subject": 4, "occurred_at": 5, "event_id": 6, "ids": 7}),
            &["type", "organization", "source", "subject", "occurred_at", "event_id", "ids", "data"],
        ),
    ];
    for (event, fields) in cases {
        let answer = daemon.post("/v1/events", event.clone()).await;
        assert_eq!(answer.refused(422, "validation_failed"), fields, "{event}");
    }
    let twice = r#"{"type":"a","type":"b","data":1}"#;
    let answer = send_bytes(&daemon, "POST", "/v1/events", JSON, twice).await;
    assert_eq!(answer.refused(422, "validation_failed"), ["type"]);
    for idempotency_key in ["", &long] {
        let answer = publish_with_key(&daemon, idempotency_key, json!({"type": "a", "data": 1})).await;
        assert_eq!(answer.refused(422, "validation_failed"), ["idempotency-key"]);
    }
    assert_eq!(daemon.get("/v1/events").await.expect(200)["data"], json!([]), "nothing was taken");
}

#[tokio::test]
async fn a_body_that_is_not_json_is_refused_with_its_place() {
    let daemon = Daemon::start().await;
    // As long as they are not closed, they might be too deep, too.
    let unclosed = format!("{{\"type\":\"a\",\"data\":{}\n", "[".repeat(200));
    for (path, body, line, column) in [
        ("/v1/events", &*unclosed, 2, 0),
        ("/v1/events", "{\n  \"type\": oops}", 2, 11),
        ("/v1/events", "{\"type\":\"a\",\"data\":01}", 1, 21),
        ("/v1/events", "{\"type\":\"a\",\"data\":1} x", 1, 23),
        ("/v1/events/batch", "[\n1,\n]", 3, 1),
        ("/v1/subscriptions", "{\"url\":\n\n}", 3, 1),
    ] {
        let answer = send_bytes(&daemon, "POST", path, JSON, body.to_owned()).await;
        let shown = answer.json();
        assert_eq!(answer.refused(400, "invalid_json"), Vec::<String>::new(), "{body}");
        assert_eq!((&shown["line"], &shown["column"]), (&json!(line), &json!(column)), "{body}: {shown}");
    }
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    for body in
        [&b""[..], b"{\"type\":\"a\",\"data\":\"\xff\"}", format!("{{\"type\":\"a\",\"data\":{deep}}}").as_bytes()]
    {
        let answer = send_bytes(&daemon, "POST", "/v1/events", JSON, body.to_vec()).await;
        answer.refused(400, "invalid_json");
    }
}

#[tokio::test]
async fn a_body_over_its_limit_is_refused() {
    let daemon = Daemon::start().await;
    let event = |bytes: usize| {
        let frame = r#"{"type":"a","data":""}"#.len();
        format!(r#"{{"type":"a","data":"{}"}}"#, "x".repeat(bytes - frame))
    };
    let limit = 2 * 1024 * 1024;
    send_bytes(&daemon, "POST", "/v1/events", JSON, event(limit)).await.expect(202);
    send_bytes(&daemon, "POST", "/v1/events", JSON, event(limit + 1)).await.refused(413, "too_large");
    for path in ["/v1/subscriptions", "/v1/subscriptions/x/test"] {
        let body = format!("{{\"type\":\"{}\"}}", "x".repeat(256 * 1024));
        send_bytes(&daemon, "POST", path, JSON, body).await.refused(413, "too_large");
    }
    let large = format!("[{},{}]", event(limit + 1), event(100));
    let results = send_bytes(&daemon, "POST", "/v1/events/batch", JSON, large).await.expect(200);
    assert_eq!((&results["data"][0]["status"], &results["data"][1]["status"]), (&json!(413), &json!(202)));
    let larger = "x".repeat(16 * 1024 * 1024 + 1);
    send_bytes(&daemon, "POST", "/v1/events/batch", NDJSON, larger).await.refused(413, "too_large");
}

#[tokio::test]
async fn a_body_of_another_type_is_refused() {
    let daemon = Daemon::start().await;
    let event = r#"{"type":"a","data":1}"#;
    for (path, content_type) in [
        ("/v1/events", "text/plain"),
        ("/v1/events", "application/x-www-form-urlencoded"),
        ("/v1/events", NDJSON),
        ("/v1/events/batch", "text/csv"),
    ] {
        let answer = send_bytes(&daemon, "POST", path, content_type, event).await;
        answer.refused(415, "unsupported_media_type");
    }
    send_bytes(&daemon, "POST", "/v1/events", "Application/JSON; charset=utf-8", event).await.expect(202);
    let compressed = Request::builder().method("POST").uri("/v1/events").header("content-encoding", "gzip");
    daemon.send(compressed.body(event.into()).unwrap()).await.refused(415, "unsupported_media_type");
}

#[tokio::test]
async fn the_same_event_again_is_a_duplicate_of_the_first() {
    let daemon = Daemon::start().await;
    daemon.subscribe(json!({"url": "https://127.0.0.1:1/"})).await;
    let event = json!({"type": "a", "event_id": "e1", "occurred_at": "2026-01-01T00:00:00Z", "data": {"n": 1}});
    let first = daemon.post("/v1/events", event.clone()).await.expect(202);
    assert_eq!((&first["duplicate"], &first["deliveries"]), (&json!(false), &json!(1)));
    let again = daemon.post("/v1/events", event.clone()).await.expect(200);
    assert_eq!(again, json!({"id": first["id"], "event_id": "e1", "duplicate": true, "deliveries": 1}));

    for (name, other) in [
        ("data", json!({"n": 2})),
        ("type", json!("b")),
        ("source", json!("panel")),
        ("subject", json!("s")),
        ("occurred_at", json!("2026-01-02T00:00:00Z")),
    ] {
        let mut changed = event.clone();
        changed[name] = other;
        let answer = daemon.post("/v1/events", changed).await;
        assert_eq!(answer.json()["event"], first["id"], "{name}: the first one is named");
        answer.refused(409, "idempotency_conflict");
    }
    let mut elsewhere = event.clone();
    elsewhere["organization"] = json!("acme");
    assert_ne!(daemon.post("/v1/events", elsewhere).await.expect(202)["id"], first["id"], "of another organization");
    assert_eq!(daemon.get("/v1/events").await.expect(200)["data"].as_array().unwrap().len(), 2);

    daemon.pass(Duration::from_secs(72 * 3600 - 1));
    daemon.post("/v1/events", event.clone()).await.expect(200);
    daemon.pass(Duration::from_secs(1));
    let anew = daemon.post("/v1/events", event).await.expect(202);
    assert_ne!(anew["id"], first["id"], "after 72 hours it is another event");
}

#[tokio::test]
async fn the_idempotency_key_goes_before_the_events_own_id() {
    let daemon = Daemon::start().await;
    let event = json!({"type": "a", "event_id": "e1", "data": 1});
    let first = publish_with_key(&daemon, "k1", event.clone()).await.expect(202);
    let again = publish_with_key(&daemon, "k1", event.clone()).await.expect(200);
    assert_eq!((&again["id"], &again["duplicate"]), (&first["id"], &json!(true)));
    let other = json!({"type": "a", "event_id": "e1", "data": 2});
    publish_with_key(&daemon, "k1", other).await.refused(409, "idempotency_conflict");
    let second = publish_with_key(&daemon, "k2", event).await.expect(202);
    assert_ne!(second["id"], first["id"], "another key is another event");
}

#[tokio::test]
async fn an_event_belongs_to_its_sources_organization() {
    let daemon = Daemon::start().await;
    daemon.call("PUT", "/v1/organizations/acme", json!({})).await.expect(201);
    daemon.call("PUT", "/v1/sources/panel", json!({"organization": "acme"})).await.expect(201);
    for (event, owner) in [
        (json!({"type": "a", "source": "panel", "data": 1}), "acme"),
        (json!({"type": "a", "source": "unknown", "data": 1}), "default"),
        (json!({"type": "a", "source": "panel", "organization": "acme", "data": 1}), "acme"),
    ] {
        let id = daemon.post("/v1/events", event.clone()).await.expect(202)["id"].as_str().unwrap().to_owned();
        assert_eq!(daemon.get(&format!("/v1/events/{id}")).await.expect(200)["organization"], owner, "{event}");
    }
    let foreign = json!({"type": "a", "source": "panel", "organization": "default", "data": 1});
    assert_eq!(daemon.post("/v1/events", foreign).await.refused(422, "validation_failed"), ["source"]);
}

#[tokio::test]
async fn a_key_publishes_only_where_it_reaches() {
    let daemon = daemon_with_keys(&[key("all", &["admin"], &["*"]), key("acme", &["publish"], &["acme"])]).await;
    let publish = async |caller: &str, organization: &str| {
        let event = json!({"type": "a", "organization": organization, "data": 1});
        call_as(&daemon, caller, "POST", "/v1/events", event).await
    };
    publish("acme", "acme").await.refused(404, "not_found");
    publish("all", "acme").await.expect(202);
    publish("acme", "acme").await.expect(202);
    publish("acme", "first-named").await.refused(404, "not_found");
    publish("acme", "default").await.refused(404, "not_found");
    call_as(&daemon, "all", "PUT", "/v1/organizations/acme-eu", json!({"parent": "acme"})).await.expect(201);
    publish("acme", "acme-eu").await.expect(202);
    let batch =
        json!([{"type": "a", "organization": "acme", "data": 1}, {"type": "a", "organization": "x", "data": 1}]);
    let results = call_as(&daemon, "acme", "POST", "/v1/events/batch", batch).await.expect(200);
    assert_eq!((&results["data"][0]["status"], &results["data"][1]["status"]), (&json!(202), &json!(404)));
}

#[tokio::test]
async fn a_batch_answers_for_each_event_in_order() {
    let daemon = Daemon::start().await;
    daemon.post("/v1/events", json!({"type": "a", "event_id": "known", "data": 1})).await.expect(202);
    let items = [
        r#"{"type":"a","data":1.0,"event_id":"first"}"#,
        r#"{"type":"a","event_id":"known","data":1}"#,
        r#"{"type":"a"}"#,
        r#"{"type":"a","event_id":"known","data":2}"#,
        r#"{"type":"a","event_id":"first","data":1.0}"#,
        r#"7"#,
        r#"{"type":"b","organization":"acme","data":null}"#,
    ];
    let array = format!(" [ {} ] ", items.join(" ,\n"));
    let lines = format!("{}\r\n\r\n", items.join("\n"));
    for (content_type, body, first) in [(JSON, array, 202), (NDJSON, lines, 200)] {
        let answer = send_bytes(&daemon, "POST", "/v1/events/batch", content_type, body).await.expect(200);
        let results = answer["data"].as_array().unwrap();
        let statuses: Vec<u64> = results.iter().map(|result| result["status"].as_u64().unwrap()).collect();
        assert_eq!(statuses, [first, 200, 422, 409, 200, 422, 202], "{content_type}");
        assert_eq!((&results[0]["event_id"], &results[0]["duplicate"]), (&json!("first"), &json!(first == 200)));
        assert_eq!(results[4]["id"], results[0]["id"], "twice in one batch");
        assert_eq!(results[2]["code"], "validation_failed");
        assert_eq!(results[2]["errors"][0]["field"], "data");
        assert_eq!(results[3]["code"], "idempotency_conflict");
        let shown = daemon.get(&format!("/v1/events/{}", results[6]["id"].as_str().unwrap())).await.expect(200);
        assert_eq!(shown["organization"], "acme");
    }
    // A line that is not JSON fails alone; within an array nothing can be told apart.
    let lines = "{\"type\":\n{\"type\":\"a\",\"data\":1}";
    let answer = send_bytes(&daemon, "POST", "/v1/events/batch", NDJSON, lines).await.expect(200);
    assert_eq!((&answer["data"][0]["code"], &answer["data"][1]["status"]), (&json!("invalid_json"), &json!(202)));
    send_bytes(&daemon, "POST", "/v1/events/batch", JSON, format!("[{lines}]")).await.refused(400, "invalid_json");
}

#[tokio::test]
async fn a_batch_has_its_limits() {
    let daemon = Daemon::start().await;
    let batch = |count: usize| json!(vec![json!({"type": "a", "data": 1}); count]);
    let full = daemon.post("/v1/events/batch", batch(1000)).await.expect(200);
    assert!(full["data"].as_array().unwrap().iter().all(|result| result["status"] == 202));
    let refused = async |answer: Answer| answer.refused(422, "validation_failed");
    assert_eq!(refused(daemon.post("/v1/events/batch", batch(1001)).await).await, [""]);
    assert_eq!(refused(daemon.post("/v1/events/batch", json!({"type": "a", "data": 1})).await).await, [""]);
    let named = daemon.call_with("POST", "/v1/events/batch", batch(1), &[("idempotency-key", "k")]).await;
    assert_eq!(refused(named).await, ["idempotency-key"]);
    assert_eq!(daemon.post("/v1/events/batch", json!([])).await.expect(200), json!({"data": []}));
    let lines = "{\"type\":\"a\",\"data\":1}\n".repeat(1001);
    assert_eq!(refused(send_bytes(&daemon, "POST", "/v1/events/batch", NDJSON, lines).await).await, [""]);
    assert_eq!(daemon.get("/v1/stats").await.expect(200)["events"], 1000);
}

#[tokio::test]
async fn of_those_who_publish_the_same_at_once_one_is_first() {
    let daemon = Daemon::start().await;
    let event = json!({"type": "a", "event_id": "e", "data": 1});
    let publish = || daemon.post("/v1/events", event.clone());
    let answers: [Answer; 6] = tokio::join!(publish(), publish(), publish(), publish(), publish(), publish()).into();
    let statuses = crate::sorted(answers.iter().map(|answer| answer.status).collect());
    assert_eq!(statuses, [200, 200, 200, 200, 200, 202]);
    let ids: std::collections::BTreeSet<String> =
        answers.iter().map(|answer| answer.json()["id"].to_string()).collect();
    assert_eq!(ids.len(), 1);
}

#[tokio::test]
async fn fields_that_are_null_are_as_good_as_missing() {
    let daemon = Daemon::start().await;
    let event = json!({"type": "a", "organization": null, "source": null, "subject": null, "occurred_at": null,
                       "event_id": null, "data": null});
    let id = daemon.post("/v1/events", event).await.expect(202)["id"].as_str().unwrap().to_owned();
    let shown = daemon.get(&format!("/v1/events/{id}")).await.expect(200);
    assert_eq!((&shown["organization"], &shown["event_id"]), (&json!("default"), &Value::Null));
}

#[tokio::test]
async fn a_full_store_refuses_events_and_still_answers() {
    let daemon = Daemon::with("", &[("POSTHASTE_STORAGE_MAX_BYTES", "2 MiB")]).await;
    let event = json!({"type": "a", "data": "x".repeat(256 * 1024)});
    let mut taken = 0;
    let refusal = loop {
        // Room is looked at now and then.
        daemon.pass(Duration::from_secs(1));
        let answer = daemon.post("/v1/events", event.clone()).await;
        if answer.status != 202 {
            break answer;
        }
        taken += 1;
        assert!(taken < 64, "2 MiB are never full");
    };
    assert!(refusal.header("retry-after").parse::<u64>().is_ok(), "{refusal:?}");
    refusal.refused(507, "storage_full");
    assert!(taken > 0);
    assert_eq!(daemon.get("/v1/events?type=a").await.expect(200)["data"].as_array().unwrap().len(), taken);
    let batch = daemon.post("/v1/events/batch", json!([event])).await;
    batch.refused(507, "storage_full");
}

/// The list around a batch's events counted as a level of theirs.
#[tokio::test]
async fn an_event_may_nest_as_deep_in_a_batch_as_alone() {
    let daemon = Daemon::start().await;
    let event = |levels: usize| {
        let (open, close) = ("[".repeat(levels - 1), "]".repeat(levels - 1));
        format!(r#"{{"type":"a","data":{open}{close}}}"#)
    };
    send_bytes(&daemon, "POST", "/v1/events", JSON, event(100)).await.expect(202);
    send_bytes(&daemon, "POST", "/v1/events", JSON, event(101)).await.refused(400, "invalid_json");
    for (content_type, body) in
        [(JSON, format!("[{},{}]", event(100), event(101))), (NDJSON, format!("{}\n{}", event(100), event(101)))]
    {
        let results = send_bytes(&daemon, "POST", "/v1/events/batch", content_type, body).await.expect(200);
        let statuses = (&results["data"][0]["status"], &results["data"][1]["status"]);
        assert_eq!(statuses, (&json!(202), &json!(400)), "{content_type}");
    }
}

/// What a read adds to an event was refused as unknown when it was published again.
#[tokio::test]
async fn an_event_can_be_published_as_it_was_read() {
    let daemon = Daemon::start().await;
    let published = daemon.publish("a", json!({"n": 1})).await;
    let shown = daemon.get(&format!("/v1/events/{}", published["id"].as_str().unwrap())).await.expect(200);
    let again = daemon.post("/v1/events", shown.clone()).await.expect(202);
    assert_ne!(again["id"], published["id"], "it is another event");
    let mut listed = daemon.get("/v1/events").await.expect(200)["data"][0].clone();
    assert_eq!((&listed["data"], &listed["occurred_at"]), (&shown["data"], &shown["occurred_at"]));
    listed["accepted"] = json!("unknown");
    assert_eq!(daemon.post("/v1/events", listed).await.refused(422, "validation_failed"), ["accepted"]);
}

/// Only deleting and disabling subscriptions worked in a full store; sources and
/// catalog entries could not be ended, nor settings changed, and /readyz said that
/// all was well.
#[tokio::test]
async fn a_full_store_refuses_only_what_creates() {
    let daemon = Daemon::with("", &[("POSTHASTE_STORAGE_MAX_BYTES", "2 MiB")]).await;
    daemon.call("PUT", "/v1/sources/s", json!({})).await.expect(201);
    daemon.call("PUT", "/v1/event-types/t", json!({})).await.expect(201);
    let made = daemon.subscribe(json!({"url": "https://127.0.0.1:1/", "events": ["b"]})).await;
    let delivery = crate::publish_for_delivery(&daemon, "b").await;
    daemon.get("/readyz").await.expect(200);
    let event = json!({"type": "a", "data": "x".repeat(256 * 1024)});
    loop {
        daemon.pass(Duration::from_secs(1));
        let answer = daemon.post("/v1/events", event.clone()).await;
        if answer.status != 202 {
            answer.refused(507, "storage_full");
            break;
        }
    }
    daemon.get("/readyz").await.refused(503, "unavailable");
    let path = crate::path_of(&made);
    let body = json!({"url": "https://a.example", "events": []});
    daemon.post("/v1/subscriptions", body).await.refused(507, "storage_full");
    daemon.call("PUT", "/v1/organizations/o", json!({})).await.refused(507, "storage_full");
    daemon.call("PUT", "/v1/sources/new", json!({})).await.refused(507, "storage_full");
    daemon.call("PUT", "/v1/event-types/new", json!({})).await.refused(507, "storage_full");
    daemon.call("PATCH", &path, json!({"failure_limit": 3})).await.expect(200);
    daemon.post(&format!("{path}/disable"), Value::Null).await.expect(200);
    daemon.post(&format!("{delivery}/cancel"), Value::Null).await.expect(200);
    daemon.post(&format!("{path}/cancel"), json!({})).await.expect(202);
    daemon.call("DELETE", "/v1/sources/s", Value::Null).await.expect(204);
    daemon.call("DELETE", "/v1/event-types/t", Value::Null).await.expect(204);
    daemon.call("DELETE", &path, Value::Null).await.expect(204);
}
