//! The desktop app: a window, and commands that forward to the client.

#![cfg_attr(not(debug_assertions), windows_subsystem = "windows")]

mod app;
mod commands;
mod links;
mod options;
mod window;

use std::process::ExitCode;

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("MILDAM_LOG"))
        .with_writer(std::io::stderr)
        .init();
    let options = match options::Options::read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("mildam-desktop: {message}");
            return ExitCode::from(2);
        }
    };
    match app::run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mildam-desktop: {error}");
            ExitCode::FAILURE
        }
    }
}
