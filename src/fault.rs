//! For tests: a core part of the daemon ends from within, to show that the process
//! then ends too. **Only in builds with debug assertions**: in a release nothing here
//! does anything, and the variable that asks for it is refused as any unknown one is.

use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// A part that the process must not live on without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The thread that writes.
    Store,
    /// The loop between scheduler, store and attempts.
    Engine,
    /// Who accepts connections.
    Listener,
}

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Panic,
    Return,
}

/// Which part ends, how, and after how many of its turns: `engine:panic:100`.
#[derive(Debug)]
pub struct Fault {
    part: Part,
    end: End,
    turns_left: AtomicU32,
}

/// The text is no fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be a part (store, engine, listener), how it ends (panic, return) and after how many turns: engine:panic:100"
)]
pub struct NotAFault;

impl FromStr for Fault {
    type Err = NotAFault;

    fn from_str(text: &str) -> Result<Fault, NotAFault> {
        let mut words = text.split(':');
        let part = match words.next() {
            Some("store") => Part::Store,
            Some("engine") => Part::Engine,
            Some("listener") => Part::Listener,
            _ => return Err(NotAFault),
        };
        let end = match words.next() {
            Some("panic") => End::Panic,
            Some("return") => End::Return,
            _ => return Err(NotAFault),
        };
        let turns = words.next().and_then(|turns| turns.parse().ok()).ok_or(NotAFault)?;
        Ok(Fault { part, end, turns_left: AtomicU32::new(turns) })
    }
}

static ARMED: OnceLock<Fault> = OnceLock::new();

/// Lets `fault` happen in this process, unless another was asked for before.
pub fn arm(fault: Fault) {
    let _ = ARMED.set(fault);
}

/// Each core part asks this once a turn, and returns where it is told so.
///
/// # Panics
/// Where that was asked for.
pub fn ends(part: Part) -> bool {
    if !cfg!(debug_assertions) {
        return false;
    }
    let Some(fault) = ARMED.get().filter(|fault| fault.part == part) else { return false };
    let turns_left =
        fault.turns_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(1)));
    if turns_left.is_ok_and(|left| left > 0) {
        return false;
    }
    assert!(fault.end == End::Return, "the {part:?} was asked to panic");
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_as_they_are_written() {
        for text in ["store:panic:0", "engine:return:7", "listener:panic:100"] {
            assert!(text.parse::<Fault>().is_ok(), "{text}");
        }
        for text in ["", "store", "store:panic", "store:panic:soon", "api:panic:1", "store:stop:1"] {
            assert!(text.parse::<Fault>().is_err(), "{text}");
        }
    }
}
