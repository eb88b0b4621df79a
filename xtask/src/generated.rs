//! Files that are written by programs and kept in the repository.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::binaries::{self, Selection};
use crate::shell::{root, target};

/// Where generated files stand.
const PLACES: &[&str] = &["ui/src/lib/backend", "docs/vectors"];

/// Who writes them: package, test target, and the tests. The TypeScript types of the client's views
/// are written by their tests in any case, the vectors only if the tests are told to; otherwise they
/// are compared.
const WRITERS: &[(&str, &str, &str)] = &[
    ("client", "mildam_client", "export_bindings"),
    ("protocol", "mildam_protocol", "vectors"),
    ("e2ee", "vectors", ""),
];

/// Writes all of them anew.
pub fn write(screenshots: bool) -> Result<()> {
    let binaries = binaries::build(&Selection::All)?;
    for (package, target, filter) in WRITERS {
        let writer = binaries.iter().find(|binary| binary.part == *package && binary.target == *target);
        let writer = writer.with_context(|| format!("{package} has no test target {target}"))?;
        writer.write_vectors(filter)?;
    }
    if screenshots {
        copy_screenshots()?;
    }
    Ok(())
}

/// Fails if writing them anew changes one.
pub fn check() -> Result<()> {
    let before = Generated::read()?;
    write(false)?;
    before.compare()
}

/// Their contents at some time.
pub struct Generated(BTreeMap<PathBuf, Vec<u8>>);

impl Generated {
    /// Reads them.
    pub fn read() -> Result<Self> {
        let mut contents = BTreeMap::new();
        for place in PLACES {
            for entry in fs::read_dir(root().join(place))? {
                let path = entry?.path();
                if path.is_file() {
                    contents
                        .insert(path.strip_prefix(root()).unwrap_or(&path).to_path_buf(), fs::read(&path)?);
                }
            }
        }
        Ok(Self(contents))
    }

    /// Fails if they are others now.
    pub fn compare(&self) -> Result<()> {
        let (before, after) = (&self.0, Self::read()?.0);
        let paths: BTreeSet<_> = before.keys().chain(after.keys()).collect();
        let changed: Vec<_> = paths
            .into_iter()
            .filter(|path| before.get(*path) != after.get(*path))
            .map(|path| path.display().to_string())
            .collect();
        if changed.is_empty() {
            println!("generated files: up to date");
            return Ok(());
        }
        bail!("generated files were out of date (now written anew):\n  {}", changed.join("\n  "))
    }
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
