//! The same against `rmqtt-codec`, the codec of another broker, over the same packets.
//!
//! It is made for speed and leaves much to its caller: most of the list is what it does not check.

use bytes::BytesMut;
use rmqtt_codec::{v3, v5};
use tidings_core::codec::{ConnAck, Packet, Version};
use tokio_util::codec::{Decoder as _, Encoder as _};

use crate::foreign::{Foreign, Leniency, Strictness, compare};

/// What we refuse and `rmqtt-codec` accepts: our error, and why it is right.
const WE_ARE_STRICTER: &[Strictness] = &[
    (
        "invalid topic name",
        "they leave topics to the broker [MQTT-4.7.3-1]",
    ),
    (
        "invalid topic filter",
        "they leave filters to the broker [MQTT-4.7.1-1]",
    ),
    (
        "malformed packet: a string contains U+0000",
        "they do not check it [MQTT-1.5.4-2]",
    ),
    (
        "malformed packet: bytes left over after the end of the packet",
        "they stop where they have enough (§4.13)",
    ),
    (
        "malformed packet: reserved connect return code",
        "they take any return code (3.1.1 §3.2.2.3)",
    ),
    (
        "malformed packet: password without user name",
        "they do not check it (3.1.1 [MQTT-3.1.2-22])",
    ),
    (
        "malformed packet: will QoS or will retain without will flag",
        "they do not check it [MQTT-3.1.2-11]",
    ),
    (
        "malformed packet: DUP at QoS 0",
        "they do not check it [MQTT-3.3.1-2]",
    ),
    (
        "malformed packet: reserved subscription options",
        "they ignore the reserved bits [MQTT-3.8.3-5]",
    ),
    (
        "malformed packet: a field goes past the end of the packet",
        "they take an AUTH of one byte: only nothing at all stands for no properties (§3.15.2.1)",
    ),
    (
        "protocol error: session present in a refusal",
        "they do not check it [MQTT-3.2.2-6]",
    ),
    (
        "protocol error: SUBACK without reason code",
        "they take an answer to nothing (§3.9.3)",
    ),
    (
        "protocol error: UNSUBACK without reason code",
        "they take an answer to nothing (§3.11.3)",
    ),
    (
        "protocol error: SUBSCRIBE without topic filter",
        "they do not check it [MQTT-3.8.3-2]",
    ),
    (
        "protocol error: UNSUBSCRIBE without topic filter",
        "they do not check it [MQTT-3.10.3-2]",
    ),
    (
        "protocol error: neither topic name nor topic alias",
        "they leave it to the caller (§3.3.2.1)",
    ),
    (
        "protocol error: response topic is not a topic name",
        "they do not check it [MQTT-3.3.2-14]",
    ),
    (
        "protocol error: no local on a shared subscription",
        "they do not check it [MQTT-3.8.3-4]",
    ),
    (
        "protocol error: authentication data without method",
        "they do not check it (§3.1.2.11.10)",
    ),
    (
        "protocol error: AUTH without authentication method",
        "they do not check it (§3.15.2.2.2)",
    ),
    (
        "protocol error: maximum packet size 0",
        "they do not check it in CONNACK (§3.2.2.3.6)",
    ),
    (
        "protocol error: maximum QoS is neither 0 nor 1",
        "they take 2, which stands for no property at all (§3.2.2.3.4)",
    ),
];

/// What `rmqtt-codec` refuses and we accept.
const WE_ARE_MORE_LENIENT: &[Leniency] = &[
    (
        "ReservedFlagSet",
        |version, packet| {
            let begins = matches!(packet, Packet::Connect(_) | Packet::ConnAck(_));
            version == Version::V31 && begins
        },
        "reserved bits of MQTT 3.1 have no value",
    ),
    (
        "UnsupportedPacketType",
        |version, packet| {
            let repeated = matches!(
                packet,
                Packet::PubRel(_) | Packet::Subscribe(_) | Packet::Unsubscribe(_)
            );
            version == Version::V31 && repeated
        },
        "MQTT 3.1 repeats these packets with DUP",
    ),
    (
        "InvalidClientId",
        |_, packet| matches!(packet, Packet::Connect(c) if c.client_id.is_empty()),
        "whether an empty Client Identifier will do is answered with a CONNACK [MQTT-3.1.3-8]",
    ),
    (
        "InvalidLength",
        |version, packet| version == Version::V31 && matches!(packet, Packet::Connect(_)),
        "in MQTT 3.1 user name and password may be missing behind their flags",
    ),
    (
        "MalformedPacket",
        |_, packet| match packet {
            Packet::Publish(publish) => publish.properties.message_expiry_s == Some(0),
            Packet::Connect(connect) => connect
                .will
                .as_ref()
                .is_some_and(|will| will.properties.message_expiry_s == Some(0)),
            _ => false,
        },
        "a Message Expiry Interval may be 0 (§3.3.2.3.3)",
    ),
];

/// What both accept, but one of them does not write as it was read.
fn may_read_differently(version: Version, packet: &Packet<'_>) -> Option<&'static str> {
    match packet {
        Packet::ConnAck(ConnAck { .. }) if version == Version::V31 => {
            Some("MQTT 3.1 has no session present flag; we do not pass on what stands there")
        }
        Packet::Connect(_) if version == Version::V31 => {
            Some("they write a CONNECT of MQTT 3.1 as one of 3.1.1")
        }
        Packet::ConnAck(connack)
            if version == Version::V5 && connack.properties != Default::default() =>
        {
            Some("they leave out properties of a CONNACK that say what goes without saying")
        }
        Packet::Connect(_) if version == Version::V5 => Some(
            "they leave out properties of a CONNECT that say what goes without saying, as we do a will delay of 0",
        ),
        Packet::Publish(publish) if publish.properties.payload_is_utf8 == Some(false) => {
            Some("they leave out that a payload is no text, which goes without saying")
        }
        _ => None,
    }
}

#[test]
fn rmqtts_codec_accepts_the_same_packets_and_means_the_same_by_them() {
    compare::<Theirs>(11);
}

/// A packet as `rmqtt-codec` has it.
#[derive(Debug, PartialEq)]
enum Theirs {
    V3(v3::Packet),
    V5(v5::Packet),
}

impl Foreign for Theirs {
    const WE_ARE_STRICTER: &[Strictness] = WE_ARE_STRICTER;
    const WE_ARE_MORE_LENIENT: &[Leniency] = WE_ARE_MORE_LENIENT;

    fn decode(version: Version, bytes: &[u8]) -> Result<Self, String> {
        let mut rest = BytesMut::from(bytes);
        let found = match version {
            Version::V5 => v5::Codec::new(0, 0)
                .decode(&mut rest)
                .map(|found| found.map(|(packet, _)| Self::V5(packet))),
            _ => v3::Codec::new(0)
                .decode(&mut rest)
                .map(|found| found.map(|(packet, _)| Self::V3(packet))),
        };
        let packet = found.map_err(|error| format!("{error:?}"))?;
        packet
            .filter(|_| rest.is_empty())
            .ok_or_else(|| "not one whole packet".to_owned())
    }

    fn encode(self) -> Vec<u8> {
        let mut bytes = BytesMut::new();
        let written = match self {
            Self::V3(packet) => v3::Codec::new(0).encode(packet, &mut bytes),
            Self::V5(packet) => v5::Codec::new(0, 0).encode(packet, &mut bytes),
        };
        written.expect("it was decoded");
        bytes.to_vec()
    }

    fn may_read_differently(version: Version, packet: &Packet<'_>) -> Option<&'static str> {
        may_read_differently(version, packet)
    }
}
