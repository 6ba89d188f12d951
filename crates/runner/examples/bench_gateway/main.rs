//! `cargo xtask bench gateway`: what the gateway adds to a call, and how many it carries. `cargo xtask bench soak`: that it does so for long.
//!
//! Everything is a process of its own on one machine: a provider that answers at once with prepared bytes, a relay that parses
//! nothing, the gateway as the runner serves it, and (where xtask has installed them) other gateways. This process makes the load.
//! Prints one JSON object.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its figures")]

mod bodies;
mod fake;
mod load;
mod measure;
mod mishaps;
mod parts;
mod soak;

use anyhow::{Result, bail};

/// As in `stockade`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        None => {
            println!("{}", measure::run()?);
            Ok(())
        }
        Some("soak") => {
            println!("{}", soak::run()?);
            Ok(())
        }
        Some("soak-ours") => parts::soaked(&parts::next(&mut args)?, &parts::next(&mut args)?),
        Some("mishaps") => mishaps::run(),
        Some("fake") => fake::run(),
        Some("relay") => parts::relay(&parts::next(&mut args)?),
        Some("ours") => parts::ours(&parts::next(&mut args)?, &parts::next(&mut args)?),
        Some("look") => {
            // A single cell, for a profiler: system, body, streamed or not, connections, seconds.
            let words: Vec<String> = args.collect();
            eprintln!("{}", measure::look(&words)?);
            Ok(())
        }
        Some(other) => bail!("there is no part called `{other}`"),
    }
}
