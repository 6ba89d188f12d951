//! Budgets: hard limits on spending.

use serde::{Deserialize, Serialize};
use stockade_domain::{
    BudgetScope, Nanos, Period,
    ids::{BudgetId, RunId},
};
use utoipa::{IntoParams, ToSchema};

/// A budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Budget {
    /// Which.
    #[schema(value_type = String)]
    pub id: BudgetId,
    /// Whose spending it bounds.
    #[schema(value_type = String)]
    pub scope: BudgetScope,
    /// The project's, user's or run's identifier; the organization's for `organization`.
    pub subject: String,
    /// When it starts again from nothing.
    #[schema(value_type = String)]
    pub period: Period,
    /// In nano-dollars.
    #[schema(value_type = i64)]
    pub limit: Nanos,
    /// Spent in this period, in nano-dollars.
    #[schema(value_type = i64)]
    pub spent: Nanos,
    /// Leased to runners and not yet spent or given back, in nano-dollars.
    #[schema(value_type = i64)]
    pub leased: Nanos,
}

/// Which budgets.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListBudgets {
    /// That of this run as well; those of other runs are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub run: Option<RunId>,
}

/// Sets a limit. Below what is already spent and leased it stops further spending at once.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetBudget {
    /// Whose spending.
    #[schema(value_type = String)]
    pub scope: BudgetScope,
    /// The project's, user's or run's identifier; absent for the organization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// When it starts again from nothing.
    #[schema(value_type = String)]
    pub period: Period,
    /// In nano-dollars.
    #[schema(value_type = i64)]
    pub limit: Nanos,
}
