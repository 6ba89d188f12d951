//! An environment's way out.
//!
//! This crate owns every connection that leaves an environment: names, TLS, HTTP, git and the injection of credentials, each decided and
//! recorded. It refuses SQL and the control plane.
//!
//! An [`exit::Exit`] stands behind each environment's doors. Its parts: what environments are answered when they ask for names ([`dns`]), what a
//! connection says first ([`first`], [`hello`], [`head`]), whether a request belongs to its connection ([`request`]), where credentials may go in
//! ([`placeholder`]), what git wants ([`git`]); where a connection really goes ([`dial`]), and what joins two streams ([`relay`]).
//! *Invariant:* no connection leaves an environment before this crate has decided about it.

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
