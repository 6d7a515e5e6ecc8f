//! The vendors' own management APIs, one a file, each under its name and switched
//! on in the configuration. They are thin: what they make is the same subscription
//! that the native API shows, made through [`super::manage`]; each lists only those
//! of its own format.
//!
//! Adding one is a file with a [`Vendor`] and a line in [`VENDORS`].

mod blynk;
mod ferriskey;
mod pdk;
mod peridio;

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::auth::Role;
use crate::dialect::{ApiOptions, Options};
use crate::http::{Method, Problem, Response};
use crate::input::Faults;
use crate::model::{Authentication, DEFAULT_ORGANIZATION, Fault, Format, LaneStats, Name, Settings, Subscription};
use crate::secret::is_credential;

use super::call::{Call, not_found};
use super::mask::is_same_endpoint;
use super::route::{Accepted, Access, Handler, Parameter, Route};
use super::subscription_json::{Draft, Refusal, parse, show};

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
const VENDORS: &[&Vendor] = &[&peridio::VENDOR, &pdk::VENDOR, &blynk::VENDOR, &ferriskey::VENDOR];

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

/// A vendor's name of a native field. `names`: pairs of a native name and the vendor's.
fn vendors_name(names: &[(&str, &str)], native: &str) -> String {
    names.iter().find_map(|(ours, theirs)| replace_head(native, ours, theirs)).unwrap_or_else(|| native.to_owned())
}

/// The native name of a vendor's field.
fn native_name(names: &[(&str, &str)], vendors: &str) -> String {
    names.iter().find_map(|(ours, theirs)| replace_head(vendors, theirs, ours)).unwrap_or_else(|| vendors.to_owned())
}

/// `field` with `new` in the place of `old`, where it is that field or a part of it.
fn replace_head(field: &str, old: &str, new: &str) -> Option<String> {
    let rest = field.strip_prefix(old).filter(|rest| rest.is_empty() || rest.starts_with(['[', '.']))?;
    Some(format!("{new}{rest}"))
}

/// What a problem says in one text, every fault included, for vendors whose errors have nothing more.
fn told(problem: &Problem, names: &[(&str, &str)]) -> String {
    if problem.field_errors().is_empty() {
        return problem.message();
    }
    let faults = problem.field_errors().iter().map(|fault| match fault.field.as_str() {
        "" => format!("the body {}", fault.message),
        field => format!("{} {}", vendors_name(names, field), fault.message),
    });
    faults.collect::<Vec<_>>().join("; ")
}

/// The subscription as the native API shows it: what a vendor's body is written over,
/// so that what the vendor does not know stays as it is.
fn shown(subscription: &Subscription) -> Map<String, Value> {
    match show(subscription, &LaneStats::default(), None) {
        Value::Object(shown) => shown,
        _ => Map::new(),
    }
}

/// Reads `native`, which a vendor's body was translated into with these faults, by
/// the vendor's names.
fn parse_translated(
    native: &Map<String, Value>,
    previous: Option<&Subscription>,
    faults: Faults,
    names: &[(&str, &str)],
) -> (Draft, Refusal) {
    let (draft, refused) = parse(native, previous);
    let renamed = |fault: Fault| Fault { field: native_name(names, &fault.field), ..fault };
    let mut refusal = Refusal::new(faults.into_vec().into_iter().map(renamed).collect(), Vec::new());
    refusal.add_all(refused);
    (draft, refusal)
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
    Route { method, path, access, name: "", summary: "", handler, parameters, body, answers: &[], refusals: Vec::new() }
}
