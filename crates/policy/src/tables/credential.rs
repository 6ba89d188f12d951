//! `[[credential]]`: into which requests a credential of the site may be put.
//!
//! To which host, header and path a credential is bound is the site's configuration; no table can widen that.

use super::{
    Effect, Head, HostPattern, PathPattern, Restriction, Table, Written, cedar::Writing, one_of, requests, shown,
};
use crate::bundle::{Problem, Reader};

const KEYS: [&str; 10] =
    ["id", "title", "pack", "effect", "credentials", "hosts", "methods", "paths", "projects", "levels"];

/// The longest name of a credential, in bytes.
const MAX_NAME_BYTES: usize = 100;

/// A table as it was read.
#[derive(Debug, Clone)]
pub(super) struct Credential {
    head: Head,
    credentials: Vec<String>,
    hosts: Vec<HostPattern>,
    methods: Vec<String>,
    paths: Vec<PathPattern>,
}

impl Credential {
    pub(super) fn id(&self) -> &str {
        &self.head.id
    }

    pub(super) fn written(&self, line: usize) -> Vec<Written> {
        let names = one_of("resource.id", self.credentials.iter().map(String::as_str).collect());
        let names = names.unwrap_or_else(|| "false".to_owned());
        let hosts = HostPattern::condition(&self.hosts, "context.host").map(|is| Restriction::circumstance("host", is));
        let requests = requests(&self.methods, &self.paths);
        let put = |writing: fn(&str, &str) -> Writing| {
            let writing = writing("credential.use", "Credential").when(&names);
            writing.within(&hosts).within(&requests).within(&self.head.restrictions())
        };
        let written = |deed: &str, writing: Writing| self.head.written(deed, line, writing);
        match self.head.effect {
            Effect::Allow => vec![written("use", put(Writing::permit))],
            Effect::Ask => vec![
                written("use", put(Writing::permit)),
                written("use.ask", put(Writing::forbid).when("context.unattended")),
            ],
            Effect::Deny => vec![written("use", put(Writing::forbid))],
        }
    }
}

impl Reader {
    pub(super) fn credential(&mut self, table: &Table<'_>) -> Option<Credential> {
        self.unknown_keys(table.get_ref(), &KEYS);
        let head = self.head(table);
        if !table.get_ref().contains_key("credentials") {
            let message = "`credentials` is missing: their names in the site's configuration".to_owned();
            self.problems.push(Problem::at(self.lines.of(table.span().start), message));
        }
        let credentials = self.patterns(table, "credentials", |text| {
            let fits = (1..=MAX_NAME_BYTES).contains(&text.len()) && !text.contains(char::is_control);
            if fits { Ok(text.to_owned()) } else { Err(format!("`{}` is no name of a credential", shown(text))) }
        });
        let hosts = self.hosts(table, head.as_ref().map(|head| head.effect));
        let methods = self.methods(table);
        let paths = self.patterns(table, "paths", PathPattern::parse);
        Some(Credential { head: head?, credentials, hosts, methods, paths })
    }
}
