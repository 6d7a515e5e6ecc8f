//! Holds index and records against each other: **every pending row is where its
//! records say it stands, every delivery of an event has an outcome or such a row,
//! and what is counted is what is there.** Reads everything once and a few rows for
//! each, so that memory does not grow with the store.

use std::collections::BTreeMap;
use std::fmt;

use redb::{Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable};

use crate::id::{DeliveryId, EventId, Lane};
use crate::limits::FAULTS_TOLD_MAX;
use crate::model::Name;
use crate::seal::{KeyId, Keyring};

use super::count::Counts;
use super::hot::{Standing, lanes_of, standing};
use super::records::{OutcomeState, decode_event_summary, decode_pending};
use super::tables::*;
use super::{StoreError, purge, settings};

/// What does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The sums of some pages are wrong.
    Sums,
    /// A record that cannot be read: the daemon passes it over.
    Unreadable(String),
    /// A record that is encrypted under a key that is not configured.
    NoKey(String, KeyId),
    /// A delivery that is neither pending nor ended.
    Lost(DeliveryId),
    /// A pending row that no record speaks of.
    Unproven(DeliveryId),
    /// A row of this table whose event is not there.
    Stray(&'static str, DeliveryId),
    /// Something is counted that is not there, or the other way round.
    Counted {
        /// What.
        what: String,
        /// What the counter says.
        counted: u64,
        /// What there is.
        found: u64,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Sums => f.write_str(
                "pages were damaged, and the commit before was taken: what was answered since may be lost; restore a \
                 backup, or publish it again",
            ),
            Fault::Unreadable(what) => {
                write!(f, "{what}; the daemon passes it over: restore a backup if it is needed")
            }
            Fault::NoKey(what, key) => {
                write!(f, "{what} is encrypted under the key {key}: name its file under [storage]")
            }
            Fault::Lost(id) => {
                write!(f, "delivery {id} is neither pending nor ended, and is never attempted: publish its event again")
            }
            Fault::Unproven(id) => {
                write!(f, "delivery {id} waits in the queue, and its records do not say so: cancel it")
            }
            Fault::Stray(table, id) => {
                write!(f, "a row of {table} speaks of {id}, whose event is gone: it only takes room")
            }
            Fault::Counted { what, counted, found } => write!(
                f,
                "{what} are counted as {counted} and are {found}: quotas are held to the wrong figure; restore a backup"
            ),
        }
    }
}

/// What was looked at, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Events.
    pub events: u64,
    /// Deliveries of them, pending or ended.
    pub deliveries: u64,
    /// Those that are pending.
    pub pending: u64,
    /// The first [`FAULTS_TOLD_MAX`].
    pub faults: Vec<Fault>,
    /// How many there are in all.
    pub faults_total: u64,
}

impl Report {
    pub(super) fn found(&mut self, fault: Fault) {
        self.faults_total += 1;
        if self.faults.len() < FAULTS_TOLD_MAX {
            self.faults.push(fault);
        }
    }

