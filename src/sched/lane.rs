//! One lane: its window on the store's rows, what of it is in flight, and whether
//! it may start another attempt.
//!
//! **The window's promise**: every pending row up to `loaded_through` is in
//! `heads` or `busy`; where `more` is false, every pending row is. A row that
//! comes in beyond the window is left to the store.

use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::id::EventId;
use crate::limits::{EXPIRY_ASKED_EVERY, LANE_HEADS_MAX, LANE_UNSETTLED_MAX, NOT_MADE_PAUSE};
use crate::model::{Head, Key};
use crate::time::Timestamp;

use super::LaneSettings;
use super::blame::Blame;
use super::breaker::Breaker;
use super::heads::Heads;
use super::rate::Rate;
use super::turns::Place;

/// Whether a lane may start an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Now.
    Now,
    /// Not before then.
    At(Timestamp),
    /// Not until something else happens.
    No,
}

/// A delivery whose attempt is in flight or whose outcome is not committed yet.
struct Busy {
    /// As it stood before the attempt.
    head: Head,
    in_flight: bool,
    /// Whether the link was known to be up when the attempt began.
    link_was_up: bool,
    /// Its new row, where it was ended and opened again meanwhile: that one's turn
    /// comes after the old one's outcome.
    reopened: Option<Head>,
}

/// A read of the store that is under way.
struct Loading {
    /// Rows that went meanwhile: what is read may still have them.
    gone: FxHashSet<Key>,
    /// Rows that came in meanwhile: what is read may not have them.
    arrived: Vec<Head>,
    /// The first of these that had to be left to the store.
    left: Option<Key>,
}

pub(super) struct LaneState {
    pub(super) settings: LaneSettings,
    pub(super) breaker: Breaker,
    pub(super) blame: Blame,
    /// Until when a `Retry-After` asked the lane to pause.
    pub(super) paused_until: Timestamp,
    /// Whether the last attempt failed.
    pub(super) last_failed: bool,
    /// Attempts in flight.
    pub(super) in_flight: u32,
    /// Where the lane stands among those that can run.
    pub(super) place: Option<Place>,
    /// The timer that is set for it.
    pub(super) wake: Option<Timestamp>,
    rate: Rate,
    heads: Heads,
    busy: FxHashMap<EventId, Busy>,
    /// Until when attempts are put off that were not made.
    put_off: FxHashMap<EventId, Timestamp>,
    more: bool,
    loaded_through: Option<Key>,
    loading: Option<Loading>,
    generation: u64,
    /// No pending delivery was opened before this; none: nothing is pending.
    oldest_opened_at: Option<Timestamp>,
    expiring: Option<Expiring>,
    /// When the store was last asked to end what is past its horizon.
    expiry_asked_at: Option<Timestamp>,
}

/// The store is ending what is past its horizon.
struct Expiring {
    /// The oldest opening that came in meanwhile.
    opened_meanwhile: Option<Timestamp>,
}

impl LaneState {
    pub(super) fn new(settings: LaneSettings, consecutive_failures: u32, has_backlog: bool) -> LaneState {
        LaneState {
            settings,
            breaker: Breaker::default(),
            blame: Blame::new(consecutive_failures),
            paused_until: Timestamp::ZERO,
            last_failed: false,
            in_flight: 0,
            place: None,
            wake: None,
            rate: Rate::default(),
            heads: Heads::default(),
            busy: FxHashMap::default(),
            put_off: FxHashMap::default(),
            more: has_backlog,
            loaded_through: None,
            loading: None,
            generation: 0,
            oldest_opened_at: has_backlog.then_some(Timestamp::ZERO),
            expiring: None,
            expiry_asked_at: None,
        }
    }

    /// How many heads are held: enough that reading ahead keeps up.
    fn window(&self) -> usize {
        LANE_HEADS_MAX.max(4 * self.settings.concurrency as usize)
    }

    /// Takes a committed row in, or leaves it to the store.
    pub(super) fn admit(&mut self, now: Timestamp, head: Head) {
        let earlier = |oldest: Option<Timestamp>| Some(oldest.map_or(head.opened_at, |at| at.min(head.opened_at)));
        self.oldest_opened_at = earlier(self.oldest_opened_at);
        if let Some(expiring) = &mut self.expiring {
            expiring.opened_meanwhile = earlier(expiring.opened_meanwhile);
        }
        if self.more && self.loaded_through.is_none_or(|through| head.key() > through) {
            let window = self.window();
            if let Some(loading) = &mut self.loading {
                if loading.arrived.len() < window {
                    loading.gone.remove(&head.key());
                    loading.arrived.push(head);
                } else {
                    loading.left = Some(loading.left.map_or(head.key(), |left| left.min(head.key())));
                }
            }
            return;
        }
        self.hold_head(now, head);
    }

