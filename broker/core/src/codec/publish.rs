//! PUBLISH (§3.3), read without copying and written straight from a stored message.
//!
//! It does not know what a topic alias stands for, nor whether a payload that says it is UTF-8 is.

use std::sync::Arc;

use bytes::Bytes;

use super::header::PacketType;
use super::primitive::{
    MAX_VARINT, Reader, read_varint, str_len, varint_len, write_str, write_varint,
};
use super::property::{self, Property, Variable, properties_len, read_properties};
use super::{DecodeError, Version};
use crate::message::{MessageProperties, QoS};

const DUP: u8 = 0b1000;
const QOS_SHIFT: u8 = 1;
const RETAIN: u8 = 0b0001;

/// An application message on its way, in either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Sent before, perhaps; never set at QoS 0.
    pub dup: bool,
    /// Quality of Service.
    pub qos: QoS,
    /// RETAIN (§3.3.1.3).
    pub retain: bool,
    /// A valid Topic Name; empty only if `properties` have a topic alias.
    pub topic: &'a str,
    /// Packet Identifier, not 0; there at QoS 1 and 2 only.
    pub packet_id: Option<u16>,
    /// Empty in MQTT 3.x.
    pub properties: PublishProperties<'a>,
    /// Opaque bytes.
    pub payload: &'a [u8],
}

/// Properties of a PUBLISH (§3.3.2.3) or of a Will Message (§3.1.3.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishProperties<'a> {
    /// Payload Format Indicator; whether it is true is not checked.
    pub payload_is_utf8: Option<bool>,
    /// Message Expiry Interval, seconds.
    pub message_expiry_s: Option<u32>,
    /// Topic Alias, not 0.
    pub topic_alias: Option<u16>,
    /// Response Topic, a valid Topic Name.
    pub response_topic: Option<&'a str>,
    /// Correlation Data.
    pub correlation_data: Option<&'a [u8]>,
    /// User Properties, in the order sent.
    pub user: Vec<(&'a str, &'a str)>,
    /// Subscription Identifiers, not 0; a client must not send any [MQTT-3.3.4-6].
    pub subscription_ids: Vec<u32>,
    /// Content Type.
    pub content_type: Option<&'a str>,
}

impl<'a> Publish<'a> {
    /// `known_topic` is a valid Topic Name, or empty: the same name again is not looked at.
    pub(super) fn read(
        version: Version,
        flags: u8,
        reader: &mut Reader<'a>,
        known_topic: &'a str,
    ) -> Result<Self, DecodeError> {
        let qos =
            QoS::from_bits(flags >> QOS_SHIFT & 0b11).ok_or(DecodeError::Malformed("QoS 3"))?;
        let dup = flags & DUP != 0;
        if dup && qos == QoS::AtMostOnce {
            return Err(DecodeError::Malformed("DUP at QoS 0"));
        }
        let name = reader.binary()?;
        let is_known = !name.is_empty() && *name == *known_topic.as_bytes();
        let topic = match is_known {
            true => known_topic,
            false => Reader::new(name).rest_as_str()?,
        };
        let packet_id = match qos {
            QoS::AtMostOnce => None,
            _ => Some(reader.packet_id()?),
        };
        let mut properties = PublishProperties::default();
        if version == Version::V5 {
            read_properties(reader, property::PUBLISH, |property| {
                properties.take(property)
            })?;
        }
        if is_known {
            // Judged when it was new.
        } else if !topic.is_empty() || version != Version::V5 {
            crate::topic::validate_name(topic).map_err(|_| DecodeError::TopicNameInvalid)?;
        } else if properties.topic_alias.is_none() {
            return Err(DecodeError::Protocol("neither topic name nor topic alias"));
        }
        Ok(Self {
            dup,
            qos,
            retain: flags & RETAIN != 0,
            topic,
            packet_id,
            properties,
            payload: reader.rest(),
        })
    }

    pub(super) fn write(&self, version: Version, out: &mut Vec<u8>) {
        let frame = Frame {
            dup: self.dup,
            qos: self.qos,
            retain: self.retain,
            topic: self.topic,
            packet_id: self.packet_id.unwrap_or(0),
            payload: self.payload,
        };
        let properties = &self.properties;
        let alias = properties.topic_alias.map(Property::TopicAlias);
        let ids = subscription_ids(&properties.subscription_ids);
        frame.write(
            version,
            alias.into_iter().chain(ids).chain(properties.message()),
            out,
        );
    }
}

