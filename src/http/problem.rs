//! Errors as callers see them: RFC 9457 problems. **One table holds every code**
//! with its status and title; the API's description and the documents are made
//! from it.

use serde_json::{Map, Value, json};

use crate::model::Fault;

use super::{HeaderName, HeaderValue, Response, StatusCode, bytes, header};

macro_rules! codes {
    ($($(#[$meta:meta])* $variant:ident = $name:literal, $status:literal, $title:literal;)+) => {
        /// Every kind of problem. The names are stable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$meta])* $variant,)+ }

        impl Code {
            /// All of them, by status.
            pub const ALL: &[Code] = &[$(Code::$variant,)+];

            /// The stable name.
            pub fn name(self) -> &'static str {
                match self { $(Code::$variant => $name,)+ }
            }

            /// The HTTP status.
            pub fn status(self) -> u16 {
                match self { $(Code::$variant => $status,)+ }
            }

            /// What it means, for people.
            pub fn title(self) -> &'static str {
                match self { $(Code::$variant => $title,)+ }
            }
        }
    };
}

codes! {
    /// The request cannot be understood at all.
    BadRequest = "bad_request", 400, "The request is not valid HTTP for this API";
    /// The body is not JSON.
    InvalidJson = "invalid_json", 400, "The body is not JSON";
    /// No key, or one that is not known.
    Unauthenticated = "unauthenticated", 401, "A known API key is needed";
    /// The key was known until it expired.
    ExpiredKey = "expired_key", 401, "The API key has expired";
    /// The key may not do this.
    Forbidden = "forbidden", 403, "The API key may not do this";
    /// Browsers' pages of this origin are not answered.
    OriginRefused = "origin_refused", 403, "Requests of this Origin are not answered";
    /// There is no such object, or the key does not reach it.
    NotFound = "not_found", 404, "There is no such thing here";
    /// The path knows other methods.
    MethodNotAllowed = "method_not_allowed", 405, "The method is not allowed here";
    /// The body came too slowly.
    RequestTimeout = "request_timeout", 408, "The request took too long to arrive";
    /// The entry came with the program.
    BuiltIn = "built_in", 409, "The entry is built in and cannot be changed";
    /// The organization that is there from the start stays.
    DefaultOrganization = "default_organization", 409, "The default organization cannot be deleted";
    /// Events of an earlier organization of that id are there.
    EventsRetained = "events_retained", 409, "Events of an earlier organization of this id are still retained";
    /// The same key came with other content before.
    IdempotencyConflict = "idempotency_conflict", 409, "The idempotency key was used with other content";
    /// Something still belongs to it.
    InUse = "in_use", 409, "It is still in use";
    /// Configuration files own the settings.
    ManagedByFile = "managed_by_file", 409, "Its settings are managed by configuration files";
    /// The subscription is disabled or gone.
    NotEnabled = "not_enabled", 409, "The subscription is not enabled";
    /// A sixth secret would be valid.
    TooManySecrets = "too_many_secrets", 409, "Too many secrets are valid at the same time";
    /// The same kind of bulk work is being done on it already.
    UnderWay = "under_way", 409, "A replay or cancellation of it is under way";
    /// The object's state does not allow it.
    WrongState = "wrong_state", 409, "Its state does not allow this";
    /// What the same request made before was deleted since.
    Gone = "gone", 410, "What this request made was deleted since";
    /// `If-Match` names another version.
    Stale = "stale", 412, "It was changed meanwhile";
    /// The body is over its limit.
    TooLarge = "too_large", 413, "The body is too large";
    /// The body is of a type, or encoded in a way, that is not read.
    UnsupportedMediaType = "unsupported_media_type", 415, "The body is of a type that is not read here";
    /// The `Host` is none of ours.
    HostRefused = "host_refused", 421, "Requests for this Host are not answered";
    /// The input has faults; `errors` lists them all.
    ValidationFailed = "validation_failed", 422, "The input is not valid";
    /// It expired: enabling needs a new `expires_at`.
    Expired = "expired", 422, "It has expired";
    /// `***` cannot stand for what is stored, because it would be sent elsewhere.
    SecretRequired = "secret_required", 422, "A secret must be given anew";
    /// The test event was not answered with success.
    VerificationFailed = "verification_failed", 422, "The URL did not pass verification";
    /// The organization's share of the storage is used up.
    QuotaExceeded = "quota_exceeded", 429, "The organization's share of the storage is used up";
    /// The key has made as many requests as it may for now.
    TooManyRequests = "too_many_requests", 429, "The API key has made too many requests";
    /// A fault of ours.
    Internal = "internal", 500, "Something went wrong here";
    /// Too much is waiting to be written.
    Busy = "busy", 503, "Too busy; try again";
    /// The commit failed, perhaps after it reached the disk.
    OutcomeUnknown = "outcome_unknown", 503, "Whether it was stored is not known; try again with the same key";
    /// The store is shut or broken.
    Unavailable = "unavailable", 503, "The store is not available";
    /// The disk or the quota has no room.
    StorageFull = "storage_full", 507, "The storage is full";
}

