//! Lists: pages without loss or repetition, and filters.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Daemon, Receiver};
use crate::{failing_receiver, path_of, sorted, texts, walk};

#[tokio::test]
async fn pages_neither_lose_nor_repeat_a_row() {
    let daemon = Daemon::start().await;
    for index in 0..7 {
        let fields = json!({"url": "https://127.0.0.1:1/", "name": index.to_string(), "status": "disabled"});
        daemon.subscribe(fields).await;
        daemon.call("PUT", &format!("/v1/organizations/o{index}"), json!({})).await.expect(201);
        daemon.call("PUT", &format!("/v1/sources/s{index}"), json!({"organization": "o0"})).await.expect(201);
        daemon.call("PUT", &format!("/v1/event-types/t{index}"), json!({})).await.expect(201);
    }
    for (path, id, count) in [
        ("/v1/subscriptions", "/id", 7),
        ("/v1/organizations", "/id", 8),
        ("/v1/sources", "/id", 7),
        ("/v1/sources?organization=o0", "/id", 7),
        ("/v1/event-types", "/name", 130),
        ("/v1/event-types?format=none", "/name", 7),
        ("/v1/event-types?format=peridio", "/name", 9),
    ] {
        let whole = texts(&walk(&daemon, path, 500).await, id);
        assert_eq!(whole.len(), count, "{path}");
        for limit in [1, 2, 3, 7, 8] {
            assert_eq!(texts(&walk(&daemon, path, limit).await, id), whole, "{path} by {limit}");
        }
    }
    let whole = walk(&daemon, "/v1/audit", 500).await;
    // Four entries of each of the seven.
    assert_eq!(whole.len(), 28);
    for limit in [1, 5, 27, 28] {
        assert_eq!(walk(&daemon, "/v1/audit", limit).await, whole, "by {limit}");
    }
}

#[tokio::test]
async fn pages_of_events_and_deliveries_hold_together_while_more_are_published() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    let subscriptions = [
        daemon.subscribe(json!({"url": receiver.url, "events": ["a", "b"]})).await,
        daemon.subscribe(json!({"url": receiver.url, "events": ["a"]})).await,
        daemon.subscribe(json!({"url": receiver.url, "events": ["*"]})).await,
    ];
    let event = |index: usize| {
        let event_type = ["a", "b", "c"][index % 3];
        json!({"type": event_type, "data": index})
    };
    let batch: Vec<Value> = (0..120).map(event).collect();
    let results = daemon.post("/v1/events/batch", json!(batch)).await.expect(200);
    let published = texts(results["data"].as_array().unwrap(), "/id");
    let newest_first: Vec<String> = published.iter().rev().cloned().collect();
    for limit in [7, 40, 120, 500] {
        assert_eq!(texts(&walk(&daemon, "/v1/events", limit).await, "/id"), newest_first, "by {limit}");
    }
    let of_type = texts(&walk(&daemon, "/v1/events?type=b", 7).await, "/id");
    assert_eq!(
        of_type,
        newest_first
            .iter()
            .enumerate()
            .filter(|(index, _)| index % 3 == 1)
            .map(|(_, id)| id.clone())
            .collect::<Vec<_>>()
    );

    let whole = texts(&walk(&daemon, "/v1/deliveries", 500).await, "/id");
    assert_eq!(whole.len(), 40 * 3 + 40 * 2 + 40);
    assert_eq!(sorted(whole.clone()).windows(2).filter(|pair| pair[0] == pair[1]).count(), 0);
    for limit in [1, 2, 7, 239] {
        assert_eq!(texts(&walk(&daemon, "/v1/deliveries", limit).await, "/id"), whole, "by {limit}");
    }
    let own = texts(&walk(&daemon, &format!("{}/deliveries", path_of(&subscriptions[1])), 7).await, "/id");
    assert_eq!(own.len(), 40);
    assert!(own.iter().all(|id| whole.contains(id)));

    // What comes later stands before the first page: the walk does not see it.
    let first = daemon.get("/v1/events?limit=50").await.expect(200);
    daemon.publish("a", json!(1)).await;
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = daemon.get(&format!("/v1/events?limit=50&cursor={cursor}")).await.expect(200);
    let mut seen = texts(first["data"].as_array().unwrap(), "/id");
    seen.extend(texts(second["data"].as_array().unwrap(), "/id"));
    assert_eq!(seen, newest_first[..100]);
    let page = daemon.get("/v1/events").await.expect(200);
    assert_eq!(page["data"].as_array().unwrap().len(), 50, "the default");
}

