//! A large store is not read as a whole after a crash; one at rest is ready at once, and no
//! other is taken for one.

use std::sync::Mutex;

use super::images::{Bench, LARGE, SMALL, each_image, furnished, open_compacting, quiet};
use super::*;
use crate::store::schema;
use crate::store::simulated::{Change as Written, Files, Side};

/// Whether the database reads all of its file, and whether the store counts what is
/// pending, when it is opened as a crash leaves it.
fn needs(files: &Files) -> (bool, bool) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let noted = told.clone();
    let mut builder = Database::builder();
    builder.set_repair_callback(move |repair| noted.lock().unwrap().push(repair.progress()));
    let database = builder.create_with_backend(quiet(files.clone()).backend(Side::Database)).unwrap();
    let found = schema::look(&database.begin_read().unwrap()).unwrap();
    let told = told.lock().unwrap();
    assert!(told.first().is_none_or(|first| *first == 0.0), "it is said before it begins: {told:?}");
    (!told.is_empty(), !found.was_closed)
}

/// The time passes in which nothing is written.
fn pass(bench: &mut Bench, span: Duration) {
    bench.pass(span);
    for _ in 0..3 {
        bench.store.turn();
    }
}

#[test]
fn who_is_killed_at_rest_is_there_at_once() {
    let mut bench = Bench::new(LARGE);
    bench.subscribe();
    bench.publish(20);
    assert_eq!(needs(&bench.disk.files()), (false, true), "it is at work");
    pass(&mut bench, Duration::from_secs(2));
    assert_eq!(needs(&bench.disk.files()), (false, false), "it is at rest");
    bench.publish(1);
    assert_eq!(needs(&bench.disk.files()), (false, true), "it is at work again");
    pass(&mut bench, Duration::from_secs(3));
    pass(&mut bench, Duration::from_secs(3));
    assert_eq!(needs(&bench.disk.files()), (false, true), "it rested a moment ago");
    pass(&mut bench, Duration::from_secs(5));
    assert_eq!(needs(&bench.disk.files()), (false, false));
    let writes = bench.disk.writes();
    pass(&mut bench, Duration::from_secs(30));
    assert_eq!(bench.disk.writes(), writes, "nothing is written at rest");
    let mut after = Bench::on(LARGE, quiet(bench.disk.files()), bench.clock.clone());
    after.store.check();
    after.assert_facts(&bench.facts);
    after.store.turn();
    assert_eq!(needs(&after.disk.files()), (false, true), "it was just opened, and written to for that");
}

/// The power goes at every write on the way to a rest, and from it.
#[test]
fn every_crash_image_around_a_rest_holds_what_was_answered() {
    let mut bench = Bench::new(LARGE);
    bench.subscribe();
    bench.publish(6);
    let (base, known) = (bench.disk.files(), bench.facts.clone());
    bench.disk.record();
    for _ in 0..2 {
        pass(&mut bench, Duration::from_secs(60));
        pass(&mut bench, Duration::from_secs(60));
        bench.publish(3);
    }
    let mut at_rest = 0;
    let images = each_image(base, &bench.disk.take_recorded(), |_, image| {
        let (is_read, is_counted) = needs(&image);
        assert!(!is_read);
        at_rest += u32::from(!is_counted);
        let after = Bench::on(LARGE, quiet(image), bench.clock.clone());
        after.store.check();
        after.assert_facts(&known);
    });
    assert!(images > 60 && at_rest > 5, "{images} images, {at_rest} of them at rest");
}

/// Each time a large store is synced the map of all its pages is written, so that is done more
/// rarely, and a crash meanwhile is none the worse for it.
#[test]
fn a_large_store_is_synced_more_rarely() {
    for (seed, is_read, syncs) in [(SMALL, true, 60), (LARGE, false, 6)] {
        let mut bench = Bench::new(seed);
        bench.subscribe();
        pass(&mut bench, Duration::from_secs(60));
        let mut synced = 0;
        for _ in 0..60 {
            bench.pass(Duration::from_secs(1));
            bench.disk.record();
            bench.publish(1);
            let changes = bench.disk.take_recorded();
            synced += u32::from(changes.iter().any(|change| matches!(change, Written::Sync(Side::Database))));
            assert_eq!(needs(&bench.disk.files()), (is_read, true));
        }
        assert_eq!(synced, syncs);
        let after = Bench::on(seed, quiet(bench.disk.files()), bench.clock.clone());
        after.store.check();
        after.assert_facts(&bench.facts);
    }
}

/// Nothing that a start does leaves a store that the next would have to read as a whole.
#[test]
fn a_large_store_that_crashed_is_not_read_as_a_whole() {
    let mut bench = Bench::new(LARGE);
    bench.subscribe();
    pass(&mut bench, Duration::from_secs(60));
    for _ in 0..20 {
        bench.publish(40);
    }
    let crashed = bench.disk.files();
    assert!(!crashed.log.is_empty(), "there is something to be replayed");
    let read_bytes = |seed, files: &Files| {
        let disk = quiet(files.clone());
        let after = Bench::on(seed, disk.clone(), bench.clock.clone());
        after.assert_facts(&bench.facts);
        disk.read_bytes()
    };
    let (small, large) = (read_bytes(SMALL, &crashed), read_bytes(LARGE, &crashed));
    assert!(large < small / 2, "{large} bytes were read, {small} of all");

    let disk = quiet(crashed.clone());
    disk.record();
    drop(Bench::on(LARGE, disk.clone(), bench.clock.clone()));
    let images = each_image(crashed, &disk.take_recorded(), |_, image| assert!(!needs(&image).0));
    assert!(images > 10, "{images} images");
}

/// A compaction does not note which pages are free.
#[test]
fn a_large_store_that_was_compacted_is_not_read_as_a_whole() {
    let (files, clock, facts) = furnished();
    let disk = quiet(files.clone());
    let _open = open_compacting(LARGE, &disk, &clock).unwrap();
    assert!(disk.files().database.len() < files.database.len() / 2, "it was compacted");
    assert!(!needs(&disk.files()).0);
    Bench::on(LARGE, quiet(disk.files()), clock).assert_facts(&facts);
}
