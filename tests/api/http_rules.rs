//! What holds of every route: methods, paths, hosts, origins, request ids.

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::path_of;
use crate::support::{Answer, Daemon, within};

async fn ask(daemon: &Daemon, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    daemon.send(request.body(Bytes::new()).unwrap()).await
}

#[tokio::test]
async fn head_answers_as_get_does_without_the_body() {
    let daemon = Daemon::start().await;
    let made = daemon.subscribe(json!({"url": "https://a.example"})).await;
    for path in ["/healthz", "/readyz", "/openapi.json", "/metrics", "/v1/subscriptions", &path_of(&made), "/v1/stats"]
    {
        let got = daemon.get(path).await;
        let head = daemon.call("HEAD", path, Value::Null).await;
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        for name in ["content-type", "etag"] {
            assert_eq!(head.header(name), got.header(name), "{path}");
        }
        assert_eq!(head.header("content-length").is_empty(), got.header("content-length").is_empty(), "{path}");
    }
    assert_eq!(daemon.call("HEAD", "/v1/events/x", Value::Null).await.status, 404);
    assert_eq!(daemon.call("HEAD", "/v1/events/batch", Value::Null).await.status, 405);
}

#[tokio::test]
async fn unknown_paths_and_methods_are_told_apart() {
    let daemon = Daemon::start().await;
    for path in [
        "/",
        "/v1",
        "/v2/events",
        "/v1/events/",
        "/v1//events",
        "/v1/subscriptions/x/tests",
        "/V1/events",
        "/v1/organizations/%ff",
    ] {
        daemon.get(path).await.refused(404, "not_found");
    }
    for (method, path, allow) in [
        ("POST", "/healthz", "GET, HEAD"),
        ("DELETE", "/v1/events", "POST, GET, HEAD"),
        ("GET", "/v1/events/batch", "POST"),
        ("POST", "/v1/organizations/x", "GET, HEAD, PUT, DELETE"),
        ("POST", "/v1/subscriptions/x", "GET, HEAD, PUT, PATCH, DELETE"),
        ("GET", "/v1/subscriptions/x/test", "POST"),
        ("PUT", "/v1/deliveries/x", "GET, HEAD"),
        ("OPTIONS", "/v1/stats", "GET, HEAD"),
    ] {
        let answer = daemon.call(method, path, Value::Null).await;
        let mut told: Vec<&str> = answer.header("allow").split(", ").collect();
        let mut expected: Vec<&str> = allow.split(", ").collect();
        told.sort_unstable();
        expected.sort_unstable();
        assert_eq!(told, expected, "{method} {path}");
        answer.refused(405, "method_not_allowed");
    }
}

#[tokio::test]
async fn every_answer_has_a_request_id() {
    let daemon = Daemon::start().await;
    let mut seen = std::collections::BTreeSet::new();
    for (method, path, headers) in [
        ("GET", "/healthz", &[][..]),
        ("GET", "/v1/nothing", &[]),
        ("POST", "/healthz", &[]),
        ("POST", "/v1/events", &[]),
        ("GET", "/healthz", &[("origin", "https://evil.example")]),
        ("GET", "/healthz", &[("host", "evil.example")]),
        ("GET", "/healthz", &[("x-request-id", "not plain!")]),
    ] {
        let answer = ask(&daemon, method, path, headers).await;
        assert!(seen.insert(answer.header("x-request-id").to_owned()), "{method} {path}: another one");
    }
    assert!(!seen.contains("") && !seen.contains("not plain!"), "{seen:?}");
    let own = ask(&daemon, "GET", "/healthz", &[("x-request-id", "trace-1.a_B")]).await;
    assert_eq!(own.header("x-request-id"), "trace-1.a_B");
}

