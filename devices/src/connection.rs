//! One MQTT connection that comes back by itself, over rumqttc, the same for 3.1.1 and 5.0.
//!
//! Turns the events of both client versions into [`Happening`]s. Invariants kept here, because the
//! library leaves them to its user: events from before a lost connection are delivered before
//! [`Happening::Lost`], never after; what is retransmitted carries DUP [MQTT-3.3.1-1] and keeps its
//! original order [MQTT-4.6.0-1]. Does not know what a reading is, and does not wait between
//! attempts: the caller does.

use std::collections::VecDeque;
use std::time::Duration;

use rumqttc::v5;

use crate::broker_address::BrokerAddress;
use crate::scenario::{Behaviour, Protocol};

/// Packet Identifiers used per message of the window: so many that one is free again long before
/// its turn comes, even if acknowledgements come out of order.
const IDENTIFIERS_PER_WINDOW: u16 = 4;
/// Room for the requests beside readings: a subscription, notices, the DISCONNECT.
const EXTRA_REQUESTS: usize = 16;

/// Something that happened on the connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Happening {
    /// CONNACK with success.
    Connected {
        /// Session Present (§3.2.2.1.1).
        session_present: bool,
    },
    /// A PUBLISH was written; identifier 0 stands for QoS 0.
    Written {
        /// Its Packet Identifier.
        packet_id: u16,
    },
    /// PUBACK or PUBCOMP arrived, or a PUBREC that ends the exchange with an error.
    Settled {
        /// Packet Identifier of the PUBLISH.
        packet_id: u16,
        /// The Reason Code if the broker did not take the message.
        refused: Option<String>,
    },
    /// A message was received.
    Message {
        /// Its Topic Name.
        topic: String,
        /// Its payload.
        payload: Vec<u8>,
    },
    /// Our DISCONNECT was written.
    DisconnectWritten,
    /// The connection is gone or could not be made.
    Lost {
        /// What the library said.
        reason: String,
    },
}

/// Who connects: what does not change over reconnects.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Client Identifier and user name.
    pub device: String,
    /// Topic of the Will Message and of the retained state.
    pub state_topic: String,
}

/// Opens nothing yet: the first [`Events::next`] connects.
pub fn open(behaviour: &Behaviour, identity: &Identity) -> (Requests, Events) {
    let capacity = usize::from(behaviour.inflight) + EXTRA_REQUESTS;
    let (requests, inner) = match behaviour.protocol {
        Protocol::V311 => {
            let (client, mut events) =
                rumqttc::AsyncClient::new(options_v311(behaviour, identity), capacity);
            let mut network = rumqttc::NetworkOptions::new();
            network.set_tcp_nodelay(true);
            events.set_network_options(network);
            (Requests::V311(client), Inner::V311(Box::new(events)))
        }
        Protocol::V5 => {
            let (client, events) = v5::AsyncClient::new(options_v5(behaviour, identity), capacity);
            (Requests::V5(client), Inner::V5(Box::new(events)))
        }
    };
    let events = Events {
        inner,
        ready: VecDeque::new(),
        in_flight: VecDeque::new(),
        usable: false,
    };
    (requests, events)
}

fn host_and_port(broker: &BrokerAddress) -> (String, u16) {
    match broker {
        BrokerAddress::Tcp { host, port } if host.contains(':') => (format!("[{host}]"), *port),
        BrokerAddress::Tcp { host, port } => (host.clone(), *port),
        // The library takes host and port from the URL.
        BrokerAddress::WebSocket { url } => (url.clone(), 0),
    }
}

fn options_v311(behaviour: &Behaviour, identity: &Identity) -> rumqttc::MqttOptions {
    let (host, port) = host_and_port(&behaviour.broker);
    let mut options = rumqttc::MqttOptions::new(&identity.device, host, port);
    if matches!(behaviour.broker, BrokerAddress::WebSocket { .. }) {
        options.set_transport(rumqttc::Transport::Ws);
    }
    options
        .set_credentials(&identity.device, "")
        .set_keep_alive(behaviour.keep_alive)
        .set_clean_session(behaviour.session_expiry.is_zero())
        .set_inflight(behaviour.inflight.saturating_mul(IDENTIFIERS_PER_WINDOW))
        .set_max_packet_size(MAX_PACKET_BYTES, MAX_PACKET_BYTES)
        .set_last_will(rumqttc::LastWill::new(
            &identity.state_topic,
            "offline",
            rumqttc::QoS::AtLeastOnce,
            true,
        ));
    options
}

