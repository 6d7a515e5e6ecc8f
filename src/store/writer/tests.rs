//! The writer without its thread, over a store that comes and goes.

use rand::SeedableRng;
use redb::ReadableTableMetadata;

use super::*;
use crate::config::Retention;
use crate::limits::PAGE_SCAN_MAX;
use crate::model::{Head, Subscription};
use crate::pattern::Pattern;
use crate::store::hot::Hot;
use crate::store::{NOTICE_QUEUE_MAX, Options, Store};
use crate::time::Clock;

/// A writer over a store whose own has ended; the database is not open.
fn writer(folder: &std::path::Path, clock: &Clock) -> (Store, Writer, tokio::sync::mpsc::Receiver<Notice>) {
    let day = Duration::from_secs(86_400);
    let options = Options {
        path: folder.to_owned(),
        bytes_max: 0,
        reserve_bytes: 0,
        cache_bytes: 1 << 20,
        compact_above_bytes: 0,
        retention: Retention { delivered: day, failed: day, unmatched: day, audit: day },
        secrecy: Vec::new(),
        keyring: Arc::default(),
    };
    let (store, thread, _) = Store::open(options, clock.clone(), [7; 32]).unwrap();
    store.close();
    assert!(thread.join());
    let (sender, notices) = tokio::sync::mpsc::channel(NOTICE_QUEUE_MAX);
    let writer = Writer::new(store.shared.clone(), sender, StdRng::from_seed([8; 32]), Wal::none());
    (store, writer, notices)
}

/// A job whose last commit was said to have failed, but had reached the disk, was
/// gone when the store was back: who waited for it waited for ever.
#[test]
fn who_waits_for_a_job_that_is_gone_is_answered_once_the_store_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(Timestamp::from_millis(1_800_000_000_000));
    let (store, mut writer, _notices) = writer(folder.path(), &clock);
    let (reply, mut answer) = oneshot::channel();
    writer.waiting.insert(7, reply);
    store.shared.under_way.add(Kind::Bulk, clock.now(), 1);
    writer.try_reopen();
    assert!(store.is_ready());
    assert_eq!(store.under_way(), [], "it is not told of for ever");
    let answered = answer.try_recv().expect("it is answered");
    assert!(matches!(answered, Err(DeliveryError::Write(WriteError::OutcomeUnknown))));
}

/// While the store was down, every request had it opened again.
#[test]
fn a_store_that_is_down_is_tried_once_a_second_at_most() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(Timestamp::from_millis(1_800_000_000_000));
    let (store, mut writer, _notices) = writer(folder.path(), &clock);
    let in_the_way = store.shared.open_database().unwrap();
    writer.try_reopen();
    drop(in_the_way);
    writer.try_reopen();
    assert!(!store.is_ready(), "it was just tried");
    clock.set(clock.now() + REOPEN_EVERY);
    writer.try_reopen();
    assert!(store.is_ready());
}

/// Each step through a deep lane of which nothing was to be ended was synced.
#[test]
fn a_step_that_ends_nothing_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(Timestamp::from_millis(1_800_000_000_000));
    let (store, mut writer, _notices) = writer(folder.path(), &clock);
    writer.try_reopen();
    let database = store.shared.database().unwrap();
    let transaction = schema::begin(&database).unwrap();
    {
        let mut hot = Hot::open(&transaction).unwrap();
        let mut minter = Minter::after(None);
        for _ in 0..=PAGE_SCAN_MAX {
            hot.put_pending(Lane(1), &Head::fresh(minter.mint(clock.now(), 0)), 0).unwrap();
        }
    }
    transaction.commit().unwrap();
    let kind = JobKind::Expire { opened_until_ms: 0, oldest_left_ms: None, operational: 0 };
    let job = writer.new_job(Lane(1), kind);
    let (step, _) = writer.try_step(&database, 7, &job).unwrap();
    assert!(step.next.is_some(), "there are more rows than one step looks at");
    let jobs = database.begin_read().unwrap().open_table(JOB).unwrap();
    assert!(jobs.get(7).unwrap().is_none());
}

