//! What is configured of the formats and of their management APIs, under
//! `[dialects]`. Read by `config`; each meaning stands with its format.

use crate::model::{DEFAULT_ORGANIZATION, Name, named};

/// `[dialects]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `[dialects.peridio]`: its API.
    pub peridio: ApiOptions,
    /// How many webhooks its API makes for an organization.
    pub peridio_webhooks_max: usize,
    /// How its names of events are spelled in what is sent.
    pub peridio_event_names: NameSpelling,
    /// How its requests are signed.
    pub peridio_signature: Signature,
    /// `[dialects.pdk]`: whether its API is served. Its paths name the organization.
    pub pdk_enabled: bool,
    /// `[dialects.blynk]`: its API.
    pub blynk: ApiOptions,
    /// `[dialects.ferriskey]`: whether its API is served. Its paths name the organization.
    pub ferriskey_enabled: bool,
    /// Whether its API masks the values of custom headers.
    pub ferriskey_hides_headers: bool,
    /// `[dialects.cloudevents]`: how an event becomes a request.
    pub cloudevents_mode: EventMode,
}

/// A vendor's management API whose paths name no organization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiOptions {
    /// Whether it is served.
    pub enabled: bool,
    /// Whose webhooks it manages where neither the request nor the key says.
    pub organization: Name,
}

impl Default for ApiOptions {
    fn default() -> ApiOptions {
        ApiOptions { enabled: false, organization: Name::from(DEFAULT_ORGANIZATION) }
    }
}

named! {
    /// How Peridio's names of events are spelled; see [`super::peridio`].
    #[derive(Default)]
    NameSpelling {
        /// `device.release-changed`, as its guide does.
        #[default]
        Hyphens = "hyphens",
        /// `device.release_changed`, as its API does.
        Underscores = "underscores",
    }
}

named! {
    /// Which of Peridio's signatures is sent; see [`super::peridio`].
    #[derive(Default)]
    Signature {
        /// What its documents describe.
        #[default]
        Documented = "documented",
        /// What reproduces the value that its documents show.
        PublishedVector = "published-vector",
        /// Both, for each secret.
        Both = "both",
    }
}

named! {
    /// The mode of CloudEvents over HTTP.
    #[derive(Default)]
    EventMode {
        /// The whole event is the body.
        #[default]
        Structured = "structured",
        /// The data is the body, the rest are headers.
        Binary = "binary",
    }
}
