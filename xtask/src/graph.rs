//! Who may know whom. The rule is written down in docs/architecture.md; this holds it up.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::shell::{cargo, output, root};

/// Each package of the workspace, and the packages of the workspace that it may know. What a
/// package knows only in its own tests is not counted.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("mildam-records", &[]),
    ("mildam-test-keys", &[]),
    ("mildam-protocol", &["mildam-records", "mildam-test-keys"]),
    ("mildam-e2ee", &["mildam-records", "mildam-test-keys"]),
    ("mildam-vault", &["mildam-e2ee", "mildam-records", "mildam-test-keys"]),
    ("mildam-client", &["mildam-protocol", "mildam-e2ee", "mildam-vault", "mildam-records"]),
    ("mildam-relay", &["mildam-protocol", "mildam-records"]),
    ("mildam-cli", &["mildam-client"]),
    ("mildam", &["mildam-client", "mildam-cli"]),
    ("mildam-fuzz", &["mildam-records", "mildam-protocol", "mildam-e2ee", "mildam-vault"]),
    ("mildam-tests", &[]),
    ("xtask", &["mildam-tests"]),
];

/// Packages without input and output: time and randomness are handed to them.
const PURE: &[&str] = &["mildam-records", "mildam-protocol", "mildam-e2ee"];

/// What a pure package must not depend on.
const IMPURE_CRATES: &[&str] =
    &["tokio", "tokio-util", "tokio-rustls", "rustls", "sled", "sqlx", "keyring", "getrandom", "tauri"];

/// What must not stand in the sources of a pure package.
const IMPURE_PATHS: &[&str] = &[
    "std::fs",
    "std::env",
    "std::thread",
    "TcpStream",
    "UdpSocket",
    "SystemTime",
    "Instant::now",
    "tokio::",
];

/// Checks the whole graph and says everything that is wrong with it.
pub fn run() -> Result<()> {
    let packages = packages()?;
    let mut faults = Vec::new();
    for package in &packages {
        check_package(package, &mut faults);
    }
    for name in MAY_KNOW.iter().map(|(name, _)| name) {
        if !packages.iter().any(|package| package.name == *name) {
            faults.push(format!("{name} stands in the table, but not in the workspace"));
        }
    }
    check_pure_sources(&packages, &mut faults)?;
    check_ui_backend(&mut faults)?;
    if faults.is_empty() {
        println!("crate graph: {} packages, each knows only whom it may", packages.len());
        return Ok(());
    }
    bail!("the crate graph is broken:\n  {}", faults.join("\n  "))
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

/// A package of the workspace.
#[derive(Deserialize)]
pub struct Package {
    name: String,
    /// Its `Cargo.toml`.
    pub manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
    /// What it is compiled to.
    pub targets: Vec<Target>,
}

/// Something that cargo compiles a package to.
#[derive(Deserialize)]
pub struct Target {
    /// `mildam_relay`, `e2e`.
    pub name: String,
    #[serde(default)]
    kind: Vec<String>,
    #[serde(default)]
    test: bool,
}

impl Target {
    /// How cargo is told to compile its tests. Libraries have no names there.
    pub fn option(&self) -> Option<String> {
        match self.kind.first()?.as_str() {
            _ if !self.test => None,
            "lib" => Some("--lib".to_owned()),
            kind @ ("bin" | "test") => Some(format!("--{kind}={}", self.name)),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `dev`, `build`, or none for an ordinary one.
    kind: Option<String>,
}

impl Package {
    /// Whether its tests start the programs.
    pub fn starts_programs(&self) -> bool {
        self.name == "mildam-tests"
    }

    fn known(&self) -> impl Iterator<Item = &str> {
        self.dependencies
            .iter()
            .filter(|dependency| dependency.kind.as_deref() != Some("dev"))
            .map(|dependency| dependency.name.as_str())
    }
}

/// The packages of the workspace.
pub fn packages() -> Result<Vec<Package>> {
    let json = output(&mut cargo(&["metadata", "--format-version", "1", "--no-deps"]))
        .context("`cargo metadata` failed")?;
    Ok(serde_json::from_str::<Metadata>(&json)?.packages)
}

fn check_package(package: &Package, faults: &mut Vec<String>) {
    let table: BTreeMap<_, _> = MAY_KNOW.iter().copied().collect();
    let Some(may_know) = table.get(package.name.as_str()) else {
        faults.push(format!("{} is not in the table of xtask/src/graph.rs", package.name));
        return;
    };
    for known in package.known() {
        if table.contains_key(known) && !may_know.contains(&known) {
            faults.push(format!("{} must not know {known}", package.name));
        }
        let pure = PURE.contains(&package.name.as_str());
        if pure && IMPURE_CRATES.contains(&known) {
            faults.push(format!("{} does no input or output, so it must not know {known}", package.name));
        }
        if known == "tauri" && package.name != "mildam" {
            faults.push(format!("only the desktop app knows tauri, not {}", package.name));
        }
    }
}

fn check_pure_sources(packages: &[Package], faults: &mut Vec<String>) -> Result<()> {
    for package in packages.iter().filter(|package| PURE.contains(&package.name.as_str())) {
        let folder = package.manifest_path.parent().context("a manifest has a folder")?.join("src");
        for file in files(&folder, &["rs"])? {
            // Tests may read vectors from files.
            let tests = file.file_stem().is_some_and(|stem| stem == "tests" || stem == "vectors");
            let text = fs::read_to_string(&file)?;
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            for path in IMPURE_PATHS.iter().filter(|path| !tests && code.contains(**path)) {
                faults.push(format!("{} does no input or output, but names {path}", file.display()));
            }
        }
    }
    Ok(())
}

/// All that the UI knows of tauri stays behind one interface.
fn check_ui_backend(faults: &mut Vec<String>) -> Result<()> {
    let sources = root().join("ui/src");
    for file in files(&sources, &["ts", "svelte"])? {
        let imports = fs::read_to_string(&file)?.contains("@tauri-apps/");
        if imports && !file.starts_with(sources.join("lib/backend")) {
            faults.push(format!("{}: only ui/src/lib/backend imports @tauri-apps", file.display()));
        }
    }
    Ok(())
}

fn files(folder: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path, extensions)?);
        } else if path.extension().is_some_and(|end| extensions.iter().any(|wanted| end == *wanted)) {
            found.push(path);
        }
    }
    Ok(found)
}
