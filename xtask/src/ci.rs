//! The checks that every change must pass, beside the tests.

use anyhow::{Result, bail};

use crate::linters::{self, Linter};
use crate::packages::{self, Need};
use crate::report::Report;
use crate::shell::{cargo, command, sh};
use crate::{documents, graph};

/// A check and its name.
type Check = (&'static str, fn() -> Result<()>);

const CHECKS: &[Check] = &[
    ("format", format),
    ("crate graph", graph::run),
    ("documents", documents::run),
    ("spelling", || linters::run(Linter::Typos, &[])),
    ("unused dependencies", || linters::run(Linter::Machete, &[])),
    ("dependencies", dependencies),
    ("lints", lints),
    ("test keys", test_keys),
    ("docs", || {
        let document = ["doc", "--workspace", "--all-features", "--no-deps", "--document-private-items"];
        sh(cargo(&document).env("RUSTDOCFLAGS", "-D warnings"))
    }),
];

/// `cargo xtask ci`: runs all checks, and then says which failed.
pub fn run() -> Result<()> {
    packages::install(&[Need::Build])?;
    let mut report = Report::new();
    let mut failed = Vec::new();
    for (name, check) in CHECKS {
        if let Err(error) = report.step(name, check) {
            println!("{error:#}");
            failed.push(*name);
        }
    }
    report.print();
    println!("\nci: {} of {} checks passed", CHECKS.len() - failed.len(), CHECKS.len());
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
}

/// That the sources are formatted.
pub fn format() -> Result<()> {
    sh(&mut cargo(&["fmt", "--all", "--check"]))
}

/// Clippy over everything, with the features that the tests are built with. The fuzz targets are in it.
pub fn lints() -> Result<()> {
    sh(&mut cargo(&["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"]))
}

/// That no release can have keys that are no secret: the crates that make keys do not compile with the
/// feature `testing` and without debug assertions. The compiler says so before it looks for the crates
/// that they use, so it needs none.
fn test_keys() -> Result<()> {
    for package in ["protocol", "e2ee", "vault"] {
        for (assertions, refused) in [("on", false), ("off", true)] {
            let mut compile =
                command("rustc", &["--edition", "2024", "--crate-type", "lib", "--emit", "metadata"]);
            compile.args(["--cfg", "feature=\"testing\"", "-C", &format!("debug-assertions={assertions}")]);
            let source = format!("crates/{package}/src/lib.rs");
            let output = compile.args(["-o", "-"]).arg(source).output()?;
            let says = String::from_utf8_lossy(&output.stderr);
            if output.status.success() || says.contains("never in a release") != refused {
                bail!("{package}, debug assertions {assertions}: a release could have the keys of tests");
            }
        }
    }
    println!("test keys: no release can have them");
    Ok(())
}

/// Licences, sources and duplicates always; known vulnerabilities only where their list, which is
/// a git repository, can be fetched.
fn dependencies() -> Result<()> {
    linters::run(Linter::Deny, &["check", "bans", "licenses", "sources"])?;
    let deny = linters::find_or_install(Linter::Deny)?;
    if command(&deny, &["fetch", "db"]).status().is_ok_and(|status| status.success()) {
        return sh(&mut command(deny, &["check", "--disable-fetch", "advisories"]));
    }
    println!("left out: the list of advisories cannot be fetched from here");
    Ok(())
}
