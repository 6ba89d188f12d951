//! What git inside of an environment is told: the text of `/etc/gitconfig`.
//!
//! Remotes that are spelled for SSH are spoken as smart HTTP, because SSH cannot be looked into (docs/decisions/0009), and requests to a
//! forge carry the placeholder of the credential that is bound to it, so that git asks nobody. *Invariant:* nothing in the text is worth
//! anything outside of the environment.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::name::Name;
use crate::path::PathRule;
use crate::placeholder::Placeholder;

/// A host that serves repositories over HTTPS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forge {
    /// Its name.
    pub host: Name,
    /// The port of its HTTPS.
    pub port: u16,
    /// What requests to it carry.
    pub access: Vec<Access>,
}

/// A credential that is put into git's requests, as what stands for it inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The name of the account, which stands before the password in `Authorization: Basic`; most forges take any.
    pub user: String,
    /// What stands for the password.
    pub placeholder: Placeholder,
    /// For which paths it is bound: `/` for all.
    pub path: PathRule,
}

/// The text of the system's configuration for git, in the order of the forges.
#[must_use]
pub fn inside(forges: &[Forge]) -> String {
    let mut text = String::from(
        "# Written by Stockade. Git leaves this environment as smart HTTP only, and what stands for a credential here\n\
         # is worth nothing anywhere else.\n\
         [credential]\n\tinteractive = false\n",
    );
    let mut named = BTreeSet::new();
    for forge in forges {
        let place = place(forge);
        // A name that is at two ports is spoken over SSH at one of them only.
        if named.insert(forge.host.as_str()) {
            let _ = writeln!(text, "[url \"{place}/\"]");
            for spelled in spellings(forge.host.as_str()) {
                let _ = writeln!(text, "\tinsteadOf = \"{spelled}\"");
            }
        }
        for access in &forge.access {
            let user: String = access.user.chars().filter(|c| c.is_ascii_graphic() && *c != ':').collect();
            let basic = STANDARD.encode(format!("{user}:{}", access.placeholder.as_str()));
            for path in paths(&access.path) {
                // An empty value first: what was set above for a wider path is not sent too (git-config, "http.extraHeader").
                let _ = writeln!(
                    text,
                    "[http \"{place}{path}\"]\n\textraHeader =\n\textraHeader = \"Authorization: Basic {basic}\""
                );
            }
        }
    }
    text
}

fn place(forge: &Forge) -> String {
    match forge.port {
        443 => format!("https://{}", forge.host),
        port => format!("https://{}:{port}", forge.host),
    }
}

/// How people and tools write a remote that is to be spoken over SSH. The longest that fits wins.
fn spellings(host: &str) -> Vec<String> {
    let mut all = vec![format!("git@{host}:"), format!("git@{host}:/")];
    for scheme in ["ssh", "git+ssh", "ssh+git"] {
        for user in ["git@", ""] {
            all.extend(["", ":22"].map(|port| format!("{scheme}://{user}{host}{port}/")));
        }
    }
    // Git's own protocol, which has neither secrecy nor a way to be looked into.
    all.push(format!("git://{host}/"));
    all
}

/// The paths for which git is to send the header: git compares whole parts, and repositories are spelled with and without `.git`.
fn paths(rule: &PathRule) -> Vec<String> {
    let (PathRule::Exact(path) | PathRule::Below(path)) = rule;
    let path = path.as_str().trim_end_matches('/');
    // In a value between quotes these would end it, or begin something else.
    if path.contains(['"', '\\']) || path.chars().any(char::is_control) {
        return Vec::new();
    }
    match path {
        "" => vec!["/".to_owned()],
        path if path.ends_with(".git") => vec![path.to_owned()],
        path => vec![path.to_owned(), format!("{path}.git")],
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn forge(path: &str) -> Forge {
        let access = Access {
            user: "x-access-token".to_owned(),
            placeholder: Placeholder::from_random(&[7; 20]),
            path: PathRule::below(path).expect("a path"),
        };
        Forge { host: Name::parse("forge.example").expect("a name"), port: 443, access: vec![access] }
    }

    /// Asks git, with the text as its system configuration.
    fn git(text: &str, args: &[&str]) -> String {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("gitconfig");
        std::fs::write(&file, text).expect("writes");
        let out = Command::new("git")
            .args(args)
            .current_dir(dir.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs([("HOME", "/nonexistent"), ("GIT_CONFIG_GLOBAL", "/dev/null")])
            .env("GIT_CONFIG_SYSTEM", file)
            .output()
            .expect("git is installed");
        String::from_utf8(out.stdout).expect("text").trim_end().to_owned()
    }

    #[test]
    fn every_spelling_for_ssh_is_spoken_as_https() {
        let text = inside(&[forge("/")]);
        for spelled in [
            "git@forge.example:team/app.git",
            "git@forge.example:/team/app.git",
            "ssh://git@forge.example/team/app.git",
            "ssh://git@forge.example:22/team/app.git",
            "ssh://forge.example/team/app.git",
            "git+ssh://git@forge.example/team/app.git",
            "git://forge.example/team/app.git",
            "https://forge.example/team/app.git",
        ] {
            assert_eq!(git(&text, &["ls-remote", "--get-url", spelled]), "https://forge.example/team/app.git");
        }
        for other in ["git@forge.example.org:a/b.git", "ssh://git@forge.example:2222/a/b", "git@other.example:a/b.git"]
        {
            assert_eq!(git(&text, &["ls-remote", "--get-url", other]), other);
        }
        let other = Forge { port: 8443, access: vec![], ..forge("/") };
        assert_eq!(
            git(&inside(&[other]), &["ls-remote", "--get-url", "git@forge.example:a/b"]),
            "https://forge.example:8443/a/b"
        );
    }

    #[test]
    fn the_placeholder_goes_where_it_is_bound_and_nowhere_else() {
        let header = |text: &str, url: &str| git(text, &["config", "--get-urlmatch", "http.extraHeader", url]);
        let wanted = format!(
            "Authorization: Basic {}",
            STANDARD.encode(format!("x-access-token:{}", Placeholder::from_random(&[7; 20]).as_str()))
        );
        let text = inside(&[forge("/team/app")]);
        for url in ["https://forge.example/team/app", "https://forge.example/team/app.git/info/refs"] {
            assert_eq!(header(&text, url), wanted, "{url}");
        }
        for url in [
            "https://forge.example/team/application",
            "https://forge.example/",
            "http://forge.example/team/app",
            "https://forge.example.org/team/app",
            "https://forge.example:8443/team/app",
        ] {
            assert_eq!(header(&text, url), "", "{url}");
        }
        assert_eq!(header(&inside(&[forge("/")]), "https://forge.example/any/where"), wanted);
    }

    #[test]
    fn no_account_and_no_path_writes_another_line() {
        let mut hostile = forge("/a");
        hostile.access[0].user = "x\"\n[core]\n\tsshCommand = evil:".to_owned();
        let text = inside(&[hostile, Forge { access: vec![], ..forge("/") }]);
        assert!(!text.contains("sshCommand") && !text.contains("evil"));
        assert_eq!(text.matches("[url ").count(), 1);
        assert!(
            paths(&PathRule::below("/a\"b").unwrap_or(PathRule::below("/a").expect("a path")))
                .iter()
                .all(|path| !path.contains('"'))
        );
    }
}
