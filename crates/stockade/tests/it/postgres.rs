//! The same product on Postgres: one set of statements, so the same tests, and a server that dies while it is at work.

use stockade_testkit::{Form, Installation, Options, kill::Trials, postgres::Database};

use super::spine;

/// A database and the options of an installation on it; nothing if Postgres is not installed, which has been said.
fn database() -> Option<(Database, Options)> {
    let database = Database::create().unwrap()?;
    let options = Options { database: Some(database.url()), ..Options::default() };
    Some((database, options))
}

#[test]
fn a_task_becomes_a_change_on_postgres() {
    for form in [Form::OneProcess, Form::TwoProcesses] {
        let Some((_database, options)) = database() else { return };
        let mut installation = Installation::start(form, options).unwrap();
        assert!(!installation.data().join("server/stockade.db").exists(), "it is not the embedded database");
        spine::task_becomes_change(&mut installation, form);
    }
}

#[test]
fn killed_on_postgres_every_run_ends_with_the_same_change() {
    let Some((_database, options)) = database() else { return };
    let mut trials = Trials::with(options).unwrap();
    let calm = trials.trial(0, 0, 1).unwrap();
    let mut runs = vec![calm.run.clone()];
    for seed in 1..=3 {
        let trial = trials.trial(seed, 2, 700).unwrap();
        super::kill::check(&trial, &calm);
        runs.push(trial.run);
    }
    trials.books(&runs).unwrap();
}
