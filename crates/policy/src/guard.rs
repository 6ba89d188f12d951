//! What can be told about a policy without evaluating it.
//!
//! Owns two questions about a policy's condition, prepared once when a bundle is loaded: a cheap test which says
//! that it cannot match ([`Test`]), and whether it looks at `context.unattended` at all ([`looks_at_unattended`]).
//! Both only ever save work, and what a policy means stays Cedar's to say. *Invariant:* a policy that is passed
//! over would have come out as "does not match", and would not have failed. A property test compares every
//! shortened decision with the whole one.

use std::{cmp::Ordering, collections::BTreeSet};

use cedar_policy::{Policy, ResourceConstraint};
use memchr::memmem::Finder;
use serde_json::Value;
use stockade_domain::{ContextValue, Principal};

use crate::{
    facts::Facts,
    vocabulary::{UNATTENDED, Vocabulary},
};

/// A condition, as far as it is understood here. Circumstances are named by their slots.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Test {
    /// Always so.
    Constant(bool),
    /// Not understood, and it cannot fail.
    Unknown,
    /// Not understood, and evaluating it can fail.
    Risky,
    /// The first is so and then the second.
    Both(Box<Test>, Box<Test>),
    /// The first is so or else the second.
    Either(Box<Test>, Box<Test>),
    /// It is not so.
    Not(Box<Test>),
    /// The circumstance is given.
    Given(usize),
    /// The circumstance is yes.
    Yes(usize),
    /// The circumstance is a number within these bounds, both included.
    Number(usize, i64, i64),
    /// The circumstance is this text.
    Text(usize, String),
    /// The circumstance is a text with these pieces, any text between any two of them.
    Like(usize, Pieces),
    /// The resource's id is one of these.
    ResourceId(BTreeSet<String>),
    /// The resource's id is a text with these pieces.
    ResourceLike(Pieces),
    /// The resource belongs to a project.
    InProject,
    /// The resource belongs to this project.
    Project(String),
    /// The person has this role.
    Role(String),
}

/// A resource's id, or a part of it, by which tests are looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdKey<'a> {
    /// The id.
    Exact(&'a str),
    /// Its end, from a dot: names of hosts.
    Ending(&'a str),
    /// Its beginning, to a slash: repositories.
    Beginning(&'a str),
}

impl IdKey<'_> {
    pub const ENDS_AT: char = '.';
    pub const BEGINS_TO: char = '/';
}

/// What a test came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Yes,
    No,
    Unknown,
    Risky,
}

impl From<bool> for Found {
    fn from(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}

impl Test {
    /// The whole condition of a policy, from its JSON form.
    pub fn of(words: &Vocabulary, policy: &Policy, json: &Value) -> Self {
        let scope = match policy.resource_constraint() {
            ResourceConstraint::Eq(uid) => Self::ResourceId(BTreeSet::from([uid.id().unescaped().to_owned()])),
            _ => Self::Unknown,
        };
        let Some(conditions) = json.get("conditions").and_then(Value::as_array) else { return Self::Risky };
        conditions.iter().fold(scope, |whole, condition| {
            let body = condition.get("body").map_or(Self::Risky, |body| test(words, body));
            let body = match condition.get("kind").and_then(Value::as_str) {
                Some("when") => body,
                Some("unless") => Self::Not(Box::new(body)),
                _ => Self::Risky,
            };
            Self::Both(Box::new(whole), Box::new(body))
        })
    }

    /// Whether the policy is known not to match and not to fail.
    pub fn rules_out(&self, facts: &Facts<'_>) -> bool {
        self.found(facts) == Found::No
    }

    /// The ids of resources for which the test may come out as anything but no. Nothing if it is not known.
    ///
    /// *Invariant:* for every other id, [`rules_out`](Self::rules_out) says so.
    pub fn ids(&self) -> Option<Vec<IdKey<'_>>> {
        match self {
            Self::ResourceId(ids) => Some(ids.iter().map(|id| IdKey::Exact(id)).collect()),
            Self::ResourceLike(pieces) => pieces.key().map(|key| vec![key]),
            // What the left side may come out as must not keep the right side's no from counting.
            Self::Both(left, right) => left.ids().or_else(|| if left.settles() { right.ids() } else { None }),
            Self::Either(left, right) => Some([left.ids()?, right.ids()?].concat()),
            _ => None,
        }
    }

