//! All tests.

use anyhow::Result;

use crate::packages::{self, Need};
use crate::shell::{cargo, find, sh, tools};
use crate::{doctor, ui};

/// `cargo xtask test`
pub fn run(no_gui: bool) -> Result<()> {
    let needs: &[Need] = if no_gui { &[Need::Build] } else { &[Need::Build, Need::Test] };
    packages::install(needs)?;
    doctor::check_node()?;
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
    println!("\nAll tests passed{}.", if no_gui { ", those of the windows left out" } else { "" });
    Ok(())
}

fn install_driver() -> Result<()> {
    if find("tauri-driver").is_some() {
        return Ok(());
    }
    let tools = tools();
    let mut install = cargo(&["install", "tauri-driver", "--version", "^2", "--locked", "--root"]);
    sh(install.arg(tools))
}
