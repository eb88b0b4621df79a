//! Clients and a real relay in one process, over TLS.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails by panicking says where"
)]

mod busy;
mod clocks;
mod keys;
#[cfg(target_os = "linux")]
mod memory;
mod server_key;
mod talk;
mod vault;
mod world;
