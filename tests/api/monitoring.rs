//! What is shipped for Prometheus and Grafana names only what `/metrics` tells: a renamed
//! metric would leave an alert that never rings.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Daemon, Receiver};
use crate::{failing_receiver, publish_for_delivery};

const ALERTS: &str = include_str!("../../packaging/alerts.yml");
const DASHBOARD: &str = include_str!("../../packaging/grafana-dashboard.json");

/// When certificates end that rcgen makes.
const END_OF_RCGEN: &str = "4096-01-01T00:00:00.000Z";

/// Where `promtool` is installed, it judges what it is given.
fn check_by_promtool(what: &[&str], input: &[u8]) {
    let mut promtool = Command::new("promtool");
    promtool.arg("check").args(what).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Ok(mut child) = promtool.spawn() {
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

/// The names that `/metrics` has values for, once one delivery succeeded and one waits.
async fn told() -> BTreeSet<String> {
    let daemon = Daemon::start().await;
    let (healthy, failing) = (Receiver::start().await, failing_receiver().await);
    daemon.subscribe(json!({"url": healthy.url, "events": ["a"]})).await;
    daemon.subscribe(json!({"url": failing.url, "events": ["b"]})).await;
    let delivery = publish_for_delivery(&daemon, "a").await;
    daemon.until(&delivery, |delivery| delivery["state"] == "delivered").await;
    let delivery = publish_for_delivery(&daemon, "b").await;
    daemon.until(&delivery, |delivery| delivery["attempts"] == 1).await;
    let text = String::from_utf8(daemon.get("/metrics").await.body.to_vec()).unwrap();
    check_by_promtool(&["metrics"], text.as_bytes());
    for line in [
        "posthaste_lanes{state=\"flowing\"} 2",
        "posthaste_attempt_duration_seconds_count 2",
        "posthaste_delivery_delay_seconds_count 1",
        "posthaste_ready 1",
        "posthaste_storage_full 0",
        concat!("posthaste_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line} in\n{text}");
    }
    let oldest = format!("posthaste_oldest_pending_timestamp_seconds {}", daemon.clock.now().as_secs());
    assert!(text.lines().any(|shown| shown == oldest), "{oldest} in\n{text}");
    // Both receivers speak TLS, on ports of their own.
    let certificates = "posthaste_endpoint_certificates{expiry=\"later\"} 2";
    assert!(text.lines().any(|shown| shown == certificates), "{certificates} in\n{text}");
    let shown = daemon.get("/v1/subscriptions").await.expect(200);
    assert_eq!(crate::texts(shown["data"].as_array().unwrap(), "/certificate_expires_at"), [END_OF_RCGEN; 2]);
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.map(|line| line.split(['{', ' ']).next().unwrap().to_owned()).collect()
}

/// Everything in `text` that looks like a metric of ours.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    words.filter(|word| word.starts_with("posthaste_")).map(str::to_owned).collect()
}

#[tokio::test]
async fn alerts_and_dashboard_name_what_there_is() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    for panel in panels {
        let expressions = panel["targets"].as_array().expect("targets").iter();
        let expressions: Vec<&str> = expressions.map(|target| target["expr"].as_str().expect("text")).collect();
        assert!(!expressions.is_empty() && expressions.iter().all(|it| !named(it).is_empty()), "{}", panel["title"]);
    }
    let told = told().await;
    for (file, text) in [("alerts.yml", ALERTS), ("grafana-dashboard.json", DASHBOARD)] {
        let named = named(text);
        assert!(named.len() > 5, "{file}");
        let unknown: Vec<&String> = named.difference(&told).collect();
        assert!(unknown.is_empty(), "{file} names {unknown:?}; there is {told:?}");
    }
}

/// Each rule has what a rule needs.
#[test]
fn alerts_are_rules() {
    let rules: Vec<&str> = ALERTS.split("\n      - alert: ").skip(1).collect();
    assert!(rules.len() >= 10, "{}", rules.len());
    for rule in &rules {
        for member in ["\n        expr: ", "\n          severity: ", "\n          summary: "] {
            assert_eq!(rule.matches(member).count(), 1, "{member:?} in {rule}");
        }
        let (name, _) = rule.split_once('\n').unwrap();
        let operations = include_str!("../../docs/operations.md");
        assert!(operations.contains(&format!("`{name}`")), "docs/operations.md says nothing of {name}");
    }
    check_by_promtool(&["rules", "/dev/stdin"], ALERTS.as_bytes());
}
