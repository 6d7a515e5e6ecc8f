//! What a crash is to find. All transactions of the writer begin and end here, so that none
//! forgets the log, the free pages or the mark; what it leaves open may be committed by who reads.
//!
//! With each synced commit of a large store the database notes which of its pages are free
//! (redb's quick repair), so that it **need not read the whole of its file after a crash**.
//! And where nothing has been written for a while, the store is left as a stop leaves it, at
//! rest: it is marked as closed, and what is pending need not be counted anew either. The
//! next commit takes the mark away. Small stores do without both: they are read in no time.

use std::sync::Arc;
use std::time::Duration;

use redb::{Database, WriteTransaction};

use crate::store::ahead::Young;
use crate::store::space::Room;
use crate::store::wal::{Record, Wal};
use crate::store::{Shared, StoreError, schema};
use crate::time::Timestamp;

use super::{STATS_FLUSHED_AT_ONCE_MAX, Writer};

/// How long nothing was written before the store is left at rest.
const REST_AFTER: Duration = Duration::from_secs(2);
/// How far apart two rests are at least: each notes the free pages, in some 150 KiB for each
/// GiB of the file.
const REST_EVERY: Duration = Duration::from_secs(10);

/// Whether the store is at rest, and since when it could be.
pub(super) struct Rest {
    shared: Arc<Shared>,
    /// Whether the disk may say so.
    is_marked: bool,
    /// Whether there is nothing more to do about it before the next commit.
    is_over: bool,
    written_at: Timestamp,
    rested_at: Timestamp,
    /// What was committed since the database was synced.
    wal: Wal,
    /// Whether there is something that not even the log has.
    is_owing: bool,
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
    pub(super) fn after(shared: Arc<Shared>, wal: Wal) -> Rest {
        let written_at = shared.clock.now();
        Rest { shared, is_marked: false, is_over: false, written_at, rested_at: Timestamp::ZERO, wal, is_owing: false }
    }

    /// In how long it is time for a rest; none: not before the next commit.
    pub(super) fn due_in(&self, now: Timestamp) -> Option<Duration> {
        // Where the clock was set back the time has come: nobody knows how long ago it was.
        let left = |at: Timestamp, wait: Duration| match now < at {
            true => Duration::ZERO,
            false => wait.saturating_sub(now.since(at)),
        };
        let is_to_come = !self.is_over && self.shared.is_large();
        is_to_come.then(|| left(self.written_at, REST_AFTER).max(left(self.rested_at, REST_EVERY)))
    }

    /// Opens a transaction, behind all that was answered. **Each of the writer's begins here**:
    /// the first that is committed after a rest says that the store is open.
    pub(super) fn begin(&self, database: &Database) -> Result<WriteTransaction, StoreError> {
        self.shared.ahead.show()?;
        self.open(database)
    }

    /// The same for an everyday commit: goes on with what the last one left open, if it did.
    pub(super) fn go_on(&self, database: &Database) -> Result<(WriteTransaction, Young), StoreError> {
        match self.shared.ahead.take()? {
            Some(left) => Ok(left),
            None => Ok((self.open(database)?, Young::default())),
        }
    }

    fn open(&self, database: &Database) -> Result<WriteTransaction, StoreError> {
        let transaction = schema::begin(database)?;
        if self.is_marked {
            schema::mark_open(&transaction)?;
        }
        Ok(transaction)
    }

    /// Commits a transaction that was opened here: the database is synced, with all that was
    /// committed before.
    pub(super) fn end(&mut self, mut transaction: WriteTransaction) -> Result<(), StoreError> {
        transaction.set_quick_repair(self.shared.is_large());
        let generation = schema::next_generation(&transaction)?;
        transaction.commit()?;
        self.shared.ahead.end();
        self.wal.begin(generation);
        self.is_owing = false;
        self.wrote();
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

    /// Commits a transaction in memory alone, because it matters little to a crash, and
    /// because another that is synced follows soon.
    pub(super) fn end_unsynced(&mut self, mut transaction: WriteTransaction) -> Result<(), StoreError> {
        // The disk says that the store is closed.
        if self.is_marked {
            return self.end(transaction);
        }
        schema::set_synced(&mut transaction, false)?;
        transaction.commit()?;
        self.is_owing = true;
        self.wrote();
        Ok(())
    }

    /// Leaves an everyday transaction open, with its young rows: the log has what they change.
    pub(super) fn leave(&mut self, transaction: WriteTransaction, young: Young) -> Result<(), StoreError> {
        self.wrote();
        self.shared.ahead.leave(transaction, young)
    }

    /// Whether something was committed since the database was synced.
    pub(super) fn is_behind(&self) -> bool {
        !self.wal.is_empty() || self.is_owing
    }

    /// The log of a database that was opened anew; none, where it was dropped.
    pub(super) fn put_wal(&mut self, wal: Wal) {
        self.wal = wal;
    }

    /// Leaves no log behind, once the database was synced for the last time.
    pub(super) fn clear_wal(&mut self) {
        self.wal.clear();
    }

    fn wrote(&mut self) {
        (self.is_marked, self.is_over, self.written_at) = (false, false, self.shared.clock.now());
    }
}

impl Writer {
    /// Whether a large store is to be left at rest, because it is time for that and there is
    /// nothing else to do.
    pub(super) fn is_rest_due(&self) -> bool {
        let is_due = self.rest.due_in(self.now()).is_some_and(|left| left.is_zero());
        let is_counted_soon = self.flushing.len() + self.dirty.len() <= STATS_FLUSHED_AT_ONCE_MAX;
        is_due && is_counted_soon && !self.has_turns_to_take() && self.room != Room::None
    }

    /// Leaves the store at rest.
    pub(super) fn rest(&mut self, database: Arc<Database>) {
        // The disk may say so also where the commit fails.
        (self.rest.is_marked, self.rest.is_over, self.rest.rested_at) = (true, true, self.now());
        self.flushing.extend(self.dirty.drain());
        let rested = (|| {
            self.rest.shared.ahead.show()?;
            let mut transaction = schema::begin(&database)?;
            transaction.set_quick_repair(true);
            self.flush(&transaction, usize::MAX)?;
            schema::mark_clean(&transaction)?;
            let generation = schema::next_generation(&transaction)?;
            transaction.commit()?;
            self.rest.wal.begin(generation);
            self.rest.is_owing = false;
            Ok(())
        })();
        if let Err(error) = rested {
            self.broke(database, &error);
        }
    }
}
