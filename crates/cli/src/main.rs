//! `mildam`, the program.

fn main() -> std::process::ExitCode {
    mildam_cli::main()
}
