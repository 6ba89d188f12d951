//! An environment's way out.
//!
//! This crate will own every connection that leaves an environment: the stack, names, TLS, HTTP, git and the
//! injection of credentials, each decided and recorded. It refuses SQL and the control plane.
//!
//! In the present form there is no way out at all: an environment has a loopback interface and nothing else, and nobody opens its
//! doors. What will stand behind them is an [`exit::Exit`] for each environment, and its parts: what environments are answered
//! when they ask for names ([`dns`]), what a connection says first ([`first`], [`hello`], [`head`]), whether a request belongs to its
//! connection ([`request`]), where credentials may go in ([`placeholder`]), what git wants ([`git`]); where a connection really goes ([`dial`]), and what joins two streams ([`relay`]).
//! *Invariant:* no connection leaves an environment before this crate can decide about it.

pub mod address;
pub mod ca;
pub mod chunks;
pub mod credential;
pub mod dial;
pub mod dns;
pub mod echo;
pub mod exit;
pub mod first;
pub mod git;
pub mod guard;
pub mod head;
pub mod hello;
pub mod host;
pub mod name;
pub mod opening;
pub mod origins;
pub mod path;
pub mod placeholder;
pub mod proxy;
pub mod relay;
pub mod request;

/// What network an environment has. There is one posture until connections can be decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Posture {
    /// Loopback and nothing else.
    #[default]
    Closed,
}

impl Posture {
    /// The word, as in records and in `stockade doctor`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
        }
    }
}
