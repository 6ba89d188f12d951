//! Looking whether each provider of this site can be used, step by step, and saying in words what is wrong and what to try.
//!
//! Nothing here is billed: a real call goes through the gateway, where it is decided, paid for and recorded.

use std::time::Duration;

use serde::Serialize;
use stockade_api::error::Fault;
use stockade_domain::World;
use stockade_gateway::{ModelTable, Provider, Question, Said};
use tokio::net::{TcpStream, lookup_host};

use crate::{RunnerConfig, RunnerError, error::chain, start};

/// How long each step may take.
pub const STEP_TIME: Duration = Duration::from_secs(10);
/// The largest answer that is read, in bytes.
pub const MAX_PROBE_ANSWER: usize = 4 * 1024 * 1024;

/// What was found about a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProviderReport {
    /// Its name.
    pub provider: String,
    /// Its kind.
    pub kind: &'static str,
    /// Where it is.
    pub address: String,
    /// Whether it can be used, or need not be.
    pub ok: bool,
    /// Whether anything here is to use it: one that is there without being configured is none without its key.
    pub set_up: bool,
    /// What was looked at, in order. What a failed step makes senseless is left out.
    pub steps: Vec<Step>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// `resolve`, `connect`, `credential`, `tls`, `accepted`, `model NAME`.
    pub step: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// What to try.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Whose fault it is, if something is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
}

fn fine(step: &str, detail: impl Into<String>) -> Step {
    Step { step: step.to_owned(), ok: true, detail: detail.into(), hint: None, fault: None }
}

fn wrong(step: &str, fault: Fault, detail: impl Into<String>, hint: &str) -> Step {
    Step { step: step.to_owned(), ok: false, detail: detail.into(), hint: Some(hint.to_owned()), fault: Some(fault) }
}

/// Looks at every provider of this configuration, or at the one of this name.
///
/// # Errors
/// If the configuration cannot be used, or has no provider of that name.
pub async fn check_providers(config: &RunnerConfig, name: Option<&str>) -> Result<Vec<ProviderReport>, RunnerError> {
    let table = start::model_table(config)?;
    let wanted: Vec<_> = table.providers().filter(|provider| name.is_none_or(|name| provider.name() == name)).collect();
    if let (Some(name), true) = (name, wanted.is_empty()) {
        let known: Vec<&str> = table.providers().map(|provider| provider.name()).collect();
        return Err(RunnerError::Config {
            what: format!("no provider is called `{name}`"),
            hint: format!("the configuration has {}", known.join(", ")),
        });
    }
    // As the gateway does: straight there, through nobody's proxy, and no redirect is followed with a credential.
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(STEP_TIME)
        .build()
        .map_err(|error| RunnerError::part("http", error))?;
    let mut reports = Vec::new();
    for provider in wanted {
        let mut steps = Vec::new();
        let unused = if name.is_none() { unused(provider, &table).await } else { None };
        let set_up = unused.is_none();
        match unused {
            Some(step) => steps.push(step),
            None => look(provider, &table, &client, &mut steps).await,
        }
        reports.push(ProviderReport {
            provider: provider.name().to_owned(),
            kind: provider.kind().as_str(),
            address: provider.base_url().to_string(),
            ok: steps.iter().all(|step| step.ok),
            set_up,
            steps,
        });
    }
    if reports.iter().all(|report| !report.set_up) {
        return Err(RunnerError::Config {
            what: "no provider is set up: none is configured, and there is no key for those that need no configuration"
                .to_owned(),
            hint: "set ANTHROPIC_API_KEY, OPENAI_API_KEY or GEMINI_API_KEY for the runner, or write \
                   [gateway.providers.NAME] into stockade.toml; the manual's page on providers has every way"
                .to_owned(),
        });
    }
    Ok(reports)
}

