//! The wish for reasoning, as the models of this dialect take it: a level from the third generation on, before that a budget.

use serde_json::{Value, json};

use super::write::Writer;
use crate::{
    Target,
    neutral::{Effort, ReasoningWish, Request},
};

/// The largest budget of a larger and of a smaller model.
const MAX_BUDGET: (u64, u64) = (32_768, 24_576);
/// The least budget of a larger model.
const MIN_BUDGET: u64 = 128;

/// The `thinkingConfig`, if there is one.
pub(super) fn write(request: &Request, target: &Target, writer: &mut Writer) -> Option<Value> {
    let wish = request.reasoning.as_ref()?;
    let off = wish.enabled == Some(false) || wish.effort == Some(Effort::None) || wish.budget_tokens == Some(0);
    if !target.reasoning {
        if !off {
            writer.drop("reasoning", "no-reasoning");
        }
        return None;
    }
    let mut config = if writer.model.third { level(wish, off, writer) } else { budget(wish, off, writer) };
    // Whoever turns thinking on and says nothing else wants to see it.
    let show = !off && wish.show.unwrap_or(wish.enabled == Some(true));
    if show || wish.show.is_some() {
        config["includeThoughts"] = json!(show);
    }
    config.as_object().is_some_and(|config| !config.is_empty()).then_some(config)
}

fn level(wish: &ReasoningWish, off: bool, writer: &mut Writer) -> Value {
    let effort = wish.effort.or(wish.budget_tokens.map(Effort::of_budget));
    let model = writer.model;
    let word = match effort {
        _ if off => {
            writer.drop("reasoning", "always-thinks");
            if model.pro { "LOW" } else { "MINIMAL" }
        }
        None => return json!({}),
        Some(Effort::None | Effort::Minimal) if !model.pro => "MINIMAL",
        Some(Effort::None | Effort::Minimal | Effort::Low) => "LOW",
        Some(Effort::Medium) if model.medium => "MEDIUM",
        Some(_) => "HIGH",
    };
    json!({"thinkingLevel": word})
}

fn budget(wish: &ReasoningWish, off: bool, writer: &mut Writer) -> Value {
    let pro = writer.model.pro;
    if off && pro {
        writer.drop("reasoning", "always-thinks");
    }
    let most = if pro { MAX_BUDGET.0 } else { MAX_BUDGET.1 };
    let least = if pro { MIN_BUDGET } else { 0 };
    let wanted = match wish.budget_tokens.or(wish.effort.map(Effort::budget_tokens)) {
        _ if off => 0,
        Some(wanted) => wanted,
        // As much as the model likes.
        None if wish.enabled == Some(true) => return json!({"thinkingBudget": -1}),
        None => return json!({}),
    };
    let budget = wanted.clamp(least, most);
    if wish.budget_tokens.is_some_and(|wanted| wanted != budget) && !off {
        writer.drop("thinking.budget_tokens", "clamped");
    }
    json!({"thinkingBudget": budget})
}
