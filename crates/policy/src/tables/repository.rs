//! `[[repository]]`: which git repositories may be fetched from, and which of their refs may be pushed to.
//!
//! The guard rails of pushes are here: a push by force, a deletion, one in which credentials were found, one that touches
//! protected paths, and a branch outside of `stockade/*` are permitted only where a table says so with a word of its own.

use toml::de::DeValue;

use super::{
    Effect, Head, RefPattern, RepositoryPattern, Restriction, Table, Written, cedar::Writing, connection::INSPECTED,
    one_of_numbers,
};
use crate::bundle::{Problem, Reader};

const KEYS: [&str; 15] = [
    "id",
    "title",
    "pack",
    "effect",
    "repositories",
    "ports",
    "fetch",
    "push",
    "force",
    "deletion",
    "findings",
    "protected_paths",
    "max_pack_bytes",
    "projects",
    "levels",
];

/// Which refs may be pushed to, or must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Push {
    Nothing,
    Refs(Vec<RefPattern>),
    Everything,
}

/// A table as it was read.
#[derive(Debug, Clone)]
pub(super) struct Repository {
    pub(super) head: Head,
    pub(super) repositories: Vec<RepositoryPattern>,
    pub(super) ports: Vec<i64>,
    fetch: bool,
    push: Push,
    force: bool,
    deletion: bool,
    findings: bool,
    protected_paths: bool,
    max_pack_bytes: Option<i64>,
}

impl Repository {
    pub(super) fn id(&self) -> &str {
        &self.head.id
    }

    /// Whether a connection to a host may be opened, if it is looked into.
    pub(super) fn opens(&self, host: &str, port: i64) -> bool {
        self.head.effect == Effect::Allow
            && self.ports.contains(&port)
            && self.repositories.iter().any(|repository| repository.host == host)
    }

    /// Whether a repository may be fetched from.
    pub(super) fn fetches(&self, repository: &str) -> bool {
        self.head.effect == Effect::Allow && self.fetch && self.repositories.iter().any(|one| one.matches(repository))
    }

    pub(super) fn written(&self, line: usize) -> Vec<Written> {
        let scope = self.head.restrictions();
        let mut hosts: Vec<&str> = self.repositories.iter().map(|repository| repository.host.as_str()).collect();
        hosts.dedup();
        let hosts = super::one_of("resource.id", hosts).unwrap_or_else(|| "false".to_owned());
        let ports: Vec<Restriction> = one_of_numbers("port", &self.ports).into_iter().collect();
        let open = |writing: fn(&str, &str) -> Writing| {
            writing("connection.open", "Host").when(&hosts).within(&ports).within(&scope)
        };
        // A prohibition is held against small letters: forges take `Team/App` for `team/app`.
        let git = |action: &str, permits: bool| {
            let about = if permits { "resource.id" } else { "resource.folded" };
            let which = RepositoryPattern::condition(&self.repositories, about, !permits);
            let writing = if permits { Writing::permit } else { Writing::forbid };
            writing(action, "Repository").when(&which).within(&scope)
        };
        let refs = match &self.push {
            Push::Refs(refs) => Some(Restriction::circumstance("ref", RefPattern::condition(refs, "context.ref"))),
            _ => None,
        };
        let pushed = self.push != Push::Nothing;
        let mut written = Vec::new();
        let mut add = |deed: &str, writing: Writing| written.push(self.head.written(deed, line, writing));
        if self.head.effect == Effect::Deny {
            add("inspect", open(Writing::forbid).unless(INSPECTED));
            if self.fetch {
                add("fetch", git("git.fetch", false));
            }
            if pushed {
                add("push", git("git.push", false).within(&refs));
            }
            return written;
        }
        add("open", open(Writing::permit).when(INSPECTED));
        if self.fetch {
            add("fetch", git("git.fetch", true));
        }
        if pushed {
            add("push", self.rails(git("git.push", true).within(&refs)));
        }
        if self.head.effect == Effect::Ask {
            // No other table leads past the question, by a tunnel on any port.
            let tunnel = Writing::forbid("connection.open", "Host").when(&hosts).within(&scope);
            add("inspect", tunnel.unless(INSPECTED));
            if self.fetch {
                add("fetch.ask", git("git.fetch", false).when("context.unattended"));
            }
            if pushed {
                add("push.ask", git("git.push", false).within(&refs).when("context.unattended"));
            }
        }
        written
    }

