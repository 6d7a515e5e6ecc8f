//! The write-ahead log: what was answered, and is not yet in the database's file.
//!
//! A commit of the database is a dozen pages and more, and everybody who publishes would
//! wait for them. So what an everyday commit changes is written here, in one piece, and
//! synced, and then it is made in the database's memory alone. **A commit that the database
//! syncs takes in all before it**: that is done every few seconds, where the log is full, and
//! for whatever is no everyday commit. It counts on the *generation*, and with that
//! everything written here before is void. (redb syncs by itself too, where it compacts a
//! file or closes it. That counts nothing on, and adds nothing that is not here.)
//!
//! After a crash the records of the database's own generation are applied again, in their
//! order, before anybody reads. It may have some of them, where it was closed after a fault:
//! a record says what rows are, not by how much they change.
//!
//! ```text
//! the file is records, each from the beginning of a block:
//!   "phwal001"
//!   generation u64
//!   index u64       of the record in its generation, from 0
//!   bytes u64       of the changes
//!   sum [16]        SHA-256, cut, of all of these and of the changes
//!   changes, each   table u8, key bytes u32, key, value bytes + 1 as u32 (0: it goes), value
//! ```
//!
//! Numbers are big endian. Blocks are those of file systems: what was answered is never
//! written over by what comes next, not even with the same bytes. **What rows mean is not
//! known here.**

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Database, StorageBackend, WriteTransaction};
use sha2::{Digest, Sha256};

use crate::limits::{WAL_BYTES_MAX, WAL_GROWTH_BYTES, WAL_RECORD_BYTES_MAX, WAL_RESTS_FOR_COMMITS};

use super::tables::{ATTEMPT, COUNT, EVENT, IDEMPOTENCY, OUTCOME, PENDING};
use super::{OpenError, StoreError, schema};

const MAGIC: [u8; 8] = *b"phwal001";
const HEADER_BYTES: usize = 48;
const SUM_AT: usize = 32;
const BLOCK_BYTES: usize = 4096;

/// Most commits take no more: one allocation is enough for them.
const COMMIT_BYTES_EXPECTED: usize = 32 << 10;

/// The log of the database in `file`.
pub(super) fn path_of(file: &Path) -> PathBuf {
    file.with_extension("wal")
}

/// Puts aside the log of a store that was in `file` before the one that is: whoever brings
/// it back needs both.
pub(super) fn put_aside(file: &Path) -> io::Result<()> {
    let log = path_of(file);
    match std::fs::metadata(&log) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(found) if found.len() == 0 => Ok(()),
        Err(error) => Err(error),
        Ok(_) => {
            let mut aside = log.with_extension("wal.earlier");
            for number in 2_u32.. {
                if !aside.try_exists()? {
                    break;
                }
                aside = log.with_extension(format!("wal.earlier-{number}"));
            }
            std::fs::rename(&log, aside)
        }
    }
}

/// A table that everyday commits write to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Logged {
    Event = 1,
    Pending = 2,
    Outcome = 3,
    Attempt = 4,
    Idempotency = 5,
    Count = 6,
}

/// What a commit changes, as it is written.
pub(super) struct Record {
    bytes: Vec<u8>,
}

impl Record {
    pub(super) fn new() -> Record {
        let mut bytes = Vec::with_capacity(COMMIT_BYTES_EXPECTED);
        bytes.resize(HEADER_BYTES, 0);
        Record { bytes }
    }

    /// A row is there from now on, instead of what had its key; none: there is none.
    pub(super) fn set(&mut self, table: Logged, key: &[u8], value: Option<&[u8]>) {
        self.bytes.push(table as u8);
        self.bytes.extend((key.len() as u32).to_be_bytes());
        self.bytes.extend(key);
        self.bytes.extend(value.map_or(0, |value| value.len() as u32 + 1).to_be_bytes());
        self.bytes.extend(value.unwrap_or_default());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.len() == HEADER_BYTES
    }

    /// Whether it is more than is written twice: the database itself is synced then.
    pub(super) fn is_too_large(&self) -> bool {
        self.bytes.len() > WAL_RECORD_BYTES_MAX
    }

    fn padded_bytes(&self) -> usize {
        self.bytes.len().next_multiple_of(BLOCK_BYTES)
    }
}

fn sum(head: &[u8], changes: &[u8]) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update(head);
    hash.update(changes);
    let mut sum = [0; 16];
    sum.copy_from_slice(&hash.finalize()[..16]);
    sum
}