#[tokio::test]
async fn faulty_parameters_are_refused_with_their_names() {
    let daemon = Daemon::start().await;
    let subscription = path_of(&daemon.subscribe(json!({"url": "https://a.example"})).await);
    for (path, query, fields) in [
        ("/v1/events", "limit=0", &["limit"][..]),
        ("/v1/events", "limit=501", &["limit"]),
        ("/v1/events", "limit=ten", &["limit"]),
        ("/v1/events", "limit=5&limit=6", &["limit"]),
        ("/v1/events", "cursor=nonsense", &["cursor"]),
        ("/v1/events", "since=yesterday&until=1", &["since", "until"]),
        ("/v1/events", "type=a..b", &["type"]),
        ("/v1/events", "state=failed", &["state"]),
        ("/v1/events", "organisation=x", &["organisation"]),
        ("/v1/deliveries", "state=lost", &["state"]),
        ("/v1/deliveries", "cursor=7", &["cursor"]),
        ("/v1/subscriptions", "status=on", &["status"]),
        ("/v1/subscriptions", "cursor=x", &["cursor"]),
        ("/v1/audit", "cursor=x", &["cursor"]),
        ("/v1/audit", "since=2026-01-01T00:00:00Z", &["since"]),
        ("/v1/organizations", "limit=-1", &["limit"]),
        ("/v1/sources", "name=x", &["name"]),
        ("/v1/event-types", "limit=", &["limit"]),
        ("/v1/stats", "x=1", &["x"]),
        (&subscription, "verify=true", &["verify"]),
        (&format!("{subscription}/deliveries"), "organization=x", &["organization"]),
    ] {
        let answer = daemon.get(&format!("{path}?{query}")).await;
        assert_eq!(answer.refused(422, "validation_failed"), fields, "{path}?{query}");
    }
}

#[tokio::test]
async fn subscriptions_are_found_by_what_they_are() {
    let daemon = Daemon::start().await;
    daemon.call("PUT", "/v1/organizations/acme", json!({})).await.expect(201);
    for (name, fields) in [
        ("one", json!({"url": "https://a.example/x?y=1", "external_id": "e 1"})),
        ("two", json!({"url": "https://b.example", "organization": "acme", "events": ["door.*", "posthaste.*"]})),
        ("three", json!({"url": "https://b.example", "status": "disabled", "events": ["door.opened"]})),
    ] {
        let mut fields = fields;
        fields["name"] = json!(name);
        daemon.subscribe(fields).await;
    }
    for (query, names) in [
        ("", &["one", "two", "three"][..]),
        ("organization=acme", &["two"]),
        ("organization=nowhere", &[]),
        ("status=enabled", &["one", "two"]),
        ("status=disabled", &["three"]),
        ("status=disabled_due_to_errors", &[]),
        ("event=door.opened", &["one", "two", "three"]),
        ("event=door.closed", &["one", "two"]),
        ("event=door", &["one"]),
        ("event=posthaste.storage.low", &["two"]),
        ("url=https://b.example", &["two", "three"]),
        ("url=https://a.example/x%3Fy%3D1", &["one"]),
        ("url=https://a.example", &[]),
        ("external_id=e%201", &["one"]),
        ("external_id=e+1", &["one"]),
        ("external_id=e", &[]),
        ("name=two", &["two"]),
        ("name=tw", &[]),
        ("number=3", &["three"]),
        ("number=03", &[]),
        ("url=https://b.example&status=enabled", &["two"]),
    ] {
        for limit in [1, 50] {
            let found = walk(&daemon, &format!("/v1/subscriptions?{query}"), limit).await;
            assert_eq!(texts(&found, "/name"), names, "{query}");
        }
    }
    let found = daemon.get("/v1/subscriptions?external_id=e%201").await.expect(200);
    assert_eq!(found["data"][0]["secret"], "***");
}

