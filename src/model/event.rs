//! Events and what they come from.

use std::borrow::Cow;

use crate::id::EventId;
use crate::json::Json;
use crate::time::Timestamp;

use super::{Format, ManagedBy, Name};

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Organization {
    /// Its id, chosen by whoever made it.
    pub id: Name,
    /// What people call it; empty when nobody said.
    pub name: String,
    /// The organization above it; a root has none.
    pub parent: Option<Name>,
    /// Its share: bytes of events that wait in the enabled subscriptions of it and of
    /// those below it at which publishing to any of these is refused.
    pub bytes_max: Option<u64>,
    /// Who owns it.
    pub managed_by: ManagedBy,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// What an event came from: a panel, cloud node or device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its id, unique over all organizations.
    pub id: Name,
    /// What people call it; empty when nobody said.
    pub name: String,
    /// Its owner.
    pub organization: Name,
    /// Who owns it.
    pub managed_by: ManagedBy,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// An entry of the catalog. Events of other types are taken all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventType {
    /// The dotted name.
    pub name: Name,
    /// What it means.
    pub description: String,
    /// A group of types, such as `organization` or `panel`; empty when it has none.
    pub category: String,
    /// An example of `data`, sent by tests; `null` when there is none.
    pub example: Json,
    /// Names that its data is known to have, as dotted paths; none when not known.
    pub fields: Option<Vec<String>>,
    /// The format whose vendor has it.
    pub format: Option<Format>,
    /// Whether it came with the program: such an entry cannot be changed.
    pub built_in: bool,
    /// Who owns it.
    pub managed_by: ManagedBy,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// One thing that happened. Immutable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Ours; also says when it was accepted.
    pub id: EventId,
    /// The dotted type.
    pub event_type: Name,
    /// Whose it is.
    pub organization: Name,
    /// What it came from.
    pub source: Option<Name>,
    /// What it is about.
    pub subject: Option<String>,
    /// When it happened, by the publisher, else when it was accepted.
    pub occurred_at: Timestamp,
    /// The publisher's own name for it.
    pub event_id: Option<String>,
    /// The publisher's data, in its own spelling.
    pub data: Json,
}

impl Event {
    /// The names by which filters and templates ask for what is not data; see [`Event::field`].
    pub const FIELDS: &[&str] = &["id", "type", "organization", "source", "subject", "occurred_at", "event_id"];

    /// The field of that name, where it has a value. `id` is the public one.
    pub fn field(&self, name: &str) -> Option<Cow<'_, str>> {
        match name {
            "id" => Some(Cow::Owned(self.public_id())),
            "type" => Some(Cow::Borrowed(&self.event_type)),
            "organization" => Some(Cow::Borrowed(&self.organization)),
            "source" => self.source.as_deref().map(Cow::Borrowed),
            "subject" => self.subject.as_deref().map(Cow::Borrowed),
            "occurred_at" => Some(Cow::Owned(self.occurred_at.to_string())),
            "event_id" => self.event_id.as_deref().map(Cow::Borrowed),
            _ => None,
        }
    }

    /// The id that envelopes show: the publisher's, else ours.
    pub fn public_id(&self) -> String {
        self.event_id.clone().unwrap_or_else(|| self.id.to_string())
    }
}

/// An event before it is accepted: checked, its organization known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// See [`Event::event_type`].
    pub event_type: Name,
    /// See [`Event::organization`].
    pub organization: Name,
    /// See [`Event::source`].
    pub source: Option<Name>,
    /// See [`Event::subject`].
    pub subject: Option<String>,
    /// See [`Event::occurred_at`]; absent: when it is accepted.
    pub occurred_at: Option<Timestamp>,
    /// See [`Event::event_id`].
    pub event_id: Option<String>,
    /// The `Idempotency-Key`, which makes publishing idempotent; without one `event_id` does.
    pub idempotency_key: Option<String>,
    /// See [`Event::data`].
    pub data: Json,
}

impl NewEvent {
    /// The bytes of memory that it takes while it waits, about.
    pub fn weight(&self) -> usize {
        size_of::<NewEvent>() + self.data.as_bytes().len()
    }
}

#[cfg(test)]
impl Event {
    /// An event to start from in tests.
    pub(crate) fn sample(event_type: &str, data: &str) -> Event {
        let occurred_at = Timestamp::from_millis(1_773_757_800_000);
        Event {
            id: crate::id::Minter::after(None).mint(occurred_at, 0x1234_5678_9abc_def0),
            event_type: event_type.into(),
            organization: "acme".into(),
            source: Some("panel-1".into()),
            subject: None,
            occurred_at,
            event_id: None,
            data: Json::parse(bytes::Bytes::from(data.to_owned())).expect("valid JSON"),
        }
    }
}