fn options_v5(behaviour: &Behaviour, identity: &Identity) -> v5::MqttOptions {
    let (host, port) = host_and_port(&behaviour.broker);
    let mut options = v5::MqttOptions::new(&identity.device, host, port);
    if matches!(behaviour.broker, BrokerAddress::WebSocket { .. }) {
        options.set_transport(rumqttc::Transport::Ws);
    }
    let expiry = u32::try_from(behaviour.session_expiry.as_secs()).unwrap_or(u32::MAX);
    let mut network = rumqttc::NetworkOptions::new();
    network.set_tcp_nodelay(true);
    options
        .set_credentials(&identity.device, "")
        .set_keep_alive(behaviour.keep_alive)
        // A new process has no QoS 2 state; meeting that of its predecessor, its first identifiers
        // would be taken for duplicates. Later connections resume, see `Events::follow`.
        .set_clean_start(expiry == 0 || behaviour.qos == 2)
        .set_session_expiry_interval(Some(expiry))
        .set_outgoing_inflight_upper_limit(
            behaviour.inflight.saturating_mul(IDENTIFIERS_PER_WINDOW),
        )
        .set_max_packet_size(Some(MAX_PACKET_BYTES as u32))
        .set_network_options(network)
        .set_last_will(v5::mqttbytes::v5::LastWill::new(
            &identity.state_topic,
            "offline",
            v5::mqttbytes::QoS::AtLeastOnce,
            true,
            None,
        ));
    options
}

/// Largest packet accepted in either direction: the largest payload and some room for the header.
const MAX_PACKET_BYTES: usize = Behaviour::MAX_PAYLOAD_BYTES + 128 * 1024;

/// Gives packets to the connection. Nothing here waits.
#[derive(Clone)]
pub enum Requests {
    /// Speaking MQTT 3.1.1.
    V311(rumqttc::AsyncClient),
    /// Speaking MQTT 5.0.
    V5(v5::AsyncClient),
}

impl Requests {
    /// Asks for a PUBLISH; false if the library has no room at the moment.
    pub fn publish(&self, topic: &str, qos: u8, retain: bool, payload: Vec<u8>) -> bool {
        match self {
            Self::V311(client) => client
                .try_publish(topic, qos_v311(qos), retain, payload)
                .is_ok(),
            Self::V5(client) => client
                .try_publish(topic, qos_v5(qos), retain, payload)
                .is_ok(),
        }
    }

    /// Asks for a SUBSCRIBE at QoS 1; false if the library has no room at the moment.
    pub fn subscribe(&self, filter: &str) -> bool {
        match self {
            Self::V311(client) => client.try_subscribe(filter, qos_v311(1)).is_ok(),
            Self::V5(client) => client.try_subscribe(filter, qos_v5(1)).is_ok(),
        }
    }

    /// Asks for a DISCONNECT; false if the library has no room at the moment.
    pub fn disconnect(&self) -> bool {
        match self {
            Self::V311(client) => client.try_disconnect().is_ok(),
            Self::V5(client) => client.try_disconnect().is_ok(),
        }
    }
}

const fn qos_v311(qos: u8) -> rumqttc::QoS {
    match qos {
        0 => rumqttc::QoS::AtMostOnce,
        1 => rumqttc::QoS::AtLeastOnce,
        _ => rumqttc::QoS::ExactlyOnce,
    }
}

const fn qos_v5(qos: u8) -> v5::mqttbytes::QoS {
    match qos {
        0 => v5::mqttbytes::QoS::AtMostOnce,
        1 => v5::mqttbytes::QoS::AtLeastOnce,
        _ => v5::mqttbytes::QoS::ExactlyOnce,
    }
}