/// See the file's beginning.
pub(super) struct Wal {
    /// None: there is no log, and every commit is the database's own.
    file: Option<Box<dyn StorageBackend>>,
    generation: u64,
    /// Of the next record.
    index: u64,
    /// Where the next record begins.
    at: u64,
    /// How much of the file is there.
    length: u64,
    bytes_max: u64,
    /// For so many generations nothing is written, because a write failed: what is behind
    /// it would not be found, and the next may fail too.
    resting: u32,
}

impl Wal {
    /// No log.
    pub(super) fn none() -> Wal {
        Wal { file: None, generation: 0, index: 0, at: 0, length: 0, bytes_max: 0, resting: 0 }
    }

    /// The log in `file`, which may take up to `bytes_max`. To be replayed before it is
    /// written to.
    pub(super) fn of(file: Box<dyn StorageBackend>, bytes_max: u64) -> Wal {
        Wal { file: Some(file), bytes_max: bytes_max.min(WAL_BYTES_MAX), ..Wal::none() }
    }

    /// Opens the log at `path`, or makes it.
    pub(super) fn open(path: &Path, bytes_max: u64) -> Result<Wal, OpenError> {
        let failed = |error: io::Error| OpenError::of(path, redb::DatabaseError::Storage(error.into()));
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let file = file.map_err(failed)?;
        if let Some(folder) = path.parent() {
            // A power cut must not take the name, and with it what was answered.
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        }
        let file = FileBackend::new(file).map_err(|error| OpenError::of(path, error))?;
        Ok(Wal::of(Box::new(file), bytes_max))
    }

    /// Whether all that was committed is in the database's file.
    pub(super) fn is_empty(&self) -> bool {
        self.at == 0
    }

    pub(super) fn has_room(&self, record: &Record) -> bool {
        self.file.is_some() && self.resting == 0 && self.at + record.padded_bytes() as u64 <= self.bytes_max
    }

    /// Writes what a commit changes, synced. Where that fails, the log rests.
    pub(super) fn append(&mut self, record: Record) -> io::Result<()> {
        let Some(file) = &self.file else { return Err(io::ErrorKind::Unsupported.into()) };
        let padded_bytes = record.padded_bytes();
        let mut bytes = record.bytes;
        let changes_bytes = (bytes.len() - HEADER_BYTES) as u64;
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&self.generation.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.index.to_be_bytes());
        bytes[24..SUM_AT].copy_from_slice(&changes_bytes.to_be_bytes());
        let sum = sum(&bytes[..SUM_AT], &bytes[HEADER_BYTES..]);
        bytes[SUM_AT..HEADER_BYTES].copy_from_slice(&sum);
        bytes.resize(padded_bytes, 0);
        let end = self.at + padded_bytes as u64;
        self.resting = WAL_RESTS_FOR_COMMITS;
        // Ahead of what is needed: where a file grows, the file system has more to sync.
        while self.length < end || !self.length.is_multiple_of(WAL_GROWTH_BYTES) && self.length < self.bytes_max {
            // By blocks, because Linux counts what was once written in one piece as
            // written whenever a part of it is.
            file.write(self.length, &[0; BLOCK_BYTES])?;
            self.length += BLOCK_BYTES as u64;
        }
        file.write(self.at, &bytes)?;
        file.sync_data()?;
        self.resting = 0;
        self.at = end;
        self.index += 1;
        Ok(())
    }

    /// The database was synced, and with that begins this generation: all that was
    /// written before is void.
    pub(super) fn begin(&mut self, generation: u64) {
        (self.generation, self.index, self.at) = (generation, 0, 0);
        self.resting = self.resting.saturating_sub(1);
    }

    /// Applies what the database lacks, and empties the log. Answers whether there was
    /// anything.
    pub(super) fn replay(&mut self, database: &Database) -> Result<bool, StoreError> {
        let Some(file) = &self.file else { return Ok(false) };
        let Some(generation) = schema::generation(database)? else { return Ok(false) };
        let bytes = read(file.as_ref())?;
        let records = records(&bytes, generation)?;
        self.begin(generation);
        if !records.is_empty() {
            let mut transaction = schema::begin(database)?;
            transaction.set_quick_repair(true);
            for changes in &records {
                apply(&transaction, changes)?;
            }
            let generation = schema::next_generation(&transaction)?;
            transaction.commit()?;
            self.begin(generation);
        }
        self.clear();
        Ok(!records.is_empty())
    }

    /// Gives the file's bytes back, once they are void.
    pub(super) fn clear(&mut self) {
        let Some(file) = &self.file else { return };
        let cleared = file.len().and_then(|length| match length {
            0 => Ok(()),
            _ => file.set_len(0).and_then(|()| file.sync_data()),
        });
        match cleared {
            Ok(()) => self.length = 0,
            Err(error) => tracing::warn!(%error, "the write-ahead log cannot be emptied; nothing in it is needed"),
        }
    }
}

