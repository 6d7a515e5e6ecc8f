//! `posthaste serve`: the daemon.

use std::path::PathBuf;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Failure, on_runtime};
use crate::app::{DeclareError, RunError, StartError};
use crate::config::{Loaded, environment};
#[cfg(debug_assertions)]
use crate::fault;
use crate::{app, log};

const EXAMPLE: &str = "Example:
  posthaste serve --config /etc/posthaste/config.toml

SIGTERM stops it: what is in flight may end within [service] drain. SIGHUP reads
the configuration again. It logs to stderr.";

/// Run the daemon
#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Args {
    #[command(flatten)]
    file: ConfigFile,
}

/// Which configuration file.
#[derive(clap::Args)]
pub(super) struct ConfigFile {
    /// The configuration file; else POSTHASTE_CONFIG names it, else defaults and POSTHASTE_ variables make do
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigFile {
    /// Reads it.
    pub(super) fn load(self) -> Result<Loaded, crate::config::ConfigErrors> {
        Loaded::read(self.config.or_else(environment::config_path))
    }
}

/// Takes as many open files as the system grants: what shells grant at first is fewer
/// than connections may be open.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
}

fn failure(error: RunError) -> Failure {
    match &error {
        RunError::Start(StartError::Store(store)) => Failure::of_store(store),
        RunError::Start(StartError::Declared(DeclareError::Files(errors))) => Failure::usage(errors.to_string()),
        _ => Failure::failed(error.to_string()),
    }
}

/// Serves until told to stop.
pub(super) fn run(args: Args) -> Result<(), Failure> {
    let handed = environment::take_handed()
        .map_err(|error| Failure::usage(format!("a socket that was handed over cannot be used: {error}")))?;
    #[cfg(debug_assertions)]
    if let Some(text) = environment::text(environment::TEST_FAULT) {
        let variable = environment::TEST_FAULT;
        fault::arm(text.parse().map_err(|error| Failure::usage(format!("{variable} {error}")))?);
    }
    on_runtime(async {
        // First: a SIGHUP that comes while the configuration is read asks for it to be read again.
        let signals = app::Signals::listen().map_err(|error| Failure::failed(error.to_string()))?;
        let loaded = args.file.load().map_err(|errors| Failure::usage(errors.to_string()))?;
        log::init(&loaded.config.log);
        raise_open_files();
        app::run(loaded, signals, handed).await.map_err(failure)
    })
}
