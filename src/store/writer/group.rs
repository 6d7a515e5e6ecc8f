//! What shares a commit: outcomes of attempts, events, retries and cancellations.

use std::sync::Arc;

use rand::RngExt;
use redb::{Database, ReadableTable, WriteTransaction};
use sha2::{Digest, Sha256};

use crate::dialect;
use crate::id::{DeliveryId, EventId, Lane};
use crate::limits::IDEMPOTENCY_WINDOW;
use crate::model::{AttemptOutcome, Event, Head, Name, NewEvent, OPERATIONAL_PREFIX, Settlement, TerminalState};
use crate::registry::Registry;
use crate::store::ahead::{self, Young};
use crate::store::command::*;
use crate::store::hot::{Hot, Settled, Standing, standing};
use crate::store::query::AuditEntry;
use crate::store::records::{OutcomeState, decode_event, decode_event_summary, decode_idempotency};
use crate::store::space::Room;
use crate::store::tables::{KeyKind, day_of, idempotency_days, idempotency_key};
use crate::store::wal::Record;
use crate::store::{Notice, Settle, StoreError, passed_over};

use super::effects::{Effects, StatsChange};
use super::rest::InLog;
use super::{Command, Reply, STATS_FLUSHED_AT_ONCE_MAX, TELL_SHARE_EVERY, Writer, refuse};

/// A group's commands, each with what it will be answered.
enum Done {
    Accept(Reply<Result<Vec<Result<Accepted, AcceptError>>, WriteError>>, Vec<Result<Accepted, AcceptError>>),
    Touch(Reply<Result<(), DeliveryError>>, Result<(), DeliveryError>),
}

/// The answer where a record cannot be read.
const UNREADABLE: Result<(), DeliveryError> = Err(DeliveryError::Write(WriteError::Unavailable));

/// How much of a group a command is.
fn items(command: &Command) -> usize {
    if let Command::Accept { events, .. } = command { events.len() } else { 1 }
}

