//! The bundle in force, and deciding with it.

use std::{collections::HashMap, fmt, sync::Arc};

use cedar_policy::{Authorizer, Effect, Entities, PolicyId, PolicySet, Request};
use stockade_domain::{Answer, DecidingPolicy, Decision, Deed};

use crate::{
    bundle::{Problem, Summary},
    content::{ContentExampleResult, ContentRules, ContentScope, ContentSet, Direction},
    example::{Example, ExampleResult},
    explain::{Answered, Explanation, PolicyError, Reason},
    facts::{Facts, Known},
    index::{Group, Index},
    readings,
    ruling::{Permit, Question, Refusal, Ruling},
    vocabulary::Vocabulary,
};

/// The id under which a decision names what no policy decided: a deed that does not fit the schema or passes a
/// limit. No policy can have it, for its parentheses.
const MISFIT: &str = "(schema)";

/// A bundle that was found to be in order, ready to decide. Immutable: another bundle is another engine.
pub struct Engine {
    number: u64,
    text: String,
    vocabulary: Vocabulary,
    policies: HashMap<PolicyId, Reason>,
    examples: Vec<Example>,
    content: Arc<ContentSet>,
    index: Index,
    authorizer: Authorizer,
    known: Known,
    summary: Summary,
}

/// What a bundle's text was read into, before it is known whether its examples hold.
pub struct Parts {
    pub vocabulary: Vocabulary,
    pub policies: Vec<(cedar_policy::Policy, Reason)>,
    pub examples: Vec<Example>,
    pub content: Arc<ContentSet>,
    pub summary: Summary,
}

/// The policies that came out true or failed, over all groups.
#[derive(Default)]
struct Tally {
    permits: Vec<PolicyId>,
    forbids: Vec<PolicyId>,
    errors: Vec<(PolicyId, String)>,
}

impl Engine {
    /// *Invariant:* called by the bundle module alone, which lets an engine go only if its examples hold.
    pub(crate) fn new(number: u64, text: &str, parts: Parts) -> Result<Self, Problem> {
        let index = Index::new(&parts.vocabulary, parts.policies.iter().map(|(policy, _)| policy))
            .map_err(|e| Problem::whole(format!("the policies could not be put together: {e}")))?;
        let mut summary = parts.summary;
        summary.busiest = index.busiest();
        Ok(Self {
            number,
            text: text.to_owned(),
            vocabulary: parts.vocabulary,
            policies: parts.policies.into_iter().map(|(policy, reason)| (policy.id().clone(), reason)).collect(),
            examples: parts.examples,
            content: parts.content,
            index,
            authorizer: Authorizer::new(),
            known: Known::default(),
            summary,
        })
    }

    /// The bundle's number, which every decision carries.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// The bundle's source.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What is in the bundle.
    pub const fn summary(&self) -> &Summary {
        &self.summary
    }

