//! The edges between our crates are exactly those of the design.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Who may import whom. `stockade` also takes part of `domain`'s words through the crates it imports.
const EDGES: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("llm", &[]),
    ("policy", &["domain"]),
    ("ledger", &["domain"]),
    ("api", &["domain"]),
    ("store", &["domain", "ledger"]),
    ("agent", &["domain", "llm"]),
    ("gateway", &["domain", "ledger", "llm", "policy"]),
    ("egress", &["domain", "ledger", "policy"]),
    ("sandbox", &["domain"]),
    ("guest", &["api", "domain"]),
    ("runner", &["agent", "api", "domain", "egress", "gateway", "ledger", "llm", "policy", "sandbox"]),
    ("server", &["api", "domain", "ledger", "policy", "store"]),
    ("stockade", &["api", "runner", "server"]),
];

#[test]
fn the_edges_are_those_of_the_design() {
    let metadata = MetadataCommand::new().no_deps().exec().unwrap();
    let short = |name: &str| name.strip_prefix("stockade-").unwrap_or(name).to_owned();
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in &metadata.packages {
        let edges = package
            .dependencies
            .iter()
            .filter(|dependency| dependency.path.is_some() && dependency.kind == DependencyKind::Normal)
            .map(|dependency| short(&dependency.name))
            .collect();
        found.insert(short(&package.name), edges);
    }
    // The testkit may see everything, xtask nothing: neither is part of the house.
    found.remove("testkit");
    assert_eq!(found.remove("xtask"), Some(BTreeSet::new()), "xtask drives the product from outside");
    let expected: BTreeMap<String, BTreeSet<String>> =
        EDGES.iter().map(|(name, edges)| (name.to_string(), edges.iter().map(ToString::to_string).collect())).collect();
    assert_eq!(
        found, expected,
        "If you are here because this failed, you added an edge or a crate: that is a decision, written in docs/decisions/"
    );
}

#[test]
fn the_testkit_is_nobodys_normal_dependency() {
    let metadata = MetadataCommand::new().no_deps().exec().unwrap();
    for package in &metadata.packages {
        for dependency in &package.dependencies {
            assert!(
                dependency.name != "stockade-testkit" || dependency.kind == DependencyKind::Development,
                "{} may use the testkit in its tests only",
                package.name
            );
        }
    }
}

#[test]
fn only_the_store_speaks_sql_and_the_pure_crates_have_no_runtime() {
    let metadata = MetadataCommand::new().no_deps().exec().unwrap();
    for package in &metadata.packages {
        let normal: BTreeSet<&str> = package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind == DependencyKind::Normal)
            .map(|dependency| dependency.name.as_str())
            .collect();
        let name = package.name.as_str();
        assert!(!normal.contains("sqlx") || name == "stockade-store", "{name} has SQL");
        if ["stockade-domain", "stockade-policy", "stockade-llm", "stockade-agent"].contains(&name) {
            for banned in ["tokio", "reqwest", "hyper", "rustix", "axum"] {
                assert!(!normal.contains(banned), "{name} touches the outside through {banned}");
            }
        }
    }
}

#[test]
fn the_pure_crates_touch_no_clock_no_disk_and_no_socket() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut looked = 0;
    for name in ["domain", "policy", "llm", "agent"] {
        let mut folders = vec![root.join("crates").join(name).join("src")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text = std::fs::read_to_string(&path).unwrap();
                // Tests stand at the end of a file and may do as they like.
                let code = text.split("#[cfg(test)]").next().unwrap_or_default();
                looked += 1;
                for word in
                    ["std::fs", "std::net", "std::env", "SystemTime", "Instant::now", "std::process", "async fn"]
                {
                    assert!(!code.contains(word), "{} uses {word}: {name} is handed what it needs", path.display());
                }
            }
        }
    }
    assert!(looked > 20, "only {looked} files were looked at: have the crates moved?");
}
