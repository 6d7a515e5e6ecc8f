//! Data of unknown origin in templates: each value stays inside its field.

use serde_json::json;

use crate::daemon;
use crate::support::Receiver;

#[tokio::test]
async fn every_value_stays_inside_its_field() {
    let daemon = daemon("").await;
    let mut bodies = Receiver::start().await;
    let mut forms = Receiver::start().await;
    let body = r#"{"before":"<","s":"{x}","v":{x},"nested":{"list":["{x}",{x}]},"re":"^\\d{3}$","after":">"}"#;
    daemon.subscribe(json!({"url": format!("{}/{{x}}/end?q={{x}}", bodies.url), "body": body})).await;
    let form = json!({"a": "{x}", "b": "-{x}-"});
    daemon.subscribe(json!({"url": forms.url, "content_type": "form", "form": form, "query": {"k": "{x}"}})).await;
    for value in [
        "plain",
        "\"quoted\" and \\ backslash \\\" both",
        "\u{0}\u{1}\u{8}\t\n\r\u{1f}\u{7f}",
        "😀 é \u{202e}\u{feff}\u{fffd}",
        "{x}{type}{{x}}{x[0]}",
        "^(a+)+$|[.*]\\d{3}",
        "\",\"injected\":true,\"x\":\"",
        "a&b=c;d#e?f/g%20h+i",
        "\r\nX-Injected: 1\r\n\r\nGET / HTTP/1.1",
        "</script><!--",
        "../../etc/passwd",
        "",
    ] {
        daemon.publish("any.type", json!({"x": value})).await;
        let received = bodies.next().await;
        let text = value.to_owned();
        let expected = json!({
            "before": "<", "s": text, "v": text, "nested": {"list": [text, text]}, "re": "^\\d{3}$", "after": ">",
        });
        assert_eq!(received.json(), expected, "{value:?}");
        let target = url::Url::parse(&format!("https://h{}", received.path)).unwrap();
        let segments: Vec<String> = target.path_segments().unwrap().map(decode).collect();
        assert_eq!(segments.last().map(String::as_str), Some("end"));
        assert_eq!(segments[segments.len() - 2], value, "{}", received.path);
        let query: Vec<(String, String)> = target.query_pairs().into_owned().collect();
        assert_eq!(query, [("q".to_owned(), text.clone())]);

        let received = forms.next().await;
        let pairs: Vec<(String, String)> = url::form_urlencoded::parse(&received.body).into_owned().collect();
        assert_eq!(pairs, [("a".to_owned(), text.clone()), ("b".to_owned(), format!("-{text}-"))]);
        assert!(received.header("x-injected").is_empty());
    }
}

fn decode(segment: &str) -> String {
    percent_encoding::percent_decode_str(segment).decode_utf8().unwrap().into_owned()
}

#[tokio::test]
async fn a_value_of_a_megabyte_arrives_whole() {
    let daemon = daemon("").await;
    let mut receiver = Receiver::start().await;
    daemon.subscribe(json!({"url": receiver.url, "body": r#"{"x":"{x}"}"#})).await;
    let value: String = "a\"\\\n😀é".chars().cycle().take(700_000).collect();
    assert!(value.len() > 1_000_000);
    daemon.publish("any.type", json!({"x": value})).await;
    assert_eq!(receiver.next().await.json(), json!({"x": value}));
    // In a URL it does not fit, so that it is not sent at all.
    let made = daemon.subscribe(json!({"url": format!("{}/{{x}}", receiver.url), "events": ["large"]})).await;
    let delivery = daemon.deliver(&made, "large", json!({"x": value})).await;
    let failed = daemon.in_state(&delivery, "failed").await;
    assert_eq!(failed["code"], "too_large");
}
