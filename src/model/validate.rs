//! What a subscription's settings must be, whoever writes them: the API, a
//! vendor's API, a file. Tells all faults at once, each with its field and what is
//! allowed. What needs storage (whether an organization or a source exists) is for
//! the store to say.

mod request;

use std::collections::{BTreeSet, HashSet};
use std::fmt::Display;
use std::hash::Hash;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::dialect;
use crate::filter;
use crate::input::Faults;
use crate::limits::{
    CONCURRENCY_MAX, CONDITIONS_MAX, DESCRIPTION_CHARS_MAX, FAILURE_LIMIT_MAX, METADATA_BYTES_MAX, NAME_CHARS_MAX,
    NOTIFY_MAX, PATTERNS_MAX, RATE_PER_SECOND_MAX, SCOPE_SOURCES_MAX,
};
use crate::time::{Timestamp, format_duration};

use super::{DeliveryOverrides, Fault, Scope, Settings};

/// What the rules depend on beside the settings.
pub struct Surroundings {
    /// What time it is.
    pub now: Timestamp,
    /// `[delivery] allow_http`.
    pub allow_http: bool,
    /// Names that the data of the subscribed types is known to have; none: not known.
    pub known_fields: Option<BTreeSet<String>>,
}

/// The whole of an attempt.
pub const TIMEOUT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);
/// The first delay of retries.
pub const RETRY_FIRST: RangeInclusive<Duration> = Duration::from_millis(100)..=RETRY_DELAY_MAX;
/// The longest `max_delay` of retries.
pub const RETRY_DELAY_MAX: Duration = Duration::from_secs(24 * 3600);
/// By what delays grow.
pub const RETRY_FACTOR: RangeInclusive<f64> = 1.0..=10.0;
/// The share of a delay that chance adds or takes.
pub const RETRY_JITTER: RangeInclusive<f64> = 0.0..=0.5;
/// How long is retried.
pub const RETRY_GIVE_UP_AFTER: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(30 * 86_400);
/// The levels of secrecy.
const SECRECY_LEVEL_MAX: u8 = 2;

/// Every fault of `settings`, by the native API's field names. `unsigned`: whether it is to have no secret.
pub fn check(settings: &Settings, unsigned: bool, surroundings: &Surroundings) -> Vec<Fault> {
    let faults = Faults::new();
    check_names(settings, &faults);
    request::check(settings, surroundings, &faults);
    check_format(settings, unsigned, &faults);
    check_matching(settings, &faults);
    check_failing(settings, surroundings.now, &faults);
    check_delivery(&settings.delivery, &faults);
    faults.into_vec()
}

/// At most so many characters.
fn check_chars(field: impl Into<String>, text: &str, chars_max: usize, faults: &Faults) {
    if text.chars().count() > chars_max {
        faults.add(field, format!("must have at most {chars_max} characters"));
    }
}

/// At most so many characters, and at least one.
fn check_name(field: impl Into<String>, text: &str, faults: &Faults) {
    if text.is_empty() || text.chars().count() > NAME_CHARS_MAX {
        faults.add(field, format!("must have 1 to {NAME_CHARS_MAX} characters"));
    }
}

fn check_within<T: PartialOrd>(
    field: &str,
    value: Option<T>,
    range: &RangeInclusive<T>,
    show: impl Fn(&T) -> String,
    faults: &Faults,
) {
    if value.is_some_and(|value| !range.contains(&value)) {
        faults.add(field, format!("must be from {} to {}", show(range.start()), show(range.end())));
    }
}

/// Each item once.
fn check_once<T: Eq + Hash + Display>(field: &str, items: &[T], faults: &Faults) {
    let mut seen = HashSet::new();
    for (index, item) in items.iter().enumerate() {
        if !seen.insert(item) {
            faults.add(format!("{field}[{index}]"), format!("must not repeat \"{item}\""));
        }
    }
}

fn check_names(settings: &Settings, faults: &Faults) {
    check_name("organization", &settings.organization, faults);
    check_chars("name", &settings.name, NAME_CHARS_MAX, faults);
    check_chars("description", &settings.description, DESCRIPTION_CHARS_MAX, faults);
    check_chars("external_id", settings.external_id.as_deref().unwrap_or_default(), NAME_CHARS_MAX, faults);
    if serde_json::Value::from(settings.metadata.clone()).to_string().len() > METADATA_BYTES_MAX {
        faults.add("metadata", format!("must have at most {METADATA_BYTES_MAX} bytes as compact JSON"));
    }
}

fn check_format(settings: &Settings, unsigned: bool, faults: &Faults) {
    let dialect = dialect::find(settings.format);
    if unsigned && !dialect.allows_unsigned() {
        faults.add("secret", format!("must not be null: the format {} signs every request", settings.format));
    }
    dialect.check(settings, faults);
}

