//! The documents' code is run, so that nobody copies code that is wrong. What
//! `docs/receiving.md` and `docs/dialects/` show receivers to do is held against real
//! deliveries: genuine ones, forged ones, stale ones. A language that is not on the
//! machine is told and left out; Rust is always there.
//!
//! - `receiver`: the code for Rust, as the document shows it.
//! - `language`: how code of the others is run.
//! - `api`, `configuration`: documents that are made, not written.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

mod api;
mod configuration;
mod language;
#[allow(clippy::disallowed_methods, unreachable_pub)]
mod receiver;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use posthaste::time::Clock;
use serde_json::{Value, json};

use language::Language;
use support::{Daemon, Received, Receiver};

const RECEIVING: &str = include_str!("../../docs/receiving.md");
const PERIDIO: &str = include_str!("../../docs/dialects/peridio.md");
const PDK: &str = include_str!("../../docs/dialects/pdk.md");
const BLYNK: &str = include_str!("../../docs/dialects/blynk.md");
const FERRISKEY: &str = include_str!("../../docs/dialects/ferriskey.md");

/// The fenced blocks of `document` in that language, one after the other.
fn code(document: &str, language: &str) -> String {
    let opening = format!("```{language}\n");
    let blocks = document.split(&opening).skip(1);
    let code: Vec<&str> = blocks.map(|block| block.split("```").next().unwrap()).collect();
    assert!(!code.is_empty(), "there is no {language}");
    code.join("\n")
}

/// A request that came, and whether it is to be accepted.
struct Case {
    what: &'static str,
    secret: String,
    received: Received,
    is_genuine: bool,
}

impl Case {
    /// As programs of [`language`] read it.
    fn as_json(&self) -> Value {
        let headers = self.received.headers.iter().map(|(name, value)| json!([name.as_str(), value.to_str().unwrap()]));
        let body = STANDARD.encode(&self.received.body);
        json!({"secret": self.secret, "headers": headers.collect::<Vec<_>>(), "body": body})
    }
}

fn with_header(received: &Received, name: &'static str, value: &str) -> Received {
    let mut changed = received.clone();
    changed.headers.insert(name, value.parse().unwrap());
    changed
}

fn with_another_body(received: &Received) -> Received {
    let mut changed = received.clone();
    let mut body = received.body.to_vec();
    *body.last_mut().unwrap() ^= 1;
    changed.body = body.into();
    changed
}

/// Deliveries of the format `standard` and what attackers make of them.
async fn standard_cases() -> Vec<Case> {
    let daemon = Daemon::start().await;
    let mut receiver = Receiver::start().await;
    let now = Clock::system().now();
    let seconds_of = |received: &Received| received.header("webhook-timestamp").parse::<u64>().unwrap();

    let before = posthaste::time::Timestamp::from_millis(now.as_millis() - 330_000);
    daemon.clock.set(before);
    let subscription = daemon.subscribe(json!({"url": receiver.url})).await;
    let secret = subscription["secret"].as_str().unwrap().to_owned();
    daemon.publish("door.opened", json!({"door": "stale"})).await;
    let stale = receiver.next().await;
    daemon.clock.set(now);
    daemon.publish("door.opened", json!({"door": "früh", "count": 1.0})).await;
    let fresh = receiver.next().await;
    let rotate = format!("/v1/subscriptions/{}/secret/rotate", subscription["id"].as_str().unwrap());
    let rotated = daemon.post(&rotate, json!({"overlap": "1h"})).await.expect(200);
    let new_secret = rotated["secrets"].as_array().unwrap().last().unwrap()["secret"].as_str().unwrap().to_owned();
    daemon.publish("door.opened", json!({"door": "rotated"})).await;
    let doubly_signed = receiver.next().await;
    assert_eq!(doubly_signed.header("webhook-signature").split(' ').count(), 2);
    daemon.pass(Duration::from_secs(600));
    daemon.publish("door.opened", json!({"door": "early"})).await;
    let early = receiver.next().await;

    let signature = fresh.header("webhook-signature").to_owned();
    let mut bare = fresh.clone();
    bare.headers.clear();
    let mut cases = Vec::new();
    let mut case = |what, secret: &String, received, is_genuine| {
        cases.push(Case { what, secret: secret.clone(), received, is_genuine });
    };
    case("a delivery", &secret, fresh.clone(), true);
    case("one signed by two, to who knows the old", &secret, doubly_signed.clone(), true);
    case("one signed by two, to who knows the new", &new_secret, doubly_signed, true);
    case("one of before the rotation, to who knows only the new", &new_secret, fresh.clone(), false);
    case("a recorded one, sent again later", &secret, stale, false);
    case("one of a clock that is ahead", &secret, early, false);
    case("another body", &secret, with_another_body(&fresh), false);
    case("another id", &secret, with_header(&fresh, "webhook-id", "other"), false);
    let later = (seconds_of(&fresh) + 1).to_string();
    case("another time", &secret, with_header(&fresh, "webhook-timestamp", &later), false);
    for time in ["", "soon", "-1", "99999999999999999999", "1e9"] {
        case("no time", &secret, with_header(&fresh, "webhook-timestamp", time), false);
    }
    for wrong in
        ["", "v1", "v1,", "v1,!", "v1,AAAA", &signature[..20], &signature[3..], &format!("v2{}", &signature[2..])]
    {
        case("no signature", &secret, with_header(&fresh, "webhook-signature", wrong), false);
    }
    case("no headers", &secret, bare, false);
    cases
}

