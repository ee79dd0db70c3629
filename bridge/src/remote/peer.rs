//! The other broker, as a link sees it: one rumqttc connection, in MQTT 3.1.1 or 5.0.
//!
//! A connection is used once: when it ends, a new one is made. So identifiers of an earlier one
//! never mix with those of the next. The client library's loop runs in a task of its own, because
//! waiting for it must not be given up half-way; what happens comes through a bounded channel.

use std::collections::VecDeque;
use std::time::Duration;

use rumqttc::v5::mqttbytes as v5bytes;
use rumqttc::{Transport, v5};
use tidings_core::message::{MessageProperties, QoS};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::local::Carried;
use super::mapping::Route;
use super::options::{Address, LinkOptions, Protocol};

/// Requests to the client library that wait for the socket: publishes are bounded by the window,
/// acknowledgements by what the peer has open.
const REQUESTS: usize = 2048;
/// What happened and was not handled yet.
const EVENTS: usize = 64;
/// How long a connection attempt may take, seconds.
const CONNECT_TIMEOUT_S: u64 = 10;
/// How long the peer keeps a session for us, seconds: as long as MQTT can say.
const SESSION_EXPIRY_S: u32 = u32::MAX;

/// What happened at the peer.
pub(super) enum Happened {
    Connected,
    Subscribed {
        refused: usize,
    },
    Message {
        message: Carried,
        ack: AckToken,
    },
    /// The oldest publish that had no identifier got one.
    Sent {
        packet_id: u16,
    },
    /// PUBACK or PUBCOMP.
    Acked {
        packet_id: u16,
        accepted: bool,
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
    pub fn connect(options: &LinkOptions, address: &Address, role: Role) -> Self {
        let client_id = match role {
            Role::Inward => options.client_id.clone(),
            Role::Outward => format!("{}-out", options.client_id),
        };
        let (host, port, transport) = match address {
            Address::Tcp { host, port } => (
                host.trim_matches(['[', ']']).to_owned(),
                *port,
                Transport::Tcp,
            ),
            Address::WebSocket { url, port } => (url.clone(), *port, Transport::Ws),
        };
        let (sender, events) = mpsc::channel(EVENTS);
        let keeps = role == Role::Inward;
        let (client, task) = match options.protocol {
            Protocol::V4 => {
                let mut mqtt = rumqttc::MqttOptions::new(client_id, host, port);
                mqtt.set_transport(transport)
                    .set_keep_alive(options.keep_alive)
                    .set_clean_session(!keeps)
                    .set_manual_acks(true)
                    .set_inflight(options.window);
                let bytes = options.max_packet_bytes as usize;
                mqtt.set_max_packet_size(bytes, bytes);
                if let Some(user) = &options.username {
                    mqtt.set_credentials(user, options.password.clone().unwrap_or_default());
                }
                let (client, mut events) = rumqttc::AsyncClient::new(mqtt, REQUESTS);
                events
                    .network_options
                    .set_connection_timeout(CONNECT_TIMEOUT_S);
                (Client::V4(client), tokio::spawn(run_v4(events, sender)))
            }
            Protocol::V5 => {
                let mut mqtt = v5::MqttOptions::new(client_id, host, port);
                mqtt.set_transport(transport)
                    .set_keep_alive(options.keep_alive)
                    .set_clean_start(!keeps)
                    .set_manual_acks(true)
                    .set_connection_timeout(CONNECT_TIMEOUT_S)
                    .set_outgoing_inflight_upper_limit(options.window);
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
                (Client::V5(client), tokio::spawn(run_v5(events, sender)))
            }
        };
        Self {
            client,
            events,
            task,
        }
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
            let _ = tokio::time::timeout(Duration::from_millis(500), gone).await;
        }
    }
}

async fn run_v4(mut events: rumqttc::EventLoop, sender: mpsc::Sender<Happened>) {
    use rumqttc::{Event, Outgoing, Packet, SubscribeReasonCode};
    loop {
        let happened = match events.poll().await {
            Ok(Event::Incoming(packet)) => match packet {
                Packet::ConnAck(_) => Happened::Connected,
                Packet::SubAck(ack) => Happened::Subscribed {
                    refused: ack
                        .return_codes
                        .iter()
                        .filter(|code| matches!(code, SubscribeReasonCode::Failure))
                        .count(),
                },
                Packet::Publish(publish) => Happened::Message {
                    message: Carried {
                        topic: publish.topic.clone(),
                        payload: publish.payload.clone(),
                        qos: qos_from_v4(publish.qos),
                        retain: publish.retain,
                        properties: None,
                    },
                    ack: AckToken::V4(publish),
                },
                Packet::PubAck(ack) => Happened::Acked {
                    packet_id: ack.pkid,
                    accepted: true,
                },
                Packet::PubComp(ack) => Happened::Acked {
                    packet_id: ack.pkid,
                    accepted: true,
                },
                _ => continue,
            },
            Ok(Event::Outgoing(Outgoing::Publish(packet_id))) => Happened::Sent { packet_id },
            Ok(Event::Outgoing(_)) => continue,
            Err(error) => Happened::Lost {
                error: error.to_string(),
            },
        };
        let over = matches!(happened, Happened::Lost { .. });
        if sender.send(happened).await.is_err() || over {
            return;
        }
    }
}

