//! What was answered and readers do not see yet. The log has it.
//!
//! The writer's transaction stays open from one everyday commit to the next: a commit, though
//! in memory alone, costs as much as many a row. And most deliveries are done within a moment:
//! pending rows wait beside the transaction, so that **what is done before anybody looks never
//! has one**. Who wants to read commits both: [`Ahead::show`] goes before each read, and who
//! reads finds what was answered before. A commit that is synced has them too.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use redb::WriteTransaction;
use rustc_hash::FxHashMap;

use super::tables::PENDING;
use super::{StoreError, schema};

/// Rows of [`PENDING`] that are not in it, by their keys.
pub(super) type Young = FxHashMap<[u8; 24], Vec<u8>>;

/// Writes them to their table, in their order.
pub(super) fn write(transaction: &WriteTransaction, young: Young) -> Result<(), StoreError> {
    if young.is_empty() {
        return Ok(());
    }
    let mut rows: Vec<_> = young.into_iter().collect();
    rows.sort_unstable_by_key(|(key, _)| *key);
    let mut pending = transaction.open_table(PENDING)?;
    for (key, value) in rows {
        pending.insert(&key, value.as_slice())?;
    }
    Ok(())
}

/// See the file's beginning.
pub(super) struct Ahead {
    inner: Mutex<Inner>,
    /// The writer has let go of its transaction.
    let_go: Condvar,
    /// Whether anything was answered that readers do not see.
    is_behind: AtomicBool,
}

struct Inner {
    state: State,
    /// How many wait for the writer to let go.
    waiting: usize,
    /// How often readers were shown everything.
    times_shown: u64,
}

enum State {
    /// There is nothing.
    Level,
    /// Nobody is at it.
    Open(Box<WriteTransaction>, Young),
    /// The writer is at it.
    Taken,
    /// It is gone: only the log has what was answered, and the database is to be opened anew.
    /// With what it went by; none: whoever was at it panicked, or knows.
    Lost(Option<StoreError>),
}

fn lost() -> StoreError {
    StoreError::Database(Box::new(redb::Error::PreviousIo))
}

