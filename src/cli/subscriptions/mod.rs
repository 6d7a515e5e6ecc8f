//! `posthaste subscriptions`: listed, shown, switched, tried, ended. What they are set
//! to is in `settings`, their signing secrets in `secrets`.

mod secrets;
mod settings;

use clap::Subcommand;
use http::Method;
use serde_json::{Value, json};

use super::client::{Client, ClientArgs};
use super::name::Named;
use super::table::{column, render, whole};
use super::terminal::Terminal;
use super::{Failure, deliveries, on_runtime, output, replay};

/// Make, list, change and try subscriptions: where and how events are sent
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    List(ListArgs),
    Show(ShowArgs),
    Create(settings::CreateArgs),
    Update(settings::UpdateArgs),
    Delete(DeleteArgs),
    Enable(EnableArgs),
    Disable(DisableArgs),
    Test(TestArgs),
    Secret(secrets::SecretArgs),
    Rotate(secrets::RotateArgs),
    Replay(replay::Args),
    Cancel(replay::CancelArgs),
}

/// Does what it says.
pub(super) fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::List(args) => list(args),
        Command::Show(args) => show(args),
        Command::Create(args) => settings::create(args),
        Command::Update(args) => settings::update(args),
        Command::Delete(args) => delete(args),
        Command::Enable(args) => enable(args),
        Command::Disable(args) => disable(args),
        Command::Test(args) => test(args),
        Command::Secret(args) => secrets::show(args),
        Command::Rotate(args) => secrets::rotate(args),
        Command::Replay(args) => replay::run(args),
        Command::Cancel(args) => replay::cancel(args),
    }
}

/// List subscriptions, oldest first
#[derive(clap::Args)]
#[command(after_help = "Example:
  posthaste subscriptions list --organization acme --status disabled_due_to_errors
  posthaste subscriptions list --event door.opened --json    # whom would it reach?")]
struct ListArgs {
    /// Only those of this organization
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
    /// Only those that are enabled, disabled or disabled_due_to_errors
    #[arg(long)]
    status: Option<String>,
    /// Only those with a pattern that matches this event type
    #[arg(long, value_name = "TYPE")]
    event: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
    /// Print one JSON list
    #[arg(long)]
    json: bool,
}

fn list(args: ListArgs) -> Result<(), Failure> {
    let client = Client::new(args.client)?;
    on_runtime(async {
        let query = [
            ("organization", args.organization.as_deref()),
            ("status", args.status.as_deref()),
            ("event", args.event.as_deref()),
        ];
        let found = client.list("/v1/subscriptions", &query, usize::MAX).await?;
        match (args.json, found.is_empty()) {
            (true, _) => output::print(&json!(found).to_string()),
            (false, true) => output::tell(
                "no subscription is like that: `posthaste subscriptions create URL --event TYPE` makes one",
            ),
            (false, false) => output::print(&as_table(&found, Terminal::of_stdout())),
        }
    })
}

fn as_table(found: &[Value], terminal: Terminal) -> String {
    let columns = [
        whole("NUMBER"),
        column("NAME"),
        column("ORGANIZATION"),
        whole("STATUS"),
        whole("PENDING"),
        column("EVENTS"),
        column("URL"),
    ];
    let row = |it: &Value| {
        let fields = [
            &it["number"],
            &it["name"],
            &it["organization"],
            &it["status"],
            &it["stats"]["pending"],
            &it["events"],
            &it["url"],
        ];
        fields.iter().map(|value| output::cell(value)).collect()
    };
    render(&columns, &found.iter().map(row).collect::<Vec<_>>(), terminal)
}

/// Show one subscription with everything it is set to, secrets masked
#[derive(clap::Args)]
#[command(after_help = "Example:
  posthaste subscriptions show front-door
  posthaste subscriptions show 7 --json > subscription.json")]
