//! Rows that cannot be read, crashes, and a store that went down and came back.

use super::*;

/// Writes what no program of ours wrote over an attempt's row.
fn spoil_attempt(store: &Store, id: DeliveryId, number: u32) {
    let database = store.shared.database().unwrap();
    let transaction = database.begin_write().unwrap();
    let key = tables::attempt_key(id, number);
    transaction.open_table(tables::ATTEMPT).unwrap().insert(&key, &[99, 1, 2][..]).unwrap();
    transaction.commit().unwrap();
}

fn spoil_event(store: &Store, id: EventId) {
    let database = store.shared.database().unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(tables::EVENT).unwrap().insert(&id.to_key(), &[99][..]).unwrap();
    transaction.commit().unwrap();
}

/// A settle shortens what is kept of the attempt before. Where that could not be
/// read, the whole store was taken down, and again with the same outcome after
/// each reopening.
#[tokio::test]
async fn an_unreadable_attempt_costs_no_more_than_itself() {
    let mut world = World::new();
    let lane = world.subscribe(settings()).await.number;
    let accepted = world.publish(event("1")).await;
    let retry = Settlement::Retry(world.clock.now() + HOUR);
    let next = world.settle(lane, head(&accepted), retry).await.unwrap();
    spoil_attempt(&world.store, accepted.id.delivery(lane), 1);
    let attempt = attempt(2, Settlement::Delivered, b"");
    let settlement = Settlement::Delivered;
    world.store.settle(Settle { lane, head: next, settlement, attempt, consecutive_failures: 0 });
    loop {
        match world.notices.recv().await.unwrap() {
            Notice::Down => panic!("one row took the store down"),
            Notice::Settled { next, .. } => break assert_eq!(next, None),
            _ => {}
        }
    }
    assert_eq!(world.store.stats(lane).pending, 0);
    assert!(world.store.pending(lane, None, 1).unwrap().0.is_empty());
}

/// A replay that met an unreadable event took the store down, and again as soon as
/// it was resumed; a retry of its delivery did too.
#[tokio::test]
async fn an_unreadable_event_stops_neither_bulk_work_nor_others() {
    let mut world = World::new();
    let (first, second) = (world.publish(event("1")).await, world.publish(event("2")).await);
    let lane = world.subscribe(settings()).await.number;
    spoil_event(&world.store, first.id);
    let window = Window { since: Timestamp::ZERO, until: Timestamp::MAX, events: Vec::new() };
    let replay = Replay { lane, window, failed: false, delivered: false, missed: true };
    assert_eq!(world.store.replay("test", replay).await.unwrap().deliveries, 1);
    assert_eq!(world.state(second.id.delivery(lane)), DeliveryState::Pending);
    let refused = world.store.reopen("test", first.id.delivery(lane)).await;
    assert_eq!(refused, Err(DeliveryError::Write(WriteError::Unavailable)));
    assert!(world.store.is_ready());
    while let Ok(notice) = world.notices.try_recv() {
        assert!(!matches!(notice, Notice::Down));
    }
}

/// The count of live bytes was written only along with counters, at most once a
/// second and before the change at hand was counted: a crash lost what it was.
#[tokio::test]
async fn live_bytes_and_totals_are_right_after_a_crash() {
    let mut world = World::new();
    let lane = world.subscribe(settings()).await.number;
    for _ in 0..3 {
        world.publish(event(&format!("\"{}\"", "x".repeat(1000)))).await;
    }
    let accepted = world.publish(event("1")).await;
    world.settle(lane, head(&accepted), Settlement::Failed).await;
    let before = world.store.totals();
    assert!(before.live_bytes > 3000);
    world.crash();
    let after = world.store.totals();
    assert_eq!(after.live_bytes, before.live_bytes);
    assert_eq!((after.accepted, after.failed), (4, 1));
    world.restart();
    assert_eq!(world.store.totals().live_bytes, before.live_bytes);
}

/// What was counted anew after a crash stayed in memory. Where a lane then did nothing
/// until the daemon was stopped, the next start took the count from before the crash.
#[tokio::test]
async fn what_was_counted_anew_after_a_crash_is_kept() {
    let mut world = World::new();
    let lane = world.subscribe(settings()).await.number;
    for _ in 0..3 {
        world.publish(event("1")).await;
    }
    world.crash();
    assert_eq!(world.store.stats(lane).pending, 3);
    world.restart();
    assert_eq!(world.store.stats(lane).pending, 3);
}

/// A store that went down and came back took what it counted from the disk, where
/// it stands as it was at the last flush.
#[tokio::test]
async fn a_store_that_comes_back_remembers_what_its_lanes_went_through() {
    let mut world = World::new();
    let lane = world.subscribe(settings()).await.number;
    for _ in 0..3 {
        let accepted = world.publish(event("1")).await;
        world.settle(lane, head(&accepted), Settlement::Delivered).await;
    }
    world.publish(event("1")).await;
    let before = world.store.stats(lane);
    assert_eq!((before.odometer, before.attempts, before.pending), (4, 3, 1));
    world.break_down().await;
    assert_eq!(world.store.stats(lane), before);
    world.crash();
    assert_eq!(world.store.stats(lane).pending, 1);
}

/// What a commit in doubt may have touched is counted anew, and only that.
#[tokio::test]
async fn only_lanes_in_doubt_are_counted_anew() {
    let world = World::new();
    let (first, second) = (world.subscribe(settings()).await.number, world.subscribe(settings()).await.number);
    world.publish(event("1")).await;
    for stats in world.store.shared.lanes().values_mut() {
        stats.pending = 7;
    }
    let database = world.store.shared.database().unwrap();
    world.store.shared.load(&database, |lane| lane == first).unwrap();
    assert_eq!((world.store.stats(first).pending, world.store.stats(second).pending), (1, 7));
}

/// A commit that failed for want of space may have reached the disk all the same.
#[test]
fn a_commit_that_met_a_full_disk_has_an_unknown_outcome() {
    let full = || Box::new(redb::Error::Io(std::io::ErrorKind::StorageFull.into()));
    assert_eq!(StoreError::Commit(full()).to_publisher(), WriteError::OutcomeUnknown);
    assert_eq!(StoreError::Database(full()).to_publisher(), WriteError::StorageFull);
}
