//! The web UI: its packages, its build and its own checks.

use std::fs;

use anyhow::Result;

use crate::shell::{npm, root, sh};

/// Installs the packages if they are not the ones of the lock file.
pub fn install() -> Result<()> {
    let ui = root().join("ui");
    let modified = |file: &str| fs::metadata(ui.join(file)).and_then(|data| data.modified()).ok();
    // npm writes this file last, so that it is as old as the folder it describes.
    let installed = modified("node_modules/.package-lock.json");
    if installed.is_some() && installed >= modified("package-lock.json") {
        return Ok(());
    }
    sh(&mut npm(&["ci", "--no-audit", "--no-fund"]))
}

/// Builds what the desktop app shows into `ui/dist`.
pub fn build() -> Result<()> {
    install()?;
    sh(&mut npm(&["run", "build"]))
}

/// Types, message keys and style.
pub fn check() -> Result<()> {
    install()?;
    sh(&mut npm(&["run", "check"]))?;
    sh(&mut npm(&["run", "lint"]))
}

/// The UI's unit tests.
pub fn test() -> Result<()> {
    install()?;
    sh(&mut npm(&["run", "test"]))
}
