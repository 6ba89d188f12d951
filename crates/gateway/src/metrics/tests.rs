//! What is told to collectors, and that names which clients invent fill no memory.

use proptest::prelude::*;

use super::*;

fn facts(model: &str) -> CallFacts<'_> {
    CallFacts {
        call: ModelCallId::from_parts(1_700_000_000_000, [7; 10]),
        operation: "chat",
        provider: "main",
        kind: "bedrock",
        asked: "sonnet",
        model,
        dialect: "messages",
        stream: true,
        outcome: "ok",
        status: Some(200),
        usage: Usage { input_tokens: 10, output_tokens: 20, cache_read_tokens: 300, ..Usage::default() },
        cost: Nanos(1_500_000_001),
        started: Timestamp(1_000_000),
        sent: Some(Timestamp(1_000_200)),
        first_byte: Some(Timestamp(1_020_200)),
        ended: Timestamp(2_000_200),
        stop_reason: Some("end_turn"),
        parent: None,
    }
}

fn resource() -> Resource {
    Resource { version: "1", instance: "runner_1".to_owned(), since: Timestamp(5) }
}

#[test]
fn a_call_is_counted_once_everywhere() {
    let metrics = Metrics::default();
    metrics.call(&facts("a\"b\\c\nd"));
    metrics.refused("budget");
    metrics.topped_up();
    let open = metrics.stream();
    let gauge = |key: &str, value| Gauge {
        name: "stockade_gateway_breaker_state",
        help: "Zero.",
        labels: vec![("key", key.to_owned())],
        value,
    };
    let text = text(&metrics, &[gauge("0", 0), gauge("1", 2)]);
    let of = "provider=\"main\",model=\"a\\\"b\\\\c\\nd\",operation=\"chat\"";
    for line in [
        format!("stockade_gateway_calls_total{{{of},outcome=\"ok\"}} 1\n"),
        format!("stockade_gateway_tokens_total{{{of},type=\"cache_read\"}} 300\n"),
        format!("stockade_gateway_cost_dollars_total{{{of}}} 1.500000001\n"),
        format!("stockade_gateway_call_seconds_bucket{{{of},outcome=\"ok\",le=\"0.64\"}} 0\n"),
        format!("stockade_gateway_call_seconds_bucket{{{of},outcome=\"ok\",le=\"1.28\"}} 1\n"),
        format!("stockade_gateway_call_seconds_sum{{{of},outcome=\"ok\"}} 1\n"),
        format!("stockade_gateway_first_byte_seconds_bucket{{{of},le=\"0.02\"}} 1\n"),
        format!("stockade_gateway_first_byte_seconds_bucket{{{of},le=\"+Inf\"}} 1\n"),
        "stockade_gateway_added_seconds_sum 0.0002\n".to_owned(),
        "stockade_gateway_refused_total{reason=\"budget\"} 1\n".to_owned(),
        "stockade_gateway_open_streams 1\n".to_owned(),
        "stockade_gateway_top_ups_total 1\n".to_owned(),
        "stockade_gateway_breaker_state{key=\"1\"} 2\n".to_owned(),
    ] {
        assert!(text.contains(&line), "{line}\n{text}");
    }
    assert_eq!(text.matches("# TYPE stockade_gateway_breaker_state gauge\n").count(), 1);
    drop(open);
    assert!(super::text(&metrics, &[]).contains("stockade_gateway_open_streams 0\n"));
}

#[test]
fn the_names_are_those_of_the_genai_conventions() {
    let metrics = Metrics::default();
    metrics.want_spans();
    metrics.call(&facts("claude"));
    metrics.call(&CallFacts { outcome: "overloaded", stop_reason: None, first_byte: None, ..facts("claude") });
    let spans = metrics.take_spans(10);
    let traces: serde_json::Value = serde_json::from_slice(&traces_body(&spans, &resource())).unwrap();
    insta::assert_json_snapshot!("traces", traces);
    let body = metrics_body(&metrics, &resource(), Timestamp(9_000_000));
    let metrics: serde_json::Value = serde_json::from_slice(&body).unwrap();
    insta::assert_json_snapshot!("metrics", metrics);
}

#[test]
fn spans_wait_only_if_wanted_and_only_so_many() {
    let metrics = Metrics::default();
    metrics.call(&facts("m"));
    assert!(metrics.take_spans(usize::MAX).is_empty());
    metrics.want_spans();
    for _ in 0..MAX_SPANS + 3 {
        metrics.call(&facts("m"));
    }
    assert!(text(&metrics, &[]).contains("stockade_telemetry_spans_dropped_total 3\n"));
    assert_eq!(metrics.take_spans(500).len(), 500);
    assert_eq!(metrics.take_spans(usize::MAX).len(), MAX_SPANS - 500);
}

#[test]
fn names_that_clients_invent_fill_no_memory() {
    let metrics = Metrics::default();
    for n in 0..MAX_SERIES + 50 {
        metrics.call(&facts(&format!("m{n:04}")));
    }
    assert!(lock(&metrics.inner.books).series.len() <= MAX_SERIES + 1);
    let text = text(&metrics, &[]);
    let other = "provider=\"main\",model=\"other\",operation=\"chat\",outcome=\"ok\"";
    assert!(text.contains(&format!("stockade_gateway_calls_total{{{other}}} 50\n")));
}

#[test]
fn a_clients_own_span_is_the_parent() {
    let parent = TraceParent::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let metrics = Metrics::default();
    metrics.want_spans();
    metrics.call(&CallFacts { parent, ..facts("m") });
    let body = String::from_utf8(traces_body(&metrics.take_spans(1), &resource())).unwrap();
    assert!(body.contains("\"traceId\":\"4bf92f3577b34da6a3ce929d0e0e4736\""));
    assert!(body.contains("\"parentSpanId\":\"00f067aa0ba902b7\""));
    for wrong in [
        "",
        "00-0-0-0",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
    ] {
        assert_eq!(TraceParent::parse(wrong), None, "{wrong}");
    }
}

proptest! {
    #[test]
    fn no_header_makes_the_reading_of_a_parent_fail(text in ".{0,80}") {
        let _ = TraceParent::parse(&text);
    }

    #[test]
    fn a_histogram_counts_everything_in_its_place(values in proptest::collection::vec(0..100_000_000_u64, 0..50)) {
        let mut histogram = Histogram::<WHOLE>::default();
        values.iter().for_each(|value| histogram.add(*value));
        prop_assert_eq!(histogram.count(), values.len() as u64);
        prop_assert_eq!(histogram.sum(), values.iter().sum::<u64>());
        let mut below = 0;
        for (bound, count) in Histogram::<WHOLE>::bounds().iter().zip(histogram.buckets()) {
            below += count;
            prop_assert_eq!(below, values.iter().filter(|value| *value <= bound).count() as u64);
        }
    }
}
