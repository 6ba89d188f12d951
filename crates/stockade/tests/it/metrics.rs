//! `/metrics` over HTTP, as Prometheus reads it: who may, and whether all of it is in the format and true.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt as _,
};

use serde_json::json;
use stockade_api::client::GatewayClient;
use stockade_testkit::{
    Form, Installation, Options, Provider,
    provider::{INPUT_TOKENS, OUTPUT_TOKENS, says},
};

use super::{
    provider::{KEY, MODEL, configuration, key_file},
    spine::sample_in,
};

/// Status, head and body of `GET /metrics`.
fn scrape(addr: SocketAddr, token: Option<&str>) -> std::io::Result<(u16, String, String)> {
    let mut stream = TcpStream::connect(addr)?;
    let shown = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    write!(stream, "GET /metrics HTTP/1.1\r\nhost: {addr}\r\n{shown}connection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    Ok((head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_owned(), body.to_owned()))
}

/// A family: its type, and its samples by name and labels.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    samples: BTreeMap<String, f64>,
}

/// Reads the text format, version 0.0.4, and takes nothing that it does not allow.
fn read(text: &str) -> BTreeMap<String, Family> {
    assert!(text.ends_with('\n'), "the last line has no end");
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut at = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(!help.is_empty() && !families.contains_key(name), "{name} stands in two places");
            name.clone_into(&mut at);
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(name == at && ["counter", "gauge", "histogram"].contains(&kind), "{line}");
            families.insert(name.to_owned(), Family { kind: kind.to_owned(), samples: BTreeMap::new() });
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) =
            series.split_once('{').map_or((series, ""), |(name, rest)| (name, rest.strip_suffix('}').unwrap()));
        let family = families.get_mut(&at).unwrap();
        let ends: &[&str] = if family.kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        assert!(name.strip_prefix(at.as_str()).is_some_and(|end| ends.contains(&end)), "{line} stands under {at}");
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{line}");
        are_labels(labels);
        let value: f64 = value.parse().unwrap();
        assert!(value >= 0.0 && family.samples.insert(series.to_owned(), value).is_none(), "{line} is there twice");
    }
    families
}

fn are_labels(mut rest: &str) {
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"").unwrap();
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{rest}");
        let mut escaped = false;
        let end = after.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let after = after.get(end.unwrap() + 1..).unwrap();
        rest = after.strip_prefix(',').unwrap_or(after);
        assert!(rest.is_empty() || after.starts_with(','), "{after}");
    }
}

/// The buckets of a histogram grow, and the last one is the count.
fn is_whole(name: &str, family: &Family) {
    let mut last: BTreeMap<String, f64> = BTreeMap::new();
    let mut buckets: Vec<(String, f64, f64)> = Vec::new();
    for (series, value) in &family.samples {
        let Some((labels, bound)) = series.split_once("le=\"") else { continue };
        let bound = bound.trim_end_matches(['"', '}']);
        buckets.push((
            labels.trim_end_matches([',', '{']).replace("_bucket", ""),
            bound.replace("+Inf", "inf").parse().unwrap(),
            *value,
        ));
    }
    buckets.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    for (labels, _, value) in &buckets {
        let before = last.insert(labels.clone(), *value).unwrap_or(0.0);
        assert!(*value >= before, "{name}: the buckets of {labels} shrink");
    }
    for (labels, value) in last {
        let count = labels.replacen(name, &format!("{name}_count"), 1);
        let count = if count.contains('{') { format!("{count}}}") } else { count };
        assert_eq!(family.samples.get(&count), Some(&value), "{count}: {family:?}");
    }
}

#[test]
fn prometheus_reads_what_calls_there_were_and_nobody_without_the_token_does() {
    let provider = Provider::start(KEY, vec![vec![says("a word of the model")]]).unwrap();
    let (_folder, line) = key_file(KEY);
    let options = Options { config: configuration(&provider, &line), ..Options::default() };
    let installation = Installation::start(Form::OneProcess, options).unwrap();
    let _repository = sample_in(&installation, "2");
    let file = installation.folder().join("gateway-token");
    installation.json(&["token", "create", "t", "--project", "word-count", "--out", &file.to_string_lossy()]).unwrap();
    let token = fs::read_to_string(&file).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let gateway = GatewayClient::new(&format!("http://{}", installation.site_addr()), token.clone().into()).unwrap();
    let ask = |model: &str| {
        let body = json!({"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]});
        runtime.block_on(gateway.post("anthropic/v1/messages", &body)).unwrap().0
    };
    installation.until("an answer", |_| (ask(MODEL) == 200).then_some(())).unwrap();
    assert_eq!((ask(MODEL), ask("no-such \"model\"")), (200, 400));

    let of = installation.data().join("runner/metrics.token");
    assert_eq!(fs::metadata(&of).unwrap().permissions().mode() & 0o777, 0o600);
    let shown = fs::read_to_string(&of).unwrap();
    for wrong in [None, Some(""), Some("x"), Some(token.as_str())] {
        let (status, _, body) = scrape(installation.site_addr(), wrong).unwrap();
        assert!(status == 401 && !body.contains("stockade_gateway"), "{wrong:?}: {body}");
    }

    // A call is counted when all of its answer has been seen, which may be a moment after the client has it.
    let families = installation
        .until("both calls in the numbers", |i| {
            let (status, head, body) = scrape(i.site_addr(), Some(shown.trim())).ok()?;
            assert!(status == 200 && head.contains("text/plain; version=0.0.4"), "{head}");
            let families = read(&body);
            let ended = families.get("stockade_gateway_calls_total")?.samples.values().sum::<f64>();
            (ended >= 2.0).then_some(families)
        })
        .unwrap();
    let labels = format!("provider=\"anthropic\",model=\"{MODEL}\",operation=\"chat\"");
    let value = |family: &str, series: &str| families[family].samples[series];
    let calls = format!("stockade_gateway_calls_total{{{labels},outcome=\"ok\"}}");
    assert_eq!(value("stockade_gateway_calls_total", &calls), 2.0);
    let tokens = |kind: &str| {
        value("stockade_gateway_tokens_total", &format!("stockade_gateway_tokens_total{{{labels},type=\"{kind}\"}}"))
    };
    assert_eq!((tokens("input"), tokens("output")), (2.0 * INPUT_TOKENS as f64, 2.0 * OUTPUT_TOKENS as f64));
    let cost = format!("stockade_gateway_cost_dollars_total{{{labels}}}");
    assert_eq!(value("stockade_gateway_cost_dollars_total", &cost), 2.0 * 0.0045);
    assert_eq!(value("stockade_gateway_refused_total", "stockade_gateway_refused_total{reason=\"model\"}"), 1.0);
    for name in [
        "stockade_gateway_open_streams",
        "stockade_gateway_places_taken",
        "stockade_spool_full",
        "stockade_server_away",
    ] {
        assert_eq!(value(name, name), 0.0, "{name}");
    }
    let histograms: Vec<_> = families.iter().filter(|(_, family)| family.kind == "histogram").collect();
    assert_eq!(histograms.len(), 3, "{families:?}");
    for (name, family) in histograms {
        is_whole(name, family);
    }
}
