//! What goes when, and how much of it in one commit.

use redb::ReadableTableMetadata;

use super::*;
use crate::store::purge;
use crate::store::simulated::Files;
use crate::store::work::Kind;

impl World {
    async fn is_retained_after(&mut self, span: Duration, id: EventId) -> bool {
        self.pass(span);
        self.settled_down().await;
        self.store.plain_event(id).unwrap().is_some()
    }

    /// Closes the store and opens its database without a writer.
    fn offline(&mut self) -> Database {
        self.store.close();
        assert!(self.writer.take().unwrap().join());
        Database::create(self.options.path.join(FILE_NAME)).unwrap()
    }
}

/// What was delivered anew after a reopening was left to the walk that takes what
/// failed, and stayed for thirty days.
#[tokio::test]
async fn what_was_reopened_goes_when_its_own_time_has_come() {
    let mut world = World::new();
    let lane = world.subscribe(settings()).await.number;
    let accepted = world.publish(event("1")).await;
    world.settle(lane, head(&accepted), Settlement::Delivered).await;
    world.pass(DAY * 5);
    world.store.reopen("test", accepted.id.delivery(lane)).await.unwrap();
    let (heads, _) = world.store.pending(lane, None, 1).unwrap();
    assert!(world.is_retained_after(DAY * 3, accepted.id).await, "pending on the eighth day");
    world.settle(lane, heads[0], Settlement::Delivered).await;
    assert!(world.is_retained_after(DAY * 3, accepted.id).await, "on the eleventh");
    assert!(!world.is_retained_after(DAY * 4, accepted.id).await, "seven days after its reopening, or a look later");
}

/// Events that matched nothing went at the age of failed ones where that is less.
#[tokio::test]
async fn unmatched_events_have_an_age_of_their_own() {
    let mut world = World::new();
    world.options.retention.unmatched = DAY * 40;
    world.restart();
    let accepted = world.publish(event("1")).await;
    assert!(world.is_retained_after(DAY * 35, accepted.id).await);
    let lane = world.subscribe(settings()).await.number;
    let window = Window { since: Timestamp::ZERO, until: Timestamp::MAX, events: Vec::new() };
    let replay = Replay { lane, window, failed: false, delivered: false, missed: true };
    assert_eq!(world.store.replay("test", replay).await.unwrap().deliveries, 1);
    let (heads, _) = world.store.pending(lane, None, 1).unwrap();
    world.settle(lane, heads[0], Settlement::Delivered).await;
    assert!(world.is_retained_after(DAY * 6, accepted.id).await, "it is unmatched no more, and delivered late");
    assert!(!world.is_retained_after(DAY * 2, accepted.id).await);
}

/// A commit purged up to a thousand events of each kind, with all their deliveries
/// and attempts: of events with many, hundreds of thousands of rows.
#[tokio::test]
async fn a_commit_purges_a_thousand_rows_whatever_they_are() {
    let mut world = World::new();
    let lanes = [world.subscribe(settings()).await.number, world.subscribe(settings()).await.number];
    world.publish_many(BULK_ROWS_MAX).await;
    for lane in lanes {
        world
            .store
            .cancel_matching("test", lane, Window { since: Timestamp::ZERO, until: Timestamp::MAX, events: vec![] })
            .await
            .unwrap();
        while world.notices.try_recv().is_ok() {}
    }
    let retention = world.options.retention.clone();
    let database = world.offline();
    let first = {
        let transaction = database.begin_write().unwrap();
        let first =
            EventId::from_key(*transaction.open_table(tables::EVENT).unwrap().first().unwrap().unwrap().0.value());
        let mut attempts = transaction.open_table(tables::ATTEMPT).unwrap();
        for number in 1..=2500 {
            attempts.insert(&tables::attempt_key(first.delivery(lanes[0]), number), &[0; 8][..]).unwrap();
        }
        drop(attempts);
        transaction.commit().unwrap();
        first
    };
    let rows = || {
        let transaction = database.begin_read().unwrap();
        transaction.open_table(tables::EVENT).unwrap().len().unwrap()
            + transaction.open_table(tables::OUTCOME).unwrap().len().unwrap()
            + transaction.open_table(tables::ATTEMPT).unwrap().len().unwrap()
    };
    let now = first.accepted_at() + DAY * 31;
    let mut before = rows();
    assert_eq!(before, 3 * BULK_ROWS_MAX as u64 + 2500);
    let mut steps = 0;
    while purge::is_anything_due(&database, &retention, now, now).unwrap() {
        let transaction = database.begin_write().unwrap();
        purge::step(&transaction, &retention, now, now, u64::MAX).unwrap();
        transaction.commit().unwrap();
        let after = rows();
        assert!(before - after <= BULK_ROWS_MAX as u64, "{} rows in one commit", before - after);
        before = after;
        steps += 1;
        assert!(steps < 100, "it does not get on");
    }
    assert_eq!(before, 0);
}

