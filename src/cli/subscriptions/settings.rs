//! `posthaste subscriptions create` and `update`: what a subscription is set to. Common
//! settings have arguments of their own, `--set` and `--from` reach all the others.

use std::path::PathBuf;

use http::Method;
use serde_json::{Map, Value, json};

use super::super::client::{Client, ClientArgs};
use super::super::name::Named;
use super::super::{Failure, on_runtime, output};
use super::called;

const SETTINGS: &str = "--set names any field of the API by its dotted path; the value is JSON, else text.";

/// What both take.
#[derive(clap::Args)]
struct Settings {
    /// A pattern of event types to be sent: door.opened, door.* or *; again for more
    #[arg(long = "event", value_name = "PATTERN")]
    events: Vec<String>,
    /// What people call it
    #[arg(long)]
    name: Option<String>,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// The format that receivers are spoken to in: standard, cloudevents, peridio, pdk, blynk or ferriskey
    #[arg(long)]
    format: Option<String>,
    /// Whose events: own, recursive, or the id of a source; again for more sources
    #[arg(long)]
    scope: Vec<String>,
    /// A header to be sent, as in 'x-site: north'; again for more
    #[arg(long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    /// Any field: delivery.timeout=5s, filter='[{"path": "/data/door", "op": "eq", "value": "front"}]'
    #[arg(long, value_name = "FIELD=VALUE")]
    set: Vec<String>,
    /// A file with fields as the API has them, which the other arguments override; - is standard input
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Send a test event first, and change nothing unless it succeeds
    #[arg(long)]
    verify: bool,
}

impl Settings {
    /// The body of the request.
    fn body(&self) -> Result<Map<String, Value>, Failure> {
        let mut body = match &self.from {
            Some(path) => serde_json::from_slice(&output::read_input(path)?)
                .map_err(|error| Failure::usage(format!("{} holds no JSON object: {error}", path.display())))?,
            None => Map::new(),
        };
        let texts = [("name", &self.name), ("description", &self.description), ("format", &self.format)];
        for (field, text) in texts {
            body.extend(text.as_ref().map(|text| (field.to_owned(), json!(text))));
        }
        if !self.events.is_empty() {
            body.insert("events".to_owned(), json!(self.events));
        }
        match self.scope.as_slice() {
            [] => {}
            [word] if word == "own" || word == "recursive" => {
                body.insert("scope".to_owned(), json!(word));
            }
            sources => {
                body.insert("scope".to_owned(), json!(sources));
            }
        }
        for header in &self.headers {
            let (name, value) = header
                .split_once(':')
                .ok_or_else(|| Failure::usage("--header takes a name and a value, as in 'x-site: north'"))?;
            put(&mut body, &["headers", name.trim()], json!(value.trim()))?;
        }
        for pair in &self.set {
            let (path, value) = pair
                .split_once('=')
                .ok_or_else(|| Failure::usage("--set takes a field and a value, as in delivery.timeout=5s"))?;
            let value = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
            put(&mut body, &path.split('.').collect::<Vec<_>>(), value)?;
        }
        Ok(body)
    }
}

/// Puts `value` where `path` leads, through objects that are there or made.
fn put(body: &mut Map<String, Value>, path: &[&str], value: Value) -> Result<(), Failure> {
    let Some((name, rest)) = path.split_first() else { return Ok(()) };
    if rest.is_empty() {
        body.insert((*name).to_owned(), value);
        return Ok(());
    }
    match body.entry(*name).or_insert_with(|| json!({})) {
        Value::Object(inner) => put(inner, rest, value),
        _ => Err(Failure::usage(format!("{name} is no object: it has nothing below it to be set"))),
    }
}

/// Make a subscription, and show its signing secret this once
#[derive(clap::Args)]
#[command(after_help = format!("Example:
  posthaste subscriptions create https://example.com/hooks --name front-door --event 'door.*'
  posthaste subscriptions create https://example.com/hooks --event '*' --set delivery.ordering=fifo
  posthaste subscriptions create --from subscription.json

