//! What is sent, what is made of what comes back, and where nothing is sent to.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::limits::{RESPONSE_HEAD_BYTES_MAX, RESPONSE_HEADERS_MAX, RESPONSE_KEPT_BYTES_MAX};
use crate::secret::Secret;

#[tokio::test]
async fn a_request_goes_out_as_it_was_rendered() {
    let receiver = Receiver::answering(|_| OK.to_owned()).await;
    let mut sending = Sending::to(&format!("{}?a=1&b=%20#fragment", receiver.url()));
    for (name, value) in [("X-PDK-SIGNATURE", "t=1"), ("x-name", "Zoë"), ("Host", "elsewhere"), ("content-length", "7")]
    {
        sending.request.headers.push((name.into(), value.to_owned()));
    }
    let answer = sending.by(&client()).await.expect("an answer");
    assert_eq!((answer.status, &answer.body[..], answer.retry_after), (200, &b"ok"[..], None));
    let requests = receiver.requests();
    let [request] = &requests[..] else { panic!("{requests:?}") };
    assert!(request.starts_with("POST /hook?a=1&b=%20 HTTP/1.1\r\n"), "{request}");
    assert!(request.ends_with("\r\n\r\n{}"), "{request}");
    for (name, value) in [
        ("host", receiver.address.to_string().as_str()),
        ("content-length", "2"),
        ("content-type", "application/json"),
        ("user-agent", "Posthaste/test"),
        ("x-pdk-signature", "t=1"),
        ("x-name", "Zoë"),
    ] {
        assert_eq!(header(request, name), Some(value), "{name}");
        assert_eq!(request.matches(&format!("\r\n{name}: ")).count(), 1, "{name}");
    }
    for name in ["transfer-encoding", "accept-encoding", "authorization", "cookie"] {
        assert_eq!(header(request, name), None, "{name}");
    }
}

#[tokio::test]
async fn content_length_and_user_agent_are_as_the_request_asks() {
    let receiver = Receiver::answering(|_| OK.to_owned()).await;
    for (method, body, length) in [
        (Method::Get, "", None),
        (Method::Delete, "", None),
        (Method::Post, "", Some("0")),
        (Method::Get, "{}", Some("2")),
        (Method::Patch, "{}", Some("2")),
        (Method::Put, "{}", Some("2")),
    ] {
        let mut sending = Sending::to(&receiver.url());
        sending.request.method = method;
        sending.request.body = Bytes::from_static(body.as_bytes());
        sending.request.headers = vec![("User-Agent".into(), "own".to_owned())];
        assert_eq!(status(sending.by(&client()).await), 200, "{method}");
        let request = receiver.requests().pop().expect("a request");
        assert_eq!(header(&request, "content-length"), length, "{request}");
        assert_eq!(header(&request, "user-agent"), Some("own"), "{request}");
        assert!(request.starts_with(method.as_str()) && request.ends_with(body), "{request}");
    }
}

#[tokio::test]
async fn a_large_body_arrives_whole() {
    let receiver = Receiver::answering(|_| OK.to_owned()).await;
    let mut sending = Sending::to(&receiver.url());
    sending.request.body = Bytes::from(vec![b'x'; 1_000_000]);
    assert_eq!(status(sending.by(&client()).await), 200);
    assert!(receiver.requests()[0].ends_with(&"x".repeat(1_000_000)));
}

/// Some receivers answer as soon as they have the head, and read on: what is cut off then
/// would count as delivered.
#[tokio::test]
async fn a_request_that_is_answered_early_arrives_whole() {
    let (tell, mut told) = tokio::sync::mpsc::channel(1);
    let receiver = Receiver::scripted(move |mut peer| {
        let tell = tell.clone();
        async move {
            let mut head = [0; 1000];
            peer.stream.read_exact(&mut head).await.expect("a head");
            peer.write(OK).await;
            let mut rest = Vec::new();
            while !rest.ends_with(b"end") && peer.stream.read_buf(&mut rest).await.unwrap_or(0) > 0 {}
            tell.send(rest.ends_with(b"end")).await.expect("the test waits");
        }
    })
    .await;
    let mut sending = Sending::to(&receiver.url());
    // More than sockets hold.
    sending.request.body = Bytes::from([&vec![b'x'; 32 << 20][..], b"end"].concat());
    assert_eq!(status(sending.by(&client()).await), 200);
    assert_eq!(told.recv().await, Some(true));
}