struct ShowArgs {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    client: ClientArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn show(args: ShowArgs) -> Result<(), Failure> {
    let client = Client::new(args.client)?;
    on_runtime(async { output::print(&as_text(&args.named.find(&client).await?, args.json)) })
}

/// A thing that the API shows, a line a value.
fn as_text(shown: &Value, as_json: bool) -> String {
    if as_json { shown.to_string() } else { output::printable(&output::table(&output::rows(shown))) }
}

/// How a subscription is called in a sentence: by its number, and its name where it has one.
fn called(subscription: &Value) -> String {
    let name = subscription["name"].as_str().filter(|name| !name.is_empty());
    let number = &subscription["number"];
    output::printable(
        &name.map_or_else(|| format!("subscription {number}"), |name| format!("subscription {number} ({name})")),
    )
}

/// End a subscription; what is pending is cancelled
#[derive(clap::Args)]
#[command(after_help = "Example:
  posthaste subscriptions delete front-door")]
struct DeleteArgs {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    client: ClientArgs,
    /// Print one JSON object: what was deleted
    #[arg(long)]
    json: bool,
}

fn delete(args: DeleteArgs) -> Result<(), Failure> {
    let client = Client::new(args.client)?;
    on_runtime(async {
        let found = args.named.find(&client).await?;
        let id = found["id"].as_str().unwrap_or_default();
        client.call(Method::DELETE, &format!("/v1/subscriptions/{id}"), None).await?;
        output::print(&if args.json {
            found.to_string()
        } else {
            format!("{} is deleted; its {} pending deliveries are cancelled", called(&found), found["stats"]["pending"])
        })
    })
}

/// Enable a subscription; what it held goes on
#[derive(clap::Args)]
#[command(after_help = "Example:
  posthaste subscriptions enable front-door
  posthaste replay front-door --since 2h --state missed    # what it was not sent meanwhile")]
struct EnableArgs {
    #[command(flatten)]
    named: Named,
    /// Send a test event first, and enable only if it succeeds
    #[arg(long)]
    verify: bool,
    #[command(flatten)]
    client: ClientArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn enable(args: EnableArgs) -> Result<(), Failure> {
    let below = if args.verify { "/enable?verify=true" } else { "/enable" };
    switch(args.named, below, args.client, args.json)
}

/// Disable a subscription; what is pending is held until it is enabled or expires
#[derive(clap::Args)]
#[command(after_help = "Example:
  posthaste subscriptions disable front-door")]
struct DisableArgs {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    client: ClientArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn disable(args: DisableArgs) -> Result<(), Failure> {
    switch(args.named, "/disable", args.client, args.json)
}

fn switch(named: Named, below: &str, client: ClientArgs, as_json: bool) -> Result<(), Failure> {
    let client = Client::new(client)?;
    on_runtime(async {
        let switched = client.call(Method::POST, &named.path(&client, below).await?, None).await?;
        output::print(&match as_json {
            true => switched.to_string(),
            false => format!("{} is {}", called(&switched), output::cell(&switched["status"])),
        })
    })
}

/// Send a test event now, once, and show how that went
#[derive(clap::Args)]
#[command(after_help = "Example:
  posthaste subscriptions test front-door --type door.opened

Nothing of it is stored, and it works for a disabled subscription too. Exit 0: the
receiver took it, 1: it did not.")]
struct TestArgs {
    #[command(flatten)]
    named: Named,
    /// Send the catalog's example of this event type
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn test(args: TestArgs) -> Result<(), Failure> {
    let client = Client::new(args.client)?;
    on_runtime(async {
        let body = args.event_type.map_or_else(|| json!({}), |event_type| json!({"type": event_type}));
        let attempt = client.call(Method::POST, &args.named.path(&client, "/test").await?, Some(&body)).await?;
        output::print(&match args.json {
            true => attempt.to_string(),
            false => deliveries::as_attempts(std::slice::from_ref(&attempt), Terminal::of_stdout()),
        })?;
        if attempt["outcome"]["success"] == true {
            return Ok(());
        }
        Err(Failure::failed(
            "the test event was not taken: OUTCOME and DETAIL say why, the receiver's own log says more where it answered",
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_is_a_line() {
        let subscription = |number: u32, name: &str| {
            json!({"number": number, "name": name, "organization": "acme", "status": "enabled", "stats": {"pending": 3},
                   "events": ["door.*", "panel.*"], "url": "https://example.com/hooks"})
        };
        let found = [subscription(1, "front"), subscription(12, "")];
        let lines = "NUMBER  NAME   ORGANIZATION  STATUS   PENDING  EVENTS           URL\n\
                     1       front  acme          enabled  3        door.*, panel.*  https://example.com/hooks\n\
                     12             acme          enabled  3        door.*, panel.*  https://example.com/hooks";
        assert_eq!(as_table(&found, Terminal::default()), lines);
        assert_eq!(called(&found[0]), "subscription 1 (front)");
        assert_eq!(called(&found[1]), "subscription 12");
    }
}
