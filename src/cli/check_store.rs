//! `posthaste check-store`: whether a store holds what it says.

use serde_json::{Value, json};

use super::serve::ConfigFile;
use super::{Failure, output};
use crate::store::inspect::{Fault, Report};
use crate::store::offline;

const EXAMPLE: &str = "Example:
  posthaste check-store --config /etc/posthaste/config.toml

The daemon must be stopped. Checks the sums of every page, and index and records
against each other. Exit 0: fine, 1: faults, one a line with what to do, 5: damaged, or
written by a newer version.";

/// Check the store of a stopped daemon
#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigFile,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Reads everything, and says what is wrong.
pub(super) fn run(args: Args) -> Result<(), Failure> {
    let storage = args.config.load().map_err(|errors| Failure::usage(errors.to_string()))?.config.storage;
    let report = offline::check(&storage.path, storage.cache_bytes, &storage.keyring);
    let report = report.map_err(|error| Failure::of_store(&error))?;
    if args.json {
        output::print(&as_json(&report).to_string())?;
    } else {
        for fault in &report.faults {
            output::print(&fault.to_string())?;
        }
    }
    let Report { events, deliveries, pending, faults_total, .. } = &report;
    let looked = format!("{events} events, {deliveries} deliveries, {pending} of them pending");
    match faults_total {
        0 if args.json => Ok(()),
        0 => output::print(&format!("{}: fine: {looked}", storage.path.display())),
        faults => Err(Failure::failed(format!("{}: {faults} faults in {looked}", storage.path.display()))),
    }
}

fn as_json(report: &Report) -> Value {
    let faults: Vec<String> = report.faults.iter().map(Fault::to_string).collect();
    json!({
        "ok": report.faults_total == 0,
        "events": report.events,
        "deliveries": report.deliveries,
        "pending": report.pending,
        "faults_total": report.faults_total,
        "faults": faults,
    })
}