/// A delivery of one of the vendors' formats, the same with another body, and to a
/// receiver with another secret.
async fn vendor_cases(format: &str, secret: &str, other_secret: &str) -> Vec<Case> {
    let daemon = Daemon::start().await;
    let mut receiver = Receiver::start().await;
    let fields = json!({"url": receiver.url, "format": format, "secret": secret, "events": ["panel.created"]});
    let subscription = daemon.subscribe(fields).await;
    let test = format!("/v1/subscriptions/{}/test", subscription["id"].as_str().unwrap());
    daemon.post(&test, Value::Null).await.expect(200);
    let received = receiver.next().await;
    let forged = with_another_body(&received);
    let case =
        |what, secret: &str, received, is_genuine| Case { what, secret: secret.to_owned(), received, is_genuine };
    vec![
        case("a delivery", secret, received.clone(), true),
        case("another body", secret, forged, false),
        case("another secret", other_secret, received, false),
    ]
}

/// Runs `code` on `cases`, and says of each that was judged wrongly what it is.
fn judge(language: &Language, code: &str, cases: &[Case]) {
    let input: Vec<Value> = cases.iter().map(Case::as_json).collect();
    let Some(output) = language.run(code, &json!(input)) else { return };
    let answers = output.as_array().expect("a list");
    assert_eq!(answers.len(), cases.len());
    for (case, answer) in cases.iter().zip(answers) {
        assert_eq!(answer, case.is_genuine, "{}: {}", language.name, case.what);
    }
}

#[test]
fn the_document_shows_the_code_that_is_compiled_here() {
    assert_eq!(
        code(RECEIVING, "rust"),
        include_str!("receiver.rs"),
        "put tests/documents/receiver.rs into the document"
    );
}

#[tokio::test]
async fn receivers_in_every_language_take_what_is_genuine_and_nothing_else() {
    let cases = standard_cases().await;
    for case in &cases {
        let accepted = receiver::is_genuine(&case.secret, &case.received.headers, &case.received.body);
        assert_eq!(accepted, case.is_genuine, "Rust: {}", case.what);
    }
    for language in [&language::PYTHON, &language::NODE, &language::GO] {
        judge(language, &code(RECEIVING, language.fence), &cases);
    }
}

#[tokio::test]
async fn receivers_of_vendors_formats_take_what_is_genuine() {
    let peridio = vendor_cases("peridio", "B284A51B143841695B2D7BF3B8554731", "C284A51B143841695B2D7BF3B8554731").await;
    judge(&language::PYTHON, &code(PERIDIO, "python"), &peridio);
    let pdk = vendor_cases("pdk", "whatever", "whatever else").await;
    judge(&language::PYTHON, &code(PDK, "python"), &pdk);
    judge(&language::NODE, &code(PDK, "js"), &pdk);
    let ferriskey = vendor_cases("ferriskey", &"9f86d081".repeat(8), &"8f86d081".repeat(8)).await;
    judge(&language::PYTHON, &code(FERRISKEY, "python"), &ferriskey);
}

