//! What goes through the write-ahead log, and what does not.

use redb::ReadableTableMetadata;

use super::images::{Bench, SMALL, quiet};
use super::*;
use crate::limits::YOUNG_ROWS_MAX;
use crate::store::simulated::{Change as Written, Side};

/// Who publishes waits for one short write, not for the pages of a database; that is
/// synced once a second, and idle then.
#[test]
fn an_everyday_commit_is_logged_and_the_database_synced_once_a_second() {
    let mut bench = Bench::new(SMALL);
    bench.subscribe();
    bench.publish(1);
    bench.store.turn();
    bench.disk.record();
    for _ in 0..3 {
        bench.publish(2);
    }
    let changes = bench.disk.take_recorded();
    assert!(changes.iter().all(|change| matches!(change, Written::Write(Side::Log, ..) | Written::Sync(Side::Log))));
    assert_eq!(changes.iter().filter(|change| matches!(change, Written::Sync(_))).count(), 3);
    let after_kill = bench.disk.files();
    bench.pass(Duration::from_secs(1));
    bench.disk.record();
    bench.store.turn();
    let changes = bench.disk.take_recorded();
    assert!(changes.iter().any(|change| matches!(change, Written::Sync(Side::Database))));
    for files in [after_kill, bench.disk.files()] {
        let after = Bench::on(SMALL, quiet(files), bench.clock.clone());
        after.store.check();
        after.assert_facts(&bench.facts);
    }
    bench.pass(Duration::from_secs(5));
    bench.store.turn();
    bench.pass(Duration::from_secs(60));
    let writes = bench.disk.writes();
    bench.store.turn();
    assert_eq!(bench.disk.writes(), writes, "there is nothing more to do");
}

/// Publishers are answered once the log is synced, and the database has the event a moment
/// later: who asked for it at once was told that there is no such event.
#[tokio::test]
async fn who_is_answered_finds_the_event() {
    let mut world = World::new();
    world.subscribe(settings()).await;
    for number in 0..500 {
        let id = world.publish(event(&number.to_string())).await.id;
        let found = world.store.event(id).unwrap().unwrap_or_else(|| panic!("event {number}"));
        assert!(found.deliveries.iter().all(|it| it.next_attempt_at == Some(id.accepted_at())), "event {number}");
        assert_eq!((found.deliveries.len(), world.store.totals().accepted), (1, number + 1));
        while world.notices.try_recv().is_ok() {}
    }
}

/// A backup that was begun while somebody published had events without their deliveries.
#[test]
fn what_is_read_is_whole_though_publishing_goes_on() {
    let mut bench = Bench::new(SMALL);
    bench.subscribe();
    bench.publish(1);
    for _ in 0..3 {
        let database = bench.store.store.shared.shown().unwrap();
        bench.publish(2);
        let report = crate::store::inspect::inspect(&database, None).unwrap();
        assert_eq!(report.faults, Vec::new());
    }
}

/// An event that nobody wants changes no lane's counters, which the database was synced for.
#[test]
fn what_the_log_alone_has_is_in_the_database_a_second_later() {
    let mut bench = Bench::new(SMALL);
    bench.publish(1);
    bench.publish(1);
    assert!(bench.store.patience() <= Duration::from_secs(1));
    bench.pass(Duration::from_secs(1));
    bench.disk.record();
    bench.store.turn();
    let changes = bench.disk.take_recorded();
    assert!(changes.iter().any(|change| matches!(change, Written::Sync(Side::Database))));
}