/// Publishing waits for one step of a purge, never for all of it.
#[test]
fn events_are_accepted_between_the_steps_of_a_purge() {
    let clock = Clock::manual(Timestamp::from_millis(START));
    let mut stepped = images::open_on(&images::quiet(Files::default()), &clock).unwrap();
    let store = stepped.store.clone();
    for _ in 0..8 {
        let events = (0..BULK_ROWS_MAX / 2).map(|_| event("1")).collect();
        images::ask(&mut stepped, store.accept(events)).unwrap();
    }
    clock.set(clock.now() + DAY * 4);
    let (mut accepted, mut steps) = (0, 0);
    loop {
        let before = stepped.retained_rows();
        let mut request = std::pin::pin!(store.accept(vec![event("1")]));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(request.as_mut().poll(&mut context).is_pending());
        stepped.turn();
        assert!(request.as_mut().poll(&mut context).is_ready(), "answered after one turn");
        accepted += 1;
        let removed = before + 1 - stepped.retained_rows();
        assert!(removed <= BULK_ROWS_MAX as u64, "{removed} rows in one turn");
        if removed == 0 {
            break;
        }
        steps += 1;
    }
    assert!(steps >= 4, "{steps} steps");
    assert_eq!(stepped.retained_rows(), accepted);
}

/// While a purge of millions of events went on, nobody could see that, nor how far it was.
#[test]
fn a_purge_that_takes_several_steps_tells_how_far_it_is() {
    let clock = Clock::manual(Timestamp::from_millis(START));
    let mut stepped = images::open_on(&images::quiet(Files::default()), &clock).unwrap();
    let store = stepped.store.clone();
    let steps = 5;
    for _ in 0..2 * steps {
        let events = (0..BULK_ROWS_MAX / 2).map(|_| event("1")).collect();
        images::ask(&mut stepped, store.accept(events)).unwrap();
        clock.set(clock.now() + HOUR);
    }
    // One that is not due yet.
    clock.set(clock.now() + HOUR);
    images::ask(&mut stepped, store.accept(vec![event("1")])).unwrap();
    assert_eq!(store.under_way(), []);
    clock.set(clock.now() + DAY * 3 - HOUR);
    let began = clock.now();
    let mut told = Vec::new();
    for _ in 0..steps {
        stepped.turn();
        told.extend(store.under_way());
        clock.set(clock.now() + Duration::from_secs(1));
    }
    assert!(told.iter().all(|work| (work.kind, work.since, work.total) == (Kind::Purge, began, None)), "{told:?}");
    let removed: Vec<Option<u64>> = told.iter().map(|work| work.done).collect();
    assert_eq!(removed, [1, 2, 3, 4, 5].map(|step| Some(step * BULK_ROWS_MAX as u64)));
    let percents: Vec<u8> = told.iter().filter_map(|work| work.percent).collect();
    assert_eq!(percents, [22, 44, 66, 88, 100], "of the time that was to be gone through");
    stepped.turn();
    assert_eq!((store.under_way(), stepped.retained_rows()), (Vec::new(), 1));
    // What one step does is not told.
    clock.set(clock.now() + DAY);
    stepped.turn();
    assert_eq!((store.under_way(), stepped.retained_rows()), (Vec::new(), 0));
}

/// Whose an ended subscription's lane was stayed in memory for good.
#[tokio::test]
async fn ended_subscriptions_are_forgotten_once_their_deliveries_are() {
    let mut world = World::new();
    let subscription = world.subscribe(settings()).await;
    world.publish(event("1")).await;
    let end = Change::DeleteSubscription { id: subscription.id };
    world.store.change("test", end).await.unwrap();
    let owner = |world: &World| world.store.registry().lane_owner(subscription.number).is_some();
    world.pass(DAY * 29);
    world.settled_down().await;
    assert!(owner(&world));
    world.pass(DAY * 9);
    world.settled_down().await;
    assert!(!owner(&world));
    assert_eq!(world.store.totals().events, 0);
}
