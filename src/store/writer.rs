//! The one thread that writes. What waits together is committed together (group
//! commit), and **everybody is answered after the commit returned**: a 2xx to a
//! publisher is never said before its event is synced.
//!
//! Changes of what is configured are committed alone, so that a refused one leaves
//! no trace and the registry is in step with the disk at every moment. Bulk work
//! and purging take their turn between groups.
//!
//! After an I/O error the database is dropped and opened anew; meanwhile publishers
//! are refused and outcomes wait in memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use redb::{Database, ReadableTable};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use crate::id::{DeliveryId, EventId, Lane, Minter, SubscriptionId};
use crate::limits::IDEMPOTENCY_WINDOW;
use crate::model::{
    AttemptOutcome, DEFAULT_ORGANIZATION, Event, Head, LaneStats, Name, NewEvent, Settlement, TerminalState,
};
use crate::time::Timestamp;

use super::change::{self, Circumstances, Plan, Row};
use super::command::*;
use super::hot::{Hot, Standing, standing};
use super::job::{Job, JobKind, Step};
use super::query::AuditEntry;
use super::records::{OutcomeState, decode_event, decode_event_summary, decode_idempotency, encode_stats};
use super::settings;
use super::tables::*;
use super::{Notice, OpenError, Room, Settle, Shared, StoreError, purge, schema};

/// Something for the writer to do.
pub(super) enum Command {
    Accept { events: Vec<NewEvent>, reply: Reply<Result<Vec<Result<Accepted, AcceptError>>, WriteError>> },
    Change { actor: Actor, change: Change, reply: Reply<Result<Changed, ChangeError>> },
    Reopen { actor: Actor, id: DeliveryId, reply: Reply<Result<(), DeliveryError>> },
    Cancel { actor: Actor, id: DeliveryId, reply: Reply<Result<(), DeliveryError>> },
    Bulk { actor: Actor, lane: Lane, kind: JobKind, reply: Reply<Result<BulkDone, DeliveryError>> },
}

pub(super) type Reply<T> = oneshot::Sender<T>;

/// What bulk work did.
#[derive(Clone, Copy, Debug)]
pub(super) struct BulkDone {
    pub(super) done: u64,
    pub(super) at_limit: bool,
}

/// How long the writer sleeps when nothing is to be done.
const IDLE_PATIENCE: Duration = Duration::from_secs(60);
/// How often counters are written, when they changed.
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// How often a store that went down is tried again.
const REOPEN_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked for what may be purged.
const PURGE_EVERY: Duration = Duration::from_secs(60);
/// How often the free space is looked at.
const SPACE_EVERY: Duration = Duration::from_millis(200);

pub(super) struct Writer {
    shared: Arc<Shared>,
    notices: tokio::sync::mpsc::Sender<Notice>,
    minter: Minter,
    random: StdRng,
    jobs: std::collections::VecDeque<(u64, Job)>,
    next_job: u64,
    next_audit: u64,
    waiting: HashMap<u64, Reply<Result<BulkDone, DeliveryError>>>,
    /// Outcomes whose commit failed: they go first when the store is back.
    unsettled: Vec<Settle>,
    flushed_at: Timestamp,
    purged_at: Timestamp,
    purge_goes_on: bool,
    looked_at_space: Timestamp,
    room: Room,
    dirty: std::collections::HashSet<Lane>,
}

/// What a group's commit leads to, once it has returned.
#[derive(Default)]
struct Effects {
    notices: Vec<Notice>,
    stats: Vec<(Lane, StatsChange)>,
    live_change: i64,
    accepted: u64,
    duplicates: u64,
    ended: [u64; 3],
}

enum StatsChange {
    Triggered(Timestamp),
    Attempted { failed: Option<(Timestamp, crate::model::FailureCode)>, at: Timestamp, consecutive_failures: u32 },
    Pending(i64),
}

impl Effects {
    fn ended(&mut self, lane: Lane, state: TerminalState, count: u64) {
        self.ended[state as usize] += count;
        self.stats.push((lane, StatsChange::Pending(-(count as i64))));
    }

