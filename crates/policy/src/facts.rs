//! A deed as Cedar's request and entities, built as values.
//!
//! Owns the check that a deed fits the schema, and the limits on what a deed may carry. *Invariant:* what
//! passes here cannot make a strictly validated policy fail for a missing or mistyped attribute.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use cedar_policy::{Context, Entities, Entity, EntityUid, Request, RestrictedExpression};
use stockade_domain::{ContextValue, Deed, Principal, Resource, ResourceKind};

use crate::{
    tables,
    vocabulary::{ContextType, PrincipalKind, Shape, UNATTENDED, Vocabulary},
};

/// How many bytes of text all circumstances of a deed may have together. A deed with more is denied: to cut a
/// command short would hide its end from policy.
pub const MAX_CONTEXT_TEXT_BYTES: usize = 256 * 1024;

/// How many bytes a resource's id (a model's name comes from outside) may have. A deed with more is denied.
pub const MAX_RESOURCE_ID_BYTES: usize = 1024;

/// How many pairs of principal and resource are remembered.
const KNOWN_PAIRS: usize = 256;

/// Principals and resources as Cedar has them, remembered: most deeds are done by few to few.
#[derive(Debug, Default)]
pub struct Known {
    pairs: Mutex<HashMap<(Principal, Resource), Arc<Entities>>>,
}

impl Known {
    /// Those of a deed: they depend on nothing else in it.
    fn entities(&self, deed: &Deed, make: impl FnOnce() -> Result<Entities, String>) -> Result<Arc<Entities>, String> {
        let pair = (deed.principal.clone(), deed.resource.clone());
        // Nothing is left half done under this lock.
        let lock = || self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(&pair) {
            return Ok(Arc::clone(known));
        }
        let made = Arc::new(make()?);
        let mut pairs = lock();
        if pairs.len() >= KNOWN_PAIRS {
            pairs.clear();
        }
        pairs.insert(pair, Arc::clone(&made));
        Ok(made)
    }
}

/// A deed that was found to fit the schema, ready for both questions.
pub struct Facts<'a> {
    pub deed: &'a Deed,
    pub shape: Shape,
    principal: EntityUid,
    action: EntityUid,
    resource: EntityUid,
    pub entities: Arc<Entities>,
    pub project: Option<String>,
    /// What is given, by slot.
    given: Vec<Option<&'a ContextValue>>,
}

impl<'a> Facts<'a> {
    /// Fits a deed into the schema, or says why it does not fit. The reason names circumstances, never their values.
    pub fn new(vocabulary: &Vocabulary, known: &Known, deed: &'a Deed) -> Result<Self, String> {
        let kind = PrincipalKind::of(&deed.principal);
        let shape = Shape { principal: kind, action: deed.action, resource: deed.resource.kind };
        if !vocabulary.has(shape) {
            return Err(format!(
                "{} is nothing that a {} does to a {}",
                deed.action,
                deed.principal.kind(),
                deed.resource.kind
            ));
        }
        if deed.resource.id.len() > MAX_RESOURCE_ID_BYTES {
            return Err(format!("the name of the {} is longer than {MAX_RESOURCE_ID_BYTES} bytes", deed.resource.kind));
        }
        spelled(&deed.resource)?;
        let given = given(vocabulary, deed)?;
        let broken = |e: &dyn std::fmt::Display| format!("the deed could not be put to policy: {e}");
        let missing = || "the deed could not be put to policy".to_owned();
        let principal_id = deed.principal.id();
        let principal = vocabulary.principal(kind, &principal_id).ok_or_else(missing)?;
        let resource = vocabulary.resource(deed.resource.kind, &deed.resource.id).ok_or_else(missing)?;
        let action = vocabulary.action(deed.action).ok_or_else(missing)?;
        let project = project_of(deed);
        let entities = known.entities(deed, || {
            let a = Entity::new(principal.clone(), principal_attributes(&deed.principal, principal_id), HashSet::new())
                .map_err(|e| broken(&e))?;
            let b = Entity::new(resource.clone(), resource_attributes(deed, project.as_deref()), HashSet::new())
                .map_err(|e| broken(&e))?;
            Entities::from_entities([a, b], None).map_err(|e| broken(&e))
        })?;
        Ok(Self { deed, shape, principal, action, resource, entities, project, given })
    }

    /// One of the two questions.
    pub fn question(&self, unattended: bool) -> Result<Request, String> {
        let given = self.deed.context.public.iter().chain(&self.deed.context.content);
        let pairs = given
            .map(|(name, value)| (name.clone(), expression(value)))
            .chain([(UNATTENDED.to_owned(), RestrictedExpression::new_bool(unattended))]);
        let context = Context::from_pairs(pairs).map_err(|e| e.to_string())?;
        Request::new(self.principal.clone(), self.action.clone(), self.resource.clone(), context, None)
            .map_err(|e| e.to_string())
    }

