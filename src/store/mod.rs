//! The store: what is configured, the events, the queue, the outcomes. **The only
//! room that names redb.**
//!
//! One thread writes ([`writer`]), in transactions that hold whatever waits
//! together; everybody reads snapshots. What is configured is also in memory, as a
//! [`Registry`], in step with what is committed. The engine hears of commits by
//! [`Notice`]s, in their order.
//!
//! - `tables.rs` keys, `records.rs` and `settings.rs` stored forms, `schema.rs` versions.
//! - `count.rs` what is counted over everything; `recount.rs` what lanes have pending, after a crash.
//! - `hot.rs` what happens to events and deliveries inside a transaction; `wal.rs` the write-ahead log of it;
//!   `ahead.rs` what only that has.
//! - `sealed.rs` what is encrypted, and how keys are changed.
//! - `change.rs` changes of what is configured, `declare.rs` those that files make, `job.rs` bulk work, `purge.rs` retention.
//! - `work.rs` long work that is under way, and how far it is.
//! - `open.rs` opening, and what is checked then; `read_ahead.rs` so that this takes less long.
//! - `space.rs` how much room the disk and the quota have, and the ballast.
//! - `shared.rs` what readers and the writer share; `queue.rs` and `writer/` the thread;
//!   `read.rs` the queries.

mod ahead;
pub mod backup;
mod change;
#[cfg(test)]
mod check;
pub mod command;
mod count;
mod declare;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod hot;
pub mod inspect;
mod job;
pub mod offline;
mod open;
mod purge;
pub mod query;
mod queue;
mod read;
mod read_ahead;
mod records;
mod recount;
pub mod restore;
mod schema;
mod sealed;
mod settings;
mod shared;
#[cfg(test)]
pub(crate) mod simulated;
mod space;
mod stream;
mod tables;
#[cfg(test)]
mod tests;
mod wal;
pub mod work;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLockReadGuard};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{mpsc, oneshot};

use crate::config::Retention;
use crate::histogram::Histogram;
use crate::id::{DeliveryId, EventId, Lane, SubscriptionId};
use crate::json::Json;
use crate::limits::NOTICE_QUEUE_MAX;
use crate::model::{
    Attempt, Delivery, Event, Head, Key, LaneStats, Name, NewEvent, Settlement, Subscription, TerminalState,
};
use crate::registry::Registry;
use crate::seal::{KeyId, Keyring};
use crate::secrecy::Rule;
use crate::time::{Clock, Timestamp};

use command::*;
use job::JobKind;
use query::*;
use shared::Shared;
use space::Room;
use work::{UnderWay, Work};
use writer::{BulkDone, Command, Writer};

pub use open::OpenError;
pub use schema::SCHEMA_VERSION;

/// What the store depends on; a reload changes all but the path and the cache.
#[derive(Clone)]
pub struct Options {
    /// The folder of the database.
    pub path: PathBuf,
    /// Live bytes at which publishing is refused; 0: what the disk has.
    pub bytes_max: u64,
    /// Bytes of the disk that are left free.
    pub reserve_bytes: u64,
    /// Memory for pages.
    pub cache_bytes: u64,
    /// From which size on a file that is mostly free is compacted at the start; 0: never.
    pub compact_above_bytes: u64,
    /// How long ended things are kept.
    pub retention: Retention,
    /// What secrecy levels remove: filters see what is left.
    pub secrecy: Vec<Rule>,
    /// The keys of what holds secrets.
    pub keyring: Arc<Keyring>,
}

/// The database's file in its folder.
pub const FILE_NAME: &str = "posthaste.redb";

/// A fault of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database failed before a commit.
    #[error("{0}")]
    Database(Box<redb::Error>),
    /// A commit failed, perhaps after it reached the disk.
    #[error("a commit failed: {0}")]
    Commit(Box<redb::Error>),
    /// A record is not what this program writes.
    #[error("a record {0}")]
    Record(&'static str),
    /// The write-ahead log is not what was written.
    #[error("a record of the write-ahead log is broken")]
    Log,
    /// A record is encrypted under a key that is not configured.
    #[error(
        "it holds secrets that are encrypted under key {0}, which is not configured: name its file in \
         storage.encryption_key_file, or in storage.previous_encryption_key_files beside a new one"
    )]
    UnknownKey(KeyId),
}

