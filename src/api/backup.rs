//! Backups of the running store, and what comes after a restore.

use serde_json::json;

use crate::http::{self, Code, Problem, Response, StatusCode};
use crate::store::command::WriteError;

use super::call::Call;
use super::no_store;

/// The type of what `/v1/backup` answers.
pub(super) const BACKUP_TYPE: &str = "application/octet-stream";
/// Seconds a caller is asked to wait for a backup that is being made.
const BACKUP_SECONDS: u16 = 60;

/// `GET /v1/backup`: everything, as of now.
pub(super) async fn take(call: Box<Call>) -> Result<Response, Problem> {
    let parts = call.state.store.backup().await.map_err(|error| match error {
        WriteError::QueueFull => {
            Problem::new(Code::Busy).detail("another backup is being made").retry_after(BACKUP_SECONDS)
        }
        other => other.into(),
    })?;
    tracing::info!(by = call.caller.name.as_str(), "a backup is being taken");
    Ok(no_store(http::parts(StatusCode::OK, BACKUP_TYPE, parts)))
}

/// `POST /v1/resume`: deliveries that are held since a restore go on.
pub(super) async fn resume(call: Box<Call>) -> Result<Response, Problem> {
    let were_held = call.state.store.resume(&call.caller.name).await?;
    Ok(http::json(StatusCode::OK, &json!({"were_held": were_held})))
}
