//! Where an installation keeps things on this machine, and how other commands find it.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use stockade_api::client::Client;

use crate::{
    args::Global,
    failure::{Failure, Outcome},
};

/// The data directory.
#[derive(Debug, Clone)]
pub struct Home(PathBuf);

/// What `up` and `server` leave for other commands: where to talk to, and with what. No secret.
#[derive(Debug, Serialize, Deserialize)]
struct Address {
    url: String,
    token_file: PathBuf,
}

impl Home {
    /// The data directory that was asked for, or the user's own.
    pub fn find(global: &Global) -> Outcome<Self> {
        if let Some(folder) = &global.data_dir {
            return Ok(Self(folder.clone()));
        }
        let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
        data.or_else(home).map(|folder| Self(folder.join("stockade"))).ok_or_else(|| {
            Failure::config("no_home", "there is no home directory to keep things in", "name one with --data-dir DIR")
        })
    }

    /// Makes it, for its owner alone.
    pub fn make(&self) -> Outcome {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0).map_err(|error| {
            Failure::config(
                "data_dir",
                format!("the data directory {} cannot be made: {error}", self.0.display()),
                "name another with --data-dir DIR",
            )
        })
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The server's part.
    pub fn server(&self) -> PathBuf {
        self.0.join("server")
    }

    /// The runner's part.
    pub fn runner(&self) -> PathBuf {
        self.0.join("runner")
    }

    /// The configuration, unless another one is named.
    pub fn config(&self) -> PathBuf {
        self.0.join("stockade.toml")
    }

    fn address(&self) -> PathBuf {
        self.0.join("address.json")
    }

    /// Leaves the address for other commands.
    pub fn leave_address(&self, url: &str, token_file: &Path) -> Outcome {
        let address = Address { url: url.to_owned(), token_file: token_file.to_owned() };
        let fresh = self.0.join("address.json.new");
        fs::write(&fresh, serde_json::to_vec(&address).map_err(std::io::Error::from)?)?;
        fs::rename(&fresh, self.address())?;
        Ok(())
    }

    /// The server that was asked for, or that of the installation on this machine.
    pub fn url(&self, global: &Global) -> Option<String> {
        let login = || if global.data_dir.is_none() { Login::find().ok().flatten() } else { None };
        global.url.clone().or_else(|| login().map(|login| login.url)).or_else(|| self.left().map(|left| left.url))
    }

    fn left(&self) -> Option<Address> {
        fs::read(self.address()).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok())
    }

    /// A client of the installation that was asked for, of the one where the user is signed in, or of the one on this machine.
    pub fn client(&self, global: &Global) -> Outcome<Client> {
        let named = global.data_dir.is_some() || global.token_file.is_some();
        if !named
            && let Some(login) = Login::find()?
            && global.url.as_ref().is_none_or(|url| *url == login.url)
        {
            return Ok(Client::new(&login.url, Some(login.token))?);
        }
        self.local(global)
    }

    /// The same without looking where the user is signed in.
    pub fn local(&self, global: &Global) -> Outcome<Client> {
        let left = self.left();
        let url = global.url.clone().or_else(|| left.as_ref().map(|left| left.url.clone())).ok_or_else(|| {
            Failure::config(
                "no_server",
                format!("there is no installation in {}", self.0.display()),
                "sign in with `stockade login --server URL`, start one with `stockade up`, or name a server with --url URL and --token-file FILE",
            )
        })?;
        let file = global.token_file.clone().or_else(|| left.map(|left| left.token_file)).ok_or_else(|| {
            Failure::config(
                "no_token",
                format!("there is no access token for {url}"),
                "name a file with --token-file FILE",
            )
        })?;
        let token = fs::read_to_string(&file).map_err(|error| {
            Failure::config(
                "token_file",
                format!("the access token in {} cannot be read: {error}", file.display()),
                "are you the user that started the installation? Otherwise name another file with --token-file FILE",
            )
        })?;
        Ok(Client::new(&url, Some(SecretString::from(token.trim().to_owned())))?)
    }
}

/// Where a user is signed in, and with what: two files in the user's own configuration.
#[derive(Debug)]
pub struct Login {
    /// The server's address.
    pub url: String,
    /// The access token.
    pub token: SecretString,
}

#[derive(Serialize, Deserialize)]
struct LoginFile {
    url: String,
}

impl Login {
    /// The user's own configuration of Stockade.
    pub fn folder() -> Option<PathBuf> {
        let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config"));
        config.or_else(home).map(|folder| folder.join("stockade"))
    }

    /// Where the user is signed in, if anywhere.
    pub fn find() -> Outcome<Option<Self>> {
        let Some(folder) = Self::folder() else { return Ok(None) };
        let Ok(bytes) = fs::read(folder.join("login.json")) else { return Ok(None) };
        let broken = |why: String| {
            Failure::config(
                "login",
                format!("the sign-in in {} cannot be used: {why}", folder.display()),
                "sign in again: `stockade login`",
            )
        };
        let LoginFile { url } = serde_json::from_slice(&bytes).map_err(|error| broken(error.to_string()))?;
        let token = fs::read_to_string(folder.join("token")).map_err(|error| broken(error.to_string()))?;
        Ok(Some(Self { url, token: SecretString::from(token.trim().to_owned()) }))
    }

    /// Keeps a sign-in in place of the one before; gives the file with the token.
    pub fn keep(url: &str, token: &SecretString) -> Outcome<PathBuf> {
        let folder = Self::folder().ok_or_else(|| {
            Failure::config("no_home", "there is no home directory to keep a sign-in in", "set HOME or XDG_CONFIG_HOME")
        })?;
        crate::commands::private_dir(&folder)?;
        let (file, fresh) = (folder.join("token"), folder.join("token.new"));
        let _ = fs::remove_file(&fresh);
        write_secret(&fresh, token)?;
        fs::rename(&fresh, &file)?;
        let login = LoginFile { url: url.to_owned() };
        fs::write(folder.join("login.json"), serde_json::to_vec(&login).map_err(std::io::Error::from)?)?;
        Ok(file)
    }

    /// Forgets a sign-in, and gives what it was.
    pub fn forget() -> Outcome<Option<Self>> {
        let found = Self::find().ok().flatten();
        if let Some(folder) = Self::folder() {
            for name in ["token", "login.json"] {
                match fs::remove_file(folder.join(name)) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                    _ => {}
                }
            }
        }
        Ok(found)
    }
}

/// A new file that only its owner can read, for a secret that is not made yet: one that nobody could keep is not made.
#[derive(Debug)]
pub struct SecretFile {
    path: PathBuf,
    file: fs::File,
    written: bool,
}

impl SecretFile {
    /// Makes it, empty.
    pub fn new(path: &Path) -> Outcome<Self> {
        Ok(Self { file: new_secret(path)?, path: path.to_owned(), written: false })
    }

    /// Writes the secret.
    pub fn write(mut self, secret: &SecretString) -> Outcome {
        self.file.write_all(secret.expose_secret().as_bytes())?;
        self.file.sync_all()?;
        self.written = true;
        Ok(())
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        if !self.written {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Writes a secret into a new file that only its owner can read.
pub fn write_secret(path: &Path, secret: &SecretString) -> Outcome {
    let mut file = new_secret(path)?;
    file.write_all(secret.expose_secret().as_bytes())?;
    Ok(file.sync_all()?)
}

fn new_secret(path: &Path) -> Outcome<fs::File> {
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.map_err(|error| {
        Failure::user(
            "output_file",
            format!("{} cannot be made: {error}", path.display()),
            "name a file that does not exist yet, in a folder that does and that you may write to",
        )
    })
}
