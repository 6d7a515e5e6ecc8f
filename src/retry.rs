//! When to try again, and when not. Decides from values: the policy, the
//! attempt's outcome, `now`, and a random number.

use std::time::Duration;

use crate::model::{AttemptOutcome, FailureCode, RetryOverrides};
use crate::time::Timestamp;

/// How failed deliveries are retried.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The first delay.
    pub first: Duration,
    /// By what each delay grows.
    pub factor: f64,
    /// The longest delay, and the longest pause a `Retry-After` can ask for.
    pub max_delay: Duration,
    /// The share of a delay that chance adds or takes.
    pub jitter: f64,
    /// How long after acceptance (or reopening) the last attempt is made.
    pub give_up_after: Duration,
    /// Whether a 4xx other than 408, 425 and 429 fails at once.
    pub transient_only: bool,
}

impl Policy {
    /// This policy with what a subscription says otherwise.
    pub fn with(&self, overrides: &RetryOverrides) -> Policy {
        Policy {
            first: overrides.first.unwrap_or(self.first),
            factor: overrides.factor.unwrap_or(self.factor),
            max_delay: overrides.max_delay.unwrap_or(self.max_delay),
            jitter: overrides.jitter.unwrap_or(self.jitter),
            give_up_after: overrides.give_up_after.unwrap_or(self.give_up_after),
            transient_only: overrides.transient_only.unwrap_or(self.transient_only),
        }
    }

    /// The delay after the `failures`th failure in a row (from 1). `chance` is
    /// uniform in 0..1.
    pub fn delay(&self, failures: u32, chance: f64) -> Duration {
        let exponent = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
        let grown = self.first.as_secs_f64() * self.factor.powi(exponent);
        let capped = grown.min(self.max_delay.as_secs_f64());
        duration(capped * (1.0 + self.jitter * (2.0 * chance - 1.0)))
    }

    /// The longest that [`Policy::delay`] can answer: a due time further away
    /// than this was not made by this policy, but by a clock that was set back.
    pub fn delay_longest(&self) -> Duration {
        duration(self.max_delay.as_secs_f64() * (1.0 + self.jitter))
    }

    /// The moment of the last attempt of a delivery opened at `opened_at`.
    pub fn horizon(&self, opened_at: Timestamp) -> Timestamp {
        opened_at + self.give_up_after
    }

    /// What follows from a failed attempt.
    pub fn after_failure(&self, failure: &Failure, chance: f64) -> Verdict {
        let horizon = self.horizon(failure.opened_at);
        let is_hopeless = failure.code == FailureCode::TooLarge || self.transient_only && is_permanent(failure.status);
        if failure.began_at >= horizon || is_hopeless {
            return Verdict::GiveUp;
        }
        Verdict::RetryAt((failure.ended_at + self.delay(failure.failures, chance)).min(horizon))
    }
}

/// Growth leads beyond what a duration can hold: there it stays at the longest.
fn duration(secs: f64) -> Duration {
    Duration::try_from_secs_f64(secs.max(0.0)).unwrap_or(Duration::MAX)
}

/// A failed attempt, as far as retrying it goes.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    /// When its delivery was accepted or reopened.
    pub opened_at: Timestamp,
    /// When the attempt began.
    pub began_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// How many attempts of the delivery failed since it was opened, this one included.
    pub failures: u32,
    /// What went wrong. A request that is too large to be sent stays so.
    pub code: FailureCode,
    /// The HTTP status, where one came.
    pub status: Option<u16>,
}

/// What follows from a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Try again then.
    RetryAt(Timestamp),
    /// No attempt will be made.
    GiveUp,
}

/// A status that says that the same request will not fare better later.
fn is_permanent(status: Option<u16>) -> bool {
    status.is_some_and(|status| (400..500).contains(&status) && !matches!(status, 408 | 425 | 429))
}

/// Whether an outcome speaks against the endpoint rather than the request: such
/// failures in a row trip a lane.
pub fn trips(outcome: &AttemptOutcome) -> bool {
    let AttemptOutcome::Failure { code, status, .. } = outcome else { return false };
    match code {
        FailureCode::Status | FailureCode::Oauth2 => status.is_some_and(|status| status == 429 || status >= 500),
        FailureCode::Dns
        | FailureCode::Connect
        | FailureCode::ConnectTimeout
        | FailureCode::Tls
        | FailureCode::Timeout
        | FailureCode::Closed => true,
        _ => false,
    }
}

