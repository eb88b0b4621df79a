//! The checks that every change must pass.

use anyhow::{Result, bail};

use crate::packages::{self, Need};
use crate::shell::{cargo, command, find, sh};
use crate::{doctor, documents, fuzz, generated, graph, ui};

/// Tools that take longer to build than the checks to run, so they are used only where they are.
pub const OPTIONAL_TOOLS: &[(&str, &str)] = &[
    ("cargo-deny", "licences, sources and advisories of dependencies"),
    ("cargo-machete", "dependencies that nobody uses"),
    ("typos", "spelling"),
];

/// A check and its name.
type Check = (&'static str, fn() -> Result<()>);

/// Runs all checks, and then says which failed.
fn run_all(checks: &[Check]) -> Result<()> {
    let mut failed = Vec::new();
    for (name, check) in checks {
        println!("\n== {name}");
        if let Err(error) = check() {
            println!("{error:#}");
            failed.push(*name);
        }
    }
    println!("\nci: {} of {} checks passed", checks.len() - failed.len(), checks.len());
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
}

/// `cargo xtask ci`
pub fn run() -> Result<()> {
    packages::install(&[Need::Build])?;
    doctor::check_node()?;
    run_all(&[
        ("format", || sh(&mut cargo(&["fmt", "--all", "--check"]))),
        ("crate graph", graph::run),
        ("documents", documents::run),
        ("ui", || ui::check().and_then(|()| ui::build())),
        ("lints", || {
            sh(&mut cargo(&[
                "clippy",
                "--workspace",
                "--all-targets",
                "--all-features",
                "--",
                "-D",
                "warnings",
            ]))
        }),
        ("fuzz targets", fuzz::check),
        ("docs", || {
            sh(cargo(&["doc", "--workspace", "--no-deps", "--document-private-items"])
                .env("RUSTDOCFLAGS", "-D warnings"))
        }),
        ("generated files", generated::check),
        ("dependencies", dependencies),
        ("unused dependencies", || optional("cargo-machete", &[])),
        ("spelling", || optional("typos", &[])),
    ])
}

/// Licences, sources and duplicates always; known vulnerabilities only where their list, which is
/// a git repository, can be fetched.
fn dependencies() -> Result<()> {
    optional("cargo-deny", &["check", "bans", "licenses", "sources"])?;
    let Some(deny) = find("cargo-deny") else { return Ok(()) };
    if command(&deny, &["fetch", "db"]).status().is_ok_and(|status| status.success()) {
        return sh(&mut command(deny, &["check", "--disable-fetch", "advisories"]));
    }
    println!("left out: the list of advisories cannot be fetched from here");
    Ok(())
}

fn optional(tool: &str, arguments: &[&str]) -> Result<()> {
    match find(tool) {
        Some(program) => sh(&mut command(program, arguments)),
        None => {
            let package = if tool == "typos" { "typos-cli" } else { tool };
            println!("left out: {tool} is not installed (cargo install --locked {package})");
            Ok(())
        }
    }
}
