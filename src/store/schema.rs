//! The store's version, and how an older one becomes the current one.
//!
//! A file of a newer version is refused: an older program would misread it. A
//! migration runs in one transaction with the version it leads to, so that a
//! crash in the middle leaves the file as it was.

use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use crate::id::EventId;
use crate::time::Timestamp;

use super::tables::*;
use super::wal::Wal;
use super::{OpenError, StoreError};

/// The version that this program writes.
pub const SCHEMA_VERSION: u32 = 2;

const VERSION_KEY: &str = "schema_version";
const CLEAN_KEY: &str = "closed_cleanly";
const NEXT_LANE_KEY: &str = "next_lane";
const PLACE_KEY: &str = "place";
const HELD_KEY: &str = "held_since_restore";
const IDS_AFTER_KEY: &str = "ids_after";
/// In [`COUNT`], of which such a commit writes a page anyway.
const GENERATION_KEY: &str = "generation";

/// One step up: from the version that is its place in the list, counted from 1.
type Migration = fn(&WriteTransaction) -> Result<(), StoreError>;

/// Every step there ever was. The first version needs none.
const MIGRATIONS: [Migration; SCHEMA_VERSION as usize - 1] = [
    // The second has a log beside it, which who knows the first alone would not look at.
    |_| Ok(()),
];

/// Makes a new store, or brings an old one up to date, with what its log holds. Answers
/// whether it was closed cleanly, and marks it as open.
pub(super) fn prepare(database: &Database, wal: &mut Wal, salt: u64) -> Result<bool, OpenError> {
    let found = look(&database.begin_read().map_err(StoreError::from)?)?.version;
    if found > SCHEMA_VERSION {
        return Err(OpenError::Newer { found, known: SCHEMA_VERSION });
    }
    let was_behind = wal.replay(database)?;
    let mut transaction = begin(database)?;
    transaction.set_quick_repair(true);
    for migration in MIGRATIONS.iter().skip((found as usize).saturating_sub(1)) {
        migration(&transaction)?;
    }
    let was_clean = {
        let mut meta = transaction.open_table(META).map_err(StoreError::from)?;
        meta.insert(VERSION_KEY, &SCHEMA_VERSION.to_be_bytes()[..]).map_err(StoreError::from)?;
        let was_clean = meta.insert(CLEAN_KEY, &[0][..]).map_err(StoreError::from)?;
        was_clean.is_none_or(|flag| flag.value() == [1])
    };
    create_tables(&transaction)?;
    count_from(&transaction, salt)?;
    let generation = next_generation(&transaction)?;
    transaction.commit().map_err(StoreError::from)?;
    wal.begin(generation);
    Ok(was_clean && !was_behind)
}

/// What a file says about itself.
pub(super) struct Found {
    /// Its version; 0: it is new.
    pub(super) version: u32,
    /// Whether it was closed cleanly, or never open.
    pub(super) was_closed: bool,
}

/// Reads it, and changes nothing.
pub(super) fn look(transaction: &ReadTransaction) -> Result<Found, StoreError> {
    let meta = match transaction.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Found { version: 0, was_closed: true }),
        Err(error) => return Err(error.into()),
    };
    let version = number(&meta, VERSION_KEY)?.unwrap_or(0) as u32;
    Ok(Found { version, was_closed: number(&meta, CLEAN_KEY)?.is_none_or(|flag| flag == 1) })
}

/// Opens a write transaction whose commit is synced, where nothing else is said of it.
///
/// redb's quick repair saves the walk through the file after a crash, but only where the
/// last synced commit had it. So in a large store each has to (see `writer/rest.rs`), and
/// where it is not known how large one is: it is for whoever commits to say.
pub(super) fn begin(database: &Database) -> Result<WriteTransaction, StoreError> {
    let mut transaction = database.begin_write()?;
    set_synced(&mut transaction, true)?;
    Ok(transaction)
}

