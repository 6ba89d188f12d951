//! What makes a bundle unfit, and that all of it is said at once.

use stockade_policy::{
    Bundle, MAX_BUNDLE_BYTES, MAX_EXAMPLES, MAX_ID_BYTES, MAX_POLICIES, MAX_POLICY_BYTES, MAX_POLICY_TOKENS,
    MAX_PROBLEMS, MAX_TITLE_BYTES, check, default_bundle,
};

use crate::{bundle, shipped};

fn problems(text: &str) -> Vec<String> {
    check(text).expect_err("this should not be in order").iter().map(ToString::to_string).collect()
}

const YES: &str = "permit(principal, action, resource);";

#[test]
fn the_default_bundle_is_in_order() {
    let summary = check(default_bundle()).unwrap();
    assert_eq!(summary.warnings, []);
    for pack in ["people-admin", "people-developer", "people-approver", "people-auditor", "agent"] {
        assert!(summary.packs.contains_key(pack), "{pack}");
    }
    for level in 1..=4 {
        assert!(summary.packs.contains_key(&format!("level-{level}")), "{level}");
    }
    let engine = shipped();
    assert_eq!(engine.policies().len(), summary.policies);
    assert_eq!(engine.text(), default_bundle());
}

/// A policy without an example is a policy that nobody has seen work.
#[test]
fn every_policy_of_the_default_bundle_but_plain_permissions_decides_an_example() {
    let engine = shipped();
    let results = engine.test();
    assert!(results.iter().all(|result| result.holds), "{results:#?}");
    let decided = |id: &str| results.iter().any(|r| r.decision.policies.iter().any(|p| p.id == id));
    let never: Vec<_> = engine.policies().into_iter().filter(|p| !decided(&p.id)).map(|p| p.id.clone()).collect();
    // They permit what another policy then asks about: taking one out makes that example a deny.
    assert_eq!(never, ["level-1-change", "level-1-work", "level-2-change"]);
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let text = r#"about = "x"
colour = "red"

[[policy]]
id = "Bad Id"
title = "t"
text = "permit(principal, action, resource);"

[[policy]]
id = "no-title"
text = "permit(principal, action, resource);"

[[policy]]
id = "twice"
title = "t"
text = "permit(principal, action, resource);"

[[policy]]
id = "twice"
title = "t"
text = "permit(principal, action, resource);"

[[policy]]
id = "not-cedar"
title = "t"
text = '''
permit(principal, action, resource)
when { context.level = 3 };
'''

[[policy]]
id = "not-valid"
title = "t"
text = '''
permit(principal, action, resource)
when {
  context.level == 3
};
'''

[[policy]]
id = "unknown-action"
title = "t"
text = '''
permit(principal, action == Action::"tool.cal", resource);
'''

[[policy]]
title = 3
pack = "p"
text = "permit(principal == ?principal, action, resource);"

[[example]]
name = "odd"
principal = "president"
action = "fly"
resource = "moon:1"
context = { level = 1.5 }
expect = "maybe"

[[example]]
expected = "allow"
"#;
    insta::assert_snapshot!(problems(text).join("\n"));
}

#[test]
fn an_example_that_does_not_hold_keeps_the_bundle_out() {
    let example = |expect: &str, by: &str| {
        let deed = "principal = \"agent\"\naction = \"tool.call\"\nresource = \"tool:run\"";
        format!(
            "{}[[example]]\nname = \"e\"\n{deed}\nexpect = \"{expect}\"\n{by}",
            bundle(&[("yes", YES), ("no", YES)])
        )
    };
    assert!(check(&example("allow", "")).is_ok());
    assert!(check(&example("allow", "by = \"no\"")).is_ok());
    let said = problems(&example("deny", ""));
    assert_eq!(
        said,
        ["line 13: example `e`: expected deny, but the answer is allow: by `no` (About no), `yes` (About yes)"]
    );
    let said = problems(&example("allow", "by = \"other\""));
    assert_eq!(said, ["line 13: example `e`: `by` names `other`, which is no policy of this bundle"]);
    let error = Bundle::parse(4, &example("deny", "")).unwrap_err();
    insta::assert_snapshot!(error);
}

