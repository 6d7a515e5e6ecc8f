//! The store on real files, through its handle, with a clock that tests set. After
//! every test the records must prove the index (see `check`).

mod bulk;
mod clock;
mod configured;
mod declared;
mod faults;
mod images;
mod logged;
mod order;
mod rest;
mod restored;
mod retention;
mod sealed;
mod space;
mod versions;

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use redb::{Database, ReadableDatabase, ReadableTable};

use super::*;
use crate::json::Json;
use crate::limits::{BACKLOG_BYTES_MAX, BULK_ROWS_MAX, RESPONSE_KEPT_EARLIER_BYTES_MAX};
use crate::model::{
    AttemptOutcome, DEFAULT_ORGANIZATION, DeliveryState, FailureCode, Scope, Settings, Status, StatusReason,
};
use crate::pattern::Pattern;
use crate::secret::Secret;

use super::check::check;

const START: u64 = 1_800_000_000_000;
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

struct World {
    store: Store,
    writer: Option<WriterThread>,
    notices: mpsc::Receiver<Notice>,
    clock: Clock,
    options: Options,
    folder: tempfile::TempDir,
}

fn options(path: PathBuf) -> Options {
    let retention = Retention { delivered: DAY * 7, failed: DAY * 30, unmatched: DAY * 3, audit: DAY * 365 };
    let (bytes_max, reserve_bytes, cache_bytes, compact_above_bytes) = (0, 0, 1 << 20, 0);
    Options {
        path,
        bytes_max,
        reserve_bytes,
        cache_bytes,
        compact_above_bytes,
        retention,
        secrecy: Vec::new(),
        keyring: Arc::default(),
    }
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Timestamp::from_millis(START));
        let options = options(folder.path().join("store"));
        let (store, writer, notices) = Store::open(options.clone(), clock.clone(), [7; 32]).unwrap();
        World { store, writer: Some(writer), notices, clock, options, folder }
    }

    fn pass(&self, span: Duration) {
        self.clock.set(self.clock.now() + span);
    }

    /// Closes the store and opens it again, as a restart does.
    fn restart(&mut self) {
        self.store.close();
        assert!(self.writer.take().unwrap().join());
        let (store, writer, notices) = Store::open(self.options.clone(), self.clock.clone(), [8; 32]).unwrap();
        (self.store, self.writer, self.notices) = (store, Some(writer), notices);
    }

    /// Opens a copy of the files as they are at this moment, as after a crash.
    fn crash(&mut self) {
        let copy = tempfile::tempdir().unwrap();
        let file = self.options.path.join(FILE_NAME);
        for file in [wal::path_of(&file), file] {
            std::fs::copy(&file, copy.path().join(file.file_name().unwrap())).unwrap();
        }
        self.store.close();
        assert!(self.writer.take().unwrap().join());
        self.options.path = copy.path().to_owned();
        self.folder = copy;
        let (store, writer, notices) = Store::open(self.options.clone(), self.clock.clone(), [9; 32]).unwrap();
        (self.store, self.writer, self.notices) = (store, Some(writer), notices);
    }

    /// Breaks the store, as an I/O error does, and waits until it is back.
    async fn break_down(&mut self) {
        // The writer has let go of what it answered.
        self.store.totals();
        self.store.shared.ahead.lose();
        self.store.shared.queue.nudge();
        while !matches!(self.notices.recv().await.unwrap(), Notice::Up) {}
    }

    async fn subscribe(&self, settings: Settings) -> Arc<Subscription> {
        let secret = Some(Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned()));
        let change = Change::CreateSubscription {
            id: SubscriptionId::unique(),
            settings: Box::new(settings),
            secret,
            status: Status::Enabled,
            idempotency: None,
        };
        match self.store.change("test", change).await.unwrap() {
            Changed::Subscription { subscription, .. } => subscription,
            _ => panic!("a subscription was made"),
        }
    }

    async fn publish(&self, event: NewEvent) -> Accepted {
        self.store.accept(vec![event]).await.unwrap().remove(0).unwrap()
    }

    async fn settle(&mut self, lane: Lane, head: Head, settlement: Settlement) -> Option<Head> {
        let attempt = attempt(head.attempts + 1, settlement, b"");
        self.settle_with(lane, head, settlement, attempt).await
    }

    async fn settle_with(&mut self, lane: Lane, head: Head, settlement: Settlement, attempt: Attempt) -> Option<Head> {
        self.store.settle(Settle { lane, head, settlement, attempt, consecutive_failures: 0, is_awaited: true });
        loop {
            match self.notices.recv().await.unwrap() {
                Notice::Settled { lane: of, event, next } if (of, event) == (lane, head.event) => return next,
                _ => {}
            }
        }
    }

    /// Publishes many, and hears of them, as the engine would.
    async fn publish_many(&mut self, count: usize) {
        for begin in (0..count).step_by(500) {
            let events = (begin..count.min(begin + 500)).map(|_| event("1")).collect();
            self.store.accept(events).await.unwrap();
            while self.notices.try_recv().is_ok() {}
        }
    }

    fn state(&self, id: DeliveryId) -> DeliveryState {
        self.store.delivery(id).unwrap().unwrap().0.state
    }

    /// Waits for the writer to have done what it does by itself.
    async fn settled_down(&mut self) {
        // Each of these goes through the writer's whole loop.
        for _ in 0..40 {
            // Refused while the storage is full, but it goes round.
            let _ = self.store.accept(Vec::new()).await;
            while self.notices.try_recv().is_ok() {}
        }
    }
}

