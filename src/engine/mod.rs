//! The engine: one loop that feeds the scheduler with what happens (commits,
//! attempts that ended, time) and carries out what it decides. Decides nothing
//! itself. **A worker's panic costs one attempt, not a slot.**

mod fresh;
mod news;
mod pulse;
#[cfg(test)]
pub(crate) mod simulated;

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};

use crate::attempt::{Performed, Performer};
use crate::boxed::boxed;
use crate::config::{Config, Live};
use crate::dialect;
use crate::fault::{self, Part};
use crate::id::{EventId, Lane};
use crate::limits::LOADS_AT_ONCE_MAX;
use crate::metrics::Metrics;
use crate::model::{
    Attempt, AttemptOutcome, Event, FailureCode, Head, Key, Name, OPERATIONAL_PREFIX, Ordering, Settlement, Status,
    StatusReason, Subscription,
};
use crate::sched::{Action, Capacity, Input, LaneSettings, Report, Scheduler};
use crate::store::command::{Change, ChangeError, DeliveryError};
use crate::store::query::{Backlog, ReadError};
use crate::store::{Notice, Settle, Store};
use crate::time::{Clock, Timestamp};

use fresh::{Fetched, Fresh, share_bytes};
use news::FailureNews;
pub use pulse::Pulse;

/// The engine looks at the clock at least this often while it waits for a time, so
/// that a clock that was set, or a machine that slept, is noticed.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How long it waits before it asks a store again that could not.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Notices taken in at one go.
const NOTICES_AT_ONCE: usize = 256;
/// Attempts that ended, taken in at one go.
const ENDED_AT_ONCE: usize = 64;

/// Why the engine ended by itself: the process must not live on without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store's writer is gone")]
pub struct StoreGone;

/// See the file's beginning.
pub struct Engine {
    store: Store,
    /// Shared as one: every attempt holds on to it.
    performer: Arc<Performer>,
    config: Live,
    clock: Clock,
    clock_set: Arc<Notify>,
    metrics: Arc<Metrics>,
    random: StdRng,
    scheduler: Scheduler,
    fresh: Fresh,
    fetched: Fetched,
    loads: Arc<Semaphore>,
    news: FailureNews,
    work: JoinSet<Work>,
    /// What the attempts in flight are of, so that one that panics is still known.
    in_flight: FxHashMap<Id, (Lane, Head, Timestamp)>,
    /// What the store was asked for that would be lost with the process.
    asked: FxHashSet<Id>,
    pulse: Pulse,
    pulses: pulse::Asked,
}

/// Something that was done beside the loop.
enum Work {
    Attempted {
        lane: Lane,
        head: Head,
        made: Option<Box<Made>>,
    },
    Loaded {
        lane: Lane,
        generation: u64,
        backlog: Backlog,
        _turn: Option<OwnedSemaphorePermit>,
    },
    /// The store could not be read, a moment ago.
    NotLoaded(Lane),
    /// The store could not be asked to end what is past its horizon.
    NotExpired(Lane),
    /// So many failed deliveries of a lane could not be told of.
    NotTold(Lane, u64),
    Asked,
}

/// An attempt that was made.
struct Made {
    performed: Performed,
    is_operational: bool,
}

impl Engine {
    /// An engine for everything that `store` holds.
    pub fn new(
        store: Store,
        performer: Performer,
        config: Live,
        clock: Clock,
        metrics: Arc<Metrics>,
        random: StdRng,
    ) -> Engine {
        let clock_set = Arc::new(Notify::new());
        let notify = clock_set.clone();
        clock.on_set(move || notify.notify_one());
        let (pulse, pulses) = Pulse::new();
        let held_bytes_max = share_bytes(config.current().storage.cache_bytes);
        let capacity = Capacity { concurrency_total: config.current().delivery.concurrency_total };
        Engine {
            store,
            performer: Arc::new(performer),
            config,
            clock,
            clock_set,
            metrics,
            random,
            scheduler: Scheduler::new(capacity),
            fresh: Fresh::new(held_bytes_max),
            fetched: Fetched::new(held_bytes_max),
            loads: Arc::new(Semaphore::new(LOADS_AT_ONCE_MAX)),
            news: FailureNews::default(),
            work: JoinSet::new(),
            in_flight: FxHashMap::default(),
            asked: FxHashSet::default(),
            pulse,
            pulses,
        }
    }

