//! To whom requests go: authentication, TLS, and the addresses that are never dialled.

use serde_json::{Value, json};

use crate::support::receiver::{Authority, authority};
use crate::support::{Daemon, Receiver, Reply};

/// The outcome of the first attempt at an event for a new subscription of these fields.
async fn first_outcome(daemon: &Daemon, fields: Value) -> Value {
    let subscription = daemon.subscribe(fields).await;
    let mut event = json!({"type": "door.opened", "data": 1});
    event["organization"] = subscription["organization"].clone();
    let event = daemon.post("/v1/events", event).await.expect(202);
    let delivery = daemon.delivery(&subscription, &event).await;
    let outcome = daemon.attempted(&delivery, 1).await["attempts_kept"][0]["outcome"].clone();
    daemon.call("DELETE", &crate::path_of(&subscription), Value::Null).await.expect(204);
    outcome
}

#[tokio::test]
async fn basic_and_bearer_credentials_are_sent() {
    let daemon = Daemon::start().await;
    for (authentication, header) in [
        (json!({"type": "none"}), ""),
        (json!({"type": "basic", "user": "we", "password": "pä:ss"}), "Basic d2U6cMOkOnNz"),
        (json!({"type": "bearer", "token": "t0ken"}), "Bearer t0ken"),
    ] {
        let mut receiver = Receiver::start().await;
        let fields = json!({"url": receiver.url, "authentication": authentication});
        let outcome = first_outcome(&daemon, fields).await;
        assert_eq!(outcome["success"], true, "{outcome}");
        assert_eq!(receiver.next().await.header("authorization"), header);
    }
}

