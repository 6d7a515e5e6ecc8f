//! Posthaste delivers webhooks: an event in, signed requests out, nothing lost.
//!
//! This is the map, in reading order. **Arrows go down this list, never up**: a room
//! may name those below it. `tests/house.rs` holds the code to what is in bold.
//!
//! | room | what it does |
//! |---|---|
//! | [`cli`] | the commands; `serve` and `demo` among them |
//! | [`app`] | puts the rooms together, answers signals, stops in order |
//! | [`systemd`] | what the service manager is told, and that the engine is alive |
//! | [`api`] | the native API: one table of routes, a file a topic; the vendors' own beside it |
//! | [`engine`] | the one loop: feeds the scheduler, carries out its actions |
//! | [`attempt`] | one attempt from end to end: render, sign, send, judge |
//! | [`metrics`], [`log`] | what is counted and said |
//! | [`store`] | what is configured, events, the queue, outcomes. **Alone names redb** |
//! | [`deliver`] | resolve, vet, dial, TLS, pool, send |
//! | [`http`] | server plumbing that knows no word of the domain. **With `cli` alone names hyper** |
//! | [`config`] | file and environment. **Alone reads the environment** |
//! | [`auth`] | who calls, and what they may |
//! | [`sched`] | which delivery is attempted when: values in, actions out |
//! | [`registry`] | everything configured, in memory; finds an event's subscriptions |
//! | [`dialect`] | the wire formats: an event becomes a request |
//! | [`filter`], [`secrecy`], [`template`], [`retry`], [`sign`], [`pattern`] | what subscriptions say, as functions |
//! | [`model`] | organizations, events, subscriptions, deliveries, and their rules |
//! | [`input`], [`json`], [`id`], [`secret`], [`seal`], [`time`], [`histogram`], [`limits`] | the words. **`time` alone reads a clock** |
//!
//! [`fault`] lets tests end a part from within, in debug builds alone.
//! `simulation`, for tests, stands above all: the daemon in virtual time, from one seed.
//! `fuzzing`, for tests and the targets of `fuzz/`, feeds it bytes of unknown origin.
//!
//! From `sched` down nothing names tokio, a file, a socket or a clock: `now` and
//! chance are arguments. So three days of retries are tested in milliseconds.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod api;
pub mod app;
pub mod attempt;
pub mod auth;
mod boxed;
pub mod cli;
pub mod config;
pub mod deliver;
pub mod dialect;
pub mod engine;
pub mod fault;
pub mod filter;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod histogram;
pub mod http;
pub mod id;
pub mod input;
pub mod json;
pub mod limits;
pub mod log;
pub mod metrics;
pub mod model;
pub mod pattern;
pub mod registry;
pub mod retry;
pub mod sched;
pub mod seal;
pub mod secrecy;
pub mod secret;
pub mod sign;
#[cfg(test)]
mod simulation;
pub mod store;
pub mod systemd;
pub mod template;
pub mod time;
