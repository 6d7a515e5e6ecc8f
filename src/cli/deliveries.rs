//! `posthaste deliveries`: what became of events: listed, shown with their attempts,
//! sent again, cancelled.

use clap::Subcommand;
use clap_complete::engine::ArgValueCompleter;
use http::Method;
use serde_json::{Value, json};

use super::client::{Client, ClientArgs};
use super::replay::When;
use super::table::{column, render, whole};
use super::terminal::Terminal;
use super::watch::{self, Look, WatchArgs};
use super::{Failure, name, on_runtime, output};
use crate::id::{DeliveryId, EventId};
use crate::time::Clock;

/// List deliveries, show their attempts, send them again, cancel them
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    List(ListArgs),
    Show(ShowArgs),
    Retry(RetryArgs),
    Cancel(CancelArgs),
}

/// Does what it says.
pub(super) fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::List(args) => list(args),
        Command::Show(args) => show(args),
        Command::Retry(args) => change(args.delivery, "/retry", "is sent again", args.client, args.json),
        Command::Cancel(args) => change(args.delivery, "/cancel", "is cancelled", args.client, args.json),
    }
}

/// List deliveries, newest first
#[derive(clap::Args)]
#[command(after_help = "Example:
  posthaste deliveries list --subscription front-door --state failed --since 2h
  posthaste deliveries list --watch=5s

SUB is the subscription's number.")]
struct ListArgs {
    /// Only those of this subscription: its id, number or unique name
    #[arg(long, value_name = "NAME", add = ArgValueCompleter::new(name::completions))]
    subscription: Option<String>,
    /// Only those of this organization's events
    #[arg(long, value_name = "ID", conflicts_with = "subscription")]
    organization: Option<String>,
    /// Only those that are pending, delivered, failed or cancelled
    #[arg(long)]
    state: Option<String>,
    /// Only those of events whose type matches
    #[arg(long = "type", value_name = "PATTERN")]
    event_type: Option<String>,
    /// Only events accepted since: a time, or how long ago, such as 2h
    #[arg(long, value_name = "WHEN")]
    since: Option<When>,
    /// Only events accepted before: a time, or how long ago
    #[arg(long, value_name = "WHEN")]
    until: Option<When>,
    /// How many at most
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    #[command(flatten)]
    watch: WatchArgs,
    #[command(flatten)]
    client: ClientArgs,
    /// Print one JSON list
    #[arg(long)]
    json: bool,
}

fn list(args: ListArgs) -> Result<(), Failure> {
    let client = Client::new(args.client)?;
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    on_runtime(watch::show(args.watch, async || {
        let path = match &args.subscription {
            Some(subscription) => name::path(&client, subscription, "/deliveries").await?,
            None => "/v1/deliveries".to_owned(),
        };
        let now = Clock::system().now();
        let (since, until) = (args.since.map(|when| when.text(now)), args.until.map(|when| when.text(now)));
        let query = [
            ("organization", args.organization.as_deref()),
            ("state", args.state.as_deref()),
            ("type", args.event_type.as_deref()),
            ("since", since.as_deref()),
            ("until", until.as_deref()),
        ];
        let found = client.list(&path, &query, limit).await?;
        let none = "no delivery is like that: events that no subscription wants have none";
        let (text, note) = match (args.json, found.is_empty()) {
            (true, _) => (json!(found).to_string(), None),
            (false, true) => (String::new(), Some(none.to_owned())),
            (false, false) => (as_table(&found, Terminal::of_stdout()), None),
        };
        Ok(Look { text, note, end: Ok(()) })
    }))
}

fn as_table(found: &[Value], terminal: Terminal) -> String {
    let columns = [
        whole("ID"),
        column("SUB"),
        whole("STATE"),
        column("TRIES"),
        column("TYPE"),
        column("NEXT OR END"),
        column("CODE"),
    ];
    let row = |delivery: &Value| {
        let id = output::cell(&delivery["id"]);
        let lane = id.parse::<DeliveryId>().map_or_else(|_| "-".to_owned(), |id| id.lane().to_string());
        let at = [&delivery["next_attempt_at"], &delivery["ended_at"]].into_iter().find(|at| !at.is_null());
        vec![
            id,
            lane,
            output::cell(&delivery["state"]),
            output::cell(&delivery["attempts"]),
            output::cell(&delivery["event"]["type"]),
            at.map_or_else(|| "-".to_owned(), output::cell),
            output::cell(&delivery["code"]),
        ]
    };
    render(&columns, &found.iter().map(row).collect::<Vec<_>>(), terminal)
}

/// The id of a delivery, as it is typed.
fn delivery_id(text: &str) -> Result<DeliveryId, &'static str> {
    text.parse().map_err(|_| match text.parse::<EventId>() {
        Ok(_) => "this is the id of an event: `posthaste deliveries list` shows its deliveries, whose ids begin alike",
        Err(_) => {
            "the id of a delivery looks like 0198c5a2-3f4e-7abc-8def-000000000001: `posthaste deliveries list` shows them"
        }
    })
}

/// Show one delivery with every attempt that is kept
#[derive(clap::Args)]
#[command(after_help = "Example:
  posthaste deliveries show 0198c5a2-3f4e-7abc-8def-000000000001")]
