//! The real binary: killed, stopped, told to reload, held wrong.
//!
//! - `daemon`: a daemon as a child process; `commands`: subscriptions and deliveries by the
//!   command line, completions, terminals; `line`: the rest of it and what it
//!   refuses; `keys`: the store's key; `signals`: stopping and reloading; `crash`: SIGKILL under
//!   `load`; `backup`: backup, restore, damage; `declared`: files that
//!   declare subscriptions; `listeners`: TLS and Unix sockets; `silence`:
//!   what is never written; `systemd`: what the service manager is told and hands over;
//!   `unread`: output that nobody reads to its end.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

mod backup;
mod commands;
mod crash;
mod daemon;
mod declared;
mod keys;
mod line;
mod listeners;
mod load;
mod signals;
mod silence;
mod systemd;
mod unread;
