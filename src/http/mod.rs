//! Server plumbing: listeners, TLS, connections and their limits, request bodies,
//! routes, problems. **Knows no word of the domain**: who is asked for what, and
//! what is answered, is a [`Service`] that others make.
//!
//! Limits: [`CONNECTIONS_MAX`](crate::limits::CONNECTIONS_MAX) connections,
//! [`REQUEST_HEAD_TIMEOUT`](crate::limits::REQUEST_HEAD_TIMEOUT) for a head,
//! [`REQUEST_BODY_TIMEOUT`](crate::limits::REQUEST_BODY_TIMEOUT) for a body, whose
//! bytes each route limits, and a [`BodyRoom`] all of them together.

mod answer;
mod body;
mod connection;
mod guard;
mod listener;
mod problem;
mod router;
mod stall;
mod tls;

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::mpsc;

pub use ::http::request::Parts;
pub use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

pub use answer::{AnswerBody, BrokenOff};
pub use body::{Body, BodyRoom, Held};
pub use connection::{Link, RequestIdAlso};
pub use guard::{Allowed, allow_origin, check, preflight};
pub use listener::{BindError, Listeners};
pub use problem::{Code, Problem};
pub use router::{Miss, Router};
pub use tls::{Certificate, check_certificate};

/// A request whose body was not read yet.
pub type Request = ::http::Request<Body>;

/// An answer.
pub type Response = ::http::Response<AnswerBody>;

/// An answer to come.
pub type Answering = Pin<Box<dyn Future<Output = Response> + Send>>;

/// What answers requests, and is told by what they came.
pub type Service = Arc<dyn Fn(Request, Link) -> Answering + Send + Sync>;

/// An answer of `status` whose body is `bytes`.
pub fn bytes(status: StatusCode, content_type: &'static str, bytes: impl Into<Bytes>) -> Response {
    let mut response = Response::new(bytes.into().into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// An answer of `status` whose body comes in parts: `None` stands after the last one,
/// and where it is missing the connection is broken off.
pub fn parts(status: StatusCode, content_type: &'static str, parts: mpsc::Receiver<Option<Bytes>>) -> Response {
    let mut response = Response::new(AnswerBody::Parts(parts));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// An answer of `status` without a body.
pub fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Bytes::new().into());
    *response.status_mut() = status;
    response
}

/// An answer of `status` that is `value` in JSON.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => bytes(status, "application/json", body),
        Err(_) => Problem::new(Code::Internal).into_response(),
    }
}
