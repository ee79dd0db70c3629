//! No bytes make the codec panic, and what it accepts it writes and reads back the same.

use super::*;
use crate::codec::encode;

/// A small generator, so that a failure has a seed (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// Mostly small values, which mean something in nearly every field.
    fn byte(&mut self) -> u8 {
        match self.below(4) {
            0 => self.next() as u8,
            1 => self.below(4) as u8,
            2 => self.below(0x30) as u8,
            _ => b"aZ/+#$\x80\xA2"[self.below(8)],
        }
    }
}

/// What is accepted is written so that it is accepted as the same again.
fn check(version: Option<Version>, bytes: &[u8]) -> bool {
    let Ok(Some((packet, consumed))) = decode(version, bytes, NO_LIMIT) else {
        return false;
    };
    assert!(consumed <= bytes.len());
    let spoken = match &packet {
        Packet::Connect(connect) => connect.version,
        _ => version.expect("only a CONNECT comes without a version"),
    };
    let mut again = Vec::new();
    encode(spoken, &packet, &mut again);
    assert_eq!(accepted(version, &again), packet, "from {bytes:02x?}");
    true
}

fn each_version() -> impl Iterator<Item = Option<Version>> {
    VERSIONS.into_iter().map(Some).chain([None])
}

#[test]
fn random_bytes_never_panic() {
    let mut random = Random(1);
    for _ in 0..100_000 {
        let len = random.below(40);
        let bytes: Vec<u8> = (0..len).map(|_| random.byte()).collect();
        for version in each_version() {
            check(version, &bytes);
        }
    }
}

#[test]
fn random_bodies_behind_valid_headers_never_panic_and_survive_if_accepted() {
    let mut random = Random(2);
    let mut taken = 0;
    for _ in 0..200_000 {
        let len = random.below(24);
        let body: Vec<u8> = (0..len).map(|_| random.byte()).collect();
        let first = match random.below(15) as u8 + 1 {
            3 => 0x30 | random.below(16) as u8,
            kind @ (6 | 8 | 10) => kind << 4 | 2,
            kind => kind << 4,
        };
        let bytes = packet(first, &body);
        taken += each_version()
            .filter(|version| check(*version, &bytes))
            .count();
    }
    assert!(
        taken > 10_000,
        "only {taken} packets were accepted: the test tests nothing"
    );
}

#[test]
fn damaged_packets_never_panic_and_survive_if_accepted() {
    let will = [&[3][..], &[0x26, 0, 0], &text("t"), &text("payload")].concat();
    let originals: &[(Option<Version>, Vec<u8>)] = &[
        (
            None,
            connect(
                "MQTT",
                4,
                0xC6,
                &[text("id"), text("t"), text("w"), text("u"), text("p")].concat(),
            ),
        ),
        (
            None,
            connect(
                "MQTT",
                5,
                6,
                &[&[8, 0x11, 0, 0, 0, 9, 0x21, 0, 9][..], &text("id"), &will].concat(),
            ),
        ),
        (None, connect("MQIsdp", 3, 2, &text("id"))),
        (
            Some(Version::V5),
            packet(
                0x32,
                &[
                    &text("a/b")[..],
                    &[0, 1, 9, 0x26, 0, 1, b'k', 0, 1, b'v', 0x01, 1],
                    b"hello",
                ]
                .concat(),
            ),
        ),
        (
            Some(Version::V5),
            packet(
                0x82,
                &[
                    &[0, 1, 2, 0x0B, 7][..],
                    &text("a/+"),
                    &[0x2D],
                    &text("$share/g/#"),
                    &[1],
                ]
                .concat(),
            ),
        ),
        (
            Some(Version::V311),
            packet(0x82, &[&[0, 1][..], &text("a/+"), &[1]].concat()),
        ),
        (
            Some(Version::V5),
            packet(0x20, &[0, 0, 8, 0x24, 1, 0x27, 0, 0, 9, 0, 0]),
        ),
        (
            Some(Version::V5),
            packet(0xE0, &[0x8E, 4, 0x1F, 0, 1, b'w']),
        ),
        (
            Some(Version::V5),
            packet(0xF0, &[0x18, 8, 0x15, 0, 1, b'm', 0x16, 0, 1, b'd']),
        ),
    ];
    let mut random = Random(3);
    for _ in 0..20_000 {
        for (version, original) in originals {
            let mut bytes = original.clone();
            for _ in 0..=random.below(2) {
                let at = random.below(bytes.len());
                bytes[at] = random.byte();
            }
            check(*version, &bytes);
            check(*version, &bytes[..random.below(bytes.len())]);
        }
    }
}
