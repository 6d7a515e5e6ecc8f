//! What callers can do with bytes: requests that two parsers could read in two ways,
//! and requests that never end. Over raw sockets, against the real listener.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Daemon, within};

/// Everything that is answered to `bytes` until the connection ends.
async fn answered(daemon: &Daemon, bytes: &str) -> String {
    let mut stream = TcpStream::connect(daemon.address).await.unwrap();
    let bytes = bytes.replace("HOST", &daemon.address.to_string());
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A connection that is reset after the answer has been answered too.
    let _ = within("the end of the connection", stream.read_to_end(&mut answer)).await;
    String::from_utf8(answer).unwrap()
}

/// What stands behind each of these is the request that somebody would smuggle: it is
/// never answered, because the connection ends first.
#[tokio::test]
async fn requests_that_can_be_read_in_two_ways_are_one_or_none() {
    let daemon = Daemon::start().await;
    let smuggled = "GET /v1/stats HTTP/1.1\r\nhost: HOST\r\nx-request-id: smuggled\r\n\r\n";
    let post = "POST /v1/events HTTP/1.1\r\nhost: HOST\r\n";
    for (shape, head, status) in [
        ("two lengths", format!("{post}content-length: 2\r\ncontent-length: 3\r\n\r\n{{}}"), 400),
        ("two lengths in one", format!("{post}content-length: 2, 3\r\n\r\n{{}}"), 400),
        ("a length with a sign", format!("{post}content-length: +2\r\n\r\n{{}}"), 400),
        ("a length that is none", format!("{post}content-length: 0x2\r\n\r\n{{}}"), 400),
        ("a length beyond numbers", format!("{post}content-length: 99999999999999999999\r\n\r\n{{}}"), 400),
        ("chunks not last", format!("{post}transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n"), 400),
        ("another coding first", format!("{post}transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), 400),
        ("no coding first", format!("{post}transfer-encoding: identity, chunked\r\n\r\n0\r\n\r\n"), 400),
        (
            "two codings",
            format!("{post}transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
            400,
        ),
        ("a coding of another name", format!("{post}transfer-encoding: xchunked\r\n\r\n0\r\n\r\n"), 400),
        ("a coding in quotes", format!("{post}transfer-encoding: \"chunked\"\r\n\r\n0\r\n\r\n"), 400),
        ("a coding behind a tab", format!("{post}transfer-encoding:\u{b}chunked\r\n\r\n0\r\n\r\n"), 400),
        ("a space before the colon", format!("{post}transfer-encoding : chunked\r\n\r\n0\r\n\r\n"), 400),
        ("a space before the name", format!("{post} transfer-encoding: chunked\r\n\r\n0\r\n\r\n"), 400),
        ("a folded line", format!("{post}x: 1\r\n\ttransfer-encoding: chunked\r\n\r\n0\r\n\r\n"), 400),
        ("a null", format!("{post}x: a\0b\r\ncontent-length: 2\r\n\r\n{{}}"), 400),
        ("a lone return", format!("{post}x: a\rcontent-length: 2\r\n\r\n{{}}"), 400),
        (
            "chunks of HTTP/1.0",
            "POST / HTTP/1.0\r\nhost: HOST\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".into(),
            400,
        ),
        ("a size that is none", format!("{post}transfer-encoding: chunked\r\n\r\n0x0\r\n\r\n"), 400),
        ("a size beyond numbers", format!("{post}transfer-encoding: chunked\r\n\r\n10000000000000000\r\n\r\n"), 400),
        ("a chunk that is longer", format!("{post}transfer-encoding: chunked\r\n\r\n2\r\n{{}}x\r\n0\r\n\r\n"), 400),
        ("a bare line end behind a size", format!("{post}transfer-encoding: chunked\r\n\r\n2\n{{}}\r\n0\r\n\r\n"), 400),
        // RFC 9112, section 6.1: the chunks count, and the connection ends.
        (
            "a length, then chunks",
            format!("{post}content-length: 99\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
            400,
        ),
        (
            "chunks, then a length",
            format!("{post}transfer-encoding: chunked\r\ncontent-length: 99\r\n\r\n0\r\n\r\n"),
            400,
        ),
        ("two hosts", "GET /v1/stats HTTP/1.1\r\nhost: HOST\r\nhost: HOST\r\nconnection: close\r\n\r\n".into(), 421),
        ("no host", "GET /v1/stats HTTP/1.1\r\nconnection: close\r\n\r\n".into(), 421),
        (
            "another host in the target",
            "GET http://evil.example/v1/stats HTTP/1.1\r\nhost: HOST\r\nconnection: close\r\n\r\n".into(),
            421,
        ),
        (
            "another host than in the target",
            "GET http://HOST/v1/stats HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n".into(),
            421,
        ),
        ("a tunnel", "CONNECT HOST HTTP/1.1\r\nhost: HOST\r\nconnection: close\r\n\r\n".into(), 404),
        ("another version", "GET /v1/stats HTTP/3.0\r\nhost: HOST\r\n\r\n".into(), 400),
    ] {
        let answer = answered(&daemon, &format!("{head}{smuggled}")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{shape}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{shape}: {answer}");
        assert!(!answer.contains("smuggled"), "{shape}: {answer}");
    }
    // The other way round: what is fine is answered, and so is what comes behind it.
    for fine in [
        format!("{post}content-length: 24\r\n\r\n{{\"type\":\"a\", \"data\": {{}}}}"),
        format!("{post}transfer-encoding: Chunked\r\n\r\n18\r\n{{\"type\":\"a\", \"data\": {{}}}}\r\n0\r\n\r\n"),
        "GET http://HOST/v1/stats HTTP/1.1\r\nhost: HOST\r\n\r\n".to_owned(),
    ] {
        let last = smuggled.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n");
        let answer = answered(&daemon, &format!("{fine}{last}")).await;
        assert!(answer.starts_with("HTTP/1.1 20") && answer.contains("x-request-id: smuggled"), "{answer}");
    }
}

/// No page may take an answer for something else than what it says it is: receivers
/// choose bytes that are shown.
#[tokio::test]
async fn answers_are_never_taken_for_pages() {
    let daemon = Daemon::start().await;
    for (path, content_type) in [
        ("/v1/events", "application/json"),
        ("/v1/nothing", "application/problem+json"),
        ("/metrics", "text/plain; version=0.0.4"),
        ("/healthz", "application/json"),
    ] {
        let answer = daemon.get(path).await;
        assert!(answer.header("content-type").contains(content_type), "{path}: {answer:?}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
    }
}

#[tokio::test]
async fn a_key_makes_so_many_requests_a_second() {
    let limited = |name: &str, more: &str| crate::key(name, &["read"], &["*"]) + more;
    let keys = [
        limited("usual", ""),
        limited("own", "requests_per_second = 1\n"),
        limited("any", "requests_per_second = 0\n"),
    ];
    let text = format!("[service]\nrequests_per_second = 2\n{}", keys.concat());
    let daemon = Daemon::with(&text, &[("POSTHASTE_SERVICE_AUTH", "")]).await;
    for (name, requests) in [("usual", 2), ("own", 1), ("any", 9)] {
        for _ in 0..requests {
            crate::call_as(&daemon, name, "GET", "/v1/events", json!(null)).await.expect(200);
        }
    }
    for name in ["usual", "own"] {
        let refused = crate::call_as(&daemon, name, "GET", "/v1/nothing-of-it", json!(null)).await;
        refused.refused(404, "not_found");
        let refused = crate::call_as(&daemon, name, "POST", "/v1/events", json!({})).await;
        assert_eq!(refused.header("retry-after"), "1", "{name}");
        refused.refused(429, "too_many_requests");
    }
    crate::call_as(&daemon, "nobody", "GET", "/v1/events", json!(null)).await.refused(401, "unauthenticated");
    daemon.get("/healthz").await.expect(200);
    daemon.pass(Duration::from_secs(1));
    crate::call_as(&daemon, "own", "GET", "/v1/events", json!(null)).await.expect(200);
}
