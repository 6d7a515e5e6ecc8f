//! The book: what was promised, and what must be true of the store. It hears of
//! every commit and every answer, survives crashes, and **knows nothing of how the
//! store does it**. After each turn of the writer what was touched is compared with
//! what is stored; now and then, and after every crash, everything is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::id::{DeliveryId, EventId, Lane};
use crate::model::{Delivery, DeliveryState, Event, FailureCode, Head, Name, Scope, Subscription};
use crate::pattern::Pattern;
use crate::store::Notice;
use crate::store::simulated::Stepped;
use crate::time::Timestamp;

use super::network::Fate;
use super::order::Order;

/// A delivery as it was last known.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) state: DeliveryState,
    /// What the engine was told of where its row stands; none: not told.
    pub(super) place: Option<Timestamp>,
    pub(super) due: Option<Timestamp>,
    pub(super) attempts: u32,
    /// Since it was opened; none: not known after a crash.
    pub(super) failures: Option<u32>,
    pub(super) opened_at: Timestamp,
    /// As which it came in, counted over all; none: not known after a crash.
    pub(super) came: Option<u64>,
}

impl Known {
    /// As it came in, at `head`.
    fn opened(head: &Head, came: u64) -> Known {
        Known {
            state: DeliveryState::Pending,
            place: Some(head.place),
            due: Some(head.due),
            attempts: head.attempts,
            failures: Some(0),
            opened_at: head.opened_at,
            came: Some(came),
        }
    }
}

/// An attempt that ended, whose outcome is on its way to the store.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) place: Timestamp,
    pub(super) due: Timestamp,
    pub(super) began_at: Timestamp,
    pub(super) ended_at: Timestamp,
    /// None: nothing was sent.
    pub(super) fate: Option<Fate>,
    pub(super) interrupted: bool,
}

/// An event that is in the store.
pub(super) struct Stored {
    /// It was answered 2xx.
    promised: bool,
    /// None: it is not ours, or not known yet.
    pub(super) serial: Option<u64>,
    pub(super) deliveries: BTreeMap<Lane, Known>,
}

/// How long things are kept, and how retries go.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) delivered: Duration,
    pub(super) failed: Duration,
    pub(super) unmatched: Duration,
    pub(super) first: Duration,
    pub(super) max_delay: Duration,
    pub(super) give_up_after: Duration,
}

pub(super) struct Book {
    pub(super) rules: Rules,
    /// Each organization with the one above it.
    pub(super) tree: BTreeMap<Name, Option<Name>>,
    /// Each source with its owner.
    pub(super) sources: BTreeMap<Name, Name>,
    pub(super) subscriptions: BTreeMap<Lane, std::sync::Arc<Subscription>>,
    pub(super) events: BTreeMap<EventId, Stored>,
    /// Events whose time was over.
    gone: BTreeSet<EventId>,
    /// Serial numbers whose publishing was refused for certain, and never tried again.
    pub(super) refused: BTreeSet<u64>,
    /// The first event of each idempotency key.
    pub(super) keys: BTreeMap<(Name, String), (EventId, u64)>,
    pub(super) settling: BTreeMap<DeliveryId, Outcome>,
    pub(super) order: Order,
    /// Deliveries that somebody has asked to retry or cancel, without an answer yet.
    pub(super) touching: BTreeSet<DeliveryId>,
    /// Lanes on which bulk work may be under way: cancelling, replaying.
    pub(super) cancelling: BTreeMap<Lane, u32>,
    pub(super) replaying: BTreeMap<Lane, u32>,
    /// Lanes of which each such call was answered, since the last comparison.
    pub(super) cancelled: Vec<Lane>,
    pub(super) replayed: Vec<Lane>,
    /// What is stored may be more than what was told.
    pub(super) in_doubt: bool,
    /// Deliveries for which that was so.
    pub(super) doubted: BTreeSet<DeliveryId>,
    /// The latest that any clock showed.
    pub(super) wall_max: Timestamp,
    /// Delays of retries, as shares of what the policy says without jitter.
    pub(super) spread: Vec<f64>,
    touched: BTreeSet<DeliveryId>,
    ended_lanes: BTreeSet<Lane>,
}

