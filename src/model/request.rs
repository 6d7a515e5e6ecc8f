//! One HTTP request to a receiver, before anyone has dialled.

use bytes::Bytes;

use super::Method;

/// What a dialect rendered: what is signed is what is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The method.
    pub method: Method,
    /// The URL with its placeholders filled in.
    pub url: url::Url,
    /// Every header but framing, `host` and authentication; names in lower case
    /// unless the format spells them otherwise.
    pub headers: Vec<(String, String)>,
    /// The body; empty: none.
    pub body: Bytes,
    /// Placeholders that had no value.
    pub missing: Vec<String>,
}
