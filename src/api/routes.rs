//! The table of all routes. The router, the check of keys, the limits of bodies,
//! the reading of query parameters and `/openapi.json` are made from it, so that
//! a new route can forget none of them.

use crate::auth::Role::{Admin, Manage, Publish, Read, Secrets};
use crate::boxed::boxed;
use crate::http::{Code, Method};
use crate::limits::{BATCH_BYTES_MAX, DECLARED_BYTES_MAX, EVENT_BYTES_MAX};
use crate::model::{DeliveryState, Format, Status};

use super::backup::BACKUP_TYPE;
use super::health::METRICS_TYPES;
use super::publish::NDJSON;
use super::route::{Accepted, Access, Handler, Kind, Parameter, Route, Shape};
use super::{
    backup, declared, deliveries, event_types, events, health, organizations, publish, replay, secrets, sources,
    subscriptions,
};

const ORGANIZATIONS: &str = "/v1/organizations";
const ORGANIZATION: &str = "/v1/organizations/{id}";
const SOURCES: &str = "/v1/sources";
const SOURCE: &str = "/v1/sources/{id}";
const EVENT_TYPES: &str = "/v1/event-types";
const EVENT_TYPE: &str = "/v1/event-types/{name}";
const SUBSCRIPTIONS: &str = "/v1/subscriptions";
const SUBSCRIPTION: &str = "/v1/subscriptions/{id}";

const fn parameter(name: &'static str, kind: Kind, description: &'static str) -> Parameter {
    Parameter { name, kind, description }
}

const LIMIT: Parameter = parameter("limit", Kind::Limit, "rows wanted; a page may have fewer and still a next one");
const CURSOR: Parameter = parameter("cursor", Kind::Cursor, "the next_cursor of the page before");
const OF_ORGANIZATION: Parameter = parameter("organization", Kind::Text, "only those of this organization");
const OF_TYPE: Parameter = parameter("type", Kind::Pattern, "only those of events whose type matches this pattern");
const SINCE: Parameter = parameter("since", Kind::Time, "only those of events accepted at or after this time");
const UNTIL: Parameter = parameter("until", Kind::Time, "only those of events accepted before this time");
const STATE: Parameter = parameter("state", Kind::Choice(DeliveryState::names), "only those in this state");
const OF_STATUS: Parameter = parameter("status", Kind::Choice(Status::names), "only those of this status");
const OF_EVENT: Parameter = parameter("event", Kind::Text, "only those with a pattern that matches this event type");
const OF_NAME: Parameter = parameter("name", Kind::Text, "only those of exactly this name");
const OF_NUMBER: Parameter = parameter("number", Kind::Text, "only the one of this number");
const OF_URL: Parameter = parameter("url", Kind::Text, "only those with exactly this URL");
const OF_EXTERNAL_ID: Parameter = parameter("external_id", Kind::Text, "only those with this external_id");
const VERIFY: Parameter =
    parameter("verify", Kind::Boolean, "true: a test event must succeed before anything is enabled at a URL");
const IDEMPOTENCY_KEY: Parameter =
    parameter("idempotency-key", Kind::Header, "the same request again with the same key makes nothing new");
const OF_FORMAT: Parameter =
    parameter("format", Kind::Choice(formats), "only those of this format's vendor; none: of no vendor");
const IF_MATCH: Parameter = parameter("if-match", Kind::Header, "the ETag that the change was made from");

const PAGED: &[Parameter] = &[LIMIT, CURSOR];

/// What `format` may be, where a list asks for it.
fn formats() -> String {
    format!("{}, none", Format::names())
}

const OK: u16 = 200;
const CREATED: u16 = 201;
const ACCEPTED: u16 = 202;
const NO_CONTENT: u16 = 204;

type Answers = &'static [(u16, &'static str, Shape)];

/// Why the store does not read.
const READS: &[Code] = &[Code::Unavailable];
/// Why it does not write.
const WRITES: &[Code] = &[Code::Busy, Code::OutcomeUnknown, Code::Unavailable, Code::StorageFull];

/// What a change of a subscription is refused with.
const SUBSCRIPTION_NOT_CHANGED: &[Code] =
    &[Code::ManagedByFile, Code::Stale, Code::Expired, Code::SecretRequired, Code::VerificationFailed];