    fn opened(&mut self, lane: Lane, count: usize) {
        self.stats.push((lane, StatsChange::Pending(count as i64)));
    }
}

/// A group's commands, each with what it will be answered.
enum Done {
    Accept(Reply<Result<Vec<Result<Accepted, AcceptError>>, WriteError>>, Vec<Result<Accepted, AcceptError>>),
    Touch(Reply<Result<(), DeliveryError>>, Result<(), DeliveryError>),
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, notices: tokio::sync::mpsc::Sender<Notice>, random: StdRng) -> Writer {
        Writer {
            shared,
            notices,
            minter: Minter::after(None),
            random,
            jobs: std::collections::VecDeque::new(),
            next_job: 1,
            next_audit: 1,
            waiting: HashMap::new(),
            unsettled: Vec::new(),
            flushed_at: Timestamp::ZERO,
            purged_at: Timestamp::ZERO,
            purge_goes_on: false,
            looked_at_space: Timestamp::ZERO,
            room: Room::Enough,
            dirty: std::collections::HashSet::new(),
        }
    }

    /// Takes over what the database holds: newest id, jobs, the audit log's end.
    pub(super) fn resume(&mut self, database: &Database) -> Result<(), StoreError> {
        use redb::ReadableDatabase;
        let transaction = database.begin_read()?;
        let newest = transaction.open_table(EVENT)?.last()?.map(|(key, _)| EventId::from_key(*key.value()));
        if self.next_audit == 1 || newest.is_some() {
            self.minter = Minter::after(newest);
        }
        self.next_audit = transaction.open_table(AUDIT)?.last()?.map_or(1, |(key, _)| key.value() + 1);
        self.jobs.clear();
        for row in transaction.open_table(JOB)?.iter()? {
            let (key, value) = row?;
            self.jobs.push_back((key.value(), Job::decode(value.value())?));
            self.next_job = self.next_job.max(key.value() + 1);
        }
        Ok(())
    }

    /// Works until the queue is closed and empty.
    pub(super) fn run(mut self) {
        loop {
            let batch = self.shared.queue.take(self.patience());
            let is_last = batch.is_last;
            let mut outcomes = std::mem::take(&mut self.unsettled);
            outcomes.extend(batch.outcomes);
            if self.shared.database().is_none() {
                self.unsettled = outcomes;
                batch.commands.into_iter().for_each(refuse);
                if !is_last {
                    self.try_reopen();
                    continue;
                }
                return;
            }
            self.look_at_space();
            self.work(outcomes, batch.commands);
            self.housekeep();
            if is_last && self.unsettled.is_empty() {
                self.close();
                return;
            }
        }
    }

    fn patience(&self) -> Duration {
        if self.shared.database().is_none() {
            REOPEN_EVERY
        } else if !self.jobs.is_empty() || self.purge_goes_on {
            Duration::ZERO
        } else if !self.dirty.is_empty() {
            FLUSH_EVERY
        } else {
            IDLE_PATIENCE
        }
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
                    let result = self.commit_change(&actor, change);
                    let _ = reply.send(result);
                }
                Command::Bulk { actor, lane, kind, reply } => {
                    self.commit_group(outcomes.take().unwrap_or_default(), std::mem::take(&mut group));
                    self.begin_job(&actor, lane, kind, reply);
                }
            }
        }
        self.commit_group(outcomes.unwrap_or_default(), group);
    }

    fn commit_group(&mut self, outcomes: Vec<Settle>, commands: Vec<Command>) {
        if outcomes.is_empty() && commands.is_empty() {
            return;
        }
        let Some(database) = self.shared.database() else {
            self.unsettled.extend(outcomes);
            commands.into_iter().for_each(refuse);
            return;
        };
        match self.try_group(&database, &outcomes, commands) {
            Ok((effects, done)) => {
                self.take_effect(effects);
                for it in done {
                    match it {
                        Done::Accept(reply, results) => drop(reply.send(Ok(results))),
                        Done::Touch(reply, result) => drop(reply.send(result)),
                    }
                }
            }
            Err((error, commands)) => {
                self.unsettled.extend(outcomes);
                let answer = self.broke(database, &error);
                for it in commands {
                    match it {
                        Done::Accept(reply, _) => drop(reply.send(Err(answer))),
                        Done::Touch(reply, _) => drop(reply.send(Err(answer.into()))),
                    }
                }
            }
        }
    }

    /// One transaction for all. On failure, gives back who is to be told.
    fn try_group(
        &mut self,
        database: &Database,
        outcomes: &[Settle],
        commands: Vec<Command>,
    ) -> Result<(Effects, Vec<Done>), (StoreError, Vec<Done>)> {
        let mut effects = Effects::default();
        let mut done = Vec::with_capacity(commands.len());
        let mut commands = commands.into_iter();
        let attempt = (|| {
            let transaction = schema::begin(database)?;
            {
                let mut hot = Hot::open(&transaction)?;
                for settle in outcomes {
                    self.settle(&mut hot, settle, &mut effects)?;
                }
                for command in commands.by_ref() {
                    match command {
                        Command::Accept { events, reply } => {
                            done.push(Done::Accept(reply, Vec::with_capacity(events.len())));
                            for event in events {
                                let result = self.accept(&mut hot, event, &mut effects)?;
                                if let Some(Done::Accept(_, results)) = done.last_mut() {
                                    results.push(result);
                                }
                            }
                        }
                        Command::Reopen { actor, id, reply } => {
                            done.push(Done::Touch(reply, Ok(())));
                            let result = self.reopen(&mut hot, id, &mut effects)?;
                            self.audit_touch(&transaction, actor, "delivery.retry", id, result)?;
                            if let Some(Done::Touch(_, answer)) = done.last_mut() {
                                *answer = result;
                            }
                        }
                        Command::Cancel { actor, id, reply } => {
                            done.push(Done::Touch(reply, Ok(())));
                            let result = self.cancel(&mut hot, id, &mut effects)?;
                            self.audit_touch(&transaction, actor, "delivery.cancel", id, result)?;
                            if let Some(Done::Touch(_, answer)) = done.last_mut() {
                                *answer = result;
                            }
                        }
                        Command::Change { .. } | Command::Bulk { .. } => {}
                    }
                }
                effects.live_change = hot.live_change;
            }
            self.flush_if_due(&transaction)?;
            transaction.commit().map_err(StoreError::from)
        })();
        match attempt {
            Ok(()) => Ok((effects, done)),
            Err(error) => {
                commands.for_each(refuse);
                Err((error, done))
            }
        }
    }

    fn settle(&mut self, hot: &mut Hot<'_>, settle: &Settle, effects: &mut Effects) -> Result<(), StoreError> {
        let now = self.now();
        let settled = hot.settle(settle, now)?;
        let (lane, event) = (settle.lane, settle.head.event);
        effects.notices.push(Notice::Settled { lane, event, next: settled.flatten() });
        if settled.is_none() {
            return Ok(());
        }
        let failed = match &settle.attempt.outcome {
            AttemptOutcome::Failure { code, .. } => Some((settle.attempt.started_at, *code)),
            AttemptOutcome::Success { .. } => None,
        };
        if settle.settlement != Settlement::Interrupted {
            let consecutive_failures = settle.consecutive_failures;
            effects.stats.push((lane, StatsChange::Attempted { failed, at: now, consecutive_failures }));
        }
        match settle.settlement {
            Settlement::Delivered => effects.ended(lane, TerminalState::Delivered, 1),
            Settlement::Failed => effects.ended(lane, TerminalState::Failed, 1),
            Settlement::Retry(_) | Settlement::Interrupted => {}
        }
        Ok(())
    }

    fn accept(
        &mut self,
        hot: &mut Hot<'_>,
        new: NewEvent,
        effects: &mut Effects,
    ) -> Result<Result<Accepted, AcceptError>, StoreError> {
        let now = self.now();
        let shared = self.shared.clone();
        let registry = shared.registry();
        if registry.organization(&new.organization).is_none() {
            return Ok(Err(AcceptError::UnknownOrganization));
        }
        let content = digest(&new);
        if let Some(key) = &new.idempotency_key {
            let today = day_of(now);
            let days = IDEMPOTENCY_WINDOW.as_secs() / 86_400;
            for day in today.saturating_sub(days as u32)..=today {
                let Some((first, stored)) = read_idempotency(hot, day, &new.organization, key)? else { continue };
                if first.accepted_at() + IDEMPOTENCY_WINDOW <= now {
                    continue;
                }
                if stored != content {
                    return Ok(Err(AcceptError::Conflict { first }));
                }
                let (event_id, deliveries) = match hot.event.get(&first.to_key())? {
                    Some(row) => {
                        let (event, lanes) = decode_event(first, row.value())?;
                        (event.event_id, lanes.len() as u32)
                    }
                    None => (new.event_id, 0),
                };
                effects.duplicates += 1;
                return Ok(Ok(Accepted { id: first, event_id, duplicate: true, deliveries }));
            }
        }
        let id = self.minter.mint(now, self.random.random());
        let event = Event {
            id,
            event_type: new.event_type,
            organization: new.organization,
            source: new.source,
            subject: new.subject,
            occurred_at: new.occurred_at.unwrap_or(id.accepted_at()),
            event_id: new.event_id,
            data: new.data,
        };
        let matching = registry.matching(&event, &shared.rules());
        let lanes: Vec<u32> = matching.iter().map(|subscription| subscription.number.0).collect();
        hot.put_event(&event, &lanes)?;
        if let Some(key) = &new.idempotency_key {
            hot.put_idempotency(&idempotency_key(day_of(now), &event.organization, key), id, content)?;
        }
        effects.accepted += 1;
        let head = Head::fresh(id);
        for lane in &lanes {
            hot.put_pending(Lane(*lane), &head)?;
            effects.stats.push((Lane(*lane), StatsChange::Triggered(now)));
        }
        let accepted =
            Accepted { id, event_id: event.event_id.clone(), duplicate: false, deliveries: lanes.len() as u32 };
        if !lanes.is_empty() {
            let lanes = lanes.into_iter().map(Lane).collect();
            effects.notices.push(Notice::Accepted { event: Arc::new(event), head, lanes });
        }
        Ok(Ok(accepted))
    }

    fn standing(&self, hot: &Hot<'_>, id: DeliveryId) -> Result<Option<Standing>, StoreError> {
        let Some(row) = hot.event.get(&id.event().to_key())? else { return Ok(None) };
        let event = decode_event_summary(row.value())?;
        standing(id, &event.lanes, &hot.pending, &hot.outcome, &hot.attempt)
    }

    fn reopen(
        &mut self,
        hot: &mut Hot<'_>,
        id: DeliveryId,
        effects: &mut Effects,
    ) -> Result<Result<(), DeliveryError>, StoreError> {
        let Some(standing) = self.standing(hot, id)? else { return Ok(Err(DeliveryError::NotFound)) };
        if !self.shared.registry().lane(id.lane()).is_some_and(|subscription| subscription.is_enabled()) {
            return Ok(Err(DeliveryError::NotEnabled));
        }
        let Some(outcome) = standing.outcome.filter(|it| matches!(it.state, OutcomeState::Ended(_))) else {
            return Ok(Err(DeliveryError::WrongState));
        };
        let head = hot.reopen(id, Some(&outcome), self.now())?;
        effects.opened(id.lane(), 1);
        effects.notices.push(Notice::Opened(id.lane(), vec![head]));
        self.shared.forget_oldest_pending();
        Ok(Ok(()))
    }

    fn cancel(
        &mut self,
        hot: &mut Hot<'_>,
        id: DeliveryId,
        effects: &mut Effects,
    ) -> Result<Result<(), DeliveryError>, StoreError> {
        let Some(standing) = self.standing(hot, id)? else { return Ok(Err(DeliveryError::NotFound)) };
        let Some(head) = standing.head else { return Ok(Err(DeliveryError::WrongState)) };
        hot.end(id.lane(), &head, TerminalState::Cancelled, None, self.now())?;
        effects.ended(id.lane(), TerminalState::Cancelled, 1);
        effects.notices.push(Notice::Removed(id.lane(), head.key()));
        Ok(Ok(()))
    }

    fn audit_touch(
        &mut self,
        transaction: &redb::WriteTransaction,
        actor: Actor,
        action: &str,
        id: DeliveryId,
        result: Result<(), DeliveryError>,
    ) -> Result<(), StoreError> {
        if result.is_err() {
            return Ok(());
        }
        let organization =
            self.shared.registry().lane(id.lane()).map(|subscription| subscription.settings.organization.clone());
        let entry = AuditEntry {
            sequence: self.next_audit,
            at: self.now(),
            actor,
            action: action.to_owned(),
            object: id.to_string(),
            organization,
            changes: serde_json::json!({}),
        };
        self.next_audit += 1;
        self.put_audit(transaction, &entry)
    }

    fn commit_change(&mut self, actor: &str, change: Change) -> Result<Changed, ChangeError> {
        let Some(database) = self.shared.database() else { return Err(WriteError::Unavailable.into()) };
        let frees = matches!(
            change,
            Change::DeleteSubscription { .. } | Change::SetStatus { .. } | Change::DeleteOrganization { .. }
        );
        if self.room == Room::None && !frees {
            return Err(WriteError::StorageFull.into());
        }
        match self.try_change(&database, actor, change) {
            Ok(result) => result,
            Err(error) => Err(self.broke(database, &error).into()),
        }
    }

    fn try_change(
        &mut self,
        database: &Database,
        actor: &str,
        change: Change,
    ) -> Result<Result<Changed, ChangeError>, StoreError> {
        let now = self.now();
        let transaction = schema::begin(database)?;
        let mut new_lane = Lane(0);
        let mut creation = None;
        if let Change::CreateSubscription { settings, idempotency, .. } = &change {
            new_lane = Lane(schema::take_lane(&transaction)?);
            if let Some((key, _)) = idempotency {
                let key = change::creation_key(&settings.organization, key);
                if let Some(row) = transaction.open_table(CREATION)?.get(key.as_str())? {
                    creation = Some(settings::read_creation(row.value())?);
                }
            }
        }
        let new_id = SubscriptionId::new(now, self.random.random());
        let circumstances = Circumstances { now, actor, new_lane, new_id, creation };
        let planned = change::plan(&self.shared.registry(), change, circumstances);
        let mut plan = match planned {
            Ok(plan) => plan,
            Err(refusal) => {
                transaction.abort()?;
                return Ok(Err(refusal));
            }
        };
        if !plan.is_needed() {
            transaction.abort()?;
            return Ok(Ok(plan.changed));
        }
        change::write(&transaction, &plan, now)?;
        self.put_audit(&transaction, &plan.audit(self.next_audit, now, actor))?;
        let mut effects = Effects::default();
        if let Some(event) = plan.event.take() {
            let mut hot = Hot::open(&transaction)?;
            let _ = self.accept(&mut hot, event, &mut effects)?;
            effects.live_change = hot.live_change;
        }
        let end_job = match &plan.row {
            Row::NoSubscription(subscription) => {
                let job = self.new_job(subscription.number, JobKind::End);
                transaction.open_table(JOB)?.insert(self.next_job, job.encode()?.as_slice())?;
                Some(job)
            }
            _ => None,
        };
        transaction.commit()?;
        self.next_audit += 1;
        if let Some(job) = end_job {
            self.jobs.push_back((self.next_job, job));
            self.next_job += 1;
        }
        let Plan { row, changed, .. } = plan;
        match &row {
            Row::Subscription(subscription) => effects.notices.insert(0, Notice::LaneSet(subscription.clone())),
            Row::NoSubscription(subscription) => {
                effects.notices.insert(0, Notice::LaneRemoved(subscription.number));
                self.shared.lanes().remove(&subscription.number);
            }
            _ => {}
        }
        change::apply(&mut self.shared.registry_mut(), row);
        self.take_effect(effects);
        Ok(Ok(changed))
    }

    fn put_audit(&self, transaction: &redb::WriteTransaction, entry: &AuditEntry) -> Result<(), StoreError> {
        let record = settings::write_audit(entry)?;
        transaction.open_table(AUDIT)?.insert(entry.sequence, record.as_slice())?;
        Ok(())
    }

    fn new_job(&self, lane: Lane, kind: JobKind) -> Job {
        Job { lane: lane.0, kind, started_at_ms: self.now().as_millis(), done: 0, cursor: Vec::new() }
    }

    fn begin_job(&mut self, actor: &str, lane: Lane, kind: JobKind, reply: Reply<Result<BulkDone, DeliveryError>>) {
        let refusal = match (self.shared.registry().lane(lane), &kind) {
            (None, _) => Some(DeliveryError::NotFound),
            (Some(subscription), JobKind::Replay { .. }) if !subscription.is_enabled() => {
                Some(DeliveryError::NotEnabled)
            }
            (Some(_), JobKind::Replay { .. }) if self.room == Room::None => Some(WriteError::StorageFull.into()),
            _ => None,
        };
        if let Some(refusal) = refusal {
            let _ = reply.send(Err(refusal));
            return;
        }
        let Some(database) = self.shared.database() else {
            let _ = reply.send(Err(WriteError::Unavailable.into()));
            return;
        };
        let job = self.new_job(lane, kind);
        match self.try_begin_job(&database, actor, &job) {
            Ok(()) => {
                self.waiting.insert(self.next_job, reply);
                self.jobs.push_back((self.next_job, job));
                self.next_job += 1;
            }
            Err(error) => {
                let answer = self.broke(database, &error);
                let _ = reply.send(Err(answer.into()));
            }
        }
    }

    fn try_begin_job(&mut self, database: &Database, actor: &str, job: &Job) -> Result<(), StoreError> {
        let action = match &job.kind {
            JobKind::Cancel { .. } => Some("deliveries.cancel"),
            JobKind::Replay { .. } => Some("deliveries.replay"),
            JobKind::End | JobKind::Expire { .. } => None,
        };
        let transaction = schema::begin(database)?;
        transaction.open_table(JOB)?.insert(self.next_job, job.encode()?.as_slice())?;
        if let Some(action) = action
            && let Some(subscription) = self.shared.registry().lane(job.lane())
        {
            let entry = AuditEntry {
                sequence: self.next_audit,
                at: self.now(),
                actor: actor.to_owned(),
                action: action.to_owned(),
                object: subscription.id.to_string(),
                organization: Some(subscription.settings.organization.clone()),
                changes: serde_json::json!({}),
            };
            self.put_audit(&transaction, &entry)?;
        }
        transaction.commit()?;
        self.next_audit += u64::from(action.is_some());
        Ok(())
    }

    /// Does a step of the job whose turn it is.
    fn step_job(&mut self, database: Arc<Database>) {
        let Some((number, job)) = self.jobs.pop_front() else { return };
        match self.try_step(&database, number, &job) {
            Ok((step, mut effects)) => {
                let lane = job.lane();
                if !step.opened.is_empty() {
                    effects.opened(lane, step.opened.len());
                    effects.notices.push(Notice::Opened(lane, step.opened));
                    self.shared.forget_oldest_pending();
                }
                if let Some((count, state)) = step.ended.filter(|(count, _)| *count > 0) {
                    effects.ended(lane, state, count);
                    effects.notices.push(Notice::Reset(lane));
                }
                if step.next.is_none()
                    && let JobKind::Expire { oldest_left_ms, .. } = step.job.kind
                {
                    let oldest_opened_at = oldest_left_ms.map(Timestamp::from_millis);
                    effects.notices.push(Notice::Expired { lane, failed: step.job.done, oldest_opened_at });
                }
                self.take_effect(effects);
                match step.next {
                    Some(next) => self.jobs.push_back((number, next)),
                    None => {
                        if let Some(reply) = self.waiting.remove(&number) {
                            let _ = reply.send(Ok(BulkDone { done: step.job.done, at_limit: step.at_limit }));
                        }
                    }
                }
            }
            Err(error) => {
                self.jobs.push_front((number, job));
                self.broke(database, &error);
            }
        }
    }

    fn try_step(&mut self, database: &Database, number: u64, job: &Job) -> Result<(Step, Effects), StoreError> {
        let now = self.now();
        let transaction = schema::begin(database)?;
        let mut effects = Effects::default();
        let step = {
            let mut hot = Hot::open(&transaction)?;
            let step = job.step(&mut hot, &self.shared.registry(), &self.shared.rules(), now)?;
            effects.live_change = hot.live_change;
            step
        };
        {
            let mut jobs = transaction.open_table(JOB)?;
            match &step.next {
                Some(next) => jobs.insert(number, next.encode()?.as_slice())?,
                None => jobs.remove(number)?,
            };
        }
        transaction.commit()?;
        Ok((step, effects))
    }

    /// What a commit leads to, once it has returned: counters, then notices.
    fn take_effect(&mut self, effects: Effects) {
        {
            let mut lanes = self.shared.lanes();
            for (lane, change) in effects.stats {
                if self.shared.registry().lane(lane).is_none() {
                    continue;
                }
                self.dirty.insert(lane);
                change.apply(lanes.entry(lane).or_default());
            }
        }
        self.shared.counters.committed(effects.live_change, effects.ended);
        self.shared.counters.accepted(effects.accepted, effects.duplicates);
        for notice in effects.notices {
            // No engine listens while the daemon starts or stops: it reads the store then.
            let _ = self.notices.blocking_send(notice);
        }
    }

    /// Turns of bulk work and purging, and counters that nothing else carried along.
    fn housekeep(&mut self) {
        let Some(database) = self.shared.database() else { return };
        self.step_job(database.clone());
        let now = self.now();
        let is_due = self.purge_goes_on || now.since(self.purged_at) >= PURGE_EVERY || now < self.purged_at;
        if is_due {
            self.purged_at = now;
            match purge::step(&database, &self.shared.retention(), now, self.next_audit) {
                Ok(purged) => {
                    self.purge_goes_on = purged.goes_on;
                    self.shared.counters.committed(purged.live_change, [0; 3]);
                }
                Err(error) => {
                    self.broke(database, &error);
                    return;
                }
            }
        }
        if !self.dirty.is_empty() && self.is_flush_due() {
            let flushed = (|| {
                let transaction = schema::begin(&database)?;
                self.flush_if_due(&transaction)?;
                transaction.commit().map_err(StoreError::from)
            })();
            if let Err(error) = flushed {
                self.broke(database, &error);
            }
        }
    }

    fn is_flush_due(&self) -> bool {
        let now = self.now();
        now.since(self.flushed_at) >= FLUSH_EVERY || now < self.flushed_at
    }

    /// Writes counters along with whatever is committed, at most once a second.
    fn flush_if_due(&mut self, transaction: &redb::WriteTransaction) -> Result<(), StoreError> {
        if self.dirty.is_empty() || !self.is_flush_due() {
            return Ok(());
        }
        self.flushed_at = self.now();
        let lanes = self.shared.lanes();
        let mut table = transaction.open_table(STATS)?;
        for lane in self.dirty.drain() {
            if let Some(stats) = lanes.get(&lane) {
                table.insert(lane.0, encode_stats(stats)?.as_slice())?;
            }
        }
        schema::put_live_bytes(transaction, self.shared.counters.live_bytes())
    }

    /// Whether there is room for more, looked at now and then.
    fn look_at_space(&mut self) {
        let now = self.now();
        if now.since(self.looked_at_space) < SPACE_EVERY && now >= self.looked_at_space {
            return;
        }
        self.looked_at_space = now;
        let before = std::mem::replace(&mut self.room, self.shared.room());
        if self.room == before {
            return;
        }
        match self.room {
            Room::None => tracing::warn!("the storage is full: publishing is refused until there is room"),
            Room::Low => tracing::warn!("the storage is low"),
            Room::Enough => tracing::info!("there is room in the storage again"),
        }
        self.shared.counters.set_full(self.room == Room::None);
        if before == Room::Enough {
            self.tell_storage_low();
        }
    }

    /// Publishes `posthaste.storage.low`, before the last room is gone.
    fn tell_storage_low(&mut self) {
        let live_bytes = self.shared.counters.live_bytes();
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
    /// an I/O error, and opened anew. Answers what to tell whoever waited.
    fn broke(&mut self, database: Arc<Database>, error: &StoreError) -> WriteError {
        tracing::error!(%error, "the store failed; it is opened anew");
        self.shared.put_database(None);
        drop(database);
        let _ = self.notices.blocking_send(Notice::Down);
        error.to_publisher()
    }

    fn try_reopen(&mut self) {
        match self.reopen_database() {
            Ok(()) => {
                tracing::info!("the store is open again");
                // Before the engine reads on: it must not meet rows that these move.
                let unsettled = std::mem::take(&mut self.unsettled);
                self.work(unsettled, Vec::new());
                let _ = self.notices.blocking_send(Notice::Up);
            }
            Err(error) => tracing::error!(%error, "the store cannot be opened; trying again"),
        }
    }

    fn reopen_database(&mut self) -> Result<(), OpenError> {
        let database = self.shared.open_database()?;
        self.resume(&database)?;
        self.shared.load(&database, false)?;
        self.shared.put_database(Some(Arc::new(database)));
        Ok(())
    }

    fn close(&mut self) {
        let Some(database) = self.shared.database() else { return };
        self.flushed_at = Timestamp::ZERO;
        let closed = (|| {
            let transaction = schema::begin(&database)?;
            self.flush_if_due(&transaction)?;
            schema::put_live_bytes(&transaction, self.shared.counters.live_bytes())?;
            schema::mark_clean(&transaction)?;
            transaction.commit().map_err(StoreError::from)
        })();
        if let Err(error) = closed {
            tracing::error!(%error, "the store could not be closed cleanly; it is checked at the next start");
        }
        self.shared.put_database(None);
    }
}