/// A job that met an unreadable event was dropped: who waited for it was never
/// answered, and the engine never heard that the lane had been looked through.
#[test]
fn who_waits_for_a_job_that_meets_an_unreadable_event_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(Timestamp::from_millis(1_800_000_000_000));
    let (store, mut writer, mut notices) = writer(folder.path(), &clock);
    writer.try_reopen();
    let mut subscription = Subscription::sample(1);
    subscription.settings.events = vec![Pattern::parse("posthaste.delivery.failed").unwrap()];
    store.shared.registry_mut().put_subscription(Arc::new(subscription));
    let database = store.shared.database().unwrap();
    let transaction = schema::begin(&database).unwrap();
    {
        let mut hot = Hot::open(&transaction).unwrap();
        let head = Head::fresh(Minter::after(None).mint(clock.now(), 0));
        hot.event.insert(&head.event.to_key(), &[99][..]).unwrap();
        hot.put_pending(Lane(1), &head, 0).unwrap();
    }
    transaction.commit().unwrap();
    let opened_until_ms = clock.now().as_millis();
    let job = writer.new_job(Lane(1), JobKind::Expire { opened_until_ms, oldest_left_ms: None, operational: 0 });
    let (reply, mut answer) = oneshot::channel();
    writer.waiting.insert(7, reply);
    writer.jobs.push_back((7, job));
    writer.step_job(database);
    assert_eq!(answer.try_recv().expect("it is answered").unwrap().done, 1);
    let heard: Vec<Notice> = std::iter::from_fn(|| notices.try_recv().ok()).collect();
    assert!(heard.iter().any(|notice| matches!(notice, Notice::Expired { failed: 1, oldest_opened_at: None, .. })));
}

/// A job that could not go on was dropped without a word.
#[test]
fn who_waits_for_a_job_that_is_given_up_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(Timestamp::from_millis(1_800_000_000_000));
    let (store, mut writer, mut notices) = writer(folder.path(), &clock);
    store.shared.under_way.add(Kind::Bulk, clock.now(), 1);
    let kind = JobKind::Expire { opened_until_ms: 0, oldest_left_ms: None, operational: 1 };
    let job = Job { done: 3, ..writer.new_job(Lane(1), kind) };
    let (reply, mut answer) = oneshot::channel();
    writer.waiting.insert(7, reply);
    writer.give_up(7, &job);
    assert_eq!(store.under_way(), []);
    assert!(matches!(answer.try_recv(), Ok(Err(DeliveryError::Write(WriteError::Unavailable)))));
    let told = notices.try_recv().expect("it is told");
    assert!(matches!(told, Notice::Expired { failed: 2, oldest_opened_at: Some(Timestamp::ZERO), .. }));
}

/// Housekeeping went on with a database that its own bulk work had found broken.
#[test]
fn housekeeping_ends_where_the_store_broke() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(Timestamp::from_millis(1_800_000_000_000));
    let (store, mut writer, mut notices) = writer(folder.path(), &clock);
    writer.try_reopen();
    let database = store.shared.database().unwrap();
    let transaction = schema::begin(&database).unwrap();
    transaction.delete_table(EVENT).unwrap();
    transaction.open_table(redb::TableDefinition::<u32, u32>::new("event")).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let job = writer.new_job(Lane(1), JobKind::End);
    writer.jobs.push_back((7, job));
    writer.housekeep(true);
    assert!(!store.is_ready());
    assert!(store.shared.file.with_extension("check").exists(), "the next start has a look");
    let heard: Vec<Notice> = std::iter::from_fn(|| notices.try_recv().ok()).collect();
    assert_eq!(heard.iter().filter(|notice| matches!(notice, Notice::Down)).count(), 1);
}

