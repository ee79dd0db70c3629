//! Proves that the shipped file says what the program does: the same defaults, every key, no other.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use crate::layers::{LISTS, Layers, SHIPPED, TABLES};
use crate::reader::fields;
use crate::*;

/// The keys of each section as the file documents them: `key = value` in the section, commented out
/// or not, with a comment above it.
fn documented_keys() -> BTreeMap<String, BTreeMap<String, String>> {
    let mut sections: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut section = String::new();
    let mut comment = String::new();
    for line in SHIPPED.lines() {
        let example = line.strip_prefix("# ").unwrap_or(line);
        let is_ours = |name: &str| TABLES.contains(&name) || LISTS.contains(&name);
        if let Some(header) = example.strip_prefix('[') {
            let name = header.trim_matches(['[', ']']);
            if is_ours(name) {
                section = name.to_owned();
                comment.clear();
            }
        } else if let Some((key, _)) = example.split_once(" = ")
            && !section.is_empty()
            && key
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        {
            let keys = sections.entry(section.clone()).or_default();
            keys.entry(key.to_owned())
                .or_insert_with(|| comment.clone());
            comment.clear();
        } else if let Some(words) = example.strip_prefix("# ").or(line.strip_prefix("# ")) {
            comment.push_str(words);
            comment.push(' ');
        } else if line.trim_matches(['#', ' ']).is_empty() {
            comment.clear();
        }
    }
    sections
}

fn assert_documented<T: DeserializeOwned>(section: &str) {
    let documented = documented_keys();
    let keys = &documented[section];
    for field in fields::<T>() {
        let comment = keys
            .get(*field)
            .unwrap_or_else(|| panic!("{section}.{field} is not in the shipped file"));
        assert!(
            comment.to_lowercase().contains("default"),
            "{section}.{field} says no default: {comment:?}"
        );
    }
    for key in keys.keys() {
        assert!(
            fields::<T>().contains(&key.as_str()),
            "{section}.{key} is not a setting"
        );
    }
}

#[test]
fn every_key_is_documented_with_its_default_and_no_other() {
    assert_documented::<Server>("server");
    assert_documented::<Listener>("listeners");
    assert_documented::<Tls>("tls");
    assert_documented::<Auth>("auth");
    assert_documented::<Rooms>("rooms");
    assert_documented::<People>("people");
    assert_documented::<Jwt>("jwt");
    assert_documented::<AuthHook>("auth_hook");
    assert_documented::<Http>("http");
    assert_documented::<WebSocket>("websocket");
    assert_documented::<Mqtt>("mqtt");
    assert_documented::<Limits>("limits");
    assert_documented::<Journal>("journal");
    assert_documented::<State>("state");
    assert_documented::<Bridge>("bridges");
    assert_documented::<Log>("log");
    assert_documented::<Sys>("sys");
    assert_documented::<Audit>("audit");
    assert_documented::<Otel>("otel");
    // These have more entries than explanations, which therefore stand above them.
    let explains = |line: &str, name: &str| {
        line.strip_prefix("# # ")
            .and_then(|rest| rest.split_once(':'))
            .is_some_and(|(names, _)| names.split(", ").any(|n| n == name))
            || line.starts_with(&format!("# {name} "))
    };
    for field in fields::<TopicRule>().iter().chain(fields::<BridgeTopic>()) {
        assert!(
            SHIPPED.lines().any(|line| explains(line, field)),
            "{field} is not explained"
        );
    }
    let relay = SHIPPED
        .lines()
        .find(|line| line.starts_with("# relay "))
        .unwrap_or_default();
    for field in fields::<Relay>() {
        assert!(relay.contains(field), "relay.{field} is not explained");
    }
    let keep = SHIPPED
        .lines()
        .find(|line| line.starts_with("# keep "))
        .unwrap_or_default();
    for field in fields::<Keep>() {
        assert!(
            keep.contains(field),
            "keep.{field} is not explained in the shipped file"
        );
    }
}

