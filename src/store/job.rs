//! Bulk work: cancelling, ending, expiring, replaying. Each step changes at most
//! [`BULK_ROWS_MAX`] rows in one commit, together with the job's own row, so that
//! it resumes after a crash where it stood.

use redb::ReadableTable;
use serde::{Deserialize, Serialize};

use crate::id::{DeliveryId, EventId, Lane};
use crate::limits::{BULK_ROWS_MAX, PAGE_SCAN_MAX, REPLAY_MAX};
use crate::model::{FailureCode, Head, OPERATIONAL_PREFIX, Subscription, TerminalState};
use crate::pattern::Pattern;
use crate::registry::Registry;
use crate::secrecy::Rule;
use crate::time::Timestamp;

use super::hot::{Hot, standing};
use super::records::{Outcome, OutcomeState, decode_event, decode_event_summary, decode_pending};
use super::tables::*;
use super::{StoreError, passed_over};

/// A piece of bulk work, with how far it has come.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) lane: u32,
    pub(super) kind: JobKind,
    /// When it was asked for: what was opened later is none of its business.
    pub(super) started_at_ms: u64,
    /// The newest event then: nor is what was accepted later.
    pub(super) newest: [u8; 12],
    /// Rows changed so far.
    pub(super) done: u64,
    /// Where it stands, in the bytes of its table's keys; empty: at the beginning.
    pub(super) cursor: Vec<u8>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum JobKind {
    /// Cancel pending deliveries of events of a window.
    Cancel { since_ms: u64, until_ms: u64, patterns: Vec<String> },
    /// Cancel everything: the subscription ended.
    End,
    /// Fail what was opened at or before a time; find out what is the oldest left, and
    /// how many of what failed were deliveries of operational events.
    Expire {
        opened_until_ms: u64,
        oldest_left_ms: Option<u64>,
        #[serde(default)]
        operational: u64,
    },
    /// Open deliveries again, or for the first time.
    Replay { since_ms: u64, until_ms: u64, patterns: Vec<String>, failed: bool, delivered: bool, missed: bool },
}

/// What one step did.
pub(super) struct Step {
    /// The job goes on from here; none: it is done.
    pub(super) next: Option<Job>,
    /// The job as it ended, or stands.
    pub(super) job: Job,
    /// Deliveries opened.
    pub(super) opened: Vec<Head>,
    /// Deliveries ended, and as what.
    pub(super) ended: Option<(u64, TerminalState)>,
    /// Bytes of the events of what was opened or ended.
    pub(super) moved_bytes: u64,
    /// Where a replay that stopped early can be gone on with: events accepted from then on.
    pub(super) next_since: Option<Timestamp>,
}