    /// By which it can be asked, once it runs, whether it still goes round.
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// Runs until `stop` says so; then waits for what is in flight and for what the
    /// store was asked for, at most the configured drain, and records what it has to
    /// cut off. `reloaded` changes
    /// whenever another configuration is in force.
    pub async fn run(
        mut self,
        mut notices: mpsc::Receiver<Notice>,
        mut reloaded: watch::Receiver<u64>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), StoreGone> {
        self.take_up_lanes();
        loop {
            let wake = self.next_wake();
            tokio::select! {
                notice = notices.recv() => {
                    let Some(notice) = notice else { return Err(StoreGone) };
                    self.hear(notice);
                    for _ in 1..NOTICES_AT_ONCE {
                        let Ok(notice) = notices.try_recv() else { break };
                        self.hear(notice);
                    }
                }
                Some(done) = self.work.join_next_with_id() => {
                    self.worked(done);
                    for _ in 1..ENDED_AT_ONCE {
                        let Some(done) = self.work.try_join_next_with_id() else { break };
                        self.worked(done);
                    }
                }
                () = wait_until(&self.clock, &self.clock_set, wake) => self.step(Input::Tick, None),
                Ok(()) = reloaded.changed() => self.set_all_lanes(),
                Some(who) = self.pulses.recv() => {
                    let _ = who.send(self.scheduler.in_flight());
                }
                _ = stop.wait_for(|stop| *stop) => break,
            }
            if fault::ends(Part::Engine) {
                return Ok(());
            }
            self.tell_failures();
            self.metrics.engine(self.scheduler.in_flight(), self.scheduler.tripped());
        }
        self.drain(&mut notices).await;
        Ok(())
    }

    /// When there is something to do, if nothing happens before.
    pub(crate) fn next_wake(&self) -> Option<Timestamp> {
        [self.scheduler.next_wake(), self.news.next_due()].into_iter().flatten().min()
    }

    /// Lets what is in flight end, and what it led to be written; cuts off what takes
    /// too long. What has ended by then is taken in first.
    async fn drain(&mut self, notices: &mut mpsc::Receiver<Notice>) {
        self.step(Input::Hold(true), None);
        let deadline = tokio::time::Instant::now() + self.config.current().service.drain;
        while !self.in_flight.is_empty() || !self.asked.is_empty() {
            tokio::select! {
                biased;
                Some(done) = self.work.join_next_with_id() => self.worked(done),
                () = tokio::time::sleep_until(deadline) => break,
                // What is committed meanwhile changes nothing that is still to be done,
                // but it must be taken in, or the writer would wait.
                Some(_) = notices.recv() => {}
            }
        }
        let ended_at = self.clock.now();
        for flight in std::mem::take(&mut self.in_flight).into_values() {
            self.finished_by_us(flight, ended_at, FailureCode::Interrupted, "the daemon was stopped", false);
        }
        self.work.abort_all();
    }

    /// Takes up every lane, held where the store was restored.
    fn take_up_lanes(&mut self) {
        if let Some(restored_at) = self.store.held_since() {
            tracing::warn!(%restored_at, "deliveries are held since the restore: `posthaste resume` lets them go");
            self.step(Input::Hold(true), None);
        }
        self.set_all_lanes();
    }

