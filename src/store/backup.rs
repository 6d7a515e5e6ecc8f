//! A backup: every row of every table, read in one snapshot, as a stream that proves
//! itself whole. **One that was cut short or changed never passes.**
//!
//! ```text
//! "posthaste backup 1\n"           the form's version
//! schema version u32, taken at u64 (milliseconds since the epoch)
//! 1, name length u32, name         a table begins, with no rows before it of another
//! 2, key length u32, value length u32, key, value      a row of it, in key order
//! 0, rows u64                      the end, with the count of all rows
//! SHA-256 of everything before, 32 bytes
//! ```
//!
//! Numbers are big endian. Keys and values are as the database has them: a backup
//! holds what the store holds, secrets too.

use std::io::{self, Read, Write};

use bytes::{BufMut, Bytes, BytesMut};
use redb::{ReadTransaction, ReadableTable, TableDefinition, TableHandle};
use sha2::{Digest, Sha256};

use crate::limits::{BACKUP_PART_BYTES, BACKUP_ROW_BYTES_MAX};
use crate::time::Timestamp;

use super::tables::{Visitor, each};
use super::{SCHEMA_VERSION, StoreError, schema};

const BEGINNING: &[u8] = b"posthaste backup 1\n";
const TABLE: u8 = 1;
const ROW: u8 = 2;
const END: u8 = 0;
const DIGEST_BYTES: usize = 32;

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The store's version.
    pub schema_version: u32,
    /// When the snapshot was taken.
    pub taken_at: Timestamp,
    /// Its tables, with their rows.
    pub tables: Vec<(String, u64)>,
    /// Its size.
    pub bytes: u64,
    /// The digest that it ends with.
    pub sha256: [u8; 32],
}

impl Summary {
    /// Rows of all tables.
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|(_, rows)| rows).sum()
    }
}

/// Why a backup was not written to its end.
#[derive(Debug, thiserror::Error)]
pub enum WriteBackupError {
    /// The store cannot be read.
    #[error("the store cannot be read: {0}")]
    Store(#[from] StoreError),
    /// What it is written to takes no more.
    #[error("{0}")]
    Stopped(io::Error),
}

/// Why something is no whole backup.
#[derive(Debug, thiserror::Error)]
pub enum ReadBackupError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(io::Error),
    /// It is something else.
    #[error("it is not a backup of this program")]
    Foreign,
    /// Its end is missing.
    #[error("it is cut short after {0} bytes: the backup did not come to its end")]
    CutShort(u64),
    /// Its bytes are not those that were written.
    #[error("it is damaged")]
    Damaged,
    /// The store was of a newer program.
    #[error("it is of a store of version {found}, this program knows up to {known}: use the newer program")]
    Newer {
        /// Its version.
        found: u32,
        /// The newest known.
        known: u32,
    },
}

/// Writes everything that `transaction` sees, in parts of some [`BACKUP_PART_BYTES`].
pub(super) fn write(
    transaction: &ReadTransaction,
    taken_at: Timestamp,
    take: impl FnMut(Bytes) -> Result<(), WriteBackupError>,
) -> Result<(), WriteBackupError> {
    let mut part = BytesMut::with_capacity(BACKUP_PART_BYTES);
    part.put_slice(BEGINNING);
    part.put_u32(schema::look(transaction)?.version);
    part.put_u64(taken_at.as_millis());
    let mut dump = Dump { transaction, part, hash: Sha256::new(), rows: 0, take };
    each(&mut dump)?;
    dump.part.put_u8(END);
    dump.part.put_u64(dump.rows);
    dump.hash.update(&dump.part);
    let digest = dump.hash.finalize();
    dump.part.put_slice(&digest);
    (dump.take)(dump.part.freeze())
}

struct Dump<'a, F> {
    transaction: &'a ReadTransaction,
    part: BytesMut,
    hash: Sha256,
    rows: u64,
    take: F,
}

