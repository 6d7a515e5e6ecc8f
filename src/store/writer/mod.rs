//! The one thread that writes. What waits together is committed together (group
//! commit), and **everybody is answered once that is synced**: in the log, which the
//! database's memory follows before anybody reads (see `ahead.rs`), or in the database.
//!
//! Changes of what is configured are committed alone, so that a refused one leaves
//! no trace and the registry is in step with the disk at every moment. Bulk work
//! and purging take their turn between groups.
//!
//! After an I/O error the database is dropped and opened anew; meanwhile publishers
//! are refused and outcomes wait in memory.
//!
//! - `group.rs` what shares a commit, `configured.rs` what does not, `bulk.rs` what
//!   takes many; `reseal.rs` what is encrypted anew; `rest.rs` where transactions begin,
//!   and what follows when there are none; `effects.rs` what follows once a commit has returned.

mod bulk;
mod configured;
mod effects;
mod group;
mod reseal;
mod rest;

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use redb::{Database, ReadableDatabase, ReadableTable};
use rustc_hash::FxHashSet;
use tokio::sync::oneshot;

use crate::fault::{self, Part};
use crate::id::{DeliveryId, Lane, Minter};
use crate::model::{DEFAULT_ORGANIZATION, Name, NewEvent};
use crate::time::Timestamp;

use super::command::*;
use super::job::{Job, JobKind};
use super::records::encode_stats;
use super::tables::*;
use crate::seal::Keyring;

use super::wal::Wal;
use super::work::{Kind, percent};
use super::{Notice, OpenError, Room, Settle, Shared, StoreError, declare, open, passed_over, purge, schema};

use effects::Effects;
use reseal::Resealing;
use rest::Rest;

/// Something for the writer to do.
pub(in crate::store) enum Command {
    Accept { events: Vec<NewEvent>, reply: Reply<Result<Vec<Result<Accepted, AcceptError>>, WriteError>> },
    Change { actor: Actor, change: Box<Change>, reply: Reply<Result<Changed, ChangeError>> },
    Declare { declared: Box<Declared>, reply: Reply<Result<Vec<DeclaredStep>, ChangeError>> },
    Reopen { actor: Actor, id: DeliveryId, reply: Reply<Result<(), DeliveryError>> },
    Cancel { actor: Actor, id: DeliveryId, reply: Reply<Result<(), DeliveryError>> },
    Resume { actor: Actor, reply: Reply<Result<bool, WriteError>> },
    Bulk { actor: Actor, lane: Lane, kind: JobKind, reply: Reply<Result<BulkDone, DeliveryError>> },
}

pub(in crate::store) type Reply<T> = oneshot::Sender<T>;

/// What bulk work did.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct BulkDone {
    pub(in crate::store) done: u64,
    /// Of a replay that stopped early: where to go on.
    pub(in crate::store) next_since: Option<Timestamp>,
}

/// How long the writer sleeps when nothing is to be done.
const IDLE_PATIENCE: Duration = Duration::from_secs(60);
/// How often a round of writing the counters that changed begins, and the database takes in
/// what the log has, at most.
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// The same in a large store, where each time writes more (see `rest.rs`).
const FLUSH_LARGE_EVERY: Duration = Duration::from_secs(10);
/// How many lanes' counters go into one commit: after an event for ten thousand, the next
/// publisher waited for the counters of all.
const STATS_FLUSHED_AT_ONCE_MAX: usize = 256;
/// How often a store that went down is tried again.
const REOPEN_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked for what may be purged.
const PURGE_EVERY: Duration = Duration::from_secs(60);
/// How often the free space is looked at.
const SPACE_EVERY: Duration = Duration::from_millis(200);
/// After how many more live bytes it is looked at earlier: what a small disk keeps free
/// is written in a moment.
const SPACE_EVERY_BYTES: u64 = 64 * 1024;
/// How far apart two compactions on a full disk are at least: nothing else is written
/// meanwhile.
const SHRINK_EVERY: Duration = Duration::from_secs(60);
/// How far apart two tellings of low storage are at least.
const TELL_LOW_EVERY: Duration = Duration::from_secs(3600);

