//! The other broker, as a link sees it: one rumqttc connection, in MQTT 3.1.1 or 5.0.
//!
//! A connection is used once: when it ends, a new one is made. So identifiers of an earlier one
//! never mix with those of the next. The client library's loop runs in a task of its own, because
//! waiting for it must not be given up half-way; what happens comes through a bounded channel.

use std::time::Duration;

use rumqttc::v5::mqttbytes as v5bytes;
use rumqttc::{Transport, v5};
use tidings_core::message::QoS;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::local::{Carried, Outcome};
use super::mapping::Route;
use super::options::{Address, LinkOptions, MAX_WINDOW, Protocol};
use super::translate::{
    from_v5, puback_outcome, pubrec_outcome, qos_from_v4, qos_from_v5, qos_v4, qos_v5, to_v5,
};

/// Requests to the client library that wait for the socket: publishes are bounded by the window,
/// acknowledgements by what the peer has open.
const REQUESTS: usize = 2048;
/// What happened and was not handled yet.
const EVENTS: usize = 64;
/// How long a connection attempt may take, seconds.
const CONNECT_TIMEOUT_S: u64 = 10;
/// How long the client library may do nothing beyond two Keep Alives. It wakes up at each of them,
/// unless it waits for a peer that takes no bytes, for which it sets itself no end.
const STALL_SLACK: Duration = Duration::from_secs(CONNECT_TIMEOUT_S + 1);
/// Largest packet there is, bytes [MQTT-2.2.3]. MQTT 3.1.1 has no Maximum Packet Size: a larger
/// message would end the connection, and come again on the next one for ever.
const LARGEST_PACKET_BYTES: usize = 268_435_460;
/// How long the peer keeps a session for us, seconds: as long as MQTT can say.
const SESSION_EXPIRY_S: u32 = u32::MAX;
/// Packet Identifiers that the client library uses in turn, four times the largest window: an
/// exchange that takes longer than others (QoS 2 among QoS 1) is seldom waited for.
const PACKET_IDS: u16 = 4 * MAX_WINDOW;

/// What a peer takes, by its CONNACK; MQTT 3.1.1 does not say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// The peer has our session, and what we subscribed in it.
    pub session_present: bool,
    /// Most messages of ours at QoS 1 and 2 at once; never 0.
    pub receive_maximum: u16,
    /// Largest packet, bytes.
    pub maximum_packet_bytes: u32,
    /// Highest QoS.
    pub maximum_qos: QoS,
    /// Retained messages.
    pub retain: bool,
}

impl Terms {
    /// Packet Identifiers are 1 to this number, in turn: as the client library counts them.
    pub fn packet_ids(&self) -> u16 {
        self.receive_maximum.min(PACKET_IDS)
    }

    const fn v4(connack: &rumqttc::ConnAck) -> Self {
        Self {
            session_present: connack.session_present,
            receive_maximum: u16::MAX,
            maximum_packet_bytes: u32::MAX,
            maximum_qos: QoS::ExactlyOnce,
            retain: true,
        }
    }

    fn v5(connack: &v5bytes::v5::ConnAck) -> Self {
        let given = connack.properties.as_ref();
        Self {
            session_present: connack.session_present,
            receive_maximum: given.and_then(|p| p.receive_max).unwrap_or(u16::MAX).max(1),
            maximum_packet_bytes: given.and_then(|p| p.max_packet_size).unwrap_or(u32::MAX),
            maximum_qos: given
                .and_then(|p| p.max_qos)
                .and_then(QoS::from_bits)
                .unwrap_or(QoS::ExactlyOnce),
            retain: given.and_then(|p| p.retain_available) != Some(0),
        }
    }
}

/// What happened at the peer.
pub(super) enum Happened {
    Connected(Terms),
    Subscribed {
        refused: usize,
    },
    Message {
        message: Carried,
        ack: AckToken,
    },
    /// A message that is too large to be carried, without its content.
    TooLarge {
        qos: QoS,
        ack: AckToken,
    },
    /// The oldest publish that had no identifier got one.
    Sent {
        packet_id: u16,
    },
    /// PUBACK, PUBCOMP, or a PUBREC that ends the exchange.
    Acked {
        packet_id: u16,
        outcome: Outcome,
    },
    /// The connection is over.
    Lost {
        error: String,
    },
}

/// What is needed to acknowledge a message of the peer.
pub(super) enum AckToken {
    V4(rumqttc::Publish),
    V5(Box<v5bytes::v5::Publish>),
}

enum Client {
    V4(rumqttc::AsyncClient),
    V5(v5::AsyncClient),
}

