//! The same packets for `mqtt-proto`, the codec of another broker: what it reads otherwise, and why.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use mqtt_proto::{v3, v5};
use tidings_core::codec::{ConnAck, Disconnect, Packet, ReasonCode, Version};

use crate::foreign::{Foreign, Leniency, Strictness, compare};

/// What we refuse and `mqtt-proto` accepts: our error, and why it is right.
const WE_ARE_STRICTER: &[Strictness] = &[
    (
        "invalid topic name",
        "they take an empty topic name, against [MQTT-4.7.3-1]",
    ),
    (
        "invalid topic filter",
        "they take characters after a leading + [MQTT-4.7.1-2]",
    ),
    (
        "invalid topic alias",
        "they leave topic alias 0 to the caller [MQTT-3.3.2-8]",
    ),
    (
        "malformed packet: a string contains U+0000",
        "they check topics only [MQTT-1.5.4-2]",
    ),
    (
        "malformed packet: DUP at QoS 0",
        "they do not check it [MQTT-3.3.1-2]",
    ),
    (
        "malformed packet: password without user name",
        "they do not check it (3.1.1 [MQTT-3.1.2-22])",
    ),
    (
        "malformed packet: will QoS or will retain without will flag",
        "they check Will QoS only, not Will Retain [MQTT-3.1.2-13]",
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
        "protocol error: neither topic name nor topic alias",
        "they leave it to the caller (§3.3.2.1)",
    ),
    (
        "protocol error: response topic is not a topic name",
        "they take an empty one [MQTT-4.7.3-1]",
    ),
    (
        "protocol error: subscription identifier 0",
        "they do not check it (§3.8.2.1.2)",
    ),
    (
        "protocol error: no local on a shared subscription",
        "they do not check it [MQTT-3.8.3-4]",
    ),
    (
        "protocol error: receive maximum 0",
        "they do not check it (§3.1.2.11.3)",
    ),
    (
        "protocol error: maximum packet size 0",
        "they do not check it (§3.1.2.11.4)",
    ),
    (
        "protocol error: authentication data without method",
        "they do not check it (§3.1.2.11.10)",
    ),
    (
        "protocol error: AUTH without authentication method",
        "they do not check it (§3.15.2.2.2)",
    ),
];

/// What `mqtt-proto` refuses and we accept.
const WE_ARE_MORE_LENIENT: &[Leniency] = &[
    (
        "InvalidHeader",
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
        "InvalidConnectFlags",
        |version, _| version == Version::V31,
        "MQTT 3.1 ignores the will's flags without a will",
    ),
    (
        "IoError",
        |version, packet| version == Version::V31 && matches!(packet, Packet::Connect(_)),
        "in MQTT 3.1 user name and password may be missing behind their flags",
    ),
    (
        "InvalidConnackFlags",
        |version, _| version == Version::V31,
        "a reserved byte in MQTT 3.1",
    ),
    (
        "InvalidQos",
        |version, packet| version == Version::V31 && matches!(packet, Packet::Subscribe(_)),
        "the upper bits of a requested QoS are reserved without a value in MQTT 3.1",
    ),
    (
        "InvalidPayloadFormat",
        |_, _| true,
        "whether a payload is the UTF-8 it claims to be is not the codec's to judge",
    ),
    (
        "DuplicatedProperty",
        |_, packet| matches!(packet, Packet::Publish(p) if p.properties.subscription_ids.len() > 1),
        "a PUBLISH may have several Subscription Identifiers (§3.3.2.3.8)",
    ),
    (
        "InvalidReasonCode",
        |_, packet| {
            let code = ReasonCode::BadAuthenticationMethod;
            matches!(packet, Packet::Disconnect(Disconnect { reason, .. }) if *reason == code)
        },
        "§2.4 allows 0x8C in DISCONNECT, only the table of §3.14.2.1 leaves it out",
    ),
];

/// What both accept, but one of them does not write as it was read.
fn may_read_differently(version: Version, packet: &Packet<'_>) -> Option<&'static str> {
    match packet {
        Packet::SubAck(suback)
            if version != Version::V5 && suback.reasons.iter().any(|code| code.is_failure()) =>
        {
            Some("they write the SUBACK failure of 3.x as another code")
        }
        Packet::ConnAck(ConnAck { .. }) if version == Version::V31 => {
            Some("MQTT 3.1 has no session present flag; we do not pass on what stands there")
        }
        Packet::Connect(connect)
            if version == Version::V5 && connect.will.as_ref().is_some_and(|w| w.delay_s == 0) =>
        {
            Some("we leave out a will delay of 0")
        }
        _ => None,
    }
}

#[test]
fn both_codecs_accept_the_same_packets_and_mean_the_same_by_them() {
    compare::<Theirs>(7);
}

/// A packet as `mqtt-proto` has it.
#[derive(Debug, PartialEq)]
enum Theirs {
    V3(v3::Packet),
    V5(Box<v5::Packet>),
}

impl Foreign for Theirs {
    const WE_ARE_STRICTER: &[Strictness] = WE_ARE_STRICTER;
    const WE_ARE_MORE_LENIENT: &[Leniency] = WE_ARE_MORE_LENIENT;

    /// Their decoder stops where it has enough: bytes left over are a refusal, too.
    fn decode(version: Version, mut bytes: &[u8]) -> Result<Self, String> {
        let packet = match version {
            Version::V5 => at_once(v5::Packet::decode_async(&mut bytes))
                .map(|packet| Self::V5(Box::new(packet)))
                .map_err(|error| format!("{error:?}"))?,
            _ => at_once(v3::Packet::decode_async(&mut bytes))
                .map(Self::V3)
                .map_err(|error| format!("{error:?}"))?,
        };
        if bytes.is_empty() {
            Ok(packet)
        } else {
            Err("bytes left over".to_owned())
        }
    }

    fn encode(self) -> Vec<u8> {
        let bytes = match self {
            Self::V3(packet) => packet.encode().expect("it was decoded"),
            Self::V5(packet) => packet.encode().expect("it was decoded"),
        };
        bytes.as_ref().to_vec()
    }

    fn may_read_differently(version: Version, packet: &Packet<'_>) -> Option<&'static str> {
        may_read_differently(version, packet)
    }
}

/// The result of a future that never waits, because it reads from memory.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => unreachable!("reading from memory does not wait"),
    }
}
