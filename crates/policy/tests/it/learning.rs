//! Learning: a proposal loads as it is, lets through what it was made from, and nothing besides.

use std::collections::BTreeMap;

use proptest::prelude::*;
use stockade_domain::{Action, Answer, Context, ContextValue, Deed, Resource, ResourceKind};
use stockade_policy::{
    Bundle, Engine,
    learn::{LeftOut, MANY, MAX_LEARNED, Proposal, Refused, Wanted, learn, missing},
};

use crate::{agent, project};

fn deed(wanted: &Wanted) -> Deed {
    let deed = |action, kind, id: &str, context: Context| Deed {
        principal: agent(),
        action,
        resource: Resource::new(kind, id).in_project(project(1)),
        context: context.with("level", 2),
    };
    let context = Context::default();
    match wanted {
        Wanted::Connection { host, port, readable } => {
            let protocol = if *readable { "tls" } else { "ssh" };
            let context = context.with("port", *port).with("protocol", protocol).with("inspected", *readable);
            deed(Action::ConnectionOpen, ResourceKind::Host, host, context)
        }
        Wanted::Request { host, port, method, path, websocket } => {
            let mut context = context.with("port", *port).with("method", method.as_str()).with("inspected", true);
            if let Some(path) = path {
                context = context.with_content("path", path.as_str());
            }
            if *websocket {
                context = context.with("upgrade", "websocket");
            }
            deed(Action::RequestSend, ResourceKind::Host, host, context)
        }
        Wanted::Fetch { repository } => deed(Action::GitFetch, ResourceKind::Repository, repository, context),
        Wanted::Push { repository, full, rails } => {
            let mut context = context.with("ref", full.as_str());
            for rail in ["force", "deletion", "protected_paths"] {
                context = context.with(rail, rails.iter().any(|odd| odd == rail));
            }
            let found = if rails.iter().any(|odd| odd == "findings") { vec!["secret".to_owned()] } else { Vec::new() };
            context.public.insert("findings".to_owned(), ContextValue::Set(found));
            deed(Action::GitPush, ResourceKind::Repository, repository, context)
        }
        Wanted::Credential { credential, host, method } => {
            let mut context = context.with("host", host.as_str());
            if let Some(method) = method {
                context = context.with("method", method.as_str());
            }
            deed(Action::CredentialUse, ResourceKind::Credential, credential, context)
        }
    }
}

fn load(proposal: &Proposal) -> Engine {
    Bundle::parse(1, &proposal.text).unwrap_or_else(|error| panic!("{:#?}\n{}", error.problems, proposal.text))
}

fn allowed(engine: &Engine, wanted: &Wanted) -> bool {
    engine.simulate(&deed(wanted)).answer == Answer::Allow
}

fn once(wanted: Wanted) -> Refused {
    Refused { wanted, forbidden_by: None, times: 1 }
}

fn connection(host: &str, port: i64) -> Wanted {
    Wanted::Connection { host: host.to_owned(), port, readable: true }
}

fn request(host: &str, method: &str, path: &str) -> Wanted {
    let path = Some(path.to_owned());
    Wanted::Request { host: host.to_owned(), port: 443, method: method.to_owned(), path, websocket: false }
}

fn push(repository: &str, full: &str, rails: &[&str]) -> Wanted {
    let rails = rails.iter().map(ToString::to_string).collect();
    Wanted::Push { repository: repository.to_owned(), full: full.to_owned(), rails }
}

