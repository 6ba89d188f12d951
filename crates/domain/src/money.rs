//! Money as integer nano-dollars, and what a model call used.

use std::{fmt, iter::Sum, str::FromStr};

use serde::{Deserialize, Serialize};

/// An amount of money in nano-dollars (10⁻⁹ US dollars). It is never negative in a balance; a signed
/// integer because databases have no other. All arithmetic is checked: money does not wrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nanos(pub i64);

/// Why a text is no amount of money.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no amount of dollars: write for example 5, 0.25 or $12.50, with at most nine decimals")]
pub struct MoneyError(pub String);

impl Nanos {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// One US dollar.
    pub const DOLLAR: Self = Self(1_000_000_000);

    /// The sum, or nothing if it does not fit.
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// The difference, or nothing if it would be negative.
    #[must_use]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(left) if left >= 0 => Some(Self(left)),
            _ => None,
        }
    }

    /// The sum; at the top it stays there.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference; never below zero.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        let left = self.0.saturating_sub(other.0);
        Self(if left < 0 { 0 } else { left })
    }

    /// This price for one million units, for `units` of them, rounded up: nobody is undercharged.
    #[must_use]
    pub fn per_million(self, units: u64) -> Self {
        let exact = i128::from(self.0) * i128::from(units);
        let rounded = exact.div_euclid(1_000_000) + i128::from(exact.rem_euclid(1_000_000) != 0);
        Self(i64::try_from(rounded).unwrap_or(i64::MAX))
    }
}

impl Sum for Nanos {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, Self::saturating_add)
    }
}

/// Dollars with as many decimals as are needed, at least two: `$0.25`, `$0.000123`.
impl fmt::Display for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (whole, part) = (self.0.unsigned_abs() / 1_000_000_000, self.0.unsigned_abs() % 1_000_000_000);
        let digits = format!("{part:09}");
        let kept = digits.trim_end_matches('0').len().max(2);
        write!(f, "{sign}${whole}.{}", digits.get(..kept).unwrap_or("00"))
    }
}

impl FromStr for Nanos {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let wrong = || MoneyError(text.to_owned());
        let body = text.trim().trim_start_matches('$');
        let (whole, part) = body.split_once('.').unwrap_or((body, ""));
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if (whole.is_empty() && part.is_empty()) || part.len() > 9 || !digits(whole) || !digits(part) {
            return Err(wrong());
        }
        let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| wrong())? };
        let part: i64 = format!("{part:0<9}").parse().map_err(|_| wrong())?;
        whole.checked_mul(1_000_000_000).and_then(|n| n.checked_add(part)).map(Self).ok_or_else(wrong)
    }
}

/// What a model call used, in tokens. `input_tokens` excludes cache reads and writes, as in
/// Anthropic's Messages API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens read at the full price.
    #[serde(default)]
    pub input_tokens: u64,
    /// Tokens written by the model, reasoning included.
    #[serde(default)]
    pub output_tokens: u64,
    /// Tokens read from the provider's prompt cache.
    #[serde(default)]
    pub cache_read_tokens: u64,
    /// Tokens written to the cache for five minutes.
    #[serde(default)]
    pub cache_write_5m_tokens: u64,
    /// Tokens written to the cache for an hour.
    #[serde(default)]
    pub cache_write_1h_tokens: u64,
}

impl Usage {
    /// Both together, saturating.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            cache_read_tokens: self.cache_read_tokens.saturating_add(other.cache_read_tokens),
            cache_write_5m_tokens: self.cache_write_5m_tokens.saturating_add(other.cache_write_5m_tokens),
            cache_write_1h_tokens: self.cache_write_1h_tokens.saturating_add(other.cache_write_1h_tokens),
        }
    }

    /// All tokens of every kind.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.input_tokens
            .saturating_add(self.output_tokens)
            .saturating_add(self.cache_read_tokens)
            .saturating_add(self.cache_write_5m_tokens)
            .saturating_add(self.cache_write_1h_tokens)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dollars_read_and_write() {
        for (text, nanos, shown) in
            [("5", 5_000_000_000, "$5.00"), ("$0.25", 250_000_000, "$0.25"), (".000000001", 1, "$0.000000001")]
        {
            assert_eq!(text.parse(), Ok(Nanos(nanos)));
            assert_eq!(Nanos(nanos).to_string(), shown);
        }
        for wrong in ["", "$", "-1", "1e3", "0.0000000001", "99999999999999", "1.2.3", "ten"] {
            assert!(wrong.parse::<Nanos>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_price_per_million_rounds_up() {
        assert_eq!(Nanos::DOLLAR.per_million(1), Nanos(1_000));
        assert_eq!(Nanos(1).per_million(1), Nanos(1));
        assert_eq!(Nanos(3).per_million(0), Nanos(0));
        assert_eq!(Nanos(i64::MAX).per_million(u64::MAX), Nanos(i64::MAX));
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(n in 0i64..i64::MAX) {
            prop_assert_eq!(Nanos(n).to_string().parse(), Ok(Nanos(n)));
        }
    }
}
