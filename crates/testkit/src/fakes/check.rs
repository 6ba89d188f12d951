//! Looking at a request as strictly as the real provider does.
//!
//! It owns the walk over a JSON value with the path in hand, so that a refusal says where. It refuses to be lenient: a field
//! that is not known is an error, and so is one of another type.

use std::collections::BTreeSet;

use serde_json::Value;

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub status: u16,
    pub text: String,
}

impl Refused {
    pub(super) fn new(status: u16, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }

    pub(super) fn bad(text: impl Into<String>) -> Self {
        Self::new(400, text)
    }
}

/// What a check gives.
pub(super) type Checked<T> = Result<T, Refused>;

/// A value, and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node<'a> {
    pub at: String,
    pub value: &'a Value,
    /// Whether `null` is the same as nothing here.
    nulls: bool,
}

impl<'a> Node<'a> {
    pub(super) const fn root(value: &'a Value, nulls: bool) -> Self {
        Self { at: String::new(), value, nulls }
    }

    fn child(&self, name: &str, value: &'a Value) -> Self {
        let at = if self.at.is_empty() { name.to_owned() } else { format!("{}.{name}", self.at) };
        Self { at, value, nulls: self.nulls }
    }

    /// A field that may be missing.
    pub(super) fn maybe(&self, name: &str) -> Option<Self> {
        let value = self.value.get(name)?;
        (!(self.nulls && value.is_null())).then(|| self.child(name, value))
    }

    /// A field that must be there.
    pub(super) fn field(&self, name: &str) -> Checked<Self> {
        self.maybe(name).ok_or_else(|| self.child(name, self.value).wrong("Field required"))
    }

    /// No other fields than these.
    pub(super) fn only(&self, names: &[&str]) -> Checked<()> {
        for (name, value) in self.object()? {
            if !names.contains(&name.as_str()) {
                return Err(self.child(name, value).wrong("Extra inputs are not permitted"));
            }
        }
        Ok(())
    }

    pub(super) fn object(&self) -> Checked<&'a serde_json::Map<String, Value>> {
        self.value.as_object().ok_or_else(|| self.wrong("Input should be a valid dictionary"))
    }

    pub(super) fn list(&self) -> Checked<Vec<Self>> {
        let list = self.value.as_array().ok_or_else(|| self.wrong("Input should be a valid list"))?;
        Ok(list.iter().enumerate().map(|(at, value)| self.child(&at.to_string(), value)).collect())
    }

    pub(super) fn text(&self) -> Checked<&'a str> {
        self.value.as_str().ok_or_else(|| self.wrong("Input should be a valid string"))
    }

    pub(super) fn number(&self) -> Checked<f64> {
        self.value.as_f64().ok_or_else(|| self.wrong("Input should be a valid number"))
    }

    pub(super) fn whole(&self) -> Checked<i64> {
        self.value.as_i64().ok_or_else(|| self.wrong("Input should be a valid integer"))
    }

    pub(super) fn flag(&self) -> Checked<bool> {
        self.value.as_bool().ok_or_else(|| self.wrong("Input should be a valid boolean"))
    }

    pub(super) fn one_of(&self, words: &[&str]) -> Checked<&'a str> {
        let text = self.text()?;
        if words.contains(&text) {
            Ok(text)
        } else {
            Err(self.wrong(&format!("Input should be one of {words:?}, not {text}")))
        }
    }

    /// A flag that may be missing.
    pub(super) fn maybe_flag(&self, name: &str) -> Checked<bool> {
        self.maybe(name).map_or(Ok(false), |node| node.flag())
    }

    /// Numbers between two bounds that may be missing.
    pub(super) fn between(&self, name: &str, low: f64, high: f64) -> Checked<()> {
        let Some(node) = self.maybe(name) else { return Ok(()) };
        if (low..=high).contains(&node.number()?) {
            Ok(())
        } else {
            Err(node.wrong(&format!("must be between {low} and {high}")))
        }
    }

    /// A whole number of at least so many that may be missing.
    pub(super) fn at_least(&self, name: &str, low: i64) -> Checked<()> {
        let Some(node) = self.maybe(name) else { return Ok(()) };
        if node.whole()? >= low { Ok(()) } else { Err(node.wrong(&format!("must be at least {low}"))) }
    }

    /// Fields that must be texts where they are there.
    pub(super) fn texts(&self, names: &[&str]) -> Checked<()> {
        names.iter().filter_map(|name| self.maybe(name)).try_for_each(|node| node.text().map(|_| ()))
    }

    /// Fields that must be flags where they are there.
    pub(super) fn flags(&self, names: &[&str]) -> Checked<()> {
        names.iter().filter_map(|name| self.maybe(name)).try_for_each(|node| node.flag().map(|_| ()))
    }

    /// Fields that must be objects where they are there.
    pub(super) fn objects(&self, names: &[&str]) -> Checked<()> {
        names.iter().filter_map(|name| self.maybe(name)).try_for_each(|node| node.object().map(|_| ()))
    }

    /// An identifier or a name: letters, digits, `_` and `-` (and `extra`), so long and no longer.
    pub(super) fn name(&self, longest: usize, extra: &str) -> Checked<&'a str> {
        let text = self.text()?;
        let fits = |letter: char| letter.is_ascii_alphanumeric() || "_-".contains(letter) || extra.contains(letter);
        if text.is_empty() || !text.chars().all(fits) {
            return Err(
                self.wrong(&format!("String should match pattern '^[a-zA-Z0-9_{extra}-]{{1,{longest}}}$': {text}"))
            );
        }
        if text.len() > longest {
            return Err(
                self.wrong(&format!("String should have at most {longest} characters, not {}: {text}", text.len()))
            );
        }
        Ok(text)
    }

    pub(super) fn wrong(&self, what: &str) -> Refused {
        Refused::bad(if self.at.is_empty() { what.to_owned() } else { format!("{}: {what}", self.at) })
    }
}

/// Names that must differ from one another.
pub(super) fn distinct<'a>(names: impl IntoIterator<Item = &'a str>, what: &str) -> Checked<()> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(Refused::bad(format!("{what} must be unique: {name}")));
        }
    }
    Ok(())
}

/// How often the model has spoken in a conversation: runs of its messages, however many messages a run has.
pub(super) fn runs(of_model: impl Iterator<Item = bool>) -> usize {
    let (mut count, mut before) = (0, false);
    for model in of_model {
        count += usize::from(model && !before);
        before = model;
    }
    count
}