#[tokio::test]
async fn credentials_go_into_the_authorization_header() {
    let receiver = Receiver::answering(|_| OK.to_owned()).await;
    let secret = || Secret::new("pässword:1".to_owned());
    let basic = format!("Basic {}", STANDARD.encode("user:pässword:1"));
    for (authentication, expected) in [
        (Authentication::Basic { user: "user".to_owned(), password: secret() }, basic.as_str()),
        (Authentication::Bearer { token: Secret::new("abc".to_owned()) }, "Bearer abc"),
    ] {
        let mut sending = Sending::to(&receiver.url());
        sending.authentication = authentication;
        assert_eq!(status(sending.by(&client()).await), 200);
        assert_eq!(header(&receiver.requests().pop().expect("a request"), "authorization"), Some(expected));
    }
}

#[tokio::test]
async fn what_cannot_be_sent_is_a_render_failure() {
    for (name, value) in [("bad name", "x"), ("x-bad", "a\r\nb: c"), ("x-bad", "nul\0")] {
        let mut sending = Sending::to("http://127.0.0.1:1/");
        sending.request.headers.push((name.into(), value.to_owned()));
        assert_eq!(code(sending.by(&client()).await), FailureCode::Render, "{name}: {value:?}");
    }
    let mut sending = Sending::to("http://127.0.0.1:1/");
    sending.authentication = Authentication::Bearer { token: Secret::new("a\nb".to_owned()) };
    assert_eq!(code(sending.by(&client()).await), FailureCode::Render);
    assert_eq!(code(Sending::to("ftp://127.0.0.1/").by(&client()).await), FailureCode::Render);
}

#[tokio::test]
async fn the_status_is_the_answer_whatever_surrounds_it() {
    let cases: &[(&str, u16, &str)] = &[
        (OK, 200, "ok"),
        ("HTTP/1.1 204 No Content\r\n\r\n", 204, ""),
        ("HTTP/1.1 204 No Content\r\ncontent-length: 9\r\n\r\na content", 204, ""),
        // What unpacks to very much is never unpacked.
        ("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nbomb", 200, "bomb"),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", 200, "ok"),
        ("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n", 202, ""),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, "ok"),
        ("HTTP/1.0 200 OK\r\n\r\nto the end", 200, "to the end"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf", 200, "half"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nnot a length\r\n", 200, ""),
        ("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", 101, ""),
        ("HTTP/1.1 302 Found\r\nlocation: /other\r\nset-cookie: a=b\r\ncontent-length: 0\r\n\r\n", 302, ""),
        ("HTTP/1.1 410 Gone\r\ncontent-length: 4\r\n\r\ngone", 410, "gone"),
        ("HTTP/1.1 599 Whatever\r\ncontent-length: 0\r\n\r\n", 599, ""),
    ];
    for (bytes, status, body) in cases {
        let receiver = Receiver::scripted(move |mut peer| async move {
            peer.request().await;
            peer.write(bytes).await;
        })
        .await;
        let answer = Sending::to(&receiver.url()).by(&client()).await.expect(bytes);
        assert_eq!((answer.status, &answer.body[..]), (*status, body.as_bytes()), "{bytes}");
        assert_eq!(receiver.requests().len(), 1, "{bytes}");
    }
}

#[tokio::test]
async fn retry_after_is_handed_on_unread() {
    let receiver = Receiver::answering(|_| {
        "HTTP/1.1 429 Too Many\r\nretry-after: Fri, 31 Dec 1999 23:59:59 GMT\r\ncontent-length: 0\r\n\r\n".to_owned()
    })
    .await;
    let answer = Sending::to(&receiver.url()).by(&client()).await.expect("an answer");
    assert_eq!(answer.retry_after.as_deref(), Some("Fri, 31 Dec 1999 23:59:59 GMT"));
}

#[tokio::test]
async fn what_an_answer_asks_to_be_kept_or_followed_is_not() {
    let elsewhere = Receiver::answering(|_| OK.to_owned()).await;
    let location = elsewhere.url();
    let receiver = Receiver::answering(move |_| {
        format!(
            "HTTP/1.1 307 Look there\r\nlocation: {location}\r\nrefresh: 0; url={location}\r\nalt-svc: h2=\":1\"\r\n\
                 set-cookie: a=b; Path=/\r\nstrict-transport-security: max-age=9\r\ncontent-length: 0\r\n\r\n"
        )
    })
    .await;
    let client = client();
    for _ in 0..2 {
        assert_eq!(status(Sending::to(&receiver.url()).by(&client).await), 307);
    }
    let [first, second] = &receiver.requests()[..] else { panic!("two requests") };
    assert_eq!(first, second);
    assert_eq!((receiver.connections(), elsewhere.connections()), (1, 0));
}