impl<F: FnMut(Bytes) -> Result<(), WriteBackupError>> Visitor for Dump<'_, F> {
    type Error = WriteBackupError;

    fn visit<K: redb::Key + 'static, V: redb::Value + 'static>(
        &mut self,
        table: TableDefinition<'static, K, V>,
    ) -> Result<(), WriteBackupError> {
        let opened = match self.transaction.open_table(table) {
            // Of an earlier version.
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(()),
            opened => opened.map_err(StoreError::from)?,
        };
        self.part.put_u8(TABLE);
        self.put(table.name().len())?;
        self.part.put_slice(table.name().as_bytes());
        for row in opened.iter().map_err(StoreError::from)? {
            let (key, value) = row.map_err(StoreError::from)?;
            let (key, value) = (key.value(), value.value());
            let (key, value) = (K::as_bytes(&key), V::as_bytes(&value));
            let (key, value) = (key.as_ref(), value.as_ref());
            self.part.put_u8(ROW);
            self.put(key.len())?;
            self.put(value.len())?;
            self.part.put_slice(key);
            self.part.put_slice(value);
            self.rows += 1;
            if self.part.len() >= BACKUP_PART_BYTES {
                self.hash.update(&self.part);
                let full = std::mem::replace(&mut self.part, BytesMut::with_capacity(BACKUP_PART_BYTES));
                (self.take)(full.freeze())?;
            }
        }
        Ok(())
    }
}

impl<F> Dump<'_, F> {
    fn put(&mut self, length: usize) -> Result<(), StoreError> {
        let length = u32::try_from(length).ok().filter(|length| *length as usize <= BACKUP_ROW_BYTES_MAX);
        self.part.put_u32(length.ok_or(StoreError::Record("is too long for a backup"))?);
        Ok(())
    }
}

/// What stands in a backup after its beginning.
pub(super) enum Entry {
    /// A table of this name begins.
    Table(String),
    /// A row of it: key and value.
    Row(Vec<u8>, Vec<u8>),
}

/// Reads a backup. **Nothing it says is sure before [`Reader::next`] has answered none.**
pub(super) struct Reader<R> {
    input: R,
    hash: Sha256,
    bytes: u64,
    summary: Summary,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(input: R) -> Result<Reader<R>, ReadBackupError> {
        let summary = Summary {
            schema_version: 0,
            taken_at: Timestamp::ZERO,
            tables: Vec::new(),
            bytes: 0,
            sha256: [0; DIGEST_BYTES],
        };
        let mut reader = Reader { input, hash: Sha256::new(), bytes: 0, summary };
        let beginning = reader.fixed::<{ BEGINNING.len() }>().map_err(|error| match error {
            ReadBackupError::CutShort(_) => ReadBackupError::Foreign,
            other => other,
        })?;
        if beginning != BEGINNING {
            return Err(ReadBackupError::Foreign);
        }
        let found = u32::from_be_bytes(reader.fixed()?);
        if found > SCHEMA_VERSION {
            return Err(ReadBackupError::Newer { found, known: SCHEMA_VERSION });
        }
        reader.summary.schema_version = found;
        reader.summary.taken_at = Timestamp::from_millis(u64::from_be_bytes(reader.fixed()?));
        Ok(reader)
    }

    /// When the snapshot was taken.
    pub(super) fn taken_at(&self) -> Timestamp {
        self.summary.taken_at
    }

