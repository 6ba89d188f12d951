//! Tables about the way out: what they are written out as, what is refused, and that Cedar reads them as a person does.

use std::{collections::BTreeSet, fs, path::Path};

use proptest::prelude::*;
use stockade_domain::{Action, Answer, Context, Deed, Resource, ResourceKind};
use stockade_policy::{
    Bundle, Engine, check, default_bundle,
    tables::{HostPattern, MAX_PATTERNS, MAX_TABLES, MAX_WRITTEN_POLICIES, Preset, PresetUse, presets, with_preset},
};

use crate::{agent, project};

fn load(text: &str) -> Engine {
    Bundle::parse(7, text).unwrap_or_else(|error| panic!("{:#?}\n{text}", error.problems))
}

fn problems(text: &str) -> Vec<String> {
    check(text).expect_err("this should not be in order").iter().map(ToString::to_string).collect()
}

fn written(text: &str) -> String {
    let engine = load(text);
    let lines =
        engine.policies().into_iter().map(|policy| format!("# {}: {}\n{}\n", policy.id, policy.title, policy.text));
    lines.collect::<Vec<_>>().join("\n")
}

fn deed(action: Action, kind: ResourceKind, id: &str) -> Deed {
    let context = Context::default().with("level", 2);
    Deed { principal: agent(), action, resource: Resource::new(kind, id), context }
}

fn connection(host: &str, port: i64, inspected: bool) -> Deed {
    let mut deed = deed(Action::ConnectionOpen, ResourceKind::Host, host);
    deed.context = deed.context.with("port", port).with("protocol", "tls").with("inspected", inspected);
    deed
}

fn request(host: &str, port: i64, method: &str, path: Option<&str>) -> Deed {
    let mut deed = deed(Action::RequestSend, ResourceKind::Host, host);
    deed.context = deed.context.with("port", port).with("method", method).with("inspected", true);
    if let Some(path) = path {
        deed.context = deed.context.with_content("path", path);
    }
    deed
}

fn push(repository: &str, full: &str) -> Deed {
    let mut deed = deed(Action::GitPush, ResourceKind::Repository, repository);
    deed.context = deed
        .context
        .with("ref", full)
        .with("new_ref", true)
        .with("force", false)
        .with("deletion", false)
        .with("pack_bytes", 1000)
        .with("protected_paths", false);
    deed.context.public.insert("findings".to_owned(), stockade_domain::ContextValue::Set(Vec::new()));
    deed
}

fn answer(engine: &Engine, deed: &Deed) -> Answer {
    engine.simulate(deed).answer
}

#[test]
fn tables_are_written_out_as_cedar() {
    insta::assert_snapshot!(written(
        r#"
[[connection]]
id = "crates"
title = "Crates are read"
pack = "registries"
hosts = ["crates.example", "*.crates.example", "10.1.2.3", "[2001:db8::1]"]

[[connection]]
id = "api"
title = "The API is asked"
effect = "ask"
hosts = "api.example"
ports = [443, 8443]
methods = ["GET", "POST"]
paths = ["/v1/status", "/v1/items/*"]
upgrade = "websocket"
levels = [1, 2]
projects = "prj_01040g2081040g2081040g2081"

[[connection]]
id = "no-admin"
title = "Nobody administrates"
effect = "deny"
hosts = "*"
paths = "/admin/*"

[[repository]]
id = "team"
title = "The team's code"
repositories = ["forge.example/team/*", "forge.example/Shared/tools"]
push = true
max_pack_bytes = 50_000_000

[[repository]]
id = "secret"
title = "Not this one"
effect = "deny"
repositories = "forge.example/team/Secret"

[[credential]]
id = "forge"
title = "The forge's token"
credentials = ["forge-token"]
hosts = ["forge.example"]
methods = ["GET", "POST"]
"#
    ));
}

