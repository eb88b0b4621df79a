//! What Mildam costs.

use anyhow::Result;

use crate::shell::{cargo, sh};

/// `cargo xtask bench`: builds with optimisation, and prints one table.
pub fn run() -> Result<()> {
    sh(&mut cargo(&["bench", "--package", "mildam-tests", "--bench", "bench"]))
}
