//! Tables about the way out: what they are written out as, what is refused, and that Cedar reads them as a person does.

use std::{collections::BTreeSet, fs, path::Path};

use stockade_domain::{Action, Answer, Context, Deed, Resource, ResourceKind};
use stockade_policy::{
    Bundle, Engine, check, default_bundle,
    tables::{MAX_PATTERNS, MAX_TABLES, MAX_WRITTEN_POLICIES, Preset, PresetUse, presets, with_preset},
};

use crate::{agent, project};

pub fn load(text: &str) -> Engine {
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

pub fn deed(action: Action, kind: ResourceKind, id: &str) -> Deed {
    let context = Context::default().with("level", 2);
    Deed { principal: agent(), action, resource: Resource::new(kind, id), context }
}

pub fn connection(host: &str, port: i64, inspected: bool) -> Deed {
    let mut deed = deed(Action::ConnectionOpen, ResourceKind::Host, host);
    deed.context = deed.context.with("port", port).with("protocol", "tls").with("inspected", inspected);
    deed
}

pub fn request(host: &str, port: i64, method: &str, path: Option<&str>) -> Deed {
    let mut deed = deed(Action::RequestSend, ResourceKind::Host, host);
    deed.context = deed.context.with("port", port).with("method", method).with("inspected", true);
    if let Some(path) = path {
        deed.context = deed.context.with_content("path", path);
    }
    deed
}

pub fn push(repository: &str, full: &str) -> Deed {
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

pub fn answer(engine: &Engine, deed: &Deed) -> Answer {
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
paths = ["x", "/a/../b", "/%2Fa", "/a%5Cb", "/%61", "/%c3", "/a?b", "/a*", "/*/b", "/..;a/", "/\u00fc"]
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

/// npm asks for `/@acme%2fx`. Some servers take `%2f` for a slash and some do not.
#[test]
fn a_path_with_an_encoded_slash_is_permitted_if_every_reading_of_it_is() {
    let get = |engine: &Engine, host: &str, path: &str| answer(engine, &request(host, 443, "GET", Some(path)));
    let mirror = load("[[preset]]\nuse = \"npm\"\nmirror = \"nexus.example/npm\"\n");
    for (path, expected) in [
        ("/npm/@acme%2Fx", Answer::Allow),
        ("/npm/@acme/x/-/x-1.0.0.tgz", Answer::Allow),
        ("/npm%2F@acme%2Fx", Answer::Deny),
        ("/other/@acme%2Fx", Answer::Deny),
        ("/npm/a%2Fb%2Fc%2Fd", Answer::Allow),
        ("/npm/a%2Fb%2Fc%2Fd%2Fe", Answer::Deny),
    ] {
        assert_eq!(get(&mirror, "nexus.example", path), expected, "{path}");
    }

    let of = |paths: &str, more: &str| {
        load(&format!(
            "[[connection]]\nid = \"npm\"\ntitle = \"t\"\nhosts = [\"npm.example\"]\npaths = [{paths}]\n{more}"
        ))
    };
    let denied = "[[connection]]\nid = \"no\"\ntitle = \"not these\"\neffect = \"deny\"\nhosts = [\"npm.example\"]\npaths = [\"/@secret/*\"]\n";
    // A rule for one scope names both; one of them alone is tricked by whoever reads it otherwise.
    for (paths, path, expected) in [
        ("\"/@acme/*\"", "/@acme%2Fx", Answer::Deny),
        ("\"/@acme%2F*\"", "/@acme%2Fx", Answer::Deny),
        ("\"/@acme/*\", \"/@acme%2F*\"", "/@acme%2Fx", Answer::Allow),
        ("\"/@acme/*\", \"/@acme%2F*\"", "/@acme%2fx", Answer::Allow),
        ("\"/@acme/*\", \"/@acme%2F*\"", "/@acmes%2Fx", Answer::Deny),
        ("\"/*\"", "/@secret%2Fx", Answer::Deny),
        ("\"/*\"", "/@secret/x", Answer::Deny),
        ("\"/*\"", "/@acme%2Fx", Answer::Allow),
    ] {
        assert_eq!(get(&of(paths, denied), "npm.example", path), expected, "{paths} {path}");
    }

    // Cedar that people write themselves is held to it too, and the decision names what forbids.
    let raw = load(
        r#"
[[policy]]
id = "reads"
title = "Reads"
text = 'permit(principal, action == Action::"request.send", resource);'
[[policy]]
id = "secret"
title = "Not below secret"
text = 'forbid(principal, action == Action::"request.send", resource) when { context has path && context.path like "/secret/*" };'
"#,
    );
    let deed = request("npm.example", 443, "GET", Some("/secret%2Fx"));
    let decision = raw.simulate(&deed);
    assert_eq!((decision.answer, decision.policies[0].id.as_str()), (Answer::Deny, "secret"));
    assert!(raw.explain(&deed).may.policies.iter().any(|policy| policy.id == "secret"));
    assert_eq!(get(&raw, "npm.example", "/open%2Fx"), Answer::Allow);
}
