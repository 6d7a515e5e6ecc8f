//! Replays and cancellations of many, while other things go on.

use super::*;
use crate::limits::{BULK_JOBS_MAX, REPLAY_MAX};
use crate::store::simulated::Files;
use crate::store::work::{Kind, Work};
use crate::store::writer::{BulkDone, Reply};

fn always() -> Window {
    Window { since: Timestamp::ZERO, until: Timestamp::MAX, events: Vec::new() }
}

fn missed(window: Window, lane: Lane) -> Replay {
    Replay { lane, window, failed: false, delivered: false, missed: true }
}

impl World {
    /// Queues commands that the writer cannot begin with until all are there, so
    /// that it meets those behind a replay while that is under way.
    fn push_together(&self, commands: Vec<Command>) {
        let _held = self.store.shared.registry_mut();
        for command in commands {
            self.store.shared.queue.push_command(command, 0, false).unwrap();
        }
    }
}

fn replay_command(lane: Lane, reply: Reply<Result<BulkDone, DeliveryError>>) -> Command {
    let (since_ms, until_ms, patterns) = (0, Timestamp::MAX.as_millis(), Vec::new());
    let kind = JobKind::Replay { since_ms, until_ms, patterns, failed: false, delivered: false, missed: true };
    Command::Bulk { actor: "test".to_owned(), lane, kind, reply }
}

/// `more: true` alone left the caller to ask for the same window again and again.
#[tokio::test]
async fn a_replay_that_stopped_says_where_to_go_on() {
    let mut world = World::new();
    for _ in 0..11 {
        world.publish_many(1000).await;
        world.pass(Duration::from_secs(1));
    }
    let lane = world.subscribe(settings()).await.number;
    let first = world.store.replay("test", missed(always(), lane)).await.unwrap();
    let next_since = Timestamp::from_millis(START + 10_000);
    assert_eq!(first, Replayed { deliveries: REPLAY_MAX as u64, next_since: Some(next_since) });
    let rest = Window { since: next_since, ..always() };
    let second = world.store.replay("test", missed(rest, lane)).await.unwrap();
    assert_eq!(second, Replayed { deliveries: 1000, next_since: None });
    check(&world.store);
}

/// A replay chased what was accepted after it was asked for.
#[tokio::test]
async fn a_replay_is_of_what_was_accepted_before_it() {
    let mut world = World::new();
    world.publish_many(3 * BULK_ROWS_MAX).await;
    let subscription =
        world.subscribe(Settings { events: vec![Pattern::parse("door.*").unwrap()], ..settings() }).await;
    let lane = subscription.number;
    let (reply, replayed) = oneshot::channel();
    let (other_reply, accepted) = oneshot::channel();
    let (change_reply, changed) = oneshot::channel();
    let later = NewEvent { event_type: Name::from("window.opened"), ..event("1") };
    let change = Change::UpdateSubscription {
        id: subscription.id,
        settings: Box::new(settings()),
        version: subscription.version,
        status: None,
        secret: SecretChange::Kept,
    };
    world.push_together(vec![
        replay_command(lane, reply),
        Command::Accept { events: vec![later], reply: other_reply },
        Command::Change { actor: "test".to_owned(), change: Box::new(change), reply: change_reply },
    ]);
    let later = accepted.await.unwrap().unwrap().remove(0).unwrap();
    assert!(changed.await.unwrap().is_ok());
    assert_eq!(replayed.await.unwrap().unwrap().done, 3 * BULK_ROWS_MAX as u64);
    assert!(world.store.delivery(later.id.delivery(lane)).unwrap().is_none());
    check(&world.store);
}

/// A replay whose subscription was disabled under it said that all was done.
#[tokio::test]
async fn a_replay_stops_where_its_subscription_is_disabled() {
    let mut world = World::new();
    world.publish_many(3 * BULK_ROWS_MAX).await;
    let subscription = world.subscribe(settings()).await;
    let (reply, replayed) = oneshot::channel();
    let (change_reply, changed) = oneshot::channel();
    let (id, status, reason) = (subscription.id, Status::Disabled, StatusReason::Manual);
    let change = Change::SetStatus { id, status, reason, detail: String::new(), version: None };
    world.push_together(vec![
        replay_command(subscription.number, reply),
        Command::Change { actor: "test".to_owned(), change: Box::new(change), reply: change_reply },
    ]);
    assert!(changed.await.unwrap().is_ok());
    let done = replayed.await.unwrap().unwrap();
    assert!(done.next_since.is_some() && done.done < 3 * BULK_ROWS_MAX as u64, "{done:?}");
    assert_eq!(world.store.stats(subscription.number).pending, done.done);
    check(&world.store);
}

/// Any number of replays could be begun, of one lane and of all.
#[tokio::test]
async fn one_replay_a_lane_and_so_many_of_all() {
    let mut world = World::new();
    world.publish_many(BULK_ROWS_MAX + 1).await;
    let mut lanes = Vec::new();
    for _ in 0..=BULK_JOBS_MAX {
        lanes.push(world.subscribe(settings()).await.number);
    }
    let (commands, answers): (Vec<_>, Vec<_>) = [lanes[0], lanes[0]]
        .iter()
        .chain(&lanes[1..])
        .map(|lane| {
            let (reply, answer) = oneshot::channel();
            (replay_command(*lane, reply), answer)
        })
        .unzip();
    world.push_together(commands);
    // The engine listens.
    let mut notices = std::mem::replace(&mut world.notices, mpsc::channel(1).1);
    tokio::spawn(async move { while notices.recv().await.is_some() {} });
    let mut refusals = Vec::new();
    for answer in answers {
        refusals.push(answer.await.unwrap().err());
    }
    assert_eq!(refusals[0], None);
    assert_eq!(refusals[1], Some(DeliveryError::UnderWay));
    assert!(refusals[2..=BULK_JOBS_MAX].iter().all(Option::is_none));
    assert_eq!(refusals[BULK_JOBS_MAX + 1], Some(WriteError::QueueFull.into()));
    check(&world.store);
}

/// Of a cancellation of a million nothing was to be seen until it was over.
#[test]
fn what_changes_many_deliveries_tells_how_many_it_has_changed() {
    let clock = Clock::manual(Timestamp::from_millis(START));
    let mut stepped = images::open_on(&images::quiet(Files::default()), &clock).unwrap();
    let store = stepped.store.clone();
    let (id, settings, status) = (SubscriptionId::unique(), Box::new(settings()), Status::Enabled);
    let make = Change::CreateSubscription { id, settings, secret: None, status, idempotency: None };
    images::ask(&mut stepped, store.change("test", make)).unwrap();
    let lane = store.registry().subscriptions().next().unwrap().number;
    for _ in 0..5 {
        let events = (0..BULK_ROWS_MAX / 2).map(|_| event("1")).collect();
        images::ask(&mut stepped, store.accept(events)).unwrap();
    }
    let mut cancelled = std::pin::pin!(store.cancel_matching("test", lane, always()));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(cancelled.as_mut().poll(&mut context).is_pending());
    for done in [BULK_ROWS_MAX as u64, 2 * BULK_ROWS_MAX as u64] {
        stepped.turn();
        let since = clock.now();
        assert_eq!(store.under_way(), [Work { kind: Kind::Bulk, since, percent: None, done: Some(done), total: None }]);
    }
    stepped.turn();
    assert_eq!(store.under_way(), []);
    assert!(cancelled.as_mut().poll(&mut context).is_ready());
}
