//! What the tests outside the library share: a daemon inside the test's process
//! with a clock that the test sets, a receiver on a real socket (TLS or not), and
//! the requests between them. Nothing here sleeps; a wait that takes
//! [`PATIENCE`] fails the test that waits.
#![allow(dead_code, unused_imports, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

pub mod daemon;
pub mod receiver;

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

pub use daemon::Daemon;
pub use receiver::{Received, Receiver, Reply};

/// How long anything may take that happens at once.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// When the clock of every daemon starts: 2027-01-15T08:00:00Z.
pub const START_MS: u64 = 1_800_000_000_000;

/// Waits for `work`, and says what it was when it takes too long.
pub async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_) => panic!("{what} did not happen within {PATIENCE:?}"),
    }
}

/// An answer of the API.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The body, if the status is this one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    /// Checks that this is a problem with that status and code. Answers the fields
    /// that its faults name.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Vec<String> {
        let problem = self.header("content-type") == "application/problem+json";
        let body = self.expect(status);
        assert!(problem, "{body}");
        assert_eq!(body["code"], code, "{body}");
        assert_eq!(body["status"], status, "{body}");
        let errors = body["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().map(|error| error["field"].as_str().unwrap().to_owned()).collect()
    }
}
