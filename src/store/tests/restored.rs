//! Backups of a store at work, what becomes of them on the way, and stores made from
//! them.

use std::collections::BTreeSet;

use redb::TableHandle;

use super::*;
use crate::store::backup::{Passing, ReadBackupError, verify};
use crate::store::restore::{Restore, RestoreError, prove, restore};
use crate::store::{inspect, offline};

/// All parts of a backup; none where it was broken off.
async fn taken(store: &Store) -> Option<Vec<u8>> {
    let mut parts = store.backup().await.unwrap();
    let mut all = Vec::new();
    loop {
        match parts.recv().await? {
            Some(part) => all.extend_from_slice(&part),
            None => return Some(all),
        }
    }
}

/// A world with something in every table, as far as the writer leaves it there.
async fn furnished() -> (World, Lane) {
    let mut world = World::new();
    let lane = versions::furnish(&mut world).await;
    (world, lane)
}

impl World {
    /// What a restore of this backup leads to, in a folder of its own.
    fn restored(&self, backup: &[u8], name: &str, held_since: Option<Timestamp>) -> Result<PathBuf, RestoreError> {
        let from = self.folder.path().join("backup");
        std::fs::write(&from, backup).unwrap();
        let folder = self.folder.path().join(name);
        restore(&Restore {
            from: &from,
            folder: &folder,
            cache_bytes: 1 << 20,
            keyring: &Keyring::default(),
            held_since,
            accepts_faults: false,
            on_read: &|_| {},
        })?;
        Ok(folder)
    }

    /// Goes on with the store of another folder.
    fn go_on_in(&mut self, folder: PathBuf, seed: u8) {
        self.store.close();
        assert!(self.writer.take().is_none_or(WriterThread::join));
        self.options.path = folder;
        let (store, writer, notices) = Store::open(self.options.clone(), self.clock.clone(), [seed; 32]).unwrap();
        (self.store, self.writer, self.notices) = (store, Some(writer), notices);
    }
}