#[tokio::test]
async fn an_oauth2_token_is_kept_and_fetched_anew_once_it_is_refused() {
    let daemon = Daemon::start().await;
    let mut tokens = Receiver::answering(|_, number| {
        let body = format!(r#"{{"access_token":"token-{number}","token_type":"Bearer","expires_in":3600}}"#);
        Reply { body: body.into(), ..Reply::status(200) }
    })
    .await;
    let mut receiver = Receiver::answering(|received, number| {
        let is_revoked = number >= 2 && received.header("authorization") == "Bearer token-0";
        Reply::status(if is_revoked { 401 } else { 200 })
    })
    .await;
    let authentication = json!({"type": "oauth2", "token_url": tokens.url, "client_id": "we", "client_secret": "s3cret",
                                "scope": "hooks"});
    let subscription = daemon.subscribe(json!({"url": receiver.url, "authentication": authentication})).await;
    for (used, attempts) in [("Bearer token-0", 1), ("Bearer token-0", 2), ("Bearer token-1", 4)] {
        let delivery = daemon.deliver(&subscription, "door.opened", json!(1)).await;
        daemon.in_state(&delivery, "delivered").await;
        assert_eq!(receiver.total(), attempts);
        let mut last = receiver.next().await;
        if last.header("authorization") != used {
            last = receiver.next().await;
        }
        assert_eq!(last.header("authorization"), used);
    }
    let asked = tokens.next().await;
    assert_eq!((asked.method.as_str(), asked.header("authorization")), ("POST", "Basic d2U6czNjcmV0"));
    assert_eq!(asked.body, "grant_type=client_credentials&scope=hooks");
    assert_eq!(tokens.total(), 2);
}

#[tokio::test]
async fn a_token_endpoint_that_refuses_fails_the_attempt_and_its_body_is_shown_nowhere() {
    let daemon = Daemon::start().await;
    let tokens = Receiver::answering(|_, _| Reply { body: "s3cret of theirs".into(), ..Reply::status(400) }).await;
    let receiver = Receiver::start().await;
    let authentication =
        json!({"type": "oauth2", "token_url": tokens.url, "client_id": "we", "client_secret": "s3cret"});
    let subscription = daemon.subscribe(json!({"url": receiver.url, "authentication": authentication})).await;
    let delivery = daemon.deliver(&subscription, "door.opened", json!(1)).await;
    let shown = daemon.attempted(&delivery, 1).await;
    assert_eq!(shown["attempts_kept"][0]["outcome"]["code"], "oauth2");
    assert!(!shown.to_string().contains("s3cret"), "{shown}");
    assert_eq!(receiver.total(), 0);
}

#[tokio::test]
async fn certificates_are_checked_as_the_subscription_says() {
    let daemon = Daemon::start().await;
    let stranger = Authority::unknown();
    let receiver = Receiver::showing(&stranger.identity(), None, |_, _| Reply::status(200)).await;
    for (tls, success) in [
        (json!({"verify": true}), false),
        (json!({"verify": true, "ca_pem": Authority::unknown().pem}), false),
        (json!({"verify": false}), true),
        (json!({"verify": true, "ca_pem": stranger.pem}), true),
    ] {
        let outcome = first_outcome(&daemon, json!({"url": receiver.url, "tls": tls})).await;
        assert_eq!(outcome["success"], success, "{outcome}");
        assert_eq!(outcome["code"], if success { Value::Null } else { json!("tls") });
    }
    assert_eq!(receiver.total(), 2);
    // Of the right authority, but for another name.
    let receiver = Receiver::start().await;
    let url = receiver.url.replace("localhost", "127.0.0.2");
    let outcome = first_outcome(&daemon, json!({"url": url})).await;
    assert_ne!(outcome["success"], true, "{outcome}");
    assert_eq!(receiver.total(), 0);
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_who_asks_for_it() {
    let daemon = Daemon::start().await;
    let clients = Authority::unknown();
    let receiver = Receiver::showing(&authority().identity(), Some(&clients), |_, _| Reply::status(200)).await;
    let (ours, strange) = (clients.identity(), Authority::unknown().identity());
    for (tls, success) in [
        (json!({"verify": true}), false),
        (json!({"client_cert_pem": strange.cert_pem, "client_key_pem": strange.key_pem}), false),
        (json!({"client_cert_pem": ours.cert_pem, "client_key_pem": ours.key_pem}), true),
    ] {
        let outcome = first_outcome(&daemon, json!({"url": receiver.url, "tls": tls})).await;
        assert_eq!(outcome["success"], success, "{outcome}");
    }
    assert_eq!(receiver.total(), 1);
}

#[tokio::test]
async fn private_networks_are_closed_but_to_whom_they_are_opened() {
    let receiver = Receiver::start().await;
    let to = |organizations: &str| {
        format!("[delivery]\nallow_networks = [{{ cidr = \"127.0.0.0/8\", organizations = {organizations} }}]\n")
    };
    for (text, is_open) in [
        (String::new(), false),
        ("[delivery]\nallow_networks = [\"10.0.0.0/8\"]\n".to_owned(), false),
        (to("[\"other\"]"), false),
        (to("[\"acme\"]"), true),
        (to("[\"*\"]"), true),
    ] {
        let daemon = Daemon::with(&text, &[("POSTHASTE_DELIVERY_ALLOW_NETWORKS", "")]).await;
        daemon.call("PUT", "/v1/organizations/acme", json!({})).await.expect(201);
        let before = receiver.total();
        for host in ["localhost", "127.0.0.1", "127.1", "0x7f000001"] {
            let url = receiver.url.replace("localhost", host);
            let outcome = first_outcome(&daemon, json!({"url": url, "organization": "acme"})).await;
            // Of a name that leads inside not even that is told.
            let blocked = if host == "localhost" { "dns" } else { "address_blocked" };
            let code = if is_open { Value::Null } else { json!(blocked) };
            assert_eq!(outcome["code"], code, "{url} with {text:?}: {outcome}");
        }
        assert_eq!(receiver.total() - before, if is_open { 4 } else { 0 });
    }
}

#[tokio::test]
async fn a_token_endpoint_is_vetted_as_receivers_are() {
    let daemon = Daemon::with("", &[("POSTHASTE_DELIVERY_ALLOW_NETWORKS", "")]).await;
    let tokens = Receiver::start().await;
    let authentication = json!({"type": "oauth2", "token_url": tokens.url, "client_id": "a", "client_secret": "b"});
    let fields = json!({"url": "https://192.0.2.1/hooks", "authentication": authentication});
    let outcome = first_outcome(&daemon, fields).await;
    assert_eq!((&outcome["success"], tokens.total()), (&json!(false), 0), "{outcome}");
}

#[tokio::test]
async fn our_own_listener_is_never_dialled() {
    let daemon = Daemon::start().await;
    for host in ["localhost", "127.0.0.1", "127.0.0.9"] {
        let url = format!("http://{host}:{}/v1/events", daemon.address.port());
        let outcome = first_outcome(&daemon, json!({"url": url})).await;
        // Of the other loopback addresses nothing listens there.
        let codes = match host {
            "localhost" => vec!["dns"],
            "127.0.0.9" => vec!["address_blocked", "connect"],
            _ => vec!["address_blocked"],
        };
        assert!(codes.contains(&outcome["code"].as_str().expect("a code")), "{host}: {outcome}");
    }
    let listed = daemon.get("/v1/events").await.expect(200);
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(3), "only what was published");
}

#[tokio::test]
async fn plain_http_is_refused_unless_it_is_allowed() {
    let receiver = Receiver::plain(|_, _| Reply::status(200)).await;
    let daemon = Daemon::with("", &[("POSTHASTE_DELIVERY_ALLOW_HTTP", "false")]).await;
    let fields = json!({"url": receiver.url, "events": ["*"]});
    assert_eq!(daemon.post("/v1/subscriptions", fields.clone()).await.refused(422, "validation_failed"), ["url"]);
    let daemon = Daemon::start().await;
    assert_eq!(first_outcome(&daemon, fields).await["success"], true);
}