#[test]
fn what_is_no_toml_says_where() {
    assert_eq!(problems("about = \"x\"\n[[policy]\n").len(), 1);
    assert!(problems("about = \"x\"\n[[policy]\n")[0].starts_with("line 2: "));
    assert!(problems("policy = 3\n")[0].contains("[[policy]]"));
    assert!(problems("policy = [3]\n")[0].contains("[[policy]]"));
}

#[test]
fn an_impossible_policy_is_a_warning() {
    let summary = check(&bundle(&[("never", "permit(principal, action, resource) when { false };")])).unwrap();
    assert_eq!(summary.warnings.len(), 1, "{:?}", summary.warnings);
    assert_eq!(summary.warnings[0].policy.as_deref(), Some("never"));
}

#[test]
fn an_empty_bundle_denies_everything_and_is_in_order() {
    assert_eq!(check("").unwrap().policies, 0);
}

/// Exactly at the bound it is in order, one more and it is not.
#[test]
fn the_bounds_hold() {
    let one = |id: &str, title: &str, text: &str| {
        format!("[[policy]]\nid = \"{id}\"\ntitle = \"{title}\"\ntext = '''{text}'''\n")
    };
    let padded = |len: usize| format!("{YES}{}", " ".repeat(len - YES.len()));
    // `permit(principal, action, resource) when { true };`: 12 tokens; each further conjunct adds 3.
    let long = |tokens: usize| {
        let more = " || true".repeat((tokens - 12) / 3);
        format!("permit(principal, action, resource) when {{ true{more} }};")
    };
    let at = |n: usize| n - (n - 12) % 3;
    let cases: [(&str, String, String); 5] = [
        ("bytes", padded_bundle(MAX_BUNDLE_BYTES), padded_bundle(MAX_BUNDLE_BYTES + 1)),
        ("policy bytes", one("a", "t", &padded(MAX_POLICY_BYTES)), one("a", "t", &padded(MAX_POLICY_BYTES + 1))),
        ("policy tokens", one("a", "t", &long(at(MAX_POLICY_TOKENS))), one("a", "t", &long(at(MAX_POLICY_TOKENS) + 3))),
        ("title", one("a", &"t".repeat(MAX_TITLE_BYTES), YES), one("a", &"t".repeat(MAX_TITLE_BYTES + 1), YES)),
        ("id", one(&"i".repeat(MAX_ID_BYTES), "t", YES), one(&"i".repeat(MAX_ID_BYTES + 1), "t", YES)),
    ];
    for (what, within, beyond) in cases {
        assert!(check(&within).is_ok(), "{what}: {:?}", check(&within));
        assert_eq!(problems(&beyond).len(), 1, "{what}");
    }
}

fn padded_bundle(len: usize) -> String {
    let text = bundle(&[("yes", YES)]);
    format!("{text}{}", "#".repeat(len - text.len()))
}

#[test]
fn there_may_be_so_many_and_no_more() {
    let examples = "[[example]]\n".repeat(MAX_EXAMPLES + 1);
    assert_eq!(
        problems(&examples),
        [format!("line 1: there are 5001 of [[example]]; at most {MAX_EXAMPLES} are read")]
    );
    let policies = "[[policy]]\n".repeat(MAX_POLICIES + 1);
    assert_eq!(problems(&policies), [format!("line 1: there are 2001 of [[policy]]; at most {MAX_POLICIES} are read")]);
    // Every one of these misses three things.
    let many = problems(&"[[policy]]\n".repeat(MAX_POLICIES));
    assert_eq!(many.len(), MAX_PROBLEMS + 1);
    assert_eq!(many[MAX_PROBLEMS], format!("and {} more problems", 3 * MAX_POLICIES - MAX_PROBLEMS));
}

/// What the default bundle shows in comments is what may be written.
#[test]
fn what_the_default_bundle_shows_in_comments_loads() {
    let shown: String =
        default_bundle().lines().filter_map(|line| line.strip_prefix("#   ")).map(|line| format!("{line}\n")).collect();
    let summary = check(&shown).unwrap_or_else(|problems| panic!("{problems:#?}\n{shown}"));
    assert!(shown.matches("[[").count() >= 5 && summary.policies >= 14, "{shown}");
    assert_eq!(check(&format!("{}\n{shown}", default_bundle())).map(|_| ()), Ok(()));
}
