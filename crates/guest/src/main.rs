//! The guest's program: takes over what the launcher hands it, and serves until it is killed.

use std::process::ExitCode;

use stockade_guest::{Boot, serve};

fn main() -> ExitCode {
    let boot = match Boot::from_args(std::env::args().skip(1)) {
        Ok(boot) => boot,
        Err(error) => return fail(&error),
    };
    match serve(boot) {
        Ok(never) => match never {},
        Err(error) => fail(&error),
    }
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    use std::io::Write;
    // There is nobody to read it in an environment; there is when somebody tries the program by hand.
    let _ = writeln!(std::io::stderr(), "stockade-guest: {error}");
    ExitCode::FAILURE
}
