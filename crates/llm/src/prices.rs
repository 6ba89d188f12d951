//! What models cost. A model that is not in the table has no price, and what has no price is not called.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{CacheUse, Estimate, Usage};

/// The table that is shipped.
const SHIPPED: &str = include_str!("../data/prices.toml");
/// The dearest price that a table may hold: a thousand dollars for a token would be a slip of the pen.
const MAX_PER_MILLION: i64 = 1_000_000_000_000_000;

/// Why a price table, or a price in it, cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PriceError {
    /// No price, no call.
    #[error("the model `{0}` has no price: add [prices.\"{0}\"] to the configuration, or ask for a model that has one")]
    Unknown(String),
    /// The text is not a table.
    #[error("the price table does not read: {0}")]
    Syntax(String),
    /// An amount is none.
    #[error(
        "the price `{field} = \"{text}\"` of `{model}` is no amount of dollars for a million tokens, like \"3.00\""
    )]
    Amount {
        /// Of which model.
        model: String,
        /// Which.
        field: &'static str,
        /// What stands there.
        text: String,
    },
    /// A tier is none, or its factor.
    #[error(
        "the tier `{word} = \"{text}\"` of `{model}` is none: expected flex, priority or batch and a factor like \"0.5\""
    )]
    Tier {
        /// Of which model.
        model: String,
        /// The word.
        word: String,
        /// What stands there.
        text: String,
    },
    /// One name stands for two prices.
    #[error("the price table names `{0}` twice")]
    Twice(String),
}

/// How a request is served, where that has a price of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Tier {
    /// As everybody's.
    #[default]
    Standard,
    /// Slower, for less.
    Flex,
    /// Sooner, for more.
    Priority,
    /// Within a day.
    Batch,
}

impl Tier {
    /// The word for it, in requests and in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Flex => "flex",
            Self::Priority => "priority",
            Self::Batch => "batch",
        }
    }

    /// What a provider's word for how it has served a call means. Nothing for words that say nothing of a price (capacity that was
    /// bought before, say).
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Some(match word.to_ascii_lowercase().as_str() {
            "default" | "standard" | "on_demand" => Self::Standard,
            "flex" | "on_demand_flex" => Self::Flex,
            "priority" | "on_demand_priority" => Self::Priority,
            "batch" => Self::Batch,
            _ => return None,
        })
    }
}

/// Nano-dollars for a million tokens of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Read.
    pub input: i64,
    /// Written.
    pub output: i64,
    /// Read from the cache.
    pub cache_read: i64,
    /// Written to the cache for five minutes.
    pub cache_write_5m: i64,
    /// Written to the cache for an hour.
    pub cache_write_1h: i64,
}

/// What one model costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    /// The ordinary prices.
    pub rates: Rates,
    /// Other prices for a request that reads more than so many tokens.
    pub above: Option<(u64, Rates)>,
    /// The most that the model can read at once.
    pub context_window: u64,
    /// The most that it writes in one answer.
    pub max_output: u64,
    /// What other tiers cost, in thousandths of the ordinary price.
    tiers: BTreeMap<Tier, u32>,
}

impl Rates {
    /// So many thousandths of these, rounded up.
    fn times(&self, thousandths: u32) -> Self {
        let times = |rate: i64| {
            let product = i128::from(rate) * i128::from(thousandths);
            i64::try_from((product + 999) / 1_000).unwrap_or(i64::MAX)
        };
        Self {
            input: times(self.input),
            output: times(self.output),
            cache_read: times(self.cache_read),
            cache_write_5m: times(self.cache_write_5m),
            cache_write_1h: times(self.cache_write_1h),
        }
    }
}

impl Price {
    /// The price of a tier. Nothing if the table has none: what has no price is not called.
    #[must_use]
    pub fn of_tier(&self, tier: Tier) -> Option<Self> {
        if tier == Tier::Standard {
            return Some(self.clone());
        }
        let times = *self.tiers.get(&tier)?;
        let above = self.above.as_ref().map(|(threshold, rates)| (*threshold, rates.times(times)));
        Some(Self { rates: self.rates.times(times), above, tiers: BTreeMap::new(), ..self.clone() })
    }

    /// What is reserved for a call that asks for a tier: a cheaper one may be served as everybody's, and costs as much then. Nothing
    /// if the table has no such tier.
    #[must_use]
    pub fn to_reserve(&self, asked: Tier) -> Option<Self> {
        match self.tiers.get(&asked) {
            Some(times) if *times < 1_000 => Some(self.clone()),
            _ => self.of_tier(asked),
        }
    }