enum Inner {
    V311(Box<rumqttc::EventLoop>),
    V5(Box<v5::EventLoop>),
}

/// Where happenings come from. The connection makes progress only while someone waits here.
pub struct Events {
    inner: Inner,
    ready: VecDeque<Happening>,
    /// Packet Identifiers written and not settled, oldest first.
    in_flight: VecDeque<u16>,
    usable: bool,
}

impl Events {
    /// True from CONNACK until the connection is found to be gone, which may be some happenings
    /// before [`Happening::Lost`]. What is given to [`Requests`] while this is false waits in the
    /// library and is not part of what a resumed or lost session means for the caller's messages.
    pub const fn is_usable(&self) -> bool {
        self.usable
    }

    /// The next happening; connects first if there is no connection. Not cancel-safe while
    /// connecting: a dropped future starts again.
    pub async fn next(&mut self) -> Happening {
        let happening = loop {
            if let Some(happening) = self.ready.pop_front() {
                break happening;
            }
            match &mut self.inner {
                Inner::V311(events) => match events.poll().await {
                    Ok(event) => {
                        let happening = from_v311(event);
                        self.usable |= matches!(happening, Some(Happening::Connected { .. }));
                        self.ready.extend(happening);
                    }
                    Err(e) => {
                        self.usable = false;
                        let before = std::mem::take(&mut events.state.events);
                        self.ready.extend(before.into_iter().filter_map(from_v311));
                        let reason = e.to_string();
                        self.ready.push_back(Happening::Lost { reason });
                    }
                },
                Inner::V5(events) => match events.poll().await {
                    Ok(event) => {
                        let happening = from_v5(event);
                        self.usable |= matches!(happening, Some(Happening::Connected { .. }));
                        self.ready.extend(happening);
                    }
                    Err(e) => {
                        self.usable = false;
                        let before = std::mem::take(&mut events.state.events);
                        self.ready.extend(before.into_iter().filter_map(from_v5));
                        let reason = e.to_string();
                        self.ready.push_back(Happening::Lost { reason });
                    }
                },
            }
        };
        self.follow(&happening);
        happening
    }

    fn follow(&mut self, happening: &Happening) {
        match happening {
            Happening::Written { packet_id }
                if *packet_id != 0 && !self.in_flight.contains(packet_id) =>
            {
                self.in_flight.push_back(*packet_id);
            }
            Happening::Settled { packet_id, .. } => self.in_flight.retain(|id| id != packet_id),
            Happening::Connected { session_present } => {
                if !session_present {
                    self.in_flight.clear();
                }
                if let Inner::V5(events) = &mut self.inner {
                    let keep = events.options.session_expiry_interval() != Some(0);
                    events.options.set_clean_start(!keep);
                }
            }
            Happening::Lost { .. } => self.prepare_retransmission(),
            _ => {}
        }
    }

    fn prepare_retransmission(&mut self) {
        // Only packets with an identifier move; those not yet written follow in their own order.
        let order = &self.in_flight;
        let rank = |id: u16| order.iter().position(|o| *o == id).unwrap_or(usize::MAX);
        match &mut self.inner {
            Inner::V311(events) => {
                events.pending.make_contiguous().sort_by_key(|r| match r {
                    rumqttc::Request::Publish(p) => rank(p.pkid),
                    _ => usize::MAX,
                });
                for request in &mut events.pending {
                    if let rumqttc::Request::Publish(p) = request {
                        p.dup = p.pkid != 0;
                    }
                }
            }
            Inner::V5(events) => {
                events.pending.make_contiguous().sort_by_key(|r| match r {
                    v5::Request::Publish(p) => rank(p.pkid),
                    _ => usize::MAX,
                });
                for request in &mut events.pending {
                    if let v5::Request::Publish(p) = request {
                        p.dup = p.pkid != 0;
                    }
                }
            }
        }
    }
}

