//! MQTT 3.1.1 packets as the load needs them: encoded once and patched, parsed no further than
//! necessary. Every broker speaks 3.1.1, so the load speaks nothing else.
//!
//! Knows nothing of sockets. What it parses comes from a broker under test, so it trusts no length.

use std::fmt;

use crate::bench::scenario::SMALLEST_PAYLOAD;

/// PUBACK, without its flags (§3.4).
pub const PUBACK: u8 = 0x40;
/// PUBREC (§3.5).
pub const PUBREC: u8 = 0x50;
/// PUBREL with its obligatory flags (§3.6.1).
pub const PUBREL: u8 = 0x62;
/// PUBCOMP (§3.7).
pub const PUBCOMP: u8 = 0x70;
/// Longer than a run, so that idle connections are idle; some brokers refuse 0, which means never.
const KEEP_ALIVE_SECS: u16 = 3_600;
/// A whole DISCONNECT (§3.14).
pub const DISCONNECT: [u8; 2] = [0xe0, 0];

/// What the payload of each message begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Number of the publisher in this run.
    pub publisher: u32,
    /// Number of the message among those of its publisher, from 0.
    pub sequence: u64,
    /// When it was sent, in nanoseconds of the run's clock.
    pub sent_nanos: u64,
}

impl Stamp {
    fn read(payload: &[u8]) -> Option<Self> {
        let (publisher, rest) = payload.split_first_chunk::<4>()?;
        let (sequence, rest) = rest.split_first_chunk::<8>()?;
        let (sent, _) = rest.split_first_chunk::<8>()?;
        Some(Self {
            publisher: u32::from_le_bytes(*publisher),
            sequence: u64::from_le_bytes(*sequence),
            sent_nanos: u64::from_le_bytes(*sent),
        })
    }
}

/// A packet from the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet {
    /// A message; `identifier` is 0 at QoS 0, `stamp` is `None` if it is not from this load.
    Publish {
        /// QoS 0 to 2.
        qos: u8,
        /// Packet Identifier.
        identifier: u16,
        /// What its payload says.
        stamp: Option<Stamp>,
    },
    /// PUBACK, PUBREC, PUBREL or PUBCOMP.
    Ack {
        /// One of [`PUBACK`], [`PUBREC`], [`PUBREL`], [`PUBCOMP`].
        kind: u8,
        /// Packet Identifier.
        identifier: u16,
    },
    /// CONNACK (§3.2).
    ConnAck {
        /// Whether the broker still had the session.
        session_present: bool,
        /// 0: accepted.
        code: u8,
    },
    /// SUBACK (§3.9): how many filters were granted and how many refused.
    SubAck {
        /// Granted, at whatever QoS.
        granted: usize,
        /// Refused (0x80).
        refused: usize,
    },
    /// Anything else that a broker may send (PINGRESP, UNSUBACK).
    Other,
}

/// The broker sent what is no MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not MQTT 3.1.1: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

/// The first whole packet of `input` and its length; `None` if more bytes are needed.
///
/// # Errors
/// If the bytes are no MQTT packet from a broker.
#[inline]
pub fn first_packet(input: &[u8]) -> Result<Option<(Packet, usize)>, Malformed> {
    let (&first, remaining, header) = match input {
        [first, length, ..] if *length < 0x80 => (first, usize::from(*length), 2),
        [first, rest @ ..] => match long_length(rest)? {
            Some((length, bytes)) => (first, length, 1 + bytes),
            None => return Ok(None),
        },
        [] => return Ok(None),
    };
    let end = header + remaining;
    let Some(body) = input.get(header..end) else {
        return Ok(None);
    };
    let packet = match first >> 4 {
        3 => publish(first, body)?,
        4..=7 => {
            let &[high, low] = body else {
                return Err(Malformed("an acknowledgement is not 2 bytes long"));
            };
            Packet::Ack {
                kind: if first >> 4 == 6 {
                    PUBREL
                } else {
                    first & 0xf0
                },
                identifier: u16::from_be_bytes([high, low]),
            }
        }
        2 => {
            let &[flags, code] = body else {
                return Err(Malformed("CONNACK is not 2 bytes long"));
            };
            Packet::ConnAck {
                session_present: flags & 1 == 1,
                code,
            }
        }
        9 => {
            let codes = body
                .get(2..)
                .ok_or(Malformed("SUBACK without identifier"))?;
            let refused = codes.iter().filter(|&&c| c >= 0x80).count();
            Packet::SubAck {
                granted: codes.len() - refused,
                refused,
            }
        }
        11 | 13 => Packet::Other,
        _ => return Err(Malformed("a packet that no broker sends")),
    };
    Ok(Some((packet, end)))
}

/// The Remaining Length (§2.2.3) and how many bytes it takes.
fn long_length(input: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let mut length = 0;
    for (place, &byte) in input.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return Ok(Some((length, place + 1)));
        }
    }
    if input.len() >= 4 {
        Err(Malformed("Remaining Length of more than 4 bytes"))
    } else {
        Ok(None)
    }
}

