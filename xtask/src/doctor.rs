//! What this machine lacks.

use std::process::Command;

use anyhow::{Result, bail};

use crate::linters::Linter;
use crate::packages::{Need, PACKAGES};
use crate::shell::{find, output};

/// The oldest Node that the UI's tools run on.
const NODE: (u32, u32) = (20, 19);

/// The oldest Python that the second implementation runs on.
const PYTHON: (u32, u32) = (3, 11);

/// Prints everything that is needed and whether it is here; fails if a build would.
pub fn run() -> Result<()> {
    let node = check_node();
    println!("To build and run the demo");
    line(find("cargo").is_some(), "cargo", "Rust: https://rustup.rs");
    line(node.is_ok(), "node, npm", &format!("the UI's tools: Node {}.{} or newer", NODE.0, NODE.1));
    let mut lacking = packages(Need::Build);
    println!("\nTo run all tests");
    let tests = packages(Need::Test);
    line(find("tauri-driver").is_some(), "tauri-driver", "drives the app; `cargo xtask test` installs it");
    let python = find_python();
    if !cfg!(target_os = "linux") {
        let purpose = format!("the second implementation: {}.{} or newer", PYTHON.0, PYTHON.1);
        line(python.is_ok(), "python3", &purpose);
    }
    println!("\nFor `cargo xtask ci`, which installs them");
    for linter in Linter::ALL {
        line(find(linter.program()).is_some(), linter.program(), linter.purpose());
    }
    println!("\nFor `cargo xtask fuzz`");
    line(find("cargo-fuzz").is_some(), "cargo-fuzz", "and a nightly Rust, for the sanitizers");
    if cfg!(target_os = "linux") {
        println!("\nNames of all packages");
        names("Debian, Ubuntu", "sudo apt install", |package| package.apt);
        names("Fedora", "sudo dnf install", |package| package.dnf);
        names("Arch", "sudo pacman -S", |package| package.pacman);
    }
    println!("\nOther systems");
    println!("  macOS    xcode-select --install; the web view is part of the system");
    println!("  Windows  Visual Studio Build Tools with \"Desktop development with C++\"; WebView2 comes");
    println!("           with Windows 11 (Windows 10: winget install Microsoft.EdgeWebView2Runtime)");
    if let Err(error) = node {
        println!("\n{error:#}");
        lacking += 1;
    }
    if let Err(error) = &python {
        println!("\n{error:#}");
    }
    println!();
    match (lacking, tests) {
        (0, 0) if python.is_err() => println!("Everything that a build needs is here."),
        (0, 0) => println!("Nothing is missing."),
        (0, _) => println!("Everything that a build needs is here; `cargo xtask test` installs the rest."),
        _ => bail!("`cargo xtask demo` installs the missing packages on Debian and Ubuntu"),
    }
    Ok(())
}

/// Fails with words that help if Node is missing or too old.
pub fn check_node() -> Result<()> {
    let help = "install Node from https://nodejs.org or your system's packages";
    let Some(version) = output(Command::new("node").arg("--version")) else {
        bail!("Node is missing: {help}");
    };
    let version = version.trim();
    let mut parts = version.trim_start_matches('v').split('.').map_while(|part| part.parse().ok());
    if (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) < NODE {
        bail!("Node {version} is older than {}.{}: {help}", NODE.0, NODE.1);
    }
    if find(if cfg!(windows) { "npm.cmd" } else { "npm" }).is_none() && find("npm").is_none() {
        bail!("Node is here, but npm is missing: {help}");
    }
    Ok(())
}

/// A Python that is new enough and can make virtual environments. Fails with words that help if there is none.
pub fn find_python() -> Result<&'static str> {
    // A virtual environment needs the packages that come with `ensurepip`, which Debian parts from Python.
    let check =
        format!("import ensurepip, sys, venv; sys.exit(sys.version_info < ({}, {}))", PYTHON.0, PYTHON.1);
    let fits = |python: &&str| output(Command::new(python).args(["-c", &check])).is_some();
    match ["python3", "python"].into_iter().find(fits) {
        Some(python) => Ok(python),
        None => bail!(
            "Python {}.{} or newer with `venv` is missing: install it from https://www.python.org or your system's \
             packages\n  Debian, Ubuntu: sudo apt install python3 python3-venv\n  Fedora: sudo dnf install python3\n  \
             Arch: sudo pacman -S python",
            PYTHON.0,
            PYTHON.1
        ),
    }
}

/// Prints the packages of one kind and tells how many are missing.
fn packages(need: Need) -> usize {
    if !cfg!(target_os = "linux") {
        return 0;
    }
    let mut missing = 0;
    for package in PACKAGES.iter().filter(|package| package.need == need) {
        let here = package.is_here();
        missing += usize::from(!here);
        line(here, package.apt, package.purpose);
    }
    missing
}

fn line(here: bool, what: &str, purpose: &str) {
    println!("  {} {what:24} {purpose}", if here { "ok     " } else { "MISSING" });
}

fn names(system: &str, command: &str, name: fn(&crate::packages::Package) -> &'static str) {
    let mut names: Vec<_> = PACKAGES.iter().map(name).collect();
    names.sort_unstable();
    names.dedup();
    println!("  {system}: {command} {}", names.join(" "));
}