impl Book {
    pub(super) fn new(rules: Rules, start: Timestamp) -> Book {
        Book {
            rules,
            tree: BTreeMap::new(),
            sources: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            events: BTreeMap::new(),
            gone: BTreeSet::new(),
            refused: BTreeSet::new(),
            keys: BTreeMap::new(),
            settling: BTreeMap::new(),
            order: Order::default(),
            touching: BTreeSet::new(),
            cancelling: BTreeMap::new(),
            replaying: BTreeMap::new(),
            cancelled: Vec::new(),
            replayed: Vec::new(),
            in_doubt: false,
            doubted: BTreeSet::new(),
            wall_max: start,
            spread: Vec::new(),
            touched: BTreeSet::new(),
            ended_lanes: BTreeSet::new(),
        }
    }

    pub(super) fn known(&self, id: DeliveryId) -> Option<&Known> {
        self.events.get(&id.event())?.deliveries.get(&id.lane())
    }

    /// Whether a subscription is to get an event, found out the simple way.
    pub(super) fn wants(&self, subscription: &Subscription, event: &Event) -> bool {
        let settings = &subscription.settings;
        let in_scope = match &settings.scope {
            Scope::Own => settings.organization == event.organization,
            Scope::Recursive => {
                let mut above = Some(event.organization.clone());
                let mut found = false;
                while let Some(here) = above {
                    found |= here == settings.organization;
                    above = self.tree.get(&here).cloned().flatten();
                }
                found
            }
            Scope::Sources(sources) => event.source.as_ref().is_some_and(|source| {
                sources.contains(source)
                    && settings.organization == event.organization
                    && self.sources.get(source) == Some(&event.organization)
            }),
        };
        let is_operational = event.event_type.starts_with("posthaste.");
        let by_type = settings.events.iter().any(|pattern| match pattern {
            Pattern::All => !is_operational,
            Pattern::Below(prefix) => event.event_type.starts_with(&**prefix) && event.event_type.len() > prefix.len(),
            Pattern::Exact(name) => *name == event.event_type,
        });
        // The workload filters by one thing only: `/data/level` at least so much.
        let level = serde_json::from_str::<serde_json::Value>(event.data.as_str()).unwrap()["level"].as_i64();
        let by_filter = settings.filter.iter().all(|it| level.is_some_and(|level| level >= it.value.as_i64().unwrap()));
        in_scope && by_type && by_filter
    }

    /// The writer told the engine of a commit.
    pub(super) fn hear(&mut self, notice: &Notice) {
        match notice {
            Notice::Accepted { event, head, lanes } => self.accepted(event, head, lanes),
            Notice::Opened(lane, heads) => {
                for head in heads {
                    self.opened(*lane, head);
                }
            }
            Notice::Settled { lane, event, next } => self.settled(event.delivery(*lane), next.as_ref()),
            Notice::Removed(lane, key) => {
                let id = key.1.delivery(*lane);
                self.touched.insert(id);
                if let Some(known) = self.known_mut(id) {
                    assert!(known.place.is_none_or(|place| place == key.0), "what was cancelled stood there");
                    (known.state, known.due) = (DeliveryState::Cancelled, None);
                }
            }
            Notice::Reset(lane) => {
                let of_lane = self.events.iter().filter_map(|(event, stored)| {
                    let known = stored.deliveries.get(lane)?;
                    (known.state == DeliveryState::Pending).then(|| event.delivery(*lane))
                });
                let of_lane: Vec<DeliveryId> = of_lane.collect();
                self.touched.extend(of_lane);
            }
            Notice::LaneSet(subscription) => {
                self.order.was_set(subscription, false);
                self.subscriptions.insert(subscription.number, subscription.clone());
            }
            Notice::LaneRemoved(lane) => {
                self.subscriptions.remove(lane);
                self.ended_lanes.insert(*lane);
            }
            Notice::Down | Notice::Up => self.in_doubt = true,
            Notice::Expired { .. } | Notice::OverShare(_) | Notice::Resumed => {}
        }
    }

    fn known_mut(&mut self, id: DeliveryId) -> Option<&mut Known> {
        self.events.get_mut(&id.event())?.deliveries.get_mut(&id.lane())
    }