    /// Says of every lane how it is to run: at the start, after a reload, and when
    /// the store is back. A lane that is no more goes: where the commit of its end
    /// was in doubt, nothing else tells of it.
    fn set_all_lanes(&mut self) {
        let config = self.config.current();
        self.scheduler.set_capacity(Capacity { concurrency_total: config.delivery.concurrency_total });
        let subscriptions: Vec<Arc<Subscription>> = self.store.registry().subscriptions().cloned().collect();
        for subscription in &subscriptions {
            self.set_lane(subscription, &config);
        }
        let known: FxHashSet<Lane> = subscriptions.iter().map(|subscription| subscription.number).collect();
        let gone: Vec<Lane> = self.scheduler.lanes().filter(|lane| !known.contains(lane)).collect();
        for lane in gone {
            self.remove_lane(lane);
        }
    }

    fn set_lane(&mut self, subscription: &Subscription, config: &Config) {
        let lane = subscription.number;
        // What cannot be told is looked for. Of a lane that is known, so is what it has.
        let has_backlog = !self.scheduler.knows(lane) && self.store.has_pending(lane).unwrap_or(true);
        let consecutive_failures = self.store.stats(lane).consecutive_failures;
        let settings = Box::new(lane_settings(subscription, config));
        self.step(Input::LaneSet { lane, settings, consecutive_failures, has_backlog }, None);
    }

    fn remove_lane(&mut self, lane: Lane) {
        self.fetched.forget(lane);
        self.performer.forget(lane);
        self.step(Input::LaneRemoved(lane), None);
    }

    fn hear(&mut self, notice: Notice) {
        match notice {
            Notice::Accepted { event, head, lanes } => {
                self.fresh.put(event, lanes.len());
                for lane in lanes {
                    self.step(Input::Opened(lane, vec![head]), None);
                }
            }
            Notice::Opened(lane, heads) => self.step(Input::Opened(lane, heads), None),
            Notice::Settled { lane, event, next } => self.step(Input::Settled { lane, event, next }, None),
            Notice::Removed(lane, key) => self.step(Input::Removed(lane, key), None),
            Notice::Reset(lane) => self.step(Input::Reset(lane), None),
            Notice::Expired { lane, failed, oldest_opened_at } => {
                if failed > 0 {
                    self.news.failed(lane, failed);
                }
                self.step(Input::Expired { lane, oldest_opened_at }, None);
            }
            Notice::LaneSet(subscription) => {
                self.performer.forget(subscription.number);
                let config = self.config.current();
                self.set_lane(&subscription, &config);
            }
            Notice::LaneRemoved(lane) => self.remove_lane(lane),
            Notice::OverShare(organization) => self.relieve(&organization),
            Notice::Down => self.step(Input::Hold(true), None),
            Notice::Up => {
                self.set_all_lanes();
                self.step(Input::Hold(self.store.held_since().is_some()), None);
            }
            Notice::Resumed => self.step(Input::Hold(false), None),
        }
    }

    fn worked(&mut self, done: Result<(Id, Work), JoinError>) {
        self.asked.remove(&done.as_ref().map_or_else(JoinError::id, |(id, _)| *id));
        match done {
            Ok((id, Work::Attempted { lane, head, made })) => {
                let began_at = self.in_flight.remove(&id).map_or(head.due, |(_, _, began_at)| began_at);
                self.attempted(lane, head, began_at, made);
            }
            Ok((_, Work::Loaded { lane, generation, backlog: Backlog { heads, exhausted, events }, .. })) => {
                self.fetched.put(lane, events);
                self.step(Input::Loaded { lane, generation, heads, exhausted }, None);
            }
            Ok((_, Work::NotLoaded(lane))) => self.step(Input::Reset(lane), None),
            Ok((_, Work::NotExpired(lane))) => {
                // It may hold anything: it is asked for again.
                self.step(Input::Expired { lane, oldest_opened_at: Some(Timestamp::ZERO) }, None);
            }
            Ok((_, Work::NotTold(lane, count))) => self.news.failed(lane, count),
            Ok((_, Work::Asked)) => {}
            Err(error) => {
                if let Some((lane, head, began_at)) = self.in_flight.remove(&error.id()) {
                    tracing::error!(%lane, "an attempt panicked; it counts as failed");
                    let now = self.clock.now();
                    // Read here, though it waits for the disk: this happens next to never.
                    let event = self.store.plain_event(head.event).ok().flatten();
                    let is_operational = event.is_some_and(|it| it.event_type.starts_with(OPERATIONAL_PREFIX));
                    let (code, detail) = (FailureCode::Internal, "a fault of ours");
                    self.finished_by_us((lane, head, began_at), now, code, detail, is_operational);
                }
            }
        }
    }

