//! The doors of the broker: each listener with each version of MQTT that a test applies to.
//!
//! Invariant: no two doors of a test program share a name, so tests and their rounds do not meet.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use tidings_core::codec::{
    Ack, Connect, Packet, Publish, PublishProperties, ReasonCode, RetainHandling, SubscribeFilter,
    Version,
};
use tidings_core::message::QoS;
use tidings_tests::{Delivery, Endpoint, RawClient, TidingsProcess, clean, persistent};

/// The versions that most statements are about.
pub const BOTH: &[Version] = &[Version::V311, Version::V5];
/// What only MQTT 5 has.
pub const V5: &[Version] = &[Version::V5];
/// What MQTT 5 does otherwise.
pub const V311: &[Version] = &[Version::V311];

/// One listener, spoken to in one version.
pub struct Door {
    pub endpoint: Endpoint,
    pub version: Version,
    number: u32,
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = match self.endpoint {
            Endpoint::Tcp(_) => "TCP",
            Endpoint::WebSocket(_) => "WebSocket",
            Endpoint::Tls(_) => "TLS",
            Endpoint::Wss(_) => "WebSocket in TLS",
        };
        write!(f, "{:?} over {transport}", self.version)
    }
}

/// Says which door it was when a test fails.
struct Witness<'a>(&'a Door);

impl Drop for Witness<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- it failed with {}", self.0);
        }
    }
}

fn doors(broker: &TidingsProcess, versions: &[Version]) -> Vec<Door> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let door = |version, endpoint| Door {
        endpoint,
        version,
        number: NUMBER.fetch_add(1, Ordering::Relaxed),
    };
    let plain = versions
        .iter()
        .flat_map(|version| broker.endpoints().map(|endpoint| door(*version, endpoint)));
    // What is inside of TLS does not depend on it: each of its listeners with one version is enough.
    let secure = broker.secure_endpoints().into_iter();
    let secure = secure.zip(versions.iter().rev().cycle());
    let secure = secure.map(|(endpoint, version)| door(*version, endpoint));
    plain.chain(secure).collect()
}

/// Runs a test through each door, at the same time.
#[track_caller]
pub fn each_door(versions: &[Version], test: impl Fn(&Door) + Sync) {
    each_door_of(TidingsProcess::shared(), versions, test);
}

/// As [`each_door`], of a broker with other limits.
#[track_caller]
pub fn each_door_of(broker: &TidingsProcess, versions: &[Version], test: impl Fn(&Door) + Sync) {
    let doors = doors(broker, versions);
    thread::scope(|scope| {
        for door in &doors {
            scope.spawn(|| {
                let _witness = Witness(door);
                test(door);
            });
        }
    });
}

/// Runs a test through each door, one after the other: for names that are not a door's own.
pub fn each_door_in_turn(versions: &[Version], test: impl Fn(&Door)) {
    for door in doors(TidingsProcess::shared(), versions) {
        let _witness = Witness(&door);
        test(&door);
    }
}

impl Door {
    /// A client identifier of this door's own; also the user name.
    pub fn name(&self, who: &str) -> String {
        format!("{who}-{}", self.number)
    }

    /// A topic, or filter, of this door's own.
    pub fn topic(&self, rest: &str) -> String {
        format!("conformance-{}/{rest}", self.number)
    }

    /// A client with a clean session.
    #[track_caller]
    pub fn clean(&self, who: &str) -> RawClient {
        RawClient::connect(self.endpoint, &clean(self.version, &self.name(who)))
    }

    /// A client with a session that stays.
    #[track_caller]
    pub fn persistent(&self, who: &str) -> RawClient {
        RawClient::connect(self.endpoint, &persistent(self.version, &self.name(who)))
    }

    /// A client that says something else in its CONNECT; `id` is from [`Door::name`].
    #[track_caller]
    pub fn with<'a>(&self, id: &'a str, change: impl FnOnce(&mut Connect<'a>)) -> RawClient {
        let mut connect = clean(self.version, id);
        change(&mut connect);
        RawClient::connect(self.endpoint, &connect)
    }

    /// As [`Door::with`], with a session that stays.
    #[track_caller]
    pub fn persistent_with<'a>(
        &self,
        id: &'a str,
        change: impl FnOnce(&mut Connect<'a>),
    ) -> RawClient {
        let mut connect = persistent(self.version, id);
        change(&mut connect);
        RawClient::connect(self.endpoint, &connect)
    }

    /// A connection on which nothing was said yet.
    #[track_caller]
    pub fn open(&self) -> RawClient {
        let mut client = RawClient::open(self.endpoint);
        client.speak(self.version);
        client
    }