const DELETED: Answers = &[(NO_CONTENT, "it is no more", Shape::Empty)];
const SUBSCRIPTION_SHOWN: Answers = &[(OK, "as it stands; its ETag covers the settings", Shape::Json("Subscription"))];

fn get(
    path: &'static str,
    access: Access,
    name: &'static str,
    summary: &'static str,
    handler: Handler,
    answers: Answers,
) -> Route {
    route(Method::GET, path, access, name, summary, handler, answers)
}

fn post(
    path: &'static str,
    access: Access,
    name: &'static str,
    summary: &'static str,
    handler: Handler,
    answers: Answers,
) -> Route {
    route(Method::POST, path, access, name, summary, handler, answers)
}

fn put(
    path: &'static str,
    access: Access,
    name: &'static str,
    summary: &'static str,
    handler: Handler,
    answers: Answers,
) -> Route {
    route(Method::PUT, path, access, name, summary, handler, answers)
}

fn delete(path: &'static str, access: Access, name: &'static str, summary: &'static str, handler: Handler) -> Route {
    route(Method::DELETE, path, access, name, summary, handler, DELETED)
}

fn route(
    method: Method,
    path: &'static str,
    access: Access,
    name: &'static str,
    summary: &'static str,
    handler: Handler,
    answers: Answers,
) -> Route {
    let refusals = if method == Method::GET { Vec::new() } else { WRITES.to_vec() };
    Route { method, path, access, name, summary, handler, parameters: &[], body: None, answers, refusals }
}

/// Every route of the API.
pub(super) fn table() -> Vec<Route> {
    let mut table = Vec::new();
    table.extend(service_routes());
    table.extend(catalog_routes());
    table.extend(event_routes());
    table.extend(subscription_routes());
    table.extend(delivery_routes());
    table
}

/// The routes of the listener that serves metrics alone.
pub(super) fn metrics_table() -> Vec<Route> {
    vec![Route { access: Access::Open, ..metrics_route() }]
}

fn metrics_route() -> Route {
    get(
        "/metrics",
        Access::RoleOnAll(Read),
        "metrics",
        "Counters and gauges for Prometheus",
        |call| Box::pin(health::metrics(call)),
        &[(OK, "OpenMetrics for who asks for it, else Prometheus' own text", Shape::Text(&METRICS_TYPES))],
    )
    .refuses(READS)
}

fn service_routes() -> Vec<Route> {
    vec![
        get(
            "/healthz",
            Access::Open,
            "health",
            "Whether the process answers",
            |call| Box::pin(health::healthz(call)),
            &[(OK, "it does", Shape::Json("Health"))],
        ),
        get(
            "/readyz",
            Access::Open,
            "readiness",
            "Whether events can be taken",
            |call| Box::pin(health::readyz(call)),
            &[(OK, "they can", Shape::Json("Health"))],
        )
        .refuses(READS),
        get(
            "/openapi.json",
            Access::Open,
            "description",
            "This description",
            |call| Box::pin(health::openapi(call)),
            &[(OK, "OpenAPI 3.1", Shape::Json("Any"))],
        ),
        metrics_route(),
        get(
            "/v1/stats",
            Access::RoleOnAll(Read),
            "getStats",
            "Totals, subscriptions by status, the oldest pending delivery, storage, which configuration is in force",
            |call| Box::pin(health::stats(call)),
            &[(OK, "totals over everything", Shape::Json("Stats"))],
        )
        .refuses(READS),
        get(
            "/v1/backup",
            Access::RoleOnAll(Admin),
            "takeBackup",
            "Everything, secrets too, as one stream that ends with its digest; one at a time",
            |call| Box::pin(backup::take(call)),
            &[(OK, "for `posthaste restore`; cut short where the connection breaks", Shape::Bytes(BACKUP_TYPE))],
        )
        .refuses(WRITES),
        post(
            "/v1/resume",
            Access::RoleOnAll(Admin),
            "resumeDeliveries",
            "Lets deliveries go that are held since a restore",
            |call| Box::pin(backup::resume(call)),
            &[(OK, "whether they were held", Shape::Json("Resumed"))],
        ),
        post(
            "/v1/declarations/plan",
            Access::RoleOnAll(Read),
            "planDeclarations",
            "What would change if files declared this, and nothing else; changes nothing",
            |call| Box::pin(declared::plan(call)),
            &[(OK, "the steps, in order; none: nothing would", Shape::Json("DeclarationPlan"))],
        )
        .takes(Accepted { bytes_max: DECLARED_BYTES_MAX, ..Accepted::json("Declarations") })
        .writes_nothing(),
        get(
            "/v1/audit",
            Access::Role(Admin),
            "listAudit",
            "Who changed what, newest first",
            |call| Box::pin(health::audit(call)),
            &[(OK, "a page", Shape::Page("AuditEntry"))],
        )
        .reads(PAGED)
        .refuses(READS),
    ]
}

