//! Bulk work: begun with a row that survives a crash, then a step at a time.

use std::sync::Arc;

use redb::Database;

use crate::id::Lane;
use crate::limits::BULK_JOBS_MAX;
use crate::store::command::*;
use crate::store::hot::Hot;
use crate::store::job::{Job, JobKind, Step};
use crate::store::query::AuditEntry;
use crate::store::tables::JOB;
use crate::store::work::Kind;
use crate::store::{Notice, Room, StoreError};
use crate::time::Timestamp;

use super::effects::Effects;
use super::{BulkDone, Reply, Writer};

impl Writer {
    pub(super) fn new_job(&self, lane: Lane, kind: JobKind) -> Job {
        let newest = self.minter.newest().to_key();
        Job { lane: lane.0, kind, started_at_ms: self.now().as_millis(), newest, done: 0, cursor: Vec::new() }
    }

    pub(super) fn begin_job(
        &mut self,
        actor: &str,
        lane: Lane,
        kind: JobKind,
        reply: Reply<Result<BulkDone, DeliveryError>>,
    ) {
        let job = self.new_job(lane, kind);
        let refusal = match (self.shared.registry().lane(lane), &job.kind) {
            (None, _) => Some(DeliveryError::NotFound),
            (Some(subscription), JobKind::Replay { .. }) if !subscription.is_enabled() => {
                Some(DeliveryError::NotEnabled)
            }
            (Some(_), JobKind::Replay { .. }) if self.room == Room::None => Some(WriteError::StorageFull.into()),
            (Some(_), _) if job.is_asked_for() => self.too_many_jobs(lane),
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

    /// Why one more replay or cancellation is refused.
    fn too_many_jobs(&self, lane: Lane) -> Option<DeliveryError> {
        let mut asked_for = self.jobs.iter().filter(|(_, job)| job.is_asked_for());
        if asked_for.clone().any(|(_, job)| job.lane() == lane) {
            return Some(DeliveryError::UnderWay);
        }
        asked_for.nth(BULK_JOBS_MAX - 1).map(|_| WriteError::QueueFull.into())
    }

    fn try_begin_job(&mut self, database: &Database, actor: &str, job: &Job) -> Result<(), StoreError> {
        let action = match &job.kind {
            JobKind::Cancel { .. } => Some("subscription.cancel"),
            JobKind::Replay { .. } => Some("subscription.replay"),
            JobKind::End | JobKind::Expire { .. } => None,
        };
        let transaction = self.rest.begin(database)?;
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
        self.rest.end(transaction)?;
        self.next_audit += u64::from(action.is_some());
        Ok(())
    }

    /// Does a step of the job whose turn it is.
    pub(super) fn step_job(&mut self, database: Arc<Database>) {
        let Some((number, job)) = self.jobs.pop_front() else { return };
        match self.try_step(&database, number, &job) {
            Ok((step, mut effects)) => {
                let lane = job.lane();
                if !step.opened.is_empty() {
                    effects.notices.push(Notice::Opened(lane, step.opened));
                }
                if step.ended.is_some_and(|(count, _)| count > 0) {
                    effects.notices.push(Notice::Reset(lane));
                }
                if step.next.is_none()
                    && let JobKind::Expire { oldest_left_ms, operational, .. } = step.job.kind
                {
                    let oldest_opened_at = oldest_left_ms.map(Timestamp::from_millis);
                    let failed = step.job.done - operational;
                    effects.notices.push(Notice::Expired { lane, failed, oldest_opened_at });
                }
                self.take_effect(effects);
                match step.next {
                    Some(next) => self.jobs.push_back((number, next)),
                    None => {
                        if let Some(reply) = self.waiting.remove(&number) {
                            let _ = reply.send(Ok(BulkDone { done: step.job.done, next_since: step.next_since }));
                        }
                    }
                }
                self.shared.under_way.add(Kind::Bulk, self.now(), step.job.done - job.done);
                self.tell_bulk_over();
            }
            Err(error) => {
                self.broke(database, &error);
                if self.shared.database().is_none() {
                    self.jobs.push_front((number, job));
                } else {
                    self.give_up(number, &job);
                }
            }
        }
    }

    /// Where no bulk work is left, none is told of.
    pub(super) fn tell_bulk_over(&self) {
        if self.jobs.is_empty() {
            self.shared.under_way.end(Kind::Bulk);
        }
    }

    /// Tells who waits for a job that it does not go on: not before the next start,
    /// for which its row is left.
    pub(super) fn give_up(&mut self, number: u64, job: &Job) {
        if let JobKind::Expire { operational, .. } = job.kind {
            // What is left may have been opened at any time.
            let (lane, oldest_opened_at) = (job.lane(), Some(Timestamp::ZERO));
            let _ =
                self.notices.blocking_send(Notice::Expired { lane, failed: job.done - operational, oldest_opened_at });
        }
        if let Some(reply) = self.waiting.remove(&number) {
            let _ = reply.send(Err(WriteError::Unavailable.into()));
        }
        self.tell_bulk_over();
    }

    pub(super) fn try_step(
        &mut self,
        database: &Database,
        number: u64,
        job: &Job,
    ) -> Result<(Step, Effects), StoreError> {
        let now = self.now();
        let transaction = self.rest.begin(database)?;
        let mut effects = Effects::default();
        let step = {
            let mut hot = Hot::open(&transaction)?;
            let place = match job.kind {
                JobKind::Replay { .. } => self.take_place(&transaction)?,
                _ => now,
            };
            let step = job.step(&mut hot, &self.shared.registry(), &self.shared.rules(), now, place)?;
            effects.count.bytes = hot.bytes;
            step
        };
        if step.next.is_some() && step.job.done == job.done {
            // It only looked: after a crash it looks again.
            transaction.abort()?;
            return Ok((step, effects));
        }
        {
            let mut jobs = transaction.open_table(JOB)?;
            match &step.next {
                Some(next) => jobs.insert(number, next.encode()?.as_slice())?,
                None => jobs.remove(number)?,
            };
        }
        match step.ended {
            Some((count, state)) => effects.ended(job.lane(), state, count, step.moved_bytes),
            None => effects.opened(job.lane(), step.opened.len() as u64, step.moved_bytes),
        }
        self.commit(transaction, &effects)?;
        Ok((step, effects))
    }
}