/// One connection to the peer.
pub(super) struct Peer {
    client: Client,
    events: mpsc::Receiver<Happened>,
    task: JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Which of the two connections of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Takes messages: the peer keeps its session.
    Inward,
    /// Gives messages: its session ends with the connection.
    Outward,
}

impl Peer {
    /// Begins to connect; [`Happened::Connected`] or [`Happened::Lost`] follows.
    ///
    /// # Errors
    /// If there is no TLS where there must be.
    pub fn connect(options: &LinkOptions, address: &Address, role: Role) -> Result<Self, String> {
        let client_id = match role {
            Role::Inward => options.client_id.clone(),
            Role::Outward => format!("{}-out", options.client_id),
        };
        let (sender, events) = mpsc::channel(EVENTS);
        let tls = || options.tls.configuration();
        let transport = match address {
            Address::Tcp { tls: false, .. } => Ok(Transport::Tcp),
            Address::Tcp { tls: true, .. } => tls().map(Transport::Tls),
            Address::WebSocket { tls: false, .. } => Ok(Transport::Ws),
            Address::WebSocket { tls: true, .. } => tls().map(Transport::Wss),
        };
        let (host, port) = match address {
            Address::Tcp { host, port, .. } => (host.trim_matches(['[', ']']).to_owned(), *port),
            Address::WebSocket { url, port, .. } => (url.clone(), *port),
        };
        // A file that cannot be used now may be there at the next attempt.
        let transport = transport.map_err(|error| format!("TLS: {error}"))?;
        let keeps = role == Role::Inward;
        let keep_alive = options.keep_alive;
        let bytes = options.max_packet_bytes as usize;
        let (client, task) = match options.protocol {
            Protocol::V4 => {
                let mut mqtt = rumqttc::MqttOptions::new(client_id, host, port);
                mqtt.set_transport(transport)
                    .set_keep_alive(options.keep_alive)
                    .set_clean_session(!keeps)
                    .set_manual_acks(true)
                    .set_inflight(PACKET_IDS);
                mqtt.set_max_packet_size(LARGEST_PACKET_BYTES, bytes);
                if let Some(user) = &options.username {
                    mqtt.set_credentials(user, options.password.clone().unwrap_or_default());
                }
                let (client, mut events) = rumqttc::AsyncClient::new(mqtt, REQUESTS);
                events
                    .network_options
                    .set_connection_timeout(CONNECT_TIMEOUT_S);
                let run = run_v4(events, sender, keep_alive, bytes);
                (Client::V4(client), tokio::spawn(run))
            }
            Protocol::V5 => {
                let mut mqtt = v5::MqttOptions::new(client_id, host, port);
                mqtt.set_transport(transport)
                    .set_keep_alive(options.keep_alive)
                    .set_clean_start(!keeps)
                    .set_manual_acks(true)
                    .set_connection_timeout(CONNECT_TIMEOUT_S)
                    .set_outgoing_inflight_upper_limit(PACKET_IDS);
                let connect = v5bytes::v5::ConnectProperties {
                    session_expiry_interval: keeps.then_some(SESSION_EXPIRY_S),
                    receive_maximum: Some(options.window),
                    max_packet_size: Some(options.max_packet_bytes),
                    ..v5bytes::v5::ConnectProperties::new()
                };
                mqtt.set_connect_properties(connect);
                if let Some(user) = &options.username {
                    mqtt.set_credentials(user, options.password.clone().unwrap_or_default());
                }
                let (client, events) = v5::AsyncClient::new(mqtt, REQUESTS);
                let run = run_v5(events, sender, keep_alive);
                (Client::V5(client), tokio::spawn(run))
            }
        };
        Ok(Self {
            client,
            events,
            task,
        })
    }

    /// What happened next. Cancel-safe.
    pub async fn next(&mut self) -> Happened {
        let over = || Happened::Lost {
            error: "the connection ended".to_owned(),
        };
        self.events.recv().await.unwrap_or_else(over)
    }

    /// Asks for what is to come in.
    pub fn subscribe(&self, routes: &[Route]) -> Result<(), String> {
        match &self.client {
            Client::V4(client) => {
                let filters = routes.iter().map(|route| {
                    rumqttc::SubscribeFilter::new(route.filter.clone(), qos_v4(route.qos))
                });
                client
                    .try_subscribe_many(filters)
                    .map_err(|e| e.to_string())
            }
            Client::V5(client) => {
                let filters = routes.iter().map(|route| v5bytes::v5::Filter {
                    path: route.filter.clone(),
                    qos: qos_v5(route.qos),
                    nolocal: true,
                    preserve_retain: true,
                    retain_forward_rule: v5bytes::v5::RetainForwardRule::OnNewSubscribe,
                });
                client
                    .try_subscribe_many(filters)
                    .map_err(|e| e.to_string())
            }
        }
    }

