//! The policies of a bundle, laid out so that a decision meets few of them.
//!
//! Owns the layout: by principal kind, action and resource kind, then by the ids of resources that can match at all, then by
//! tests. It refuses to change an answer: see the invariant in [`crate::guard`].

use std::collections::{BTreeMap, HashMap};

use cedar_policy::{ActionConstraint, Policy, PolicySet};

use crate::{
    guard::{self, IdKey, Test},
    vocabulary::{Shape, Vocabulary},
};

/// Policies that can match under the same circumstances.
#[derive(Debug)]
pub struct Group {
    pub test: Test,
    /// All of them, for the first question.
    pub all: PolicySet,
    /// Those whose answer to the second question can be another one, for the second question.
    pub unattended: Option<PolicySet>,
}

/// The layout.
#[derive(Debug, Default)]
pub struct Index {
    shapes: HashMap<Shape, Groups>,
}

/// The policies of one shape. A bundle may name a thousand hosts, and a deed is about one.
#[derive(Debug, Default)]
struct Groups {
    all: Vec<Group>,
    /// Places in `all`: of those that match this id and no other, what ends with this, and what begins with this.
    exact: HashMap<String, Vec<usize>>,
    ending: HashMap<String, Vec<usize>>,
    beginning: HashMap<String, Vec<usize>>,
    /// Of those that can match any id.
    any: Vec<usize>,
}

impl Groups {
    fn new(all: Vec<Group>) -> Self {
        let mut groups = Self::default();
        for (place, group) in all.iter().enumerate() {
            match group.test.ids() {
                None => groups.any.push(place),
                Some(ids) => {
                    for id in ids {
                        let (map, text) = match id {
                            IdKey::Exact(text) => (&mut groups.exact, text),
                            IdKey::Ending(text) => (&mut groups.ending, text),
                            IdKey::Beginning(text) => (&mut groups.beginning, text),
                        };
                        map.entry(text.to_owned()).or_default().push(place);
                    }
                }
            }
        }
        Self { all, ..groups }
    }

    /// Those that can match a resource of this id; the others are known not to match, and not to fail.
    fn about(&self, id: &str) -> impl Iterator<Item = &Group> {
        let mut places = self.any.clone();
        places.extend(self.exact.get(id).into_iter().flatten());
        if !self.ending.is_empty() {
            let ends = id.match_indices(IdKey::ENDS_AT).filter_map(|(at, _)| self.ending.get(id.get(at..)?));
            places.extend(ends.flatten());
        }
        if !self.beginning.is_empty() {
            let begins = id.match_indices(IdKey::BEGINS_TO).filter_map(|(at, _)| self.beginning.get(id.get(..=at)?));
            places.extend(begins.flatten());
        }
        places.sort_unstable();
        places.dedup();
        places.into_iter().filter_map(|place| self.all.get(place))
    }
}

impl Index {
    pub fn new<'a>(vocabulary: &Vocabulary, policies: impl Iterator<Item = &'a Policy>) -> Result<Self, String> {
        type Members = (Vec<Policy>, Vec<Policy>);
        let mut sorted: HashMap<Shape, BTreeMap<Test, Members>> = HashMap::new();
        for policy in policies {
            // A policy without a JSON form is always evaluated, and for both questions.
            let json = policy.to_json().ok();
            let test = json.as_ref().map_or(Test::Risky, |json| Test::of(vocabulary, policy, json));
            let looks = json.as_ref().is_none_or(guard::looks_at_unattended);
            let shapes = shapes_of(vocabulary, policy, &test);
            for shape in shapes {
                let (all, unattended) = sorted.entry(shape).or_default().entry(test.clone()).or_default();
                all.push(policy.clone());
                if looks {
                    unattended.push(policy.clone());
                }
            }
        }
        let mut shapes = HashMap::new();
        for (shape, groups) in sorted {
            let groups = groups
                .into_iter()
                .map(|(test, (all, unattended))| {
                    let unattended = (!unattended.is_empty()).then(|| set(unattended)).transpose()?;
                    Ok(Group { test, all: set(all)?, unattended })
                })
                .collect::<Result<Vec<_>, String>>()?;
            shapes.insert(shape, Groups::new(groups));
        }
        Ok(Self { shapes })
    }

    /// All of a shape.
    pub fn groups(&self, shape: Shape) -> &[Group] {
        self.shapes.get(&shape).map_or(&[], |groups| groups.all.as_slice())
    }

    /// Those of a shape that can match a resource of this id.
    pub fn about(&self, shape: Shape, id: &str) -> impl Iterator<Item = &Group> {
        self.shapes.get(&shape).into_iter().flat_map(|groups| groups.about(id))
    }

    /// How many policies can apply to the busiest combination of principal, action and resource.
    pub fn busiest(&self) -> usize {
        let size = |groups: &Groups| groups.all.iter().map(|group| group.all.num_of_policies()).sum();
        self.shapes.values().map(size).max().unwrap_or(0)
    }
}

fn set(policies: Vec<Policy>) -> Result<PolicySet, String> {
    PolicySet::from_policies(policies).map_err(|e| e.to_string())
}

/// Where a policy can apply. Cedar's typechecker leaves out where it can never match; but what never matches may
/// still fail, and a failure is a Deny.
fn shapes_of(vocabulary: &Vocabulary, policy: &Policy, test: &Test) -> Vec<Shape> {
    if test.can_fail() {
        let action = policy.action_constraint();
        return vocabulary
            .shapes()
            .filter(|shape| match (&action, vocabulary.action(shape.action)) {
                (ActionConstraint::Eq(wanted), Some(uid)) => *wanted == uid,
                (ActionConstraint::In(wanted), Some(uid)) => wanted.contains(&uid),
                _ => true,
            })
            .collect();
    }
    policy
        .get_valid_request_envs(&vocabulary.schema)
        .filter_map(|env| vocabulary.shape(env.principal(), env.action(), env.resource()))
        .collect()
}
