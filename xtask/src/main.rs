//! Every chore of the project: `cargo xtask NAME`.
//!
//! This program owns how things are built, checked, tested, measured and shown. It refuses to hold logic
//! of the product: it drives `stockade` from outside, as a user would.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod build;
mod check;
mod demo;
mod fuzz;
mod install;
mod matrix;
mod sh;
mod test;
mod tidy;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The chores of Stockade")]
struct Args {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Format, lints, the house rules: what a reviewer should not have to say.
    Check,
    /// Every test, installing what they need.
    Test {
        /// Only these crates.
        #[arg(short, long)]
        package: Vec<String>,
        /// Handed to the test binaries, for example the name of a test.
        #[arg(last = true)]
        rest: Vec<String>,
    },
    /// The main job on the embedded defaults: a task becomes a change, governed and recorded.
    Demo {
        /// Leave the temporary directory and say where it is.
        #[arg(long)]
        keep: bool,
    },
    /// Measure: policy, ledger, recovery, environment, gateway, soak.
    Bench {
        /// Which.
        name: String,
        /// One JSON object on standard output and nothing else.
        #[arg(long)]
        json: bool,
        /// Of `gateway`: install other gateways into the cache folder and measure them too.
        #[arg(long)]
        peers: bool,
    },
    /// Feed the parsers of hostile bytes with inputs that they have not seen (needs a nightly toolchain).
    Fuzz {
        /// Only these targets.
        targets: Vec<String>,
        /// Only targets whose names begin so, besides those that are named.
        #[arg(long, value_name = "PREFIX")]
        only: Vec<String>,
        /// How long each.
        #[arg(long, default_value_t = 600)]
        seconds: u32,
        /// So many side by side.
        #[arg(long, default_value_t = 1)]
        jobs: usize,
    },
    /// Every client through the gateway to every provider: what works.
    Matrix(matrix::Wish),
    /// Write the API's description anew: crates/server/openapi.json.
    Schema,
    /// The house rules alone, without compiling anything.
    Tidy,
    /// Build `stockade` with its two static helpers beside it, and say where.
    Build {
        /// With optimization.
        #[arg(long)]
        release: bool,
    },
}

#[expect(clippy::print_stderr, reason = "this is a command-line program")]
fn main() -> ExitCode {
    match run(Args::parse().chore) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(chore: Chore) -> anyhow::Result<()> {
    match chore {
        Chore::Check => check::run(),
        Chore::Test { package, rest } => test::run(&package, &rest),
        Chore::Demo { keep } => demo::run(keep),
        Chore::Bench { name, json, peers } => bench::run(&name, json, peers),
        Chore::Fuzz { targets, only, seconds, jobs } => fuzz::run(&fuzz::chosen(&targets, &only)?, seconds, jobs),
        Chore::Matrix(wish) => matrix::run(&wish),
        Chore::Schema => sh::run(
            sh::cargo()
                .args(["test", "--quiet", "--package", "stockade-server", "--test", "it", "openapi"])
                .env("UPDATE_SNAPSHOTS", "1"),
        ),
        Chore::Tidy => tidy::run(),
        Chore::Build { release } => {
            let built = build::all(release)?;
            sh::say(&format!("{}", built.stockade.display()));
            Ok(())
        }
    }
}
