//! What one route is: who may call it, what it reads, what it answers, and how
//! it is described.

use std::pin::Pin;

use crate::auth::Role;
use crate::http::{Code, HeaderMap, HeaderValue, Method, Problem, Response, header};
use crate::limits::REQUEST_BYTES_MAX;

use super::call::Call;

/// The answer to come of a handler.
pub(super) type Handled = Pin<Box<dyn Future<Output = Result<Response, Problem>> + Send>>;

/// Answers calls of one route.
pub(super) type Handler = fn(Box<Call>) -> Handled;

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Everybody, without a key.
    Open,
    /// Keys with this role; what they reach is the handler's question.
    Role(Role),
    /// Keys with this role that are for all organizations.
    RoleOnAll(Role),
}

/// A parameter beside the path.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) description: &'static str,
}

/// Where a parameter stands, and what it may be.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// In the query: rows a list answers with.
    Limit,
    /// In the query: where a list goes on.
    Cursor,
    /// In the query: an RFC 3339 time.
    Time,
    /// In the query: `true` or `false`.
    Boolean,
    /// In the query: a pattern of event types.
    Pattern,
    /// In the query: one of the names the function tells, joined by `, `.
    Choice(fn() -> String),
    /// In the query: any text.
    Text,
    /// A header.
    Header,
}

/// What a route reads as its body.
pub(super) struct Accepted {
    /// The schema's name.
    pub(super) schema: &'static str,
    /// What `content-type` may be, where there is one.
    pub(super) content_types: &'static [&'static str],
    /// How large it may be.
    pub(super) bytes_max: usize,
    /// Whether there must be one.
    pub(super) required: bool,
}

impl Accepted {
    /// A JSON body that must be there.
    pub(super) const fn json(schema: &'static str) -> Accepted {
        Accepted { schema, content_types: &["application/json"], bytes_max: REQUEST_BYTES_MAX, required: true }
    }

    /// A JSON body that may be missing.
    pub(super) const fn optional(schema: &'static str) -> Accepted {
        Accepted { required: false, ..Accepted::json(schema) }
    }

    /// Refuses bodies of other types, and compressed ones.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let refused = |detail: String| Err(Problem::new(Code::UnsupportedMediaType).detail(detail).closing());
        if headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
            return refused("send the body without a content-encoding".to_owned());
        }
        match headers.get(header::CONTENT_TYPE) {
            Some(value) if !self.content_types.iter().any(|known| is_of_type(value, known)) => {
                refused(format!("the content-type must be {}", self.content_types.join(" or ")))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a content type is this one, whatever its parameters.
pub(super) fn is_of_type(content_type: &HeaderValue, essence: &str) -> bool {
    let own = content_type.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    own.trim_ascii().eq_ignore_ascii_case(essence.as_bytes())
}

/// What an answer's body is.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    /// Nothing.
    Empty,
    /// JSON of this schema.
    Json(&'static str),
    /// A page of a list of this schema.
    Page(&'static str),
    /// Text of one of these types.
    Text(&'static [&'static str]),
    /// Bytes of this type.
    Bytes(&'static str),
}

/// One route, from its path to its description.
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) access: Access,
    /// Its name in the description.
    pub(super) name: &'static str,
    pub(super) summary: &'static str,
    pub(super) handler: Handler,
    pub(super) parameters: &'static [Parameter],
    pub(super) body: Option<Accepted>,
    /// Answers that are no problem: status, when, what.
    pub(super) answers: &'static [(u16, &'static str, Shape)],
    /// Problems beside those that follow from the rest: see [`Route::may_refuse`].
    pub(super) refusals: Vec<Code>,
}

impl Route {
    /// The same with query parameters and headers.
    pub(super) fn reads(mut self, parameters: &'static [Parameter]) -> Route {
        self.parameters = parameters;
        self
    }

    /// The same with a body.
    pub(super) fn takes(mut self, body: Accepted) -> Route {
        self.body = Some(body);
        self
    }

    /// The same with further problems.
    pub(super) fn refuses(mut self, refusals: &[Code]) -> Route {
        self.refusals.extend_from_slice(refusals);
        self
    }

    /// The same, which changes nothing in the store though its method could.
    pub(super) fn writes_nothing(mut self) -> Route {
        self.refusals.clear();
        self
    }

    /// Whether it may answer with this problem: one that any route may, one that follows
    /// from what it is, or one of its own. Tests of the API fail where a handler does otherwise.
    pub(super) fn may_refuse(&self, code: Code) -> bool {
        let is_implied = match code {
            Code::BadRequest | Code::OriginRefused | Code::HostRefused | Code::ValidationFailed | Code::Internal => {
                true
            }
            Code::Unauthenticated | Code::ExpiredKey | Code::Forbidden | Code::TooManyRequests => {
                self.access != Access::Open
            }
            Code::NotFound => self.path.contains('{'),
            Code::InvalidJson | Code::RequestTimeout | Code::TooLarge | Code::UnsupportedMediaType | Code::Busy => {
                self.body.is_some()
            }
            _ => false,
        };
        is_implied || self.refusals.contains(&code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_must_be_of_a_type_that_is_read() {
        let accepted = Accepted::json("Any");
        for (name, value, fits) in [
            ("content-type", "application/json", true),
            ("content-type", "Application/JSON; charset=utf-8", true),
            ("content-type", "application/x-www-form-urlencoded", false),
            ("content-encoding", "identity", true),
            ("content-encoding", "gzip", false),
            ("accept", "text/html", true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            assert_eq!(accepted.check(&headers).is_ok(), fits, "{name}: {value}");
        }
    }
}