    /// What was read; a record that could not be is noted.
    fn readable<T>(
        &mut self,
        read: Result<T, StoreError>,
        of: impl FnOnce() -> String,
    ) -> Result<Option<T>, StoreError> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(StoreError::Record(fault)) => {
                self.found(Fault::Unreadable(format!("{} {fault}", of())));
                Ok(None)
            }
            Err(StoreError::UnknownKey(key)) => {
                self.found(Fault::NoKey(of(), key));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Looks at everything; `keyring` opens what is sealed. Without one that is passed over.
///
/// # Errors
/// Where the database itself cannot be read.
pub(super) fn inspect(database: &Database, keyring: Option<&Keyring>) -> Result<Report, StoreError> {
    let transaction = database.begin_read()?;
    let tables = Tables {
        events: transaction.open_table(EVENT)?,
        pending: transaction.open_table(PENDING)?,
        outcomes: transaction.open_table(OUTCOME)?,
        attempts: transaction.open_table(ATTEMPT)?,
        being_purged: purge::under_way(&transaction)?,
    };
    let mut inspection = Inspection::default();
    inspection.walk_events(&tables)?;
    inspection.walk_pending(&tables)?;
    inspection.walk_strays(&tables)?;
    inspection.walk_configured(&transaction, keyring)?;
    inspection.count(&transaction, &Counts::load(database)?)?;
    Ok(inspection.report)
}

struct Tables {
    events: ReadOnlyTable<&'static [u8; 12], &'static [u8]>,
    pending: ReadOnlyTable<&'static [u8; 24], &'static [u8]>,
    outcomes: ReadOnlyTable<&'static [u8; 16], &'static [u8]>,
    attempts: ReadOnlyTable<&'static [u8; 20], &'static [u8]>,
    /// The event that is gone, but not all that belongs to it.
    being_purged: Option<EventId>,
}

impl Tables {
    fn standing(&self, id: DeliveryId, lanes: &[u32]) -> Result<Option<Standing>, StoreError> {
        standing(id, lanes, &self.pending, &self.outcomes, &self.attempts)
    }

    /// Whether an event is there. Rows of one stand together: `last`, the one that was
    /// found last, is not looked for again.
    fn has(&self, event: EventId, last: &mut Option<EventId>) -> Result<bool, StoreError> {
        if *last == Some(event) || self.being_purged == Some(event) {
            return Ok(true);
        }
        let is_there = self.events.get(&event.to_key())?.is_some();
        *last = is_there.then_some(event);
        Ok(is_there)
    }
}

#[derive(Default)]
struct Inspection {
    live_bytes: u64,
    organizations: BTreeMap<Name, u64>,
    report: Report,
}

impl Inspection {
    /// Every delivery of every event has an outcome or a pending row.
    fn walk_events(&mut self, tables: &Tables) -> Result<(), StoreError> {
        for row in tables.events.iter()? {
            let (key, value) = row?;
            let event = EventId::from_key(*key.value());
            self.report.events += 1;
            let bytes = 12 + value.value().len() as u64;
            self.live_bytes += bytes;
            let read = decode_event_summary(value.value());
            let Some(summary) = self.report.readable(read, || format!("event {event}"))? else { continue };
            *self.organizations.entry(Name::from(summary.organization)).or_default() += bytes;
            for lane in lanes_of(event, &summary.lanes, &tables.outcomes)? {
                let id = event.delivery(Lane(lane));
                self.report.deliveries += 1;
                let read = tables.standing(id, &summary.lanes);
                let read = self.report.readable(read, || format!("a record of delivery {id}"))?;
                let Some(standing) = read.flatten() else { continue };
                let has_ended = standing.outcome.is_some_and(|it| matches!(it.state, OutcomeState::Ended(_)));
                if !has_ended && standing.head.is_none() {
                    self.report.found(Fault::Lost(id));
                }
            }
        }
        Ok(())
    }

    /// Every pending row is where its records say.
    fn walk_pending(&mut self, tables: &Tables) -> Result<(), StoreError> {
        for row in tables.pending.iter()? {
            let (key, value) = row?;
            let (lane, place) = pending_from_key(key.value());
            let id = place.1.delivery(lane);
            self.report.pending += 1;
            self.live_bytes += 24 + value.value().len() as u64;
            let read = decode_pending(place, value.value());
            if self.report.readable(read, || format!("the pending row of delivery {id}"))?.is_none() {
                continue;
            }
            let lanes = match tables.events.get(&place.1.to_key())? {
                // What cannot be read was told of among the events, and so it is below.
                Some(event) => match decode_event_summary(event.value()) {
                    Ok(summary) => summary.lanes,
                    Err(_) => continue,
                },
                None => {
                    self.report.found(Fault::Stray("pending", id));
                    continue;
                }
            };
            let standing = match tables.standing(id, &lanes) {
                Err(StoreError::Record(_)) => continue,
                read => read?,
            };
            let is_proven = standing.and_then(|it| it.head).is_some_and(|head| head.key() == place);
            if !is_proven {
                self.report.found(Fault::Unproven(id));
            }
        }
        Ok(())
    }

    /// Every outcome and attempt is of an event that is there.
    fn walk_strays(&mut self, tables: &Tables) -> Result<(), StoreError> {
        let mut last = None;
        for row in tables.outcomes.iter()? {
            let (key, value) = row?;
            self.live_bytes += 16 + value.value().len() as u64;
            let id = DeliveryId::from_key(*key.value());
            if !tables.has(id.event(), &mut last)? {
                self.report.found(Fault::Stray("outcome", id));
            }
        }
        for row in tables.attempts.iter()? {
            let (key, value) = row?;
            self.live_bytes += 20 + value.value().len() as u64;
            let id = attempt_delivery(key.value());
            if !tables.has(id.event(), &mut last)? {
                self.report.found(Fault::Stray("attempt", id));
            }
        }
        Ok(())
    }

    /// Everything that is configured can be read.
    fn walk_configured(&mut self, transaction: &ReadTransaction, keyring: Option<&Keyring>) -> Result<(), StoreError> {
        for row in transaction.open_table(ORGANIZATION)?.iter()? {
            let (key, value) = row?;
            let read = settings::read_organization(key.value(), value.value());
            self.report.readable(read, || format!("organization {}", key.value()))?;
        }
        for row in transaction.open_table(SOURCE)?.iter()? {
            let (key, value) = row?;
            let read = settings::read_source(key.value(), value.value());
            self.report.readable(read, || format!("source {}", key.value()))?;
        }
        for row in transaction.open_table(EVENT_TYPE)?.iter()? {
            let (key, value) = row?;
            let read = settings::read_event_type(key.value(), value.value());
            self.report.readable(read, || format!("event type {}", key.value()))?;
        }
        let none = Keyring::default();
        for row in transaction.open_table(SUBSCRIPTION)?.iter()? {
            let (key, value) = row?;
            let read = settings::read_subscription(Lane(key.value()), value.value(), keyring.unwrap_or(&none));
            if keyring.is_none() && matches!(read, Err(StoreError::UnknownKey(_))) {
                continue;
            }
            self.report.readable(read, || format!("subscription number {}", key.value()))?;
        }
        Ok(())
    }

    /// Live bytes are those of the rows, each organization's too.
    fn count(&mut self, transaction: &ReadTransaction, counts: &Counts) -> Result<(), StoreError> {
        for row in transaction.open_table(IDEMPOTENCY)?.iter()? {
            let (key, value) = row?;
            self.live_bytes += (key.value().len() + value.value().len()) as u64;
        }
        let mut compare = |what: String, counted: u64, found: u64| {
            if counted != found {
                self.report.found(Fault::Counted { what, counted, found });
            }
        };
        compare("live bytes".to_owned(), counts.live_bytes, self.live_bytes);
        for (organization, found) in &self.organizations {
            compare(format!("bytes of organization {organization}"), counts.bytes_of(organization), *found);
        }
        for organization in counts.organizations().filter(|it| !self.organizations.contains_key(*it)) {
            compare(format!("bytes of organization {organization}"), counts.bytes_of(organization), 0);
        }
        Ok(())
    }
}
