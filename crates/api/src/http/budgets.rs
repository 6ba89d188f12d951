//! Budgets: hard limits on spending.

use serde::{Deserialize, Serialize};
use stockade_domain::{BudgetScope, Nanos, Period, ids::BudgetId};
use utoipa::ToSchema;

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
