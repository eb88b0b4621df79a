//! `cargo xtask`: the one door for people who build, try and test Mildam.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod binaries;
mod check;
mod ci;
mod demo;
mod doctor;
mod documents;
mod fuzz;
mod generated;
mod graph;
mod linters;
mod packages;
mod report;
mod shell;
mod test;
mod ui;

/// Mildam's chores.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Say what this machine lacks, and how its packages are called on other systems.
    Doctor,
    /// Build everything, start a relay, and open two windows: Alice and Bob, ready to type.
    Demo {
        /// Play the conversation through the command line instead, and print it.
        #[arg(long)]
        headless: bool,
    },
    /// Install what the tests need, then run all of them: units, vectors, end to end, windows.
    Test {
        /// Leave out the tests that open windows.
        #[arg(long)]
        no_gui: bool,
        /// Only these: `ui`, a package as `relay`, or a test target as `e2e`, `faults`, `gui`, `conformance`.
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
    },
    /// The short loop: format, lints, and the unit tests of what you changed.
    Check {
        /// The revision that the change is compared with.
        #[arg(long, default_value = "main")]
        base: String,
    },
    /// The checks that every change must pass beside the tests: format, lints, docs, licences, crate graph.
    Ci,
    /// Write generated files anew: the window's TypeScript types and the test vectors.
    Gen {
        /// Only say whether they are up to date.
        #[arg(long)]
        check: bool,
        /// Take the screenshots of the last GUI test over into docs/screenshots as well.
        #[arg(long, conflicts_with = "check")]
        screenshots: bool,
    },
    /// Check who may know whom.
    Graph,
    /// Measure what messages, epochs and a sync cost, beside the bare primitives; takes some minutes.
    Bench {
        #[command(subcommand)]
        what: Option<bench::What>,
    },
    /// Feed the decoders, and a conversation, what nobody thought of. Needs cargo-fuzz and a nightly Rust.
    Fuzz {
        /// Only this target.
        target: Option<String>,
        /// How long each target runs.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().chore {
        Chore::Doctor => doctor::run(),
        Chore::Demo { headless } => demo::run(headless),
        Chore::Test { no_gui, only } => test::run(no_gui, &only),
        Chore::Check { base } => check::run(&base),
        Chore::Ci => ci::run(),
        Chore::Gen { check: true, .. } => generated::check(),
        Chore::Gen { screenshots, .. } => generated::write(screenshots),
        Chore::Graph => graph::run(),
        Chore::Bench { what } => bench::run(what),
        Chore::Fuzz { target, seconds } => fuzz::run(target.as_deref(), seconds),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nxtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