    /// What is given in a slot.
    pub fn circumstance(&self, slot: usize) -> Option<&ContextValue> {
        self.given.get(slot).copied().flatten()
    }
}

/// Hosts and repositories have one spelling. In any other a prohibition would look past them.
fn spelled(resource: &Resource) -> Result<(), String> {
    let read = match resource.kind {
        ResourceKind::Host => tables::host(&resource.id),
        ResourceKind::Repository => tables::repository(&resource.id),
        _ => Ok(()),
    };
    read.map_err(|why| format!("the {} is not spelled as it should be: {why}", resource.kind))
}

/// Checks the circumstances and sorts them into their slots.
fn given<'a>(vocabulary: &Vocabulary, deed: &'a Deed) -> Result<Vec<Option<&'a ContextValue>>, String> {
    let mut text = 0_usize;
    let mut given = vec![None; vocabulary.circumstances()];
    for (name, value) in deed.context.public.iter().chain(&deed.context.content) {
        if name == UNATTENDED {
            return Err(format!("the circumstance `{UNATTENDED}` is Stockade's own to give"));
        }
        let (slot, expected) = vocabulary
            .circumstance(name)
            .ok_or_else(|| format!("there is no circumstance `{}` in the schema", name.escape_debug()))?;
        let found = match value {
            ContextValue::Bool(_) => ContextType::Bool,
            ContextValue::Long(_) => ContextType::Long,
            ContextValue::Text(value) => {
                text = text.saturating_add(value.len());
                ContextType::Text
            }
            ContextValue::Set(values) => {
                // Each member counts for at least one byte, so that empty ones are bounded too.
                text = values.iter().fold(text, |sum, value| sum.saturating_add(value.len().max(1)));
                ContextType::Set
            }
        };
        if found != expected {
            return Err(format!("the circumstance `{name}` must be {}, not {}", expected.as_str(), found.as_str()));
        }
        if let Some(place) = given.get_mut(slot)
            && place.replace(value).is_some()
        {
            return Err(format!("the circumstance `{name}` is given twice, in public and as content"));
        }
    }
    if text > MAX_CONTEXT_TEXT_BYTES {
        return Err(format!("the circumstances are longer than {MAX_CONTEXT_TEXT_BYTES} bytes"));
    }
    Ok(given)
}

fn principal_attributes(principal: &Principal, id: String) -> HashMap<String, RestrictedExpression> {
    let text = RestrictedExpression::new_string;
    match principal {
        Principal::User { roles, .. } => {
            let roles = RestrictedExpression::new_set(roles.iter().map(|role| text(role.as_str().to_owned())));
            HashMap::from([("id".to_owned(), text(id)), ("roles".to_owned(), roles)])
        }
        Principal::Agent { owner, .. } => {
            HashMap::from([("run".to_owned(), text(id)), ("owner".to_owned(), text(owner.to_string()))])
        }
        Principal::Runner { .. } | Principal::Server { .. } => HashMap::new(),
    }
}

/// The project a resource belongs to; a project belongs to itself.
fn project_of(deed: &Deed) -> Option<String> {
    let own = (deed.resource.kind == ResourceKind::Project).then(|| deed.resource.id.clone());
    deed.resource.project.map(|id| id.to_string()).or(own)
}

fn resource_attributes(deed: &Deed, project: Option<&str>) -> HashMap<String, RestrictedExpression> {
    let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
    let mut attributes = HashMap::from([("id".to_owned(), text(&deed.resource.id))]);
    if let Some(project) = project {
        attributes.insert("project".to_owned(), text(project));
    }
    if deed.resource.kind == ResourceKind::Repository {
        attributes.insert("folded".to_owned(), text(&deed.resource.id.to_lowercase()));
    }
    // A run belongs to itself, and the id of a change is its run's.
    let own = matches!(deed.resource.kind, ResourceKind::Run | ResourceKind::Change).then_some(&deed.resource.id);
    if let Some(run) = deed.resource.run {
        attributes.insert("run".to_owned(), text(&run.to_string()));
    } else if let Some(run) = own {
        attributes.insert("run".to_owned(), text(run));
    }
    attributes
}

fn expression(value: &ContextValue) -> RestrictedExpression {
    match value {
        ContextValue::Bool(value) => RestrictedExpression::new_bool(*value),
        ContextValue::Long(value) => RestrictedExpression::new_long(*value),
        ContextValue::Text(value) => RestrictedExpression::new_string(value.clone()),
        ContextValue::Set(values) => {
            RestrictedExpression::new_set(values.iter().cloned().map(RestrictedExpression::new_string))
        }
    }
}
