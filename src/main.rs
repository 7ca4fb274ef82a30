//! The `laminafs` program: everything is in [`laminafs::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    match laminafs::cli::run(std::env::args_os()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
