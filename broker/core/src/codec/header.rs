//! The fixed header (§2.1): packet type, flags and Remaining Length, judged before a body is there.
//!
//! Invariant: a header that can only lead to an error is an error at once, so that nobody buffers
//! for a packet that will be refused. It does not know what a body looks like.

use super::primitive::read_varint;
use super::{DecodeError, Version};

/// A set of packet types, one bit each; [`WILL`] is the bit for properties of a Will Message.
pub(super) type Places = u16;

/// Will Properties are a place of their own in the table of properties (§2.2.2.2); packet type 0
/// does not exist, so its bit is free.
pub(super) const WILL: Places = 1;

/// Packet types (§2.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum PacketType {
    Connect = 1,
    ConnAck = 2,
    Publish = 3,
    PubAck = 4,
    PubRec = 5,
    PubRel = 6,
    PubComp = 7,
    Subscribe = 8,
    SubAck = 9,
    Unsubscribe = 10,
    UnsubAck = 11,
    PingReq = 12,
    PingResp = 13,
    Disconnect = 14,
    Auth = 15,
}

impl PacketType {
    pub(super) const fn bit(self) -> Places {
        1 << self as u16
    }

    /// The first byte of a packet of this type; PUBLISH adds its own flags.
    pub(super) const fn first_byte(self) -> u8 {
        (self as u8) << 4 | self.fixed_flags()
    }

    const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            1 => Self::Connect,
            2 => Self::ConnAck,
            3 => Self::Publish,
            4 => Self::PubAck,
            5 => Self::PubRec,
            6 => Self::PubRel,
            7 => Self::PubComp,
            8 => Self::Subscribe,
            9 => Self::SubAck,
            10 => Self::Unsubscribe,
            11 => Self::UnsubAck,
            12 => Self::PingReq,
            13 => Self::PingResp,
            14 => Self::Disconnect,
            15 => Self::Auth,
            _ => return None,
        })
    }

    /// The reserved flags (§2.1.3); of PUBLISH, whose flags have a meaning, all zero.
    const fn fixed_flags(self) -> u8 {
        match self {
            Self::PubRel | Self::Subscribe | Self::Unsubscribe => 0b0010,
            _ => 0,
        }
    }

    /// Whether packets of this type are nothing but a header.
    const fn is_empty(self, version: Option<Version>) -> bool {
        match self {
            Self::PingReq | Self::PingResp => true,
            Self::Disconnect => matches!(version, Some(Version::V31 | Version::V311)),
            _ => false,
        }
    }

    const fn flags_are_valid(self, flags: u8, version: Option<Version>) -> bool {
        if matches!(self, Self::Publish) {
            return true;
        }
        // MQTT 3.1 (§2.1) sends these at QoS 1 and repeats them with DUP.
        let dup = match (version, self) {
            (Some(Version::V31), Self::PubRel | Self::Subscribe | Self::Unsubscribe) => 0b1000,
            _ => 0,
        };
        flags & !dup == self.fixed_flags()
    }
}

/// A fixed header that was read whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct FixedHeader {
    pub(super) packet_type: PacketType,
    pub(super) flags: u8,
    /// Bytes of the header itself, 2 to 5.
    pub(super) len: usize,
    /// Remaining Length: bytes after the header.
    pub(super) remaining: usize,
    /// Whether Remaining Length used as few bytes as possible.
    pub(super) minimal: bool,
}

impl FixedHeader {
    /// Reads the header at the start of `buf`; `None`: more bytes are needed.
    pub(super) fn read(
        version: Option<Version>,
        buf: &[u8],
        max_packet: usize,
    ) -> Result<Option<Self>, DecodeError> {
        let Some((&first, rest)) = buf.split_first() else {
            return Ok(None);
        };
        let packet_type = PacketType::from_bits(first >> 4)
            .ok_or(DecodeError::Malformed("packet type 0 is reserved"))?;
        let flags = first & 0x0F;
        match (version, packet_type) {
            (None, PacketType::Connect) => {}
            (None, _) => return Err(DecodeError::Protocol("the first packet is not a CONNECT")),
            (Some(_), PacketType::Connect) => return Err(DecodeError::Protocol("second CONNECT")),
            (Some(Version::V31 | Version::V311), PacketType::Auth) => {
                return Err(DecodeError::Malformed("packet type 15 is reserved"));
            }
            _ => {}
        }
        if !packet_type.flags_are_valid(flags, version) {
            return Err(DecodeError::Malformed("reserved flags of the fixed header"));
        }

        let Some(length) = read_varint(rest)? else {
            return Ok(None);
        };
        // Only MQTT 5 demands the shortest form [MQTT-1.5.5-1]; a 3.1.1 client may reserve four bytes.
        if version == Some(Version::V5) && !length.minimal {
            return Err(DecodeError::Malformed("remaining length is not minimal"));
        }
        if length.value != 0 && packet_type.is_empty(version) {
            return Err(DecodeError::Malformed(
                "this packet has nothing after its header",
            ));
        }
        let header = Self {
            packet_type,
            flags,
            len: 1 + length.len,
            remaining: length.value as usize,
            minimal: length.minimal,
        };
        let len = header.len + header.remaining;
        if len > max_packet {
            return Err(DecodeError::PacketTooLarge {
                len,
                max: max_packet,
            });
        }
        Ok(Some(header))
    }
}