    /// What a call costs that asked for one tier and was served in another. Served in one that has no price, it costs what it asked for.
    #[must_use]
    pub fn served(&self, asked: Tier, served: Option<Tier>) -> Self {
        served.and_then(|tier| self.of_tier(tier)).or_else(|| self.of_tier(asked)).unwrap_or_else(|| self.clone())
    }

    /// What this use costs, in nano-dollars, rounded up once.
    #[must_use]
    pub fn cost(&self, usage: &Usage) -> i64 {
        let rates = match &self.above {
            Some((threshold, above)) if usage.all_input() > *threshold => above,
            _ => &self.rates,
        };
        per_million(&[
            (rates.input, usage.input_tokens),
            (rates.output, usage.output_tokens),
            (rates.cache_read, usage.cache_read_tokens),
            (rates.cache_write_5m, usage.cache_write_5m_tokens),
            (rates.cache_write_1h, usage.cache_write_1h_tokens),
        ])
    }

    /// The most tokens that a request reads: what was estimated, but never more than the model can take.
    #[must_use]
    pub fn most_input(&self, estimate: &Estimate) -> u64 {
        estimate.input_tokens.unwrap_or(self.context_window).min(self.context_window)
    }

    /// The most that a request can cost. *Invariant:* no usage within the estimate costs more.
    #[must_use]
    pub fn upper_bound(&self, estimate: &Estimate) -> i64 {
        let input = self.most_input(estimate);
        let bound = |rates: &Rates| {
            let most = match estimate.cache {
                CacheUse::None => rates.input.max(rates.cache_read),
                CacheUse::FiveMinutes => rates.input.max(rates.cache_read).max(rates.cache_write_5m),
                CacheUse::Hour => rates.input.max(rates.cache_read).max(rates.cache_write_5m).max(rates.cache_write_1h),
            };
            per_million(&[(most, input), (rates.output, estimate.output_tokens)])
        };
        match &self.above {
            Some((threshold, above)) if input > *threshold => bound(&self.rates).max(bound(above)),
            _ => bound(&self.rates),
        }
    }
}

fn per_million(parts: &[(i64, u64)]) -> i64 {
    let sum = parts
        .iter()
        .fold(0i128, |sum, (rate, units)| sum.saturating_add(i128::from(*rate).saturating_mul(i128::from(*units))));
    let rounded = sum.div_euclid(1_000_000) + i128::from(sum.rem_euclid(1_000_000) != 0);
    i64::try_from(rounded).unwrap_or(i64::MAX)
}

/// Prices by the provider's exact model name.
#[derive(Debug, Clone, Default)]
pub struct PriceTable {
    prices: BTreeMap<String, Price>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    prices: BTreeMap<String, Entry>,
}

/// A price as it stands in a table or in the configuration: dollars for a million tokens, as text so that no
/// fraction is lost.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Other names with the same price.
    #[serde(default)]
    pub names: Vec<String>,
    /// Read.
    pub input: String,
    /// Written.
    pub output: String,
    /// Read from the cache; as `input` if absent.
    #[serde(default)]
    pub cache_read: Option<String>,
    /// Written to the cache for five minutes; as `input` if absent.
    #[serde(default)]
    pub cache_write_5m: Option<String>,
    /// Written to the cache for an hour; as `cache_write_5m` if absent.
    #[serde(default)]
    pub cache_write_1h: Option<String>,
    /// The most that the model can read at once, in tokens.
    pub context_window: u64,
    /// The most that it writes in one answer, in tokens; as `context_window` if absent.
    #[serde(default)]
    pub max_output: Option<u64>,
    /// Other prices above a size.
    #[serde(default)]
    pub above: Option<Above>,
    /// What other tiers cost (`flex`, `priority`, `batch`), as a factor like `"0.5"`. A tier that is not here has no price.
    #[serde(default)]
    pub tiers: BTreeMap<String, String>,
}

/// Prices for a request that reads more than so many tokens.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Above {
    /// More than so many, cached ones included.
    pub input_tokens: u64,
    /// Read.
    pub input: String,
    /// Written.
    pub output: String,
    /// Read from the cache.
    pub cache_read: String,
    /// Written to the cache for five minutes.
    pub cache_write_5m: String,
    /// Written to the cache for an hour.
    pub cache_write_1h: String,
}

