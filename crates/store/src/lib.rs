//! The database of the control plane: SQLite by default, Postgres at scale, one set of statements for both.
//!
//! This crate owns the schema and its migrations, every SQL statement of Stockade, transactions and their locks,
//! leases with fences, the exactly-once intake of runners' spools, the arithmetic of budgets, and the rows of the
//! ledgers. Rows are private: functions are named for what somebody wants, take and give domain types and plain
//! structs.
//!
//! It refuses: HTTP, policy, deciding who may do what, clocks and fresh identifiers (both are handed in).
//!
//! Two doors: [`Store::read`] gives a consistent snapshot that cannot write, [`Store::write`] a transaction that
//! can, and waits for its turn on SQLite. Nothing is done until [`Tx::commit`]; a dropped [`Tx`] did nothing.
//! Errors with [`StoreError::is_transient`] may be tried again in a fresh transaction.
//!
//! *Order of locks* (Postgres finds a deadlock, and then one of the two is told `Conflict`, but better there is
//! none): append the record first, then a runner's row, a run, its environment or approval, then money; revisions last,
//! which the functions here do by themselves.
//!
//! | use case | functions |
//! |---|---|
//! | first start, people, tokens | [`people::bootstrap`], [`people::installation`], [`people::register_server`], [`people::servers`], [`people::add_user`], [`people::user`], [`people::users`], [`people::add_token`], [`people::user_by_token`], [`people::tokens`], [`people::revoke_token`] |
//! | sites, enrolment, runners | [`sites::add`], [`sites::get`], [`sites::by_name`], [`sites::list`], [`sites::add_enroll_token`], [`sites::enroll`], [`sites::runner`], [`sites::runners`], [`sites::polled`], [`sites::heartbeat`], [`sites::revision`], [`sites::touch`] |
//! | projects | [`projects::add`], [`projects::get`], [`projects::by_name`], [`projects::list`], [`projects::update`] |
//! | policy bundles | [`bundles::put`], [`bundles::current`], [`bundles::get`], [`bundles::list`] |
//! | task to run | [`runs::start`], [`runs::get`], [`runs::list`], [`runs::order`], [`runs::erase`], [`runs::wrapped_key`], [`runs::transition`], [`runs::overdue`] |
//! | events | [`events::after`], [`events::append`], [`events::last`] |
//! | placement | [`placement::queued`], [`placement::live_runners`], [`placement::place`], [`placement::unplace`], [`placement::assignments`] |
//! | leases | [`leases::take`], [`leases::renew`], [`leases::expired`], [`leases::clear`] |
//! | environments | [`environments::get`], [`environments::list`], [`environments::desire`], [`environments::orphaned`] |
//! | approvals, replies | [`approvals::get`], [`approvals::list`], [`approvals::answer`], [`approvals::expire`], [`replies::give`], [`replies::list`] |
//! | content | [`contents::put`], [`contents::get`], [`contents::list`] |
//! | a runner's spool | [`spool::ingest`], [`spool::next`], [`spool::refusals`] |
//! | tokens for the gateway | [`tokens::add`], [`tokens::get`], [`tokens::list`], [`tokens::end`], [`tokens::expire`], [`tokens::of_site`], [`tokens::erased_of_site`] |
//! | groups | [`groups::add`], [`groups::list`], [`groups::by_name`], [`groups::join`], [`groups::leave`] |
//! | model calls | [`calls::list`], [`calls::get`], [`calls::sessions`], [`calls::totals`] (they are filled as records come in) |
//! | connections of environments | [`connections::list`], [`connections::changed`], [`connections::get`], [`connections::sums`] (they are filled as records come in) |
//! | records, checkpoints | [`records::append`], [`records::get`], [`records::list`], [`records::export`], [`records::leaf_hashes`], [`records::ledgers`], [`records::ledger`], [`records::set_checkpoint`] |
//! | money | [`budgets::set`], [`budgets::get`], [`budgets::list`], [`budgets::lease_slice`], [`budgets::reclaim`] (settling and returning come through the spool) |

pub mod approvals;
pub mod budgets;
pub mod bundles;
pub mod calls;
pub mod connections;
pub mod contents;
pub mod environments;
mod error;
pub mod events;
mod facts;
pub mod groups;
pub mod leases;
mod migrations;
mod page;
pub mod people;
pub mod placement;
pub mod projects;
pub mod records;
pub mod replies;
pub mod runs;
pub mod sites;
pub mod spool;
mod sql;
mod store;
pub mod tokens;

pub use error::{Result, StoreError};
pub use page::{MAX_PAGE, Page, Paged};
pub use store::{Engine, Store, Tx};

/// Every statement with the question that it answers, module by module.
pub(crate) fn statements() -> impl Iterator<Item = (&'static str, &'static str)> {
    [
        approvals::STATEMENTS,
        budgets::STATEMENTS,
        bundles::STATEMENTS,
        calls::STATEMENTS,
        connections::STATEMENTS,
        connections::FOLD_STATEMENTS,
        contents::STATEMENTS,
        environments::STATEMENTS,
        events::STATEMENTS,
        groups::STATEMENTS,
        leases::STATEMENTS,
        migrations::STATEMENTS,
        people::STATEMENTS,
        placement::STATEMENTS,
        projects::STATEMENTS,
        records::STATEMENTS,
        replies::STATEMENTS,
        runs::STATEMENTS,
        sites::STATEMENTS,
        spool::STATEMENTS,
        tokens::STATEMENTS,
    ]
    .into_iter()
    .flatten()
    .copied()
}
