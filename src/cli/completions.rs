//! `posthaste completions`: the script that makes a shell complete our command lines.
//! It asks this program at each press of the key, so it stays right when commands
//! change, and knows the names of subscriptions.

use clap_complete::Shell;
use clap_complete::env::Shells;

use super::{Failure, output};
use crate::config::environment;

const EXAMPLE: &str = "Example:
  posthaste completions bash > ~/.local/share/bash-completion/completions/posthaste
  posthaste completions zsh > ~/.zfunc/_posthaste
  posthaste completions fish > ~/.config/fish/completions/posthaste.fish

Subscriptions are completed by name or number; the daemon asked is the one that
POSTHASTE_URL (unix:PATH for a socket) and POSTHASTE_TOKEN name.";

/// Print the completion script for a shell
#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Args {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints it.
pub(super) fn run(args: Args) -> Result<(), Failure> {
    let shell = args.shell.to_string();
    let mut script = Vec::new();
    let known = Shells::builtins();
    let known = known.completer(&shell).ok_or_else(|| Failure::usage(format!("there is no script for {shell}")))?;
    known
        .write_registration(environment::COMPLETE, "posthaste", "posthaste", "posthaste", &mut script)
        .map_err(|error| Failure::failed(error.to_string()))?;
    output::print(String::from_utf8_lossy(&script).trim_end())
}
