//! What can be told about a policy without evaluating it.
//!
//! Owns two questions about a policy's condition, answered once when a bundle is loaded: which simple tests
//! must hold for it to match ([`guards`]), and whether it looks at `context.unattended` at all
//! ([`looks_at_unattended`]). Both only ever save work. *Invariant:* a policy that is passed over because of a
//! guard would have come out as "does not match", and would not have failed: a guard is taken only from
//! conjuncts that nothing stands before which can fail. What a policy means is Cedar's to say alone; a test
//! compares every shortened decision with the whole one.

use std::collections::BTreeSet;

use cedar_policy::{Policy, ResourceConstraint};
use serde_json::Value;
use stockade_domain::{ContextValue, Principal};

use crate::{facts::Facts, vocabulary::UNATTENDED};

/// A test that must hold for a policy to match.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Guard {
    /// A circumstance is this number.
    Number(String, i64),
    /// A circumstance is this text.
    Text(String, String),
    /// The resource's id is one of these.
    ResourceId(BTreeSet<String>),
    /// The resource belongs to this project.
    Project(String),
    /// The person has this role.
    Role(String),
}

impl Guard {
    pub fn holds(&self, facts: &Facts<'_>) -> bool {
        match self {
            Self::Number(name, wanted) => {
                matches!(facts.circumstance(name), Some(ContextValue::Long(found)) if found == wanted)
            }
            Self::Text(name, wanted) => {
                matches!(facts.circumstance(name), Some(ContextValue::Text(found)) if found == wanted)
            }
            Self::ResourceId(wanted) => wanted.contains(&facts.deed.resource.id),
            Self::Project(wanted) => facts.project.as_deref() == Some(wanted.as_str()),
            Self::Role(wanted) => match &facts.deed.principal {
                Principal::User { roles, .. } => roles.iter().any(|role| role.as_str() == wanted),
                _ => false,
            },
        }
    }
}

/// The simple tests without which the policy cannot match. Perhaps none.
pub fn guards(policy: &Policy, json: &Value) -> BTreeSet<Guard> {
    let mut found = BTreeSet::new();
    if let ResourceConstraint::Eq(uid) = policy.resource_constraint() {
        found.insert(Guard::ResourceId(BTreeSet::from([uid.id().unescaped().to_owned()])));
    }
    for condition in json.get("conditions").and_then(Value::as_array).into_iter().flatten() {
        let Some(body) = condition.get("body") else { return found };
        let when = condition.get("kind").and_then(Value::as_str) == Some("when");
        let safe = if when { conjuncts(body, &mut found) } else { cannot_fail(body) };
        if !safe {
            break;
        }
    }
    found
}

/// Walks a conjunction from left to right; false once something was met that can fail.
fn conjuncts(expr: &Value, found: &mut BTreeSet<Guard>) -> bool {
    if let Some((left, right)) = operands(expr, "&&") {
        return conjuncts(left, found) && conjuncts(right, found);
    }
    if !cannot_fail(expr) {
        return false;
    }
    found.extend(guard(expr));
    true
}

fn guard(expr: &Value) -> Option<Guard> {
    if let Some((left, right)) = operands(expr, "==") {
        return equality(left, right).or_else(|| equality(right, left));
    }
    let (set, member) = operands(expr, "contains")?;
    if attribute(set) == Some(("principal", "roles")) {
        return Some(Guard::Role(literal(member)?.as_str()?.to_owned()));
    }
    if attribute(member) == Some(("resource", "id")) {
        let members = set.get("Set")?.as_array()?;
        let texts = members.iter().map(|text| Some(literal(text)?.as_str()?.to_owned()));
        return Some(Guard::ResourceId(texts.collect::<Option<_>>()?));
    }
    None
}

fn equality(left: &Value, right: &Value) -> Option<Guard> {
    let value = literal(right)?;
    match attribute(left)? {
        ("context", name) if name != UNATTENDED => match value {
            Value::Number(number) => Some(Guard::Number(name.to_owned(), number.as_i64()?)),
            Value::String(text) => Some(Guard::Text(name.to_owned(), text.clone())),
            _ => None,
        },
        ("resource", "id") => Some(Guard::ResourceId(BTreeSet::from([value.as_str()?.to_owned()]))),
        ("resource", "project") => Some(Guard::Project(value.as_str()?.to_owned())),
        _ => None,
    }
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

fn operands<'a>(expr: &'a Value, wanted: &str) -> Option<(&'a Value, &'a Value)> {
    let (operator, body) = only_entry(expr)?;
    (operator == wanted).then_some(())?;
    Some((body.get("left")?, body.get("right")?))
}

fn only_entry(expr: &Value) -> Option<(&str, &Value)> {
    let entries = expr.as_object().filter(|entries| entries.len() == 1)?;
    entries.iter().next().map(|(operator, body)| (operator.as_str(), body))
}
