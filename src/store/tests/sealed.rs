//! Secrets at rest: what the file holds of them, and how keys come, change and go.

use rand::SeedableRng;
use rand::rngs::StdRng;
use redb::TableHandle;
use zeroize::Zeroizing;

use super::*;
use crate::model::Authentication;
use crate::seal::{Key, Place};
use crate::store::simulated::{Change as Written, Disk, Files, Side, Stepped, apply, synced, torn};
use crate::store::tables::{CREATION, SUBSCRIPTION};
use crate::store::work::{Kind, Work};

const SIGNING: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const TOKEN: &str = "a-token-of-the-receiver";
const IN_URL: &str = "a-token-in-a-path";

fn key(byte: u8) -> Key {
    Key::new(Zeroizing::new([byte; 32]))
}

pub(super) fn keys(current: &[u8], previous: &[u8]) -> Arc<Keyring> {
    let current = current.first().map(|byte| key(*byte));
    Arc::new(Keyring::new(current, previous.iter().map(|byte| key(*byte)).collect()))
}

fn secretive() -> Settings {
    Settings {
        url: format!("https://receiver.example/{IN_URL}"),
        authentication: Authentication::Bearer { token: Secret::new(TOKEN.to_owned()) },
        ..settings()
    }
}

impl World {
    fn sealed(keyring: Arc<Keyring>) -> World {
        let mut world = World::new();
        world.options.keyring = keyring;
        world.restart();
        world
    }

    /// Restarts with other keys; whether that was refused, and why.
    fn restart_with(&mut self, keyring: Arc<Keyring>) -> Result<(), OpenError> {
        self.store.close();
        assert!(self.writer.take().is_none_or(WriterThread::join));
        self.options.keyring = keyring;
        let (store, writer, notices) = Store::open(self.options.clone(), self.clock.clone(), [8; 32])?;
        (self.store, self.writer, self.notices) = (store, Some(writer), notices);
        Ok(())
    }

    /// Whether these bytes stand anywhere in the file.
    fn holds(&self, text: &str) -> bool {
        let file = std::fs::read(self.options.path.join(FILE_NAME)).unwrap();
        file.windows(text.len()).any(|window| window == text.as_bytes())
    }

    fn token_of(&self, lane: Lane) -> String {
        match &self.store.registry().lane(lane).unwrap().settings.authentication {
            Authentication::Bearer { token } => token.expose().to_owned(),
            _ => panic!("it has a token"),
        }
    }

    async fn subscribe_by_key(&self, idempotency_key: &str) -> Lane {
        let change = Change::CreateSubscription {
            id: SubscriptionId::unique(),
            settings: Box::new(secretive()),
            secret: Some(Secret::new(SIGNING.to_owned())),
            status: Status::Enabled,
            idempotency: Some((idempotency_key.to_owned(), [7; 32])),
        };
        match self.store.change("test", change).await.unwrap() {
            Changed::Subscription { subscription, .. } => subscription.number,
            _ => panic!("a subscription was made"),
        }
    }
}

/// The digest of a request that had a password in it is a way to guess the password,
/// so it is no less a secret.
#[tokio::test]
async fn with_a_key_no_secret_is_in_the_file_and_without_one_all_are() {
    let digest = "07".repeat(32);
    for (keyring, is_seen) in [(keys(&[1], &[]), false), (keys(&[], &[]), true)] {
        let mut world = World::sealed(keyring);
        let lane = world.subscribe_by_key("first").await;
        let id = world.store.registry().lane(lane).unwrap().id;
        let (secret, overlap) = (Secret::new(SIGNING.replace("MfKQ", "Next")), HOUR);
        world.store.change("test", Change::RotateSecret { id, secret, overlap }).await.unwrap();
        world.restart();
        for text in [SIGNING, "whsec_Next", TOKEN, &digest] {
            assert_eq!(world.holds(text), is_seen, "{text}");
        }
        // What the audit log says of settings is what every read shows.
        assert!(world.holds(IN_URL));
        assert_eq!(world.token_of(lane), TOKEN);
        let made = world.store.created_by(DEFAULT_ORGANIZATION, "first").unwrap();
        assert_eq!(made, Some((id, [7; 32])), "a repetition is known");
        world.break_down().await;
        assert_eq!(world.token_of(lane), TOKEN, "an I/O error later");
    }
}

#[tokio::test]
async fn a_store_without_its_key_is_refused_and_the_key_named() {
    let mut world = World::sealed(keys(&[1], &[]));
    let lane = world.subscribe_by_key("first").await;
    for keyring in [keys(&[], &[]), keys(&[2], &[]), keys(&[2], &[3])] {
        let told = world.restart_with(keyring).expect_err("refused").to_string();
        assert!(told.contains(&key(1).id().to_string()), "{told}");
        assert!(told.contains("storage.encryption_key_file"), "{told}");
    }
    world.restart_with(keys(&[1], &[])).unwrap();
    assert_eq!(world.token_of(lane), TOKEN);
}

