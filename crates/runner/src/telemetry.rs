//! What operators' collectors are told: `GET /metrics` for Prometheus, and OTLP over HTTP to where the configuration says.
//!
//! `/metrics` always wants a token. That somebody asks from loopback proves nothing here: reverse proxies, port forwards and the
//! way of an environment to the gateway end at loopback too, and names of models and what they cost are not for the governed. The
//! token is in `metrics.token` in the data folder, which Prometheus reads with `authorization.credentials_file`.
//!
//! It refuses to hold anything up: what a collector does not take in time is dropped and counted.

use std::{path::PathBuf, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use stockade_domain::World;
use stockade_gateway::metrics::{self, Gauge, Resource};
use tokio_util::sync::CancellationToken;

use crate::{RunnerError, error::chain, files, site::Site};

/// The file in the data folder that holds the token for `/metrics`.
pub const TOKEN_FILE: &str = "metrics.token";
/// Spans that travel at once.
const SPANS_AT_ONCE: usize = 512;
/// How long a collector may take.
const COLLECTOR_TIME: Duration = Duration::from_secs(10);
/// The largest file with headers, in bytes.
const MAX_HEADERS: u64 = 16 * 1024;

/// `[telemetry]` of a site's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// Where an OTLP collector listens for HTTP, for example `http://127.0.0.1:4318`; `/v1/metrics` and `/v1/traces` are
    /// added. Absent: nobody is told anything.
    pub otlp_endpoint: Option<String>,
    /// A file with headers for it, one `name: value` a line, read again each time: for collectors that want a key.
    pub otlp_headers_file: Option<PathBuf>,
    /// How often, in seconds: 1 to 3600.
    pub interval_s: u64,
    /// Whether calls are told as spans, besides the numbers.
    pub traces: bool,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { otlp_endpoint: None, otlp_headers_file: None, interval_s: 15, traces: true }
    }
}

impl Telemetry {
    /// Whether it can be meant.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check(&self) -> Result<(), RunnerError> {
        let wrong = |what: &str, hint: &str| Err(RunnerError::Config { what: what.to_owned(), hint: hint.to_owned() });
        if !(1..=3_600).contains(&self.interval_s) {
            return wrong(
                "telemetry.interval_s is not between 1 and 3600",
                "say how many seconds lie between two reports",
            );
        }
        let url = self.otlp_endpoint.as_deref().map(url::Url::parse);
        match url {
            Some(Ok(url)) if !url.username().is_empty() || url.password().is_some() => wrong(
                "telemetry.otlp_endpoint: a name or a password does not belong into an address",
                "put a header into a file and name it with otlp_headers_file",
            ),
            Some(Ok(url)) if matches!(url.scheme(), "http" | "https") && url.host().is_some() => Ok(()),
            None => Ok(()),
            Some(_) => wrong("telemetry.otlp_endpoint is no URL", "write it like http://127.0.0.1:4318"),
        }
    }
}

/// The token for `/metrics`, made if there is none.
pub fn token(data: &std::path::Path, world: &dyn World) -> Result<SecretString, RunnerError> {
    let path = data.join(TOKEN_FILE);
    let known = files::read_if_there(&path).map_err(RunnerError::file("read", &path))?;
    if let Some(text) = known.and_then(|bytes| String::from_utf8(bytes).ok()).filter(|text| text.trim().len() >= 32) {
        return Ok(SecretString::from(text.trim()));
    }
    let mut random = [0; 32];
    world.random(&mut random);
    let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    files::replace(&path, format!("{text}\n").as_bytes()).map_err(RunnerError::file("write", &path))?;
    Ok(SecretString::from(text))
}

/// The route for Prometheus.
pub fn router(site: Arc<Site>) -> Router {
    Router::new().route("/metrics", get(scraped)).with_state(site)
}

/// `GET /metrics`
async fn scraped(State(site): State<Arc<Site>>, headers: HeaderMap) -> Response {
    let shown = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .unwrap_or_default();
    let known = site.metrics_token.expose_secret().as_bytes();
    if aws_lc_rs::constant_time::verify_slices_are_equal(shown.trim().as_bytes(), known).is_err() {
        let text = "the token is in `metrics.token` in the runner's data folder: authorization: Bearer TOKEN\n";
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], text).into_response();
    }
    let text = metrics::text(site.gateway.metrics(), &gauges(&site));
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

fn gauges(site: &Site) -> Vec<Gauge> {
    let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let gauge = |name, help, value| Gauge { name, help, labels: vec![], value };
    let away = i64::from(site.link.away().borrow().is_some());
    let mut gauges = site.gateway.gauges();
    let waiting = whole(site.desk.spool.waiting());
    gauges.push(gauge("stockade_spool_entries_waiting", "Entries that wait for the server.", waiting));
    let help = "Whether new deeds stand still because the spool is full.";
    gauges.push(gauge("stockade_spool_full", help, i64::from(site.desk.spool.room().is_err())));
    gauges.push(gauge("stockade_server_away", "Whether the server cannot be reached.", away));
    gauges
}

