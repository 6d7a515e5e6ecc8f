//! Backups of the running store, and what is held after a restore. What becomes of a
//! backup is tested by `tests/process/backup.rs`.

use serde_json::{Value, json};

use crate::{call_as, daemon_with_keys, key};

#[tokio::test]
async fn a_backup_is_one_whole_stream_that_no_cache_keeps() {
    let daemon = daemon_with_keys(&[key("ops", &["admin"], &["*"])]).await;
    for _ in 0..2 {
        // The next one waits for the end of the one before, which its reader may see first.
        let backup = loop {
            let answer = call_as(&daemon, "ops", "GET", "/v1/backup", Value::Null).await;
            if answer.status != 503 {
                break answer;
            }
        };
        assert_eq!((backup.status, backup.header("cache-control")), (200, "no-store"));
        assert_eq!(backup.header("content-type"), "application/octet-stream");
        posthaste::store::backup::verify(&backup.body[..]).expect("whole");
    }
    let resumed = call_as(&daemon, "ops", "POST", "/v1/resume", Value::Null).await.expect(200);
    assert_eq!(resumed, json!({"were_held": false}));
}
