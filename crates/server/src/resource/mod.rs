//! The public API, one file per resource: the handler and, beside it, the use case.

use stockade_store::Page;

pub mod approvals;
pub mod budgets;
pub mod calls;
pub mod classes;
pub mod connections;
pub mod environments;
pub mod export;
pub mod groups;
pub mod ledgers;
pub mod people;
pub mod policy;
pub mod projects;
pub mod records;
pub mod run_contents;
pub mod run_events;
pub mod run_replies;
pub mod run_tickets;
pub mod runners;
pub mod runs;
pub mod system;
pub mod tasks;
pub mod tokens;

/// Which page of a list was asked for.
fn page(limit: Option<u32>, cursor: Option<String>) -> Page {
    let limit = limit.unwrap_or(stockade_api::http::DEFAULT_PAGE).clamp(1, stockade_api::http::MAX_PAGE);
    Page { limit, cursor }
}

/// A page as it travels.
fn paged<T, U>(from: stockade_store::Paged<T>, each: impl FnMut(T) -> U) -> stockade_api::http::Page<U> {
    stockade_api::http::Page { items: from.items.into_iter().map(each).collect(), next_cursor: from.next_cursor }
}

/// A list that is short by nature.
const fn whole<T>(items: Vec<T>) -> stockade_api::http::Page<T> {
    stockade_api::http::Page { items, next_cursor: None }
}
