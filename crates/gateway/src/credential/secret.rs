//! References to secrets: where one is, never the secret itself.
//!
//! Three forms are there: `file:/PATH`, `env:NAME` and `command:PROGRAM ARGUMENTS`. Secret stores with a protocol of their
//! own (Vault, the clouds' secret managers) are not; their agents write files, and their command lines print secrets.

use std::{path::PathBuf, process::Stdio, time::Duration};

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use stockade_domain::Timestamp;
use tokio::io::AsyncReadExt;

use super::{
    Proof,
    error::CredentialError,
    keeper::{Fresh, Keeper, Source},
    key::{Key, KeySource, MAX_KEY_FILE, checked},
};

/// How long a command may take to print its secret.
pub const COMMAND_TIME: Duration = Duration::from_secs(10);
/// How long what a command printed is used, in seconds. It is asked again before that.
pub const COMMAND_LIFE: u64 = 3_600;

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum SecretRef {
    /// `file:/PATH`: read again when it changes.
    File(PathBuf),
    /// `env:NAME`.
    Variable(String),
    /// `command:PROGRAM ARGUMENTS`: started without a shell, words are separated by spaces, asked again every 50 minutes.
    Command(Vec<String>),
}

impl TryFrom<String> for SecretRef {
    // Not the value: somebody may have written the secret itself.
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.split_once(':') {
            Some(("file", path)) if path.starts_with('/') => Ok(Self::File(PathBuf::from(path))),
            Some(("file", _)) => Err("a secret's file needs its whole path: `file:/…`"),
            Some(("env", name)) if is_variable(name) => Ok(Self::Variable(name.to_owned())),
            Some(("env", _)) => {
                Err("expected `env:NAME` with the name of an environment variable: letters, digits and `_`")
            }
            Some(("command", line)) if !line.trim().is_empty() => {
                Ok(Self::Command(line.split_whitespace().map(str::to_owned).collect()))
            }
            _ => {
                Err("expected where the secret is: `file:/PATH`, `env:NAME` or `command:PROGRAM ARGUMENTS`, never the \
                      secret itself (other secret stores are not there yet)")
            }
        }
    }
}

/// Whether an environment variable may be called so. Keys mostly may not: somebody may have written one where its name belongs.
pub(crate) fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// A secret that follows its reference.
#[derive(Debug)]
pub(crate) enum Secret {
    Key(Key),
    Command(Keeper<SecretString>),
}

impl Secret {
    pub(crate) fn new(reference: &SecretRef) -> Self {
        match reference {
            SecretRef::File(path) => Self::Key(Key::new(KeySource::File(path.clone()))),
            SecretRef::Variable(name) => Self::Key(Key::new(KeySource::Variable(name.clone()))),
            SecretRef::Command(words) => Self::Command(Keeper::new(Command { words: words.clone() })),
        }
    }

    /// The secret as it is now; nothing if none is wanted.
    pub(crate) async fn get(&self, now: Timestamp) -> Result<Option<SecretString>, CredentialError> {
        match self {
            Self::Key(key) => Ok(key.get()?),
            Self::Command(keeper) => Ok(Some(keeper.get(now).await?.0.as_ref().clone())),
        }
    }

    /// The secret as it is now, and how it was shown.
    pub(crate) async fn show(&self, now: Timestamp) -> Result<Option<(SecretString, Proof)>, CredentialError> {
        match self {
            Self::Key(key) => Ok(key.get()?.map(|secret| (secret, Proof::none()))),
            Self::Command(keeper) => {
                let (secret, _) = keeper.get(now).await?;
                Ok(Some((secret.as_ref().clone(), Proof::token(secret))))
            }
        }
    }

    /// The secret where one must be.
    pub(crate) async fn need(&self, now: Timestamp) -> Result<SecretString, CredentialError> {
        let missing = CredentialError::Missing { what: "the secret", hint: "say where it is" };
        self.get(now).await?.ok_or(missing)
    }

    pub(crate) fn files(&self) -> Vec<PathBuf> {
        match self {
            Self::Key(key) => match key.source() {
                KeySource::File(path) => vec![path.clone()],
                KeySource::None | KeySource::Variable(_) => Vec::new(),
            },
            Self::Command(_) => Vec::new(),
        }
    }
}

#[derive(Debug)]
struct Command {
    words: Vec<String>,
}

#[async_trait]
impl Source<SecretString> for Command {
    async fn fetch(&self, now: Timestamp) -> Result<Fresh<SecretString>, CredentialError> {
        let program = self.words.first().cloned().unwrap_or_default();
        let failed = |why: String| CredentialError::Command { program: program.clone(), why };
        let mut command = tokio::process::Command::new(&program);
        command.args(self.words.iter().skip(1)).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.kill_on_drop(true).spawn().map_err(|error| failed(error.to_string()))?;
        let mut stdout = child.stdout.take().ok_or_else(|| failed("it has no output".to_owned()))?;
        let run = async {
            let mut printed = Vec::new();
            (&mut stdout).take(MAX_KEY_FILE + 1).read_to_end(&mut printed).await?;
            // Whoever goes on printing meets a closed pipe.
            drop(stdout);
            Ok::<_, std::io::Error>((printed, child.wait().await?))
        };
        let (printed, status) = match tokio::time::timeout(COMMAND_TIME, run).await {
            Ok(ended) => ended.map_err(|error| failed(error.to_string()))?,
            Err(_) => return Err(failed(format!("it took longer than {} s", COMMAND_TIME.as_secs()))),
        };
        let printed = SecretString::from(String::from_utf8(printed).map_err(|_| failed("it is no text".to_owned()))?);
        if printed.expose_secret().len() as u64 > MAX_KEY_FILE {
            return Err(failed(format!("it printed more than {MAX_KEY_FILE} bytes")));
        }
        if !status.success() {
            return Err(failed(format!("it ended with {status}")));
        }
        let value = checked(printed, || format!("the output of `{program}`"))?;
        Ok(Fresh { value, expires: Some(now.plus_seconds(COMMAND_LIFE)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_790_000_000_000_000);

    #[test]
    fn only_references_are_taken_and_nothing_else_is_repeated() {
        let read = |text: &str| SecretRef::try_from(text.to_owned());
        assert_eq!(read("file:/a b"), Ok(SecretRef::File("/a b".into())));
        assert_eq!(read("env:KEY"), Ok(SecretRef::Variable("KEY".to_owned())));
        assert_eq!(read("command:/bin/x  y"), Ok(SecretRef::Command(vec!["/bin/x".to_owned(), "y".to_owned()])));
        for wrong in ["sk-ant-secret", "file:relative", "env:", "command: ", "vault:kv/x", ""] {
            assert!(!read(wrong).unwrap_err().contains("sk-ant-secret"), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_command_prints_a_secret() {
        let of = |line: &str| Secret::new(&SecretRef::try_from(format!("command:{line}")).unwrap());
        let echo = of("/bin/echo from-a-command");
        assert_eq!(echo.need(NOW).await.unwrap().expose_secret(), "from-a-command");
        assert!(!format!("{:?}", echo.get(NOW).await).contains("from-a-command"));
        for (line, word) in
            [("/bin/false", "exit status"), ("/no/such/program", "program"), ("/bin/cat /dev/zero", "more than")]
        {
            assert!(of(line).need(NOW).await.unwrap_err().to_string().contains(word), "{line}");
        }
    }
}
