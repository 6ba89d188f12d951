//! People's tokens for the gateway, as this site knows them: their digests, whose they are, and the wrapped keys of their runs.
//!
//! Owns the answer to "whose token is this?", the keys of personal runs while their tokens live, and what is to be done when a
//! token ends or a run is erased. It refuses: tokens in plain text, and any token that the server's last word did not name.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use arc_swap::ArcSwap;
use secrecy::{ExposeSecret, SecretString};
use stockade_api::{gateway_token, runner::SiteToken};
use stockade_domain::{Principal, World, ids::RunId};
use stockade_gateway::Caller;
use stockade_ledger::{RunKey, SiteKey, WrappedKey, sha256};

use crate::{site::Site, slot};

/// One token that lives.
#[derive(Debug)]
struct Personal {
    token: SiteToken,
    /// Opened when it is first needed.
    key: OnceLock<Option<Arc<RunKey>>>,
}

#[derive(Debug, Default)]
struct Known {
    /// By the first bytes of the digest. The rest is compared in constant time.
    by_hash: HashMap<[u8; 8], Vec<Arc<Personal>>>,
    by_run: BTreeMap<RunId, Arc<Personal>>,
}

/// The tokens of a site.
pub struct Tokens {
    site: Arc<SiteKey>,
    world: Arc<dyn World>,
    known: ArcSwap<Known>,
    erased: Mutex<Vec<RunId>>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("known", &self.known.load().by_run.len()).finish_non_exhaustive()
    }
}

impl Tokens {
    /// None at first.
    pub fn new(site: Arc<SiteKey>, world: Arc<dyn World>) -> Self {
        Self { site, world, known: ArcSwap::default(), erased: Mutex::default() }
    }

    /// These live now, and no others. Keys of those that live on stay open.
    pub fn replace(&self, tokens: Vec<SiteToken>) {
        let before = self.known.load();
        let mut known = Known::default();
        for token in tokens {
            let kept = before.by_run.get(&token.run).filter(|personal| personal.token == token);
            let personal = kept.cloned().unwrap_or_else(|| Arc::new(Personal { token, key: OnceLock::new() }));
            known.by_hash.entry(prefix(&personal.token.hash.0)).or_default().push(Arc::clone(&personal));
            known.by_run.insert(personal.token.run, personal);
        }
        self.known.store(Arc::new(known));
    }

    /// The keys of these were destroyed lately.
    pub fn erase(&self, runs: Vec<RunId>) {
        let known = self.known.load();
        let mut waiting = self.erased.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting = runs.into_iter().filter(|run| !known.by_run.contains_key(run)).collect();
    }

    /// Whether a token of this run lives.
    pub fn has(&self, run: RunId) -> bool {
        self.known.load().by_run.contains_key(&run)
    }

    /// Whose token this is, if it lives.
    pub fn caller(&self, token: &SecretString) -> Option<Caller> {
        if !gateway_token::is_well_formed(token.expose_secret()) {
            return None;
        }
        let digest = sha256(&[token.expose_secret().as_bytes()]);
        let known = self.known.load();
        let alike = known.by_hash.get(&prefix(&digest.0))?;
        let same =
            |p: &&Arc<Personal>| aws_lc_rs::constant_time::verify_slices_are_equal(&p.token.hash.0, &digest.0).is_ok();
        self.of(&alike.iter().find(same)?.token)
    }

    /// The caller of a personal run, as it is now. Nothing once its token has ended.
    pub fn renewed(&self, run: RunId) -> Option<Caller> {
        self.of(&self.known.load().by_run.get(&run)?.token)
    }

    fn of(&self, token: &SiteToken) -> Option<Caller> {
        if token.expires_at.is_some_and(|end| end <= self.world.now()) {
            return None;
        }
        Some(Caller {
            run: token.run,
            owner: token.owner,
            project: token.project,
            level: token.level,
            principal: Principal::User { id: token.owner, roles: token.roles.clone() },
        })
    }

    /// Whether a run may ask for a model. Runs without a token of their own are not bound here.
    pub fn permits(&self, run: RunId, model: &str) -> bool {
        let known = self.known.load();
        known.by_run.get(&run).is_none_or(|personal| {
            personal.token.models.is_empty() || personal.token.models.iter().any(|name| name == model)
        })
    }

    /// The key of a personal run.
    pub fn key(&self, run: RunId) -> Option<Arc<RunKey>> {
        let known = self.known.load();
        let personal = known.by_run.get(&run)?;
        personal.key.get_or_init(|| open(&self.site, &personal.token.wrapped_key)).clone()
    }
}

