//! A subscription: where and how events are to be sent.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::id::{Lane, SubscriptionId};
use crate::pattern::Pattern;
use crate::secret::Secret;
use crate::time::Timestamp;

use super::{Name, Target};

/// Declares an enum whose values have fixed names outside.
macro_rules! named {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$variant_meta])* $variant,)+ }

        impl $name {
            /// Every value, in the order of the documentation.
            pub const ALL: &[$name] = &[$($name::$variant,)+];

            /// Its name outside.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text,)+ }
            }

            /// The value of that name.
            pub fn from_name(name: &str) -> Option<$name> {
                match name { $($text => Some($name::$variant),)+ _ => None }
            }

            /// Every name, for messages that say what is allowed.
            pub fn names() -> String {
                [$($text),+].join(", ")
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use named;

named! {
    /// The wire format of a subscription's requests.
    Format {
        /// Standard Webhooks.
        Standard = "standard",
        /// Peridio.
        Peridio = "peridio",
        /// PDK.io.
        Pdk = "pdk",
        /// Blynk.
        Blynk = "blynk",
        /// FerrisKey.
        Ferriskey = "ferriskey",
        /// CloudEvents over HTTP.
        Cloudevents = "cloudevents",
    }
}

named! {
    /// The method of a subscription's requests.
    Method {
        /// The default.
        Post = "POST",
        /// Sends a body only where `body` is set.
        Get = "GET",
        /// With a body.
        Put = "PUT",
        /// With a body.
        Patch = "PATCH",
        /// Sends a body only where `body` is set.
        Delete = "DELETE",
    }
}

named! {
    /// What a subscription's bodies are.
    ContentType {
        /// `application/json`.
        Json = "json",
        /// `application/x-www-form-urlencoded`.
        Form = "form",
        /// `text/plain; charset=utf-8`.
        Text = "text",
    }
}

named! {
    /// Whether a subscription takes part in matching and delivering.
    Status {
        /// It does.
        Enabled = "enabled",
        /// Somebody, or its expiry, disabled it.
        Disabled = "disabled",
        /// Its failures disabled it.
        DisabledDueToErrors = "disabled_due_to_errors",
    }
}

named! {
    /// Why a subscription's status is what it is.
    StatusReason {
        /// Somebody disabled it.
        Manual = "manual",
        /// Its `failure_limit` was reached.
        Failures = "failures",
        /// The endpoint answered 410.
        Gone = "gone",
        /// Its `expires_at` passed.
        Expired = "expired",
        /// Its backlog was over its organization's share of the storage.
        Backlog = "backlog",
        /// The configuration files declare it no longer.
        Undeclared = "undeclared",
    }
}

named! {
    /// In which order a subscription's deliveries are attempted.
    Ordering {
        /// Each when it is due, several at a time.
        None = "none",
        /// One at a time, in commit order; what fails holds up the rest until it ends.
        Fifo = "fifo",
    }
}

named! {
    /// Who owns a subscription's settings, an organization, a source, an event type.
    ManagedBy {
        /// The API.
        Api = "api",
        /// Configuration files: an API change is refused.
        File = "file",
    }
}

named! {
    /// How a condition compares.
    Operator {
        /// Equal.
        Eq = "eq",
        /// Not equal, or missing.
        Ne = "ne",
        /// Less than: numbers with numbers, strings with strings.
        Lt = "lt",
        /// Less or equal.
        Le = "le",
        /// Greater than.
        Gt = "gt",
        /// Greater or equal.
        Ge = "ge",
        /// Equal to one of a list.
        In = "in",
        /// Present (`true`) or absent (`false`).
        Exists = "exists",
        /// A string that begins so.
        Prefix = "prefix",
        /// A string that has this part, or a list that has this item.
        Contains = "contains",
    }
}

/// Whose events a subscription gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those of its own organization.
    Own,
    /// Those of its organization's descendants too.
    Recursive,
    /// Those of these sources of its own organization.
    Sources(Vec<Name>),
}

/// One condition of a filter.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// A JSON Pointer into the event.
    pub path: String,
    /// How to compare.
    pub op: Operator,
    /// With what.
    pub value: serde_json::Value,
}

