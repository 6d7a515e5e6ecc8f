//! The native API: routes, and what answers them. [`routes`] is the one table
//! that the router, the check of keys and limits, and `/openapi.json` are made
//! from. Handlers stand in one file a topic; each is handed a [`Call`] that was
//! let through, and answers or refuses.
//!
//! **API JSON is its own set of types**: nothing here is stored or sent to receivers.

mod backup;
mod call;
pub mod declared;
mod deliveries;
mod errors;
mod event_json;
mod event_types;
mod events;
mod health;
mod manage;
mod mask;
mod merge_patch;
mod openapi;
mod organizations;
mod publish;
mod query;
mod quota;
mod replay;
mod route;
mod routes;
mod secrets;
mod sources;
mod subscription_json;
mod subscriptions;
mod trial;
mod values;
mod vendors;

use std::sync::Arc;

use bytes::Bytes;

use crate::attempt::Performer;
use crate::auth::{AuthError, Caller, authenticate};
use crate::boxed::boxed;
use crate::config::Live;
use crate::http::{
    self, Allowed, Body, BodyRoom, Code, HeaderMap, HeaderValue, Link, Method, Miss, Parts, Problem, Request, Response,
    Router, Service, StatusCode, header,
};
use crate::metrics::Metrics;
use crate::store::Store;
use crate::time::Clock;

use call::Call;
use query::Query;
use route::{Access, Route};
use vendors::Vendor;

pub use quota::Quotas;

/// What the API answers from.
pub struct State {
    /// Events, deliveries, and everything configured through the API.
    pub store: Store,
    /// Sends tests and verifications.
    pub performer: Performer,
    /// The configuration in force.
    pub config: Live,
    /// What time it is.
    pub clock: Clock,
    /// What `/metrics` shows.
    pub metrics: Arc<Metrics>,
    /// Where bodies of requests are held until they are answered.
    pub bodies: BodyRoom,
    /// What keys have used of the limits on their requests.
    pub quotas: Quotas,
}

/// Method and path of every route, the vendors' included: for who says of each what
/// must hold of it, and must forget none.
pub fn every_route() -> Vec<(Method, &'static str)> {
    routes::table().into_iter().chain(vendors::table()).map(|route| (route.method, route.path)).collect()
}

/// The API: everything of [`routes`] and [`vendors`].
pub fn service(state: Arc<State>) -> Service {
    let mut table = routes::table();
    table.extend(vendors::table());
    serve(state, table)
}

/// `/metrics` alone, without a key: for `[service] metrics_listen`.
pub fn metrics_service(state: Arc<State>) -> Service {
    serve(state, routes::metrics_table())
}

fn serve(state: Arc<State>, table: Vec<Route>) -> Service {
    let routes = table.into_iter().map(|route| (route.method.clone(), route.path, Arc::new(route)));
    let router = Router::new(routes);
    Arc::new(move |request, link| {
        let Begun { vendor, origin, entered, body } = begin(&state, &router, request, link);
        let state = state.clone();
        boxed(|| async move {
            // A body that nobody reads is let go of once there is an answer, not before: where all
            // of it has come by then, the connection goes on.
            let mut response = match entered {
                Ok(entered) => told(entered.answer(body, vendor.is_some()).await, vendor),
                Err(response) => response,
            };
            if let Some(origin) = origin {
                http::allow_origin(&mut response, origin);
            }
            state.metrics.answered(response.status().as_u16());
            response
        })
    })
}

/// A request of which everything was decided that needs no waiting.
struct Begun {
    vendor: Option<&'static Vendor>,
    /// The page that may read the answer.
    origin: Option<HeaderValue>,
    /// What is left to be done; else the answer.
    entered: Result<Entered, Response>,
    body: Body,
}

fn begin(state: &Arc<State>, router: &Router<Arc<Route>>, request: Request, link: Link) -> Begun {
    let vendor = vendors::of(request.uri().path());
    let config = state.config.current();
    let allowed = Allowed { hosts: &config.service.hosts, origins: &config.service.origins };
    let refused = http::check(&request, link, allowed).err().map(|problem| told(Err(problem), vendor));
    let origin = request.headers().get(header::ORIGIN).filter(|_| refused.is_none()).cloned();
    let answered = refused.or_else(|| http::preflight(&request));
    let (parts, body) = request.into_parts();
    let entered = match answered {
        Some(response) => Err(response),
        None => enter(state, router, parts, vendor).map_err(|problem| told(Err(problem), vendor)),
    };
    Begun { vendor, origin, entered, body }
}

