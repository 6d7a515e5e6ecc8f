//! Through a proxy: what it is asked for is what was vetted, whatever it answers.

use super::*;
use crate::config::Proxy;

/// A proxy that answers every request by `answer`, then leads on to `receiver`.
async fn proxy(answer: &'static str, receiver: SocketAddr) -> Receiver {
    Receiver::scripted(move |mut peer| async move {
        if peer.request().await.is_none() || !peer.write(answer).await {
            return;
        }
        if let Ok(mut onward) = tokio::net::TcpStream::connect(receiver).await {
            let _ = tokio::io::copy_bidirectional(&mut peer.stream, &mut onward).await;
        }
    })
    .await
}

fn by(proxy: &Receiver, allowed: &[&str]) -> Options {
    let host = url::Host::parse(&proxy.address.ip().to_string()).expect("a host");
    Options { proxy: Some(Proxy { host, port: proxy.address.port() }), ..options(allowed) }
}

const FINE: &str = "HTTP/1.1 200 Connection established\r\nvia: 1.1 somebody\r\n\r\n";

#[tokio::test]
async fn a_proxy_is_asked_for_the_address_that_was_vetted_and_never_for_a_name() {
    let receiver = Receiver::answering(|_| OK.to_owned()).await;
    let proxy = proxy(FINE, receiver.address).await;
    let client = client_of(by(&proxy, &["127.0.0.0/8", "::1/128"]));
    let port = receiver.address.port();
    for _ in 0..2 {
        assert_eq!(status(Sending::to(&format!("http://localhost:{port}/hook?a=1")).by(&client).await), 200);
    }
    assert_eq!(proxy.connections(), 1, "a tunnel is kept as a connection is");
    let asked = proxy.requests().remove(0);
    let is_vetted = |address: &str| asked == format!("CONNECT {address} HTTP/1.1\r\nhost: {address}\r\n\r\n");
    assert!(is_vetted(&format!("127.0.0.1:{port}")) || is_vetted(&format!("[::1]:{port}")), "{asked}");
    let arrived = receiver.requests().remove(0);
    assert!(arrived.starts_with("POST /hook?a=1 HTTP/1.1\r\n"), "{arrived}");
    assert_eq!(header(&arrived, "host"), Some(format!("localhost:{port}").as_str()));

    // Without it from now on: what was kept is not used any more.
    client.reconfigure(options(&["127.0.0.0/8", "::1/128"]));
    assert_eq!(status(Sending::to(&format!("http://localhost:{port}/")).by(&client).await), 200);
    assert_eq!(proxy.requests().len() + 1, receiver.connections());
}

/// The proxy's own address is the operator's choice, and opens nothing to anybody.
#[tokio::test]
async fn what_may_not_be_dialled_is_not_asked_of_a_proxy_either() {
    let receiver = Receiver::answering(|_| OK.to_owned()).await;
    let proxy = proxy(FINE, receiver.address).await;
    let client = client_of(by(&proxy, &[]));
    for host in ["127.0.0.1", "10.0.0.1", "[::ffff:169.254.169.254]"] {
        let failed = code(Sending::to(&format!("http://{host}:9/")).by(&client).await);
        assert_eq!(failed, FailureCode::AddressBlocked, "{host}");
    }
    assert_eq!(code(Sending::to("http://localhost:9/").by(&client).await), FailureCode::Dns);
    let listener = client_of(by(&proxy, &["127.0.0.0/8"]));
    listener.refuse(vec![receiver.address]);
    assert_eq!(code(Sending::to(&receiver.url()).by(&listener).await), FailureCode::AddressBlocked);
    assert_eq!(proxy.connections(), 0);
}

#[tokio::test]
async fn a_proxy_that_makes_no_tunnel_is_a_failure_to_connect() {
    let receiver = Receiver::answering(|_| OK.to_owned()).await;
    let long = Box::leak(format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(9000)).into_boxed_str());
    for answer in [
        "HTTP/1.1 403 Forbidden\r\n\r\n",
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "SSH-2.0-nobody\r\n\r\n",
        "\r\n\r\n",
        "",
        long,
    ] {
        let proxy = Receiver::scripted(move |mut peer| async move {
            let _ = peer.request().await;
            peer.write(answer).await;
        })
        .await;
        let client = client_of(by(&proxy, &["127.0.0.0/8"]));
        let failure = Sending::to(&receiver.url()).by(&client).await.expect_err("no tunnel");
        assert_eq!(failure.code, FailureCode::Connect, "{answer:.40}: {failure:?}");
        assert!(failure.detail.contains("the proxy"), "{failure:?}");
    }
    assert_eq!(receiver.connections(), 0);
}
