//! Every promise names a test that exists, or says that it is pending.

use std::{fs, path::Path};

#[test]
fn every_promise_names_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = fs::read_to_string(root.join("PROMISES.md")).unwrap();
    let mut code = String::new();
    gather(&root.join("crates"), &mut code);
    gather(&root.join("xtask"), &mut code);
    let mut promises = 0;
    for line in page.lines().filter(|line| line.starts_with("| P")) {
        promises += 1;
        assert!(line.starts_with(&format!("| P{promises} |")), "promises are numbered one after the other: {line}");
        let proof = line.trim_end_matches('|').rsplit('|').next().unwrap().trim();
        if proof.starts_with("pending") {
            continue;
        }
        let names: Vec<&str> = proof.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "a promise names its test in backticks or begins with `pending`: {line}");
        for name in names {
            let function = name.rsplit("::").next().unwrap();
            // The store's tests stand in a macro that runs each on both databases: `name(db) {`.
            let found = code.contains(&format!("fn {function}(")) || code.contains(&format!("    {function}(db) {{"));
            assert!(found, "no test is called `{function}`: {line}");
        }
    }
    assert!(promises >= 20, "only {promises} promises were found: has the table changed its form?");
}

fn gather(folder: &Path, code: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            gather(&path, code);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            code.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}
