//! Budgets: hard limits on spending.

use stockade_api::http::{Budget, ListBudgets, Page, SetBudget};
use stockade_domain::{
    BudgetScope, Context, Period, Resource, ResourceKind, RunKind,
    ids::{GatewayTokenId, GroupId, ProjectId, RunId, UserId},
};
use stockade_store::{Tx, budgets, groups, people, projects, runs, tokens};

use super::whole;
use crate::{
    answer::{Answer, Failure, Json, Query},
    context::Cx,
};

/// The longest name of a model, in bytes.
const MAX_MODEL: usize = 200;

/// All budgets; those of single runs only where one is named.
#[utoipa::path(get, path = "/v1/budgets", tag = "budgets", params(ListBudgets),
    responses((status = 200, body = Page<Budget>)))]
pub async fn list(cx: Cx, Query(query): Query<ListBudgets>) -> Answer<Page<Budget>> {
    let mut tx = cx.may(cx.read().await?, cx.on_organization()?).await?;
    let found = budgets::list(&mut tx, query.run, cx.app.now()).await?;
    Ok(Json(whole(found.into_iter().map(shown).collect())))
}

/// Sets the limit of a scope, subject and period.
#[utoipa::path(put, path = "/v1/budgets", tag = "budgets", request_body = SetBudget,
    responses((status = 200, body = Budget)))]
pub async fn set(cx: Cx, Json(body): Json<SetBudget>) -> Answer<Budget> {
    if body.limit.0 < 0 {
        return Err(Failure::invalid("bad_limit", "`limit` must not be negative"));
    }
    if body.scope == BudgetScope::Run && body.period != Period::Total {
        return Err(Failure::invalid("bad_period", "a run's budget has the period `total`"));
    }
    let mut tx = cx.write().await?;
    let subject = subject(&cx, &mut tx, &body).await?;
    let resource = Resource::new(ResourceKind::Budget, format!("{}/{subject}/{}", body.scope, body.period));
    let context = Context::default().with("budget_nanos", body.limit.0);
    let mut work = cx.open(tx, cx.deed(resource, context)?).await?;
    let id = (*cx.app.world).id();
    let now = cx.app.now();
    let result = budgets::set(&mut work.tx, id, body.scope, &subject, body.period, body.limit, now).await;
    work.end(result.map(|budget| Json(shown(budget))).map_err(Failure::from)).await
}

/// The subject's identifier, which must be there: a budget of something misspelt would bound nothing.
async fn subject(cx: &Cx, tx: &mut Tx, body: &SetBudget) -> Result<String, Failure> {
    let wrong = |why: String| Failure::invalid("bad_subject", format!("`subject`: {why}"));
    let given = body.subject.as_deref();
    let needed = || given.ok_or_else(|| wrong(format!("name the {} by its identifier", body.scope)));
    match body.scope {
        BudgetScope::Organization => match given {
            Some(other) if other != cx.app.organization.to_string() => {
                Err(wrong(format!("there is one organization here, {}", cx.app.organization)))
            }
            _ => Ok(cx.app.organization.to_string()),
        },
        BudgetScope::Project => {
            let id: ProjectId = needed()?.parse().map_err(|error| wrong(format!("{error}")))?;
            projects::get(tx, id).await?;
            Ok(id.to_string())
        }
        BudgetScope::User => {
            let id: UserId = needed()?.parse().map_err(|error| wrong(format!("{error}")))?;
            people::user(tx, id).await?;
            Ok(id.to_string())
        }
        BudgetScope::Run | BudgetScope::Key => {
            let given = needed()?;
            let run = match given.parse::<GatewayTokenId>() {
                Ok(token) => tokens::get(tx, token).await?.run,
                Err(_) => given.parse::<RunId>().map_err(|error| wrong(format!("{error}")))?,
            };
            let is_key = runs::get(tx, run).await?.kind == RunKind::Personal;
            if is_key != (body.scope == BudgetScope::Key) {
                return Err(wrong("the scope of a token is `key`, that of another run is `run`".to_owned()));
            }
            Ok(run.to_string())
        }
        BudgetScope::Model => {
            let name = needed()?;
            if name.trim().is_empty() || name.len() > MAX_MODEL || name.chars().any(char::is_control) {
                return Err(wrong(format!("a model's name has 1 to {MAX_MODEL} bytes of one line")));
            }
            Ok(name.to_owned())
        }
        BudgetScope::Group => {
            let given = needed()?;
            let group = match given.parse::<GroupId>() {
                Ok(id) => groups::get(tx, id).await?,
                Err(_) => groups::by_name(tx, given).await?,
            };
            Ok(group.id.to_string())
        }
    }
}

fn shown(budget: budgets::Budget) -> Budget {
    Budget {
        id: budget.id,
        scope: budget.scope,
        subject: budget.subject,
        period: budget.period,
        limit: budget.limit,
        spent: budget.spent,
        leased: budget.leased,
    }
}