#[test]
fn what_is_wrong_with_a_table_is_said_with_its_line() {
    let said = problems(
        r#"
[[connection]]
id = "Crates"
title = ""
effect = "maybe"
hosts = [
  "https://crates.example/x",
  "crates.example:443",
  "crates.example.",
  "Crates.Example",
  "bücher.example",
  "a*.example",
  "a.*.example",
  "**.example",
  "*.10.0.0.1",
  "010.0.0.1",
  "0x7f.1",
  "2130706433",
  "::1",
  "[::0001]",
  "[::ffff:10.0.0.1]",
  "a..example",
  "-a.example",
  "a_b.example/x",
  "a b.example",
  "",
]
ports = [0, 70000]
methods = ["get"]
paths = ["x", "/a/../b", "/%2Fa", "/%61", "/%c3", "/a?b", "/a*", "/*/b", "/..;a/", "/\u00fc"]
upgrade = "h2c"
levels = 5
projects = ["shop"]
colour = "red"

[[connection]]
id = "everything"
title = "Everything"
hosts = "*"

[[connection]]
id = "nothing"
title = "Nothing"
hosts = []

[[connection]]
id = "lost"
title = "Lost"

[[connection]]
id = "both"
title = "Both"
hosts = "a.example"
inspected = false
methods = "GET"

[[connection]]
id = "no"
title = "No"
effect = "deny"
hosts = "a.example"
inspected = true

[[connection]]
id = "twice"
title = "Twice"
hosts = "a.example"

[[repository]]
id = "twice"
title = "Twice"
repositories = "a.example/x"

[[repository]]
id = "odd"
title = "Odd"
repositories = ["https://a.example/x", "a.example", "*.example/x", "a.example/x.git", "a.example/x*", "a.example//x", "a.example/-x"]
push = ["a*", "refs/*", "a..b", "a b", "a.lock", "/a"]
fetch = "yes"

[[repository]]
id = "rails"
title = "Rails without pushes"
repositories = "a.example/x"
force = true

[[repository]]
id = "idle"
title = "Idle"
repositories = "a.example/x"
fetch = false

[[credential]]
id = "unbound"
title = "Unbound"
hosts = "a.example"

[[preset]]
use = "rusty"

[[preset]]
use = "rust"
effect = "deny"
mirror = { "crates.example" = "a.example" }

[[preset]]
use = "npm"
mirror = "https://a.example/x"

[[preset]]
use = "npm"
id = "npm-2"
mirror = "a.example:0/x"
"#,
    );
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn an_example_may_name_a_table() {
    let text = |by: &str| {
        format!(
            "[[connection]]\nid = \"crates\"\ntitle = \"t\"\nhosts = \"crates.example\"\n[[preset]]\nuse = \"rust\"\n\
             [[example]]\nname = \"e\"\nprincipal = \"agent\"\naction = \"connection.open\"\n\
             resource = \"host:crates.example\"\ncontext = {{ port = 443 }}\nexpect = \"allow\"\nby = \"{by}\"\n"
        )
    };
    for by in ["crates", "crates.open"] {
        assert!(check(&text(by)).is_ok(), "{by}");
    }
    for by in ["crates.send", "rust", "rust.index"] {
        assert!(problems(&text(by))[0].contains("but the answer is allow: by `crates.open`"), "{by}");
    }
    assert!(problems(&text("crate"))[0].contains("no policy of this bundle"));
    let text = text("crates").replace("id = \"crates\"", "id = \"other\"");
    assert!(problems(&text)[0].contains("no policy of this bundle"));
}

#[test]
fn there_may_be_so_many_tables_and_no_more() {
    let table = |n: usize, hosts: &str| format!("[[connection]]\nid = \"c{n}\"\ntitle = \"t\"\nhosts = [{hosts}]\n");
    let many: String = (0..=MAX_TABLES).map(|n| table(n, "\"a.example\"")).collect();
    assert_eq!(
        problems(&many),
        [format!("line 1: there are {} of [[connection]]; at most {MAX_TABLES} are read", MAX_TABLES + 1)]
    );
    let hosts = |n: usize| (0..n).map(|n| format!("\"*.h{n}.example\"")).collect::<Vec<_>>().join(", ");
    assert!(check(&table(1, &hosts(MAX_PATTERNS))).is_ok());
    assert_eq!(
        problems(&table(1, &hosts(MAX_PATTERNS + 1))),
        ["line 4: policy `c1`: `hosts` has 101 members; at most 100 are read: write several tables"]
    );
    let long = |n: usize| {
        (0..n).map(|n| format!("\"{}.h{n}.example\"", "a.".repeat(110) + "a")).collect::<Vec<_>>().join(", ")
    };
    assert!(problems(&table(1, &long(90)))[0].contains("write several tables"));
    let presets: String = (0..400).map(|n| format!("[[preset]]\nuse = \"rust\"\nid = \"r{n}\"\n")).collect();
    assert!(check(&presets).is_ok());
    let presets: String = (0..600).map(|n| format!("[[preset]]\nuse = \"rust\"\nid = \"r{n}\"\n")).collect();
    let said = problems(&presets);
    assert!(said[0].contains(&format!("4800 policies; at most {MAX_WRITTEN_POLICIES}")), "{said:?}");
}

/// A host in another spelling than a deed has would pass by what forbids it: such a deed is denied.
#[test]
fn a_host_or_repository_that_is_spelled_otherwise_is_denied() {
    let engine = load(
        "[[policy]]\nid = \"yes\"\ntitle = \"t\"\ntext = \"permit(principal, action, resource);\"\n\
         [[connection]]\nid = \"no\"\ntitle = \"t\"\neffect = \"deny\"\nhosts = [\"evil.example\", \"169.254.169.254\"]\n\
         [[repository]]\nid = \"secret\"\ntitle = \"t\"\neffect = \"deny\"\nrepositories = \"forge.example/team/secret\"\n",
    );
    for host in ["good.example", "_x.example", "xn--bcher-kva.example", "10.0.0.1", "[2001:db8::1]"] {
        assert_eq!(answer(&engine, &connection(host, 443, false)), Answer::Allow, "{host}");
    }
    for host in [
        "evil.example",
        "EVIL.example",
        "evil.example.",
        "evil.example:443",
        "",
        ".",
        "a..b",
        "169.254.169.254",
        "0xa9fea9fe",
        "169.254.43518",
        "[::ffff:169.254.169.254]",
        "[::ffff:a9fe:a9fe]",
        "::1",
        "[0:0::1]",
        "a/b",
        "https://x",
        "a b",
    ] {
        assert_eq!(answer(&engine, &connection(host, 443, false)), Answer::Deny, "{host}");
        assert_eq!(answer(&engine, &request(host, 443, "GET", Some("/"))), Answer::Deny, "{host}");
    }
    let fetch = |repository: &str| deed(Action::GitFetch, ResourceKind::Repository, repository);
    assert_eq!(answer(&engine, &fetch("forge.example/team/app")), Answer::Allow);
    for repository in [
        "forge.example/team/secret",
        "forge.example/Team/SECRET",
        "forge.example/team/secret.git",
        "forge.example//team/secret",
        "forge.example/team/x/../secret",
        "forge.example/./team/secret",
        "Forge.example/team/app",
        "forge.example",
        "/team/app",
        "forge.example/",
        "forge.example/-x",
        "forge.example/team/sec ret",
        "forge.example/team/%73ecret",
    ] {
        assert_eq!(answer(&engine, &fetch(repository)), Answer::Deny, "{repository}");
    }
}

/// Each preset does what its examples say, and reads only.
#[test]
fn presets_hold_their_examples_and_only_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("presets");
    let files: BTreeSet<String> = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(presets().map(str::to_owned).collect::<BTreeSet<_>>(), files, "a preset's file stands in the list");
    for name in presets() {
        let preset = Preset::find(name).unwrap();
        let results = preset.test().unwrap();
        assert!(results.len() >= 4 && results.iter().any(|result| result.expect == Answer::Deny), "{name}");
        for result in &results {
            assert!(result.holds, "{name}: {result:#?}");
        }
        assert!(!preset.tools.is_empty() && !preset.about.is_empty() && !preset.hosts.is_empty(), "{name}");
        let engine = load(&preset.in_use());
        assert_eq!(engine.summary().forbids, 0, "{name}");
        assert!(engine.policies().iter().all(|policy| !policy.text.contains("git.push")), "{name}");
        for host in &preset.hosts {
            let host = host.split('/').next().unwrap();
            let above = host.replace("*.", "");
            let host = host.replace("*.", "x.");
            let path = Some("/maven2/x");
            assert_eq!(answer(&engine, &connection(&host, 443, false)), Answer::Deny, "{name}: a tunnel to {host}");
            assert_eq!(answer(&engine, &connection(&host, 443, true)), Answer::Allow, "{name}: {host}");
            for method in ["POST", "PUT", "PATCH", "DELETE", "CONNECT", "get"] {
                assert_eq!(
                    answer(&engine, &request(&host, 443, method, path)),
                    Answer::Deny,
                    "{name}: {method} {host}"
                );
            }
            for other in [format!("x{above}"), format!("{host}.evil.example"), format!("evil.{above}.example")] {
                assert_eq!(answer(&engine, &connection(&other, 443, true)), Answer::Deny, "{name}: {other}");
            }
            assert_eq!(answer(&engine, &connection(&host, 22, true)), Answer::Deny, "{name}: {host}");
        }
    }
    assert!(Preset::find("cobol").unwrap_err().contains("there are bitbucket, codeberg"));
}