/// How far apart two tellings of an organization that is over its share are at least.
const TELL_SHARE_EVERY: Duration = Duration::from_secs(60);

/// A purge that takes several steps.
struct Purging {
    since: Timestamp,
    /// How much time it had to go through when it began.
    whole_ms: u64,
    /// Events removed so far.
    events: u64,
}

pub(in crate::store) struct Writer {
    shared: Arc<Shared>,
    notices: tokio::sync::mpsc::Sender<Notice>,
    minter: Minter,
    random: StdRng,
    jobs: VecDeque<(u64, Job)>,
    next_job: u64,
    next_audit: u64,
    waiting: HashMap<u64, Reply<Result<BulkDone, DeliveryError>>>,
    /// Outcomes whose commit failed: they go first when the store is back.
    unsettled: Vec<Settle>,
    flushed_at: Timestamp,
    /// How long after `flushed_at` the next may be; decided at each flush, because it takes a
    /// look at the file.
    flush_every: Duration,
    purged_at: Timestamp,
    /// A purge that goes on.
    purging: Option<Purging>,
    looked_at_space: Timestamp,
    /// Live bytes at that time.
    looked_at_bytes: u64,
    shrunk_at: Timestamp,
    told_low_at: Timestamp,
    /// Organizations lately told to be over their share.
    told_shares: HashMap<Name, Timestamp>,
    room: Room,
    /// Lanes whose counters changed since they were last written.
    dirty: FxHashSet<Lane>,
    /// Those of them whose turn it is to be written.
    flushing: Vec<Lane>,
    /// When it was last tried to open a store that is down.
    reopened_at: Timestamp,
    /// Whether that was tried for what was left at the end.
    has_tried_for_the_end: bool,
    /// Lanes whose rows a commit that failed may have changed.
    in_doubt: FxHashSet<Lane>,
    /// The keys of this turn.
    keyring: Arc<Keyring>,
    /// Work that a change of keys makes.
    resealing: Option<Resealing>,
    /// What files declare, once that is in force; none: no folder is named.
    declared: Option<declare::Names>,
    rest: Rest,
}

impl Writer {
    pub(in crate::store) fn new(
        shared: Arc<Shared>,
        notices: tokio::sync::mpsc::Sender<Notice>,
        random: StdRng,
        wal: Wal,
    ) -> Writer {
        Writer {
            keyring: shared.keyring(),
            resealing: Some(Resealing::new()),
            rest: Rest::after(shared.clone(), wal),
            shared,
            notices,
            minter: Minter::after(None),
            random,
            jobs: VecDeque::new(),
            next_job: 1,
            next_audit: 1,
            waiting: HashMap::new(),
            unsettled: Vec::new(),
            flushed_at: Timestamp::ZERO,
            flush_every: FLUSH_EVERY,
            purged_at: Timestamp::ZERO,
            purging: None,
            looked_at_space: Timestamp::ZERO,
            looked_at_bytes: 0,
            shrunk_at: Timestamp::ZERO,
            told_low_at: Timestamp::ZERO,
            told_shares: HashMap::new(),
            room: Room::Enough,
            dirty: FxHashSet::default(),
            flushing: Vec::new(),
            reopened_at: Timestamp::ZERO,
            has_tried_for_the_end: false,
            in_doubt: FxHashSet::default(),
            declared: None,
        }
    }

