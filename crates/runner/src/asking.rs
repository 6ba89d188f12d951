//! Questions about model calls and about what goes out of environments: asked, remembered over a crash, and answered by people.
//!
//! Owns which questions are open and what was said to them, so that one that is asked again is not put to people again, and that a yes to a call
//! is used once ([`connections`] says what of this is different for connections). It refuses to hold any content: a question is a digest here, and what people read is sealed. Calls of our own loop are its
//! run's affair: it parks, and tells of the question itself; people's own tools have no run that could, so it is told here.
//!
//! *Invariant:* a question is in the file before people can see it, and a yes that is used has left the file before the call begins.

mod connections;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use stockade_api::runner::ApprovalAnswer;
use stockade_domain::{
    ContentRef, Decision, Deed, Digest, EventKind, RunEvent, Timestamp,
    ids::{ApprovalId, RunId, UserId},
};
use stockade_gateway::{Approvals, Inquiry, Unasked, Word};
use stockade_ledger::Sealed;
use tokio::{
    sync::{Mutex as Turn, watch},
    time::{Instant, timeout_at},
};

use crate::{book::Desk, error::chain, files, link::Link, slot, slot::Registry, spool::event_entry};

/// The most questions of one person that are open at a time.
pub const MAX_OPEN: usize = 64;
/// The most questions that are remembered, of everybody.
pub const MAX_KNOWN: usize = 4_096;

/// One question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Asked {
    approval: ApprovalId,
    run: RunId,
    owner: UserId,
    subject: Digest,
    /// What people read.
    shown: ContentRef,
    /// When silence becomes a no, and a yes is void.
    expires_at: Timestamp,
    /// Whether it is about a person's own tool.
    personal: bool,
    /// Whether it is about what goes out of an environment, while its run goes on.
    #[serde(default)]
    beside: bool,
    /// Whether people have been told of it, where it is told here.
    #[serde(default)]
    told: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    said: Option<Said>,
    /// Whether the server knows that a no was heard.
    #[serde(default)]
    noted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Said {
    yes: bool,
    by: Option<UserId>,
}

impl Asked {
    const fn word(&self) -> Word {
        let approval = self.approval;
        match self.said {
            Some(Said { yes: true, .. }) => Word::Yes { approval },
            Some(Said { yes: false, by }) => Word::No { approval, by },
            None => Word::Silence { approval, until: self.expires_at, shown: self.shown },
        }
    }
}

/// A question of whatever kind, as it is put.
#[derive(Debug, Clone)]
struct Put {
    run: RunId,
    owner: UserId,
    subject: Digest,
    deed: Deed,
    decision: Decision,
    shown: Sealed,
    contents: Vec<Sealed>,
    valid_ms: u64,
    beside: bool,
}

/// The questions of a site.
#[derive(Clone)]
pub struct Asking {
    shared: Arc<Shared>,
}

struct Shared {
    desk: Desk,
    link: Arc<Link>,
    runs: Arc<Registry>,
    path: PathBuf,
    known: Mutex<BTreeMap<ApprovalId, Asked>>,
    /// Questions and uses of answers come one after the other: each numbers its event.
    turn: Turn<()>,
    news: watch::Sender<()>,
}

impl std::fmt::Debug for Asking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asking").field("known", &self.shared.known().len()).finish_non_exhaustive()
    }
}

impl Asking {
    /// Takes up the questions in a data folder. What cannot be read is forgotten: then no answer of before counts.
    pub fn start(desk: Desk, link: Arc<Link>, runs: Arc<Registry>, data: &Path) -> Self {
        let path = data.join("questions.json");
        let read = files::read_if_there(&path).map_err(|e| e.to_string()).and_then(|bytes| {
            bytes
                .map_or_else(|| Ok(Vec::new()), |b| serde_json::from_slice::<Vec<Asked>>(&b).map_err(|e| e.to_string()))
        });
        let known = read.unwrap_or_else(|error| {
            let file = path.display();
            tracing::warn!(error, "the questions in `{file}` cannot be read and are asked again: {error}");
            Vec::new()
        });
        // What a crash kept from people is asked anew.
        let known = known.into_iter().filter(|asked| !asked.beside || asked.told);
        let known = Mutex::new(known.map(|asked| (asked.approval, asked)).collect());
        let (turn, news) = (Turn::new(()), watch::Sender::new(()));
        Self { shared: Arc::new(Shared { desk, link, runs, path, known, turn, news }) }
    }

