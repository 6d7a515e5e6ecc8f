//! What may be asked of the store's writer, and what it answers.

use std::time::Duration;

use crate::id::{EventId, Lane, SubscriptionId};
use crate::json::Json;
use crate::model::{EventType, Fault, Name, Organization, Settings, Source, Status, StatusReason, Subscription};
use crate::pattern::Pattern;
use crate::secret::Secret;
use crate::time::Timestamp;

/// Why the writer could not do what it was asked, whatever that was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// As much waits, or is under way, as may.
    #[error("too many writes are waiting")]
    QueueFull,
    /// The disk or the quota has no room.
    #[error("the storage is full")]
    StorageFull,
    /// The commit failed, perhaps after it reached the disk.
    #[error("the commit failed; whether it reached the disk is not known")]
    OutcomeUnknown,
    /// The store is shut or broken.
    #[error("the store is not available")]
    Unavailable,
}

/// An event was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Ours; of a duplicate, the first one's.
    pub id: EventId,
    /// The publisher's own id for it, if it has one.
    pub event_id: Option<String>,
    /// Whether it had been taken before.
    pub duplicate: bool,
    /// How many deliveries it made (of a duplicate: the first one's).
    pub deliveries: u32,
}

/// Why one event was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcceptError {
    /// The same key was used for an event with other content.
    #[error("the key was used for the event {first} with other content")]
    Conflict {
        /// The event that has the key.
        first: EventId,
    },
    /// Its organization's share of the storage, or that of one above it, is used up.
    #[error("as much waits to be delivered as the share of the organization, or of one above it, allows")]
    QuotaExceeded,
    /// Its organization does not exist (any more).
    #[error("the organization does not exist")]
    UnknownOrganization,
    /// A subscription that it matches cannot be sent it: what is wrong with `data`.
    #[error("data {0}")]
    Unsendable(String),
}

/// A change of what is configured. Who asks for it is checked before.
pub enum Change {
    /// Makes an organization or changes it.
    PutOrganization {
        /// Its id.
        id: Name,
        /// What people call it.
        name: String,
        /// The one above it.
        parent: Option<Name>,
        /// Its share of the storage; none: all of it.
        bytes_max: Option<u64>,
        /// Where it stood when who asks was found to reach it: below which one, if
        /// it was there at all. Elsewhere now: refused.
        stood: Option<Option<Name>>,
        /// Whether it may be made where events of one of that id, which is no more,
        /// are still retained, and so become its own.
        may_inherit: bool,
    },
    /// Makes an organization, as a root without a name; one that is there stays as it is.
    MakeOrganization {
        /// Its id.
        id: Name,
    },
    /// Ends an organization that has no children, sources or subscriptions, and is not
    /// [`crate::model::DEFAULT_ORGANIZATION`].
    DeleteOrganization {
        /// Its id.
        id: Name,
    },
    /// Makes a source or changes it.
    PutSource {
        /// Its id.
        id: Name,
        /// What people call it.
        name: String,
        /// Its owner, which must exist.
        organization: Name,
        /// Whose it was when who asks was found to reach it, if it was there.
        /// Another's now: refused.
        owner: Option<Name>,
    },
    /// Ends a source that no subscription's scope names.
    DeleteSource {
        /// Its id.
        id: Name,
    },
    /// Makes an entry of the catalog or changes it.
    PutEventType {
        /// The dotted name.
        name: Name,
        /// What it means.
        description: String,
        /// A group of types.
        category: String,
        /// An example of its data.
        example: Json,
        /// Names its data is known to have.
        fields: Option<Vec<String>>,
    },
    /// Takes an entry out of the catalog.
    DeleteEventType {
        /// The dotted name.
        name: Name,
    },
    /// Makes a subscription.
    CreateSubscription {
        /// Its id, which nobody has yet.
        id: SubscriptionId,
        /// Checked settings.
        settings: Box<Settings>,
        /// Its secret; none: unsigned.
        secret: Option<Secret>,
        /// Enabled, or disabled for a start.
        status: Status,
        /// An `Idempotency-Key` and the SHA-256 of the request it came with.
        idempotency: Option<(String, [u8; 32])>,
    },
    /// Changes a subscription's settings.
    UpdateSubscription {
        /// Which.
        id: SubscriptionId,
        /// Its checked new settings.
        settings: Box<Settings>,
        /// The version they were made from; another one now: refused.
        version: u64,
        /// What its status becomes with them, by hand, and more for people; none: it stays.
        status: Option<(Status, String)>,
        /// What becomes of its secret with them.
        secret: SecretChange,
    },
    /// Enables or disables a subscription. Enabling forgets its failures.
    SetStatus {
        /// Which.
        id: SubscriptionId,
        /// What it becomes.
        status: Status,
        /// Why.
        reason: StatusReason,
        /// More, for people.
        detail: String,
        /// The version that was looked at; another one now: refused. None: any.
        version: Option<u64>,
    },
    /// Disables a subscription because of errors, and publishes no operational event:
    /// what failed was the delivery of one.
    DisableSilently {
        /// Which.
        id: SubscriptionId,
        /// Why.
        reason: StatusReason,
        /// More, for people.
        detail: String,
    },
    /// Gives a subscription a new secret.
    RotateSecret {
        /// Which.
        id: SubscriptionId,
        /// The new secret.
        secret: Secret,
        /// How long the older ones stay valid; zero revokes them.
        overlap: Duration,
    },
    /// Ends a subscription; what was pending is cancelled in the background.
    DeleteSubscription {
        /// Which.
        id: SubscriptionId,
    },
}

