//! What the product speaks of: organizations, sources, event types, events,
//! subscriptions, deliveries, attempts. Values without behaviour towards the
//! world; **stored records, API JSON and vendors' wire formats are other types,
//! in other rooms**, so nothing here derives a serialisation.

mod delivery;
mod event;
mod request;
mod subscription;
pub(crate) use subscription::named;
pub mod validate;

pub use delivery::{
    Attempt, AttemptOutcome, Delivery, DeliveryState, FailureCode, Head, Key, Settlement, TerminalState,
};
pub use event::{Event, EventType, NewEvent, Organization, Source};
pub use request::{Header, NotATarget, Outgoing, Target};
pub use subscription::{
    Authentication, Condition, ContentType, Declaration, DeliveryOverrides, FixedTarget, Format, LaneStats, ManagedBy,
    Method, Operator, Ordering, RetryOverrides, Scope, Settings, SigningSecret, Status, StatusReason, Subscription,
    TlsSettings,
};

use std::sync::Arc;

/// An organization's, source's or event type's name. Shared, because every
/// event and every subscription carries some.
pub type Name = Arc<str>;

/// The organization of whoever names none.
pub const DEFAULT_ORGANIZATION: &str = "default";

/// The first segment of the types of events that Posthaste itself publishes.
pub const OPERATIONAL_PREFIX: &str = "posthaste.";

/// A fault of the input: which field, and what it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// A dotted path such as `delivery.timeout` or `filter[0].op`.
    pub field: String,
    /// What is wrong and what is allowed, as the rest of a sentence that begins with the field.
    pub message: String,
}

impl Fault {
    /// A fault of `field`.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Fault {
        Fault { field: field.into(), message: message.into() }
    }
}