#[inline]
fn publish(first: u8, body: &[u8]) -> Result<Packet, Malformed> {
    const SHORT: Malformed = Malformed("PUBLISH shorter than its topic");
    let (topic_length, rest) = body.split_first_chunk::<2>().ok_or(SHORT)?;
    let mut payload = rest
        .get(usize::from(u16::from_be_bytes(*topic_length))..)
        .ok_or(SHORT)?;
    let qos = (first >> 1) & 3;
    let mut identifier = 0;
    if qos > 0 {
        let (id, rest) = payload.split_first_chunk::<2>().ok_or(SHORT)?;
        identifier = u16::from_be_bytes(*id);
        payload = rest;
    }
    Ok(Packet::Publish {
        qos,
        identifier,
        stamp: Stamp::read(payload),
    })
}

/// Appends an acknowledgement of this kind.
#[inline]
pub fn put_ack(out: &mut Vec<u8>, kind: u8, identifier: u16) {
    let [high, low] = identifier.to_be_bytes();
    out.extend_from_slice(&[kind, 2, high, low]);
}

/// Appends a CONNECT (§3.1).
pub fn put_connect(out: &mut Vec<u8>, client_id: &str, session: Session) {
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4];
    body.push(match session {
        Session::Clean => 2,
        Session::Persistent => 0,
    });
    body.extend_from_slice(&KEEP_ALIVE_SECS.to_be_bytes());
    put_string(&mut body, client_id);
    put_header(out, 0x10, body.len());
    out.extend_from_slice(&body);
}

/// Whether the broker is to forget the client when it goes (Clean Session, §3.1.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// Forgotten at the end of the connection.
    Clean,
    /// Kept, with everything that arrives meanwhile.
    Persistent,
}

/// Appends a SUBSCRIBE (§3.8) of these filters.
pub fn put_subscribe<'a>(
    out: &mut Vec<u8>,
    identifier: u16,
    filters: impl IntoIterator<Item = &'a str>,
    qos: u8,
) {
    let mut body = identifier.to_be_bytes().to_vec();
    for filter in filters {
        put_string(&mut body, filter);
        body.push(qos);
    }
    put_header(out, 0x82, body.len());
    out.extend_from_slice(&body);
}