fn settings() -> Settings {
    Settings { organization: Name::from(DEFAULT_ORGANIZATION), ..Settings::sample() }
}

/// A root of that share. `is_there`: it is one already.
fn put_organization(id: &str, bytes_max: Option<u64>, is_there: bool) -> Change {
    let (id, name, parent, stood) = (Name::from(id), String::new(), None, is_there.then_some(None));
    Change::PutOrganization { id, name, parent, bytes_max, stood, may_inherit: false }
}

fn event(data: &str) -> NewEvent {
    NewEvent {
        event_type: Name::from("door.opened"),
        organization: Name::from(DEFAULT_ORGANIZATION),
        source: None,
        subject: None,
        occurred_at: None,
        event_id: None,
        idempotency_key: None,
        data: Json::parse(Bytes::from(data.to_owned())).unwrap(),
    }
}

fn attempt(number: u32, settlement: Settlement, body: &[u8]) -> Attempt {
    let outcome = match settlement {
        Settlement::Delivered => AttemptOutcome::Success { status: 204 },
        Settlement::Interrupted => {
            AttemptOutcome::Failure { code: FailureCode::Interrupted, status: None, detail: String::new() }
        }
        _ => AttemptOutcome::Failure { code: FailureCode::Status, status: Some(500), detail: "500".to_owned() },
    };
    Attempt {
        number,
        started_at: Timestamp::from_millis(START),
        duration_ms: 12,
        outcome,
        missing: Vec::new(),
        response_body: Bytes::copy_from_slice(body),
    }
}

fn head(accepted: &Accepted) -> Head {
    Head::fresh(accepted.id)
}

#[tokio::test]
async fn an_event_its_deliveries_and_its_bytes_survive_a_restart() {
    let mut world = World::new();
    let first = world.subscribe(settings()).await;
    let second = world.subscribe(settings()).await;
    let odd = r#"{"b":1.0,"a":1e3,"a":123456789012345678901234567890,"é":"\/\u00e9"}"#;
    let accepted = world.publish(event(odd)).await;
    assert_eq!((accepted.deliveries, accepted.duplicate), (2, false));
    world.restart();
    let detail = world.store.event(accepted.id).unwrap().unwrap();
    assert_eq!(detail.event.data.as_bytes(), odd.as_bytes());
    assert_eq!(detail.event.occurred_at, Timestamp::from_millis(START));
    let lanes: Vec<Lane> = detail.deliveries.iter().map(|delivery| delivery.id.lane()).collect();
    assert_eq!(lanes, [first.number, second.number]);
    assert!(detail.deliveries.iter().all(|delivery| delivery.state == DeliveryState::Pending));
    let (heads, exhausted) = world.store.pending(first.number, None, 10).unwrap();
    assert_eq!((heads, exhausted), (vec![head(&accepted)], true));
    let next = world.publish(event("1")).await;
    assert!(next.id > accepted.id, "ids grow over restarts");
    check(&world.store);
}

#[tokio::test]
async fn publishing_is_idempotent_for_three_days_within_an_organization() {
    let world = World::new();
    world.subscribe(settings()).await;
    let keyed = |key: &str, data: &str| NewEvent { idempotency_key: Some(key.to_owned()), ..event(data) };
    let first = world.publish(keyed("k", "1")).await;
    world.pass(HOUR * 71);
    let again = world.publish(keyed("k", "1")).await;
    assert_eq!((again.id, again.duplicate, again.deliveries), (first.id, true, 1));
    let other = world.store.accept(vec![keyed("k", "2"), keyed("l", "2")]).await.unwrap();
    assert_eq!(other[0], Err(AcceptError::Conflict { first: first.id }));
    assert!(other[1].is_ok(), "items are independent");
    let twice = world.store.accept(vec![keyed("m", "3"), keyed("m", "3")]).await.unwrap();
    assert_eq!(twice[0].as_ref().unwrap().id, twice[1].as_ref().unwrap().id, "also within one batch");
    let put = Change::MakeOrganization { id: Name::from("acme") };
    world.store.change("test", put).await.unwrap();
    let elsewhere = NewEvent { organization: Name::from("acme"), ..keyed("k", "1") };
    assert!(!world.publish(elsewhere).await.duplicate);
    world.pass(HOUR);
    assert!(!world.publish(keyed("k", "1")).await.duplicate, "72 h later it is another event");
    let nowhere = NewEvent { organization: Name::from("nobody"), ..event("1") };
    assert_eq!(world.store.accept(vec![nowhere]).await.unwrap()[0], Err(AcceptError::UnknownOrganization));
    check(&world.store);
}

