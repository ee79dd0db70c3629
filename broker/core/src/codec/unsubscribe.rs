//! UNSUBSCRIBE and UNSUBACK (§3.10, §3.11).

use super::header::PacketType;
use super::primitive::{Reader, write_str};
use super::property::{Property, owned_pair, read_properties, user_properties, write_properties};
use super::subscribe::read_filter;
use super::{DecodeError, ReasonCode, Version};

/// A request to end one or more subscriptions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    /// Packet Identifier, not 0 when decoded.
    pub packet_id: u16,
    /// Topic Filters as they were subscribed; at least one when decoded.
    pub filters: Vec<String>,
    /// User Properties, in the order sent.
    pub user: Vec<(String, String)>,
}

/// The answer to an UNSUBSCRIBE: in MQTT 5 one code per filter, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsubAck {
    /// Packet Identifier of the UNSUBSCRIBE.
    pub packet_id: u16,
    /// What became of each filter; empty in MQTT 3.x, which has no codes here.
    pub reasons: Vec<ReasonCode>,
    /// For people and logs (§3.11.2.1.2).
    pub reason_string: Option<String>,
    /// User Properties, in the order sent.
    pub user: Vec<(String, String)>,
}

impl Unsubscribe {
    pub(super) fn read(version: Version, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut unsubscribe = Self {
            packet_id: reader.packet_id()?,
            filters: Vec::new(),
            user: Vec::new(),
        };
        if version == Version::V5 {
            read_properties(reader, PacketType::Unsubscribe.bit(), |property| {
                if let Property::User(pair) = property {
                    unsubscribe.user.push(owned_pair(pair));
                }
            })?;
        }
        if reader.is_empty() {
            return Err(DecodeError::Protocol("UNSUBSCRIBE without topic filter"));
        }
        while !reader.is_empty() {
            unsubscribe.filters.push(read_filter(reader)?.to_owned());
        }
        Ok(unsubscribe)
    }

    pub(super) fn write(&self, version: Version, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.packet_id.to_be_bytes());
        if version == Version::V5 {
            write_properties(user_properties(&self.user), out);
        }
        self.filters
            .iter()
            .for_each(|filter| write_str(filter, out));
    }
}

impl UnsubAck {
    pub(super) fn read(version: Version, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut unsuback = Self {
            packet_id: reader.packet_id()?,
            reasons: Vec::new(),
            reason_string: None,
            user: Vec::new(),
        };
        if version != Version::V5 {
            return Ok(unsuback);
        }
        read_properties(
            reader,
            PacketType::UnsubAck.bit(),
            |property| match property {
                Property::ReasonString(text) => unsuback.reason_string = Some(text.to_owned()),
                Property::User(pair) => unsuback.user.push(owned_pair(pair)),
                _ => {}
            },
        )?;
        if reader.is_empty() {
            return Err(DecodeError::Protocol("UNSUBACK without reason code"));
        }
        while !reader.is_empty() {
            unsuback
                .reasons
                .push(ReasonCode::read(reader, PacketType::UnsubAck)?);
        }
        Ok(unsuback)
    }

    pub(super) fn write(&self, version: Version, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.packet_id.to_be_bytes());
        if version == Version::V5 {
            let reason_string = self.reason_string.as_deref().map(Property::ReasonString);
            write_properties(
                reason_string.into_iter().chain(user_properties(&self.user)),
                out,
            );
            out.extend(self.reasons.iter().map(|&code| code as u8));
        }
    }
}