#[tokio::test]
async fn requests_for_other_hosts_are_refused() {
    let daemon = Daemon::start().await;
    let port = daemon.address.port();
    for (host, fits) in [
        (format!("127.0.0.1:{port}"), true),
        (format!("localhost:{port}"), true),
        (format!("LOCALHOST:{port}"), true),
        (format!("evil.example:{port}"), false),
        ("localhost".to_owned(), false),
        (format!("localhost:{}", port.wrapping_add(1)), false),
        (format!("10.0.0.1:{port}"), false),
        (String::new(), false),
    ] {
        let answer = ask(&daemon, "GET", "/v1/stats", &[("host", &host)]).await;
        if fits {
            answer.expect(200);
        } else {
            answer.refused(421, "host_refused");
        }
    }
    let twice =
        ask(&daemon, "GET", "/healthz", &[("host", &format!("localhost:{port}")), ("host", "evil.example")]).await;
    twice.refused(421, "host_refused");
    let absolute = ask(&daemon, "GET", "http://evil.example/healthz", &[("host", &format!("localhost:{port}"))]).await;
    absolute.refused(421, "host_refused");

    let named = Daemon::with("[service]\nhosts = [\"hooks.example\"]\n", &[]).await;
    for host in ["hooks.example", "Hooks.Example:443"] {
        ask(&named, "GET", "/healthz", &[("host", host)]).await.expect(200);
    }
}

#[tokio::test]
async fn browsers_pages_are_refused_unless_configured() {
    let daemon = Daemon::with("[service]\norigins = [\"https://console.example\"]\n", &[]).await;
    for origin in ["https://evil.example", "http://console.example", "https://console.example:444", "null"] {
        let answer = ask(&daemon, "GET", "/healthz", &[("origin", origin)]).await;
        assert_eq!(answer.header("access-control-allow-origin"), "");
        answer.refused(403, "origin_refused");
        let body = [("origin", origin), ("access-control-request-method", "POST")];
        ask(&daemon, "OPTIONS", "/v1/events", &body).await.refused(403, "origin_refused");
    }
    let page = [("origin", "https://console.example")];
    let answer = ask(&daemon, "GET", "/v1/stats", &page).await;
    assert_eq!(answer.header("access-control-allow-origin"), "https://console.example");
    answer.expect(200);
    let asks = [("origin", "https://console.example"), ("access-control-request-method", "PATCH")];
    let preflight = ask(&daemon, "OPTIONS", "/v1/subscriptions/x", &asks).await;
    assert!(preflight.header("access-control-allow-methods").contains("PATCH"));
    assert!(preflight.header("access-control-allow-headers").contains("authorization"));
    assert_eq!(preflight.status, 204);
    let both = [("origin", "https://console.example"), ("origin", "https://evil.example")];
    ask(&daemon, "GET", "/healthz", &both).await.refused(403, "origin_refused");
}

/// The limits of single bodies left a thousand connections free to hold sixteen
/// gigabytes together.
#[tokio::test]
async fn bodies_under_way_share_a_limit() {
    let daemon = Daemon::start().await;
    let begin = async || {
        let mut stream = TcpStream::connect(daemon.address).await.unwrap();
        let head = format!(
            "POST /v1/events/batch HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
            daemon.address,
            16 * 1024 * 1024
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut begun = [0; 12];
        within("an answer", stream.read_exact(&mut begun)).await.unwrap();
        (stream, String::from_utf8(begun.to_vec()).unwrap())
    };
    let mut under_way = Vec::new();
    for _ in 0..8 {
        let (stream, begun) = begin().await;
        assert_eq!(begun, "HTTP/1.1 100");
        under_way.push(stream);
    }
    assert_eq!(begin().await.1, "HTTP/1.1 503");
    let refused = daemon.post("/v1/events", json!({"type": "a", "data": 1})).await;
    assert!(refused.header("retry-after").parse::<u64>().is_ok(), "{refused:?}");
    refused.refused(503, "busy");
    daemon.get("/v1/events").await.expect(200);
    under_way.pop();
    within("room for another", async {
        while daemon.post("/v1/events", json!({"type": "a", "data": 1})).await.status != 202 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
