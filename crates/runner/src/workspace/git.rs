//! Running `git` on the host, over repositories that nobody vouches for.
//!
//! Owns the environment and options of every `git` process, its time-out and the limit on what it prints, and which
//! repository addresses are acceptable. *Invariant:* no file of a project's repository, and nothing that came out of an
//! environment, names a program that runs here: hooks, external transports, external diffs, filters, pagers, editors and the
//! configuration files of people and machine are switched off for every invocation.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
};

/// How long one `git` process may run.
pub const GIT_TIMEOUT: Duration = Duration::from_secs(600);
/// The most that is read of what `git` prints, in bytes, unless the caller wants less.
pub const GIT_OUTPUT: usize = 64 * 1024 * 1024;
/// The longest repository address, in bytes.
pub const MAX_ADDRESS: usize = 2_048;

/// What every repository that we touch gets, over the head of its own configuration.
const OPTIONS: [&str; 19] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "core.sshCommand=ssh -oBatchMode=yes",
    "protocol.ext.allow=never",
    "protocol.fd.allow=never",
    "transfer.fsckObjects=true",
    "fetch.fsckObjects=true",
    "receive.fsckObjects=true",
    "submodule.recurse=false",
    "gc.auto=0",
    "maintenance.auto=false",
    // Harmless flaws that old and honest histories have: refusing them would shut out real projects.
    "fetch.fsck.zeroPaddedFilemode=ignore",
    "fetch.fsck.missingSpaceBeforeDate=ignore",
    "fetch.fsck.missingSpaceBeforeEmail=ignore",
    "fetch.fsck.badTimezone=ignore",
    "fetch.fsck.missingEmail=ignore",
    "credential.interactive=false",
    // What is larger is neither read into memory as one piece nor compared line by line.
    "core.bigFileThreshold=32m",
];

/// How the other side is run where the repository is on this machine: git does not hand our options on to it, and the
/// repository's own configuration and hooks may name programs.
const UPLOAD: &str = "--upload-pack=git -c core.hooksPath=/dev/null -c core.fsmonitor=false \
                      -c core.alternateRefsCommand=true upload-pack";
/// The same for pushing.
const RECEIVE: &str = "--receive-pack=git -c core.hooksPath=/dev/null -c core.fsmonitor=false \
                       -c core.alternateRefsCommand=true -c receive.autogc=false receive-pack";

/// Why git could not do it.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// The address is not one that is used here.
    #[error("`{address}` cannot be a project's repository: {why}; use an absolute path, or an https:// or ssh:// URL")]
    Address {
        /// The address, without a password.
        address: String,
        /// Why not.
        why: &'static str,
    },
    /// `git` itself cannot be run.
    #[error("git cannot be run on this machine; install it, version 2.30 or later")]
    Missing(#[source] std::io::Error),
    /// It ran and failed.
    #[error("git {verb} failed: {said}")]
    Failed {
        /// Its first argument.
        verb: String,
        /// The end of what it said.
        said: String,
    },
    /// It failed inside the environment. What it said there is content: it belongs to the journal, and to no log.
    #[error("git inside the environment failed: {why}; the run's transcript says more")]
    Inside {
        /// How it ended.
        why: String,
        /// The end of what it said.
        said: String,
    },
    /// It took too long, or printed too much.
    #[error("git {verb} was stopped: {why}")]
    Limit {
        /// Its first argument.
        verb: String,
        /// Which limit.
        why: String,
    },
    /// What came out of the environment is not acceptable.
    #[error("what the environment handed out is not a change: {0}")]
    Hostile(String),
    /// A file of ours could not be read or written.
    #[error("cannot use `{}`", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

impl GitError {
    pub(crate) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }
}

/// A repository address that has been looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(String);

