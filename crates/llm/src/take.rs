//! Takes fields out of a JSON object that nobody vouches for, and says where one is of the wrong type.
//!
//! What is left in the object afterwards is what the reader does not know: [`rest`] names it, so that nothing is lost in
//! silence.

use serde_json::{Map, Number, Value};

use crate::neutral::ConvertError;

/// An object of JSON.
pub(crate) type Object = Map<String, Value>;

/// Where a reader stands: the dialect and the path, for messages.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub dialect: &'static str,
    pub path: &'a str,
}

impl Place<'_> {
    /// The error that this field is of the wrong type.
    pub(crate) fn wrong(self, key: &str, expected: &str) -> ConvertError {
        let dot = if self.path.is_empty() || key.is_empty() { "" } else { "." };
        ConvertError::Syntax { dialect: self.dialect, why: format!("{}{dot}{key}: expected {expected}", self.path) }
    }

    /// Takes a field; null counts as absent.
    pub(crate) fn value(self, from: &mut Object, key: &str) -> Option<Value> {
        from.remove(key).filter(|value| !value.is_null())
    }

    /// Takes a text.
    pub(crate) fn text(self, from: &mut Object, key: &str) -> Result<Option<String>, ConvertError> {
        match self.value(from, key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(key, "a string")),
        }
    }

    /// Takes a text that must be there.
    pub(crate) fn needed(self, from: &mut Object, key: &str) -> Result<String, ConvertError> {
        self.text(from, key)?.ok_or_else(|| self.wrong(key, "a string"))
    }

    /// Takes a yes or no.
    pub(crate) fn flag(self, from: &mut Object, key: &str) -> Result<Option<bool>, ConvertError> {
        match self.value(from, key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(_) => Err(self.wrong(key, "true or false")),
        }
    }

    /// Takes a number as it was written.
    pub(crate) fn number(self, from: &mut Object, key: &str) -> Result<Option<Number>, ConvertError> {
        match self.value(from, key) {
            None => Ok(None),
            Some(Value::Number(number)) => Ok(Some(number)),
            Some(_) => Err(self.wrong(key, "a number")),
        }
    }

    /// Takes a count.
    pub(crate) fn count(self, from: &mut Object, key: &str) -> Result<Option<u64>, ConvertError> {
        match self.number(from, key)? {
            None => Ok(None),
            Some(number) => number.as_u64().map(Some).ok_or_else(|| self.wrong(key, "a whole number")),
        }
    }

    /// Takes a list.
    pub(crate) fn list(self, from: &mut Object, key: &str) -> Result<Vec<Value>, ConvertError> {
        match self.value(from, key) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => Ok(items),
            Some(_) => Err(self.wrong(key, "a list")),
        }
    }

    /// Takes an object.
    pub(crate) fn object(self, from: &mut Object, key: &str) -> Result<Option<Object>, ConvertError> {
        self.value(from, key).map(|value| self.as_object(value, key)).transpose()
    }

    /// Takes texts.
    pub(crate) fn texts(self, from: &mut Object, key: &str) -> Result<Vec<String>, ConvertError> {
        let text = |value| match value {
            Value::String(text) => Ok(text),
            _ => Err(self.wrong(key, "a list of strings")),
        };
        self.list(from, key)?.into_iter().map(text).collect()
    }

    /// This value as an object.
    pub(crate) fn as_object(self, value: Value, key: &str) -> Result<Object, ConvertError> {
        match value {
            Value::Object(object) => Ok(object),
            _ => Err(self.wrong(key, "an object")),
        }
    }
}

/// Puts what is left of an object into `extra`, named by `path`. What is null, false or empty says nothing.
pub(crate) fn rest(from: Object, path: &str, extra: &mut Object) {
    for (key, value) in from {
        let silent = match &value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(items) => items.is_empty(),
            Value::Object(members) => members.is_empty(),
            Value::String(text) => text.is_empty(),
            _ => false,
        };
        if !silent {
            let name = if path.is_empty() { key } else { format!("{path}.{key}") };
            extra.insert(name, value);
        }
    }
}

/// Reads a body as an object.
pub(crate) fn body(dialect: &'static str, bytes: &[u8]) -> Result<Object, ConvertError> {
    serde_json::from_slice(bytes).map_err(|error| ConvertError::Syntax { dialect, why: error.to_string() })
}
