//! Cedar's answer about a table is that of a plain reading of it, whatever the table and the deed are.

use std::collections::BTreeSet;

use proptest::prelude::*;
use stockade_domain::{Action, Answer, Context, Deed, ResourceKind};
use stockade_policy::{Bundle, tables::HostPattern};

use crate::{
    project,
    tables::{answer, deed, load, push},
};

/// A table about connections, as a person reads it.
#[derive(Debug, Clone)]
struct Plain {
    effect: &'static str,
    hosts: Vec<&'static str>,
    ports: Vec<i64>,
    inspected: bool,
    methods: Vec<&'static str>,
    paths: Vec<&'static str>,
    upgrade: bool,
    levels: Vec<i64>,
    of_project: bool,
}

/// What a deed says.
#[derive(Debug, Clone)]
struct Said {
    host: String,
    port: Option<i64>,
    /// Of a connection; a request if there is none.
    opening: Option<bool>,
    method: Option<&'static str>,
    path: Option<String>,
    upgrade: Option<&'static str>,
    level: Option<i64>,
    project: Option<u8>,
}

const HOSTS: [&str; 8] = [
    "crates.example",
    "*.crates.example",
    "example",
    "*.example",
    "10.0.0.1",
    "[2001:db8::1]",
    "a_b.evil",
    "*.a.crates.example",
];

fn list(texts: &[&str]) -> String {
    texts.iter().map(|text| format!("\"{text}\"")).collect::<Vec<_>>().join(", ")
}

fn numbers(numbers: &[i64]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Plain {
    fn toml(&self, n: usize) -> String {
        let mut text = format!("[[connection]]\nid = \"c{n}\"\ntitle = \"t\"\neffect = \"{}\"\n", self.effect);
        text.push_str(&format!("hosts = [{}]\n", list(&self.hosts)));
        if self.ports != [443] || self.effect == "deny" {
            text.push_str(&format!("ports = [{}]\n", numbers(&self.ports)));
        }
        for (key, members) in [("methods", &self.methods), ("paths", &self.paths)] {
            if !members.is_empty() {
                text.push_str(&format!("{key} = [{}]\n", list(members)));
            }
        }
        if self.inspected && self.effect != "deny" {
            text.push_str("inspected = true\n");
        }
        if self.upgrade {
            text.push_str("upgrade = \"websocket\"\n");
        }
        if !self.levels.is_empty() {
            text.push_str(&format!("levels = [{}]\n", numbers(&self.levels)));
        }
        if self.of_project {
            text.push_str(&format!("projects = \"{}\"\n", project(1)));
        }
        text
    }

    fn names(&self, host: &str) -> bool {
        let labels: Vec<&str> = host.split('.').collect();
        self.hosts.iter().any(|pattern| match pattern.strip_prefix("*.") {
            None => *pattern == host,
            Some(name) => {
                let name: Vec<&str> = name.split('.').collect();
                labels.len() > name.len() && labels[labels.len() - name.len()..] == name
            }
        })
    }

    fn about_requests(&self) -> bool {
        !self.methods.is_empty() || !self.paths.is_empty() || (self.upgrade && self.effect == "deny")
    }

    /// Whether the deed is among what the table names; `unsaid` is the answer for what the deed does not say.
    fn place(&self, said: &Said, unsaid: bool) -> bool {
        self.names(&said.host)
            && said.port.map_or(unsaid, |port| self.ports.contains(&port))
            && (self.levels.is_empty() || said.level.map_or(unsaid, |level| self.levels.contains(&level)))
            && (!self.of_project || said.project.map_or(unsaid, |of| of == 1))
    }

    fn request(&self, said: &Said, unsaid: bool) -> bool {
        let below = |path: &str| {
            self.paths.iter().any(|pattern| match pattern.strip_suffix('*') {
                None => *pattern == path,
                // It ends with a slash, or with an encoded one.
                Some(above) => path.starts_with(above),
            })
        };
        (self.methods.is_empty() || said.method.map_or(unsaid, |method| self.methods.contains(&method)))
            && (self.paths.is_empty() || said.path.as_deref().map_or(unsaid, below))
    }

    /// Whether it permits, asks, forbids.
    fn reads(&self, said: &Said) -> (bool, bool, bool) {
        let (sure, perhaps) = (self.place(said, false), self.place(said, true));
        if let Some(inspected) = said.opening {
            let may = sure && (inspected || !(self.inspected || self.about_requests()));
            let past = perhaps && !inspected;
            match (self.effect, self.about_requests()) {
                ("allow", _) => (may, false, false),
                ("ask", false) => (may, perhaps, false),
                ("ask", true) => (may, false, past),
                (_, true) => (false, false, past),
                (_, false) => (false, false, perhaps),
            }
        } else {
            let upgrade = said.upgrade.is_none_or(|word| self.upgrade && word == "websocket");
            let may = sure && self.request(said, false) && upgrade;
            let meant = perhaps && self.request(said, true);
            match self.effect {
                "allow" => (may, false, false),
                "ask" => (may, meant && self.about_requests(), false),
                _ => (false, false, meant && (!self.upgrade || said.upgrade == Some("websocket"))),
            }
        }
    }
}

/// Whether a host is spelled as deeds spell it.
fn well_spelled(host: &str) -> bool {
    let name = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b))
    };
    let number = |label: &str| label.bytes().all(|b| b.is_ascii_digit());
    ["10.0.0.1", "[2001:db8::1]"].contains(&host)
        || (host.split('.').all(name) && !host.split('.').next_back().is_some_and(number))
}

