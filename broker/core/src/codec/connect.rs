//! CONNECT (§3.1): the packet that says which version of MQTT a connection speaks.
//!
//! It does not know which Client Identifiers a server takes: an empty one, or in MQTT 3.1 one above
//! 23 characters, is decoded, because the refusal is a CONNACK with a code of its own.

use super::header::{FixedHeader, PacketType, WILL};
use super::primitive::{Reader, write_binary, write_str};
use super::property::{Property, read_properties, write_properties};
use super::publish::PublishProperties;
use super::{DecodeError, Version};
use crate::message::QoS;

const CLEAN_START: u8 = 0b0000_0010;
const WILL_FLAG: u8 = 0b0000_0100;
const WILL_QOS_SHIFT: u8 = 3;
const WILL_RETAIN: u8 = 0b0010_0000;
const PASSWORD: u8 = 0b0100_0000;
const USERNAME: u8 = 0b1000_0000;

/// The first packet of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The version the client speaks, and that the whole connection speaks then.
    pub version: Version,
    /// Client Identifier; empty if the server is to assign one.
    pub client_id: &'a str,
    /// Clean Start (§3.1.2.4), in MQTT 3.x Clean Session.
    pub clean_start: bool,
    /// Keep Alive, seconds; 0 turns it off.
    pub keep_alive_s: u16,
    /// User Name.
    pub username: Option<&'a str>,
    /// Password: opaque bytes.
    pub password: Option<&'a [u8]>,
    /// What to publish if the connection ends otherwise than by DISCONNECT.
    pub will: Option<Will<'a>>,
    /// Empty in MQTT 3.x.
    pub properties: ConnectProperties<'a>,
}

/// Properties of a CONNECT (§3.1.2.11); what is `None` has the default of the specification.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectProperties<'a> {
    /// Session Expiry Interval, seconds; `u32::MAX` is never.
    pub session_expiry_s: Option<u32>,
    /// Receive Maximum of the client; never 0 when decoded.
    pub receive_maximum: Option<u16>,
    /// Maximum Packet Size of the client, bytes; never 0 when decoded.
    pub maximum_packet_size: Option<u32>,
    /// Topic Alias Maximum of the client.
    pub topic_alias_maximum: Option<u16>,
    /// Request Response Information.
    pub request_response_information: Option<bool>,
    /// Request Problem Information.
    pub request_problem_information: Option<bool>,
    /// User Properties, in the order sent.
    pub user: Vec<(&'a str, &'a str)>,
    /// Authentication Method: the client wants extended authentication (§4.12).
    pub authentication_method: Option<&'a str>,
    /// Authentication Data; never without a method.
    pub authentication_data: Option<&'a [u8]>,
}

/// A Will Message (§3.1.2.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will<'a> {
    /// Will Topic, a valid Topic Name.
    pub topic: &'a str,
    /// Will Payload, opaque bytes.
    pub payload: &'a [u8],
    /// Will QoS.
    pub qos: QoS,
    /// Will Retain.
    pub retain: bool,
    /// Will Delay Interval, seconds.
    pub delay_s: u32,
    /// Properties the Will Message is published with; no alias, no Subscription Identifiers.
    pub properties: PublishProperties<'a>,
}

impl<'a> Connect<'a> {
    pub(super) fn read(header: &FixedHeader, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let version = read_version(reader)?;
        if version == Version::V5 && !header.minimal {
            return Err(DecodeError::Malformed("remaining length is not minimal"));
        }
        let flags = reader.u8()?;
        check_flags(version, flags)?;
        let keep_alive_s = reader.u16()?;
        let properties = match version {
            Version::V5 => ConnectProperties::read(reader)?,
            _ => ConnectProperties::default(),
        };

        let client_id = reader.str()?;
        let will = if flags & WILL_FLAG != 0 {
            Some(Will::read(version, flags, reader)?)
        } else {
            None
        };
        // In MQTT 3.1 the Remaining Length has precedence over these two flags (3.1, CONNECT).
        let is_there = |flag: u8, reader: &Reader<'_>| {
            flags & flag != 0 && !(version == Version::V31 && reader.is_empty())
        };
        let username = if is_there(USERNAME, reader) {
            Some(reader.str()?)
        } else {
            None
        };
        let password = if is_there(PASSWORD, reader) {
            Some(reader.binary()?)
        } else {
            None
        };
        Ok(Self {
            version,
            client_id,
            clean_start: flags & CLEAN_START != 0,
            keep_alive_s,
            username,
            password,
            will,
            properties,
        })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let version = self.version;
        write_str(
            if version == Version::V31 {
                "MQIsdp"
            } else {
                "MQTT"
            },
            out,
        );
        out.push(version.level());
        // Only MQTT 5 has a password without a user name [MQTT-3.1.2-22].
        let password = self
            .password
            .filter(|_| version == Version::V5 || self.username.is_some());
        let flag = |on: bool, flag: u8| if on { flag } else { 0 };
        let will_flags = self.will.as_ref().map_or(0, |will| {
            WILL_FLAG | (will.qos as u8) << WILL_QOS_SHIFT | flag(will.retain, WILL_RETAIN)
        });
        out.push(
            flag(self.clean_start, CLEAN_START)
                | will_flags
                | flag(self.username.is_some(), USERNAME)
                | flag(password.is_some(), PASSWORD),
        );
        out.extend_from_slice(&self.keep_alive_s.to_be_bytes());
        if version == Version::V5 {
            write_properties(self.properties.iter(), out);
        }
        write_str(self.client_id, out);
        if let Some(will) = &self.will {
            will.write(version, out);
        }
        if let Some(username) = self.username {
            write_str(username, out);
        }
        if let Some(password) = password {
            write_binary(password, out);
        }
    }
}

