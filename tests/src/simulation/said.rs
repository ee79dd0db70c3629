//! What the broker said to a client, with nothing borrowed.

use tidings_core::codec::{
    Ack, ConnAck, Disconnect, Packet, Publish, ReasonCode, SubAck, UnsubAck,
};
use tidings_core::message::QoS;

/// A PUBLISH that a client received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Topic Name, looked up if only its alias was sent.
    pub topic: String,
    /// Payload as text.
    pub payload: String,
    /// QoS of the delivery.
    pub qos: QoS,
    /// DUP flag.
    pub dup: bool,
    /// RETAIN flag.
    pub retain: bool,
    /// Packet Identifier.
    pub packet_id: Option<u16>,
    /// Topic Alias, and whether the topic itself was there too.
    pub alias: Option<(u16, bool)>,
    /// Subscription Identifiers.
    pub subscription_ids: Vec<u32>,
    /// Message Expiry Interval, seconds.
    pub expiry_s: Option<u32>,
    /// User Properties.
    pub user: Vec<(String, String)>,
}

impl Delivery {
    /// Takes a PUBLISH; `topic` is its Topic Name after aliases.
    pub fn of(publish: &Publish<'_>, topic: String) -> Self {
        let properties = &publish.properties;
        Self {
            topic,
            payload: String::from_utf8_lossy(publish.payload).into_owned(),
            qos: publish.qos,
            dup: publish.dup,
            retain: publish.retain,
            packet_id: publish.packet_id,
            alias: properties
                .topic_alias
                .map(|alias| (alias, !publish.topic.is_empty())),
            subscription_ids: properties.subscription_ids.clone(),
            expiry_s: properties.message_expiry_s,
            user: properties
                .user
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    /// The value of the first User Property with this name.
    pub fn user(&self, name: &str) -> Option<&str> {
        self.user
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }
}

/// What a client saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// CONNACK.
    ConnAck(ConnAck),
    /// PUBLISH.
    Publish(Delivery),
    /// PUBACK.
    PubAck(Ack),
    /// PUBREC.
    PubRec(Ack),
    /// PUBREL.
    PubRel(Ack),
    /// PUBCOMP.
    PubComp(Ack),
    /// SUBACK.
    SubAck(SubAck),
    /// UNSUBACK.
    UnsubAck(UnsubAck),
    /// PINGRESP.
    PingResp,
    /// DISCONNECT.
    Disconnect(Disconnect),
    /// The connection ended.
    Closed,
}

impl Said {
    /// Anything but PUBLISH; `None` for what only a client sends.
    pub fn of(packet: Packet<'_>) -> Option<Self> {
        Some(match packet {
            Packet::ConnAck(ack) => Self::ConnAck(ack),
            Packet::PubAck(ack) => Self::PubAck(ack),
            Packet::PubRec(ack) => Self::PubRec(ack),
            Packet::PubRel(ack) => Self::PubRel(ack),
            Packet::PubComp(ack) => Self::PubComp(ack),
            Packet::SubAck(ack) => Self::SubAck(ack),
            Packet::UnsubAck(ack) => Self::UnsubAck(ack),
            Packet::PingResp => Self::PingResp,
            Packet::Disconnect(disconnect) => Self::Disconnect(disconnect),
            _ => return None,
        })
    }

    /// The reason of a DISCONNECT.
    pub fn disconnect_reason(&self) -> Option<ReasonCode> {
        match self {
            Self::Disconnect(disconnect) => Some(disconnect.reason),
            _ => None,
        }
    }
}
