//! What must hold when something goes wrong: broken bytes, killed programs, prying eyes.

mod kills;
mod malicious;
#[cfg(target_os = "linux")]
mod memory;
mod peer;
#[cfg(target_os = "linux")]
mod reach;
mod secrecy;
mod set_up;
#[cfg(target_os = "linux")]
mod storage;

/// Every failure is an error with its story, so that tests read as what they show.
type Outcome = anyhow::Result<()>;
