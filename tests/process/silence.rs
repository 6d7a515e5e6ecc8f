//! Secrets are never written, at whatever level.

use serde_json::{Value, json};

use crate::daemon::{Daemon, Home, run, text};
use crate::support::receiver::Authority;
use crate::support::{Receiver, Reply};

#[tokio::test]
async fn no_secret_is_ever_written() {
    let home = Home::new();
    let made = run(&["key", "new", "--json"]).await;
    let key: Value = serde_json::from_slice(&made.stdout).expect("JSON");
    let token = key["token"].as_str().expect("a token").to_owned();
    let path = home.write_config("auth = \"keys\"", key["toml"].as_str().expect("a block"));
    let mut daemon = Daemon::start(&path).await;
    let call = async |daemon: &Daemon, method: &str, path: &str, body: &Value| {
        daemon.call(method, path, Some(&token), body).await
    };
    let tokens = Receiver::plain(|_, _| Reply {
        body: r#"{"access_token":"AccessTokenOfTheirs","token_type":"Bearer"}"#.into(),
        ..Reply::status(200)
    })
    .await;
    let receiver = Receiver::plain(|received, _| {
        // What the receiver says may repeat what it was sent.
        let body = received.header("authorization").to_owned();
        Reply { body: body.into(), ..Reply::status(401) }
    })
    .await;
    let client = Authority::unknown().identity();
    let mut secrets = vec![token.clone(), "AccessTokenOfTheirs".to_owned(), client.key_pem.clone()];
    secrets.extend(
        ["BearerTokenOfOurs", "BasicPasswordOfOurs", "ClientSecretOfOurs", "HeaderKeyOfOurs"].map(str::to_owned),
    );
    // "we:BasicPasswordOfOurs" and "we:ClientSecretOfOurs", as they are sent.
    secrets.extend(["d2U6QmFzaWNQYXNzd29yZE9mT3Vycw", "d2U6Q2xpZW50U2VjcmV0T2ZPdXJz"].map(str::to_owned));
    let mut subscriptions = Vec::new();
    for authentication in [
        json!({"type": "bearer", "token": "BearerTokenOfOurs"}),
        json!({"type": "basic", "user": "we", "password": "BasicPasswordOfOurs"}),
        json!({"type": "oauth2", "token_url": tokens.url, "client_id": "we", "client_secret": "ClientSecretOfOurs"}),
    ] {
        let fields = json!({
            "url": receiver.url,
            "events": ["*"],
            "authentication": authentication,
            "headers": {"X-Api-Key": "HeaderKeyOfOurs"},
            "tls": {"client_cert_pem": client.cert_pem, "client_key_pem": client.key_pem},
        });
        let made = call(&daemon, "POST", "/v1/subscriptions", &fields).await.expect(201);
        secrets.push(made["secret"].as_str().expect("a secret").to_owned());
        subscriptions.push(format!("/v1/subscriptions/{}", made["id"].as_str().expect("an id")));
    }
    for path in &subscriptions {
        let rotated = call(&daemon, "POST", &format!("{path}/secret/rotate"), &json!({})).await.expect(200);
        for held in rotated["secrets"].as_array().expect("secrets") {
            secrets.push(held["secret"].as_str().expect("a secret").to_owned());
        }
        call(&daemon, "POST", &format!("{path}/test"), &json!({})).await.expect(200);
        call(&daemon, "GET", &format!("{path}/secret"), &Value::Null).await.expect(200);
        call(&daemon, "PATCH", path, &json!({"name": "other"})).await.expect(200);
    }
    call(&daemon, "POST", "/v1/events", &json!({"type": "a.b", "data": 1})).await.expect(202);
    for path in &subscriptions {
        crate::support::within("the attempts", async {
            loop {
                let shown = call(&daemon, "GET", path, &Value::Null).await.expect(200);
                if shown["stats"]["attempts"] == 1 {
                    break;
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    let wrong = format!("{token}x");
    daemon.call("GET", "/v1/stats", Some(&wrong), &Value::Null).await.refused(401, "unauthenticated");
    let mut written = String::new();
    let url = daemon.url();
    for words in [&["status", "--url", &url, "--token", &token][..], &["status", "--url", &url, "--token", &wrong]] {
        let output = run(words).await;
        written += &(text(&output.stdout) + &text(&output.stderr));
    }
    for path in ["/v1/audit", "/v1/subscriptions"] {
        written += &text(&call(&daemon, "GET", path, &Value::Null).await.body);
    }
    daemon.stop().await;
    written += &daemon.whole_log().await;
    assert!(written.contains("attempt failed"), "it does log: {written}");
    for secret in secrets {
        let shown = secret.trim_start_matches("whsec_").trim_start_matches("ph_");
        assert!(!written.contains(shown) && !written.contains(&shown.replace('\n', "\\n")), "{shown} is written");
    }
}
