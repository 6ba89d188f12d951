//! Pushes.
//!
//! It owns `git.push`: a deed for each reference, all of them allowed or none. It refuses what cannot be read or shown, in git's own words, so that
//! `git push` says which reference was refused and by what.

use std::sync::Arc;

use http::{HeaderValue, Request, Response, StatusCode, header, request::Parts};
use stockade_domain::{Action, ContextValue, Deed};
use stockade_ledger::Opened;
use stockade_policy::{
    Permit, Ruling,
    content::{ContentScope, Direction},
};
use tokio_util::task::TaskTracker;

use super::{
    Answer, Passage, WORD, answer,
    fetch::{plain, say_version},
    look::{Facts, Wanted, look},
    receive::{Received, Sent, Unreceived, receive},
    relay::{Copy, Errand, relay},
    turned, turned_away,
    way::{Body, full},
};
use crate::{
    exit::Exit,
    git::{
        base,
        path::Service,
        push::{Change, Command, Push},
        report::{ReportReader, refusal},
    },
    relay::Carried,
};

impl Exit {
    /// A request of receive-pack.
    pub(super) async fn git_push(self: &Arc<Self>, passage: &Passage, mut head: Parts, body: Body) -> Answer {
        let Ok(_place) = self.git.places.acquire().await else {
            return Ok(answer(StatusCode::SERVICE_UNAVAILABLE, "pushes are not taken any more"));
        };
        let Received { push, sent } = match receive(&self.git.limits, &head.headers, body).await {
            Ok(received) => received,
            Err(Unreceived { push, why }) => {
                return Ok(self.git_refused(passage, push.as_deref(), &why.to_string()).await);
            }
        };
        plain(&mut head.headers);
        say_version(&mut head.headers, 0);
        head.headers.remove(header::ACCEPT_ENCODING);
        if push.commands.is_empty() {
            return self.git_question(passage, head, &push, sent).await;
        }
        let (sent, facts) = match self.git_facts(passage, &head, &push, sent).await {
            Ok(both) => both,
            Err(why) => return Ok(self.git_refused(passage, Some(&push), &why).await),
        };
        let deeds: Vec<_> = push.commands.iter().map(|command| self.git_push_deed(passage, command, &facts)).collect();
        let records = match self.git_decided(passage, deeds).await {
            Ok(mut opened) => {
                opened.take().into_iter().zip(push.commands.iter().map(|c| Some(c.reference.clone()))).collect()
            }
            Err(titles) => {
                return Ok(told(&push, &facts.places, &|reference| {
                    let at = push.commands.iter().position(|command| command.reference == reference);
                    let title = at.and_then(|at| titles.get(at)).and_then(Option::as_deref);
                    title.unwrap_or("another reference of this push is refused").to_owned()
                }));
            }
        };
        let spill = sent.into_spill();
        let out = spill.length();
        head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(out));
        let request = Request::from_parts(head, spill.body());
        let copy = Copy::Report(Box::new(ReportReader::new(&push)));
        relay(self, passage, Errand { records, request, out, copy }).await
    }

    /// A push without commands: git asks whether it may speak at all, before it sends much. It changes nothing.
    async fn git_question(self: &Arc<Self>, passage: &Passage, mut head: Parts, push: &Push, sent: Sent) -> Answer {
        debug_assert!(push.commands.is_empty());
        let opened = match self.go(self.ruling(self.git_deed(Action::GitFetch, passage))).await {
            Ok(opened) => opened,
            Err(why) => return Ok(turned_away(why)),
        };
        let spill = sent.into_spill();
        let out = spill.length();
        head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(out));
        let request = Request::from_parts(head, spill.body());
        relay(self, passage, Errand { records: vec![(opened, None)], request, out, copy: Copy::Nothing }).await
    }

    /// What policy is told of a push.
    async fn git_facts(
        self: &Arc<Self>,
        passage: &Passage,
        head: &Parts,
        push: &Push,
        mut sent: Sent,
    ) -> Result<(Sent, Facts), String> {
        let wanted = match &sent {
            Sent::Pack(pack) => base::missing(pack).unwrap_or_default(),
            Sent::Commands(_) => Vec::new(),
        };
        let base = match wanted.as_slice() {
            [] => None,
            commits => self.git_base(passage, head, push.format, commits).await,
        };
        let scope = ContentScope { project: self.who.project, provider: "git", model: &passage.asked.id };
        let rules = Wanted::new(self.parts.policy.load().content(&scope, Direction::Request));
        let push = push.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let pack = match &mut sent {
                Sent::Pack(pack) => Some(&mut **pack),
                Sent::Commands(_) => None,
            };
            let facts = look(&push, pack, base.as_ref(), &rules);
            (sent, facts)
        });
        let (sent, facts) = looked.await.map_err(|error| {
            tracing::error!(run = %self.who.run, %error, "a push could not be judged: {error}");
            "the push could not be judged".to_owned()
        })?;
        let facts = facts.map_err(|error| error.to_string())?;
        let most = self.git.limits.paths;
        match facts.paths.iter().map(|path| path.len() + 1).sum::<usize>() {
            length if length > most => Err(format!(
                "the push changes {} paths, more than policy can be told of ({} KiB): push in smaller parts",
                facts.paths.len(),
                most >> 10
            )),
            _ => Ok((sent, facts)),
        }
    }

    /// One reference of a push as a deed.
    fn git_push_deed(&self, passage: &Passage, command: &Command, facts: &Facts) -> Deed {
        let mut deed = self.git_named(passage, command);
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let paths: Vec<&str> = facts.paths.iter().map(String::as_str).collect();
        deed.context = deed
            .context
            .with("force", facts.forced.contains(&command.reference))
            .with("pack_bytes", number(facts.pack_bytes))
            .with("files", number(facts.paths.len() as u64))
            .with("findings", ContextValue::Set(facts.findings.iter().cloned().collect()))
            .with("protected_paths", facts.protected);
        if !paths.is_empty() {
            deed.context = deed.context.with_content("path", paths.join("\n"));
        }
        deed
    }

    /// What is known of a command by itself.
    fn git_named(&self, passage: &Passage, command: &Command) -> Deed {
        let mut deed = self.git_deed(Action::GitPush, passage);
        deed.context = deed
            .context
            .with("ref", command.reference.as_str())
            .with("new_ref", command.change == Change::Create)
            .with("deletion", command.change == Change::Delete);
        deed
    }

    /// All of them allowed, asked about and recorded; or what each is told. Nobody is asked about one where another is refused anyway.
    async fn git_decided(
        self: &Arc<Self>,
        passage: &Passage,
        deeds: Vec<Deed>,
    ) -> Result<Pending, Vec<Option<String>>> {
        let rulings: Vec<Ruling> = deeds.into_iter().map(|deed| self.ruling(deed)).collect();
        let mut titles: Vec<Option<String>> = rulings.iter().map(|_| None).collect();
        if rulings.iter().any(|ruling| matches!(ruling, Ruling::Deny(_))) {
            for (ruling, title) in rulings.into_iter().zip(&mut titles) {
                if let ruling @ Ruling::Deny(_) = ruling {
                    *title = self.go(ruling).await.err().map(turned);
                }
            }
            return Err(titles);
        }
        let tasks = passage.tasks.clone();
        let mut opened = Pending { exit: self.clone(), tasks, opened: Vec::new(), code: "client_lost" };
        for (ruling, title) in rulings.into_iter().zip(&mut titles) {
            match self.go(ruling).await {
                Ok(one) => opened.opened.push(one),
                Err(why) => {
                    *title = Some(turned(why));
                    opened.code = "not_sent";
                    return Err(titles);
                }
            }
        }
        Ok(opened)
    }

    /// Refuses a push that cannot be read, for each reference that is known.
    async fn git_refused(&self, passage: &Passage, push: Option<&Push>, why: &str) -> Response<Body> {
        let title = crate::git::report::plain(why);
        let Some(push) = push.filter(|push| !push.commands.is_empty()) else {
            self.refuse_deed(self.git_deed(Action::GitPush, passage), WORD, &title).await;
            return answer(StatusCode::BAD_REQUEST, &title);
        };
        for command in push.commands.iter().take(self.git.limits.references) {
            self.refuse_deed(self.git_named(passage, command), WORD, &title).await;
        }
        told(push, &[], &|_| title.clone())
    }
}