    fn attempted(&mut self, lane: Lane, head: Head, began_at: Timestamp, made: Option<Box<Made>>) {
        let Some(made) = made else {
            self.step(Input::Finished { lane, event: head.event, report: Report::NotMade }, None);
            return;
        };
        let Performed { attempt, retry_after } = made.performed;
        self.metrics.attempted(&attempt);
        if matches!(attempt.outcome, AttemptOutcome::Success { .. }) {
            self.metrics.delivered_after(self.clock.now().since(head.opened_at));
        }
        log_attempt(lane, head.event, &attempt);
        let report = Report::Made { began_at, outcome: attempt.outcome.clone(), retry_after };
        let outcome = Some((attempt, made.is_operational));
        self.step(Input::Finished { lane, event: head.event, report }, outcome);
    }

    /// An attempt that ended by our own doing.
    fn finished_by_us(
        &mut self,
        (lane, head, began_at): (Lane, Head, Timestamp),
        ended_at: Timestamp,
        code: FailureCode,
        detail: &str,
        is_operational: bool,
    ) {
        let outcome = AttemptOutcome::Failure { code, status: None, detail: detail.to_owned() };
        let attempt = Attempt {
            number: head.attempts + 1,
            started_at: began_at,
            duration_ms: u32::try_from(ended_at.since(began_at).as_millis()).unwrap_or(u32::MAX),
            outcome: outcome.clone(),
            missing: Vec::new(),
            response_body: bytes::Bytes::new(),
        };
        let report = Report::Made { began_at, outcome, retry_after: None };
        self.step(Input::Finished { lane, event: head.event, report }, Some((attempt, is_operational)));
    }

    /// Feeds the scheduler and carries out what it decides. `attempt`: the one that
    /// the input reports, and whether it was of an operational event.
    fn step(&mut self, input: Input, mut attempt: Option<(Attempt, bool)>) {
        let now = self.clock.now();
        let random = &mut self.random;
        let actions = self.scheduler.step(now, &mut || random.random::<f64>(), input);
        // A failing delivery of an operational event never makes another, be it by its
        // own end or by what it means for its lane.
        let is_operational = attempt.as_ref().is_some_and(|(_, is_operational)| *is_operational);
        for action in actions {
            match action {
                Action::Attempt(lane, head) => self.start_attempt(lane, head, now),
                Action::Load { lane, after, limit, is_flowing, generation } => {
                    self.load(lane, after, limit, is_flowing, generation);
                }
                Action::Settle { lane, head, settlement, consecutive_failures, is_awaited } => {
                    let Some((attempt, _)) = attempt.take() else { continue };
                    if settlement == Settlement::Failed && !is_operational {
                        self.news.failed(lane, 1);
                    }
                    self.store.settle(Settle { lane, head, settlement, attempt, consecutive_failures, is_awaited });
                }
                Action::Expire { lane, opened_until } => self.expire(lane, opened_until),
                Action::Disable { lane, reason, last } => self.disable(lane, reason, last, is_operational),
                Action::Failing(_) if is_operational => {}
                Action::Failing(lane) => self.tell_failing(lane),
            }
        }
    }