/// Why nobody here means to use a provider that is there without being configured; nothing if somebody does.
async fn unused(provider: &Provider, table: &ModelTable) -> Option<Step> {
    if !provider.is_built_in() || !table.names_at(provider.name()).is_empty() {
        return None;
    }
    let now = stockade_ledger::SystemWorld.now();
    provider.check_credentials(now).await.err()?;
    let key = provider.credentials().next().unwrap_or_default();
    Some(fine(
        "credential",
        format!("not set up, and so not looked at: {key} is not there, and nothing here asks for it"),
    ))
}

async fn look(provider: &Provider, table: &ModelTable, client: &reqwest::Client, steps: &mut Vec<Step>) {
    let reached = reach(provider, steps).await;
    let names = table.names_at(provider.name());
    let mut listed = None;
    for number in 0..provider.credential_count() {
        let about = provider.credentials().nth(number).unwrap_or_default().to_owned();
        // A provider without a list is asked about the first model that is configured for it.
        let mut question = Question::Models;
        let now = stockade_ledger::SystemWorld.now();
        let mut request = provider.question(question, number, now).await;
        if let (Ok(None), Some((_, upstream))) = (&request, names.first()) {
            question = Question::Model(upstream);
            request = provider.question(question, number, now).await;
        }
        let request = match request {
            Ok(request) => {
                steps.push(fine("credential", about.clone()));
                request
            }
            Err(error) => {
                let hint = "put the key there, give the runner's user the right to read it, or correct the \
                            configuration; the manual's page on providers has every way";
                steps.push(wrong("credential", Fault::Config, format!("{about}: {}", chain(&error)), hint));
                continue;
            }
        };
        let Some(request) = request.filter(|_| reached) else {
            if reached {
                let detail = "this kind of provider can be asked nothing without a model: none is configured for it";
                steps.push(fine("accepted", detail));
            }
            continue;
        };
        match send(client, request).await {
            Err(step) => {
                steps.push(step);
                return;
            }
            Ok((status, body)) => {
                let said = provider.understood(question, status, &body);
                if let Said::Welcome(Some(names)) = &said {
                    listed.get_or_insert_with(|| names.clone());
                }
                steps.push(accepted(&about, said));
            }
        }
    }
    if reached && steps.iter().any(|step| step.step == "accepted" && step.ok) {
        models(provider, client, &names, listed.as_deref(), steps).await;
    }
}

/// Whether it can be reached at all.
async fn reach(provider: &Provider, steps: &mut Vec<Step>) -> bool {
    let url = provider.base_url();
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { return false };
    let host = host.trim_matches(['[', ']']);
    let found = tokio::time::timeout(STEP_TIME, lookup_host((host, port))).await;
    let addresses: Vec<_> = match found {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => {
            let hint = "check the name in `base_url`, and that this machine's DNS knows it";
            steps.push(wrong("resolve", Fault::Config, format!("the name `{host}` is not known: {error}"), hint));
            return false;
        }
        Err(_) => {
            let hint = "check this machine's DNS (/etc/resolv.conf)";
            steps.push(wrong("resolve", Fault::Outside, format!("nobody answers what `{host}` is"), hint));
            return false;
        }
    };
    let shown: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
    steps.push(fine("resolve", format!("`{host}` is {}", shown.join(", "))));
    let mut last = "it has no address".to_owned();
    for address in &addresses {
        match tokio::time::timeout(STEP_TIME, TcpStream::connect(address)).await {
            Ok(Ok(_)) => {
                steps.push(fine("connect", format!("{address} accepts connections")));
                return true;
            }
            Ok(Err(error)) => last = format!("{address}: {error}"),
            Err(_) => last = format!("{address} does not answer"),
        }
    }
    let hint = "check the port in `base_url`, that the service runs, and that a firewall lets this machine out to it";
    steps.push(wrong("connect", Fault::Outside, last, hint));
    false
}