impl Entry {
    /// The price, with every amount read.
    ///
    /// # Errors
    /// [`PriceError::Amount`] for the first amount that is none.
    pub fn price(&self, model: &str) -> Result<Price, PriceError> {
        let read = |field: &'static str, text: &str| {
            dollars(text).filter(|nanos| *nanos <= MAX_PER_MILLION).ok_or_else(|| PriceError::Amount {
                model: model.to_owned(),
                field,
                text: text.to_owned(),
            })
        };
        let or = |text: &Option<String>, other: &str| text.clone().unwrap_or_else(|| other.to_owned());
        let write_5m = or(&self.cache_write_5m, &self.input);
        let rates = Rates {
            input: read("input", &self.input)?,
            output: read("output", &self.output)?,
            cache_read: read("cache_read", &or(&self.cache_read, &self.input))?,
            cache_write_5m: read("cache_write_5m", &write_5m)?,
            cache_write_1h: read("cache_write_1h", &or(&self.cache_write_1h, &write_5m))?,
        };
        let above = match &self.above {
            None => None,
            Some(above) => Some((
                above.input_tokens,
                Rates {
                    input: read("above.input", &above.input)?,
                    output: read("above.output", &above.output)?,
                    cache_read: read("above.cache_read", &above.cache_read)?,
                    cache_write_5m: read("above.cache_write_5m", &above.cache_write_5m)?,
                    cache_write_1h: read("above.cache_write_1h", &above.cache_write_1h)?,
                },
            )),
        };
        let mut tiers = BTreeMap::new();
        for (word, times) in &self.tiers {
            let wrong = || PriceError::Tier { model: model.to_owned(), word: word.clone(), text: times.clone() };
            let known = [Tier::Flex, Tier::Priority, Tier::Batch].into_iter().find(|tier| tier.as_str() == word);
            tiers.insert(known.ok_or_else(wrong)?, factor(times).ok_or_else(wrong)?);
        }
        let max_output = self.max_output.unwrap_or(self.context_window);
        Ok(Price { rates, above, context_window: self.context_window, max_output, tiers })
    }
}

/// A factor as text to thousandths, exactly: from a thousandth to a hundred.
fn factor(text: &str) -> Option<u32> {
    let nanos = dollars(text)?;
    let thousandths = u32::try_from(nanos / 1_000_000).ok()?;
    (nanos % 1_000_000 == 0 && (1..=100_000).contains(&thousandths)).then_some(thousandths)
}

/// Dollars as text to nano-dollars, exactly.
fn dollars(text: &str) -> Option<i64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || part.len() > 9 || !digits(whole) || !digits(part) {
        return None;
    }
    let whole: i64 = whole.parse().ok()?;
    let part: i64 = format!("{part:0<9}").parse().ok()?;
    whole.checked_mul(1_000_000_000)?.checked_add(part)
}

impl PriceTable {
    /// The shipped table.
    ///
    /// # Errors
    /// Never with the table that is shipped: a test reads it.
    pub fn shipped() -> Result<Self, PriceError> {
        Self::parse(SHIPPED)
    }

    /// Reads a table: `[prices."MODEL"]` with the fields of [`Entry`].
    ///
    /// # Errors
    /// If it is no TOML, an amount is none, or a name stands twice.
    pub fn parse(text: &str) -> Result<Self, PriceError> {
        let file: File = toml::from_str(text).map_err(|error| PriceError::Syntax(error.to_string()))?;
        Self::from_entries(&file.prices)
    }

    /// A table of entries, by model.
    ///
    /// # Errors
    /// If an amount is none, or a name stands twice.
    pub fn from_entries(entries: &BTreeMap<String, Entry>) -> Result<Self, PriceError> {
        let mut prices = BTreeMap::new();
        for (model, entry) in entries {
            let price = entry.price(model)?;
            for name in entry.names.iter().chain([model]) {
                if prices.insert(name.clone(), price.clone()).is_some() {
                    return Err(PriceError::Twice(name.clone()));
                }
            }
        }
        Ok(Self { prices })
    }

    /// This table with the other's prices put over it.
    #[must_use]
    pub fn overridden_by(mut self, other: Self) -> Self {
        self.prices.extend(other.prices);
        self
    }

    /// The price of a model.
    ///
    /// # Errors
    /// [`PriceError::Unknown`].
    pub fn get(&self, model: &str) -> Result<&Price, PriceError> {
        self.prices.get(model).ok_or_else(|| PriceError::Unknown(model.to_owned()))
    }

