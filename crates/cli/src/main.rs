//! `mildam`: the messenger for scripts, bots and tests.

mod args;
mod listen;
mod output;
mod run;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = args::Args::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("MILDAM_LOG"))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        // They would be told on standard error, which is what has failed.
        .log_internal_errors(false)
        .init();
    // What this program makes is its owner's alone, whatever libraries would do.
    #[cfg(unix)]
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let output = output::Output::new(args.json);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::complain(&format!("mildam: cannot start: {error}"));
            return ExitCode::from(output::REFUSED);
        }
    };
    match runtime.block_on(run::run(args, &output)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => output.failure(&failure),
    }
}