impl Address {
    /// Looks at an address. Public for fuzzing.
    pub fn parse(text: &str) -> Result<Self, GitError> {
        let refuse = |why| {
            // A password must not end up in an error: everything before the last `@` of a URL is left out.
            let shown = text.split_once("://").map_or_else(
                || text.to_owned(),
                |(scheme, rest)| format!("{scheme}://{}", rest.rsplit_once('@').map_or(rest, |(_, host)| host)),
            );
            Err(GitError::Address { address: shown.chars().take(200).flat_map(char::escape_default).collect(), why })
        };
        if text.is_empty() || text.len() > MAX_ADDRESS {
            return refuse("it is empty or too long");
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace() && c != ' ') {
            return refuse("it has control characters");
        }
        if text.starts_with('-') {
            return refuse("it begins with a dash and would be taken for an option");
        }
        if text.starts_with('/') {
            return if text.split('/').any(|part| part == "..") {
                refuse("it has `..` in it")
            } else {
                Ok(Self(text.to_owned()))
            };
        }
        if text.contains("::") {
            return refuse("it names a transport helper, which is a program");
        }
        if let Ok(url) = url::Url::parse(text)
            && text.contains("://")
        {
            let bad_host = url.host_str().is_none_or(|host| host.starts_with('-'));
            return match url.scheme() {
                "https" | "http" if url.password().is_some() || !url.username().is_empty() => {
                    refuse("it holds a name or a password")
                }
                "ssh" if url.password().is_some() || url.username().starts_with('-') => refuse("it holds a password"),
                "https" | "http" | "ssh" if bad_host => refuse("its host begins with a dash"),
                "https" | "http" | "ssh" => Ok(Self(text.to_owned())),
                "file" if url.host_str().is_none_or(str::is_empty) => Ok(Self(text.to_owned())),
                _ => refuse("its scheme is not one of https, http, ssh, file"),
            };
        }
        // What `scp` understands: user@host:path.
        let scp = text.split_once(':').filter(|(host, path)| {
            !host.contains('/')
                && !host.starts_with('-')
                && !path.is_empty()
                && !path.starts_with('-')
                && host.chars().all(|c| c.is_ascii_alphanumeric() || "@.-_".contains(c))
                && !host.rsplit('@').next().is_some_and(|host| host.starts_with('-') || host.is_empty())
        });
        if scp.is_some() { Ok(Self(text.to_owned())) } else { refuse("it is neither a path nor a URL") }
    }

    /// Where it is, if it is on this machine.
    pub fn local(&self) -> Option<&Path> {
        let path = self.0.strip_prefix("file://").unwrap_or(&self.0);
        path.starts_with('/').then(|| Path::new(path))
    }

    /// The options with which the other side is started for reading: none over a network, where it runs over there.
    pub fn reading(&self) -> Option<&'static str> {
        self.local().map(|_| UPLOAD)
    }

    /// The same for writing.
    pub fn writing(&self) -> Option<&'static str> {
        self.local().map(|_| RECEIVE)
    }

    /// As git wants it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a `git` process is given besides its arguments.
#[derive(Debug, Default)]
pub struct Call<'a> {
    /// Standard input.
    pub input: Option<&'a [u8]>,
    /// A file that is given as standard input instead.
    pub input_file: Option<std::fs::File>,
    /// Added to its environment.
    pub env: &'a [(&'a str, &'a str)],
    /// At most so many bytes of output; more is [`GitError::Limit`].
    pub max_output: Option<usize>,
    /// Whether more output is cut off instead.
    pub cut: bool,
}

/// Runs `git` in `dir` and gives what it printed.
pub async fn git<S: AsRef<OsStr>>(dir: &Path, args: &[S]) -> Result<Vec<u8>, GitError> {
    git_with(dir, args, Call::default()).await
}

/// The same as trimmed text.
pub async fn git_text<S: AsRef<OsStr>>(dir: &Path, args: &[S]) -> Result<String, GitError> {
    Ok(String::from_utf8_lossy(&git(dir, args).await?).trim().to_owned())
}

