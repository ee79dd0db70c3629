//! Tests of the codec: what is refused, what survives a round trip, and random bytes.

mod random;
mod refused_connect;
mod refused_packets;
mod refused_properties;
mod round_trip;
mod round_trip_publish;
mod short_ways;
mod sizes;

use super::{DecodeError, Packet, Version, decode};

const NO_LIMIT: usize = usize::MAX;
const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

/// A packet with this first byte and body.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    super::primitive::write_varint(body.len(), &mut bytes);
    bytes.extend_from_slice(body);
    bytes
}

/// A UTF-8 Encoded String.
fn text(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    super::primitive::write_str(text, &mut bytes);
    bytes
}

/// A CONNECT with this protocol name and level, flags, and the rest after Keep Alive.
fn connect(name: &str, level: u8, flags: u8, rest: &[u8]) -> Vec<u8> {
    packet(
        0x10,
        &[&text(name)[..], &[level, flags, 0, 60], rest].concat(),
    )
}

/// The error for bytes that are a whole packet.
fn refused(version: impl Into<Option<Version>>, bytes: &[u8]) -> DecodeError {
    match decode(version.into(), bytes, NO_LIMIT) {
        Err(error) => error,
        Ok(found) => panic!("accepted {bytes:02x?} as {found:?}"),
    }
}

fn accepted(version: impl Into<Option<Version>>, bytes: &[u8]) -> Packet<'_> {
    match decode(version.into(), bytes, NO_LIMIT) {
        Ok(Some((packet, len))) => {
            assert_eq!(len, bytes.len(), "bytes were left: {bytes:02x?}");
            packet
        }
        other => panic!("{bytes:02x?} gave {other:?}"),
    }
}

#[track_caller]
fn assert_malformed(version: impl Into<Option<Version>>, bytes: &[u8]) {
    let error = refused(version, bytes);
    assert!(
        matches!(error, DecodeError::Malformed(_)),
        "{error:?} for {bytes:02x?}"
    );
}

#[track_caller]
fn assert_protocol_error(version: impl Into<Option<Version>>, bytes: &[u8]) {
    let error = refused(version, bytes);
    assert!(
        matches!(error, DecodeError::Protocol(_)),
        "{error:?} for {bytes:02x?}"
    );
}
