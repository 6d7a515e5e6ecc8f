//! Rows that cannot be read, crashes, and a store that went down and came back.

use super::*;

/// A process that ended while it made its store could not be started again: the file
/// that it had begun was taken for one of somebody else's.
#[test]
fn a_store_whose_making_was_cut_off_is_made_anew() {
    let world = World::new();
    let options = Options { path: world.options.path.join("other"), ..world.options.clone() };
    std::fs::create_dir(&options.path).unwrap();
    let begun = options.path.join(FILE_NAME).with_extension("new");
    std::fs::write(&begun, [0; 4096]).unwrap();
    let (store, writer, _notices) = Store::open(options.clone(), world.clock.clone(), [7; 32]).unwrap();
    store.close();
    assert!(writer.join() && options.path.join(FILE_NAME).exists() && !begun.exists());
}

/// A writer that met damage in a store at rest panicked, and at the next start nobody
/// looked at the sums, again and again.
#[tokio::test]
async fn who_panicked_has_the_next_start_check_the_sums() {
    let mut world = World::new();
    world.subscribe(settings()).await;
    world.publish_many(20).await;
    world.store.close();
    assert!(world.writer.take().unwrap().join());
    let file = world.options.path.join(FILE_NAME);
    let whole = std::fs::read(&file).unwrap();
    let used: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
    let open = || Store::open(world.options.clone(), world.clock.clone(), [7; 32]);
    let is_asked_for = || file.with_extension("check").exists();
    let mut found = 0;
    for at in used.iter().step_by(used.len() / 60) {
        let mut flipped = whole.clone();
        flipped[*at] ^= 1;
        std::fs::write(&file, &flipped).unwrap();
        let Ok((store, writer, _notices)) = open() else { continue };
        store.close();
        writer.join();
        std::fs::write(&file, &flipped).unwrap();
        open::ask_for_check(&file);
        match open() {
            Ok((store, writer, _notices)) => {
                assert!(!is_asked_for(), "once is enough");
                store.close();
                writer.join();
            }
            Err(error) => {
                assert!(error.needs_people() && is_asked_for(), "{error}");
                found += 1;
            }
        }
    }
    assert!(found > 0, "{found} of the flips were found only by the check");
}

/// Writes what no program of ours wrote over an attempt's row.
fn spoil_attempt(store: &Store, id: DeliveryId, number: u32) {
    let database = store.shared.shown().unwrap();
    let transaction = database.begin_write().unwrap();
    let key = tables::attempt_key(id, number);
    transaction.open_table(tables::ATTEMPT).unwrap().insert(&key, &[99, 1, 2][..]).unwrap();
    transaction.commit().unwrap();
}

fn spoil_event(store: &Store, id: EventId) {
    let database = store.shared.shown().unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(tables::EVENT).unwrap().insert(&id.to_key(), &[99][..]).unwrap();
    transaction.commit().unwrap();
}

