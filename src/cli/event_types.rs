//! `posthaste event-types`: the catalog, those of the vendors included.

use serde_json::{Value, json};

use super::client::{Client, ClientArgs};
use super::{Failure, on_runtime, output};

const EXAMPLE: &str = "Example:
  posthaste event-types --format pdk
  posthaste event-types --format none --json    # your own";

/// List the event types that the daemon knows
#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Args {
    /// Only those of this format's vendor; "none": of no vendor
    #[arg(long)]
    format: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
    /// Print one JSON list
    #[arg(long)]
    json: bool,
}

/// Asks page by page and tells.
pub(super) fn run(args: Args) -> Result<(), Failure> {
    let client = Client::new(args.client)?;
    on_runtime(async {
        let query = [("format", args.format.as_deref())];
        let entries = client.list("/v1/event-types", &query, usize::MAX).await?;
        output::print(&if args.json { json!(entries).to_string() } else { as_table(&entries) })
    })
}

fn as_table(entries: &[Value]) -> String {
    let text = |entry: &Value, field: &str| entry[field].as_str().unwrap_or("").to_owned();
    let rows: Vec<(String, String)> =
        entries.iter().map(|entry| (text(entry, "name"), text(entry, "description"))).collect();
    output::printable(&output::table(&rows))
}
