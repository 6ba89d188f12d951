//! Deciding.
//!
//! This crate owns the Cedar schema of all deeds ([`schema`]), bundles of policies with examples that must
//! hold ([`Bundle`]), and the one function that decides ([`Engine::decide`]). Allow, Ask and Deny are two
//! ordinary questions: may the deed be done, and may it be done *unattended*? Yes and yes is Allow, yes and no
//! is Ask, no is Deny. A `forbid` always wins; what nothing permits is denied. What may stand in the prompts and answers of a
//! call that is allowed is said by content rules, which a bundle has beside its policies ([`content`]).
//!
//! It refuses: input and output, clocks, remembering anything between two decisions.
//!
//! *Invariant:* a [`Permit`] is made in this crate and nowhere else, and is moved, never copied. An effect that
//! takes one by value can therefore not happen without a decision, nor twice after one:
//!
//! ```compile_fail,E0599
//! fn twice(permit: stockade_policy::Permit) {
//!     let _ = permit.clone();
//! }
//! ```
//!
//! ```compile_fail,E0451
//! fn forged(deed: stockade_domain::Deed, decision: stockade_domain::Decision) -> stockade_policy::Permit {
//!     stockade_policy::Permit { deed, decision }
//! }
//! ```
//!
//! ```compile_fail,E0277
//! let permit: stockade_policy::Permit = serde_json::from_str("{}").unwrap();
//! ```
//!
//! ```compile_fail,E0382
//! fn granted_twice(question: stockade_policy::Question, approval: stockade_domain::ids::ApprovalId) {
//!     let _first = question.granted(approval);
//!     let _second = question.granted(approval);
//! }
//! ```
//!
//! A refusal cannot be turned into anything:
//!
//! ```compile_fail,E0599
//! fn pleaded(refusal: stockade_policy::Refusal, approval: stockade_domain::ids::ApprovalId) {
//!     let _ = refusal.granted(approval);
//! }
//! ```
//!
//! What does compile:
//!
//! ```
//! use stockade_domain::{Action, Deed, Resource, ResourceKind, Principal, ids};
//! use stockade_policy::{Bundle, Permit, Ruling, default_bundle};
//!
//! fn effect(permit: Permit) -> String {
//!     format!("did {}", permit.deed().action)
//! }
//!
//! let engine = Bundle::parse(1, default_bundle()).unwrap();
//! let agent = Principal::Agent { run: ids::RunId::from_bytes([1; 16]), owner: ids::UserId::from_bytes([2; 16]) };
//! let deed = Deed {
//!     principal: agent,
//!     action: Action::ToolCall,
//!     resource: Resource::new(ResourceKind::Tool, "read"),
//!     context: Default::default(),
//! };
//! match engine.decide(deed) {
//!     Ruling::Allow(permit) => assert_eq!(effect(permit), "did tool.call"),
//!     other => panic!("{other:?}"),
//! }
//! ```

mod bundle;
pub mod content;
mod engine;
mod example;
mod explain;
mod facts;
mod guard;
mod index;
pub mod learn;
mod readings;
mod ruling;
pub mod tables;
mod vocabulary;

pub use bundle::{
    Bundle, BundleError, MAX_BUNDLE_BYTES, MAX_EXAMPLES, MAX_ID_BYTES, MAX_POLICIES, MAX_POLICY_BYTES,
    MAX_POLICY_TOKENS, MAX_PROBLEMS, MAX_TITLE_BYTES, Problem, READER_STACK_BYTES, Summary, check,
};
pub use engine::Engine;
pub use example::ExampleResult;
pub use explain::{Answered, Explanation, PolicyError, Reason};
pub use facts::{MAX_CONTEXT_TEXT_BYTES, MAX_RESOURCE_ID_BYTES};
pub use readings::{MAX_ENCODED_SLASHES, encoded_slashes};
pub use ruling::{Permit, Question, Refusal, Ruling};
pub use vocabulary::schema;

/// The bundle that ships with Stockade: the packs of the four autonomy levels and of people's roles.
pub const fn default_bundle() -> &'static str {
    include_str!("../bundles/default.toml")
}
