//! What went wrong elsewhere, as callers are told.

use serde_json::json;

use crate::http::{Code, Problem};
use crate::json::JsonError;
use crate::model::Fault;
use crate::store::command::{AcceptError, ChangeError, DeliveryError, WriteError};
use crate::store::query::ReadError;

/// Seconds a caller is asked to wait for the writer's queue.
const BUSY_SECONDS: u16 = 1;
/// Seconds a caller is asked to wait for room: retention frees it in steps.
const FULL_SECONDS: u16 = 30;
/// Seconds a caller is asked to wait for the store.
const UNAVAILABLE_SECONDS: u16 = 5;

impl From<JsonError> for Problem {
    fn from(error: JsonError) -> Problem {
        let problem = Problem::new(Code::InvalidJson).detail(format!("the body {error}"));
        match error {
            JsonError::Syntax { line, column, .. } => {
                problem.member("line", json!(line)).member("column", json!(column))
            }
            JsonError::TooDeep => problem,
        }
    }
}

impl From<WriteError> for Problem {
    fn from(error: WriteError) -> Problem {
        let problem = |code| Problem::new(code).detail(error.to_string());
        match error {
            WriteError::QueueFull => problem(Code::Busy).retry_after(BUSY_SECONDS),
            WriteError::StorageFull => problem(Code::StorageFull).retry_after(FULL_SECONDS),
            WriteError::OutcomeUnknown => problem(Code::OutcomeUnknown).retry_after(BUSY_SECONDS),
            WriteError::Unavailable => problem(Code::Unavailable).retry_after(UNAVAILABLE_SECONDS),
        }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Problem {
        Problem::new(Code::Unavailable).detail(error.to_string()).retry_after(UNAVAILABLE_SECONDS)
    }
}

impl From<AcceptError> for Problem {
    fn from(error: AcceptError) -> Problem {
        let detail = error.to_string();
        match error {
            AcceptError::Conflict { first } => {
                Problem::new(Code::IdempotencyConflict).detail(detail).member("event", json!(first.to_string()))
            }
            AcceptError::QuotaExceeded => Problem::new(Code::QuotaExceeded).detail(detail).retry_after(FULL_SECONDS),
            AcceptError::UnknownOrganization => Problem::new(Code::NotFound).detail(detail),
            AcceptError::Unsendable(message) => Problem::faults(vec![Fault::new("data", message)]),
        }
    }
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Problem {
        let detail = error.to_string();
        let problem = |code| Problem::new(code).detail(detail.clone());
        let fault = |field: &str, message: &str| Problem::faults(vec![Fault::new(field, message)]);
        match error {
            ChangeError::NotFound => problem(Code::NotFound),
            ChangeError::UnknownOrganization(field) => fault(field, "names an organization that does not exist"),
            ChangeError::Cycle => fault("parent", "may not be the organization itself or one below it"),
            ChangeError::TooDeep => fault(
                "parent",
                &format!("would make the tree deeper than {} levels", crate::limits::ORGANIZATION_DEPTH_MAX),
            ),
            ChangeError::InUse(_) => problem(Code::InUse),
            ChangeError::DefaultOrganization => problem(Code::DefaultOrganization),
            ChangeError::EventsRetained => problem(Code::EventsRetained),
            ChangeError::ForeignSource(source) => {
                fault("scope", &format!("names the source {source}, which is not of the subscription's organization"))
            }
            ChangeError::ForeignOrganization => fault("organization", "cannot be changed"),
            ChangeError::BuiltIn => problem(Code::BuiltIn),
            ChangeError::ManagedByFile => problem(Code::ManagedByFile),
            ChangeError::Stale => problem(Code::Stale),
            ChangeError::IdempotencyConflict => problem(Code::IdempotencyConflict),
            ChangeError::Ended => problem(Code::Gone),
            ChangeError::TooManySecrets => problem(Code::TooManySecrets),
            ChangeError::Expired => {
                problem(Code::Expired).errors(vec![Fault::new("expires_at", "has passed; enabling needs a later one")])
            }
            ChangeError::Declared(faults) => Problem::faults(faults),
            ChangeError::Write(error) => Problem::from(error),
        }
    }
}

impl From<DeliveryError> for Problem {
    fn from(error: DeliveryError) -> Problem {
        let problem = |code| Problem::new(code).detail(error.to_string());
        match error {
            DeliveryError::NotFound => problem(Code::NotFound),
            DeliveryError::WrongState => problem(Code::WrongState),
            DeliveryError::NotEnabled => problem(Code::NotEnabled),
            DeliveryError::UnderWay => problem(Code::UnderWay).retry_after(BUSY_SECONDS),
            DeliveryError::Write(error) => Problem::from(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_the_status_of_the_contract() {
        for (problem, status, code) in [
            (Problem::from(WriteError::QueueFull), 503, "busy"),
            (Problem::from(WriteError::StorageFull), 507, "storage_full"),
            (Problem::from(WriteError::OutcomeUnknown), 503, "outcome_unknown"),
            (Problem::from(WriteError::Unavailable), 503, "unavailable"),
            (Problem::from(ChangeError::UnknownOrganization("parent")), 422, "validation_failed"),
            (Problem::from(ChangeError::Cycle), 422, "validation_failed"),
            (Problem::from(ChangeError::InUse("sources")), 409, "in_use"),
            (Problem::from(ChangeError::DefaultOrganization), 409, "default_organization"),
            (Problem::from(ChangeError::EventsRetained), 409, "events_retained"),
            (Problem::from(AcceptError::QuotaExceeded), 429, "quota_exceeded"),
            (Problem::from(ChangeError::Ended), 410, "gone"),
            (Problem::from(ChangeError::Stale), 412, "stale"),
            (Problem::from(ChangeError::TooManySecrets), 409, "too_many_secrets"),
            (Problem::from(ChangeError::ManagedByFile), 409, "managed_by_file"),
            (Problem::from(ChangeError::Expired), 422, "expired"),
            (Problem::from(ChangeError::Write(WriteError::QueueFull)), 503, "busy"),
            (Problem::from(DeliveryError::WrongState), 409, "wrong_state"),
            (Problem::from(DeliveryError::NotEnabled), 409, "not_enabled"),
            (Problem::from(DeliveryError::UnderWay), 409, "under_way"),
            (Problem::from(DeliveryError::NotFound), 404, "not_found"),
        ] {
            let value = problem.to_value();
            assert_eq!((&value["status"], &value["code"]), (&json!(status), &json!(code)));
        }
        let full = Problem::from(WriteError::StorageFull).into_response();
        assert!(full.headers().contains_key("retry-after"));
    }

    #[test]
    fn bad_json_says_where() {
        let error = JsonError::Syntax { reason: "expected value".to_owned(), line: 2, column: 8 };
        let value = Problem::from(error).to_value();
        assert_eq!(value["detail"], "the body is not JSON: expected value at line 2 column 8");
        assert_eq!((&value["line"], &value["column"]), (&json!(2), &json!(8)));
    }
}
