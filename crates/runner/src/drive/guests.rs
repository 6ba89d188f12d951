//! Talking to a run's guest, through its deaths.
//!
//! *Invariant:* a request that was cut off is repeated with the same call id, never with another: the guest's journal
//! knows whether it was carried out.

use std::{sync::Arc, time::Duration};

use stockade_api::guest::{Op, Reply};
use stockade_domain::ids::CallId;
use stockade_sandbox::SandboxError;
use tokio_util::sync::CancellationToken;

use super::{Drive, DriveError, prepare::notice};
use crate::{
    book::Draft,
    guest::{Answered, Guest, GuestError},
    site::Site,
    slot::Slot,
};

/// So often a guest is restarted for one request before the environment counts as broken.
pub const MAX_RESTARTS: u32 = 4;
/// How long a call that is still being carried out is waited for between two questions.
const BUSY_PAUSE: Duration = Duration::from_millis(200);

/// The connection to a run's guest: the one that is open, or a new one.
async fn connect(site: &Site, slot: &Slot) -> Result<Arc<Guest>, SandboxError> {
    let mut held = slot.guest.lock().await;
    if let Some(guest) = held.as_ref().filter(|g| g.is_open()) {
        return Ok(Arc::clone(guest));
    }
    let stream = site.driver.connect(slot.assignment().environment).await?;
    let guest = Arc::new(Guest::new(stream));
    *held = Some(Arc::clone(&guest));
    Ok(guest)
}

impl Drive {
    /// Asks the guest; brings it back if it died, and asks again.
    pub(super) async fn ask(&mut self, call: Option<CallId>, op: Op) -> Result<Answered, DriveError> {
        let mut restarts = 0;
        loop {
            match self.ask_once(call, op.clone()).await {
                Err(AskError::Died(why)) if restarts < MAX_RESTARTS => {
                    restarts += 1;
                    self.revive(&why).await?;
                }
                Err(AskError::Died(why)) => return Err(DriveError::Guest(GuestError::Gone(why))),
                Err(AskError::Other(error)) => return Err(error),
                Ok(answered) => return Ok(answered),
            }
        }
    }

    /// Brings the guest back, and says so.
    pub(super) async fn revive(&mut self, why: &str) -> Result<(), DriveError> {
        let (run, environment) = (self.a.run, self.a.environment);
        tracing::warn!(%run, %environment, why, "the guest of {run} died: it is started again");
        *self.slot.guest.lock().await = None;
        let network = self.class()?.network;
        let slot = Arc::clone(&self.slot);
        let _door = slot.door.lock().await;
        self.site.driver.restart(environment).await?;
        self.slot.started_at.store(self.now().0, std::sync::atomic::Ordering::Relaxed);
        self.site.exits.ensure(&self.a, &self.key, network, true).await?;
        self.write(Draft::events(vec![notice("guest_restarted")])).await
    }

    /// Asks once. Halting leaves the call to the guest: its journal keeps the answer.
    pub(super) async fn ask_once(&self, call: Option<CallId>, op: Op) -> Result<Answered, AskError> {
        ask(&self.site, &self.slot, &self.halt, call, op).await
    }
}

/// Asks under a call id, and stops for nobody: for what goes on while other things are done.
pub(super) async fn ask_owned(
    site: Arc<Site>,
    slot: Arc<Slot>,
    call: Option<CallId>,
    op: Op,
) -> Result<Answered, AskError> {
    ask(&site, &slot, &CancellationToken::new(), call, op).await
}

async fn ask(
    site: &Site,
    slot: &Slot,
    halt: &CancellationToken,
    call: Option<CallId>,
    op: Op,
) -> Result<Answered, AskError> {
    loop {
        let guest = match connect(site, slot).await {
            Ok(guest) => guest,
            Err(SandboxError::Gone { .. }) => return Err(AskError::Died("it does not run".to_owned())),
            Err(error) => return Err(AskError::Other(error.into())),
        };
        let Some(answer) = halt.run_until_cancelled(guest.ask(call, op.clone())).await else {
            return Err(AskError::Other(DriveError::Halted));
        };
        match answer {
            Ok(Answered { reply: Reply::Error { code, .. }, .. }) if call.is_some() && code == "busy" => {
                if halt.run_until_cancelled(tokio::time::sleep(BUSY_PAUSE)).await.is_none() {
                    return Err(AskError::Other(DriveError::Halted));
                }
            }
            Ok(answered) => return Ok(answered),
            Err(GuestError::TooLarge(_)) => {
                let message = "the input is too large to be carried out".to_owned();
                let reply = Reply::Error { code: "too_large".to_owned(), message };
                return Ok(Answered { reply, replayed: false });
            }
            Err(GuestError::Gone(why)) => return Err(AskError::Died(why)),
        }
    }
}

/// Why a question brought nothing.
#[derive(Debug)]
pub(super) enum AskError {
    /// The guest died.
    Died(String),
    /// Something else.
    Other(DriveError),
}

impl From<AskError> for DriveError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Died(why) => Self::Guest(GuestError::Gone(why)),
            AskError::Other(error) => error,
        }
    }
}
