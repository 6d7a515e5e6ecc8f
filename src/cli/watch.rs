//! `--watch`: a look that is repeated until Ctrl-C.

use std::io::IsTerminal;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::{Exit, Failure, output};
use crate::limits::WATCH_EVERY_MIN;
use crate::time::parse_duration;

/// Whether to look again, and how often.
#[derive(clap::Args, Clone, Copy)]
pub(super) struct WatchArgs {
    /// Look again every so often, "2s" unless said, until Ctrl-C
    #[arg(long, value_name = "SPAN", num_args = 0..=1, require_equals = true, default_missing_value = "2s",
          value_parser = parse_duration)]
    watch: Option<Duration>,
}

/// What one look found.
pub(super) struct Look {
    /// For standard output; empty: nothing.
    pub(super) text: String,
    /// What to know beside it, for standard error.
    pub(super) note: Option<String>,
    /// How the command ends by it, unless it looks again.
    pub(super) end: Result<(), Failure>,
}

/// Looks once and ends by what it found, or again and again. A daemon that is away is
/// waited for then; one that refuses ends it.
pub(super) async fn show(args: WatchArgs, look: impl AsyncFn() -> Result<Look, Failure>) -> Result<(), Failure> {
    let Some(every) = args.watch else {
        let found = look().await?;
        tell(&found, "")?;
        return found.end;
    };
    let clear = if std::io::stdout().is_terminal() { "\u{1b}[H\u{1b}[2J" } else { "" };
    // Before the first look: from now on Ctrl-C ends nothing by itself.
    let mut interrupt = signal(SignalKind::interrupt())
        .map_err(|error| Failure::failed(format!("Ctrl-C cannot be waited for: {error}")))?;
    let looks = async {
        loop {
            match look().await {
                Ok(found) => tell(&found, clear)?,
                Err(failure) if failure.exit == Exit::Unreachable => output::tell(&format!("{clear}{failure}"))?,
                Err(failure) => return Err(failure),
            }
            tokio::time::sleep(every.max(WATCH_EVERY_MIN)).await;
        }
    };
    tokio::select! {
        ended = looks => ended,
        _ = interrupt.recv() => Ok(()),
    }
}

/// Prints what a look found, after what clears the terminal of the look before.
fn tell(found: &Look, clear: &str) -> Result<(), Failure> {
    if !clear.is_empty() || !found.text.is_empty() {
        output::print(&format!("{clear}{}", found.text))?;
    }
    if let Some(note) = &found.note {
        output::tell(note)?;
    }
    Ok(())
}
