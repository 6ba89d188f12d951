//! The default bundle as a table: what each role may do, and how far an agent goes on each level. The snapshots
//! are the specification; every action stands in one of them.

use std::collections::BTreeSet;

use stockade_domain::{Action, Deed, Principal, ResourceKind, Role};
use stockade_policy::Engine;

use crate::{agent, deed, person, project, shipped, tool, user};

/// Something that an agent wants to do, without its level.
struct Wish(&'static str, Deed);

fn wishes() -> Vec<Wish> {
    let run = |command: &str| {
        let mut deed = tool("run");
        deed.context = deed.context.with("tool", "run").with("read_only", false).with_content("command", command);
        deed
    };
    let at = |id: &str, path: &str| {
        let mut deed = tool(id);
        deed.context = deed.context.with_content("path", path);
        deed
    };
    let change = |lines: Option<i64>, protected: Option<bool>, branch: &str, gates: bool| {
        let mut deed = deed(agent(), Action::ChangeOpen, ResourceKind::Change, "run_1");
        deed.context = deed.context.with("gates_passed", gates).with_content("branch", branch);
        if let Some(lines) = lines {
            deed.context = deed.context.with("diff_lines", lines);
        }
        if let Some(protected) = protected {
            deed.context = deed.context.with("protected_paths", protected);
        }
        deed
    };
    let own = "stockade/run_1";
    vec![
        Wish("call a model", deed(agent(), Action::ModelCall, ResourceKind::Model, "claude")),
        Wish("open a connection", deed(agent(), Action::ConnectionOpen, ResourceKind::Host, "registry.example")),
        Wish("send a request", deed(agent(), Action::RequestSend, ResourceKind::Host, "registry.example")),
        Wish("ask a cloud's metadata", deed(agent(), Action::RequestSend, ResourceKind::Host, "169.254.169.254")),
        Wish("use a credential", deed(agent(), Action::CredentialUse, ResourceKind::Credential, "forge")),
        Wish("fetch from a repository", deed(agent(), Action::GitFetch, ResourceKind::Repository, "forge.example/a")),
        Wish("push to a repository", deed(agent(), Action::GitPush, ResourceKind::Repository, "forge.example/a")),
        Wish("read a file", at("read", "src/lib.rs")),
        Wish("list files", at("list", "")),
        Wish("search", at("search", "src")),
        Wish("ask a question", tool("ask")),
        Wish("finish", tool("finish")),
        Wish("write a file", at("write", "src/lib.rs")),
        Wish("edit a file", at("edit", "src/lib.rs")),
        Wish("write outside the workspace", at("write", "../x")),
        Wish("edit in git's own folder", at("edit", ".git/config")),
        Wish("run a command", run("cargo test")),
        Wish("run git push", run("git push origin main")),
        Wish("run git commit --no-verify", run("git commit --no-verify -m x")),
        Wish("start another agent's program", {
            let mut deed = tool("harness");
            deed.context = deed.context.with("tool", "harness").with("harness", "claude-code");
            deed
        }),
        Wish("use an unknown tool", tool("teleport")),
        Wish("open a change of 500 lines", change(Some(500), Some(false), own, true)),
        Wish("open a change of 501 lines", change(Some(501), Some(false), own, true)),
        Wish("open a change, size unknown", change(None, Some(false), own, true)),
        Wish("open a change of protected paths", change(Some(3), Some(true), own, true)),
        Wish("open a change, paths unknown", change(Some(3), None, own, true)),
        Wish("open a change, gates failed", change(Some(3), Some(false), own, false)),
        Wish("open a change on main", change(Some(3), Some(false), "main", true)),
    ]
}

#[test]
fn the_four_levels() {
    let engine = shipped();
    let mut table = format!("{:<34}{:>7}{:>7}{:>7}{:>7}{:>7}\n", "an agent wants to", "1", "2", "3", "4", "none");
    for Wish(name, deed) in wishes() {
        table.push_str(&format!("{name:<34}"));
        for level in [Some(1), Some(2), Some(3), Some(4), None] {
            let mut deed = deed.clone();
            if let Some(level) = level {
                deed.context = deed.context.with("level", level);
            }
            table.push_str(&format!("{:>7}", engine.simulate(&deed).answer.as_str()));
        }
        table.push('\n');
    }
    insta::assert_snapshot!(table);
}

/// Which kinds of things a person can do an action to.
fn kinds(engine: &Engine, action: Action) -> Vec<ResourceKind> {
    let fits = |kind: &ResourceKind| engine.explain(&deed(person(&[]), action, *kind, "x")).misfit.is_none();
    ResourceKind::ALL.iter().copied().filter(fits).collect()
}

#[test]
fn people() {
    let engine = shipped();
    let columns: [(&str, &[Role], Option<u8>); 6] = [
        ("admin", &[Role::Admin], Some(2)),
        ("dev, own", &[Role::Developer], Some(1)),
        ("dev", &[Role::Developer], Some(2)),
        ("approver", &[Role::Approver], Some(2)),
        ("auditor", &[Role::Auditor], Some(2)),
        ("no role", &[], Some(1)),
    ];
    let mut table = format!("{:<34}", "a person does");
    table.extend(columns.iter().map(|(name, ..)| format!("{name:>10}")));
    table.push('\n');
    for action in Action::ALL {
        for kind in kinds(&engine, *action) {
            table.push_str(&format!("{:<34}", format!("{action} on {kind}")));
            for (_, roles, owner) in columns {
                let mut deed = deed(person(roles), *action, kind, "x");
                if let Some(owner) = owner {
                    deed.context = deed.context.with("owner", user(owner).to_string());
                }
                table.push_str(&format!("{:>10}", engine.simulate(&deed).answer.as_str()));
            }
            table.push('\n');
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn every_action_stands_in_one_of_the_tables() {
    let engine = shipped();
    let of_agents = wishes().into_iter().map(|Wish(_, deed)| deed.action);
    let of_people = Action::ALL.iter().copied().filter(|action| !kinds(&engine, *action).is_empty());
    assert_eq!(of_agents.chain(of_people).collect::<BTreeSet<_>>(), Action::ALL.iter().copied().collect());
}

#[test]
fn machines_do_nothing_that_policy_decides() {
    let engine = shipped();
    let server = Principal::Server { id: stockade_domain::ids::ServerId::from_bytes([3; 16]) };
    let runner = Principal::Runner { id: stockade_domain::ids::RunnerId::from_bytes([3; 16]) };
    for principal in [server, runner] {
        for action in Action::ALL {
            for kind in ResourceKind::ALL {
                let answer = engine.simulate(&deed(principal.clone(), *action, *kind, "x")).answer;
                assert_eq!(answer.as_str(), "deny", "{principal:?} {action} {kind}");
            }
        }
    }
}

#[test]
fn content_of_a_project_is_for_its_developers() {
    let engine = shipped();
    let mut deed = deed(person(&[Role::Developer]), Action::ContentRead, ResourceKind::Run, "x");
    deed.context = deed.context.with("owner", user(9).to_string());
    assert_eq!(engine.simulate(&deed).answer.as_str(), "deny");
    deed.resource = deed.resource.in_project(project(1));
    assert_eq!(engine.simulate(&deed).answer.as_str(), "allow");
}