/// Everything that files declare. What they declare no longer ends.
#[derive(Clone, Default)]
pub struct Declared {
    /// Whether URLs may be plain `http` under the configuration they are read with.
    pub allow_http: bool,
    /// Organizations; when they are made is not theirs to say.
    pub organizations: Vec<Organization>,
    /// Sources, likewise.
    pub sources: Vec<Source>,
    /// Entries of the catalog, likewise.
    pub event_types: Vec<EventType>,
    /// Subscriptions.
    pub subscriptions: Vec<DeclaredSubscription>,
}

/// One subscription of a [`Declared`].
#[derive(Clone)]
pub struct DeclaredSubscription {
    /// What it is known by from one reload to the next.
    pub key: Name,
    /// The id that it gets if it is new.
    pub id: SubscriptionId,
    /// Settings, checked as far as that needs no store.
    pub settings: Settings,
    /// What signs its requests.
    pub secret: DeclaredSecret,
    /// What its status is to be; none: as it is, or enabled where it is new.
    pub status: Option<Status>,
}

/// What files say of a subscription's secret.
#[derive(Clone)]
pub enum DeclaredSecret {
    /// Nothing: it has this one where it has none that its format takes. None: the
    /// format signs nothing.
    Generated(Option<Secret>),
    /// It has none.
    Unsigned,
    /// This one, at once.
    Chosen(Secret),
}

/// One thing that is changed so that what is configured is what files declare.
#[derive(Clone, Debug, PartialEq)]
pub struct DeclaredStep {
    /// `create`, `update`, `delete`, or `undeclare` of a subscription that is disabled
    /// until nothing is pending.
    pub action: &'static str,
    /// What: its kind and its key, such as `subscriptions.orders`.
    pub object: String,
    /// `{field: [before, after]}`, credentials masked; empty where it is deleted.
    pub changes: serde_json::Value,
}

/// What becomes of a subscription's secrets, at once.
pub enum SecretChange {
    /// They stay.
    Kept,
    /// This one takes the place of all of them.
    Replaced(Secret),
    /// From now on nothing signs.
    Removed,
}

