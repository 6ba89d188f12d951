//! OTLP over HTTP in its JSON form (OpenTelemetry protocol 1.x): numbers and spans of calls, with the names of the GenAI conventions.
//!
//! Written here and not taken from the SDK: that brings a dozen crates, a second set of counters beside ours and threads with
//! clocks of their own, for two bodies of fixed form. A trace is the call's id, so that what a collector shows is found in the ledger.

use serde_json::{Value, json};
use stockade_domain::{Timestamp, ids::ModelCallId};

use super::{Books, CallFacts, Key, Metrics, histogram::Histogram, lock};

/// Whose numbers these are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// `service.version`.
    pub version: &'static str,
    /// `service.instance.id`: which runner.
    pub instance: String,
    /// When the process started: since then is counted.
    pub since: Timestamp,
}

/// A client's own span (W3C Trace Context, `traceparent`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    trace: u128,
    span: u64,
    sampled: bool,
}

impl TraceParent {
    /// Reads the header. Nothing if it is none of version 00, or names nothing.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if version != "00" || parts.next().is_some() || (trace.len(), span.len(), flags.len()) != (32, 16, 2) {
            return None;
        }
        let hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !hex(trace) || !hex(span) || !hex(flags) {
            return None;
        }
        let trace = u128::from_str_radix(trace, 16).ok().filter(|trace| *trace != 0)?;
        let span = u64::from_str_radix(span, 16).ok().filter(|span| *span != 0)?;
        let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        Some(Self { trace, span, sampled })
    }
}

/// A call as a span.
#[derive(Debug, Clone, PartialEq)]
pub struct Span(Value);

impl Span {
    pub(super) fn of(facts: &CallFacts<'_>) -> Self {
        let (trace, own) = ids(facts.call);
        let mut attributes = vec![
            text("gen_ai.operation.name", facts.operation),
            text("gen_ai.provider.name", provider(facts.kind)),
            text("gen_ai.request.model", facts.asked),
            text("gen_ai.response.model", facts.model),
            text("stockade.call", &facts.call.to_string()),
            text("stockade.provider", facts.provider),
            text("stockade.dialect", facts.dialect),
            text("stockade.outcome", facts.outcome),
            json!({"key": "gen_ai.request.stream", "value": {"boolValue": facts.stream}}),
            number("stockade.cost_nanodollars", facts.cost.0),
        ];
        let usage = facts.usage;
        let cache_write = usage.cache_write_5m_tokens.saturating_add(usage.cache_write_1h_tokens);
        let read = usage.input_tokens.saturating_add(usage.cache_read_tokens).saturating_add(cache_write);
        for (key, tokens) in [
            ("gen_ai.usage.input_tokens", read),
            ("gen_ai.usage.output_tokens", usage.output_tokens),
            ("gen_ai.usage.cache_read.input_tokens", usage.cache_read_tokens),
            ("gen_ai.usage.cache_creation.input_tokens", cache_write),
        ] {
            attributes.push(number(key, i64::try_from(tokens).unwrap_or(i64::MAX)));
        }
        if let Some(reason) = facts.stop_reason {
            let values = json!([{"stringValue": reason}]);
            attributes
                .push(json!({"key": "gen_ai.response.finish_reasons", "value": {"arrayValue": {"values": values}}}));
        }
        if let Some(status) = facts.status {
            attributes.push(number("http.response.status_code", i64::from(status)));
        }
        let failed = facts.outcome != "ok";
        if failed {
            attributes.push(text("error.type", facts.outcome));
        }
        let mut events = Vec::new();
        if let Some(first) = facts.first_byte {
            events.push(json!({"timeUnixNano": nanos(first), "name": "first_byte"}));
        }
        let parent = facts.parent.filter(|parent| parent.sampled);
        let mut span = json!({
            "traceId": parent.map_or(trace, |parent| format!("{:032x}", parent.trace)),
            "spanId": own,
            "name": format!("{} {}", facts.operation, facts.model),
            "kind": 3,
            "startTimeUnixNano": nanos(facts.started),
            "endTimeUnixNano": nanos(facts.ended),
            "attributes": attributes,
            "events": events,
            "status": if failed { json!({"code": 2, "message": facts.outcome}) } else { json!({}) },
        });
        if let (Some(parent), Some(object)) = (parent, span.as_object_mut()) {
            object.insert("parentSpanId".to_owned(), format!("{:016x}", parent.span).into());
        }
        Self(span)
    }
}

/// A call's id as the ids of its trace and its span.
fn ids(call: ModelCallId) -> (String, String) {
    let number = u128::from_be_bytes(*call.as_bytes());
    (format!("{number:032x}"), format!("{:016x}", number & u128::from(u64::MAX)))
}

