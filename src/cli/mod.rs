//! The command line: one command a file. Prints tables for people, JSON with
//! `--json`, errors as one line that says what to do next, and ends with one of
//! the codes of [`Exit`]. **Only here is anything printed.**

mod audit;
mod backup;
mod certificates;
mod check;
mod check_store;
mod client;
mod completions;
mod deliveries;
mod demo;
mod event_types;
mod key;
mod listen;
mod man;
mod name;
mod output;
mod publish;
mod receiver;
mod replay;
mod restore;
mod serve;
mod signing;
mod status;
mod subscriptions;
mod table;
mod terminal;
mod watch;

use std::fmt;
use std::future::Future;
use std::io;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::CompleteEnv;

use crate::config::environment;
use crate::store::OpenError;

const EXIT_CODES: &str = "Exit codes:
  0  fine
  1  the thing itself failed
  2  wrong usage or configuration
  3  the daemon cannot be reached
  4  the daemon refused
  5  the store is damaged, or was written by a newer version: starting again will not help
  141  whoever read its output stopped before the end, as `head` does

`posthaste COMMAND --help` shows an example of each command.";

/// Delivers webhooks: one binary, storage embedded, nothing answered 2xx is lost.
#[derive(Parser)]
#[command(name = "posthaste", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::Args),
    Check(check::Args),
    CheckStore(check_store::Args),
    Backup(backup::Args),
    Restore(restore::Args),
    Resume(restore::ResumeArgs),
    Demo(demo::Args),
    Listen(listen::Args),
    Publish(publish::Args),
    Subscriptions(subscriptions::Args),
    Deliveries(deliveries::Args),
    Replay(replay::Args),
    Status(status::Args),
    EventTypes(event_types::Args),
    Audit(audit::Args),
    Key(key::Args),
    Sign(signing::SignArgs),
    Verify(signing::VerifyArgs),
    Completions(completions::Args),
    Man(man::Args),
}

/// Runs the command that this process was started with.
pub fn main() -> ExitCode {
    // A shell that asks what could stand next is answered, and that is all.
    CompleteEnv::with_factory(Cli::command).var(environment::COMPLETE).complete();
    let outcome = match Cli::parse().command {
        Command::Serve(args) => serve::run(args),
        Command::Check(args) => check::run(args),
        Command::CheckStore(args) => check_store::run(args),
        Command::Backup(args) => backup::run(args),
        Command::Restore(args) => restore::run(args),
        Command::Resume(args) => restore::resume(args),
        Command::Demo(args) => demo::run(args),
        Command::Listen(args) => listen::run(args),
        Command::Publish(args) => publish::run(args),
        Command::Subscriptions(args) => subscriptions::run(args),
        Command::Deliveries(args) => deliveries::run(args),
        Command::Replay(args) => replay::run(args),
        Command::Status(args) => status::run(args),
        Command::EventTypes(args) => event_types::run(args),
        Command::Audit(args) => audit::run(args),
        Command::Key(args) => key::run(args),
        Command::Sign(args) => signing::sign(args),
        Command::Verify(args) => signing::verify(args),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if failure.exit != Exit::Unread {
                // Nobody is left to tell where this fails.
                let _ = output::tell(&failure.message);
            }
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// How a command ends that did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// The thing itself failed: a signature is wrong, the demonstration went wrong.
    Failed = 1,
    /// Wrong arguments or configuration; clap ends with the same.
    Usage = 2,
    /// The daemon cannot be reached.
    Unreachable = 3,
    /// The daemon refused.
    Refused = 4,
    /// The store must be seen to before anything can start on it.
    Store = 5,
    /// Whoever read what was printed stopped: nothing is told, as by programs that SIGPIPE
    /// ends, with the code that shells give those.
    Unread = 141,
}

/// Why a command ends, told on stderr.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    /// What happened and what to do next.
    message: String,
}

impl Failure {
    fn failed(message: impl Into<String>) -> Failure {
        Failure { exit: Exit::Failed, message: message.into() }
    }

