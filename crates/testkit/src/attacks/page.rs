//! The page of the manual: every attack, what becomes of it, and what it leaves in the record.
//!
//! It owns the page's form. It refuses rows that nothing tries: what is on it comes from the lists that are run.

use super::{
    choices::{OTHERS, Other},
    inside::{ATTACKS, Attack, ELSEWHERE},
    lists::{LISTS, Reach},
    scenes::SCENES,
};

/// The page, for the drivers whose tests run the lists as root and as a user: `namespace`.
pub fn page() -> String {
    let mut page = String::from(
        "# Attacks\n\n\
         Each is tried from inside an environment, as root and as a user without any right, and must come to exactly this end: what it sees, what is recorded, and what the world\n\
         outside hears of it. The lists are `crates/testkit/src/attacks`, the same for every driver; this page is written from them, and a test holds it to that. Rows are those of the\n\
         design's list.\n\n\
         ## On the box\n\n\
         A program inside, and nobody at the environment's doors but somebody who ends each stream.\n\n\
         | row | attack | what becomes of it | namespace, as root | namespace, as a user |\n|---|---|---|---|---|\n",
    );
    for Attack { row, what, outcome, .. } in ATTACKS {
        page.push_str(&format!("| {row} | {what} | {} | withstood | withstood |\n", words(outcome, ", ")));
    }
    page.push_str(
        "\n## On the box, where the inside is another by choice\n\n\
         The same attacks where the [inside](isolation.md#the-inside-by-choice) is overlaid, root's, or with namespaces within. Those that are not here come to the same end as above.\n\n\
         | row | where | what becomes of it | why that harms nobody | namespace, as root | namespace, as a user |\n|---|---|---|---|---|---|\n",
    );
    for Other { row, words: of, outcomes: [as_root, as_user], why, .. } in OTHERS {
        let mut becomes = words(as_root, ", ");
        if as_user != as_root {
            becomes = format!("as root {becomes}; as a user {}", words(as_user, ", "));
        }
        page.push_str(&format!("| {row} | {of} | {becomes} | {why} | withstood | withstood |\n"));
    }
    page.push_str(
        "\n## On the way out\n\n\
         A program inside, the real way out with a policy that allows a few hosts, and a hostile world in a network namespace: an origin, an attacker, a company's inside, a cloud's\n\
         metadata, and a resolver, each of which counts what reaches it. What is not said to be heard was not heard: no connection, no datagram, no question for a name.\n\n\
         | row | attack | what it sees | what is recorded | what the world hears | namespace, as root | namespace, as a user |\n|---|---|---|---|---|---|---|\n",
    );
    let mut reaches: Vec<&Reach> = LISTS.iter().copied().flatten().collect();
    let number = |row: &str| row.get(1..).and_then(|digits| digits.parse::<u32>().ok());
    reaches.sort_by_key(|reach| (!reach.row.starts_with('N'), number(reach.row)));
    for Reach { row, what, outcome, records, heard, .. } in reaches {
        let nothing = |text: &str| if text.is_empty() { "nothing".to_owned() } else { words(text, "<br>") };
        page.push_str(&format!(
            "| {row} | {what} | {} | {} | {} | withstood | withstood |\n",
            words(outcome, "<br>"),
            nothing(records),
            nothing(heard)
        ));
    }
    page.push_str(
        "\n## What changes in the middle\n\n\
         | row | attack | what becomes of it | what is recorded | namespace, as root | namespace, as a user |\n|---|---|---|---|---|---|\n",
    );
    for [row, what, becomes, records] in SCENES {
        page.push_str(&format!("| {row} | {what} | {becomes} | {records} | withstood | withstood |\n"));
    }
    page.push_str("\n## Tried by tests of their own\n\n| row | attack | by |\n|---|---|---|\n");
    for (row, what, by) in ELSEWHERE {
        page.push_str(&format!("| {row} | {what} | {by} |\n"));
    }
    page
}

/// Lines of what was said, as words of the page.
fn words(text: &str, between: &str) -> String {
    let shown: Vec<String> = text.lines().map(|line| format!("`{}`", line.replace('|', "\\|"))).collect();
    shown.join(between)
}