    /// The server says what people answered. Answers to what was not asked here are passed over.
    pub fn heard<'a>(&self, answers: impl IntoIterator<Item = &'a ApprovalAnswer>) {
        let mut known = self.shared.known();
        let mut news = false;
        for answer in answers {
            if let Some(asked) = known.get_mut(&answer.approval).filter(|asked| asked.said.is_none()) {
                asked.said = Some(Said { yes: answer.granted, by: answer.by });
                news = true;
            }
        }
        if news {
            // Lost with a crash, it is heard again.
            if let Err(error) = self.shared.keep(&known) {
                tracing::warn!(error = chain(&error), "answers to questions cannot be kept for a restart: {error}");
            }
            drop(known);
            self.shared.news.send_replace(());
        }
    }

    /// Nothing of this run is remembered any more: it is erased.
    pub fn forget(&self, run: RunId) -> std::io::Result<()> {
        let mut known = self.shared.known();
        let before = known.len();
        known.retain(|_, asked| asked.run != run);
        if known.len() == before {
            return Ok(());
        }
        self.shared.keep(&known)?;
        drop(known);
        self.shared.news.send_replace(());
        Ok(())
    }
}

impl Asking {
    /// Puts a question and waits for the answer.
    async fn wait(&self, inquiry: Put, patience: Duration) -> Result<Word, Unasked> {
        let until = Instant::now() + patience;
        let mut news = self.shared.news.subscribe();
        loop {
            let (shared, again) = (Arc::clone(&self.shared), inquiry.clone());
            // A task of its own: a client that hangs up leaves no half of a question behind.
            let opened = tokio::spawn(async move { shared.open(again).await }).await;
            let approval = opened.map_err(|error| Unasked::Unrecorded(error.to_string()))??;
            let shared = &self.shared;
            let answered = news.wait_for(|()| !matches!(shared.word(approval), Some(Word::Silence { .. })));
            let _ = timeout_at(until, answered).await;
            match shared.word(approval) {
                Some(word @ Word::No { .. }) => {
                    shared.note_no(approval).await;
                    return Ok(word);
                }
                Some(word) => return Ok(word),
                // Another call has used the yes, or the run is erased: this one is asked about anew.
                None => {}
            }
        }
    }
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, BTreeMap<ApprovalId, Asked>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        self.desk.world.now()
    }

    /// Makes what is known durable.
    fn keep(&self, known: &BTreeMap<ApprovalId, Asked>) -> std::io::Result<()> {
        let all: Vec<&Asked> = known.values().collect();
        files::replace(&self.path, &serde_json::to_vec(&all).map_err(std::io::Error::other)?)
    }

    fn word(&self, approval: ApprovalId) -> Option<Word> {
        self.known().get(&approval).map(Asked::word)
    }

    /// The question about this, which is asked now if it is not yet.
    async fn open(&self, inquiry: Put) -> Result<ApprovalId, Unasked> {
        let _turn = self.turn.lock().await;
        let now = self.now();
        if slot::is_erased(&self.runs.dir_of(inquiry.run)) {
            return Err(Unasked::Nobody);
        }
        let slot = self.runs.get(inquiry.run);
        let valid_ms = slot.as_ref().map_or(inquiry.valid_ms, |slot| slot.assignment().agent.approval_timeout_ms);
        let new = Asked {
            approval: self.desk.world.id(),
            run: inquiry.run,
            owner: inquiry.owner,
            subject: inquiry.subject,
            shown: inquiry.shown.content,
            expires_at: now.plus_ms(valid_ms),
            personal: slot.is_none() && !inquiry.beside,
            beside: inquiry.beside,
            told: false,
            said: None,
            noted: false,
        };
        {
            let mut known = self.known();
            known.retain(|_, asked| asked.expires_at > now);
            let same = |asked: &&Asked| asked.run == new.run && asked.subject == new.subject;
            if let Some(asked) = known.values().find(same) {
                return Ok(asked.approval);
            }
            // Our own loop's question waits in the spool as everything does; a client at a door would wait for nothing.
            if (new.personal || new.beside) && self.link.away().borrow().is_some() {
                return Err(Unasked::Away);
            }
            let open = known.values().filter(|asked| asked.owner == new.owner && asked.said.is_none()).count();
            if open >= MAX_OPEN || known.len() >= MAX_KNOWN {
                return Err(Unasked::TooMany(open));
            }
            known.insert(new.approval, new.clone());
            if let Err(error) = self.keep(&known) {
                known.remove(&new.approval);
                return Err(Unasked::Unrecorded(chain(&error)));
            }
        }
        self.tell(&new, inquiry).await.inspect_err(|_| {
            // What is left in the file is no harm: nobody can answer it.
            self.known().remove(&new.approval);
        })?;
        Ok(new.approval)
    }

    /// Puts it into the ledger, and before people.
    async fn tell(&self, new: &Asked, inquiry: Put) -> Result<(), Unasked> {
        let Put { deed, decision, shown, contents, .. } = inquiry;
        let event = EventKind::ApprovalRequested {
            approval: new.approval,
            action: deed.action,
            resource: deed.resource.id.clone(),
            policy: decision.title().to_owned(),
            expires_at: new.expires_at,
            content: Some(new.shown),
        };
        let seq = self.desk.spool.next_seq(new.run);
        let mut told = Vec::new();
        if new.personal {
            let event = event.clone();
            told.push(event_entry(0, RunEvent { run: new.run, seq, at: self.now(), event }));
        }
        let contents = std::iter::once(shown).chain(contents).collect();
        let asked = self.desk.ledger.asked_with(&deed, &decision, new.approval, contents, told).await;
        asked.map_err(|error| Unasked::Unrecorded(chain(&error)))?;
        if new.personal {
            self.desk.spool.told(new.run, seq);
        }
        if new.beside {
            self.beside(new.run, event).await?;
            let mut known = self.known();
            if let Some(asked) = known.get_mut(&new.approval) {
                asked.told = true;
            }
            // Lost with a crash, it is asked anew.
            let _ = self.keep(&known);
        }
        Ok(())
    }

    /// Tells that an answer was taken note of. *Invariant:* whoever calls has the turn.
    async fn note(&self, asked: &Asked, granted: bool) -> Result<(), Unasked> {
        let event = EventKind::ApprovalAnswered { approval: asked.approval, granted };
        if asked.beside {
            return self.beside(asked.run, event).await;
        }
        if !asked.personal {
            return Ok(());
        }
        let seq = self.desk.spool.next_seq(asked.run);
        let line = event_entry(0, RunEvent { run: asked.run, seq, at: self.now(), event });
        self.desk.spool.append(vec![line]).await.map_err(|error| Unasked::Unrecorded(chain(&error)))?;
        self.desk.spool.told(asked.run, seq);
        Ok(())
    }

    /// A no was told to whoever asked. If that cannot be written down, the server tells it again until its time is over.
    async fn note_no(&self, approval: ApprovalId) {
        self.note_once(approval, false).await;
    }

    /// An answer was told to whoever asked, for the first time.
    async fn note_once(&self, approval: ApprovalId, granted: bool) {
        let _turn = self.turn.lock().await;
        let unnoted = self.known().get(&approval).filter(|asked| !asked.noted).cloned();
        let Some(asked) = unnoted else { return };
        if self.note(&asked, granted).await.is_ok()
            && let Some(asked) = self.known().get_mut(&approval)
        {
            asked.noted = true;
        }
    }

    async fn spend(&self, approval: ApprovalId) -> Result<bool, Unasked> {
        let _turn = self.turn.lock().await;
        let now = self.now();
        let asked = {
            let mut known = self.known();
            let usable = |asked: &Asked| asked.expires_at > now && matches!(asked.word(), Word::Yes { .. });
            if !known.get(&approval).is_some_and(usable) {
                return Ok(false);
            }
            let Some(asked) = known.remove(&approval) else { return Ok(false) };
            if let Err(error) = self.keep(&known) {
                known.insert(approval, asked);
                return Err(Unasked::Unrecorded(chain(&error)));
            }
            asked
        };
        self.news.send_replace(());
        self.note(&asked, true).await.map(|()| true)
    }
}

#[async_trait]
impl Approvals for Asking {
    async fn ask(&self, inquiry: Inquiry) -> Result<Word, Unasked> {
        let Inquiry { run, owner, subject, deed, decision, shown, request, patience, valid_ms } = inquiry;
        let contents = vec![request];
        // A program inside waits at its door while its run goes on.
        let beside = self.shared.runs.get(run).is_some_and(|slot| slot.assignment().agent.harness.is_inside());
        self.wait(Put { run, owner, subject, deed, decision, shown, contents, valid_ms, beside }, patience).await
    }

    async fn spend(&self, approval: ApprovalId) -> Result<bool, Unasked> {
        self.shared.spend(approval).await
    }
}

#[cfg(test)]
mod tests;
