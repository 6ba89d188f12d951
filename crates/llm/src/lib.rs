//! Dialects of model providers.
//!
//! This crate owns how a provider's traffic is read and written: a typed look at requests ([`View`]), an incremental reader of
//! event streams ([`sse::Reader`]), tees that put an answer together from a copy of its bytes, the neutral form into
//! which every dialect can be read and from which it can be written ([`neutral`]), what an answer used ([`Usage`]), how much
//! a request may use at most ([`Estimate`]) and what that costs ([`prices`]).
//!
//! It refuses: input and output, clocks, knowing who asked, and writing other people's bytes anew where nothing has to be
//! converted. *Invariant:* no byte sequence makes anything here panic or grow beyond its limits; whatever is not understood
//! is passed over and counted.
//!
//! Amounts of money are `i64` nano-dollars, as everywhere in Stockade; this crate stands beside the domain, not on it.

pub mod anthropic;
pub mod chat;
pub mod converse;
mod dialect;
pub mod embeddings;
mod estimate;
pub mod eventstream;
mod free;
pub mod gemini;
pub mod neutral;
mod openai;
mod order;
pub mod prices;
pub mod responses;
pub mod sse;
mod take;
pub mod told;
mod usage;
mod view;

pub use dialect::{Dialect, Framing, PathFacts, Target};
pub use estimate::{CacheUse, Estimate, likely_tokens, most_tokens};
pub use prices::{Price, PriceError, PriceTable, Tier};
pub use usage::Usage;
pub use view::{MAX_MODEL_NAME, RequestError, Splice, View, spliced};