    /// Takes over what the database holds: newest id, jobs, the audit log's end.
    pub(in crate::store) fn resume(&mut self, database: &Database) -> Result<(), StoreError> {
        let transaction = database.begin_read()?;
        let newest = schema::newest_id(&transaction)?;
        if self.next_audit == 1 || newest.is_some() {
            self.minter = Minter::after(newest);
        }
        self.next_audit = transaction.open_table(AUDIT)?.last()?.map_or(1, |(key, _)| key.value() + 1);
        self.jobs.clear();
        for row in transaction.open_table(JOB)?.iter()? {
            let (key, value) = row?;
            self.next_job = self.next_job.max(key.value() + 1);
            let job = passed_over(Job::decode(value.value()), format_args!("job {}", key.value()))?;
            self.jobs.extend(job.map(|job| (key.value(), job)));
        }
        // Where the commit that was to end a job failed and yet reached the disk,
        // nothing else answers who waits for it.
        let lost = self.waiting.extract_if(|number, _| !self.jobs.iter().any(|(known, _)| known == number));
        for (_, reply) in lost {
            let _ = reply.send(Err(WriteError::OutcomeUnknown.into()));
        }
        self.tell_bulk_over();
        Ok(())
    }

    /// What every lane has pending was counted anew: the disk is to know, or the next
    /// start would take what it had before.
    pub(in crate::store) fn was_counted_anew(&mut self) {
        self.dirty.extend(self.shared.lanes().keys());
    }

    /// Works until the queue is closed and empty. Answers whether all that it was given
    /// is written.
    pub(in crate::store) fn run(mut self) -> bool {
        let worked = catch_unwind(AssertUnwindSafe(|| {
            while !fault::ends(Part::Store) && self.turn(self.patience()) {}
            self.unsettled.is_empty()
        }));
        worked.unwrap_or_else(|panic| {
            open::ask_for_check(&self.shared.file);
            // Who waits to read waits no longer.
            self.shared.ahead.lose();
            resume_unwind(panic)
        })
    }

    /// Waits for something to do, at most `patience`, and does it. Answers whether
    /// there may be more to come.
    pub(in crate::store) fn turn(&mut self, patience: Duration) -> bool {
        let batch = self.shared.queue.take(patience);
        let is_last = batch.is_last;
        let mut outcomes = std::mem::take(&mut self.unsettled);
        outcomes.extend(batch.outcomes);
        if self.shared.database().is_none() {
            self.unsettled = outcomes;
            batch.commands.into_iter().for_each(refuse);
            if is_last {
                return !self.unsettled.is_empty() && self.is_open_for_the_end();
            }
            self.try_reopen();
            return true;
        }
        if let Some(database) = self.shared.database()
            && let Some(loss) = self.shared.ahead.loss()
        {
            // Who read met that. Where nothing is known of it, that was a panic.
            if loss.is_none() {
                open::ask_for_check(&self.shared.file);
            }
            self.broke(database, &loss.unwrap_or(StoreError::Database(Box::new(redb::Error::PreviousIo))));
            self.unsettled = outcomes;
            batch.commands.into_iter().for_each(refuse);
            return true;
        }
        self.look_at_space();
        self.take_keys();
        let is_idle = outcomes.is_empty() && batch.commands.is_empty();
        self.work(outcomes, batch.commands);
        self.housekeep(is_idle);
        let is_over = is_last && self.unsettled.is_empty();
        if is_over {
            self.close();
        }
        !is_over
    }

    pub(in crate::store) fn patience(&self) -> Duration {
        if self.shared.database().is_none() {
            REOPEN_EVERY
        } else if self.has_more_to_do() {
            Duration::ZERO
        } else if !self.dirty.is_empty() || self.rest.is_behind() || self.room == Room::None {
            FLUSH_EVERY
        } else {
            self.rest.due_in(self.now()).map_or(IDLE_PATIENCE, |left| left.min(IDLE_PATIENCE))
        }
    }

    /// Whether it goes on by itself, though nobody asks for anything.
    fn has_more_to_do(&self) -> bool {
        self.has_turns_to_take() || !self.flushing.is_empty()
    }

    /// Whether there is work that is done in turns.
    fn has_turns_to_take(&self) -> bool {
        !self.jobs.is_empty() || self.purging.is_some() || self.resealing.is_some()
    }

    fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// Commits outcomes and commands: those that can share a commit do.
    fn work(&mut self, outcomes: Vec<Settle>, commands: Vec<Command>) {
        let mut group = Vec::new();
        let mut outcomes = Some(outcomes).filter(|outcomes| !outcomes.is_empty());
        for command in commands {
            match command {
                Command::Accept { reply, .. } if self.room == Room::None => {
                    let _ = reply.send(Err(WriteError::StorageFull));
                }
                Command::Accept { .. } | Command::Reopen { .. } | Command::Cancel { .. } => group.push(command),
                Command::Change { actor, change, reply } => {
                    self.commit_group(outcomes.take().unwrap_or_default(), std::mem::take(&mut group));
                    let result = self.commit_change(&actor, *change);
                    let _ = reply.send(result);
                }
                Command::Declare { declared, reply } => {
                    self.commit_group(outcomes.take().unwrap_or_default(), std::mem::take(&mut group));
                    let _ = reply.send(self.commit_declared(&declared));
                }
                Command::Resume { actor, reply } => {
                    let _ = reply.send(self.commit_resume(actor));
                }
                Command::Bulk { actor, lane, kind, reply } => {
                    self.commit_group(outcomes.take().unwrap_or_default(), std::mem::take(&mut group));
                    self.begin_job(&actor, lane, kind, reply);
                }
            }
        }
        self.commit_group(outcomes.unwrap_or_default(), group);
    }

    /// What a commit leads to, once it has returned: counters, then notices.
    fn take_effect(&mut self, effects: Effects) {
        self.count(&effects);
        self.tell(effects.notices);
    }

    /// Counts what is synced.
    fn count(&mut self, effects: &Effects) {
        {
            let registry = self.shared.registry();
            let mut lanes = self.shared.lanes();
            for (lane, change) in &effects.stats {
                if registry.lane(*lane).is_none() {
                    continue;
                }
                self.dirty.insert(*lane);
                change.apply(lanes.entry(*lane).or_default());
            }
        }
        self.shared.counts().apply(&effects.count);
    }

    fn tell(&self, notices: Vec<Notice>) {
        for notice in notices {
            // No engine listens while the daemon starts or stops: it reads the store then.
            let _ = self.notices.blocking_send(notice);
        }
    }

    /// Turns of bulk work and purging, and, where nobody asked for anything, counters that
    /// nothing carried along.
    fn housekeep(&mut self, is_idle: bool) {
        let Some(database) = self.shared.database() else { return };
        self.step_job(database.clone());
        if self.shared.database().is_none() {
            return;
        }
        if !self.reseal_turn(database.clone()) {
            return;
        }
        let now = self.now();
        let is_due = self.purging.is_some() || now.since(self.purged_at) >= PURGE_EVERY || now < self.purged_at;
        if is_due {
            self.purged_at = now;
            if let Err(error) = self.purge(&database, now).and_then(|()| self.end_undeclared(&database)) {
                self.broke(database, &error);
                return;
            }
        }
        let is_flush_due = self.begin_flush();
        if is_idle && self.is_rest_due() {
            self.rest(database);
        } else if is_flush_due || is_idle && !self.flushing.is_empty() {
            let flushed = (|| {
                let transaction = self.rest.begin(&database)?;
                self.flush(&transaction, STATS_FLUSHED_AT_ONCE_MAX)?;
                match self.flushing.is_empty() {
                    true => self.rest.end(transaction),
                    false => self.rest.end_unsynced(transaction),
                }
            })();
            if let Err(error) = flushed {
                self.broke(database, &error);
            }
        }
    }

    /// Does a step of retention, and tells how far it is while there are more to come.
    fn purge(&mut self, database: &Database, now: Timestamp) -> Result<(), StoreError> {
        let begun = self.purging.take();
        self.purging = self.purge_step(database, now, begun).inspect_err(|_| self.shared.under_way.end(Kind::Purge))?;
        if self.purging.is_none() {
            self.shared.under_way.end(Kind::Purge);
        }
        Ok(())
    }

