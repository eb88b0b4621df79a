//! `cargo xtask`: the one door for people who build, try and test Mildam.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod ci;
mod demo;
mod doctor;
mod documents;
mod fuzz;
mod generated;
mod graph;
mod packages;
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
    },
    /// The checks that every change must pass: format, lints, docs, licences, crate graph, UI.
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
    Bench,
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
        Chore::Test { no_gui } => test::run(no_gui),
        Chore::Ci => ci::run(),
        Chore::Gen { check: true, .. } => generated::check(),
        Chore::Gen { screenshots, .. } => generated::write(screenshots),
        Chore::Graph => graph::run(),
        Chore::Bench => bench::run(),
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