fn spoil_pending(store: &Store, lane: Lane, key: Key) {
    let database = store.shared.shown().unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(tables::PENDING).unwrap().insert(&tables::pending_key(lane, key), &[99][..]).unwrap();
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
    world.store.settle(Settle { lane, head: next, settlement, attempt, consecutive_failures: 0, is_awaited: true });
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
    let database = world.store.shared.shown().unwrap();
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

/// One pending row that could not be read failed every read of its lane: the engine
/// asked again each second, and nothing was delivered there any more.
#[tokio::test]
async fn an_unreadable_pending_row_does_not_stop_its_lane() {
    let world = World::new();
    let lane = world.subscribe(settings()).await.number;
    let (spoiled, next) = (world.publish(event("1")).await, world.publish(event("2")).await);
    spoil_pending(&world.store, lane, head(&spoiled).key());
    assert_eq!(world.store.pending(lane, None, 10).unwrap(), (vec![head(&next)], true));
    let backlog = world.store.backlog(lane, None, 10, world.clock.now()).unwrap();
    assert_eq!((backlog.heads, backlog.events.len()), (vec![head(&next)], 1));
}

/// A list answered 503 for every page with a row that could not be read.
#[tokio::test]
async fn lists_leave_unreadable_rows_out() {
    let world = World::new();
    let lane = world.subscribe(settings()).await.number;
    let spoiled = [world.publish(event("1")).await, world.publish(event("2")).await];
    let good = world.publish(event("3")).await;
    spoil_event(&world.store, spoiled[0].id);
    spoil_pending(&world.store, lane, head(&spoiled[1]).key());
    let (since, until) = (Timestamp::ZERO, Timestamp::MAX);
    let query = EventQuery { organizations: None, event_type: None, since, until, before: None, limit: 10 };
    let events: Vec<EventId> = world.store.events(&query).unwrap().rows.iter().map(|event| event.id).collect();
    assert_eq!(events, [good.id, spoiled[1].id]);
    let deliveries = |limit| {
        let (lane, state, event_type, before) = (None, None, None, None);
        let query = DeliveryQuery { organizations: None, lane, state, event_type, since, until, before, limit };
        let page = world.store.deliveries(&query).unwrap();
        page.rows.iter().map(|row| row.delivery.id).collect::<Vec<_>>()
    };
    assert_eq!(deliveries(10), [good.id.delivery(lane)]);
    assert!(world.store.event(spoiled[1].id).unwrap().unwrap().deliveries.is_empty());
    assert_eq!(world.store.oldest_pending().unwrap().at, Some(spoiled[0].id.accepted_at()));

    let entries = world.store.audit(None, 10).unwrap().rows;
    let database = world.store.shared.shown().unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(tables::AUDIT).unwrap().insert(entries[0].sequence + 1, &b"?"[..]).unwrap();
    transaction.commit().unwrap();
    assert_eq!(world.store.audit(None, 10).unwrap().rows, entries);
}

/// One configured thing that could not be read kept the daemon from starting.
#[tokio::test]
async fn the_store_opens_without_what_cannot_be_read() {
    let mut world = World::new();
    let (spoiled, good) = (world.subscribe(settings()).await, world.subscribe(settings()).await);
    world.publish(event("1")).await;
    let database = world.store.shared.shown().unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(tables::SUBSCRIPTION).unwrap().insert(spoiled.number.0, &b"?"[..]).unwrap();
    transaction.open_table(tables::STATS).unwrap().insert(good.number.0, &b"?"[..]).unwrap();
    transaction.open_table(tables::JOB).unwrap().insert(7, &b"?"[..]).unwrap();
    transaction.open_table(tables::ORGANIZATION).unwrap().insert("acme", &b"?"[..]).unwrap();
    transaction.commit().unwrap();
    drop(database);
    world.crash();
    let numbers: Vec<Lane> = world.store.registry().subscriptions().map(|it| it.number).collect();
    assert_eq!(numbers, [good.number]);
    assert_eq!(world.store.stats(good.number).pending, 1);
    assert_eq!(world.publish(event("2")).await.deliveries, 1);
    assert!(world.subscribe(settings()).await.number > good.number);
}

/// A commit that failed after the log had it was made again when the store was back, and an
/// attempt of a lane that keeps its order counted twice.
#[tokio::test]
async fn an_outcome_that_is_written_again_counts_once() {
    let mut world = World::new();
    let lane = world.subscribe(settings()).await.number;
    let id = world.publish(event("1")).await.id;
    let later = world.clock.now() + HOUR;
    for _ in 0..2 {
        let next = world.settle(lane, Head::fresh(id), Settlement::Stay(later)).await;
        assert_eq!(next.map(|head| (head.attempts, head.due)), Some((1, later)));
    }
    assert_eq!(world.store.stats(lane).attempts, 1);
    check(&world.store);
}