/// Protocol Name and Protocol Version, judged before anything that depends on them.
fn read_version(reader: &mut Reader<'_>) -> Result<Version, DecodeError> {
    let name = reader.str()?;
    match name {
        "MQTT" | "MQIsdp" => {}
        _ => return Err(DecodeError::Malformed("protocol name")),
    }
    match (name, reader.u8()?) {
        ("MQIsdp", 3) => Ok(Version::V31),
        ("MQTT", 4) => Ok(Version::V311),
        ("MQTT", 5) => Ok(Version::V5),
        (_, level) => Err(DecodeError::UnsupportedVersion(level)),
    }
}

fn check_flags(version: Version, flags: u8) -> Result<(), DecodeError> {
    // MQTT 3.1 reserves bit 0 without a value, and ignores Will QoS and Will Retain without a Will.
    if version != Version::V31 {
        if flags & 1 != 0 {
            return Err(DecodeError::Malformed("reserved connect flag"));
        }
        if flags & WILL_FLAG == 0 && flags & (WILL_RETAIN | 0b11 << WILL_QOS_SHIFT) != 0 {
            return Err(DecodeError::Malformed(
                "will QoS or will retain without will flag",
            ));
        }
    }
    if version != Version::V5 && flags & PASSWORD != 0 && flags & USERNAME == 0 {
        return Err(DecodeError::Malformed("password without user name"));
    }
    Ok(())
}

impl<'a> ConnectProperties<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let mut found = Self::default();
        read_properties(
            reader,
            PacketType::Connect.bit(),
            |property| match property {
                Property::SessionExpiryInterval(s) => found.session_expiry_s = Some(s),
                Property::ReceiveMaximum(max) => found.receive_maximum = Some(max),
                Property::MaximumPacketSize(max) => found.maximum_packet_size = Some(max),
                Property::TopicAliasMaximum(max) => found.topic_alias_maximum = Some(max),
                Property::RequestResponseInformation(yes) => {
                    found.request_response_information = Some(yes);
                }
                Property::RequestProblemInformation(yes) => {
                    found.request_problem_information = Some(yes);
                }
                Property::User(pair) => found.user.push(pair),
                Property::AuthenticationMethod(method) => {
                    found.authentication_method = Some(method)
                }
                Property::AuthenticationData(data) => found.authentication_data = Some(data),
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
            self.maximum_packet_size.map(Property::MaximumPacketSize),
            self.topic_alias_maximum.map(Property::TopicAliasMaximum),
            self.request_response_information
                .map(Property::RequestResponseInformation),
            self.request_problem_information
                .map(Property::RequestProblemInformation),
            self.authentication_method
                .map(Property::AuthenticationMethod),
            self.authentication_data.map(Property::AuthenticationData),
        ]
        .into_iter()
        .flatten()
        .chain(self.user.iter().copied().map(Property::User))
    }
}

impl<'a> Will<'a> {
    fn read(version: Version, flags: u8, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let qos = QoS::from_bits(flags >> WILL_QOS_SHIFT & 0b11)
            .ok_or(DecodeError::Malformed("will QoS 3"))?;
        let mut delay_s = 0;
        let mut properties = PublishProperties::default();
        if version == Version::V5 {
            read_properties(reader, WILL, |property| match property {
                Property::WillDelayInterval(s) => delay_s = s,
                other => properties.take(other),
            })?;
        }
        let topic = reader.str()?;
        crate::topic::validate_name(topic).map_err(|_| DecodeError::TopicNameInvalid)?;
        let payload = reader.binary()?;
        Ok(Self {
            topic,
            payload,
            qos,
            retain: flags & WILL_RETAIN != 0,
            delay_s,
            properties,
        })
    }

    fn write(&self, version: Version, out: &mut Vec<u8>) {
        if version == Version::V5 {
            let delay = (self.delay_s > 0).then_some(Property::WillDelayInterval(self.delay_s));
            write_properties(delay.into_iter().chain(self.properties.message()), out);
        }
        write_str(self.topic, out);
        write_binary(self.payload, out);
    }
}
