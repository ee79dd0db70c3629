//! MQTT packets to and from bytes: 3.1 (`MQIsdp`, level 3), 3.1.1 (level 4) and 5.0 (level 5), in
//! one implementation.
//!
//! Invariants: no bytes make it panic; what it accepts breaks no rule that can be judged from one
//! packet alone; what it writes it accepts. Decoding a PUBLISH without properties allocates nothing.
//! Both directions are spoken, so it does not know who may send what, nor what a connection has
//! agreed on (topic aliases, Receive Maximum, which packets are expected): that is the session's.

mod ack;
mod auth;
mod connack;
mod connect;
mod disconnect;
mod error;
mod header;
mod primitive;
mod property;
mod publish;
mod reason;
mod subscribe;
#[cfg(test)]
mod tests;
mod unsubscribe;

pub use ack::{Ack, ShortAck, decode_short_ack};
pub use auth::Auth;
pub use connack::{ConnAck, ConnAckProperties};
pub use connect::{Connect, ConnectProperties, Will};
pub use disconnect::Disconnect;
pub use error::DecodeError;
pub use publish::{
    Outgoing, Publish, PublishProperties, encode_publish, publish_len, publish_packet_id_at,
};
pub use reason::ReasonCode;
pub use subscribe::{RetainHandling, SubAck, Subscribe, SubscribeFilter};
pub use unsubscribe::{UnsubAck, Unsubscribe};

use header::{FixedHeader, PacketType};
use primitive::{Reader, write_framed};

/// A version of MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// MQTT 3.1, protocol name `MQIsdp`.
    V31,
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.0.
    V5,
}

impl Version {
    /// Protocol Level of 3.x, Protocol Version of 5.0: the byte after the protocol name.
    pub const fn level(self) -> u8 {
        match self {
            Self::V31 => 3,
            Self::V311 => 4,
            Self::V5 => 5,
        }
    }
}

/// A Control Packet (§3). What is on the hot path borrows from the bytes it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// §3.1
    Connect(Connect<'a>),
    /// §3.2
    ConnAck(ConnAck),
    /// §3.3
    Publish(Publish<'a>),
    /// §3.4
    PubAck(Ack),
    /// §3.5
    PubRec(Ack),
    /// §3.6
    PubRel(Ack),
    /// §3.7
    PubComp(Ack),
    /// §3.8
    Subscribe(Subscribe),
    /// §3.9
    SubAck(SubAck),
    /// §3.10
    Unsubscribe(Unsubscribe),
    /// §3.11
    UnsubAck(UnsubAck),
    /// §3.12
    PingReq,
    /// §3.13
    PingResp,
    /// §3.14
    Disconnect(Disconnect),
    /// §3.15
    Auth(Auth),
}

/// How much of one packet is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Most {
    /// Bytes, header included: a larger packet is refused.
    pub packet_bytes: usize,
    /// User Properties: one more is read, so that the packet is seen to have too many, and whatever
    /// properties follow are passed over unread.
    pub user_properties: usize,
}

impl Most {
    /// A packet of so many bytes, whatever it is made of.
    pub const fn packet_bytes(packet_bytes: usize) -> Self {
        Self {
            packet_bytes,
            user_properties: usize::MAX,
        }
    }
}

/// Decodes the packet at the start of `buf`, and says how many bytes it took.
///
/// `Ok(None)` means that more bytes are needed; nothing was consumed. `version` is `None` until a
/// CONNECT has been decoded: then that is the only packet accepted, and it says the version;
/// afterwards a CONNECT is refused [MQTT-3.1.0-2]. `max_packet` is in bytes, header included.
///
/// # Errors
/// As soon as the bytes at hand cannot become an acceptable packet: a fixed header alone is enough
/// to refuse a packet of the wrong type, with wrong flags, or above `max_packet`.
pub fn decode(
    version: Option<Version>,
    buf: &[u8],
    max_packet: usize,
) -> Result<Option<(Packet<'_>, usize)>, DecodeError> {
    decode_most(version, buf, Most::packet_bytes(max_packet))
}

/// As [`decode`], within narrower bounds.
///
/// # Errors
/// As [`decode`].
pub fn decode_most(
    version: Option<Version>,
    buf: &[u8],
    most: Most,
) -> Result<Option<(Packet<'_>, usize)>, DecodeError> {
    let Some(header) = FixedHeader::read(version, buf, most.packet_bytes)? else {
        return Ok(None);
    };
    let end = header.len + header.remaining;
    let Some(body) = buf.get(header.len..end) else {
        return Ok(None);
    };
    let mut reader = Reader::of_packet(body, most);
    let packet = match version {
        Some(version) => decode_body(version, &header, &mut reader)?,
        None => Packet::Connect(Connect::read(&header, &mut reader)?),
    };
    reader.finish()?;
    Ok(Some((packet, end)))
}