    fn hold_head(&mut self, now: Timestamp, head: Head) {
        if let Some(busy) = self.busy.get_mut(&head.event) {
            if busy.head.key() != head.key() {
                busy.reopened = Some(head);
            }
            return;
        }
        let due = ready_at(&head, head.due, now, self.settings.retry.delay_longest());
        let put_off = self.put_off.get(&head.event).copied();
        self.heads.insert(head, due.max(put_off.unwrap_or(Timestamp::ZERO)));
        if self.heads.len() > self.window() {
            self.heads.pop_last();
            self.more = true;
            self.loaded_through = self.heads.last_key();
            // It reads on from where the window ended, and would leave a gap.
            self.loading = None;
            self.generation += 1;
        }
    }

    /// What to read from the store now: after which key, how many rows, and what
    /// to call it.
    pub(super) fn wants_load(&mut self) -> Option<(Option<Key>, usize, u64)> {
        let low = self.heads.len() <= self.window() / 2;
        if !self.settings.enabled || !self.more || self.loading.is_some() || !low {
            return None;
        }
        self.generation += 1;
        self.loading = Some(Loading { gone: FxHashSet::default(), arrived: Vec::new(), left: None });
        Some((self.loaded_through, self.window() - self.heads.len(), self.generation))
    }

    pub(super) fn loaded(&mut self, now: Timestamp, generation: u64, rows: &[Head], exhausted: bool) {
        if generation != self.generation {
            return;
        }
        let Some(loading) = self.loading.take() else { return };
        // What was left to the store is read next, with all that follows it.
        let rows = rows.iter().filter(|head| loading.left.is_none_or(|left| head.key() < left));
        if let Some(last) = rows.clone().next_back() {
            self.loaded_through = Some(last.key());
        }
        self.more = !exhausted || loading.left.is_some();
        for head in rows.filter(|head| !loading.gone.contains(&head.key())) {
            self.hold_head(now, *head);
        }
        for head in &loading.arrived {
            self.admit(now, *head);
        }
    }

    /// The store's rows are others than they were: what is in memory is forgotten.
    pub(super) fn reset(&mut self) {
        self.heads.clear();
        self.loading = None;
        self.generation += 1;
        self.more = true;
        self.loaded_through = None;
        for busy in self.busy.values_mut() {
            busy.reopened = None;
        }
    }

    /// The store is back: what it did meanwhile was not told.
    pub(super) fn resumed(&mut self) {
        self.reset();
        self.expiring = None;
        self.oldest_opened_at = Some(Timestamp::ZERO);
    }

    /// A row is no more.
    pub(super) fn removed(&mut self, key: Key) {
        self.heads.remove(key);
        if let Some(busy) = self.busy.get_mut(&key.1) {
            busy.reopened = busy.reopened.filter(|head| head.key() != key);
        }
        if let Some(loading) = &mut self.loading {
            loading.arrived.retain(|head| head.key() != key);
            loading.gone.insert(key);
        }
    }

    /// An outcome is committed; `next`: where its delivery stands now.
    pub(super) fn settled(&mut self, now: Timestamp, event: EventId, next: Option<Head>) {
        let mut reopened = None;
        if self.busy.get(&event).is_some_and(|busy| !busy.in_flight)
            && let Some(busy) = self.busy.remove(&event)
        {
            self.removed(busy.head.key());
            reopened = busy.reopened;
        }
        for head in reopened.into_iter().chain(next) {
            self.admit(now, head);
        }
    }

    pub(super) fn may_hold_opened_until(&self, opened_until: Timestamp) -> bool {
        self.expiring.is_none() && self.oldest_opened_at.is_some_and(|oldest| oldest <= opened_until)
    }

    /// When the store is to be asked to end what a disabled subscription holds past
    /// its horizon. It looks through the whole lane: not each time that one more is.
    fn expiry_at(&self) -> Option<Timestamp> {
        if self.settings.enabled || self.expiring.is_some() {
            return None;
        }
        let horizon = self.settings.retry.horizon(self.oldest_opened_at?);
        Some(self.expiry_asked_at.map_or(horizon, |asked_at| horizon.max(asked_at + EXPIRY_ASKED_EVERY)))
    }

    /// Up to which opening what a disabled subscription holds is past its horizon,
    /// where the store is to be asked to end it now.
    pub(super) fn wants_expiry(&mut self, now: Timestamp) -> Option<Timestamp> {
        self.expiry_at().filter(|at| *at <= now)?;
        self.begin_expiry(now);
        Some(now - self.settings.retry.give_up_after)
    }