    /// The same version over the other transport.
    pub fn other_endpoint(&self) -> Endpoint {
        let broker = TidingsProcess::shared();
        match self.endpoint {
            Endpoint::Tcp(_) | Endpoint::Tls(_) => broker.ws(),
            Endpoint::WebSocket(_) | Endpoint::Wss(_) => broker.tcp(),
        }
    }

    pub fn is_v5(&self) -> bool {
        self.version == Version::V5
    }

    /// The length of an empty property section: a byte in MQTT 5, nothing before.
    pub fn no_properties(&self) -> &'static [u8] {
        if self.is_v5() { &[0] } else { &[] }
    }

    /// A PUBLISH as bytes, whatever it says.
    pub fn publish_bytes(&self, first: u8, topic: &[u8], packet_id: Option<u16>) -> Vec<u8> {
        let packet_id = packet_id.map(u16::to_be_bytes);
        packet(
            first,
            &[
                &prefixed(topic),
                packet_id.as_ref().map_or(&[][..], |id| id),
                self.no_properties(),
                b"payload",
            ],
        )
    }

    /// A SUBSCRIBE for one filter as bytes, whatever it says.
    pub fn subscribe_bytes(&self, first: u8, filter: &[u8], options: u8) -> Vec<u8> {
        packet(
            first,
            &[&[0, 1], self.no_properties(), &prefixed(filter), &[options]],
        )
    }

    /// An UNSUBSCRIBE from one filter as bytes, whatever it says.
    pub fn unsubscribe_bytes(&self, first: u8, filter: &[u8]) -> Vec<u8> {
        packet(first, &[&[0, 1], self.no_properties(), &prefixed(filter)])
    }
}

/// A packet from its first byte and the parts of its body.
pub fn packet(first: u8, body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    assert!(body.len() < 128, "one byte of Remaining Length");
    [&[first, body.len() as u8], body.as_slice()].concat()
}

/// Bytes behind their length, as strings and binary data are written.
pub fn prefixed(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

/// A subscription with default options.
pub fn filter(filter: &str, qos: QoS) -> SubscribeFilter {
    SubscribeFilter {
        filter: filter.to_owned(),
        qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::SendAtSubscribe,
    }
}

/// A PUBLISH at QoS 0, to be changed.
pub fn message<'a>(topic: &'a str, payload: &'a [u8]) -> Publish<'a> {
    Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic,
        packet_id: None,
        properties: PublishProperties::default(),
        payload,
    }
}

/// Sends a PUBLISH and sees it acknowledged, whatever its QoS.
#[track_caller]
pub fn publish(client: &mut RawClient, mut publish: Publish<'_>) {
    let packet_id = client.new_packet_id();
    let qos = publish.qos;
    publish.packet_id = (qos != QoS::AtMostOnce).then_some(packet_id);
    client.send(&Packet::Publish(publish));
    match qos {
        QoS::AtMostOnce => {}
        QoS::AtLeastOnce => {
            client.expect_puback(packet_id);
        }
        QoS::ExactlyOnce => {
            client.expect_pubrec(packet_id);
            release(client, packet_id);
        }
    }
}

/// PUBREL, and the PUBCOMP for it.
#[track_caller]
pub fn release(client: &mut RawClient, packet_id: u16) -> Ack {
    client.send(&Packet::PubRel(Ack::new(packet_id, ReasonCode::Success)));
    client.expect_pubcomp(packet_id)
}

/// Retains a message.
#[track_caller]
pub fn retain(client: &mut RawClient, topic: &str, payload: &str, qos: QoS) {
    let mut message = message(topic, payload.as_bytes());
    (message.retain, message.qos) = (true, qos);
    publish(client, message);
}

/// The next message is this one. It is acknowledged, at QoS 2 to the end: nothing else may be on
/// its way then.
#[track_caller]
pub fn expect_text(client: &mut RawClient, text: &str) -> Delivery {
    let delivery = client.receive();
    assert_eq!(delivery.text(), text, "{delivery:?}");
    if delivery.qos == QoS::ExactlyOnce {
        let packet_id = delivery.packet_id.expect("QoS 2");
        client.expect_pubrel(packet_id);
        client.send(&Packet::PubComp(Ack::new(packet_id, ReasonCode::Success)));
    }
    delivery
}

/// Nothing is on its way to `receiver` but a message that `publisher` publishes now on `topic`,
/// which must match a subscription of it.
#[track_caller]
pub fn expect_nothing_but_a_new_message(
    receiver: &mut RawClient,
    publisher: &mut RawClient,
    topic: &str,
) {
    publisher.publish(topic, "the end", QoS::AtLeastOnce);
    let delivery = receiver.receive();
    assert_eq!(delivery.text(), "the end", "{delivery:?}");
    receiver.settle();
}
