//! Where a call for a name goes.

use std::sync::Arc;

use stockade_llm::Price;

use super::Provider;

/// One place where a call can go.
#[derive(Debug, Clone)]
pub struct Target {
    /// To whom.
    pub provider: Arc<Provider>,
    /// The name there: the exact version.
    pub upstream: String,
    /// What it costs.
    pub price: Price,
    /// How often it is chosen, beside the others of the same name.
    pub weight: u32,
    /// Whether the model reasons.
    pub reasoning: bool,
}

/// A name that was asked for, and where its calls can go.
#[derive(Debug, Clone)]
pub struct Route {
    /// The name that was asked for.
    pub name: String,
    /// Among these one is chosen by weight; the others are tried after it if it fails before its first byte.
    pub targets: Vec<Target>,
    /// How many of all targets are tried at most.
    pub attempts: usize,
}

impl Route {
    /// The targets in the order in which they are tried. `dice` is a random number: it decides among weights. The first `own` targets are
    /// those of the name itself; those of its fallbacks follow in their order.
    pub(crate) fn order(mut self, own: usize, dice: u64) -> Self {
        let own = own.min(self.targets.len());
        let total: u64 = self.targets.iter().take(own).map(|target| u64::from(target.weight)).sum();
        if own > 1 && total > 0 {
            let mut left = dice % total;
            let chosen = self.targets.iter().take(own).position(|target| {
                let weight = u64::from(target.weight);
                if left < weight {
                    return true;
                }
                left -= weight;
                false
            });
            if let Some(chosen) = chosen {
                let target = self.targets.remove(chosen);
                self.targets.insert(0, target);
            }
        }
        self
    }
}
