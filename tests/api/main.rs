//! Every route of the native API and every refusal it documents, over HTTP, against
//! the real store.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;