#[test]
fn a_proposal_reads_on_its_own() {
    let mut refused: Vec<Refused> = [
        connection("index.crates.io", 443),
        connection("static.crates.io", 443),
        connection("wiki.corp.example", 443),
        request("api.corp.example", "GET", "/v1/items"),
        request("api.corp.example", "POST", "/v1/items"),
        request("api.corp.example", "DELETE", "/v1/items/7"),
        Wanted::Connection { host: "10.1.2.3".to_owned(), port: 5432, readable: false },
        Wanted::Fetch { repository: "forge.example/team/app".to_owned() },
        push("forge.example/team/app", "refs/heads/stockade/run_1", &[]),
        push("forge.example/team/app", "refs/heads/main", &["force"]),
        Wanted::Credential {
            credential: "forge".to_owned(),
            host: "forge.example".to_owned(),
            method: Some("GET".to_owned()),
        },
        connection("Odd.example", 443),
    ]
    .map(once)
    .to_vec();
    refused.extend((0..MANY).map(|n| once(connection(&format!("n{n}.cdn.example"), 443))));
    refused.extend((0..MANY).map(|n| once(request("files.example", "GET", &format!("/public/f{n}")))));
    refused.push(Refused {
        forbidden_by: Some("`no-metadata.open`".to_owned()),
        ..once(connection("169.254.169.254", 80))
    });
    refused[2].times = 12;
    let proposal = learn(&refused, Some(project(1)));
    let left_out: Vec<String> = proposal
        .left_out
        .iter()
        .map(|LeftOut { what, why, times }| format!("# left out: {what}, {times}: {why}"))
        .collect();
    load(&proposal);
    assert_eq!(proposal.presets, ["rust"]);
    insta::assert_snapshot!(format!("{}\n{}", proposal.text, left_out.join("\n")));
}

#[test]
fn nothing_refused_is_nothing_proposed() {
    assert_eq!(learn(&[], None), Proposal::default());
}

#[test]
fn there_may_be_so_much_to_learn_from_and_no_more() {
    let refused: Vec<Refused> =
        (0..=MAX_LEARNED).map(|n| once(connection(&format!("h{n}.d{n}.example"), 443))).collect();
    let proposal = learn(&refused, None);
    assert_eq!(proposal.text.matches("[[connection]]").count(), MAX_LEARNED);
    assert_eq!(proposal.left_out.len(), 1);
    assert!(proposal.left_out[0].why.contains("more than 1000"));
    // Long paths are more than one table, each of which can be read.
    let long = |n: usize| request("a.example", "GET", &format!("/{}{n}/x", "a".repeat(480)));
    let proposal = learn(&(0..150).map(|n| once(long(n))).collect::<Vec<_>>(), None);
    let engine = load(&proposal);
    assert!(proposal.text.matches("[[connection]]").count() > 10);
    assert!((0..150).all(|n| allowed(&engine, &long(n))));
}

#[test]
fn people_are_told_what_was_missing() {
    let engine = Bundle::parse(
        1,
        "[[connection]]\nid = \"no\"\ntitle = \"Not there\"\neffect = \"deny\"\nhosts = \"evil.example\"\n",
    )
    .unwrap();
    let told = |wanted: Wanted| {
        let deed = deed(&wanted);
        missing(&deed, &engine.simulate(&deed), "env_1").unwrap()
    };
    assert_eq!(
        told(connection("wiki.example", 443)),
        "no rule permits a connection to wiki.example:443; `stockade environments learn env_1` proposes one"
    );
    assert_eq!(
        told(connection("pypi.org", 443)),
        "no rule permits a connection to pypi.org:443; `stockade policy preset add python` would, `stockade environments learn env_1` \
         proposes what was missing"
    );
    assert_eq!(
        told(connection("evil.example", 443)),
        "policy `no.open` says no to a connection to evil.example:443: Not there"
    );
    assert_eq!(
        told(push("forge.example/a", "refs/heads/main", &[])),
        "no rule permits a push to refs/heads/main of forge.example/a; `stockade environments learn env_1` proposes one"
    );
    let mut other = deed(&connection("a.example", 443));
    other.action = Action::ToolCall;
    assert_eq!(missing(&other, &engine.simulate(&other), "env_1"), None);
}

