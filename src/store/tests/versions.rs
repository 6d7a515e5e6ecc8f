//! Files that earlier versions wrote, kept in `tests/data`: **what was written once
//! is read by every later program.**

use super::*;

/// The file of schema version 1.
const FIRST: &[u8] = include_bytes!("../../../tests/data/store-v1.redb");
/// The files of schema version 2, as a crash left them: an event is in the log alone.
const SECOND: [&[u8]; 2] =
    [include_bytes!("../../../tests/data/store-v2.redb"), include_bytes!("../../../tests/data/store-v2.wal")];

/// Puts into a store what the file of a version holds.
pub(super) async fn furnish(world: &mut World) -> Lane {
    world.store.change("test", put_organization("acme", Some(1 << 30), false)).await.unwrap();
    let lane = world.subscribe(settings()).await.number;
    let keyed = NewEvent { idempotency_key: Some("key".to_owned()), ..event(r#"{"a": 1.0}"#) };
    let (first, second) = (world.publish(keyed).await, world.publish(event("2")).await);
    let third = world.publish(event("3")).await;
    let retry = Settlement::Retry(world.clock.now() + HOUR);
    world.settle(lane, head(&first), retry).await.unwrap();
    world.settle(lane, head(&second), Settlement::Delivered).await;
    world.settle(lane, head(&third), Settlement::Failed).await;
    world.store.reopen("test", third.id.delivery(lane)).await.unwrap();
    lane
}

/// Run by hand where a new schema version is made: `cargo test --lib writes_the_file -- --ignored`
#[tokio::test]
#[ignore = "writes the files of this version"]
async fn writes_the_file_of_this_version() {
    let mut world = World::new();
    furnish(&mut world).await;
    world.store.close();
    assert!(world.writer.take().unwrap().join());
    let file = world.options.path.join(FILE_NAME);
    Database::open(&file).unwrap().compact().unwrap();
    let compacted = std::fs::read(&file).unwrap();
    take_up(&mut world, &compacted, &[]);
    world.publish(NewEvent { idempotency_key: Some("logged".to_owned()), ..event("4") }).await;
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/store-v{SCHEMA_VERSION}.redb"));
    let mut log = std::fs::read(wal::path_of(&file)).unwrap();
    log.truncate(log.iter().rposition(|byte| *byte != 0).unwrap() + 1);
    std::fs::write(wal::path_of(&kept), log).unwrap();
    std::fs::copy(file, kept).unwrap();
}

/// A newer program's file is named as such by whatever meets it, and stays as it is.
#[tokio::test]
async fn a_newer_file_is_refused_and_not_touched() {
    let mut world = World::new();
    furnish(&mut world).await;
    world.store.close();
    assert!(world.writer.take().unwrap().join());
    let file = world.options.path.join(FILE_NAME);
    {
        let database = Database::open(&file).unwrap();
        let transaction = database.begin_write().unwrap();
        let newer = (SCHEMA_VERSION + 1).to_be_bytes();
        transaction.open_table(tables::META).unwrap().insert("schema_version", &newer[..]).unwrap();
        transaction.commit().unwrap();
    }
    let before = std::fs::read(&file).unwrap();
    let told = format!("version {}, this program knows up to {SCHEMA_VERSION}", SCHEMA_VERSION + 1);
    let opened = Store::open(world.options.clone(), world.clock.clone(), [8; 32]).err();
    let checked = crate::store::offline::check(&world.options.path, 1 << 20, &crate::seal::Keyring::default()).err();
    for error in [opened, checked] {
        let error = error.unwrap();
        assert!(error.needs_people() && error.to_string().contains(&told), "{error}");
        assert!(std::fs::read(&file).unwrap() == before, "it was written to");
    }
}

#[tokio::test]
async fn the_first_version_is_read() {
    let mut world = World::new();
    take_up(&mut world, FIRST, &[]);
    assert_eq!(world.store.totals().accepted, 3);
    assert_furnished(&mut world).await;
}

#[tokio::test]
async fn the_second_version_is_read_with_its_log() {
    let mut world = World::new();
    take_up(&mut world, SECOND[0], SECOND[1]);
    assert_eq!(world.store.totals().accepted, 4);
    let again = NewEvent { idempotency_key: Some("logged".to_owned()), ..event("4") };
    let logged = world.publish(again).await;
    assert!(logged.duplicate);
    assert_eq!(world.store.stats(Lane(1)).pending, 3);
    world.settle(Lane(1), head(&logged), Settlement::Delivered).await;
    world.store.close();
    assert!(world.writer.take().unwrap().join());
    // Without its log it lacks what that has, and nothing else.
    take_up(&mut world, SECOND[0], &[]);
    assert_eq!(world.store.totals().accepted, 3);
    assert_furnished(&mut world).await;
}

/// Goes on with these files in place of the store's own.
fn take_up(world: &mut World, database: &[u8], log: &[u8]) {
    world.store.close();
    if let Some(writer) = world.writer.take() {
        assert!(writer.join());
    }
    let file = world.options.path.join(FILE_NAME);
    std::fs::write(&file, database).unwrap();
    std::fs::write(wal::path_of(&file), log).unwrap();
    let (store, writer, notices) = Store::open(world.options.clone(), world.clock.clone(), [8; 32]).unwrap();
    (world.store, world.writer, world.notices) = (store, Some(writer), notices);
    check(&world.store);
}

/// Everything is there that [`furnish`] puts into a store.
async fn assert_furnished(world: &mut World) {
    assert_eq!(world.store.registry().organization("acme").unwrap().bytes_max, Some(1 << 30));
    let lane = Lane(1);
    assert_eq!(world.store.registry().lane(lane).unwrap().settings.url, settings().url);
    let again = NewEvent { idempotency_key: Some("key".to_owned()), ..event(r#"{"a": 1.0}"#) };
    let first = world.publish(again).await;
    assert!(first.duplicate);
    let event = world.store.plain_event(first.id).unwrap().unwrap();
    assert_eq!(event.data.as_bytes(), br#"{"a": 1.0}"#);
    let (delivery, _, attempts) = world.store.delivery(first.id.delivery(lane)).unwrap().unwrap();
    assert_eq!((delivery.state, attempts.len()), (DeliveryState::Pending, 1));
    let stats = world.store.stats(lane);
    assert_eq!((stats.odometer, stats.attempts, stats.pending), (3, 3, 2));
    let totals = world.store.totals();
    assert_eq!((totals.delivered, totals.failed), (1, 1));
    let (entries, next) = {
        let page = world.store.audit(None, 10).unwrap();
        (page.rows.len(), page.next)
    };
    assert_eq!((entries, next), (3, None));
}
