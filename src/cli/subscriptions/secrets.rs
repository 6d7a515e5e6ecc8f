//! `posthaste subscriptions secret` and `rotate`: what a subscription's requests are signed with.

use std::path::PathBuf;

use http::Method;
use serde_json::{Value, json};

use super::super::client::{Client, ClientArgs};
use super::super::name::Named;
use super::super::table::{column, render, whole};
use super::super::terminal::Terminal;
use super::super::{Failure, on_runtime, output};

/// Show the signing secrets that are valid now; needs the role secrets
#[derive(clap::Args)]
#[command(after_help = "Example:
  posthaste subscriptions secret front-door

Oldest first: the last is the current one, the others are in the overlap of a rotation.")]
pub(in crate::cli) struct SecretArgs {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    client: ClientArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Shows them.
pub(super) fn show(args: SecretArgs) -> Result<(), Failure> {
    let client = Client::new(args.client)?;
    on_runtime(async {
        let answer = client.call(Method::GET, &args.named.path(&client, "/secret").await?, None).await?;
        output::print(&if args.json { answer.to_string() } else { as_table(&answer) })
    })
}

/// Give a subscription a new signing secret; the older ones stay valid for a while
#[derive(clap::Args)]
#[command(after_help = "Example:
  posthaste subscriptions rotate front-door --overlap 2h
  posthaste subscriptions rotate front-door --overlap 0s    # the old one leaked: it ends now")]
pub(in crate::cli) struct RotateArgs {
    #[command(flatten)]
    named: Named,
    /// How long the older ones stay valid, from 0s to 7d; else 24h
    #[arg(long, value_name = "SPAN")]
    overlap: Option<String>,
    /// A file with the new secret, which not everybody may read; else one is generated
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    #[command(flatten)]
    client: ClientArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Gives one.
pub(super) fn rotate(args: RotateArgs) -> Result<(), Failure> {
    let mut body = json!({});
    if let Some(overlap) = &args.overlap {
        body["overlap"] = json!(overlap);
    }
    if let Some(path) = &args.secret_file {
        body["secret"] = json!(String::from_utf8_lossy(&output::read_secret(path)?).trim());
    }
    let client = Client::new(args.client)?;
    on_runtime(async {
        let path = args.named.path(&client, "/secret/rotate").await?;
        let answer = client.call(Method::POST, &path, Some(&body)).await?;
        output::print(&if args.json { answer.to_string() } else { as_table(&answer) })
    })
}

fn as_table(answer: &Value) -> String {
    let row = |held: &Value| {
        ["secret", "created_at", "valid_until"].iter().map(|member| output::cell(&held[*member])).collect()
    };
    let rows: Vec<Vec<String>> = answer["secrets"].as_array().into_iter().flatten().map(row).collect();
    // A secret that is cut is of no use: the lines may be wider than the terminal.
    let terminal = Terminal { width: None, ..Terminal::of_stdout() };
    render(&[whole("SECRET"), column("CREATED"), column("VALID UNTIL")], &rows, terminal)
}