    fn accepted(&mut self, event: &Event, head: &Head, lanes: &[Lane]) {
        let newest = self.events.last_key_value().map(|(id, _)| *id);
        assert!(newest.is_none_or(|newest| event.id > newest), "{} is older than what came before it", event.id);
        if let Some(serial) = serial(event) {
            let wanted = self.subscriptions.values().filter(|it| it.is_enabled() && self.wants(it, event));
            let wanted: Vec<Lane> = wanted.map(|it| it.number).collect();
            assert_eq!(lanes, wanted, "event {} is for those who want it", event.id);
            assert!(!self.refused.contains(&serial), "what was refused was accepted");
        }
        let known = Known::opened(head, self.order.comes());
        let deliveries = lanes.iter().map(|lane| (*lane, known.clone())).collect();
        self.events.insert(event.id, Stored { promised: false, serial: serial(event), deliveries });
        self.touched.extend(lanes.iter().map(|lane| event.id.delivery(*lane)));
    }

    fn opened(&mut self, lane: Lane, head: &Head) {
        let id = head.event.delivery(lane);
        self.touched.insert(id);
        let in_doubt = self.in_doubt;
        // Of an event that matched nobody, nobody was told.
        let unmatched = || Stored { promised: false, serial: None, deliveries: BTreeMap::new() };
        let stored = self.events.entry(head.event).or_insert_with(unmatched);
        let before = stored.deliveries.insert(lane, Known::opened(head, self.order.comes()));
        if let Some(before) = before
            && !in_doubt
        {
            assert_ne!(before.state, DeliveryState::Pending, "{id} was opened twice");
            assert_eq!(before.attempts, head.attempts, "{id}: attempts are numbered on");
        }
    }

    fn settled(&mut self, id: DeliveryId, next: Option<&Head>) {
        self.touched.insert(id);
        let outcome = self.settling.remove(&id);
        if self.in_doubt {
            self.doubted.insert(id);
            return;
        }
        let outcome = outcome.unwrap_or_else(|| panic!("{id} was settled without an attempt"));
        let rules = self.rules.clone();
        let subscription = self.subscriptions.get(&id.lane()).cloned();
        let mut share = None;
        let is_gone = self.gone.contains(&id.event());
        let Some(known) = self.known_mut(id) else {
            // A clock that goes on by days may end an event while an attempt of it is in flight.
            assert!(is_gone, "{id} was settled and is not known");
            assert_eq!(next, None, "{id} is no more: its outcome is dropped");
            return;
        };
        if known.due != Some(outcome.due) || known.place.is_some_and(|place| place != outcome.place) {
            assert_eq!(next, None, "{id} was no longer where it stood: its outcome is dropped");
            return;
        }
        known.attempts += 1;
        if let Some(next) = next {
            assert_eq!(next.attempts, known.attempts, "{id}: attempts are numbered without gaps");
            assert_eq!(next.opened_at, known.opened_at, "{id}: a retry is no new horizon");
            (known.place, known.due) = (Some(next.place), Some(next.due));
        } else {
            known.due = None;
        }
        if outcome.interrupted {
            assert_eq!(known.due, Some(outcome.due), "{id}: due as before");
            return;
        }
        let Some(subscription) = subscription else { return };
        let succeeded = outcome.fate.as_ref().is_some_and(|fate| fate.is_success(subscription.settings.format));
        if succeeded {
            assert_eq!(next, None, "{id} is delivered");
            known.state = DeliveryState::Delivered;
            return;
        }
        let horizon = known.opened_at + rules.give_up_after;
        known.failures = known.failures.map(|failures| failures + 1);
        match next {
            None => {
                known.state = DeliveryState::Failed;
                let only_transient = subscription.settings.delivery.retry.transient_only == Some(true);
                let is_hopeless = outcome.fate.as_ref().is_some_and(Fate::is_permanent) && only_transient;
                assert!(outcome.began_at >= horizon || is_hopeless, "{id} failed before its horizon");
            }
            Some(next) => {
                if let Some(failures) = known.failures
                    && next.due != horizon
                {
                    let nominal = rules.first.as_secs_f64() * 2f64.powi(failures as i32 - 1);
                    let nominal = nominal.min(rules.max_delay.as_secs_f64());
                    let delay = next.due.since(outcome.ended_at).as_secs_f64() / nominal;
                    assert!((0.799..=1.201).contains(&delay), "{id} is retried after {delay} of {nominal} s");
                    share = Some(delay);
                }
                assert!(next.due <= horizon.max(outcome.ended_at), "{id} is retried beyond its horizon");
            }
        }
        self.spread.extend(share);
    }

