//! Budgets.

use stockade_api::{
    domain::{BudgetScope, Nanos, ids::GatewayTokenId},
    http::{Budget, ListBudgets, Page, SetBudget},
};

use super::{Context, parse, projects};
use crate::{
    args,
    failure::{Failure, Outcome},
    output::table,
};

pub async fn main(context: &Context, command: args::Budget) -> Outcome {
    let client = context.client()?;
    match command {
        args::Budget::Set { scope, limit, period } => {
            let (word, subject) =
                scope.split_once(':').map_or((scope.as_str(), None), |(word, rest)| (word, Some(rest)));
            let unclear = || {
                Failure::user(
                    "budget_scope",
                    format!("`{scope}` does not say whose spending is meant"),
                    "write `organization`, `project:NAME`, `user:me`, `user:ID`, `group:NAME`, `key:TOKEN_ID` or `model:NAME`; a run's own budget is `run --budget`",
                )
            };
            let kind: BudgetScope = word.parse().map_err(|_| unclear())?;
            let subject = match (kind, subject) {
                (BudgetScope::Organization, None) => None,
                (BudgetScope::Project, Some(project)) => Some(projects::find(&client, project).await?.id.to_string()),
                (BudgetScope::User, Some("me")) => Some(client.me().await?.user.to_string()),
                (BudgetScope::User, Some(user)) => Some(user.to_owned()),
                (BudgetScope::Key, Some(token)) => Some(parse::<GatewayTokenId>("token", token)?.to_string()),
                (BudgetScope::Group | BudgetScope::Model, Some(subject)) if !subject.is_empty() => {
                    Some(subject.to_owned())
                }
                _ => return Err(unclear()),
            };
            let body = SetBudget {
                scope: kind,
                subject,
                period: parse("period", &period)?,
                limit: parse("amount of dollars", &limit)?,
            };
            let budget = client.set_budget(&body).await?;
            context.output.show(&budget, |budget| {
                format!(
                    "{} {}: {} a {}, {} spent",
                    budget.scope, budget.subject, budget.limit, budget.period, budget.spent
                )
            })
        }
        args::Budget::Show => {
            let page = client.budgets(&ListBudgets::default()).await?;
            context.output.show(&page, list)
        }
    }
}

fn list(page: &Page<Budget>) -> String {
    let rows = page.items.iter().map(|budget| {
        let left = budget.limit.saturating_sub(Nanos(budget.spent.0.saturating_add(budget.leased.0)));
        [
            budget.scope.to_string(),
            budget.subject.clone(),
            budget.period.to_string(),
            budget.limit.to_string(),
            budget.spent.to_string(),
            budget.leased.to_string(),
            left.to_string(),
        ]
    });
    table(["scope", "of", "period", "limit", "spent", "set aside", "left"], rows)
}
