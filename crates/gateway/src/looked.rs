//! A request as it is seen, and behind the content rules: what is wanted, what is found in it, what goes on instead, and the
//! rule that it does not pass. It refuses to say what follows from that: policy has a word too.

use std::collections::BTreeSet;

use bytes::Bytes;
use stockade_llm::View;
use stockade_policy::content::ContentAction;

use crate::{
    CallError,
    content::{Finding, Guard, Vault, Verdict, classes},
    door::Envelope,
    envelope,
    exchange::Wish,
    unserved::is_a_name,
};

/// What is wanted, and of which model.
pub(crate) fn look(wish: &Wish) -> Result<(View, String), CallError> {
    let asked = &wish.asked;
    let mut view = asked.dialect.view(&envelope::looked_at(&wish.body, asked))?;
    let name = asked.path.model.clone().or_else(|| view.model.clone());
    let name = name.ok_or(stockade_llm::RequestError::Missing("model"))?;
    if !is_a_name(&name) {
        return Err(stockade_llm::RequestError::ModelName.into());
    }
    if asked.envelope != Envelope::Plain {
        // Its positions are those of the body that was looked at, not of the client's.
        (view.model_at, view.ask_for_usage) = (None, None);
    }
    Ok((view, name))
}

/// The model's name in a request that cannot be served.
pub(crate) fn named(wish: &Wish) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Named {
        model: String,
    }
    let in_body = || serde_json::from_slice(&wish.body).ok().map(|Named { model }| model);
    wish.asked.path.model.clone().or_else(in_body)
}

/// What the content rules made of a request.
#[derive(Default)]
pub(crate) struct LookedThrough {
    /// What goes on instead of the client's body, and how it is seen.
    pub(crate) body: Option<Bytes>,
    pub(crate) view: Option<View>,
    /// What was taken out, to be sealed.
    pub(crate) vault: Option<Vec<u8>>,
    pub(crate) findings: BTreeSet<String>,
    /// What a person is asked about.
    pub(crate) asking: Vec<Finding>,
    pub(crate) forbidden: Option<Forbidden>,
}

/// A rule that a request does not pass.
pub(crate) struct Forbidden {
    pub(crate) rule: String,
    pub(crate) title: String,
    pub(crate) asks: bool,
}

impl LookedThrough {
    /// Other bytes go on.
    fn changed(&mut self, wish: &Wish, bytes: &Bytes, vault: &Vault) -> Result<(), CallError> {
        let mut view = wish.asked.dialect.view(&envelope::looked_at(bytes, &wish.asked))?;
        if wish.asked.envelope != Envelope::Plain {
            (view.model_at, view.ask_for_usage) = (None, None);
        }
        self.view = Some(view);
        self.body = Some(bytes.clone());
        self.vault = Some(vault.to_sealed_json());
        Ok(())
    }
}

/// Looks a request through, once for every place that is tried: rules may differ from provider to provider.
pub(crate) fn look_through(guard: Option<&Guard>, wish: &Wish) -> Result<LookedThrough, CallError> {
    let mut looked = LookedThrough::default();
    let Some(guard) = guard.filter(|guard| !guard.skips_request()) else { return Ok(looked) };
    let verdict = guard
        .request(&wish.body)
        .map_err(|error| stockade_llm::RequestError::Syntax(wish.asked.dialect.title(), error.to_string()))?;
    looked.findings = classes(verdict.findings());
    let rule = |action| verdict.findings().iter().find(|finding| finding.action == action).map(|f| f.rule.clone());
    match &verdict {
        Verdict::Clean | Verdict::Report(_) => {}
        Verdict::Redact { bytes, vault, .. } => looked.changed(wish, bytes, vault)?,
        Verdict::Ask { title, bytes, vault, findings } => {
            if !vault.is_empty() {
                looked.changed(wish, bytes, vault)?;
            }
            looked.asking.clone_from(findings);
            let rule = rule(ContentAction::Ask).unwrap_or_default();
            looked.forbidden = Some(Forbidden { rule, title: title.clone(), asks: true });
        }
        Verdict::Block { title, .. } => {
            let rule = rule(ContentAction::Block).unwrap_or_default();
            looked.forbidden = Some(Forbidden { rule, title: title.clone(), asks: false });
        }
    }
    Ok(looked)
}
