//! Deliveries and their attempts.

use bytes::Bytes;

use crate::id::{DeliveryId, EventId};
use crate::time::Timestamp;

use super::subscription::named;

named! {
    /// Where a delivery stands.
    DeliveryState {
        /// To be attempted.
        Pending = "pending",
        /// An attempt succeeded.
        Delivered = "delivered",
        /// No attempt will be made.
        Failed = "failed",
        /// Somebody, or its subscription's end, cancelled it.
        Cancelled = "cancelled",
    }
}

named! {
    /// How a delivery ended.
    TerminalState {
        /// An attempt succeeded.
        Delivered = "delivered",
        /// No attempt will be made.
        Failed = "failed",
        /// Somebody, or its subscription's end, cancelled it.
        Cancelled = "cancelled",
    }
}

named! {
    /// Why an attempt, or a delivery, failed. Stable names.
    FailureCode {
        /// The host's name did not resolve.
        Dns = "dns",
        /// No address of the host may be dialled.
        AddressBlocked = "address_blocked",
        /// The connection was refused, reset or unreachable.
        Connect = "connect",
        /// No connection within `connect_timeout`.
        ConnectTimeout = "connect_timeout",
        /// The TLS handshake failed.
        Tls = "tls",
        /// No answer within `timeout`.
        Timeout = "timeout",
        /// The connection closed before an answer.
        Closed = "closed",
        /// What came back is not HTTP.
        InvalidResponse = "invalid_response",
        /// The answer's head is over its limits.
        ResponseTooLarge = "response_too_large",
        /// The answer's status is not success.
        Status = "status",
        /// `token_url` gave a wrong answer.
        Oauth2 = "oauth2",
        /// The request could not be made from its templates.
        Render = "render",
        /// The request made from its templates is over its limits.
        TooLarge = "too_large",
        /// Our own stop cut the attempt off: counts for nothing.
        Interrupted = "interrupted",
        /// A fault of ours cut the attempt off.
        Internal = "internal",
        /// Its time was up before an attempt could be made.
        Expired = "expired",
    }
}

/// How one attempt went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The format's success.
    Success {
        /// The HTTP status.
        status: u16,
    },
    /// Anything else.
    Failure {
        /// Why.
        code: FailureCode,
        /// The HTTP status, where one came. Of code `oauth2`: the token endpoint's,
        /// where it was 429 or a 5xx; the receiver was not asked then.
        status: Option<u16>,
        /// More, for people; at most [`crate::limits::DETAIL_CHARS_MAX`].
        detail: String,
    },
}

/// One HTTP exchange of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// From 1, over the delivery's whole life.
    pub number: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took.
    pub duration_ms: u32,
    /// How it went.
    pub outcome: AttemptOutcome,
    /// Placeholders that had no value.
    pub missing: Vec<String>,
    /// The beginning of the answer's body.
    pub response_body: Bytes,
}

/// One event for one subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its id: says which event and which lane.
    pub id: DeliveryId,
    /// Where it stands.
    pub state: DeliveryState,
    /// Why it failed or was cancelled without or beside an attempt.
    pub code: Option<FailureCode>,
    /// Attempts made.
    pub attempts: u32,
    /// When the next is due; none once it ended.
    pub next_attempt_at: Option<Timestamp>,
    /// When it was accepted, or last reopened.
    pub opened_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// Where a pending delivery stands in its lane: by [`Head::place`], then by event.
pub type Key = (Timestamp, EventId);

/// A pending delivery as its lane sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What its row is ordered by: when it was accepted or opened again, or is due where
    /// a retry moved it there. Of what is accepted or opened, never less than before.
    pub place: Timestamp,
    /// When its next attempt is due.
    pub due: Timestamp,
    /// The event.
    pub event: EventId,
    /// Attempts made in its whole life.
    pub attempts: u32,
    /// Failed attempts since it was opened.
    pub failures: u32,
    /// When it was accepted or last reopened.
    pub opened_at: Timestamp,
}

impl Head {
    /// A delivery of an event just accepted: due at once.
    pub fn fresh(event: EventId) -> Head {
        let opened_at = event.accepted_at();
        Head { place: opened_at, due: opened_at, event, attempts: 0, failures: 0, opened_at }
    }

    /// Its place in the lane.
    pub fn key(&self) -> Key {
        (self.place, self.event)
    }
}

/// What follows from an attempt for its delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// It is delivered.
    Delivered,
    /// It failed for good.
    Failed,
    /// It is tried again then, and its row moves there.
    Retry(Timestamp),
    /// It is tried again then, and its row stays where it is: what comes after it waits.
    Stay(Timestamp),
    /// It was cut off, and is due as before.
    Interrupted,
}
