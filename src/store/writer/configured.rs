//! Changes of what is configured: each committed alone (what files declare, as one),
//! with its entry in the audit log and the operational event it makes.

use redb::{Database, ReadableTable, WriteTransaction};

use crate::id::Lane;
use crate::model::NewEvent;
use crate::store::change::{self, Circumstances, Plan, Row};
use crate::store::command::*;
use crate::store::declare;
use crate::store::hot::Hot;
use crate::store::job::{Job, JobKind};
use crate::store::query::AuditEntry;
use crate::store::sealed::Sealer;
use crate::store::tables::{AUDIT, CREATION, JOB, KeyKind, idempotency_days, idempotency_key};
use crate::store::{Notice, Room, StoreError, passed_over, schema, settings};

use super::Writer;
use super::effects::{Effects, StatsChange};

impl Writer {
    pub(super) fn commit_change(&mut self, actor: &str, change: Change) -> Result<Changed, ChangeError> {
        let Some(database) = self.shared.database() else { return Err(WriteError::Unavailable.into()) };
        let creates = matches!(
            change,
            Change::PutOrganization { .. }
                | Change::MakeOrganization { .. }
                | Change::PutSource { .. }
                | Change::PutEventType { .. }
                | Change::CreateSubscription { .. }
        );
        // What ends or disables something frees space; other changes need next to none.
        if self.room == Room::None && creates {
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
        let (now, keyed_at) = (self.now(), self.keyed_at());
        let transaction = self.rest.begin(database)?;
        let mut new_lane = Lane(0);
        let mut creation = None;
        if let Change::CreateSubscription { settings, idempotency, .. } = &change {
            new_lane = Lane(schema::take_lane(&transaction)?);
            if let Some((key, _)) = idempotency {
                let creations = transaction.open_table(CREATION)?;
                for day in idempotency_days(keyed_at) {
                    let place = idempotency_key(day, &settings.organization, KeyKind::Given, key);
                    let Some(row) = creations.get(place.as_slice())? else { continue };
                    let first = settings::read_creation(&place, row.value(), &self.keyring);
                    creation = passed_over(first, "an idempotency key")?.or(creation);
                }
            }
        }
        let retained_bytes = match &change {
            Change::PutOrganization { id, .. } => self.shared.counts().bytes_of(id),
            _ => 0,
        };
        let circumstances = Circumstances { now, keyed_at, actor, new_lane, creation, retained_bytes };
        let planned = change::plan(&self.shared.registry(), change, circumstances);
        let plan = match planned {
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
        let mut changed = self.carry_out(transaction, actor, vec![plan])?;
        Ok(changed.pop().ok_or(ChangeError::NotFound))
    }

    /// Puts in force what files declare.
    pub(super) fn commit_declared(&mut self, declared: &Declared) -> Result<Vec<DeclaredStep>, ChangeError> {
        let Some(database) = self.shared.database() else { return Err(WriteError::Unavailable.into()) };
        match self.try_declare(&database, declared) {
            Ok(result) => result,
            Err(error) => Err(self.broke(database, &error).into()),
        }
    }

    fn try_declare(
        &mut self,
        database: &Database,
        declared: &Declared,
    ) -> Result<Result<Vec<DeclaredStep>, ChangeError>, StoreError> {
        let transaction = self.rest.begin(database)?;
        let mut numbers = Vec::new();
        for _ in 0..declare::new_subscriptions(&self.shared.registry(), declared) {
            numbers.push(Lane(schema::take_lane(&transaction)?));
        }
        let has_pending = |lane| self.has_pending(lane);
        let planned = declare::plan(&self.shared.registry(), declared, self.now(), &has_pending, numbers.into_iter());
        let plans = match planned {
            Ok(plans) => plans,
            Err(faults) => {
                transaction.abort()?;
                return Ok(Err(ChangeError::Declared(faults)));
            }
        };
        let steps: Vec<DeclaredStep> = plans.iter().map(declare::step).collect();
        let creates = |step: &DeclaredStep| step.action == "create";
        if plans.is_empty() {
            transaction.abort()?;
        } else if self.room == Room::None && steps.iter().any(creates) {
            transaction.abort()?;
            return Ok(Err(WriteError::StorageFull.into()));
        } else {
            self.carry_out(transaction, declare::ACTOR, plans)?;
        }
        log_steps(&steps);
        self.declared = Some(declare::Names::of(declared));
        Ok(Ok(steps))
    }

    /// Ends what files declared and do no longer, once nothing is pending.
    pub(super) fn end_undeclared(&mut self, database: &Database) -> Result<(), StoreError> {
        let Some(declared) = &self.declared else { return Ok(()) };
        let plans = declare::plan_ends(&self.shared.registry(), declared, self.now(), &|lane| self.has_pending(lane));
        if plans.is_empty() {
            return Ok(());
        }
        let steps: Vec<DeclaredStep> = plans.iter().map(declare::step).collect();
        self.carry_out(self.rest.begin(database)?, declare::ACTOR, plans)?;
        log_steps(&steps);
        Ok(())
    }

    fn has_pending(&self, lane: Lane) -> bool {
        self.shared.lanes().get(&lane).is_some_and(|stats| stats.pending > 0)
    }

    /// Commits plans together, each with its entry in the audit log, and lets what
    /// follows from them follow.
    fn carry_out(
        &mut self,
        transaction: WriteTransaction,
        actor: &str,
        mut plans: Vec<Plan>,
    ) -> Result<Vec<Changed>, StoreError> {
        let now = self.now();
        let mut sealer = Sealer { keyring: &self.keyring, random: &mut self.random };
        for plan in &plans {
            change::write(&transaction, plan, &mut sealer, now)?;
        }
        for (sequence, plan) in (self.next_audit..).zip(&plans) {
            self.put_audit(&transaction, &plan.audit(sequence, now, actor))?;
        }
        // What is disabled or ended by this very change takes no new deliveries.
        let closed = |plan: &Plan| match &plan.row {
            Row::Subscription(subscription) if !subscription.is_enabled() => Some(subscription.number),
            Row::NoSubscription(subscription) => Some(subscription.number),
            _ => None,
        };
        let closed: Vec<Lane> = plans.iter().filter_map(closed).collect();
        let mut effects = Effects::default();
        let events: Vec<NewEvent> = plans.iter_mut().flat_map(|plan| plan.events.drain(..)).collect();
        if !events.is_empty() {
            let mut hot = Hot::open(&transaction)?;
            for event in events {
                let _ = self.accept(&mut hot, event, &closed, &mut effects)?;
            }
            effects.count.bytes = hot.bytes;
        }
        let ended = |plan: &Plan| match &plan.row {
            Row::NoSubscription(subscription) => Some(self.new_job(subscription.number, JobKind::End)),
            _ => None,
        };
        let end_jobs: Vec<(u64, Job)> = (self.next_job..).zip(plans.iter().filter_map(ended)).collect();
        for (number, job) in &end_jobs {
            transaction.open_table(JOB)?.insert(number, job.encode()?.as_slice())?;
        }
        self.commit(transaction, &effects)?;
        self.next_audit += plans.len() as u64;
        self.next_job += end_jobs.len() as u64;
        self.jobs.extend(end_jobs);
        let mut notices = Vec::new();
        let mut changed = Vec::with_capacity(plans.len());
        for plan in plans {
            match &plan.row {
                Row::Subscription(subscription) => {
                    let before = self.shared.registry().lane(subscription.number).map(|before| before.is_enabled());
                    if before == Some(false) && subscription.is_enabled() {
                        effects.stats.push((subscription.number, StatsChange::Enabled));
                    }
                    notices.push(Notice::LaneSet(subscription.clone()));
                }
                Row::NoSubscription(subscription) => {
                    notices.push(Notice::LaneRemoved(subscription.number));
                    self.shared.lanes().remove(&subscription.number);
                }
                _ => {}
            }
            change::apply(&mut self.shared.registry_mut(), plan.row);
            changed.push(plan.changed);
        }
        notices.append(&mut effects.notices);
        effects.notices = notices;
        self.take_effect(effects);
        Ok(changed)
    }

    /// Lets deliveries go that are held since a restore. Answers whether they were.
    pub(super) fn commit_resume(&mut self, actor: Actor) -> Result<bool, WriteError> {
        let Some(database) = self.shared.database() else { return Err(WriteError::Unavailable) };
        if self.shared.held_since().is_none() {
            return Ok(false);
        }
        let entry = AuditEntry {
            sequence: self.next_audit,
            at: self.now(),
            actor,
            action: "deliveries.resume".to_owned(),
            object: String::new(),
            organization: None,
            changes: serde_json::json!({}),
        };
        let resumed = (|| {
            let transaction = self.rest.begin(&database)?;
            schema::set_held(&transaction, None)?;
            self.put_audit(&transaction, &entry)?;
            self.rest.end(transaction)
        })();
        if let Err(error) = resumed {
            return Err(self.broke(database, &error));
        }
        self.next_audit += 1;
        *self.shared.held_since() = None;
        tracing::info!("deliveries go on, after the restore");
        self.take_effect(Effects { notices: vec![Notice::Resumed], ..Effects::default() });
        Ok(true)
    }

    pub(super) fn put_audit(&self, transaction: &WriteTransaction, entry: &AuditEntry) -> Result<(), StoreError> {
        let record = settings::write_audit(entry)?;
        transaction.open_table(AUDIT)?.insert(entry.sequence, record.as_slice())?;
        Ok(())
    }
}

/// Says what files changed, a line each.
fn log_steps(steps: &[DeclaredStep]) {
    for DeclaredStep { action, object, changes } in steps {
        tracing::info!(action, object, fields = declare::fields_of(changes), "declared by files");
    }
}
