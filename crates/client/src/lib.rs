//! The headless messenger: everything that Mildam does, without a window.
//!
//! [`Client`] is the one facade, [`Event`] the one stream of news. Everything shown comes from the
//! vault, so it works without a network; the network only changes the vault.
//!
//! ```text
//!            facade (Client)                reads: straight from the vault
//!                 | jobs
//!                 v
//!  vault <---- engine ----> wire ----> relay        the engine alone writes rooms and keys
//!                 ^           |
//!                 +-- connection: opens wires, reads pushes, tries again
//! ```
//!
//! The connection's states, each an [`ConnectionState`]:
//!
//! ```text
//! Unconfigured --link--> Offline --> Connecting --> SettingUp --> Connected --session--> Online
//!                           ^            |              |             |                    |
//!                           +-- failure, after a pause that grows ----+--------------------+
//! ```

mod backoff;
mod carrier;
mod client;
mod clock;
mod connection;
mod engine;
mod error;
mod events;
mod keep_alive;
pub mod model;
mod safety;
mod store;
mod wire;

pub use client::{Client, Recover, SignUp};
pub use clock::Clock;
pub use error::Error;
pub use events::EventStream;
pub use mildam_vault::{Unlock, UnlockKind};
pub use model::*;

/// How a vault in this folder is opened; `None` if there is none yet.
#[must_use]
pub fn unlock_kind(home: &std::path::Path) -> Option<UnlockKind> {
    mildam_vault::Vault::unlock_kind(home)
}

/// The longest text of a message, in bytes of UTF-8.
pub const MAX_TEXT: usize = 16 * 1024;

/// The operating system's random source.
pub(crate) fn rng() -> rand_core::UnwrapErr<getrandom::SysRng> {
    rand_core::UnwrapErr(getrandom::SysRng)
}