/// Large and many, and whatever is not everyday, goes to the database at once: so does
/// what comes when the log is full.
#[test]
fn what_is_too_much_for_the_log_goes_to_the_database() {
    let mut bench = Bench::new(SMALL);
    bench.subscribe();
    bench.disk.record();
    let mut synced = 0;
    for _ in 0..150 {
        bench.publish(1);
        let changes = bench.disk.take_recorded();
        bench.disk.record();
        synced += usize::from(changes.iter().any(|change| matches!(change, Written::Sync(Side::Database))));
    }
    assert!((2..8).contains(&synced), "the log was full {synced} times");
    // The log has room for it.
    bench.pass(Duration::from_secs(1));
    bench.store.turn();
    bench.disk.record();
    let data = format!("\"{}\"", "x".repeat(150_000));
    let store = bench.store.store.clone();
    images::ask(&mut bench.store, store.accept(vec![event(&data)])).unwrap().remove(0).unwrap();
    let changes = bench.disk.take_recorded();
    assert!(changes.iter().any(|change| matches!(change, Written::Sync(Side::Database))));
    assert!(changes.iter().all(|change| !matches!(change, Written::Write(Side::Log, ..))));
    let after = Bench::on(SMALL, quiet(bench.disk.files()), bench.clock.clone());
    after.store.check();
    after.assert_facts(&bench.facts);
    assert_eq!(after.store.events().len(), 151);
}

/// Publishers that are refused kept the writer busy: the database was synced no more.
#[test]
fn what_the_log_has_is_synced_though_publishing_is_refused() {
    let mut bench = Bench::new(SMALL);
    bench.subscribe();
    bench.publish(1);
    let store = bench.store.store.clone();
    store.reconfigure(Options { bytes_max: 1, ..options("/nowhere".into()) });
    let mut is_synced = false;
    bench.disk.record();
    for _ in 0..20 {
        bench.pass(Duration::from_millis(300));
        let refused = images::ask(&mut bench.store, store.accept(vec![event("1")]));
        assert_eq!(refused.unwrap_err(), WriteError::StorageFull);
        let changes = bench.disk.take_recorded();
        bench.disk.record();
        is_synced |= changes.iter().any(|change| matches!(change, Written::Sync(Side::Database)));
    }
    assert!(is_synced);
    let after = Bench::on(SMALL, quiet(bench.disk.files()), bench.clock.clone());
    after.assert_facts(&bench.facts);
}

/// A compaction syncs the database with what only the log had, and the log knows nothing
/// of it.
#[test]
fn a_file_that_is_made_smaller_goes_with_its_log() {
    let mut bench = Bench::new(SMALL);
    bench.subscribe();
    bench.publish(3);
    bench.store.turn();
    bench.publish(3);
    assert!(bench.store.store.shared.shrink().unwrap());
    let compacted = bench.disk.files();
    bench.publish(3);
    for files in [compacted, bench.disk.files()] {
        let after = Bench::on(SMALL, quiet(files), bench.clock.clone());
        after.store.check();
    }
    let after = Bench::on(SMALL, quiet(bench.disk.files()), bench.clock.clone());
    after.assert_facts(&bench.facts);
}

/// Who moves a store's file away and forgets its log may bring the file back: a new store
/// and a restored one neither take the log for their own nor write over it.
#[tokio::test]
async fn a_new_store_leaves_an_earlier_ones_log_as_it_is() {
    let mut world = World::new();
    world.subscribe(settings()).await;
    world.publish(event("1")).await;
    let file = world.options.path.join(FILE_NAME);
    let earlier = std::fs::read(wal::path_of(&file)).unwrap();
    assert!(earlier.starts_with(b"phwal001"));
    world.store.close();
    assert!(world.writer.take().unwrap().join());
    assert_eq!(std::fs::metadata(wal::path_of(&file)).unwrap().len(), 0, "a stop leaves nothing in it");
    std::fs::remove_file(&file).unwrap();
    std::fs::write(wal::path_of(&file), &earlier).unwrap();
    let (store, writer, notices) = Store::open(world.options.clone(), world.clock.clone(), [8; 32]).unwrap();
    (world.store, world.writer, world.notices) = (store, Some(writer), notices);
    assert_eq!(world.store.totals().events, 0);
    check(&world.store);
    let aside = wal::path_of(&file).with_extension("wal.earlier");
    assert!(std::fs::read(aside).unwrap() == earlier);
}

/// Counters are written in a few commits where they are many. The log is used meanwhile.
#[test]
fn counters_of_many_lanes_are_written_and_commits_still_logged() {
    let mut bench = Bench::new(SMALL);
    for _ in 0..300 {
        bench.subscribe();
    }
    // Wanted by all of them: too much for the log.
    bench.publish(20);
    bench.pass(Duration::from_secs(1));
    bench.disk.record();
    bench.publish(1);
    let changes = bench.disk.take_recorded();
    assert!(changes.iter().any(|change| matches!(change, Written::Sync(Side::Database))));
    bench.disk.record();
    bench.publish(1);
    let changes = bench.disk.take_recorded();
    assert!(changes.iter().any(|change| matches!(change, Written::Sync(Side::Log))));
}

