//! The scheduler: which delivery is attempted when. **No I/O, no clock, no
//! randomness of its own**: `step(now, chance, input)` answers with actions, so
//! three days of retries are tested in milliseconds.
//!
//! Each subscription has a lane, its own queue, of which only the
//! head is in memory; the rest stays in the store and is read when needed. Rate,
//! breaker and pauses belong to the lane: **the lane sleeps, no row is rewritten**,
//! so one dead endpoint's million overdue deliveries cost the others nothing.
//! Lanes that can run take turns, one attempt each.
//!
//! - `lane.rs`: one lane: its window on the store, its limits, its breaker.
//! - `heads.rs`: what a lane holds, in the order of rows and of time.
//! - `turns.rs`: whose turn it is.
//! - `breaker.rs`: when a lane is tripped and when it is probed.
//! - `rate.rs`: attempts a second.
//! - `blame.rs`: which failures count against the endpoint.

mod blame;
mod breaker;
mod heads;
mod lane;
mod rate;
#[cfg(test)]
mod tests;
mod turns;

use std::collections::BTreeSet;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::id::{EventId, Lane};
use crate::model::{AttemptOutcome, FailureCode, Head, Key, Settlement, StatusReason};
use crate::retry::{self, Policy, Verdict};
use crate::time::Timestamp;

use blame::Heard;
use lane::{Admission, LaneState};
use turns::Turns;

/// What the scheduler must know of a lane's subscription.
#[derive(Clone, Debug, PartialEq)]
pub struct LaneSettings {
    /// Whether it delivers; otherwise what is pending is held.
    pub enabled: bool,
    /// Whether it delivers one at a time, in the order of its rows, whatever
    /// `concurrency` says: the first is attempted until it ends, and the rest waits.
    pub is_fifo: bool,
    /// Attempts in flight.
    pub concurrency: u32,
    /// Attempts a second; 0: no limit.
    pub rate_per_second: f64,
    /// When to try again.
    pub retry: Policy,
    /// Counted failures in a row that disable it.
    pub failure_limit: Option<u32>,
    /// When it disables itself.
    pub expires_at: Option<Timestamp>,
    /// The host its requests go to: tells an endpoint's fault from our link's.
    pub host: String,
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// A subscription is there, or is another than it was.
    LaneSet {
        /// Which.
        lane: Lane,
        /// As it stands.
        settings: Box<LaneSettings>,
        /// Its counted failures in a row, from the store.
        consecutive_failures: u32,
        /// Whether the store may hold pending deliveries that are not in memory.
        has_backlog: bool,
    },
    /// A subscription is no more.
    LaneRemoved(Lane),
    /// Deliveries were committed as pending.
    Opened(Lane, Vec<Head>),
    /// The answer to [`Action::Load`].
    Loaded {
        /// Which lane.
        lane: Lane,
        /// The action's.
        generation: u64,
        /// Rows in order.
        heads: Vec<Head>,
        /// Whether there were no more rows.
        exhausted: bool,
    },
    /// An attempt ended.
    Finished {
        /// Which lane.
        lane: Lane,
        /// Which event.
        event: EventId,
        /// How.
        report: Report,
    },
    /// The outcome of an attempt is committed (or was dropped, because the
    /// delivery was no longer pending).
    Settled {
        /// Which lane.
        lane: Lane,
        /// Which event.
        event: EventId,
        /// Where it stands now, if it is still pending.
        next: Option<Head>,
    },
    /// A pending delivery is no more where it stood.
    Removed(Lane, Key),
    /// Many pending deliveries of a lane are no more, or others than they were.
    Reset(Lane),
    /// The answer to [`Action::Expire`].
    Expired {
        /// Which lane.
        lane: Lane,
        /// When the oldest that is still pending was opened, or before; none: nothing
        /// is pending.
        oldest_opened_at: Option<Timestamp>,
    },
    /// The store went down (`true`) or is back (`false`): meanwhile nothing is begun
    /// and no wake asked for.
    Hold(bool),
    /// Time passed.
    Tick,
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub enum Report {
    /// It was made.
    Made {
        /// When it began.
        began_at: Timestamp,
        /// How it went.
        outcome: AttemptOutcome,
        /// The pause its answer asked for.
        retry_after: Option<Duration>,
    },
    /// It was not made: the subscription was disabled or gone by then, or the event
    /// could not be read. It is put off for a moment, and counts for nothing.
    NotMade,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make an attempt and report how it went.
    Attempt(Lane, Head),
    /// Read the rows of a lane that follow `after`, at most `limit`.
    Load {
        /// Which lane.
        lane: Lane,
        /// None: from its beginning.
        after: Option<Key>,
        /// Rows wanted.
        limit: usize,
        /// Whether their attempts may begin at once, as far as the lane goes.
        is_flowing: bool,
        /// To be given back with the rows.
        generation: u64,
    },
    /// Commit what follows from the attempt just reported.
    Settle {
        /// Which lane.
        lane: Lane,
        /// As it stood before the attempt.
        head: Head,
        /// What follows.
        settlement: Settlement,
        /// The lane's counted failures in a row.
        consecutive_failures: u32,
        /// Whether the lane starts nothing until this is committed.
        is_awaited: bool,
    },
    /// Fail every pending delivery of a lane that was opened at or before then.
    Expire {
        /// Which lane.
        lane: Lane,
        /// Opened at or before this.
        opened_until: Timestamp,
    },
    /// Disable the subscription.
    Disable {
        /// Which.
        lane: Lane,
        /// Why.
        reason: StatusReason,
        /// What failed last, where something did.
        last: Option<FailureCode>,
    },
    /// Tell who wants to know that the lane is tripped.
    Failing(Lane),
}

/// How much runs at once.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// Attempts in flight, all lanes.
    pub concurrency_total: u32,
}

