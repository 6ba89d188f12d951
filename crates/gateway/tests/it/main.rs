//! The gateway against real sockets: a provider that can be steered, a client that hangs up, a real policy and a real
//! ledger.

mod budget;
mod endings;
mod fake;
mod house;
mod refusals;
mod rehearsal;
mod relay;
mod wire;
