//! Other names for what a target would refuse, reversible.
//!
//! A name that fits is kept. Another becomes a part of itself and a digest, so that the same name has the same alias in every turn
//! (prompt caches depend on it) and two names never share one.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

/// Which names a target takes.
#[derive(Debug, Clone, Copy)]
pub struct NameRules {
    /// The longest, in bytes.
    pub max: usize,
    /// Whether this byte may stand in it.
    pub allowed: fn(u8) -> bool,
    /// Whether this byte may stand at its beginning.
    pub first: fn(u8) -> bool,
}

impl NameRules {
    /// `[a-zA-Z0-9_-]`, up to so many bytes.
    #[must_use]
    pub const fn word(max: usize) -> Self {
        const fn word(byte: u8) -> bool {
            byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
        }
        Self { max, allowed: word, first: word }
    }

    /// Whether the target takes this name.
    #[must_use]
    pub fn takes(&self, name: &str) -> bool {
        !name.is_empty()
            && name.len() <= self.max
            && name.bytes().all(self.allowed)
            && name.bytes().next().is_some_and(self.first)
    }
}

/// The aliases of one exchange.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Aliases {
    back: BTreeMap<String, String>,
}

impl Aliases {
    /// The name that the target is given.
    pub fn alias(&mut self, name: &str, rules: &NameRules) -> String {
        if rules.takes(name) {
            return name.to_owned();
        }
        let digest = Sha256::digest(name.as_bytes());
        let tail: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        let room = rules.max.saturating_sub(tail.len() + 1);
        let mut head: String =
            name.bytes().take(room).map(|b| if (rules.allowed)(b) { char::from(b) } else { '_' }).collect();
        if !head.bytes().next().is_some_and(rules.first) {
            head = format!("x{}", head.get(1..).unwrap_or_default());
        }
        let alias = format!("{head}_{tail}");
        self.back.insert(alias.clone(), name.to_owned());
        alias
    }

    /// The name that the client knows.
    #[must_use]
    pub fn original<'a>(&'a self, alias: &'a str) -> &'a str {
        self.back.get(alias).map_or(alias, String::as_str)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.back.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_alias_fits_and_leads_back(names in prop::collection::vec(".{1,120}", 1..20)) {
            let rules = NameRules::word(64);
            let mut aliases = Aliases::default();
            for name in &names {
                let alias = aliases.alias(name, &rules);
                prop_assert!(rules.takes(&alias), "{alias}");
                prop_assert_eq!(aliases.original(&alias), name.as_str());
                prop_assert_eq!(&aliases.alias(name, &rules), &alias);
            }
        }
    }

    #[test]
    fn what_fits_is_kept() {
        let mut aliases = Aliases::default();
        assert_eq!(aliases.alias("mcp__server__tool-1", &NameRules::word(64)), "mcp__server__tool-1");
        assert!(aliases.is_empty());
    }
}
