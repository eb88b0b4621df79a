//! Compiling everything once, and running the test programs that come of it.
//!
//! All of the workspace is built with all features in one go, so that each dependency is compiled
//! in one form only. `cargo test --package` would choose the features of that package alone, and
//! compile most of the tree again.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::graph::{self, Target};
use crate::shell::{cargo, command, describe, root, sh};

/// What every command chooses that compiles for tests. The fuzz targets are left to `ci`: their
/// main program is libFuzzer.
pub const EVERYTHING: &[&str] = &["--workspace", "--exclude", "mildam-fuzz", "--all-features"];

/// A test program.
#[derive(Clone, Debug)]
pub struct TestBinary {
    /// The part of the tests that it belongs to: see [`selection`].
    pub part: String,
    /// The target's name: `e2e`, or the package's own for its unit tests.
    pub target: String,
    /// The package's folder, in which cargo runs its tests.
    folder: PathBuf,
    path: PathBuf,
}

#[derive(Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
enum Message {
    CompilerArtifact(Artifact),
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Artifact {
    manifest_path: PathBuf,
    target: Target,
    profile: Profile,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// What to compile.
pub enum Selection {
    /// All programs and all tests.
    All,
    /// These targets' tests, and all programs if the tests start them.
    Some { tests: Vec<String>, programs: bool },
}

/// What these parts need. A part is a package by its folder's name, or a test target of the
/// package `tests`, which starts the programs.
///
/// # Errors
/// If there is no such part.
pub fn selection(parts: &[&str]) -> Result<Selection> {
    let (mut tests, mut known, mut programs) = (BTreeSet::new(), BTreeSet::new(), false);
    for package in graph::packages()? {
        for target in &package.targets {
            let (part, option) = (part(&package.manifest_path, &target.name), target.option());
            if parts.contains(&part.as_str()) {
                tests.extend(option.iter().cloned());
                programs |= package.starts_programs();
            }
            known.extend(option.map(|_| part));
        }
    }
    if let Some(unknown) = parts.iter().find(|part| !known.contains(**part)) {
        let known: Vec<_> = known.into_iter().collect();
        bail!("there are no tests called {unknown}; there are: ui, {}", known.join(", "));
    }
    Ok(Selection::Some { tests: tests.into_iter().collect(), programs })
}

/// What a target is a part of.
fn part(manifest: &Path, target: &str) -> String {
    let folder = manifest.parent().unwrap_or(manifest);
    if folder == root().join("tests") {
        return target.to_owned();
    }
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    if folder == root() { "app".to_owned() } else { name.into_owned() }
}

/// Builds programs and tests, and tells where the tests are.
pub fn build(selection: &Selection) -> Result<Vec<TestBinary>> {
    match selection {
        // `build` makes programs and, of what is called tests, the test programs: all at once.
        Selection::All => compile(cargo(&["build", "--bins", "--tests"])),
        // Of a library that is chosen by itself it would make the library. `test` makes its tests, and no
        // programs.
        Selection::Some { tests, programs } => {
            if *programs {
                compile(cargo(&["build", "--bins"]))?;
            }
            let mut test = cargo(&["test", "--no-run"]);
            test.args(tests);
            compile(test)
        }
    }
}

fn compile(mut build: Command) -> Result<Vec<TestBinary>> {
    build.args(EVERYTHING).args(["--message-format", "json-render-diagnostics"]);
    println!("$ {}", describe(&build));
    let mut build = build.stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let stdout = build.stdout.take().context("stdout of cargo")?;
    let mut binaries = Vec::new();
    for line in BufReader::new(stdout).lines() {
        // Other lines are what build scripts and compiler plugins say for people.
        if let Ok(Message::CompilerArtifact(artifact)) = serde_json::from_str(&line?) {
            binaries.extend(test_binary(artifact));
        }
    }
    if !build.wait()?.success() {
        bail!("the workspace does not compile");
    }
    Ok(binaries)
}

fn test_binary(artifact: Artifact) -> Option<TestBinary> {
    let path = artifact.executable.filter(|_| artifact.profile.test)?;
    let folder = artifact.manifest_path.parent()?.to_path_buf();
    let part = part(&artifact.manifest_path, &artifact.target.name);
    Some(TestBinary { part, target: artifact.target.name, folder, path })
}

impl TestBinary {
    /// Its part and target.
    pub fn name(&self) -> String {
        if self.part == self.target { self.part.clone() } else { format!("{} {}", self.part, self.target) }
    }

    /// Runs its tests under these variables, gives each line of their output to `show`, and adds how long
    /// each took to `times`.
    ///
    /// # Errors
    /// If a test fails.
    pub fn run(
        &self,
        variables: &[(&str, &Path)],
        mut show: impl FnMut(&str),
        times: &mut Vec<(String, Duration)>,
    ) -> Result<()> {
        let mut run = self.command(&["-Z", "unstable-options", "--report-time"]);
        // The times are unstable, so the test harness of a stable compiler tells them only if it is told
        // that it may. Nothing is compiled under this variable.
        run.env("RUSTC_BOOTSTRAP", "1").envs(variables.iter().copied());
        show(&format!("\n     Running {} ({})", self.name(), self.path.display()));
        let mut child =
            run.stdout(Stdio::piped()).spawn().with_context(|| self.path.display().to_string())?;
        for line in BufReader::new(child.stdout.take().context("stdout of a test")?).split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            show(&line);
            times.extend(time_of(&line).map(|(test, took)| (format!("{} {test}", self.name()), took)));
        }
        if !child.wait()?.success() {
            bail!("tests of {} failed", self.name());
        }
        Ok(())
    }

    /// Runs the tests with `filter` in their name, which write the files that they otherwise compare.
    ///
    /// # Errors
    /// If a test fails.
    pub fn write_vectors(&self, filter: &str) -> Result<()> {
        sh(self.command(&["--quiet", filter]).env("MILDAM_WRITE_VECTORS", "1"))
    }

    /// The program as cargo would run it.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(&self.path, arguments);
        command.current_dir(&self.folder).env("CARGO_MANIFEST_DIR", &self.folder);
        command
    }
}