/// The key in a wrapping, if it is this site's.
pub fn open(site: &SiteKey, wrapped: &str) -> Option<Arc<RunKey>> {
    site.unwrap_key(&wrapped.parse::<WrappedKey>().ok()?).ok().map(Arc::new)
}

/// Does what follows from tokens that ended and runs that were erased. Every step may be repeated.
pub async fn tend(site: &Site) {
    let erased = std::mem::take(&mut *site.runs.tokens.erased.lock().unwrap_or_else(PoisonError::into_inner));
    for run in erased {
        let dir = site.runs.dir_of(run);
        if slot::is_erased(&dir) {
            continue;
        }
        let done = async {
            slot::set_erased(&dir).map_err(|e| e.to_string())?;
            slot::destroy_wrapped_key(&dir).map_err(|e| e.to_string())?;
            site.desk.spool.erase(run).map_err(|e| e.to_string())?;
            site.asking.forget(run).map_err(|e| e.to_string())?;
            site.desk.ledger.note("run_erased", Some(run), BTreeMap::new()).await.map_err(|e| e.to_string())
        };
        match done.await {
            Ok(_) => tracing::info!(%run, "{run} is erased"),
            // The server tells it again with its next word.
            Err(error) => tracing::error!(%run, error, "{run} cannot be erased, it is tried again: {error}"),
        }
    }
    for run in site.purse.runs() {
        if site.runs.get(run).is_some() {
            continue;
        }
        let back = match site.runs.tokens.has(run) {
            true => site.purse.rest(run, site.world().now()).await,
            false => site.purse.end(run).await,
        };
        if let Err(error) = back {
            tracing::warn!(%run, %error, "the money of {run} is not back: {error}");
        }
    }
}

fn prefix(digest: &[u8; 32]) -> [u8; 8] {
    let mut first = [0; 8];
    first.iter_mut().zip(digest).for_each(|(to, from)| *to = *from);
    first
}

#[cfg(test)]
mod tests {
    use stockade_domain::{Id, Level, Role, Timestamp};
    use stockade_ledger::SystemWorld;

    use super::*;

    fn token(text: &str, run: RunId, wrapped_key: String) -> SiteToken {
        SiteToken {
            token: Id::from_bytes([1; 16]),
            hash: sha256(&[text.as_bytes()]),
            run,
            owner: Id::from_bytes([2; 16]),
            roles: vec![Role::Developer],
            project: Id::from_bytes([3; 16]),
            level: Level::ON_THE_LOOP,
            models: vec!["claude".to_owned()],
            expires_at: None,
            wrapped_key,
        }
    }

    #[test]
    fn a_token_is_known_until_the_server_does_not_name_it_or_its_time_is_over() {
        let site = Arc::new(SiteKey::generate().unwrap());
        let run: RunId = Id::from_bytes([9; 16]);
        let key = RunKey::generate(&SystemWorld, run);
        let wrapped = key.wrap(&site.public()).unwrap().to_string();
        let tokens = Tokens::new(Arc::clone(&site), Arc::new(SystemWorld));
        let (mine, other) = (gateway_token::encode(&[5; 32]), gateway_token::encode(&[6; 32]));
        let ask = |text: &str| tokens.caller(&SecretString::from(text));
        assert!(ask(&mine).is_none());

        let known = token(&mine, run, wrapped);
        tokens.replace(vec![known.clone()]);
        let caller = ask(&mine).unwrap();
        assert_eq!((caller.run, caller.principal.kind()), (run, "user"));
        assert_eq!(tokens.renewed(run), Some(caller));
        assert!(ask(&other).is_none() && ask("").is_none() && ask("stk_gw_").is_none());
        assert!(tokens.permits(run, "claude") && !tokens.permits(run, "gpt"));
        let opened = tokens.key(run).unwrap();
        tokens.replace(vec![known.clone()]);
        assert!(Arc::ptr_eq(&opened, &tokens.key(run).unwrap()), "it is opened once");

        tokens.replace(vec![SiteToken { expires_at: Some(Timestamp(1)), ..known }]);
        assert!(ask(&mine).is_none() && tokens.renewed(run).is_none(), "its time is over");
        tokens.replace(vec![]);
        assert!(ask(&mine).is_none() && tokens.key(run).is_none() && !tokens.has(run));
    }
}
