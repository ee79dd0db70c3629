//! CONNACK (§3.2).

use super::header::PacketType;
use super::primitive::Reader;
use super::property::{Property, owned_pair, read_properties, user_properties, write_properties};
use super::{DecodeError, ReasonCode, Version};
use crate::message::QoS;

/// The answer to a CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnAck {
    /// Whether the server had Session State (§3.2.2.1.1); not said in MQTT 3.1, nor on failure.
    pub session_present: bool,
    /// In MQTT 3.x the nearest Connect Return Code.
    pub reason: ReasonCode,
    /// What the server wants the client to know; empty in MQTT 3.x.
    pub properties: ConnAckProperties,
}

/// Properties of a CONNACK (§3.2.2.3); what is `None` has the default of the specification.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnAckProperties {
    /// Session Expiry Interval in use, seconds.
    pub session_expiry_s: Option<u32>,
    /// Receive Maximum of the server.
    pub receive_maximum: Option<u16>,
    /// Maximum QoS; `ExactlyOnce` is said by leaving it out.
    pub maximum_qos: Option<QoS>,
    /// Retain Available.
    pub retain_available: Option<bool>,
    /// Maximum Packet Size of the server, bytes.
    pub maximum_packet_size: Option<u32>,
    /// Assigned Client Identifier.
    pub assigned_client_id: Option<String>,
    /// Topic Alias Maximum of the server.
    pub topic_alias_maximum: Option<u16>,
    /// For people and logs.
    pub reason_string: Option<String>,
    /// User Properties, in the order sent.
    pub user: Vec<(String, String)>,
    /// Wildcard Subscription Available.
    pub wildcard_available: Option<bool>,
    /// Subscription Identifiers Available.
    pub subscription_ids_available: Option<bool>,
    /// Shared Subscription Available.
    pub shared_available: Option<bool>,
    /// Server Keep Alive, seconds: to be used instead of the client's.
    pub server_keep_alive_s: Option<u16>,
    /// Response Information.
    pub response_information: Option<String>,
    /// Another server to use.
    pub server_reference: Option<String>,
    /// Authentication Method.
    pub authentication_method: Option<String>,
    /// Authentication Data.
    pub authentication_data: Option<Vec<u8>>,
}

impl ConnAck {
    /// The answer to a CONNECT that is not accepted.
    pub fn refusal(reason: ReasonCode) -> Self {
        Self {
            session_present: false,
            reason,
            properties: ConnAckProperties::default(),
        }
    }

    pub(super) fn read(version: Version, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let flags = reader.u8()?;
        let code = if version == Version::V5 {
            ReasonCode::read(reader, PacketType::ConnAck)?
        } else {
            ReasonCode::from_connect_return_code(reader.u8()?)
                .ok_or(DecodeError::Malformed("reserved connect return code"))?
        };
        let session_present = match (version, flags) {
            // A reserved byte in MQTT 3.1.
            (Version::V31, _) | (_, 0) => false,
            (_, 1) => true,
            _ => {
                return Err(DecodeError::Malformed(
                    "reserved bits of the connect acknowledge flags",
                ));
            }
        };
        if session_present && code != ReasonCode::Success {
            return Err(DecodeError::Protocol("session present in a refusal"));
        }
        let properties = match version {
            Version::V5 => ConnAckProperties::read(reader)?,
            _ => ConnAckProperties::default(),
        };
        Ok(Self {
            session_present,
            reason: code,
            properties,
        })
    }

    pub(super) fn write(&self, version: Version, out: &mut Vec<u8>) {
        // [MQTT-3.2.2-6]: a refusal says 0 here. MQTT 3.1 has no such flag.
        let session_present =
            self.session_present && self.reason == ReasonCode::Success && version != Version::V31;
        out.push(u8::from(session_present));
        if version == Version::V5 {
            out.push(self.reason as u8);
            write_properties(self.properties.iter(), out);
        } else {
            out.push(self.reason.connect_return_code());
        }
    }
}

impl ConnAckProperties {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut found = Self::default();
        read_properties(
            reader,
            PacketType::ConnAck.bit(),
            |property| match property {
                Property::SessionExpiryInterval(s) => found.session_expiry_s = Some(s),
                Property::ReceiveMaximum(max) => found.receive_maximum = Some(max),
                Property::MaximumQoS(qos) => found.maximum_qos = Some(qos),
                Property::RetainAvailable(yes) => found.retain_available = Some(yes),
                Property::MaximumPacketSize(max) => found.maximum_packet_size = Some(max),
                Property::AssignedClientIdentifier(id) => {
                    found.assigned_client_id = Some(id.to_owned())
                }
                Property::TopicAliasMaximum(max) => found.topic_alias_maximum = Some(max),
                Property::ReasonString(text) => found.reason_string = Some(text.to_owned()),
                Property::User(pair) => found.user.push(owned_pair(pair)),
                Property::WildcardSubscriptionAvailable(yes) => {
                    found.wildcard_available = Some(yes)
                }
                Property::SubscriptionIdentifiersAvailable(yes) => {
                    found.subscription_ids_available = Some(yes);
                }
                Property::SharedSubscriptionAvailable(yes) => found.shared_available = Some(yes),
                Property::ServerKeepAlive(s) => found.server_keep_alive_s = Some(s),
                Property::ResponseInformation(text) => {
                    found.response_information = Some(text.to_owned());
                }
                Property::ServerReference(server) => {
                    found.server_reference = Some(server.to_owned())
                }
                Property::AuthenticationMethod(method) => {
                    found.authentication_method = Some(method.to_owned());
                }
                Property::AuthenticationData(data) => {
                    found.authentication_data = Some(data.to_owned())
                }
                _ => {}
            },
        )?;
        if found.authentication_data.is_some() && found.authentication_method.is_none() {
            return Err(DecodeError::Protocol("authentication data without method"));
        }
        Ok(found)
    }

    fn iter(&self) -> impl Iterator<Item = Property<'_>> + Clone {
        [
            self.session_expiry_s.map(Property::SessionExpiryInterval),
            self.receive_maximum.map(Property::ReceiveMaximum),
            self.maximum_qos
                .filter(|&qos| qos < QoS::ExactlyOnce)
                .map(Property::MaximumQoS),
            self.retain_available.map(Property::RetainAvailable),
            self.maximum_packet_size.map(Property::MaximumPacketSize),
            self.assigned_client_id
                .as_deref()
                .map(Property::AssignedClientIdentifier),
            self.topic_alias_maximum.map(Property::TopicAliasMaximum),
            self.reason_string.as_deref().map(Property::ReasonString),
            self.wildcard_available
                .map(Property::WildcardSubscriptionAvailable),
            self.subscription_ids_available
                .map(Property::SubscriptionIdentifiersAvailable),
            self.shared_available
                .map(Property::SharedSubscriptionAvailable),
            self.server_keep_alive_s.map(Property::ServerKeepAlive),
            self.response_information
                .as_deref()
                .map(Property::ResponseInformation),
            self.server_reference
                .as_deref()
                .map(Property::ServerReference),
            self.authentication_method
                .as_deref()
                .map(Property::AuthenticationMethod),
            self.authentication_data
                .as_deref()
                .map(Property::AuthenticationData),
        ]
        .into_iter()
        .flatten()
        .chain(user_properties(&self.user))
    }
}
