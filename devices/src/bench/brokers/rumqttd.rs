//! rumqttd, which is always there: it is a library, and runs in a process that is this program again.

use std::collections::HashMap;
use std::net::SocketAddr;

use anyhow::Context;
use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};

use super::Place;
use super::child::Launch;
use super::running::{Plan, Ports};

/// Its name in tables.
pub(super) const NAME: &str = "rumqttd";

/// The hidden subcommand of `tidings-bench` that runs [`serve`].
pub const SUBCOMMAND: &str = "peer-rumqttd";

/// What differs from the configuration file that it is shipped with.
pub(super) const SETTINGS: &str =
    "as its shipped configuration file, with 20,000 connections and without console and metrics";

/// The lock file of this workspace, which names the version that was built in.
const LOCK: &str = include_str!("../../../../Cargo.lock");

/// The version that is built in.
pub(super) fn version() -> &'static str {
    LOCK.split("[[package]]")
        .find(|package| package.contains("name = \"rumqttd\"\n"))
        .and_then(|package| package.split("version = \"").nth(1)?.split('"').next())
        .unwrap_or("unknown")
}

pub(super) fn plan(place: &Place) -> anyhow::Result<Plan> {
    let [tcp, ws] = super::free_ports()?;
    Ok(Plan {
        launch: Launch {
            bench: place.bench.clone(),
            program: place.bench.clone(),
            arguments: vec![
                SUBCOMMAND.into(),
                "--tcp".into(),
                tcp.to_string().into(),
                "--ws".into(),
                ws.to_string().into(),
            ],
            cores: place.cores.clone(),
            log: place.directory.join("broker.log"),
        },
        ports: Ports::Given { tcp, ws },
    })
}

/// Is the broker, until it fails or is killed. Its numbers are those of the configuration file in its
/// repository, except for the connections, which would not suffice for ten thousand and some.
///
/// # Errors
/// If it does not start, or ends.
pub fn serve(tcp: SocketAddr, ws: SocketAddr) -> anyhow::Result<()> {
    let server = |name: &str, listen, max_inflight_count| {
        let settings = ServerSettings {
            name: name.to_owned(),
            listen,
            tls: None,
            next_connection_delay_ms: 1,
            connections: ConnectionSettings {
                connection_timeout_ms: 60_000,
                max_payload_size: 20_480,
                max_inflight_count,
                auth: None,
                external_auth: None,
                dynamic_filters: true,
            },
        };
        Some(HashMap::from([(name.to_owned(), settings)]))
    };
    let config = Config {
        router: RouterConfig {
            max_connections: 20_000,
            max_outgoing_packet_count: 200,
            max_segment_size: 104_857_600,
            max_segment_count: 10,
            ..RouterConfig::default()
        },
        v4: server("v4", tcp, 100),
        ws: server("ws", ws, 500),
        ..Config::default()
    };
    Broker::new(config).start().context("rumqttd")?;
    anyhow::bail!("rumqttd ended")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_version_that_is_built_in_is_known() {
        assert!(super::version().starts_with("0."), "{}", super::version());
    }
}