    fn start_attempt(&mut self, lane: Lane, head: Head, now: Timestamp) {
        let known = self.fresh.take(head.event).or_else(|| self.fetched.take(lane, head.event));
        let attempt = attempt(self.store.clone(), self.performer.clone(), lane, head, known);
        let handle = self.work.spawn(attempt);
        self.in_flight.insert(handle.id(), (lane, head, now));
    }

    /// Reads rows of a lane, and where they flow the events of those that are due.
    fn load(&mut self, lane: Lane, after: Option<Key>, limit: usize, is_flowing: bool, generation: u64) {
        let (store, loads) = (self.store.clone(), self.loads.clone());
        let due_until = if is_flowing { self.clock.now() } else { Timestamp::ZERO };
        self.work.spawn(async move {
            // Held until the loop has taken the result: what is read is bounded.
            let turn = loads.acquire_owned().await.ok();
            let read = beside(move || store.backlog(lane, after, limit, due_until)).await;
            if let Ok(Ok(backlog)) = read {
                return Work::Loaded { lane, generation, backlog, _turn: turn };
            }
            tokio::time::sleep(ASK_AGAIN_AFTER).await;
            Work::NotLoaded(lane)
        });
    }

    fn expire(&mut self, lane: Lane, opened_until: Timestamp) {
        let store = self.store.clone();
        self.work.spawn(async move {
            match store.expire(lane, opened_until).await {
                Err(DeliveryError::Write(_)) => Work::NotExpired(lane),
                _ => Work::Asked,
            }
        });
    }

    /// Disables a subscription, as soon as the store can. `silently`: no operational
    /// event says so.
    fn disable(&mut self, lane: Lane, reason: StatusReason, last: Option<FailureCode>, silently: bool) {
        let Some(id) = self.store.registry().lane(lane).map(|subscription| subscription.id) else { return };
        let status = if reason == StatusReason::Expired { Status::Disabled } else { Status::DisabledDueToErrors };
        tracing::warn!(%lane, subscription = %id, %reason, "subscription disabled");
        let silently = silently && reason != StatusReason::Expired;
        let store = self.store.clone();
        self.ask(async move {
            let detail = last.map(|code| code.as_str().to_owned()).unwrap_or_default();
            loop {
                let detail = detail.clone();
                let change = if silently {
                    Change::DisableSilently { id, reason, detail }
                } else {
                    Change::SetStatus { id, status, reason, detail, version: None }
                };
                match store.change("posthaste", change).await {
                    Err(ChangeError::Write(_)) => tokio::time::sleep(ASK_AGAIN_AFTER).await,
                    _ => return Work::Asked,
                }
            }
        });
    }

    /// An organization is over its share: of its tripped lanes, and of those below it,
    /// the one that holds the most takes no more and counts no more, so that one dead
    /// endpoint does not stop its neighbours.
    fn relieve(&mut self, organization: &Name) {
        let tripped: Vec<Lane> = {
            let registry = self.store.registry();
            let of_it = registry.subscriptions_below(organization).filter(|it| it.is_enabled());
            of_it.map(|it| it.number).filter(|lane| self.scheduler.is_tripped(*lane)).collect()
        };
        if let Some(lane) = tripped.into_iter().max_by_key(|lane| self.store.stats(*lane).pending_bytes) {
            self.disable(lane, StatusReason::Backlog, None, false);
        }
    }

    fn tell_failing(&mut self, lane: Lane) {
        let store = self.store.clone();
        self.ask(async move {
            if let Err(error) = store.tell(lane, "posthaste.subscription.failing", serde_json::json!({})).await {
                tracing::warn!(%lane, %error, "that the subscription fails could not be told");
            }
            Work::Asked
        });
    }

    fn tell_failures(&mut self) {
        for (lane, count) in self.news.take_due(self.clock.now()) {
            let store = self.store.clone();
            self.ask(async move {
                let facts = serde_json::json!({"count": count});
                match store.tell(lane, "posthaste.delivery.failed", facts).await {
                    Ok(()) => Work::Asked,
                    Err(_) => Work::NotTold(lane, count),
                }
            });
        }
    }

