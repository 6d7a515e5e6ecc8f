//! How the service is: health, readiness, totals, metrics, the audit log.

use serde_json::{Map, Value, json};

use crate::http::{self, Code, HeaderMap, Problem, Response, StatusCode, header};
use crate::metrics::Standing;
use crate::model::Status;
use crate::registry::Registry;
use crate::store::Store;
use crate::store::query::AuditEntry;
use crate::store::work::Work;

use super::call::{Call, page};
use super::openapi;

/// The types of what `/metrics` answers: to who asks for OpenMetrics, and to others.
pub(super) const METRICS_TYPES: [&str; 2] =
    ["application/openmetrics-text; version=1.0.0; charset=utf-8", "text/plain; version=0.0.4; charset=utf-8"];

/// `GET /healthz`: the process answers.
pub(super) async fn healthz(_call: Box<Call>) -> Result<Response, Problem> {
    Ok(http::json(StatusCode::OK, &json!({"status": "ok"})))
}

/// `GET /readyz`: the store takes events.
pub(super) async fn readyz(call: Box<Call>) -> Result<Response, Problem> {
    let not_ready = |detail: &str| Err(Problem::new(Code::Unavailable).detail(detail));
    if !call.state.store.is_ready() {
        return not_ready("the store takes no writes at the moment");
    }
    if call.state.store.is_full() {
        return not_ready("the storage is full: nothing is accepted until there is room");
    }
    let mut ready = json!({"status": "ready"});
    if let Some(restored_at) = call.state.store.held_since() {
        let why = format!("restored at {restored_at}: POST /v1/resume, or posthaste resume, lets them go");
        ready["deliveries_held"] = json!(why);
    }
    Ok(http::json(StatusCode::OK, &ready))
}

/// `GET /openapi.json`
pub(super) async fn openapi(_call: Box<Call>) -> Result<Response, Problem> {
    Ok(http::bytes(StatusCode::OK, "application/json", openapi::document()))
}

/// `GET /metrics`
pub(super) async fn metrics(call: Box<Call>) -> Result<Response, Problem> {
    let read = |store: &Store| Ok((store.totals(), store.oldest_pending()?.at, store.free_bytes()));
    let (totals, oldest_pending_at, free_bytes) = call.read(read).await?;
    let certificates = call.state.performer.certificates_expire_at(call.registry().subscriptions());
    let standing = Standing {
        now: call.now(),
        certificates,
        totals,
        oldest_pending_at,
        free_bytes,
        is_ready: call.state.store.is_ready(),
        is_full: call.state.store.is_full(),
        generation: call.state.config.generation(),
        subscriptions: count_by_status(&call.registry()),
    };
    let [open_metrics, plain_text] = METRICS_TYPES;
    let metrics = &call.state.metrics;
    Ok(match asks_for_open_metrics(&call.headers) {
        true => http::bytes(StatusCode::OK, open_metrics, metrics.open_metrics(&standing)),
        false => http::bytes(StatusCode::OK, plain_text, metrics.plain_text(&standing)),
    })
}

/// Whether `Accept` names OpenMetrics: who does can read it, and mostly likes it best, as Prometheus does.
fn asks_for_open_metrics(headers: &HeaderMap) -> bool {
    let mut asked = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    asked.any(|types| types.split(',').any(|it| it.trim_start().starts_with("application/openmetrics-text")))
}

/// How many subscriptions have each status.
fn count_by_status(registry: &Registry) -> Vec<(Status, usize)> {
    let count = |status| registry.subscriptions().filter(|subscription| subscription.status == status).count();
    Status::ALL.iter().map(|status| (*status, count(*status))).collect()
}

/// `GET /v1/stats`
pub(super) async fn stats(call: Box<Call>) -> Result<Response, Problem> {
    let (totals, oldest_pending) = call.read(|store| Ok((store.totals(), store.oldest_pending()?))).await?;
    let encryption = call.state.store.encryption();
    let registry = call.registry();
    let counts = count_by_status(&registry).into_iter();
    let subscriptions: Map<String, Value> =
        counts.map(|(status, count)| (status.as_str().to_owned(), json!(count))).collect();
    Ok(http::json(
        StatusCode::OK,
        &json!({
            "events": totals.events,
            "deliveries": {
                "pending": totals.pending,
                "delivered": totals.delivered,
                "failed": totals.failed,
                "cancelled": totals.cancelled,
            },
            "oldest_pending_at": oldest_pending.at.map(|at| at.to_string()),
            "oldest_pending_is_exact": oldest_pending.is_exact,
            "deliveries_held_since": totals.held_since.map(|at| at.to_string()),
            "subscriptions": subscriptions,
            "organizations": registry.organizations().count(),
            "sources": registry.sources().count(),
            "configuration": {"generation": call.state.config.generation()},
            "work": call.state.store.under_way().iter().map(show_work).collect::<Vec<Value>>(),
            "storage": {
                "file_bytes": totals.file_bytes,
                "live_bytes": totals.live_bytes,
                "encryption": {
                    "key": encryption.key.map(|key| key.to_string()),
                    "needs_previous_keys": encryption.needs_previous,
                },
            },
        }),
    ))
}

fn show_work(work: &Work) -> Value {
    json!({
        "kind": work.kind.as_str(),
        "since": work.since.to_string(),
        "percent": work.percent,
        "done": work.done,
        "total": work.total,
        "unit": work.kind.unit(),
    })
}

/// `GET /v1/audit`: newest first; what belongs to no organization is for keys for all.
pub(super) async fn audit(call: Box<Call>) -> Result<Response, Problem> {
    let (before, limit) = (call.query.cursor()?, call.query.limit());
    let found = call.read(move |store| store.audit(before, limit)).await?;
    let registry = call.registry();
    let is_reached = |entry: &&AuditEntry| match &entry.organization {
        Some(organization) => call.caller.reaches(&registry, organization),
        None => call.caller.reaches_all(),
    };
    let rows = found.rows.iter().filter(is_reached).map(show_entry).collect();
    Ok(page(rows, found.next.map(|next| next.to_string())))
}

fn show_entry(entry: &AuditEntry) -> Value {
    json!({
        "sequence": entry.sequence,
        "at": entry.at.to_string(),
        "actor": entry.actor,
        "action": entry.action,
        "object": entry.object,
        "organization": entry.organization.as_deref(),
        "changes": entry.changes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::work::Kind;
    use crate::time::Timestamp;

    #[test]
    fn every_kind_of_work_is_shown_as_it_is_described() {
        let document: Value = serde_json::from_slice(&openapi::document()).expect("JSON");
        let described = &document["components"]["schemas"]["Work"]["properties"];
        let names = |members: &Value| members.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
        for kind in [Kind::Compaction, Kind::KeyChange, Kind::Purge, Kind::Bulk] {
            let (percent, done, total) = (Some(45), Some(2250), None);
            let shown = show_work(&Work { kind, since: Timestamp::ZERO, percent, done, total });
            assert_eq!(names(&shown), names(described));
            for member in ["kind", "unit"] {
                let known = described[member]["enum"].as_array().expect("a list");
                assert!(known.contains(&shown[member]), "{shown}");
            }
            assert_eq!((&shown["percent"], &shown["total"]), (&json!(45), &Value::Null));
        }
    }
}