impl Writer {
    pub(super) fn commit_group(&mut self, outcomes: Vec<Settle>, commands: Vec<Command>) {
        if outcomes.is_empty() && commands.is_empty() {
            return;
        }
        let Some(database) = self.shared.database() else {
            self.unsettled.extend(outcomes);
            commands.into_iter().for_each(refuse);
            return;
        };
        let items = outcomes.len() + commands.iter().map(items).sum::<usize>();
        match self.try_group(&database, &outcomes, commands) {
            Ok(notices) => {
                self.shared.commit_items.observe(items as u64);
                self.tell(notices);
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

    /// Counts what is synced, and answers who waits for that. Before the engine hears of it:
    /// a wide event leads to thousands of attempts.
    fn answer(&mut self, effects: &Effects, done: &mut Vec<Done>) {
        self.count(effects);
        for it in done.drain(..) {
            match it {
                Done::Accept(reply, results) => drop(reply.send(Ok(results))),
                Done::Touch(reply, result) => drop(reply.send(result)),
            }
        }
    }

    /// Commits what is noted in `record`: in the log, or in the database where that cannot be.
    fn commit_logged(
        &mut self,
        (transaction, young): (WriteTransaction, Young),
        mut record: Record,
        effects: &Effects,
        done: &mut Vec<Done>,
    ) -> Result<(), StoreError> {
        self.shared.counts().write(&transaction, &effects.count, Some(&mut record))?;
        if record.is_empty() {
            self.answer(effects, done);
            return self.shared.ahead.leave(transaction, young);
        }
        self.flush(&transaction, STATS_FLUSHED_AT_ONCE_MAX)?;
        let committed = match self.rest.log(record) {
            InLog::Synced => {
                // Nothing can take it back: whoever waits is answered now.
                self.shared.ahead.fall_behind();
                self.answer(effects, done);
                self.rest.leave(transaction, young)
            }
            InLog::Never => self.sync_and_answer(transaction, young, effects, done),
            // Whatever happens, it may be found in the log.
            InLog::Perhaps => self.sync_and_answer(transaction, young, effects, done).map_err(StoreError::in_doubt),
        };
        committed.inspect_err(|_| self.in_doubt.extend(effects.stats.iter().map(|(lane, _)| *lane)))
    }

    /// Commits what the log does not have.
    fn sync_and_answer(
        &mut self,
        transaction: WriteTransaction,
        young: Young,
        effects: &Effects,
        done: &mut Vec<Done>,
    ) -> Result<(), StoreError> {
        ahead::write(&transaction, young)?;
        self.rest.end(transaction)?;
        self.answer(effects, done);
        Ok(())
    }

    /// One transaction for all. Answers what the engine is to hear; on failure, gives back
    /// who is to be told.
    fn try_group(
        &mut self,
        database: &Database,
        outcomes: &[Settle],
        commands: Vec<Command>,
    ) -> Result<Vec<Notice>, (StoreError, Vec<Done>)> {
        let mut effects = Effects::default();
        let mut done = Vec::with_capacity(commands.len());
        // Now and then the database is synced, and where there may soon be no room for that.
        let is_sync_due = self.begin_flush();
        let is_everyday = commands.iter().all(|command| matches!(command, Command::Accept { .. }));
        let is_logged = is_everyday && !is_sync_due && self.room == Room::Enough;
        let mut commands = commands.into_iter();
        let attempt = (|| {
            let (transaction, young) = match is_logged {
                true => self.rest.go_on(database)?,
                false => (self.rest.begin(database)?, Young::default()),
            };
            let (record, young) = {
                let mut hot = match is_logged {
                    true => Hot::open_noting(&transaction, young)?,
                    false => Hot::open(&transaction)?,
                };
                for settle in outcomes {
                    self.settle(&mut hot, settle, &mut effects)?;
                }
                for command in commands.by_ref() {
                    match command {
                        Command::Accept { events, reply } => {
                            done.push(Done::Accept(reply, Vec::with_capacity(events.len())));
                            for event in events {
                                let result = self.accept(&mut hot, event, &[], &mut effects)?;
                                if let Some(Done::Accept(_, results)) = done.last_mut() {
                                    results.push(result);
                                }
                            }
                        }
                        Command::Reopen { actor, id, reply } => {
                            done.push(Done::Touch(reply, Ok(())));
                            let result = self.reopen(&transaction, &mut hot, id, &mut effects);
                            let result = passed_over(result, id)?.unwrap_or(UNREADABLE);
                            self.audit_touch(&transaction, actor, "delivery.retry", id, result)?;
                            if let Some(Done::Touch(_, answer)) = done.last_mut() {
                                *answer = result;
                            }
                        }
                        Command::Cancel { actor, id, reply } => {
                            done.push(Done::Touch(reply, Ok(())));
                            let result = self.cancel(&mut hot, id, &mut effects);
                            let result = passed_over(result, id)?.unwrap_or(UNREADABLE);
                            self.audit_touch(&transaction, actor, "delivery.cancel", id, result)?;
                            if let Some(Done::Touch(_, answer)) = done.last_mut() {
                                *answer = result;
                            }
                        }
                        Command::Change { .. }
                        | Command::Declare { .. }
                        | Command::Resume { .. }
                        | Command::Bulk { .. } => {}
                    }
                }
                effects.count.bytes = hot.bytes;
                (hot.record, hot.young.unwrap_or_default())
            };
            match record {
                Some(record) => self.commit_logged((transaction, young), record, &effects, &mut done),
                None => {
                    ahead::write(&transaction, young)?;
                    self.flush(&transaction, STATS_FLUSHED_AT_ONCE_MAX)?;
                    self.commit(transaction, &effects)?;
                    self.answer(&effects, &mut done);
                    Ok(())
                }
            }
        })();
        match attempt {
            Ok(()) => Ok(effects.notices),
            Err(error) => {
                self.shared.ahead.give_up();
                commands.for_each(refuse);
                Err((error, done))
            }
        }
    }

    fn settle(&mut self, hot: &mut Hot<'_>, settle: &Settle, effects: &mut Effects) -> Result<(), StoreError> {
        let now = self.now();
        let (lane, event) = (settle.lane, settle.head.event);
        let settled = passed_over(hot.settle(settle, now), event.delivery(lane))?.flatten();
        let next = settled.as_ref().and_then(|settled| settled.next);
        effects.notices.push(Notice::Settled { lane, event, next });
        let Some(Settled { weight_bytes, is_new, .. }) = settled else { return Ok(()) };
        let failed = match &settle.attempt.outcome {
            AttemptOutcome::Failure { code, .. } => Some((settle.attempt.started_at, *code)),
            AttemptOutcome::Success { .. } => None,
        };
        if is_new && settle.settlement != Settlement::Interrupted {
            let consecutive_failures = settle.consecutive_failures;
            effects.stats.push((lane, StatsChange::Attempted { failed, at: now, consecutive_failures }));
        }
        match settle.settlement {
            Settlement::Delivered => effects.ended(lane, TerminalState::Delivered, 1, weight_bytes.into()),
            Settlement::Failed => effects.ended(lane, TerminalState::Failed, 1, weight_bytes.into()),
            Settlement::Retry(_) | Settlement::Stay(_) | Settlement::Interrupted => {}
        }
        Ok(())
    }

    /// Takes an event, with a delivery for each subscription that it matches, `except`
    /// some.
    pub(super) fn accept(
        &mut self,
        hot: &mut Hot<'_>,
        mut new: NewEvent,
        except: &[Lane],
        effects: &mut Effects,
    ) -> Result<Result<Accepted, AcceptError>, StoreError> {
        let now = self.now();
        let shared = self.shared.clone();
        let registry = shared.registry();
        if registry.organization(&new.organization).is_none() {
            return Ok(Err(AcceptError::UnknownOrganization));
        }
        // The publisher's key, else its id for the event.
        let key = match (new.idempotency_key.take(), &new.event_id) {
            (Some(key), _) => Some((KeyKind::Given, key, digest(&new))),
            (None, Some(event_id)) => Some((KeyKind::EventId, event_id.clone(), digest(&new))),
            (None, None) => None,
        };
        if let Some((kind, key, content)) = &key {
            let keyed_at = self.keyed_at();
            for day in idempotency_days(keyed_at) {
                let row = idempotency_key(day, &new.organization, *kind, key);
                let Some((first, stored)) = read_idempotency(hot, &row)? else { continue };
                if first.accepted_at() + IDEMPOTENCY_WINDOW <= keyed_at {
                    continue;
                }
                if stored != *content {
                    return Ok(Err(AcceptError::Conflict { first }));
                }
                let (event_id, deliveries) = match hot.event.get(&first.to_key())? {
                    Some(row) => passed_over(decode_event(first, row.value()), first)?,
                    None => None,
                }
                .map_or((new.event_id, 0), |(event, lanes)| (event.event_id, lanes.len() as u32));
                effects.count.duplicates += 1;
                return Ok(Ok(Accepted { id: first, event_id, duplicate: true, deliveries }));
            }
        }
        if let Some(over) = self.over_share(&registry, &new.organization, effects)
            && !new.event_type.starts_with(OPERATIONAL_PREFIX)
        {
            if self.is_news_of_share(&over) {
                effects.notices.push(Notice::OverShare(over));
            }
            return Ok(Err(AcceptError::QuotaExceeded));
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
        let mut matching = registry.matching(&event, &shared.rules());
        let fault = matching.iter().find_map(|it| dialect::find(it.settings.format).check_event(&event).err());
        if let Some(fault) = fault {
            return Ok(Err(AcceptError::Unsendable(fault)));
        }
        matching.retain(|subscription| !except.contains(&subscription.number));
        let lanes: Vec<u32> = matching.iter().map(|subscription| subscription.number.0).collect();
        let weight_bytes = hot.put_event(&event, &lanes)?;
        if let Some((kind, key, content)) = &key {
            hot.put_idempotency(
                &idempotency_key(day_of(id.accepted_at()), &event.organization, *kind, key),
                id,
                *content,
            )?;
        }
        effects.count.accepted += 1;
        // After the clock was set back the id lies in the future; its horizon must not.
        let head = Head { opened_at: now.min(id.accepted_at()), ..Head::fresh(id) };
        for subscription in matching {
            let lane = subscription.number;
            hot.put_pending(lane, &head, weight_bytes)?;
            effects.stats.push((lane, StatsChange::Triggered { at: now, weight_bytes }));
            if effects.shares.is_empty() {
                continue;
            }
            for above in registry.lineage(&subscription.settings.organization) {
                if let Some(used) = effects.shares.get_mut(&above.id) {
                    *used += u64::from(weight_bytes);
                }
            }
        }
        let accepted =
            Accepted { id, event_id: event.event_id.clone(), duplicate: false, deliveries: lanes.len() as u32 };
        if !lanes.is_empty() {
            let lanes = lanes.into_iter().map(Lane).collect();
            effects.notices.push(Notice::Accepted { event: Arc::new(event), head, lanes });
        }
        Ok(Ok(accepted))
    }

    /// The nearest organization, of one and those above it, whose share is used up.
    /// What is counted is what was committed and what the transaction accepts; what it
    /// ends frees room for the next.
    fn over_share(&self, registry: &Registry, organization: &str, effects: &mut Effects) -> Option<Name> {
        for above in registry.lineage(organization) {
            let Some(bytes_max) = above.bytes_max else { continue };
            let used = effects.shares.entry(above.id.clone());
            if *used.or_insert_with(|| self.shared.pending_bytes(registry, &above.id)) >= bytes_max {
                return Some(above.id.clone());
            }
        }
        None
    }

    /// Whether it is time to tell that an organization is over its share.
    fn is_news_of_share(&mut self, organization: &Name) -> bool {
        let now = self.now();
        self.told_shares.retain(|_, at| now >= *at && now.since(*at) < TELL_SHARE_EVERY);
        let is_news = !self.told_shares.contains_key(organization);
        if is_news {
            self.told_shares.insert(organization.clone(), now);
        }
        is_news
    }

    fn standing(&self, hot: &Hot<'_>, id: DeliveryId) -> Result<Option<Standing>, StoreError> {
        let Some(row) = hot.event.get(&id.event().to_key())? else { return Ok(None) };
        let event = decode_event_summary(row.value())?;
        standing(id, &event.lanes, &hot.pending, &hot.outcome, &hot.attempt)
    }

    fn reopen(
        &mut self,
        transaction: &WriteTransaction,
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
        let place = self.take_place(transaction)?;
        let (head, weight_bytes) = hot.reopen(id, Some(&outcome), self.now(), place)?;
        effects.opened(id.lane(), 1, weight_bytes.into());
        effects.notices.push(Notice::Opened(id.lane(), vec![head]));
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
        let ended = hot.end(id.lane(), &head, TerminalState::Cancelled, None, self.now())?;
        let Some(weight_bytes) = ended else { return Ok(Err(DeliveryError::WrongState)) };
        effects.ended(id.lane(), TerminalState::Cancelled, 1, weight_bytes.into());
        effects.notices.push(Notice::Removed(id.lane(), head.key()));
        Ok(Ok(()))
    }

    fn audit_touch(
        &mut self,
        transaction: &WriteTransaction,
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
}

fn read_idempotency(hot: &Hot<'_>, key: &[u8]) -> Result<Option<(EventId, [u8; 16])>, StoreError> {
    match hot.idempotency.get(key)? {
        Some(row) => passed_over(decode_idempotency(row.value()), "an idempotency key"),
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