/// See the file's beginning.
pub struct Scheduler {
    capacity: Capacity,
    lanes: FxHashMap<Lane, LaneState>,
    timers: BTreeSet<(Timestamp, Lane)>,
    /// Lanes that can start an attempt now.
    turns: Turns,
    in_flight: u32,
    /// Of these, those of lanes whose last attempt failed: at most half of the total.
    in_flight_failing: u32,
    /// Lanes that are tripped.
    tripped: usize,
    heard: Heard,
    held: bool,
    latest: Timestamp,
    actions: Vec<Action>,
}

/// A clock that is this much behind what it was has been set back.
const STEP_BACK_MIN: Duration = Duration::from_secs(1);

impl Scheduler {
    /// A scheduler without lanes.
    pub fn new(capacity: Capacity) -> Scheduler {
        Scheduler {
            capacity,
            lanes: FxHashMap::default(),
            timers: BTreeSet::new(),
            turns: Turns::default(),
            in_flight: 0,
            in_flight_failing: 0,
            tripped: 0,
            heard: Heard::default(),
            held: false,
            latest: Timestamp::ZERO,
            actions: Vec::new(),
        }
    }

    /// Changes how much runs at once; what is in flight goes on.
    pub fn set_capacity(&mut self, capacity: Capacity) {
        self.capacity = capacity;
    }

    /// Attempts in flight.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Whether a lane has been set and not removed.
    pub fn knows(&self, lane: Lane) -> bool {
        self.lanes.contains_key(&lane)
    }

    /// Every lane that has been set and not removed.
    pub fn lanes(&self) -> impl Iterator<Item = Lane> {
        self.lanes.keys().copied()
    }

    /// Lanes that are tripped.
    pub fn tripped(&self) -> usize {
        self.tripped
    }

    /// Whether a lane is tripped.
    pub fn is_tripped(&self, lane: Lane) -> bool {
        self.lanes.get(&lane).is_some_and(|state| state.breaker.is_tripped())
    }

