//! PUBACK, PUBREC, PUBREL and PUBCOMP (§3.4 to §3.7): four packets of one shape.

use super::header::PacketType;
use super::primitive::{Reader, write_framed};
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

/// An acknowledgement of four bytes: `Success`, in every version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShortAck {
    /// §3.4
    PubAck,
    /// §3.5
    PubRec,
    /// §3.6
    PubRel,
    /// §3.7
    PubComp,
}

/// The acknowledgement of four bytes that `buf` begins with, and its Packet Identifier, not 0;
/// `None`: whatever is there is for [`decode`](super::decode).
pub fn decode_short_ack(buf: &[u8]) -> Option<(ShortAck, u16)> {
    let &[first, 2, high, low] = buf.first_chunk()? else {
        return None;
    };
    let kind = match first {
        0x40 => ShortAck::PubAck,
        0x50 => ShortAck::PubRec,
        0x62 => ShortAck::PubRel,
        0x70 => ShortAck::PubComp,
        _ => return None,
    };
    let packet_id = u16::from_be_bytes([high, low]);
    (packet_id != 0).then_some((kind, packet_id))
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

    pub(super) fn write(&self, packet_type: PacketType, version: Version, out: &mut Vec<u8>) {
        let has_properties = self.reason_string.is_some() || !self.user.is_empty();
        let is_short = !has_properties && self.reason == ReasonCode::Success;
        if is_short || version != Version::V5 {
            let [high, low] = self.packet_id.to_be_bytes();
            out.extend_from_slice(&[packet_type.first_byte(), 2, high, low]);
            return;
        }
        write_framed(packet_type.first_byte(), out, |out| {
            self.write_body(has_properties, out);
        });
    }

    fn write_body(&self, has_properties: bool, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.packet_id.to_be_bytes());
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
