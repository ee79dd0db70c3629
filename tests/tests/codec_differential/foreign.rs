//! Our codec against another one: the loop over packets, and what has to be explained.

use std::collections::BTreeSet;
use std::fmt::Debug;

use tidings_core::codec::{self, DecodeError, Packet, Version};

use crate::packets::{Random, make_packet};

/// Enough that every listed disagreement occurs, and a few seconds in a debug build.
const PACKETS: usize = 150_000;

/// What we refuse and they accept: our error, and why it is right.
pub type Strictness = (&'static str, &'static str);

/// What they refuse and we accept: their error, when that is meant, and why we accept.
pub type Leniency = (&'static str, fn(Version, &Packet<'_>) -> bool, &'static str);

/// A packet as another codec has it.
pub trait Foreign: Debug + PartialEq + Sized {
    const WE_ARE_STRICTER: &[Strictness];
    const WE_ARE_MORE_LENIENT: &[Leniency];

    /// The packet that is the whole of `bytes`, or their error.
    fn decode(version: Version, bytes: &[u8]) -> Result<Self, String>;

    fn encode(self) -> Vec<u8>;

    /// Why a packet that both accept is written by one of them in another way than it was read.
    fn may_read_differently(version: Version, packet: &Packet<'_>) -> Option<&'static str>;
}

/// Compares over packets made from a seed.
///
/// # Panics
/// At a disagreement that is not listed, and for one that is listed and does not occur.
pub fn compare<Theirs: Foreign>(seed: u64) {
    let mut random = Random(seed);
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
                if !mean_the_same(before, version, ours, theirs) {
                    let reason = Theirs::may_read_differently(version, ours);
                    reasons.insert(
                        reason.unwrap_or_else(|| panic!("{bytes:02x?} is {ours:?} for us")),
                    );
                }
            }
            (Err(_), Err(_)) => neither += 1,
            (Err(error), Ok(theirs)) => {
                let error = error.to_string();
                let mut listed = Theirs::WE_ARE_STRICTER.iter();
                let Some((_, reason)) = listed.find(|(ours, _)| *ours == error) else {
                    panic!("only they accept {bytes:02x?} ({error}): {theirs:?}");
                };
                reasons.insert(*reason);
            }
            (Ok(ours), Err(error)) => {
                let explained = Theirs::WE_ARE_MORE_LENIENT
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
    let stricter = Theirs::WE_ARE_STRICTER.iter().map(|(_, reason)| *reason);
    let lenient = Theirs::WE_ARE_MORE_LENIENT.iter();
    for reason in stricter.chain(lenient.map(|(_, _, reason)| *reason)) {
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
fn mean_the_same<Theirs: Foreign>(
    before: Option<Version>,
    version: Version,
    ours: &Packet<'_>,
    theirs: Theirs,
) -> bool {
    let mut written_by_us = Vec::new();
    codec::encode(version, ours, &mut written_by_us);
    let is_read_by_them = Theirs::decode(version, &written_by_us).as_ref() == Ok(&theirs);
    let written_by_them = theirs.encode();
    let read_by_us = codec::decode(before, &written_by_them, usize::MAX);
    is_read_by_them && read_by_us == Ok(Some((ours.clone(), written_by_them.len())))
}
