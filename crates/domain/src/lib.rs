//! The words of Stockade.
//!
//! This crate owns the vocabulary that every other crate speaks: identifiers, time, money, who acts
//! ([`Principal`]), what they want to do ([`Deed`]), what was decided ([`Decision`]), the life of a
//! run and of an environment, and the numbered events of a run.
//!
//! It refuses: input and output, async, clocks, randomness. Whoever needs the time or a fresh
//! identifier is handed a [`World`]. *Invariant:* nothing here can fail because of the outside.

mod budget;
mod chain;
mod class;
mod content;
mod decision;
mod deed;
mod event;
mod harness;
mod id;
pub mod inside;
mod lifecycle;
mod money;
mod principal;
mod world;

pub use budget::{BudgetScope, Period};
pub use chain::chain;
pub use class::{EnvironmentClass, EnvironmentUsage, MAX_CLASS_NAME, MAX_CLASSES, Network};
pub use content::{ContentKind, ContentRef, Digest, DigestError};
pub use decision::{Answer, DecidingPolicy, Decision};
pub use deed::{Action, Context, ContextValue, Deed, Resource, ResourceKind, UnknownWord};
pub use event::{EventKind, FailureCause, GateOutcome, RunEvent, ToolOutcome};
pub use harness::Harness;
pub use id::{Id, IdError, Kind, kinds};
pub use lifecycle::{
    Desired, EnvironmentEvent, EnvironmentState, Observed, Refused, RunKind, RunState, RunTransition, WaitReason,
};
pub use money::{MoneyError, Nanos, Usage};
pub use principal::{Level, LevelError, Principal, Role};
pub use world::{Timestamp, World};

/// Shorthands for the identifiers everybody uses.
pub mod ids {
    use super::{Id, kinds};
    /// An organization: the tenant of an installation.
    pub type OrganizationId = Id<kinds::Organization>;
    /// A project: a repository with its rules.
    pub type ProjectId = Id<kinds::Project>;
    /// A person.
    pub type UserId = Id<kinds::User>;
    /// A token's row (never the token itself).
    pub type TokenId = Id<kinds::Token>;
    /// A site: one network with its own keys.
    pub type SiteId = Id<kinds::Site>;
    /// A runner of a site.
    pub type RunnerId = Id<kinds::Runner>;
    /// A server process.
    pub type ServerId = Id<kinds::Server>;
    /// What somebody asked for.
    pub type TaskId = Id<kinds::Task>;
    /// One attempt at a task.
    pub type RunId = Id<kinds::Run>;
    /// An isolated, disposable place to work.
    pub type EnvironmentId = Id<kinds::Environment>;
    /// The desired state of one environment, given to one runner.
    pub type AssignmentId = Id<kinds::Assignment>;
    /// A person's durable yes or no to one waiting deed.
    pub type ApprovalId = Id<kinds::Approval>;
    /// One tool call of an agent.
    pub type CallId = Id<kinds::Call>;
    /// One model call.
    pub type ModelCallId = Id<kinds::ModelCall>;
    /// One record of the ledger.
    pub type RecordId = Id<kinds::Record>;
    /// A token of a person for the gateway (its row).
    pub type GatewayTokenId = Id<kinds::GatewayToken>;
    /// Several people under one name.
    pub type GroupId = Id<kinds::Group>;
    /// A budget.
    pub type BudgetId = Id<kinds::Budget>;
    /// A part of a budget, leased to a runner.
    pub type SliceId = Id<kinds::Slice>;
}