fn check_matching(settings: &Settings, faults: &Faults) {
    if settings.events.len() > PATTERNS_MAX {
        faults.add("events", format!("must have at most {PATTERNS_MAX} patterns"));
    }
    check_once("events", &settings.events, faults);

    if let Scope::Sources(sources) = &settings.scope {
        if sources.is_empty() || sources.len() > SCOPE_SOURCES_MAX {
            faults.add("scope", format!("must be own, recursive or a list of 1 to {SCOPE_SOURCES_MAX} source ids"));
        }
        for (index, source) in sources.iter().enumerate() {
            check_name(format!("scope[{index}]"), source, faults);
        }
        check_once("scope", sources, faults);
    }

    if settings.filter.len() > CONDITIONS_MAX {
        faults.add("filter", format!("must have at most {CONDITIONS_MAX} conditions"));
    }
    for (index, condition) in settings.filter.iter().enumerate() {
        if let Err(message) = filter::check_path(&condition.path) {
            faults.add(format!("filter[{index}].path"), message);
        }
        if let Err(message) = filter::check_value(condition.op, &condition.value) {
            faults.add(format!("filter[{index}].value"), message);
        }
    }

    check_within("secrecy_level", Some(settings.secrecy_level), &(0..=SECRECY_LEVEL_MAX), u8::to_string, faults);
}

fn check_failing(settings: &Settings, now: Timestamp, faults: &Faults) {
    check_within("failure_limit", settings.failure_limit, &(1..=FAILURE_LIMIT_MAX), u32::to_string, faults);
    if settings.notify.len() > NOTIFY_MAX {
        faults.add("notify", format!("must have at most {NOTIFY_MAX} user ids"));
    }
    for (index, user) in settings.notify.iter().enumerate() {
        check_name(format!("notify[{index}]"), user, faults);
    }
    if settings.expires_at.is_some_and(|at| at <= now) {
        faults.add("expires_at", "must be in the future");
    }
}

