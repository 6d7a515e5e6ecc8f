//! What is counted over everything: live bytes, and what became of events and
//! deliveries. **Written in the very commit that changes it**, so that it is right
//! after a crash without a recount.

use std::collections::{BTreeMap, HashMap};

use redb::{Database, ReadableDatabase, ReadableTable, WriteTransaction};

use crate::model::{Name, TerminalState};

use super::StoreError;
use super::tables::COUNT;
use super::wal::{Logged, Record};

/// The row of totals in [`COUNT`].
const TOTALS: &str = "totals";
/// What the rows of organizations begin with.
const BYTES_OF: &str = "bytes/";

/// See the file's beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Bytes that hold something of events and deliveries.
    pub(super) live_bytes: u64,
    /// Events accepted.
    pub(super) accepted: u64,
    /// Events that had been accepted before.
    pub(super) duplicates: u64,
    /// Deliveries that ended, by [`TerminalState`].
    pub(super) ended: [u64; 3],
    /// Bytes of the retained events of each organization that has any.
    organization_bytes: HashMap<Name, u64>,
}

/// By how much a transaction changes the live bytes.
#[derive(Debug, Default)]
pub(super) struct BytesChange {
    pub(super) live: i64,
    pub(super) organizations: BTreeMap<Name, i64>,
}

/// By how much a transaction changes the counts.
#[derive(Debug, Default)]
pub(super) struct CountsChange {
    pub(super) bytes: BytesChange,
    pub(super) accepted: u64,
    pub(super) duplicates: u64,
    pub(super) ended: [u64; 3],
}

impl BytesChange {
    /// An event's row of `bytes` came (or went, where it is negative).
    pub(super) fn event(&mut self, organization: &str, bytes: i64) {
        self.live += bytes;
        match self.organizations.get_mut(organization) {
            Some(sum) => *sum += bytes,
            None => drop(self.organizations.insert(Name::from(organization), bytes)),
        }
    }
}

impl CountsChange {
    fn is_none(&self) -> bool {
        self.bytes.live == 0
            && self.bytes.organizations.is_empty()
            && (self.accepted, self.duplicates, self.ended) == (0, 0, [0; 3])
    }
}

impl Counts {
    /// As they were last committed.
    pub(super) fn load(database: &Database) -> Result<Counts, StoreError> {
        let transaction = database.begin_read()?;
        let mut counts = Counts::default();
        for row in transaction.open_table(COUNT)?.iter()? {
            let (key, value) = row?;
            let mut numbers = value.value().chunks_exact(8).map(|bytes| bytes.try_into().map_or(0, u64::from_be_bytes));
            let mut next = || numbers.next().unwrap_or(0);
            match key.value().strip_prefix(BYTES_OF) {
                Some(organization) => drop(counts.organization_bytes.insert(Name::from(organization), next())),
                // Another row is none of these: see `schema.rs`.
                None if key.value() != TOTALS => {}
                None => {
                    (counts.live_bytes, counts.accepted, counts.duplicates) = (next(), next(), next());
                    counts.ended = [next(), next(), next()];
                }
            }
        }
        Ok(counts)
    }

    /// Bytes of an organization's retained events; none retained: 0.
    pub(super) fn bytes_of(&self, organization: &str) -> u64 {
        self.organization_bytes.get(organization).copied().unwrap_or(0)
    }

    /// Organizations that have retained events.
    pub(super) fn organizations(&self) -> impl Iterator<Item = &Name> {
        self.organization_bytes.keys()
    }

    /// Deliveries that ended so.
    pub(super) fn ended(&self, state: TerminalState) -> u64 {
        self.ended[state as usize]
    }

    /// Takes over what is committed.
    pub(super) fn apply(&mut self, change: &CountsChange) {
        self.live_bytes = self.live_bytes.saturating_add_signed(change.bytes.live);
        self.accepted += change.accepted;
        self.duplicates += change.duplicates;
        for (count, more) in self.ended.iter_mut().zip(change.ended) {
            *count += more;
        }
        for (organization, bytes) in &change.bytes.organizations {
            match self.bytes_of(organization).saturating_add_signed(*bytes) {
                0 => self.organization_bytes.remove(organization),
                left => self.organization_bytes.insert(organization.clone(), left),
            };
        }
    }

    /// Writes the counts as they will be once `change` is committed, and notes that where
    /// it is to be logged.
    pub(super) fn write(
        &self,
        transaction: &WriteTransaction,
        change: &CountsChange,
        mut record: Option<&mut Record>,
    ) -> Result<(), StoreError> {
        let mut note = |key: &str, value: Option<&[u8]>| {
            if let Some(record) = &mut record {
                record.set(Logged::Count, key.as_bytes(), value);
            }
        };
        if change.is_none() {
            return Ok(());
        }
        let live_bytes = self.live_bytes.saturating_add_signed(change.bytes.live);
        let mut row = Vec::with_capacity(48);
        for number in [live_bytes, self.accepted + change.accepted, self.duplicates + change.duplicates] {
            row.extend(number.to_be_bytes());
        }
        for (count, more) in self.ended.iter().zip(change.ended) {
            row.extend((count + more).to_be_bytes());
        }
        let mut table = transaction.open_table(COUNT)?;
        table.insert(TOTALS, row.as_slice())?;
        note(TOTALS, Some(&row));
        for (organization, bytes) in &change.bytes.organizations {
            let key = format!("{BYTES_OF}{organization}");
            match self.bytes_of(organization).saturating_add_signed(*bytes) {
                0 => {
                    table.remove(key.as_str())?;
                    note(&key, None);
                }
                left => {
                    table.insert(key.as_str(), left.to_be_bytes().as_slice())?;
                    note(&key, Some(&left.to_be_bytes()));
                }
            }
        }
        Ok(())
    }
}