#[test]
fn every_section_is_in_the_shipped_file() {
    let documented = documented_keys();
    for section in TABLES.iter().chain(LISTS) {
        assert!(documented.contains_key(*section), "{section}");
    }
    assert_eq!(fields_of_settings(), TABLES.len() + LISTS.len());
}

/// How many sections a `Settings` has; does not compile if one is added without being counted.
fn fields_of_settings() -> usize {
    let Settings {
        server: _,
        listeners: _,
        tls: _,
        auth: _,
        rooms: _,
        people: _,
        jwt: _,
        auth_hook: _,
        http: _,
        websocket: _,
        mqtt: _,
        limits: _,
        journal: _,
        state: _,
        topics: _,
        bridges: _,
        log: _,
        sys: _,
        audit: _,
        otel: _,
    } = Settings::default();
    20
}

#[test]
fn the_shipped_file_has_no_error_and_is_exactly_the_defaults() {
    let layers = Layers::shipped();
    let (shipped, problems) = Settings::read(layers);
    assert_eq!(problems, Vec::new());
    assert_eq!(shipped.server, Server::default());
    assert_eq!(shipped.auth, Auth::default());
    assert_eq!(shipped.jwt, Jwt::default());
    assert_eq!(shipped.auth_hook, AuthHook::default());
    assert_eq!(shipped.http, Http::default());
    assert_eq!(shipped.websocket, WebSocket::default());
    assert_eq!(shipped.rooms, Rooms::default());
    assert_eq!(shipped.people, People::default());
    assert_eq!(shipped.mqtt, Mqtt::default());
    assert_eq!(shipped.limits, Limits::default());
    assert_eq!(shipped.journal, Journal::default());
    assert_eq!(shipped.state, State::default());
    assert_eq!(shipped.bridges, Vec::new());
    assert_eq!(shipped.log, Log::default());
    assert_eq!(shipped.sys, Sys::default());
    assert_eq!(shipped, Settings::default());
    let addresses: Vec<_> = shipped
        .listeners
        .iter()
        .map(|listener| (listener.kind, listener.address.to_string()))
        .collect();
    assert_eq!(
        addresses,
        [
            (ListenerKind::Tcp, "127.0.0.1:1883".to_owned()),
            (ListenerKind::Ws, "127.0.0.1:8083".to_owned())
        ]
    );
}

