//! `posthaste replay` and `subscriptions cancel`: many deliveries of one subscription at once.

use std::str::FromStr;
use std::time::Duration;

use http::Method;
use serde_json::{Map, Value, json};

use super::client::{Client, ClientArgs};
use super::name::Named;
use super::terminal::Progress;
use super::{Failure, on_runtime, output};
use crate::time::{Clock, Timestamp, parse_duration};

/// A time, or how long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    At(Timestamp),
    Ago(Duration),
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<When, String> {
        let ago = || parse_duration(text).map(When::Ago);
        let wrong = |_| "must be a time such as 2026-03-17T14:30:00Z, or how long ago, such as 2h".to_owned();
        text.parse().map(When::At).or_else(|_| ago()).map_err(wrong)
    }
}

impl When {
    /// As the API reads it.
    pub(super) fn text(self, now: Timestamp) -> String {
        match self {
            When::At(at) => at.to_string(),
            When::Ago(span) => (now - span).to_string(),
        }
    }
}

/// What a replay finds, for its arguments and for the API.
#[derive(Clone, Copy, clap::ValueEnum)]
enum State {
    /// Deliveries that failed
    Failed,
    /// Deliveries that succeeded
    Delivered,
    /// Events it would have been sent, had it been there or enabled
    Missed,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Failed => "failed",
            State::Delivered => "delivered",
            State::Missed => "missed",
        }
    }
}

/// Which of them.
#[derive(clap::Args)]
struct Window {
    /// Only events accepted before: a time, or how long ago
    #[arg(long, value_name = "WHEN")]
    until: Option<When>,
    /// Only event types that match; again for more
    #[arg(long = "event", value_name = "PATTERN")]
    events: Vec<String>,
}

impl Window {
    /// The members of the request.
    fn body(&self, since: Option<When>, now: Timestamp) -> Map<String, Value> {
        let mut body = Map::new();
        for (name, when) in [("since", since), ("until", self.until)] {
            body.extend(when.map(|when| (name.to_owned(), json!(when.text(now)))));
        }
        if !self.events.is_empty() {
            body.insert("events".to_owned(), json!(self.events));
        }
        body
    }
}

/// Send a subscription's deliveries again, or events that it missed
#[derive(clap::Args)]
#[command(after_help = "Example:
  posthaste replay front-door --since 2h
  posthaste replay 7 --since 2026-03-17T14:30:00Z --state missed --state failed --event 'door.*'

A delivery that is sent again keeps its webhook-id, so receivers know it again. Asked
for more than one answer can hold, it goes on until all are done.")]
pub(super) struct Args {
    #[command(flatten)]
    named: Named,
    /// Only events accepted since: a time, or how long ago, such as 2h
    #[arg(long, value_name = "WHEN")]
    since: When,
    /// Which; again for more
    #[arg(long = "state", value_enum, default_values_t = [State::Failed])]
    states: Vec<State>,
    #[command(flatten)]
    window: Window,
    #[command(flatten)]
    client: ClientArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Asks until there are no more.
pub(super) fn run(args: Args) -> Result<(), Failure> {
    let client = Client::new(args.client)?;
    on_runtime(async {
        let path = args.named.path(&client, "/replay").await?;
        let mut body = args.window.body(Some(args.since), Clock::system().now());
        let states: Vec<&str> = args.states.iter().map(|state| state.name()).collect();
        body.insert("states".to_owned(), json!(states));
        let mut body = Value::Object(body);
        let mut progress = Progress::new("replay");
        let mut deliveries = 0;
        loop {
            let answer = client.call(Method::POST, &path, Some(&body)).await.map_err(|failure| match deliveries {
                0 => failure,
                done => Failure { message: format!("after {done} deliveries: {failure}"), ..failure },
            })?;
            deliveries += answer["deliveries"].as_u64().unwrap_or(0);
            progress.count(deliveries, "deliveries");
            match answer["next_since"].as_str() {
                Some(next) => body["since"] = json!(next),
                None => break,
            }
        }
        drop(progress);
        output::print(&match (args.json, deliveries) {
            (true, _) => json!({"deliveries": deliveries}).to_string(),
            (false, 0) => format!("nothing to send again: none of that time is {}", states.join(" or ")),
            (false, 1) => "1 delivery is sent again".to_owned(),
            (false, many) => format!("{many} deliveries are sent again"),
        })
    })
}

/// Cancel pending deliveries of a subscription
#[derive(clap::Args)]
#[command(after_help = "Example:
  posthaste subscriptions cancel front-door --event 'door.*' --until 1d
  posthaste subscriptions cancel front-door    # all of them")]
pub(super) struct CancelArgs {
    #[command(flatten)]
    named: Named,
    /// Only events accepted since: a time, or how long ago, such as 2h
    #[arg(long, value_name = "WHEN")]
    since: Option<When>,
    #[command(flatten)]
    window: Window,
    #[command(flatten)]
    client: ClientArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Cancels them.
pub(super) fn cancel(args: CancelArgs) -> Result<(), Failure> {
    let client = Client::new(args.client)?;
    on_runtime(async {
        let path = args.named.path(&client, "/cancel").await?;
        let body = Value::Object(args.window.body(args.since, Clock::system().now()));
        let answer = client.call(Method::POST, &path, Some(&body)).await?;
        output::print(&match (args.json, answer["cancelled"].as_u64()) {
            (true, _) => answer.to_string(),
            (false, Some(1)) => "1 delivery is cancelled".to_owned(),
            (false, count) => format!("{} deliveries are cancelled", count.unwrap_or(0)),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_one_or_how_long_ago() {
        let now = Timestamp::from_millis(7_200_000);
        for (text, wanted) in [
            ("2h", "1970-01-01T00:00:00.000Z"),
            ("1h30m", "1970-01-01T00:30:00.000Z"),
            ("2026-03-17T14:30:00Z", "2026-03-17T14:30:00.000Z"),
        ] {
            assert_eq!(text.parse::<When>().map(|when| when.text(now)).as_deref(), Ok(wanted), "{text}");
        }
        for wrong in ["", "yesterday", "2", "-2h"] {
            assert!(wrong.parse::<When>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_not_asked_for_does_not_limit() {
        let now = Timestamp::from_millis(60_000);
        let all = Window { until: None, events: Vec::new() };
        assert_eq!(Value::Object(all.body(None, now)), json!({}));
        let some = Window { until: Some(When::Ago(Duration::from_secs(60))), events: vec!["a.*".to_owned()] };
        let since = Some(When::At(Timestamp::ZERO));
        let epoch = "1970-01-01T00:00:00.000Z";
        assert_eq!(Value::Object(some.body(since, now)), json!({"since": epoch, "until": epoch, "events": ["a.*"]}));
    }
}
