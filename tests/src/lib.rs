//! Mildam's real programs, started and talked to: a relay on a port of its own, people with homes
//! of their own who use the command line.
//!
//! Nothing here sleeps or guesses. Whoever waits, waits for a line that a program prints; a
//! program that says nothing for [`PATIENCE`] is reported with everything that it did say.

mod folder;
mod listener;
mod person;
mod programs;
mod relay;
mod scene;

pub use folder::copy_folder;
pub use listener::Listener;
pub use person::{Answer, Person};
pub use programs::program;
pub use relay::Relay;
pub use scene::Scene;

/// How long to wait for something that must happen before calling it a failure. It only bounds
/// failures: no test becomes true by waiting.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(90);
