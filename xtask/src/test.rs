//! All tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::binaries::{self, Selection, TestBinary};
use crate::generated::Generated;
use crate::packages::{self, Need};
use crate::report::Report;
use crate::shell::{cache, cargo, command, find, output, root, sh, tools};
use crate::{doctor, ui};

/// What `--only` calls the UI's own tests. Everything else is called as its package or test target.
const UI: &str = "ui";
const GUI: &str = "gui";
const CONFORMANCE: &str = "conformance";
/// Parts that run by themselves, in this order: windows and the second implementation last.
const ALONE: [&str; 5] = ["relay", "e2e", "faults", GUI, CONFORMANCE];

/// `cargo xtask test`
pub fn run(no_gui: bool, only: &[String]) -> Result<()> {
    let mut report = Report::new();
    let outcome = Run { no_gui, only, report: &mut report, failed: Vec::new() }.all();
    report.print();
    outcome?;
    let left_out = match (only.is_empty(), no_gui) {
        (false, _) => format!(": {}", only.join(", ")),
        (true, true) => ", those of the windows left out".to_owned(),
        (true, false) => String::new(),
    };
    println!("\nAll tests passed{left_out}.");
    Ok(())
}

struct Run<'a> {
    no_gui: bool,
    only: &'a [String],
    report: &'a mut Report,
    failed: Vec<String>,
}

impl Run<'_> {
    fn wants(&self, part: &str) -> bool {
        (self.only.is_empty() || self.only.iter().any(|only| only == part)) && !(part == GUI && self.no_gui)
    }

    fn all(mut self) -> Result<()> {
        let with_windows = self.wants(GUI);
        let needs: &[Need] = if with_windows { &[Need::Build, Need::Test] } else { &[Need::Build] };
        self.report.step("packages", || packages::install(needs))?;
        doctor::check_node()?;
        // The app's program contains the UI.
        if with_windows || self.wants(UI) {
            self.report.step("ui: build", ui::build)?;
        }
        if self.wants(UI) {
            self.try_step("ui: types and style", ui::check);
            self.try_step("ui: tests", ui::test);
        }
        if self.only.is_empty() || self.only.iter().any(|only| only != UI) {
            self.rust()?;
        }
        if self.failed.is_empty() {
            return Ok(());
        }
        bail!("failed: {}", self.failed.join(", "))
    }

    /// A step after whose failure the others go on.
    fn try_step(&mut self, name: &str, step: impl FnOnce() -> Result<()>) {
        if let Err(error) = self.report.step(name, step) {
            println!("{error:#}");
            self.failed.push(name.to_owned());
        }
    }

    fn rust(&mut self) -> Result<()> {
        let parts: Vec<&str> = self.only.iter().map(String::as_str).filter(|only| *only != UI).collect();
        let selection = match parts.as_slice() {
            [] => Selection::All,
            parts => binaries::selection(parts)?,
        };
        let mut chosen = self.report.step("compile programs and tests", || binaries::build(&selection))?;
        chosen.retain(|binary| self.wants(&binary.part));
        let before = Generated::read()?;
        // Those that keep all cores busy by themselves, or that watch the clock, run alone. The others have
        // one long test each: they run side by side, the longest first.
        let (mut alone, mut small): (Vec<_>, Vec<_>) =
            chosen.into_iter().partition(|binary| ALONE.contains(&binary.part.as_str()));
        alone.sort_by_key(|binary| ALONE.iter().position(|part| *part == binary.part));
        small.sort_by_key(|binary| !matches!(binary.part.as_str(), "vault" | "e2ee"));
        if !small.is_empty() {
            let (times, failed) =
                self.report.step("tests: units", || Ok(binaries::run_side_by_side(&small)))?;
            self.report.tests(times);
            self.failed.extend(failed);
        }
        for binary in &alone {
            self.test(binary);
        }
        if small.iter().any(|binary| binary.part == "client") {
            self.try_step("generated files", || before.compare());
        }
        Ok(())
    }

    fn test(&mut self, binary: &TestBinary) {
        let mut times = Vec::new();
        let name = format!("tests: {}", binary.name());
        self.try_step(&name, || {
            let (driver, python);
            let mut variables = Vec::new();
            match binary.target.as_str() {
                GUI => {
                    driver = driver_of_windows()?;
                    variables = vec![("MILDAM_TAURI_DRIVER", driver.as_path())];
                }
                CONFORMANCE => {
                    python = second_implementation()?;
                    // It stretches passwords in earnest, and so must those whose passwords it knows.
                    variables = vec![
                        ("MILDAM_PYTHON", python.as_path()),
                        ("MILDAM_TEST_PASSWORDS", Path::new("real")),
                    ];
                }
                _ => {}
            }
            binary.run(&variables, |line| println!("{line}"), &mut times)
        });
        self.report.tests(times);
    }
}

/// The interpreter of the second implementation, after it has computed the vectors.
fn second_implementation() -> Result<PathBuf> {
    let folder = root().join("tests/conformance");
    let python = environment(doctor::find_python()?, &folder)?;
    sh(command(&python, &["-m", "mildam_conformance", "vectors", "../../docs/vectors"]).current_dir(&folder))?;
    Ok(python)
}

/// The interpreter of a virtual environment that has the requirements, and nothing else. It is made anew
/// when they or Python have changed, so that the tests need no network otherwise.
fn environment(python: &str, folder: &Path) -> Result<PathBuf> {
    let requirements = folder.join("requirements.txt");
    let version = output(Command::new(python).arg("--version")).unwrap_or_default();
    let wanted = version + &fs::read_to_string(&requirements)?;
    let home = cache().join("conformance");
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

/// Where the program is that drives the windows. Installs it if it is nowhere.
fn driver_of_windows() -> Result<PathBuf> {
    const NAME: &str = "tauri-driver";
    if let Some(driver) = find(NAME) {
        return Ok(driver);
    }
    // Without optimisation it is there sooner, and it does not do much.
    let mut install = cargo(&["install", NAME, "--version", "^2", "--locked", "--debug", "--root"]);
    sh(install.arg(tools()))?;
    find(NAME).context("tauri-driver was installed, but is not there")
}
