//! Examples: deeds with the answer that a bundle must give to them.
//!
//! Owns how an example is written and whether it holds. An example is written as
//!
//! ```toml
//! [[example]]
//! name = "a push is refused"
//! principal = "agent"                   # or runner, server, user, or roles: "developer", "developer+approver"
//! action = "tool.call"
//! resource = "tool:run"                 # kind:id, or a table { kind, id, project, run }
//! context = { level = 4, command = "git push origin main" }
//! expect = "deny"
//! by = "agent-no-push"                  # optional: a policy, or a table, that must be among those that decided
//! ```
//!
//! The person of the example, and the owner of the agent, is always the same one; `owner = "@self"` in the
//! context is that person's id. A table instead of a word gives a principal whole, as in
//! `{ kind = "user", id = "usr_…", roles = [] }`.

use serde::{Deserialize, Serialize};
use stockade_domain::{
    Answer, Context, ContextValue, Decision, Deed, Principal, Resource, ResourceKind, Role,
    ids::{RunId, RunnerId, ServerId, UserId},
};

use crate::engine::Engine;

/// How an example came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExampleResult {
    /// Its name.
    pub name: String,
    /// The line of the bundle's text on which it begins, from 1.
    pub line: usize,
    /// What the bundle's author expects.
    pub expect: Answer,
    /// The policy that the author expects to be among those that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// What is decided.
    pub decision: Decision,
    /// Whether that is the same.
    pub holds: bool,
}

/// An example.
#[derive(Debug, Clone)]
pub struct Example {
    pub name: String,
    pub line: usize,
    pub deed: Deed,
    pub expect: Answer,
    pub by: Option<String>,
    /// `by` is the id of a table: any policy that it was written out as will do.
    pub by_table: bool,
}

impl Example {
    pub fn run(&self, engine: &Engine) -> ExampleResult {
        let decision = engine.simulate(&self.deed);
        let named = |by: &String| decision.policies.iter().any(|policy| self.is_by(by, &policy.id));
        let named = self.by.as_ref().is_none_or(named);
        ExampleResult {
            name: self.name.clone(),
            line: self.line,
            expect: self.expect,
            by: self.by.clone(),
            holds: decision.answer == self.expect && named,
            decision,
        }
    }
}

impl Example {
    fn is_by(&self, by: &str, policy: &str) -> bool {
        let of_table = |rest: &str| rest.is_empty() || (self.by_table && rest.starts_with('.'));
        policy.strip_prefix(by).is_some_and(of_table)
    }
}

/// The person in examples.
const PERSON: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// Reads a principal: a word, or a table as in JSON.
pub fn principal(value: &toml::Value) -> Result<Principal, String> {
    let toml::Value::String(word) = value else {
        return value.clone().try_into().map_err(|e: toml::de::Error| format!("`principal`: {}", e.message()));
    };
    let id = UserId::from_bytes(PERSON);
    Ok(match word.as_str() {
        "agent" => Principal::Agent { run: RunId::from_bytes(PERSON), owner: id },
        "runner" => Principal::Runner { id: RunnerId::from_bytes(PERSON) },
        "server" => Principal::Server { id: ServerId::from_bytes(PERSON) },
        "user" => Principal::User { id, roles: Vec::new() },
        words => {
            let mut roles = words
                .split('+')
                .map(|word| {
                    Role::ALL.into_iter().find(|role| role.as_str() == word).ok_or_else(|| {
                        format!(
                            "`principal`: `{}` is neither agent, runner, server or user nor a role \
                             (admin, developer, approver, auditor)",
                            word.escape_debug()
                        )
                    })
                })
                .collect::<Result<Vec<_>, _>>()?;
            roles.sort_unstable();
            roles.dedup();
            Principal::User { id, roles }
        }
    })
}

/// Reads a resource: `kind:id`, or a table as in JSON.
pub fn resource(value: &toml::Value) -> Result<Resource, String> {
    let toml::Value::String(text) = value else {
        return value.clone().try_into().map_err(|e: toml::de::Error| format!("`resource`: {}", e.message()));
    };
    let (kind, id) = text.split_once(':').unwrap_or((text, "example"));
    let kind: ResourceKind = kind.parse().map_err(|e| format!("`resource`: {e}"))?;
    Ok(Resource::new(kind, id))
}

/// Reads the circumstances.
pub fn context(value: Option<&toml::Value>) -> Result<Context, String> {
    let mut context = Context::default();
    let Some(value) = value else { return Ok(context) };
    let table = value.as_table().ok_or("`context` must be a table")?;
    for (name, value) in table {
        let value = match value {
            toml::Value::String(text) if name == "owner" && text == "@self" => {
                ContextValue::Text(UserId::from_bytes(PERSON).to_string())
            }
            toml::Value::String(text) => ContextValue::Text(text.clone()),
            toml::Value::Integer(number) => ContextValue::Long(*number),
            toml::Value::Boolean(yes) => ContextValue::Bool(*yes),
            toml::Value::Array(members) => ContextValue::Set(
                members
                    .iter()
                    .map(|member| member.as_str().map(str::to_owned))
                    .collect::<Option<_>>()
                    .ok_or_else(|| format!("`context.{}`: a set may only have texts", name.escape_debug()))?,
            ),
            _ => {
                return Err(format!(
                    "`context.{}` must be a text, a whole number, true or false, or a set of texts",
                    name.escape_debug()
                ));
            }
        };
        context.public.insert(name.clone(), value);
    }
    Ok(context)
}