fn from_v311(event: rumqttc::Event) -> Option<Happening> {
    use rumqttc::{Event, Packet};
    let taken = |packet_id| Happening::Settled {
        packet_id,
        refused: None,
    };
    match event {
        Event::Incoming(Packet::ConnAck(ack)) => Some(Happening::Connected {
            session_present: ack.session_present,
        }),
        Event::Incoming(Packet::PubAck(ack)) => Some(taken(ack.pkid)),
        Event::Incoming(Packet::PubComp(ack)) => Some(taken(ack.pkid)),
        Event::Incoming(Packet::Publish(p)) => Some(Happening::Message {
            topic: p.topic,
            payload: p.payload.to_vec(),
        }),
        Event::Outgoing(out) => from_outgoing(&out),
        Event::Incoming(_) => None,
    }
}

fn from_v5(event: v5::Event) -> Option<Happening> {
    use v5::Event;
    use v5::mqttbytes::v5::{Packet, PubAckReason, PubCompReason, PubRecReason};
    let settled = |packet_id, taken: bool, reason: &dyn std::fmt::Debug| Happening::Settled {
        packet_id,
        refused: (!taken).then(|| format!("{reason:?}")),
    };
    match event {
        Event::Incoming(Packet::ConnAck(ack)) => Some(Happening::Connected {
            session_present: ack.session_present,
        }),
        Event::Incoming(Packet::PubAck(ack)) => {
            let taken = matches!(
                ack.reason,
                PubAckReason::Success | PubAckReason::NoMatchingSubscribers
            );
            Some(settled(ack.pkid, taken, &ack.reason))
        }
        Event::Incoming(Packet::PubRec(ack)) => {
            let goes_on = matches!(
                ack.reason,
                PubRecReason::Success | PubRecReason::NoMatchingSubscribers
            );
            (!goes_on).then(|| settled(ack.pkid, false, &ack.reason))
        }
        Event::Incoming(Packet::PubComp(ack)) => {
            // "Packet Identifier not found" ends the exchange too: an earlier PUBREL got through.
            let taken = matches!(
                ack.reason,
                PubCompReason::Success | PubCompReason::PacketIdentifierNotFound
            );
            Some(settled(ack.pkid, taken, &ack.reason))
        }
        Event::Incoming(Packet::Publish(p)) => Some(Happening::Message {
            topic: String::from_utf8_lossy(&p.topic).into_owned(),
            payload: p.payload.to_vec(),
        }),
        Event::Outgoing(out) => from_outgoing(&out),
        Event::Incoming(_) => None,
    }
}

fn from_outgoing(out: &rumqttc::Outgoing) -> Option<Happening> {
    match out {
        rumqttc::Outgoing::Publish(packet_id) => Some(Happening::Written {
            packet_id: *packet_id,
        }),
        rumqttc::Outgoing::Disconnect => Some(Happening::DisconnectWritten),
        _ => None,
    }
}

/// Waiting times between attempts to connect: doubling, with a bound, and jittered so that a fleet
/// does not come back in one instant.
#[derive(Debug)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The first wait: a broker that only dropped the connection is back at once.
    const FIRST: Duration = Duration::from_millis(100);
    /// The longest wait: a restarted broker is found again within this time.
    const MAX: Duration = Duration::from_secs(5);

    /// No failure so far.
    pub const fn new() -> Self {
        Self { failures: 0 }
    }

    /// The wait before the next attempt: between half and all of the current step.
    pub fn next(&mut self, noise: &mut crate::walk::Noise) -> Duration {
        let step = Self::FIRST
            .saturating_mul(1 << self.failures.min(16))
            .min(Self::MAX);
        self.failures = self.failures.saturating_add(1);
        noise.around(step * 3 / 4, step / 4)
    }

    /// Connected again: start from the first step next time.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::Noise;

    #[test]
    fn waits_double_up_to_the_bound_and_start_small_again_after_a_success() {
        let (mut backoff, mut noise) = (Backoff::new(), Noise::new(1));
        for step_ms in [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000] {
            let wait = backoff.next(&mut noise).as_millis();
            assert!(
                (step_ms / 2..=step_ms).contains(&wait),
                "{wait} of {step_ms}"
            );
        }
        backoff.reset();
        assert!(backoff.next(&mut noise) <= Backoff::FIRST);
    }
}
