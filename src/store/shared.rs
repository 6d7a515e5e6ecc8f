//! What readers and the writer share: the open database, everything configured in
//! memory, what is counted, the queue.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use redb::{Database, ReadableDatabase, ReadableTable};

use crate::config::Retention;
use crate::id::{EventId, Lane, SubscriptionId};
use crate::model::{DEFAULT_ORGANIZATION, Head, LaneStats, Name, Organization};
use crate::registry::Registry;
use crate::secrecy::Rule;
use crate::time::{Clock, Timestamp};

use super::count::Counts;
use super::query::ReadError;
use super::queue::Queue;
use super::writer::Command;
use super::{FILE_NAME, OpenError, Options, Settle, StoreError, records, settings, tables};

/// How much room is left, from none up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Room {
    /// Publishing is refused.
    None,
    /// Less than a tenth of the quota, or twice the reserve of the disk.
    Low,
    /// More.
    Enough,
}

/// Where to look for the oldest pending delivery.
pub(super) struct OldestPending {
    /// No event before this has one.
    pub(super) from: EventId,
    /// How often deliveries were opened again: who looked meanwhile found nothing out.
    pub(super) reopened: u64,
}

/// What readers and the writer share.
pub(super) struct Shared {
    pub(super) file: PathBuf,
    /// Where a simulation keeps what else the file holds.
    #[cfg(test)]
    pub(super) disk: Option<super::simulated::Disk>,
    pub(super) clock: Clock,
    pub(super) options: RwLock<Options>,
    pub(super) rules: RwLock<Arc<Vec<Rule>>>,
    pub(super) database: RwLock<Option<Arc<Database>>>,
    pub(super) registry: RwLock<Registry>,
    pub(super) lanes: Mutex<HashMap<Lane, LaneStats>>,
    pub(super) counts: Mutex<Counts>,
    pub(super) is_full: AtomicBool,
    pub(super) has_failed: AtomicBool,
    pub(super) oldest_pending: Mutex<OldestPending>,
    pub(super) queue: Queue<Command, Settle>,
}

impl Shared {
    /// What a closed store has.
    pub(super) fn new(options: Options, clock: Clock) -> Shared {
        Shared {
            file: options.path.join(FILE_NAME),
            #[cfg(test)]
            disk: None,
            clock,
            rules: RwLock::new(Arc::new(options.secrecy.clone())),
            options: RwLock::new(options),
            database: RwLock::new(None),
            registry: RwLock::new(Registry::default()),
            lanes: Mutex::new(HashMap::new()),
            counts: Mutex::new(Counts::default()),
            is_full: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
            oldest_pending: Mutex::new(OldestPending { from: EventId::first_at(Timestamp::ZERO), reopened: 0 }),
            queue: Queue::new(),
        }
    }

    pub(super) fn database(&self) -> Option<Arc<Database>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn put_database(&self, database: Option<Arc<Database>>) {
        self.has_failed.store(database.is_none(), Ordering::Relaxed);
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = database;
    }

    pub(super) fn registry(&self) -> RwLockReadGuard<'_, Registry> {
        self.registry.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn registry_mut(&self) -> RwLockWriteGuard<'_, Registry> {
        self.registry.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lanes(&self) -> MutexGuard<'_, HashMap<Lane, LaneStats>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn rules(&self) -> Arc<Vec<Rule>> {
        self.rules.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn retention(&self) -> Retention {
        self.options.read().unwrap_or_else(PoisonError::into_inner).retention.clone()
    }

    pub(super) fn oldest_pending(&self) -> MutexGuard<'_, OldestPending> {
        self.oldest_pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Deliveries were committed as pending again.
    pub(super) fn reopened(&self, heads: &[Head]) {
        let Some(oldest) = heads.iter().map(|head| head.event).min() else { return };
        let mut known = self.oldest_pending();
        known.from = known.from.min(oldest);
        known.reopened += 1;
    }

