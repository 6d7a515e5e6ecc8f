//! `posthaste status`: how a daemon fares.

use serde_json::{Value, json};

use super::client::{Client, ClientArgs};
use super::terminal::bar;
use super::watch::{self, Look, WatchArgs};
use super::{Failure, on_runtime, output};

const EXAMPLE: &str = "Example:
  posthaste status --url http://127.0.0.1:8470 --token-file token.txt
  posthaste status --watch=5s    # with bars for a purge, a change of keys and other long work

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
    let mut stats = stats.clone();
    let works = stats.as_object_mut().and_then(|stats| stats.remove("work"));
    rows.extend(output::rows(&stats));
    rows.extend(works.iter().flat_map(|works| works.as_array().into_iter().flatten()).map(work_row));
    output::printable(&output::table(&rows))
}

/// Long work, with a bar where it is known how much there is to do.
fn work_row(work: &Value) -> (String, String) {
    let name = output::cell(&work["kind"]).replace('_', " ");
    let is_bytes = work["unit"] == "bytes";
    let amount = |count: u64| if is_bytes { count >> 20 } else { count };
    let unit = if is_bytes { "MiB given back".to_owned() } else { output::cell(&work["unit"]) };
    let mut parts = Vec::new();
    if let Some(percent) = work["percent"].as_u64() {
        parts.push(format!("{} {percent} %", bar(percent, 100)));
    }
    match (work["done"].as_u64(), work["total"].as_u64()) {
        (Some(done), Some(total)) => parts.push(format!("{} of {} {unit}", amount(done), amount(total))),
        (Some(done), None) => parts.push(format!("{} {unit}", amount(done))),
        (None, _) => {}
    }
    parts.push(format!("since {}", output::cell(&work["since"])));
    (name, parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_is_under_way_has_a_bar_where_its_share_is_known() {
        let work = |kind: &str, percent: Value, done: Value, total: Value, unit: &str| {
            let since = "2030-01-01T00:00:00.000Z";
            json!({"kind": kind, "since": since, "percent": percent, "done": done, "total": total, "unit": unit})
        };
        let stats = json!({"pending": 2, "work": [
            work("key_change", json!(45), json!(2250), json!(5000), "records"),
            work("purge", json!(100), json!(9), Value::Null, "events"),
            work("compaction", json!(36), json!(7 << 20), Value::Null, "bytes"),
            work("bulk", Value::Null, json!(3000), Value::Null, "deliveries"),
        ]});
        let since = "since 2030-01-01T00:00:00.000Z";
        assert_eq!(
            as_table(true, &stats),
            format!(
                "ready       yes\npending     2\nkey change  [#############-----------------] 45 %, 2250 of 5000 records, \
                 {since}\npurge       [##############################] 100 %, 9 events, {since}\n\
                 compaction  [##########--------------------] 36 %, 7 MiB given back, {since}\nbulk        3000 deliveries, {since}"
            )
        );
    }

    #[test]
    fn every_figure_has_a_row() {
        let stats = json!({"pending": 2, "oldest_pending_at": null, "storage": {"file_bytes": 7}});
        assert_eq!(
            as_table(true, &stats),
            "ready               yes\npending             2\noldest pending at   -\nstorage file bytes  7"
        );
    }
}