    /// Whether it never comes out as risky, whatever the deed.
    fn settles(&self) -> bool {
        match self {
            Self::Constant(_)
            | Self::Unknown
            | Self::Given(_)
            | Self::ResourceId(_)
            | Self::ResourceLike(_)
            | Self::InProject => true,
            Self::Both(left, right) | Self::Either(left, right) => left.settles() && right.settles(),
            Self::Not(inner) => inner.settles(),
            _ => false,
        }
    }

    /// Whether evaluating it can fail.
    pub fn can_fail(&self) -> bool {
        match self {
            Self::Risky => true,
            Self::Both(left, right) | Self::Either(left, right) => left.can_fail() || right.can_fail(),
            Self::Not(inner) => inner.can_fail(),
            _ => false,
        }
    }

    fn found(&self, facts: &Facts<'_>) -> Found {
        match self {
            Self::Constant(yes) => (*yes).into(),
            Self::Unknown => Found::Unknown,
            Self::Risky => Found::Risky,
            Self::Both(left, right) => match left.found(facts) {
                Found::Yes => right.found(facts),
                Found::Unknown => match right.found(facts) {
                    Found::Yes => Found::Unknown,
                    other => other,
                },
                settled => settled,
            },
            Self::Either(left, right) => match left.found(facts) {
                Found::No => right.found(facts),
                Found::Unknown => match right.found(facts) {
                    Found::No => Found::Unknown,
                    other => other,
                },
                settled => settled,
            },
            Self::Not(inner) => match inner.found(facts) {
                Found::Yes => Found::No,
                Found::No => Found::Yes,
                other => other,
            },
            Self::Given(slot) => facts.circumstance(*slot).is_some().into(),
            Self::Yes(slot) => match facts.circumstance(*slot) {
                Some(ContextValue::Bool(yes)) => (*yes).into(),
                _ => Found::Risky,
            },
            Self::Number(slot, least, most) => match facts.circumstance(*slot) {
                Some(ContextValue::Long(number)) => (least <= number && number <= most).into(),
                _ => Found::Risky,
            },
            Self::Text(slot, wanted) => match facts.circumstance(*slot) {
                Some(ContextValue::Text(text)) => (text == wanted).into(),
                _ => Found::Risky,
            },
            Self::Like(slot, pieces) => match facts.circumstance(*slot) {
                Some(ContextValue::Text(text)) => pieces.are_in(text).into(),
                _ => Found::Risky,
            },
            Self::ResourceId(wanted) => wanted.contains(&facts.deed.resource.id).into(),
            Self::ResourceLike(pieces) => pieces.are_in(&facts.deed.resource.id).into(),
            Self::InProject => facts.project.is_some().into(),
            Self::Project(wanted) => facts.project.as_ref().map_or(Found::Risky, |found| (found == wanted).into()),
            Self::Role(wanted) => match &facts.deed.principal {
                Principal::User { roles, .. } => roles.iter().any(|role| role.as_str() == wanted).into(),
                _ => Found::Risky,
            },
        }
    }
}

/// A pattern of Cedar's `like`: literal pieces, one more than it has wildcards.
#[derive(Debug, Clone)]
pub struct Pieces {
    texts: Vec<String>,
    /// One for each piece but the first and the last.
    finders: Vec<Finder<'static>>,
}

impl Pieces {
    fn new(texts: Vec<String>) -> Self {
        let middle = texts.get(1..texts.len().saturating_sub(1)).unwrap_or_default();
        let finders = middle.iter().map(|text| Finder::new(text.as_bytes()).into_owned()).collect();
        Self { texts, finders }
    }