#[tokio::test]
async fn events_and_deliveries_are_found_by_what_they_are() {
    let daemon = Daemon::start().await;
    daemon.call("PUT", "/v1/organizations/acme", json!({})).await.expect(201);
    daemon.call("PUT", "/v1/organizations/unit", json!({"parent": "acme"})).await.expect(201);
    let healthy = Receiver::start().await;
    let failing = failing_receiver().await;
    let own = daemon.subscribe(json!({"url": healthy.url, "organization": "acme", "scope": "recursive"})).await;
    daemon.subscribe(json!({"url": failing.url})).await;
    let mut times = Vec::new();
    for (event_type, organization) in [("door.opened", "default"), ("door.closed", "acme"), ("lock.opened", "unit")] {
        times.push(daemon.clock.now().to_string());
        let event = json!({"type": event_type, "organization": organization, "data": 1});
        daemon.post("/v1/events", event).await.expect(202);
        daemon.pass(Duration::from_secs(1));
    }
    daemon.until("/v1/deliveries?state=delivered", |page| page["data"].as_array().unwrap().len() == 2).await;
    daemon.until("/v1/deliveries?state=pending", |page| page["data"][0]["attempts"] == 1).await;
    for (query, types) in [
        ("", &["lock.opened", "door.closed", "door.opened"][..]),
        ("organization=acme", &["door.closed"]),
        ("organization=nowhere", &[]),
        ("type=door.*", &["door.closed", "door.opened"]),
        ("type=lock.opened", &["lock.opened"]),
        ("type=door", &[]),
        (&format!("since={}", times[1]), &["lock.opened", "door.closed"]),
        (&format!("until={}", times[1]), &["door.opened"]),
        (&format!("since={}&until={}", times[1], times[2]), &["door.closed"]),
        (&format!("since={}&until={}", times[2], times[1]), &[]),
        (&format!("type=door.*&organization=default&since={}", times[0]), &["door.opened"]),
    ] {
        for limit in [1, 50] {
            let found = walk(&daemon, &format!("/v1/events?{query}"), limit).await;
            assert_eq!(texts(&found, "/type"), types, "{query}");
        }
    }
    // A delivery is its subscription's organization's, whosever the event is.
    for (query, types) in [
        ("", &["lock.opened", "door.closed", "door.opened"][..]),
        ("organization=acme", &["lock.opened", "door.closed"]),
        ("organization=default", &["door.opened"]),
        ("state=delivered", &["lock.opened", "door.closed"]),
        ("state=pending", &["door.opened"]),
        ("state=failed", &[]),
        ("state=cancelled", &[]),
        ("type=*.opened", &["!"]),
        ("type=lock.*&state=delivered", &["lock.opened"]),
        (&format!("since={}", times[2]), &["lock.opened"]),
        (&format!("until={}", times[1]), &["door.opened"]),
    ] {
        if types == ["!"] {
            let answer = daemon.get(&format!("/v1/deliveries?{query}")).await;
            assert_eq!(answer.refused(422, "validation_failed"), ["type"]);
            continue;
        }
        for limit in [1, 50] {
            let found = walk(&daemon, &format!("/v1/deliveries?{query}"), limit).await;
            assert_eq!(texts(&found, "/event/type"), types, "{query}");
        }
    }
    for (query, types) in [
        ("", &["lock.opened", "door.closed"][..]),
        ("type=door.*", &["door.closed"]),
        ("state=pending", &[]),
        (&format!("since={}", times[2]), &["lock.opened"]),
        (&format!("until={}", times[2]), &["door.closed"]),
    ] {
        let found = walk(&daemon, &format!("{}/deliveries?{query}", path_of(&own)), 1).await;
        assert_eq!(texts(&found, "/event/type"), types, "{query}");
    }
    // Lists show the same as a read of one.
    for row in walk(&daemon, "/v1/deliveries", 50).await {
        let mut alone = daemon.get(&format!("/v1/deliveries/{}", row["id"].as_str().unwrap())).await.expect(200);
        alone.as_object_mut().unwrap().remove("attempts_kept");
        assert_eq!(row, alone);
    }
}

#[tokio::test]
async fn a_page_may_be_short_and_still_have_a_next_one() {
    let daemon = Daemon::start().await;
    let path = path_of(&daemon.subscribe(json!({"url": "https://127.0.0.1:1/", "events": ["rare"]})).await);
    let rare = daemon.publish("rare", json!(1)).await;
    for _ in 0..6 {
        daemon.post("/v1/events/batch", json!(vec![json!({"type": "common", "data": 1}); 1000])).await.expect(200);
    }
    for (list, pointer) in
        [("/v1/events?type=rare", "/id"), ("/v1/deliveries", "/event/id"), (&format!("{path}/deliveries"), "/event/id")]
    {
        let first = daemon.get(list).await.expect(200);
        assert_eq!(first["data"], json!([]), "{list}: what is looked at for one page has an end");
        assert!(first["next_cursor"].is_string(), "{list}");
        assert_eq!(texts(&walk(&daemon, list, 50).await, pointer), [rare["id"].as_str().unwrap()], "{list}");
    }
}

/// Five hundred events of 2 MiB were a gigabyte in one answer.
#[tokio::test]
async fn a_page_of_events_ends_after_a_few_mebibytes() {
    let daemon = Daemon::start().await;
    for index in 0..6 {
        daemon.publish("a", json!([index, "x".repeat(1_500_000)])).await;
    }
    let first = daemon.get("/v1/events?limit=500").await.expect(200);
    assert_eq!(first["data"].as_array().unwrap().len(), 3, "the third goes over 4 MiB");
    let whole = walk(&daemon, "/v1/events", 500).await;
    let order: Vec<i64> = whole.iter().map(|event| event["data"][0].as_i64().unwrap()).collect();
    assert_eq!(order, [5, 4, 3, 2, 1, 0]);
}
