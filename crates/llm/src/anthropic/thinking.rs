//! The wish for reasoning, as the models of this dialect take it.
//!
//! A model that thinks by budget gets the tokens that were asked for, or those that stand for the effort
//! ([`Effort::budget_tokens`]), always fewer than the answer may have. A newer one gets `adaptive` and the effort. What the
//! provider would refuse together with something else in the request is left out by a rule.

use serde_json::{Value, json};

use super::{
    blocks::Blocks,
    model::{Model, Thinking},
};
use crate::{
    Target,
    neutral::{self, Effort, ReasoningWish, ToolChoice},
    take::Object,
};

/// The least budget that the provider takes.
const MIN_BUDGET: u64 = 1_024;

/// Writes `thinking` and `output_config.effort`.
pub(super) fn write(
    request: &neutral::Request,
    target: &Target,
    model: Model,
    max_tokens: u64,
    blocks: &mut Blocks,
    body: &mut Object,
) {
    let Some(wish) = &request.reasoning else { return };
    let off = wish.enabled == Some(false) || wish.effort == Some(Effort::None) || wish.budget_tokens == Some(0);
    if !target.reasoning {
        if !off {
            blocks.drop("reasoning", "no-reasoning");
        }
        return;
    }
    let effort = wish.effort.filter(|effort| *effort != Effort::None);
    if model.thinking != Thinking::Budget
        && let Some(effort) = effort.or(wish.budget_tokens.filter(|_| !off).map(Effort::of_budget))
    {
        body.insert("output_config".to_owned(), json!({"effort": word(effort, model)}));
    }
    if off {
        match model.thinking {
            Thinking::Always => blocks.drop("reasoning", "always-thinks"),
            Thinking::Budget | Thinking::Adaptive => {
                drop(body.insert("thinking".to_owned(), json!({"type": "disabled"})))
            }
        }
        return;
    }
    // Something else was wished for (sealed thoughts, say): the model thinks as it likes.
    if wish.enabled.is_none() && effort.is_none() && wish.budget_tokens.is_none() && wish.show.is_none() {
        return;
    }
    if model.thinking != Thinking::Always && matches!(request.tool_choice, ToolChoice::Any | ToolChoice::Named(_)) {
        blocks.drop("reasoning", "forced-tool");
        return;
    }
    let made = match model.thinking {
        Thinking::Budget => budget(wish, max_tokens, blocks, body),
        Thinking::Adaptive | Thinking::Always => Some(json!({"type": "adaptive"})),
    };
    if let Some(mut thinking) = made {
        if let Some(show) = wish.show {
            thinking["display"] = json!(if show { "summarized" } else { "omitted" });
        }
        body.insert("thinking".to_owned(), thinking);
    }
}

fn word(effort: Effort, model: Model) -> &'static str {
    match effort {
        Effort::None | Effort::Minimal | Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::XHigh if model.xhigh => "xhigh",
        Effort::High | Effort::XHigh => "high",
        Effort::Max => "max",
    }
}

fn budget(wish: &ReasoningWish, max_tokens: u64, blocks: &mut Blocks, body: &Object) -> Option<Value> {
    if !thought_before_calling(body) {
        blocks.drop("reasoning", "unthought-calls");
        return None;
    }
    let effort = wish.effort.unwrap_or(Effort::Medium);
    // Of what an effort stands for, half of the answer's room at most; a number that was asked for is kept if it can be.
    let wanted = wish.budget_tokens.unwrap_or_else(|| effort.budget_tokens().min(max_tokens / 2));
    let budget = wanted.max(MIN_BUDGET).min(max_tokens.saturating_sub(1));
    if budget < MIN_BUDGET {
        blocks.drop("reasoning", "no-room-to-think");
        return None;
    }
    if wish.budget_tokens.is_some_and(|wanted| wanted != budget) {
        blocks.drop("thinking.budget_tokens", "clamped");
    }
    Some(json!({"type": "enabled", "budget_tokens": budget}))
}

/// Models that think by budget refuse to go on after calls that were made without thought (by another model, say).
fn thought_before_calling(body: &Object) -> bool {
    let messages = body.get("messages").and_then(Value::as_array);
    let mut after_results = false;
    for message in messages.into_iter().flatten().rev() {
        let blocks = message.get("content").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let is = |block: &Value, kind: &str| block.get("type").and_then(Value::as_str) == Some(kind);
        if message.get("role").and_then(Value::as_str) == Some("assistant") {
            let thought = |block: &Value| is(block, "thinking") || is(block, "redacted_thinking");
            let called = blocks.iter().any(|block| is(block, "tool_use"));
            return !(after_results && called) || blocks.first().is_some_and(thought);
        }
        after_results |= blocks.iter().any(|block| is(block, "tool_result"));
    }
    true
}