    /// What every text that has the pieces ends or begins with, if that is all there is to it.
    fn key(&self) -> Option<IdKey<'_>> {
        match self.texts.as_slice() {
            [first, last] if first.is_empty() && last.starts_with(IdKey::ENDS_AT) => Some(IdKey::Ending(last)),
            [first, last] if last.is_empty() && first.ends_with(IdKey::BEGINS_TO) => Some(IdKey::Beginning(first)),
            _ => None,
        }
    }

    /// Whether a text has the pieces in this order, the first at its start and the last at its end.
    fn are_in(&self, text: &str) -> bool {
        let [first, .., last] = self.texts.as_slice() else {
            return self.texts.first().is_some_and(|only| only == text);
        };
        let inner = text.as_bytes().strip_prefix(first.as_bytes()).and_then(|rest| rest.strip_suffix(last.as_bytes()));
        let Some(mut rest) = inner else { return false };
        for finder in &self.finders {
            match finder.find(rest).and_then(|at| rest.get(at + finder.needle().len()..)) {
                Some(after) => rest = after,
                None => return false,
            }
        }
        true
    }
}

impl PartialEq for Pieces {
    fn eq(&self, other: &Self) -> bool {
        self.texts == other.texts
    }
}
impl Eq for Pieces {}
impl PartialOrd for Pieces {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Pieces {
    fn cmp(&self, other: &Self) -> Ordering {
        self.texts.cmp(&other.texts)
    }
}

fn test(words: &Vocabulary, expr: &Value) -> Test {
    understood(words, expr).unwrap_or(if cannot_fail(expr) { Test::Unknown } else { Test::Risky })
}

fn understood(words: &Vocabulary, expr: &Value) -> Option<Test> {
    let (operator, body) = only_entry(expr)?;
    let pair = |make: fn(Box<Test>, Box<Test>) -> Test| {
        Some(make(Box::new(test(words, body.get("left")?)), Box::new(test(words, body.get("right")?))))
    };
    match operator {
        "Value" => body.as_bool().map(Test::Constant),
        "&&" => pair(Test::Both),
        "||" => pair(Test::Either),
        "!" => Some(Test::Not(Box::new(test(words, body.get("arg")?)))),
        "has" => match (variable(body.get("left")?)?, body.get("attr")?.as_str()?) {
            ("context", name) => Some(Test::Given(slot(words, name)?)),
            ("resource", "project") => Some(Test::InProject),
            _ => None,
        },
        "." => match attribute(expr)? {
            ("context", name) => Some(Test::Yes(slot(words, name)?)),
            _ => None,
        },
        "==" => {
            let (left, right) = (body.get("left")?, body.get("right")?);
            equality(words, left, right).or_else(|| equality(words, right, left))
        }
        "!=" => {
            let (left, right) = (body.get("left")?, body.get("right")?);
            let equal = equality(words, left, right).or_else(|| equality(words, right, left))?;
            Some(Test::Not(Box::new(equal)))
        }
        "<" | "<=" | ">" | ">=" => {
            let ("context", name) = attribute(body.get("left")?)? else { return None };
            let bound = literal(body.get("right")?)?.as_i64()?;
            let (least, most) = match operator {
                "<" => (i64::MIN, bound.checked_sub(1)?),
                "<=" => (i64::MIN, bound),
                ">" => (bound.checked_add(1)?, i64::MAX),
                _ => (bound, i64::MAX),
            };
            Some(Test::Number(slot(words, name)?, least, most))
        }
        "like" => {
            let pieces = || Some(Pieces::new(pieces(body.get("pattern")?)?));
            match attribute(body.get("left")?)? {
                ("context", name) => Some(Test::Like(slot(words, name)?, pieces()?)),
                ("resource", "id") => Some(Test::ResourceLike(pieces()?)),
                _ => None,
            }
        }
        "contains" => {
            let (set, member) = (body.get("left")?, body.get("right")?);
            if attribute(set) == Some(("principal", "roles")) {
                return Some(Test::Role(literal(member)?.as_str()?.to_owned()));
            }
            if attribute(member)?.0 == "context" {
                // The same as being equal to one after the other.
                let members = set.get("Set")?.as_array()?;
                let mut tests = members.iter().map(|literal| equality(words, member, literal));
                let first = tests.next()??;
                return tests.try_fold(first, |all, one| Some(Test::Either(Box::new(all), Box::new(one?))));
            }
            let ("resource", "id") = attribute(member)? else { return None };
            let texts = set.get("Set")?.as_array()?.iter().map(|text| Some(literal(text)?.as_str()?.to_owned()));
            Some(Test::ResourceId(texts.collect::<Option<_>>()?))
        }
        _ => None,
    }
}

fn equality(words: &Vocabulary, left: &Value, right: &Value) -> Option<Test> {
    let value = literal(right)?;
    match attribute(left)? {
        ("context", name) => match value {
            Value::Number(number) => Some(Test::Number(slot(words, name)?, number.as_i64()?, number.as_i64()?)),
            Value::String(text) => Some(Test::Text(slot(words, name)?, text.clone())),
            _ => None,
        },
        ("resource", "id") => Some(Test::ResourceId(BTreeSet::from([value.as_str()?.to_owned()]))),
        ("resource", "project") => Some(Test::Project(value.as_str()?.to_owned())),
        _ => None,
    }
}

/// The slot of a circumstance. The engine's own `unattended` has none: it differs between the questions.
fn slot(words: &Vocabulary, name: &str) -> Option<usize> {
    words.circumstance(name).map(|(slot, _)| slot)
}

/// The literal pieces of a pattern: one more than it has wildcards.
fn pieces(pattern: &Value) -> Option<Vec<String>> {
    let mut done = Vec::new();
    let mut piece = String::new();
    for element in pattern.as_array()? {
        if element.as_str() == Some("Wildcard") {
            done.push(std::mem::take(&mut piece));
        } else {
            piece.push_str(element.get("Literal")?.as_str()?);
        }
    }
    done.push(piece);
    Some(done)
}

/// Whether evaluating this cannot fail, given strict validation and facts that fit the schema. What is not
/// known here can: arithmetic overflows, extension functions parse, entity literals may not be there.
fn cannot_fail(expr: &Value) -> bool {
    let Some((operator, body)) = only_entry(expr) else { return false };
    let field = |name| body.get(name).is_some_and(cannot_fail);
    match operator {
        "Value" | "Var" => true,
        "Set" => body.as_array().is_some_and(|members| members.iter().all(cannot_fail)),
        "." => attribute(expr).is_some(),
        "!" => field("arg"),
        "has" | "is" | "like" | "isEmpty" => field("left") || field("arg"),
        "==" | "!=" | "<" | "<=" | ">" | ">=" | "&&" | "||" | "in" | "contains" | "containsAll" | "containsAny" => {
            field("left") && field("right")
        }
        "if-then-else" => field("if") && field("then") && field("else"),
        _ => false,
    }
}

/// Whether the policy's answer can differ between the two questions.
pub fn looks_at_unattended(json: &Value) -> bool {
    fn looks(expr: &Value) -> bool {
        match expr {
            Value::Object(entries) => {
                if let Some(("context", name)) = attribute(expr) {
                    return name == UNATTENDED;
                }
                // `context has x` for any other x is known not to look; everything else that names the
                // context as a whole might.
                if let Some(body) = entries.get("has").filter(|_| entries.len() == 1) {
                    let whole = body.get("left").and_then(variable) == Some("context");
                    let name = body.get("attr").and_then(Value::as_str);
                    if whole && name.is_some_and(|name| name != UNATTENDED) {
                        return false;
                    }
                }
                variable(expr) == Some("context") || entries.values().any(looks)
            }
            Value::Array(members) => members.iter().any(looks),
            _ => false,
        }
    }
    json.get("conditions").is_none_or(looks)
}

/// `variable.name`, where it is that.
fn attribute(expr: &Value) -> Option<(&str, &str)> {
    let (operator, body) = only_entry(expr)?;
    (operator == ".").then_some(())?;
    Some((variable(body.get("left")?)?, body.get("attr")?.as_str()?))
}

fn variable(expr: &Value) -> Option<&str> {
    let (operator, body) = only_entry(expr)?;
    (operator == "Var").then(|| body.as_str()).flatten()
}

/// A literal that is no entity and no extension value.
fn literal(expr: &Value) -> Option<&Value> {
    let (operator, body) = only_entry(expr)?;
    (operator == "Value" && !body.is_object() && !body.is_array()).then_some(body)
}

fn only_entry(expr: &Value) -> Option<(&str, &Value)> {
    let entries = expr.as_object().filter(|entries| entries.len() == 1)?;
    entries.iter().next().map(|(operator, body)| (operator.as_str(), body))
}