impl StatsChange {
    fn apply(self, stats: &mut LaneStats) {
        match self {
            StatsChange::Triggered(at) => {
                stats.odometer += 1;
                stats.pending += 1;
                stats.last_triggered_at = Some(at);
            }
            StatsChange::Attempted { failed, at, consecutive_failures } => {
                stats.attempts += 1;
                stats.consecutive_failures = consecutive_failures;
                match failed {
                    Some(failure) => stats.last_failure = Some(failure),
                    None => stats.last_success_at = Some(at),
                }
            }
            StatsChange::Pending(change) => stats.pending = stats.pending.saturating_add_signed(change),
        }
    }
}

/// Tells that nothing was done.
fn refuse(command: Command) {
    let answer = WriteError::Unavailable;
    match command {
        Command::Accept { reply, .. } => drop(reply.send(Err(answer))),
        Command::Change { reply, .. } => drop(reply.send(Err(answer.into()))),
        Command::Reopen { reply, .. } | Command::Cancel { reply, .. } => drop(reply.send(Err(answer.into()))),
        Command::Bulk { reply, .. } => drop(reply.send(Err(answer.into()))),
    }
}

fn read_idempotency(
    hot: &Hot<'_>,
    day: u32,
    organization: &str,
    key: &str,
) -> Result<Option<(EventId, [u8; 16])>, StoreError> {
    match hot.idempotency.get(idempotency_key(day, organization, key).as_slice())? {
        Some(row) => decode_idempotency(row.value()).map(Some),
        None => Ok(None),
    }
}

/// What makes two events with one key the same: everything the publisher said.
fn digest(event: &NewEvent) -> [u8; 16] {
    let mut hash = Sha256::new();
    let mut part = |present: bool, bytes: &[u8]| {
        hash.update([u8::from(present)]);
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    let mut text = |value: Option<&str>| part(value.is_some(), value.unwrap_or_default().as_bytes());
    text(Some(&event.event_type));
    text(event.source.as_deref());
    text(event.subject.as_deref());
    text(event.event_id.as_deref());
    text(event.occurred_at.map(|at| at.to_string()).as_deref());
    part(true, event.data.as_bytes());
    let mut digest = [0; 16];
    digest.copy_from_slice(&hash.finalize()[..16]);
    digest
}