#[tokio::test]
async fn an_endless_body_is_cut_and_the_status_counts() {
    for head in ["content-length: 99999999999", "transfer-encoding: chunked"] {
        let receiver = Receiver::scripted(move |mut peer| async move {
            peer.request().await;
            peer.write(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n")).await;
            let chunk = format!("1000\r\n{}\r\n", "x".repeat(4096));
            while peer.write(&chunk).await {}
        })
        .await;
        let answer = Sending::to(&receiver.url()).by(&client()).await.expect("an answer");
        assert_eq!((answer.status, answer.body.len()), (200, RESPONSE_KEPT_BYTES_MAX), "{head}");
    }
}

#[tokio::test]
async fn a_body_that_hangs_is_not_waited_for_beyond_the_timeout() {
    let receiver = Receiver::scripted(|mut peer| async move {
        peer.request().await;
        peer.write("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nbegin").await;
        peer.request().await;
    })
    .await;
    let mut sending = Sending::to(&receiver.url());
    sending.timeout = Duration::from_secs(3);
    let answer = sending.by(&client()).await.expect("an answer");
    assert_eq!((answer.status, &answer.body[..]), (200, &b"begin"[..]));
}

#[tokio::test]
async fn heads_over_their_limits_are_refused() {
    let many = "x: y\r\n".repeat(RESPONSE_HEADERS_MAX + 1);
    let long = format!("x: {}\r\n", "y".repeat(RESPONSE_HEAD_BYTES_MAX));
    for headers in [many, long] {
        let receiver = Receiver::answering(move |_| format!("HTTP/1.1 200 OK\r\n{headers}\r\n")).await;
        assert_eq!(code(Sending::to(&receiver.url()).by(&client()).await), FailureCode::ResponseTooLarge);
    }
    let endless = Receiver::scripted(|mut peer| async move {
        peer.request().await;
        peer.write("HTTP/1.1 200 OK\r\nx: ").await;
        while peer.write("yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy").await {}
    })
    .await;
    assert_eq!(code(Sending::to(&endless.url()).by(&client()).await), FailureCode::ResponseTooLarge);
    let most = "x: y\r\n".repeat(RESPONSE_HEADERS_MAX - 1);
    let receiver = Receiver::answering(move |_| format!("HTTP/1.1 200 OK\r\n{most}content-length: 0\r\n\r\n")).await;
    assert_eq!(status(Sending::to(&receiver.url()).by(&client()).await), 200);
}

#[tokio::test]
async fn what_is_not_http_is_an_invalid_response() {
    for garbage in [
        "SSH-2.0-OpenSSH_9.9\r\n",
        "HTTP/1.1 two hundred\r\n\r\n",
        "HTTP/2 200\r\n\r\n",
        "<html></html>\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx",
    ] {
        let receiver = Receiver::answering(|_| garbage.to_owned()).await;
        assert_eq!(code(Sending::to(&receiver.url()).by(&client()).await), FailureCode::InvalidResponse, "{garbage}");
    }
    let banner = Receiver::scripted(|mut peer| async move {
        peer.write("220 mail.example ESMTP\r\n").await;
        peer.request().await;
    })
    .await;
    assert_eq!(code(Sending::to(&banner.url()).by(&client()).await), FailureCode::InvalidResponse, "a banner");
}

#[tokio::test]
async fn a_connection_that_ends_before_an_answer_is_closed() {
    let before = Receiver::scripted(|peer| async move { drop(peer) }).await;
    assert_eq!(code(Sending::to(&before.url()).by(&client()).await), FailureCode::Closed, "before the request");
    let after = Receiver::scripted(|mut peer| async move {
        peer.request().await;
    })
    .await;
    assert_eq!(code(Sending::to(&after.url()).by(&client()).await), FailureCode::Closed, "after the request");
    let half = Receiver::scripted(|mut peer| async move {
        peer.request().await;
        peer.write("HTTP/1.1 200 OK\r\nx").await;
    })
    .await;
    assert_eq!(code(Sending::to(&half.url()).by(&client()).await), FailureCode::Closed, "in the head");
    // Closing with the request unread makes the kernel send a reset.
    let reset = Receiver::scripted(|mut peer| async move {
        let mut byte = [0];
        peer.stream.read_exact(&mut byte).await.expect("a byte");
    })
    .await;
    assert_eq!(code(Sending::to(&reset.url()).by(&client()).await), FailureCode::Closed, "reset");
}

#[tokio::test]
async fn a_receiver_that_does_not_answer_in_time_has_timed_out() {
    let silent = Receiver::scripted(|mut peer| async move { while peer.request().await.is_some() {} }).await;
    let mut sending = Sending::to(&silent.url());
    sending.timeout = Duration::from_millis(100);
    assert_eq!(code(sending.by(&client()).await), FailureCode::Timeout, "silent");
    let slow = Receiver::scripted(|mut peer| async move {
        peer.request().await;
        for byte in OK.as_bytes() {
            peer.write([*byte]).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let mut sending = Sending::to(&slow.url());
    sending.timeout = Duration::from_millis(100);
    assert_eq!(code(sending.by(&client()).await), FailureCode::Timeout, "slow");
    sending.timeout = Duration::ZERO;
    assert_eq!(code(sending.by(&client()).await), FailureCode::Timeout, "no time at all");
}

/// A receiver that promises an answer for ever gives none.
#[tokio::test]
async fn endless_interim_answers_are_too_large() {
    let receiver = Receiver::scripted(|mut peer| async move {
        peer.request().await;
        while peer.write("HTTP/1.1 102 Processing\r\n\r\n").await {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(code(Sending::to(&receiver.url()).by(&client()).await), FailureCode::ResponseTooLarge);
}

#[tokio::test]
async fn hosts_that_cannot_be_reached_say_how() {
    let result = Sending::to("http://nonexistent.invalid/").by(&client()).await;
    assert_eq!(code(result), FailureCode::Dns);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let refused = Sending::to(&format!("http://{address}/")).by(&client()).await.expect_err("refused");
    assert_eq!((refused.code, &refused.detail[..]), (FailureCode::Connect, "could not connect: connection refused"));
}

/// A listener whose queue is full lets nobody in: the kernel drops what comes.
#[tokio::test]
async fn a_host_that_does_not_let_in_is_given_up_after_connect_timeout() {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let listener = socket.listen(1).expect("a listener");
    let address = listener.local_addr().expect("an address");
    let mut waiting = Vec::new();
    let hurried = client_of(Options { connect_timeout: Duration::from_millis(100), ..options(&["127.0.0.0/8"]) });
    let mut sending = Sending::to(&format!("http://{address}/"));
    sending.timeout = Duration::from_millis(300);
    for _ in 0..8 {
        match code(sending.by(&hurried).await) {
            FailureCode::ConnectTimeout => return,
            code => waiting.push(code),
        }
    }
    panic!("let in every time: {waiting:?}");
}

#[tokio::test]
async fn a_blocked_address_is_never_dialled_however_it_is_spelled() {
    let receiver = Receiver::answering(|_| OK.to_owned()).await;
    let port = receiver.address.port();
    for host in [
        "127.0.0.1",
        "127.0.0.1.",
        "127.1",
        "127.0.1",
        "0x7f.1",
        "0X7F.0x0.0X0.0x1",
        "0x7f000001",
        "2130706433",
        "017700000001",
        "0177.0.0.1",
        "0177.0x0.1",
        "%31%32%37.0.0.1",
        "１２７.0.0.1",
        "127。0。0。1",
        "①②⑦.0.0.1",
        "someone:else@127.0.0.1",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[::1]",
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b:1::7f00:1]",
        "[2002:7f00:1::]",
        "[::]",
        "[fe80::1]",
        "0.0.0.0",
        "0",
        "localhost",
        "LOCALHOST",
        "localhost.",
    ] {
        let url = format!("http://{host}:{port}/");
        let failure = Sending::to(&url).by(&client_of(options(&[]))).await.expect_err(host);
        let (code, detail) = match host {
            name if name.eq_ignore_ascii_case("localhost") || name == "localhost." => {
                (FailureCode::Dns, "the host's name has no address that may be reached")
            }
            _ => (FailureCode::AddressBlocked, "the address may not be reached"),
        };
        assert_eq!((failure.code, failure.detail.as_str()), (code, detail), "{host}");
    }
    assert_eq!(receiver.connections(), 0);
    for host in ["127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"] {
        assert_eq!(status(Sending::to(&format!("http://{host}:{port}/")).by(&client()).await), 200, "{host}");
    }
}

/// A name that resolved to a private address was told apart from one that is not there:
/// whoever may write URLs could list the names of the network inside.
#[tokio::test]
async fn a_name_that_is_inside_looks_like_one_that_is_not_there() {
    let client = client_of(options(&[]));
    let inside = Sending::to("http://localhost:1/").by(&client).await.expect_err("it is inside");
    let nowhere = Sending::to("http://nonexistent.invalid:1/").by(&client).await.expect_err("it is nowhere");
    assert_eq!(inside, nowhere);
}

#[tokio::test]
async fn our_own_listeners_are_refused_though_their_network_is_open() {
    for address in ["127.0.0.1:0", "0.0.0.0:0"] {
        let receiver = Receiver::listening(address, None, answer_each(|_| OK.to_owned())).await;
        let client = client();
        let url = format!("http://127.0.0.1:{}/", receiver.address.port());
        assert_eq!(status(Sending::to(&url).by(&client).await), 200, "before it is named");
        client.refuse(vec![receiver.address]);
        client.reconfigure(options(&["0.0.0.0/0", "127.0.0.1/32"]));
        assert_eq!(code(Sending::to(&url).by(&client).await), FailureCode::AddressBlocked, "{address}");
        assert_eq!(receiver.requests().len(), 1, "{address}");
    }
}