    /// Answers what goes on, if it does.
    fn purge_step(
        &mut self,
        database: &Database,
        now: Timestamp,
        begun: Option<Purging>,
    ) -> Result<Option<Purging>, StoreError> {
        let (retention, keyed_at) = (self.shared.retention(), self.keyed_at());
        if !purge::is_anything_due(database, &retention, now, keyed_at)? {
            return Ok(None);
        }
        let mut purging = match begun {
            Some(begun) => begun,
            None => Purging { since: now, whole_ms: purge::ahead_ms(database, &retention, now)?, events: 0 },
        };
        let transaction = self.rest.begin(database)?;
        let purged = purge::step(&transaction, &retention, now, keyed_at, self.next_audit)?;
        let mut effects = Effects::default();
        effects.count.bytes = purged.bytes;
        self.commit(transaction, &effects)?;
        self.take_effect(effects);
        if !purged.forgotten.is_empty() {
            let mut registry = self.shared.registry_mut();
            purged.forgotten.iter().for_each(|lane| registry.remove_ended(*lane));
        }
        if !purged.goes_on {
            return Ok(None);
        }
        purging.events += purged.events;
        let Purging { since, whole_ms, events } = purging;
        let ahead_ms = purge::ahead_ms(database, &retention, since)?;
        let share = percent(whole_ms.saturating_sub(ahead_ms), whole_ms);
        self.shared.under_way.tell(Kind::Purge, since, share, Some(events), None);
        Ok(Some(purging))
    }

    fn is_flush_due(&self) -> bool {
        let now = self.now();
        now.since(self.flushed_at) >= self.flush_every || now < self.flushed_at
    }

    /// Makes it the turn of what changed, where it is time for that: of counters, and of what
    /// the log alone has. Answers whether it just became that.
    fn begin_flush(&mut self) -> bool {
        if !self.flushing.is_empty() {
            return false;
        }
        let is_due = (!self.dirty.is_empty() || self.rest.is_behind()) && self.is_flush_due();
        if is_due {
            self.flushed_at = self.now();
            self.flush_every = if self.shared.is_large() { FLUSH_LARGE_EVERY } else { FLUSH_EVERY };
            self.flushing.extend(self.dirty.drain());
            self.flushing.sort_unstable();
        }
        is_due
    }

    /// Writes counters whose turn it is along with whatever is committed: a part of them,
    /// where somebody waits for that commit. They are not logged: who crashes counts anew.
    fn flush(&mut self, transaction: &redb::WriteTransaction, rows_max: usize) -> Result<(), StoreError> {
        if self.flushing.is_empty() {
            return Ok(());
        }
        let lanes = self.shared.lanes();
        let mut table = transaction.open_table(STATS)?;
        for lane in self.flushing.drain(..rows_max.min(self.flushing.len())) {
            if let Some(stats) = lanes.get(&lane) {
                table.insert(lane.0, encode_stats(stats)?.as_slice())?;
            }
        }
        Ok(())
    }

    /// Commits, and the counts with it. What a commit that fails has done is not
    /// known: its lanes' rows are counted anew when the store is back.
    fn commit(&mut self, transaction: redb::WriteTransaction, effects: &Effects) -> Result<(), StoreError> {
        self.shared.counts().write(&transaction, &effects.count, None)?;
        self.rest.end(transaction).inspect_err(|_| self.in_doubt.extend(effects.stats.iter().map(|(lane, _)| *lane)))
    }

    /// The time that idempotency keys are counted by: it goes on where the clock is
    /// set back, as ids do.
    fn keyed_at(&self) -> Timestamp {
        self.now().max(self.minter.newest_at())
    }