async fn run_v5(mut events: v5::EventLoop, sender: mpsc::Sender<Happened>) {
    use rumqttc::Outgoing;
    use v5::{Event, Incoming};
    use v5bytes::v5::{PubAckReason, PubCompReason, PubRecReason, SubscribeReasonCode};
    loop {
        let happened = match events.poll().await {
            Ok(Event::Incoming(packet)) => match packet {
                Incoming::ConnAck(_) => Happened::Connected,
                Incoming::SubAck(ack) => Happened::Subscribed {
                    refused: ack
                        .return_codes
                        .iter()
                        .filter(|code| !matches!(code, SubscribeReasonCode::Success(_)))
                        .count(),
                },
                Incoming::Publish(publish) => {
                    let Ok(topic) = String::from_utf8(publish.topic.to_vec()) else {
                        continue;
                    };
                    Happened::Message {
                        message: Carried {
                            topic,
                            payload: publish.payload.clone(),
                            qos: qos_from_v5(publish.qos),
                            retain: publish.retain,
                            properties: publish.properties.as_ref().and_then(from_v5),
                        },
                        ack: AckToken::V5(Box::new(publish)),
                    }
                }
                Incoming::PubAck(ack) => Happened::Acked {
                    packet_id: ack.pkid,
                    accepted: matches!(
                        ack.reason,
                        PubAckReason::Success | PubAckReason::NoMatchingSubscribers
                    ),
                },
                Incoming::PubRec(ack)
                    if !matches!(
                        ack.reason,
                        PubRecReason::Success | PubRecReason::NoMatchingSubscribers
                    ) =>
                {
                    Happened::Acked {
                        packet_id: ack.pkid,
                        accepted: false,
                    }
                }
                Incoming::PubComp(ack) => Happened::Acked {
                    packet_id: ack.pkid,
                    accepted: ack.reason == PubCompReason::Success,
                },
                _ => continue,
            },
            Ok(Event::Outgoing(Outgoing::Publish(packet_id))) => Happened::Sent { packet_id },
            Ok(Event::Outgoing(_)) => continue,
            Err(error) => Happened::Lost {
                error: error.to_string(),
            },
        };
        let over = matches!(happened, Happened::Lost { .. });
        if sender.send(happened).await.is_err() || over {
            return;
        }
    }
}

/// Publishes that were handed over: first without identifier, in order, then by it.
#[derive(Debug, Default)]
pub(super) struct Outstanding<T> {
    unsent: VecDeque<(QoS, T)>,
    sent: Vec<(u16, T)>,
}

impl<T> Outstanding<T> {
    pub fn new() -> Self {
        Self {
            unsent: VecDeque::new(),
            sent: Vec::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.unsent.len() + self.sent.len()
    }

    pub fn handed_over(&mut self, qos: QoS, what: T) {
        self.unsent.push_back((qos, what));
    }

    /// The oldest one got its identifier. Gives back what needs no acknowledgement.
    pub fn sent(&mut self, packet_id: u16) -> Option<T> {
        let (qos, what) = self.unsent.pop_front()?;
        if qos == QoS::AtMostOnce {
            return Some(what);
        }
        self.sent.push((packet_id, what));
        None
    }

    pub fn acked(&mut self, packet_id: u16) -> Option<T> {
        let index = self.sent.iter().position(|(id, _)| *id == packet_id)?;
        Some(self.sent.remove(index).1)
    }
}

const fn qos_v4(qos: QoS) -> rumqttc::QoS {
    match qos {
        QoS::AtMostOnce => rumqttc::QoS::AtMostOnce,
        QoS::AtLeastOnce => rumqttc::QoS::AtLeastOnce,
        QoS::ExactlyOnce => rumqttc::QoS::ExactlyOnce,
    }
}

const fn qos_from_v4(qos: rumqttc::QoS) -> QoS {
    match qos {
        rumqttc::QoS::AtMostOnce => QoS::AtMostOnce,
        rumqttc::QoS::AtLeastOnce => QoS::AtLeastOnce,
        rumqttc::QoS::ExactlyOnce => QoS::ExactlyOnce,
    }
}

const fn qos_v5(qos: QoS) -> v5bytes::QoS {
    match qos {
        QoS::AtMostOnce => v5bytes::QoS::AtMostOnce,
        QoS::AtLeastOnce => v5bytes::QoS::AtLeastOnce,
        QoS::ExactlyOnce => v5bytes::QoS::ExactlyOnce,
    }
}

const fn qos_from_v5(qos: v5bytes::QoS) -> QoS {
    match qos {
        v5bytes::QoS::AtMostOnce => QoS::AtMostOnce,
        v5bytes::QoS::AtLeastOnce => QoS::AtLeastOnce,
        v5bytes::QoS::ExactlyOnce => QoS::ExactlyOnce,
    }
}

fn to_v5(properties: Option<&MessageProperties>) -> v5bytes::v5::PublishProperties {
    let Some(p) = properties else {
        return v5bytes::v5::PublishProperties::default();
    };
    v5bytes::v5::PublishProperties {
        payload_format_indicator: p.payload_is_utf8.map(u8::from),
        message_expiry_interval: p.message_expiry_s,
        topic_alias: None,
        response_topic: p.response_topic.as_deref().map(str::to_owned),
        correlation_data: p.correlation_data.clone(),
        user_properties: p
            .user
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect(),
        subscription_identifiers: Vec::new(),
        content_type: p.content_type.as_deref().map(str::to_owned),
    }
}

fn from_v5(p: &v5bytes::v5::PublishProperties) -> Option<Box<MessageProperties>> {
    let properties = MessageProperties {
        payload_is_utf8: p.payload_format_indicator.map(|value| value == 1),
        message_expiry_s: p.message_expiry_interval,
        response_topic: p.response_topic.as_deref().map(Into::into),
        correlation_data: p.correlation_data.clone(),
        user: p
            .user_properties
            .iter()
            .map(|(k, v)| (k.as_str().into(), v.as_str().into()))
            .collect(),
        content_type: p.content_type.as_deref().map(Into::into),
    };
    (!properties.is_empty()).then(|| Box::new(properties))
}