    /// The store answered 2xx.
    pub(super) fn promised(&mut self, id: EventId, serial: u64, deliveries: u32) {
        let in_doubt = self.in_doubt;
        let stored = self.events.entry(id).or_insert_with(|| {
            // The log had it, and the database failed after that: what it has is seen later.
            assert!(deliveries == 0 || in_doubt, "{id} has {deliveries} deliveries that nobody was told of");
            Stored { promised: false, serial: None, deliveries: BTreeMap::new() }
        });
        (stored.promised, stored.serial) = (true, Some(serial));
    }

    /// Compares what was touched with what is stored; after trouble, everything.
    pub(super) fn compare(&mut self, store: &Stepped) {
        if !store.store.is_ready() {
            return;
        }
        if self.in_doubt {
            self.compare_all(store);
            return;
        }
        for id in std::mem::take(&mut self.touched) {
            let stored = store.store.delivery(id).unwrap();
            self.compare_one(id, stored.map(|(delivery, ..)| delivery));
        }
        self.end_bulk();
    }

    /// What bulk work did has been seen.
    fn end_bulk(&mut self) {
        for lane in std::mem::take(&mut self.cancelled) {
            *self.cancelling.entry(lane).or_default() -= 1;
        }
        for lane in std::mem::take(&mut self.replayed) {
            *self.replaying.entry(lane).or_default() -= 1;
        }
    }

    /// Compares everything.
    pub(super) fn compare_all(&mut self, store: &Stepped) {
        store.check();
        self.touched.clear();
        let ids = store.events();
        if self.in_doubt {
            let before = std::mem::take(&mut self.subscriptions);
            for subscription in store.store.registry().subscriptions() {
                let known = before.get(&subscription.number);
                self.order.was_set(subscription, known.is_none_or(|it| it.version != subscription.version));
                assert!(!self.ended_lanes.contains(&subscription.number), "a deleted subscription is back");
                self.subscriptions.insert(subscription.number, subscription.clone());
            }
        }
        let there: BTreeSet<EventId> = ids.iter().copied().collect();
        let missing: Vec<EventId> = self.events.keys().copied().filter(|id| !there.contains(id)).collect();
        for id in missing {
            self.gone(id);
        }
        for id in ids {
            let detail = store.store.event(id).unwrap().unwrap();
            if !self.events.contains_key(&id) {
                // Committed, and its answer or notice was lost, or it matched nobody.
                let serial = serial(&detail.event);
                let is_refused = serial.is_some_and(|serial| self.refused.contains(&serial));
                assert!(!is_refused, "{id} was refused and is stored");
                assert!(self.in_doubt || detail.deliveries.is_empty(), "{id} was stored and nobody was told");
                self.events.insert(id, Stored { promised: false, serial, deliveries: BTreeMap::new() });
                for delivery in detail.deliveries {
                    self.adopt(&delivery);
                }
                continue;
            }
            let lanes: BTreeSet<Lane> = detail.deliveries.iter().map(|it| it.id.lane()).collect();
            for lane in self.events[&id].deliveries.keys() {
                assert!(lanes.contains(lane), "{} is gone", id.delivery(*lane));
            }
            for delivery in detail.deliveries {
                self.compare_one(delivery.id, Some(delivery));
            }
        }
        self.end_bulk();
        if self.in_doubt {
            // What was on its way is answered for by what is stored now.
            self.in_doubt = false;
            self.doubted.clear();
        }
    }

