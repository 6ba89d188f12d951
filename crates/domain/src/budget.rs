//! What a budget counts.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{UnknownWord, deed::words};

words! {
    /// Whose spending a budget bounds.
    BudgetScope "budget scope" {
        Organization "organization" "Everybody's.",
        Project "project" "That of all runs of one project.",
        User "user" "That of one person, agents acting for them included.",
        Run "run" "That of one run.",
        Key "key" "That with one token for the gateway.",
        Model "model" "That on one model, by the name that is asked for.",
        Group "group" "That of all people who are in one group.",
    }
}

words! {
    /// When a budget starts again from nothing. Periods are in UTC.
    Period "period" {
        Total "total" "Never.",
        Day "day" "At midnight.",
        Week "week" "On Monday at midnight.",
        Month "month" "On the first at midnight.",
    }
}