#[tokio::test]
async fn what_is_restored_is_what_was_backed_up() {
    let (mut world, lane) = furnished().await;
    let totals = world.store.totals();
    let backup = taken(&world.store).await.unwrap();
    let later = world.publish(event("4")).await;
    let summary = verify(&backup[..]).unwrap();
    assert_eq!((summary.schema_version, summary.taken_at), (SCHEMA_VERSION, world.clock.now()));
    assert_eq!((summary.bytes, &summary.sha256[..]), (backup.len() as u64, &backup[backup.len() - 32..]));
    let events = summary.tables.iter().find(|(name, _)| name == "event").unwrap().1;
    assert_eq!(events, totals.events);

    let folder = world.restored(&backup, "other", None).unwrap();
    let file = folder.join(FILE_NAME);
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&file.metadata().unwrap()) & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "nothing else is left there");
    world.go_on_in(folder, 9);
    check(&world.store);
    let after = world.store.totals();
    assert_eq!(Totals { file_bytes: 0, ..after }, Totals { file_bytes: 0, ..totals });
    assert_eq!(world.store.held_since(), None);
    assert!(world.store.plain_event(later.id).unwrap().is_none(), "it came after the snapshot");
    let keyed = NewEvent { idempotency_key: Some("key".to_owned()), ..event(r#"{"a": 1.0}"#) };
    assert!(world.publish(keyed).await.duplicate);
    let again = world.publish(event("5")).await;
    assert_eq!(world.state(again.id.delivery(lane)), DeliveryState::Pending);
}

/// A table that the list of all tables does not name would be in no backup.
#[tokio::test]
async fn a_backup_has_every_table() {
    let (world, _) = furnished().await;
    let backup = taken(&world.store).await.unwrap();
    let database = world.store.shared.shown().unwrap();
    let transaction = database.begin_read().unwrap();
    let tables: BTreeSet<String> = transaction.list_tables().unwrap().map(|table| table.name().to_owned()).collect();
    let backed_up: BTreeSet<String> = verify(&backup[..]).unwrap().tables.into_iter().map(|(name, _)| name).collect();
    assert_eq!(backed_up, tables);
}

#[tokio::test]
async fn what_is_cut_short_changed_or_more_is_no_backup() {
    let (world, _) = furnished().await;
    let backup = taken(&world.store).await.unwrap();
    let passes = |bytes: &[u8]| {
        let mut passing = Passing::default();
        bytes.chunks(7).for_each(|part| passing.take(part));
        passing.is_whole()
    };
    assert!(verify(&backup[..]).is_ok() && passes(&backup));
    for length in 0..backup.len() {
        let error = verify(&backup[..length]).unwrap_err();
        let is_told = matches!(error, ReadBackupError::CutShort(_) | ReadBackupError::Foreign);
        assert!(is_told && !passes(&backup[..length]), "{length}: {error}");
    }
    for at in 0..backup.len() {
        let mut changed = backup.clone();
        changed[at] ^= 1 << (at % 8);
        assert!(verify(&changed[..]).is_err() && !passes(&changed), "byte {at}");
    }
    let more = [&backup[..], b"x"].concat();
    assert!(verify(&more[..]).is_err() && !passes(&more));

    let mut newer = backup.clone();
    newer[22] += 1;
    let error = verify(&newer[..]).unwrap_err();
    assert!(matches!(error, ReadBackupError::Newer { found, known } if found == known + 1), "{error}");
    for bytes in [&backup[..backup.len() - 1], b"something else"] {
        let refused = world.restored(bytes, "other", None).unwrap_err();
        assert!(matches!(refused, RestoreError::Backup(..)), "{refused}");
        assert!(!world.folder.path().join("other").exists(), "nothing was made");
    }
}

#[tokio::test]
async fn a_store_that_is_there_is_never_replaced() {
    let (world, _) = furnished().await;
    let backup = taken(&world.store).await.unwrap();
    let before = std::fs::read(world.options.path.join(FILE_NAME)).unwrap();
    let refused = world.restored(&backup, "store", None).unwrap_err();
    assert!(matches!(refused, RestoreError::Exists(_)), "{refused}");
    assert_eq!(std::fs::read(world.options.path.join(FILE_NAME)).unwrap(), before);
    // Nor is what another restore builds.
    let other = world.folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let lock = std::fs::File::open(&other).unwrap();
    lock.try_lock().unwrap();
    let refused = world.restored(&backup, "other", None).unwrap_err();
    assert!(matches!(refused, RestoreError::UnderWay(_)), "{refused}");
    drop(lock);
    // What one left that was killed is in nobody's way.
    std::fs::write(other.join("posthaste.redb.restoring"), "half of it").unwrap();
    world.restored(&backup, "other", None).unwrap();
    assert_eq!(std::fs::read_dir(&other).unwrap().count(), 1);
}

/// Rows that contradict each other are told of, and taken only by who says so.
#[tokio::test]
async fn a_backup_of_a_faulty_store_is_restored_only_where_that_is_wanted() {
    let (mut world, lane) = furnished().await;
    let lost = world.publish(event("1")).await.id.delivery(lane);
    {
        let database = world.store.shared.shown().unwrap();
        let transaction = database.begin_write().unwrap();
        let key = tables::pending_key(lane, (lost.event().accepted_at(), lost.event()));
        transaction.open_table(tables::PENDING).unwrap().remove(&key).unwrap();
        transaction.open_table(tables::OUTCOME).unwrap().insert(&[9; 16], &[0][..]).unwrap();
        transaction.open_table(tables::SUBSCRIPTION).unwrap().insert(77, &b"{"[..]).unwrap();
        transaction.commit().unwrap();
    }
    let backup = taken(&world.store).await.unwrap();
    let Err(RestoreError::Faults(report)) = world.restored(&backup, "other", None) else { panic!("it is refused") };
    let stray = DeliveryId::from_key([9; 16]);
    let told = |fault: inspect::Fault| assert!(report.faults.contains(&fault), "{fault} in {:?}", report.faults);
    told(inspect::Fault::Lost(lost));
    told(inspect::Fault::Stray("outcome", stray));
    assert!(report.faults.iter().any(|it| matches!(it, inspect::Fault::Counted { .. })), "{:?}", report.faults);
    assert!(report.faults.iter().any(|it| it.to_string().contains("subscription number 77")), "{:?}", report.faults);
    assert_eq!(report.faults_total, 4);
    let other = world.folder.path().join("other");
    assert_eq!(std::fs::read_dir(&other).unwrap().count(), 0);

    let from = world.folder.path().join("backup");
    let as_it_is = Restore {
        from: &from,
        folder: &other,
        cache_bytes: 1 << 20,
        keyring: &Keyring::default(),
        held_since: None,
        accepts_faults: true,
        on_read: &|_| {},
    };
    assert_eq!(restore(&as_it_is).unwrap().1, report);
    assert_eq!(prove(&from, tempfile::tempfile().unwrap(), 1 << 20, &|_| {}).unwrap().1, report);
    assert_eq!(offline::check(&other, 1 << 20, &Keyring::default()).unwrap(), report);
    world.go_on_in(other, 9);
}

/// Who takes a backup need not have the key of what is encrypted in it.
#[tokio::test]
async fn a_backup_is_proved_without_the_key() {
    let (mut world, lane) = furnished().await;
    let lost = world.publish(event("1")).await.id.delivery(lane);
    world.options.keyring = sealed::keys(&[1], &[]);
    world.restart();
    let whole = taken(&world.store).await.unwrap();
    let from = world.folder.path().join("backup");
    let proved = |backup: &[u8]| {
        std::fs::write(&from, backup).unwrap();
        prove(&from, tempfile::tempfile().unwrap(), 1 << 20, &|_| {})
    };
    let (summary, report) = proved(&whole).unwrap();
    assert_eq!((report.faults_total, summary.bytes), (0, whole.len() as u64), "{:?}", report.faults);
    let Err(RestoreError::Faults(report)) = world.restored(&whole, "other", None) else { panic!("no key is there") };
    assert!(report.faults.iter().all(|fault| matches!(fault, inspect::Fault::NoKey(..))), "{:?}", report.faults);

    let cut = proved(&whole[..whole.len() - 1]).unwrap_err();
    assert!(matches!(cut, RestoreError::Backup(_, ReadBackupError::CutShort(_))), "{cut}");
    {
        let database = world.store.shared.shown().unwrap();
        let transaction = database.begin_write().unwrap();
        let key = tables::pending_key(lane, (lost.event().accepted_at(), lost.event()));
        transaction.open_table(tables::PENDING).unwrap().remove(&key).unwrap();
        transaction.commit().unwrap();
    }
    let contradicting = taken(&world.store).await.unwrap();
    assert!(proved(&contradicting).unwrap().1.faults.contains(&inspect::Fault::Lost(lost)));
}

/// What waits is held after a restore until somebody says otherwise, over restarts and
/// crashes; what is published is accepted.
#[tokio::test]
async fn a_restored_store_holds_its_deliveries_until_it_is_told() {
    let (mut world, _) = furnished().await;
    let backup = taken(&world.store).await.unwrap();
    assert!(!world.store.resume("test").await.unwrap(), "nothing is held");
    let restored_at = world.clock.now() + HOUR;
    let folder = world.restored(&backup, "other", Some(restored_at)).unwrap();
    world.go_on_in(folder, 9);
    assert_eq!(world.store.held_since(), Some(restored_at));
    world.publish(event("1")).await;
    world.crash();
    world.restart();
    assert_eq!(world.store.held_since(), Some(restored_at));
    assert!(world.store.resume("ops").await.unwrap());
    assert!(!world.store.resume("ops").await.unwrap(), "once");
    while !matches!(world.notices.recv().await.unwrap(), Notice::Resumed) {}
    let entry = world.store.audit(None, 1).unwrap().rows.remove(0);
    assert_eq!((entry.actor.as_str(), entry.action.as_str()), ("ops", "deliveries.resume"));
    world.crash();
    assert_eq!(world.store.held_since(), None);
    check(&world.store);
}

/// Ids given between the backup and its restore were given again, where the clock
/// stood before them.
#[tokio::test]
async fn ids_are_not_given_again_after_a_restore() {
    let (mut world, _) = furnished().await;
    let backup = taken(&world.store).await.unwrap();
    let mut given = BTreeSet::new();
    for (seed, name) in ["one", "two", "three"].into_iter().enumerate() {
        for _ in 0..20 {
            assert!(given.insert(world.publish(event("1")).await.id), "{name}");
        }
        let folder = world.restored(&backup, name, None).unwrap();
        world.clock.set(Timestamp::from_millis(START) - HOUR);
        world.go_on_in(folder, seed as u8);
    }
}

/// A backup that nobody takes kept its snapshot, and with it every page, for ever.
#[tokio::test]
async fn a_backup_ends_when_nobody_takes_it_or_the_store_goes() {
    let (world, lane) = furnished().await;
    let large = format!("\"{}\"", "x".repeat(300 * 1024));
    for _ in 0..4 {
        world.publish(event(&large)).await;
    }
    let mut parts = world.store.backup().await.unwrap();
    assert!(matches!(world.store.backup().await, Err(WriteError::QueueFull)), "one at a time");
    assert!(parts.recv().await.unwrap().is_some());
    world.store.shared.put_database(None);
    let mut rest = Vec::new();
    while let Some(part) = parts.recv().await {
        rest.push(part);
    }
    assert!(rest.iter().all(Option::is_some), "it is not said to be whole");
    let again = loop {
        match world.store.backup().await {
            Ok(parts) => break parts,
            // Its turn ends with its thread.
            Err(WriteError::QueueFull) => tokio::task::yield_now().await,
            // The store is opened again, once in a second: the writer may have met the
            // file while the backup had it.
            Err(_) => world.pass(Duration::from_secs(1)),
        }
    };
    drop(again);
    loop {
        match world.store.backup().await {
            Ok(_) => break,
            Err(_) => tokio::task::yield_now().await,
        }
    }
    assert!(world.store.has_pending(lane).unwrap());
}

#[tokio::test]
async fn a_closed_store_is_backed_up_and_checked_too() {
    let (mut world, _) = furnished().await;
    let in_use = offline::check(&world.options.path, 1 << 20, &Keyring::default()).unwrap_err();
    assert!(matches!(in_use, OpenError::InUse(_)), "{in_use}");
    let totals = world.store.totals();
    world.store.close();
    assert!(world.writer.take().unwrap().join());
    let report = offline::check(&world.options.path, 1 << 20, &Keyring::default()).unwrap();
    assert_eq!((report.events, report.pending, report.faults_total), (totals.events, totals.pending, 0));
    let mut backup = Vec::new();
    offline::back_up(&world.options.path, 1 << 20, world.clock.now(), &mut backup).unwrap();
    verify(&backup[..]).unwrap();
    let nowhere = offline::check(&world.folder.path().join("nowhere"), 1 << 20, &Keyring::default()).unwrap_err();
    assert!(matches!(nowhere, OpenError::Missing(_)), "{nowhere}");
    let folder = world.restored(&backup, "other", None).unwrap();
    world.go_on_in(folder, 9);
    assert_eq!(world.store.totals().pending, totals.pending);
}
