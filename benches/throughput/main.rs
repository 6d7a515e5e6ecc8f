//! What Posthaste can do, from end to end and in separate processes: the real binary,
//! a receiver, a load generator. Each figure is held to a goal; figures of speed are
//! shares of what the same generator and receiver do without a daemon between them,
//! measured around it. `docs/performance.md` says how to run it and what was seen.
//!
//! - `rows/`: what is measured, a topic a file.
//! - `daemon.rs`: the daemon under test. `receiver.rs`, `load.rs`: the other two
//!   processes, which are this program in another role; `peer.rs`: how it speaks to them.
//! - `bare_loop.rs`: the roof. `event.rs`: what is published.
//! - `machine.rs`: clock and counters. `figures.rs`: medians, verdicts, the table.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bare_loop;
mod daemon;
mod event;
mod figures;
mod load;
mod machine;
mod peer;
mod receiver;
mod rows;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use figures::table;
use rows::{ROWS, When};

/// Whatever is waited for has come by then, or never will.
const PATIENCE: Duration = Duration::from_secs(1800);

/// Measures the daemon from end to end and fails where a figure falls short of its goal
#[derive(Parser)]
#[command(name = "throughput")]
struct Arguments {
    /// Only these rows; all unless named
    rows: Vec<String>,
    /// What is run by default, and the rows and sizes that take long
    #[arg(long, conflicts_with = "short")]
    full: bool,
    /// A minute's worth, that fails only below half of a goal
    #[arg(long)]
    short: bool,
    /// Rounds of each measurement, of which the median counts
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// A factor for the sizes of queues and sets of subscriptions, for a quick look
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Name the rows and end
    #[arg(long)]
    list: bool,
    /// cargo says so
    #[arg(long, hide = true)]
    bench: bool,
    #[arg(long, hide = true, requires = "task")]
    role: Option<Role>,
    #[arg(long, hide = true)]
    task: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Role {
    Receiver,
    Load,
}

/// How much each row does.
pub(crate) struct Plan {
    pub(crate) rounds: u32,
    /// Of one round at full speed.
    pub(crate) seconds: f64,
    /// Of one round at a given pace.
    pub(crate) paced_seconds: f64,
    pub(crate) full: bool,
    scale: f64,
}

impl Plan {
    /// A size, as much smaller as wanted.
    pub(crate) fn scaled(&self, size: u64) -> u64 {
        ((size as f64 * self.scale) as u64).max(1)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match (arguments.role, &arguments.task) {
        (Some(Role::Receiver), Some(task)) => receiver::run(task),
        (Some(Role::Load), Some(task)) => load::run(task),
        _ => return measure(&arguments),
    }
    ExitCode::SUCCESS
}

fn measure(arguments: &Arguments) -> ExitCode {
    if arguments.list {
        for row in ROWS {
            println!("{:<14} {}", row.name, row.about);
        }
        return ExitCode::SUCCESS;
    }
    if let Some(unknown) = arguments.rows.iter().find(|name| ROWS.iter().all(|row| row.name != **name)) {
        eprintln!("there is no row {unknown:?}; --list names them");
        return ExitCode::from(2);
    }
    let (seconds, paced_seconds) = if arguments.short { (3.0, 5.0) } else { (5.0, 10.0) };
    let Arguments { rounds, full, scale, .. } = *arguments;
    let plan = Plan { rounds, seconds, paced_seconds, full, scale };
    println!("{}\n", machine::description(Path::new(daemon::FOLDER)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let processors = machine::Processors::now();
    let mut lines = Vec::new();
    for row in ROWS {
        let is_wanted = match row.when {
            _ if !arguments.rows.is_empty() => arguments.rows.iter().any(|name| name == row.name),
            When::Short => true,
            When::Default => !arguments.short,
            When::Full => full,
        };
        if is_wanted {
            eprintln!("{}: {}", row.name, row.about);
            match runtime.block_on(unless_interrupted((row.run)(&plan))) {
                Some(measured) => lines.extend(measured),
                None => return ExitCode::from(130),
            }
        }
    }
    print!("{}", table(&lines, arguments.short));
    let percent_stolen = processors.percent_stolen_since();
    println!("\nThe host gave {percent_stolen:.1} % of the processors' time to other machines meanwhile.");
    let met = lines.iter().all(|line| line.is_met(arguments.short));
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What `work` comes to. On SIGINT or SIGTERM it is dropped, and with it the processes
/// that it started and the stores that it filled.
async fn unless_interrupted<T>(work: impl Future<Output = T>) -> Option<T> {
    let mut terminated = signal(SignalKind::terminate()).unwrap();
    let mut interrupted = signal(SignalKind::interrupt()).unwrap();
    tokio::select! {
        done = work => Some(done),
        _ = terminated.recv() => None,
        _ = interrupted.recv() => None,
    }
}

/// What `work` comes to, which it must do in time.
pub(crate) async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("waited for {what} in vain"))
}

/// What is under way in the daemon ends.
pub(crate) async fn pause() {
    tokio::time::sleep(Duration::from_millis(500)).await;
}
