//! What a model's name says of what it takes. Providers publish no other way to know.

use crate::neutral::{Dropped, Effort, ReasoningWish};

/// What is known of a model by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// OpenAI's, thinking: `o3`, `gpt-5` and whatever came after. Takes `max_completion_tokens`, no temperature.
    Thinking,
    /// OpenAI's before those: `gpt-4o`.
    Plain,
    /// Anything else: most likely a server that is compatible with a subset.
    Other,
}

/// What this name says.
pub(crate) fn kind(model: &str) -> Kind {
    let name = model.rsplit('/').next().unwrap_or(model);
    let number = |text: &str| -> Option<u32> {
        let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
        text.get(..end).and_then(|digits| digits.parse().ok())
    };
    if name.strip_prefix('o').and_then(number).is_some() || name.starts_with("codex-") {
        return Kind::Thinking;
    }
    match name.strip_prefix("gpt-").and_then(number) {
        Some(5..) => Kind::Thinking,
        Some(_) => Kind::Plain,
        None if name.starts_with("chatgpt-") => Kind::Plain,
        None => Kind::Other,
    }
}

/// The nearest effort that the model has a word for.
pub(crate) fn effort(model: &str, wished: Effort) -> Effort {
    let name = model.rsplit('/').next().unwrap_or(model);
    let (least, most) = match kind(model) {
        // Servers of open models know three; to forbid thought has a word of its own.
        Kind::Other => (Effort::Low, Effort::High),
        Kind::Plain | Kind::Thinking if name.starts_with('o') => (Effort::Low, Effort::High),
        Kind::Plain | Kind::Thinking => match name.strip_prefix("gpt-5") {
            Some(rest) if rest.is_empty() || rest.starts_with('-') => (Effort::Minimal, Effort::High),
            Some(rest) if rest.starts_with(".1") => (Effort::None, Effort::High),
            // From there on, they always think.
            None if !name.starts_with("gpt-6-") => (Effort::Low, Effort::XHigh),
            _ => (Effort::None, Effort::XHigh),
        },
    };
    match wished {
        Effort::None if kind(model) == Kind::Other => Effort::None,
        // Where thought can be forbidden, the smallest word of older models is not known any more.
        Effort::Minimal if least == Effort::None => Effort::Low,
        wished => wished.clamp(least, most),
    }
}

/// The effort that a wish comes to, if it says anything of it.
pub(crate) fn wished(wish: &ReasoningWish) -> Option<Effort> {
    match wish.enabled {
        Some(false) => Some(Effort::None),
        enabled => wish
            .effort
            .or_else(|| wish.budget_tokens.map(Effort::of_budget))
            .or_else(|| enabled.map(|_| Effort::Medium)),
    }
}

/// The word to send for a wish. What is not exactly what was wished for is told.
pub(crate) fn effort_word(
    model: &str,
    wish: &ReasoningWish,
    reasons: bool,
    dropped: &mut Vec<Dropped>,
) -> Option<&'static str> {
    let wished = wished(wish)?;
    if !reasons {
        if wished != Effort::None {
            dropped.push(Dropped { what: "reasoning".to_owned(), rule: "no-reasoning" });
        }
        return None;
    }
    let given = effort(model, wished);
    if given != wished {
        dropped.push(Dropped { what: format!("the effort `{}`", wished.as_str()), rule: "nearest-effort" });
    }
    Some(given.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_a_model_takes() {
        for name in [
            "o1",
            "o3-mini",
            "o4-mini-2025-04-16",
            "gpt-5",
            "gpt-5.6-sol",
            "gpt-6-astra",
            "openai/gpt-5-mini",
            "codex-mini",
        ] {
            assert_eq!(kind(name), Kind::Thinking, "{name}");
        }
        for name in ["gpt-4o", "gpt-4.1-mini", "gpt-3.5-turbo", "chatgpt-4o-latest"] {
            assert_eq!(kind(name), Kind::Plain, "{name}");
        }
        for name in ["llama-3.3-70b", "gpt-oss-120b", "qwen3:8b", "openchat", "orca", "mistral-large", ""] {
            assert_eq!(kind(name), Kind::Other, "{name}");
        }
    }

    #[test]
    fn an_effort_is_the_nearest_that_the_model_knows() {
        use Effort::{High, Low, Max, Medium, Minimal, None, XHigh};
        for (name, wished, given) in [
            ("o3", None, Low),
            ("o3", Medium, Medium),
            ("gpt-5", None, Minimal),
            ("gpt-5-mini", Max, High),
            ("gpt-5.1", Minimal, Low),
            ("gpt-5.1-codex", XHigh, High),
            ("gpt-5.5", Max, XHigh),
            ("gpt-6-astra", None, None),
            ("gpt-6.1-sol", None, Low),
            ("gpt-6.1-sol", Minimal, Low),
            ("gpt-oss-20b", Minimal, Low),
            ("gpt-oss-20b", None, None),
        ] {
            assert_eq!(effort(name, wished), given, "{name} {wished:?}");
        }
    }
}