    /// The next entry; none: that was all, and it was whole.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, ReadBackupError> {
        match self.fixed::<1>()? {
            [TABLE] => {
                let length = self.length()?;
                let name = String::from_utf8(self.some(length)?).map_err(|_| ReadBackupError::Damaged)?;
                self.summary.tables.push((name.clone(), 0));
                Ok(Some(Entry::Table(name)))
            }
            [ROW] => {
                let Some((_, rows)) = self.summary.tables.last_mut() else { return Err(ReadBackupError::Damaged) };
                *rows += 1;
                let (key, value) = (self.length()?, self.length()?);
                Ok(Some(Entry::Row(self.some(key)?, self.some(value)?)))
            }
            [END] => {
                let rows = u64::from_be_bytes(self.fixed()?);
                let wanted: [u8; DIGEST_BYTES] = std::mem::take(&mut self.hash).finalize().into();
                self.summary.sha256 = self.fixed()?;
                self.summary.bytes = self.bytes;
                let is_over = self.input.read(&mut [0]).map_err(ReadBackupError::Io)? == 0;
                if wanted != self.summary.sha256 || rows != self.summary.rows() || !is_over {
                    return Err(ReadBackupError::Damaged);
                }
                Ok(None)
            }
            _ => Err(ReadBackupError::Damaged),
        }
    }

    /// What it held, once [`Reader::next`] has answered none.
    pub(super) fn into_summary(self) -> Summary {
        self.summary
    }

    fn length(&mut self) -> Result<usize, ReadBackupError> {
        let length = u32::from_be_bytes(self.fixed()?) as usize;
        if length > BACKUP_ROW_BYTES_MAX { Err(ReadBackupError::Damaged) } else { Ok(length) }
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], ReadBackupError> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(|error| self.broken(error))?;
        self.took(&bytes);
        Ok(bytes)
    }

    /// So many bytes. Room is made as they come, not as they are promised.
    fn some(&mut self, length: usize) -> Result<Vec<u8>, ReadBackupError> {
        let mut bytes = Vec::new();
        let read = self.input.by_ref().take(length as u64).read_to_end(&mut bytes).map_err(ReadBackupError::Io)?;
        self.took(&bytes);
        if read < length { Err(ReadBackupError::CutShort(self.bytes)) } else { Ok(bytes) }
    }

    fn took(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    fn broken(&self, error: io::Error) -> ReadBackupError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => ReadBackupError::CutShort(self.bytes),
            _ => ReadBackupError::Io(error),
        }
    }
}

/// Reads all of a backup, and answers what it holds if it is whole. Who wants to show
/// how far it is counts the bytes that `input` gives.
pub fn verify(input: impl Read) -> Result<Summary, ReadBackupError> {
    let mut reader = Reader::new(input)?;
    while reader.next()?.is_some() {}
    Ok(reader.into_summary())
}

/// What passes by of a long stream, told as it goes.
pub struct Counted<'a, S> {
    stream: S,
    bytes: u64,
    tell: &'a dyn Fn(u64),
}

impl<'a, S> Counted<'a, S> {
    /// `tell` is told the bytes that went through `stream` so far, at each step.
    pub fn new(stream: S, tell: &'a dyn Fn(u64)) -> Counted<'a, S> {
        Counted { stream, bytes: 0, tell }
    }

    fn passed(&mut self, passed: io::Result<usize>) -> io::Result<usize> {
        self.bytes += passed.as_ref().map_or(0, |bytes| *bytes as u64);
        (self.tell)(self.bytes);
        passed
    }
}

impl<S: Read> Read for Counted<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer);
        self.passed(read)
    }
}

impl<S: Write> Write for Counted<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.stream.write(bytes);
        self.passed(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Tells of a backup that passes by in parts whether it was whole.
#[derive(Default)]
pub struct Passing {
    hash: Sha256,
    /// The last bytes: they may be the digest.
    last: Vec<u8>,
}

impl Passing {
    /// A part of it.
    pub fn take(&mut self, part: &[u8]) {
        self.last.extend_from_slice(part);
        let before = self.last.len().saturating_sub(DIGEST_BYTES);
        self.hash.update(&self.last[..before]);
        self.last.drain(..before);
    }

    /// Whether that was all of it.
    pub fn is_whole(self) -> bool {
        self.last[..] == self.hash.finalize()[..]
    }
}
