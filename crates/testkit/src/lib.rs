//! What the tests share: a whole installation made of real processes that can be killed and started again, git
//! repositories made of the samples, a model provider that fails when it is told to, a Postgres for everybody, and a proxy that
//! sees every byte and can be cut.
//!
//! It owns no assertions about the product: those stand in the tests. It refuses to be a normal dependency.

#[cfg(feature = "attacks")]
pub mod attacks;
#[cfg(feature = "cell")]
pub mod cell;
pub mod fakes;
pub mod installation;
pub mod kill;
pub mod postgres;
pub mod provider;
pub mod proxy;
pub mod repository;

pub use installation::{Form, Installation, Options};
pub use provider::Provider;
pub use proxy::Proxy;
pub use repository::Repository;

use std::path::{Path, PathBuf};

/// The root of the sources, or of a copy of what tests read of them, where whoever runs the tests may not read the sources themselves.
pub fn root() -> PathBuf {
    if let Some(copy) = std::env::var_os("STOCKADE_SOURCES") {
        return copy.into();
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).map_or_else(|| here.to_owned(), Path::to_owned)
}

/// The `stockade` executable with its helpers beside it, as `cargo xtask` builds them. Without them, nothing here can work.
pub fn stockade() -> anyhow::Result<PathBuf> {
    let named = std::env::var_os("STOCKADE_BIN").map(PathBuf::from);
    let path = named.unwrap_or_else(|| root().join("target/debug/stockade"));
    anyhow::ensure!(
        path.is_file() && path.with_file_name("stockade-guest").is_file(),
        "{} is not there with its helpers: build them with `cargo xtask build`, or run the tests with `cargo xtask test`",
        path.display()
    );
    Ok(path)
}
