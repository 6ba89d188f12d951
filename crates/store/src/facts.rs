//! What a record says of a deed, cut to what a column takes.
//!
//! Hosts, refs and names of models come from whoever is governed. Postgres takes no zero in a text, and one such text would stop
//! everything that its runner has to say: here it becomes the sign for what cannot be shown.

use std::{borrow::Cow, collections::BTreeMap};

use stockade_domain::ContextValue;

/// Facts by name. Texts are cut to so many bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub(crate) all: &'a BTreeMap<String, ContextValue>,
    pub(crate) max_text: usize,
}

impl<'a> Facts<'a> {
    /// The text of that name; nothing if there is none or it is empty.
    pub(crate) fn maybe_text(&self, name: &str) -> Option<Cow<'a, str>> {
        match self.all.get(name) {
            Some(ContextValue::Text(text)) if !text.is_empty() => Some(cut(text, self.max_text)),
            _ => None,
        }
    }

    /// The same, empty if there is none.
    pub(crate) fn text(&self, name: &str) -> Cow<'a, str> {
        self.maybe_text(name).unwrap_or_default()
    }

    pub(crate) fn maybe_long(&self, name: &str) -> Option<i64> {
        match self.all.get(name) {
            Some(ContextValue::Long(number)) => Some(*number),
            _ => None,
        }
    }

    /// The number of that name; none and less than none are 0.
    pub(crate) fn count(&self, name: &str) -> i64 {
        self.maybe_long(name).unwrap_or_default().max(0)
    }

    pub(crate) fn maybe_bool(&self, name: &str) -> Option<bool> {
        match self.all.get(name) {
            Some(ContextValue::Bool(yes)) => Some(*yes),
            _ => None,
        }
    }
}

/// At most so many bytes of a text, without zeros.
pub(crate) fn cut(text: &str, max: usize) -> Cow<'_, str> {
    let text = text.get(..text.floor_char_boundary(max)).unwrap_or(text);
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}
