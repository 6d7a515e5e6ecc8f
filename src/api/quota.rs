//! How many requests a key may make, of all APIs and of a vendor's, and how many test
//! events it may have sent by any. Windows are fixed, and begin
//! with the clock's own seconds, so that callers can be told when the next one does.
//! What is counted here is kept in memory alone: a reload keeps it, a restart does not.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::auth::Caller;
use crate::config::Service;
use crate::http::{Code, HeaderMap, HeaderName, HeaderValue, Problem, Response};
use crate::limits::{QUOTA_KEYS_MAX, TRIALS_MAX, TRIALS_WINDOW_SECS};
use crate::time::Timestamp;

use super::call::Call;

/// At most so many requests in each window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quota {
    /// Its own name, over all vendors.
    pub(super) name: &'static str,
    pub(super) requests_max: u32,
    pub(super) window_secs: u64,
}

/// What every key has used.
#[derive(Default)]
pub struct Quotas(Mutex<Counters>);

/// By the quota's name and the key's.
#[derive(Default)]
struct Counters(HashMap<(&'static str, String), Counter>);

#[derive(Clone, Copy)]
struct Counter {
    /// When its window ends, in Unix seconds.
    ends_at: u64,
    used: u32,
}

/// How a key stands with the quota that leaves it least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standing {
    requests_max: u32,
    remaining: u32,
    /// When the next window begins, in Unix seconds.
    resets_at: u64,
}

impl Counters {
    /// Counts a request of `key` against all of `quotas`. `Err`: one of them is used
    /// up, and nothing was counted.
    fn take(&mut self, key: &str, quotas: &[Quota], now: Timestamp) -> Result<Option<Standing>, Standing> {
        let counters: Vec<Counter> = quotas.iter().map(|quota| self.counter(key, quota, now)).collect();
        let standing = |(quota, counter): (&Quota, &Counter)| Standing {
            requests_max: quota.requests_max,
            remaining: quota.requests_max.saturating_sub(counter.used),
            resets_at: counter.ends_at,
        };
        let tightest = quotas.iter().zip(&counters).map(standing).min_by_key(|standing| standing.remaining);
        let Some(tightest) = tightest else { return Ok(None) };
        if tightest.remaining == 0 {
            return Err(tightest);
        }
        for (quota, counter) in quotas.iter().zip(counters) {
            let name = (quota.name, key.to_owned());
            if !self.0.contains_key(&name) {
                self.make_room(now);
            }
            self.0.insert(name, Counter { used: counter.used + 1, ..counter });
        }
        Ok(Some(Standing { remaining: tightest.remaining - 1, ..tightest }))
    }

    /// What is used of a quota in the window of `now`. The clock may have been set back.
    fn counter(&self, key: &str, quota: &Quota, now: Timestamp) -> Counter {
        let ends_at = (now.as_secs() / quota.window_secs + 1) * quota.window_secs;
        let known = self.0.get(&(quota.name, key.to_owned())).filter(|known| known.ends_at == ends_at);
        known.copied().unwrap_or(Counter { ends_at, used: 0 })
    }

    /// Forgets windows that are over once there are many; where none is, all of them.
    fn make_room(&mut self, now: Timestamp) {
        if self.0.len() >= QUOTA_KEYS_MAX {
            self.0.retain(|_, counter| counter.ends_at > now.as_secs());
        }
        if self.0.len() >= QUOTA_KEYS_MAX {
            self.0.clear();
        }
    }
}

impl Standing {
    fn headers(self) -> [(HeaderName, HeaderValue); 3] {
        [
            (HeaderName::from_static("x-ratelimit-limit"), HeaderValue::from(self.requests_max)),
            (HeaderName::from_static("x-ratelimit-remaining"), HeaderValue::from(self.remaining)),
            (HeaderName::from_static("x-ratelimit-reset"), HeaderValue::from(self.resets_at)),
        ]
    }

    fn tell(self, headers: &mut HeaderMap) {
        headers.extend(self.headers());
    }

    fn tell_in(self, problem: Problem) -> Problem {
        self.headers().into_iter().fold(problem, |problem, (name, value)| problem.header(name, value))
    }
}

/// Counts a request of the call's key against all of `quotas`. `Err`: one of them is
/// used up.
fn take(quotas: &[Quota], call: &Call) -> Result<Option<Standing>, Problem> {
    call.state.quotas.take(&call.caller.name, quotas, call.now())
}

impl Quotas {
    fn take(&self, key: &str, quotas: &[Quota], now: Timestamp) -> Result<Option<Standing>, Problem> {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner).take(key, quotas, now);
        taken.map_err(|standing| {
            let wait = u16::try_from(standing.resets_at.saturating_sub(now.as_secs())).unwrap_or(u16::MAX);
            let detail = format!("the key has made its {} requests; try again later", standing.requests_max);
            standing.tell_in(Problem::new(Code::TooManyRequests).detail(detail).retry_after(wait))
        })
    }

    /// Refuses a caller that has made its requests of this second: those of its own
    /// limit, or of `[service] requests_per_second`.
    pub(super) fn take_request(&self, caller: &Caller, service: &Service, now: Timestamp) -> Result<(), Problem> {
        let requests_max = caller.requests_per_second.unwrap_or(service.requests_per_second);
        if requests_max == 0 {
            return Ok(());
        }
        let quota = Quota { name: "requests", requests_max, window_secs: 1 };
        self.take(&caller.name, &[quota], now).map(drop)
    }
}

