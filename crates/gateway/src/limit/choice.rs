//! Which target a call tries first, and which key: weighted, healthy ones first.

use std::sync::atomic::{AtomicUsize, Ordering};

use stockade_domain::Timestamp;

use super::Health;

/// A target that might be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Smaller ones are tried before greater ones: 0 is meant first, 1 is a fallback, and so on.
    pub rank: u32,
    /// How often it comes first among those of its rank, in proportion. Zero: after all others of its rank.
    pub weight: u32,
    /// How it is.
    pub health: Health,
}

/// The order in which to try them: the places in `candidates`, each once. Those that are well come first by rank, each before
/// another of its rank as often as its weight says; then those of which one call finds out; then those that are ill, the one
/// first that is asked again first. `random` are 64 random bits.
#[must_use]
pub fn order(candidates: &[Candidate], random: u64) -> Vec<usize> {
    let mut bits = random;
    let mut places: Vec<(Key, usize)> = candidates
        .iter()
        .enumerate()
        .map(|(at, candidate)| {
            let drawn = draw(&mut bits, candidate.weight);
            (Key { ill: ill(candidate.health), rank: candidate.rank, drawn }, at)
        })
        .collect();
    places.sort_by(|(one, _), (other, _)| {
        (one.ill, one.rank).cmp(&(other.ill, other.rank)).then(one.drawn.total_cmp(&other.drawn))
    });
    places.into_iter().map(|(_, at)| at).collect()
}

struct Key {
    ill: (u8, Timestamp),
    rank: u32,
    drawn: f64,
}

const fn ill(health: Health) -> (u8, Timestamp) {
    match health {
        Health::Well => (0, Timestamp(0)),
        Health::Probing => (1, Timestamp(0)),
        Health::Ill(until) => (2, until),
    }
}

/// A waiting time, exponential with the weight as its rate: the smallest comes first exactly in proportion to the weights
/// (Efraimidis and Spirakis, 2006).
fn draw(bits: &mut u64, weight: u32) -> f64 {
    // SplitMix64: enough to make several independent draws of 64 good bits.
    *bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *bits;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit exactly")]
    let uniform = ((mixed >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    if weight == 0 { f64::INFINITY } else { -uniform.ln() / f64::from(weight) }
}

/// Which key of a pool comes next: each in turn, those that are not well passed over.
#[derive(Debug, Default)]
pub struct Rotation {
    next: AtomicUsize,
}

impl Rotation {
    /// The order in which to try `keys` keys: beginning with the next in turn, those that are well first.
    #[must_use]
    pub fn order(&self, keys: usize, health: impl Fn(usize) -> Health) -> Vec<usize> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let mut order: Vec<usize> = (0..keys).map(|at| first.wrapping_add(at) % keys).collect();
        order.sort_by_key(|key| ill(health(*key)));
        order
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn well(rank: u32, weight: u32) -> Candidate {
        Candidate { rank, weight, health: Health::Well }
    }

    fn health() -> impl Strategy<Value = Health> {
        prop_oneof![Just(Health::Well), Just(Health::Probing), (0..100_i64).prop_map(|at| Health::Ill(Timestamp(at)))]
    }

    proptest! {
        #[test]
        fn each_comes_once_and_the_healthy_first(
            of in proptest::collection::vec((0..3_u32, 0..5_u32, health()), 0..12),
            random in any::<u64>(),
        ) {
            let candidates: Vec<_> =
                of.into_iter().map(|(rank, weight, health)| Candidate { rank, weight, health }).collect();
            let order = order(&candidates, random);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (0..candidates.len()).collect::<Vec<_>>());
            for pair in order.windows(2) {
                let key = |at: usize| (ill(candidates[at].health), candidates[at].rank, candidates[at].weight == 0);
                prop_assert!(key(pair[0]) <= key(pair[1]));
            }
        }
    }

    #[test]
    fn weights_are_kept() {
        let candidates = [well(0, 1), well(0, 3), well(1, 100)];
        let second =
            (0..40_000_u64).filter(|n| order(&candidates, n.wrapping_mul(0x2545_f491_4f6c_dd1d))[0] == 1).count();
        assert!((29_400..30_600).contains(&second), "{second} of 40000");
    }

    #[test]
    fn keys_take_turns_and_ill_ones_wait() {
        let rotation = Rotation::default();
        let health = |key| if key == 1 { Health::Ill(Timestamp(5)) } else { Health::Well };
        let firsts: Vec<_> = (0..4).map(|_| rotation.order(3, health)[0]).collect();
        assert_eq!(firsts, [0, 2, 2, 0]);
        assert_eq!(rotation.order(3, health).last(), Some(&1));
        assert!(rotation.order(0, health).is_empty());
    }
}
