//! The world of a simulation: time, a disk, a network and people around one daemon,
//! whose parts are the real ones: writer, engine, scheduler, formats. **Everything
//! that happens follows from the seed.**

mod people;
mod process;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::attempt::Performer;
use crate::config::{self, Config, Live, Retention};
use crate::deliver::Client;
use crate::deliver::simulated::{Network, Sent};
use crate::engine::Engine;
use crate::id::{DeliveryId, EventId, Lane, SubscriptionId};
use crate::metrics::Metrics;
use crate::model::{DeliveryState, Name, Status};
use crate::store::command::{AcceptError, Change, DeliveryError, Replay, WriteError};
use crate::store::simulated::{Disk, Faults, Files, Stepped};
use crate::store::{Notice, Options};
use crate::time::{Clock, Timestamp};

use super::book::{Book, Outcome, Rules};
use super::lanes::Lanes;
use super::network::{Fate, Mood, any_mood, any_of, fate};
use super::order::is_fifo;
use super::wire;
use super::work::{self, Answer, Asked, Call, Publication};

pub(super) const SECOND: u64 = 1_000;
pub(super) const MINUTE: u64 = 60 * SECOND;
pub(super) const HOUR: u64 = 60 * MINUTE;
pub(super) const DAY: u64 = 24 * HOUR;
const START_MS: u64 = 1_800_000_000_000;

/// What a simulation came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) virtual_ms: u64,
    pub(super) crashes: u64,
    pub(super) attempts: u64,
    pub(super) events: u64,
    /// Of everything that went over the wire, so that two runs can be compared.
    pub(super) digest: u64,
}

/// A process: gone with a crash.
struct Daemon {
    store: Stepped,
    engine: Engine,
    clock: Clock,
    /// What the writer told and the engine has not heard yet.
    unheard: VecDeque<Notice>,
    turned_ms: u64,
    /// The engine knows that the store is down.
    is_held: bool,
}

/// A request whose answer is decided and on its way.
struct Answering {
    sent: Sent,
    id: DeliveryId,
    took: Duration,
    fate: Fate,
}

pub(super) struct World {
    pub(super) chance: StdRng,
    /// Milliseconds since the beginning, of time that only goes on.
    pub(super) true_ms: u64,
    /// What the wall clock is ahead.
    offset_ms: i64,
    config: Config,
    disk: Disk,
    daemon: Option<Daemon>,
    runtime: tokio::runtime::Runtime,
    network: Network,
    /// By when they arrive.
    answering: BTreeMap<(u64, u64), Answering>,
    sequence: u64,
    moods: BTreeMap<Lane, Mood>,
    uplink: bool,
    pub(super) book: Book,
    pub(super) lanes: Lanes,
    calls: Vec<Call>,
    /// What may be published once more.
    publications: Vec<Publication>,
    next_serial: u64,
    made: usize,
    /// Whether things are late, lost and out of order.
    is_storm: bool,
    /// Whether an idle writer looks around once an hour only: nobody waits for it.
    pub(super) is_leaping: bool,
    /// When to go on though nothing is due.
    busy_at_ms: Option<u64>,
    /// What the last replay was answered: how many it opened.
    replayed: Option<Result<u64, DeliveryError>>,
    pub(super) tally: Tally,
}