fn catalog_routes() -> Vec<Route> {
    vec![
        get(
            ORGANIZATIONS,
            Access::Role(Read),
            "listOrganizations",
            "Organizations that the key reaches, by id",
            |call| Box::pin(organizations::list(call)),
            &[(OK, "a page", Shape::Page("Organization"))],
        )
        .reads(PAGED),
        get(
            ORGANIZATION,
            Access::Role(Read),
            "getOrganization",
            "One organization",
            |call| Box::pin(organizations::get(call)),
            &[(OK, "as it stands", Shape::Json("Organization"))],
        ),
        put(
            ORGANIZATION,
            Access::Role(Manage),
            "putOrganization",
            "Makes an organization, or replaces it whole; without a parent it is a root",
            |call| Box::pin(organizations::put(call)),
            &[(OK, "it was there", Shape::Json("Organization")), (CREATED, "it is new", Shape::Json("Organization"))],
        )
        .takes(Accepted::json("OrganizationInput"))
        .refuses(&[Code::EventsRetained, Code::ManagedByFile]),
        delete(
            ORGANIZATION,
            Access::Role(Manage),
            "deleteOrganization",
            "Ends an organization that has no children, sources or subscriptions; default stays",
            |call| Box::pin(organizations::delete(call)),
        )
        .refuses(&[Code::DefaultOrganization, Code::InUse, Code::ManagedByFile]),
        get(
            SOURCES,
            Access::Role(Read),
            "listSources",
            "Sources that the key reaches, by id",
            |call| Box::pin(sources::list(call)),
            &[(OK, "a page", Shape::Page("Source"))],
        )
        .reads(&[OF_ORGANIZATION, LIMIT, CURSOR]),
        get(
            SOURCE,
            Access::Role(Read),
            "getSource",
            "One source",
            |call| Box::pin(sources::get(call)),
            &[(OK, "as it stands", Shape::Json("Source"))],
        ),
        put(
            SOURCE,
            Access::Role(Manage),
            "putSource",
            "Makes a source, or replaces it whole",
            |call| Box::pin(sources::put(call)),
            &[(OK, "it was there", Shape::Json("Source")), (CREATED, "it is new", Shape::Json("Source"))],
        )
        .takes(Accepted::json("SourceInput"))
        .refuses(&[Code::InUse, Code::ManagedByFile]),
        delete(
            SOURCE,
            Access::Role(Manage),
            "deleteSource",
            "Ends a source that no subscription's scope names",
            |call| Box::pin(sources::delete(call)),
        )
        .refuses(&[Code::InUse, Code::ManagedByFile]),
        get(
            EVENT_TYPES,
            Access::Role(Read),
            "listEventTypes",
            "The catalog, by name",
            |call| Box::pin(event_types::list(call)),
            &[(OK, "a page", Shape::Page("EventType"))],
        )
        .reads(&[LIMIT, CURSOR, OF_FORMAT]),
        get(
            EVENT_TYPE,
            Access::Role(Read),
            "getEventType",
            "One entry of the catalog",
            |call| Box::pin(event_types::get(call)),
            &[(OK, "as it stands", Shape::Json("EventType"))],
        ),
        put(
            EVENT_TYPE,
            Access::RoleOnAll(Manage),
            "putEventType",
            "Makes an entry of the catalog, or replaces it whole",
            |call| Box::pin(event_types::put(call)),
            &[(OK, "it was there", Shape::Json("EventType")), (CREATED, "it is new", Shape::Json("EventType"))],
        )
        .takes(Accepted::json("EventTypeInput"))
        .refuses(&[Code::BuiltIn, Code::ManagedByFile]),
        delete(EVENT_TYPE, Access::RoleOnAll(Manage), "deleteEventType", "Takes an entry out of the catalog", |call| {
            Box::pin(event_types::delete(call))
        })
        .refuses(&[Code::BuiltIn, Code::ManagedByFile]),
    ]
}