    /// When [`Input::Tick`] is wanted, if nothing else happens before.
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Takes one input in and answers what is to be done. `chance` draws numbers
    /// that are uniform in 0..1.
    pub fn step(&mut self, now: Timestamp, chance: &mut dyn FnMut() -> f64, input: Input) -> Vec<Action> {
        if now + STEP_BACK_MIN < self.latest {
            self.pull_in(now);
        }
        self.latest = now;
        match input {
            Input::LaneSet { lane, settings, consecutive_failures, has_backlog } => {
                self.set_lane(now, lane, *settings, consecutive_failures, has_backlog);
            }
            Input::LaneRemoved(lane) => self.remove_lane(lane),
            Input::Opened(lane, heads) => self.open(now, lane, &heads),
            Input::Loaded { lane, generation, heads, exhausted } => {
                if let Some(state) = self.lanes.get_mut(&lane) {
                    state.loaded(now, generation, &heads, exhausted);
                    self.reconsider(now, lane);
                }
            }
            Input::Finished { lane, event, report } => self.finish(now, chance, lane, event, report),
            Input::Settled { lane, event, next } => {
                if let Some(state) = self.lanes.get_mut(&lane) {
                    state.settled(now, event, next);
                    self.reconsider(now, lane);
                }
            }
            Input::Removed(lane, key) => {
                if let Some(state) = self.lanes.get_mut(&lane) {
                    state.removed(key);
                    self.reconsider(now, lane);
                }
            }
            Input::Reset(lane) => {
                if let Some(state) = self.lanes.get_mut(&lane) {
                    state.reset();
                    self.reconsider(now, lane);
                }
            }
            Input::Expired { lane, oldest_opened_at } => {
                if let Some(state) = self.lanes.get_mut(&lane) {
                    state.expired(oldest_opened_at);
                    self.reconsider(now, lane);
                }
            }
            Input::Hold(held) => self.hold(now, held),
            Input::Tick => {}
        }
        self.wake_due(now);
        self.start_attempts(now);
        std::mem::take(&mut self.actions)
    }

    fn set_lane(&mut self, now: Timestamp, lane: Lane, settings: LaneSettings, failures: u32, has_backlog: bool) {
        match self.lanes.get_mut(&lane) {
            Some(state) => {
                let was_enabled = state.settings.enabled;
                let was_failing = state.last_failed;
                let moved = state.settings.host != settings.host;
                let differs = state.settings != settings;
                state.settings = settings;
                if differs {
                    // Another rate or longest delay holds for what waits too.
                    state.pull_in(now, now);
                }
                if state.settings.enabled && !was_enabled || moved {
                    self.tripped -= usize::from(state.breaker.is_tripped());
                    state.forget_failures();
                    if was_failing {
                        self.in_flight_failing -= state.in_flight;
                    }
                }
            }
            None => {
                self.lanes.insert(lane, LaneState::new(settings, failures, has_backlog));
            }
        }
        self.reconsider(now, lane);
    }

    fn remove_lane(&mut self, lane: Lane) {
        let Some(state) = self.lanes.remove(&lane) else { return };
        if let Some(at) = state.wake {
            self.timers.remove(&(at, lane));
        }
        if let Some(place) = state.place {
            self.turns.leave(place);
        }
        self.tripped -= usize::from(state.breaker.is_tripped());
        // What is in flight is not waited for: its report finds no lane.
        self.in_flight -= state.in_flight;
        if state.last_failed {
            self.in_flight_failing -= state.in_flight;
        }
    }

    fn open(&mut self, now: Timestamp, lane: Lane, heads: &[Head]) {
        let Some(state) = self.lanes.get_mut(&lane) else { return };
        for head in heads {
            state.admit(now, *head);
        }
        self.reconsider(now, lane);
    }