#[tokio::test]
async fn a_delivery_is_followed_from_retry_to_retry_to_its_end() {
    let mut world = World::new();
    let lane = world.subscribe(settings()).await.number;
    let accepted = world.publish(event("1")).await;
    let id = accepted.id.delivery(lane);
    let due = Timestamp::from_millis(START + 10_000);
    let long_body = vec![b'x'; 5_000];
    let retry = Settlement::Retry(due);
    let first = attempt(1, retry, &long_body);
    let next = world.settle_with(lane, head(&accepted), retry, first).await.unwrap();
    assert_eq!((next.due, next.attempts, next.failures), (due, 1, 1));
    let (delivery, _, attempts) = world.store.delivery(id).unwrap().unwrap();
    assert_eq!((delivery.state, delivery.next_attempt_at), (DeliveryState::Pending, Some(due)));
    assert_eq!(attempts[0].response_body.len(), 5_000, "of the last attempt all is kept");
    check(&world.store);

    // Cut off by a stop: numbered, but due as before and no failure more.
    let next = world.settle(lane, next, Settlement::Interrupted).await.unwrap();
    assert_eq!((next.due, next.attempts, next.failures), (due, 2, 1));
    check(&world.store);
    assert_eq!(world.settle(lane, next, Settlement::Delivered).await, None);
    let (delivery, _, attempts) = world.store.delivery(id).unwrap().unwrap();
    assert_eq!((delivery.state, delivery.attempts), (DeliveryState::Delivered, 3));
    assert_eq!(attempts.iter().map(|attempt| attempt.number).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(attempts[0].response_body.len(), RESPONSE_KEPT_EARLIER_BYTES_MAX, "of earlier ones less");
    assert_eq!(attempts[2].outcome, AttemptOutcome::Success { status: 204 });
    let stats = world.store.stats(lane);
    assert_eq!((stats.odometer, stats.attempts, stats.pending), (1, 2, 0));
    check(&world.store);

    assert_eq!(world.settle(lane, next, Settlement::Failed).await, None, "an outcome too late is dropped");
    assert_eq!(world.state(id), DeliveryState::Delivered);
    assert_eq!(world.store.stats(lane).attempts, 2);
}

#[tokio::test]
async fn a_backlog_comes_with_the_events_that_are_due_as_far_as_bytes_go() {
    let mut world = World::new();
    let lane = world.subscribe(settings()).await.number;
    let large = format!("\"{}\"", "x".repeat(BACKLOG_BYTES_MAX / 5 * 2));
    for data in [&large, &large, &large] {
        world.publish(event(data)).await;
    }
    let now = world.clock.now();
    let (heads, _) = world.store.pending(lane, None, 9).unwrap();
    let backlog = world.store.backlog(lane, None, 9, now).unwrap();
    assert_eq!((&backlog.heads, backlog.exhausted), (&heads, true));
    let events: Vec<EventId> = backlog.events.iter().map(|event| event.id).collect();
    assert_eq!(events, [heads[0].event, heads[1].event], "the third is read when it is attempted");
    assert_eq!(backlog.events[0].data.as_str(), large);
    let later = now + Duration::from_secs(60);
    world.settle(lane, heads[0], Settlement::Retry(later)).await;
    let backlog = world.store.backlog(lane, None, 9, now).unwrap();
    let events: Vec<EventId> = backlog.events.iter().map(|event| event.id).collect();
    assert_eq!((backlog.heads.len(), events), (3, vec![heads[1].event, heads[2].event]), "one is due later");
}

#[tokio::test]
async fn retry_reopens_with_the_same_id_and_numbers_on() {
    let mut world = World::new();
    let subscription = world.subscribe(settings()).await;
    let lane = subscription.number;
    let accepted = world.publish(event("1")).await;
    let id = accepted.id.delivery(lane);
    assert_eq!(world.store.reopen("test", id).await, Err(DeliveryError::WrongState), "it is pending");
    world.settle(lane, head(&accepted), Settlement::Delivered).await;
    world.pass(HOUR);
    world.store.reopen("test", id).await.unwrap();
    let (heads, _) = world.store.pending(lane, None, 10).unwrap();
    let now = world.clock.now();
    let reopened = Head { place: now, due: now, event: accepted.id, attempts: 1, failures: 0, opened_at: now };
    assert_eq!(heads, [reopened]);
    check(&world.store);
    let due = now + HOUR;
    let next = world.settle(lane, heads[0], Settlement::Retry(due)).await.unwrap();
    check(&world.store);
    world.settle(lane, next, Settlement::Failed).await;
    let (delivery, _, attempts) = world.store.delivery(id).unwrap().unwrap();
    assert_eq!((delivery.state, delivery.attempts), (DeliveryState::Failed, 3));
    let numbers: Vec<u32> = attempts.iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, [1, 2, 3], "the attempt that succeeded before is kept");
    let disable = Change::SetStatus {
        id: subscription.id,
        status: Status::Disabled,
        reason: StatusReason::Manual,
        detail: String::new(),
        version: None,
    };
    world.store.change("test", disable).await.unwrap();
    assert_eq!(world.store.reopen("test", id).await, Err(DeliveryError::NotEnabled));
    let unknown = accepted.id.delivery(Lane(99));
    assert_eq!(world.store.reopen("test", unknown).await, Err(DeliveryError::NotFound));
    check(&world.store);
}

