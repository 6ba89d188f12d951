//! What comes out of a decision: the right to act, a question to a person, or a no.
//!
//! Owns the three outcomes and the only ways between them: a question becomes a permit when a person says yes
//! and a refusal when a person says no. It refuses every other way: nothing here is cloned, deserialized or
//! made outside this crate.

use std::fmt;

use stockade_domain::{Answer, DecidingPolicy, Decision, Deed, ids::ApprovalId};

/// What was decided about a deed.
#[derive(Debug)]
#[must_use = "a deed may only be done with the permit inside"]
pub enum Ruling {
    /// It may be done.
    Allow(Permit),
    /// It may be done once a person has said yes.
    Ask(Question),
    /// It may not be done.
    Deny(Refusal),
}

/// The right to do one deed, once. Whoever carries out an effect takes it by value.
#[must_use = "a permit that is dropped is a deed that is not done"]
pub struct Permit {
    deed: Deed,
    decision: Decision,
}

/// A deed that waits for a person.
#[must_use = "a question must be put to a person, or refused"]
pub struct Question {
    deed: Deed,
    decision: Decision,
}

/// A deed that may not be done.
pub struct Refusal {
    deed: Deed,
    decision: Decision,
}

impl Ruling {
    /// What was decided, as it stands in the record.
    pub const fn decision(&self) -> &Decision {
        match self {
            Self::Allow(permit) => &permit.decision,
            Self::Ask(question) => &question.decision,
            Self::Deny(refusal) => &refusal.decision,
        }
    }

    /// About what.
    pub const fn deed(&self) -> &Deed {
        match self {
            Self::Allow(permit) => &permit.deed,
            Self::Ask(question) => &question.deed,
            Self::Deny(refusal) => &refusal.deed,
        }
    }
}

impl Permit {
    pub(crate) const fn new(deed: Deed, decision: Decision) -> Self {
        Self { deed, decision }
    }

    /// The permit is given up, because a content rule forbids what would be said. The record names that rule.
    pub fn withheld(mut self, rule: &str, title: &str) -> Refusal {
        self.decision.answer = Answer::Deny;
        self.decision.policies = vec![DecidingPolicy { id: rule.to_owned(), title: title.to_owned() }];
        Refusal::new(self.deed, self.decision)
    }

    /// The permit is given up for a question, because a content rule wants a person to see what would be said. The record
    /// names that rule.
    pub fn questioned(mut self, rule: &str, title: &str) -> Question {
        self.decision.answer = Answer::Ask;
        self.decision.policies = vec![DecidingPolicy { id: rule.to_owned(), title: title.to_owned() }];
        Question::new(self.deed, self.decision)
    }

    /// The deed that may be done.
    pub const fn deed(&self) -> &Deed {
        &self.deed
    }

    /// What was decided. Its `approval` names the person's yes, if one was needed.
    pub const fn decision(&self) -> &Decision {
        &self.decision
    }
}

impl Question {
    pub(crate) const fn new(deed: Deed, decision: Decision) -> Self {
        Self { deed, decision }
    }

    /// The deed that waits.
    pub const fn deed(&self) -> &Deed {
        &self.deed
    }

    /// What was decided; its policies are those that want a person.
    pub const fn decision(&self) -> &Decision {
        &self.decision
    }

    /// What the person is told about why they are asked.
    pub fn title(&self) -> &str {
        self.decision.title()
    }

    /// A content rule asks too: one yes is to both.
    pub fn also(mut self, rule: &str, title: &str) -> Self {
        self.decision.policies.push(DecidingPolicy { id: rule.to_owned(), title: title.to_owned() });
        self.decision.policies.sort_by(|a, b| a.id.cmp(&b.id));
        self
    }

    /// Nobody is asked, because a content rule forbids what would be said. The record names that rule.
    pub fn withheld(self, rule: &str, title: &str) -> Refusal {
        Permit::new(self.deed, self.decision).withheld(rule, title)
    }

    /// A person has said yes. The caller has established that this approval is about this very deed, is granted,
    /// and was not used before.
    pub fn granted(mut self, approval: ApprovalId) -> Permit {
        self.decision.approval = Some(approval);
        Permit::new(self.deed, self.decision)
    }

    /// A person has said no, or nobody said anything in time.
    pub fn refused(self) -> Refusal {
        Refusal::new(self.deed, self.decision)
    }
}

impl Refusal {
    pub(crate) const fn new(deed: Deed, decision: Decision) -> Self {
        Self { deed, decision }
    }

    /// The deed that may not be done.
    pub const fn deed(&self) -> &Deed {
        &self.deed
    }

    /// What was decided. Its answer is `ask` where it was a person who said no.
    pub const fn decision(&self) -> &Decision {
        &self.decision
    }

    /// What the governed process may be told, and no more than that.
    pub fn title(&self) -> &str {
        self.decision.title()
    }
}

/// The circumstances of a deed are content: they never reach a log by way of `{:?}`.
macro_rules! debug_without_content {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name))
                    .field("principal", &self.deed.principal)
                    .field("action", &self.deed.action)
                    .field("kind", &self.deed.resource.kind)
                    .field("decision", &self.decision)
                    .finish_non_exhaustive()
            }
        }
    )*};
}
debug_without_content!(Permit, Question, Refusal);
