//! `posthaste publish`: one event by hand.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::client::{Client, ClientArgs};
use super::{Failure, on_runtime, output};
use crate::time::Timestamp;

const EXAMPLE: &str = "Example:
  posthaste publish --type door.opened --organization acme --data '{\"door\":\"front\"}'

--data takes JSON, @FILE, or - for standard input; it reaches receivers byte for byte.";

/// Publish one event
#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Args {
    /// The event's dotted type
    #[arg(long = "type", value_name = "TYPE")]
    event_type: String,
    /// Whose it is; else its source's, else "default"
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
    /// What it came from
    #[arg(long, value_name = "ID")]
    source: Option<String>,
    /// What it is about
    #[arg(long)]
    subject: Option<String>,
    /// Your own name for it; the same again is taken once only
    #[arg(long, value_name = "ID")]
    event_id: Option<String>,
    /// When it happened; else now
    #[arg(long, value_name = "TIME")]
    occurred_at: Option<Timestamp>,
    /// What makes publishing it again harmless, where not --event-id
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// JSON, @FILE, or - for standard input
    #[arg(long, default_value = "null", value_name = "DATA")]
    data: String,
    #[command(flatten)]
    client: ClientArgs,
    /// Print the daemon's answer
    #[arg(long)]
    json: bool,
}

/// The body of `POST /v1/events`; the data in its own spelling.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    event_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    organization: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    occurred_at: Option<String>,
    data: &'a RawValue,
}

/// Publishes and says what became of it.
pub(super) fn run(args: Args) -> Result<(), Failure> {
    let body = body(&args)?;
    let client = Client::new(args.client)?;
    on_runtime(async {
        let headers: Vec<(&str, &str)> =
            args.idempotency_key.as_deref().map(|key| ("idempotency-key", key)).into_iter().collect();
        let answer = client.post("/v1/events", &headers, body).await?.accepted()?;
        output::print(&if args.json { answer.to_string() } else { as_text(&answer) })
    })
}

fn body(args: &Args) -> Result<String, Failure> {
    let text = match args.data.strip_prefix('@') {
        Some(path) => output::read_input(Path::new(path))?,
        None if args.data == "-" => output::read_input(Path::new("-"))?,
        None => args.data.clone().into_bytes(),
    };
    let data: &RawValue =
        serde_json::from_slice(&text).map_err(|error| Failure::usage(format!("--data is not JSON: {error}")))?;
    let event = Event {
        event_type: &args.event_type,
        organization: args.organization.as_deref(),
        source: args.source.as_deref(),
        subject: args.subject.as_deref(),
        event_id: args.event_id.as_deref(),
        occurred_at: args.occurred_at.map(|at| at.to_string()),
        data,
    };
    serde_json::to_string(&event).map_err(|error| Failure::failed(error.to_string()))
}

fn as_text(answer: &Value) -> String {
    let id = answer["id"].as_str().unwrap_or("?");
    if answer["duplicate"].as_bool() == Some(true) {
        return format!("accepted before, as {id}: nothing new is sent");
    }
    match answer["deliveries"].as_u64() {
        Some(0) => format!("accepted {id}: no subscription wants it"),
        Some(1) => format!("accepted {id}: 1 delivery"),
        Some(count) => format!("accepted {id}: {count} deliveries"),
        None => format!("accepted {id}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parsed(words: &[&str]) -> Args {
        Line::try_parse_from(std::iter::once(&"publish").chain(words)).unwrap_or_else(|error| panic!("{error}")).args
    }

    #[test]
    fn data_keeps_its_spelling() {
        let args =
            parsed(&["--type", "a.b", "--source", "s", "--data", r#"{"b":1.0, "a":1e3,"a":12345678901234567890}"#]);
        let wanted = r#"{"type":"a.b","source":"s","data":{"b":1.0, "a":1e3,"a":12345678901234567890}}"#;
        assert_eq!(body(&args).unwrap_or_else(|failure| panic!("{failure}")), wanted);
        assert_eq!(body(&parsed(&["--type", "a.b"])).ok().as_deref(), Some(r#"{"type":"a.b","data":null}"#));
        assert!(body(&parsed(&["--type", "a.b", "--data", "{"])).is_err());
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("data.json");
        std::fs::write(&file, " [1 ]\n").expect("written");
        let data = format!("@{}", file.display());
        assert_eq!(
            body(&parsed(&["--type", "a", "--data", &data])).ok().as_deref(),
            Some(r#"{"type":"a","data":[1 ]}"#)
        );
    }

    #[test]
    fn answers_are_told_in_words() {
        for (answer, wanted) in [
            (r#"{"id":"x","duplicate":false,"deliveries":2}"#, "accepted x: 2 deliveries"),
            (r#"{"id":"x","duplicate":false,"deliveries":0}"#, "accepted x: no subscription wants it"),
            (r#"{"id":"x","duplicate":true,"deliveries":2}"#, "accepted before, as x: nothing new is sent"),
        ] {
            assert_eq!(as_text(&serde_json::from_str(answer).expect("JSON")), wanted);
        }
    }
}