    /// How much room the quota and the disk have. What was low stays so until there
    /// is clearly more.
    pub(super) fn room(&self, before: Room) -> Room {
        let margin = |of: u64, part: u64| if before == Room::Enough { 0 } else { of / part };
        let (bytes_max, reserve_bytes) = {
            let options = self.options.read().unwrap_or_else(PoisonError::into_inner);
            (options.bytes_max, options.reserve_bytes)
        };
        let of_quota = match self.counts().live_bytes {
            live if bytes_max > 0 && live >= bytes_max => Room::None,
            live if bytes_max > 0 && live >= bytes_max / 10 * 9 - margin(bytes_max, 20) => Room::Low,
            _ => Room::Enough,
        };
        let of_disk = match rustix::fs::statvfs(&self.file) {
            Ok(disk) => match disk.f_bavail.saturating_mul(disk.f_frsize) {
                free if free < reserve_bytes => Room::None,
                free if free < reserve_bytes.saturating_mul(2).saturating_add(margin(reserve_bytes, 2)) => Room::Low,
                _ => Room::Enough,
            },
            // It cannot be told: writing will.
            Err(_) => Room::Enough,
        };
        of_quota.min(of_disk)
    }

    pub(super) fn open_database(&self) -> Result<Database, OpenError> {
        let cache_bytes = self.options.read().unwrap_or_else(PoisonError::into_inner).cache_bytes;
        let cache_bytes = usize::try_from(cache_bytes).unwrap_or(usize::MAX);
        let mut builder = Database::builder();
        builder.set_cache_size(cache_bytes);
        self.create(&builder).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => OpenError::InUse(self.file.clone()),
            error => OpenError::Database(self.file.clone(), Box::new(error.into())),
        })
    }

    fn create(&self, builder: &redb::Builder) -> Result<Database, redb::DatabaseError> {
        #[cfg(test)]
        if let Some(disk) = &self.disk {
            return builder.create_with_backend(disk.backend());
        }
        builder.create(&self.file)
    }

    /// Reads what is configured and what is counted. What lanes went through is read
    /// only where it is not in memory, and what they have pending counted anew only
    /// where `needs_count` says so.
    pub(super) fn load(&self, database: &Database, needs_count: impl Fn(Lane) -> bool) -> Result<(), StoreError> {
        let transaction = database.begin_read()?;
        let mut registry = Registry::with_catalog();
        for row in transaction.open_table(tables::ORGANIZATION)?.iter()? {
            let (key, value) = row?;
            registry.put_organization(settings::read_organization(key.value(), value.value())?);
        }
        for row in transaction.open_table(tables::SOURCE)?.iter()? {
            let (key, value) = row?;
            registry.put_source(settings::read_source(key.value(), value.value())?);
        }
        for row in transaction.open_table(tables::EVENT_TYPE)?.iter()? {
            let (key, value) = row?;
            registry.put_event_type(settings::read_event_type(key.value(), value.value())?);
        }
        for row in transaction.open_table(tables::ENDED)?.iter()? {
            let (key, value) = row?;
            let ended = settings::read_ended(value.value())?;
            registry.put_ended(
                tables::ended_lane(key.value()),
                SubscriptionId(ended.id),
                Name::from(ended.organization),
            );
        }
        if registry.organization(DEFAULT_ORGANIZATION).is_none() {
            let id = Name::from(DEFAULT_ORGANIZATION);
            let at = Timestamp::ZERO;
            let (name, parent, bytes_max) = (String::new(), None, None);
            registry.put_organization(Organization { id, name, parent, bytes_max, created_at: at, updated_at: at });
        }
        let stats = transaction.open_table(tables::STATS)?;
        let pending = transaction.open_table(tables::PENDING)?;
        let mut lanes = HashMap::new();
        let in_memory = self.lanes().clone();
        for row in transaction.open_table(tables::SUBSCRIPTION)?.iter()? {
            let (key, value) = row?;
            let lane = Lane(key.value());
            registry.put_subscription(Arc::new(settings::read_subscription(lane, value.value())?));
            let mut counted = match (in_memory.get(&lane), stats.get(lane.0)?) {
                (Some(known), _) => known.clone(),
                (None, Some(row)) => records::decode_stats(row.value())?,
                (None, None) => LaneStats::default(),
            };
            if needs_count(lane) {
                let (first, last) = tables::lane_bounds(lane);
                counted.pending = pending.range::<&[u8; 24]>(&first..=&last)?.count() as u64;
            }
            lanes.insert(lane, counted);
        }
        *self.registry_mut() = registry;
        *self.lanes() = lanes;
        *self.counts() = Counts::load(database)?;
        Ok(())
    }

    pub(super) fn read<T>(&self, query: impl FnOnce(&Database) -> Result<T, StoreError>) -> Result<T, ReadError> {
        let database = self.database().ok_or(ReadError)?;
        query(&database).map_err(|error| {
            tracing::error!(%error, "the store cannot be read");
            ReadError
        })
    }
}