#[tokio::test]
async fn cancelling_ends_what_is_pending_and_only_that() {
    let mut world = World::new();
    let lane = world.subscribe(settings()).await.number;
    let accepted = world.publish(event("1")).await;
    let id = accepted.id.delivery(lane);
    let next = world.settle(lane, head(&accepted), Settlement::Retry(world.clock.now() + HOUR)).await.unwrap();
    world.store.cancel("test", id).await.unwrap();
    assert_eq!(world.state(id), DeliveryState::Cancelled);
    assert_eq!(world.store.cancel("test", id).await, Err(DeliveryError::WrongState));
    assert_eq!(world.settle(lane, next, Settlement::Delivered).await, None, "its attempt was in flight");
    assert_eq!(world.state(id), DeliveryState::Cancelled);

    let many = BULK_ROWS_MAX + 10;
    world.publish_many(many).await;
    world.pass(HOUR);
    let window_end = world.clock.now();
    let other = NewEvent { event_type: Name::from("door.closed"), ..event("1") };
    world.publish(other).await;
    world.publish(event("6")).await;
    let window =
        Window { since: Timestamp::ZERO, until: Timestamp::MAX, events: vec![Pattern::parse("door.opened").unwrap()] };
    let early_only = Window { until: window_end, ..window.clone() };
    assert_eq!(world.store.cancel_matching("test", lane, early_only).await, Ok(many as u64));
    check(&world.store);
    let closed = Window { events: vec![Pattern::parse("door.closed").unwrap()], ..window };
    assert_eq!(world.store.cancel_matching("test", lane, closed).await, Ok(1));
    assert_eq!(
        world
            .store
            .cancel_matching("test", Lane(99), Window { since: Timestamp::ZERO, until: Timestamp::MAX, events: vec![] })
            .await,
        Err(DeliveryError::NotFound)
    );
    check(&world.store);
}

#[tokio::test]
async fn replay_opens_failed_delivered_and_missed_within_its_window() {
    let mut world = World::new();
    let missed_before = world.publish(event("2")).await;
    let mut with_filter = settings();
    with_filter.events = vec![Pattern::parse("door.*").unwrap()];
    let lane = world.subscribe(with_filter).await.number;
    world.pass(HOUR);
    let window_start = world.clock.now();
    let unwanted = world.publish(NewEvent { event_type: Name::from("window.opened"), ..event("1") }).await;
    let failed = world.publish(event("3")).await;
    let delivered = world.publish(event("4")).await;
    let pending = world.publish(event("5")).await;
    world.settle(lane, head(&failed), Settlement::Failed).await;
    world.settle(lane, head(&delivered), Settlement::Delivered).await;
    world.pass(HOUR);
    let all = Window { since: Timestamp::ZERO, until: Timestamp::MAX, events: Vec::new() };
    let replay =
        |failed, delivered, missed, window: &Window| Replay { lane, window: window.clone(), failed, delivered, missed };
    let later = Window { since: window_start, ..all.clone() };
    let nothing = world.store.replay("test", replay(false, false, true, &later)).await.unwrap();
    assert_eq!(nothing, Replayed { deliveries: 0, next_since: None });
    let some = world.store.replay("test", replay(true, false, true, &all)).await.unwrap();
    assert_eq!(some, Replayed { deliveries: 2, next_since: None });
    assert_eq!(world.state(failed.id.delivery(lane)), DeliveryState::Pending);
    assert_eq!(world.state(missed_before.id.delivery(lane)), DeliveryState::Pending);
    assert_eq!(world.state(delivered.id.delivery(lane)), DeliveryState::Delivered);
    assert_eq!(world.state(pending.id.delivery(lane)), DeliveryState::Pending);
    assert!(world.store.delivery(unwanted.id.delivery(lane)).unwrap().is_none());
    check(&world.store);
    let rest = world.store.replay("test", replay(true, true, true, &all)).await.unwrap();
    assert_eq!(rest.deliveries, 1);
    let listed = world.store.event(missed_before.id).unwrap().unwrap().deliveries;
    assert_eq!(listed.len(), 1, "a missed delivery is listed with its event");
    world.restart();
    check(&world.store);
}