/// What the store of a daemon that is killed now leaves.
fn copy_of(world: &World) -> tempfile::TempDir {
    let file = world.options.path.join(FILE_NAME);
    let copy = tempfile::tempdir().unwrap();
    for file in [wal::path_of(&file), file] {
        std::fs::copy(&file, copy.path().join(file.file_name().unwrap())).unwrap();
    }
    copy
}

/// Where a record of the log was broken, it said that the database is damaged and a backup
/// to be restored: a day lost for the sake of a second.
#[tokio::test]
async fn a_broken_log_is_named_and_the_store_goes_on_without_it() {
    let world = World::new();
    world.subscribe(settings()).await;
    for _ in 0..3 {
        world.publish(event("1")).await;
    }
    let copy = copy_of(&world);
    let log = wal::path_of(&copy.path().join(FILE_NAME));
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&log, &bytes).unwrap();
    let options = Options { path: copy.path().to_owned(), ..world.options.clone() };
    let open = || Store::open(options.clone(), world.clock.clone(), [8; 32]);
    let is_named = |error: OpenError| matches!(&error, OpenError::DamagedLog(it) if *it == log) && error.needs_people();
    assert!(is_named(open().err().unwrap()));
    assert!(is_named(offline::check(copy.path(), 1 << 20, &Keyring::default()).err().unwrap()));
    assert!(std::fs::read(&log).unwrap() == bytes, "nothing was changed");
    std::fs::remove_file(&log).unwrap();
    let (store, writer, _notices) = open().unwrap();
    assert_eq!(store.totals().events, 1, "that the database was synced with");
    check(&store);
    store.close();
    assert!(writer.join());
}

/// Who checks or backs up the store of a daemon that was killed looks at all of it.
#[tokio::test]
async fn an_offline_check_and_backup_see_what_the_log_holds() {
    let world = World::new();
    world.subscribe(settings()).await;
    for _ in 0..3 {
        world.publish(event("1")).await;
    }
    let copy = copy_of(&world);
    let mut backup = Vec::new();
    offline::back_up(copy.path(), 1 << 20, world.clock.now(), &mut backup).unwrap();
    let summary = backup::verify(&backup[..]).unwrap();
    assert!(summary.tables.contains(&("event".to_owned(), 3)), "{summary:?}");
    let report = offline::check(copy.path(), 1 << 20, &Keyring::default()).unwrap();
    assert_eq!((report.faults_total, report.events), (0, 3));
}

#[tokio::test]
async fn a_restored_store_leaves_an_earlier_ones_log_as_it_is() {
    let mut world = World::new();
    world.publish(event("1")).await;
    world.store.close();
    assert!(world.writer.take().unwrap().join());
    let mut backup = Vec::new();
    offline::back_up(&world.options.path, 1 << 20, world.clock.now(), &mut backup).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (from, place) = (folder.path().join("backup"), folder.path().join("store"));
    let log = wal::path_of(&place.join(FILE_NAME));
    std::fs::create_dir(&place).unwrap();
    std::fs::write(&log, "earlier").unwrap();
    let restore = restore::Restore {
        from: &from,
        folder: &place,
        cache_bytes: 1 << 20,
        keyring: &Keyring::default(),
        held_since: None,
        accepts_faults: false,
        on_read: &|_| (),
    };
    std::fs::write(&from, &backup[..backup.len() - 1]).unwrap();
    assert!(restore::restore(&restore).is_err());
    assert_eq!(std::fs::read(&log).unwrap(), b"earlier", "nothing was restored");
    std::fs::write(&from, &backup).unwrap();
    restore::restore(&restore).unwrap();
    std::fs::write(log.with_extension("wal.earlier"), "and earlier still").unwrap();
    let options = Options { path: place, ..world.options.clone() };
    let (store, writer, _notices) = Store::open(options, world.clock.clone(), [8; 32]).unwrap();
    assert_eq!(store.totals().events, 1);
    store.close();
    assert!(writer.join());
    assert_eq!(std::fs::read(log.with_extension("wal.earlier-2")).unwrap(), b"earlier");
}

