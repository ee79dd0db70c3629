//! What came from the broker: a packet with its bytes, and a PUBLISH that owns what it says.

use std::fmt;

use tidings_core::codec::{Packet, Publish, Version, decode};
use tidings_core::message::{MessageProperties, QoS};

/// The largest Remaining Length there is, plus its header: a test takes everything.
pub(crate) const MAX_PACKET: usize = 268_435_460;

/// One whole packet, as bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    version: Version,
    bytes: Vec<u8>,
}

impl Frame {
    pub(crate) fn new(version: Version, bytes: Vec<u8>) -> Self {
        Self { version, bytes }
    }

    /// The packet.
    ///
    /// # Panics
    /// If the broker sent what cannot be decoded.
    #[track_caller]
    pub fn packet(&self) -> Packet<'_> {
        match decode(Some(self.version), &self.bytes, MAX_PACKET) {
            Ok(Some((packet, _))) => packet,
            Ok(None) => panic!(
                "the broker sent a packet that is too short: {:02x?}",
                self.bytes
            ),
            Err(error) => panic!("the broker sent {error}: {:02x?}", self.bytes),
        }
    }

    /// The bytes as they came.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The PUBLISH in it, if it is one.
    pub fn delivery(&self) -> Option<Delivery> {
        match self.packet() {
            Packet::Publish(publish) => Some(Delivery::new(&publish)),
            _ => None,
        }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match decode(Some(self.version), &self.bytes, MAX_PACKET) {
            Ok(Some((packet, _))) => packet.fmt(f),
            Ok(None) => write!(f, "incomplete {:02x?}", self.bytes),
            Err(error) => write!(f, "{error}: {:02x?}", self.bytes),
        }
    }
}

/// A PUBLISH that the broker sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// DUP.
    pub dup: bool,
    /// Quality of Service.
    pub qos: QoS,
    /// RETAIN.
    pub retain: bool,
    /// Topic Name; empty if an alias stands for it.
    pub topic: String,
    /// Packet Identifier, at QoS 1 and 2.
    pub packet_id: Option<u16>,
    /// Payload.
    pub payload: Vec<u8>,
    /// Topic Alias.
    pub topic_alias: Option<u16>,
    /// Subscription Identifiers, in the order sent.
    pub subscription_ids: Vec<u32>,
    /// What came along from the publisher, and what the broker added to it.
    pub properties: MessageProperties,
}

impl Delivery {
    /// Copies what a PUBLISH says.
    pub fn new(publish: &Publish<'_>) -> Self {
        let properties = publish.properties.to_message_properties();
        Self {
            dup: publish.dup,
            qos: publish.qos,
            retain: publish.retain,
            topic: publish.topic.to_owned(),
            packet_id: publish.packet_id,
            payload: publish.payload.to_vec(),
            topic_alias: publish.properties.topic_alias,
            subscription_ids: publish.properties.subscription_ids.clone(),
            properties: properties.map_or_else(MessageProperties::default, |boxed| *boxed),
        }
    }

    /// The payload as text, for comparing; what is no text is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    /// The value of the first User Property with this name.
    pub fn user_property(&self, name: &str) -> Option<&str> {
        let (_, value) = self
            .properties
            .user
            .iter()
            .find(|(key, _)| &**key == name)?;
        Some(value)
    }
}