    /// Hands over a message; [`Happened::Sent`] says its identifier, in the order of handing over.
    pub fn publish(&self, message: &Carried) -> Result<(), String> {
        let (topic, retain) = (message.topic.clone(), message.retain);
        match &self.client {
            Client::V4(client) => client
                .try_publish(topic, qos_v4(message.qos), retain, message.payload.to_vec())
                .map_err(|e| e.to_string()),
            Client::V5(client) => client
                .try_publish_with_properties(
                    topic,
                    qos_v5(message.qos),
                    retain,
                    message.payload.clone(),
                    to_v5(message.properties.as_deref()),
                )
                .map_err(|e| e.to_string()),
        }
    }

    /// Acknowledges a message of the peer: our broker has it.
    pub fn ack(&self, token: &AckToken) -> Result<(), String> {
        match (&self.client, token) {
            (Client::V4(client), AckToken::V4(publish)) => {
                client.try_ack(publish).map_err(|e| e.to_string())
            }
            (Client::V5(client), AckToken::V5(publish)) => {
                client.try_ack(publish).map_err(|e| e.to_string())
            }
            _ => Err("an acknowledgement of another connection".to_owned()),
        }
    }

    /// Goodbye.
    pub async fn close(mut self) {
        let said = match &self.client {
            Client::V4(client) => client.try_disconnect().is_ok(),
            Client::V5(client) => client.try_disconnect().is_ok(),
        };
        if said {
            // A peer that does not answer is not waited for.
            let gone = async { while !matches!(self.next().await, Happened::Lost { .. }) {} };
            let _ = timeout(Duration::from_millis(500), gone).await;
        }
    }
}

/// The client library ends a connection on a PUBREL whose PUBLISH it did not see in the same one,
/// so that a peer that goes on where we were with QoS 2 would be refused for ever. Shown a PUBLISH
/// with each identifier, it answers PUBCOMP to any. That takes 4 to 7 ms and no memory, for the
/// library has a bit for each identifier anyway. It is for a session that the peer has kept, and
/// right after CONNACK, when no event waits.
fn expect_releases_v4(state: &mut rumqttc::MqttState) {
    for packet_id in 1..=u16::MAX {
        let mut publish = rumqttc::Publish::new("", rumqttc::QoS::ExactlyOnce, Vec::new());
        publish.pkid = packet_id;
        // With manual acknowledgements it does nothing but note the identifier.
        let _ = state.handle_incoming_packet(rumqttc::Packet::Publish(publish));
        state.events.clear();
    }
}

/// See [`expect_releases_v4`].
fn expect_releases_v5(state: &mut v5::MqttState) {
    for packet_id in 1..=u16::MAX {
        let qos = v5bytes::QoS::ExactlyOnce;
        let mut publish = v5bytes::v5::Publish::new("", qos, Vec::new(), None);
        publish.pkid = packet_id;
        let _ = state.handle_incoming_packet(v5::Incoming::Publish(publish));
        state.events.clear();
    }
}

/// What the client library has next; too long a silence is an error.
async fn in_time<T, E: ToString>(
    limit: Duration,
    poll: impl Future<Output = Result<T, E>>,
) -> Result<T, String> {
    match timeout(limit, poll).await {
        Ok(polled) => polled.map_err(|e| e.to_string()),
        Err(_) => Err("the peer takes nothing any more".to_owned()),
    }
}

async fn run_v4(
    mut events: rumqttc::EventLoop,
    sender: mpsc::Sender<Happened>,
    keep_alive: Duration,
    max_packet_bytes: usize,
) {
    use rumqttc::{Event, Outgoing, Packet, SubscribeReasonCode};
    let limit = keep_alive * 2 + STALL_SLACK;
    loop {
        let happened = match in_time(limit, events.poll()).await {
            Ok(Event::Incoming(packet)) => match packet {
                Packet::ConnAck(connack) => {
                    if connack.session_present {
                        expect_releases_v4(&mut events.state);
                    }
                    Happened::Connected(Terms::v4(&connack))
                }
                Packet::SubAck(ack) => Happened::Subscribed {
                    refused: ack
                        .return_codes
                        .iter()
                        .filter(|code| matches!(code, SubscribeReasonCode::Failure))
                        .count(),
                },
                Packet::Publish(publish) => message_v4(publish, max_packet_bytes),
                Packet::PubAck(ack) => Happened::Acked {
                    packet_id: ack.pkid,
                    outcome: Outcome::Accepted,
                },
                Packet::PubComp(ack) => Happened::Acked {
                    packet_id: ack.pkid,
                    outcome: Outcome::Accepted,
                },
                _ => continue,
            },
            Ok(Event::Outgoing(Outgoing::Publish(packet_id))) => Happened::Sent { packet_id },
            Ok(Event::Outgoing(_)) => continue,
            Err(error) => Happened::Lost { error },
        };
        let over = matches!(happened, Happened::Lost { .. });
        if sender.send(happened).await.is_err() || over {
            return;
        }
    }
}

