//! The wish for reasoning, as the families of models behind the service take it.
//!
//! Claude takes `thinking` beside the service's own fields, newer ones with an effort; gpt-oss takes `reasoning_effort`, and
//! Nova 2 `reasoningConfig`. What the model would refuse together with something else in the request is left out by a rule.

use serde_json::{Value, json};

use super::blocks::Blocks;
use crate::{
    Target,
    anthropic::{Model, Thinking},
    neutral::{Effort, ReasoningWish, Request, ToolChoice},
    take::Object,
};

/// The least budget that a model takes.
const MIN_BUDGET: u64 = 1_024;

/// What kind of model stands behind an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Claude(Model),
    Nova,
    GptOss,
    Other,
}

impl Family {
    /// By the model's identifier, with or without a region in front. An application's inference profile does not say it.
    pub(super) fn of(model: &str) -> Self {
        if model.contains("claude-") {
            Self::Claude(Model::of(model))
        } else if model.contains("amazon.nova") {
            Self::Nova
        } else if model.contains("gpt-oss") {
            Self::GptOss
        } else {
            Self::Other
        }
    }

    /// Whether it understands cache points.
    pub(super) const fn caches(self) -> bool {
        matches!(self, Self::Claude(_) | Self::Nova)
    }
}

/// Adds the wish to `additional` and the effort to `output`. Whether the model thinks, as far as it is known.
pub(super) fn write(
    request: &Request,
    target: &Target,
    family: Family,
    max_tokens: u64,
    blocks: &mut Blocks,
    body: &mut Object,
) -> bool {
    let Some(wish) = &request.reasoning else { return false };
    let off = wish.enabled == Some(false) || wish.effort == Some(Effort::None) || wish.budget_tokens == Some(0);
    let said = wish.enabled.is_some() || wish.effort.is_some() || wish.budget_tokens.is_some() || wish.show.is_some();
    if !said {
        return false;
    }
    if !target.reasoning || family == Family::Other {
        if !off {
            blocks.drop("reasoning", "no-reasoning");
        }
        return false;
    }
    let effort = wish.effort.or(wish.budget_tokens.map(Effort::of_budget)).unwrap_or(Effort::Medium);
    let three = match effort {
        Effort::None | Effort::Minimal | Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High | Effort::XHigh | Effort::Max => "high",
    };
    match family {
        Family::Claude(model) => claude(request, wish, model, max_tokens, off, blocks, body),
        Family::GptOss => {
            if off {
                blocks.drop("reasoning", "always-thinks");
            }
            additional(body, "reasoning_effort", json!(three));
            false
        }
        Family::Nova => {
            let config =
                if off { json!({"type": "disabled"}) } else { json!({"type": "enabled", "maxReasoningEffort": three}) };
            additional(body, "reasoningConfig", config);
            !off
        }
        Family::Other => false,
    }
}

fn claude(
    request: &Request,
    wish: &ReasoningWish,
    model: Model,
    max_tokens: u64,
    off: bool,
    blocks: &mut Blocks,
    body: &mut Object,
) -> bool {
    if off {
        match model.thinking {
            Thinking::Always => blocks.drop("reasoning", "always-thinks"),
            Thinking::Budget | Thinking::Adaptive => additional(body, "thinking", json!({"type": "disabled"})),
        }
        return model.thinking == Thinking::Always;
    }
    let effort = wish.effort.or(wish.budget_tokens.map(Effort::of_budget));
    if let (Some(effort), true) = (effort, model.thinking != Thinking::Budget) {
        let word = match effort {
            Effort::None | Effort::Minimal | Effort::Low => "low",
            Effort::Medium => "medium",
            Effort::XHigh if model.xhigh => "xhigh",
            Effort::High | Effort::XHigh => "high",
            Effort::Max => "max",
        };
        output(body, "effort", json!(word));
    }
    if model.thinking != Thinking::Always && matches!(request.tool_choice, ToolChoice::Any | ToolChoice::Named(_)) {
        blocks.drop("reasoning", "forced-tool");
        return false;
    }
    if model.thinking != Thinking::Budget {
        additional(body, "thinking", json!({"type": "adaptive"}));
        return true;
    }
    if !thought_before_calling(body) {
        blocks.drop("reasoning", "unthought-calls");
        return false;
    }
    let effort = wish.effort.unwrap_or(Effort::Medium);
    // Of what an effort stands for, half of the answer's room at most; a number that was asked for is kept if it can be.
    let wanted = wish.budget_tokens.unwrap_or_else(|| effort.budget_tokens().min(max_tokens / 2));
    let budget = wanted.max(MIN_BUDGET).min(max_tokens.saturating_sub(1));
    if budget < MIN_BUDGET {
        blocks.drop("reasoning", "no-room-to-think");
        return false;
    }
    if wish.budget_tokens.is_some_and(|wanted| wanted != budget) {
        blocks.drop("reasoning.budget_tokens", "clamped");
    }
    additional(body, "thinking", json!({"type": "enabled", "budget_tokens": budget}));
    true
}

/// A field that goes on to the model as it is.
pub(super) fn additional(body: &mut Object, key: &str, value: Value) {
    member(body, "additionalModelRequestFields", key, value);
}

/// A field of the service's `outputConfig`.
pub(super) fn output(body: &mut Object, key: &str, value: Value) {
    member(body, "outputConfig", key, value);
}

fn member(body: &mut Object, of: &str, key: &str, value: Value) {
    if let Value::Object(members) = body.entry(of.to_owned()).or_insert_with(|| json!({})) {
        members.insert(key.to_owned(), value);
    }
}

/// Models that think by budget refuse to go on after calls that were made without thought (by another model, say).
fn thought_before_calling(body: &Object) -> bool {
    let messages = body.get("messages").and_then(Value::as_array);
    let mut after_results = false;
    for message in messages.into_iter().flatten().rev() {
        let blocks = message.get("content").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let has = |key: &str| blocks.iter().any(|block| block.get(key).is_some());
        if message.get("role").and_then(Value::as_str) == Some("assistant") {
            let first = blocks.first().is_some_and(|block| block.get("reasoningContent").is_some());
            return !(after_results && has("toolUse")) || first;
        }
        after_results |= has("toolResult");
    }
    true
}