fn event_routes() -> Vec<Route> {
    vec![
        post(
            "/v1/events",
            Access::Role(Publish),
            "publishEvent",
            "Publishes one event",
            |call| boxed(|| publish::one(call)),
            &[
                (OK, "it had been taken before", Shape::Json("Published")),
                (ACCEPTED, "committed to disk", Shape::Json("Published")),
            ],
        )
        .reads(&[IDEMPOTENCY_KEY])
        .takes(Accepted { bytes_max: EVENT_BYTES_MAX, ..Accepted::json("EventInput") })
        .refuses(&[Code::NotFound, Code::IdempotencyConflict, Code::QuotaExceeded]),
        post(
            "/v1/events/batch",
            Access::Role(Publish),
            "publishBatch",
            "Publishes up to 1000 independent events",
            |call| Box::pin(publish::batch(call)),
            &[(OK, "each event's own status, in order, once all are committed", Shape::Json("BatchResult"))],
        )
        .takes(Accepted {
            content_types: &["application/json", NDJSON],
            bytes_max: BATCH_BYTES_MAX,
            ..Accepted::json("EventBatch")
        }),
        get(
            "/v1/events",
            Access::Role(Read),
            "listEvents",
            "Events retained, newest first",
            |call| Box::pin(events::list(call)),
            &[(OK, "a page", Shape::Page("Event"))],
        )
        .reads(&[OF_ORGANIZATION, OF_TYPE, SINCE, UNTIL, LIMIT, CURSOR])
        .refuses(READS),
        get(
            "/v1/events/{id}",
            Access::Role(Read),
            "getEvent",
            "One event with its deliveries",
            |call| Box::pin(events::get(call)),
            &[(OK, "as it was published", Shape::Json("Event"))],
        )
        .refuses(READS),
    ]
}