#[tokio::test]
async fn an_ended_subscription_takes_its_pending_deliveries_along_over_a_restart() {
    let mut world = World::new();
    let subscription = world.subscribe(settings()).await;
    let lane = subscription.number;
    let accepted = world.publish(event("1")).await;
    world.publish_many(2 * BULK_ROWS_MAX).await;
    let end = Change::DeleteSubscription { id: subscription.id };
    assert!(matches!(world.store.change("test", end).await, Ok(Changed::Deleted)));
    assert!(world.store.registry().lane(lane).is_none());
    world.restart();
    world.settled_down().await;
    assert_eq!(world.store.pending(lane, None, 10).unwrap(), (Vec::new(), true));
    assert_eq!(world.state(accepted.id.delivery(lane)), DeliveryState::Cancelled);
    let owner = world.store.registry().lane_owner(lane).map(|(id, _)| id);
    assert_eq!(owner, Some(subscription.id), "its deliveries still say whose they were");
    let again = world.subscribe(settings()).await;
    assert!(again.number > lane, "a number is never given out twice");
    check(&world.store);
}

#[tokio::test]
async fn what_is_past_its_horizon_is_failed_in_bulk() {
    let mut world = World::new();
    let lane = world.subscribe(settings()).await.number;
    world.publish_many(2 * BULK_ROWS_MAX).await;
    let until = world.clock.now();
    world.pass(HOUR);
    let young = world.publish(event("1")).await;
    world.store.expire(lane, until).await.unwrap();
    let (failed, oldest) = loop {
        if let Notice::Expired { failed, oldest_opened_at, .. } = world.notices.recv().await.unwrap() {
            break (failed, oldest_opened_at);
        }
    };
    assert_eq!((failed, oldest), (2 * BULK_ROWS_MAX as u64, Some(young.id.accepted_at())));
    assert_eq!(world.store.stats(lane).pending, 1);
    check(&world.store);
}

#[tokio::test]
async fn retention_takes_events_with_all_that_belongs_to_them() {
    let mut world = World::new();
    let mut wanted = settings();
    wanted.events = vec![Pattern::parse("door.*").unwrap()];
    let lane = world.subscribe(wanted).await.number;
    let unmatched = world.publish(NewEvent { event_type: Name::from("other"), ..event("1") }).await.id;
    let delivered = world.publish(event("1")).await;
    let failed = world.publish(event("1")).await;
    let pending = world.publish(event("1")).await;
    let reopened = world.publish(event("1")).await;
    let open_again = world.publish(event("1")).await;
    world.settle(lane, head(&delivered), Settlement::Delivered).await;
    world.settle(lane, head(&failed), Settlement::Failed).await;
    world.settle(lane, head(&reopened), Settlement::Delivered).await;
    world.settle(lane, head(&open_again), Settlement::Delivered).await;
    let retained = |world: &World| -> Vec<EventId> {
        let all = [unmatched, delivered.id, failed.id, pending.id, reopened.id, open_again.id];
        all.into_iter().filter(|id| world.store.plain_event(*id).unwrap().is_some()).collect()
    };
    world.pass(DAY * 3 + HOUR);
    world.settled_down().await;
    assert_eq!(retained(&world), [delivered.id, failed.id, pending.id, reopened.id, open_again.id]);
    world.pass(DAY * 2);
    world.store.reopen("test", reopened.id.delivery(lane)).await.unwrap();
    world.store.reopen("test", open_again.id.delivery(lane)).await.unwrap();
    let (heads, _) = world.store.pending(lane, None, 10).unwrap();
    let head_again = heads.into_iter().find(|head| head.event == reopened.id).unwrap();
    world.settle(lane, head_again, Settlement::Delivered).await;
    world.pass(DAY * 2);
    world.settled_down().await;
    assert_eq!(retained(&world), [failed.id, pending.id, reopened.id, open_again.id], "seven days after acceptance");
    world.pass(DAY * 24);
    world.settled_down().await;
    assert_eq!(retained(&world), [pending.id, open_again.id], "never while one is pending");
    world.settle(lane, head(&pending), Settlement::Failed).await;
    world.store.cancel("test", open_again.id.delivery(lane)).await.unwrap();
    world.pass(DAY * 8);
    world.settled_down().await;
    assert_eq!(retained(&world), []);
    let database = world.store.shared.shown().unwrap();
    let transaction = database.begin_read().unwrap();
    use redb::ReadableTableMetadata;
    assert_eq!(transaction.open_table(tables::OUTCOME).unwrap().len().unwrap(), 0);
    assert_eq!(transaction.open_table(tables::ATTEMPT).unwrap().len().unwrap(), 0);
    assert_eq!(transaction.open_table(tables::REVISIT).unwrap().len().unwrap(), 0);
    assert_eq!(world.store.totals().live_bytes, 0, "live bytes are counted both ways");
}