#[test]
fn a_preset_may_ask_and_be_for_some() {
    let engine =
        load(&format!("[[preset]]\nuse = \"rust\"\neffect = \"ask\"\nlevels = [1]\nprojects = \"{}\"\n", project(1)));
    let at = |mut deed: Deed, level: i64, of: Option<u8>| {
        deed.context = deed.context.with("level", level);
        deed.resource.project = of.map(project);
        answer(&engine, &deed)
    };
    let open = || connection("index.crates.io", 443, true);
    assert_eq!(at(open(), 1, Some(1)), Answer::Ask);
    assert_eq!(at(open(), 2, Some(1)), Answer::Deny);
    assert_eq!(at(open(), 1, Some(2)), Answer::Deny);
    assert_eq!(at(open(), 1, None), Answer::Deny);
    // A person has said yes to the connection: what goes over it is not asked about again.
    assert_eq!(at(request("index.crates.io", 443, "GET", Some("/se/rd/serde")), 1, Some(1)), Answer::Allow);
    assert_eq!(at(request("index.crates.io", 443, "POST", Some("/se/rd/serde")), 1, Some(1)), Answer::Deny);
}

#[test]
fn a_preset_is_put_to_use_at_the_end_of_a_bundle_and_nothing_else_changes() {
    let rust = PresetUse { name: "rust".to_owned(), ..PresetUse::default() };
    let text = with_preset(default_bundle(), &rust).unwrap();
    assert_eq!(text.strip_prefix(default_bundle()), Some("\n[[preset]]\nuse = \"rust\"\n"));
    assert_eq!(answer(&load(&text), &connection("index.crates.io", 443, true)), Answer::Allow);
    let twice = with_preset(&text, &rust).unwrap_err();
    assert!(twice[0].to_string().contains("a table of this id is there twice"), "{twice:?}");
    let whole = PresetUse {
        id: Some("rust-2".to_owned()),
        ask: true,
        mirror: Some("nexus.example/crates".to_owned()),
        projects: vec![project(1).to_string()],
        levels: vec![1, 2],
        ..rust
    };
    let text = with_preset(&text, &whole).unwrap();
    let mut asked = request("nexus.example", 443, "GET", Some("/crates/x"));
    asked.resource.project = Some(project(1));
    assert_eq!(answer(&load(&text), &asked), Answer::Allow);
    let mut opened = connection("nexus.example", 443, true);
    opened.resource.project = Some(project(1));
    assert_eq!(answer(&load(&text), &opened), Answer::Ask);
    assert_eq!(
        with_preset("about = \"x\"", &PresetUse { name: "npm".to_owned(), ..PresetUse::default() }).unwrap(),
        "about = \"x\"\n\n[[preset]]\nuse = \"npm\"\n"
    );
    let wrong = PresetUse { name: "npm\"\n[[policy]]".to_owned(), ..PresetUse::default() };
    assert!(with_preset("", &wrong).unwrap_err()[0].message.starts_with("there is no preset"));
}

