//! The whole daemon in virtual time, on a disk and a network that fail: one seed
//! draws everything. First a storm, in which what is promised must hold at every
//! step; then all heals, and everything must come to its end.
//!
//! - `world.rs` time, crashes, people; `work.rs` what they ask; `network.rs` what
//!   receivers do. The disk is the store's own: `store/simulated/disk.rs`.
//! - `book.rs` what must be true of what is stored, `lanes.rs` of attempts,
//!   `order.rs` of their order, `wire.rs` of requests; `end.rs` of how it ends. `uplink.rs`
//!   is another play: two days without a network.
//! - `tests.rs` which seeds are played, and how to play one again.

mod book;
mod end;
mod lanes;
mod network;
mod order;
#[cfg(test)]
mod tests;
mod uplink;
mod wire;
mod work;
mod world;
