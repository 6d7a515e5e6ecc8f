//! Changes of what is configured: each committed alone, with its entry in the audit
//! log and the operational event it makes.

use redb::{Database, ReadableTable, WriteTransaction};

use crate::id::Lane;
use crate::store::change::{self, Circumstances, Plan, Row};
use crate::store::command::*;
use crate::store::hot::Hot;
use crate::store::job::JobKind;
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
        let transaction = schema::begin(database)?;
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
        let mut sealer = Sealer { keyring: &self.keyring, random: &mut self.random };
        change::write(&transaction, &plan, &mut sealer, now)?;
        self.put_audit(&transaction, &plan.audit(self.next_audit, now, actor))?;
        let mut effects = Effects::default();
        if !plan.events.is_empty() {
            let mut hot = Hot::open(&transaction)?;
            // What is disabled or ended by this very change takes no new deliveries.
            let closed = match &plan.row {
                Row::Subscription(subscription) if !subscription.is_enabled() => Some(subscription.number),
                Row::NoSubscription(subscription) => Some(subscription.number),
                _ => None,
            };
            for event in plan.events.drain(..) {
                let _ = self.accept(&mut hot, event, closed, &mut effects)?;
            }
            effects.count.bytes = hot.bytes;
        }
        let end_job = match &plan.row {
            Row::NoSubscription(subscription) => {
                let job = self.new_job(subscription.number, JobKind::End);
                transaction.open_table(JOB)?.insert(self.next_job, job.encode()?.as_slice())?;
                Some(job)
            }
            _ => None,
        };
        self.commit(transaction, &effects)?;
        self.next_audit += 1;
        if let Some(job) = end_job {
            self.jobs.push_back((self.next_job, job));
            self.next_job += 1;
        }
        let Plan { row, changed, .. } = plan;
        match &row {
            Row::Subscription(subscription) => {
                let before = self.shared.registry().lane(subscription.number).map(|before| before.is_enabled());
                if before == Some(false) && subscription.is_enabled() {
                    effects.stats.push((subscription.number, StatsChange::Enabled));
                }
                effects.notices.insert(0, Notice::LaneSet(subscription.clone()));
            }
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
            let transaction = schema::begin(&database)?;
            schema::set_held(&transaction, None)?;
            self.put_audit(&transaction, &entry)?;
            transaction.commit().map_err(StoreError::from)
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
