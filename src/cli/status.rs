//! `posthaste status`: how a daemon fares.

use serde_json::{Value, json};

use super::client::{Client, ClientArgs};
use super::watch::{self, Look, WatchArgs};
use super::{Failure, on_runtime, output};

const EXAMPLE: &str = "Example:
  posthaste status --url http://127.0.0.1:8470 --token-file token.txt
  posthaste status --watch=5s

Exit 0: ready, 1: up but not ready, 3: not reached, 4: refused.";

/// Show how the daemon fares
#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Args {
    #[command(flatten)]
    watch: WatchArgs,
    #[command(flatten)]
    client: ClientArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Asks and tells.
pub(super) fn run(args: Args) -> Result<(), Failure> {
    let client = Client::new(args.client)?;
    on_runtime(watch::show(args.watch, async || {
        let readiness = client.get("/readyz").await?;
        let ready = readiness.status.is_success();
        let stats = client.get("/v1/stats").await?.accepted()?;
        let held = |since| format!("deliveries are held since the restore of {since}: `posthaste resume` lets them go");
        let note = stats["deliveries_held_since"].as_str().map(held);
        let text = match args.json {
            true => json!({"ready": ready, "stats": stats}).to_string(),
            false => as_table(ready, &stats),
        };
        let not_ready = || Failure::failed(format!("the daemon is not ready: {}", readiness.detail()));
        Ok(Look { text, note, end: if ready { Ok(()) } else { Err(not_ready()) } })
    }))
}

fn as_table(ready: bool, stats: &Value) -> String {
    let mut rows = vec![("ready".to_owned(), if ready { "yes" } else { "no" }.to_owned())];
    rows.extend(output::rows(stats));
    output::printable(&output::table(&rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_has_a_row() {
        let stats = json!({"pending": 2, "oldest_pending_at": null, "storage": {"file_bytes": 7}});
        assert_eq!(
            as_table(true, &stats),
            "ready               yes\npending             2\noldest pending at   -\nstorage file bytes  7"
        );
    }
}
