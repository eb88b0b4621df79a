//! Where the programs are.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

/// The path of one of the workspace's programs, as cargo built it: beside the program that runs
/// this, or, for a test, in the folder above.
///
/// # Errors
/// If it was not built.
pub fn program(name: &str) -> Result<PathBuf> {
    let this = std::env::current_exe().context("the path of this program")?;
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    if let Some(path) =
        this.ancestors().skip(1).take(2).map(|dir| dir.join(&file)).find(|path| path.is_file())
    {
        return Ok(path);
    }
    bail!("{name} was not built; `cargo xtask test` does that, or `cargo build --workspace`")
}
