//! What a change of keys makes to do: every row that holds secrets is written anew
//! under the current key, a bounded piece a turn. It has no row of its own that says
//! how far it is: each start goes through all rows, and finds what is left.

use std::sync::{Arc, PoisonError};

use redb::Database;

use crate::store::StoreError;
use crate::store::sealed::{self, Progress, Sealer};
use crate::store::work::{Kind, percent};

use super::Writer;

/// How far it is.
pub(super) struct Resealing {
    next: Progress,
    seen: u64,
    written: usize,
    unreadable: usize,
}

impl Resealing {
    pub(super) fn new() -> Resealing {
        Resealing { next: Progress::BEGINNING, seen: 0, written: 0, unreadable: 0 }
    }
}

impl Writer {
    /// Takes over the keys that a reload put in force. What is written from here on is
    /// sealed under them.
    pub(super) fn take_keys(&mut self) {
        let keyring = self.shared.keyring();
        if keyring.current() != self.keyring.current() {
            *self.shared.sealed_under.lock().unwrap_or_else(PoisonError::into_inner) = None;
            self.resealing = Some(Resealing::new());
        }
        self.keyring = keyring;
    }

    /// Does the next piece, if there is one.
    fn reseal(&mut self, database: &Database) -> Result<(), StoreError> {
        let Some(resealing) = &mut self.resealing else { return Ok(()) };
        let transaction = self.rest.begin(database)?;
        let mut sealer = Sealer { keyring: &self.keyring, random: &mut self.random };
        let step = sealed::step(&transaction, &mut sealer, &resealing.next)?;
        resealing.seen += step.seen as u64;
        // More may come meanwhile; what comes is sealed as it should be.
        let (seen, rows) = (resealing.seen, sealed::rows(&transaction)?);
        let now = self.shared.clock.now();
        self.shared.under_way.tell(Kind::KeyChange, now, percent(seen, rows), Some(seen.min(rows)), Some(rows));
        if step.written > 0 {
            self.rest.end(transaction)?;
        } else {
            transaction.abort()?;
        }
        resealing.written += step.written;
        resealing.unreadable += step.unreadable;
        match step.next {
            Some(next) => resealing.next = next,
            None => {
                let (written, unreadable) = (resealing.written, resealing.unreadable);
                self.resealing = None;
                self.shared.under_way.end(Kind::KeyChange);
                self.tell_resealed(written, unreadable);
            }
        }
        Ok(())
    }

    /// A turn of it between groups. What the disk is not to blame for ends it: a record
    /// that is in the way would be in the way again. Answers whether the store is up.
    pub(super) fn reseal_turn(&mut self, database: Arc<Database>) -> bool {
        match self.reseal(&database) {
            Ok(()) => true,
            Err(error @ (StoreError::Record(_) | StoreError::UnknownKey(_))) => {
                tracing::error!(%error, "secrets are not encrypted anew; the earlier keys are still needed");
                self.resealing = None;
                self.shared.under_way.end(Kind::KeyChange);
                true
            }
            Err(error) => {
                self.broke(database, &error);
                false
            }
        }
    }

    /// The same to its end: at the start, so that nobody is served before.
    pub(in crate::store) fn reseal_all(&mut self, database: &Database) -> Result<(), StoreError> {
        while self.resealing.is_some() {
            self.reseal(database)?;
        }
        Ok(())
    }

    fn tell_resealed(&mut self, written: usize, unreadable: usize) {
        if unreadable > 0 {
            tracing::error!(unreadable, "records under earlier keys cannot be read: those keys are still needed");
            return;
        }
        let key = self.keyring.current();
        *self.shared.sealed_under.lock().unwrap_or_else(PoisonError::into_inner) = Some(key);
        match key {
            Some(key) if written > 0 => tracing::info!(%key, records = written, "secrets were encrypted under the key"),
            None if written > 0 => tracing::warn!(records = written, "secrets were decrypted: they are in clear now"),
            _ => {}
        }
        if self.keyring.has_previous() {
            tracing::info!("nothing is encrypted under storage.previous_encryption_key_files: they can be taken away");
        }
    }
}