#[tokio::test]
async fn a_quota_refuses_publishing_until_there_is_room_and_delivers_on() {
    let mut world = World::new();
    world.options.bytes_max = 20_000;
    world.restart();
    let lane = world.subscribe(settings()).await.number;
    let mut accepted = Vec::new();
    let refusal = loop {
        world.pass(Duration::from_secs(1));
        match world.store.accept(vec![event(&format!("\"{}\"", "x".repeat(1000)))]).await {
            Ok(mut results) => accepted.push(results.remove(0).unwrap()),
            Err(refusal) => break refusal,
        }
        assert!(accepted.len() < 30, "it never filled");
    };
    assert_eq!(refusal, WriteError::StorageFull);
    assert!(world.store.is_full());
    for it in &accepted {
        world.settle(lane, head(it), Settlement::Delivered).await;
    }
    world.pass(DAY * 8);
    world.settled_down().await;
    world.pass(HOUR);
    assert!(world.store.accept(vec![event("1")]).await.is_ok(), "room came back by itself");
}

#[tokio::test]
async fn after_a_crash_pending_counts_are_counted_anew() {
    let mut world = World::new();
    let lane = world.subscribe(settings()).await.number;
    world.publish(event("1")).await;
    world.settled_down().await;
    // Within the second, so that their counts are not written yet.
    world.store.accept((0..10).map(|_| event("1")).collect()).await.unwrap();
    world.crash();
    assert_eq!(world.store.stats(lane).pending, 11);
    check(&world.store);
}

#[tokio::test]
async fn two_processes_cannot_have_one_store() {
    let world = World::new();
    let again = Store::open(world.options.clone(), world.clock.clone(), [9; 32]);
    assert!(matches!(again, Err(OpenError::InUse(_))));
}

#[tokio::test]
async fn refused_changes_change_nothing() {
    let world = World::new();
    let put = |id: &str, parent: Option<&str>| Change::PutOrganization {
        id: Name::from(id),
        name: String::new(),
        parent: parent.map(Name::from),
        bytes_max: None,
        stood: world.store.registry().organization(id).map(|it| it.parent.clone()),
        may_inherit: false,
    };
    for (id, parent) in [("a", None), ("b", Some("a")), ("c", Some("b"))] {
        assert!(matches!(world.store.change("test", put(id, parent)).await, Ok(Changed::Created)));
    }
    let error = |result: Result<Changed, ChangeError>| result.err();
    let store = &world.store;
    assert_eq!(error(store.change("test", put("a", Some("c"))).await), Some(ChangeError::Cycle));
    assert_eq!(
        error(store.change("test", put("d", Some("nobody"))).await),
        Some(ChangeError::UnknownOrganization("parent"))
    );
    let delete = |id: &str| Change::DeleteOrganization { id: Name::from(id) };
    assert_eq!(error(store.change("test", delete("b")).await), Some(ChangeError::InUse("organizations")));
    assert_eq!(error(store.change("test", delete("nobody")).await), Some(ChangeError::NotFound));
    let source =
        Change::PutSource { id: Name::from("s"), name: String::new(), organization: Name::from("b"), owner: None };
    store.change("test", source).await.unwrap();
    let foreign =
        Settings { organization: Name::from("a"), scope: Scope::Sources(vec![Name::from("s")]), ..Settings::sample() };
    let create = Change::CreateSubscription {
        id: SubscriptionId::unique(),
        settings: Box::new(foreign),
        secret: None,
        status: Status::Enabled,
        idempotency: None,
    };
    assert_eq!(error(store.change("test", create).await), Some(ChangeError::ForeignSource(Name::from("s"))));
    assert_eq!(store.registry().subscriptions().count(), 0);
    let subscription = world.subscribe(settings()).await;
    let mut changed = settings();
    changed.name = "other".to_owned();
    let update = |version| Change::UpdateSubscription {
        id: subscription.id,
        settings: Box::new(changed.clone()),
        version,
        status: None,
        secret: SecretChange::Kept,
    };
    assert_eq!(error(store.change("test", update(7)).await), Some(ChangeError::Stale));
    store.change("test", update(1)).await.unwrap();
    assert_eq!(error(store.change("test", update(1)).await), Some(ChangeError::Stale));
    for _ in 0..crate::limits::SECRETS_VALID_MAX - 1 {
        let rotate = Change::RotateSecret { id: subscription.id, secret: Secret::new("x".to_owned()), overlap: HOUR };
        store.change("test", rotate).await.unwrap();
    }
    let rotate = |overlap| Change::RotateSecret { id: subscription.id, secret: Secret::new("x".to_owned()), overlap };
    assert_eq!(error(store.change("test", rotate(HOUR)).await), Some(ChangeError::TooManySecrets));
    store.change("test", rotate(Duration::ZERO)).await.unwrap();
    let valid = store.registry().subscription(subscription.id).unwrap().secrets.len();
    assert_eq!(valid, 1, "no overlap revokes every older one");
}

