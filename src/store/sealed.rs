//! Rows that hold secrets: subscriptions, and what the `Idempotency-Key`s that made
//! them were used for. **Sealed whole, not value by value**: so nothing that may be a
//! credential is forgotten (a token in a URL, a header of any name), and nobody who
//! writes to the file sends a sealed password to a URL of their own.
//!
//! Each row says under which key it is sealed. After a change of keys all rows are
//! gone through, at most [`BULK_ROWS_MAX`] a commit, and those that are not as they
//! would be written now are written anew: whatever stopped it, it starts over and
//! finds what is left.

use rand::RngExt;
use rand::rngs::StdRng;
use redb::{ReadableTable, ReadableTableMetadata, TableHandle, WriteTransaction};
use zeroize::Zeroizing;

use crate::id::Lane;
use crate::limits::{BULK_ROWS_MAX, PAGE_SCAN_MAX, RESEAL_BYTES_MAX};
use crate::seal::{Keyring, Place, Unopened};

use super::tables::{CREATION, SUBSCRIPTION};
use super::{StoreError, passed_over};

/// Seals rows under the current key.
pub(super) struct Sealer<'a> {
    pub(super) keyring: &'a Keyring,
    /// Nonces come from it.
    pub(super) random: &'a mut StdRng,
}

impl Sealer<'_> {
    pub(super) fn subscription(&mut self, lane: Lane, value: &[u8]) -> Result<Vec<u8>, StoreError> {
        self.seal(SUBSCRIPTION.name(), &lane.0.to_be_bytes(), value)
    }

    pub(super) fn creation(&mut self, key: &[u8], value: &[u8]) -> Result<Vec<u8>, StoreError> {
        self.seal(CREATION.name(), key, value)
    }

    fn seal(&mut self, table: &str, row: &[u8], value: &[u8]) -> Result<Vec<u8>, StoreError> {
        let sealed = self.keyring.seal(Place { table, row }, self.random.random(), value);
        sealed.map_err(|_| StoreError::Record("is too long"))
    }
}

pub(super) fn open_subscription(keyring: &Keyring, lane: Lane, row: &[u8]) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    open(keyring, SUBSCRIPTION.name(), &lane.0.to_be_bytes(), row)
}

pub(super) fn open_creation(keyring: &Keyring, key: &[u8], row: &[u8]) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    open(keyring, CREATION.name(), key, row)
}

fn open(keyring: &Keyring, table: &str, row: &[u8], value: &[u8]) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    keyring.open(Place { table, row }, value).map_err(|unopened| match unopened {
        Unopened::UnknownKey(id) => StoreError::UnknownKey(id),
        Unopened::Forged => {
            StoreError::Record("cannot be decrypted: it was changed, or stands where it does not belong")
        }
    })
}

/// How far all rows were gone through: what comes next.
#[derive(Clone, Debug)]
pub(super) enum Progress {
    /// Subscriptions from that lane on.
    Subscriptions(u32),
    /// Then creations from that key on.
    Creations(Vec<u8>),
}

impl Progress {
    pub(super) const BEGINNING: Progress = Progress::Subscriptions(0);
}

/// Rows to write anew, and what they weigh.
struct Meant<K> {
    rows: Vec<(K, Vec<u8>)>,
    bytes: usize,
    seen: usize,
}

impl<K> Meant<K> {
    fn new() -> Meant<K> {
        Meant { rows: Vec::new(), bytes: 0, seen: 0 }
    }

    fn is_full(&self) -> bool {
        self.rows.len() == BULK_ROWS_MAX || self.bytes >= RESEAL_BYTES_MAX || self.seen == PAGE_SCAN_MAX
    }

    fn push(&mut self, key: K, sealed: Vec<u8>) {
        self.bytes += sealed.len();
        self.rows.push((key, sealed));
    }
}

/// What one step did.
pub(super) struct Resealed {
    /// What comes next; none: all rows are gone through.
    pub(super) next: Option<Progress>,
    /// Rows written anew.
    pub(super) written: usize,
    /// Rows gone through.
    pub(super) seen: usize,
    /// Rows passed over because they cannot be read: they stay as they are.
    pub(super) unreadable: usize,
}

/// How many rows there are to go through.
pub(super) fn rows(transaction: &WriteTransaction) -> Result<u64, StoreError> {
    Ok(transaction.open_table(SUBSCRIPTION)?.len()? + transaction.open_table(CREATION)?.len()?)
}

/// Seals the next rows.
pub(super) fn step(
    transaction: &WriteTransaction,
    sealer: &mut Sealer<'_>,
    from: &Progress,
) -> Result<Resealed, StoreError> {
    let mut unreadable = 0;
    match from {
        Progress::Subscriptions(first) => {
            let mut table = transaction.open_table(SUBSCRIPTION)?;
            let (mut meant, mut next) = (Meant::new(), Progress::Creations(Vec::new()));
            for row in table.range(*first..)? {
                let (key, value) = row?;
                let lane = Lane(key.value());
                if meant.is_full() {
                    next = Progress::Subscriptions(lane.0);
                    break;
                }
                meant.seen += 1;
                if !sealer.keyring.is_current(value.value()) {
                    let opened = open_subscription(sealer.keyring, lane, value.value());
                    let Some(opened) = passed_over(opened, format_args!("subscription {lane}"))? else {
                        unreadable += 1;
                        continue;
                    };
                    meant.push(lane, sealer.subscription(lane, &opened)?);
                }
            }
            for (lane, sealed) in &meant.rows {
                table.insert(lane.0, sealed.as_slice())?;
            }
            Ok(Resealed { next: Some(next), written: meant.rows.len(), seen: meant.seen, unreadable })
        }
        Progress::Creations(first) => {
            let mut table = transaction.open_table(CREATION)?;
            let (mut meant, mut next) = (Meant::new(), None);
            for row in table.range(first.as_slice()..)? {
                let (key, value) = row?;
                let key = key.value().to_vec();
                if meant.is_full() {
                    next = Some(Progress::Creations(key));
                    break;
                }
                meant.seen += 1;
                if !sealer.keyring.is_current(value.value()) {
                    let opened = open_creation(sealer.keyring, &key, value.value());
                    let Some(opened) = passed_over(opened, "an idempotency key")? else {
                        unreadable += 1;
                        continue;
                    };
                    let sealed = sealer.creation(&key, &opened)?;
                    meant.push(key, sealed);
                }
            }
            for (key, sealed) in &meant.rows {
                table.insert(key.as_slice(), sealed.as_slice())?;
            }
            Ok(Resealed { next, written: meant.rows.len(), seen: meant.seen, unreadable })
        }
    }
}