    /// All policies, sorted by id.
    pub fn policies(&self) -> Vec<&Reason> {
        let mut all: Vec<_> = self.policies.values().collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    /// Decides. It never fails: what cannot be evaluated is denied, and the decision names it.
    pub fn decide(&self, deed: Deed) -> Ruling {
        let decision = self.simulate(&deed);
        match decision.answer {
            Answer::Allow => Ruling::Allow(Permit::new(deed, decision)),
            Answer::Ask => Ruling::Ask(Question::new(deed, decision)),
            Answer::Deny => Ruling::Deny(Refusal::new(deed, decision)),
        }
    }

    /// What [`Self::decide`] would answer, without the right to act on it.
    pub fn simulate(&self, deed: &Deed) -> Decision {
        let readings = match readings::of_deed(deed) {
            Ok(readings) => readings,
            Err(why) => return self.misfit(why),
        };
        let one = |deed: &Deed| self.try_simulate(deed).unwrap_or_else(|why| self.misfit(why));
        readings::together(readings.iter().map(one)).unwrap_or_else(|| one(deed))
    }

    /// Of a deed whose path has one reading.
    fn try_simulate(&self, deed: &Deed) -> Result<Decision, String> {
        let facts = Facts::new(&self.vocabulary, &self.known, deed)?;
        let about = self.index.about(facts.shape, &deed.resource.id);
        let groups: Vec<&Group> = about.filter(|group| !group.test.rules_out(&facts)).collect();
        let request = facts.question(false)?;
        let mut may = Tally::default();
        for group in &groups {
            may.add(&self.authorizer, &request, &group.all, &facts.entities);
        }
        if !may.yes() || groups.iter().all(|group| group.unattended.is_none()) {
            return Ok(self.decision(may, None));
        }
        let request = facts.question(true)?;
        // The answers of policies that do not look at `unattended` stand; nothing was forbidden, or we were not here.
        let mut unattended = Tally { permits: may.permits.clone(), ..Tally::default() };
        for set in groups.iter().filter_map(|group| group.unattended.as_ref()) {
            unattended.permits.retain(|id| set.policy(id).is_none());
        }
        for set in groups.iter().filter_map(|group| group.unattended.as_ref()) {
            unattended.add(&self.authorizer, &request, set, &facts.entities);
        }
        Ok(self.decision(may, Some(unattended)))
    }

    /// Why a deed is decided as it is. Slower than deciding, and without its short cuts.
    ///
    /// Where the path has several readings, the least free of them is explained.
    pub fn explain(&self, deed: &Deed) -> Explanation {
        let readings = match readings::of_deed(deed) {
            Ok(readings) => readings,
            Err(why) => return self.unexplained(why),
        };
        let one = |deed: &Deed| self.try_explain(deed).unwrap_or_else(|why| self.unexplained(why));
        let all: Vec<Explanation> = readings.iter().map(one).collect();
        let Some(decision) = readings::together(all.iter().map(|one| one.decision.clone())) else { return one(deed) };
        let least = all.into_iter().find(|one| one.decision.answer == decision.answer);
        least.map_or_else(|| one(deed), |least| Explanation { decision, ..least })
    }

    fn unexplained(&self, why: String) -> Explanation {
        Explanation {
            decision: self.misfit(why.clone()),
            misfit: Some(why),
            may: Answered::default(),
            unattended: Answered::default(),
            passed_over: Vec::new(),
        }
    }

    fn try_explain(&self, deed: &Deed) -> Result<Explanation, String> {
        let facts = Facts::new(&self.vocabulary, &self.known, deed)?;
        let groups = self.index.groups(facts.shape);
        let ask = |unattended| {
            let request = facts.question(unattended)?;
            let mut tally = Tally::default();
            for group in groups {
                tally.add(&self.authorizer, &request, &group.all, &facts.entities);
            }
            Ok::<_, String>(tally)
        };
        let (may, unattended) = (ask(false)?, ask(true)?);
        let (answered, answered_unattended) = (self.answered(&may), self.answered(&unattended));
        let decision = self.decision(may, Some(unattended));
        let decided = |id: &str| {
            [&answered, &answered_unattended]
                .iter()
                .any(|a| a.policies.iter().any(|p| p.id == id) || a.errors.iter().any(|e| e.id == id))
        };
        let mut passed_over: Vec<Reason> = groups
            .iter()
            .flat_map(|group| group.all.policies())
            .filter_map(|policy| self.policies.get(policy.id()))
            .filter(|reason| !decided(&reason.id))
            .cloned()
            .collect();
        passed_over.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(Explanation { decision, misfit: None, may: answered, unattended: answered_unattended, passed_over })
    }

    /// Runs the bundle's examples. All of them hold, or the bundle would not have loaded; a person sees how.
    pub fn test(&self) -> Vec<ExampleResult> {
        self.examples.iter().map(|example| example.run(self)).collect()
    }

    /// What may stand in the prompts or answers of a call.
    pub fn content(&self, scope: &ContentScope<'_>, direction: Direction) -> ContentRules {
        self.content.applying(scope, direction)
    }

    /// All content rules.
    pub fn content_set(&self) -> &ContentSet {
        &self.content
    }

    /// Runs the examples of the content rules.
    pub fn test_content(&self) -> Vec<ContentExampleResult> {
        self.content.test()
    }

    /// Puts both answers together. Without a second tally, the second answer is the first.
    fn decision(&self, may: Tally, unattended: Option<Tally>) -> Decision {
        if let Some(unattended) = unattended.as_ref().filter(|tally| may.yes() && !tally.errors.is_empty()) {
            return self.failed(&unattended.errors);
        }
        if !may.errors.is_empty() {
            return self.failed(&may.errors);
        }
        if !may.yes() {
            return self.named(Answer::Deny, may.forbids);
        }
        match unattended {
            Some(unattended) if !unattended.forbids.is_empty() => self.named(Answer::Ask, unattended.forbids),
            // What permits it with a person there does not permit it without.
            Some(unattended) if unattended.permits.is_empty() => self.named(Answer::Ask, may.permits),
            Some(unattended) => self.named(Answer::Allow, unattended.permits),
            None => self.named(Answer::Allow, may.permits),
        }
    }

    fn named(&self, answer: Answer, ids: Vec<PolicyId>) -> Decision {
        let mut policies: Vec<DecidingPolicy> = ids
            .iter()
            .filter_map(|id| self.policies.get(id))
            .map(|reason| DecidingPolicy { id: reason.id.clone(), title: reason.title.clone() })
            .collect();
        policies.sort_by(|a, b| a.id.cmp(&b.id));
        Decision { answer, bundle: self.number, policies, approval: None }
    }

    fn failed(&self, errors: &[(PolicyId, String)]) -> Decision {
        let mut decision = self.named(Answer::Deny, errors.iter().map(|(id, _)| id.clone()).collect());
        for policy in &mut decision.policies {
            policy.title.push_str(" (this policy could not be evaluated)");
        }
        decision
    }

    fn misfit(&self, why: String) -> Decision {
        let policies = vec![DecidingPolicy { id: MISFIT.to_owned(), title: why }];
        Decision { answer: Answer::Deny, bundle: self.number, policies, approval: None }
    }

    fn answered(&self, tally: &Tally) -> Answered {
        let ids = if tally.forbids.is_empty() { &tally.permits } else { &tally.forbids };
        let mut policies: Vec<Reason> = ids.iter().filter_map(|id| self.policies.get(id)).cloned().collect();
        policies.sort_by(|a, b| a.id.cmp(&b.id));
        let mut errors: Vec<PolicyError> = tally
            .errors
            .iter()
            .filter_map(|(id, error)| {
                let reason = self.policies.get(id)?;
                Some(PolicyError { id: reason.id.clone(), title: reason.title.clone(), error: error.clone() })
            })
            .collect();
        errors.sort_by(|a, b| a.id.cmp(&b.id));
        Answered { yes: tally.yes(), policies, errors }
    }
}

impl Tally {
    fn add(&mut self, authorizer: &Authorizer, request: &Request, set: &PolicySet, entities: &Entities) {
        let response = authorizer.is_authorized(request, set, entities);
        for id in response.diagnostics().reason() {
            match set.policy(id).map(cedar_policy::Policy::effect) {
                Some(Effect::Permit) => self.permits.push(id.clone()),
                Some(Effect::Forbid) => self.forbids.push(id.clone()),
                None => {}
            }
        }
        let failed = response.diagnostics().errors();
        self.errors.extend(failed.map(|error| match error {
            cedar_policy::AuthorizationError::PolicyEvaluationError(error) => {
                (error.policy_id().clone(), error.inner().to_string())
            }
        }));
    }

    const fn yes(&self) -> bool {
        !self.permits.is_empty() && self.forbids.is_empty() && self.errors.is_empty()
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("number", &self.number).field("summary", &self.summary).finish_non_exhaustive()
    }
}