    fn finish(&mut self, now: Timestamp, chance: &mut dyn FnMut() -> f64, lane: Lane, event: EventId, report: Report) {
        let Some(state) = self.lanes.get_mut(&lane) else { return };
        let Some((head, link_was_up)) = state.end_attempt(event) else { return };
        self.in_flight -= 1;
        if state.last_failed {
            self.in_flight_failing -= 1;
        }
        let Report::Made { began_at, outcome, retry_after } = report else {
            state.not_made(now, event);
            self.reconsider(now, lane);
            return;
        };
        let failed_before = state.last_failed;
        let tripped_before = state.breaker.is_tripped();
        let settlement = match &outcome {
            AttemptOutcome::Success { .. } => {
                self.heard.answered(&state.settings.host, now);
                state.succeeded();
                Settlement::Delivered
            }
            AttemptOutcome::Failure { code: FailureCode::Interrupted, .. } => Settlement::Interrupted,
            AttemptOutcome::Failure { code, status, .. } => {
                // A status of the token endpoint is no word of the host.
                if status.is_some() && *code != FailureCode::Oauth2 {
                    self.heard.answered(&state.settings.host, now);
                }
                let chance = chance();
                // A fault of ours says nothing of the endpoint, and ends nothing at the horizon.
                let is_ours = *code == FailureCode::Internal;
                if is_ours {
                    state.breaker.learned_nothing(now);
                } else {
                    let ended_at = now;
                    let (code, status) = (*code, *status);
                    let failed = Failed { began_at, ended_at, code, status, retry_after, link_was_up, chance };
                    Self::lane_failed(state, &mut self.actions, lane, &outcome, &failed);
                }
                let failure = retry::Failure {
                    opened_at: head.opened_at,
                    began_at,
                    ended_at: now,
                    failures: head.failures + 1,
                    code: *code,
                    status: *status,
                };
                let retry = &state.settings.retry;
                // As long again: what always goes wrong here must end at some time.
                let is_spared = is_ours && now < retry.horizon(retry.horizon(head.opened_at));
                let again = if state.settings.is_fifo { Settlement::Stay } else { Settlement::Retry };
                match retry.after_failure(&failure, chance) {
                    Verdict::RetryAt(due) => again(due),
                    Verdict::GiveUp if is_spared => again(now + retry.delay(failure.failures, chance)),
                    Verdict::GiveUp => Settlement::Failed,
                }
            }
        };
        let (consecutive_failures, is_awaited) = (state.blame.consecutive_failures(), state.settings.is_fifo);
        let settle = Action::Settle { lane, head, settlement, consecutive_failures, is_awaited };
        // Before whatever the failure led to: a lane is disabled or expired after
        // the outcome that caused it is written.
        self.actions.insert(0, settle);
        self.tripped += usize::from(state.breaker.is_tripped());
        self.tripped -= usize::from(tripped_before);
        let is_failing = state.last_failed;
        if is_failing && !failed_before {
            self.in_flight_failing += state.in_flight;
        } else if failed_before && !is_failing {
            self.in_flight_failing -= state.in_flight;
        }
        self.reconsider(now, lane);
    }

    /// What a failure means for the whole lane.
    fn lane_failed(
        state: &mut LaneState,
        actions: &mut Vec<Action>,
        lane: Lane,
        outcome: &AttemptOutcome,
        failed: &Failed,
    ) {
        state.last_failed = true;
        if let (Some(429 | 503), Some(pause)) = (failed.status, failed.retry_after) {
            let pause = pause.min(state.settings.retry.max_delay);
            state.paused_until = state.paused_until.max(failed.ended_at + pause);
        }
        let was_tripped = state.breaker.is_tripped();
        state.breaker.failed(failed.ended_at, retry::trips(outcome), failed.chance);
        if was_tripped {
            // One failed probe ends all whose time was up when it began.
            let horizon_opened = failed.began_at - state.settings.retry.give_up_after;
            if state.may_hold_opened_until(horizon_opened) {
                state.begin_expiry(failed.ended_at);
                actions.push(Action::Expire { lane, opened_until: horizon_opened });
            }
        } else if state.breaker.is_tripped() {
            actions.push(Action::Failing(lane));
        }
        let unreachable = retry::is_unreachable(failed.code);
        let counts = state.blame.failed(failed.began_at, failed.ended_at, unreachable, failed.link_was_up);
        let limit = state.settings.failure_limit;
        let limit_reached = counts && limit.is_some_and(|limit| state.blame.consecutive_failures() >= limit);
        let reason = match failed.status {
            Some(410) => StatusReason::Gone,
            _ if limit_reached => StatusReason::Failures,
            _ => return,
        };
        if state.settings.enabled {
            state.settings.enabled = false;
            actions.push(Action::Disable { lane, reason, last: Some(failed.code) });
        }
    }