fn subscription_routes() -> Vec<Route> {
    vec![
        post(
            SUBSCRIPTIONS,
            Access::Role(Manage),
            "createSubscription",
            "Makes a subscription",
            |call| Box::pin(subscriptions::create(call)),
            &[
                (OK, "the same request had made it before", Shape::Json("Subscription")),
                (CREATED, "with its secret", Shape::Json("Subscription")),
            ],
        )
        .reads(&[VERIFY, IDEMPOTENCY_KEY])
        .takes(Accepted::json("SubscriptionInput"))
        .refuses(&[Code::IdempotencyConflict, Code::Gone, Code::SecretRequired, Code::VerificationFailed]),
        get(
            SUBSCRIPTIONS,
            Access::Role(Read),
            "listSubscriptions",
            "Subscriptions that the key reaches, oldest first",
            |call| Box::pin(subscriptions::list(call)),
            &[(OK, "a page", Shape::Page("Subscription"))],
        )
        .reads(&[
            OF_ORGANIZATION,
            OF_STATUS,
            OF_EVENT,
            OF_NAME,
            OF_NUMBER,
            OF_URL,
            OF_EXTERNAL_ID,
            LIMIT,
            CURSOR,
        ]),
        get(
            SUBSCRIPTION,
            Access::Role(Read),
            "getSubscription",
            "One subscription, secrets masked",
            |call| Box::pin(subscriptions::get(call)),
            SUBSCRIPTION_SHOWN,
        ),
        put(
            SUBSCRIPTION,
            Access::Role(Manage),
            "putSubscription",
            "Replaces the settings whole; organization, secret and status stay where they are not given",
            |call| Box::pin(subscriptions::put(call)),
            SUBSCRIPTION_SHOWN,
        )
        .reads(&[VERIFY, IF_MATCH])
        .takes(Accepted::json("SubscriptionInput"))
        .refuses(SUBSCRIPTION_NOT_CHANGED),
        route(
            Method::PATCH,
            SUBSCRIPTION,
            Access::Role(Manage),
            "patchSubscription",
            "Merges into what a read shows (RFC 7396); an authentication of another type is replaced whole",
            |call| Box::pin(subscriptions::patch(call)),
            SUBSCRIPTION_SHOWN,
        )
        .reads(&[VERIFY, IF_MATCH])
        .takes(Accepted {
            content_types: &["application/json", "application/merge-patch+json"],
            ..Accepted::json("SubscriptionPatch")
        })
        .refuses(SUBSCRIPTION_NOT_CHANGED),
        delete(
            SUBSCRIPTION,
            Access::Role(Manage),
            "deleteSubscription",
            "Ends a subscription; what was pending is cancelled in the background",
            |call| Box::pin(subscriptions::delete(call)),
        )
        .reads(&[IF_MATCH])
        .refuses(&[Code::ManagedByFile, Code::Stale]),
        post(
            "/v1/subscriptions/{id}/test",
            Access::Role(Manage),
            "testSubscription",
            "Sends a test event now, once; nothing of it is stored",
            |call| Box::pin(subscriptions::test(call)),
            &[(OK, "the attempt, however it went", Shape::Json("Attempt"))],
        )
        .takes(Accepted::optional("TestInput"))
        .writes_nothing(),
        post(
            "/v1/subscriptions/{id}/enable",
            Access::Role(Manage),
            "enableSubscription",
            "Enables a subscription; what it held goes on",
            |call| Box::pin(subscriptions::enable(call)),
            SUBSCRIPTION_SHOWN,
        )
        .reads(&[VERIFY])
        .refuses(&[Code::ManagedByFile, Code::Expired, Code::VerificationFailed]),
        post(
            "/v1/subscriptions/{id}/disable",
            Access::Role(Manage),
            "disableSubscription",
            "Disables a subscription; what is pending is held",
            |call| Box::pin(subscriptions::disable(call)),
            SUBSCRIPTION_SHOWN,
        ),
        get(
            "/v1/subscriptions/{id}/secret",
            Access::Role(Secrets),
            "getSecrets",
            "The signing secrets that are valid now",
            |call| Box::pin(secrets::get(call)),
            &[(OK, "oldest first; the last is the current one", Shape::Json("SigningSecrets"))],
        ),
        post(
            "/v1/subscriptions/{id}/secret/rotate",
            Access::Role(Manage),
            "rotateSecret",
            "Gives a new signing secret; the older ones stay valid for the overlap",
            |call| Box::pin(secrets::rotate(call)),
            &[(OK, "with the new one; older ones masked without the role secrets", Shape::Json("SigningSecrets"))],
        )
        .takes(Accepted::optional("RotateInput"))
        .refuses(&[Code::ManagedByFile, Code::TooManySecrets, Code::WrongState]),
    ]
}

