//! Files that hold one secret as a line of text. They are made with mode 0600 and never overwritten;
//! a file that anybody but its owner could read or write is refused, because its secret may be known.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use zeroize::Zeroizing;

/// The longest key file, in bytes. A longer one is refused.
pub const MAX_KEY_FILE_BYTES: u64 = 4096;

/// Why a key file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It could not be read or made.
    #[error("cannot {doing} the key file {path}")]
    Io {
        /// `read`, `create` or `write`.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is one already. Keys are never overwritten.
    #[error("the key file {path} exists already: it is never overwritten; move it away first")]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// Somebody else may have read it.
    #[error(
        "the key file {path} is open to others (mode {mode:04o}): if the key may have been seen, make a new one; \
         else `chmod 600 {path}`"
    )]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is something else.
    #[error("{path} is no {what} file: expected one line that begins with `{prefix}`")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What was wanted.
        what: &'static str,
        /// How it begins.
        prefix: &'static str,
    },
}

/// What a key file holds.
pub(crate) struct Form {
    pub what: &'static str,
    pub prefix: &'static str,
    pub len: usize,
}

/// Makes the file, with the secret on its disk before this returns.
pub(crate) fn save(path: &Path, form: &Form, secret: &[u8]) -> Result<(), KeyFileError> {
    let io = |doing| move |source| KeyFileError::Io { doing, path: path.to_owned(), source };
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            return Err(KeyFileError::Exists { path: path.to_owned() });
        }
        Err(source) => return Err(io("create")(source)),
    };
    let text = Zeroizing::new(format!("{}{}\n", form.prefix, Zeroizing::new(STANDARD.encode(secret)).as_str()));
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io("write"))?;
    sync_parent(path).map_err(io("write"))
}

/// Reads the secret.
pub(crate) fn load(path: &Path, form: &Form) -> Result<SecretSlice<u8>, KeyFileError> {
    let io = |source| KeyFileError::Io { doing: "read", path: path.to_owned(), source };
    let malformed = || KeyFileError::Malformed { path: path.to_owned(), what: form.what, prefix: form.prefix };
    let file = File::open(path).map_err(io)?;
    // The opened file is asked, not the path: nothing can be swapped in between.
    let about = file.metadata().map_err(io)?;
    let mode = about.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Open { path: path.to_owned(), mode });
    }
    if !about.is_file() || about.len() > MAX_KEY_FILE_BYTES {
        return Err(malformed());
    }
    let mut text = String::new();
    file.take(MAX_KEY_FILE_BYTES).read_to_string(&mut text).map_err(io)?;
    let text = SecretString::from(text);
    let body = text.expose_secret().trim_end().strip_prefix(form.prefix).ok_or_else(malformed)?;
    let secret = SecretSlice::from(STANDARD.decode(body).map_err(|_| malformed())?);
    if secret.expose_secret().len() != form.len {
        return Err(malformed());
    }
    Ok(secret)
}

/// Makes the name of a new file durable.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}