#[tokio::test]
async fn a_key_that_comes_encrypts_and_one_that_goes_decrypts() {
    let mut world = World::new();
    let lane = world.subscribe_by_key("first").await;
    world.restart_with(keys(&[1], &[])).unwrap();
    assert_eq!(world.rows_under(Some(key(1).id())), 2, "before anybody is served");
    assert!(world.restart_with(keys(&[], &[])).is_err());
    // Asked for in the configuration by `secrets_in_clear`.
    world.restart_with(keys(&[], &[1])).unwrap();
    assert_eq!(world.rows_under(None), 2);
    world.restart_with(keys(&[], &[])).unwrap();
    assert_eq!(world.token_of(lane), TOKEN);
}

#[tokio::test]
async fn keys_change_by_a_reload_and_the_earlier_is_let_go_when_nothing_needs_it() {
    let mut world = World::sealed(keys(&[1], &[]));
    let lane = world.subscribe_by_key("first").await;
    assert!(world.store.check_keys(&keys(&[2], &[])).is_err(), "the key in force must stay");
    assert!(world.store.check_keys(&keys(&[2], &[1])).is_ok());
    world.store.reconfigure(Options { keyring: keys(&[2], &[1]), ..world.options.clone() });
    world.settled_down().await;
    assert_eq!(world.rows_under(Some(key(2).id())), 2);
    assert!(world.store.check_keys(&keys(&[2], &[])).is_ok(), "now the earlier may go");
    assert!(world.store.check_keys(&keys(&[1], &[])).is_err());
    let second = world.subscribe_by_key("second").await;
    world.restart_with(keys(&[2], &[])).unwrap();
    assert_eq!((world.token_of(lane), world.token_of(second)), (TOKEN.to_owned(), TOKEN.to_owned()));
}

impl World {
    /// Rows sealed under this key; panics where there are others.
    fn rows_under(&self, id: Option<KeyId>) -> usize {
        let keyring = self.store.shared.keyring();
        assert_eq!(keyring.current(), id);
        let database = self.store.shared.shown().unwrap();
        let transaction = database.begin_read().unwrap();
        let mut values = Vec::new();
        for row in transaction.open_table(SUBSCRIPTION).unwrap().iter().unwrap() {
            values.push(row.unwrap().1.value().to_vec());
        }
        for row in transaction.open_table(CREATION).unwrap().iter().unwrap() {
            values.push(row.unwrap().1.value().to_vec());
        }
        assert!(values.iter().all(|value| keyring.is_current(value)));
        values.len()
    }
}

/// Who may write to the file must not have one subscription's credentials sent to
/// another's receiver.
#[tokio::test]
async fn a_row_that_was_moved_to_another_subscription_is_not_read() {
    let mut world = World::sealed(keys(&[1], &[]));
    let (victim, attacker) = (world.subscribe_by_key("first").await, world.subscribe_by_key("second").await);
    world.store.close();
    assert!(world.writer.take().unwrap().join());
    {
        let database = Database::open(world.options.path.join(FILE_NAME)).unwrap();
        let transaction = database.begin_write().unwrap();
        {
            let mut table = transaction.open_table(SUBSCRIPTION).unwrap();
            let stolen = table.get(victim.0).unwrap().unwrap().value().to_vec();
            table.insert(attacker.0, stolen.as_slice()).unwrap();
        }
        transaction.commit().unwrap();
    }
    world.restart_with(keys(&[1], &[])).unwrap();
    assert_eq!(world.token_of(victim), TOKEN);
    assert!(world.store.registry().lane(attacker).is_none(), "it is passed over");
}

fn rows(store: &Stepped, keyring: &Keyring) -> (usize, usize) {
    let database = store.store.shared.shown().unwrap();
    let transaction = database.begin_read().unwrap();
    let (mut all, mut current) = (0, 0);
    for row in transaction.open_table(CREATION).unwrap().iter().unwrap() {
        let (key, value) = row.unwrap();
        let place = Place { table: CREATION.name(), row: key.value() };
        assert_eq!(keyring.open(place, value.value()).unwrap().as_slice(), b"{}");
        all += 1;
        current += usize::from(keyring.is_current(value.value()));
    }
    (all, current)
}

