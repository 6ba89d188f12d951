//! Prometheus' text format, version 0.0.4.
//!
//! Numbers are written from integers, never through floating point: what is added up elsewhere comes out the same there.

use std::fmt::Write as _;

use super::{Books, Metrics, histogram::Histogram, lock};
use std::sync::atomic::Ordering;

/// The `content-type` of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A number that somebody else knows, as it is at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gauge {
    /// Its name.
    pub name: &'static str,
    /// What it says.
    pub help: &'static str,
    /// What it is told apart by.
    pub labels: Vec<(&'static str, String)>,
    /// How much.
    pub value: i64,
}

/// All numbers. `gauges` of one name stand one after the other.
#[must_use]
pub fn text(metrics: &Metrics, gauges: &[Gauge]) -> String {
    let mut out = String::with_capacity(16 * 1024);
    calls(&mut out, &lock(&metrics.inner.books));
    let streams = metrics.inner.open_streams.load(Ordering::Relaxed);
    family(&mut out, "stockade_gateway_open_streams", "gauge", "Streams that are open.");
    line(&mut out, "stockade_gateway_open_streams", &[], &streams.to_string());
    let top_ups = metrics.inner.top_ups.load(Ordering::Relaxed);
    family(&mut out, "stockade_gateway_top_ups_total", "counter", "Times that a stream took more of its budget.");
    line(&mut out, "stockade_gateway_top_ups_total", &[], &top_ups.to_string());
    let dropped = lock(&metrics.inner.spans).dropped;
    family(&mut out, "stockade_telemetry_spans_dropped_total", "counter", "Spans that no collector took in time.");
    line(&mut out, "stockade_telemetry_spans_dropped_total", &[], &dropped.to_string());
    let mut last = "";
    for gauge in gauges {
        if gauge.name != last {
            family(&mut out, gauge.name, "gauge", gauge.help);
            last = gauge.name;
        }
        let labels: Vec<(&str, &str)> = gauge.labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
        line(&mut out, gauge.name, &labels, &gauge.value.to_string());
    }
    out
}

fn calls(out: &mut String, books: &Books) {
    let labels = |key: &super::Key| {
        [
            ("provider", key.provider.to_string()),
            ("model", key.model.to_string()),
            ("operation", key.operation.to_owned()),
        ]
    };
    let borrowed = |labels: &[(&'static str, String); 3]| -> Vec<(&'static str, String)> { labels.to_vec() };
    let with = |out: &mut String, name: &str, labels: &[(&'static str, String)], value: &str| {
        let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
        line(out, name, &labels, value);
    };

    family(out, "stockade_gateway_calls_total", "counter", "Calls that were made, by how they ended.");
    for (key, series) in &books.series {
        for (outcome, count) in &series.outcomes {
            let mut labels = borrowed(&labels(key));
            labels.push(("outcome", (*outcome).to_owned()));
            with(out, "stockade_gateway_calls_total", &labels, &count.to_string());
        }
    }
    family(out, "stockade_gateway_tokens_total", "counter", "Tokens that were used. `input` is without the cache's.");
    for (key, series) in &books.series {
        for (kind, count) in ["input", "output", "cache_read", "cache_write"].into_iter().zip(series.tokens) {
            let mut labels = borrowed(&labels(key));
            labels.push(("type", kind.to_owned()));
            with(out, "stockade_gateway_tokens_total", &labels, &count.to_string());
        }
    }
    family(out, "stockade_gateway_cost_dollars_total", "counter", "What calls cost.");
    for (key, series) in &books.series {
        let nanos = series.cost.0.max(0).unsigned_abs();
        with(out, "stockade_gateway_cost_dollars_total", &labels(key), &decimal(nanos, 9));
    }
    family(out, "stockade_gateway_call_seconds", "histogram", "From sending to the end of the answer.");
    for (key, series) in &books.series {
        for (outcome, histogram) in &series.whole {
            let mut labels = borrowed(&labels(key));
            labels.push(("outcome", (*outcome).to_owned()));
            seconds(out, "stockade_gateway_call_seconds", &labels, histogram);
        }
    }
    family(out, "stockade_gateway_first_byte_seconds", "histogram", "From sending to the first byte of the answer.");
    for (key, series) in &books.series {
        seconds(out, "stockade_gateway_first_byte_seconds", &labels(key), &series.first);
    }
    let help = "What the gateway takes before a call is sent: policy, budget, record.";
    family(out, "stockade_gateway_added_seconds", "histogram", help);
    seconds(out, "stockade_gateway_added_seconds", &[], &books.added);
    family(out, "stockade_gateway_refused_total", "counter", "Calls that were not made, by reason.");
    for (reason, count) in &books.refused {
        line(out, "stockade_gateway_refused_total", &[("reason", reason)], &count.to_string());
    }
}

fn family(out: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a `String` does not fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(out: &mut String, name: &str, labels: &[(&str, &str)], value: &str) {
    out.push_str(name);
    for (at, (label, text)) in labels.iter().enumerate() {
        out.push(if at == 0 { '{' } else { ',' });
        out.push_str(label);
        out.push_str("=\"");
        for char in text.chars() {
            match char {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                other => out.push(other),
            }
        }
        out.push('"');
    }
    out.push_str(if labels.is_empty() { " " } else { "} " });
    out.push_str(value);
    out.push('\n');
}

/// A histogram of microseconds, as seconds.
fn seconds<const KIND: usize>(
    out: &mut String,
    name: &str,
    labels: &[(&'static str, String)],
    histogram: &Histogram<KIND>,
) {
    let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut below = 0;
    for (at, count) in histogram.buckets().iter().enumerate() {
        below += count;
        let bound = Histogram::<KIND>::bounds().get(at).map_or_else(|| "+Inf".to_owned(), |us| decimal(*us, 6));
        let mut labels = labels.clone();
        labels.push(("le", &bound));
        line(out, &format!("{name}_bucket"), &labels, &below.to_string());
    }
    line(out, &format!("{name}_sum"), &labels, &decimal(histogram.sum(), 6));
    line(out, &format!("{name}_count"), &labels, &histogram.count().to_string());
}

/// So many parts of ten to the power of `places`, as a decimal number.
fn decimal(value: u64, places: usize) -> String {
    let digits = format!("{value:0width$}", width = places + 1);
    let (whole, part) = digits.split_at(digits.len() - places);
    let part = part.trim_end_matches('0');
    if part.is_empty() { whole.to_owned() } else { format!("{whole}.{part}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_exact() {
        let all: Vec<_> = [(0, 9), (1, 9), (1_500_000_000, 9), (u64::MAX, 6), (10_000, 6)]
            .map(|(value, places)| decimal(value, places))
            .into_iter()
            .collect();
        assert_eq!(all, ["0", "0.000000001", "1.5", "18446744073709.551615", "0.01"]);
    }
}