#[tokio::test]
async fn a_receiver_of_the_format_blynk_knows_who_calls() {
    let daemon = Daemon::start().await;
    let mut cases = Vec::new();
    for (password, is_genuine) in [("long-random-password", true), ("another", false)] {
        let mut receiver = Receiver::start().await;
        let authentication = json!({"type": "basic", "user": "posthaste", "password": password});
        let fields = json!({"url": receiver.url, "format": "blynk", "authentication": authentication, "body": "{id}"});
        daemon.subscribe(fields).await;
        daemon.publish("device.online", json!({})).await;
        cases.push(Case { what: "a password", secret: String::new(), received: receiver.next().await, is_genuine });
    }
    let code = code(BLYNK, "python") + "\ndef is_genuine(secret, headers, body):\n    return is_ours(headers)\n";
    judge(&language::PYTHON, &code, &cases);
}

/// The mark and the work are one transaction: work that fails leaves no mark, work that
/// was done is not done again, and what is not genuine does nothing.
#[tokio::test]
async fn a_receiver_that_deduplicates_works_once() {
    let cases = standard_cases().await;
    let judged = |is_genuine| cases.iter().find(|case| case.is_genuine == is_genuine).unwrap().as_json();
    let code = code(RECEIVING, "python") + include_str!("deduplicates.py");
    let Some(told) = language::PYTHON.run(&code, &json!([judged(true), judged(false)])) else { return };
    assert_eq!(told, json!({"failed": 0, "answers": [204, 204, 401], "works": ["früh"]}));
}

/// What the document shows of a request is signed as it says.
#[test]
fn the_request_that_is_shown_is_rightly_signed() {
    let shown = code(RECEIVING, "http");
    let (head, body) = shown.trim_end().split_once("\n\n").unwrap();
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap();
    let secret = RECEIVING.split('`').find(|word| word.starts_with("whsec_M")).unwrap();
    let key = posthaste::sign::StandardKey::read(&posthaste::secret::Secret::new(secret.to_owned())).unwrap();
    let signature = key.sign(header("webhook-id"), header("webhook-timestamp").parse().unwrap(), body.as_bytes());
    assert_eq!(signature, header("webhook-signature"));
}

/// The documents that are made from something else, and what they should say.
async fn made() -> [(&'static str, String); 2] {
    [("docs/configuration.md", configuration::document()), ("docs/api.md", api::document().await)]
}

fn path_of(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

#[tokio::test]
async fn documents_that_are_made_say_what_they_are_made_from() {
    for (name, text) in made().await {
        let stands = std::fs::read_to_string(path_of(name)).unwrap_or_default();
        let first = stands.lines().zip(text.lines()).find(|(stands, made)| stands != made);
        assert!(
            stands == text,
            "{name} is out of date, first in {first:?}; run: cargo test --test documents write -- --ignored"
        );
    }
}

#[tokio::test]
#[ignore = "writes the documents that are made"]
async fn write() {
    for (name, text) in made().await {
        std::fs::write(path_of(name), text).unwrap();
    }
}

/// Every Markdown file that readers are led to.
fn written() -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for folder in ["", "docs", "docs/dialects"] {
        let entries = std::fs::read_dir(path_of(folder)).unwrap().map(|entry| entry.unwrap().path());
        found.extend(entries.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    found
}

/// What a heading is called in links: lower case, without punctuation, hyphens for spaces.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
    kept.chars().filter(|character| character.is_alphanumeric() || matches!(character, '-' | '_')).collect()
}

#[test]
fn every_link_leads_somewhere_and_the_readme_to_every_document() {
    let mut led_to = std::collections::HashSet::new();
    for document in written() {
        let text = std::fs::read_to_string(&document).unwrap();
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if link.starts_with("https://") {
                continue;
            }
            let (path, wanted) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { document.clone() } else { document.parent().unwrap().join(path) };
            assert!(target.exists(), "{} leads to {link}, which is not there", document.display());
            if !wanted.is_empty() {
                let headings = std::fs::read_to_string(&target).unwrap();
                let is_there = headings.lines().any(|line| line.starts_with('#') && anchor(line) == wanted);
                assert!(is_there, "{} leads to {link}, which is no heading", document.display());
            }
            if document.ends_with("README.md") {
                led_to.insert(target.canonicalize().unwrap());
            }
        }
    }
    for document in written().into_iter().filter(|document| !document.ends_with("README.md")) {
        assert!(
            led_to.contains(&document.canonicalize().unwrap()),
            "the README does not lead to {}",
            document.display()
        );
    }
}