macro_rules! from_redb {
    ($($error:ident),+) => {
        $(impl From<redb::$error> for StoreError {
            fn from(error: redb::$error) -> StoreError {
                StoreError::Database(Box::new(error.into()))
            }
        })+
    };
}
from_redb!(StorageError, TableError, TransactionError, DatabaseError, CompactionError);

impl From<redb::CommitError> for StoreError {
    fn from(error: redb::CommitError) -> StoreError {
        StoreError::Commit(Box::new(error.into()))
    }
}

impl OpenError {
    fn is_disk_full(&self) -> bool {
        match self {
            OpenError::Database(_, error) => is_disk_full(error),
            OpenError::Content(error) => error.is_disk_full(),
            _ => false,
        }
    }
}

impl StoreError {
    fn is_disk_full(&self) -> bool {
        match self {
            StoreError::Database(error) | StoreError::Commit(error) => is_disk_full(error),
            StoreError::Record(_) | StoreError::Log | StoreError::UnknownKey(_) => false,
        }
    }

    /// Whether bytes are not what was written.
    fn is_damage(&self) -> bool {
        match self {
            StoreError::Database(error) | StoreError::Commit(error) => open::damage(error).is_some(),
            // The log's own: the database is whole.
            StoreError::Log | StoreError::Record(_) | StoreError::UnknownKey(_) => false,
        }
    }

    /// The same where what was to be written may be there all the same.
    fn in_doubt(self) -> StoreError {
        match self {
            StoreError::Database(error) => StoreError::Commit(error),
            error => error,
        }
    }

    /// What a publisher is told.
    fn to_publisher(&self) -> WriteError {
        match self {
            StoreError::Commit(_) => WriteError::OutcomeUnknown,
            StoreError::Database(error) if is_disk_full(error) => WriteError::StorageFull,
            StoreError::Database(_) | StoreError::Record(_) | StoreError::Log | StoreError::UnknownKey(_) => {
                WriteError::Unavailable
            }
        }
    }
}