fn hosts() -> impl Strategy<Value = String> {
    let label = prop::sample::select(vec!["a", "b", "c1", "d-d", "e_e", "f", "g"]);
    prop_oneof![
        4 => (label.clone(), prop::sample::select(vec!["one.example", "two.example", "corp"])).prop_map(|(a, b)| format!("{a}.{b}")),
        1 => (label.clone(), label).prop_map(|(a, b)| format!("{a}.{b}.one.example")),
        1 => prop::sample::select(vec!["10.0.0.1", "[2001:db8::1]", "localhost", "one.example"]).prop_map(str::to_owned),
    ]
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let port = prop::sample::select(vec![443i64, 443, 80, 8443]);
    let method = prop::sample::select(vec!["GET", "POST", "HEAD"]);
    let path = "/(a|b|c%20d)(/([a-h]|\"x'|~))?";
    let repository = (prop::sample::select(vec!["forge.example", "git.corp"]), "(team|ops)/[a-f]")
        .prop_map(|(host, path)| format!("{host}/{path}"));
    let full = prop::sample::select(vec![
        "refs/heads/main",
        "refs/heads/stockade/run_1",
        "refs/heads/stockade/run_2",
        "refs/tags/v1",
        "refs/heads/refs/x",
        "refs/heads/feature/x",
    ]);
    prop_oneof![
        3 => (hosts(), port.clone(), prop::bool::weighted(0.8))
            .prop_map(|(host, port, readable)| Wanted::Connection { host, port, readable }),
        4 => (hosts(), port, method.clone(), prop::option::weighted(0.9, path), prop::bool::weighted(0.1)).prop_map(
            |(host, port, method, path, websocket)| Wanted::Request { host, port, method: method.to_owned(), path, websocket }
        ),
        1 => repository.clone().prop_map(|repository| Wanted::Fetch { repository }),
        1 => (repository, full).prop_map(|(repository, full)| push(&repository, full, &[])),
        1 => (prop::sample::select(vec!["forge", "a \"token\"", "bücher"]), hosts(), prop::option::of(method)).prop_map(
            |(credential, host, method)| Wanted::Credential {
                credential: credential.to_owned(), host, method: method.map(str::to_owned)
            }
        ),
    ]
}

