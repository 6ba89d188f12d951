//! Bundles are bytes that anybody may send: none of them makes the reader panic, hang or run out of stack.

use proptest::prelude::*;
use stockade_domain::Answer;
use stockade_policy::{Bundle, MAX_POLICY_TOKENS, check, default_bundle};

use crate::{bundle, tool};

/// Nested as deep as the limits allow, in every way that Cedar nests.
#[test]
fn depth_is_bounded() {
    let n = MAX_POLICY_TOKENS;
    let mut loaded = 0;
    let wrapped = |open: &str, core: &str, close: &str, times: usize| {
        format!("permit(principal, action, resource) when {{ {}{core}{} }};", open.repeat(times), close.repeat(times))
    };
    for text in [
        wrapped("(", "true", ")", n / 2 - 20),
        wrapped("[", "true", "]", n / 2 - 20),
        wrapped("{a:", "true", "}", n / 4 - 10),
        wrapped("!", "true", "", n - 20),
        wrapped("-", "1", "", n - 20),
        wrapped("if true then ", "true", " else true", n / 5 - 10),
        wrapped("if true then true else ", "true", "", n / 5 - 10),
        wrapped("true && ", "true", "", n / 3 - 10),
        wrapped("true || ", "true", "", n / 3 - 10),
        wrapped("1 + ", "1", "", n / 2 - 20),
        wrapped("", "principal", ".a", n / 2 - 20),
        wrapped("", "principal", "[\"a\"]", n / 3 - 10),
        wrapped("", "principal", ".a()", n / 4 - 10),
        wrapped("f(", "true", ")", n / 3 - 10),
        wrapped("ip(", "\"\"", ")", n / 3 - 10),
        wrapped("a::", "b", "", n / 3 - 10),
    ] {
        // Deciding happens on ordinary threads: there a policy that is too deep is an error, and so a no.
        if let Ok(engine) = Bundle::parse(1, &bundle(&[("deep", &text)])) {
            loaded += 1;
            let explanation = engine.explain(&tool("run"));
            let decision = engine.simulate(&tool("run"));
            assert_eq!(decision, explanation.decision);
            assert_eq!(decision.answer == Answer::Allow, explanation.may.errors.is_empty(), "{explanation:#?}");
        }
    }
    assert!(loaded >= 3, "{loaded}");
}

/// The reader counts tokens to bound how deep Cedar recurses: what hides tokens from it would lift the bound.
#[test]
fn a_comment_hides_no_tokens() {
    let deep = format!(
        "permit(principal, action, resource) when {{ // \"\n {}true{} }};",
        "(".repeat(4_000),
        ")".repeat(4_000)
    );
    let problems = check(&bundle(&[("deep", &deep)])).unwrap_err();
    assert!(problems[0].message.contains("tokens"), "{problems:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,300}") {
        let _ = check(&text);
    }

    #[test]
    fn no_line_soup_makes_it_panic(lines in prop::collection::vec(prop::sample::select(vec![
        "[[policy]]", "[[example]]", "[policy]", "id = \"a\"", "id = 3", "title = \"t\"", "title = ''", "pack = []",
        "text = '''permit(principal, action, resource);'''", "text = '''forbid(principal, action, resource)'''",
        "text = '''permit(principal, action, resource) when { context.level == '''", "text = \"\\u0000\"",
        "name = \"n\"", "principal = \"agent\"", "principal = { kind = \"user\" }", "principal = 1979-05-27",
        "action = \"tool.call\"", "resource = \"tool:\"", "resource = { kind = \"tool\" }", "resource = ':'",
        "context = { level = 1 }", "context = { x = [[1]] }", "context = 9223372036854775808", "expect = \"allow\"",
        "by = \"a\"", "about = {}", "a.b.c = 1", "'''", "\"", "=",
    ]), 0..24)) {
        let _ = check(&lines.join("\n"));
    }

    #[test]
    fn no_soup_of_tables_makes_it_panic(lines in prop::collection::vec(prop::sample::select(vec![
        "[[connection]]", "[[repository]]", "[[credential]]", "[[preset]]", "[preset.mirror]", "id = \"a\"", "id = \"b\"",
        "title = \"t\"", "effect = \"deny\"", "effect = \"ask\"", "effect = []", "hosts = \"a.example\"", "hosts = [\"*.a.example\", 3]",
        "hosts = [\"*\"]", "hosts = []", "hosts = \"[::1\"", "hosts = \"\\u0000\"", "ports = 443", "ports = [0]", "ports = 99999999999999999999",
        "inspected = true", "methods = [\"GET\"]", "paths = \"/%\"", "paths = \"/%4\"", "paths = \"/a/*\"", "paths = \"/\\\"\"",
        "upgrade = \"websocket\"", "projects = \"prj_0\"", "levels = [1, 9]", "repositories = \"a.example/x/*\"", "repositories = \"/*\"",
        "fetch = false", "push = true", "push = [\"*\"]", "push = [\"refs/\"]", "push = 3", "force = true", "max_pack_bytes = -1",
        "max_pack_bytes = [1]", "credentials = \"c\"", "use = \"rust\"", "use = \"x\"", "use = 3", "mirror = \"m.example/a\"",
        "mirror = \":1\"", "mirror = \"[\"", "mirror = {}", "mirror = { \"crates.io\" = \"m.example:8080\" }", "\"crates.io\" = \"m.example\"",
    ]), 0..30)) {
        let _ = check(&lines.join("\n"));
    }

    #[test]
    fn no_cedar_soup_makes_it_panic(words in prop::collection::vec(prop::sample::select(vec![
        "permit", "forbid", "(", ")", "principal", "action", "resource", ",", "when", "unless", "{", "}", ";", "==",
        "in", "is", "has", "like", "\"*\"", "\"a\"", "context", ".", "level", "unattended", "[", "]", "&&", "||", "!",
        "-", "1", "9223372036854775808", "User", "::", "Action", "\"tool.call\"", "if", "then", "else", "ip", "@id",
        "?principal", "//", "\\",
    ]), 0..60)) {
        let _ = check(&bundle(&[("soup", &words.join(" "))]));
    }

    #[test]
    fn a_damaged_bundle_is_read_or_refused(at in 0usize..20_000, with in "\\PC{0,3}") {
        let text = default_bundle();
        let at = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let _ = check(&format!("{}{with}{}", &text[..at], &text[at..]));
    }
}
