//! What is sent: the publisher's bytes in their envelope, methods, content types,
//! templates, headers.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::support::{Daemon, Receiver, Reply};

#[tokio::test]
async fn the_data_arrives_byte_for_byte() {
    let daemon = Daemon::start().await;
    let mut receiver = Receiver::start().await;
    daemon.subscribe(json!({"url": receiver.url})).await;
    for data in [
        r#"{"zulu":1.0,"alpha":1e3,"mike":-0.0,"Exp":1E+30}"#,
        r#"{"n":123456789012345678901234567890,"f":0.1000000000000000055511151231257827}"#,
        r#"{"a":1,"a":{"a":2,"a":[]},"":null}"#,
        r#"{"s":"\"\\\/\b\f\n\r\t\u0041\u00e9\ud83d\ude00 é😀","<&>":"</script>"}"#,
        "[ 1 ,\t2,\r\n { } , [ ] ]",
        r#""{door} {{data}}""#,
        "null",
        "1.50",
    ] {
        let body = format!(r#"{{"data": {data} ,"type":"door.opened","occurred_at":"2026-03-17T14:30:00Z"}}"#);
        let request = http::Request::post("/v1/events").header("content-type", "application/json");
        daemon.send(request.body(Bytes::from(body)).expect("a request")).await.expect(202);
        let received = receiver.next().await;
        let envelope = format!(r#"{{"type":"door.opened","timestamp":"2026-03-17T14:30:00.000Z","data":{data}}}"#);
        assert_eq!(received.body, envelope);
        assert_eq!((received.method.as_str(), received.header("content-type")), ("POST", "application/json"));
    }
}

#[tokio::test]
async fn methods_and_content_types_are_as_asked_for() {
    let daemon = Daemon::start().await;
    for (fields, method, content_type, body) in [
        (json!({"method": "PUT"}), "PUT", "application/json", None),
        (json!({"method": "PATCH"}), "PATCH", "application/json", None),
        (json!({"content_type": "text"}), "POST", "text/plain; charset=utf-8", None),
        (json!({"method": "GET"}), "GET", "", Some("")),
        (json!({"method": "DELETE"}), "DELETE", "", Some("")),
        (
            json!({"method": "DELETE", "body": r#"{"d":{door}}"#}),
            "DELETE",
            "application/json",
            Some(r#"{"d":"a&b \"1\""}"#),
        ),
        (json!({"body": "{door}!", "content_type": "text"}), "POST", "text/plain; charset=utf-8", Some("a&b \"1\"!")),
        (
            json!({"form": {"door": "{door}", "fixed": "1 2"}, "content_type": "form"}),
            "POST",
            "application/x-www-form-urlencoded",
            Some("door=a%26b%20%221%22&fixed=1%202"),
        ),
    ] {
        let mut receiver = Receiver::start().await;
        let mut fields = fields;
        fields["url"] = json!(receiver.url);
        let subscription = daemon.subscribe(fields).await;
        daemon.publish("door.opened", json!({"door": "a&b \"1\""})).await;
        let received = receiver.next().await;
        assert_eq!(received.method, method);
        assert_eq!(received.header("content-type"), content_type, "{subscription}");
        match body {
            Some(body) => assert_eq!(received.body, body),
            None => assert_eq!(received.json()["data"]["door"], "a&b \"1\""),
        }
        assert!(received.header("webhook-signature").starts_with("v1,"));
        daemon.call("DELETE", &crate::path_of(&subscription), Value::Null).await.expect(204);
    }
}

#[tokio::test]
async fn templates_are_filled_in_and_what_is_missing_is_told() {
    let daemon = Daemon::start().await;
    let mut receiver = Receiver::start().await;
    let url = format!("{}/{{door.id}}?type={{type}}&gone={{nowhere}}", receiver.url);
    let fields = json!({
        "url": url,
        "query": {"who": "{people[1]}"},
        "body": r#"{"d":{door},"text":"<{door.id}>","no":{absent.value}}"#,
        "headers": {"X-Tenant": "acme {type}", "x-empty": ""},
    });
    let subscription = daemon.subscribe(fields).await;
    let data = json!({"door": {"id": "a/b ../é"}, "people": ["Ann", "Bob & Co"]});
    let delivery = daemon.deliver(&subscription, "door.opened", data).await;
    let received = receiver.next().await;
    assert_eq!(received.path, "/hooks/a%2Fb%20..%2F%C3%A9?type=door.opened&gone=&who=Bob%20%26%20Co");
    assert_eq!(received.body, r#"{"d":{"id":"a/b ../é"},"text":"<a/b ../é>","no":null}"#);
    assert_eq!(received.header("x-tenant"), "acme {type}");
    assert!(received.header("user-agent").starts_with("Posthaste/"));
    let shown = daemon.in_state(&delivery, "delivered").await;
    assert_eq!(shown["attempts_kept"][0]["missing"], json!(["nowhere", "absent.value"]));
}

#[tokio::test]
async fn of_the_last_answer_16_kib_are_kept_and_of_earlier_ones_1_kib() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::answering(|_, number| {
        let status = if number == 0 { 500 } else { 200 };
        Reply { status, headers: Vec::new(), body: Bytes::from(vec![b'a' + number as u8; 20_000]) }
    })
    .await;
    let subscription = daemon.subscribe(json!({"url": receiver.url})).await;
    let delivery = daemon.deliver(&subscription, "door.opened", json!(1)).await;
    let body =
        |shown: &Value, index: usize| shown["attempts_kept"][index]["response_body"].as_str().unwrap().to_owned();
    let shown = daemon.attempted(&delivery, 1).await;
    assert_eq!(body(&shown, 0), "a".repeat(16 * 1024));
    daemon.pass_to(&shown["next_attempt_at"]);
    let shown = daemon.in_state(&delivery, "delivered").await;
    assert_eq!((body(&shown, 0), body(&shown, 1)), ("a".repeat(1024), "b".repeat(16 * 1024)));
}

#[tokio::test]
async fn a_test_is_sent_once_and_answers_with_its_attempt() {
    let daemon = Daemon::start().await;
    let mut receiver = Receiver::answering(|_, _| Reply::status(503)).await;
    let subscription = daemon.subscribe(json!({"url": receiver.url, "events": ["door.*"]})).await;
    let attempt = daemon.post(&format!("{}/test", crate::path_of(&subscription)), json!({})).await.expect(200);
    assert_eq!((&attempt["number"], &attempt["outcome"]["status"]), (&json!(1), &json!(503)));
    assert_eq!(receiver.next().await.json()["type"], "posthaste.test");
    let mut witness = crate::Witness::start(&daemon).await;
    daemon.pass(std::time::Duration::from_secs(3600));
    witness.passes(&daemon).await;
    assert_eq!(receiver.total(), 1);
}
