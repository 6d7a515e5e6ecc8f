//! `posthaste audit`: who changed what.

use serde_json::{Value, json};

use super::client::{Client, ClientArgs};
use super::{Failure, on_runtime, output};

const EXAMPLE: &str = "Example:
  posthaste audit --token-file token.txt
  posthaste audit --limit 1000 --json    # newest first

It needs a key with the role admin. Entries are kept for [retention] audit, and
nobody can change them. Secrets show as ***.";

/// List who changed what, newest first
#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Args {
    /// How many entries at most
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    #[command(flatten)]
    client: ClientArgs,
    /// Print one JSON list
    #[arg(long)]
    json: bool,
}

/// Asks page by page and tells.
pub(super) fn run(args: Args) -> Result<(), Failure> {
    let client = Client::new(args.client)?;
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    on_runtime(async {
        let entries = client.list("/v1/audit", &[], limit).await?;
        output::print(&if args.json { json!(entries).to_string() } else { as_lines(&entries) })
    })
}

/// A line an entry: when, who, what, on what, which members changed.
fn as_lines(entries: &[Value]) -> String {
    let line = |entry: &Value| {
        let text = |member: &str| entry[member].as_str().unwrap_or("-").to_owned();
        let changed: Vec<&str> =
            entry["changes"].as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        let line = [text("at"), text("actor"), text("action"), text("object"), text("organization"), changed.join(",")];
        line.join("  ").trim_end().to_owned()
    };
    output::printable(&entries.iter().map(line).collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_line() {
        let entry = json!({"sequence": 2, "at": "2027-01-15T08:00:00.000Z", "actor": "ops\u{1b}", "action": "source.put",
                           "object": "gate", "organization": null, "changes": {"name": ["", "x"], "organization": [null, "a"]}});
        let shown = "2027-01-15T08:00:00.000Z  ops\\u{1b}  source.put  gate  -  name,organization";
        let bare = json!({"at": "t", "actor": "a", "action": "b", "object": "c", "organization": "d", "changes": {}});
        assert_eq!(as_lines(&[entry, bare]), format!("{shown}\nt  a  b  c  d"));
    }
}
