//! What the command line needs of a site without a running runner.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use stockade_api::error::{ApiError, Fault};
use stockade_domain::{ContentKind, ContentRef, ids::RunId};
use stockade_gateway::rehearsal::Cassette;
use stockade_ledger::{RunKey, SitePublicKey, SystemWorld};

/// A task, sealed for the site that will work on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedTask {
    /// The run's key, wrapped to the site's, as text.
    pub wrapped_key: String,
    /// What it is.
    pub content: ContentRef,
    /// The sealed bytes, base64.
    pub sealed: String,
}

/// Makes the key of a run, seals the task with it and wraps it for the site. The key is forgotten on return: only the site
/// can open what was sealed.
pub fn seal_task(site_public_key: &str, run: RunId, text: &str) -> Result<SealedTask, ApiError> {
    let site: SitePublicKey = site_public_key.parse().map_err(|_| {
        ApiError::new(Fault::Outside, "bad_site_key", "the server gave a site's public key that is none")
            .hint("check that the command line and the server have the same version")
    })?;
    let failed =
        |e: stockade_ledger::SealError| ApiError::new(Fault::Bug, "sealing", format!("the task cannot be sealed: {e}"));
    let key = RunKey::generate(&SystemWorld, run);
    let sealed = key.seal(&SystemWorld, ContentKind::Task, text.as_bytes()).map_err(failed)?;
    let wrapped_key = key.wrap(&site).map_err(failed)?.to_string();
    Ok(SealedTask { wrapped_key, content: sealed.content, sealed: BASE64_STANDARD.encode(&sealed.bytes) })
}

/// Whether a cassette loads; how many turns it has.
pub fn check_cassette(text: &str) -> Result<usize, String> {
    let cassette = Cassette::parse("the file", text).map_err(|e| e.to_string())?;
    Ok(cassette.turns())
}

/// Makes a cassette of the bodies of model calls, request and response, in order.
pub fn record_cassette(name: &str, exchanges: &[(Vec<u8>, Vec<u8>)]) -> Result<String, String> {
    Ok(Cassette::from_exchanges(name, exchanges).map_err(|e| e.to_string())?.to_toml())
}

#[cfg(test)]
mod tests {
    use stockade_domain::Id;
    use stockade_ledger::{SiteKey, WrappedKey};

    use super::*;

    #[test]
    fn a_sealed_task_is_opened_by_its_site_and_nobody_else() {
        let (site, other) = (SiteKey::generate().unwrap(), SiteKey::generate().unwrap());
        let run = Id::from_parts(1, [7; 10]);
        let sealed = seal_task(&site.public().to_string(), run, "fix it").unwrap();
        let wrapped: WrappedKey = sealed.wrapped_key.parse().unwrap();
        let key = site.unwrap_key(&wrapped).unwrap();
        let bytes = BASE64_STANDARD.decode(&sealed.sealed).unwrap();
        assert_eq!(key.open(ContentKind::Task, &bytes).unwrap(), b"fix it");
        assert!(other.unwrap_key(&wrapped).is_err());
        assert!(seal_task("stockade-site-1:nonsense", run, "x").is_err());
    }
}