/// Where servers read the path in several ways: what all readings permit, and none forbids.
fn plain_answer(tables: &[Plain], said: &Said) -> Answer {
    let answers: Vec<Answer> = said.readings().iter().map(|said| one_answer(tables, said)).collect();
    let least = [Answer::Deny, Answer::Ask].into_iter().find(|answer| answers.contains(answer));
    least.unwrap_or(Answer::Allow)
}

fn one_answer(tables: &[Plain], said: &Said) -> Answer {
    if !well_spelled(&said.host) {
        return Answer::Deny;
    }
    let read: Vec<_> = tables.iter().map(|table| table.reads(said)).collect();
    if read.iter().any(|(.., forbids)| *forbids) || !read.iter().any(|(permits, ..)| *permits) {
        Answer::Deny
    } else if read.iter().any(|(_, asks, _)| *asks) {
        Answer::Ask
    } else {
        Answer::Allow
    }
}

fn some_of(all: &'static [&'static str], most: usize) -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::btree_set(prop::sample::select(all.to_vec()), 0..=most).prop_map(|set| set.into_iter().collect())
}

fn plain() -> impl Strategy<Value = Plain> {
    (
        prop::sample::select(vec!["allow", "allow", "allow", "ask", "deny"]),
        prop::collection::btree_set(prop::sample::select(HOSTS.to_vec()), 1..4),
        prop::sample::select(vec![vec![443], vec![443], vec![80, 443], vec![8443]]),
        prop::bool::weighted(0.3),
        some_of(&["GET", "HEAD", "POST"], 2),
        some_of(&["/a", "/a/*", "/a/b/*", "/*", "/%C3%BC/*", "/a%2F*", "/a%2Fb", "/a/b%2Fc/*"], 3),
        prop::bool::weighted(0.3),
        prop::sample::select(vec![vec![], vec![], vec![2], vec![1, 3]]),
        prop::bool::weighted(0.2),
    )
        .prop_map(|(effect, hosts, ports, inspected, methods, paths, upgrade, levels, of_project)| Plain {
            effect,
            hosts: hosts.into_iter().collect(),
            ports,
            inspected,
            methods,
            paths,
            upgrade,
            levels,
            of_project,
        })
}

fn hosts() -> impl Strategy<Value = String> {
    let label = prop::sample::select(vec![
        "a",
        "b",
        "crates",
        "notcrates",
        "example",
        "evil",
        "attacker",
        "xn--x",
        "a_b",
        "Crates",
        "EXAMPLE",
        "",
        "-a",
        "1",
        "*",
    ]);
    prop_oneof![
        3 => prop::sample::select(vec![
            "crates.example", "a.crates.example", "notcrates.example", "crates.example.evil", "attacker.crates.example.evil",
            "crates.example.", "CRATES.example", ".crates.example", "a..crates.example", "10.0.0.1", "10.0.0.1.example", "example",
            "[2001:db8::1]", "2001:db8::1", "a_b.evil", "x.a_b.evil", "b.a.crates.example", "crates-example", "crates.exampl",
        ]).prop_map(str::to_owned),
        1 => prop::collection::vec(label, 1..4).prop_map(|labels| labels.join(".")),
    ]
}