#[test]
fn a_mirror_takes_the_place_of_a_host() {
    let whole = load("[[preset]]\nuse = \"rust\"\nmirror = \"nexus.example:8443/repository/crates/\"\n");
    let ask =
        |engine: &Engine, host: &str, port: i64, path: &str| answer(engine, &request(host, port, "GET", Some(path)));
    let open = |engine: &Engine, host: &str, port: i64| answer(engine, &connection(host, port, true));
    assert_eq!(open(&whole, "nexus.example", 8443), Answer::Allow);
    assert_eq!(open(&whole, "nexus.example", 443), Answer::Deny);
    assert_eq!(open(&whole, "index.crates.io", 443), Answer::Deny);
    assert_eq!(ask(&whole, "nexus.example", 8443, "/repository/crates/se/rd/serde"), Answer::Allow);
    assert_eq!(ask(&whole, "nexus.example", 8443, "/repository/crates"), Answer::Deny);
    assert_eq!(ask(&whole, "nexus.example", 8443, "/repository/secrets/x"), Answer::Deny);
    assert_eq!(ask(&whole, "index.crates.io", 443, "/se/rd/serde"), Answer::Deny);

    let some = load(
        "[[preset]]\nuse = \"yarn\"\n[preset.mirror]\n\"registry.npmjs.org\" = \"artifactory.example/artifactory/api/npm/npm\"\n",
    );
    assert_eq!(open(&some, "registry.npmjs.org", 443), Answer::Deny);
    assert_eq!(open(&some, "registry.yarnpkg.com", 443), Answer::Allow);
    assert_eq!(ask(&some, "artifactory.example", 443, "/artifactory/api/npm/npm/react"), Answer::Allow);
    assert_eq!(ask(&some, "artifactory.example", 443, "/artifactory/api/npm/other"), Answer::Deny);
    assert_eq!(
        some.policies().iter().map(|policy| policy.id.as_str()).collect::<Vec<_>>(),
        [
            "yarn.registry.2.open",
            "yarn.registry.2.send",
            "yarn.registry.open",
            "yarn.registry.send",
            "yarn.yarn.open",
            "yarn.yarn.send"
        ]
    );

    let forge = load("[[preset]]\nuse = \"github\"\nmirror = \"forge.example/mirrors\"\n");
    let fetch = |repository: &str| answer(&forge, &deed(Action::GitFetch, ResourceKind::Repository, repository));
    assert_eq!(fetch("forge.example/mirrors/team/app"), Answer::Allow);
    assert_eq!(fetch("forge.example/team/app"), Answer::Deny);
    assert_eq!(fetch("github.com/team/app"), Answer::Deny);
}

