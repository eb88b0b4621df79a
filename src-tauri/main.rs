//! The desktop app: a window, and commands that forward to the client.

#![cfg_attr(not(debug_assertions), windows_subsystem = "windows")]

mod app;
mod commands;
mod confirm;
mod links;
mod options;
mod question;
mod window;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

fn main() -> ExitCode {
    // First of all, while there is one thread only.
    let passphrase = match mildam_cli::take_passphrase() {
        Ok(passphrase) => passphrase,
        Err(message) => {
            complain(&message);
            return ExitCode::from(2);
        }
    };
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("MILDAM_LOG"))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        // They would be told on standard error, which is what has failed.
        .log_internal_errors(false)
        .init();
    // What this program makes is its owner's alone, whatever libraries would do.
    #[cfg(unix)]
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let options = match options::Options::read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            complain(&message);
            return ExitCode::from(2);
        }
    };
    match app::run(options, passphrase) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Says something on standard error, as far as there is one.
fn complain(message: &str) {
    drop(writeln!(std::io::stderr(), "mildam-desktop: {message}"));
}
