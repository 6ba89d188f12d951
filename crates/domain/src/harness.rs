//! Who does the work of an agent: our own loop, or a program of somebody else's that runs inside the environment.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{UnknownWord, deed::words};

words! {
    /// The harness of an agent: what turns a model's answers into work.
    Harness "harness" {
        Stockade "stockade" "Our own loop. It runs outside the environment.",
        ClaudeCode "claude-code" "Claude Code, inside the environment.",
        Codex "codex" "Codex, inside the environment.",
        Gemini "gemini" "Gemini CLI, inside the environment.",
        Opencode "opencode" "OpenCode, inside the environment.",
    }
}

#[expect(clippy::derivable_impls, reason = "the words are made by a macro that derives for all its lists alike")]
impl Default for Harness {
    fn default() -> Self {
        Self::Stockade
    }
}

impl Harness {
    /// Whether it is a program that runs inside the environment and brings its own loop along.
    pub const fn is_inside(self) -> bool {
        !matches!(self, Self::Stockade)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_loop_is_not_inside() {
        let inside: Vec<&str> = Harness::ALL.iter().filter(|h| h.is_inside()).map(|h| h.as_str()).collect();
        assert_eq!(inside, ["claude-code", "codex", "gemini", "opencode"]);
        assert_eq!(Harness::default(), Harness::Stockade);
        assert_eq!("claude-code".parse(), Ok(Harness::ClaudeCode));
        assert!("claude".parse::<Harness>().is_err());
    }
}