    /// Where what is opened again now takes its place: behind everything accepted or
    /// opened before, and what comes later stands behind it. Takes an id for it, and
    /// remembers that, so that this holds over restarts and where the clock is set back.
    fn take_place(&mut self, transaction: &redb::WriteTransaction) -> Result<Timestamp, StoreError> {
        let id = self.minter.mint_apart(self.now(), self.random.random());
        schema::put_place(transaction, id)?;
        Ok(id.accepted_at())
    }

    /// Whether there is room for more, looked at now and then.
    fn look_at_space(&mut self) {
        let now = self.now();
        let live_bytes = self.shared.counts().live_bytes;
        let is_fresh = now.since(self.looked_at_space) < SPACE_EVERY && now >= self.looked_at_space;
        if is_fresh && live_bytes.saturating_sub(self.looked_at_bytes) < SPACE_EVERY_BYTES {
            return;
        }
        (self.looked_at_space, self.looked_at_bytes) = (now, live_bytes);
        let before = self.room;
        self.room = self.shared.room(before);
        if self.room == Room::None && self.shared.is_disk_full() {
            self.shrink(now);
        }
        if self.room == before {
            return;
        }
        match self.room {
            Room::None => tracing::warn!("the storage is full: publishing is refused until there is room"),
            Room::Low => tracing::warn!("the storage is low"),
            Room::Enough => tracing::info!("there is room in the storage again"),
        }
        self.shared.is_full.store(self.room == Room::None, Ordering::Relaxed);
        let is_told = now >= self.told_low_at && now.since(self.told_low_at) < TELL_LOW_EVERY;
        if before == Room::Enough && !is_told {
            self.told_low_at = now;
            self.tell_storage_low();
        }
    }

    /// Compacts a file that is mostly free.
    fn shrink(&mut self, now: Timestamp) {
        let is_recent = now.since(self.shrunk_at) < SHRINK_EVERY && now >= self.shrunk_at;
        if is_recent || !self.shared.is_mostly_free() {
            return;
        }
        match self.shared.shrink() {
            Ok(false) => return,
            Ok(true) => tracing::info!("the store's file was mostly free: it is compacted"),
            Err(error) => {
                if let Some(database) = self.shared.database() {
                    self.broke(database, &error);
                }
            }
        }
        self.shrunk_at = now;
        self.sync();
    }

    /// Syncs the database, with nothing new: a compaction does not note which pages are free.
    pub(in crate::store) fn sync(&mut self) {
        let Some(database) = self.shared.database() else { return };
        if let Err(error) = self.rest.begin(&database).and_then(|transaction| self.rest.end(transaction)) {
            self.broke(database, &error);
        }
    }

    /// Publishes `posthaste.storage.low`, before the last room is gone.
    fn tell_storage_low(&mut self) {
        let live_bytes = self.shared.counts().live_bytes;
        let event = NewEvent {
            event_type: Name::from("posthaste.storage.low"),
            organization: Name::from(DEFAULT_ORGANIZATION),
            source: None,
            subject: None,
            occurred_at: None,
            event_id: None,
            idempotency_key: None,
            data: (&serde_json::json!({"live_bytes": live_bytes, "full": self.room == Room::None})).into(),
        };
        // Nobody waits for it.
        let (reply, _) = oneshot::channel();
        self.commit_group(Vec::new(), vec![Command::Accept { events: vec![event], reply }]);
    }

    /// The database failed. It is dropped, because redb refuses every write after
    /// an I/O error, and opened anew. A record that cannot be written or read is no
    /// such error, unless it took something along that was answered before. Answers what to tell
    /// whoever waited.
    fn broke(&mut self, database: Arc<Database>, error: &StoreError) -> WriteError {
        let loss = self.shared.ahead.loss();
        // What it went by before, perhaps for somebody who read.
        let cause = loss.as_ref().and_then(Option::as_ref).unwrap_or(error);
        if let StoreError::Record(_) | StoreError::UnknownKey(_) = error
            && loss.is_none()
        {
            tracing::error!(%error, "a write was given up");
            return error.to_publisher();
        }
        tracing::error!(error = %cause, "the store failed; it is opened anew");
        self.shared.doubt(cause);
        self.shared.put_database(None);
        self.rest.put_wal(Wal::none());
        drop(database);
        if cause.is_disk_full() {
            self.is_out_of_space();
        }
        let _ = self.notices.blocking_send(Notice::Down);
        error.to_publisher()
    }

