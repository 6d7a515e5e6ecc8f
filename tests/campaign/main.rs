//! Attacks on the real binary. Each has a short form that runs with the others, and
//! a long one that is asked for; `docs/reliability.md` says what came of those:
//!
//! ```sh
//! cargo test --test campaign
//! cargo test --release --test campaign -- --ignored --nocapture --test-threads 1
//! ```
//!
//! - `clocks`: the wall clock is set; `depth`: a lane with a million waiting;
//! - `kills`: SIGKILL, again and again; `space`: a full disk, on a `tmpfs`;
//!   `scarcity`: few open files, little memory; `crowd`: many endpoints; `names`: a
//!   resolver that is silent;
//!   `parts`: a core part ends from within.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../process/daemon.rs"]
#[allow(dead_code)]
mod daemon;
#[path = "../process/load.rs"]
#[allow(dead_code)]
mod load;
#[path = "../support/mod.rs"]
mod support;

mod clocks;
mod crowd;
mod depth;
mod kills;
mod names;
#[cfg(debug_assertions)]
mod parts;
mod scarcity;
mod space;
mod tmpfs;
