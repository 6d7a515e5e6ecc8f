//! Tests of reading and showing subscriptions.

use serde_json::{Value, json};

use super::*;
use crate::id::{Lane, SubscriptionId};
use crate::model::{FixedTarget, SigningSecret};
use crate::time::Timestamp;

/// A subscription that uses every field.
pub(in crate::api) fn example() -> Subscription {
    let secret = |text: &str| Secret::new(text.to_owned());
    let pairs = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>()
    };
    let at = Timestamp::from_millis(1_773_757_800_000);
    Subscription {
        id: SubscriptionId::new(at, [1; 10]),
        number: Lane(7),
        settings: Settings {
            organization: Name::from("acme"),
            name: "Doors".to_owned(),
            description: "for the lobby".to_owned(),
            external_id: Some("x-1".to_owned()),
            metadata: json!({"type": "a", "n": [1, 2.5, null]}).as_object().expect("an object").clone(),
            url: "https://hooks.example/in/{subject}".to_owned(),
            method: Method::Put,
            content_type: ContentType::Form,
            body: Some("{\"a\": {data.a}}".to_owned()),
            form: Some(pairs(&[("z", "{type}"), ("a", "1")])),
            query: Some(Vec::new()),
            headers: pairs(&[("X-Api-Key", "k3y"), ("X-Tenant", "acme")]),
            authentication: Authentication::Basic { user: "u".to_owned(), password: secret("pa55") },
            format: Format::Standard,
            events: ["door.*", "posthaste.test"].iter().map(|text| Pattern::parse(text).expect("valid")).collect(),
            scope: Scope::Sources(vec![Name::from("panel-1")]),
            filter: vec![Condition { path: "/data/a".to_owned(), op: Operator::Eq, value: Value::Null }],
            secrecy_level: 2,
            failure_limit: Some(10),
            notify: vec!["u1".to_owned()],
            expires_at: Some(at),
            tls: TlsSettings {
                verify: false,
                ca_pem: Some("ca".to_owned()),
                client_cert_pem: Some("cert".to_owned()),
                client_key_pem: Some(secret("kley")),
            },
            delivery: DeliveryOverrides {
                timeout: Some(Duration::from_millis(1500)),
                concurrency: Some(3),
                rate_per_second: Some(0.5),
                retry: RetryOverrides {
                    first: Some(Duration::from_secs(5)),
                    factor: Some(1.5),
                    max_delay: Some(Duration::from_secs(5400)),
                    jitter: Some(0.1),
                    give_up_after: Some(Duration::from_secs(86_400)),
                    transient_only: Some(true),
                },
                ordering: Some(Ordering::Fifo),
            },
        },
        secrets: vec![SigningSecret { secret: secret("whsec_s3cret"), created_at: at, valid_until: None }],
        status: Status::DisabledDueToErrors,
        status_reason: None,
        version: 4,
        created_at: at,
        updated_at: at,
        created_by: "ops".to_owned(),
        declared: None,
        fixed_target: FixedTarget::default(),
    }
}

fn shown(subscription: &Subscription) -> Map<String, Value> {
    show(subscription, &LaneStats::default(), None).as_object().expect("an object").clone()
}

/// Faults but those of the format, which needs the dialects.
fn faults(refusal: &Refusal) -> Vec<&str> {
    let all = refusal.faults.iter().chain(&refusal.secrets);
    all.map(|fault| fault.field.as_str()).filter(|field| *field != "format").collect()
}

/// Writes what a read shows, changed at some pointers, over the example.
fn rewrite(changes: &[(&str, Value)]) -> (Draft, Refusal) {
    let current = example();
    let mut body = Value::Object(shown(&current));
    for (pointer, value) in changes {
        *body.pointer_mut(pointer).expect(pointer) = value.clone();
    }
    parse(body.as_object().expect("an object"), Some(&current))
}