/// The answer, told the way of whose API it is.
fn told(answered: Result<Response, Problem>, vendor: Option<&Vendor>) -> Response {
    let Some(vendor) = vendor else { return answered.unwrap_or_else(Problem::into_response) };
    let mut response = answered.unwrap_or_else(|problem| (vendor.present)(&problem));
    (vendor.finish)(&mut response);
    response
}

/// From the table to the handler: everything that is the same for all routes.
fn enter(
    state: &Arc<State>,
    router: &Router<Arc<Route>>,
    parts: Parts,
    vendor: Option<&Vendor>,
) -> Result<Entered, Problem> {
    if let Some(vendor) = vendor.filter(|vendor| !(vendor.is_enabled)(&state.config.current().dialects)) {
        let detail = format!("the API of {0} is not switched on: [dialects.{0}] enabled", vendor.name);
        return Err(Problem::new(Code::NotFound).detail(detail));
    }
    let (route, path) = router.find(&parts.method, parts.uri.path()).map_err(|miss| match miss {
        Miss::NotFound => Problem::new(Code::NotFound).detail("no route has this path"),
        Miss::MethodNotAllowed(allow) => {
            let problem = Problem::new(Code::MethodNotAllowed).detail(format!("allowed are {allow}"));
            match HeaderValue::from_str(&allow) {
                Ok(allow) => problem.header(header::ALLOW, allow),
                Err(_) => problem,
            }
        }
    })?;
    let schemes = vendor.map_or(&[][..], |vendor| vendor.schemes);
    let caller = admit(state, route.access, &parts.headers, schemes)?;
    let query = Query::read(parts.uri.query().unwrap_or(""), route.parameters, vendor.is_some())?;
    if let Some(accepted) = &route.body {
        accepted.check(&parts.headers)?;
    }
    let call = Box::new(Call { state: state.clone(), caller, path, query, headers: parts.headers, body: Bytes::new() });
    Ok(Entered { route: route.clone(), call })
}

/// A call that was let through, its body not read yet.
struct Entered {
    route: Arc<Route>,
    call: Box<Call>,
}

impl Entered {
    async fn answer(self, body: Body, is_vendors: bool) -> Result<Response, Problem> {
        let Entered { route, mut call } = self;
        let _held = match &route.body {
            None => None,
            Some(accepted) => {
                let (body, held) = body.read(accepted.bytes_max, &call.state.bodies).await?;
                if accepted.required && body.is_empty() {
                    return Err(Problem::new(Code::InvalidJson).detail("the body is empty"));
                }
                call.body = body;
                Some(held)
            }
        };
        let answered = (route.handler)(call).await;
        if let Err(problem) = &answered {
            let is_described = is_vendors || route.may_refuse(problem.code());
            debug_assert!(is_described, "{} does not say that it may answer {}", route.name, problem.code().name());
        }
        answered
    }
}

/// Who calls, where they may; of routes that are open to all: nobody.
/// `schemes` a key may come with beside `Bearer`.
fn admit(state: &State, access: Access, headers: &HeaderMap, schemes: &[&str]) -> Result<Caller, Problem> {
    let (role, on_all) = match access {
        Access::Open => return Ok(Caller::nobody()),
        Access::Role(role) => (role, false),
        Access::RoleOnAll(role) => (role, true),
    };
    let config = state.config.current();
    let authorization = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    let caller = authenticate(config.service.auth, &config.api_keys, authorization, schemes, state.clock.now())
        .map_err(|error| match error {
            AuthError::Unknown => Problem::new(Code::Unauthenticated)
                .detail(error.to_string())
                .header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"posthaste\"")),
            AuthError::Expired => Problem::new(Code::ExpiredKey).detail(error.to_string()).header(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"posthaste\", error=\"invalid_token\""),
            ),
        })?;
    state.quotas.take_request(&caller, &config.service, state.clock.now())?;
    if !caller.may(role) {
        return Err(Problem::new(Code::Forbidden).detail(format!("this needs a key with the role {role}")));
    }
    if on_all && !caller.reaches_all() {
        return Err(Problem::new(Code::Forbidden).detail("this needs a key for all organizations"));
    }
    Ok(caller)
}

/// An answer that no cache may keep, because it holds secrets.
fn no_store(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// 204.
fn no_content() -> Response {
    http::empty(StatusCode::NO_CONTENT)
}
