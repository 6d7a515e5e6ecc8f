//! The tables and their keys. All keys are big endian, so that their order is
//! the order of what they mean; keys that append are what makes a commit cheap.

use redb::{TableDefinition, Value};

use crate::id::{DeliveryId, EventId, Lane};
use crate::limits::IDEMPOTENCY_WINDOW;
use crate::model::Key;
use crate::time::Timestamp;

/// Small facts about the store itself: see [`super::schema`].
pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

/// Events by id: metadata, the lanes they were matched with, the data's bytes.
pub(super) const EVENT: TableDefinition<&[u8; 12], &[u8]> = TableDefinition::new("event");
/// Pending deliveries by lane, place and event. **The row is the index**: there
/// is nothing else to keep in step.
pub(super) const PENDING: TableDefinition<&[u8; 24], &[u8]> = TableDefinition::new("pending");
/// Deliveries that ended, or were reopened since they did, by delivery id.
pub(super) const OUTCOME: TableDefinition<&[u8; 16], &[u8]> = TableDefinition::new("outcome");
/// Failed attempts by delivery id and number. A success's attempt is its outcome.
pub(super) const ATTEMPT: TableDefinition<&[u8; 20], &[u8]> = TableDefinition::new("attempt");
/// Idempotency keys of events: see [`idempotency_key`].
pub(super) const IDEMPOTENCY: TableDefinition<&[u8], &[u8]> = TableDefinition::new("idempotency");
/// Events that come due between two walks of the purge: time to look again, event.
pub(super) const REVISIT: TableDefinition<&[u8; 20], ()> = TableDefinition::new("revisit");

/// Organizations by id.
pub(super) const ORGANIZATION: TableDefinition<&str, &[u8]> = TableDefinition::new("organization");
/// Sources by id.
pub(super) const SOURCE: TableDefinition<&str, &[u8]> = TableDefinition::new("source");
/// The catalog by name.
pub(super) const EVENT_TYPE: TableDefinition<&str, &[u8]> = TableDefinition::new("event_type");
/// Subscriptions by number.
pub(super) const SUBSCRIPTION: TableDefinition<u32, &[u8]> = TableDefinition::new("subscription");
/// What is left of ended subscriptions, while their deliveries are retained: see
/// [`ended_key`].
pub(super) const ENDED: TableDefinition<&[u8; 12], &[u8]> = TableDefinition::new("ended_subscription");
/// Idempotency keys of subscriptions: see [`idempotency_key`].
pub(super) const CREATION: TableDefinition<&[u8], &[u8]> = TableDefinition::new("subscription_creation");
/// What each lane went through, written in rounds, at most one a second.
pub(super) const STATS: TableDefinition<u32, &[u8]> = TableDefinition::new("stats");

/// What is counted over everything, and the bytes of the retained events of each
/// organization that has any: see [`super::count`]. One table, so that a commit writes
/// one page of it.
pub(super) const COUNT: TableDefinition<&str, &[u8]> = TableDefinition::new("count");

/// Bulk work that is under way.
pub(super) const JOB: TableDefinition<u64, &[u8]> = TableDefinition::new("job");
/// Who changed what.
pub(super) const AUDIT: TableDefinition<u64, &[u8]> = TableDefinition::new("audit");

/// Something that is done with every table, whatever its rows are made of.
pub(super) trait Visitor {
    type Error;

    fn visit<K: redb::Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'static, K, V>,
    ) -> Result<(), Self::Error>;
}

/// **Every table there is**: making a store, backing it up and restoring it go
/// through this list, so that none of them can forget one.
pub(super) fn each<V: Visitor>(visitor: &mut V) -> Result<(), V::Error> {
    visitor.visit(META)?;
    visitor.visit(EVENT)?;
    visitor.visit(PENDING)?;
    visitor.visit(OUTCOME)?;
    visitor.visit(ATTEMPT)?;
    visitor.visit(IDEMPOTENCY)?;
    visitor.visit(REVISIT)?;
    visitor.visit(ORGANIZATION)?;
    visitor.visit(SOURCE)?;
    visitor.visit(EVENT_TYPE)?;
    visitor.visit(SUBSCRIPTION)?;
    visitor.visit(ENDED)?;
    visitor.visit(CREATION)?;
    visitor.visit(STATS)?;
    visitor.visit(COUNT)?;
    visitor.visit(JOB)?;
    visitor.visit(AUDIT)
}