{SETTINGS}"))]
pub(in crate::cli) struct CreateArgs {
    /// Where events are sent; may stand in the file of --from
    #[arg(value_name = "URL")]
    to: Option<String>,
    /// Its owner; else "default"
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
    #[command(flatten)]
    settings: Settings,
    /// A file with the signing secret, which not everybody may read; else one is generated
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    #[command(flatten)]
    client: ClientArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Makes one.
pub(super) fn create(args: CreateArgs) -> Result<(), Failure> {
    let mut body = args.settings.body()?;
    if args.to.is_none() && !body.contains_key("url") {
        return Err(Failure::usage("where to? `posthaste subscriptions create URL --event PATTERN`"));
    }
    for (field, text) in [("url", &args.to), ("organization", &args.organization)] {
        body.extend(text.as_ref().map(|text| (field.to_owned(), json!(text))));
    }
    if let Some(path) = &args.secret_file {
        let secret = output::read_secret(path)?;
        body.insert("secret".to_owned(), json!(String::from_utf8_lossy(&secret).trim()));
    }
    let client = Client::new(args.client)?;
    on_runtime(async {
        let path = verified("/v1/subscriptions", args.settings.verify);
        let made = client.call(Method::POST, &path, Some(&Value::Object(body))).await?;
        output::print(&match args.json {
            true => made.to_string(),
            false => as_made(&made),
        })
    })
}

fn as_made(made: &Value) -> String {
    let mut text = format!("{} is made: {}", called(made), output::cell(&made["id"]));
    if let Some(secret) = made["secret"].as_str() {
        text.push_str(&format!("\nsecret: {}", output::printable(secret)));
    }
    text
}

/// Change what a subscription is set to; what is not named stays
#[derive(clap::Args)]
#[command(after_help = format!("Example:
  posthaste subscriptions update front-door --to https://example.com/new
  posthaste subscriptions update 7 --event 'door.*' --event 'panel.*' --set failure_limit=50

{SETTINGS} null takes a field back to its default."))]
pub(in crate::cli) struct UpdateArgs {
    #[command(flatten)]
    named: Named,
    /// Where events are sent from now on
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    client: ClientArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Changes one, as a merge patch.
pub(super) fn update(args: UpdateArgs) -> Result<(), Failure> {
    let mut body = args.settings.body()?;
    body.extend(args.to.map(|to| ("url".to_owned(), json!(to))));
    if body.is_empty() {
        return Err(Failure::usage("nothing to change: `posthaste subscriptions update --help` lists what can be"));
    }
    let client = Client::new(args.client)?;
    on_runtime(async {
        let path = verified(&args.named.path(&client, "").await?, args.settings.verify);
        let changed = client.call(Method::PATCH, &path, Some(&Value::Object(body))).await?;
        output::print(&match args.json {
            true => changed.to_string(),
            false => format!("{} is changed", called(&changed)),
        })
    })
}

fn verified(path: &str, verify: bool) -> String {
    if verify { format!("{path}?verify=true") } else { path.to_owned() }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        settings: Settings,
    }

    fn body(words: &[&str]) -> Result<Value, String> {
        let line = Line::try_parse_from(std::iter::once(&"x").chain(words)).map_err(|error| error.to_string())?;
        line.settings.body().map(Value::Object).map_err(|failure| failure.message)
    }

    #[test]
    fn arguments_become_fields_of_the_api() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("fields.json");
        std::fs::write(&file, r#"{"name": "from the file", "delivery": {"concurrency": 2}}"#).expect("written");
        let file = file.to_str().expect("text");
        for (words, wanted) in [
            (&[][..], json!({})),
            (&["--event", "door.*", "--event", "*", "--name", "n"], json!({"events": ["door.*", "*"], "name": "n"})),
            (&["--scope", "recursive"], json!({"scope": "recursive"})),
            (&["--scope", "s1", "--scope", "s2"], json!({"scope": ["s1", "s2"]})),
            (&["--header", "x-a: b: c"], json!({"headers": {"x-a": "b: c"}})),
            (
                &["--set", "delivery.timeout=5s", "--set", "delivery.retry.factor=1.5", "--set", "body=null"],
                json!({"delivery": {"timeout": "5s", "retry": {"factor": 1.5}}, "body": null}),
            ),
            (
                &["--from", file, "--set", "delivery.timeout=5s", "--name", "n"],
                json!({"name": "n", "delivery": {"concurrency": 2, "timeout": "5s"}}),
            ),
        ] {
            assert_eq!(body(words), Ok(wanted), "{words:?}");
        }
        for wrong in
            [&["--header", "x-a"][..], &["--set", "name"], &["--set", "a=1", "--set", "a.b=1"], &["--from", "/"]]
        {
            assert!(body(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn who_made_one_is_shown_its_secret() {
        let made = json!({"id": "0198", "number": 3, "name": "front", "secret": "whsec_x", "events": ["*"]});
        assert_eq!(as_made(&made), "subscription 3 (front) is made: 0198\nsecret: whsec_x");
        let unsigned = json!({"id": "0198", "number": 3, "name": "", "secret": null, "events": []});
        assert_eq!(as_made(&unsigned), "subscription 3 is made: 0198");
    }
}
