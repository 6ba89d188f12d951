//! The manual's table of what is left out, and the words in these sources, are the same.

use std::{collections::BTreeSet, fs, path::Path};

/// What looks like the name of a rule and is something else. If you are here because this failed: a rule that you added or renamed
/// needs its row in docs/gateway/conversions.md; a word that is no rule belongs into this list.
const OTHER_WORDS: &[&str] = &[
    "anthropic-version",
    "claude-mythos-preview",
    "claude-nobody",
    "codex-mini",
    "gpt-oss",
    "mistral-large",
    "somebody-elses-model",
    "x-anthropic-billing-header",
];

fn sources(folder: &Path, out: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && name != "tests" {
            sources(&path, out);
        } else if name.ends_with(".rs") && name != "tests.rs" && name != "manual.rs" {
            // What stands below is about tests.
            out.push_str(fs::read_to_string(&path).unwrap().split("#[cfg(test)]").next().unwrap());
        }
    }
}

/// Words between quotation marks, of small letters joined by hyphens. A rule of one word without a hyphen is not found this way.
fn words(text: &str) -> BTreeSet<&str> {
    let plain = |word: &str| word.bytes().all(|byte| byte.is_ascii_lowercase());
    text.split('"')
        .filter(|word| word.contains('-') && word.split('-').all(|part| !part.is_empty() && plain(part)))
        .collect()
}

#[test]
fn every_rule_has_its_row_in_the_manual_and_every_row_its_rule() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manual = fs::read_to_string(here.join("../../docs/gateway/conversions.md")).unwrap();
    let rows: BTreeSet<&str> = manual.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let mut text = String::new();
    sources(&here.join("src"), &mut text);
    let found: BTreeSet<&str> = words(&text).into_iter().filter(|word| !OTHER_WORDS.contains(word)).collect();
    let unexplained: Vec<_> = found.difference(&rows).collect();
    assert!(unexplained.is_empty(), "no row in the manual: {unexplained:?}");
    let stale: Vec<_> = rows.iter().filter(|row| !text.contains(&format!("\"{row}\""))).collect();
    assert!(stale.is_empty(), "rows of rules that are not there: {stale:?}");
    assert!(rows.len() > 25, "the table was not found");
}
