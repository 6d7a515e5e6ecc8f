//! What may be asked of the store without changing it.

use crate::id::{DeliveryId, EventId, Lane};
use crate::model::{Delivery, DeliveryState, Event, Head, Name};
use crate::pattern::Pattern;
use crate::seal::KeyId;
use crate::time::Timestamp;

/// Part of a list, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T, K> {
    /// The rows; may be fewer than asked for though there are more.
    pub rows: Vec<T>,
    /// Where the next page goes on: it holds what is older than this.
    pub next: Option<K>,
}

/// Which events to list.
#[derive(Clone, Debug)]
pub struct EventQuery {
    /// Only those of these organizations; none: of all.
    pub organizations: Option<Vec<Name>>,
    /// Only those of such a type.
    pub event_type: Option<Pattern>,
    /// Accepted at or after this.
    pub since: Timestamp,
    /// Accepted before this.
    pub until: Timestamp,
    /// Older than this one.
    pub before: Option<EventId>,
    /// Rows wanted.
    pub limit: usize,
}

/// Which deliveries to list.
#[derive(Clone, Debug)]
pub struct DeliveryQuery {
    /// Only those of events of these organizations' subscriptions; none: of all.
    pub organizations: Option<Vec<Name>>,
    /// Only those of this lane.
    pub lane: Option<Lane>,
    /// Only those in this state.
    pub state: Option<DeliveryState>,
    /// Only those of events of such a type.
    pub event_type: Option<Pattern>,
    /// Of events accepted at or after this.
    pub since: Timestamp,
    /// Of events accepted before this.
    pub until: Timestamp,
    /// Older than this one.
    pub before: Option<DeliveryId>,
    /// Rows wanted.
    pub limit: usize,
}

/// A delivery with what a list shows of its event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedDelivery {
    /// The delivery.
    pub delivery: Delivery,
    /// Its event's type.
    pub event_type: Name,
    /// Its event's organization.
    pub organization: Name,
}

/// An event with its deliveries.
#[derive(Clone, Debug)]
pub struct EventDetail {
    /// The event.
    pub event: Event,
    /// One for each lane it was matched with.
    pub deliveries: Vec<Delivery>,
}

/// An entry of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its place in the log.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// The name of the key, or `posthaste` for what it did by itself.
    pub actor: String,
    /// What was done, such as `subscription.update`.
    pub action: String,
    /// To what: its id.
    pub object: String,
    /// The organization it belongs to, where it does.
    pub organization: Option<Name>,
    /// What changed: an object of `field: [before, after]`, secrets masked.
    pub changes: serde_json::Value,
}

/// Rows of a lane that are to be attempted, with some of their events.
#[derive(Debug)]
pub struct Backlog {
    /// In the order of their rows.
    pub heads: Vec<Head>,
    /// Whether there were no more.
    pub exhausted: bool,
    /// Events of the first heads that are due, as far as a limit of bytes goes.
    pub events: Vec<Event>,
}

/// Totals over everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Events retained.
    pub events: u64,
    /// Deliveries that are pending.
    pub pending: u64,
    /// Events accepted, ever.
    pub accepted: u64,
    /// Publications of events that had been accepted before, ever.
    pub duplicates: u64,
    /// Deliveries that succeeded, ever.
    pub delivered: u64,
    /// Deliveries that failed, ever.
    pub failed: u64,
    /// Deliveries that were cancelled, ever.
    pub cancelled: u64,
    /// When the store was restored, while its deliveries are held since.
    pub held_since: Option<Timestamp>,
    /// Size of the store's file.
    pub file_bytes: u64,
    /// Bytes in it that hold something.
    pub live_bytes: u64,
}

/// What secrets are encrypted under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encryption {
    /// The key in force; none: they are in clear.
    pub key: Option<KeyId>,
    /// Whether some may be under earlier keys: a change of keys is not over, or some rows
    /// cannot be read.
    pub needs_previous: bool,
}

/// The pending delivery that has waited for longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OldestPending {
    /// When it was accepted or reopened; none: nothing is pending.
    pub at: Option<Timestamp>,
    /// Whether all were looked at; else there may be an older one.
    pub is_exact: bool,
}

/// Why the store could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store cannot be read")]
pub struct ReadError;