fn put_header(out: &mut Vec<u8>, first: u8, mut length: usize) {
    out.push(first);
    loop {
        let low = (length & 0x7f) as u8;
        length >>= 7;
        if length == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Topics and client identifiers of a load are far below 64 KiB.
fn put_string(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend(text.as_bytes().iter().take(usize::from(length)));
}

/// A PUBLISH encoded once; sending it is one copy and a few patched bytes.
#[derive(Clone, Debug)]
pub struct PublishTemplate {
    packet: Vec<u8>,
    /// Where the digits of a numbered topic end.
    topic_end: usize,
    /// Where the Packet Identifier is, at QoS 1 and 2.
    identifier_at: Option<usize>,
    payload_at: usize,
}

impl PublishTemplate {
    /// A message of this publisher; a payload shorter than the stamp is made long enough for it.
    #[must_use]
    pub fn new(topic: &str, qos: u8, publisher: u32, payload_bytes: usize) -> Self {
        let payload_bytes = payload_bytes.max(SMALLEST_PAYLOAD);
        let identifier_bytes = if qos > 0 { 2 } else { 0 };
        let mut packet = Vec::new();
        put_header(
            &mut packet,
            0x30 | (qos << 1),
            2 + topic.len() + identifier_bytes + payload_bytes,
        );
        put_string(&mut packet, topic);
        let topic_end = packet.len();
        let payload_at = topic_end + identifier_bytes;
        packet.resize(payload_at, 0);
        packet.extend_from_slice(&publisher.to_le_bytes());
        // Letters, so that a person who looks at a dump sees where a payload is.
        packet.resize(payload_at + payload_bytes, b'.');
        Self {
            packet,
            topic_end,
            identifier_at: (qos > 0).then_some(topic_end),
            payload_at,
        }
    }

    /// Appends the packet with this sequence number and time.
    #[inline]
    pub fn put(&mut self, out: &mut Vec<u8>, identifier: u16, sequence: u64, sent_nanos: u64) {
        if let Some(at) = self.identifier_at {
            patch(&mut self.packet, at, identifier.to_be_bytes());
        }
        patch(
            &mut self.packet,
            self.payload_at + 4,
            sequence.to_le_bytes(),
        );
        patch(
            &mut self.packet,
            self.payload_at + 12,
            sent_nanos.to_le_bytes(),
        );
        out.extend_from_slice(&self.packet);
    }

    /// Sets the last `digits` characters of the topic to this number in decimal.
    #[inline]
    pub fn number_topic(&mut self, mut number: u32, digits: usize) {
        let start = self.topic_end.saturating_sub(digits);
        if let Some(place) = self.packet.get_mut(start..self.topic_end) {
            for digit in place.iter_mut().rev() {
                *digit = b'0' + (number % 10) as u8;
                number /= 10;
            }
        }
    }
}

#[inline]
fn patch<const N: usize>(packet: &mut [u8], at: usize, bytes: [u8; N]) {
    if let Some(place) = packet.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<N>) {
        *place = bytes;
    }
}

/// The Packet Identifier of the message with this sequence number: 1 to 65,535 in turn.
#[inline]
#[must_use]
pub fn identifier_of(sequence: u64) -> u16 {
    (sequence % 65_535) as u16 + 1
}

/// The sequence number that this identifier stands for when `next` is the next to be sent.
#[inline]
#[must_use]
pub fn sequence_of(identifier: u16, next: u64) -> Option<u64> {
    let newest = next.checked_sub(1)?;
    let behind = (u64::from(identifier_of(newest)) + 65_535 - u64::from(identifier)) % 65_535;
    newest.checked_sub(behind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publish_is_read_as_it_was_written_however_long_it_is() {
        for (qos, bytes) in [(0, 20), (1, 64), (2, 4_096), (1, 20_000)] {
            let mut template = PublishTemplate::new("bench/run/topic", qos, 77, bytes);
            let mut out = Vec::new();
            template.put(&mut out, 513, 1 << 40, 123_456_789);
            assert!(out.len() > bytes + 17);
            let (packet, length) = first_packet(&out).expect("MQTT").expect("whole");
            assert_eq!(length, out.len());
            let stamp = Stamp {
                publisher: 77,
                sequence: 1 << 40,
                sent_nanos: 123_456_789,
            };
            let identifier = if qos == 0 { 0 } else { 513 };
            assert_eq!(
                packet,
                Packet::Publish {
                    qos,
                    identifier,
                    stamp: Some(stamp)
                }
            );
            for cut in 0..out.len().min(100) {
                assert_eq!(
                    first_packet(&out[..cut]),
                    Ok(None),
                    "{cut} bytes are no packet"
                );
            }
        }
    }

    #[test]
    fn acknowledgements_and_answers_are_read() {
        let ack = |kind, identifier| Ok(Some((Packet::Ack { kind, identifier }, 4)));
        for kind in [PUBACK, PUBREC, PUBREL, PUBCOMP] {
            let mut out = Vec::new();
            put_ack(&mut out, kind, 0x1234);
            assert_eq!(first_packet(&out), ack(kind, 0x1234));
        }
        assert_eq!(
            first_packet(&[0x20, 2, 1, 5]),
            Ok(Some((
                Packet::ConnAck {
                    session_present: true,
                    code: 5
                },
                4
            )))
        );
        assert_eq!(
            first_packet(&[0x90, 5, 0, 1, 1, 0x80, 0]),
            Ok(Some((
                Packet::SubAck {
                    granted: 2,
                    refused: 1
                },
                7
            )))
        );
        assert_eq!(first_packet(&[0xd0, 0, 9]), Ok(Some((Packet::Other, 2))));
    }

    #[test]
    fn what_no_broker_sends_is_refused() {
        for bytes in [
            &[0x10, 0][..],
            &[0x00, 0],
            &[0x40, 1, 0],
            &[0x30, 0],
            &[0x30, 3, 0, 9, 1],
            &[0x32, 3, 0, 1, b'a'],
            &[0x30, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert!(first_packet(bytes).is_err(), "{bytes:?} was taken");
        }
    }

    #[test]
    fn a_message_that_is_not_ours_has_no_stamp() {
        let packet = [0x30, 5, 0, 1, b'a', b'h', b'i'];
        assert_eq!(
            first_packet(&packet),
            Ok(Some((
                Packet::Publish {
                    qos: 0,
                    identifier: 0,
                    stamp: None
                },
                7
            )))
        );
    }

    #[test]
    fn an_identifier_tells_its_message_across_the_wrap() {
        for next in [
            1,
            20,
            65_534,
            65_535,
            65_536,
            131_070,
            131_071,
            5_000_000_000,
        ] {
            for back in 1..=20.min(next) {
                let sequence = next - back;
                assert_eq!(sequence_of(identifier_of(sequence), next), Some(sequence));
            }
        }
        assert_eq!(sequence_of(1, 0), None, "nothing was sent");
        assert_eq!(sequence_of(9, 3), None, "not sent yet");
    }

    #[test]
    fn a_numbered_topic_keeps_its_length() {
        let mut template = PublishTemplate::new("f/000000", 0, 0, 20);
        template.number_topic(40_213, 6);
        let mut out = Vec::new();
        template.put(&mut out, 0, 0, 0);
        assert_eq!(&out[4..12], b"f/040213");
    }
}
