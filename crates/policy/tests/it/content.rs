//! Content rules as a bundle has them.

use stockade_domain::ids::ProjectId;
use stockade_policy::{
    Bundle, check,
    content::{ContentAction, ContentScope, Direction, MAX_CONTENT_RULES, MAX_PATTERN_BYTES, Place},
};

use crate::shipped;

fn problems(text: &str) -> Vec<String> {
    check(text).expect_err("this should not be in order").iter().map(ToString::to_string).collect()
}

fn scope(project: u8) -> ContentScope<'static> {
    ContentScope { project: ProjectId::from_bytes([project; 16]), provider: "anthropic", model: "claude-opus" }
}

const CARDS: &str =
    "[[content]]\nid = \"cards\"\ntitle = \"No cards\"\nclasses = [\"personal.card\"]\naction = \"block\"\n";

#[test]
fn every_content_rule_of_the_default_bundle_decides_an_example() {
    let engine = shipped();
    let results = engine.test_content();
    assert!(results.len() >= 10 && results.iter().all(|result| result.holds), "{results:#?}");
    for rule in engine.content_set().rules() {
        assert!(results.iter().any(|result| result.by.as_ref() == Some(&rule.id)), "{}", rule.id);
    }
    let request = engine.content(&scope(1), Direction::Request);
    let response = engine.content(&scope(1), Direction::Response);
    assert!(request.enforce() && !response.enforce() && !response.is_empty());
    assert!(response.classes(Place::System).is_empty());
}

#[test]
fn the_strongest_action_wins_and_then_the_first() {
    let rule = |id: &str, action: &str, more: &str| {
        format!(
            "[[content]]\nid = \"{id}\"\ntitle = \"t\"\nclasses = [\"personal.*\"]\naction = \"{action}\"\n{more}\n"
        )
    };
    let project = ProjectId::from_bytes([2; 16]);
    let text = [
        rule("note", "report", ""),
        rule("hide", "redact", "places = [\"tool_result\"]"),
        rule("hide-too", "redact", "places = [\"tool_result\"]"),
        rule("ask", "ask", "providers = [\"other\"]"),
        rule("stop", "block", &format!("projects = [\"{project}\"]\nmodels = [\"claude-*\"]")),
        rule("answers", "block", "direction = [\"response\"]"),
    ]
    .concat();
    let engine = Bundle::parse(1, &text).unwrap_or_else(|e| panic!("{:#?}", e.problems));
    let decided = |project: u8, place, direction| {
        let rules = engine.content(&scope(project), direction);
        let class = rules.detectors().classes().position(|name| name == "personal.iban").unwrap().try_into().unwrap();
        rules.decide(class, place).map(|rule| (rule.action, rule.id.clone()))
    };
    let is = |action, id: &str| Some((action, id.to_owned()));
    assert_eq!(decided(1, Place::Text, Direction::Request), is(ContentAction::Report, "note"));
    assert_eq!(decided(1, Place::ToolResult, Direction::Request), is(ContentAction::Redact, "hide"));
    assert_eq!(decided(2, Place::ToolResult, Direction::Request), is(ContentAction::Block, "stop"));
    assert_eq!(decided(1, Place::Text, Direction::Response), is(ContentAction::Block, "answers"));
}

#[test]
fn examples_that_do_not_hold_keep_the_bundle_out() {
    let example = |text: &str, expect: &str| {
        format!("{CARDS}[[content_example]]\nname = \"e\"\ntext = {text}\nexpect = \"{expect}\"\n")
    };
    assert!(check(&example("[\"4111 1111 \", \"1111 1111\"]", "block")).is_ok());
    assert!(check(&example("\"4111 1111 1111 1112\"", "nothing")).is_ok());
    assert_eq!(
        problems(&example("\"4111 1111 1111 1111\"", "report")),
        ["line 6: example `e`: expected report, but the answer is block by `cards`: personal.card was found"]
    );
    assert_eq!(
        problems(&example("\"nobody\"", "block")),
        ["line 6: example `e`: expected block, but the answer is nothing: nothing was found"]
    );
}

#[test]
fn own_patterns_and_word_lists_are_classes() {
    let text = r#"
[[content_pattern]]
name = "ticket"
regex = "ACME-[0-9]{4,8}"

[[content_words]]
name = "projects"
words = ["blue falcon", "Straße"]

[[content]]
id = "names"
title = "Names of projects stay here"
classes = ["words.projects", "pattern.ticket"]
action = "redact"

[[content_example]]
name = "a ticket"
text = "see ACME-1234."
expect = "redact"

[[content_example]]
name = "a word"
text = "The BLUE FALCON flies along the Straße"
expect = "redact"

[[content_example]]
name = "a part of a word"
text = "blue falconry, xACME-1234"
expect = "nothing"
"#;
    assert_eq!(check(text).map(|summary| summary.content_rules), Ok(1));
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    let text = format!(
        r#"[[content_pattern]]
name = "a"
regex = "("

[[content_pattern]]
name = "a"
regex = "{}"
whole_word = 3

[[content_words]]
name = "w"
words = ["x"]

[[content]]
id = "Bad"
title = ""
colour = "red"
classes = ["secret.githb_token"]
places = ["moon"]
projects = ["p"]
action = "shout"
"#,
        "a".repeat(MAX_PATTERN_BYTES + 1)
    );
    let said = problems(&text).join("\n");
    for part in ["line 7: a pattern has 1 to 1000 bytes", "line 10: `x`: a word has 2 to 100 bytes"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let rule = text.split("[[content]]").nth(1).unwrap();
    insta::assert_snapshot!(problems(&format!("[[content]]{rule}")).join("\n"));
    assert_eq!(
        problems("[[content_pattern]]\nname = \"a\"\nregex = \"^a$\"\n"),
        [
            "line 1: the pattern `a`: `^`, `$` and `\\b` are not known here: a text has no lines, and `whole_word = true` is for words"
        ]
    );
    assert_eq!(
        problems(&"[[content]]\n".repeat(MAX_CONTENT_RULES + 1)),
        [format!("line 1: there are 201 of [[content]]; at most {MAX_CONTENT_RULES} are read")]
    );
    assert_eq!(problems(&format!("{CARDS}{CARDS}")), ["the content rule `cards` is there twice"]);
}