fn check_delivery(delivery: &DeliveryOverrides, faults: &Faults) {
    let span = |span: &Duration| format_duration(*span);
    let retry = &delivery.retry;
    check_within("delivery.timeout", delivery.timeout, &TIMEOUT, span, faults);
    check_within("delivery.concurrency", delivery.concurrency, &(1..=CONCURRENCY_MAX), u32::to_string, faults);
    let rates = 0.0..=RATE_PER_SECOND_MAX;
    check_within("delivery.rate_per_second", delivery.rate_per_second, &rates, f64::to_string, faults);
    check_within("delivery.retry.first", retry.first, &RETRY_FIRST, span, faults);
    check_within("delivery.retry.factor", retry.factor, &RETRY_FACTOR, f64::to_string, faults);
    let first = retry.first.unwrap_or(*RETRY_FIRST.start());
    let longest = first.min(RETRY_DELAY_MAX)..=RETRY_DELAY_MAX;
    check_within("delivery.retry.max_delay", retry.max_delay, &longest, span, faults);
    check_within("delivery.retry.jitter", retry.jitter, &RETRY_JITTER, f64::to_string, faults);
    check_within("delivery.retry.give_up_after", retry.give_up_after, &RETRY_GIVE_UP_AFTER, span, faults);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Format;
    use crate::model::{Condition, Operator};
    use crate::pattern::Pattern;
    use serde_json::json;

    fn surroundings() -> Surroundings {
        Surroundings { now: Timestamp::from_millis(1_000_000), allow_http: false, known_fields: None }
    }

    /// The fields at fault once `change` was made to settings without one.
    fn faults_of(unsigned: bool, change: impl FnOnce(&mut Settings)) -> Vec<String> {
        let mut settings = Settings::sample();
        change(&mut settings);
        check(&settings, unsigned, &surroundings()).into_iter().map(|fault| fault.field).collect()
    }

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| Pattern::parse(text).expect("a pattern")).collect()
    }

    fn condition(path: &str, op: Operator, value: serde_json::Value) -> Condition {
        Condition { path: path.to_owned(), op, value }
    }

    #[test]
    fn settings_without_a_fault_pass() {
        assert!(faults_of(false, |_| {}).is_empty());
        let fine = |it: &mut Settings| {
            it.name = "é".repeat(255);
            it.description = "é".repeat(1024);
            it.events = Vec::new();
            it.scope = Scope::Sources(vec!["a".into(), "b".into()]);
            it.filter = vec![condition("/data/a", Operator::In, json!([1, "x"]))];
            it.secrecy_level = 2;
            it.failure_limit = Some(1);
            it.expires_at = Some(Timestamp::from_millis(1_000_001));
            it.delivery.timeout = Some(Duration::from_secs(60));
            it.delivery.rate_per_second = Some(0.0);
            it.delivery.retry.first = Some(Duration::from_secs(3));
            it.delivery.retry.max_delay = Some(Duration::from_secs(3));
        };
        assert_eq!(faults_of(false, fine), Vec::<String>::new());
    }

    #[test]
    fn each_fault_names_its_field() {
        type Change = fn(&mut Settings);
        let cases: [(Change, &[&str]); 30] = [
            (|it| it.organization = "".into(), &["organization"]),
            (|it| it.name = "x".repeat(256), &["name"]),
            (|it| it.description = "x".repeat(1025), &["description"]),
            (|it| it.external_id = Some("x".repeat(256)), &["external_id"]),
            (|it| drop(it.metadata.insert("a".into(), json!("x".repeat(4089)))), &["metadata"]),
            (|it| it.events = patterns(&["a", "b", "a"]), &["events[2]"]),
            (|it| it.events = (0..201).map(|n| Pattern::Exact(format!("t{n}").into())).collect(), &["events"]),
            (|it| it.scope = Scope::Sources(vec![]), &["scope"]),
            (|it| it.scope = Scope::Sources((0..1001).map(|n| format!("s{n}").into()).collect()), &["scope"]),
            (|it| it.scope = Scope::Sources(vec!["a".into(), "".into(), "a".into()]), &["scope[1]", "scope[2]"]),
            (|it| it.filter = vec![condition("type", Operator::Eq, json!(1))], &["filter[0].path"]),
            (|it| it.filter = vec![condition("/type", Operator::Lt, json!([]))], &["filter[0].value"]),
            (|it| it.filter = vec![condition("/type", Operator::Eq, json!(1)); 33], &["filter"]),
            (|it| it.secrecy_level = 3, &["secrecy_level"]),
            (|it| it.failure_limit = Some(0), &["failure_limit"]),
            (|it| it.failure_limit = Some(100_001), &["failure_limit"]),
            (|it| it.notify = vec!["u".into(); 65], &["notify"]),
            (|it| it.notify = vec!["u".into(), "".into()], &["notify[1]"]),
            (|it| it.expires_at = Some(Timestamp::from_millis(1_000_000)), &["expires_at"]),
            (|it| it.delivery.timeout = Some(Duration::from_millis(999)), &["delivery.timeout"]),
            (|it| it.delivery.concurrency = Some(0), &["delivery.concurrency"]),
            (|it| it.delivery.rate_per_second = Some(-0.5), &["delivery.rate_per_second"]),
            (|it| it.delivery.rate_per_second = Some(f64::NAN), &["delivery.rate_per_second"]),
            (|it| it.delivery.retry.first = Some(Duration::from_millis(99)), &["delivery.retry.first"]),
            (|it| it.delivery.retry.factor = Some(f64::INFINITY), &["delivery.retry.factor"]),
            (|it| it.delivery.retry.max_delay = Some(RETRY_DELAY_MAX * 2), &["delivery.retry.max_delay"]),
            (
                |it| {
                    it.delivery.retry.first = Some(Duration::from_secs(5));
                    it.delivery.retry.max_delay = Some(Duration::from_secs(4));
                },
                &["delivery.retry.max_delay"],
            ),
            (|it| it.delivery.retry.jitter = Some(0.6), &["delivery.retry.jitter"]),
            (|it| it.delivery.retry.give_up_after = Some(Duration::from_secs(59)), &["delivery.retry.give_up_after"]),
            (
                |it| (it.name, it.secrecy_level, it.failure_limit) = ("x".repeat(256), 9, Some(0)),
                &["name", "secrecy_level", "failure_limit"],
            ),
        ];
        for (index, (change, fields)) in cases.into_iter().enumerate() {
            assert_eq!(faults_of(false, change), fields, "case {index}");
        }
        assert_eq!(faults_of(true, |_| {}), ["secret"]);
    }

    #[test]
    fn messages_say_what_is_allowed() {
        let mut settings = Settings::sample();
        settings.delivery.timeout = Some(Duration::ZERO);
        let faults = check(&settings, false, &surroundings());
        let messages: Vec<&str> = faults.iter().map(|fault| fault.message.as_str()).collect();
        assert_eq!(messages, ["must be from 1s to 1m"]);
    }

    #[test]
    fn pdk_does_not_mix_kinds_of_events() {
        for (events, fields) in [
            (&["ou.*", "panel.created"][..], &[][..]),
            (&["door.*", "panel.connected"], &[]),
            (&["ou.created", "door.opened"], &["events"]),
            (&["ou.*", "panel.*"], &["events[1]"]),
            (&["*"], &["events[0]"]),
        ] {
            let found = faults_of(false, |it| (it.format, it.events) = (Format::Pdk, patterns(events)));
            assert_eq!(found, fields, "{events:?}");
        }
    }
}
