//! The vendors' own management APIs, one a file, each under its name and switched
//! on in the configuration. They are thin: what they make is the same subscription
//! that the native API shows, made through [`super::manage`]; each lists only those
//! of its own format.
//!
//! Adding one is a file with a [`Vendor`] and a line in [`VENDORS`].

mod ferriskey;
mod peridio;

use std::sync::Arc;

use crate::auth::Role;
use crate::dialect::{ApiOptions, Options};
use crate::http::{Method, Problem, Response};
use crate::model::{Authentication, DEFAULT_ORGANIZATION, Format, Name, Settings, Subscription};

use super::call::{Call, not_found};
use super::mask::{is_credential, is_same_endpoint};
use super::route::{Accepted, Access, Handler, Parameter, Route};

/// One vendor's API.
pub(super) struct Vendor {
    /// The first segment of its paths.
    pub(super) name: &'static str,
    /// Whether it is served.
    pub(super) is_enabled: fn(&Options) -> bool,
    /// Its routes, with their whole paths.
    pub(super) routes: fn() -> Vec<Route>,
    /// Names, beside `Bearer`, of schemes that a key may come with.
    pub(super) schemes: &'static [&'static str],
    /// A problem the vendor's way.
    pub(super) present: fn(&Problem) -> Response,
    /// What is the same for every answer, problems included.
    pub(super) finish: fn(&mut Response),
}

/// Every vendor.
const VENDORS: &[&Vendor] = &[&ferriskey::VENDOR, &peridio::VENDOR];

/// The vendor whose API a path is of.
pub(super) fn of(path: &str) -> Option<&'static Vendor> {
    let first = path.split('/').nth(1)?;
    VENDORS.iter().find(|vendor| vendor.name == first).copied()
}

/// Every route of every vendor.
pub(super) fn table() -> Vec<Route> {
    VENDORS.iter().flat_map(|vendor| (vendor.routes)()).collect()
}

/// The organization that the path names first, where it is there and reached.
fn organization_of_path(call: &Call) -> Result<Name, Problem> {
    let registry = call.registry();
    match registry.organization(call.id()) {
        Some(organization) if call.caller.reaches(&registry, &organization.id) => Ok(organization.id.clone()),
        _ => Err(not_found("organization")),
    }
}

/// The organization of a call whose path names none, where it is reached: the one
/// `named`, else the key's only one, else the configured one.
fn organization_of_call(call: &Call, named: Option<&str>, options: &ApiOptions) -> Result<Name, Problem> {
    let own = call.caller.only_organization();
    let id = named.map(Name::from).or_else(|| own.cloned()).unwrap_or_else(|| options.organization.clone());
    let registry = call.registry();
    let is_there = registry.organization(&id).is_some() || *id == *DEFAULT_ORGANIZATION;
    if is_there && call.caller.reaches(&registry, &id) { Ok(id) } else { Err(not_found("organization")) }
}

/// The subscriptions of an organization in a format, oldest first.
fn listed(call: &Call, organization: &Name, format: Format) -> Vec<Arc<Subscription>> {
    let registry = call.registry();
    let is_listed = |it: &&Arc<Subscription>| it.settings.format == format && it.settings.organization == *organization;
    registry.subscriptions().filter(is_listed).cloned().collect()
}

/// The subscription of that id, where it is of that organization and format.
fn found(call: &Call, organization: &Name, format: Format, id: &str) -> Option<Arc<Subscription>> {
    let found = call.registry().subscription(id.parse().ok()?).cloned()?;
    (found.settings.format == format && found.settings.organization == *organization).then_some(found)
}

/// Whether a URL is what vendors' APIs take, whatever `allow_http` says.
fn is_https(url: &str) -> bool {
    url.get(..8).is_some_and(|beginning| beginning.eq_ignore_ascii_case("https://"))
}

/// Whether writing `url` over `previous` would send credentials somewhere new that
/// only the native API shows and writes. `has_headers`: so does the vendor's API
/// those of headers.
fn moves_credentials(previous: &Settings, url: &str, has_headers: bool) -> bool {
    let has_credentials = previous.authentication != Authentication::None
        || previous.tls.client_key_pem.is_some()
        || !has_headers && previous.headers.iter().any(|(name, value)| is_credential(name, value));
    has_credentials && !is_same_endpoint(&previous.url, url)
}

/// A route of a vendor's. What it reads and answers is described in
/// `docs/dialects/`, not in `/openapi.json`.
fn route(method: Method, path: &'static str, role: Role, parameters: &'static [Parameter], handler: Handler) -> Route {
    let has_body = method != Method::GET && method != Method::DELETE;
    let body = has_body.then(|| Accepted::optional(""));
    let access = Access::Role(role);
    Route { method, path, access, name: "", summary: "", handler, parameters, body, answers: &[] }
}
