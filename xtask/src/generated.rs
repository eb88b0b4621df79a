//! Files that are written by programs and kept in the repository.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::shell::{cargo, root, sh, target};

/// Where generated files stand.
const PLACES: &[&str] = &["ui/src/lib/backend", "docs/vectors"];

/// Writes all of them anew.
pub fn write(screenshots: bool) -> Result<()> {
    // ts-rs writes the TypeScript types of the client's views as a test.
    sh(&mut cargo(&[
        "test",
        "--quiet",
        "--package",
        "mildam-client",
        "--features",
        "ts",
        "export_bindings",
    ]))?;
    // The tests that compare the vectors write them instead, if they are told to.
    for tests in [&["mildam-protocol", "--lib", "vectors"] as &[&str], &["mildam-e2ee", "--test", "vectors"]]
    {
        let mut write = cargo(&["test", "--quiet", "--package"]);
        sh(write.args(tests).env("MILDAM_WRITE_VECTORS", "1"))?;
    }
    if screenshots {
        copy_screenshots()?;
    }
    Ok(())
}

/// Fails if writing them anew changes one.
pub fn check() -> Result<()> {
    let before = contents()?;
    write(false)?;
    let after = contents()?;
    let changed: Vec<_> = before
        .keys()
        .chain(after.keys())
        .filter(|path| before.get(*path) != after.get(*path))
        .map(|path| path.display().to_string())
        .collect();
    if changed.is_empty() {
        println!("generated files: up to date");
        return Ok(());
    }
    bail!("generated files were out of date (now written anew):\n  {}", changed.join("\n  "))
}

fn contents() -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut contents = BTreeMap::new();
    for place in PLACES {
        for entry in fs::read_dir(root().join(place))? {
            let path = entry?.path();
            if path.is_file() {
                contents.insert(path.strip_prefix(root()).unwrap_or(&path).to_path_buf(), fs::read(&path)?);
            }
        }
    }
    Ok(contents)
}

fn copy_screenshots() -> Result<()> {
    let (from, to) = (target().join("screenshots"), root().join("docs/screenshots"));
    let mut copied = 0;
    fs::create_dir_all(&to)?;
    for entry in fs::read_dir(&from).into_iter().flatten() {
        let path = entry?.path();
        if let (Some(name), true) = (path.file_name(), path.extension().is_some_and(|end| end == "png")) {
            // Only those that the pages show: a new one is put there by hand once.
            let kept: &Path = &to.join(name);
            if kept.exists() {
                fs::copy(&path, kept)?;
                copied += 1;
            }
        }
    }
    if copied == 0 {
        bail!("no screenshots in {}: run `cargo xtask test` first", from.display());
    }
    println!("{copied} screenshots copied to docs/screenshots");
    Ok(())
}
