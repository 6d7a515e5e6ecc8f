//! What the benchmark publishes and computes; what it measures is its own business.
#![allow(clippy::unwrap_used)]

#[path = "../benches/throughput/event.rs"]
mod event;
#[path = "../benches/throughput/figures.rs"]
mod figures;

use figures::{Goal, Line, median, percentile, table};

#[test]
fn an_event_has_500_bytes_and_says_when_it_was_published() {
    for published_at_ns in [0, 17, u64::MAX] {
        let text = event::text("bench.event", published_at_ns);
        assert_eq!(text.len(), 500);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["type"], "bench.event");
        let envelope = format!("{{\"type\":\"bench.event\",\"data\":{}}}", value["data"]);
        assert_eq!(event::published_at_ns(envelope.as_bytes()), Some(published_at_ns));
    }
    assert_eq!(event::published_at_ns(b"{\"published_at_ns\":\"12"), None);
}

#[test]
fn the_median_is_in_the_middle() {
    assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
    assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
}

#[test]
fn percentiles_are_values_that_were_seen() {
    let values: Vec<u64> = (1..=100).collect();
    assert_eq!((percentile(&values, 0.5), percentile(&values, 0.99), percentile(&values, 1.0)), (50, 99, 100));
    assert_eq!((percentile(&[7], 0.5), percentile(&[7], 0.0), percentile(&[], 0.5)), (7, 7, 0));
}

#[test]
fn half_a_goal_is_half_as_many_or_twice_as_long() {
    let many = Line::new("many", Goal::AtLeast(10.0), 5.0, "");
    let long = Line::new("long", Goal::AtMost(10.0), 20.0, "ms");
    assert_eq!((many.is_met(false), many.is_met(true)), (false, true));
    assert_eq!((long.is_met(false), long.is_met(true)), (false, true));
    assert!(!Line::new("few", Goal::AtLeast(10.0), 4.9, "").is_met(true));
    assert!(Line::new("shown", Goal::Shown, 0.0, "").is_met(false));
}

#[test]
fn the_table_says_what_falls_short() {
    let lines = [
        Line::new("a", Goal::AtMost(4.0), 12.345, "ms"),
        Line::new("b", Goal::Shown, 0.0312, "").note("beside"),
        // It said 0.25 of 0.25, and that this was too little.
        Line::new("c", Goal::AtLeast(0.25), 0.2488, ""),
    ];
    let wanted = "\
        | row | goal       | figure  |      | seen beside it |\n\
        | --- | ---------- | ------- | ---- | -------------- |\n\
        | a   | <= 4.00 ms | 12.3 ms | FAIL |                |\n\
        | b   |            | 0.0312  |      | beside         |\n\
        | c   | >= 0.250   | 0.249   | FAIL |                |\n";
    assert_eq!(table(&lines, false), wanted);
}
