//! A store at rest. Where nothing has been written for a while, the store is left as a
//! stop leaves it: it is marked as closed, and the database notes which of its pages are
//! free. **Who is killed then, or loses power, is there again at once**: after any other
//! crash the database reads the whole of its file, and everything pending is counted anew.
//!
//! The next commit takes the mark away. Small stores do without: they are read in no time.
//!
//! All transactions of the writer begin and end here, so that none forgets the mark, or
//! the log.

use std::sync::Arc;
use std::time::Duration;

use redb::{Database, WriteTransaction};

use crate::store::space::Room;
use crate::store::wal::{Record, Wal};
use crate::store::{StoreError, schema};
use crate::time::Timestamp;

use super::Writer;

/// How long nothing was written before the store is left at rest.
const REST_AFTER: Duration = Duration::from_secs(2);
/// How far apart two rests begin at least, for each GiB of the file or a part of it: each
/// writes the map of free pages, some 150 KiB a GiB.
const REST_EVERY_PER_GIB: Duration = Duration::from_secs(10);

/// Whether the store is at rest, and since when it could be.
pub(super) struct Rest {
    /// Whether the disk may say so.
    is_marked: bool,
    /// Whether there is nothing more to do about it before the next commit.
    is_over: bool,
    written_at: Timestamp,
    rested_at: Timestamp,
    /// How far the next is from that one, at least.
    every: Duration,
    /// What was committed since the database was synced.
    wal: Wal,
}

/// Whether the log has what a transaction changes.
pub(super) enum InLog {
    Synced,
    Never,
    /// A write failed, and may have reached the disk.
    Perhaps,
}

impl Rest {
    /// Of a store that is just opened, which is written to.
    pub(super) fn after(now: Timestamp, wal: Wal) -> Rest {
        let (is_marked, is_over, rested_at, every) = (false, false, Timestamp::ZERO, Duration::ZERO);
        Rest { is_marked, is_over, written_at: now, rested_at, every, wal }
    }

    /// In how long it is time for a rest; none: not before the next commit.
    pub(super) fn due_in(&self, now: Timestamp) -> Option<Duration> {
        // Where the clock was set back the time has come: nobody knows how long ago it was.
        let left = |at: Timestamp, wait: Duration| match now < at {
            true => Duration::ZERO,
            false => wait.saturating_sub(now.since(at)),
        };
        (!self.is_over).then(|| left(self.written_at, REST_AFTER).max(left(self.rested_at, self.every)))
    }

    /// Opens a transaction. **Each of the writer's begins here**: the first that is
    /// committed after a rest says that the store is open.
    pub(super) fn begin(&self, database: &Database) -> Result<WriteTransaction, StoreError> {
        let transaction = schema::begin(database)?;
        if self.is_marked {
            schema::mark_open(&transaction)?;
        }
        Ok(transaction)
    }

    /// Commits a transaction that [`Rest::begin`] opened: the database is synced, with all
    /// that was committed before.
    pub(super) fn end(&mut self, transaction: WriteTransaction, now: Timestamp) -> Result<(), StoreError> {
        let generation = schema::next_generation(&transaction)?;
        transaction.commit()?;
        self.wal.begin(generation);
        self.wrote(now);
        Ok(())
    }

    /// Writes what an everyday transaction changes to the log, synced, where that can be.
    pub(super) fn log(&mut self, record: Record) -> InLog {
        // The disk says that the store is closed, and would after the next crash too.
        if self.is_marked || !self.wal.has_room(&record) {
            return InLog::Never;
        }
        match self.wal.append(record) {
            Ok(()) => InLog::Synced,
            Err(error) => {
                tracing::warn!(%error, "the write-ahead log cannot be written; the database is synced instead");
                InLog::Perhaps
            }
        }
    }

    /// Commits a transaction that the log has, and that is made in memory alone.
    pub(super) fn end_logged(&mut self, transaction: WriteTransaction, now: Timestamp) -> Result<(), StoreError> {
        transaction.commit()?;
        self.wrote(now);
        Ok(())
    }

    /// Whether something was committed since the database was synced.
    pub(super) fn is_behind(&self) -> bool {
        !self.wal.is_empty()
    }

    /// The log of a database that was opened anew; none, where it was dropped.
    pub(super) fn put_wal(&mut self, wal: Wal) {
        self.wal = wal;
    }

    /// Leaves no log behind, once the database was synced for the last time.
    pub(super) fn clear_wal(&mut self) {
        self.wal.clear();
    }

    fn wrote(&mut self, now: Timestamp) {
        (self.is_marked, self.is_over, self.written_at) = (false, false, now);
    }
}

impl Writer {
    /// Leaves a large store at rest, where it is time for that and nothing else to do.
    pub(super) fn rest_if_due(&mut self, database: Arc<Database>) {
        let now = self.now();
        let is_due = self.rest.due_in(now).is_some_and(|left| left.is_zero());
        if !is_due || self.has_more_to_do() || self.room == Room::None {
            return;
        }
        self.rest.is_over = true;
        let file_bytes = self.shared.file_bytes();
        if file_bytes < self.shared.rest_above_bytes {
            return;
        }
        let begun_gib = u32::try_from(file_bytes >> 30).unwrap_or(u32::MAX).saturating_add(1);
        (self.rest.rested_at, self.rest.every) = (now, REST_EVERY_PER_GIB.saturating_mul(begun_gib));
        // The disk may say so also where the commit fails.
        self.rest.is_marked = true;
        let rested = (|| {
            let mut transaction = schema::begin(&database)?;
            transaction.set_quick_repair(true);
            schema::mark_clean(&transaction)?;
            let generation = schema::next_generation(&transaction)?;
            transaction.commit()?;
            self.rest.wal.begin(generation);
            Ok(())
        })();
        if let Err(error) = rested {
            self.broke(database, &error);
        }
    }
}