/// A disk that holds more rows than one commit takes, sealed under the first key.
fn many_rows(count: usize) -> Disk {
    let disk = Disk::with(Files::default(), StdRng::seed_from_u64(7));
    let clock = Clock::manual(Timestamp::from_millis(START));
    let mut store = Stepped::open(&disk, options("/nowhere".into()), clock, [7; 32]).unwrap();
    {
        let database = store.store.shared.shown().unwrap();
        let transaction = database.begin_write().unwrap();
        {
            let mut table = transaction.open_table(CREATION).unwrap();
            for at in 0..count {
                // Of a day to come, which no retention takes.
                let row = (u64::MAX - at as u64).to_be_bytes();
                let place = Place { table: CREATION.name(), row: &row };
                let sealed = keys(&[1], &[]).seal(place, [at as u8; 24], b"{}").unwrap();
                table.insert(&row[..], sealed.as_slice()).unwrap();
            }
        }
        transaction.commit().unwrap();
    }
    store.close();
    disk
}

/// A second reload, while the first one's work is under way, must not take away what
/// opens the rows that are still to be written anew.
#[test]
fn a_key_cannot_be_let_go_before_all_rows_are_written_anew() {
    let disk = many_rows(BULK_ROWS_MAX + 1);
    let first = Options { keyring: keys(&[1], &[]), ..options("/nowhere".into()) };
    let clock = Clock::manual(Timestamp::from_millis(START));
    let mut store = Stepped::open(&disk, first.clone(), clock, [8; 32]).unwrap();
    store.store.reconfigure(Options { keyring: keys(&[2], &[1]), ..first });
    let encryption = |needs_previous| Encryption { key: Some(key(2).id()), needs_previous };
    let (rows_in_all, now) = (BULK_ROWS_MAX as u64 + 1, Timestamp::from_millis(START));
    for (done, percent) in [(0, 0), (BULK_ROWS_MAX as u64, 99)] {
        assert!(store.store.check_keys(&keys(&[2], &[])).is_err());
        store.turn();
        let (percent, done, total) = (Some(percent), Some(done), Some(rows_in_all));
        let change = Work { kind: Kind::KeyChange, since: now, percent, done, total };
        assert_eq!((store.store.under_way(), store.store.encryption()), (vec![change], encryption(true)));
    }
    let halfway = rows(&store, &keys(&[2], &[1]));
    assert_eq!(halfway, (BULK_ROWS_MAX + 1, BULK_ROWS_MAX), "a thousand rows a commit");
    assert!(store.store.check_keys(&keys(&[2], &[])).is_err());
    store.turn();
    assert!(store.store.check_keys(&keys(&[2], &[])).is_ok());
    assert_eq!((store.store.under_way(), store.store.encryption()), (Vec::new(), encryption(false)));
}

/// The power goes at every write of a rotation: what is there opens with both keys,
/// whole, and the next start ends what was begun.
#[test]
fn a_rotation_goes_on_after_any_power_cut() {
    let count = 2 * BULK_ROWS_MAX + 1;
    let disk = many_rows(count);
    let clock = Clock::manual(Timestamp::from_millis(START));
    let rotated = Options { keyring: keys(&[2], &[1]), ..options("/nowhere".into()) };
    let base = disk.files();
    disk.record();
    let store = Stepped::open(&disk, rotated.clone(), clock.clone(), [8; 32]).unwrap();
    assert_eq!(rows(&store, &rotated.keyring), (count, count));
    drop(store);
    let written = disk.take_recorded();
    let syncs = written.iter().filter(|change| matches!(change, Written::Sync(Side::Database))).count();
    assert!(syncs > 3, "{syncs} syncs are no rotation in steps");
    let (mut on_disk, mut unsynced): (Files, Vec<&Written>) = (base, Vec::new());
    let mut halfway = 0;
    for change in &written {
        let Written::Sync(side) = change else {
            unsynced.push(change);
            continue;
        };
        let mut image = on_disk.clone();
        for (nth, change) in unsynced.iter().enumerate() {
            match change {
                Written::Write(_, _, data) if nth + 1 == unsynced.len() => {
                    apply(&mut image, &torn(change, data.len() / 2))
                }
                change => apply(&mut image, change),
            }
        }
        for image in [on_disk.clone(), image] {
            let cut = Disk::with(image, StdRng::seed_from_u64(7));
            let looked_at = Options { keyring: keys(&[1], &[2]), ..rotated.clone() };
            let copy = Disk::with(cut.files(), StdRng::seed_from_u64(7));
            copy.record();
            let store = Stepped::open(&copy, looked_at.clone(), clock.clone(), [9; 32]).unwrap();
            assert_eq!(rows(&store, &looked_at.keyring), (count, count), "and back again");
            let was_back = copy.take_recorded().iter().filter(|it| matches!(it, Written::Sync(Side::Database))).count();
            halfway += usize::from(was_back > 3);
            let store = Stepped::open(&cut, rotated.clone(), clock.clone(), [9; 32]).unwrap();
            assert_eq!(rows(&store, &rotated.keyring), (count, count));
            store.check();
        }
        synced(&mut unsynced, *side).for_each(|change| apply(&mut on_disk, change));
    }
    assert!(halfway > 0, "no image was in the middle");
}
