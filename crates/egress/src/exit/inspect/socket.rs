//! A WebSocket: what is left of an inspected connection once both sides have gone over to it.
//!
//! It owns the joining of both ends (RFC 6455) and its count. It reads nothing of what goes over: that the policy allows `upgrade` was decided with the
//! request. It refuses to go over where only one side has.

use std::sync::Arc;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::ticket::Ticket;
use crate::relay::{self, End};

/// Both ends, that have agreed.
#[derive(Debug)]
pub(super) struct Socket {
    near: OnUpgrade,
    far: OnUpgrade,
    ticket: Arc<Ticket>,
}

impl Socket {
    pub(super) const fn new(near: OnUpgrade, far: OnUpgrade, ticket: Arc<Ticket>) -> Self {
        Self { near, far, ticket }
    }

    /// Joins them until their end, and gives the word for the connection's record.
    pub(super) async fn carry(self, patience: relay::Patience) -> &'static str {
        let Self { near, far, ticket } = self;
        let (near, far) = match tokio::try_join!(near, far) {
            Ok(both) => both,
            Err(_) => {
                ticket.failed("lost");
                return "lost";
            }
        };
        let (mut near, mut far) = (TokioIo::new(near), TokioIo::new(far));
        let (carried, end) = relay::join(&mut near, &mut far, patience, ticket.stop()).await;
        ticket.carried(carried);
        let code = match end {
            End::Whole => {
                ticket.whole();
                return "";
            }
            End::Silent => "silent",
            End::Stopped => ticket.why(),
            End::First(_) => "client_lost",
            End::Second(_) => "lost",
        };
        ticket.failed(code);
        code
    }
}