/// How a subscription proves to the receiver who sends.
#[derive(Clone, PartialEq)]
pub enum Authentication {
    /// Not at all.
    None,
    /// HTTP Basic.
    Basic {
        /// The user; no colon.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A fixed bearer token.
    Bearer {
        /// The token.
        token: Secret,
    },
    /// OAuth 2.0 client credentials (RFC 6749, section 4.4).
    OAuth2 {
        /// Where tokens are fetched; https.
        token_url: String,
        /// The client's id.
        client_id: String,
        /// The client's secret.
        client_secret: Secret,
        /// Requested scope.
        scope: Option<String>,
        /// Requested audience.
        audience: Option<String>,
    },
}

impl Authentication {
    /// The value of `type` outside.
    pub fn type_name(&self) -> &'static str {
        match self {
            Authentication::None => "none",
            Authentication::Basic { .. } => "basic",
            Authentication::Bearer { .. } => "bearer",
            Authentication::OAuth2 { .. } => "oauth2",
        }
    }
}

/// How the receiver's certificate is checked, and ours shown.
#[derive(Clone, PartialEq)]
pub struct TlsSettings {
    /// `false` accepts any certificate.
    pub verify: bool,
    /// One more trusted authority, in PEM.
    pub ca_pem: Option<String>,
    /// Our certificate chain for mutual TLS, in PEM.
    pub client_cert_pem: Option<String>,
    /// Its private key, in PEM.
    pub client_key_pem: Option<Secret>,
}

impl Default for TlsSettings {
    fn default() -> TlsSettings {
        TlsSettings { verify: true, ca_pem: None, client_cert_pem: None, client_key_pem: None }
    }
}

/// What a subscription says of its retries; absent: as configured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RetryOverrides {
    /// The first delay.
    pub first: Option<Duration>,
    /// By what each delay grows, at least 1.
    pub factor: Option<f64>,
    /// The longest delay.
    pub max_delay: Option<Duration>,
    /// The share of a delay that chance adds or takes, 0 to 1.
    pub jitter: Option<f64>,
    /// How long after acceptance the last attempt is made.
    pub give_up_after: Option<Duration>,
    /// `true`: only transient failures are retried.
    pub transient_only: Option<bool>,
}

/// What a subscription says of its deliveries; absent: as configured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeliveryOverrides {
    /// The whole attempt.
    pub timeout: Option<Duration>,
    /// Attempts in flight.
    pub concurrency: Option<u32>,
    /// Attempts a second; 0: as fast as they go.
    pub rate_per_second: Option<f64>,
    /// Retries.
    pub retry: RetryOverrides,
    /// In which order.
    pub ordering: Option<Ordering>,
}

/// Everything its owner sets of a subscription, but the secret and the status.
#[derive(Clone, PartialEq)]
pub struct Settings {
    /// The owner.
    pub organization: Name,
    /// What people call it.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// The caller's own id.
    pub external_id: Option<String>,
    /// The caller's own data: an object.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// Where to; a template in path and query.
    pub url: String,
    /// How.
    pub method: Method,
    /// What bodies are.
    pub content_type: ContentType,
    /// A body template; none: the format's own envelope.
    pub body: Option<String>,
    /// Form fields, each a template.
    pub form: Option<Vec<(String, String)>>,
    /// Query parameters added to the URL's, each a template.
    pub query: Option<Vec<(String, String)>>,
    /// Custom headers, in order, names as written.
    pub headers: Vec<(String, String)>,
    /// How we prove who sends.
    pub authentication: Authentication,
    /// The wire format.
    pub format: Format,
    /// Which types of events.
    pub events: Vec<Pattern>,
    /// Whose events.
    pub scope: Scope,
    /// Conditions that must all hold.
    pub filter: Vec<Condition>,
    /// 0, 1 or 2: how much is removed from the data.
    pub secrecy_level: u8,
    /// Consecutive failures that disable it.
    pub failure_limit: Option<u32>,
    /// Ids of users that the operational events name.
    pub notify: Vec<String>,
    /// When it stops by itself.
    pub expires_at: Option<Timestamp>,
    /// TLS towards the receiver.
    pub tls: TlsSettings,
    /// What differs from the configured way of delivering.
    pub delivery: DeliveryOverrides,
}

/// A secret that requests are signed with.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningSecret {
    /// The secret, in its format's own spelling.
    pub secret: Secret,
    /// Since when it is.
    pub created_at: Timestamp,
    /// Until when it signs; none: it is the current one.
    pub valid_until: Option<Timestamp>,
}

/// What files say of a subscription beside its settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declaration {
    /// The key it stands under, which it is known by from one reload to the next.
    pub key: Name,
    /// Whether they say its secret too, or that it has none: else that is run-time state.
    pub owns_secret: bool,
}