/// Joins parts to a key of a fixed length.
fn join<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut key = [0; N];
    let mut at = 0;
    for part in parts {
        key[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    key
}

fn part<const N: usize>(key: &[u8], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&key[at..at + N]);
    bytes
}

/// A row of [`PENDING`].
pub(super) fn pending_key(lane: Lane, (place, event): Key) -> [u8; 24] {
    join(&[&lane.0.to_be_bytes(), &place.as_millis().to_be_bytes(), &event.to_key()])
}

/// The inverse of [`pending_key`].
pub(super) fn pending_from_key(key: &[u8; 24]) -> (Lane, Key) {
    let place = Timestamp::from_millis(u64::from_be_bytes(part(key, 4)));
    (Lane(u32::from_be_bytes(part(key, 0))), (place, EventId::from_key(part(key, 12))))
}

/// The first and the last key that a lane's rows of [`PENDING`] can have.
pub(super) fn lane_bounds(lane: Lane) -> ([u8; 24], [u8; 24]) {
    let (mut first, mut last) = ([0; 24], [0xff; 24]);
    first[..4].copy_from_slice(&lane.0.to_be_bytes());
    last[..4].copy_from_slice(&lane.0.to_be_bytes());
    (first, last)
}

/// The first and the last key that an event's rows of [`OUTCOME`] can have.
pub(super) fn outcome_bounds(event: EventId) -> ([u8; 16], [u8; 16]) {
    (event.delivery(Lane(0)).to_key(), event.delivery(Lane(u32::MAX)).to_key())
}

/// A row of [`ATTEMPT`].
pub(super) fn attempt_key(delivery: DeliveryId, number: u32) -> [u8; 20] {
    join(&[&delivery.to_key(), &number.to_be_bytes()])
}

/// The delivery in a key of [`ATTEMPT`].
pub(super) fn attempt_delivery(key: &[u8; 20]) -> DeliveryId {
    DeliveryId::from_key(part(key, 0))
}

/// The number in a key of [`ATTEMPT`].
pub(super) fn attempt_number(key: &[u8; 20]) -> u32 {
    u32::from_be_bytes(part(key, 16))
}

/// What an idempotency key is. Each kind has names of its own.
#[derive(Clone, Copy)]
pub(super) enum KeyKind {
    /// An `Idempotency-Key`.
    Given = 1,
    /// An event's `event_id`, where it came without such a key.
    EventId = 2,
}

/// A row of [`IDEMPOTENCY`] or [`CREATION`]: day, organization, kind, key.
pub(super) fn idempotency_key(day: u32, organization: &str, kind: KeyKind, key: &str) -> Vec<u8> {
    let length = u16::try_from(organization.len()).unwrap_or(u16::MAX);
    [&day.to_be_bytes()[..], &length.to_be_bytes(), organization.as_bytes(), &[kind as u8], key.as_bytes()].concat()
}

/// The day that a time falls on, since the epoch.
pub(super) fn day_of(time: Timestamp) -> u32 {
    u32::try_from(time.as_secs() / 86_400).unwrap_or(u32::MAX)
}

/// The days under which a key may stand that still counts at `time`.
pub(super) fn idempotency_days(time: Timestamp) -> std::ops::RangeInclusive<u32> {
    day_of(time - IDEMPOTENCY_WINDOW)..=day_of(time)
}

/// A row of [`ENDED`]: when it ended, lane.
pub(super) fn ended_key(at: Timestamp, lane: Lane) -> [u8; 12] {
    join(&[&at.as_millis().to_be_bytes(), &lane.0.to_be_bytes()])
}

/// The lane in a key of [`ENDED`].
pub(super) fn ended_lane(key: &[u8; 12]) -> Lane {
    Lane(u32::from_be_bytes(part(key, 8)))
}

/// A row of [`REVISIT`].
pub(super) fn revisit_key(at: Timestamp, event: EventId) -> [u8; 20] {
    join(&[&at.as_millis().to_be_bytes(), &event.to_key()])
}

/// The inverse of [`revisit_key`].
pub(super) fn revisit_from_key(key: &[u8; 20]) -> (Timestamp, EventId) {
    (Timestamp::from_millis(u64::from_be_bytes(part(key, 0))), EventId::from_key(part(key, 8)))
}
