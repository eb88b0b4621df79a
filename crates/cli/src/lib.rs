//! `mildam`: the messenger for scripts, bots and tests.
//!
//! The program is a library as well, for the desktop app: other `mildam` commands of an account are carried
//! out by whoever has its vault open, and that may be the app ([`Host`]).

mod args;
mod bot;
mod frame;
mod guest;
mod host;
mod input;
mod key;
mod listen;
mod output;
mod passphrase;
mod printer;
mod run;
mod socket;
mod task;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

pub use host::Host;
pub use passphrase::take_passphrase;

/// How long to wait, at the end, for what a thread still writes.
const LAST_WRITES: Duration = Duration::from_secs(5);

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    // First of all, while there is one thread only. If it fails, there is no way to say so yet.
    let key = key::Key::of_process();
    let args = match args::Args::try_parse() {
        // What a program reads on standard error is JSON, whatever is wrong.
        Err(error) if error.use_stderr() && std::env::args_os().any(|word| word == "--json") => {
            let failure = output::Failure::Usage(error.render().to_string().trim_end().to_owned());
            return ExitCode::from(output::Output::of_process(true).failure(&failure));
        }
        Err(error) => error.exit(),
        Ok(args) => args,
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("MILDAM_LOG"))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        // They would be told on standard error, which is what has failed.
        .log_internal_errors(false);
    if args.is_json() {
        log.json().flatten_event(true).init();
    } else {
        log.init();
    }
    // What this program makes is its owner's alone, whatever libraries would do.
    #[cfg(unix)]
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let output = output::Output::of_process(args.is_json());
    let key = match key {
        Ok(key) => key,
        Err(failure) => return ExitCode::from(output.failure(&failure)),
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::complain(&format!("mildam: cannot start: {error}"));
            return ExitCode::from(output::REFUSED);
        }
    };
    // Commands that are carried out for others run beside each other in this thread.
    let commands = tokio::task::LocalSet::new();
    let exit = match commands.block_on(&runtime, run::run(args, key, &output)) {
        Ok(exit) => exit,
        Err(failure) => output.failure(&failure),
    };
    {
        let _inside = runtime.enter();
        drop(commands);
    }
    // Where nobody reads standard output, a thread may wait there for ever.
    runtime.shutdown_timeout(LAST_WRITES);
    ExitCode::from(exit)
}