    /// What a push that is permitted must not be, unless the table says so. What the deed does not say is not permitted.
    fn rails(&self, mut writing: Writing) -> Writing {
        for (word, permitted) in
            [("force", self.force), ("deletion", self.deletion), ("protected_paths", self.protected_paths)]
        {
            if !permitted {
                writing = writing.when(&format!("context has {word} && !context.{word}"));
            }
        }
        if !self.findings {
            writing = writing.when("context has findings && context.findings.isEmpty()");
        }
        if let Some(most) = self.max_pack_bytes {
            writing = writing.when(&format!("context has pack_bytes && context.pack_bytes <= {most}"));
        }
        writing
    }
}

impl Reader {
    pub(super) fn repository(&mut self, table: &Table<'_>) -> Option<Repository> {
        self.unknown_keys(table.get_ref(), &KEYS);
        let head = self.head(table);
        let effect = head.as_ref().map(|head| head.effect);
        if !table.get_ref().contains_key("repositories") {
            let message =
                "`repositories` is missing: host and path, as in `forge.example/team/app` or `forge.example/team/*`";
            self.problems.push(Problem::at(self.lines.of(table.span().start), message.to_owned()));
        }
        let repositories = self.patterns(table, "repositories", RepositoryPattern::parse);
        let ports = self.ports(table, effect);
        let fetch = self.said(table, "fetch").unwrap_or(true);
        let push = self.push(table, effect);
        let mut rail = |key: &str| self.said(table, key).unwrap_or(false);
        let (force, deletion) = (rail("force"), rail("deletion"));
        let (findings, protected_paths) = (rail("findings"), rail("protected_paths"));
        let max_pack_bytes = match table.get_ref().get("max_pack_bytes").map(|value| value.get_ref()) {
            Some(DeValue::Array(_)) => {
                let message = "`max_pack_bytes` is one whole number".to_owned();
                self.problems.push(Problem::at(self.lines.of(table.span().start), message));
                None
            }
            _ => self.numbers(table, "max_pack_bytes", 0, i64::MAX).first().copied(),
        };
        let rails = ["force", "deletion", "findings", "protected_paths", "max_pack_bytes"];
        for key in rails.into_iter().filter(|key| table.get_ref().contains_key(*key)) {
            let why = if effect == Some(Effect::Deny) {
                "is for pushes that are allowed; a rule that denies is for all pushes to the refs that it names"
            } else if push == Push::Nothing {
                "is for pushes, and this table allows none; write `push = true` or a list of branches"
            } else {
                continue;
            };
            let start = table.get_ref().get(key).map_or_else(|| table.span().start, |value| value.span().start);
            self.problems.push(Problem::at(self.lines.of(start), format!("`{key}` {why}")));
        }
        if !fetch && push == Push::Nothing {
            let message =
                "this table is about neither fetching nor pushing; leave `fetch` out, or write `push`".to_owned();
            self.problems.push(Problem::at(self.lines.of(table.span().start), message));
        }
        let head = head?;
        Some(Repository {
            head,
            repositories,
            ports,
            fetch,
            push,
            force,
            deletion,
            findings,
            protected_paths,
            max_pack_bytes,
        })
    }

    /// Nothing said means no push, or every push for a rule that denies; `true` means Stockade's own branches, or every ref.
    fn push(&mut self, table: &Table<'_>, effect: Option<Effect>) -> Push {
        let denies = effect == Some(Effect::Deny);
        match table.get_ref().get("push").map(|value| value.get_ref()) {
            None if denies => Push::Everything,
            Some(DeValue::Boolean(true)) if denies => Push::Everything,
            None | Some(DeValue::Boolean(false)) => Push::Nothing,
            Some(DeValue::Boolean(true)) => Push::Refs(vec![RefPattern::own()]),
            Some(_) => Push::Refs(self.patterns(table, "push", RefPattern::parse)),
        }
    }
}
