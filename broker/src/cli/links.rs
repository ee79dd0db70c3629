//! `[[bridges]]` of the settings as links of the running broker, and their states in `$SYS`.

use std::sync::Arc;
use std::time::Duration;

use tidings_bridge::remote::{ClientTls, Direction, Link, LinkOptions, Protocol, TopicMap};
use tidings_broker::Running;
use tidings_config::{Bridge, Direction as BridgeDirection, Settings};
use tidings_core::message::QoS;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::error;

/// Messages that may be open at a peer: enough for a line with a delay of some ten milliseconds.
const WINDOW: u16 = 100;

/// How long links may take to subscribe in this broker.
const READY: Duration = Duration::from_secs(5);

/// How long links get for their goodbye.
const GOODBYE: Duration = Duration::from_secs(3);

/// Links that run, and what shows their states.
pub(super) struct Links {
    stop: watch::Sender<bool>,
    links: Vec<Link>,
    watchers: Vec<JoinHandle<()>>,
}

/// What is wrong with the links of the settings, each with its place.
pub(super) fn problems(settings: &Settings) -> Vec<String> {
    let check = |bridge: &Bridge| {
        let error = link_options(bridge, settings, "check").validate().err()?;
        Some(format!(
            "{}: [[bridges]] {}: {error}",
            bridge.origin, bridge.name
        ))
    };
    settings.bridges.iter().filter_map(check).collect()
}

/// Starts all links. They have been checked.
pub(super) fn start(settings: &Settings, broker: &Arc<Running>) -> Links {
    let (stop, stopped) = watch::channel(false);
    let mut links = Vec::new();
    let mut watchers = Vec::new();
    for bridge in &settings.bridges {
        let options = link_options(bridge, settings, &broker.identity());
        let local = broker.clone();
        let open = Arc::new(move |label: &str| local.connect_in_memory(label));
        match Link::start(options, open, &stopped) {
            Ok(link) => {
                watchers.push(tokio::spawn(show(link.status(), broker.clone())));
                links.push(link);
            }
            Err(error) => error!(link = bridge.name, %error, "the link is not started"),
        }
    }
    Links {
        stop,
        links,
        watchers,
    }
}

impl Links {
    /// Waits until the journal keeps what the links are to carry out.
    pub(super) async fn ready(&mut self) {
        let keep = async {
            for link in &mut self.links {
                link.keeps().await;
            }
        };
        if tokio::time::timeout(READY, keep).await.is_err() {
            error!(
                "a link could not subscribe in this broker: what it is to carry is not kept yet"
            );
        }
    }

    /// Ends all links; what they had not carried stays in the journal and at the peers.
    pub(super) async fn stop(self) {
        self.stop.send_replace(true);
        let gone = async {
            for link in self.links {
                link.join().await;
            }
        };
        // Nothing is lost if a link does not say goodbye.
        let _ = tokio::time::timeout(GOODBYE, gone).await;
        for watcher in self.watchers {
            watcher.abort();
        }
    }
}

/// Keeps `$SYS/broker/bridge/{name}/state` up to date, at most once a second.
async fn show(
    mut status: watch::Receiver<tidings_bridge::remote::LinkStatus>,
    broker: Arc<Running>,
) {
    loop {
        let (topic, json) = {
            let status = status.borrow_and_update();
            (
                format!("$SYS/broker/bridge/{}/state", status.name),
                status.to_json(),
            )
        };
        broker.set_system_value(&topic, json);
        if status.changed().await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn link_options(bridge: &Bridge, settings: &Settings, origin: &str) -> LinkOptions {
    let topics = bridge.topics.iter().map(|topic| TopicMap {
        pattern: topic.pattern.clone(),
        direction: match topic.direction {
            BridgeDirection::In => Direction::In,
            BridgeDirection::Out => Direction::Out,
            BridgeDirection::Both => Direction::Both,
        },
        qos: QoS::from_bits(topic.qos).unwrap_or(QoS::ExactlyOnce),
        local_prefix: topic.local_prefix.clone(),
        remote_prefix: topic.remote_prefix.clone(),
    });
    LinkOptions {
        name: bridge.name.clone(),
        address: bridge.address.to_string(),
        tls: ClientTls {
            ca_file: bridge.ca_file.clone(),
            certificate: bridge.cert_file.clone().zip(bridge.key_file.clone()),
        },
        protocol: if bridge.protocol == 5 {
            Protocol::V5
        } else {
            Protocol::V4
        },
        client_id: bridge
            .client_id
            .clone()
            .unwrap_or_else(|| format!("tidings-{}", bridge.name)),
        username: bridge.username.clone(),
        password: bridge
            .password
            .as_ref()
            .map(|secret| secret.expose().to_owned()),
        keep_alive: Duration::from_secs(u64::from(bridge.keep_alive_s)),
        topics: topics.collect(),
        reconnect_min: Duration::from_millis(bridge.reconnect_min_ms),
        reconnect_max: Duration::from_millis(bridge.reconnect_max_ms),
        origin: origin.to_owned(),
        window: WINDOW,
        max_packet_bytes: settings.mqtt.max_packet_bytes,
    }
}