fn delivery_routes() -> Vec<Route> {
    vec![
        post(
            "/v1/subscriptions/{id}/replay",
            Access::Role(Manage),
            "replay",
            "Sends deliveries again, or events that were missed; at most 10,000 a call",
            |call| Box::pin(replay::replay(call)),
            &[(ACCEPTED, "how many, and whether there are more", Shape::Json("Replayed"))],
        )
        .takes(Accepted::json("ReplayInput"))
        .refuses(&[Code::NotEnabled, Code::UnderWay]),
        post(
            "/v1/subscriptions/{id}/cancel",
            Access::Role(Manage),
            "cancelPending",
            "Cancels pending deliveries",
            |call| Box::pin(replay::cancel(call)),
            &[(ACCEPTED, "how many", Shape::Json("Cancelled"))],
        )
        .takes(Accepted::optional("CancelInput"))
        .refuses(&[Code::UnderWay]),
        get(
            "/v1/subscriptions/{id}/deliveries",
            Access::Role(Read),
            "listSubscriptionDeliveries",
            "A subscription's deliveries, newest first",
            |call| Box::pin(deliveries::of_subscription(call)),
            &[(OK, "a page", Shape::Page("Delivery"))],
        )
        .reads(&[STATE, OF_TYPE, SINCE, UNTIL, LIMIT, CURSOR])
        .refuses(READS),
        get(
            "/v1/deliveries",
            Access::Role(Read),
            "listDeliveries",
            "Deliveries that the key reaches, newest first",
            |call| Box::pin(deliveries::list(call)),
            &[(OK, "a page", Shape::Page("Delivery"))],
        )
        .reads(&[OF_ORGANIZATION, STATE, OF_TYPE, SINCE, UNTIL, LIMIT, CURSOR])
        .refuses(READS),
        get(
            "/v1/deliveries/{id}",
            Access::Role(Read),
            "getDelivery",
            "One delivery with every attempt kept",
            |call| Box::pin(deliveries::get(call)),
            &[(OK, "as it stands", Shape::Json("Delivery"))],
        )
        .refuses(READS),
        post(
            "/v1/deliveries/{id}/retry",
            Access::Role(Manage),
            "retryDelivery",
            "Sends a delivery again: same id, due now, a new horizon",
            |call| Box::pin(deliveries::retry(call)),
            &[(ACCEPTED, "as it stands", Shape::Json("Delivery"))],
        )
        .refuses(&[Code::NotEnabled, Code::WrongState]),
        post(
            "/v1/deliveries/{id}/cancel",
            Access::Role(Manage),
            "cancelDelivery",
            "Cancels a pending delivery",
            |call| Box::pin(deliveries::cancel(call)),
            &[(OK, "as it stands", Shape::Json("Delivery"))],
        )
        .refuses(&[Code::WrongState]),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::http::Router;

    #[test]
    fn the_table_is_the_contracts() {
        let mut found: Vec<String> = table().iter().map(|route| format!("{} {}", route.method, route.path)).collect();
        let mut contract = Vec::new();
        for (methods, paths) in [
            ("GET", "/healthz /readyz /openapi.json /metrics /v1/organizations /v1/sources /v1/event-types"),
            ("GET", "/v1/backup"),
            ("PUT GET DELETE", "/v1/organizations/{id} /v1/sources/{id} /v1/event-types/{name}"),
            ("POST", "/v1/declarations/plan /v1/resume /v1/events /v1/events/batch /v1/subscriptions"),
            ("GET", "/v1/events /v1/events/{id} /v1/subscriptions /v1/audit /v1/stats"),
            ("GET PUT PATCH DELETE", "/v1/subscriptions/{id}"),
            ("POST", "/v1/subscriptions/{id}/test /v1/subscriptions/{id}/enable /v1/subscriptions/{id}/disable"),
            ("GET", "/v1/subscriptions/{id}/secret /v1/subscriptions/{id}/deliveries"),
            ("POST", "/v1/subscriptions/{id}/secret/rotate /v1/subscriptions/{id}/replay"),
            ("POST", "/v1/subscriptions/{id}/cancel /v1/deliveries/{id}/retry /v1/deliveries/{id}/cancel"),
            ("GET", "/v1/deliveries /v1/deliveries/{id}"),
        ] {
            for path in paths.split(' ') {
                contract.extend(methods.split(' ').map(|method| format!("{method} {path}")));
            }
        }
        found.sort();
        contract.sort();
        assert_eq!(found, contract);
    }

    #[test]
    fn no_two_routes_overlap_and_names_are_distinct() {
        let table = table();
        let names: BTreeSet<&str> = table.iter().map(|route| route.name).collect();
        assert_eq!(names.len(), table.len());
        let router = Router::new(table.into_iter().map(|route| (route.method, route.path, ())));
        // Meant: "batch" is no event's id.
        let overlaps: Vec<String> = router.overlaps();
        assert_eq!(overlaps, ["/v1/events/batch and /v1/events/{}"]);
    }

    #[test]
    fn changes_need_more_than_the_role_read() {
        for route in table() {
            // A plan has a body, and changes nothing.
            let is_read = route.method == Method::GET || route.path == "/v1/declarations/plan";
            let fits = match route.access {
                Access::Open => is_read && !route.path.starts_with("/v1/"),
                Access::Role(Admin) | Access::RoleOnAll(Admin) => true,
                Access::Role(role) | Access::RoleOnAll(role) => is_read == matches!(role, Read | Secrets),
            };
            assert!(fits, "{} {} {:?}", route.method, route.path, route.access);
        }
    }
}
