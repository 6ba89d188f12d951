//! What is known of Google's models by their names: how they are asked to think, and whether they want signatures.
//!
//! Facts from the provider's public pages on thinking and on thought signatures, of 2025 and 2026.

/// What a model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Model {
    /// Whether it thinks by level, refuses calls without a signature, and takes pictures within results.
    pub third: bool,
    /// Whether it is of the larger kind, which cannot stop thinking.
    pub pro: bool,
    /// Whether it knows the level `MEDIUM`.
    pub medium: bool,
}

impl Model {
    /// What this model takes. A name without a version is that of a model newer than this list.
    pub(crate) fn of(name: &str) -> Self {
        let version = name.split_once("gemini-").map_or("", |(_, rest)| rest).split('-').next().unwrap_or_default();
        let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
        let version = (major.parse().unwrap_or(u32::MAX), minor.parse().unwrap_or(0u32));
        let pro = name.contains("pro") && !name.contains("flash");
        Self { third: version >= (3, 0), pro, medium: !pro || version > (3, 0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_known_by_their_names() {
        let of = |name| {
            let model = Model::of(name);
            (model.third, model.pro, model.medium)
        };
        assert_eq!(of("gemini-2.5-flash"), (false, false, true));
        assert_eq!(of("gemini-2.5-pro"), (false, true, false));
        assert_eq!(of("gemini-3-pro-preview"), (true, true, false));
        assert_eq!(of("gemini-3.1-pro-preview"), (true, true, true));
        assert_eq!(of("gemini-3-flash"), (true, false, true));
        assert_eq!(of("models/gemini-flash-latest"), (true, false, true));
    }
}