/// As [`decode_most`], for a buffer that begins with a PUBLISH. `known_topic` is a valid Topic Name or
/// empty: publishers tend to repeat their topics, and what was found valid is not checked again.
///
/// # Errors
/// As [`decode`].
pub fn decode_publish<'a>(
    version: Version,
    buf: &'a [u8],
    most: Most,
    known_topic: &'a str,
) -> Result<Option<(Publish<'a>, usize)>, DecodeError> {
    let Some(header) = FixedHeader::read(Some(version), buf, most.packet_bytes)? else {
        return Ok(None);
    };
    let end = header.len + header.remaining;
    let Some(body) = buf.get(header.len..end) else {
        return Ok(None);
    };
    // What is left is the payload, so nothing can be left over.
    let mut reader = Reader::of_packet(body, most);
    let publish = Publish::read(version, header.flags, &mut reader, known_topic)?;
    Ok(Some((publish, end)))
}

/// Whether the buffer begins with a PUBLISH.
pub fn is_publish(buf: &[u8]) -> bool {
    buf.first()
        .is_some_and(|first| first & 0xF0 == PacketType::Publish.first_byte())
}

fn decode_body<'a>(
    version: Version,
    header: &FixedHeader,
    reader: &mut Reader<'a>,
) -> Result<Packet<'a>, DecodeError> {
    let packet_type = header.packet_type;
    Ok(match packet_type {
        PacketType::Connect => Packet::Connect(Connect::read(header, reader)?),
        PacketType::ConnAck => Packet::ConnAck(ConnAck::read(version, reader)?),
        PacketType::Publish => Packet::Publish(Publish::read(version, header.flags, reader, "")?),
        PacketType::PubAck => Packet::PubAck(Ack::read(version, packet_type, reader)?),
        PacketType::PubRec => Packet::PubRec(Ack::read(version, packet_type, reader)?),
        PacketType::PubRel => Packet::PubRel(Ack::read(version, packet_type, reader)?),
        PacketType::PubComp => Packet::PubComp(Ack::read(version, packet_type, reader)?),
        PacketType::Subscribe => Packet::Subscribe(Subscribe::read(version, reader)?),
        PacketType::SubAck => Packet::SubAck(SubAck::read(version, reader)?),
        PacketType::Unsubscribe => Packet::Unsubscribe(Unsubscribe::read(version, reader)?),
        PacketType::UnsubAck => Packet::UnsubAck(UnsubAck::read(version, reader)?),
        PacketType::PingReq => Packet::PingReq,
        PacketType::PingResp => Packet::PingResp,
        PacketType::Disconnect => Packet::Disconnect(Disconnect::read(version, reader)?),
        PacketType::Auth => Packet::Auth(Auth::read(reader)?),
    })
}

/// Appends one packet to `out`.
///
/// MQTT 3.x has no properties and few Reason Codes: what cannot be said there is left out, and
/// AUTH, which does not exist there, appends nothing. A CONNECT is written in its own version.
/// Texts and binary data above 65,535 bytes are cut, a packet above 268,435,455 is not written:
/// who puts together such packets checks before.
pub fn encode(version: Version, packet: &Packet<'_>, out: &mut Vec<u8>) {
    match packet {
        Packet::Connect(connect) => framed(PacketType::Connect, out, |out| connect.write(out)),
        Packet::ConnAck(connack) => {
            framed(PacketType::ConnAck, out, |out| connack.write(version, out));
        }
        Packet::Publish(publish) => publish.write(version, out),
        Packet::PubAck(ack) => ack.write(PacketType::PubAck, version, out),
        Packet::PubRec(ack) => ack.write(PacketType::PubRec, version, out),
        Packet::PubRel(ack) => ack.write(PacketType::PubRel, version, out),
        Packet::PubComp(ack) => ack.write(PacketType::PubComp, version, out),
        Packet::Subscribe(subscribe) => {
            framed(PacketType::Subscribe, out, |out| {
                subscribe.write(version, out)
            });
        }
        Packet::SubAck(suback) => {
            framed(PacketType::SubAck, out, |out| suback.write(version, out));
        }
        Packet::Unsubscribe(unsubscribe) => {
            framed(PacketType::Unsubscribe, out, |out| {
                unsubscribe.write(version, out)
            });
        }
        Packet::UnsubAck(unsuback) => {
            framed(PacketType::UnsubAck, out, |out| {
                unsuback.write(version, out)
            });
        }
        Packet::PingReq => framed(PacketType::PingReq, out, |_| {}),
        Packet::PingResp => framed(PacketType::PingResp, out, |_| {}),
        Packet::Disconnect(disconnect) => {
            framed(PacketType::Disconnect, out, |out| {
                disconnect.write(version, out)
            });
        }
        Packet::Auth(auth) if version == Version::V5 => {
            framed(PacketType::Auth, out, |out| auth.write(out));
        }
        Packet::Auth(_) => {}
    }
}

fn framed(packet_type: PacketType, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    write_framed(packet_type.first_byte(), out, body);
}
