//! The documents: that what they point to is there.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::shell::{output, root};

/// The tests that the threat model names must exist, and so must the files that any page links to.
pub fn run() -> Result<()> {
    let sources = sources()?;
    let pages: Vec<&PathBuf> =
        sources.iter().filter(|file| file.extension().is_some_and(|end| end == "md")).collect();
    let mut faults = Vec::new();
    for page in &pages {
        check_links(page, &mut faults)?;
    }
    let tests = test_names(&sources)?;
    let threat_model = fs::read_to_string(root().join("docs/threat-model.md"))?;
    let mut named = 0;
    for name in threat_model.split('`').skip(1).step_by(2).filter(|name| is_test_name(name)) {
        named += 1;
        if !tests.iter().any(|test| test == name) {
            faults.push(format!("docs/threat-model.md names the test {name}, which does not exist"));
        }
    }
    if faults.is_empty() {
        println!("documents: {} pages, {named} tests named by the threat model", pages.len());
        return Ok(());
    }
    bail!("{}", faults.join("\n"))
}

/// Tests are named by sentences: several words, joined by underscores.
fn is_test_name(name: &str) -> bool {
    name.matches('_').count() >= 3
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

fn sources() -> Result<Vec<PathBuf>> {
    let mut list = crate::shell::command("git", &["ls-files", "--cached", "--others", "--exclude-standard"]);
    let Some(list) = output(&mut list) else { bail!("`git ls-files` failed: this needs a git checkout") };
    Ok(list.lines().map(|line| root().join(line)).filter(|file| file.is_file()).collect())
}

fn test_names(sources: &[PathBuf]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for file in sources.iter().filter(|file| file.extension().is_some_and(|end| end == "rs")) {
        let text = fs::read_to_string(file)?;
        let functions = text.split("fn ").skip(1).filter_map(|rest| rest.split_once('('));
        names.extend(functions.map(|(name, _)| name.to_owned()).filter(|name| is_test_name(name)));
    }
    Ok(names)
}

fn check_links(page: &Path, faults: &mut Vec<String>) -> Result<()> {
    let text = fs::read_to_string(page)?;
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    for (target, _) in targets {
        let file = target.split('#').next().unwrap_or_default();
        if file.is_empty() || target.contains("://") {
            continue;
        }
        if !page.with_file_name(file).exists() {
            faults.push(format!("{}: no file {file}", page.strip_prefix(root()).unwrap_or(page).display()));
        }
    }
    Ok(())
}