/// Who first named an organization put it, as a root without a name, over one that
/// had been made since it was looked for; and a key that did not see an id made
/// since took it over from its owner.
#[tokio::test]
async fn what_was_made_meanwhile_is_neither_made_anew_nor_taken_over() {
    let world = World::new();
    let put = |id: &str, parent: &str| Change::PutOrganization {
        id: Name::from(id),
        name: "of its owner".to_owned(),
        parent: Some(Name::from(parent)),
        bytes_max: None,
        stood: None,
        may_inherit: false,
    };
    let make = |id: &str| Change::MakeOrganization { id: Name::from(id) };
    for id in ["one", "two"] {
        assert!(matches!(world.store.change("test", make(id)).await, Ok(Changed::Created)));
    }
    world.store.change("one", put("unit", "one")).await.unwrap();
    assert!(matches!(world.store.change("test", make("unit")).await, Ok(Changed::Kept)));
    assert_eq!(world.store.change("two", put("unit", "two")).await.err(), Some(ChangeError::Stale));
    let unit = world.store.registry().organization("unit").unwrap().clone();
    assert_eq!((unit.name.as_str(), unit.parent.as_deref()), ("of its owner", Some("one")));

    let source = |organization: &str, owner: Option<&str>| Change::PutSource {
        id: Name::from("panel"),
        name: String::new(),
        organization: Name::from(organization),
        owner: owner.map(Name::from),
    };
    world.store.change("one", source("one", None)).await.unwrap();
    for owner in [None, Some("two")] {
        assert_eq!(world.store.change("two", source("two", owner)).await.err(), Some(ChangeError::Stale));
    }
    assert_eq!(*world.store.registry().source("panel").unwrap().organization, *"one");
    world.store.change("one", source("one", Some("one"))).await.unwrap();
    assert_eq!(world.store.audit(None, 10).unwrap().rows.len(), 4, "what was kept is no change");
}

#[tokio::test]
async fn the_audit_log_tells_changes_without_secrets() {
    let world = World::new();
    let mut with_secrets = settings();
    with_secrets.headers = vec![("x-api-key".to_owned(), "hush-header".to_owned())];
    with_secrets.authentication = crate::model::Authentication::Bearer { token: Secret::new("hush-token".to_owned()) };
    let subscription = world.subscribe(with_secrets.clone()).await;
    with_secrets.authentication = crate::model::Authentication::Bearer { token: Secret::new("hush-other".to_owned()) };
    let settings = Box::new(with_secrets);
    let secret = SecretChange::Replaced(Secret::new("hush-signing".to_owned()));
    let update = Change::UpdateSubscription { id: subscription.id, settings, version: 1, status: None, secret };
    world.store.change("ops", update).await.unwrap();
    let secrets = world.store.registry().subscription(subscription.id).unwrap().secrets.clone();
    assert_eq!(secrets.iter().map(|held| held.secret.expose()).collect::<Vec<_>>(), ["hush-signing"]);
    let page = world.store.audit(None, 1).unwrap();
    let entry = &page.rows[0];
    assert_eq!((entry.actor.as_str(), entry.action.as_str()), ("ops", "subscription.update"));
    assert_eq!(entry.changes.as_object().unwrap().keys().collect::<Vec<_>>(), ["authentication", "secret"]);
    let rest = world.store.audit(page.next, 10).unwrap();
    assert_eq!(rest.rows.len(), 1);
    assert!(!format!("{page:?}{rest:?}").contains("hush"));
}

