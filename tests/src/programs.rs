//! Where the programs are.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// The path of one of the workspace's programs, as cargo built it: in the target folder, or beside the
/// program that runs this, or, for a test, in the folder above.
///
/// # Errors
/// If it was not built.
pub fn program(name: &str) -> Result<PathBuf> {
    let this = env::current_exe().context("the path of this program")?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir));
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let file = format!("{name}{}", env::consts::EXE_SUFFIX);
    // Cargo's build folder, where a test lies, may be another one, and serve other checkouts as well.
    let beside = this.ancestors().skip(1).take(2).map(Path::to_path_buf);
    let folders = [target.join(profile)].into_iter().chain(beside);
    if let Some(path) = folders.map(|dir| dir.join(&file)).find(|path| path.is_file()) {
        return path.canonicalize().context("the path of a program");
    }
    bail!("{name} was not built; `cargo xtask test` does that, or `cargo build --workspace`")
}
