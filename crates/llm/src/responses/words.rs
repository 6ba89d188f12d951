//! Words that reading and writing share.

use crate::{
    Dialect,
    neutral::{ConvertError, Signature},
};

/// The name of this dialect, in sentences.
pub(super) const DIALECT: &str = "Responses";
/// What asks for sealed thoughts.
pub(super) const SEALED: &str = "reasoning.encrypted_content";
/// What stands between a namespace and a tool's name. No tool's own name has it.
pub(super) const OF: &str = "::";
/// Tools that have kinds of items of their own, as functions. Nothing stands before the border.
pub(super) const TOOL_SEARCH: &str = "::tool_search";
pub(super) const LOCAL_SHELL: &str = "::local_shell";
/// What begins sealed thoughts that were sealed whole: they have no text, and must not get any.
const REDACTED: &str = "redacted-";

/// Thoughts as the provider sealed them, with the identifier of their item if it is known: the provider wants both back.
pub(super) fn seal(id: Option<&str>, sealed: &str) -> Signature {
    let data = match id {
        Some(id) if id.starts_with("rs_") && !id.contains(':') => format!("{id}:{sealed}"),
        _ => sealed.to_owned(),
    };
    Signature::new(Dialect::Responses, data)
}

/// The two again.
pub(super) fn unseal(data: &str) -> (Option<&str>, &str) {
    match data.split_once(':') {
        Some((id, sealed)) if id.starts_with("rs_") => (Some(id), sealed),
        _ => (None, data),
    }
}

/// Sealed thoughts of another provider for a client of this dialect.
pub(super) fn for_client(signature: &Signature, redacted: bool) -> String {
    match signature.native(Dialect::Responses) {
        Some(data) => unseal(data).1.to_owned(),
        None if redacted => format!("{REDACTED}{}", signature.packed()),
        None => signature.packed(),
    }
}

/// What a client sent back, and whether it was sealed whole. Nothing if it is damaged.
pub(super) fn from_client(id: Option<&str>, text: &str) -> Option<(Signature, bool)> {
    if let Some(packed) = text.strip_prefix(REDACTED) {
        return Signature::read(Dialect::Responses, packed).map(|signature| (signature, true));
    }
    let signature = Signature::read(Dialect::Responses, text)?;
    match signature.native(Dialect::Responses) {
        Some(own) => Some((seal(id, own), false)),
        None => Some((signature, false)),
    }
}

pub(super) fn syntax(why: impl Into<String>) -> ConvertError {
    ConvertError::Syntax { dialect: DIALECT, why: why.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_14_sealed_thoughts_come_back_as_they_were() {
        for (signature, redacted) in [
            (Signature::new(Dialect::Messages, "EqQB+/="), false),
            (Signature::new(Dialect::Messages, "EmwK"), true),
            (Signature::new(Dialect::Gemini, "x"), false),
        ] {
            let text = for_client(&signature, redacted);
            assert_eq!(from_client(Some("rs_1"), &text), Some((signature, redacted)));
        }
        let own = seal(Some("rs_1"), "gAAAAB==");
        assert_eq!(unseal(own.data()), (Some("rs_1"), "gAAAAB=="));
        assert_eq!(from_client(Some("rs_1"), &for_client(&own, false)), Some((own, false)));
        assert_eq!(from_client(None, "gAAAAB==").unwrap().0.data(), "gAAAAB==");
        assert_eq!(from_client(None, "stk1-nobody-x"), None);
    }
}
