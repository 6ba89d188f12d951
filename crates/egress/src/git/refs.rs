//! Which references a push may create, change and delete.
//!
//! An update is a fast-forward only if the commits that are at hand show it: a chain of parents from the new commit to
//! the old one. What is not shown counts as force. It refuses by name: which reference, and which rule was missing.

use std::collections::HashSet;

use super::push::{Change, Command, Push, check_reference};
use super::{Format, ObjectId};

/// The most commits that are followed to show a fast-forward.
pub const MAX_STEPS: usize = 1_000_000;

/// Names of references with at most one `*`, which stands for one or more characters, slashes among them, as in git's refspecs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    before: String,
    after: Option<String>,
}

/// A pattern that can match nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{pattern}` is no pattern of references: {rule}; write for example refs/heads/stockade/*")]
pub struct PatternError {
    pattern: String,
    rule: &'static str,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When no reference could have such a name, or there are two stars.
    pub fn parse(pattern: &str) -> Result<Self, PatternError> {
        let wrong = |rule| PatternError { pattern: super::shown(pattern.as_bytes()), rule };
        let example = pattern.replacen('*', "x", 1);
        check_reference(example.as_bytes()).map_err(wrong)?;
        Ok(match pattern.split_once('*') {
            Some((before, after)) => Self { before: before.to_owned(), after: Some(after.to_owned()) },
            None => Self { before: pattern.to_owned(), after: None },
        })
    }

    /// Whether it means this reference.
    #[must_use]
    pub fn matches(&self, reference: &str) -> bool {
        match &self.after {
            None => reference == self.before,
            Some(after) => {
                reference.len() > self.before.len() + after.len()
                    && reference.starts_with(&self.before)
                    && reference.ends_with(after.as_str())
            }
        }
    }
}

/// What a push may do to references. The default is: nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RefRules {
    /// The references that may be created and moved forward.
    pub push: Vec<Pattern>,
    /// They may also be moved where they do not follow from what they were.
    pub force: bool,
    /// They may also be deleted.
    pub delete: bool,
    /// Push options may be sent: servers merge, skip checks and more because of them.
    pub options: bool,
}

/// Why a push is refused by the rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The reference is not granted.
    #[error("{0} may not be pushed: no rule grants it")]
    Reference(String),
    /// It is not shown to be a fast-forward.
    #[error(
        "{reference} may not be moved from {old} to {new}: what was pushed does not show that it follows, and no rule grants force"
    )]
    Force {
        /// The reference.
        reference: String,
        /// What it was, says the client.
        old: ObjectId,
        /// What it shall be.
        new: ObjectId,
    },
    /// It may not be deleted.
    #[error("{0} may not be deleted: no rule grants deletion")]
    Delete(String),
    /// Push options are not granted.
    #[error("the push option `{0}` may not be sent: no rule grants push options")]
    Option(String),
    /// The push names its objects otherwise than the pack or the repository.
    #[error("the push names objects by {0}, and the repository by {1}")]
    Format(&'static str, &'static str),
}

/// What is known of history.
pub trait Ancestry {
    /// The parents of a commit; `None` when the commit is not known.
    fn parents(&self, commit: &ObjectId) -> Option<&[ObjectId]>;
}

/// Nothing is known of history: no update is a fast-forward.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unknown;

impl Ancestry for Unknown {
    fn parents(&self, _: &ObjectId) -> Option<&[ObjectId]> {
        None
    }
}

/// Holds a push against the rules. `format` is how the repository names objects, as its advertisement says.
///
/// # Errors
/// The first reference that is not granted, and which rule was missing.
pub fn judge(push: &Push, rules: &RefRules, history: &dyn Ancestry, format: Format) -> Result<(), Refusal> {
    if push.format != format && !push.commands.is_empty() {
        return Err(Refusal::Format(push.format.as_str(), format.as_str()));
    }
    push.commands.iter().try_for_each(|command| judge_command(command, rules, history))?;
    match push.options.first() {
        Some(option) if !rules.options => Err(Refusal::Option(option.clone())),
        _ => Ok(()),
    }
}

fn judge_command(command: &Command, rules: &RefRules, history: &dyn Ancestry) -> Result<(), Refusal> {
    let reference = || command.reference.clone();
    if !rules.push.iter().any(|pattern| pattern.matches(&command.reference)) {
        return Err(Refusal::Reference(reference()));
    }
    match command.change {
        Change::Create => Ok(()),
        Change::Delete if rules.delete => Ok(()),
        Change::Delete => Err(Refusal::Delete(reference())),
        // A tag that moves is no fast-forward, wherever it moves to.
        Change::Update if rules.force => Ok(()),
        Change::Update
            if !command.reference.starts_with("refs/tags/") && follows(history, command.old, command.new) =>
        {
            Ok(())
        }
        Change::Update => Err(Refusal::Force { reference: reference(), old: command.old, new: command.new }),
    }
}