    /// Asks the store for what a stop waits for.
    fn ask(&mut self, request: impl Future<Output = Work> + Send + 'static) {
        let handle = self.work.spawn(request);
        self.asked.insert(handle.id());
    }
}

/// Reads the store where waiting for its disk holds nobody up.
async fn beside<T: Send + 'static>(read: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    // A simulation is the same each time only on one thread.
    if cfg!(test) {
        return Ok(read());
    }
    tokio::task::spawn_blocking(read).await
}

/// Makes one attempt, with the subscription as it stands when it starts.
async fn attempt(store: Store, performer: Arc<Performer>, lane: Lane, head: Head, known: Option<Arc<Event>>) -> Work {
    let event = match known {
        Some(event) => Some(event),
        None => {
            let store = store.clone();
            let read = beside(move || store.plain_event(head.event)).await;
            match read {
                // The store's fault, and none of the delivery's.
                Ok(Err(ReadError)) => return Work::Attempted { lane, head, made: None },
                Ok(Ok(event)) => event.map(Arc::new),
                Err(_) => None,
            }
        }
    };
    let subscription = store.registry().lane(lane).filter(|subscription| subscription.is_enabled()).cloned();
    let Some(subscription) = subscription else { return Work::Attempted { lane, head, made: None } };
    let number = head.attempts + 1;
    let (performed, is_operational) = match event {
        Some(event) => {
            let performed = boxed(|| performer.perform(&subscription, &event, head.event.delivery(lane), number)).await;
            (performed, event.event_type.starts_with(OPERATIONAL_PREFIX))
        }
        None => (performer.unread(number), false),
    };
    Work::Attempted { lane, head, made: Some(Box::new(Made { performed, is_operational })) }
}

/// What the scheduler must know of a subscription.
fn lane_settings(subscription: &Subscription, config: &Config) -> LaneSettings {
    let settings = &subscription.settings;
    let host = url::Url::parse(&settings.url).ok().and_then(|url| url.host_str().map(str::to_owned));
    LaneSettings {
        enabled: subscription.is_enabled(),
        is_fifo: settings.delivery.ordering.unwrap_or(config.delivery.ordering) == Ordering::Fifo,
        concurrency: settings.delivery.concurrency.unwrap_or(config.delivery.concurrency),
        rate_per_second: settings
            .delivery
            .rate_per_second
            .or(dialect::find(settings.format).rate_per_second())
            .unwrap_or(config.delivery.rate_per_second),
        retry: config.delivery.retry.with(&settings.delivery.retry),
        failure_limit: settings.failure_limit,
        expires_at: settings.expires_at,
        host: host.unwrap_or_else(|| settings.url.clone()),
    }
}

fn log_attempt(lane: Lane, event: EventId, attempt: &Attempt) {
    let delivery = event.delivery(lane);
    let (number, duration_ms) = (attempt.number, attempt.duration_ms);
    match &attempt.outcome {
        AttemptOutcome::Success { status } => {
            tracing::debug!(%delivery, number, duration_ms, status, "delivered");
        }
        AttemptOutcome::Failure { code, status, detail } => {
            tracing::info!(%delivery, number, duration_ms, %code, status, detail, "attempt failed");
        }
    }
}

/// Waits until `at`, or until the clock should be looked at again; forever when
/// there is nothing to wait for.
async fn wait_until(clock: &Clock, set: &Notify, at: Option<Timestamp>) {
    let Some(at) = at else { return std::future::pending().await };
    if clock.is_manual() {
        while clock.now() < at {
            set.notified().await;
        }
        return;
    }
    tokio::time::sleep(at.since(clock.now()).min(LOOK_EVERY)).await;
}

#[cfg(test)]
mod tests;