#[tokio::test]
async fn status_changes_are_told_to_those_who_ask() {
    let mut world = World::new();
    let mut watch = settings();
    watch.events = vec![Pattern::parse("posthaste.*").unwrap()];
    let watcher = world.subscribe(watch).await;
    let watched = world.subscribe(settings()).await;
    let set = |status| Change::SetStatus {
        id: watched.id,
        status,
        reason: StatusReason::Failures,
        detail: "timeout".to_owned(),
        version: None,
    };
    world.store.change("test", set(Status::DisabledDueToErrors)).await.unwrap();
    world.store.change("test", set(Status::Disabled)).await.unwrap();
    world.store.change("test", set(Status::Enabled)).await.unwrap();
    let (heads, _) = world.store.pending(watcher.number, None, 10).unwrap();
    let told: Vec<String> =
        heads.iter().map(|head| world.store.plain_event(head.event).unwrap().unwrap().event_type.to_string()).collect();
    assert_eq!(told, ["posthaste.subscription.disabled", "posthaste.subscription.enabled"]);
    let (own, _) = world.store.pending(watched.number, None, 10).unwrap();
    assert_eq!(own, [], "`*` does not match them");
    world.restart();
    assert!(world.store.registry().subscription(watched.id).unwrap().is_enabled());
}

#[derive(Clone, Debug)]
enum Step {
    Publish(u8),
    Settle(u8, u8),
    Reopen(u8),
    Cancel(u8),
    CancelAll,
    Replay(bool, bool, bool),
    Expire(u16),
    Pass(u16),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..5u8).prop_map(Step::Publish),
        8 => (any::<u8>(), 0..5u8).prop_map(|(which, how)| Step::Settle(which, how)),
        2 => any::<u8>().prop_map(Step::Reopen),
        2 => any::<u8>().prop_map(Step::Cancel),
        1 => Just(Step::CancelAll),
        1 => any::<(bool, bool, bool)>().prop_map(|(a, b, c)| Step::Replay(a, b, c)),
        1 => (0..200u16).prop_map(Step::Expire),
        3 => (0..2000u16).prop_map(Step::Pass),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order, the records prove the index.
    #[test]
    fn records_and_index_stay_one_to_one(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new();
            let lane = world.subscribe(settings()).await.number;
            let mut events: Vec<EventId> = Vec::new();
            for step in steps {
                while world.notices.try_recv().is_ok() {}
                let pick = |which: u8| events.get(usize::from(which) % events.len().max(1)).copied();
                match step {
                    Step::Publish(count) => {
                        for result in world.store.accept((0..count).map(|_| event("1")).collect()).await.unwrap() {
                            events.push(result.unwrap().id);
                        }
                    }
                    Step::Settle(which, how) => {
                        let (heads, _) = world.store.pending(lane, None, 1000).unwrap();
                        if let Some(head) = heads.get(usize::from(which) % heads.len().max(1)) {
                            let settlement = match how {
                                0 => Settlement::Delivered,
                                1 => Settlement::Failed,
                                2 => Settlement::Interrupted,
                                3 => Settlement::Stay(world.clock.now() + Duration::from_secs(10)),
                                _ => Settlement::Retry(world.clock.now() + Duration::from_secs(10)),
                            };
                            world.settle(lane, *head, settlement).await;
                        }
                    }
                    Step::Reopen(which) => if let Some(event) = pick(which) {
                        let _ = world.store.reopen("test", event.delivery(lane)).await;
                    },
                    Step::Cancel(which) => if let Some(event) = pick(which) {
                        let _ = world.store.cancel("test", event.delivery(lane)).await;
                    },
                    Step::CancelAll => {
                        let all = Window { since: Timestamp::ZERO, until: Timestamp::MAX, events: Vec::new() };
                        world.store.cancel_matching("test", lane, all).await.unwrap();
                    }
                    Step::Replay(failed, delivered, missed) => {
                        let window = Window { since: Timestamp::ZERO, until: Timestamp::MAX, events: Vec::new() };
                        world.store.replay("test", Replay { lane, window, failed, delivered, missed }).await.unwrap();
                    }
                    Step::Expire(minutes) => {
                        let until = world.clock.now() - Duration::from_secs(60) * u32::from(minutes);
                        world.store.expire(lane, until).await.unwrap();
                    }
                    Step::Pass(minutes) => world.pass(Duration::from_secs(60) * u32::from(minutes)),
                    Step::Restart => world.restart(),
                }
                check(&world.store);
            }
        });
    }
}