/// Whether a deed is meant by what was seen, as a person would say; with `wide`, also by what many stand below.
fn meant(seen: &[Wanted], probe: &Wanted) -> bool {
    let opened = |host: &str, port: i64| {
        seen.iter().any(|wanted| match wanted {
            Wanted::Connection { host: h, port: p, .. } | Wanted::Request { host: h, port: p, .. } => {
                h == host && *p == port
            }
            _ => false,
        })
    };
    let of = |repository: &str| -> Vec<&Wanted> {
        seen.iter()
            .filter(|wanted| match wanted {
                Wanted::Fetch { repository: r } | Wanted::Push { repository: r, .. } => r == repository,
                _ => false,
            })
            .collect()
    };
    match probe {
        Wanted::Connection { host, port, readable: false } => {
            seen.iter().any(|wanted| matches!(wanted, Wanted::Connection { host: h, port: p, readable: false } if h == host && p == port))
        }
        Wanted::Connection { host, port, .. } => {
            let git = *port == 443 && seen.iter().any(|wanted| match wanted {
                Wanted::Fetch { repository } | Wanted::Push { repository, .. } => repository.split('/').next() == Some(host),
                _ => false,
            });
            git || opened(host, *port)
        }
        Wanted::Request { host, port, method, path, websocket } => {
            let here: Vec<&Wanted> = seen
                .iter()
                .filter(|wanted| match wanted {
                    Wanted::Connection { host: h, port: p, .. } | Wanted::Request { host: h, port: p, .. } => h == host && p == port,
                    _ => false,
                })
                .collect();
            let requests: Vec<_> = here
                .iter()
                .filter_map(|wanted| match wanted {
                    Wanted::Request { method, path, websocket, .. } => Some((method, path, *websocket)),
                    _ => None,
                })
                .collect();
            let tunnelled = here.iter().any(|wanted| matches!(wanted, Wanted::Connection { readable: false, .. }));
            if tunnelled || (requests.is_empty() && !here.is_empty()) {
                return !websocket || requests.iter().any(|(.., websocket)| *websocket);
            }
            // What may become a WebSocket may also be asked for plainly.
            requests.iter().any(|(m, p, w)| *m == method && (p.is_none() || *p == path) && (*w || !websocket))
        }
        Wanted::Fetch { repository } => of(repository).iter().any(|wanted| matches!(wanted, Wanted::Fetch { .. })),
        Wanted::Push { repository, full, rails } => {
            let own = |full: &str| full.starts_with("refs/heads/stockade/");
            rails.is_empty()
                && of(repository).iter().any(|wanted| {
                    matches!(wanted, Wanted::Push { full: f, .. } if f == full || (own(f) && own(full)))
                })
        }
        Wanted::Credential { credential, host, method } => seen.iter().any(|wanted| {
            matches!(wanted, Wanted::Credential { credential: c, host: h, method: m }
                if c == credential && h == host && (m.is_none() || m == method))
        }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// The heart of it: every proposal loads, lets through all that it was made from, and of other deeds none that is not meant.
    #[test]
    fn a_proposal_is_enough_and_no_more(
        seen in prop::collection::vec(wanted(), 1..14),
        probes in prop::collection::vec(wanted(), 30),
        widely in prop::bool::ANY,
    ) {
        // Few names below one another: nothing is proposed that is wider. With many, only what its comments say.
        let mut below: BTreeMap<String, usize> = BTreeMap::new();
        let mut kept = Vec::new();
        for wanted in seen {
            let above = match &wanted {
                Wanted::Connection { host, .. } | Wanted::Request { host, .. } => host.split_once('.').map(|(_, above)| above.to_owned()),
                Wanted::Fetch { repository } | Wanted::Push { repository, .. } => repository.rsplit_once('/').map(|(above, _)| above.to_owned()),
                Wanted::Credential { .. } => None,
            };
            let count = below.entry(above.unwrap_or_default()).or_default();
            *count += 1;
            if widely || *count < MANY {
                kept.push(wanted);
            }
        }
        let seen = kept;
        let refused: Vec<Refused> = seen.iter().cloned().map(once).collect();
        let proposal = learn(&refused, Some(project(1)));
        prop_assert_eq!(&proposal.left_out, &Vec::new());
        let engine = Bundle::parse(1, &proposal.text)
            .map_err(|error| TestCaseError::fail(format!("{:#?}\n{}", error.problems, proposal.text)))?;
        for wanted in &seen {
            prop_assert!(allowed(&engine, wanted), "{:?}\n{}", wanted, proposal.text);
            let mut elsewhere = deed(wanted);
            elsewhere.resource.project = Some(project(2));
            prop_assert_eq!(engine.simulate(&elsewhere).answer, Answer::Deny, "another project: {:?}", elsewhere);
        }
        let wider = proposal.text.contains("# Wider than what was seen");
        prop_assert!(widely || !wider, "{}", proposal.text);
        if !wider {
            for probe in probes {
                prop_assert_eq!(allowed(&engine, &probe), meant(&seen, &probe), "{:?} of {:?}\n{}", probe, seen, proposal.text);
            }
        }
    }

    /// Whatever it is given: it loads, and what it left out it says.
    #[test]
    fn any_names_make_a_proposal_that_loads(
        hosts in prop::collection::vec("[a-zA-Z0-9.*:_/\\[\\]\"' -]{0,20}|\\PC{0,6}", 1..6),
        texts in prop::collection::vec("[a-zA-Z0-9/.*%\"'~ -]{0,12}|\\PC{0,4}", 6),
        port in prop::sample::select(vec![0i64, 443, -1, 70_000]),
    ) {
        let text = |n: usize| texts[n % texts.len()].clone();
        let refused: Vec<Refused> = hosts
            .iter()
            .enumerate()
            .flat_map(|(n, host)| {
                [
                    Wanted::Connection { host: host.clone(), port, readable: n % 2 == 0 },
                    Wanted::Request { host: host.clone(), port: 443, method: text(n), path: Some(text(n + 1)), websocket: false },
                    Wanted::Request { host: "a.example".to_owned(), port: 443, method: "GET".to_owned(), path: Some(text(n)), websocket: false },
                    Wanted::Fetch { repository: host.clone() },
                    Wanted::Fetch { repository: format!("forge.example/{}", text(n)) },
                    Wanted::Push { repository: "forge.example/a".to_owned(), full: text(n), rails: Vec::new() },
                    Wanted::Push { repository: "forge.example/a".to_owned(), full: format!("refs/heads/{}", text(n)), rails: Vec::new() },
                    Wanted::Credential { credential: text(n), host: host.clone(), method: Some(text(n + 2)) },
                    Wanted::Credential { credential: text(n), host: "a.example".to_owned(), method: None },
                ]
            })
            .map(once)
            .collect();
        let proposal = learn(&refused, None);
        let engine = Bundle::parse(1, &proposal.text)
            .map_err(|error| TestCaseError::fail(format!("{:#?}\n{}", error.problems, proposal.text)))?;
        let through = refused.iter().filter(|refused| allowed(&engine, &refused.wanted)).count();
        let left: u64 = proposal.left_out.iter().map(|left| left.times).sum();
        prop_assert!(through as u64 + left >= refused.len() as u64, "{:?}\n{}", refused, proposal.text);
    }
}