fn said() -> impl Strategy<Value = Said> {
    let sometimes = |of: &'static [&'static str]| prop::option::weighted(0.8, prop::sample::select(of.to_vec()));
    (
        hosts(),
        prop::option::weighted(0.9, prop::sample::select(vec![443, 443, 80, 8443, 22])),
        prop::option::of(prop::bool::ANY),
        sometimes(&["GET", "HEAD", "POST", "get"]),
        sometimes(&[
            "/",
            "/a",
            "/a/",
            "/a/b",
            "/a/b/c",
            "/ab",
            "/A",
            "/%C3%BC/x",
            "//a",
            "/a%2Fb",
            "/a%2fb",
            "/a%2Fb/c",
            "/a/b%2Fc",
            "/a%2Fb%2Fc",
            "/x/a%2Fb",
        ]),
        prop::option::weighted(0.2, prop::sample::select(vec!["websocket", "h2c"])),
        prop::option::weighted(0.9, 1i64..4),
        prop::option::weighted(0.7, 1u8..3),
    )
        .prop_map(|(host, port, opening, method, path, upgrade, level, project)| Said {
            host,
            port,
            opening,
            method,
            path: path.map(str::to_owned),
            upgrade,
            level,
            project,
        })
}

impl Said {
    /// With each encoded slash as it is, and as a slash.
    fn readings(&self) -> Vec<Self> {
        let path = self.path.as_deref().filter(|_| self.opening.is_none()).unwrap_or_default().replace("%2f", "%2F");
        let Some(at) = path.find("%2F") else {
            let path = self.path.as_ref().map(|path| path.replace('~', "%2F"));
            return vec![Self { path, ..self.clone() }];
        };
        let (before, after) = (&path[..at], &path[at + 3..]);
        let with = |slash| Self { path: Some(format!("{before}{slash}{after}")), ..self.clone() };
        [with("/"), with("~")].iter().flat_map(Self::readings).collect()
    }

    fn deed(&self) -> Deed {
        let action = if self.opening.is_some() { Action::ConnectionOpen } else { Action::RequestSend };
        let mut deed = deed(action, ResourceKind::Host, &self.host);
        deed.resource.project = self.project.map(project);
        let mut context = Context::default();
        for (name, number) in [("port", self.port), ("level", self.level)] {
            if let Some(number) = number {
                context = context.with(name, number);
            }
        }
        if let Some(inspected) = self.opening {
            context = context.with("inspected", inspected);
        } else {
            for (name, text) in [("method", self.method), ("upgrade", self.upgrade)] {
                if let Some(text) = text {
                    context = context.with(name, text);
                }
            }
            if let Some(path) = &self.path {
                context = context.with_content("path", path.as_str());
            }
        }
        deed.context = context;
        deed
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn cedar_reads_connections_as_people_do(
        tables in prop::collection::vec(plain(), 1..5),
        asked in prop::collection::vec(said(), 24),
    ) {
        let text: String = tables.iter().enumerate().map(|(n, table)| table.toml(n)).collect();
        let engine = Bundle::parse(1, &text).map_err(|error| TestCaseError::fail(format!("{:#?}\n{text}", error.problems)))?;
        for said in asked {
            let deed = said.deed();
            prop_assert_eq!(answer(&engine, &deed), plain_answer(&tables, &said), "{:?}\n{}", said, text);
            prop_assert_eq!(engine.explain(&deed).decision, engine.simulate(&deed));
            // However a policy is written: never freer than any reading of the path.
            for reading in said.readings().iter().map(Said::deed) {
                let (whole, one) = (answer(&engine, &deed), answer(&engine, &reading));
                prop_assert!(one == Answer::Allow || whole == one || whole == Answer::Deny, "{:?}", said);
            }
        }
    }

    /// Names that are spelled in one way are read, all others are refused with a reason.
    #[test]
    fn a_host_of_a_rule_is_spelled_as_in_a_deed(host in hosts(), below in prop::bool::ANY) {
        let text = if below { format!("*.{host}") } else { host.clone() };
        // A name that is generated may have a `*.` in front already.
        let (below, name) = text.strip_prefix("*.").map_or((false, text.as_str()), |name| (true, name));
        let address = ["10.0.0.1", "[2001:db8::1]"].contains(&name);
        let read = HostPattern::parse(&text).is_ok_and(|pattern| pattern != HostPattern::Any);
        prop_assert_eq!(read, well_spelled(name) && !(below && address), "{}", text);
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn cedar_reads_repositories_as_people_do(
        patterns in prop::collection::btree_set(prop::sample::select(vec![
            "forge.example/team/app", "forge.example/team/*", "forge.example/*", "forge.example/team/sub/*", "other.example/x",
        ]), 1..3),
        refs in prop::collection::btree_set(prop::sample::select(vec!["main", "stockade/*", "refs/tags/*", "*", "a/b/*"]), 1..3),
        effect in prop::sample::select(vec!["allow", "ask", "deny"]),
        host in prop::sample::select(vec!["forge.example", "other.example", "xforge.example", "forge.example.evil"]),
        parts in prop::collection::vec(prop::sample::select(vec!["team", "app", "sub", "x", "teams", "Team"]), 1..4),
        full in prop::sample::select(vec![
            "refs/heads/main", "refs/heads/stockade/x", "refs/heads/stockade/", "refs/heads/stockade", "refs/tags/v1", "refs/heads/a/b/c",
            "refs/heads/a/b", "refs/notes/x", "refs/heads/Main",
        ]),
        pushes in prop::bool::ANY,
    ) {
        let list = |set: &BTreeSet<&'static str>| set.iter().map(|text| format!("\"{text}\"")).collect::<Vec<_>>().join(", ");
        let table = format!(
            "[[repository]]\nid = \"r\"\ntitle = \"t\"\neffect = \"{effect}\"\nrepositories = [{}]\npush = [{}]\n",
            list(&patterns), list(&refs)
        );
        let yes = "[[policy]]\nid = \"yes\"\ntitle = \"t\"\ntext = \"permit(principal, action, resource);\"\n";
        let id = format!("{host}/{}", parts.join("/"));
        let meant = |id: &str| patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
            None => *pattern == id,
            Some(above) => id.len() > above.len() && id.starts_with(above),
        });
        let named = refs.iter().any(|pattern| {
            let whole = if pattern.starts_with("refs/") { (*pattern).to_owned() } else { format!("refs/heads/{pattern}") };
            whole.strip_suffix('*').map_or(full == whole, |above| full.starts_with(above))
        });
        let deed = if pushes { push(&id, full) } else { deed(Action::GitFetch, ResourceKind::Repository, &id) };
        let sure = meant(&id) && (named || !pushes);
        let perhaps = meant(&id.to_lowercase()) && (named || !pushes);
        let alone = load(&table);
        let expected = match effect {
            "allow" if sure => Answer::Allow,
            "ask" if sure => Answer::Ask,
            _ => Answer::Deny,
        };
        prop_assert_eq!(answer(&alone, &deed), expected, "{} {:?}", table, deed);
        // What somebody else permits is still asked about and forbidden, in large letters too.
        let both = load(&format!("{yes}{table}"));
        let expected = match effect {
            "ask" if perhaps => Answer::Ask,
            "deny" if perhaps => Answer::Deny,
            _ => Answer::Allow,
        };
        prop_assert_eq!(answer(&both, &deed), expected, "{} {:?}", table, deed);
    }

