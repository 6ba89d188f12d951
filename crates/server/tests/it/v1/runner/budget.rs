//! `/v1/budgets` and the money that runners lease from them.

use stockade_api::{
    http::{ListBudgets, SetBudget},
    runner::{BudgetEntry, Entry, LeaseSlice},
};
use stockade_domain::{BudgetScope, Nanos, Period, World};

use crate::harness::{App, databases, start};

#[tokio::test]
async fn what_is_leased_and_spent_never_passes_the_limit() {
    for database in databases() {
        let app = App::on(database).await;
        let mut runner = app.runner().await;
        let project = app.project("p").await;
        let set = SetBudget {
            scope: BudgetScope::Project,
            subject: Some(project.id.to_string()),
            period: Period::Day,
            limit: Nanos(1_000),
        };
        app.admin.set_budget(&set).await.unwrap();
        let run = start(&app.admin, &project).await.unwrap();
        let world: &dyn World = &*app.world;
        let ask = |need, want| LeaseSlice {
            slice: world.id(),
            run: run.id,
            model: String::new(),
            need: Nanos(need),
            want: Nanos(want),
        };

        let first = ask(100, 700);
        assert_eq!(runner.slice(&first).await.unwrap().amount, Nanos(700));
        assert_eq!(runner.slice(&first).await.unwrap().amount, Nanos(700), "the same slice again");
        assert_eq!(runner.slice(&ask(100, 700)).await.unwrap().amount, Nanos(300));
        let none = runner.slice(&ask(1, 1)).await.unwrap();
        assert_eq!((none.amount, none.exhausted), (Nanos(0), Some(BudgetScope::Project)));

        let call = world.id();
        let entries = [
            BudgetEntry::Leased { slice: first.slice, run: run.id, model: String::new(), amount: Nanos(700) },
            BudgetEntry::Reserved { slice: first.slice, call, amount: Nanos(500) },
            BudgetEntry::Settled { slice: first.slice, call, spent: Nanos(200) },
            BudgetEntry::Returned { slice: first.slice, amount: Nanos(500) },
        ];
        runner.ship(entries.into_iter().map(|entry| Entry::Budget { entry }).collect()).await.unwrap();
        let budgets = app.admin.budgets(&ListBudgets { run: Some(run.id) }).await.unwrap().items;
        let budget = budgets.iter().find(|budget| budget.scope == BudgetScope::Project).unwrap();
        assert_eq!((budget.spent, budget.leased, budget.limit), (Nanos(200), Nanos(300), Nanos(1_000)));
        app.stop().await;
    }
}

#[tokio::test]
async fn a_budget_of_nobody_is_refused() {
    let app = App::new().await;
    let mut set = SetBudget { scope: BudgetScope::Project, subject: None, period: Period::Day, limit: Nanos(1) };
    assert_eq!(app.admin.set_budget(&set).await.unwrap_err().code, "bad_subject");
    set.subject = Some("prj_00000000000000000000000001".to_owned());
    assert_eq!(app.admin.set_budget(&set).await.unwrap_err().code, "project_not_found");
    set.limit = Nanos(-1);
    assert_eq!(app.admin.set_budget(&set).await.unwrap_err().code, "bad_limit");
    app.stop().await;
}