/// Records that were opened while the others of their push are decided. Whatever becomes of that, they are closed.
#[derive(Debug)]
struct Pending {
    exit: Arc<Exit>,
    tasks: TaskTracker,
    opened: Vec<Opened<Permit>>,
    code: &'static str,
}

impl Pending {
    fn take(&mut self) -> Vec<Opened<Permit>> {
        std::mem::take(&mut self.opened)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        for opened in self.take() {
            let (exit, record, code) = (self.exit.clone(), opened.record(), self.code);
            // Without a runtime the reaper closes it at the next start.
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                let closing = async move { exit.close(record, code, Carried::default(), None).await };
                self.tasks.spawn_on(closing, &runtime);
            }
        }
    }
}

/// The answer to a push that is refused.
fn told(push: &Push, found: &[String], reason: &dyn Fn(&str) -> String) -> Response<Body> {
    let mut said = vec!["stockade: this push is refused, and nothing of it was sent".to_owned()];
    said.extend(push.commands.iter().map(|c| format!("stockade: {}: {}", c.reference, reason(&c.reference))));
    said.extend(found.iter().map(|found| format!("stockade: found {found}")));
    let Some(body) = refusal(push, &said, reason) else {
        let first = push.commands.first().map(|command| reason(&command.reference));
        return answer(StatusCode::FORBIDDEN, first.as_deref().unwrap_or("the push is refused"));
    };
    let mut response = Response::new(full(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(Service::ReceivePack.result_type()));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