/// One answer that is an error. Boxed, because it stands in every handler's result.
#[derive(Clone, Debug)]
pub struct Problem(Box<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    code: Code,
    detail: Option<String>,
    errors: Vec<Fault>,
    members: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem of that kind.
    pub fn new(code: Code) -> Problem {
        let parts = Parts { code, detail: None, errors: Vec::new(), members: Map::new(), headers: Vec::new() };
        Problem(Box::new(parts))
    }

    /// Input with `errors`.
    pub fn faults(errors: Vec<Fault>) -> Problem {
        Problem::new(Code::ValidationFailed).errors(errors)
    }

    /// What is special about this one.
    pub fn detail(mut self, detail: impl Into<String>) -> Problem {
        self.0.detail = Some(detail.into());
        self
    }

    /// The faults of single fields.
    pub fn errors(mut self, errors: Vec<Fault>) -> Problem {
        self.0.errors = errors;
        self
    }

    /// One more member of the body.
    pub fn member(mut self, name: &str, value: Value) -> Problem {
        self.0.members.insert(name.to_owned(), value);
        self
    }

    /// One more header.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Problem {
        self.0.headers.push((name, value));
        self
    }

    /// Asks the caller to wait.
    pub fn retry_after(self, seconds: u16) -> Problem {
        self.header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// Ends the connection after this answer, because part of the request is unread.
    pub fn closing(self) -> Problem {
        self.header(header::CONNECTION, HeaderValue::from_static("close"))
    }

    /// Its kind.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The faults of single fields.
    pub fn field_errors(&self) -> &[Fault] {
        &self.0.errors
    }

    /// What happened, in a sentence.
    pub fn message(&self) -> String {
        let detail = self.0.detail.clone().or_else(|| self.detail_by_itself());
        detail.unwrap_or_else(|| self.0.code.title().to_owned())
    }

    /// The same told in another way: with that status and body, and this problem's headers.
    pub fn told_as(&self, status: StatusCode, body: &Value) -> Response {
        let mut response = bytes(status, "application/json", body.to_string());
        response.headers_mut().extend(self.0.headers.iter().cloned());
        response
    }

    /// What stands in `detail` where nobody said more: the first fault.
    fn detail_by_itself(&self) -> Option<String> {
        if self.0.code == Code::Internal {
            return Some("the fault is not the request's; the daemon's log may say more".to_owned());
        }
        let first = self.0.errors.first()?;
        let what = if first.field.is_empty() { "the body" } else { &first.field };
        let more = match self.0.errors.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        Some(format!("{what} {}{more}", first.message))
    }

    /// The body, as a value.
    pub fn to_value(&self) -> Value {
        let mut body = Map::new();
        body.insert("type".to_owned(), json!(format!("urn:posthaste:problem:{}", self.0.code.name())));
        body.insert("title".to_owned(), json!(self.0.code.title()));
        body.insert("status".to_owned(), json!(self.0.code.status()));
        if let Some(detail) = self.0.detail.clone().or_else(|| self.detail_by_itself()) {
            body.insert("detail".to_owned(), json!(detail));
        }
        body.insert("code".to_owned(), json!(self.0.code.name()));
        if !self.0.errors.is_empty() {
            let errors = self.0.errors.iter().map(|fault| json!({"field": fault.field, "message": fault.message}));
            body.insert("errors".to_owned(), errors.collect());
        }
        body.extend(self.0.members.clone());
        Value::Object(body)
    }

    /// The answer.
    pub fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = bytes(status, "application/problem+json", self.to_value().to_string());
        response.headers_mut().extend(self.0.headers);
        response
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_distinct_and_sorted_by_status() {
        let names: BTreeSet<&str> = Code::ALL.iter().map(|code| code.name()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        assert!(Code::ALL.is_sorted_by_key(|code| code.status()));
    }

    #[test]
    fn problems_are_what_rfc_9457_says() {
        let problem = Problem::faults(vec![Fault::new("url", "is required")])
            .detail("one fault")
            .member("line", json!(3))
            .retry_after(5);
        assert_eq!(
            problem.to_value(),
            json!({
                "type": "urn:posthaste:problem:validation_failed",
                "title": "The input is not valid",
                "status": 422,
                "detail": "one fault",
                "code": "validation_failed",
                "errors": [{"field": "url", "message": "is required"}],
                "line": 3,
            })
        );
        let fault = |field: &str| Fault::new(field, "is wrong");
        for (problem, detail) in [
            (Problem::faults(vec![fault("url")]), json!("url is wrong")),
            (Problem::faults(vec![fault(""), fault("a"), fault("b")]), json!("the body is wrong (and 2 more)")),
            (Problem::new(Code::Internal), json!("the fault is not the request's; the daemon's log may say more")),
            (Problem::new(Code::NotFound), Value::Null),
        ] {
            assert_eq!(problem.to_value()["detail"], detail);
        }
        let response = problem.into_response();
        assert_eq!(response.status(), 422);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(response.headers()["retry-after"], "5");
    }
}