/// What a [`Change`] led to.
pub enum Changed {
    /// The object exists now, and did not before.
    Created,
    /// It was there and is another now (or the same, where nothing differed).
    Updated,
    /// It was there, and nothing was to be done.
    Kept,
    /// It is no more.
    Deleted,
    /// A subscription was made, or had been by the same `Idempotency-Key` (`replayed`).
    Subscription {
        /// As it stands after the change.
        subscription: std::sync::Arc<Subscription>,
        /// Whether the same request had made it before.
        replayed: bool,
    },
}

/// Why a [`Change`] was refused. It changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// There is no such object.
    #[error("there is no such object")]
    NotFound,
    /// The parent, or owner, named does not exist. Holds the field.
    #[error("{0} names an organization that does not exist")]
    UnknownOrganization(&'static str),
    /// The parent is the organization itself or below it.
    #[error("an organization cannot be above itself")]
    Cycle,
    /// The tree would be deeper than [`crate::limits::ORGANIZATION_DEPTH_MAX`].
    #[error("the tree of organizations would be too deep")]
    TooDeep,
    /// Something still belongs to it. Says what.
    #[error("{0} still belong to it")]
    InUse(&'static str),
    /// Events that name no organization are of this one.
    #[error("events that name no organization are of this one: it cannot be deleted")]
    DefaultOrganization,
    /// Events of an organization of that id are retained.
    #[error("events of an earlier organization of this id are still retained")]
    EventsRetained,
    /// A source of the scope is not of the subscription's organization.
    #[error("the source {0} does not belong to the subscription's organization")]
    ForeignSource(Name),
    /// A subscription stays with its organization.
    #[error("the organization of a subscription cannot be changed")]
    ForeignOrganization,
    /// The entry came with the program.
    #[error("the entry is built in")]
    BuiltIn,
    /// Files own the settings.
    #[error("the settings are managed by configuration files")]
    ManagedByFile,
    /// The version is not the current one.
    #[error("it was changed meanwhile")]
    Stale,
    /// The `Idempotency-Key` was used with another request.
    #[error("the idempotency key was used with another request")]
    IdempotencyConflict,
    /// What the same request made before was deleted since.
    #[error("what this request made was deleted since")]
    Ended,
    /// A sixth secret would be valid.
    #[error("too many secrets are valid at the same time")]
    TooManySecrets,
    /// It expired: enabling needs a new `expires_at`.
    #[error("it has expired")]
    Expired,
    /// What files declare does not fit what is there. Fields are paths such as
    /// `subscriptions.orders.url`.
    #[error("what files declare cannot be put in force")]
    Declared(Vec<Fault>),
    /// The writer could not.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Why a delivery was not reopened or cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// There is no such delivery.
    #[error("there is no such delivery")]
    NotFound,
    /// It is in a state that does not allow it.
    #[error("its state does not allow it")]
    WrongState,
    /// Its subscription is disabled or gone.
    #[error("its subscription is not enabled")]
    NotEnabled,
    /// Many deliveries of the subscription are being replayed or cancelled already.
    #[error("a replay or cancellation of this subscription is under way")]
    UnderWay,
    /// The writer could not.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Which of a lane's deliveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Events accepted at or after this.
    pub since: Timestamp,
    /// Events accepted before this.
    pub until: Timestamp,
    /// Events of these types; empty: of all.
    pub events: Vec<Pattern>,
}

/// What replay is to send again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Whose.
    pub lane: Lane,
    /// Which.
    pub window: Window,
    /// Deliveries that failed.
    pub failed: bool,
    /// Deliveries that succeeded.
    pub delivered: bool,
    /// Retained events that match and have no delivery.
    pub missed: bool,
}

/// What replay did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// Deliveries reopened or made.
    pub deliveries: u64,
    /// Where it stopped, at [`crate::limits::REPLAY_MAX`] or because the subscription
    /// was disabled: the same again with this as its `since` goes on.
    pub next_since: Option<Timestamp>,
}

/// Who asks, for the audit log: the name of the key.
pub type Actor = String;