/// The publisher after an event for ten thousand subscriptions waited until the counters of
/// all of them were written.
#[test]
fn counters_of_many_lanes_are_written_a_part_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(Timestamp::from_millis(1_800_000_000_000));
    let (store, mut writer, _notices) = writer(folder.path(), &clock);
    writer.try_reopen();
    let database = store.shared.database().unwrap();
    let rows = || database.begin_read().unwrap().open_table(STATS).unwrap().len().unwrap();
    let lanes = 2 * STATS_FLUSHED_AT_ONCE_MAX as u64 + 1;
    for lane in (1..=lanes).map(|number| Lane(u32::try_from(number).unwrap())) {
        store.shared.lanes().entry(lane).or_default().odometer = 1;
        writer.dirty.insert(lane);
    }
    let transaction = schema::begin(&database).unwrap();
    writer.begin_flush();
    writer.flush(&transaction, STATS_FLUSHED_AT_ONCE_MAX).unwrap();
    transaction.commit().unwrap();
    assert_eq!(rows(), STATS_FLUSHED_AT_ONCE_MAX as u64);
    writer.housekeep(false);
    assert_eq!(rows(), STATS_FLUSHED_AT_ONCE_MAX as u64, "something was committed, and more may come");
    assert_eq!(writer.patience(), Duration::ZERO);
    writer.housekeep(true);
    assert!(writer.rest.is_behind(), "a part is not synced");
    writer.housekeep(true);
    assert!(!writer.rest.is_behind());
    assert_eq!(rows(), lanes);

    // Whoever is answered by the log takes the last part along.
    writer.dirty.extend((1..=lanes).map(|number| Lane(u32::try_from(number).unwrap())));
    clock.set(clock.now() + FLUSH_EVERY);
    writer.housekeep(true);
    writer.housekeep(true);
    let (transaction, young) = writer.rest.go_on(&database).unwrap();
    writer.flush(&transaction, STATS_FLUSHED_AT_ONCE_MAX).unwrap();
    store.shared.ahead.fall_behind();
    writer.rest.leave(transaction, young).unwrap();
    assert!(writer.rest.is_behind() && writer.patience() <= FLUSH_EVERY);
    clock.set(clock.now() + FLUSH_EVERY);
    writer.housekeep(true);
    assert!(!writer.rest.is_behind());
}

/// A small store is read in no time: it costs its flash nothing to be at rest.
#[test]
fn a_small_store_is_not_marked() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(Timestamp::from_millis(1_800_000_000_000));
    let (store, mut writer, _notices) = writer(folder.path(), &clock);
    writer.try_reopen();
    let database = store.shared.database().unwrap();
    let transaction = writer.rest.begin(&database).unwrap();
    schema::mark_open(&transaction).unwrap();
    writer.rest.end(transaction).unwrap();
    for _ in 0..3 {
        clock.set(clock.now() + Duration::from_secs(120));
        writer.housekeep(true);
    }
    assert_eq!(writer.patience(), IDLE_PATIENCE);
    assert!(!schema::look(&database.begin_read().unwrap()).unwrap().was_closed);
}

/// A record that could not be written cost nothing but itself, and what had been answered
/// before it in the same transaction was gone too.
#[test]
fn a_write_that_is_given_up_takes_nothing_along_that_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(Timestamp::from_millis(1_800_000_000_000));
    let (store, mut writer, mut notices) = writer(folder.path(), &clock);
    writer.try_reopen();
    let database = || store.shared.database().unwrap();
    let fault = StoreError::Record("cannot be written");
    let _ = writer.rest.go_on(&database()).unwrap();
    store.shared.ahead.give_up();
    writer.broke(database(), &fault);
    assert!(store.is_ready(), "nothing was answered");
    let (transaction, young) = writer.rest.go_on(&database()).unwrap();
    store.shared.ahead.fall_behind();
    writer.rest.leave(transaction, young).unwrap();
    drop(writer.rest.go_on(&database()).unwrap());
    store.shared.ahead.give_up();
    writer.broke(database(), &fault);
    assert!(!store.is_ready());
    let heard: Vec<Notice> = std::iter::from_fn(|| notices.try_recv().ok()).collect();
    assert!(matches!(heard.last(), Some(Notice::Down)));
}