impl<'a> PublishProperties<'a> {
    /// The properties that travel with the message; `None` if none is set.
    pub fn to_message_properties(&self) -> Option<Box<MessageProperties>> {
        self.message().next()?;
        Some(Box::new(MessageProperties {
            payload_is_utf8: self.payload_is_utf8,
            message_expiry_s: self.message_expiry_s,
            response_topic: self.response_topic.map(Arc::from),
            correlation_data: self.correlation_data.map(Bytes::copy_from_slice),
            user: self
                .user
                .iter()
                .map(|&(name, value)| (name.into(), value.into()))
                .collect(),
            content_type: self.content_type.map(Arc::from),
        }))
    }

    pub(super) fn take(&mut self, property: Property<'a>) {
        match property {
            Property::PayloadIsUtf8(yes) => self.payload_is_utf8 = Some(yes),
            Property::MessageExpiryInterval(s) => self.message_expiry_s = Some(s),
            Property::TopicAlias(alias) => self.topic_alias = Some(alias),
            Property::ResponseTopic(topic) => self.response_topic = Some(topic),
            Property::CorrelationData(data) => self.correlation_data = Some(data),
            Property::User(pair) => self.user.push(pair),
            Property::SubscriptionIdentifier(Variable(id)) => self.subscription_ids.push(id),
            Property::ContentType(text) => self.content_type = Some(text),
            _ => {}
        }
    }

    /// The properties that belong to the message and not to the connection.
    pub(super) fn message(&self) -> impl Iterator<Item = Property<'a>> + Clone {
        [
            self.payload_is_utf8.map(Property::PayloadIsUtf8),
            self.message_expiry_s.map(Property::MessageExpiryInterval),
            self.response_topic.map(Property::ResponseTopic),
            self.correlation_data.map(Property::CorrelationData),
            self.content_type.map(Property::ContentType),
        ]
        .into_iter()
        .flatten()
        .chain(self.user.iter().copied().map(Property::User))
    }
}

/// A PUBLISH to one receiver: the stored message, and what is different for this receiver.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// Topic Name; empty when `topic_alias` stands for it.
    pub topic: &'a str,
    /// Opaque bytes.
    pub payload: &'a [u8],
    /// QoS for this receiver.
    pub qos: QoS,
    /// Sent before, perhaps; not written at QoS 0.
    pub dup: bool,
    /// RETAIN for this receiver (§3.3.1.3).
    pub retain: bool,
    /// Packet Identifier; 0 at QoS 0.
    pub packet_id: u16,
    /// The message's own properties.
    pub properties: Option<&'a MessageProperties>,
    /// What is left of the message's lifetime, seconds, instead of what `properties` say.
    pub message_expiry_s: Option<u32>,
    /// Topic Alias, not 0, within the receiver's maximum.
    pub topic_alias: Option<u16>,
    /// Identifiers of the subscriptions that matched.
    pub subscription_ids: &'a [u32],
    /// User Properties after the message's own.
    pub extra_user: &'a [(&'a str, &'a str)],
}

/// Appends the PUBLISH to `out`. MQTT 3.x has no properties: they are left out.
///
/// A packet above 268,435,455 bytes is not written; see [`publish_len`].
pub fn encode_publish(version: Version, publish: &Outgoing<'_>, out: &mut Vec<u8>) {
    if version == Version::V5 && publish.has_properties() {
        publish.frame().write(version, publish.properties(), out);
    } else {
        publish.frame().write(version, std::iter::empty(), out);
    }
}

/// Where the Packet Identifier of an encoded PUBLISH at QoS 1 or 2 is, in bytes from its start.
pub fn publish_packet_id_at(packet: &[u8]) -> Option<usize> {
    let after_type = packet.get(1..)?;
    let remaining = read_varint(after_type).ok()??;
    let topic = 1 + remaining.len;
    let len = packet.get(topic..)?.first_chunk::<2>()?;
    Some(topic + 2 + usize::from(u16::from_be_bytes(*len)))
}

