//! One HTTP request to a receiver, before anyone has dialled.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Uri};
use url::{Position, Url};

use super::Method;

/// A header's name and value.
pub type Header = (Cow<'static, str>, String);

/// What a dialect rendered: what is signed is what is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The method.
    pub method: Method,
    /// Where to, with its placeholders filled in.
    pub target: Arc<Target>,
    /// Every header but framing, `host` and authentication; names in lower case
    /// unless the format spells them otherwise.
    pub headers: Vec<Header>,
    /// The body; empty: none.
    pub body: Bytes,
    /// Placeholders that had no value.
    pub missing: Vec<String>,
}

/// Where a request goes, taken apart as HTTP asks for it: most subscriptions have one
/// for all their requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The whole.
    pub url: Url,
    /// The host, as the URL spells it.
    pub host: Arc<str>,
    /// The port, named or the scheme's own.
    pub port: u16,
    /// The value of `host`.
    pub authority: HeaderValue,
    /// What the request line names: path and query.
    pub path: Uri,
}

/// A URL that no request can be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no request can be sent to it")]
pub struct NotATarget;

impl Target {
    /// Takes `url` apart.
    ///
    /// # Errors
    /// When it has no host, or a part of it cannot stand in a request.
    pub fn new(url: Url) -> Result<Target, NotATarget> {
        let host = url.host_str().ok_or(NotATarget)?;
        let authority = match url.port() {
            Some(port) => HeaderValue::try_from(format!("{host}:{port}")),
            None => HeaderValue::from_str(host),
        };
        let authority = authority.map_err(|_| NotATarget)?;
        let path = url[Position::BeforePath..Position::AfterQuery].parse().map_err(|_| NotATarget)?;
        let (host, port) = (Arc::from(host), url.port_or_known_default().ok_or(NotATarget)?);
        Ok(Target { url, host, port, authority, path })
    }
}