/// Says whether a transaction's commit is synced, or made in memory alone.
pub(super) fn set_synced(transaction: &mut WriteTransaction, is_synced: bool) -> Result<(), StoreError> {
    let durability = if is_synced { redb::Durability::Immediate } else { redb::Durability::None };
    transaction.set_durability(durability).map_err(|_| StoreError::Record("cannot be synced"))
}

/// So that readers never meet a table that is not there.
fn create_tables(transaction: &WriteTransaction) -> Result<(), StoreError> {
    struct Create<'a>(&'a WriteTransaction);
    impl Visitor for Create<'_> {
        type Error = StoreError;

        fn visit<K: redb::Key + 'static, V: redb::Value + 'static>(
            &mut self,
            table: TableDefinition<'static, K, V>,
        ) -> Result<(), StoreError> {
            self.0.open_table(table)?;
            Ok(())
        }
    }
    each(&mut Create(transaction))
}

fn number(meta: &impl ReadableTable<&'static str, &'static [u8]>, key: &str) -> Result<Option<u64>, StoreError> {
    let Some(row) = meta.get(key)? else { return Ok(None) };
    Ok(Some(row.value().iter().fold(0, |number, byte| number << 8 | u64::from(*byte))))
}

/// The generation of the log that belongs to the database; none: it never had one.
pub(super) fn generation(database: &Database) -> Result<Option<u64>, StoreError> {
    match database.begin_read()?.open_table(COUNT) {
        Ok(count) => number(&count, GENERATION_KEY),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Counts a commit that is synced. **Each of ours has to, once there is a log**: a record of
/// what it took in must not be applied again to what follows.
pub(super) fn next_generation(transaction: &WriteTransaction) -> Result<u64, StoreError> {
    let mut count = transaction.open_table(COUNT)?;
    let next = number(&count, GENERATION_KEY)?.unwrap_or(0).wrapping_add(1);
    count.insert(GENERATION_KEY, &next.to_be_bytes()[..])?;
    Ok(next)
}

/// Begins to count anew, at `salt`, which nobody can guess: so a receiver cannot answer with
/// what would be taken for a record, and no record of another store is taken for one of this,
/// or of this store's own past, where an earlier file of it was brought back.
fn count_from(transaction: &WriteTransaction, salt: u64) -> Result<(), StoreError> {
    transaction.open_table(COUNT)?.insert(GENERATION_KEY, &salt.to_be_bytes()[..])?;
    Ok(())
}

/// The number of the next subscription. Never given out twice, because lanes of
/// ended subscriptions live on in retained events.
pub(super) fn take_lane(transaction: &WriteTransaction) -> Result<u32, StoreError> {
    let mut meta = transaction.open_table(META)?;
    let lane = number(&meta, NEXT_LANE_KEY)?.unwrap_or(1) as u32;
    let next = lane.checked_add(1).ok_or(StoreError::Record("has no subscription numbers left"))?;
    meta.insert(NEXT_LANE_KEY, &next.to_be_bytes()[..])?;
    Ok(lane)
}

/// Notes the id that was taken for the place of what was opened again last.
pub(super) fn put_place(transaction: &WriteTransaction, id: EventId) -> Result<(), StoreError> {
    put_cursor(transaction, PLACE_KEY, id.to_key())
}

/// Marks the store as closed cleanly: its counters need no recount.
pub(super) fn mark_clean(transaction: &WriteTransaction) -> Result<(), StoreError> {
    transaction.open_table(META)?.insert(CLEAN_KEY, &[1][..])?;
    Ok(())
}

/// Takes that back.
pub(super) fn mark_open(transaction: &WriteTransaction) -> Result<(), StoreError> {
    transaction.open_table(META)?.insert(CLEAN_KEY, &[0][..])?;
    Ok(())
}

/// When the store was restored from a backup, while its deliveries are held since.
pub(super) fn held_since(transaction: &ReadTransaction) -> Result<Option<Timestamp>, StoreError> {
    Ok(number(&transaction.open_table(META)?, HELD_KEY)?.map(Timestamp::from_millis))
}

/// Holds all deliveries from the next start on, or lets them go.
pub(super) fn set_held(transaction: &WriteTransaction, since: Option<Timestamp>) -> Result<(), StoreError> {
    let mut meta = transaction.open_table(META)?;
    match since {
        Some(since) => meta.insert(HELD_KEY, &since.as_millis().to_be_bytes()[..])?,
        None => meta.remove(HELD_KEY)?,
    };
    Ok(())
}

/// What a restored store begins with. Ids go on after all that can have been given
/// when its backup was taken.
pub(super) fn begin_anew(
    transaction: &WriteTransaction,
    taken_at: Timestamp,
    held_since: Option<Timestamp>,
) -> Result<(), StoreError> {
    let of_event = transaction.open_table(EVENT)?.last()?.map(|(key, _)| *key.value());
    let newest = of_event.max(cursor(transaction, PLACE_KEY)?).map(EventId::from_key);
    let given_until = newest.map_or(taken_at, |newest| newest.accepted_at().max(taken_at));
    put_cursor(transaction, IDS_AFTER_KEY, EventId::last_at(given_until).to_key())?;
    // The log of the store that it was is not this one's.
    transaction.open_table(COUNT)?.remove(GENERATION_KEY)?;
    set_held(transaction, held_since)
}

/// The newest id that was given out, as far as the store knows: to an event that is
/// still there, for a place, or before a restore.
pub(super) fn newest_id(transaction: &ReadTransaction) -> Result<Option<EventId>, StoreError> {
    let mut newest = transaction.open_table(EVENT)?.last()?.map(|(key, _)| *key.value());
    let meta = transaction.open_table(META)?;
    for key in [PLACE_KEY, IDS_AFTER_KEY] {
        newest = newest.max(meta.get(key)?.and_then(|row| row.value().try_into().ok()));
    }
    Ok(newest.map(EventId::from_key))
}

/// A cursor that purging left off at.
pub(super) fn cursor(transaction: &WriteTransaction, name: &str) -> Result<Option<[u8; 12]>, StoreError> {
    let meta = transaction.open_table(META)?;
    let row = meta.get(name)?;
    Ok(row.and_then(|row| row.value().try_into().ok()))
}

/// Moves a cursor.
pub(super) fn put_cursor(transaction: &WriteTransaction, name: &str, at: [u8; 12]) -> Result<(), StoreError> {
    transaction.open_table(META)?.insert(name, &at[..])?;
    Ok(())
}

/// Moves a cursor, or forgets it.
pub(super) fn set_cursor(transaction: &WriteTransaction, name: &str, at: Option<[u8; 12]>) -> Result<(), StoreError> {
    match at {
        Some(at) => put_cursor(transaction, name, at),
        None => {
            transaction.open_table(META)?.remove(name)?;
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redb::backends::InMemoryBackend;

    #[test]
    fn a_newer_store_is_refused_and_left_alone() {
        let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        assert!(prepare(&database, &mut Wal::none(), 7).unwrap(), "a new store counts as clean");
        assert!(!prepare(&database, &mut Wal::none(), 7).unwrap(), "it was not closed");
        let transaction = database.begin_write().unwrap();
        transaction.open_table(META).unwrap().insert(VERSION_KEY, &(SCHEMA_VERSION + 1).to_be_bytes()[..]).unwrap();
        transaction.commit().unwrap();
        let refusal = prepare(&database, &mut Wal::none(), 7);
        assert!(matches!(refusal, Err(OpenError::Newer { found, .. }) if found == SCHEMA_VERSION + 1));
    }

    #[test]
    fn lanes_are_never_given_out_twice() {
        let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        prepare(&database, &mut Wal::none(), 7).unwrap();
        for expected in 1..4 {
            let transaction = database.begin_write().unwrap();
            assert_eq!(take_lane(&transaction).unwrap(), expected);
            transaction.commit().unwrap();
        }
    }
}
