//! Our codec against independent ones, `mqtt-proto` here and `rmqtt-codec` beside it, over packets made
//! from a seed: nearly valid ones, with wrong values, wrong properties and damaged bytes among them.
//!
//! Both must accept the same packets and mean the same by them: what one writes the other reads as
//! the packet it began with. Each disagreement that remains is listed here with its reason, and each
//! reason must occur, so that the list stays true.

mod packets;
mod rmqtt;

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use mqtt_proto::{v3, v5};
use packets::{Random, make_packet};
use tidings_core::codec::{self, ConnAck, DecodeError, Disconnect, Packet, ReasonCode, Version};

/// Enough that every listed disagreement occurs, and a few seconds in a debug build.
const PACKETS: usize = 150_000;

/// What we refuse and `mqtt-proto` accepts: our error, and why it is right.
const WE_ARE_STRICTER: &[(&str, &str)] = &[
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

/// Its error, when that is meant, and why we accept.
type Leniency = (&'static str, fn(Version, &Packet<'_>) -> bool, &'static str);

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
    let mut random = Random(7);
    let (mut both, mut neither) = (0, 0);
    let mut reasons = BTreeSet::new();
    for round in 0..PACKETS {
        let versions = [Version::V31, Version::V311, Version::V5];
        let version = versions[round % versions.len()];
        let bytes = make_packet(&mut random, version);
        let before = (bytes[0] >> 4 != 1).then_some(version);
        let ours = decode_whole(before, &bytes);
        let version = match &ours {
            Ok(Packet::Connect(connect)) => connect.version,
            _ => version,
        };
        match (&ours, Theirs::decode(version, &bytes)) {
            (Ok(ours), Ok(theirs)) => {
                both += 1;
                if !mean_the_same(before, version, ours, &theirs) {
                    let Some(reason) = may_read_differently(version, ours) else {
                        panic!("{bytes:02x?} is {ours:?} for us and {theirs:?} for them");
                    };
                    reasons.insert(reason);
                }
            }
            (Err(_), Err(_)) => neither += 1,
            (Err(error), Ok(theirs)) => {
                let error = error.to_string();
                let Some((_, reason)) = WE_ARE_STRICTER.iter().find(|(ours, _)| *ours == error)
                else {
                    panic!("only they accept {bytes:02x?} ({error}): {theirs:?}");
                };
                reasons.insert(*reason);
            }
            (Ok(ours), Err(error)) => {
                let explained = WE_ARE_MORE_LENIENT
                    .iter()
                    .find(|(theirs, applies, _)| error.contains(theirs) && applies(version, ours));
                let Some((_, _, reason)) = explained else {
                    panic!("only we accept {bytes:02x?} ({error}): {ours:?}");
                };
                reasons.insert(*reason);
            }
        }
    }
    assert!(
        both > PACKETS / 4,
        "only {both} of {PACKETS} packets were accepted by both"
    );
    assert!(
        neither > PACKETS / 4,
        "only {neither} of {PACKETS} packets were refused by both"
    );

    let listed = WE_ARE_STRICTER
        .iter()
        .map(|(_, reason)| *reason)
        .chain(WE_ARE_MORE_LENIENT.iter().map(|(_, _, reason)| *reason));
    for reason in listed {
        assert!(
            reasons.contains(reason),
            "no packet shows this disagreement any more: {reason}"
        );
    }
}

fn decode_whole(before: Option<Version>, bytes: &[u8]) -> Result<Packet<'_>, DecodeError> {
    let (packet, consumed) =
        codec::decode(before, bytes, usize::MAX)?.expect("the packet is whole");
    assert_eq!(consumed, bytes.len());
    Ok(packet)
}

/// Whether each codec reads what the other wrote as the packet it has already.
fn mean_the_same(
    before: Option<Version>,
    version: Version,
    ours: &Packet<'_>,
    theirs: &Theirs,
) -> bool {
    let mut written_by_us = Vec::new();
    codec::encode(version, ours, &mut written_by_us);
    let written_by_them = theirs.encode();
    Theirs::decode(version, &written_by_us).as_ref() == Ok(theirs)
        && decode_whole(before, &written_by_them).as_ref() == Ok(ours)
}

/// A packet as `mqtt-proto` has it.
#[derive(Debug, PartialEq)]
enum Theirs {
    V3(v3::Packet),
    V5(Box<v5::Packet>),
}

impl Theirs {
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

    fn encode(&self) -> Vec<u8> {
        let bytes = match self {
            Self::V3(packet) => packet.encode().expect("it was decoded"),
            Self::V5(packet) => packet.encode().expect("it was decoded"),
        };
        bytes.as_ref().to_vec()
    }
}

/// The result of a future that never waits, because it reads from memory.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => unreachable!("reading from memory does not wait"),
    }
}
