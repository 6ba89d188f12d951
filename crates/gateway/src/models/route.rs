//! Where a call for a name goes.

use std::sync::Arc;

use stockade_llm::{Price, Tier};

use super::Provider;

/// One place where a call can go.
#[derive(Debug, Clone)]
pub struct Target {
    /// To whom.
    pub provider: Arc<Provider>,
    /// The name there: the exact version.
    pub upstream: String,
    /// What it costs, in every tier.
    pub price: Price,
    /// How the request asks to be served.
    pub tier: Tier,
    /// How often it is chosen, beside the others of the same name.
    pub weight: u32,
    /// Whether the model reasons.
    pub reasoning: bool,
    /// 0 for a place of the name itself, 1 for one of its first fallback, and so on.
    pub rank: u32,
}

/// A name that was asked for, and where its calls can go.
#[derive(Debug, Clone)]
pub struct Route {
    /// The name that was asked for.
    pub name: String,
    /// Healthy ones of the lowest rank are tried first, chosen by weight; the others if those fail before their first byte.
    pub targets: Vec<Target>,
    /// How many of all targets are tried at most.
    pub attempts: usize,
}
