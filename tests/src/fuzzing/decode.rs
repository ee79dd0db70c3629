//! The codec: no bytes make it panic; what it accepts it writes so that it reads the same again; it
//! takes memory in proportion to what it read; its fast ways agree with the long one; and a packet
//! that is not whole is neither accepted nor refused for what is missing.

use tidings_core::codec::{
    Ack, DecodeError, Most, Outgoing, Packet, Publish, ReasonCode, ShortAck, Version,
    decode as read, decode_publish, decode_short_ack, encode, encode_publish, is_publish,
    publish_len, publish_packet_id_at,
};
use tidings_core::message::QoS;

use super::heap::peak_of;

/// Bytes of memory for each byte of a packet: a filter of one character takes four on the wire, and
/// some 40 in a list that has room for twice as many and was just copied.
const MEMORY_PER_BYTE: usize = 64;

/// Bytes of memory that the smallest packet may take.
const MEMORY: usize = 1024;

/// See the module. The first byte says the version and the largest packet, the rest is packets.
pub fn decode(data: &[u8]) {
    let Some((&how, bytes)) = data.split_first() else {
        return;
    };
    let mut version = match how % 4 {
        0 => None,
        1 => Some(Version::V31),
        2 => Some(Version::V311),
        _ => Some(Version::V5),
    };
    let max_packet = match how / 4 % 3 {
        0 => usize::MAX,
        1 => 64,
        _ => bytes.len() / 2,
    };
    let mut rest = bytes;
    while !rest.is_empty() {
        let (result, memory) = peak_of(|| read(version, rest, max_packet));
        fast_ways_agree(version, rest, max_packet, &result);
        let (packet, used) = match result {
            Ok(Some(found)) => found,
            Ok(None) => return,
            Err(error) => {
                let allowed = MEMORY + MEMORY_PER_BYTE * rest.len();
                assert!(memory <= allowed, "{memory} bytes for {error}");
                return;
            }
        };
        assert!(used >= 2 && used <= rest.len() && used <= max_packet);
        let (whole, after) = rest.split_at(used);
        let allowed = MEMORY + MEMORY_PER_BYTE * used;
        assert!(memory <= allowed, "{memory} bytes for {used}: {packet:?}");
        less_is_not_enough(version, whole, max_packet);
        let spoken = match &packet {
            Packet::Connect(connect) => connect.version,
            _ => version.expect("only a CONNECT comes without a version"),
        };
        survives(version, spoken, &packet);
        if let Packet::Publish(publish) = &packet {
            is_passed_on(spoken, whole, publish);
        }
        version = Some(spoken);
        rest = after;
    }
}

fn survives(version: Option<Version>, spoken: Version, packet: &Packet<'_>) {
    let mut again = Vec::new();
    encode(spoken, packet, &mut again);
    let found = read(version, &again, usize::MAX);
    let expected = Ok(Some((packet.clone(), again.len())));
    assert_eq!(found, expected, "written as {again:02x?}");
}

/// What is cut off anywhere waits for more: it is judged by its header alone, and that was sound.
fn less_is_not_enough(version: Option<Version>, whole: &[u8], max_packet: usize) {
    for len in 0..whole.len() {
        let part = &whole[..len];
        assert_eq!(read(version, part, max_packet), Ok(None), "{part:02x?}");
    }
}

fn fast_ways_agree(
    version: Option<Version>,
    bytes: &[u8],
    max_packet: usize,
    long: &Result<Option<(Packet<'_>, usize)>, DecodeError>,
) {
    let Some(version) = version else { return };
    if is_publish(bytes) {
        let mut known = vec!["", "a", "chat/lobby/alice"];
        if let Ok(Some((Packet::Publish(publish), _))) = long {
            known.push(publish.topic);
        }
        for known in known {
            let fast = decode_publish(version, bytes, Most::packet_bytes(max_packet), known);
            let fast = fast.map(|found| found.map(|(p, used)| (Packet::Publish(p), used)));
            assert_eq!(&fast, long, "knowing {known:?}");
        }
    }
    if max_packet >= 4
        && let Some((kind, packet_id)) = decode_short_ack(bytes)
    {
        let ack = Ack::new(packet_id, ReasonCode::Success);
        let packet = match kind {
            ShortAck::PubAck => Packet::PubAck(ack),
            ShortAck::PubRec => Packet::PubRec(ack),
            ShortAck::PubRel => Packet::PubRel(ack),
            ShortAck::PubComp => Packet::PubComp(ack),
        };
        assert_eq!(long, &Ok(Some((packet, 4))));
    }
}

/// A message that was read goes out to a receiver as it came in, in every version.
fn is_passed_on(spoken: Version, whole: &[u8], publish: &Publish<'_>) {
    if let Some(packet_id) = publish.packet_id {
        let at = publish_packet_id_at(whole).expect("a whole PUBLISH has a place for it");
        assert_eq!(whole[at..at + 2], packet_id.to_be_bytes());
    }
    let properties = publish.properties.to_message_properties();
    for version in [Version::V31, Version::V311, Version::V5] {
        if publish.topic.is_empty() && (version != Version::V5 || spoken != Version::V5) {
            continue;
        }
        let outgoing = Outgoing {
            topic: publish.topic,
            payload: publish.payload,
            qos: publish.qos,
            dup: publish.dup,
            retain: publish.retain,
            packet_id: publish.packet_id.unwrap_or(0),
            properties: properties.as_deref(),
            message_expiry_s: None,
            topic_alias: publish.properties.topic_alias,
            subscription_ids: &publish.properties.subscription_ids,
            extra_user: &[],
        };
        let mut bytes = Vec::new();
        encode_publish(version, &outgoing, &mut bytes);
        assert_eq!(publish_len(version, &outgoing), bytes.len());
        let mut expected = publish.clone();
        if version != Version::V5 {
            expected.properties = Default::default();
        }
        let found = read(Some(version), &bytes, usize::MAX);
        assert_eq!(found, Ok(Some((Packet::Publish(expected), bytes.len()))));
        if publish.qos == QoS::AtMostOnce {
            continue;
        }
        let at = publish_packet_id_at(&bytes).expect("it was written whole");
        assert_eq!(bytes[at..at + 2], outgoing.packet_id.to_be_bytes());
    }
}
