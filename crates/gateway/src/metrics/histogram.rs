//! Counting values by how large they are.

/// Upper bounds of buckets, ascending.
type Bounds = &'static [u64];

/// Durations of whole calls, in microseconds: the bounds that the GenAI conventions name for `gen_ai.client.operation.duration`.
pub const WHOLE: usize = 0;
/// Times to the first byte, in microseconds: those for `gen_ai.server.time_to_first_token`.
pub const FIRST: usize = 1;
/// Tokens: those for `gen_ai.client.token.usage`.
pub const TOKENS: usize = 2;
/// What the gateway itself takes, in microseconds.
pub const SHORT: usize = 3;

const BOUNDS: [Bounds; 4] = [
    &[
        10_000, 20_000, 40_000, 80_000, 160_000, 320_000, 640_000, 1_280_000, 2_560_000, 5_120_000, 10_240_000,
        20_480_000, 40_960_000, 81_920_000,
    ],
    &[
        1_000, 5_000, 10_000, 20_000, 40_000, 60_000, 80_000, 100_000, 250_000, 500_000, 750_000, 1_000_000, 2_500_000,
        5_000_000, 7_500_000, 10_000_000,
    ],
    &[1, 4, 16, 64, 256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216, 67_108_864],
    &[50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 1_000_000, 10_000_000],
];

/// A histogram over the bounds of this kind. The values are whole numbers, so that sums are exact.
#[derive(Debug, Clone)]
pub struct Histogram<const KIND: usize> {
    /// One more than there are bounds: what is greater than all of them.
    buckets: Vec<u64>,
    sum: u64,
}

impl<const KIND: usize> Default for Histogram<KIND> {
    fn default() -> Self {
        Self { buckets: vec![0; Self::bounds().len() + 1], sum: 0 }
    }
}

impl<const KIND: usize> Histogram<KIND> {
    /// The upper bounds of the buckets but for the last; a value that is equal to a bound is below it.
    pub fn bounds() -> Bounds {
        BOUNDS.get(KIND).copied().unwrap_or_default()
    }

    pub fn add(&mut self, value: u64) {
        let at = Self::bounds().partition_point(|bound| *bound < value);
        if let Some(bucket) = self.buckets.get_mut(at) {
            *bucket += 1;
        }
        self.sum = self.sum.saturating_add(value);
    }

    pub fn buckets(&self) -> &[u64] {
        &self.buckets
    }

    pub const fn sum(&self) -> u64 {
        self.sum
    }

    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}
