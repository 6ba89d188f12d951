//! `[[connection]]`: to which hosts connections may be opened, and which requests may be sent on them.

use toml::Spanned;

use super::{
    Effect, Head, HostPattern, PathPattern, Restriction, Table, Written, cedar::Writing, is_text, one_of_numbers,
    requests, shown,
};
use crate::bundle::{Problem, Reader};

const KEYS: [&str; 12] = [
    "id",
    "title",
    "pack",
    "effect",
    "hosts",
    "ports",
    "inspected",
    "methods",
    "paths",
    "upgrade",
    "projects",
    "levels",
];

/// The condition that a connection is looked into.
pub(super) const INSPECTED: &str = "context has inspected && context.inspected";

/// A table as it was read.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    pub(super) head: Head,
    pub(super) hosts: Vec<HostPattern>,
    pub(super) ports: Vec<i64>,
    pub(super) paths: Vec<PathPattern>,
    inspected: bool,
    methods: Vec<String>,
    upgrade: bool,
    /// A person is asked once, about the connection, whatever the table says about requests.
    pub(super) asks_once: bool,
}

impl Connection {
    pub(super) fn id(&self) -> &str {
        &self.head.id
    }

    /// Whether it speaks about single requests.
    fn about_requests(&self) -> bool {
        !self.methods.is_empty() || !self.paths.is_empty() || (self.upgrade && self.head.effect == Effect::Deny)
    }

    /// Whether a connection may be opened, if it is looked into. For whom the table is, is not asked.
    pub(super) fn opens(&self, host: &str, port: i64) -> bool {
        self.head.effect == Effect::Allow
            && self.ports.contains(&port)
            && self.hosts.iter().any(|pattern| pattern.matches(host))
    }

    /// Whether a plain request may be sent; one whose path is not known, by everything else.
    pub(super) fn sends(&self, host: &str, port: i64, method: &str, path: Option<&str>) -> bool {
        self.opens(host, port)
            && (self.methods.is_empty() || self.methods.iter().any(|known| known == method))
            && (self.paths.is_empty() || path.is_none_or(|path| self.paths.iter().any(|below| below.matches(path))))
    }

    pub(super) fn written(&self, line: usize) -> Vec<Written> {
        let hosts = HostPattern::condition(&self.hosts, "resource.id");
        let begun = |writing: Writing| match &hosts {
            Some(condition) => writing.when(condition),
            None => writing,
        };
        let place: Vec<Restriction> =
            one_of_numbers("port", &self.ports).into_iter().chain(self.head.restrictions()).collect();
        let requests = requests(&self.methods, &self.paths);
        let open = |writing: fn(&str, &str) -> Writing| begun(writing("connection.open", "Host")).within(&place);
        let send = |writing: fn(&str, &str) -> Writing| {
            begun(writing("request.send", "Host")).within(&place).within(&requests)
        };
        let mut written = Vec::new();
        let mut add = |deed: &str, writing: Writing| written.push(self.head.written(deed, line, writing));
        if self.head.effect != Effect::Deny {
            let opening = open(Writing::permit);
            let looked = self.inspected || self.about_requests();
            add("open", if looked { opening.when(INSPECTED) } else { opening });
            let sending = send(Writing::permit);
            add(
                "send",
                if self.upgrade {
                    sending.unless("context has upgrade && context.upgrade != \"websocket\"")
                } else {
                    sending.unless("context has upgrade")
                },
            );
        }
        match self.head.effect {
            Effect::Allow => {}
            Effect::Ask if self.asks_once || !self.about_requests() => {
                add("open.ask", open(Writing::forbid).when("context.unattended"));
            }
            Effect::Ask => {
                add("inspect", open(Writing::forbid).unless(INSPECTED));
                add("send.ask", send(Writing::forbid).when("context.unattended"));
            }
            Effect::Deny if self.about_requests() => {
                add("inspect", open(Writing::forbid).unless(INSPECTED));
                let sending = send(Writing::forbid);
                add("send", if self.upgrade { sending.when(&is_text("upgrade", "websocket")) } else { sending });
            }
            Effect::Deny => {
                add("open", open(Writing::forbid));
                add("send", send(Writing::forbid));
            }
        }
        written
    }
}

impl Reader {
    pub(super) fn connection(&mut self, table: &Table<'_>) -> Option<Connection> {
        self.unknown_keys(table.get_ref(), &KEYS);
        let head = self.head(table);
        let effect = head.as_ref().map(|head| head.effect);
        let hosts = self.hosts(table, effect);
        let ports = self.ports(table, effect);
        let inspected = self.said(table, "inspected");
        let methods = self.methods(table);
        let paths = self.patterns(table, "paths", PathPattern::parse);
        let upgrade = match self.text(table, "upgrade", false) {
            None => false,
            Some((word, _)) if word == "websocket" => true,
            Some((word, line)) => {
                let message = format!("`upgrade` is \"websocket\", the only one there is, not `{}`", shown(&word));
                self.problems.push(Problem::at(line, message));
                false
            }
        };
        let place =
            |key: &str| table.get_ref().get(key).map_or_else(|| table.span().start, |value| Spanned::span(value).start);
        if inspected.is_some() && effect == Some(Effect::Deny) {
            let message = "`inspected` is for what may be opened; a rule that denies is for every connection, or for the \
                           `methods` and `paths` that it names";
            self.problems.push(Problem::at(self.lines.of(place("inspected")), message.to_owned()));
        }
        if inspected == Some(false) && (!methods.is_empty() || !paths.is_empty()) {
            let message = "`methods` and `paths` can only be held against connections that are looked into; leave \
                           `inspected` out, or make it true";
            self.problems.push(Problem::at(self.lines.of(place("inspected")), message.to_owned()));
        }
        let head = head?;
        Some(Connection {
            head,
            hosts,
            ports,
            paths,
            inspected: inspected == Some(true),
            methods,
            upgrade,
            asks_once: false,
        })
    }

    /// The hosts of a table, of which there must be some.
    pub(super) fn hosts(&mut self, table: &Table<'_>, effect: Option<Effect>) -> Vec<HostPattern> {
        let line = |reader: &Self| {
            let start = table.get_ref().get("hosts").map_or_else(|| table.span().start, |hosts| hosts.span().start);
            reader.lines.of(start)
        };
        if !table.get_ref().contains_key("hosts") {
            let message =
                "`hosts` is missing: names, `*.crates.example` for what is below one, or addresses".to_owned();
            self.problems.push(Problem::at(line(self), message));
        }
        let hosts = self.patterns(table, "hosts", HostPattern::parse);
        if effect == Some(Effect::Allow) && hosts.contains(&HostPattern::Any) {
            let message =
                "`*` would allow every host there is; name them, or let a person be asked (`effect = \"ask\"`)";
            self.problems.push(Problem::at(line(self), message.to_owned()));
        }
        hosts
    }
}