/// Runs test programs side by side, one for each core. The output of each is printed as a whole when it has
/// ended. Tells how long their tests took, and the names of those that failed.
pub fn run_side_by_side(binaries: &[TestBinary]) -> (Vec<(String, Duration)>, Vec<String>) {
    let waiting = Mutex::new(binaries.iter());
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
    let outcome = Mutex::new((Vec::new(), Vec::new()));
    let lane = || {
        while let Some(binary) = next() {
            let (mut output, mut times) = (String::new(), Vec::new());
            let ran = binary.run(&[], |line| output.extend([line, "\n"]), &mut times);
            let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
            println!("{output}");
            if let Err(error) = ran {
                println!("{error:#}");
                outcome.1.push(binary.name());
            }
            outcome.0.extend(times);
        }
    };
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(lane);
        }
    });
    outcome.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// The test and its time in a line as `test talk::a_pair_has_one_room ... ok <1.234s>`.
fn time_of(line: &str) -> Option<(&str, Duration)> {
    let (name, rest) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let seconds = rest.trim_end().strip_suffix("s>")?.rsplit_once('<')?.1;
    Some((name, Duration::try_from_secs_f64(seconds.parse().ok()?).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_test_harness_tells_name_and_time() {
        let line = "test talk::a_pair_has_one_room ... ok <1.250s>";
        assert_eq!(time_of(line), Some(("talk::a_pair_has_one_room", Duration::from_millis(1250))));
        let failed = "test talk::a_pair_has_one_room ... FAILED <0.5s>";
        assert_eq!(time_of(failed), Some(("talk::a_pair_has_one_room", Duration::from_millis(500))));
        for line in ["test result: ok. 3 passed; 0 failed", "running 3 tests", "test x ... ignored", ""] {
            assert_eq!(time_of(line), None, "{line}");
        }
    }
}
