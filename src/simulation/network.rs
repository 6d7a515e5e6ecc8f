//! The network of a simulation: what becomes of a request, and after how long. Each
//! receiver has a mood that changes; the uplink may be down for all of them.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

use crate::model::FailureCode::{self, Closed, Timeout, Tls};
use crate::model::Format;

/// How a receiver behaves for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Well,
    Slow,
    /// Anything may come back.
    Wild,
    /// Nothing does, until the time is up.
    Hangs,
    /// Always the same status.
    Says(u16),
    /// It refuses with one of the many spellings of `Retry-After`.
    Busy,
    /// It cannot be reached, or not be trusted.
    Fails(FailureCode),
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Answer { status: u16, retry_after: Option<String> },
    Failure(FailureCode),
}

impl Fate {
    pub(super) fn is_success(&self, format: Format) -> bool {
        match self {
            Fate::Answer { status, .. } if format == Format::Peridio => *status == 200,
            Fate::Answer { status, .. } => (200..300).contains(status),
            Fate::Failure(_) => false,
        }
    }

    /// Whether such failures in a row trip a lane.
    pub(super) fn trips(&self) -> bool {
        match self {
            Fate::Answer { status, .. } => *status == 429 || *status >= 500,
            Fate::Failure(code) => UNREACHABLE.contains(code) || [Tls, Timeout, Closed].contains(code),
        }
    }

    /// Whether the same request will not fare better, where only transient failures are retried.
    pub(super) fn is_permanent(&self) -> bool {
        matches!(self, Fate::Answer { status: 400..=407 | 409..=424 | 426..=428 | 430..=499, .. })
    }
}

const UNREACHABLE: [FailureCode; 3] = [FailureCode::Dns, FailureCode::Connect, FailureCode::ConnectTimeout];
const BROKEN: [FailureCode; 5] = [
    FailureCode::Tls,
    FailureCode::Closed,
    FailureCode::InvalidResponse,
    FailureCode::ResponseTooLarge,
    FailureCode::AddressBlocked,
];
const PAUSES: [&str; 9] =
    ["0", "1", "90", "100000", "-1", "soon", "", "Sun, 06 Nov 1994 08:49:37 GMT", "Fri, 31 Dec 9999 23:59:59 GMT"];

pub(super) fn any_of<T: Copy>(chance: &mut StdRng, choices: &[T]) -> T {
    choices[chance.random_range(0..choices.len())]
}

pub(super) fn any_mood(chance: &mut StdRng) -> Mood {
    match chance.random_range(0..14) {
        0..6 => Mood::Well,
        6 => Mood::Slow,
        7..9 => Mood::Wild,
        9 => Mood::Hangs,
        10 => Mood::Says(any_of(chance, &[201, 204, 301, 400, 401, 404, 408, 425, 500, 502, 503])),
        11 => Mood::Busy,
        12 => Mood::Fails(any_of(chance, &UNREACHABLE)),
        _ => Mood::Fails(any_of(chance, &BROKEN[..2])),
    }
}

/// What becomes of a request to a receiver in that mood, and when.
pub(super) fn fate(chance: &mut StdRng, mood: Mood, uplink: bool, timeout: Duration) -> (Duration, Fate) {
    let mut soon = |most: u64| Duration::from_millis(chance.random_range(1..most)).min(timeout);
    if !uplink {
        return (soon(5_000), Fate::Failure(any_of(chance, &UNREACHABLE)));
    }
    match mood {
        Mood::Well => (soon(80), answer(200)),
        Mood::Slow => (soon(timeout.as_millis() as u64), answer(200)),
        Mood::Hangs => (timeout, Fate::Failure(FailureCode::Timeout)),
        Mood::Says(status) => (soon(200), answer(status)),
        Mood::Fails(code) => (soon(3_000), Fate::Failure(code)),
        Mood::Busy => {
            let took = soon(200);
            let retry_after = Some(any_of(chance, &PAUSES).to_owned());
            (took, Fate::Answer { status: any_of(chance, &[429, 503, 500]), retry_after })
        }
        Mood::Wild => {
            let took = soon(2_000);
            match chance.random_range(0..12) {
                0..5 => (took, answer(200)),
                5 => (timeout, Fate::Failure(FailureCode::Timeout)),
                6 => (took, Fate::Failure(any_of(chance, &BROKEN))),
                7 if chance.random_ratio(1, 12) => (took, answer(410)),
                _ => (took, answer(any_of(chance, &[200, 202, 302, 403, 404, 429, 500, 503, 599]))),
            }
        }
    }
}

fn answer(status: u16) -> Fate {
    Fate::Answer { status, retry_after: None }
}
