//! What Mildam costs.

use anyhow::Result;
use clap::Subcommand;

use crate::shell::{cargo, sh};

/// What else can be measured.
#[derive(Subcommand)]
pub enum What {
    /// Measure what a relay bears: a real process, by real session frames over TLS. Linux only; takes ten
    /// to fifteen minutes.
    Relay {
        /// Only this figure: `bare`, `throughput`, `latency`, `room`, `idle` or `hostile`.
        figure: Option<String>,
        /// One short run of each, to see that it works.
        #[arg(long)]
        quick: bool,
    },
}

/// `cargo xtask bench`: builds with optimisation, and prints one table.
pub fn run(what: Option<What>) -> Result<()> {
    let mut bench = cargo(&["bench", "--package", "mildam-tests", "--bench", "bench"]);
    if let Some(What::Relay { figure, quick }) = what {
        // By itself, so that it has no feature that only tests want.
        sh(&mut cargo(&["build", "--release", "--package", "mildam-relay"]))?;
        bench.args(["--", "relay"]).args(figure);
        if quick {
            bench.arg("--quick");
        }
    }
    sh(&mut bench)
}