    fn usage(message: impl Into<String>) -> Failure {
        Failure { exit: Exit::Usage, message: message.into() }
    }

    fn unreachable(message: impl Into<String>) -> Failure {
        Failure { exit: Exit::Unreachable, message: message.into() }
    }

    /// Of a store that cannot be opened.
    fn of_store(error: &OpenError) -> Failure {
        let exit = if error.needs_people() { Exit::Store } else { Exit::Failed };
        Failure { exit, message: error.to_string() }
    }

    fn refused(message: impl Into<String>) -> Failure {
        Failure { exit: Exit::Refused, message: message.into() }
    }

    /// Of an output, called `what`, that takes no more.
    fn of_output(what: &str, error: &io::Error) -> Failure {
        let exit = if error.kind() == io::ErrorKind::BrokenPipe { Exit::Unread } else { Exit::Failed };
        Failure { exit, message: format!("{what} cannot be written: {error}") }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Runs `work` on a runtime of its own.
fn on_runtime(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("no threads can be started: {error}")))?;
    let done = runtime.block_on(work);
    // Does not wait for a lookup of a name that hangs.
    runtime.shutdown_background();
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        fn check(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("posthaste ") || command.has_subcommands(), "{}", command.get_name());
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn what_is_typed_is_understood_or_refused() {
        for (line, fine) in [
            ("serve", true),
            ("serve --config c.toml", true),
            ("check --config c.toml --json", true),
            ("check-store --config c.toml --json", true),
            ("backup file --url http://127.0.0.1:1 --token-file t", true),
            ("backup - --offline --config c.toml", true),
            ("backup", false),
            ("restore file --config c.toml --resume --accept-faults", true),
            ("restore", false),
            ("resume --socket /run/x --json", true),
            ("demo", true),
            ("listen --status 503 --tls --json", true),
            ("listen --status 99", false),
            ("listen --status 600", false),
            ("listen --address here", false),
            ("listen --ca-file ca.pem", false),
            ("publish --type a.b --data {}", true),
            ("publish", false),
            ("publish --type a.b --url http://127.0.0.1:1 --socket /run/x", false),
            ("status --socket /run/x --json", true),
            ("subscriptions list --status disabled --json", true),
            ("subscriptions", false),
            ("subscriptions create https://a.example/ --event * --set a.b=1 --url http://127.0.0.1:1", true),
            ("subscriptions update 7 --to https://a.example/ --verify", true),
            ("subscriptions show", false),
            ("subscriptions rotate a --overlap 0s", true),
            ("subscriptions replay a --since 2h", true),
            ("subscriptions cancel a --until 2026-03-17T14:30:00Z", true),
            ("replay a --since 2h --state missed --state failed", true),
            ("replay a", false),
            ("replay a --since 2h --state pending", false),
            ("deliveries list --subscription a --since 1d --watch", true),
            ("deliveries list --watch=soon", false),
            ("deliveries list --subscription a --organization b", false),
            ("deliveries show 7", false),
            ("completions bash", true),
            ("completions tcsh", false),
            ("man /tmp/x", true),
            ("status --watch=5s", true),
            ("audit --limit 1000 --json", true),
            ("audit --limit 0", false),
            ("key", false),
            ("key new --role publish --role read --organization acme --expires-at 2030-01-01T00:00:00Z", true),
            ("key new --role root", false),
            ("key storage storage.key --json", true),
            ("key storage", false),
            ("key new --expires-at tomorrow", false),
            ("sign --id msg_1", true),
            ("sign", false),
            ("verify --id msg_1 --timestamp 1 --signature v1,x --tolerance 5m", true),
            ("verify --id msg_1 --timestamp 1 --signature v1,x --tolerance 5", false),
            ("verify --id msg_1 --timestamp x --signature v1,x", false),
            ("--help", false),
        ] {
            let words = std::iter::once("posthaste").chain(line.split(' '));
            assert_eq!(Cli::try_parse_from(words).is_ok(), fine, "{line}");
        }
    }
}
