//! Long lists, a page at a time. A cursor is the last identifier seen; identifiers sort as time does, so what is
//! added meanwhile never shifts a page.

use crate::{Result, StoreError};

/// The most items of one page, whatever was asked for.
pub const MAX_PAGE: u32 = 200;

/// Which part of a list is wanted. Lists begin with the newest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// At most so many; between 1 and [`MAX_PAGE`], otherwise the nearer of the two.
    pub limit: u32,
    /// What the page before gave as `next_cursor`; nothing for the beginning.
    pub cursor: Option<String>,
}

impl Default for Page {
    fn default() -> Self {
        Self { limit: 50, cursor: None }
    }
}

/// One page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paged<T> {
    /// Newest first.
    pub items: Vec<T>,
    /// Where the next page begins; nothing at the end.
    pub next_cursor: Option<String>,
}

/// The longest cursor that is looked at, in bytes.
const MAX_CURSOR: usize = 200;

impl Page {
    /// One more than wanted, so that the end is known without a second question.
    pub(crate) fn fetch(&self) -> i64 {
        i64::from(self.limit.clamp(1, MAX_PAGE)) + 1
    }

    /// The cursor for a comparison `id < $n`. Above every identifier if there is none.
    pub(crate) fn before(&self) -> Result<&str> {
        match self.cursor.as_deref() {
            None => Ok("zzzzzzzz"),
            Some(cursor)
                if cursor.len() <= MAX_CURSOR && cursor.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') =>
            {
                Ok(cursor)
            }
            Some(_) => Err(StoreError::Invalid {
                what: "cursor",
                why: "it is none that this server gave out; begin again without one".to_owned(),
            }),
        }
    }

    pub(crate) fn cut<T>(&self, mut items: Vec<T>, id: impl Fn(&T) -> String) -> Paged<T> {
        let limit = self.limit.clamp(1, MAX_PAGE) as usize;
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = if more { items.last().map(id) } else { None };
        Paged { items, next_cursor }
    }
}