struct ShowArgs {
    /// Its id, as `deliveries list` shows it
    #[arg(value_name = "ID", value_parser = delivery_id)]
    delivery: DeliveryId,
    #[command(flatten)]
    client: ClientArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn show(args: ShowArgs) -> Result<(), Failure> {
    let client = Client::new(args.client)?;
    on_runtime(async {
        let mut shown = client.call(Method::GET, &format!("/v1/deliveries/{}", args.delivery), None).await?;
        if args.json {
            return output::print(&shown.to_string());
        }
        let attempts = shown.as_object_mut().and_then(|members| members.remove("attempts_kept"));
        let attempts = attempts.as_ref().and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let fields = output::printable(&output::table(&output::rows(&shown)));
        output::print(&match attempts {
            [] => format!("{fields}\n\nno attempt was made yet"),
            made => format!("{fields}\n\n{}", as_attempts(made, Terminal::of_stdout())),
        })
    })
}

/// Attempts as a table, with what came back.
pub(super) fn as_attempts(attempts: &[Value], terminal: Terminal) -> String {
    let columns = [
        column("TRY"),
        column("STARTED"),
        column("MS"),
        column("OUTCOME"),
        column("STATUS"),
        column("DETAIL"),
        column("ANSWER"),
    ];
    let row = |attempt: &Value| {
        let outcome = &attempt["outcome"];
        let code = if outcome["success"] == true { "success".to_owned() } else { output::cell(&outcome["code"]) };
        vec![
            output::cell(&attempt["number"]),
            output::cell(&attempt["started_at"]),
            output::cell(&attempt["duration_ms"]),
            code,
            output::cell(&outcome["status"]),
            output::cell(&outcome["detail"]),
            output::cell(&attempt["response_body"]),
        ]
    };
    render(&columns, &attempts.iter().map(row).collect::<Vec<_>>(), terminal)
}

/// Send a delivery again, now: the same id, a new horizon
#[derive(clap::Args)]
#[command(after_help = "Example:
  posthaste deliveries retry 0198c5a2-3f4e-7abc-8def-000000000001

Many at once: `posthaste replay`.")]
struct RetryArgs {
    /// Its id, as `deliveries list` shows it
    #[arg(value_name = "ID", value_parser = delivery_id)]
    delivery: DeliveryId,
    #[command(flatten)]
    client: ClientArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Cancel a pending delivery
#[derive(clap::Args)]
#[command(after_help = "Example:
  posthaste deliveries cancel 0198c5a2-3f4e-7abc-8def-000000000001

Many at once: `posthaste subscriptions cancel`.")]
struct CancelArgs {
    /// Its id, as `deliveries list` shows it
    #[arg(value_name = "ID", value_parser = delivery_id)]
    delivery: DeliveryId,
    #[command(flatten)]
    client: ClientArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn change(delivery: DeliveryId, below: &str, done: &str, client: ClientArgs, as_json: bool) -> Result<(), Failure> {
    let client = Client::new(client)?;
    on_runtime(async {
        let changed = client.call(Method::POST, &format!("/v1/deliveries/{delivery}{below}"), None).await?;
        output::print(&if as_json { changed.to_string() } else { format!("{delivery} {done}") })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "is not an id of this kind" helped nobody to one.
    #[test]
    fn what_is_no_id_is_told_with_where_ids_are() {
        let event = "0198c5a2-3f4e-7abc-8def-000000000000";
        for (typed, told) in
            [("5", "looks like 0198c5a2-"), ("front", "looks like 0198c5a2-"), (event, "id of an event")]
        {
            let refusal = delivery_id(typed).expect_err(typed);
            assert!(refusal.contains(told) && refusal.contains("`posthaste deliveries list`"), "{typed}: {refusal}");
        }
        assert!(delivery_id("0198c5a2-3f4e-7abc-8def-00010000000c").is_ok());
    }

    #[test]
    fn a_delivery_is_a_line_and_so_is_an_attempt() {
        let id = "0198c5a2-3f4e-7abc-8def-00010000000c";
        let delivery = json!({"id": id, "event": {"type": "door.opened"}, "state": "pending", "code": null, "attempts": 2,
                              "next_attempt_at": "2027-01-15T08:00:00.000Z", "ended_at": null});
        let lines = as_table(&[delivery], Terminal::default());
        let line = lines.lines().nth(1).expect("a row");
        let cells: Vec<&str> = line.split_whitespace().collect();
        let lane = id.parse::<DeliveryId>().expect("an id").lane().to_string();
        assert_eq!(cells, [id, &lane, "pending", "2", "door.opened", "2027-01-15T08:00:00.000Z", "-"]);

        let attempt = json!({"number": 1, "started_at": "t", "duration_ms": 5, "response_body": "no\u{1b}\n",
                             "outcome": {"success": false, "status": 500, "code": "status", "detail": null}});
        let lines = as_attempts(&[attempt], Terminal::default());
        assert_eq!(lines.lines().nth(1), Some("1    t        5   status   500     -       no\\u{1b}"));
    }
}