fn failed(error: io::Error) -> StoreError {
    StoreError::Database(Box::new(redb::Error::Io(error)))
}

fn read(file: &dyn StorageBackend) -> Result<Vec<u8>, StoreError> {
    let length = file.len().map_err(failed)?.min(WAL_BYTES_MAX);
    let mut bytes = vec![0; length as usize];
    file.read(0, &mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// The changes of every record of a generation, in order. The last one ends where a write
/// was cut off, or was never made.
///
/// # Errors
/// Where another one lies behind that: each was synced before the next was written, so
/// what is broken was whole.
fn records(bytes: &[u8], generation: u64) -> Result<Vec<&[u8]>, StoreError> {
    let (mut records, mut at) = (Vec::new(), 0);
    while let Some(changes) = record(bytes, at, |it| it == (generation, records.len() as u64)) {
        records.push(changes);
        at += (HEADER_BYTES + changes.len()).next_multiple_of(BLOCK_BYTES);
    }
    // A whole one of another generation took the place of what was there.
    if record(bytes, at, |_| true).is_some() {
        return Ok(records);
    }
    let is_later = |(of, index)| of == generation && index > records.len() as u64;
    let lies_behind = |at: &usize| record(bytes, *at, is_later).is_some();
    match (at..bytes.len()).step_by(BLOCK_BYTES).find(lies_behind) {
        Some(_) => Err(StoreError::Log),
        None => Ok(records),
    }
}

/// The changes of the record that begins there, if a whole one does whose generation and
/// index are looked for.
fn record(bytes: &[u8], at: usize, is_looked_for: impl Fn((u64, u64)) -> bool) -> Option<&[u8]> {
    let number = |from: usize| Some(u64::from_be_bytes(bytes.get(at + from..at + from + 8)?.try_into().ok()?));
    if bytes.get(at..at + 8)? != MAGIC || !is_looked_for((number(8)?, number(16)?)) {
        return None;
    }
    let from = at + HEADER_BYTES;
    let changes = bytes.get(from..from.checked_add(usize::try_from(number(24)?).ok()?)?)?;
    (bytes.get(at + SUM_AT..from)? == sum(&bytes[at..at + SUM_AT], changes)).then_some(changes)
}

/// Makes a record's changes again.
fn apply(transaction: &WriteTransaction, mut changes: &[u8]) -> Result<(), StoreError> {
    let mut event = transaction.open_table(EVENT)?;
    let mut pending = transaction.open_table(PENDING)?;
    let mut outcome = transaction.open_table(OUTCOME)?;
    let mut attempt = transaction.open_table(ATTEMPT)?;
    let mut idempotency = transaction.open_table(IDEMPOTENCY)?;
    let mut count = transaction.open_table(COUNT)?;
    // A row is set, or goes; what was there before is of no interest.
    macro_rules! set {
        ($table:ident, $key:expr, $value:expr) => {
            match $value {
                Some(value) => drop($table.insert($key, value)?),
                None => drop($table.remove($key)?),
            }
        };
    }
    while !changes.is_empty() {
        let (table, key, value) = change(&mut changes).ok_or(StoreError::Log)?;
        match table {
            table if table == Logged::Event as u8 => set!(event, fixed::<12>(key)?, value),
            table if table == Logged::Pending as u8 => set!(pending, fixed::<24>(key)?, value),
            table if table == Logged::Outcome as u8 => set!(outcome, fixed::<16>(key)?, value),
            table if table == Logged::Attempt as u8 => set!(attempt, fixed::<20>(key)?, value),
            table if table == Logged::Idempotency as u8 => set!(idempotency, key, value),
            table if table == Logged::Count as u8 => {
                set!(count, std::str::from_utf8(key).map_err(|_| StoreError::Log)?, value)
            }
            _ => return Err(StoreError::Log),
        }
    }
    Ok(())
}

fn fixed<const N: usize>(key: &[u8]) -> Result<&[u8; N], StoreError> {
    key.try_into().map_err(|_| StoreError::Log)
}

/// A change: table, key, value; none: the row goes.
type Change<'a> = (u8, &'a [u8], Option<&'a [u8]>);

/// Takes the next of them.
fn change<'a>(changes: &mut &'a [u8]) -> Option<Change<'a>> {
    let table = *changes.split_off_first()?;
    let key_bytes = u32::from_be_bytes(changes.split_off(..4)?.try_into().ok()?);
    let key = changes.split_off(..key_bytes as usize)?;
    let value_bytes = u32::from_be_bytes(changes.split_off(..4)?.try_into().ok()?);
    let value = match value_bytes.checked_sub(1) {
        Some(bytes) => Some(changes.split_off(..bytes as usize)?),
        None => None,
    };
    Some((table, key, value))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use redb::backends::InMemoryBackend;
    use redb::{ReadableDatabase, ReadableTable};

    use super::*;
    use crate::store::simulated::{Disk, Faults, Files, Side};

    fn disk_with(log: &[u8]) -> Disk {
        Disk::with(Files { database: Vec::new(), log: log.to_vec() }, StdRng::seed_from_u64(7))
    }

    fn wal(disk: &Disk, bytes_max: u64) -> Wal {
        Wal::of(Box::new(disk.backend(Side::Log)), bytes_max)
    }

    fn database() -> Database {
        let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        schema::prepare(&database, &mut Wal::none(), 0).unwrap();
        database
    }

    /// The keys and values of what counts there are, but for the generation.
    fn rows(database: &Database) -> Vec<(String, Vec<u8>)> {
        let table = database.begin_read().unwrap().open_table(COUNT).unwrap();
        let rows = table.iter().unwrap().map(Result::unwrap);
        let rows = rows.map(|(key, value)| (key.value().to_owned(), value.value().to_owned()));
        rows.filter(|(key, _)| key != "generation").collect()
    }

    fn setting(key: &str, value: &[u8]) -> Record {
        let mut record = Record::new();
        record.set(Logged::Count, key.as_bytes(), Some(value));
        record
    }

    /// A log of two records for the generation of [`database`], and where the second begins.
    fn two_records() -> (Vec<u8>, usize) {
        let disk = disk_with(&[]);
        let mut wal = wal(&disk, WAL_BYTES_MAX);
        wal.begin(1);
        wal.append(setting("a", &[1; 5000])).unwrap();
        let second = wal.at as usize;
        let mut record = setting("b", b"2");
        record.set(Logged::Count, b"b", None);
        record.set(Logged::Count, b"c", Some(b""));
        record.set(Logged::Count, b"d", Some(b"3"));
        wal.append(record).unwrap();
        let mut log = disk.files().log;
        log.truncate(wal.at as usize);
        (log, second)
    }

    #[test]
    fn every_table_is_written_as_it_was() {
        let disk = disk_with(&[]);
        let mut before = wal(&disk, WAL_BYTES_MAX);
        before.begin(1);
        let mut record = Record::new();
        record.set(Logged::Event, &[1; 12], Some(b"event"));
        record.set(Logged::Pending, &[2; 24], Some(b"pending"));
        record.set(Logged::Outcome, &[3; 16], Some(b"outcome"));
        record.set(Logged::Attempt, &[4; 20], Some(b"attempt"));
        record.set(Logged::Idempotency, b"5", Some(b"idempotency"));
        record.set(Logged::Count, b"6", Some(b"count"));
        before.append(record).unwrap();
        let database = database();
        assert!(wal(&disk, WAL_BYTES_MAX).replay(&database).unwrap());
        let read = database.begin_read().unwrap();
        assert_eq!(read.open_table(EVENT).unwrap().get(&[1; 12]).unwrap().unwrap().value(), b"event");
        assert_eq!(read.open_table(PENDING).unwrap().get(&[2; 24]).unwrap().unwrap().value(), b"pending");
        assert_eq!(read.open_table(OUTCOME).unwrap().get(&[3; 16]).unwrap().unwrap().value(), b"outcome");
        assert_eq!(read.open_table(ATTEMPT).unwrap().get(&[4; 20]).unwrap().unwrap().value(), b"attempt");
        assert_eq!(read.open_table(IDEMPOTENCY).unwrap().get(&b"5"[..]).unwrap().unwrap().value(), b"idempotency");
        assert_eq!(rows(&database), [("6".to_owned(), b"count".to_vec())]);
    }

    #[test]
    fn records_are_applied_in_order_and_once() {
        let (log, _) = two_records();
        let (disk, database) = (disk_with(&log), database());
        let mut wal = wal(&disk, WAL_BYTES_MAX);
        assert!(wal.replay(&database).unwrap());
        let row = |key: &str, value: &[u8]| (key.to_owned(), value.to_vec());
        let expected = [row("a", &[1; 5000]), row("c", b""), row("d", b"3")];
        assert!(rows(&database) == expected);
        assert!(disk.files().log.is_empty());
        // The same again, as a crash before that may leave it.
        let transaction = schema::begin(&database).unwrap();
        transaction.open_table(COUNT).unwrap().remove("a").unwrap();
        transaction.commit().unwrap();
        let disk = disk_with(&log);
        assert!(!self::wal(&disk, WAL_BYTES_MAX).replay(&database).unwrap());
        assert!(rows(&database) == expected[1..]);
    }

    /// What a power cut leaves of the last write, at each byte.
    #[test]
    fn what_was_cut_off_was_never_written() {
        let (log, second) = two_records();
        let database = database();
        let generation = schema::generation(&database).unwrap().unwrap();
        let whole = records(&log, generation).unwrap();
        assert_eq!(whole.len(), 2);
        let end = second + HEADER_BYTES + whole[1].len();
        for length in 0..log.len() {
            let expected = usize::from(length >= second) + usize::from(length >= end);
            let expected = if length < HEADER_BYTES + whole[0].len() { 0 } else { expected.max(1) };
            let mut cut = log[..length].to_vec();
            assert_eq!(records(&cut, generation).unwrap().len(), expected, "{length}");
            cut.resize(log.len(), 0);
            assert_eq!(records(&cut, generation).unwrap().len(), expected, "{length} and nothing behind");
        }
        assert_eq!(records(&log, generation + 1).unwrap(), [] as [&[u8]; 0], "of another generation");
    }

    /// Each record was synced before the next was written.
    #[test]
    fn a_broken_record_before_a_whole_one_is_damage() {
        let (log, second) = two_records();
        let length = HEADER_BYTES + records(&log, 1).unwrap()[0].len();
        for at in (0..length).step_by(7) {
            let mut flipped = log.clone();
            flipped[at] ^= 1;
            assert!(matches!(records(&flipped, 1), Err(StoreError::Log)), "{at}");
        }
        let mut flipped = log;
        flipped[second + 50] ^= 1;
        assert_eq!(records(&flipped, 1).unwrap().len(), 1);
    }

    #[test]
    fn a_log_is_full_and_begins_anew_with_the_next_generation() {
        let disk = disk_with(&[]);
        let mut wal = wal(&disk, 3 * BLOCK_BYTES as u64);
        assert!(wal.is_empty());
        for generation in 1..4 {
            wal.begin(generation);
            for _ in 0..3 {
                assert!(wal.has_room(&setting("a", b"")));
                wal.append(setting("a", b"")).unwrap();
            }
            assert!(!wal.has_room(&setting("a", b"")) && !wal.is_empty());
            assert_eq!(records(&disk.files().log, generation).unwrap().len(), 3);
        }
        assert!(!Wal::none().has_room(&setting("a", b"")));
        assert!(setting("a", &[0; WAL_RECORD_BYTES_MAX]).is_too_large());
        assert!(!setting("a", &[0; WAL_RECORD_BYTES_MAX / 2]).is_too_large());
    }

    /// What is written behind a gap would not be found, and each try costs time.
    #[test]
    fn after_a_failed_write_the_log_rests() {
        let disk = disk_with(&[]);
        let mut wal = wal(&disk, WAL_BYTES_MAX);
        wal.begin(1);
        for faults in [Faults { writes: 1000, ..Faults::default() }, Faults { syncs: 1000, ..Faults::default() }] {
            disk.set_faults(faults);
            assert!(wal.append(setting("a", b"")).is_err());
            disk.set_faults(Faults::default());
            for generation in 0..u64::from(WAL_RESTS_FOR_COMMITS) {
                assert!(!wal.has_room(&setting("a", b"")));
                wal.begin(generation);
            }
            assert!(wal.has_room(&setting("a", b"")));
        }
    }

    /// Where the database goes back to the commit before its last, what was written after
    /// that stands at the log's beginning, and what is left of earlier ones behind.
    #[test]
    fn records_that_were_written_over_are_no_damage() {
        let (log, _) = two_records();
        let disk = disk_with(&log);
        let mut wal = wal(&disk, WAL_BYTES_MAX);
        wal.begin(2);
        wal.append(setting("a", b"")).unwrap();
        assert_eq!(records(&disk.files().log, 1).unwrap().len(), 0);
        assert_eq!(records(&disk.files().log, 2).unwrap().len(), 1);
    }
}
