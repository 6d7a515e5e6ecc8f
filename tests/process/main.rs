//! The real binary: killed, stopped, told to reload, held wrong.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;