fn message_v4(mut publish: rumqttc::Publish, max_packet_bytes: usize) -> Happened {
    let qos = qos_from_v4(publish.qos);
    let is_too_large = publish.size() > max_packet_bytes;
    // What acknowledges needs no content.
    let payload = std::mem::take(&mut publish.payload);
    let topic = std::mem::take(&mut publish.topic);
    let retain = publish.retain;
    let ack = AckToken::V4(publish);
    if is_too_large {
        return Happened::TooLarge { qos, ack };
    }
    let message = Carried {
        topic,
        payload,
        qos,
        retain,
        properties: None,
    };
    Happened::Message { message, ack }
}

fn message_v5(mut publish: v5bytes::v5::Publish) -> Happened {
    let message = Carried {
        // What is no text is no topic of any map.
        topic: String::from_utf8(std::mem::take(&mut publish.topic).into()).unwrap_or_default(),
        payload: std::mem::take(&mut publish.payload),
        qos: qos_from_v5(publish.qos),
        retain: publish.retain,
        properties: publish.properties.take().as_ref().and_then(from_v5),
    };
    let ack = AckToken::V5(Box::new(publish));
    Happened::Message { message, ack }
}

async fn run_v5(
    mut events: v5::EventLoop,
    sender: mpsc::Sender<Happened>,
    mut keep_alive: Duration,
) {
    use rumqttc::Outgoing;
    use v5::{Event, Incoming};
    use v5bytes::v5::{PubCompReason, SubscribeReasonCode};
    let mut limit = PACKET_IDS;
    // After a PUBREC or PUBCOMP that is a refusal, the client library goes on counting the exchange
    // as open, and would stop sending at its limit.
    let mut counted_for_ever = 0;
    loop {
        let happened = match in_time(keep_alive * 2 + STALL_SLACK, events.poll()).await {
            Ok(Event::Incoming(packet)) => match packet {
                Incoming::ConnAck(connack) => {
                    if connack.session_present {
                        expect_releases_v5(&mut events.state);
                    }
                    let wanted = connack.properties.as_ref();
                    match wanted.and_then(|p| p.server_keep_alive) {
                        // No Keep Alive; the library would ping without a pause.
                        Some(0) => {
                            events.options.set_keep_alive(keep_alive);
                        }
                        Some(wanted_s) => keep_alive = Duration::from_secs(wanted_s.into()),
                        None => {}
                    }
                    let terms = Terms::v5(&connack);
                    limit = terms.packet_ids();
                    Happened::Connected(terms)
                }
                Incoming::SubAck(ack) => Happened::Subscribed {
                    refused: ack
                        .return_codes
                        .iter()
                        .filter(|code| !matches!(code, SubscribeReasonCode::Success(_)))
                        .count(),
                },
                Incoming::Publish(publish) => message_v5(publish),
                Incoming::PubAck(ack) => Happened::Acked {
                    packet_id: ack.pkid,
                    outcome: puback_outcome(ack.reason),
                },
                Incoming::PubRec(ack) => match pubrec_outcome(ack.reason) {
                    Outcome::Accepted => continue,
                    outcome => {
                        counted_for_ever += 1;
                        Happened::Acked {
                            packet_id: ack.pkid,
                            outcome,
                        }
                    }
                },
                Incoming::PubComp(ack) => {
                    counted_for_ever += u16::from(ack.reason != PubCompReason::Success);
                    Happened::Acked {
                        packet_id: ack.pkid,
                        // It has been the peer's since its PUBREC.
                        outcome: Outcome::Accepted,
                    }
                }
                _ => continue,
            },
            Ok(Event::Outgoing(Outgoing::Publish(packet_id))) => Happened::Sent { packet_id },
            Ok(Event::Outgoing(_)) => continue,
            Err(error) => Happened::Lost { error },
        };
        let over = matches!(happened, Happened::Lost { .. });
        if sender.send(happened).await.is_err() || over {
            return;
        }
        if counted_for_ever > limit / 2 {
            let error = "the peer refuses many messages at QoS 2".to_owned();
            // Nobody listens any more: then that is well too.
            let _ = sender.send(Happened::Lost { error }).await;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_library_that_waits_for_ever_ends_the_connection() {
        let never = std::future::pending::<Result<(), String>>();
        assert!(in_time(Duration::ZERO, never).await.is_err());
    }
}
