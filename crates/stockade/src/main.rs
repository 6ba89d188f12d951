//! `stockade`: the one executable. It owns the command line, configuration, start-up and drain, and refuses logic of
//! its own: what things mean is decided in the crates it starts or asks.

mod args;
mod commands;
mod config;
mod failure;
mod home;
mod output;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use tracing_subscriber::EnvFilter;

use crate::{
    args::{Cli, Command},
    commands::Context,
    failure::{Failure, Outcome},
};

/// Calls come and go by the thousand, and what one thread makes another one drops: this one is quicker at that than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    log(&cli.command);
    // One provider of cryptography for everything that speaks TLS. A second installation is no error.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let json = cli.global.json;
    let outcome = tokio::runtime::Runtime::new().map_err(Failure::from).and_then(|runtime| runtime.block_on(run(cli)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(json),
    }
}

/// Logs go to standard error and are plumbing: evidence is in the record. Short commands are silent unless asked.
fn log(command: &Command) {
    let default = match command {
        Command::Up(_) | Command::Server(_) | Command::Runner(_) => "info",
        _ => "error",
    };
    let filter = EnvFilter::try_from_env("STOCKADE_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}

async fn run(cli: Cli) -> Outcome {
    let context = Context::new(cli.global)?;
    match cli.command {
        Command::Up(up) => commands::up::up(&context, up).await,
        Command::Server(server) => commands::up::server(&context, server).await,
        Command::Runner(runner) => commands::up::runner(&context, runner).await,
        Command::Project(command) => commands::projects::main(&context, command).await,
        Command::Run(run) => commands::run::main(&context, run).await,
        Command::Runs(command) => commands::runs::main(&context, command).await,
        Command::Approvals(command) => commands::approvals::main(&context, command).await,
        Command::Classes(command) => commands::classes::main(&context, command).await,
        Command::Environments(command) => commands::environments::main(&context, command).await,
        Command::Policy(command) => commands::policy::main(&context, command).await,
        Command::Budget(command) => commands::budget::main(&context, command).await,
        Command::Audit(command) => commands::audit::main(&context, command).await,
        Command::Runners(command) => commands::runners::main(&context, command).await,
        Command::Rehearsal(command) => commands::rehearsal::main(&context, command).await,
        Command::Login { server } => commands::login::login(&context, server).await,
        Command::Logout => commands::login::logout(&context),
        Command::Token(command) => commands::token::main(&context, command).await,
        Command::Connect(connect) => commands::connect::main(&context, connect).await,
        Command::Calls(command) => commands::calls::main(&context, command).await,
        Command::Connections(command) => commands::connections::main(&context, command).await,
        Command::Person(command) => commands::people::main(&context, command).await,
        Command::Group(command) => commands::groups::main(&context, command).await,
        Command::Provider(provider) => commands::provider::main(&context, provider).await,
        Command::Doctor(doctor) => commands::doctor::main(&context, doctor).await,
        Command::Completions { shell } => {
            // Written at once: the generator has no answer to a reader that goes away.
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "stockade", &mut text);
            Ok(std::io::Write::write_all(&mut std::io::stdout(), &text)?)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use crate::args::Cli;

    #[test]
    fn the_words_of_the_command_line_are_consistent() {
        Cli::command().debug_assert();
    }
}