    /// The store is asked to end what is past its horizon.
    pub(super) fn begin_expiry(&mut self, now: Timestamp) {
        self.expiring = Some(Expiring { opened_meanwhile: None });
        self.expiry_asked_at = Some(now);
    }

    /// The store has ended what was past its horizon.
    pub(super) fn expired(&mut self, oldest_opened_at: Option<Timestamp>) {
        let meanwhile = self.expiring.take().and_then(|expiring| expiring.opened_meanwhile);
        self.oldest_opened_at = oldest_opened_at.into_iter().chain(meanwhile).min();
        self.reset();
    }

    pub(super) fn admission(&self, now: Timestamp) -> Admission {
        let unsettled = self.busy.len() - self.in_flight as usize;
        let full = match self.settings.is_fifo {
            // Until its outcome is committed, it has not ended.
            true => !self.busy.is_empty(),
            false => self.in_flight >= self.settings.concurrency || unsettled >= LANE_UNSETTLED_MAX,
        };
        if !self.settings.enabled || full || self.breaker.is_tripped() && self.in_flight > 0 {
            return Admission::No;
        }
        let Some(ready_at) = self.heads.ready_at(self.settings.is_fifo) else { return Admission::No };
        let at = ready_at
            .max(self.paused_until)
            .max(self.rate.next_at(self.settings.rate_per_second))
            .max(self.breaker.probe_at().unwrap_or(Timestamp::ZERO));
        if at <= now { Admission::Now } else { Admission::At(at) }
    }

    /// When the lane must be looked at again: for an attempt, for its expiry, for
    /// the horizon of what it holds.
    pub(super) fn wake_for_itself(&self, attempt_at: Option<Timestamp>) -> Option<Timestamp> {
        let own = if self.settings.enabled { self.settings.expires_at } else { self.expiry_at() };
        match (attempt_at, own) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    pub(super) fn begin_attempt(&mut self, now: Timestamp, link_was_up: bool) -> Option<Head> {
        let head = self.heads.pop_ready(self.settings.is_fifo)?;
        self.rate.take(now, self.settings.rate_per_second);
        self.in_flight += 1;
        self.busy.insert(head.event, Busy { head, in_flight: true, link_was_up, reopened: None });
        Some(head)
    }

    /// The attempt ended: its delivery waits for its outcome to be committed. Answers
    /// also whether the link was known to be up when it began.
    pub(super) fn end_attempt(&mut self, event: EventId) -> Option<(Head, bool)> {
        let busy = self.busy.get_mut(&event).filter(|busy| busy.in_flight)?;
        busy.in_flight = false;
        self.in_flight -= 1;
        Some((busy.head, busy.link_was_up))
    }

    /// The attempt was not made after all. Its row may be gone, so that it is read
    /// anew; if it is there, it is not tried at once.
    pub(super) fn not_made(&mut self, now: Timestamp, event: EventId) {
        self.busy.remove(&event);
        self.put_off.retain(|_, until| *until > now);
        self.put_off.insert(event, now + NOT_MADE_PAUSE);
        self.reset();
    }

    pub(super) fn succeeded(&mut self) {
        self.last_failed = false;
        self.breaker.succeeded();
        self.blame.succeeded();
    }

    /// It was enabled again, or leads to another host.
    pub(super) fn forget_failures(&mut self) {
        self.last_failed = false;
        self.breaker = Breaker::default();
        self.blame = Blame::default();
        self.paused_until = Timestamp::ZERO;
        self.put_off.clear();
    }

    /// The clock was set back from `before` to `now`, or (with the same) the settings
    /// changed: nothing waits for longer than they say.
    pub(super) fn pull_in(&mut self, before: Timestamp, now: Timestamp) {
        let longest = self.settings.retry.delay_longest();
        self.heads.reschedule(|head, at| ready_at(head, at, now, longest));
        for until in self.put_off.values_mut() {
            *until = (*until).min(now + NOT_MADE_PAUSE);
        }
        self.expiry_asked_at = self.expiry_asked_at.map(|asked_at| asked_at.min(now));
        // What was over stays over.
        let paused_until = Some(self.paused_until).filter(|until| *until > before);
        self.paused_until =
            paused_until.map_or(Timestamp::ZERO, |until| until.min(now + self.settings.retry.max_delay));
        self.rate.pull_in(now, self.settings.rate_per_second);
        self.breaker.pull_in(now);
        self.blame.pull_in(now);
    }
}

/// When a head that was to run at `at` may run. By a clock that was set back since
/// it lies too far ahead: no delay is longer than `longest`, and what never failed
/// waits for nothing.
fn ready_at(head: &Head, at: Timestamp, now: Timestamp, longest: Duration) -> Timestamp {
    at.min(if head.failures == 0 { now } else { now + longest })
}