/// The conventions' word for a kind of provider.
fn provider(kind: &'static str) -> &'static str {
    match kind {
        "azure" => "azure.ai.openai",
        "gemini" => "gcp.gemini",
        "vertex" => "gcp.vertex_ai",
        "bedrock" => "aws.bedrock",
        "openai-compatible" => "openai",
        other => other,
    }
}

fn text(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

/// Whole numbers of 64 bits are texts in this form.
fn number(key: &str, value: i64) -> Value {
    json!({"key": key, "value": {"intValue": value.to_string()}})
}

fn nanos(time: Timestamp) -> String {
    u128::from(time.0.max(0).unsigned_abs()).saturating_mul(1_000).to_string()
}

fn resource(resource: &Resource) -> Value {
    json!({"attributes": [
        text("service.name", "stockade-gateway"),
        text("service.version", resource.version),
        text("service.instance.id", &resource.instance),
    ]})
}

fn scope(of: &Resource) -> Value {
    json!({"name": "stockade.gateway", "version": of.version})
}

/// The body for `/v1/traces`.
#[must_use]
pub fn traces_body(spans: &[Span], of: &Resource) -> Vec<u8> {
    let spans: Vec<&Value> = spans.iter().map(|Span(span)| span).collect();
    json!({"resourceSpans": [{"resource": resource(of), "scopeSpans": [{"scope": scope(of), "spans": spans}]}]})
        .to_string()
        .into_bytes()
}

/// The body for `/v1/metrics`: everything since the process started.
#[must_use]
pub fn metrics_body(metrics: &Metrics, of: &Resource, now: Timestamp) -> Vec<u8> {
    let times = |mut point: Value| {
        if let Some(object) = point.as_object_mut() {
            object.insert("startTimeUnixNano".to_owned(), nanos(of.since).into());
            object.insert("timeUnixNano".to_owned(), nanos(now).into());
        }
        point
    };
    let books = lock(&metrics.inner.books);
    let mut all = genai(&books);
    all.push(sum("stockade.gateway.cost", "n{USD}", "What calls cost, in billionths of a dollar.", {
        let point = |(key, series): (&Key, &super::Series)| {
            json!({"attributes": attributes(key, &[]), "asInt": series.cost.0.to_string()})
        };
        books.series.iter().map(point).collect()
    }));
    all.push(sum("stockade.gateway.refused", "{call}", "Calls that were not made.", {
        let point = |(reason, count): (&&str, &u64)| {
            json!({"attributes": [text("reason", reason)], "asInt": count.to_string()})
        };
        books.refused.iter().map(point).collect()
    }));
    drop(books);
    for metric in &mut all {
        for form in ["histogram", "sum"] {
            let points = metric.get_mut(form).and_then(|form| form.get_mut("dataPoints")).and_then(Value::as_array_mut);
            for point in points.into_iter().flatten() {
                *point = times(point.take());
            }
        }
    }
    json!({"resourceMetrics": [{"resource": resource(of), "scopeMetrics": [{"scope": scope(of), "metrics": all}]}]})
        .to_string()
        .into_bytes()
}

fn genai(books: &Books) -> Vec<Value> {
    let (mut whole, mut first, mut tokens) = (Vec::new(), Vec::new(), Vec::new());
    for (key, series) in &books.series {
        for (outcome, histogram) in &series.whole {
            let error = (*outcome != "ok").then(|| text("error.type", outcome));
            whole.push(point(histogram, 1e6, attributes(key, error.as_slice())));
        }
        if series.first.count() > 0 {
            first.push(point(&series.first, 1e6, attributes(key, &[])));
        }
        for (kind, histogram) in [("input", &series.read), ("output", &series.written)] {
            if histogram.count() > 0 {
                tokens.push(point(histogram, 1.0, attributes(key, &[text("gen_ai.token.type", kind)])));
            }
        }
    }
    let metric = |name: &str, unit: &str, description: &str, points: Vec<Value>| {
        let form = json!({"aggregationTemporality": 2, "dataPoints": points});
        json!({"name": name, "unit": unit, "description": description, "histogram": form})
    };
    vec![
        metric("gen_ai.client.operation.duration", "s", "Duration of calls.", whole),
        metric("gen_ai.server.time_to_first_token", "s", "Time to the first byte of the answer.", first),
        metric("gen_ai.client.token.usage", "{token}", "Tokens that calls used.", tokens),
    ]
}

fn sum(name: &str, unit: &str, description: &str, points: Vec<Value>) -> Value {
    let form = json!({"aggregationTemporality": 2, "isMonotonic": true, "dataPoints": points});
    json!({"name": name, "unit": unit, "description": description, "sum": form})
}

fn attributes(key: &Key, more: &[Value]) -> Vec<Value> {
    let mut all = vec![
        text("gen_ai.operation.name", key.operation),
        text("gen_ai.provider.name", provider(key.kind)),
        text("gen_ai.request.model", &key.model),
        text("stockade.provider", &key.provider),
    ];
    all.extend_from_slice(more);
    all
}

#[expect(clippy::cast_precision_loss, reason = "the protocol says sums and bounds in floating point")]
fn point<const KIND: usize>(histogram: &Histogram<KIND>, unit: f64, attributes: Vec<Value>) -> Value {
    let bounds: Vec<f64> = Histogram::<KIND>::bounds().iter().map(|bound| *bound as f64 / unit).collect();
    let counts: Vec<String> = histogram.buckets().iter().map(u64::to_string).collect();
    json!({
        "attributes": attributes,
        "count": histogram.count().to_string(),
        "sum": histogram.sum() as f64 / unit,
        "bucketCounts": counts,
        "explicitBounds": bounds,
    })
}