/// The length of the whole packet in bytes, to be compared with the receiver's Maximum Packet Size.
pub fn publish_len(version: Version, publish: &Outgoing<'_>) -> usize {
    let remaining = publish
        .frame()
        .lengths(version, publish.properties())
        .remaining;
    1 + varint_len(remaining) + remaining
}

impl<'a> Outgoing<'a> {
    const fn has_properties(&self) -> bool {
        self.properties.is_some()
            || self.message_expiry_s.is_some()
            || self.topic_alias.is_some()
            || !self.subscription_ids.is_empty()
            || !self.extra_user.is_empty()
    }

    const fn frame(&self) -> Frame<'a> {
        Frame {
            dup: self.dup,
            qos: self.qos,
            retain: self.retain,
            topic: self.topic,
            packet_id: self.packet_id,
            payload: self.payload,
        }
    }

    fn properties(&self) -> impl Iterator<Item = Property<'a>> + Clone {
        let message = self.properties;
        let expiry_s = self.message_expiry_s.or_else(|| message?.message_expiry_s);
        let user = message.map_or(&[][..], |message| &message.user);
        [
            self.topic_alias.map(Property::TopicAlias),
            expiry_s.map(Property::MessageExpiryInterval),
        ]
        .into_iter()
        .flatten()
        .chain(subscription_ids(self.subscription_ids))
        .chain(message.into_iter().flat_map(single_properties))
        .chain(
            user.iter()
                .map(|(name, value)| Property::User((name, value))),
        )
        .chain(self.extra_user.iter().copied().map(Property::User))
    }
}

/// What a stored message has once and passes on unchanged.
fn single_properties(message: &MessageProperties) -> impl Iterator<Item = Property<'_>> + Clone {
    [
        message.payload_is_utf8.map(Property::PayloadIsUtf8),
        message
            .response_topic
            .as_deref()
            .map(Property::ResponseTopic),
        message
            .correlation_data
            .as_deref()
            .map(Property::CorrelationData),
        message.content_type.as_deref().map(Property::ContentType),
    ]
    .into_iter()
    .flatten()
}

fn subscription_ids(ids: &[u32]) -> impl Iterator<Item = Property<'_>> + Clone {
    ids.iter()
        .map(|&id| Property::SubscriptionIdentifier(Variable(id)))
}

/// What every PUBLISH has, whoever writes it.
struct Frame<'a> {
    dup: bool,
    qos: QoS,
    retain: bool,
    topic: &'a str,
    packet_id: u16,
    payload: &'a [u8],
}

/// Lengths on the wire, bytes.
struct Lengths {
    /// Remaining Length.
    remaining: usize,
    /// Property Length.
    properties: usize,
}

impl Frame<'_> {
    fn lengths<'p>(
        &self,
        version: Version,
        properties: impl Iterator<Item = Property<'p>>,
    ) -> Lengths {
        let packet_id_len = if self.qos == QoS::AtMostOnce { 0 } else { 2 };
        let without = str_len(self.topic) + packet_id_len + self.payload.len();
        if version != Version::V5 {
            return Lengths {
                remaining: without,
                properties: 0,
            };
        }
        let properties = properties_len(properties);
        Lengths {
            remaining: without + varint_len(properties) + properties,
            properties,
        }
    }

    fn write<'p>(
        &self,
        version: Version,
        properties: impl Iterator<Item = Property<'p>> + Clone,
        out: &mut Vec<u8>,
    ) {
        let with_packet_id = self.qos != QoS::AtMostOnce;
        debug_assert!(
            !with_packet_id || self.packet_id != 0,
            "a packet identifier at QoS 1 and 2"
        );
        let Lengths {
            remaining,
            properties: properties_len,
        } = self.lengths(version, properties.clone());
        if remaining > MAX_VARINT {
            return;
        }
        out.reserve(1 + varint_len(remaining) + remaining);
        let dup = if self.dup && with_packet_id { DUP } else { 0 };
        let retain = if self.retain { RETAIN } else { 0 };
        out.push(PacketType::Publish.first_byte() | dup | (self.qos as u8) << QOS_SHIFT | retain);
        write_varint(remaining, out);
        write_str(self.topic, out);
        if with_packet_id {
            out.extend_from_slice(&self.packet_id.to_be_bytes());
        }
        if version == Version::V5 {
            write_varint(properties_len, out);
            properties.for_each(|property| property.write(out));
        }
        out.extend_from_slice(self.payload);
    }
}
