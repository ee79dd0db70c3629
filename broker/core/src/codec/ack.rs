//! PUBACK, PUBREC, PUBREL and PUBCOMP (§3.4 to §3.7): four packets of one shape.

use super::header::PacketType;
use super::primitive::Reader;
use super::property::{Property, owned_pair, read_properties, user_properties, write_properties};
use super::{DecodeError, ReasonCode, Version};

/// An acknowledgement of a PUBLISH or of one of its steps at QoS 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Which exchange it belongs to; never 0 when decoded.
    pub packet_id: u16,
    /// Always `Success` in MQTT 3.x, which has none.
    pub reason: ReasonCode,
    /// For people and logs (§3.4.2.2.2).
    pub reason_string: Option<String>,
    /// User Properties, in the order sent.
    pub user: Vec<(String, String)>,
}

impl Ack {
    /// An acknowledgement that says no more than its Reason Code.
    pub const fn new(packet_id: u16, reason: ReasonCode) -> Self {
        Self {
            packet_id,
            reason,
            reason_string: None,
            user: Vec::new(),
        }
    }

    pub(super) fn read(
        version: Version,
        packet_type: PacketType,
        reader: &mut Reader<'_>,
    ) -> Result<Self, DecodeError> {
        let mut ack = Self::new(reader.packet_id()?, ReasonCode::Success);
        // Reason Code and properties may be missing from the end (§3.4.2.1, §3.4.2.2.1).
        if version == Version::V5 && !reader.is_empty() {
            ack.reason = ReasonCode::read(reader, packet_type)?;
            if !reader.is_empty() {
                read_properties(reader, packet_type.bit(), |property| match property {
                    Property::ReasonString(text) => ack.reason_string = Some(text.to_owned()),
                    Property::User(pair) => ack.user.push(owned_pair(pair)),
                    _ => {}
                })?;
            }
        }
        Ok(ack)
    }

    pub(super) fn write(&self, version: Version, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.packet_id.to_be_bytes());
        if version != Version::V5 {
            return;
        }
        let has_properties = self.reason_string.is_some() || !self.user.is_empty();
        if has_properties || self.reason != ReasonCode::Success {
            out.push(self.reason as u8);
        }
        if has_properties {
            let reason_string = self.reason_string.as_deref().map(Property::ReasonString);
            write_properties(
                reason_string.into_iter().chain(user_properties(&self.user)),
                out,
            );
        }
    }
}
