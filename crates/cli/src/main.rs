//! `mildam`: the messenger for scripts, bots and tests.

mod args;
mod listen;
mod output;
mod run;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = args::Args::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("MILDAM_LOG"))
        .with_writer(std::io::stderr)
        .init();
    let output = output::Output { json: args.json };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("mildam: cannot start: {error}");
            return ExitCode::from(output::REFUSED);
        }
    };
    match runtime.block_on(run::run(args, &output)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => output.failure(&failure),
    }
}
