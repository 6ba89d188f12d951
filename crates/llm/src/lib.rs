//! Dialects of model providers.
//!
//! This crate owns how a provider's traffic is read: a typed view of requests ([`anthropic::Request`]), an
//! incremental reader of event streams ([`sse::Reader`]), a tee that puts an answer together from a copy of
//! its bytes ([`anthropic::Tee`]), what an answer used ([`Usage`]), how much a request may use at most
//! ([`Estimate`]) and what that costs ([`prices`]).
//!
//! It refuses: input and output, clocks, knowing who asked, and writing other people's bytes anew. *Invariant:* no byte
//! sequence makes anything here panic or grow beyond its limits; whatever is not understood is passed over and counted.
//!
//! Amounts of money are `i64` nano-dollars, as everywhere in Stockade; this crate stands beside the domain, not on it.

pub mod anthropic;
mod dialect;
mod estimate;
pub mod prices;
pub mod sse;
mod usage;

pub use dialect::Dialect;
pub use estimate::{CacheUse, Estimate, likely_tokens, most_tokens};
pub use prices::{Price, PriceError, PriceTable};
pub use usage::Usage;