    #[test]
    fn cedar_reads_credentials_as_people_do(
        effect in prop::sample::select(vec!["allow", "ask", "deny"]),
        name in prop::sample::select(vec!["forge-token", "other", "Forge-Token", "forge\\\"token"]),
        host in hosts(),
        method in prop::option::of(prop::sample::select(vec!["GET", "POST"])),
    ) {
        let table = format!(
            "[[credential]]\nid = \"k\"\ntitle = \"t\"\neffect = \"{effect}\"\ncredentials = [\"forge-token\"]\n\
             hosts = [\"crates.example\", \"*.crates.example\"]\nmethods = [\"GET\"]\n"
        );
        let yes = "[[policy]]\nid = \"yes\"\ntitle = \"t\"\ntext = \"permit(principal, action, resource);\"\n";
        let mut deed = deed(Action::CredentialUse, ResourceKind::Credential, name);
        deed.context = deed.context.with("host", host.as_str());
        if let Some(method) = method {
            deed.context = deed.context.with("method", method);
        }
        let meant = name == "forge-token" && (host == "crates.example" || host.ends_with(".crates.example"));
        let sure = meant && method == Some("GET");
        let perhaps = meant && method != Some("POST");
        let answers = (answer(&load(&table), &deed), answer(&load(&format!("{yes}{table}")), &deed));
        prop_assert_eq!(answers, match effect {
            "allow" => (if sure { Answer::Allow } else { Answer::Deny }, Answer::Allow),
            "ask" => (if sure { Answer::Ask } else { Answer::Deny }, if perhaps { Answer::Ask } else { Answer::Allow }),
            _ => (Answer::Deny, if perhaps { Answer::Deny } else { Answer::Allow }),
        });
    }
}