/// Tells the collector, every so often, until `stop`; then once more.
pub async fn run(site: Arc<Site>, stop: CancellationToken) {
    let of = site.config.telemetry.clone();
    let Some(endpoint) = of.otlp_endpoint.clone() else { return };
    let endpoint = endpoint.trim_end_matches('/').to_owned();
    let client = reqwest::Client::builder().timeout(COLLECTOR_TIME).redirect(reqwest::redirect::Policy::none()).build();
    let client = match client {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(why = chain(&error), "no collector is told anything: no HTTP client can be made");
            return;
        }
    };
    let resource = Resource {
        version: env!("CARGO_PKG_VERSION"),
        instance: site.identity.runner.to_string(),
        since: site.world().now(),
    };
    if of.traces {
        site.gateway.metrics().want_spans();
    }
    let teller = Teller { client, endpoint, of, resource };
    let mut well = true;
    loop {
        let over = tokio::time::timeout(Duration::from_secs(teller.of.interval_s), stop.cancelled()).await.is_ok();
        match (teller.tell(&site).await, well) {
            (Ok(()), false) => {
                tracing::info!(endpoint = teller.endpoint, "the collector takes what it is told again");
                well = true;
            }
            (Err(why), true) => {
                tracing::warn!(endpoint = teller.endpoint, why, "the collector does not take what it is told: {why}");
                well = false;
            }
            _ => {}
        }
        if over {
            return;
        }
    }
}

struct Teller {
    client: reqwest::Client,
    endpoint: String,
    of: Telemetry,
    resource: Resource,
}

impl Teller {
    async fn tell(&self, site: &Site) -> Result<(), String> {
        let metrics = site.gateway.metrics();
        let headers = self.headers()?;
        let mut failed = None;
        loop {
            let spans = metrics.take_spans(SPANS_AT_ONCE);
            if spans.is_empty() {
                break;
            }
            let body = metrics::traces_body(&spans, &self.resource);
            if let Err(why) = self.post("/v1/traces", body, headers.clone()).await {
                metrics.lost_spans(spans.len());
                failed = Some(why);
                break;
            }
        }
        let body = metrics::metrics_body(metrics, &self.resource, site.world().now());
        self.post("/v1/metrics", body, headers).await?;
        failed.map_or(Ok(()), Err)
    }

    async fn post(&self, path: &str, body: Vec<u8>, headers: HeaderMap) -> Result<(), String> {
        let asked = self
            .client
            .post(format!("{}{path}", self.endpoint))
            .headers(headers)
            .header(header::CONTENT_TYPE, "application/json")
            .body(body);
        let answer = asked.send().await.map_err(|error| chain(&error))?;
        if answer.status().is_success() { Ok(()) } else { Err(format!("{path}: status {}", answer.status())) }
    }

    fn headers(&self) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        let Some(path) = &self.of.otlp_headers_file else { return Ok(headers) };
        let unreadable = |why: &dyn std::fmt::Display| format!("the headers in {} do not read: {why}", path.display());
        let about = std::fs::metadata(path).map_err(|error| unreadable(&error))?;
        if about.len() > MAX_HEADERS {
            return Err(unreadable(&"the file is too large"));
        }
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(&error))?;
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let (name, value) = line.split_once(':').ok_or_else(|| unreadable(&"expected `name: value`"))?;
            let name: HeaderName = name.trim().parse().map_err(|_| unreadable(&"a name is none"))?;
            let mut value = HeaderValue::try_from(value.trim()).map_err(|_| unreadable(&"a value is none"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(headers)
    }
}

#[cfg(test)]
mod tests {
    use stockade_ledger::SystemWorld;

    use super::*;

    #[test]
    fn the_token_is_made_once_and_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let first = token(dir.path(), &SystemWorld).unwrap();
        let again = token(dir.path(), &SystemWorld).unwrap();
        assert_eq!(first.expose_secret(), again.expose_secret());
        assert!(first.expose_secret().len() >= 64);
        let about = std::fs::metadata(dir.path().join(TOKEN_FILE)).unwrap();
        assert_eq!(about.permissions().mode() & 0o777, 0o600);
        std::fs::write(dir.path().join(TOKEN_FILE), "short").unwrap();
        assert_ne!(token(dir.path(), &SystemWorld).unwrap().expose_secret(), "short");
    }

    #[test]
    fn what_is_wrong_with_a_configuration_is_named() {
        let check = |text: &str| toml::from_str::<Telemetry>(text).unwrap().check();
        assert!(check("").is_ok());
        assert!(check("otlp_endpoint = \"http://127.0.0.1:4318\"").is_ok());
        assert!(check("otlp_endpoint = \"127.0.0.1\"").unwrap_err().to_string().contains("otlp_endpoint"));
        let secret = check("otlp_endpoint = \"https://u:SECRET@x.example\"").unwrap_err().to_string();
        assert!(secret.contains("otlp_headers_file") && !secret.contains("SECRET"), "{secret}");
        assert!(check("interval_s = 0").unwrap_err().to_string().contains("interval_s"));
        assert!(toml::from_str::<Telemetry>("surprise = 1").is_err());
    }
}
