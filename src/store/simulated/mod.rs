//! The store for simulations: on a [`Disk`] that fails, its writer taking a turn
//! when it is told to, all on one thread. Everything else is the store's own.

mod disk;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::id::{DeliveryId, EventId};
use crate::time::{Clock, Timestamp};

use super::queue::Queue;
use super::shared::Shared;
use super::writer::Writer;
use super::{Notice, OpenError, Options, Store, check};

pub(crate) use disk::{Change, Disk, Faults, Files, Side, apply, synced, torn};

/// What the log may take: so little that it is full now and then.
const WAL_BYTES_MAX: u64 = 192 * 1024;

/// A store whose writer has no thread.
pub(crate) struct Stepped {
    pub(crate) store: Store,
    writer: Writer,
    pub(crate) notices: mpsc::Receiver<Notice>,
}

impl Stepped {
    /// As [`Store::open`] does, on `disk`. Where `seed` is even, the store counts as a large one.
    pub(crate) fn open(disk: &Disk, options: Options, clock: Clock, seed: [u8; 32]) -> Result<Stepped, OpenError> {
        let large_from_bytes = if seed[0].is_multiple_of(2) { 0 } else { u64::MAX };
        let (disk, queue) = (Some(disk.clone()), Queue::stepped());
        let shared =
            Shared { disk, queue, large_from_bytes, wal_bytes_max: WAL_BYTES_MAX, ..Shared::new(options, clock) };
        let (store, writer, notices) = Store::start(Arc::new(shared), seed)?;
        Ok(Stepped { store, writer, notices })
    }

    /// Lets the writer do what waits. Answers what it told the engine.
    pub(crate) fn turn(&mut self) -> Vec<Notice> {
        self.store.shared.queue.nudge();
        self.turn_early()
    }

    /// The same before outcomes have waited for long enough.
    pub(crate) fn turn_early(&mut self) -> Vec<Notice> {
        self.writer.turn(Duration::ZERO);
        self.told()
    }

    /// Closes the store as a stop does, and answers what its writer told meanwhile.
    pub(crate) fn close(&mut self) -> Vec<Notice> {
        self.store.close();
        let mut told = Vec::new();
        while self.writer.turn(Duration::ZERO) {
            told.extend(self.told());
        }
        told.extend(self.told());
        told
    }

    fn told(&mut self) -> Vec<Notice> {
        let mut told = Vec::new();
        while let Ok(notice) = self.notices.try_recv() {
            told.push(notice);
        }
        told
    }

    /// After how long the writer would look around by itself.
    pub(crate) fn patience(&self) -> Duration {
        self.writer.patience()
    }

    /// Panics where records, index and counts disagree.
    pub(crate) fn check(&self) {
        check::check(&self.store);
        check::check_numbers(&self.store);
    }

    /// Every event in the store, oldest first.
    pub(crate) fn events(&self) -> Vec<EventId> {
        check::events(&self.store)
    }

    /// Every pending delivery.
    pub(crate) fn pending(&self) -> Vec<(DeliveryId, Timestamp)> {
        check::pending(&self.store)
    }

    /// Rows of every table that retention is to empty.
    pub(crate) fn retained_rows(&self) -> u64 {
        check::retained_rows(&self.store)
    }
}