impl Job {
    pub(super) fn lane(&self) -> Lane {
        Lane(self.lane)
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>, StoreError> {
        serde_json::to_vec(self).map_err(|_| StoreError::Record("cannot be written"))
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Job, StoreError> {
        serde_json::from_slice(bytes).map_err(|_| StoreError::Record("cannot be read"))
    }

    /// Whether somebody asked for it, and waits.
    pub(super) fn is_asked_for(&self) -> bool {
        matches!(self.kind, JobKind::Cancel { .. } | JobKind::Replay { .. })
    }

    /// Does the next piece. What it opens again takes its place at `place`.
    pub(super) fn step(
        &self,
        hot: &mut Hot<'_>,
        registry: &Registry,
        rules: &[Rule],
        now: Timestamp,
        place: Timestamp,
    ) -> Result<Step, StoreError> {
        match &self.kind {
            JobKind::Replay { .. } => self.replay(hot, registry, rules, now, place),
            JobKind::Cancel { .. } | JobKind::End | JobKind::Expire { .. } => self.end_rows(hot, registry, now),
        }
    }

    /// Goes through the lane's pending rows in their order and ends those meant.
    fn end_rows(&self, hot: &mut Hot<'_>, registry: &Registry, now: Timestamp) -> Result<Step, StoreError> {
        let (first, last) = lane_bounds(self.lane());
        let mut meant = Vec::new();
        let mut seen = 0;
        let mut job = self.clone();
        let mut exhausted = true;
        let patterns = self.patterns();
        let from = <[u8; 24]>::try_from(self.cursor.as_slice()).unwrap_or(first);
        for row in hot.pending.range::<&[u8; 24]>(&from..=&last)? {
            let (key, value) = row?;
            if key.value()[..] == self.cursor[..] {
                continue;
            }
            if seen == PAGE_SCAN_MAX || meant.len() == BULK_ROWS_MAX {
                exhausted = false;
                break;
            }
            seen += 1;
            let (_, place) = pending_from_key(key.value());
            job.cursor = key.value().to_vec();
            let id = place.1.delivery(self.lane());
            let Some(head) = passed_over(decode_pending(place, value.value()), id)? else { continue };
            if self.means(&head, &patterns, &hot.event)? {
                meant.push(head);
            } else if let JobKind::Expire { oldest_left_ms, .. } = &mut job.kind {
                let opened_ms = head.opened_at.as_millis();
                *oldest_left_ms = Some(oldest_left_ms.map_or(opened_ms, |oldest| oldest.min(opened_ms)));
            }
        }
        let (state, code) = match self.kind {
            JobKind::Expire { .. } => (TerminalState::Failed, Some(FailureCode::Expired)),
            _ => (TerminalState::Cancelled, None),
        };
        let mut moved_bytes = 0;
        for head in &meant {
            moved_bytes += hot.end(self.lane(), head, state, code, now)?.map_or(0, u64::from);
        }
        if let JobKind::Expire { operational, .. } = &mut job.kind
            && registry.lane(self.lane()).is_some_and(|subscription| hears_operational_events(subscription))
        {
            for head in &meant {
                let Some(row) = hot.event.get(&head.event.to_key())? else { continue };
                let event = passed_over(decode_event_summary(row.value()), head.event)?;
                *operational += u64::from(event.is_some_and(|it| it.event_type.starts_with(OPERATIONAL_PREFIX)));
            }
        }
        job.done += meant.len() as u64;
        let next = (!exhausted).then(|| job.clone());
        let ended = Some((meant.len() as u64, state));
        Ok(Step { next, job, opened: Vec::new(), ended, moved_bytes, next_since: None })
    }

    fn means(
        &self,
        head: &Head,
        patterns: &[Pattern],
        events: &impl ReadableTable<&'static [u8; 12], &'static [u8]>,
    ) -> Result<bool, StoreError> {
        match &self.kind {
            JobKind::End => Ok(true),
            JobKind::Expire { opened_until_ms, .. } => Ok(head.opened_at.as_millis() <= *opened_until_ms),
            JobKind::Cancel { since_ms, until_ms, .. } => {
                let accepted_ms = head.event.accepted_at().as_millis();
                let in_window =
                    (*since_ms..*until_ms).contains(&accepted_ms) && head.opened_at.as_millis() <= self.started_at_ms;
                if !in_window || patterns.is_empty() {
                    return Ok(in_window);
                }
                let Some(row) = events.get(&head.event.to_key())? else { return Ok(false) };
                let Some(event) = passed_over(decode_event_summary(row.value()), head.event)? else { return Ok(false) };
                Ok(patterns.iter().any(|pattern| pattern.matches(event.event_type)))
            }
            JobKind::Replay { .. } => Ok(false),
        }
    }

    fn patterns(&self) -> Vec<Pattern> {
        match &self.kind {
            JobKind::Cancel { patterns, .. } | JobKind::Replay { patterns, .. } => {
                patterns.iter().filter_map(|text| Pattern::parse(text).ok()).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Goes through the window's events, oldest first, and opens the deliveries meant.
    fn replay(
        &self,
        hot: &mut Hot<'_>,
        registry: &Registry,
        rules: &[Rule],
        now: Timestamp,
        place: Timestamp,
    ) -> Result<Step, StoreError> {
        let JobKind::Replay { since_ms, until_ms, .. } = &self.kind else {
            return Err(StoreError::Record("is no replay"));
        };
        let lane = self.lane();
        let from = <[u8; 12]>::try_from(self.cursor.as_slice())
            .unwrap_or(EventId::first_at(Timestamp::from_millis(*since_ms)).to_key());
        let Some(subscription) = registry.lane(lane).filter(|it| it.is_enabled()).cloned() else {
            let next_since = Some(EventId::from_key(from).accepted_at());
            let (job, opened, moved_bytes) = (self.clone(), Vec::new(), 0);
            return Ok(Step { next: None, job, opened, ended: None, moved_bytes, next_since });
        };
        let patterns = self.patterns();
        let until = EventId::first_at(Timestamp::from_millis(*until_ms)).to_key();
        let mut job = self.clone();
        let mut meant = Vec::new();
        let (mut seen, mut exhausted, mut next_since) = (0, true, None);
        for row in hot.event.range::<&[u8; 12]>(&from..&until)? {
            let (key, value) = row?;
            if key.value()[..] == self.cursor[..] {
                continue;
            }
            if *key.value() > self.newest {
                break;
            }
            if seen == PAGE_SCAN_MAX || meant.len() == BULK_ROWS_MAX {
                exhausted = false;
                break;
            }
            let id = EventId::from_key(*key.value());
            if self.done + meant.len() as u64 == REPLAY_MAX as u64 {
                next_since = Some(id.accepted_at());
                break;
            }
            seen += 1;
            job.cursor = key.value().to_vec();
            let found = self.replayed(hot, registry, rules, &subscription, &patterns, id, value.value());
            meant.extend(passed_over(found, id)?.flatten());
        }
        let mut opened = Vec::with_capacity(meant.len());
        let mut moved_bytes = 0;
        for (delivery, ended) in &meant {
            let (head, weight_bytes) = hot.reopen(*delivery, ended.as_ref(), now, place)?;
            opened.push(head);
            moved_bytes += u64::from(weight_bytes);
        }
        job.done += opened.len() as u64;
        let next = (!exhausted && next_since.is_none()).then(|| job.clone());
        Ok(Step { next, job, opened, ended: None, moved_bytes, next_since })
    }

    /// The delivery of an event that a replay is to open, with the outcome it has.
    #[expect(clippy::too_many_arguments, reason = "what it decides by comes from as many places")]
    fn replayed(
        &self,
        hot: &Hot<'_>,
        registry: &Registry,
        rules: &[Rule],
        subscription: &Subscription,
        patterns: &[Pattern],
        event: EventId,
        row: &[u8],
    ) -> Result<Option<(DeliveryId, Option<Outcome>)>, StoreError> {
        let JobKind::Replay { failed, delivered, missed, .. } = self.kind else { return Ok(None) };
        let summary = decode_event_summary(row)?;
        if !patterns.is_empty() && !patterns.iter().any(|it| it.matches(summary.event_type)) {
            return Ok(None);
        }
        let id = event.delivery(self.lane());
        match standing(id, &summary.lanes, &hot.pending, &hot.outcome, &hot.attempt)? {
            Some(standing) => {
                let is_meant = match standing.outcome.as_ref().map(|outcome| outcome.state) {
                    Some(OutcomeState::Ended(TerminalState::Failed)) => failed,
                    Some(OutcomeState::Ended(TerminalState::Delivered)) => delivered,
                    _ => false,
                };
                Ok(is_meant.then_some((id, standing.outcome)))
            }
            None => {
                let is_meant = missed && registry.wants(subscription, &decode_event(event, row)?.0, rules);
                Ok(is_meant.then_some((id, None)))
            }
        }
    }
}

/// Whether deliveries of operational events can be among a subscription's.
fn hears_operational_events(subscription: &Subscription) -> bool {
    subscription.settings.events.iter().any(|pattern| match pattern {
        Pattern::All => false,
        Pattern::Below(prefix) => prefix.starts_with(OPERATIONAL_PREFIX),
        Pattern::Exact(name) => name.starts_with(OPERATIONAL_PREFIX),
    })
}
