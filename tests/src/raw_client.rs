//! An MQTT client that does nothing by itself: a test says every packet, or every byte.
//!
//! Methods named `try_` return errors, for tests in which a broker dies; all others panic with what
//! was expected and what came instead. Nothing is acknowledged unless a test says so.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tidings_core::codec::{
    Ack, ConnAck, Connect, ConnectProperties, Disconnect, Packet, Publish, PublishProperties,
    ReasonCode, RetainHandling, SubAck, Subscribe, SubscribeFilter, UnsubAck, Unsubscribe, Version,
    encode,
};
use tidings_core::message::QoS;

use crate::link::Link;
use crate::{ClientError, DEADLINE, Delivery, Endpoint, Frame};

/// A CONNECT with a clean session and no keep alive; the user name is the client identifier.
pub fn clean(version: Version, client_id: &str) -> Connect<'_> {
    Connect {
        version,
        client_id,
        clean_start: true,
        keep_alive_s: 0,
        username: Some(client_id),
        password: None,
        will: None,
        properties: ConnectProperties::default(),
    }
}

/// As [`clean`], but with a session that is taken up if it is there, and that never expires.
pub fn persistent(version: Version, client_id: &str) -> Connect<'_> {
    let mut connect = clean(version, client_id);
    connect.clean_start = false;
    if version == Version::V5 {
        connect.properties.session_expiry_s = Some(u32::MAX);
    }
    connect
}

/// One connection to a broker.
pub struct RawClient {
    link: Link,
    version: Version,
    deadline: Duration,
    last_packet_id: u16,
    connack: Option<ConnAck>,
    /// Messages that came before the SUBACK of their filter, as they may (§3.8.4).
    early: VecDeque<Frame>,
    /// Spared from one packet to the next.
    outgoing: Vec<u8>,
}

impl RawClient {
    /// Connects the transport and says nothing; what comes is decoded as MQTT 5 until a CONNECT
    /// was sent, or [`RawClient::speak`] was called.
    #[track_caller]
    pub fn open(endpoint: Endpoint) -> Self {
        match Self::try_open(endpoint, DEADLINE) {
            Ok(client) => client,
            Err(error) => panic!("no connection to {endpoint:?}: {error}"),
        }
    }

    /// As [`RawClient::open`].
    ///
    /// # Errors
    /// If the broker does not take the connection within the deadline, which then holds for all
    /// that is expected on this connection.
    pub fn try_open(endpoint: Endpoint, deadline: Duration) -> Result<Self, ClientError> {
        Ok(Self {
            link: Link::open(endpoint, deadline)?,
            version: Version::V5,
            deadline,
            last_packet_id: 0,
            connack: None,
            early: VecDeque::new(),
            outgoing: Vec::new(),
        })
    }

    /// Connects and is accepted; [`RawClient::connack`] tells how.
    #[track_caller]
    pub fn connect(endpoint: Endpoint, connect: &Connect<'_>) -> Self {
        let mut client = Self::open(endpoint);
        client.send(&Packet::Connect(connect.clone()));
        let connack = client.expect_connack();
        assert_eq!(
            connack.reason,
            ReasonCode::Success,
            "{connect:?} was refused: {connack:?}"
        );
        client.connack = Some(connack);
        client
    }

    /// As [`RawClient::connect`], whatever the Reason Code.
    ///
    /// # Errors
    /// If there is no CONNACK within the deadline.
    pub fn try_connect(
        endpoint: Endpoint,
        connect: &Connect<'_>,
        deadline: Duration,
    ) -> Result<(Self, ConnAck), ClientError> {
        let mut client = Self::try_open(endpoint, deadline)?;
        client.try_send(&Packet::Connect(connect.clone()))?;
        let frame = client.try_next()?;
        let Packet::ConnAck(connack) = frame.packet() else {
            return Err(ClientError::Transport(format!("no CONNACK but {frame:?}")));
        };
        client.connack = Some(connack.clone());
        Ok((client, connack))
    }

    /// The CONNACK, if there was one.
    ///
    /// # Panics
    /// If this connection was only opened.
    #[track_caller]
    pub fn connack(&self) -> &ConnAck {
        self.connack.as_ref().expect("no CONNACK was expected yet")
    }

    /// Whether the broker had Session State.
    #[track_caller]
    pub fn session_present(&self) -> bool {
        self.connack().session_present
    }

    /// The version that is spoken.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Decodes and encodes in this version from now on; a CONNECT sent does it by itself.
    pub fn speak(&mut self, version: Version) {
        self.version = version;
    }

    /// How long each expected packet may take from now on.
    pub fn set_deadline(&mut self, deadline: Duration) {
        self.deadline = deadline;
    }