/// The guard rails of pushes: each is off only by a word of its own, and what the deed does not say counts as wrong.
#[test]
fn a_push_keeps_to_its_rails() {
    let table = |more: &str| {
        load(&format!("[[repository]]\nid = \"team\"\ntitle = \"t\"\nrepositories = \"forge.example/team/*\"\n{more}"))
    };
    let plain = table("push = true\nmax_pack_bytes = 1000\n");
    let own = push("forge.example/team/app", "refs/heads/stockade/x");
    assert_eq!(answer(&plain, &own), Answer::Allow);
    assert_eq!(answer(&table(""), &own), Answer::Deny, "without a word about pushes there is none");
    for (name, bad, word) in [
        ("force", true.into(), "force = true"),
        ("deletion", true.into(), "deletion = true"),
        ("protected_paths", true.into(), "protected_paths = true"),
        ("findings", stockade_domain::ContextValue::Set(vec!["secret.github_token".to_owned()]), "findings = true"),
        ("pack_bytes", 1001.into(), ""),
    ] {
        let mut wrong = own.clone();
        wrong.context = wrong.context.with(name, bad);
        let mut unsaid = own.clone();
        unsaid.context.public.remove(name);
        let granted = table(&format!("push = true\n{word}\n"));
        for deed in [wrong, unsaid] {
            assert_eq!(answer(&plain, &deed), Answer::Deny, "{name}");
            assert_eq!(answer(&granted, &deed), Answer::Allow, "{name} with `{word}`");
        }
    }
    for full in
        ["refs/heads/main", "refs/heads/stockade", "refs/heads/stockadex/y", "refs/tags/stockade/x", "stockade/x", ""]
    {
        assert_eq!(answer(&plain, &push("forge.example/team/app", full)), Answer::Deny, "{full}");
    }
    let granted = table("push = [\"main\", \"refs/tags/*\"]\n");
    assert_eq!(answer(&granted, &push("forge.example/team/app", "refs/heads/main")), Answer::Allow);
    assert_eq!(answer(&granted, &push("forge.example/team/app", "refs/tags/v1")), Answer::Allow);
    assert_eq!(answer(&granted, &own), Answer::Deny);
    for repository in
        ["forge.example/team", "forge.example/teams/app", "forge.example/x/team/app", "other.example/team/app"]
    {
        assert_eq!(answer(&plain, &push(repository, "refs/heads/stockade/x")), Answer::Deny, "{repository}");
    }
    let open = |port: i64, inspected: bool| answer(&plain, &connection("forge.example", port, inspected));
    assert_eq!((open(443, true), open(443, false), open(22, true)), (Answer::Allow, Answer::Deny, Answer::Deny));
    assert_eq!(answer(&plain, &request("forge.example", 443, "GET", Some("/team/app"))), Answer::Deny);
}