/// Test events of one key, verifications among them. What dials wherever a caller says
/// must not be a way to look around in networks, nor to hit somebody.
const TRIALS: Quota = Quota { name: "test events", requests_max: TRIALS_MAX, window_secs: TRIALS_WINDOW_SECS };

/// Refuses a key that has had its test events.
pub(super) fn take_trial(call: &Call) -> Result<(), Problem> {
    take(&[TRIALS], call).map(drop)
}

/// Has `handler` answer the call where its key has something left of every one of
/// `quotas`, and says in every answer how much is left.
pub(super) async fn within<F: Future<Output = Result<Response, Problem>>>(
    quotas: &[Quota],
    call: Box<Call>,
    handler: impl FnOnce(Box<Call>) -> F,
) -> Result<Response, Problem> {
    let standing = take(quotas, &call)?;
    // Awaited in one place: each would have room for the whole handler.
    let answered = handler(call).await;
    let Some(standing) = standing else { return answered };
    match answered {
        Ok(mut response) => {
            standing.tell(response.headers_mut());
            Ok(response)
        }
        Err(problem) => Err(standing.tell_in(problem)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITES: Quota = Quota { name: "writes", requests_max: 2, window_secs: 1 };
    const ALL: Quota = Quota { name: "all", requests_max: 3, window_secs: 10 };

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn a_key_has_so_many_requests_in_each_window() {
        let mut counters = Counters::default();
        let standing = |requests_max, remaining, resets_at| Standing { requests_max, remaining, resets_at };
        for (key, quotas, now, expected) in [
            ("a", &[WRITES, ALL][..], 100_000, Ok(standing(2, 1, 101))),
            ("a", &[WRITES, ALL], 100_999, Ok(standing(2, 0, 101))),
            ("a", &[WRITES, ALL], 100_999, Err(standing(2, 0, 101))),
            ("b", &[WRITES, ALL], 100_999, Ok(standing(2, 1, 101))),
            ("a", &[ALL], 100_999, Ok(standing(3, 0, 110))),
            ("a", &[WRITES, ALL], 101_000, Err(standing(3, 0, 110))),
            ("a", &[WRITES, ALL], 110_000, Ok(standing(2, 1, 111))),
            // Set back, the clock is in another window again.
            ("a", &[WRITES], 50_000, Ok(standing(2, 1, 51))),
        ] {
            let taken = counters.take(key, quotas, at(now)).map(|standing| standing.expect("a quota"));
            assert_eq!(taken, expected, "{key} at {now}");
        }
        assert_eq!(counters.take("a", &[], at(0)), Ok(None));
    }

    #[test]
    fn what_is_counted_is_bounded() {
        let mut counters = Counters::default();
        for key in 0..QUOTA_KEYS_MAX * 2 {
            assert!(counters.take(&key.to_string(), &[ALL], at(0)).is_ok());
            assert!(counters.0.len() <= QUOTA_KEYS_MAX);
        }
        counters = Counters::default();
        for key in 0..QUOTA_KEYS_MAX {
            let now = at(if key == 0 { 10_000 } else { 0 });
            assert!(counters.take(&key.to_string(), &[ALL], now).is_ok());
        }
        assert!(counters.take("last", &[ALL], at(10_000)).is_ok());
        assert_eq!(counters.0.len(), 2, "windows that are over go first");
    }
}
