//! All tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::packages::{self, Need};
use crate::shell::{cargo, command, find, output, root, sh, target, tools};
use crate::{doctor, ui};

/// `cargo xtask test`
pub fn run(no_gui: bool) -> Result<()> {
    let needs: &[Need] = if no_gui { &[Need::Build] } else { &[Need::Build, Need::Test] };
    packages::install(needs)?;
    doctor::check_node()?;
    let python = doctor::find_python()?;
    if !no_gui {
        install_driver()?;
    }
    ui::build()?;
    ui::check()?;
    ui::test()?;
    // The tests start the real programs, which cargo does not build for them by itself.
    sh(&mut cargo(&["build", "--workspace"]))?;
    sh(&mut cargo(&["test", "--workspace", "--no-fail-fast"]))?;
    if !no_gui {
        sh(&mut cargo(&["test", "--package", "mildam-tests", "--features", "gui", "--test", "gui"]))?;
    }
    conformance(python)?;
    println!("\nAll tests passed{}.", if no_gui { ", those of the windows left out" } else { "" });
    Ok(())
}

/// The second implementation: whether it computes the vectors, and whether it can talk with the programs.
fn conformance(python: &str) -> Result<()> {
    let folder = root().join("tests/conformance");
    let python = environment(python, &folder)?;
    sh(command(&python, &["-m", "mildam_conformance", "vectors", "../../docs/vectors"]).current_dir(&folder))?;
    let test = ["test", "--package", "mildam-tests", "--features", "conformance", "--test", "conformance"];
    sh(cargo(&test).env("MILDAM_PYTHON", &python))?;
    println!("\nThe second implementation computes the vectors, and talks with the relay and the client.");
    Ok(())
}

/// The interpreter of a virtual environment that has the requirements, and nothing else. It is made anew
/// when they or Python have changed, so that the tests need no network otherwise.
fn environment(python: &str, folder: &Path) -> Result<PathBuf> {
    let requirements = folder.join("requirements.txt");
    let version = output(Command::new(python).arg("--version")).unwrap_or_default();
    let wanted = version + &fs::read_to_string(&requirements)?;
    let home = target().join("conformance");
    let interpreter = home.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let stamp = home.join("installed.txt");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(interpreter);
    }
    sh(command(python, &["-m", "venv", "--clear"]).arg(&home))?;
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"];
    sh(command(&interpreter, &install).arg("--requirement").arg(&requirements))?;
    fs::write(&stamp, wanted)?;
    Ok(interpreter)
}

fn install_driver() -> Result<()> {
    if find("tauri-driver").is_some() {
        return Ok(());
    }
    let tools = tools();
    let mut install = cargo(&["install", "tauri-driver", "--version", "^2", "--locked", "--root"]);
    sh(install.arg(tools))
}
