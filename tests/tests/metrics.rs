//! What `/metrics` says of a broker that works, and that it says it without being asked who wants to know.

use tidings_core::codec::{ReasonCode, Version};
use tidings_core::message::QoS;
use tidings_tests::{Api, RawClient, TidingsOptions, TidingsProcess, clean, persistent};

/// The value of a sample, with its labels as they are written.
fn sample(text: &str, name: &str) -> Option<f64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.parse().ok()
}

fn is_at_least(text: &str, name: &str, value: f64) -> bool {
    sample(text, name).is_some_and(|found| found >= value)
}

#[test]
fn the_way_of_a_message_is_timed_at_each_door_and_the_journal_tells_how_it_does() {
    let broker = TidingsOptions::new().set("server.shards", 2).start();
    let api = Api::new(&broker);
    let mut reader = RawClient::connect(broker.ws(), &clean(Version::V5, "reader"));
    reader.subscribe("free/#", QoS::AtLeastOnce);
    let mut away = RawClient::connect(broker.tcp(), &persistent(Version::V5, "away"));
    away.subscribe("kept/#", QoS::AtLeastOnce);
    away.disconnect();
    let mut writer = RawClient::connect(broker.tcp(), &clean(Version::V5, "writer"));
    for _ in 0..3 {
        writer.publish("free/one", "live", QoS::AtLeastOnce);
        assert_eq!(&*reader.receive().payload, b"live");
        writer.publish("kept/one", "stored", QoS::AtLeastOnce);
    }
    let text = api.get_until("/metrics", |text| {
        is_at_least(
            text,
            r#"tidings_publish_acknowledged_seconds_count{door="tcp"}"#,
            2.0,
        ) && is_at_least(
            text,
            r#"tidings_publish_delivered_seconds_count{door="ws"}"#,
            1.0,
        ) && is_at_least(text, "tidings_sessions_offline", 1.0)
            && is_at_least(text, r#"tidings_connections_by_door{door="ws"}"#, 1.0)
    });
    for (name, at_least) in [
        ("tidings_journal_sync_seconds_count", 1.0),
        ("tidings_journal_sync_seconds_sum", 0.000_001),
        ("tidings_journal_batch_entries_sum", 3.0),
        ("tidings_journal_batch_bytes_sum", 18.0),
        ("tidings_journal_segments", 1.0),
        ("tidings_journal_stored_bytes", 18.0),
        ("tidings_sessions_persistent", 1.0),
        ("tidings_backlog_entries", 3.0),
        ("tidings_disk_free_bytes", 1.0),
        ("tidings_disk_size_bytes", 1.0),
        (r#"tidings_messages_dropped_total{cause="expired"}"#, 0.0),
        ("tidings_uptime_seconds", 0.0),
    ] {
        assert!(is_at_least(&text, name, at_least), "{name} in\n{text}");
    }
    // The largest bucket has everything, and nothing took a minute.
    let last = text.lines().rfind(|line| {
        line.starts_with("tidings_publish_acknowledged_seconds_bucket{")
            && line.contains(r#"door="tcp""#)
    });
    let last = last.unwrap_or_default();
    let count = sample(
        &text,
        r#"tidings_publish_acknowledged_seconds_count{door="tcp"}"#,
    );
    assert!(last.contains(r#"le="+Inf""#), "{last}");
    assert_eq!(last.rsplit(' ').next().and_then(|n| n.parse().ok()), count);
    let sum = sample(
        &text,
        r#"tidings_publish_acknowledged_seconds_sum{door="tcp"}"#,
    );
    assert!(sum.is_some_and(|sum| sum > 0.0 && sum < 60.0 * count.unwrap_or(0.0)));
}

#[test]
fn what_does_not_reach_a_receiver_is_counted_by_its_cause() {
    let broker = TidingsProcess::start();
    let api = Api::new(&broker);
    let mut small = clean(Version::V5, "small");
    small.properties.maximum_packet_size = Some(64);
    let mut reader = RawClient::connect(broker.tcp(), &small);
    assert_eq!(
        reader.subscribe("free/#", QoS::AtMostOnce),
        ReasonCode::Success
    );
    let mut writer = RawClient::connect(broker.tcp(), &clean(Version::V5, "writer"));
    writer.publish("free/big", [b'x'; 200], QoS::AtLeastOnce);
    writer.publish("free/big", "fits", QoS::AtLeastOnce);
    assert_eq!(&*reader.receive().payload, b"fits");
    api.get_until("/metrics", |text| {
        is_at_least(
            text,
            r#"tidings_messages_dropped_total{cause="too_large"}"#,
            1.0,
        )
    });
}

#[test]
fn a_broker_that_stops_or_whose_journal_failed_is_not_ready() {
    let broker = TidingsProcess::start();
    let api = Api::new(&broker);
    assert_eq!(api.ask("GET", "/healthz", None), (200, "ok\n".to_owned()));
    assert_eq!(api.ask("GET", "/readyz", None), (200, "ready\n".to_owned()));
    assert_eq!(
        sample(&api.ask("GET", "/metrics", None).1, "tidings_ready"),
        Some(1.0)
    );
}

#[test]
fn the_grafana_dashboard_asks_for_what_there_is() {
    let dashboard = include_str!("../../config/grafana-dashboard.json");
    let dashboard: serde_json::Value = serde_json::from_str(dashboard).expect("JSON");
    let broker = TidingsProcess::start();
    let api = Api::new(&broker);
    // The second answer has that the first was counted.
    api.ask("GET", "/metrics", None);
    let (_, text) = api.ask("GET", "/metrics", None);
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().expect("targets"));
    let mut asked = std::collections::BTreeSet::new();
    for target in targets {
        let expression = target["expr"].as_str().expect("an expression");
        let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        asked.extend(words.filter(|word| word.starts_with("tidings_")));
    }
    assert!(asked.len() > 20, "{asked:?}");
    for name in asked {
        let ends = ["_bucket", "_sum", "_count", "_total"];
        let base = ends.iter().find_map(|end| name.strip_suffix(end));
        let is_there = |name: &str| {
            let begin = format!("# TYPE {name} ");
            text.lines().any(|line| line.starts_with(&begin))
        };
        assert!(
            is_there(name) || base.is_some_and(is_there),
            "{name} is not in /metrics"
        );
    }
}
