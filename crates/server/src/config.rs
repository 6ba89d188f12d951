//! What a server needs to know before it starts. It reads no file by itself and no environment variable.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::ServerError;

/// Where a server listens when nobody said: this machine only.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7080);

/// A server's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Where it keeps its keys and, on SQLite, its database. Made with mode 0700 if it is not there.
    pub data_dir: PathBuf,
    /// Where it listens; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Its database.
    pub database: Database,
}

/// Which database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Database {
    /// A file in the data directory.
    #[default]
    Embedded,
    /// `sqlite:/path` or `postgres://…`.
    Url(String),
}

/// The same as people write it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    listen: Option<String>,
    database: Option<String>,
}

impl ServerConfig {
    /// A server on embedded defaults with its data in `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self { data_dir: data_dir.into(), listen: DEFAULT_LISTEN, database: Database::Embedded }
    }

    /// The same, with what a configuration file says (TOML: `listen = "127.0.0.1:7080"`, `database =
    /// "postgres://…"`). `from` names the file in errors.
    pub fn with_toml(mut self, text: &str, from: &Path) -> Result<Self, ServerError> {
        let wrong = |why: String| ServerError::Config { from: from.to_owned(), why };
        let file: File = toml::from_str(text).map_err(|error| wrong(error.to_string().trim_end().to_owned()))?;
        if let Some(listen) = file.listen {
            self.listen = listen.parse().map_err(|_| {
                wrong(format!("`listen = \"{listen}\"` is no address; write for example 127.0.0.1:7080"))
            })?;
        }
        if let Some(url) = file.database {
            self.database = Database::Url(url);
        }
        Ok(self)
    }

    /// The database's address.
    pub(crate) fn database_url(&self) -> String {
        match &self.database {
            Database::Embedded => format!("sqlite:{}", self.data_dir.join("stockade.db").display()),
            Database::Url(url) => url.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_read_or_refused_by_name() {
        let config = ServerConfig::new("/d");
        let read = config.clone().with_toml("listen = \"127.0.0.1:1\"", Path::new("server.toml")).unwrap();
        assert_eq!(read.listen.port(), 1);
        assert_eq!(read.database_url(), "sqlite:/d/stockade.db");
        for (text, part) in [
            ("listen = \"here\"", "`listen = \"here\"` is no address"),
            ("lisen = \"127.0.0.1:1\"", "unknown field `lisen`"),
            ("listen", "TOML parse error"),
        ] {
            let error = config.clone().with_toml(text, Path::new("server.toml")).unwrap_err().to_string();
            assert!(error.contains("server.toml") && error.contains(part), "{error}");
        }
    }
}