async fn send(client: &reqwest::Client, request: http::Request<bytes::Bytes>) -> Result<(u16, Vec<u8>), Step> {
    let request: reqwest::Request = request
        .try_into()
        .map_err(|error: reqwest::Error| wrong("accepted", Fault::Bug, chain(&error), "report this"))?;
    let secure = request.url().scheme() == "https";
    let failed = |error: &reqwest::Error| {
        let text = chain(error);
        let lower = text.to_ascii_lowercase();
        if secure && (lower.contains("certificate") || lower.contains("tls") || lower.contains("handshake")) {
            let hint = "if a proxy of your company opens TLS, add its CA to this machine's certificates; \
                        if the service has its own CA, add that";
            wrong("tls", Fault::Config, text, hint)
        } else {
            wrong("accepted", Fault::Outside, text, "try again; look at the service's own status and log")
        }
    };
    let mut answer = client.execute(request).await.map_err(|error| failed(&error))?;
    let status = answer.status().as_u16();
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(|error| failed(&error))? {
        if body.len() + piece.len() > MAX_PROBE_ANSWER {
            break;
        }
        body.extend_from_slice(&piece);
    }
    Ok((status, body))
}

fn accepted(about: &str, said: Said) -> Step {
    match said {
        Said::Welcome(Some(names)) => fine("accepted", format!("{about} is taken; {} models are listed", names.len())),
        Said::Welcome(None) | Said::UnknownModel => fine("accepted", format!("{about} is taken")),
        Said::Unwelcome(words) => {
            let hint = "make a new key at the provider, or give this one the rights for models; \
                        then put it where the configuration says: no restart is needed";
            wrong("accepted", Fault::Config, format!("{about} is not taken: {words}"), hint)
        }
        Said::Busy(words) => fine("accepted", format!("{about} is taken; there is no room at the moment: {words}")),
        Said::Failing(words) => {
            wrong("accepted", Fault::Outside, words, "it is the provider's own failure: look at its status page")
        }
        Said::Strange(words) => {
            let hint = "check `base_url` (with or without /v1) and `kind`";
            wrong("accepted", Fault::Config, format!("what it was asked is not there: {words}"), hint)
        }
    }
}