    /// The ballast goes, and whether there is room for more is looked at anew.
    fn is_out_of_space(&mut self) {
        self.shared.ballast.shed();
        self.looked_at_space = Timestamp::ZERO;
    }

    /// Opens a store that is down, however often it is asked for something, once in
    /// [`REOPEN_EVERY`].
    fn try_reopen(&mut self) {
        let now = self.now();
        if now.since(self.reopened_at) < REOPEN_EVERY && now >= self.reopened_at {
            return;
        }
        self.reopened_at = now;
        match self.reopen_database() {
            Ok(()) => {
                tracing::info!("the store is open again");
                // Before the engine reads on: it must not meet rows that these move.
                let unsettled = std::mem::take(&mut self.unsettled);
                self.work(unsettled, Vec::new());
                if self.shared.database().is_some() {
                    let _ = self.notices.blocking_send(Notice::Up);
                }
            }
            Err(error) => {
                let error = error.judged(&self.shared.file);
                tracing::error!(%error, "the store cannot be opened; trying again");
                if error.is_disk_full() {
                    self.is_out_of_space();
                }
            }
        }
    }

    /// Opens a store that went down while it was to be closed, once: what the attempts
    /// in flight came to is still to be written.
    fn is_open_for_the_end(&mut self) -> bool {
        if !std::mem::replace(&mut self.has_tried_for_the_end, true) {
            self.reopened_at = Timestamp::ZERO;
            self.try_reopen();
        }
        self.shared.database().is_some()
    }

    fn reopen_database(&mut self) -> Result<(), OpenError> {
        let database = self.shared.open_database()?;
        let mut wal = self.shared.open_wal()?;
        wal.replay(&database)?;
        self.resume(&database)?;
        self.shared.load(&database, |lane| self.in_doubt.contains(&lane))?;
        self.in_doubt.clear();
        // Which of them were flushed is not known either.
        self.was_counted_anew();
        self.rest.put_wal(wal);
        self.shared.put_database(Some(Arc::new(database)));
        Ok(())
    }

    fn close(&mut self) {
        let Some(database) = self.shared.database() else { return };
        self.flushing.extend(self.dirty.drain());
        let closed = (|| {
            let transaction = self.rest.begin(&database)?;
            self.flush(&transaction, usize::MAX)?;
            schema::mark_clean(&transaction)?;
            self.rest.end(transaction)
        })();
        match closed {
            Ok(()) => self.rest.clear_wal(),
            Err(error) => {
                let loss = self.shared.ahead.loss().flatten();
                let cause = loss.as_ref().unwrap_or(&error);
                tracing::error!(error = %cause, "the store could not be closed cleanly; the next start takes longer");
                self.shared.doubt(cause);
            }
        }
        self.shared.put_database(None);
    }
}

/// Tells that nothing was done.
fn refuse(command: Command) {
    let answer = WriteError::Unavailable;
    match command {
        Command::Accept { reply, .. } => drop(reply.send(Err(answer))),
        Command::Change { reply, .. } => drop(reply.send(Err(answer.into()))),
        Command::Declare { reply, .. } => drop(reply.send(Err(answer.into()))),
        Command::Resume { reply, .. } => drop(reply.send(Err(answer))),
        Command::Reopen { reply, .. } | Command::Cancel { reply, .. } => drop(reply.send(Err(answer.into()))),
        Command::Bulk { reply, .. } => drop(reply.send(Err(answer.into()))),
    }
}

#[cfg(test)]
mod tests;
