//! Points in time, spans as people write them, and the clock.
//!
//! **The only room that reads a clock.** Everything else is handed `now`.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch. Shown as RFC 3339 in UTC with milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(u64);

/// The text is not an RFC 3339 time between 1970 and 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be an RFC 3339 time such as 2026-03-17T14:30:00.000Z")]
pub struct NotATime;

/// 9999-12-30T22:00:00.999Z: the last millisecond that is shown with a four-digit
/// year in every time zone.
const MILLIS_MAX: u64 = 253_402_207_200_999;

impl Timestamp {
    /// The epoch: earlier than everything.
    pub const ZERO: Timestamp = Timestamp(0);
    /// Later than everything that can be shown.
    pub const MAX: Timestamp = Timestamp(MILLIS_MAX);

    /// From milliseconds since the epoch, capped at the end of 9999.
    pub fn from_millis(millis: u64) -> Timestamp {
        Timestamp(millis.min(MILLIS_MAX))
    }

    /// Milliseconds since the epoch.
    pub fn as_millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    pub fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// How long after `earlier` this is; zero when it is not.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// RFC 3339 in UTC with whole seconds: `2023-09-14T20:23:30Z`.
    pub fn to_rfc3339_seconds(self) -> String {
        format!("{:.0}", self.calendar())
    }

    fn calendar(self) -> jiff::Timestamp {
        let millis = i64::try_from(self.0).unwrap_or(i64::MAX);
        jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX)
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Timestamp;

    fn add(self, span: Duration) -> Timestamp {
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Timestamp::from_millis(self.0.saturating_add(millis))
    }
}

impl std::ops::Sub<Duration> for Timestamp {
    type Output = Timestamp;

    fn sub(self, span: Duration) -> Timestamp {
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Timestamp(self.0.saturating_sub(millis))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.calendar())
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = NotATime;

    fn from_str(text: &str) -> Result<Timestamp, NotATime> {
        let time: jiff::Timestamp = text.parse().map_err(|_| NotATime)?;
        let millis = u64::try_from(time.as_millisecond()).map_err(|_| NotATime)?;
        if millis <= MILLIS_MAX { Ok(Timestamp(millis)) } else { Err(NotATime) }
    }
}

/// The text is not a span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a duration such as \"500ms\", \"10s\", \"5m\", \"24h\" or \"7d\"")]
pub struct NotADuration;

/// Reads `500ms`, `10s`, `5m`, `24h`, `7d` or a sum such as `1h30m`. A bare
/// number is refused, because it does not say of what.
pub fn parse_duration(text: &str) -> Result<Duration, NotADuration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(NotADuration);
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let count: u64 = rest[..digits].parse().map_err(|_| NotADuration)?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit_millis: u64 = match &rest[..letters] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(NotADuration),
        };
        rest = &rest[letters..];
        let millis = count.checked_mul(unit_millis).ok_or(NotADuration)?;
        total = total.checked_add(Duration::from_millis(millis)).ok_or(NotADuration)?;
    }
    Ok(total)
}

/// The inverse of [`parse_duration`], in the largest unit that divides it.
pub fn format_duration(span: Duration) -> String {
    let millis = span.as_millis();
    for (unit_millis, unit) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
        if millis >= unit_millis && millis.is_multiple_of(unit_millis) {
            return format!("{}{unit}", millis / unit_millis);
        }
    }
    format!("{millis}ms")
}

type Listener = Box<dyn Fn() + Send + Sync>;

struct Manual {
    now: Mutex<Timestamp>,
    listeners: Mutex<Vec<Listener>>,
}

/// Where `now` comes from: the machine, or a test that sets it.
#[derive(Clone)]
pub struct Clock(Option<Arc<Manual>>);

impl Clock {
    /// The machine's wall clock.
    pub fn system() -> Clock {
        Clock(None)
    }

    /// A clock that stands still until it is set.
    pub fn manual(now: Timestamp) -> Clock {
        Clock(Some(Arc::new(Manual { now: Mutex::new(now), listeners: Mutex::new(Vec::new()) })))
    }

    /// What time it is.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Some(manual) => *manual.now.lock().unwrap_or_else(PoisonError::into_inner),
            None => {
                #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp::ZERO + since
            }
        }
    }

    /// Whether time passes only by [`Clock::set`].
    pub fn is_manual(&self) -> bool {
        self.0.is_some()
    }

    /// Sets a manual clock, back or forth, and tells who waits for it. Does
    /// nothing to the machine's.
    pub fn set(&self, now: Timestamp) {
        let Some(manual) = &self.0 else { return };
        *manual.now.lock().unwrap_or_else(PoisonError::into_inner) = now;
        for listener in manual.listeners.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            listener();
        }
    }

    /// Calls `listener` whenever a manual clock is set.
    pub fn on_set(&self, listener: impl Fn() + Send + Sync + 'static) {
        if let Some(manual) = &self.0 {
            manual.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(listener));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_utc_with_milliseconds() {
        let time: Timestamp = "2026-03-17T15:30:00.5+01:00".parse().expect("a time");
        assert_eq!(time.to_string(), "2026-03-17T14:30:00.500Z");
        assert_eq!(time.to_rfc3339_seconds(), "2026-03-17T14:30:00Z");
        for wrong in ["", "2026-03-17", "2026-03-17T14:30:00", "1969-12-31T23:59:59Z", "yesterday"] {
            assert_eq!(wrong.parse::<Timestamp>(), Err(NotATime), "{wrong}");
        }
        assert_eq!(Timestamp::MAX.to_string(), "9999-12-30T22:00:00.999Z");
    }

    #[test]
    fn durations_name_their_unit() {
        for (text, millis) in [("0s", 0), ("500ms", 500), ("10s", 10_000), ("1h30m", 5_400_000), ("7d", 604_800_000)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for wrong in ["", "10", "s", "10 s", "-1s", "1.5h", "1y", "99999999999999999999s", "300000000000000000d"] {
            assert_eq!(parse_duration(wrong), Err(NotADuration), "{wrong}");
        }
        for text in ["500ms", "10s", "90m", "24h", "7d"] {
            let span = parse_duration(text).expect("a duration");
            assert_eq!(parse_duration(&format_duration(span)), Ok(span), "{text}");
        }
    }
}