/// Rows of [`tables::PENDING`] as the database has them, whatever readers are shown.
fn pending_rows(bench: &Bench) -> u64 {
    let database = bench.store.store.shared.database().unwrap();
    database.begin_read().unwrap().open_table(tables::PENDING).unwrap().len().unwrap()
}

/// Each delivery had a row, which was taken away a moment later: a tenth of what it cost.
#[test]
fn what_is_done_before_the_database_is_synced_never_has_a_pending_row() {
    let mut bench = Bench::new(SMALL);
    bench.subscribe();
    // The database is synced with the first.
    bench.publish(1);
    bench.settle_fresh(|_| Settlement::Delivered);
    bench.publish(3);
    assert_eq!(pending_rows(&bench), 0);
    bench.settle_fresh(|_| Settlement::Delivered);
    assert_eq!(pending_rows(&bench), 0);
    bench.store.check();
    bench.publish(2);
    let (heads, _) = bench.store.store.pending(bench.lane, None, 10).unwrap();
    assert_eq!((heads.len(), pending_rows(&bench)), (2, 2), "who reads has them written");
    bench.publish(1);
    assert_eq!(pending_rows(&bench), 2);
    bench.pass(Duration::from_secs(1));
    bench.store.turn();
    assert_eq!(pending_rows(&bench), 3, "the log is void now");
    let after = Bench::on(SMALL, quiet(bench.disk.after_kill().files()), bench.clock.clone());
    after.store.check();
    after.assert_facts(&bench.facts);
}

/// What only the log had is not in the database where its commit failed: nobody reads it then,
/// and it is opened anew with what the log has.
#[test]
fn nobody_reads_a_database_that_lacks_what_was_answered() {
    let mut bench = Bench::new(SMALL);
    bench.subscribe();
    // The database is synced with the first.
    bench.publish(1);
    bench.settle_fresh(|_| Settlement::Delivered);
    bench.publish(2);
    let shared = bench.store.store.shared.clone();
    drop(shared.ahead.take().unwrap());
    shared.ahead.give_up();
    assert!(bench.store.store.pending(bench.lane, None, 10).is_err());
    assert!(matches!(bench.store.turn()[..], [Notice::Down]));
    bench.pass(Duration::from_secs(1));
    assert!(bench.store.turn().iter().any(|notice| matches!(notice, Notice::Up)));
    bench.assert_facts(&bench.facts);
    bench.store.check();
}

/// More than wait beside the table go into it at once, and are found there.
#[test]
fn no_more_than_so_many_pending_rows_are_in_the_log_alone() {
    let mut bench = Bench::new(SMALL);
    bench.subscribe();
    let database = bench.store.store.shared.database().unwrap();
    let transaction = database.begin_write().unwrap();
    let of_others = (1..YOUNG_ROWS_MAX).map(|number| {
        let mut key = [0xff; 24];
        key[..8].copy_from_slice(&number.to_be_bytes());
        (key, Vec::new())
    });
    let mut hot = hot::Hot::open_noting(&transaction, of_others.collect()).unwrap();
    let mut minter = crate::id::Minter::after(None);
    let [beside, within] = [7, 8].map(|weight_bytes| {
        let head = Head::fresh(minter.mint(bench.clock.now(), 1));
        hot.put_pending(bench.lane, &head, weight_bytes).unwrap();
        head
    });
    assert_eq!((hot.young.as_ref().unwrap().len(), hot.pending.len().unwrap()), (YOUNG_ROWS_MAX, 1));
    for (head, weight_bytes) in [(within, 8), (beside, 7)] {
        let ended = hot.end(bench.lane, &head, TerminalState::Cancelled, None, bench.clock.now()).unwrap();
        assert_eq!(ended, Some(weight_bytes));
    }
    assert_eq!((hot.young.as_ref().unwrap().len(), hot.pending.len().unwrap()), (YOUNG_ROWS_MAX - 1, 0));
}