/// Whether the models that are configured are known there.
async fn models(
    provider: &Provider,
    client: &reqwest::Client,
    names: &[(String, String)],
    listed: Option<&[String]>,
    steps: &mut Vec<Step>,
) {
    for (name, upstream) in names {
        let step = format!("model {name}");
        let is_listed = listed.map(|listed| listed.contains(upstream));
        if is_listed == Some(true) {
            steps.push(fine(&step, format!("`{upstream}` is known there")));
            continue;
        }
        // A name that stands for a newer one is often missing in the list and known nevertheless.
        let question = Question::Model(upstream);
        let now = stockade_ledger::SystemWorld.now();
        let said = match provider.question(question, 0, now).await {
            Ok(Some(request)) => match send(client, request).await {
                Ok((status, body)) => Some(provider.understood(question, status, &body)),
                Err(_) => None,
            },
            _ => None,
        };
        let hint = "correct `upstream` to a name that the provider lists, or ask it for access to this model";
        steps.push(match said {
            Some(Said::Welcome(_) | Said::Busy(_)) => fine(&step, format!("`{upstream}` is known there")),
            Some(Said::UnknownModel) => wrong(&step, Fault::Config, format!("`{upstream}` is not known there"), hint),
            Some(Said::Unwelcome(words)) => {
                wrong(&step, Fault::Config, format!("`{upstream}` may not be used: {words}"), hint)
            }
            Some(Said::Failing(words) | Said::Strange(words)) => {
                wrong(&step, Fault::Outside, format!("`{upstream}` cannot be asked about: {words}"), "try again")
            }
            None if is_listed == Some(false) => {
                wrong(&step, Fault::Config, format!("`{upstream}` is not in the provider's list"), hint)
            }
            None => fine(&step, format!("`{upstream}`: this kind of provider does not say which models it has")),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::{Router, extract::Path, http::HeaderMap, routing::get};

    use super::*;

    /// A provider that takes the key `right` and knows two models, one of them not in its list.
    async fn provider() -> SocketAddr {
        let taken = |headers: &HeaderMap| headers.get("x-api-key").is_some_and(|key| key == "right");
        let list = move |headers: HeaderMap| async move {
            if taken(&headers) {
                (axum::http::StatusCode::OK, "{\"data\":[{\"id\":\"claude-opus-5\"}]}")
            } else {
                (axum::http::StatusCode::UNAUTHORIZED, "{\"error\":{\"message\":\"invalid x-api-key\"}}")
            }
        };
        let one = |Path(name): Path<String>| async move {
            if name == "claude-sonnet-4-6" {
                (axum::http::StatusCode::OK, "{}")
            } else {
                (axum::http::StatusCode::NOT_FOUND, "{}")
            }
        };
        let router = Router::new().route("/v1/models", get(list)).route("/v1/models/{name}", get(one));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        addr
    }

    async fn report(models: &str) -> ProviderReport {
        let mut config = RunnerConfig::new("/nowhere", "http://127.0.0.1:9", "/nowhere");
        config.models = models.to_owned();
        check_providers(&config, Some("p")).await.unwrap().remove(0)
    }

    fn configured(addr: SocketAddr, key: &str) -> String {
        format!(
            "[gateway.providers.p]\nbase_url = \"http://{addr}\"\n{key}\n\
             [gateway.models.a]\nprovider = \"p\"\nupstream = \"claude-opus-5\"\n\
             [gateway.models.b]\nprovider = \"p\"\nupstream = \"claude-sonnet-4-6\"\n\
             [gateway.models.c]\nprovider = \"p\"\nupstream = \"gone\"\n\
             [gateway.prices.gone]\ninput = \"1\"\noutput = \"2\"\ncontext_window = 1000\n"
        )
    }

    #[tokio::test]
    async fn a_name_that_is_not_known_there_is_told_apart_from_one_that_is_not_listed() {
        let (dir, addr) = (tempfile::tempdir().unwrap(), provider().await);
        let file = dir.path().join("key");
        std::fs::write(&file, "right\n").unwrap();
        let report = report(&configured(addr, &format!("key_file = {file:?}"))).await;
        let steps: Vec<_> = report.steps.iter().map(|step| (step.step.as_str(), step.ok)).collect();
        let expected = [
            ("resolve", true),
            ("connect", true),
            ("credential", true),
            ("accepted", true),
            ("model a", true),
            ("model b", true),
            ("model c", false),
        ];
        assert_eq!(steps, expected);
        assert!(!report.ok);
        assert_eq!(report.steps[6].fault, Some(Fault::Config));
    }

    #[tokio::test]
    async fn a_key_that_is_not_taken_or_not_there_is_our_fault_and_is_not_shown() {
        let (dir, addr) = (tempfile::tempdir().unwrap(), provider().await);
        let file = dir.path().join("key");
        std::fs::write(&file, "a-wrong-key").unwrap();
        let refused = report(&configured(addr, &format!("key_file = {file:?}"))).await;
        let last = refused.steps.last().unwrap();
        assert_eq!((last.step.as_str(), last.ok, last.fault), ("accepted", false, Some(Fault::Config)));
        assert!(last.detail.contains("invalid x-api-key"), "{last:?}");
        assert!(!format!("{refused:?}").contains("a-wrong-key"));
        std::fs::remove_file(&file).unwrap();
        let missing = report(&configured(addr, &format!("key_file = {file:?}"))).await;
        let last = missing.steps.last().unwrap();
        assert_eq!((last.step.as_str(), last.ok, last.fault), ("credential", false, Some(Fault::Config)));
    }

    #[tokio::test]
    async fn a_service_that_is_not_there_is_nobodys_fault_here() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        drop(listener);
        let report = report(&configured(addr, "key = \"none\"")).await;
        let step = report.steps.iter().find(|step| step.step == "connect").unwrap();
        assert_eq!((step.ok, step.fault), (false, Some(Fault::Outside)));
        assert!(!report.steps.iter().any(|step| step.step == "accepted"));
    }

    #[tokio::test]
    async fn a_provider_that_nobody_configured_is_named_with_those_that_are() {
        let config = RunnerConfig::new("/nowhere", "http://127.0.0.1:9", "/nowhere");
        let error = check_providers(&config, Some("nobody")).await.unwrap_err();
        assert!(error.to_string().contains("nobody"), "{error}");
    }
}
