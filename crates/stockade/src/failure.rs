//! What the person is told when something goes wrong, and the exit status that says whose fault it is.

use std::{io::Write as _, process::ExitCode};

use stockade_api::error::{ApiError, ErrorBody, Fault, chain};

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub enum Failure {
    /// Something went wrong: what, to which thing, what to try.
    Error(ApiError),
    /// The command worked, and the answer is no: the run failed, the record does not verify, an example does not
    /// hold. It has been said already.
    No,
}

/// What every command gives.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// The request makes no sense.
    pub fn user(code: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Error(ApiError::new(Fault::User, code, message).hint(hint))
    }

    /// The installation is set up wrongly.
    pub fn config(code: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Error(ApiError::new(Fault::Config, code, message).hint(hint))
    }

    /// Something outside did not answer.
    pub fn outside(code: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Error(ApiError::new(Fault::Outside, code, message).hint(hint))
    }

    /// What went wrong, without what to try.
    pub fn message(&self) -> &str {
        match self {
            Self::Error(error) => &error.message,
            Self::No => "the answer is no",
        }
    }

    /// Says it on standard error and gives the exit status.
    pub fn tell(&self, json: bool) -> ExitCode {
        let Self::Error(error) = self else { return ExitCode::from(1) };
        let mut stderr = std::io::stderr().lock();
        // If standard error is gone there is nobody left to tell.
        let _ = if json {
            writeln!(stderr, "{}", serde_json::to_string(&ErrorBody { error: error.clone() }).unwrap_or_default())
        } else {
            match &error.hint {
                Some(hint) => writeln!(stderr, "error: {}\n  try: {hint}", error.message),
                None if error.code.ends_with("_not_found") => {
                    writeln!(
                        stderr,
                        "error: {}\n  try: the lists show what there is, for example `stockade calls list`",
                        error.message
                    )
                }
                None => writeln!(stderr, "error: {}", error.message),
            }
        };
        ExitCode::from(match error.fault {
            Fault::User => 2,
            Fault::Config => 3,
            Fault::Refused => 4,
            Fault::Outside => 5,
            Fault::Bug => 70,
        })
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Error(error)
    }
}

impl From<stockade_server::ServerError> for Failure {
    fn from(error: stockade_server::ServerError) -> Self {
        Self::Error(ApiError::new(error.fault(), "server_does_not_start", chain(&error)))
    }
}

impl From<stockade_runner::RunnerError> for Failure {
    fn from(error: stockade_runner::RunnerError) -> Self {
        let fault = error.fault();
        let told = |what: String| ApiError::new(fault, "runner_does_not_start", what);
        Self::Error(match error {
            stockade_runner::RunnerError::Config { what, hint } => told(what).hint(hint),
            stockade_runner::RunnerError::Server { url, what, hint } => {
                told(format!("the server at {url} {what}")).hint(hint)
            }
            other => told(chain(&other)),
        })
    }
}

/// Standard output is gone, for example because `head` has seen enough: nothing is wrong.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::No;
        }
        Self::outside("io", format!("could not read or write: {error}"), "look at the terminal, the disk or the pipe")
    }
}