    fn adopt(&mut self, delivery: &Delivery) {
        let before = self.known(delivery.id).filter(|it| it.opened_at == delivery.opened_at);
        let known = Known {
            state: delivery.state,
            place: None,
            due: delivery.next_attempt_at,
            attempts: delivery.attempts,
            failures: (delivery.attempts == 0).then_some(0),
            opened_at: delivery.opened_at,
            came: before.filter(|it| it.state == DeliveryState::Pending).and_then(|it| it.came),
        };
        let Some(stored) = self.events.get_mut(&delivery.id.event()) else { return };
        stored.deliveries.insert(delivery.id.lane(), known);
    }

    fn compare_one(&mut self, id: DeliveryId, stored: Option<Delivery>) {
        let Some(stored) = stored else {
            self.gone(id.event());
            return;
        };
        let Some(known) = self.known(id).cloned() else {
            assert!(self.in_doubt, "{id} is stored and was never opened");
            self.adopt(&stored);
            return;
        };
        let is_same =
            (known.state, known.due, known.attempts) == (stored.state, stored.next_attempt_at, stored.attempts);
        if is_same {
            return;
        }
        let is_pending = known.state == DeliveryState::Pending;
        let is_bulk = is_pending && stored.attempts == known.attempts;
        let is_cancelled = is_bulk
            && stored.state == DeliveryState::Cancelled
            && (self.cancelling.get(&id.lane()).is_some_and(|calls| *calls > 0)
                || self.ended_lanes.contains(&id.lane())
                || self.is_lost(id));
        // By the latest that a clock showed, because it may have been set back since.
        let is_expired = is_bulk
            && (stored.state, stored.code) == (DeliveryState::Failed, Some(FailureCode::Expired))
            && known.opened_at + self.rules.give_up_after <= self.wall_max;
        let in_doubt = self.doubted.contains(&id) || self.touching.contains(&id) || self.settling.contains_key(&id);
        let is_opened =
            stored.state == DeliveryState::Pending && self.replaying.get(&id.lane()).is_some_and(|calls| *calls > 0);
        let has_attempts = (known.attempts..=known.attempts + 1).contains(&stored.attempts);
        let is_doubtful = self.in_doubt && has_attempts && (in_doubt || is_opened);
        assert!(
            is_cancelled || is_expired || is_doubtful,
            "{id} is {:?} with {} attempts, due {:?}; it should be {known:?}",
            stored.state,
            stored.attempts,
            stored.next_attempt_at,
        );
        self.adopt(&stored);
    }

    /// Its subscription ended in a commit that nobody was told of.
    fn is_lost(&self, id: DeliveryId) -> bool {
        !self.subscriptions.contains_key(&id.lane())
    }

    /// An event is no longer stored: was it its time?
    fn gone(&mut self, id: EventId) {
        let Some(stored) = self.events.remove(&id) else { return };
        self.gone.insert(id);
        let mut opened_at = id.accepted_at();
        let mut all_delivered = true;
        for (lane, known) in &stored.deliveries {
            let lane_is_over = self.ended_lanes.contains(lane) || self.is_lost(id.delivery(*lane));
            let may_be_over = known.state != DeliveryState::Pending
                || lane_is_over
                || known.opened_at + self.rules.give_up_after <= self.wall_max;
            assert!(may_be_over, "{id} is gone, with its delivery on {lane} pending (promised: {})", stored.promised);
            all_delivered &= known.state == DeliveryState::Delivered;
            opened_at = opened_at.max(known.opened_at);
        }
        let age = match all_delivered {
            _ if stored.deliveries.is_empty() => self.rules.unmatched,
            true => self.rules.delivered,
            false => self.rules.failed,
        };
        let promised = stored.promised;
        assert!(opened_at + age <= self.wall_max, "{id} is gone before its time (promised: {promised})");
    }

    /// Whether a publication reached the disk is not known: it may be found there.
    pub(super) fn crashed_publishing(&mut self) {
        self.in_doubt = true;
    }

    /// The process ended: whatever was on its way is not known of.
    pub(super) fn crashed(&mut self) {
        self.in_doubt = true;
        self.doubted.extend(self.settling.keys());
        self.doubted.extend(&self.touching);
        self.settling.clear();
        self.touching.clear();
    }
}

/// The serial number of an event of ours.
pub(super) fn serial(event: &Event) -> Option<u64> {
    let data: serde_json::Value = serde_json::from_str(event.data.as_str()).ok()?;
    data["serial"].as_u64()
}
