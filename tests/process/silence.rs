//! Secrets are never written: not in a log at any level, not in an answer to who may
//! not read them, not in the store's file.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::daemon::{Daemon, Home, run, text};
use crate::support::receiver::Authority;
use crate::support::{Receiver, Reply};

/// Everything that a full run was told in secret, and everything that it wrote.
#[derive(Default)]
struct Hoard {
    secrets: Vec<String>,
    /// Where it was written, and what.
    written: Vec<(String, Vec<u8>)>,
}

impl Hoard {
    /// Every secret that was written, and where.
    fn found(&self) -> Vec<String> {
        let mut found = Vec::new();
        for secret in &self.secrets {
            let shown = secret.trim_start_matches("whsec_").trim_start_matches("ph_");
            // A key in PEM is looked for by a line of its own: line breaks are spelled in many ways.
            let shown = shown.lines().nth(1).unwrap_or(shown);
            assert!(shown.len() >= 12, "{shown} is too short to be told apart");
            for (place, written) in &self.written {
                if written.windows(shown.len()).any(|window| window == shown.as_bytes()) {
                    found.push(format!("{shown} in {place}"));
                }
            }
        }
        found
    }
}

/// Runs a daemon with secrets in every place that takes one, asks it for everything
/// that it says to who may not read secrets, and stops it. `storage`: lines of `[storage]`.
async fn full_run(home: &Home, storage: &str) -> Hoard {
    let mut hoard = Hoard::default();
    let new_key = async |role: &str| {
        let made = run(&["key", "new", "--json", "--name", role, "--role", role]).await;
        let key: Value = serde_json::from_slice(&made.stdout).expect("JSON");
        (key["token"].as_str().expect("a token").to_owned(), key["toml"].as_str().expect("a block").to_owned())
    };
    let ((admin, admin_block), (reader, reader_block)) = (new_key("admin").await, new_key("read").await);
    hoard.secrets.extend([admin.clone(), reader.clone()]);
    let path = home.write_config("auth = \"keys\"", &format!("{admin_block}\n{reader_block}"));
    let config = std::fs::read_to_string(&path).expect("written");
    std::fs::write(&path, config.replace("[storage]\n", &format!("[storage]\n{storage}\n"))).expect("written");
    let mut daemon = Daemon::start(&path).await;
    let call = async |method: &str, path: &str, body: &Value| daemon.call(method, path, Some(&admin), body).await;

    let tokens = Receiver::plain(|_, _| Reply {
        body: r#"{"access_token":"AccessTokenOfTheirs","token_type":"Bearer"}"#.into(),
        ..Reply::status(200)
    })
    .await;
    let receiver = Receiver::plain(|received, _| {
        // What the receiver says repeats what it was sent, in more than one spelling.
        let headers: Vec<(&str, &[u8])> =
            received.headers.iter().map(|(name, it)| (name.as_str(), it.as_bytes())).collect();
        let shown: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value))).collect();
        Reply { body: json!({"got": shown, "token": shown.join(" ")}).to_string().into(), ..Reply::status(401) }
    })
    .await;
    let client = Authority::unknown().identity();
    hoard.secrets.extend(["AccessTokenOfTheirs".to_owned(), client.key_pem.clone()]);
    let known =
        ["BearerTokenOfOurs", "BasicPasswordOfOurs", "ClientSecretOfOurs", "HeaderKeyOfOurs", "CookieOf\"Ours\\"];
    hoard.secrets.extend(known.map(str::to_owned));
    // "we:BasicPasswordOfOurs" and "we:ClientSecretOfOurs", as they are sent.
    hoard.secrets.extend(["d2U6QmFzaWNQYXNzd29yZE9mT3Vycw", "d2U6Q2xpZW50U2VjcmV0T2ZPdXJz"].map(str::to_owned));
    hoard.secrets.push("RefusedPasswordOfOurs".to_owned());

    let mut subscriptions = Vec::new();
    for (format, authentication) in [
        ("standard", json!({"type": "bearer", "token": "BearerTokenOfOurs"})),
        ("cloudevents", json!({"type": "basic", "user": "we", "password": "BasicPasswordOfOurs"})),
        (
            "blynk",
            json!({"type": "oauth2", "token_url": tokens.url, "client_id": "we", "client_secret": "ClientSecretOfOurs"}),
        ),
        ("pdk", json!({"type": "none"})),
        ("ferriskey", json!({"type": "none"})),
    ] {
        let events = if format == "pdk" { json!([]) } else { json!(["a.*", "posthaste.*"]) };
        let mut fields = json!({
            "url": receiver.url,
            "format": format,
            "events": events,
            "authentication": authentication,
            "headers": {"X-Api-Key": "HeaderKeyOfOurs", "Cookie": "CookieOf\"Ours\\"},
            "tls": {"client_cert_pem": client.cert_pem, "client_key_pem": client.key_pem},
            "failure_limit": 3,
        });
        let made = call("POST", "/v1/subscriptions", &fields).await.expect(201);
        hoard.secrets.extend(made["secret"].as_str().map(str::to_owned));
        subscriptions.push(format!("/v1/subscriptions/{}", made["id"].as_str().expect("an id")));
        // A refusal repeats nothing of what it refuses.
        fields["authentication"] = json!({"type": "basic", "user": "w:e", "password": "RefusedPasswordOfOurs\n"});
        let refusal = call("POST", "/v1/subscriptions", &fields).await;
        assert_eq!(refusal.status, 422);
        hoard.written.push(("a refusal".to_owned(), refusal.body.to_vec()));
    }
    for path in &subscriptions {
        // Refused where the format signs nothing.
        let rotated = call("POST", &format!("{path}/secret/rotate"), &json!({})).await.json();
        for held in rotated["secrets"].as_array().into_iter().flatten() {
            hoard.secrets.extend(held["secret"].as_str().map(str::to_owned));
        }
        call("GET", &format!("{path}/secret"), &Value::Null).await.expect(200);
        for (method, path, body) in [
            ("POST", format!("{path}/test"), json!({})),
            ("PATCH", path.clone(), json!({"name": "other"})),
            ("PATCH", path.clone(), json!({"url": "https://elsewhere.example/"})),
            ("POST", format!("{path}/enable?verify=true"), json!({})),
        ] {
            let answer = call(method, &path, &body).await;
            hoard.written.push((format!("{method} {path}"), answer.body.to_vec()));
        }
    }
    call("POST", "/v1/events", &json!({"type": "a.b", "data": 1})).await.expect(202);
    for path in &subscriptions[..3] {
        crate::support::within("the attempts", async {
            while call("GET", path, &Value::Null).await.expect(200)["stats"]["attempts"] == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    let read = async |path: &str| {
        let answer = daemon.call("GET", path, Some(&reader), &Value::Null).await;
        assert_eq!(answer.status, 200, "{path}");
        answer.body.to_vec()
    };
    for list in ["/v1/subscriptions", "/v1/deliveries", "/v1/events"] {
        let page = read(&format!("{list}?limit=500")).await;
        let shown: Value = serde_json::from_slice(&page).expect("JSON");
        hoard.written.push((list.to_owned(), page));
        for row in shown["data"].as_array().expect("a page") {
            let path = format!("{list}/{}", row["id"].as_str().expect("an id"));
            let one = read(&path).await;
            hoard.written.push((path, one));
        }
    }
    for path in ["/metrics", "/v1/stats", "/v1/organizations", "/v1/event-types?limit=500"] {
        let answer = read(path).await;
        hoard.written.push((path.to_owned(), answer));
    }
    let audit = call("GET", "/v1/audit?limit=500", &Value::Null).await;
    hoard.written.push(("/v1/audit".to_owned(), audit.body.to_vec()));

    let wrong = format!("{admin}x");
    daemon.call("GET", "/v1/stats", Some(&wrong), &Value::Null).await.refused(401, "unauthenticated");
    let url = daemon.url();
    for words in [&["status", "--url", &url, "--token", &admin][..], &["status", "--url", &url, "--token", &wrong]] {
        let output = run(words).await;
        hoard.written.push(("posthaste status".to_owned(), [output.stdout, output.stderr].concat()));
    }
    daemon.signal(Signal::HUP);
    daemon.logs("the reload", |entry| entry["fields"]["message"] == "configuration reloaded").await;
    // A stop empties it.
    let log = std::fs::read(home.path("store").join("posthaste.wal")).expect("the store's log");
    assert!(log.starts_with(b"phwal"));
    hoard.written.push(("the store's write-ahead log".to_owned(), log));
    daemon.stop().await;
    let log = daemon.whole_log().await;
    assert!(log.contains("attempt failed"), "it does log: {log}");
    hoard.written.push(("the log".to_owned(), log.into_bytes()));
    let file = std::fs::read(home.path("store").join("posthaste.redb")).expect("the store's file");
    hoard.written.push(("the store's file".to_owned(), file));
    hoard
}

#[tokio::test]
async fn no_secret_is_ever_written() {
    let home = Home::new();
    let file = home.path("storage.key");
    let made = run(&["key", "storage", file.to_str().expect("text"), "--json"]).await;
    assert!(made.status.success(), "{}", text(&made.stderr));
    let mut hoard = full_run(&home, &format!("encryption_key_file = {file:?}")).await;
    hoard.secrets.push(std::fs::read_to_string(&file).expect("a key").trim().to_owned());
    hoard.written.push(("posthaste key storage".to_owned(), [made.stdout, made.stderr].concat()));
    assert_eq!(hoard.found(), Vec::<String>::new());
    let store = |(place, written): &(String, Vec<u8>)| place.contains("store's") && written.len() > 10_000;
    assert!(hoard.written.iter().any(store), "the file was looked at");
}

/// The search finds what is there: without a key the store's file has every secret of
/// a subscription, and it alone.
#[tokio::test]
async fn without_a_key_the_stores_file_has_secrets_and_nothing_else_does() {
    let home = Home::new();
    let hoard = full_run(&home, "").await;
    let found = hoard.found();
    assert!(found.iter().all(|it| it.ends_with("in the store's file")), "{found:#?}");
    for secret in ["BearerTokenOfOurs", "BasicPasswordOfOurs", "ClientSecretOfOurs", "HeaderKeyOfOurs"] {
        assert!(found.iter().any(|it| it.starts_with(secret)), "{secret} is found: {found:#?}");
    }
    let written = &hoard.written.iter().find(|(place, _)| place == "the log").expect("a log").1;
    assert!(String::from_utf8_lossy(written).contains("storage.encryption_key_file is not set"), "it is told at start");
}