    /// The connection below, for what is not MQTT.
    pub fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    // ---- Sending

    /// Sends a packet.
    #[track_caller]
    pub fn send(&mut self, packet: &Packet<'_>) {
        if let Err(error) = self.try_send(packet) {
            panic!("could not send {packet:?}: {error}");
        }
    }

    /// Sends a packet.
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn try_send(&mut self, packet: &Packet<'_>) -> Result<(), ClientError> {
        if let Packet::Connect(connect) = packet {
            self.version = connect.version;
        }
        self.outgoing.clear();
        encode(self.version, packet, &mut self.outgoing);
        self.link.send(&self.outgoing)
    }

    /// Sends packets with one write, as a client under load does.
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn try_send_all<'p>(
        &mut self,
        packets: impl IntoIterator<Item = Packet<'p>>,
    ) -> Result<(), ClientError> {
        self.outgoing.clear();
        for packet in packets {
            encode(self.version, &packet, &mut self.outgoing);
        }
        if self.outgoing.is_empty() {
            return Ok(());
        }
        self.link.send(&self.outgoing)
    }

    /// Sends any bytes; over WebSocket in one binary frame.
    #[track_caller]
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        if let Err(error) = self.link.send(bytes) {
            panic!("could not send {bytes:02x?}: {error}");
        }
    }

    /// Sends any bytes in pieces of `piece` bytes: one write each, over WebSocket one frame each.
    #[track_caller]
    pub fn send_in_pieces(&mut self, bytes: &[u8], piece: usize) {
        bytes.chunks(piece).for_each(|bytes| self.send_bytes(bytes));
    }

    /// A packet identifier that was not used for long.
    pub fn new_packet_id(&mut self) -> u16 {
        self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
        self.last_packet_id
    }

    // ---- Receiving

    /// The next packet.
    ///
    /// # Errors
    /// If none comes within the deadline, or the connection ends.
    pub fn try_next(&mut self) -> Result<Frame, ClientError> {
        self.try_next_until(Instant::now() + self.deadline)
    }

    /// The next packet.
    ///
    /// # Errors
    /// If none comes until then, or the connection ends.
    pub fn try_next_until(&mut self, until: Instant) -> Result<Frame, ClientError> {
        loop {
            if let Some(frame) = self.try_received()? {
                return Ok(frame);
            }
            self.link.receive(until)?;
        }
    }

    /// The next packet of those that came together with an earlier one; it does not wait.
    ///
    /// # Errors
    /// If what came is no packet.
    pub fn try_received(&mut self) -> Result<Option<Frame>, ClientError> {
        if let Some(frame) = self.early.pop_front() {
            return Ok(Some(frame));
        }
        let len = packet_len(self.link.received())?;
        Ok(len.map(|len| Frame::new(self.version, self.link.take(len).to_vec())))
    }

    /// The next packet, whatever it is.
    #[track_caller]
    #[expect(
        clippy::should_implement_trait,
        reason = "it panics at the end, so it is no iterator"
    )]
    pub fn next(&mut self) -> Frame {
        match self.try_next() {
            Ok(frame) => frame,
            Err(error) => panic!("expected a packet: {error}"),
        }
    }

    #[track_caller]
    fn expect<T>(&mut self, what: &str, take: impl FnOnce(Packet<'_>) -> Option<T>) -> T {
        let frame = match self.try_next() {
            Ok(frame) => frame,
            Err(error) => panic!("expected {what}: {error}"),
        };
        match take(frame.packet()) {
            Some(taken) => taken,
            None => panic!("expected {what}, got {frame:?}"),
        }
    }

    /// A CONNACK is next.
    #[track_caller]
    pub fn expect_connack(&mut self) -> ConnAck {
        self.expect("CONNACK", |packet| match packet {
            Packet::ConnAck(connack) => Some(connack),
            _ => None,
        })
    }

    /// A PUBLISH is next. It is not acknowledged: see [`RawClient::receive`].
    #[track_caller]
    pub fn expect_publish(&mut self) -> Delivery {
        self.expect("PUBLISH", |packet| match packet {
            Packet::Publish(publish) => Some(Delivery::new(&publish)),
            _ => None,
        })
    }

    /// The PUBACK for `packet_id` is next.
    #[track_caller]
    pub fn expect_puback(&mut self, packet_id: u16) -> Ack {
        self.expect(&format!("PUBACK {packet_id}"), |packet| match packet {
            Packet::PubAck(ack) if ack.packet_id == packet_id => Some(ack),
            _ => None,
        })
    }

    /// The PUBREC for `packet_id` is next.
    #[track_caller]
    pub fn expect_pubrec(&mut self, packet_id: u16) -> Ack {
        self.expect(&format!("PUBREC {packet_id}"), |packet| match packet {
            Packet::PubRec(ack) if ack.packet_id == packet_id => Some(ack),
            _ => None,
        })
    }

    /// The PUBREL for `packet_id` is next.
    #[track_caller]
    pub fn expect_pubrel(&mut self, packet_id: u16) -> Ack {
        self.expect(&format!("PUBREL {packet_id}"), |packet| match packet {
            Packet::PubRel(ack) if ack.packet_id == packet_id => Some(ack),
            _ => None,
        })
    }

    /// The PUBCOMP for `packet_id` is next.
    #[track_caller]
    pub fn expect_pubcomp(&mut self, packet_id: u16) -> Ack {
        self.expect(&format!("PUBCOMP {packet_id}"), |packet| match packet {
            Packet::PubComp(ack) if ack.packet_id == packet_id => Some(ack),
            _ => None,
        })
    }

    /// A SUBACK is next.
    #[track_caller]
    pub fn expect_suback(&mut self) -> SubAck {
        self.expect("SUBACK", |packet| match packet {
            Packet::SubAck(suback) => Some(suback),
            _ => None,
        })
    }

    /// An UNSUBACK is next.
    #[track_caller]
    pub fn expect_unsuback(&mut self) -> UnsubAck {
        self.expect("UNSUBACK", |packet| match packet {
            Packet::UnsubAck(unsuback) => Some(unsuback),
            _ => None,
        })
    }

    /// A DISCONNECT is next.
    #[track_caller]
    pub fn expect_disconnect(&mut self) -> Disconnect {
        self.expect("DISCONNECT", |packet| match packet {
            Packet::Disconnect(disconnect) => Some(disconnect),
            _ => None,
        })
    }

    /// The connection ends, and nothing comes before.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        match self.try_next() {
            Err(ClientError::Closed) => {}
            other => panic!("expected the end of the connection, got {other:?}"),
        }
    }

    /// The broker refuses what was sent: in MQTT 5 it says `reason` in a DISCONNECT first, in 3.x
    /// it says nothing; then it closes.
    #[track_caller]
    pub fn expect_refusal(&mut self, reason: ReasonCode) {
        if self.version == Version::V5 {
            let disconnect = self.expect_disconnect();
            assert_eq!(disconnect.reason, reason, "{disconnect:?}");
        }
        self.expect_closed();
    }

    /// Nothing was sent to this client before the answer to a PINGREQ of now. That says nothing
    /// about messages that still wait for the disk: send one more of those, and see it come next.
    #[track_caller]
    pub fn expect_silence(&mut self) {
        self.send(&Packet::PingReq);
        self.expect("nothing but PINGRESP", |packet| {
            matches!(packet, Packet::PingResp).then_some(())
        });
    }

    // ---- Whole exchanges

    /// Subscribes to one filter; what else it says is the default. Returns the Reason Code.
    #[track_caller]
    pub fn subscribe(&mut self, filter: &str, qos: QoS) -> ReasonCode {
        let suback = self.subscribe_with(
            None,
            vec![SubscribeFilter {
                filter: filter.to_owned(),
                qos,
                no_local: false,
                retain_as_published: false,
                retain_handling: RetainHandling::SendAtSubscribe,
            }],
        );
        suback.reasons[0]
    }

    /// Subscribes; the SUBACK has as many Reason Codes as there are filters. Messages that come
    /// before it are next after it.
    #[track_caller]
    pub fn subscribe_with(
        &mut self,
        subscription_id: Option<u32>,
        filters: Vec<SubscribeFilter>,
    ) -> SubAck {
        let packet_id = self.new_packet_id();
        let count = filters.len();
        self.send(&Packet::Subscribe(Subscribe {
            packet_id,
            subscription_id,
            user: Vec::new(),
            filters,
        }));
        let mut early = VecDeque::new();
        let suback = loop {
            let frame = self.next();
            match frame.packet() {
                Packet::SubAck(suback) => break suback,
                Packet::Publish(_) => early.push_back(frame),
                other => panic!("expected SUBACK, got {other:?}"),
            }
        };
        self.early.extend(early);
        assert_eq!(suback.packet_id, packet_id);
        assert_eq!(suback.reasons.len(), count, "{suback:?}");
        suback
    }

    /// Ends one subscription.
    #[track_caller]
    pub fn unsubscribe(&mut self, filter: &str) -> UnsubAck {
        let packet_id = self.new_packet_id();
        self.send(&Packet::Unsubscribe(Unsubscribe {
            packet_id,
            filters: vec![filter.to_owned()],
            user: Vec::new(),
        }));
        let unsuback = self.expect_unsuback();
        assert_eq!(unsuback.packet_id, packet_id);
        unsuback
    }

    /// Publishes, and does all that its QoS asks for. Nothing else may be on its way to this client.
    #[track_caller]
    pub fn publish(&mut self, topic: &str, payload: impl AsRef<[u8]>, qos: QoS) {
        let packet_id = self.new_packet_id();
        self.send(&publish_packet(topic, payload.as_ref(), qos, packet_id));
        match qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => {
                let ack = self.expect_puback(packet_id);
                assert!(!ack.reason.is_failure(), "{ack:?}");
            }
            QoS::ExactlyOnce => {
                let ack = self.expect_pubrec(packet_id);
                assert!(!ack.reason.is_failure(), "{ack:?}");
                self.send(&Packet::PubRel(Ack::new(packet_id, ReasonCode::Success)));
                self.expect_pubcomp(packet_id);
            }
        }
    }

    /// The next message, acknowledged: PUBACK or PUBREC is sent, and a PUBREL that comes before
    /// is answered. [`RawClient::settle`] answers the last one.
    #[track_caller]
    pub fn receive(&mut self) -> Delivery {
        loop {
            let frame = self.next();
            match frame.packet() {
                Packet::Publish(publish) => {
                    let delivery = Delivery::new(&publish);
                    self.acknowledge(&delivery);
                    return delivery;
                }
                Packet::PubRel(ack) => {
                    self.send(&Packet::PubComp(Ack::new(
                        ack.packet_id,
                        ReasonCode::Success,
                    )));
                }
                _ => panic!("expected PUBLISH or PUBREL, got {frame:?}"),
            }
        }
    }

    /// Sends the PUBACK or PUBREC for a message; nothing at QoS 0.
    #[track_caller]
    pub fn acknowledge(&mut self, delivery: &Delivery) {
        let Some(packet_id) = delivery.packet_id else {
            return;
        };
        let ack = Ack::new(packet_id, ReasonCode::Success);
        match delivery.qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => self.send(&Packet::PubAck(ack)),
            QoS::ExactlyOnce => self.send(&Packet::PubRec(ack)),
        }
    }

    /// Answers what is left of exchanges at QoS 2, until the answer to a PINGREQ of now; no
    /// message may come.
    #[track_caller]
    pub fn settle(&mut self) {
        self.send(&Packet::PingReq);
        loop {
            let frame = self.next();
            match frame.packet() {
                Packet::PingResp => return,
                Packet::PubRel(ack) => {
                    self.send(&Packet::PubComp(Ack::new(
                        ack.packet_id,
                        ReasonCode::Success,
                    )));
                }
                _ => panic!("expected PUBREL or PINGRESP, got {frame:?}"),
            }
        }
    }

    /// Says goodbye and waits until the broker has closed the connection: then it has done all
    /// that a DISCONNECT asks for.
    #[track_caller]
    pub fn disconnect(mut self) {
        self.send(&Packet::Disconnect(Disconnect::new(ReasonCode::Success)));
        self.link.shut_write();
        loop {
            match self.try_next() {
                Ok(_) => {}
                Err(ClientError::Closed) => return,
                Err(error) => panic!("expected the end of the connection: {error}"),
            }
        }
    }

    /// Ends the connection without a DISCONNECT, and waits until the broker has seen that.
    #[track_caller]
    pub fn abandon(mut self) {
        self.link.shut_write();
        loop {
            match self.try_next() {
                Ok(_) => {}
                Err(ClientError::Closed) => return,
                Err(error) => panic!("expected the end of the connection: {error}"),
            }
        }
    }
}

/// A PUBLISH without properties; `packet_id` is left out at QoS 0.
pub fn publish_packet<'a>(
    topic: &'a str,
    payload: &'a [u8],
    qos: QoS,
    packet_id: u16,
) -> Packet<'a> {
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        topic,
        packet_id: (qos != QoS::AtMostOnce).then_some(packet_id),
        properties: PublishProperties::default(),
        payload,
    })
}

/// Length of the packet at the start of `bytes`, header included; `None` if it is not all there.
fn packet_len(bytes: &[u8]) -> Result<Option<usize>, ClientError> {
    let mut remaining = 0;
    for (index, &byte) in bytes.iter().skip(1).enumerate() {
        if index == 4 {
            return Err(ClientError::Transport("Remaining Length of 5 bytes".into()));
        }
        remaining |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            let len = 2 + index + remaining;
            return Ok((bytes.len() >= len).then_some(len));
        }
    }
    Ok(None)
}