/// A record that cannot be read costs what asked for it, not the store: `None`.
fn passed_over<T>(result: Result<T, StoreError>, of: impl std::fmt::Display) -> Result<Option<T>, StoreError> {
    match result {
        Ok(read) => Ok(Some(read)),
        Err(StoreError::Record(fault)) => {
            tracing::error!(%of, "a record {fault}; it is passed over");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn is_disk_full(error: &redb::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error, redb::Error::Io(io) if [StorageFull, QuotaExceeded].contains(&io.kind()))
}

/// What the engine hears of commits, in their order.
#[derive(Clone)]
pub enum Notice {
    /// An event was accepted for these lanes.
    Accepted {
        /// The event, so that it need not be read.
        event: Arc<Event>,
        /// Its delivery, the same on each lane.
        head: Head,
        /// Which.
        lanes: Vec<Lane>,
    },
    /// Deliveries of a lane were opened again.
    Opened(Lane, Vec<Head>),
    /// An attempt's outcome is committed or was dropped; `next`: where the
    /// delivery stands if it is pending.
    Settled {
        /// Which lane.
        lane: Lane,
        /// Which event.
        event: EventId,
        /// Where it stands now.
        next: Option<Head>,
    },
    /// A pending delivery is no more.
    Removed(Lane, Key),
    /// Many of a lane's pending deliveries are no more.
    Reset(Lane),
    /// What was past its horizon has been failed.
    Expired {
        /// Which lane.
        lane: Lane,
        /// How many that were, deliveries of operational events left out.
        failed: u64,
        /// When the oldest still pending was opened.
        oldest_opened_at: Option<Timestamp>,
    },
    /// A subscription is there, or is another than it was.
    LaneSet(Arc<Subscription>),
    /// A subscription ended.
    LaneRemoved(Lane),
    /// Publishing to an organization, or to one below it, is refused because its share
    /// is used up; told at most once a minute of each.
    OverShare(Name),
    /// Deliveries are no longer held.
    Resumed,
    /// The store went down.
    Down,
    /// The store is back.
    Up,
}

/// The outcome of an attempt, to be committed.
#[derive(Clone, Debug)]
pub struct Settle {
    /// Which lane.
    pub lane: Lane,
    /// The delivery as it stood before.
    pub head: Head,
    /// What follows.
    pub settlement: Settlement,
    /// The attempt.
    pub attempt: Attempt,
    /// The lane's counted failures in a row.
    pub consecutive_failures: u32,
    /// Whether the lane stands still until this is committed.
    pub is_awaited: bool,
}

/// A handle on the store; cheap to clone.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

/// The writer's thread: ends when the store is closed.
pub struct WriterThread(std::thread::JoinHandle<bool>);

impl WriterThread {
    /// Waits for its end. Answers whether it wrote all that it was given. Blocking.
    pub fn join(self) -> bool {
        self.0.join().unwrap_or(false)
    }
}

impl Store {
    /// Opens the store, or makes it, and starts its writer. `seed` feeds what is
    /// random in ids.
    pub fn open(
        options: Options,
        clock: Clock,
        seed: [u8; 32],
    ) -> Result<(Store, WriterThread, mpsc::Receiver<Notice>), OpenError> {
        let under_way = Arc::new(UnderWay::of(&options.path));
        Store::open_told(options, clock, seed, under_way)
    }

    /// The same for somebody who looks on: opening a large store can take minutes.
    pub fn open_told(
        options: Options,
        clock: Clock,
        seed: [u8; 32],
        under_way: Arc<UnderWay>,
    ) -> Result<(Store, WriterThread, mpsc::Receiver<Notice>), OpenError> {
        make_folder(&options.path)?;
        let shared = Arc::new(Shared { under_way, ..Shared::new(options, clock) });
        let (store, writer, notices) = match Store::start(shared.clone(), seed) {
            Err(error) if error.is_disk_full() && shared.ballast.shed() => Store::start(shared.clone(), seed)?,
            started => started?,
        };
        shared.ballast.take_in(shared.reserve_bytes());
        let thread = std::thread::Builder::new().name("store".to_owned()).spawn(move || writer.run());
        Ok((store, WriterThread(thread.map_err(OpenError::Thread)?), notices))
    }

    /// Opens the database. Its writer is still to be run.
    fn start(shared: Arc<Shared>, seed: [u8; 32]) -> Result<(Store, Writer, mpsc::Receiver<Notice>), OpenError> {
        let file = shared.file.clone();
        open::guarded(&file, || Store::prepare(shared, seed))
    }

    fn prepare(shared: Arc<Shared>, seed: [u8; 32]) -> Result<(Store, Writer, mpsc::Receiver<Notice>), OpenError> {
        let database = open::at_start(&shared)?;
        if schema::generation(&database)?.is_none() {
            // It never had a log.
            wal::put_aside(&shared.file).map_err(|error| OpenError::Log(wal::path_of(&shared.file), error))?;
        }
        let mut wal = shared.open_wal()?;
        let mut random = StdRng::from_seed(seed);
        let is_clean = schema::prepare(&database, &mut wal, random.random())?;
        let (database, was_compacted) = open::compacted(database, &shared)?;
        shared.load(&database, |_| !is_clean)?;
        let (sender, notices) = mpsc::channel(NOTICE_QUEUE_MAX);
        let mut writer = Writer::new(shared.clone(), sender, random, wal);
        writer.resume(&database)?;
        if !is_clean {
            writer.was_counted_anew();
        }
        writer.reseal_all(&database)?;
        shared.put_database(Some(Arc::new(database)));
        if was_compacted {
            writer.sync();
        }
        let nudged = Arc::downgrade(&shared);
        shared.clock.on_set(move || {
            if let Some(shared) = nudged.upgrade() {
                shared.queue.nudge();
            }
        });
        Ok((Store { shared }, writer, notices))
    }

    /// The subscription that this `Idempotency-Key` made in `organization`, and the
    /// SHA-256 of the request, while a repetition is known. Blocking.
    pub fn created_by(&self, organization: &str, key: &str) -> Result<Option<(SubscriptionId, [u8; 32])>, ReadError> {
        let now = self.shared.clock.now();
        let keyring = self.shared.keyring();
        let created = self.shared.read(|database| read::creation(database, organization, key, &keyring, now))?;
        Ok(created.map(|first| (first.id, first.content)))
    }

    /// Whether these keys may take the place of those in force: every row can still be
    /// read that may have been written under them.
    ///
    /// # Errors
    /// With a key that is missing.
    pub fn check_keys(&self, keyring: &Keyring) -> Result<(), StoreError> {
        let in_force = self.shared.keyring();
        let sealed_under = *self.shared.sealed_under.lock().unwrap_or_else(PoisonError::into_inner);
        let is_done = sealed_under == Some(in_force.current());
        let needed: Vec<KeyId> =
            if is_done { in_force.current().into_iter().collect() } else { in_force.ids().collect() };
        match needed.into_iter().find(|needed| keyring.ids().all(|id| id != *needed)) {
            Some(missing) => Err(StoreError::UnknownKey(missing)),
            None => Ok(()),
        }
    }

    /// What secrets are encrypted under.
    pub fn encryption(&self) -> Encryption {
        let key = self.shared.keyring().current();
        let is_done = *self.shared.sealed_under.lock().unwrap_or_else(PoisonError::into_inner) == Some(key);
        Encryption { key, needs_previous: !is_done }
    }

    /// Takes new limits, retention, rules and keys over: the latter only after
    /// [`Store::check_keys`].
    pub fn reconfigure(&self, options: Options) {
        *self.shared.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(options.secrecy.clone());
        *self.shared.options.write().unwrap_or_else(PoisonError::into_inner) = options;
        self.shared.queue.nudge();
    }

    /// Takes no more commands; what waits is still committed.
    pub fn close(&self) {
        self.shared.queue.close();
    }

    /// Everything configured, in memory. Do not hold the guard across an await.
    pub fn registry(&self) -> RwLockReadGuard<'_, Registry> {
        self.shared.registry()
    }

    /// What a lane went through.
    pub fn stats(&self, lane: Lane) -> LaneStats {
        self.shared.lanes().get(&lane).cloned().unwrap_or_default()
    }

    /// Totals. Blocking.
    pub fn totals(&self) -> Totals {
        let counts = self.shared.counts().clone();
        let stand_in = *self.shared.stand_in();
        let counted = || self.shared.read(read::row_counts).unwrap_or_default();
        let (events, pending) = stand_in.map_or_else(counted, |stand_in| stand_in.row_counts);
        Totals {
            events,
            pending,
            accepted: counts.accepted,
            duplicates: counts.duplicates,
            delivered: counts.ended(TerminalState::Delivered),
            failed: counts.ended(TerminalState::Failed),
            cancelled: counts.ended(TerminalState::Cancelled),
            held_since: self.held_since(),
            file_bytes: self.shared.file_bytes(),
            live_bytes: counts.live_bytes,
        }
    }

    /// The pending delivery that has waited for longest, as far as a bounded look
    /// finds it. Blocking.
    pub fn oldest_pending(&self) -> Result<OldestPending, ReadError> {
        let stand_in = *self.shared.stand_in();
        let looked = || self.shared.read(|database| read::oldest_pending(database, self.shared.lanes_in_use()));
        stand_in.map_or_else(looked, |stand_in| Ok(stand_in.oldest_pending))
    }

    /// Long work that is under way.
    pub fn under_way(&self) -> Vec<Work> {
        self.shared.under_way.list()
    }

    /// How many events, outcomes, retries and cancellations shared each commit.
    pub fn commit_items(&self) -> Histogram {
        self.shared.commit_items.clone()
    }

    /// Bytes that may still be written before publishing is refused: what quota and disk
    /// leave; none: neither can be told.
    pub fn free_bytes(&self) -> Option<u64> {
        self.shared.free_bytes()
    }

    /// Bytes of an organization's retained events.
    pub fn organization_bytes(&self, organization: &str) -> u64 {
        self.shared.counts().bytes_of(organization)
    }

    /// Bytes of the events that wait in the enabled lanes of an organization and of
    /// those below it: what its share limits.
    pub fn pending_bytes(&self, registry: &Registry, organization: &Name) -> u64 {
        self.shared.pending_bytes(registry, organization)
    }

    /// Whether the store takes writes.
    pub fn is_ready(&self) -> bool {
        !self.shared.has_failed.load(Ordering::Relaxed)
    }

    /// When the store was restored from a backup, while its deliveries are held since:
    /// the world went on, and what was delivered after the backup would come twice.
    pub fn held_since(&self) -> Option<Timestamp> {
        *self.shared.held_since()
    }

    /// Whether publishing is refused because there is no room.
    pub fn is_full(&self) -> bool {
        self.shared.is_full.load(Ordering::Relaxed)
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, WriteError> {
        self.ask_with(0, false, command).await
    }

    /// Asks with a command that weighs `bytes`; `is_new`: that touches nothing that is there.
    async fn ask_with<T>(
        &self,
        bytes: usize,
        is_new: bool,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, WriteError> {
        let (reply, answer) = oneshot::channel();
        self.shared.queue.push_command(command(reply), bytes, is_new)?;
        // Without an answer the writer is gone, perhaps after the commit.
        answer.await.map_err(|_| WriteError::OutcomeUnknown)
    }

    /// Takes events, one result each in order, after all are synced.
    pub async fn accept(&self, events: Vec<NewEvent>) -> Result<Vec<Result<Accepted, AcceptError>>, WriteError> {
        let bytes = events.iter().map(NewEvent::weight).sum();
        self.ask_with(bytes, true, |reply| Command::Accept { events, reply }).await?
    }

    /// Changes what is configured.
    pub async fn change(&self, actor: &str, change: Change) -> Result<Changed, ChangeError> {
        let actor = actor.to_owned();
        self.ask(|reply| Command::Change { actor, change: Box::new(change), reply }).await?
    }

    /// Makes what is configured what files declare, as one change: all of it, or none.
    /// Answers what that changed.
    pub async fn declare(&self, declared: Declared) -> Result<Vec<DeclaredStep>, ChangeError> {
        let declared = Box::new(declared);
        self.ask(|reply| Command::Declare { declared, reply }).await?
    }

    /// What [`Store::declare`] would do now, and does not.
    ///
    /// # Errors
    /// With what it would be refused for.
    pub fn plan_declared(&self, declared: &Declared) -> Result<Vec<DeclaredStep>, Vec<crate::model::Fault>> {
        let has_pending = |lane| self.stats(lane).pending > 0;
        let numbers = (0..).map(|number| Lane(u32::MAX - number));
        let plans = declare::plan(&self.registry(), declared, self.shared.clock.now(), &has_pending, numbers)?;
        Ok(plans.iter().map(declare::step).collect())
    }

    /// Lets deliveries go that are held since a restore. Answers whether they were.
    pub async fn resume(&self, actor: &str) -> Result<bool, WriteError> {
        let actor = actor.to_owned();
        self.ask(|reply| Command::Resume { actor, reply }).await?
    }

    /// Sends a delivery again: same id, due now, a new horizon.
    pub async fn reopen(&self, actor: &str, id: DeliveryId) -> Result<(), DeliveryError> {
        let actor = actor.to_owned();
        self.ask(|reply| Command::Reopen { actor, id, reply }).await?
    }

    /// Cancels a pending delivery.
    pub async fn cancel(&self, actor: &str, id: DeliveryId) -> Result<(), DeliveryError> {
        let actor = actor.to_owned();
        self.ask(|reply| Command::Cancel { actor, id, reply }).await?
    }

    async fn bulk(&self, actor: &str, lane: Lane, kind: JobKind) -> Result<BulkDone, DeliveryError> {
        let actor = actor.to_owned();
        self.ask(|reply| Command::Bulk { actor, lane, kind, reply }).await?
    }

    /// Cancels a lane's pending deliveries of a window. Answers how many, when all are.
    pub async fn cancel_matching(&self, actor: &str, lane: Lane, window: Window) -> Result<u64, DeliveryError> {
        let (since_ms, until_ms, patterns) = window_parts(&window);
        let done = self.bulk(actor, lane, JobKind::Cancel { since_ms, until_ms, patterns }).await?;
        Ok(done.done)
    }

    /// Sends a lane's deliveries of a window again.
    pub async fn replay(&self, actor: &str, replay: Replay) -> Result<Replayed, DeliveryError> {
        let (since_ms, until_ms, patterns) = window_parts(&replay.window);
        let Replay { lane, failed, delivered, missed, .. } = replay;
        let kind = JobKind::Replay { since_ms, until_ms, patterns, failed, delivered, missed };
        let done = self.bulk(actor, lane, kind).await?;
        Ok(Replayed { deliveries: done.done, next_since: done.next_since })
    }

    /// Fails what a lane has pending that was opened at or before a time. The
    /// answer comes as [`Notice::Expired`].
    pub async fn expire(&self, lane: Lane, opened_until: Timestamp) -> Result<(), DeliveryError> {
        let opened_until_ms = opened_until.as_millis();
        let kind = JobKind::Expire { opened_until_ms, oldest_left_ms: None, operational: 0 };
        self.bulk("posthaste", lane, kind).await.map(|_| ())
    }

    /// Publishes an operational event about the subscription whose lane it is. It
    /// says `facts` beside what all of them say.
    pub async fn tell(&self, lane: Lane, event_type: &str, facts: serde_json::Value) -> Result<(), WriteError> {
        let event = {
            let registry = self.registry();
            let Some(subscription) = registry.lane(lane) else { return Ok(()) };
            let mut data = change::subscription_facts(subscription);
            if let (Some(data), serde_json::Value::Object(facts)) = (data.as_object_mut(), facts) {
                data.extend(facts);
            }
            change::operational(event_type, subscription, Json::from(&data))
        };
        self.accept(vec![event]).await.map(|_| ())
    }

    /// Hands the outcome of an attempt over. The answer comes as [`Notice::Settled`].
    pub fn settle(&self, settle: Settle) {
        let is_awaited = settle.is_awaited;
        self.shared.queue.push_outcome(settle, is_awaited);
    }

    /// An event alone. Blocking.
    pub fn plain_event(&self, id: EventId) -> Result<Option<Event>, ReadError> {
        self.shared.read(|database| read::plain_event(database, id))
    }

    /// An event with its deliveries. Blocking.
    pub fn event(&self, id: EventId) -> Result<Option<EventDetail>, ReadError> {
        self.shared.read(|database| read::event(database, id))
    }

    /// A delivery, its event and the attempts kept, oldest first. Blocking.
    pub fn delivery(&self, id: DeliveryId) -> Result<Option<(Delivery, Event, Vec<Attempt>)>, ReadError> {
        self.shared.read(|database| read::delivery(database, id))
    }

    /// Events, newest first. Blocking.
    pub fn events(&self, query: &EventQuery) -> Result<Page<Event, EventId>, ReadError> {
        self.shared.read(|database| read::events(database, query))
    }

    /// Deliveries, newest first. Blocking.
    pub fn deliveries(&self, query: &DeliveryQuery) -> Result<Page<ListedDelivery, DeliveryId>, ReadError> {
        let owner = |lane| self.registry().lane_owner(lane).map(|(_, organization)| organization.clone());
        self.shared.read(|database| read::deliveries(database, query, owner))
    }

    /// The audit log, newest first, entries older than `before`. Blocking.
    pub fn audit(&self, before: Option<u64>, limit: usize) -> Result<Page<AuditEntry, u64>, ReadError> {
        self.shared.read(|database| read::audit(database, before, limit))
    }

    /// Whether anything is pending on a lane. Blocking, one seek.
    pub fn has_pending(&self, lane: Lane) -> Result<bool, ReadError> {
        self.pending(lane, None, 1).map(|(heads, _)| !heads.is_empty())
    }

    /// A lane's pending rows after `after`, at most `limit`, and whether these are all. Blocking.
    pub fn pending(&self, lane: Lane, after: Option<Key>, limit: usize) -> Result<(Vec<Head>, bool), ReadError> {
        self.shared.read(|database| read::pending(database, lane, after, limit))
    }

    /// The same with the events of what is due by `due_until`: a backlog is read in
    /// one go, not an event at a time. Blocking.
    pub fn backlog(
        &self,
        lane: Lane,
        after: Option<Key>,
        limit: usize,
        due_until: Timestamp,
    ) -> Result<Backlog, ReadError> {
        self.shared.read(|database| read::backlog(database, lane, after, limit, due_until))
    }
}

fn window_parts(window: &Window) -> (u64, u64, Vec<String>) {
    let patterns = window.events.iter().map(ToString::to_string).collect();
    (window.since.as_millis(), window.until.as_millis(), patterns)
}

fn make_folder(path: &Path) -> Result<(), OpenError> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| OpenError::Folder(path.to_owned(), error))
}