/// What is forbidden or asked about within a connection is not passed by in a tunnel.
#[test]
fn nothing_leads_past_a_rule_by_a_tunnel() {
    let all =
        "[[connection]]\nid = \"all\"\ntitle = \"t\"\nhosts = [\"a.example\", \"forge.example\"]\nports = [22, 443]\n";
    for (table, host) in [
        (
            "[[connection]]\nid = \"x\"\ntitle = \"t\"\neffect = \"deny\"\nhosts = \"a.example\"\nmethods = \"POST\"\n",
            "a.example",
        ),
        (
            "[[connection]]\nid = \"x\"\ntitle = \"t\"\neffect = \"deny\"\nhosts = \"a.example\"\nupgrade = \"websocket\"\n",
            "a.example",
        ),
        (
            "[[connection]]\nid = \"x\"\ntitle = \"t\"\neffect = \"ask\"\nhosts = \"a.example\"\npaths = \"/x\"\nports = [22, 443]\n",
            "a.example",
        ),
        (
            "[[repository]]\nid = \"x\"\ntitle = \"t\"\neffect = \"deny\"\nrepositories = \"forge.example/a\"\n",
            "forge.example",
        ),
        (
            "[[repository]]\nid = \"x\"\ntitle = \"t\"\neffect = \"ask\"\nrepositories = \"forge.example/a\"\npush = true\n",
            "forge.example",
        ),
    ] {
        let (before, after) = (load(all), load(&format!("{all}{table}")));
        for port in [22, 443] {
            assert_eq!(answer(&before, &connection(host, port, false)), Answer::Allow);
            assert_eq!(answer(&after, &connection(host, port, false)), Answer::Deny, "{table}");
            assert_eq!(answer(&after, &connection(host, port, true)), Answer::Allow, "{table}");
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Properties: Cedar's answer is that of a plain reading
// ---------------------------------------------------------------------------------------------------------------

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
    path: Option<&'static str>,
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
            self.paths.iter().any(|pattern| match pattern.strip_suffix("/*") {
                None => *pattern == path,
                Some(above) => {
                    path.len() > above.len() && path.starts_with(above) && path.as_bytes()[above.len()] == b'/'
                }
            })
        };
        (self.methods.is_empty() || said.method.map_or(unsaid, |method| self.methods.contains(&method)))
            && (self.paths.is_empty() || said.path.map_or(unsaid, below))
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

fn plain_answer(tables: &[Plain], said: &Said) -> Answer {
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
        some_of(&["/a", "/a/*", "/a/b/*", "/*", "/%C3%BC/*"], 2),
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
        sometimes(&["/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/A", "/%C3%BC/x", "//a"]),
        prop::option::weighted(0.2, prop::sample::select(vec!["websocket", "h2c"])),
        prop::option::weighted(0.9, 1i64..4),
        prop::option::weighted(0.7, 1u8..3),
    )
        .prop_map(|(host, port, opening, method, path, upgrade, level, project)| Said {
            host,
            port,
            opening,
            method,
            path,
            upgrade,
            level,
            project,
        })
}

impl Said {
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
            if let Some(path) = self.path {
                context = context.with_content("path", path);
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
