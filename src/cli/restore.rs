//! `posthaste restore`: a store from a backup; `posthaste resume`: what it holds goes on.

use std::cell::RefCell;
use std::path::PathBuf;

use serde_json::json;

use super::client::{Client, ClientArgs};
use super::serve::ConfigFile;
use super::terminal::Progress;
use super::{Failure, backup, on_runtime, output};
use crate::store::restore::{Restore, RestoreError, restore};
use crate::time::Clock;

const EXAMPLE: &str = "Example:
  posthaste restore --config /etc/posthaste/config.toml /backups/posthaste-2030-01-01

Makes the store that [storage] path names, where there is none; a damaged one must be
moved away first. The world went on since the backup: what was delivered after it
would come to its receivers again. So deliveries are held, while events are taken,
until `posthaste resume`; --resume lets them go from the start.";

/// Make the store from a backup
#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Args {
    /// A backup by `posthaste backup`
    #[arg(value_name = "FILE")]
    from: PathBuf,
    #[command(flatten)]
    config: ConfigFile,
    /// Deliver from the start
    #[arg(long)]
    resume: bool,
    /// Restore also what has rows that contradict each other, as `check-store` tells them
    #[arg(long)]
    accept_faults: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Makes a store, in one step.
pub(super) fn run(args: Args) -> Result<(), Failure> {
    let loaded = args.config.load().map_err(|errors| Failure::usage(errors.to_string()))?;
    let storage = loaded.config.storage;
    let total = std::fs::metadata(&args.from).ok().map(|file| file.len());
    let progress = RefCell::new(Progress::new("restore"));
    let restored = restore(&Restore {
        from: &args.from,
        folder: &storage.path,
        cache_bytes: storage.cache_bytes,
        keyring: &storage.keyring,
        held_since: (!args.resume).then(|| Clock::system().now()),
        accepts_faults: args.accept_faults,
        on_read: &|done| progress.borrow_mut().bytes(done, total),
    });
    drop(progress);
    let (summary, report) = restored.map_err(|error| match &error {
        RestoreError::Faults(report) => {
            let faults: Vec<String> = report.faults.iter().map(|fault| format!("\n{fault}")).collect();
            let what = "restore an older backup, or this one with --accept-faults";
            Failure::failed(format!("{error}; nothing was restored: {what}{}", faults.concat()))
        }
        RestoreError::Open(open) => Failure::of_store(open),
        _ => Failure::failed(format!("{error}; nothing was restored")),
    })?;
    if args.json {
        let mut shown = backup::as_json(&args.from, &summary);
        shown["faults"] = json!(report.faults_total);
        shown["held"] = json!(!args.resume);
        return output::print(&shown.to_string());
    }
    let next = match args.resume {
        true => "deliveries go on at the start of the daemon",
        false => "deliveries are held from the start of the daemon on, until `posthaste resume`",
    };
    output::print(&format!("{}: {}\n{next}", storage.path.display(), backup::as_text(&summary)))
}

const RESUME_EXAMPLE: &str = "Example:
  posthaste resume --token-file token.txt

Needs a key with the role admin for all organizations. Look first at what is pending:
`posthaste status`.";

/// Let deliveries go that are held since a restore
#[derive(clap::Args)]
#[command(after_help = RESUME_EXAMPLE)]
pub(super) struct ResumeArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Tells the daemon.
pub(super) fn resume(args: ResumeArgs) -> Result<(), Failure> {
    let client = Client::new(args.client)?;
    on_runtime(async {
        let answer = client.post("/v1/resume", &[], String::new()).await?.accepted()?;
        output::print(&match (args.json, answer["were_held"] == true) {
            (true, _) => answer.to_string(),
            (false, true) => "deliveries go on".to_owned(),
            (false, false) => "nothing was held".to_owned(),
        })
    })
}