/// Whether the failure may be our own link's: nothing of the host was heard.
pub fn is_unreachable(code: FailureCode) -> bool {
    matches!(code, FailureCode::Dns | FailureCode::Connect | FailureCode::ConnectTimeout)
}

/// Reads a `Retry-After` value (RFC 9110, section 10.2.3): seconds or an HTTP
/// date. A date that has passed is no pause.
pub fn parse_retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let millis = u64::try_from(http_date(value)?.as_millisecond()).unwrap_or(0);
    Some(Timestamp::from_millis(millis).since(now))
}

/// Reads an HTTP date in the form of today (`Sun, 06 Nov 1994 08:49:37 GMT`) or in
/// one of the two obsolete ones that recipients must know (RFC 9110, section 5.6.7).
fn http_date(value: &str) -> Option<jiff::Timestamp> {
    let formats = ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];
    let date = formats.iter().find_map(|format| jiff::civil::DateTime::strptime(format, value).ok())?;
    // The last hours of the year 9999 are a date, though no time that can be counted to.
    Some(jiff::tz::TimeZone::UTC.to_timestamp(date).unwrap_or(jiff::Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RetryOverrides;
    use proptest::prelude::*;

    fn policy() -> Policy {
        Policy {
            first: Duration::from_secs(10),
            factor: 2.0,
            max_delay: Duration::from_secs(4 * 3600),
            jitter: 0.2,
            give_up_after: Duration::from_secs(72 * 3600),
            transient_only: false,
        }
    }

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_millis(secs * 1000)
    }

    fn failure(began: u64, ended: u64, failures: u32) -> Failure {
        Failure {
            opened_at: at(0),
            began_at: at(began),
            ended_at: at(ended),
            failures,
            code: FailureCode::Status,
            status: None,
        }
    }

    #[test]
    fn delays_follow_the_documented_schedule() {
        let delays: Vec<u64> = (1..=13).map(|failures| policy().delay(failures, 0.5).as_secs()).collect();
        let expected = [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120, 10240, 14400, 14400];
        assert_eq!(delays, expected);
        assert_eq!(policy().delay(1, 0.0), Duration::from_secs(8));
        assert_eq!(policy().delay(1, 1.0), Duration::from_secs(12));
        assert_eq!(policy().delay_longest(), Duration::from_secs(17280));
    }

    #[test]
    fn the_last_attempt_is_made_at_the_horizon() {
        let horizon = 72 * 3600;
        let mut now = 0;
        let mut attempts = 1;
        while let Verdict::RetryAt(next) = policy().after_failure(&failure(now, now + 1, attempts), 0.5) {
            assert!(next > at(now) && next <= at(horizon), "{next:?}");
            now = next.as_secs();
            attempts += 1;
        }
        assert_eq!((now, attempts), (horizon, 29));
        // Begun before the horizon and ended after it: one more, at once.
        let across = policy().after_failure(&failure(horizon - 1, horizon + 9, 3), 0.5);
        assert_eq!(across, Verdict::RetryAt(at(horizon)));
    }

    #[test]
    fn permanent_failures_end_it_only_where_asked_for() {
        let transient_only = Policy { transient_only: true, ..policy() };
        for (status, gives_up) in [
            (None, false),
            (Some(302), false),
            (Some(400), true),
            (Some(404), true),
            (Some(408), false),
            (Some(425), false),
            (Some(429), false),
            (Some(499), true),
            (Some(500), false),
        ] {
            let failure = Failure { status, ..failure(0, 1, 1) };
            assert_eq!(transient_only.after_failure(&failure, 0.5) == Verdict::GiveUp, gives_up, "{status:?}");
            assert_ne!(policy().after_failure(&failure, 0.5), Verdict::GiveUp, "{status:?}");
        }
    }

    #[test]
    fn what_is_too_large_is_given_up_at_once() {
        let failure = Failure { code: FailureCode::TooLarge, ..failure(0, 1, 1) };
        assert_eq!(policy().after_failure(&failure, 0.5), Verdict::GiveUp);
    }

    #[test]
    fn what_a_subscription_says_overrides() {
        let overrides = RetryOverrides { jitter: Some(0.0), transient_only: Some(true), ..RetryOverrides::default() };
        assert_eq!(policy().with(&overrides), Policy { jitter: 0.0, transient_only: true, ..policy() });
        assert_eq!(policy().with(&RetryOverrides::default()), policy());
    }

    #[test]
    fn what_speaks_against_the_endpoint_trips() {
        let failure = |code, status| AttemptOutcome::Failure { code, status, detail: String::new() };
        assert!(!trips(&AttemptOutcome::Success { status: 200 }));
        for (code, status, expected) in [
            (FailureCode::Status, Some(429), true),
            (FailureCode::Status, Some(500), true),
            (FailureCode::Status, Some(503), true),
            (FailureCode::Status, Some(301), false),
            (FailureCode::Status, Some(404), false),
            (FailureCode::Status, Some(410), false),
            (FailureCode::Dns, None, true),
            (FailureCode::Connect, None, true),
            (FailureCode::ConnectTimeout, None, true),
            (FailureCode::Tls, None, true),
            (FailureCode::Timeout, None, true),
            (FailureCode::Timeout, Some(200), true),
            (FailureCode::Closed, None, true),
            (FailureCode::AddressBlocked, None, false),
            (FailureCode::InvalidResponse, None, false),
            (FailureCode::ResponseTooLarge, Some(200), false),
            (FailureCode::Oauth2, None, false),
            (FailureCode::Oauth2, Some(429), true),
            (FailureCode::Oauth2, Some(502), true),
            (FailureCode::Render, None, false),
            (FailureCode::TooLarge, None, false),
            (FailureCode::Interrupted, None, false),
            (FailureCode::Internal, None, false),
            (FailureCode::Expired, None, false),
        ] {
            assert_eq!(trips(&failure(code, status)), expected, "{code} {status:?}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Timestamp = "1994-11-06T08:49:00Z".parse().expect("a time");
        let seconds = |secs| Some(Duration::from_secs(secs));
        for (value, pause) in [
            ("0", seconds(0)),
            (" 120 ", seconds(120)),
            ("99999999999999999999999", seconds(u64::MAX)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", seconds(37)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", seconds(37)),
            ("Sun Nov  6 08:49:37 1994", seconds(37)),
            ("Sun, 06 Nov 1994 08:48:37 GMT", seconds(0)),
            ("Thu, 06 Nov 1969 08:48:37 GMT", seconds(0)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(Timestamp::MAX.since(now))),
            ("-1", None),
            ("1.5", None),
            ("", None),
            ("soon", None),
            ("Mon, 06 Nov 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08:49:37 CET", None),
            ("Sun, 36 Nov 1994 08:49:37 GMT", None),
            ("1994-11-06T08:49:37Z", None),
        ] {
            assert_eq!(parse_retry_after(value, now), pause, "{value}");
        }
    }

    proptest! {
        #[test]
        fn delays_keep_their_bounds(
            (first_ms, max_ms) in (0u64..100_000_000, 0u64..100_000_000),
            factor in 1.0..10.0,
            jitter in 0.0..0.5,
            failures: u32,
            chance in 0.0..1.0,
        ) {
            let (first, max_delay) = (Duration::from_millis(first_ms), Duration::from_millis(max_ms));
            let policy = Policy { first, factor, max_delay, jitter, ..policy() };
            let mean = policy.delay(failures, 0.5).as_secs_f64();
            let delay = policy.delay(failures, chance).as_secs_f64();
            let slack = 1e-6;
            prop_assert!(mean <= max_delay.as_secs_f64() + slack);
            prop_assert!(mean >= first.min(max_delay).as_secs_f64() - slack);
            prop_assert!((mean * (1.0 - jitter) - slack..=mean * (1.0 + jitter) + slack).contains(&delay));
            prop_assert!(policy.delay(failures, chance) <= policy.delay_longest());
            prop_assert!(policy.delay(failures.saturating_add(1), 0.5).as_secs_f64() >= mean - slack);
        }

        #[test]
        fn a_verdict_is_never_beyond_the_horizon(began in 0u64..400_000, took in 0u64..100, failures: u32) {
            match policy().after_failure(&failure(began, began + took, failures), 0.9) {
                Verdict::RetryAt(next) => prop_assert!(began < 259_200 && next <= at(259_200)),
                Verdict::GiveUp => prop_assert!(began >= 259_200),
            }
        }

        #[test]
        fn nothing_panics(first: u64, max: u64, factor: f64, jitter: f64, failures: u32, chance: f64, text: String) {
            let (first, max_delay) = (Duration::from_secs(first), Duration::from_secs(max));
            let policy = Policy { first, factor, max_delay, jitter, ..policy() };
            let _ = (policy.delay(failures, chance), policy.delay_longest(), parse_retry_after(&text, at(0)));
        }
    }
}