/// A subscription as it stands.
#[derive(Clone)]
pub struct Subscription {
    /// Its id.
    pub id: SubscriptionId,
    /// Its number, which names its lane.
    pub number: Lane,
    /// What its owner set.
    pub settings: Settings,
    /// Oldest first; the last is the current one. Empty: unsigned.
    pub secrets: Vec<SigningSecret>,
    /// Whether it delivers.
    pub status: Status,
    /// Why not, and since when.
    pub status_reason: Option<(StatusReason, Timestamp, String)>,
    /// Grows with every change of the settings: its ETag.
    pub version: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// The name of the key that made it.
    pub created_by: String,
    /// How files declare it; none: the API owns its settings.
    pub declared: Option<Declaration>,
    /// Where its requests go, where every attempt has the same.
    pub fixed_target: FixedTarget,
}

/// A target that is made once and kept. A clone starts without it, because it may be
/// given other settings.
#[derive(Default)]
pub struct FixedTarget(OnceLock<Option<Arc<Target>>>);

impl FixedTarget {
    /// What was made before, or is made now; none: it is not the same for every attempt.
    pub fn get_or_make(&self, make: impl FnOnce() -> Option<Arc<Target>>) -> Option<&Arc<Target>> {
        self.0.get_or_init(make).as_ref()
    }
}

impl Clone for FixedTarget {
    fn clone(&self) -> FixedTarget {
        FixedTarget::default()
    }
}

impl Subscription {
    /// The secrets that are valid at `now`, oldest first.
    pub fn valid_secrets(&self, now: Timestamp) -> impl Iterator<Item = &SigningSecret> {
        self.secrets.iter().filter(move |secret| secret.valid_until.is_none_or(|until| now < until))
    }

    /// Who owns its settings.
    pub fn managed_by(&self) -> ManagedBy {
        if self.declared.is_some() { ManagedBy::File } else { ManagedBy::Api }
    }

    /// Whether files declared it and do so no longer: it ends once nothing is pending.
    pub fn is_undeclared(&self) -> bool {
        self.status_reason.as_ref().is_some_and(|(reason, _, _)| *reason == StatusReason::Undeclared)
    }

    /// Whether events are matched and delivered.
    pub fn is_enabled(&self) -> bool {
        self.status == Status::Enabled
    }
}

/// What a subscription went through. Counts are written in rounds, at most one a second.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneStats {
    /// Events that triggered it.
    pub odometer: u64,
    /// Attempts made.
    pub attempts: u64,
    /// Failures since the last success, as `failure_limit` counts them.
    pub consecutive_failures: u32,
    /// When an event last triggered it.
    pub last_triggered_at: Option<Timestamp>,
    /// When a delivery last succeeded.
    pub last_success_at: Option<Timestamp>,
    /// When an attempt last failed, and how.
    pub last_failure: Option<(Timestamp, super::FailureCode)>,
    /// Deliveries that are pending.
    pub pending: u64,
    /// Bytes of the events of these.
    pub pending_bytes: u64,
}

impl Settings {
    /// The defaults, which match nothing.
    pub fn new(organization: Name, url: String, format: Format) -> Settings {
        Settings {
            organization,
            name: String::new(),
            description: String::new(),
            external_id: None,
            metadata: serde_json::Map::new(),
            url,
            method: Method::Post,
            content_type: ContentType::Json,
            body: None,
            form: None,
            query: None,
            headers: Vec::new(),
            authentication: Authentication::None,
            format,
            events: Vec::new(),
            scope: Scope::Own,
            filter: Vec::new(),
            secrecy_level: 0,
            failure_limit: None,
            notify: Vec::new(),
            expires_at: None,
            tls: TlsSettings::default(),
            delivery: DeliveryOverrides::default(),
        }
    }
}

#[cfg(test)]
impl Settings {
    /// Settings without a fault, to start from in tests: every event of `acme`,
    /// in the default format.
    pub(crate) fn sample() -> Settings {
        let url = "https://receiver.example/hooks".to_owned();
        Settings { events: vec![Pattern::All], ..Settings::new("acme".into(), url, Format::Standard) }
    }
}

#[cfg(test)]
impl Subscription {
    /// An enabled subscription with [`Settings::sample`] and one secret.
    pub(crate) fn sample(lane: u32) -> Subscription {
        let now = Timestamp::from_millis(1_773_757_800_000);
        let mut random = [0; 10];
        random[..4].copy_from_slice(&lane.to_be_bytes());
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned());
        Subscription {
            id: SubscriptionId::new(now, random),
            number: Lane(lane),
            settings: Settings::sample(),
            secrets: vec![SigningSecret { secret, created_at: now, valid_until: None }],
            status: Status::Enabled,
            status_reason: None,
            version: 1,
            created_at: now,
            updated_at: now,
            created_by: "test".to_owned(),
            declared: None,
            fixed_target: FixedTarget::default(),
        }
    }
}
