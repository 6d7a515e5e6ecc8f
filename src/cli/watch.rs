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

/// What one look found: the text, and how the command ends by it.
pub(super) struct Look {
    pub(super) text: String,
    pub(super) end: Result<(), Failure>,
}

/// Looks once and ends by what it found, or again and again. A daemon that is away is
/// waited for then; one that refuses ends it.
pub(super) async fn show(args: WatchArgs, look: impl AsyncFn() -> Result<Look, Failure>) -> Result<(), Failure> {
    let Some(every) = args.watch else {
        let Look { text, end } = look().await?;
        if !text.is_empty() {
            output::print(&text)?;
        }
        return end;
    };
    let clear = if std::io::stdout().is_terminal() { "\u{1b}[H\u{1b}[2J" } else { "" };
    // Before the first look: from now on Ctrl-C ends nothing by itself.
    let mut interrupt = signal(SignalKind::interrupt())
        .map_err(|error| Failure::failed(format!("Ctrl-C cannot be waited for: {error}")))?;
    let looks = async {
        loop {
            match look().await {
                Ok(Look { text, .. }) => output::print(&format!("{clear}{text}"))?,
                Err(failure) if failure.exit == Exit::Unreachable => eprintln!("{clear}{failure}"),
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