#[test]
fn defaults_written_in_words_are_the_defaults() {
    let mentions = |section: &str, key: &str, value: &str| {
        let comment = documented_keys()[section][key].to_lowercase();
        assert!(
            comment.contains(&format!("default {value}")),
            "{section}.{key} is {value}: {comment}"
        );
    };
    let defaults = Settings::default();
    mentions(
        "server",
        "shutdown_deadline_s",
        &defaults.server.shutdown_deadline_s.to_string(),
    );
    mentions("server", "shards", &defaults.server.shards.to_string());
    mentions(
        "server",
        "pin_shards",
        &defaults.server.pin_shards.to_string(),
    );
    mentions(
        "mqtt",
        "keep_alive_max_s",
        &defaults.mqtt.keep_alive_max_s.to_string(),
    );
    mentions(
        "mqtt",
        "connect_timeout_s",
        &defaults.mqtt.connect_timeout_s.to_string(),
    );
    mentions(
        "mqtt",
        "max_connect_bytes",
        &defaults.mqtt.max_connect_bytes.to_string(),
    );
    mentions(
        "mqtt",
        "max_packet_bytes",
        &mib(u64::from(defaults.mqtt.max_packet_bytes)),
    );
    mentions("mqtt", "max_qos", &defaults.mqtt.max_qos.to_string());
    mentions(
        "mqtt",
        "receive_maximum",
        &defaults.mqtt.receive_maximum.to_string(),
    );
    mentions(
        "mqtt",
        "max_inflight_out",
        &defaults.mqtt.max_inflight_out.to_string(),
    );
    mentions(
        "mqtt",
        "topic_alias_maximum",
        &defaults.mqtt.topic_alias_maximum.to_string(),
    );
    mentions(
        "mqtt",
        "session_expiry_max_s",
        &defaults.mqtt.session_expiry_max_s.to_string(),
    );
    mentions(
        "mqtt",
        "max_client_id_bytes",
        &defaults.mqtt.max_client_id_bytes.to_string(),
    );
    mentions(
        "mqtt",
        "max_subscriptions_per_session",
        &defaults.mqtt.max_subscriptions_per_session.to_string(),
    );
    mentions(
        "limits",
        "max_connections",
        &defaults.limits.max_connections.to_string(),
    );
    mentions(
        "limits",
        "output_bytes_per_connection",
        &defaults.limits.output_bytes_per_connection.to_string(),
    );
    mentions("journal", "durability", "\"fsync\"");
    mentions(
        "journal",
        "interval_ms",
        &defaults.journal.interval_ms.to_string(),
    );
    mentions(
        "journal",
        "segment_bytes",
        &mib(defaults.journal.segment_bytes),
    );
    mentions(
        "journal",
        "batch_max_bytes",
        &mib(defaults.journal.batch_max_bytes as u64),
    );
    mentions(
        "journal",
        "queue_max_bytes",
        &mib(defaults.journal.queue_max_bytes as u64),
    );
    mentions("journal", "backlog_max_bytes", "1 gib");
    mentions(
        "journal",
        "backlog_max_age_s",
        &defaults.journal.backlog_max_age_s.to_string(),
    );
    mentions(
        "state",
        "snapshot_every_bytes",
        &mib(defaults.state.snapshot_every_bytes),
    );
    mentions(
        "state",
        "snapshot_every_entries",
        &defaults.state.snapshot_every_entries.to_string(),
    );
    mentions("sys", "interval_s", &defaults.sys.interval_s.to_string());
    let bridge = Bridge::default();
    mentions("bridges", "protocol", &bridge.protocol.to_string());
    mentions("bridges", "keep_alive_s", &bridge.keep_alive_s.to_string());
    mentions(
        "bridges",
        "reconnect_min_ms",
        &bridge.reconnect_min_ms.to_string(),
    );
    mentions(
        "bridges",
        "reconnect_max_ms",
        &bridge.reconnect_max_ms.to_string(),
    );
}

fn mib(bytes: u64) -> String {
    format!("{} mib", bytes >> 20)
}

#[test]
fn the_example_of_a_bridge_works_and_has_every_key() {
    let example: String = SHIPPED
        .lines()
        .skip_while(|line| *line != "# [[bridges]]")
        .take_while(|line| line.starts_with('#'))
        .map(|line| {
            format!(
                "{}\n",
                line.trim_start_matches('#').strip_prefix(' ').unwrap_or("")
            )
        })
        .collect();
    let table: toml::Table = toml::from_str(&example).unwrap();
    let entry = table["bridges"][0].as_table().unwrap();
    let keys: Vec<_> = entry.keys().map(String::as_str).collect();
    let mut known = fields::<Bridge>().to_vec();
    known.sort_unstable();
    assert_eq!(keys, known);
    let topic: Vec<_> = entry["topics"][0]
        .as_table()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    let mut known = fields::<BridgeTopic>().to_vec();
    known.sort_unstable();
    assert_eq!(topic, known);

    let mut layers = Layers::default();
    layers.add_flags(&[format!("bridges=[{}]", toml::Value::Table(entry.clone()))]);
    let (settings, problems) = Settings::read(layers);
    assert_eq!(problems, Vec::new());
    assert_eq!(settings.bridges[0].name, "plant");
}

#[test]
fn topic_rules_know_their_lines() {
    let lines: Vec<_> = SHIPPED.lines().collect();
    let rules = Settings::default().topics;
    assert!(rules.len() > 15);
    for rule in rules {
        assert_eq!(lines[rule.line - 1], "[[topics]]", "{}", rule.pattern);
        assert_eq!(lines[rule.line], format!("pattern = \"{}\"", rule.pattern));
        assert_eq!(
            rule.origin.to_string(),
            format!("tidings.toml (built in):{}", rule.line)
        );
    }
}