#[test]
fn what_was_read_can_be_written_back() {
    let current = example();
    let (draft, refusal) = rewrite(&[]);
    assert_eq!(faults(&refusal), Vec::<&str>::new());
    assert!(draft.settings == current.settings);
    assert_eq!(draft.status, Some(Status::DisabledDueToErrors));
    assert!(matches!(draft.secret, WantedSecret::Unsaid));

    let mut plain = current;
    let minimal = json!({"url": "https://a.example", "events": ["*"]});
    plain.settings = parse(minimal.as_object().expect("an object"), None).0.settings;
    plain.settings.organization = Name::from("acme");
    for authentication in [
        Authentication::None,
        Authentication::Bearer { token: Secret::new("t".to_owned()) },
        Authentication::OAuth2 {
            token_url: "https://id.example/token".to_owned(),
            client_id: "c".to_owned(),
            client_secret: Secret::new("s".to_owned()),
            scope: Some("a b".to_owned()),
            audience: None,
        },
    ] {
        plain.settings.authentication = authentication;
        let (draft, refusal) = parse(&shown(&plain), Some(&plain));
        assert_eq!(faults(&refusal), Vec::<&str>::new());
        assert!(draft.settings == plain.settings);
    }
}

#[test]
fn reads_show_no_secret() {
    let text = show(&example(), &LaneStats::default(), None).to_string();
    for secret in ["k3y", "pa55", "kley", "s3cret"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    assert!(text.contains("\"X-Tenant\":\"acme\""), "{text}");
    let mut unsigned = example();
    unsigned.secrets.clear();
    assert_eq!(shown(&unsigned)["secret"], Value::Null);
}

#[test]
fn a_mask_keeps_a_secret_only_where_it_was_sent_before() {
    let masked = ["headers.X-Api-Key", "authentication.password", "tls.client_key_pem"];
    for (url, given_anew) in [
        ("https://hooks.example/other", &[][..]),
        ("https://HOOKS.example:443/in", &[]),
        ("http://hooks.example/in", &masked),
        ("https://hooks.example:8443/in", &masked),
        ("https://evil.example/in", &masked),
        ("nonsense", &masked),
    ] {
        let (draft, refusal) = rewrite(&[("/url", json!(url))]);
        assert_eq!(faults(&refusal), given_anew, "{url}");
        let is_kept = given_anew.is_empty();
        assert_eq!(draft.settings.headers[0].1 == "k3y", is_kept, "{url}");
        assert_eq!(draft.settings.authentication == example().settings.authentication, is_kept, "{url}");
        assert!(draft.settings.tls.client_key_pem.is_some_and(|key| (key.expose() == "kley") == is_kept));
    }
    // Given anew, they may go anywhere.
    let (draft, refusal) = rewrite(&[
        ("/url", json!("https://evil.example")),
        ("/headers", json!({"x-api-key": "n3w"})),
        ("/authentication", json!({"type": "bearer", "token": "n3w"})),
        ("/tls/client_key_pem", Value::Null),
    ]);
    assert_eq!(faults(&refusal), Vec::<&str>::new());
    assert_eq!(draft.settings.headers, [("x-api-key".to_owned(), "n3w".to_owned())]);
}

#[test]
fn a_mask_without_anything_stored_is_refused() {
    for (pointer, value, field) in [
        ("/authentication", json!({"type": "bearer", "token": "***"}), "authentication.token"),
        (
            "/authentication",
            json!({"type": "oauth2", "token_url": "https://a.example", "client_id": "c", "client_secret": "***"}),
            "authentication.client_secret",
        ),
        ("/headers", json!({"cookie": "***"}), "headers.cookie"),
    ] {
        let (_, refusal) = rewrite(&[(pointer, value)]);
        assert_eq!(faults(&refusal), [field]);
    }
    // What is no credential is no mask either.
    let (draft, refusal) = rewrite(&[("/headers", json!({"x-rating": "***"}))]);
    assert_eq!(faults(&refusal), Vec::<&str>::new());
    assert_eq!(draft.settings.headers[0].1, "***");
}

#[test]
fn a_client_secret_goes_where_its_tokens_come_from() {
    let mut current = example();
    current.settings.authentication = Authentication::OAuth2 {
        token_url: "https://id.example/token".to_owned(),
        client_id: "c".to_owned(),
        client_secret: Secret::new("s".to_owned()),
        scope: None,
        audience: None,
    };
    current.settings.headers.clear();
    current.settings.tls = TlsSettings::default();
    for (pointer, url, told) in [
        ("/url", "https://elsewhere.example", &["authentication.client_secret"][..]),
        ("/authentication/token_url", "https://id.example/other", &[]),
        ("/authentication/token_url", "https://evil.example/token", &["authentication.client_secret"]),
    ] {
        let mut body = Value::Object(shown(&current));
        *body.pointer_mut(pointer).expect(pointer) = json!(url);
        let (_, refusal) = parse(body.as_object().expect("an object"), Some(&current));
        assert_eq!(faults(&refusal), told, "{pointer} {url}");
    }
}

#[test]
fn secret_required_has_a_code_of_its_own() {
    let secrets = vec![Fault::new("tls.client_key_pem", "must be given anew")];
    let alone = Refusal { faults: Vec::new(), secrets: secrets.clone() };
    assert_eq!(alone.into_result().expect_err("refused").code(), Code::SecretRequired);
    let mut mixed = Refusal { faults: Vec::new(), secrets };
    mixed.add(vec![
        Fault::new("tls", "follows from the one that is told"),
        Fault::new("tlsx", "is another field"),
        Fault::new("url", "is too long"),
    ]);
    let problem = mixed.into_result().expect_err("refused");
    let value = problem.to_value();
    let told: Vec<&str> =
        value["errors"].as_array().expect("a list").iter().filter_map(|error| error["field"].as_str()).collect();
    assert_eq!((problem.code(), told), (Code::ValidationFailed, vec!["tlsx", "url", "tls.client_key_pem"]));
    assert!(Refusal::default().into_result().is_ok());
}

#[test]
fn secrets_and_status_are_changed_elsewhere_or_not_at_all() {
    for (pointer, value, told) in [
        ("/secret", json!("***"), &[][..]),
        ("/secret", json!("whsec_s3cret"), &[]),
        ("/secret", json!("whsec_another"), &["secret"]),
        ("/secret", Value::Null, &["secret"]),
        ("/status", json!("disabled"), &[]),
        ("/status", json!("enabled"), &[]),
        ("/status", json!("broken"), &["status"]),
        ("/organization", json!("other"), &["organization"]),
        ("/organization", Value::Null, &[]),
        ("/delivery/ordering", json!("none"), &[]),
        ("/delivery/ordering", Value::Null, &[]),
        ("/delivery/ordering", json!("lifo"), &["delivery.ordering"]),
        ("/id", json!("ignored"), &[]),
    ] {
        let (_, refusal) = rewrite(&[(pointer, value.clone())]);
        assert_eq!(faults(&refusal), told, "{pointer} {value}");
    }
    let by_itself = json!({"url": "https://a.example", "events": [], "status": "disabled_due_to_errors"});
    let (_, refusal) = parse(by_itself.as_object().expect("an object"), None);
    assert_eq!(faults(&refusal), ["status"]);
}

#[test]
fn all_faults_are_told_at_once() {
    let body = json!({
        "url": 1, "events": ["a..b", 2], "scope": "all", "method": "HEAD", "headers": {"A": "1", "a": "2", "b": 3},
        "authentication": {"type": "basic", "user": "u", "passwort": "p"}, "filter": [{"path": "/a", "op": "like"}],
        "tls": {"verify": "no"}, "delivery": {"timeout": 5, "retry": {"on": "never"}}, "secrecy_level": 3,
        "failure_limit": 0, "expires_at": "soon", "colour": "red",
    });
    let (_, refusal) = parse(body.as_object().expect("an object"), None);
    let mut told = faults(&refusal);
    told.sort_unstable();
    assert_eq!(
        told,
        [
            "authentication.password",
            "authentication.passwort",
            "colour",
            "delivery.retry.on",
            "delivery.timeout",
            "events[0]",
            "events[1]",
            "expires_at",
            "failure_limit",
            "filter[0].op",
            "filter[0].value",
            "headers.a",
            "headers.b",
            "method",
            "scope",
            "secrecy_level",
            "tls.verify",
            "url",
        ]
    );
    let (_, refusal) = parse(&Map::new(), None);
    assert_eq!(faults(&refusal), ["url", "events"]);
}

#[test]
fn lowering_secrecy_needs_the_role_secrets() {
    let mut settings = example().settings;
    let stored = settings.clone();
    // It is sent events of a vendor whose own format leaves credentials out.
    assert!(settings.events.iter().any(|pattern| pattern.matches("door.request.allowed")));
    for (level, over_stored, new) in [(0, true, true), (1, true, false), (2, false, false)] {
        settings.secrecy_level = level;
        assert_eq!(role_needed(&settings, Some(&stored)).is_some(), over_stored, "{level}");
        assert_eq!(role_needed(&settings, None).is_some(), new, "{level}");
    }
    settings.events = vec![Pattern::Exact("shop.closed".into())];
    settings.secrecy_level = 0;
    assert_eq!(role_needed(&settings, None), None);
    settings.format = Format::Pdk;
    assert_eq!(role_needed(&settings, None), Some(Role::Secrets));
}
