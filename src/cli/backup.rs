//! `posthaste backup`: everything a daemon holds, in one file that proves itself whole.

use std::cell::RefCell;
use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::client::{Client, ClientArgs};
use super::serve::ConfigFile;
use super::terminal::Progress;
use super::{Failure, on_runtime, output};
use crate::limits::PROOF_CACHE_BYTES;
use crate::store::backup::{Counted, Passing, Summary, verify};
use crate::store::inspect::Report;
use crate::store::offline::{self, BackUpError};
use crate::store::restore::{RestoreError, prove};
use crate::time::Clock;

const EXAMPLE: &str = "Example:
  posthaste backup --token-file token.txt /backups/posthaste-$(date +%F)

It is of everything that the daemon had answered when it began, while it works on,
and needs a key with the role admin for all organizations. It holds what the store
holds, secrets too: keep it as you keep the store. It is opened once as a restore would,
beside its place, which takes as much room again. --offline backs up the store of a
daemon that is stopped.";

/// Write everything the daemon holds to a file
#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Args {
    /// Where to: written whole or not at all, for its owner alone; `-` is standard output
    #[arg(value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    client: ClientArgs,
    /// Back up the store of a stopped daemon, which the configuration names
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    config: ConfigFile,
    /// Prove only that it is whole, not that it opens: for want of room
    #[arg(long)]
    unopened: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Takes a backup, and proves it.
pub(super) fn run(args: Args) -> Result<(), Failure> {
    let source = match args.offline {
        true => Source::Store(args.config.load().map_err(|errors| Failure::usage(errors.to_string()))?.config.storage),
        false => Source::Daemon(Client::new(args.client)?),
    };
    if args.output == Path::new("-") {
        return source.write_to(std::io::stdout().lock());
    }
    let (summary, report) = to_file(&source, &args.output, args.unopened)?;
    output::print(&if args.json {
        let mut shown = as_json(&args.output, &summary);
        shown["faults"] = json!(report.as_ref().map(|report| report.faults_total));
        shown.to_string()
    } else {
        format!("{}: {}", args.output.display(), as_text(&summary))
    })?;
    match report {
        Some(report) if report.faults_total > 0 => Err(Failure::failed(format!(
            "{} is whole, and of its rows {} contradict each other: stop the daemon and see what `posthaste check-store` \
             says",
            args.output.display(),
            report.faults_total
        ))),
        _ => Ok(()),
    }
}

enum Source {
    Daemon(Client),
    Store(crate::config::Storage),
}

impl Source {
    /// Writes all of it. What came is whole when this answers.
    fn write_to(&self, output: impl Write) -> Result<(), Failure> {
        let unwritable = |error: std::io::Error| Failure::of_output("the backup", &error);
        let progress = RefCell::new(Progress::new("backup"));
        let tell = |done| progress.borrow_mut().bytes(done, None);
        let mut output = Counted::new(output, &tell);
        match self {
            Source::Store(storage) => {
                let now = Clock::system().now();
                offline::back_up(&storage.path, storage.cache_bytes, now, &mut output).map_err(
                    |error| match error {
                        BackUpError::Open(error) => Failure::of_store(&error),
                        BackUpError::Output(error) => unwritable(error),
                    },
                )?;
            }
            Source::Daemon(client) => {
                let mut passing = Passing::default();
                on_runtime(client.download("/v1/backup", |part| {
                    passing.take(part);
                    output.write_all(part).map_err(unwritable)
                }))?;
                if !passing.is_whole() {
                    return Err(Failure::failed("what came is not a whole backup: try again"));
                }
            }
        }
        output.flush().map_err(unwritable)
    }
}

/// Writes beside `path`, syncs, opens what is there as a restore would, and only then
/// gives it its name. Answers what was looked at, unless it stays `unopened`.
fn to_file(source: &Source, path: &Path, unopened: bool) -> Result<(Summary, Option<Report>), Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("{} cannot be written: {error}", path.display()));
    let beside = |what: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}.{what}", std::process::id()));
        PathBuf::from(name)
    };
    // Made anew, so that nobody else has it open, nor may read it.
    let make = |path: &Path| OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
    let unfinished = beside("unfinished");
    let file = make(&unfinished).map_err(failed)?;
    let made = (|| {
        source.write_to(&file)?;
        file.sync_all().map_err(failed)?;
        let written = File::open(&unfinished).map_err(failed)?;
        let total = written.metadata().ok().map(|file| file.len());
        let progress = RefCell::new(Progress::new("proof"));
        let tell = |done| progress.borrow_mut().bytes(done, total);
        if unopened {
            let verified = verify(BufReader::new(Counted::new(written, &tell)));
            return verified
                .map(|summary| (summary, None))
                .map_err(|error| Failure::failed(format!("what was written: {error}")));
        }
        // It has no name, so that nothing is left of it however this ends.
        let scratch = beside("proof");
        let file = make(&scratch).and_then(|file| fs::remove_file(&scratch).map(|()| file)).map_err(failed)?;
        let proved = prove(&unfinished, file, PROOF_CACHE_BYTES, &tell);
        proved.map(|(summary, report)| (summary, Some(report))).map_err(|error| match error {
            RestoreError::Backup(_, error) => Failure::failed(format!("what was written: {error}")),
            error => Failure::failed(format!(
                "the backup cannot be opened: {error}; that takes as much room again, and none with --unopened"
            )),
        })
    })();
    let proved = made.inspect_err(|_| drop(fs::remove_file(&unfinished)))?;
    fs::rename(&unfinished, path).map_err(failed)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    Ok(proved)
}

/// What a backup holds, in a few words.
pub(super) fn as_text(summary: &Summary) -> String {
    let count = |name: &str| summary.tables.iter().find(|(table, _)| table == name).map_or(0, |(_, rows)| *rows);
    format!(
        "taken at {}: {} events, {} pending deliveries, {} subscriptions; {} rows in {} tables, {} bytes, store \
         version {}, sha256 {}",
        summary.taken_at,
        count("event"),
        count("pending"),
        count("subscription"),
        summary.rows(),
        summary.tables.len(),
        summary.bytes,
        summary.schema_version,
        hex::encode(summary.sha256),
    )
}

/// The same for scripts.
pub(super) fn as_json(path: &Path, summary: &Summary) -> Value {
    let tables: serde_json::Map<String, Value> =
        summary.tables.iter().map(|(name, rows)| (name.clone(), json!(rows))).collect();
    json!({
        "path": path,
        "taken_at": summary.taken_at.to_string(),
        "schema_version": summary.schema_version,
        "bytes": summary.bytes,
        "sha256": hex::encode(summary.sha256),
        "tables": tables,
    })
}
