//! Linters that are programs of their own. What is not installed is installed beside the build.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::doctor;
use crate::shell::{cache, cargo, command, find, sh, tools};

/// A linter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linter {
    /// Licences, sources and advisories of dependencies.
    Deny,
    /// Dependencies that nobody uses.
    Machete,
    /// Spelling.
    Typos,
}

impl Linter {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Deny, Self::Machete, Self::Typos];

    /// The program's name.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Deny => "cargo-deny",
            Self::Machete => "cargo-machete",
            Self::Typos => "typos",
        }
    }

    /// What it looks at.
    pub const fn purpose(self) -> &'static str {
        match self {
            Self::Deny => "licences, sources and advisories of dependencies",
            Self::Machete => "dependencies that nobody uses",
            Self::Typos => "spelling",
        }
    }

    const fn version(self) -> &'static str {
        match self {
            Self::Deny => "0.20.2",
            Self::Machete => "0.9.2",
            Self::Typos => "1.52.0",
        }
    }
}

/// Runs a linter over the workspace.
pub fn run(linter: Linter, arguments: &[&str]) -> Result<()> {
    sh(&mut command(find_or_install(linter)?, arguments))
}

/// Where the linter is. Installs it if it is nowhere.
pub fn find_or_install(linter: Linter) -> Result<PathBuf> {
    let name = linter.program();
    if let Some(program) = find(name) {
        return Ok(program);
    }
    println!("Installing {name}: {}", linter.purpose());
    match linter {
        // Its package for Python holds the compiled program, which is there in seconds.
        Linter::Typos => {
            let home = cache().join("typos");
            sh(command(doctor::find_python()?, &["-m", "venv", "--clear"]).arg(&home))?;
            let folder = home.join(if cfg!(windows) { "Scripts" } else { "bin" });
            let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
            let package = format!("typos=={}", linter.version());
            sh(command(folder.join("python"), &pip).arg(package))?;
            std::fs::create_dir_all(tools().join("bin"))?;
            let program = format!("{name}{}", std::env::consts::EXE_SUFFIX);
            std::fs::copy(folder.join(&program), tools().join("bin").join(&program))?;
        }
        // Without optimisation they are there sooner, and they do not do much.
        Linter::Deny | Linter::Machete => {
            let mut install = cargo(&["install", name, "--version", linter.version(), "--locked", "--debug"]);
            sh(install.arg("--root").arg(tools()))?;
        }
    }
    find(name).with_context(|| format!("{name} was installed, but is not there"))
}
