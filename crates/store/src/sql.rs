//! How statements are written, asked and answered: the one place that knows the engine's types.
//!
//! A statement is a constant whose name is the question that it answers. [`statements!`] also puts it into its
//! module's list, so that a test can prepare every one of them on both engines.

use std::{borrow::Cow, fmt::Display, str::FromStr};

use sqlx::{Any, AnyConnection, Row as _, any::AnyArguments, query::Query};
use stockade_domain::{Digest, Id, Kind, Nanos, Timestamp};

use crate::{Result, StoreError};

/// Declares a module's statements and their list.
macro_rules! statements {
    ($($name:ident = $sql:expr;)*) => {
        $(const $name: &str = $sql;)*
        /// Every statement of this module with its name.
        pub(crate) const STATEMENTS: &[(&str, &str)] = &[$((stringify!($name), $name)),*];
    };
}
pub(crate) use statements;

/// A statement with its values: `ask!(WHO_IS_THIS, id)`.
macro_rules! ask {
    ($sql:expr $(, $value:expr)* $(,)?) => {
        $crate::sql::Ask { sql: $sql, values: vec![$($crate::sql::Bind::value($value)),*] }
    };
}
pub(crate) use ask;

/// See [`ask!`].
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) sql: &'static str,
    pub(crate) values: Vec<Value>,
}

/// A value of the house dialect.
#[derive(Debug)]
pub(crate) enum Value {
    Text(String),
    Int(i64),
    Blob(Vec<u8>),
    NoText,
    NoInt,
}

/// What can be a value of a statement.
pub(crate) trait Bind {
    /// The absent value; Postgres wants its type.
    const NONE: Value;
    fn value(self) -> Value;
}

macro_rules! bind {
    ($($ty:ty => $none:ident, |$x:ident| $value:expr;)*) => {
        $(impl Bind for $ty {
            const NONE: Value = Value::$none;
            fn value(self) -> Value {
                let $x = self;
                $value
            }
        })*
    };
}
bind! {
    &str => NoText, |x| Value::Text(x.to_owned());
    &String => NoText, |x| Value::Text(x.clone());
    String => NoText, |x| Value::Text(x);
    Cow<'_, str> => NoText, |x| Value::Text(x.into_owned());
    Digest => NoText, |x| Value::Text(x.to_string());
    i64 => NoInt, |x| Value::Int(x);
    u32 => NoInt, |x| Value::Int(i64::from(x));
    // No counter of ours comes near; at the top it stays there, where the next comparison fails.
    u64 => NoInt, |x| Value::Int(i64::try_from(x).unwrap_or(i64::MAX));
    bool => NoInt, |x| Value::Int(i64::from(x));
    Timestamp => NoInt, |x| Value::Int(x.0);
    Nanos => NoInt, |x| Value::Int(x.0);
    &[u8] => NoText, |x| Value::Blob(x.to_vec());
}
impl<K: Kind> Bind for Id<K> {
    const NONE: Value = Value::NoText;
    fn value(self) -> Value {
        Value::Text(self.to_string())
    }
}
impl<T: Bind> Bind for Option<T> {
    const NONE: Value = T::NONE;
    fn value(self) -> Value {
        self.map_or(T::NONE, T::value)
    }
}

impl Ask {
    fn query(self) -> Query<'static, Any, AnyArguments> {
        self.values.into_iter().fold(sqlx::query(self.sql), |query, value| match value {
            Value::Text(text) => query.bind(text),
            Value::Int(int) => query.bind(int),
            Value::Blob(blob) => query.bind(blob),
            Value::NoText => query.bind(None::<String>),
            Value::NoInt => query.bind(None::<i64>),
        })
    }

    /// Carries it out; the number of rows that it changed.
    pub(crate) async fn run(self, conn: &mut AnyConnection) -> Result<u64> {
        Ok(self.query().execute(conn).await?.rows_affected())
    }

    /// Every row.
    pub(crate) async fn all(self, conn: &mut AnyConnection) -> Result<Vec<Row>> {
        Ok(self.query().fetch_all(conn).await?.into_iter().map(Row).collect())
    }

    /// Every row, of a question whose best plan depends on its values. Postgres plans what a connection asks often without looking at
    /// the values any more; of such a question it would then read many times what it answers.
    pub(crate) async fn all_planned_anew(self, conn: &mut AnyConnection) -> Result<Vec<Row>> {
        Ok(self.query().persistent(false).fetch_all(conn).await?.into_iter().map(Row).collect())
    }

    /// The row, if there is one.
    pub(crate) async fn maybe(self, conn: &mut AnyConnection) -> Result<Option<Row>> {
        Ok(self.query().fetch_optional(conn).await?.map(Row))
    }
}

/// A row, with columns read into what they mean.
pub(crate) struct Row(sqlx::any::AnyRow);

impl Row {
    fn get<'r, T>(&'r self, column: &'static str) -> Result<T>
    where
        T: sqlx::Decode<'r, Any> + sqlx::Type<Any>,
    {
        self.0.try_get(column).map_err(|error| StoreError::bad_row(column, error))
    }

    pub(crate) fn int(&self, column: &'static str) -> Result<i64> {
        self.get(column)
    }
    pub(crate) fn maybe_int(&self, column: &'static str) -> Result<Option<i64>> {
        self.get(column)
    }
    pub(crate) fn count(&self, column: &'static str) -> Result<u64> {
        u64::try_from(self.int(column)?).map_err(|error| StoreError::bad_row(column, error))
    }
    pub(crate) fn small(&self, column: &'static str) -> Result<u32> {
        u32::try_from(self.int(column)?).map_err(|error| StoreError::bad_row(column, error))
    }
    pub(crate) fn nanos(&self, column: &'static str) -> Result<Nanos> {
        self.int(column).map(Nanos)
    }
    pub(crate) fn at(&self, column: &'static str) -> Result<Timestamp> {
        self.int(column).map(Timestamp)
    }
    pub(crate) fn maybe_at(&self, column: &'static str) -> Result<Option<Timestamp>> {
        Ok(self.maybe_int(column)?.map(Timestamp))
    }
    pub(crate) fn text(&self, column: &'static str) -> Result<String> {
        self.get(column)
    }
    pub(crate) fn maybe_text(&self, column: &'static str) -> Result<Option<String>> {
        self.get(column)
    }
    pub(crate) fn blob(&self, column: &'static str) -> Result<Vec<u8>> {
        self.get(column)
    }
    /// An identifier, a digest, a word of the vocabulary.
    pub(crate) fn word<T>(&self, column: &'static str) -> Result<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        self.text(column)?.parse().map_err(|error| StoreError::bad_row(column, error))
    }
    pub(crate) fn maybe_word<T>(&self, column: &'static str) -> Result<Option<T>>
    where
        T: FromStr,
        T::Err: Display,
    {
        let text = self.maybe_text(column)?;
        text.map(|text| text.parse().map_err(|error| StoreError::bad_row(column, error))).transpose()
    }
    pub(crate) fn json<T: serde::de::DeserializeOwned>(&self, column: &'static str) -> Result<T> {
        serde_json::from_str(&self.text(column)?).map_err(|error| StoreError::bad_row(column, error))
    }
    pub(crate) fn maybe_json<T: serde::de::DeserializeOwned>(&self, column: &'static str) -> Result<Option<T>> {
        let text = self.maybe_text(column)?;
        text.map(|text| serde_json::from_str(&text).map_err(|error| StoreError::bad_row(column, error))).transpose()
    }
}

/// A value as JSON text, for a column that is only ever read whole.
pub(crate) fn json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| StoreError::bad_row("value", error))
}
