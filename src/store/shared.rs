//! What readers and the writer share: the open database, everything configured in
//! memory, what is counted, the queue.

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata};
use rustc_hash::FxHashMap;
use tokio::sync::Semaphore;

use crate::config::Retention;
use crate::histogram::Histogram;
use crate::id::{Lane, SubscriptionId};
use crate::limits::{COMMIT_ITEMS, LARGE_STORE_BYTES, WAL_BYTES_MAX, WAL_SHARE};
use crate::model::{DEFAULT_ORGANIZATION, LaneStats, ManagedBy, Name, Organization};
use crate::registry::Registry;
use crate::seal::{KeyId, Keyring};
use crate::secrecy::Rule;
use crate::time::{Clock, Timestamp};

use super::ahead::Ahead;
use super::count::Counts;
use super::query::{OldestPending, ReadError};
use super::queue::Queue;
#[cfg(test)]
use super::simulated::Side;
use super::space::Ballast;
use super::wal::{self, Wal};
use super::work::{Kind, UnderWay, percent};
use super::writer::Command;
use super::{
    FILE_NAME, OpenError, Options, Settle, StoreError, open, passed_over, records, recount, schema, settings, tables,
};

/// A key, or none: in clear.
pub(super) type SealedUnder = Option<KeyId>;

/// What is told of the rows while nobody can read them. Nothing is written meanwhile, so
/// that it is right.
#[derive(Clone, Copy)]
pub(super) struct StandIn {
    /// Of events, and of pending deliveries.
    pub(super) row_counts: (u64, u64),
    pub(super) oldest_pending: OldestPending,
}

/// What readers and the writer share.
pub(super) struct Shared {
    pub(super) file: PathBuf,
    pub(super) ballast: Ballast,
    /// Where a simulation keeps what else the file holds.
    #[cfg(test)]
    pub(super) disk: Option<super::simulated::Disk>,
    pub(super) clock: Clock,
    pub(super) options: RwLock<Options>,
    pub(super) rules: RwLock<Arc<Vec<Rule>>>,
    pub(super) database: RwLock<Option<Arc<Database>>>,
    pub(super) ahead: Ahead,
    pub(super) registry: RwLock<Registry>,
    pub(super) lanes: Mutex<FxHashMap<Lane, LaneStats>>,
    pub(super) counts: Mutex<Counts>,
    pub(super) is_full: AtomicBool,
    pub(super) has_failed: AtomicBool,
    /// Under which key every row is sealed that holds secrets, where that is known.
    pub(super) sealed_under: Mutex<Option<SealedUnder>>,
    pub(super) under_way: Arc<UnderWay>,
    /// There while the database is compacted.
    pub(super) stand_in: Mutex<Option<StandIn>>,
    /// When the store was restored, while its deliveries are held since.
    pub(super) held_since: Mutex<Option<Timestamp>>,
    /// One backup is made at a time.
    pub(super) backups: Arc<Semaphore>,
    pub(super) queue: Queue<Command, Settle>,
    /// From which size of its file on the store is a large one.
    pub(super) large_from_bytes: u64,
    /// What the write-ahead log may take.
    pub(super) wal_bytes_max: u64,
    /// How many events, outcomes, retries and cancellations shared each commit.
    pub(super) commit_items: Histogram,
}

impl Shared {
    /// What a closed store has.
    pub(super) fn new(options: Options, clock: Clock) -> Shared {
        let ballast = Ballast::of(&options.path);
        let wal_bytes_max = ballast.bytes().map_or(WAL_BYTES_MAX, |bytes| bytes / WAL_SHARE);
        Shared {
            file: options.path.join(FILE_NAME),
            wal_bytes_max,
            under_way: Arc::new(UnderWay::of(&options.path)),
            stand_in: Mutex::new(None),
            ballast,
            #[cfg(test)]
            disk: None,
            clock,
            rules: RwLock::new(Arc::new(options.secrecy.clone())),
            options: RwLock::new(options),
            database: RwLock::new(None),
            ahead: Ahead::new(),
            registry: RwLock::new(Registry::default()),
            lanes: Mutex::new(FxHashMap::default()),
            counts: Mutex::new(Counts::default()),
            is_full: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
            sealed_under: Mutex::new(None),
            held_since: Mutex::new(None),
            backups: Arc::new(Semaphore::new(1)),
            queue: Queue::new(),
            large_from_bytes: LARGE_STORE_BYTES,
            commit_items: Histogram::new(COMMIT_ITEMS),
        }
    }

    /// The database as the writer knows it, who has more (see `ahead.rs`).
    pub(super) fn database(&self) -> Option<Arc<Database>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The database for who reads: with all that was answered. Blocking.
    pub(super) fn shown(&self) -> Option<Arc<Database>> {
        self.database()?;
        match self.ahead.show() {
            // Now: it may have been opened anew meanwhile, for what was answered.
            Ok(()) => self.database(),
            Err(error) => {
                tracing::error!(%error, "the store cannot be read");
                // The writer knows why, and opens it anew.
                self.queue.nudge();
                None
            }
        }
    }