/// The configuration by default, read once.
fn config() -> Config {
    static CONFIG: OnceLock<Config> = OnceLock::new();
    CONFIG.get_or_init(|| config::load(None, [("POSTHASTE_SERVICE_AUTH".into(), "none".into())]).unwrap()).clone()
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        let mut chance = StdRng::seed_from_u64(seed);
        let mut config = config();
        let hours = |count: u64| Duration::from_millis(count * HOUR);
        config.delivery.concurrency_total = any_of(&mut chance, &[2, 5, 12, 64]);
        config.delivery.retry.max_delay = any_of(&mut chance, &[hours(1), hours(4)]);
        config.delivery.retry.give_up_after = any_of(&mut chance, &[hours(6), hours(24), hours(72)]);
        let failed = any_of(&mut chance, &[hours(73), hours(200)]);
        let retention = Retention { delivered: hours(73), failed, unmatched: hours(72), audit: hours(100_000) };
        config.retention = retention;
        config.storage.bytes_max = any_of(&mut chance, &[0, 0, 0, 60_000]);
        let rules = Rules {
            delivered: config.retention.delivered,
            failed: config.retention.failed,
            unmatched: config.retention.unmatched,
            first: config.delivery.retry.first,
            max_delay: config.delivery.retry.max_delay,
            give_up_after: config.delivery.retry.give_up_after,
        };
        let disk = Disk::with(Files::default(), StdRng::seed_from_u64(chance.random()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let mut world = World {
            chance,
            true_ms: 0,
            offset_ms: 0,
            config,
            disk,
            daemon: None,
            runtime,
            network: Network::default(),
            answering: BTreeMap::new(),
            sequence: 0,
            moods: BTreeMap::new(),
            uplink: true,
            book: Book::new(rules, Timestamp::from_millis(START_MS)),
            lanes: Lanes::default(),
            calls: Vec::new(),
            publications: Vec::new(),
            next_serial: 1,
            made: 0,
            is_storm: false,
            is_leaping: false,
            busy_at_ms: None,
            replayed: None,
            tally: Tally::default(),
        };
        world.boot();
        world.set_up();
        world
    }

    pub(super) fn wall(&self) -> Timestamp {
        Timestamp::from_millis(START_MS.saturating_add_signed(self.offset_ms) + self.true_ms)
    }

    fn store(&self) -> &crate::store::Store {
        &self.daemon.as_ref().unwrap().store.store
    }

    // --- The process ---

    fn ask(&mut self, call: impl FnOnce(&crate::store::Store) -> Call) {
        let call = call(self.store());
        match &call.asked {
            Asked::Touch(id) => drop(self.book.touching.insert(*id)),
            Asked::CancelMany(lane) => *self.book.cancelling.entry(*lane).or_default() += 1,
            Asked::Replay(lane) => *self.book.replaying.entry(*lane).or_default() += 1,
            Asked::Publish(_) | Asked::Change => {}
        }
        self.calls.push(call);
        self.answer_calls();
        self.is_busy();
    }

    fn is_busy(&mut self) {
        let after = if self.is_storm { self.chance.random_range(0..15) } else { 1 };
        let at = self.true_ms + after;
        self.busy_at_ms = Some(self.busy_at_ms.map_or(at, |before| before.min(at)));
    }

    // --- Time ---

    fn next_ms(&self) -> u64 {
        let mut next = u64::MAX;
        if let Some(((at, _), _)) = self.answering.first_key_value() {
            next = next.min(*at);
        }
        if let Some(at) = self.busy_at_ms {
            next = next.min(at);
        }
        if let Some(daemon) = &self.daemon {
            if let Some(wake) = daemon.engine.next_wake() {
                next = next.min(self.true_ms + wake.since(self.wall()).as_millis() as u64);
            }
            let patience = daemon.store.patience().as_millis() as u64;
            let is_idle = patience >= MINUTE && self.is_leaping;
            next = next.min(daemon.turned_ms + if is_idle { HOUR } else { patience });
            if daemon.engine.work_len() > daemon.engine.attempts().len() {
                next = next.min(self.true_ms + SECOND);
            }
        }
        next.max(self.true_ms)
    }

    fn pass_to(&mut self, true_ms: u64) {
        let span = Duration::from_millis(true_ms - self.true_ms);
        self.true_ms = true_ms;
        let wall = self.wall();
        self.book.wall_max = self.book.wall_max.max(wall);
        if let Some(daemon) = &self.daemon {
            daemon.clock.set(wall);
        }
        if !span.is_zero() {
            self.runtime.block_on(tokio::time::advance(span));
            self.send();
        }
    }

    pub(super) fn set_clock(&mut self, by_ms: i64) {
        // Not before the beginning of the world.
        if self.offset_ms + by_ms + (self.true_ms as i64) < -(DAY as i64) * 300 {
            return;
        }
        self.offset_ms += by_ms;
        self.pass_to(self.true_ms);
        // What is a second back is no step: the scheduler lets it pass.
        self.lanes.clock_was_set(by_ms < 0, self.true_ms, self.wall());
        // The engine looks at a clock at least this often.
        self.busy_at_ms = Some(self.true_ms + self.chance.random_range(0..10 * SECOND));
    }

    pub(super) fn run_for(&mut self, span_ms: u64) {
        let until = self.true_ms + span_ms;
        loop {
            let next = self.next_ms();
            if next > until {
                break self.pass_to(until);
            }
            self.pass_to(next);
            self.step();
        }
    }

    /// Runs while there is something that `is_left`, at most so long.
    pub(super) fn run_until(&mut self, span_ms: u64, is_done: impl Fn(&World) -> bool) -> bool {
        let until = self.true_ms + span_ms;
        while !is_done(self) {
            let next = self.next_ms().min(until + 1);
            if next > until {
                self.pass_to(until);
                return is_done(self);
            }
            self.pass_to(next);
            self.step();
        }
        true
    }

    // --- What happens at a moment ---

    fn step(&mut self) {
        self.busy_at_ms = None;
        self.arrive();
        self.daemon.as_mut().unwrap().engine_tick(&self.runtime);
        self.observe();
        let mut order = [0, 1, 2, 3];
        if self.is_storm {
            for at in (1..order.len()).rev() {
                order.swap(at, self.chance.random_range(0..=at));
            }
        }
        for part in order {
            if self.is_storm && self.chance.random_ratio(1, 5) {
                self.is_busy();
                continue;
            }
            let has_moved = match part {
                0 => self.let_work(),
                1 => self.let_write(),
                2 => self.let_hear(),
                _ => self.let_take(),
            };
            if has_moved {
                self.is_busy();
            }
        }
    }

    /// Answers that are due reach the daemon.
    fn arrive(&mut self) {
        while let Some(entry) = self.answering.first_entry()
            && entry.key().0 <= self.true_ms
        {
            let Answering { sent, id, took, fate } = entry.remove();
            if let Some(flight) = self.lanes.answered(id) {
                flight.fate = Some(fate.clone());
            }
            match fate {
                Fate::Answer { status, retry_after } => sent.answer(took, status, retry_after),
                Fate::Failure(code) => sent.fail(took, code),
            }
            self.is_busy();
        }
    }

    /// What the engine began goes on as far as it can by itself.
    fn let_work(&mut self) -> bool {
        self.runtime.block_on(async {
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
        });
        self.send()
    }

    /// What the attempts have sent goes out.
    fn send(&mut self) -> bool {
        let sent = self.network.take();
        let has_moved = !sent.is_empty();
        for sent in sent {
            self.went_out(sent);
        }
        has_moved
    }

    fn went_out(&mut self, sent: Sent) {
        let lane = sent.lane;
        let subscription = self.book.subscriptions.get(&lane);
        let Some(subscription) = subscription.filter(|it| it.is_enabled()).cloned() else {
            assert!(self.book.in_doubt, "lane {lane} is attempted though it is disabled or gone");
            return;
        };
        wire::check(&subscription, &sent.request, self.wall());
        let named = sent.request.headers.iter().find(|(name, _)| name == "webhook-id");
        let id = match (named, wire::serial(&sent.request)) {
            (Some((_, event)), _) => event.parse::<EventId>().unwrap().delivery(lane),
            (None, serial) => {
                let waiting = self.lanes.flights.iter().filter(|(id, it)| id.lane() == lane && !it.was_sent);
                let waiting: Vec<DeliveryId> = waiting.map(|(id, _)| *id).collect();
                let is_it = |id: &&DeliveryId| self.book.events.get(&id.event()).is_some_and(|it| it.serial == serial);
                *waiting.iter().find(is_it).or(waiting.first()).expect("somebody sent it")
            }
        };
        let flight = self.lanes.flights.get_mut(&id).unwrap_or_else(|| panic!("{id} was sent without an attempt"));
        assert!(!flight.was_sent, "{id} was sent twice in one attempt");
        flight.was_sent = true;
        let mood = self.moods.get(&lane).copied().unwrap_or(Mood::Well);
        let (took, fate) = fate(&mut self.chance, mood, self.uplink, sent.timeout);
        let digest = format!("{id} {} {fate:?} {took:?}", self.true_ms);
        self.tally.digest = digest
            .bytes()
            .fold(self.tally.digest, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        self.sequence += 1;
        let at = (self.true_ms + took.as_millis() as u64, self.sequence);
        self.answering.insert(at, Answering { sent, id, took, fate });
    }

    /// The writer takes a turn.
    fn let_write(&mut self) -> bool {
        let daemon = self.daemon.as_mut().unwrap();
        // Outcomes may still wait for others.
        let is_early = self.is_storm && self.chance.random_ratio(1, 2);
        let told = if is_early { daemon.store.turn_early() } else { daemon.store.turn() };
        daemon.turned_ms = self.true_ms;
        for notice in &told {
            self.book.hear(notice);
        }
        let has_moved = !told.is_empty();
        daemon.unheard.extend(told);
        if self.disk.has_power() {
            self.disk.calmly(|| self.book.compare(&daemon.store));
        }
        let was_answered = self.answer_calls();
        if !self.disk.has_power() {
            self.crash();
        }
        has_moved || was_answered || is_early
    }

    /// The engine hears of commits, perhaps not of all at once.
    fn let_hear(&mut self) -> bool {
        let mut has_moved = false;
        while let Some(notice) = self.daemon.as_mut().unwrap().unheard.pop_front() {
            has_moved = true;
            match &notice {
                Notice::LaneSet(subscription) => {
                    self.lanes.was_set(subscription.number, subscription.is_enabled());
                }
                Notice::LaneRemoved(lane) => drop(self.lanes.removed.insert(*lane)),
                Notice::Down => self.daemon.as_mut().unwrap().is_held = true,
                Notice::Up => {
                    self.daemon.as_mut().unwrap().is_held = false;
                    self.lanes.all_were_set();
                }
                _ => {}
            }
            self.daemon.as_mut().unwrap().engine_hear(&self.runtime, notice);
            self.observe();
            if self.is_storm && self.chance.random_ratio(1, 4) {
                break;
            }
        }
        has_moved
    }

    /// The engine takes in what was done.
    fn let_take(&mut self) -> bool {
        let mut has_moved = false;
        while self.daemon.as_mut().unwrap().engine_take(&self.runtime) {
            has_moved = true;
            self.observe();
        }
        has_moved
    }

    /// Compares the attempts that the engine has under way with those it had.
    fn observe(&mut self) {
        let daemon = self.daemon.as_ref().unwrap();
        let attempts = daemon.engine.attempts();
        let there: BTreeSet<DeliveryId> = attempts.iter().map(|it| it.event.delivery(it.lane)).collect();
        assert_eq!(there.len(), attempts.len(), "a delivery has two attempts in flight");
        let gone: Vec<DeliveryId> = self.lanes.flights.keys().copied().filter(|id| !there.contains(id)).collect();
        for id in gone {
            let Some(flight) = self.lanes.flights.remove(&id) else { continue };
            if self.lanes.removed.contains(&id.lane()) {
                continue;
            }
            let fate = match flight.fate.clone() {
                Some(fate) => fate,
                None if flight.was_sent => {
                    self.lanes.taken_for_another(id, &there).unwrap_or_else(|| panic!("{id} ended without its answer"))
                }
                // It was not made: the subscription was disabled, or the store down.
                None => continue,
            };
            let (place, due, began_at) = (flight.began.place, flight.began.due, flight.began.began_at);
            let ended_at = daemon.clock.now();
            if let Some(subscription) = self.book.subscriptions.get(&id.lane()) {
                let is_success = fate.is_success(subscription.settings.format);
                self.lanes.ended(&flight, &fate, is_success, (self.true_ms, ended_at), self.book.rules.max_delay);
            }
            let outcome = Outcome { place, due, began_at, ended_at, fate: Some(fate), interrupted: false };
            self.book.settling.insert(id, outcome);
        }
        for began in attempts {
            if self.lanes.flights.contains_key(&began.event.delivery(began.lane)) {
                continue;
            }
            assert!(!daemon.is_held, "an attempt begins while the store is down");
            let concerns = |notice: &Notice| match notice {
                Notice::Accepted { lanes, .. } => lanes.contains(&began.lane),
                Notice::Opened(lane, _)
                | Notice::Settled { lane, .. }
                | Notice::Removed(lane, _)
                | Notice::Reset(lane)
                | Notice::Expired { lane, .. }
                | Notice::LaneRemoved(lane) => *lane == began.lane,
                Notice::LaneSet(subscription) => subscription.number == began.lane,
                Notice::Down | Notice::Up | Notice::Resumed => true,
                Notice::OverShare(_) => false,
            };
            let is_told = !self.book.in_doubt && !daemon.unheard.iter().any(concerns);
            let subscription = self.book.subscriptions.get(&began.lane).cloned();
            let total = self.config.delivery.concurrency_total as usize;
            self.lanes.begins(began, &self.book, subscription.as_deref(), is_told, total, self.true_ms);
        }
    }

    // --- People ---

    fn answer_calls(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        let mut waiting = Vec::new();
        let mut answered = Vec::new();
        for mut call in std::mem::take(&mut self.calls) {
            match call.answer.as_mut().poll(&mut context) {
                Poll::Ready(answer) => answered.push((call.asked, answer)),
                Poll::Pending => waiting.push(call),
            }
        }
        self.calls = waiting;
        let has_moved = !answered.is_empty();
        for (asked, answer) in answered {
            self.answered(asked, answer);
        }
        has_moved
    }

    fn answered(&mut self, asked: Asked, answer: Answer) {
        match (asked, answer) {
            (Asked::Publish(publications), Answer::Published(Ok(results))) => {
                assert_eq!(publications.len(), results.len());
                for (publication, result) in publications.into_iter().zip(results) {
                    self.published(publication, result);
                }
            }
            (Asked::Publish(_), Answer::Published(Err(WriteError::OutcomeUnknown))) => self.book.crashed_publishing(),
            (Asked::Publish(publications), Answer::Published(Err(_))) => {
                for publication in publications {
                    self.refused(&publication);
                }
            }
            (Asked::Touch(id), Answer::Touched(result)) => {
                self.book.touching.remove(&id);
                if result == Err(DeliveryError::Write(WriteError::OutcomeUnknown)) {
                    self.book.doubted.insert(id);
                }
            }
            (Asked::CancelMany(lane), Answer::Cancelled(Ok(_))) => self.book.cancelled.push(lane),
            (Asked::Replay(lane), Answer::Replayed(Ok(replayed))) => {
                self.book.replayed.push(lane);
                self.replayed = Some(Ok(replayed.deliveries));
            }
            (Asked::Replay(_), Answer::Replayed(Err(error))) => self.replayed = Some(Err(error)),
            _ => {}
        }
    }

    /// It was refused for certain; unless it had been published before, it is not stored.
    fn refused(&mut self, publication: &Publication) {
        let was_published_before = self.publications.iter().any(|it| it.serial == publication.serial);
        if !was_published_before {
            self.book.refused.insert(publication.serial);
        }
    }

    fn published(&mut self, publication: Publication, result: Result<crate::store::command::Accepted, AcceptError>) {
        let Publication { serial, event } = &publication;
        let key = event.idempotency_key.as_ref().map(|key| format!("given {key}"));
        let key = key.or_else(|| event.event_id.as_ref().map(|id| format!("id {id}")));
        let key = key.map(|key| (event.organization.clone(), key));
        let prior = key.as_ref().and_then(|key| self.book.keys.get(key).copied());
        match result {
            Ok(accepted) if accepted.duplicate => {
                if let Some((first, of)) = prior {
                    assert_eq!((accepted.id, *serial), (first, of), "a duplicate is answered the first id");
                }
                let key = key.expect("without a key nothing is a duplicate");
                self.book.keys.insert(key, (accepted.id, *serial));
            }
            Ok(accepted) => {
                if let Some((first, _)) = prior {
                    let known_until = first.accepted_at() + Duration::from_millis(72 * HOUR);
                    assert!(self.book.wall_max >= known_until, "{first} was accepted again as {}", accepted.id);
                }
                self.book.promised(accepted.id, *serial, accepted.deliveries);
                if let Some(key) = key {
                    self.book.keys.insert(key, (accepted.id, *serial));
                }
                self.tally.events += 1;
            }
            Err(AcceptError::Conflict { first }) => {
                assert!(prior.is_none_or(|(_, of)| of != *serial), "{first} has the same content");
                self.refused(&publication);
            }
            Err(_) => self.refused(&publication),
        }
    }

    /// Everything is well from here on.
    pub(super) fn heal(&mut self) {
        self.disk.set_faults(Faults::default());
        self.disk.cut_power_in(u64::MAX);
        self.uplink = true;
        self.moods.clear();
        self.run_for(10 * SECOND);
        assert!(self.store().is_ready(), "the store is back once its disk is well");
    }

    // --- What must have come of it ---

    pub(super) fn compare_all(&mut self) {
        let daemon = self.daemon.as_ref().unwrap();
        self.disk.calmly(|| self.book.compare_all(&daemon.store));
    }

    /// Deliveries that are pending.
    pub(super) fn pending(&self) -> Vec<DeliveryId> {
        self.daemon.as_ref().unwrap().store.pending().into_iter().map(|(id, _)| id).collect()
    }

    pub(super) fn state(&self, id: DeliveryId) -> Option<DeliveryState> {
        self.book.known(id).map(|known| known.state)
    }

    /// Whether the delivery is past its horizon: an attempt of its lane that is under
    /// way may fail and end it, or its end may be asked for already.
    pub(super) fn may_be_given_up(&self, id: DeliveryId) -> bool {
        self.book.known(id).is_some_and(|known| known.opened_at + self.book.rules.give_up_after <= self.wall())
    }

    pub(super) fn is_enabled(&self, lane: Lane) -> bool {
        self.book.subscriptions.get(&lane).is_some_and(|it| it.is_enabled())
    }

    pub(super) fn set_uplink(&mut self, is_up: bool) {
        self.uplink = is_up;
    }

    pub(super) fn set_mood(&mut self, lane: Lane, mood: Mood) {
        self.moods.insert(lane, mood);
    }

    pub(super) fn are_all_answered(&self) -> bool {
        self.calls.is_empty()
    }

    pub(super) fn replay(&mut self, replay: Replay) -> Result<u64, DeliveryError> {
        self.replayed = None;
        self.ask(|store| work::replay(store, replay));
        assert!(self.run_until(MINUTE, |world| world.replayed.is_some()), "a replay is answered");
        self.replayed.unwrap()
    }

    /// Events that a subscription wants and has no delivery of.
    pub(super) fn missed(&self, lane: Lane) -> u64 {
        let subscription = &self.book.subscriptions[&lane];
        let missed = self.book.events.iter().filter(|(id, stored)| {
            let event = self.store().plain_event(**id).unwrap().unwrap();
            !stored.deliveries.contains_key(&lane) && self.book.wants(subscription, &event)
        });
        missed.count() as u64
    }

    pub(super) fn disk_writes(&self) -> u64 {
        self.disk.writes()
    }

    pub(super) fn next_lane_wake(&self) -> Option<Timestamp> {
        self.daemon.as_ref().unwrap().engine.next_lane_wake()
    }

    pub(super) fn next_news_due(&self) -> Option<Timestamp> {
        self.daemon.as_ref().unwrap().engine.next_news_due()
    }

    /// Whether there are failures that a full storage has no room to tell of.
    pub(super) fn is_too_full_to_tell(&self) -> bool {
        self.store().is_full() && self.daemon.as_ref().unwrap().engine.untold() > 0
    }

    pub(super) fn work_len(&self) -> usize {
        self.daemon.as_ref().unwrap().engine.work_len()
    }

    pub(super) fn retained_rows(&self) -> u64 {
        self.daemon.as_ref().unwrap().store.retained_rows()
    }
}

impl Daemon {
    fn engine_tick(&mut self, runtime: &tokio::runtime::Runtime) {
        let _inside = runtime.enter();
        self.engine.tick();
    }

    fn engine_hear(&mut self, runtime: &tokio::runtime::Runtime, notice: Notice) {
        let _inside = runtime.enter();
        self.engine.take_notice(notice);
    }

    fn engine_take(&mut self, runtime: &tokio::runtime::Runtime) -> bool {
        let _inside = runtime.enter();
        self.engine.take_done()
    }
}