/// Whether a chain of known parents goes from `new` to `old`.
#[must_use]
pub fn follows(history: &dyn Ancestry, old: ObjectId, new: ObjectId) -> bool {
    let mut seen = HashSet::from([new]);
    let mut open = vec![new];
    while let Some(commit) = open.pop() {
        if commit == old {
            return true;
        }
        for parent in history.parents(&commit).unwrap_or_default() {
            if seen.len() >= MAX_STEPS {
                return false;
            }
            if seen.insert(*parent) {
                open.push(*parent);
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    struct Known(HashMap<ObjectId, Vec<ObjectId>>);

    impl Ancestry for Known {
        fn parents(&self, commit: &ObjectId) -> Option<&[ObjectId]> {
            self.0.get(commit).map(Vec::as_slice)
        }
    }

    fn id(n: u8) -> ObjectId {
        ObjectId::from_bytes(Format::Sha1, &[n; 20]).expect("20 bytes")
    }

    fn rules() -> RefRules {
        RefRules { push: vec![Pattern::parse("refs/heads/stockade/*").expect("a pattern")], ..RefRules::default() }
    }

    fn push(reference: &str, change: Change, old: ObjectId, new: ObjectId) -> Push {
        Push { commands: vec![Command { reference: reference.to_owned(), change, old, new }], ..Push::default() }
    }

    fn decide(reference: &str, change: Change, rules: &RefRules) -> Result<(), Refusal> {
        // 3 has the parents 2 and 9, 2 has 1, which is not known.
        let history = Known(HashMap::from([(id(3), vec![id(2), id(9)]), (id(2), vec![id(1)])]));
        judge(&push(reference, change, id(1), id(3)), rules, &history, Format::Sha1)
    }

    #[test]
    fn only_granted_branches_are_pushed() {
        assert_eq!(decide("refs/heads/stockade/a/b", Change::Create, &rules()), Ok(()));
        assert_eq!(decide("refs/heads/stockade/a", Change::Update, &rules()), Ok(()));
        for reference in [
            "refs/heads/main",
            "refs/heads/stockade",
            "refs/heads/stockade/",
            "refs/heads/stockades/a",
            "refs/heads/Stockade/a",
            "refs/tags/stockade/a",
            "refs/for/main",
        ] {
            let refused = decide(reference, Change::Create, &rules()).expect_err("not granted");
            assert_eq!(refused.to_string(), format!("{reference} may not be pushed: no rule grants it"));
        }
        assert!(decide("refs/heads/stockade/a", Change::Create, &RefRules::default()).is_err());
    }

    #[test]
    fn what_does_not_follow_is_force() {
        let history = Known(HashMap::from([(id(3), vec![id(2)])]));
        let refused =
            judge(&push("refs/heads/stockade/a", Change::Update, id(7), id(3)), &rules(), &history, Format::Sha1);
        assert!(matches!(refused, Err(Refusal::Force { .. })));
        let unknown =
            judge(&push("refs/heads/stockade/a", Change::Update, id(2), id(3)), &rules(), &Unknown, Format::Sha1);
        assert!(matches!(unknown, Err(Refusal::Force { .. })));
        let granted = RefRules { force: true, ..rules() };
        assert_eq!(
            judge(&push("refs/heads/stockade/a", Change::Update, id(7), id(3)), &granted, &history, Format::Sha1),
            Ok(())
        );
    }

    #[test]
    fn deletions_and_options_need_their_rule() {
        assert!(matches!(decide("refs/heads/stockade/a", Change::Delete, &rules()), Err(Refusal::Delete(_))));
        assert_eq!(decide("refs/heads/stockade/a", Change::Delete, &RefRules { delete: true, ..rules() }), Ok(()));
        let mut with = push("refs/heads/stockade/a", Change::Create, id(0), id(3));
        with.options.push("merge_request.create".to_owned());
        assert!(matches!(judge(&with, &rules(), &Unknown, Format::Sha1), Err(Refusal::Option(_))));
        assert_eq!(judge(&with, &RefRules { options: true, ..rules() }, &Unknown, Format::Sha1), Ok(()));
        assert!(matches!(judge(&with, &rules(), &Unknown, Format::Sha256), Err(Refusal::Format("sha1", "sha256"))));
    }

    #[test]
    fn a_tag_that_moves_is_force() {
        let tags = RefRules { push: vec![Pattern::parse("refs/tags/*").expect("a pattern")], ..RefRules::default() };
        assert_eq!(decide("refs/tags/v1", Change::Create, &tags), Ok(()));
        assert!(matches!(decide("refs/tags/v1", Change::Update, &tags), Err(Refusal::Force { .. })));
    }

    #[test]
    fn patterns_that_match_nothing_are_refused() {
        for pattern in
            ["", "*", "main", "refs/heads/*/x/*", "refs/heads/..", "refs/heads/a b", "refs/heads/", "/refs/*"]
        {
            assert!(Pattern::parse(pattern).is_err(), "{pattern}");
        }
        assert!(Pattern::parse("refs/heads/*/wip").expect("a pattern").matches("refs/heads/a/b/wip"));
        assert!(!Pattern::parse("refs/heads/a*a").expect("a pattern").matches("refs/heads/a"));
    }

    proptest! {
        #[test]
        fn circles_end(edges in prop::collection::vec((0u8..8, 0u8..8), 0..20), old in 0u8..8, new in 0u8..8) {
            let mut parents: HashMap<ObjectId, Vec<ObjectId>> = HashMap::new();
            for (from, to) in edges {
                parents.entry(id(from)).or_default().push(id(to));
            }
            let _ = follows(&Known(parents), id(old), id(new));
        }
    }
}