    fn hold(&mut self, now: Timestamp, held: bool) {
        self.held = held;
        if held {
            self.timers.clear();
            for state in self.lanes.values_mut() {
                state.wake = None;
            }
            return;
        }
        for lane in self.lanes_in_order() {
            if let Some(state) = self.lanes.get_mut(&lane) {
                state.resumed();
            }
            self.reconsider(now, lane);
        }
    }

    /// Every lane, by number: the same inputs lead to the same actions.
    fn lanes_in_order(&self) -> Vec<Lane> {
        let mut lanes: Vec<Lane> = self.lanes.keys().copied().collect();
        lanes.sort_unstable();
        lanes
    }

    /// The clock was set back: nothing may sleep longer than it could by policy.
    fn pull_in(&mut self, now: Timestamp) {
        self.heard = Heard::default();
        for lane in self.lanes_in_order() {
            if let Some(state) = self.lanes.get_mut(&lane) {
                state.pull_in(self.latest, now);
            }
            self.reconsider(now, lane);
        }
    }

    fn wake_due(&mut self, now: Timestamp) {
        while let Some((at, lane)) = self.timers.first().copied()
            && at <= now
        {
            self.timers.pop_first();
            if let Some(state) = self.lanes.get_mut(&lane) {
                state.wake = None;
            }
            self.reconsider(now, lane);
        }
    }

    /// Finds out what a lane needs next: to be read, to take its turn, to be woken
    /// later, to end. While all are held it needs nothing.
    fn reconsider(&mut self, now: Timestamp, lane: Lane) {
        if self.held {
            return;
        }
        let Some(state) = self.lanes.get_mut(&lane) else { return };
        if state.settings.enabled && state.settings.expires_at.is_some_and(|at| at <= now) {
            state.settings.enabled = false;
            self.actions.push(Action::Disable { lane, reason: StatusReason::Expired, last: None });
        }
        if let Some((after, limit, generation)) = state.wants_load() {
            let is_flowing = state.settings.enabled && !state.breaker.is_tripped();
            self.actions.push(Action::Load { lane, after, limit, is_flowing, generation });
        }
        if let Some(opened_until) = state.wants_expiry(now) {
            self.actions.push(Action::Expire { lane, opened_until });
        }
        let admission = state.admission(now);
        let row = (admission == Admission::Now).then_some(state.last_failed);
        if state.place.map(|place| place.failing) != row {
            if let Some(place) = state.place.take() {
                self.turns.leave(place);
            }
            state.place = row.map(|failing| self.turns.join(lane, failing));
        }
        let wake = match admission {
            Admission::At(at) => state.wake_for_itself(Some(at)),
            Admission::Now | Admission::No => state.wake_for_itself(None),
        };
        if wake != state.wake {
            if let Some(at) = state.wake {
                self.timers.remove(&(at, lane));
            }
            if let Some(at) = wake {
                self.timers.insert((at, lane));
            }
            state.wake = wake;
        }
    }

    /// Lanes take turns, one attempt each; those that fail up to half of all slots.
    fn start_attempts(&mut self, now: Timestamp) {
        while !self.held && self.in_flight < self.capacity.concurrency_total {
            let failing_full = self.in_flight_failing >= (self.capacity.concurrency_total / 2).max(1);
            let Some(lane) = self.turns.take(!failing_full) else { return };
            let Some(state) = self.lanes.get_mut(&lane) else { continue };
            state.place = None;
            let host = &state.settings.host;
            let doubted_since = state.blame.in_doubt_since();
            let link_was_up = doubted_since.is_some_and(|since| self.heard.another_since(host, since));
            if let Some(head) = state.begin_attempt(now, link_was_up) {
                self.in_flight += 1;
                self.in_flight_failing += u32::from(state.last_failed);
                self.actions.push(Action::Attempt(lane, head));
            }
            self.reconsider(now, lane);
        }
    }
}

/// A failed attempt, as its lane sees it.
struct Failed {
    began_at: Timestamp,
    ended_at: Timestamp,
    code: FailureCode,
    status: Option<u16>,
    retry_after: Option<Duration>,
    link_was_up: bool,
    /// What is left to chance, from 0 to 1.
    chance: f64,
}