impl Ahead {
    pub(super) fn new() -> Ahead {
        let inner = Inner { state: State::Level, waiting: 0, times_shown: 0 };
        Ahead { inner: Mutex::new(inner), let_go: Condvar::new(), is_behind: AtomicBool::new(false) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has readers see what was answered by now. Blocking: the writer may be at it, for as long
    /// as a commit takes.
    ///
    /// # Errors
    /// The database is to be opened anew.
    pub(super) fn show(&self) -> Result<(), StoreError> {
        if !self.is_behind.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut inner = self.lock();
        // Another reader may have been first.
        if !self.is_behind.load(Ordering::Acquire) {
            return Ok(());
        }
        let times_shown = inner.times_shown;
        inner.waiting += 1;
        // Not for as long as there is anything: the writer goes on with the next.
        while matches!(inner.state, State::Taken) && inner.times_shown == times_shown {
            inner = self.let_go.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        inner.waiting -= 1;
        match inner.state {
            State::Open(..) => self.commit_open(&mut inner),
            State::Lost(_) => Err(lost()),
            State::Level | State::Taken => Ok(()),
        }
    }

    fn commit_open(&self, inner: &mut Inner) -> Result<(), StoreError> {
        match std::mem::replace(&mut inner.state, State::Lost(None)) {
            State::Open(transaction, young) => self.commit(inner, *transaction, young),
            state => {
                inner.state = state;
                Ok(())
            }
        }
    }

    fn commit(&self, inner: &mut Inner, mut transaction: WriteTransaction, young: Young) -> Result<(), StoreError> {
        // Also where it panics.
        inner.state = State::Lost(None);
        let committed = (|| {
            write(&transaction, young)?;
            schema::set_synced(&mut transaction, false)?;
            Ok(transaction.commit()?)
        })();
        committed.map(|()| self.level(inner)).map_err(|error| {
            inner.state = State::Lost(Some(error));
            self.let_go.notify_all();
            lost()
        })
    }

    /// Readers see all.
    fn level(&self, inner: &mut Inner) {
        inner.state = State::Level;
        inner.times_shown += 1;
        self.is_behind.store(false, Ordering::Release);
        self.let_go.notify_all();
    }

    /// Hands what there is to the writer, until it lets go. None: there is nothing.
    ///
    /// # Errors
    /// The database is to be opened anew.
    pub(super) fn take(&self) -> Result<Option<(WriteTransaction, Young)>, StoreError> {
        let mut inner = self.lock();
        match std::mem::replace(&mut inner.state, State::Taken) {
            State::Open(transaction, young) => Ok(Some((*transaction, young))),
            State::Level => Ok(None),
            // The writer never came back to let go.
            State::Taken => {
                inner.state = State::Lost(None);
                Err(lost())
            }
            state @ State::Lost(_) => {
                inner.state = state;
                Err(lost())
            }
        }
    }

    /// The log has what the writer's transaction changes, and who waits for that is answered
    /// now: from here on who reads waits until the writer has let go.
    pub(super) fn fall_behind(&self) {
        self.is_behind.store(true, Ordering::Release);
    }

    /// The writer lets go: what it has stays open where nobody waits to read.
    pub(super) fn leave(&self, transaction: WriteTransaction, young: Young) -> Result<(), StoreError> {
        let mut inner = self.lock();
        if !self.is_behind.load(Ordering::Acquire) {
            // It changes nothing.
            inner.state = State::Level;
            return Ok(());
        }
        if inner.waiting > 0 {
            return self.commit(&mut inner, transaction, young);
        }
        inner.state = State::Open(Box::new(transaction), young);
        Ok(())
    }

    /// The writer's transaction was committed, or there is another database, which has all.
    pub(super) fn end(&self) {
        self.level(&mut self.lock());
    }

    /// The writer's transaction was dropped.
    pub(super) fn give_up(&self) {
        let mut inner = self.lock();
        match (&inner.state, self.is_behind.load(Ordering::Acquire)) {
            // That it failed is why.
            (State::Lost(_), _) => {}
            (_, true) => {
                inner.state = State::Lost(None);
                self.let_go.notify_all();
            }
            (_, false) => self.level(&mut inner),
        }
    }

    /// The database goes, and what there is with it, before it is opened anew.
    pub(super) fn lose(&self) {
        let mut inner = self.lock();
        inner.state = State::Lost(None);
        self.is_behind.store(true, Ordering::Release);
        self.let_go.notify_all();
    }

    /// Whether the database is to be opened anew, and why, where that is known and nobody asked
    /// before.
    pub(super) fn loss(&self) -> Option<Option<StoreError>> {
        match &mut self.lock().state {
            State::Lost(error) => Some(error.take()),
            State::Level | State::Open(..) | State::Taken => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use redb::{Database, ReadableDatabase, ReadableTableMetadata};

    use super::*;

    fn database() -> Database {
        Database::builder().create_with_backend(redb::backends::InMemoryBackend::new()).unwrap()
    }

    fn rows(database: &Database) -> u64 {
        database.begin_read().unwrap().open_table(PENDING).map_or(0, |table| table.len().unwrap())
    }

    fn row(number: u8) -> Young {
        Young::from_iter([([number; 24], vec![number])])
    }

    fn wait_for_reader(ahead: &Ahead) {
        while ahead.lock().waiting == 0 {
            std::thread::yield_now();
        }
    }

    /// Somebody who read was answered from before what he had been told, or waited for as long
    /// as anybody published.
    #[test]
    fn who_reads_waits_for_the_writer_once() {
        let (ahead, database) = (Ahead::new(), database());
        assert!(ahead.take().unwrap().is_none());
        ahead.show().unwrap();
        let transaction = database.begin_write().unwrap();
        std::thread::scope(|scope| {
            ahead.fall_behind();
            let shown = scope.spawn(|| ahead.show().map(|()| rows(&database)));
            wait_for_reader(&ahead);
            ahead.leave(transaction, row(1)).unwrap();
            assert!(ahead.take().unwrap().is_none(), "it was committed");
            ahead.fall_behind();
            assert_eq!(shown.join().unwrap().unwrap(), 1, "though the writer goes on");
        });
        ahead.leave(database.begin_write().unwrap(), row(2)).unwrap();
        assert_eq!(rows(&database), 1);
        ahead.show().unwrap();
        assert_eq!(rows(&database), 2);
        assert!(ahead.take().unwrap().is_none());
        ahead.give_up();
        assert!(ahead.loss().is_none(), "nothing was answered that readers do not see");
    }

    /// A reader that came upon a failed commit took the database that went for one that has all.
    #[test]
    fn what_was_answered_and_is_gone_is_read_by_nobody() {
        let (ahead, database) = (Ahead::new(), database());
        assert!(ahead.take().unwrap().is_none());
        ahead.fall_behind();
        std::thread::scope(|scope| {
            let shown = scope.spawn(|| ahead.show());
            wait_for_reader(&ahead);
            ahead.give_up();
            assert!(shown.join().unwrap().is_err());
        });
        ahead.end();
        assert!(ahead.take().unwrap().is_none());
        ahead.fall_behind();
        std::thread::scope(|scope| {
            let shown = scope.spawn(|| ahead.show());
            wait_for_reader(&ahead);
            ahead.lose();
            assert!(shown.join().unwrap().is_err());
        });
        assert!(ahead.loss().is_some() && ahead.take().is_err() && ahead.show().is_err());
        ahead.end();
        assert!(ahead.loss().is_none() && ahead.take().is_ok());
        ahead.fall_behind();
        assert!(ahead.take().is_err(), "the writer never came back");
        ahead.end();

        // A commit that fails says why, once, to who opens the database anew.
        assert!(ahead.take().unwrap().is_none());
        ahead.fall_behind();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(redb::TableDefinition::<u32, u32>::new("pending")).unwrap();
        ahead.leave(transaction, row(1)).unwrap();
        assert!(ahead.show().is_err());
        ahead.give_up();
        assert!(matches!(ahead.loss(), Some(Some(StoreError::Database(_)))));
        assert!(matches!(ahead.loss(), Some(None)));
    }
}