    /// Every name that has a price, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.prices.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_served_decides_and_what_might_be_served_is_reserved() {
        let text = "[prices.m]\ninput = \"1\"\noutput = \"2\"\ncontext_window = 1000000\ntiers = { flex = \"0.5\", priority = \"2\" }\n\
                    above = { input_tokens = 1000, input = \"10\", output = \"20\", cache_read = \"1\", cache_write_5m = \"10\", \
                    cache_write_1h = \"10\" }\n";
        let table = PriceTable::parse(text).unwrap();
        let price = table.get("m").unwrap();
        let small = Usage { input_tokens: 1_000, ..Usage::default() };
        let cost = |asked, served, usage: &Usage| price.served(asked, served).cost(usage);
        use Tier::{Batch, Flex, Priority, Standard};
        assert_eq!(cost(Flex, Some(Flex), &small), 500_000);
        assert_eq!(cost(Flex, Some(Standard), &small), 1_000_000, "it was not to be had cheaper");
        assert_eq!(cost(Priority, Some(Standard), &small), 1_000_000, "it was put back");
        assert_eq!(cost(Standard, Some(Priority), &small), 2_000_000, "a project's default at the provider");
        assert_eq!(cost(Priority, None, &small), 2_000_000, "nothing was said");
        assert_eq!(cost(Flex, Some(Batch), &small), 500_000, "that has no price");
        let large = Usage { input_tokens: 1, cache_read_tokens: 1_000, ..Usage::default() };
        assert_eq!(
            cost(Priority, Some(Priority), &large),
            (10_000 + 1_000 * 1_000) * 2,
            "long requests have the tier's factor too"
        );
        let bound = |asked: Tier| price.to_reserve(asked).map(|price| price.cost(&small));
        assert_eq!(
            (bound(Standard), bound(Flex), bound(Priority), bound(Batch)),
            (Some(1_000_000), Some(1_000_000), Some(2_000_000), None)
        );
        let words = ["default", "FLEX", "ON_DEMAND_PRIORITY", "batch", "scale", "auto", "PROVISIONED_THROUGHPUT"]
            .map(Tier::of_word);
        assert_eq!(words, [Some(Standard), Some(Flex), Some(Priority), Some(Batch), None, None, None]);
    }

    #[test]
    fn the_shipped_table_reads_and_is_plausible() {
        let table = PriceTable::shipped().unwrap();
        for name in table.names() {
            let price = table.get(name).unwrap();
            let rates = price.rates;
            assert!(rates.input > 0 && rates.output >= rates.input, "{name}");
            assert!(rates.cache_read <= rates.input && rates.cache_write_1h >= rates.cache_write_5m, "{name}");
            assert!(price.context_window >= 100_000, "{name}");
            assert!(price.max_output <= price.context_window, "{name}");
            if let Some((threshold, above)) = price.above {
                assert!(threshold < price.context_window && above.input > rates.input, "{name}");
            }
        }
        let sonnet = table.get("claude-sonnet-4-6").unwrap();
        let usage = Usage { input_tokens: 1_000, output_tokens: 100, cache_read_tokens: 10, ..Usage::default() };
        assert_eq!(sonnet.cost(&usage), 1_000 * 3_000 + 100 * 15_000 + 10 * 300);
        assert!(table.get("rehearsal").is_ok());
        assert_eq!(table.get("claude-nobody").unwrap_err(), PriceError::Unknown("claude-nobody".to_owned()));
    }

    #[test]
    fn a_price_above_a_size_holds_for_the_whole_request() {
        let table = PriceTable::shipped().unwrap();
        let haiku = table.get("claude-haiku-5-5").unwrap();
        let at = Usage { input_tokens: 60_000, cache_read_tokens: 40_000, ..Usage::default() };
        let over = Usage { cache_read_tokens: 40_001, ..at };
        assert_eq!(haiku.cost(&at), 60_000 * 100 + 40_000 * 10);
        assert_eq!(haiku.cost(&over), 60_000 * 500 + 40_001 * 50);
    }

    #[test]
    fn row_06_a_long_request_is_reserved_at_the_prices_of_long_requests() {
        let table = PriceTable::shipped().unwrap();
        let price = table.get("gpt-5.5").unwrap();
        let bound = |input_tokens| {
            let estimate =
                Estimate { input_tokens: Some(input_tokens), output_tokens: 1_000, cache: CacheUse::FiveMinutes };
            price.upper_bound(&estimate)
        };
        assert_eq!(bound(272_000), 272_000 * 5_000 + 1_000 * 30_000);
        assert_eq!(bound(272_001), 272_001 * 10_000 + 1_000 * 45_000);
        let unbounded = Estimate { input_tokens: None, output_tokens: 1_000, cache: CacheUse::None };
        assert_eq!(price.upper_bound(&unbounded), price.context_window as i64 * 10_000 + 1_000 * 45_000);
    }

    #[test]
    fn row_06_a_tier_has_its_own_price_and_row_03_one_without_is_not_called() {
        let table = PriceTable::shipped().unwrap();
        let price = table.get("gpt-5.5").unwrap();
        let usage = Usage { input_tokens: 1_000, output_tokens: 100, cache_read_tokens: 10, ..Usage::default() };
        let cost = |tier| price.of_tier(tier).map(|price| price.cost(&usage));
        let standard = 1_000 * 5_000 + 100 * 30_000 + 10 * 500;
        assert_eq!(cost(Tier::Standard), Some(standard));
        assert_eq!(cost(Tier::Flex), Some(standard / 2));
        assert_eq!(cost(Tier::Priority), Some(standard * 5 / 2));
        let long = Usage { input_tokens: 300_000, ..Usage::default() };
        assert_eq!(price.of_tier(Tier::Flex).unwrap().cost(&long), 300_000 * 5_000);
        assert_eq!(table.get("claude-sonnet-4-6").unwrap().of_tier(Tier::Priority), None);
        assert_eq!(price.of_tier(Tier::Flex).unwrap().of_tier(Tier::Flex), None, "not twice");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let tier = |text: &str| {
            let text = format!("[prices.a]\ninput=\"1\"\noutput=\"1\"\ncontext_window=1\ntiers={{{text}}}");
            PriceTable::parse(&text).map(|table| table.get("a").unwrap().of_tier(Tier::Flex).is_some())
        };
        assert_eq!(tier("flex=\"0.5\""), Ok(true));
        for wrong in ["fast=\"2\"", "flex=\"0\"", "flex=\"1000\"", "flex=\"0.0001\"", "flex=\"x\""] {
            assert!(tier(wrong).unwrap_err().to_string().contains("of `a` is none"), "{wrong}");
        }
        let wrong = |text: &str| PriceTable::parse(text).unwrap_err().to_string();
        assert!(wrong("prices = 3").starts_with("the price table does not read"));
        assert!(wrong("[prices.a]\ninput=\"x\"\noutput=\"1\"\ncontext_window=1").contains("`input = \"x\"` of `a`"));
        assert!(wrong("[prices.a]\ninput=\"1\"\noutput=\"1\"\ncontext_window=1\nnames=[\"a\"]").contains("twice"));
        assert!(wrong("[prices.a]\ninput=\"9999999999\"\noutput=\"1\"\ncontext_window=1").contains("no amount"));
        assert!(wrong("[prices.a]\ninput=\"-1\"\noutput=\"1\"\ncontext_window=1").contains("no amount"));
    }

    proptest! {
        #[test]
        fn no_usage_within_the_estimate_costs_more(
            model in prop::sample::select(PriceTable::shipped().unwrap().names().map(str::to_owned).collect::<Vec<_>>()),
            parts in prop::array::uniform4(0u64..150_000),
            slack in 0u64..1_000,
            output in 0u64..100_000,
            spare in 0u64..1_000,
            cache in prop::sample::select(vec![CacheUse::None, CacheUse::FiveMinutes, CacheUse::Hour]),
            tier in prop::sample::select(vec![Tier::Standard, Tier::Flex, Tier::Priority, Tier::Batch]),
        ) {
            let table = PriceTable::shipped().unwrap();
            let Some(price) = table.get(&model).unwrap().of_tier(tier) else { return Ok(()) };
            let mut usage = Usage {
                input_tokens: parts[0],
                output_tokens: output,
                cache_read_tokens: parts[1],
                cache_write_5m_tokens: if cache == CacheUse::None { 0 } else { parts[2] },
                cache_write_1h_tokens: if cache == CacheUse::Hour { parts[3] } else { 0 },
                reasoning_tokens: None,
                tier: None,
            };
            if usage.all_input() > price.context_window {
                usage = Usage { input_tokens: parts[0].min(price.context_window), output_tokens: output, ..Usage::default() };
            }
            let estimate = Estimate {
                input_tokens: Some(usage.all_input() + slack),
                output_tokens: output + spare,
                cache,
            };
            prop_assert!(price.cost(&usage) <= price.upper_bound(&estimate));
        }

        #[test]
        fn no_text_makes_the_table_panic(text in ".{0,200}") {
            let _ = PriceTable::parse(&text);
        }
    }
}