/// The same with more to say.
pub async fn git_with<S: AsRef<OsStr>>(dir: &Path, args: &[S], call: Call<'_>) -> Result<Vec<u8>, GitError> {
    let verb = args.first().map_or_else(String::new, |a| a.as_ref().to_string_lossy().into_owned());
    let max = call.max_output.unwrap_or(GIT_OUTPUT);
    let mut command = Command::new("git");
    for option in OPTIONS {
        command.args(["-c", option]);
    }
    command.args(["--no-pager", "--literal-pathspecs"]).args(args).current_dir(dir);
    environment(&mut command);
    command.envs(call.env.iter().copied());
    command.stdin(match (&call.input, call.input_file) {
        (_, Some(file)) => Stdio::from(file),
        (Some(_), None) => Stdio::piped(),
        (None, None) => Stdio::null(),
    });
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().map_err(GitError::Missing)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async {
        if let (Some(mut pipe), Some(input)) = (stdin, call.input) {
            // A git that does not want all of it says so by its exit status.
            let _ = pipe.write_all(input).await;
        }
    };
    let read = async {
        let mut out = Vec::new();
        let mut over = false;
        if let Some(mut pipe) = stdout {
            let _ = (&mut pipe).take(max as u64 + 1).read_to_end(&mut out).await;
            over = out.len() > max;
            out.truncate(max);
        }
        (out, over)
    };
    let complain = async {
        let mut said = Vec::new();
        if let Some(mut pipe) = stderr {
            let _ = (&mut pipe).take(256 * 1024).read_to_end(&mut said).await;
            // The rest is drained so that git does not hang on a full pipe.
            let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
        }
        said
    };
    let all = async {
        let ((), (out, over), said) = tokio::join!(write, read, complain);
        (out, over, said)
    };
    let Ok((out, over, said)) = tokio::time::timeout(GIT_TIMEOUT, all).await else {
        let _ = child.start_kill();
        return Err(GitError::Limit { verb, why: format!("it took longer than {} s", GIT_TIMEOUT.as_secs()) });
    };
    if over {
        let _ = child.start_kill();
        return if call.cut {
            Ok(out)
        } else {
            Err(GitError::Limit { verb, why: format!("it printed more than {max} bytes") })
        };
    }
    let status = child.wait().await.map_err(GitError::Missing)?;
    if status.success() { Ok(out) } else { Err(GitError::Failed { verb, said: tail(&said) }) }
}

/// The version of git on this machine.
pub async fn version() -> Result<String, GitError> {
    Ok(git_text(Path::new("/"), &["version"]).await?.trim_start_matches("git version ").to_owned())
}

fn environment(command: &mut Command) {
    let kept: Vec<_> =
        ["PATH", "HOME", "SSH_AUTH_SOCK"].into_iter().filter_map(|n| std::env::var_os(n).map(|v| (n, v))).collect();
    command.env_clear().envs(kept).envs([
        ("LANG", "C.UTF-8"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_SYSTEM", "/dev/null"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_ATTR_NOSYSTEM", "1"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_ASKPASS", "true"),
        ("GIT_EDITOR", "true"),
        ("GIT_PAGER", "cat"),
        ("GIT_ALLOW_PROTOCOL", "file:https:http:ssh"),
        ("GIT_NO_REPLACE_OBJECTS", "1"),
        ("GIT_OPTIONAL_LOCKS", "0"),
    ]);
}

fn tail(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let text = text.trim();
    let start = text.char_indices().rev().nth(600).map_or(0, |(at, _)| at);
    // The other side of a connection has its word in this: it must not move a terminal's cursor.
    let line = text.get(start..).unwrap_or_default().replace('\n', "; ");
    line.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_addresses_are_taken() {
        for good in [
            "/srv/git/project.git",
            "/home/me/with space",
            "https://forge.example/a/b.git",
            "http://127.0.0.1:3000/x",
            "ssh://git@forge.example:22/a/b",
            "git@forge.example:a/b.git",
            "file:///srv/git/x",
        ] {
            assert!(Address::parse(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn an_address_that_could_run_something_is_refused() {
        for bad in [
            "",
            "ext::sh -c touch% /tmp/x",
            "fd::17",
            "--upload-pack=touch /tmp/x",
            "-oProxyCommand=x:y",
            "ssh://-oProxyCommand=touch/x",
            "-x@host:path",
            "user@-host:path",
            "host:-path",
            "https://user:secret@host/x",
            "https://token@host/x",
            "ftp://host/x",
            "git://host/x",
            "relative/path",
            "/srv/../etc",
            "/srv/a\nb",
            "https://host/a\u{0}b",
        ] {
            let error = Address::parse(bad).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_address_makes_it_panic(text in ".{0,80}") {
            let _ = Address::parse(&text);
        }
    }
}
