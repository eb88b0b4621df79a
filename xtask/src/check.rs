//! The short loop: what can be wrong with the change at hand, in a minute or two.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};

use crate::binaries;
use crate::report::Report;
use crate::shell::{command, output};
use crate::{ci, graph, ui};

/// `cargo xtask check`: format, lints, and the tests of the packages that differ from `base`.
pub fn run(base: &str) -> Result<()> {
    let changed = changed(base)?;
    let packages: BTreeSet<_> = changed.iter().filter_map(|file| package_of(file)).collect();
    let has_ui = changed.iter().any(|file| file.starts_with("ui/"));
    let mut report = Report::new();
    let outcome = check(&packages, has_ui, &mut report);
    report.print();
    outcome?;
    let names: Vec<_> = packages.into_iter().chain(has_ui.then_some("ui")).collect();
    println!("\nchecked what differs from {base}: {}", names.join(", "));
    Ok(())
}

fn check(packages: &BTreeSet<&str>, has_ui: bool, report: &mut Report) -> Result<()> {
    report.step("format", ci::format)?;
    report.step("crate graph", graph::run)?;
    if has_ui {
        report.step("ui: types and style", ui::check)?;
        report.step("ui: tests", ui::test)?;
    }
    if packages.is_empty() {
        return Ok(());
    }
    report.step("lints", ci::lints)?;
    let parts: Vec<&str> = packages.iter().copied().collect();
    let selection = binaries::selection(&parts)?;
    let all = report.step("compile tests", || binaries::build(&selection))?;
    for binary in all.iter().filter(|binary| packages.contains(binary.part.as_str())) {
        let mut times = Vec::new();
        let outcome = report.step(&format!("tests: {}", binary.name()), || {
            binary.run(&[], |line| println!("{line}"), &mut times)
        });
        report.tests(times);
        outcome?;
    }
    Ok(())
}

/// The files that differ from a revision, and those that are new.
fn changed(base: &str) -> Result<Vec<String>> {
    let git = |arguments: &[&str]| {
        output(&mut command("git", arguments))
            .with_context(|| format!("`git {}` failed", arguments.join(" ")))
    };
    let since = git(&["merge-base", "HEAD", base])?;
    let differing = git(&["diff", "--name-only", since.trim()])?;
    let new = git(&["ls-files", "--others", "--exclude-standard"])?;
    let files: Vec<_> = differing.lines().chain(new.lines()).map(str::to_owned).collect();
    if files.is_empty() {
        bail!("nothing differs from {base}; `--base HEAD~1` checks the last commit");
    }
    Ok(files)
}

/// The package that a file belongs to, if its own tests can tell whether it is right. Those that start
/// the programs are left to `cargo xtask test`.
fn package_of(file: &str) -> Option<&str> {
    let mut parts = file.split('/');
    match parts.next()? {
        "crates" => parts.next(),
        "src-tauri" => Some("app"),
        "xtask" => Some("xtask"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_belongs_to_its_package() {
        for (file, package) in [
            ("crates/relay/src/main.rs", Some("relay")),
            ("src-tauri/main.rs", Some("app")),
            ("xtask/src/ci.rs", Some("xtask")),
            ("tests/e2e/talk.rs", None),
            ("README.md", None),
        ] {
            assert_eq!(package_of(file), package, "{file}");
        }
    }
}