    pub(super) fn put_database(&self, database: Option<Arc<Database>>) {
        match &database {
            Some(_) => self.ahead.end(),
            None => self.ahead.lose(),
        }
        self.has_failed.store(database.is_none(), Ordering::Relaxed);
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = database;
    }

    pub(super) fn registry(&self) -> RwLockReadGuard<'_, Registry> {
        self.registry.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn registry_mut(&self) -> RwLockWriteGuard<'_, Registry> {
        self.registry.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lanes(&self) -> MutexGuard<'_, FxHashMap<Lane, LaneStats>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn held_since(&self) -> MutexGuard<'_, Option<Timestamp>> {
        self.held_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of the events that wait in the enabled lanes of an organization and of
    /// those below it: what its share limits. One that waits in two counts twice.
    pub(super) fn pending_bytes(&self, registry: &Registry, organization: &Name) -> u64 {
        let lanes = self.lanes();
        let enabled = registry.subscriptions_below(organization).filter(|subscription| subscription.is_enabled());
        enabled.filter_map(|subscription| lanes.get(&subscription.number)).map(|stats| stats.pending_bytes).sum()
    }

    /// How many lanes have anything pending.
    pub(super) fn lanes_in_use(&self) -> usize {
        self.lanes().values().filter(|stats| stats.pending > 0).count()
    }

    pub(super) fn stand_in(&self) -> MutexGuard<'_, Option<StandIn>> {
        self.stand_in.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn rules(&self) -> Arc<Vec<Rule>> {
        self.rules.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn keyring(&self) -> Arc<Keyring> {
        self.options.read().unwrap_or_else(PoisonError::into_inner).keyring.clone()
    }

    /// Live bytes at which publishing is refused; 0: what the disk has.
    pub(super) fn bytes_max(&self) -> u64 {
        self.options.read().unwrap_or_else(PoisonError::into_inner).bytes_max
    }

    /// Bytes of the disk that are left free.
    pub(super) fn reserve_bytes(&self) -> u64 {
        self.options.read().unwrap_or_else(PoisonError::into_inner).reserve_bytes
    }

    pub(super) fn retention(&self) -> Retention {
        self.options.read().unwrap_or_else(PoisonError::into_inner).retention.clone()
    }

    /// Opens the database anew, where it had to be dropped.
    pub(super) fn open_database(&self) -> Result<Database, OpenError> {
        self.create(&self.builder())
    }

    pub(super) fn builder(&self) -> redb::Builder {
        let cache_bytes = self.options.read().unwrap_or_else(PoisonError::into_inner).cache_bytes;
        open::builder(cache_bytes)
    }

    pub(super) fn create(&self, builder: &redb::Builder) -> Result<Database, OpenError> {
        #[cfg(test)]
        if let Some(disk) = &self.disk {
            let created = builder.create_with_backend(disk.backend(Side::Database));
            return created.map_err(|error| OpenError::of(&self.file, error));
        }
        // Made beside its place, so that an empty file is a damaged store and no new one.
        let made = if self.file.exists() { Ok(()) } else { self.make_database(builder) };
        made.and_then(|()| builder.open(&self.file)).map_err(|error| OpenError::of(&self.file, error))
    }

    /// Opens the log beside the database, or makes it. To be replayed before anything is
    /// written.
    pub(super) fn open_wal(&self) -> Result<Wal, OpenError> {
        #[cfg(test)]
        if let Some(disk) = &self.disk {
            return Ok(Wal::of(Box::new(disk.backend(Side::Log)), self.wal_bytes_max));
        }
        Wal::open(&wal::path_of(&self.file), self.wal_bytes_max)
    }

    /// Size of the database's file.
    pub(super) fn file_bytes(&self) -> u64 {
        #[cfg(test)]
        if let Some(disk) = &self.disk {
            return disk.database_bytes();
        }
        std::fs::metadata(&self.file).map_or(0, |file| file.len())
    }

    /// Whether that is so much that nobody should wait until all of it is read.
    pub(super) fn is_large(&self) -> bool {
        self.file_bytes() >= self.large_from_bytes
    }

    pub(super) fn compact_above_bytes(&self) -> u64 {
        self.options.read().unwrap_or_else(PoisonError::into_inner).compact_above_bytes
    }

    /// A new database gets its name once it is whole: one that was begun, and cut off
    /// by a full disk or a crash, could never be opened.
    fn make_database(&self, builder: &redb::Builder) -> Result<(), redb::DatabaseError> {
        let begun = self.file.with_extension("new");
        let remove = || drop(std::fs::remove_file(&begun));
        let make = || {
            drop(builder.create(&begun)?);
            std::fs::rename(&begun, &self.file)?;
            // A power cut must not take the name, and with it all that was answered.
            let folder = self.file.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all());
            Ok(folder?)
        };
        match make() {
            made @ (Ok(()) | Err(redb::DatabaseError::DatabaseAlreadyOpen)) => made,
            Err(_) => {
                // What a crash left there may be in the way.
                remove();
                make().inspect_err(|_| remove())
            }
        }
    }

    /// Reads what is configured and what is counted. What lanes went through is read
    /// only where it is not in memory, and what they have pending counted anew only
    /// where `needs_count` says so.
    pub(super) fn load(&self, database: &Database, needs_count: impl Fn(Lane) -> bool) -> Result<(), StoreError> {
        let transaction = database.begin_read()?;
        let keyring = self.keyring();
        let mut registry = Registry::with_catalog();
        for row in transaction.open_table(tables::ORGANIZATION)?.iter()? {
            let (key, value) = row?;
            let (id, read) = (key.value(), settings::read_organization(key.value(), value.value()));
            if let Some(it) = passed_over(read, format_args!("organization {id}"))? {
                registry.put_organization(it);
            }
        }
        for row in transaction.open_table(tables::SOURCE)?.iter()? {
            let (key, value) = row?;
            let (id, read) = (key.value(), settings::read_source(key.value(), value.value()));
            if let Some(it) = passed_over(read, format_args!("source {id}"))? {
                registry.put_source(it);
            }
        }
        for row in transaction.open_table(tables::EVENT_TYPE)?.iter()? {
            let (key, value) = row?;
            let (name, read) = (key.value(), settings::read_event_type(key.value(), value.value()));
            if let Some(it) = passed_over(read, format_args!("event type {name}"))? {
                registry.put_event_type(it);
            }
        }
        for row in transaction.open_table(tables::ENDED)?.iter()? {
            let (key, value) = row?;
            let lane = tables::ended_lane(key.value());
            let ended = passed_over(settings::read_ended(value.value()), format_args!("ended subscription {lane}"))?;
            if let Some(it) = ended {
                registry.put_ended(lane, SubscriptionId(it.id), Name::from(it.organization));
            }
        }
        if registry.organization(DEFAULT_ORGANIZATION).is_none() {
            let id = Name::from(DEFAULT_ORGANIZATION);
            let at = Timestamp::ZERO;
            let (name, parent, bytes_max, managed_by) = (String::new(), None, None, ManagedBy::Api);
            let (created_at, updated_at) = (at, at);
            registry.put_organization(Organization { id, name, parent, bytes_max, managed_by, created_at, updated_at });
        }
        let stats = transaction.open_table(tables::STATS)?;
        let pending = transaction.open_table(tables::PENDING)?;
        let (mut lanes, mut in_doubt) = (FxHashMap::default(), Vec::new());
        let in_memory = self.lanes().clone();
        for row in transaction.open_table(tables::SUBSCRIPTION)?.iter()? {
            let (key, value) = row?;
            let lane = Lane(key.value());
            let read = settings::read_subscription(lane, value.value(), &keyring);
            let Some(subscription) = passed_over(read, format_args!("subscription {lane}"))? else { continue };
            registry.put_subscription(Arc::new(subscription));
            let known = match (in_memory.get(&lane), stats.get(lane.0)?) {
                (Some(known), _) => Some(known.clone()),
                (None, Some(row)) => {
                    passed_over(records::decode_stats(row.value()), format_args!("counters of subscription {lane}"))?
                }
                (None, None) => Some(LaneStats::default()),
            };
            if known.is_none() || needs_count(lane) {
                in_doubt.push((lane, known.as_ref().map_or(0, |known| known.pending)));
            }
            lanes.insert(lane, known.unwrap_or_default());
        }
        let (now, rows) = (self.clock.now(), pending.len()?);
        let found = recount::count(&pending, &in_doubt, |counted| {
            self.under_way.tell(Kind::Count, now, percent(counted, rows), Some(counted), Some(rows));
        })?;
        for ((lane, _), counted) in in_doubt.into_iter().zip(found) {
            let stats = lanes.entry(lane).or_default();
            (stats.pending, stats.pending_bytes) = (counted.deliveries, counted.bytes);
        }
        self.under_way.end(Kind::Count);
        *self.held_since() = schema::held_since(&transaction)?;
        *self.registry_mut() = registry;
        *self.lanes() = lanes;
        *self.counts() = Counts::load(database)?;
        Ok(())
    }

    /// Where an error says that the database is damaged, the next start is to check it.
    pub(super) fn doubt(&self, error: &StoreError) {
        if error.is_damage() {
            open::ask_for_check(&self.file);
        }
    }

    pub(super) fn read<T>(&self, query: impl FnOnce(&Database) -> Result<T, StoreError>) -> Result<T, ReadError> {
        let database = self.shown().ok_or(ReadError)?;
        query(&database).map_err(|error| {
            tracing::error!(%error, "the store cannot be read");
            self.doubt(&error);
            ReadError
        })
    }
}
