//! The schema, and the words of `stockade_domain` as Cedar's names, made once per bundle.
//!
//! Owns which principals and resources an action has, and which circumstances there are. It refuses anything
//! the schema does not say: the tables here are read out of the parsed schema, never kept beside it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    str::FromStr,
};

use cedar_policy::{EntityId, EntityTypeName, EntityUid, Schema};
use stockade_domain::{Action, Principal, ResourceKind};

/// The Cedar schema of all deeds, in Cedar's own notation.
pub const fn schema() -> &'static str {
    include_str!("stockade.cedarschema")
}

/// The kinds of principals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PrincipalKind {
    /// A person.
    User,
    /// An agent.
    Agent,
    /// A runner.
    Runner,
    /// A server.
    Server,
}

impl PrincipalKind {
    pub const ALL: [Self; 4] = [Self::User, Self::Agent, Self::Runner, Self::Server];

    pub const fn of(principal: &Principal) -> Self {
        match principal {
            Principal::User { .. } => Self::User,
            Principal::Agent { .. } => Self::Agent,
            Principal::Runner { .. } => Self::Runner,
            Principal::Server { .. } => Self::Server,
        }
    }

    const fn type_name(self) -> &'static str {
        match self {
            Self::User => "User",
            Self::Agent => "Agent",
            Self::Runner => "Runner",
            Self::Server => "Server",
        }
    }
}

/// The entity type of a kind of resource: its word with a capital letter.
pub fn resource_type_name(kind: ResourceKind) -> String {
    let word = kind.as_str();
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// What a circumstance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContextType {
    Bool,
    Long,
    Text,
    Set,
}

impl ContextType {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "yes or no",
            Self::Long => "a whole number",
            Self::Text => "a text",
            Self::Set => "a set of texts",
        }
    }
}

/// The combination that decides which policies can apply at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    pub principal: PrincipalKind,
    pub action: Action,
    pub resource: ResourceKind,
}

/// Cedar's names for our words. *Invariant:* made from [`schema`] alone.
#[derive(Debug)]
pub struct Vocabulary {
    pub schema: Schema,
    principals: HashMap<PrincipalKind, EntityTypeName>,
    resources: HashMap<ResourceKind, EntityTypeName>,
    actions: HashMap<Action, EntityUid>,
    shapes: BTreeSet<(Action, PrincipalKind, ResourceKind)>,
    /// Sorted by name: the place in here is the circumstance's slot.
    circumstances: Vec<(String, ContextType)>,
}

/// The one circumstance that nobody but the engine gives.
pub const UNATTENDED: &str = "unattended";

impl Vocabulary {
    /// Reads the schema. It fails only if the shipped schema is broken, which a test would see.
    pub fn new() -> Result<Self, String> {
        let broken = |e: &dyn std::fmt::Display| format!("the built-in schema is broken: {e}");
        let (schema, _) = Schema::from_cedarschema_str(schema()).map_err(|e| broken(&e))?;
        let name = |text: &str| EntityTypeName::from_str(text).map_err(|e| broken(&e));
        let principals =
            PrincipalKind::ALL.iter().map(|k| Ok((*k, name(k.type_name())?))).collect::<Result<_, String>>()?;
        let resources = ResourceKind::ALL
            .iter()
            .map(|k| Ok((*k, name(&resource_type_name(*k))?)))
            .collect::<Result<_, String>>()?;
        let action_type = name("Action")?;
        let actions = Action::ALL
            .iter()
            .map(|a| (*a, EntityUid::from_type_name_and_id(action_type.clone(), EntityId::new(a.as_str()))))
            .collect();
        let mut vocabulary = Self {
            circumstances: circumstances().map_err(|e| broken(&e))?.into_iter().collect(),
            shapes: BTreeSet::new(),
            schema,
            principals,
            resources,
            actions,
        };
        let shapes: BTreeSet<_> = vocabulary
            .schema
            .request_envs()
            .filter_map(|env| vocabulary.shape(env.principal(), env.action(), env.resource()))
            .map(|shape| (shape.action, shape.principal, shape.resource))
            .collect();
        vocabulary.shapes = shapes;
        Ok(vocabulary)
    }

    pub fn principal(&self, kind: PrincipalKind, id: &str) -> Option<EntityUid> {
        Some(EntityUid::from_type_name_and_id(self.principals.get(&kind)?.clone(), EntityId::new(id)))
    }

    pub fn resource(&self, kind: ResourceKind, id: &str) -> Option<EntityUid> {
        Some(EntityUid::from_type_name_and_id(self.resources.get(&kind)?.clone(), EntityId::new(id)))
    }

    pub fn action(&self, action: Action) -> Option<EntityUid> {
        self.actions.get(&action).cloned()
    }

    /// Our words for Cedar's names.
    pub fn shape(&self, principal: &EntityTypeName, action: &EntityUid, resource: &EntityTypeName) -> Option<Shape> {
        Some(Shape {
            principal: *self.principals.iter().find(|(_, name)| *name == principal)?.0,
            action: *self.actions.iter().find(|(_, uid)| *uid == action)?.0,
            resource: *self.resources.iter().find(|(_, name)| *name == resource)?.0,
        })
    }

    /// Whether the schema lets such a principal do such a thing to such a resource.
    pub fn has(&self, shape: Shape) -> bool {
        self.shapes.contains(&(shape.action, shape.principal, shape.resource))
    }

    /// Every combination that the schema has.
    pub fn shapes(&self) -> impl Iterator<Item = Shape> {
        self.shapes.iter().map(|(action, principal, resource)| Shape {
            principal: *principal,
            action: *action,
            resource: *resource,
        })
    }

    /// The slot of a circumstance and what it must be, if there is one of that name.
    pub fn circumstance(&self, name: &str) -> Option<(usize, ContextType)> {
        let slot = self.circumstances.binary_search_by(|(known, _)| known.as_str().cmp(name)).ok()?;
        self.circumstances.get(slot).map(|(_, kind)| (slot, *kind))
    }

    /// How many circumstances there are.
    pub const fn circumstances(&self) -> usize {
        self.circumstances.len()
    }
}

/// Reads the type `Circumstances` out of the schema's JSON form.
fn circumstances() -> Result<BTreeMap<String, ContextType>, String> {
    let (fragment, _) = cedar_policy::SchemaFragment::from_cedarschema_str(schema()).map_err(|e| e.to_string())?;
    let json = fragment.to_json_value().map_err(|e| e.to_string())?;
    let attributes = json
        .pointer("/~1commonTypes/Circumstances/attributes")
        .or_else(|| json.pointer("//commonTypes/Circumstances/attributes"))
        .and_then(serde_json::Value::as_object)
        .ok_or("the type Circumstances is missing")?;
    attributes
        .iter()
        .filter(|(name, _)| *name != UNATTENDED)
        .map(|(name, kind)| {
            let word = kind.get("name").or_else(|| kind.get("type")).and_then(serde_json::Value::as_str);
            let kind = match word {
                Some("Bool" | "Boolean" | "__cedar::Bool") => ContextType::Bool,
                Some("Long" | "__cedar::Long") => ContextType::Long,
                Some("String" | "__cedar::String") => ContextType::Text,
                Some("Set") => ContextType::Set,
                other => return Err(format!("the circumstance {name} has a type that is not known here: {other:?}")),
            };
            Ok((name.clone(), kind))
        })
        .collect()
}
