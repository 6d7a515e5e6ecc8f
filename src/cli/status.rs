//! `posthaste status`: how a daemon fares.

use serde_json::{Value, json};

use super::client::{Client, ClientArgs};
use super::{Failure, on_runtime, output};

const EXAMPLE: &str = "Example:
  posthaste status --url http://127.0.0.1:8470 --token-file token.txt

Exit 0: ready, 1: up but not ready, 3: not reached, 4: refused.";

/// Show how the daemon fares
#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Args {
    #[command(flatten)]
    client: ClientArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Asks and tells.
pub(super) fn run(args: Args) -> Result<(), Failure> {
    let client = Client::new(args.client)?;
    on_runtime(async {
        let ready = client.get("/readyz").await?.status.is_success();
        let stats = client.get("/v1/stats").await?.accepted()?;
        output::print(&if args.json {
            json!({"ready": ready, "stats": stats}).to_string()
        } else {
            as_table(ready, &stats)
        })?;
        if let Some(since) = stats["deliveries_held_since"].as_str() {
            eprintln!("deliveries are held since the restore of {since}: `posthaste resume` lets them go");
        }
        if ready { Ok(()) } else { Err(Failure::failed("the daemon is not ready: its log says why")) }
    })
}

fn as_table(ready: bool, stats: &Value) -> String {
    let mut rows = vec![("ready".to_owned(), if ready { "yes" } else { "no" }.to_owned())];
    collect("", stats, &mut rows);
    output::printable(&output::table(&rows))
}

/// One row a value, named by its path, so that the table needs no change when the
/// daemon comes to tell more.
fn collect(path: &str, value: &Value, rows: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let name = name.replace('_', " ");
                let path = if path.is_empty() { name } else { format!("{path} {name}") };
                collect(&path, value, rows);
            }
        }
        Value::Null => rows.push((path.to_owned(), "-".to_owned())),
        Value::String(text) => rows.push((path.to_owned(), text.clone())),
        other => rows.push((path.to_owned(), other.to_string())),
    }
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
