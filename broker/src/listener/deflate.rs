//! permessage-deflate (RFC 7692): what is agreed on, and messages smaller and back again.
//!
//! Invariants: no message depends on another (no context takeover in either direction), so that a
//! thread has one compressor and one decompressor for all its connections, and a connection none; what
//! a message may become is bounded, in bytes and as a multiple of what came; what is not agreed on
//! word by word is declined, and the connection goes on without.
//! It does not know frames.
//!
//! A message that is compressed tells its length to whoever watches the wire, encrypted or not, and in
//! one write there may be messages of several people: whoever can say one thing and guess another could
//! see by the length that the guess is right (CRIME, BREACH). So each message gets a random number of
//! empty blocks.

use std::cell::RefCell;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::frames::Violation;

const NAME: &str = "permessage-deflate";

/// What ends each message, and is not sent (RFC 7692 §7.2.1): an empty stored block without its header.
const TAIL: [u8; 4] = [0, 0, 0xFF, 0xFF];

/// An empty stored block, from a byte's border on (RFC 1951 §3.2.4).
const EMPTY_BLOCK: [u8; 5] = [0, 0, 0, 0xFF, 0xFF];

/// Empty blocks at most, a power of two: enough that a byte more or less is not seen in a few tries,
/// and on average 17 bytes of a message that was worth compressing.
const MAX_EMPTY_BLOCKS: u8 = 8;

/// Fastest: measured on what a room says, half the time of the next level for a quarter more bytes.
const LEVEL: u32 = 1;

/// Streams that may end inside of one message (§7.2.3.4 has an example with one).
const MAX_ENDS: usize = 8;

/// Output that a message may become whatever its size: a few bytes may well be a long line of dashes.
const ALWAYS: usize = 4 * 1024;

/// What was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Agreement {
    /// The client decompresses with a window of 2^this bytes.
    server_max_window_bits: u8,
}

impl Agreement {
    /// The first offer of `Sec-WebSocket-Extensions` that can be accepted.
    pub fn of<'a>(values: impl Iterator<Item = &'a str>) -> Option<Self> {
        values
            .flat_map(|value| value.split(','))
            .find_map(Self::of_offer)
    }

    /// Whoever says something that is not in §7.1 wants something else.
    fn of_offer(offer: &str) -> Option<Self> {
        let mut words = offer.split(';').map(str::trim);
        words.next().filter(|name| *name == NAME)?;
        let mut seen = [false; 4];
        let mut agreement = Self {
            server_max_window_bits: 15,
        };
        for word in words {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name.trim_end(), Some(unquoted(value.trim_start())?)),
                None => (word, None),
            };
            let (place, is_well) = match (name, value) {
                ("server_no_context_takeover", None) => (0, true),
                ("client_no_context_takeover", None) => (1, true),
                ("server_max_window_bits", Some(value)) => {
                    agreement.server_max_window_bits = window_bits(value)?;
                    (2, true)
                }
                // What the client may choose below 15 needs no word of ours.
                ("client_max_window_bits", value) => {
                    (3, value.is_none_or(|value| window_bits(value).is_some()))
                }
                _ => return None,
            };
            if !is_well || std::mem::replace(seen.get_mut(place)?, true) {
                return None;
            }
        }
        Some(agreement)
    }

    /// What is answered.
    pub fn answer(self) -> String {
        let bits = match self.server_max_window_bits {
            15 => String::new(),
            bits => format!("; server_max_window_bits={bits}"),
        };
        format!("{NAME}; server_no_context_takeover; client_no_context_takeover{bits}")
    }

    /// Bytes of the largest message that may be compressed. One that is no longer than the window needs
    /// no compressor with a small window: nothing in it is further back.
    pub const fn max_message(self) -> usize {
        if self.server_max_window_bits >= 15 {
            usize::MAX
        } else {
            1 << self.server_max_window_bits
        }
    }
}

fn unquoted(value: &str) -> Option<&str> {
    match value.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"'),
        None => Some(value),
    }
}

/// 8 to 15, without leading zeros (§7.1.2.1).
fn window_bits(value: &str) -> Option<u8> {
    let is_plain = matches!(value.as_bytes(), [b'8' | b'9'] | [b'1', b'0'..=b'5']);
    value.parse().ok().filter(|_| is_plain)
}

/// What a compressed message may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Bytes.
    pub bytes: usize,
    /// Times the bytes that came.
    pub expansion: usize,
}

struct Machines {
    compress: Option<Compress>,
    decompress: Option<Decompress>,
    chance: [u8; 64],
    chance_left: usize,
}

thread_local! {
    /// Some 300 KiB when both have been used, for as long as the thread lives.
    static MACHINES: RefCell<Machines> = const {
        RefCell::new(Machines { compress: None, decompress: None, chance: [0; 64], chance_left: 0 })
    };
}

/// Appends `message` to `out`, compressed; gives false, and leaves `out` as it was, if it would not be
/// smaller.
pub(crate) fn compress(message: &[u8], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let is_smaller = MACHINES.with_borrow_mut(|machines| machines.compress(message, out));
    if !is_smaller {
        out.truncate(start);
    }
    is_smaller
}

/// The message that was compressed.
///
/// # Errors
/// If it is none, or becomes too large.
pub(crate) fn decompress(message: &mut Vec<u8>, bounds: Bounds) -> Result<Vec<u8>, Violation> {
    MACHINES.with_borrow_mut(|machines| machines.decompress(message, bounds))
}

impl Machines {
    fn compress(&mut self, message: &[u8], out: &mut Vec<u8>) -> bool {
        let padding = usize::from(self.empty_blocks()) * EMPTY_BLOCK.len();
        let machine = self
            .compress
            .get_or_insert_with(|| Compress::new(Compression::new(LEVEL), false));
        machine.reset();
        let start = out.len();
        // Whatever needs more room than the message is not worth it.
        out.reserve_exact(message.len() + TAIL.len());
        let done = machine.compress_vec(message, out, FlushCompress::Sync);
        let is_whole = done.is_ok()
            && machine.total_in() == message.len() as u64
            && out.ends_with(&TAIL)
            && out.len() < out.capacity();
        if !is_whole {
            return false;
        }
        out.truncate(out.len() - TAIL.len());
        if out.len() - start + padding >= message.len() {
            return false;
        }
        // The header of the last block is there, without its end: that is the first of these.
        for _ in 0..padding / EMPTY_BLOCK.len() {
            out.extend_from_slice(&TAIL);
            out.push(0);
        }
        true
    }

    fn empty_blocks(&mut self) -> u8 {
        if self.chance_left == 0 {
            // Without chance it is as others do it.
            let _ = getrandom::fill(&mut self.chance);
            self.chance_left = self.chance.len();
        }
        self.chance_left -= 1;
        self.chance.get(self.chance_left).copied().unwrap_or(0) % MAX_EMPTY_BLOCKS
    }

    fn decompress(&mut self, message: &mut Vec<u8>, bounds: Bounds) -> Result<Vec<u8>, Violation> {
        let expanded = message.len().saturating_mul(bounds.expansion).max(ALWAYS);
        let limit = bounds.bytes.min(expanded);
        message.extend_from_slice(&TAIL);
        let machine = self
            .decompress
            .get_or_insert_with(|| Decompress::new(false));
        machine.reset(false);
        let mut out = Vec::with_capacity(message.len().saturating_mul(4).min(limit + 1));
        let (mut from, mut ends) = (0, 0);
        loop {
            let input = message.get(from..).unwrap_or_default();
            let before = machine.total_in();
            let status = machine
                .decompress_vec(input, &mut out, FlushDecompress::Sync)
                .map_err(|_| Violation::InvalidData("nothing that can be decompressed"))?;
            from += usize::try_from(machine.total_in() - before).unwrap_or(usize::MAX);
            if out.len() > limit {
                return Err(Violation::TooBig(limit));
            }
            let is_full = out.len() == out.capacity();
            match status {
                Status::StreamEnd if from < message.len() => {
                    ends += 1;
                    if ends > MAX_ENDS {
                        return Err(Violation::InvalidData("too many streams in one message"));
                    }
                    machine.reset(false);
                }
                Status::StreamEnd => return Ok(out),
                _ if is_full => {
                    // One more than is allowed, to see that there is more.
                    let more = out.capacity().max(64).min(limit + 1 - out.len());
                    out.reserve_exact(more.max(1));
                }
                _ if from >= message.len() => return Ok(out),
                _ => return Err(Violation::InvalidData("nothing that can be decompressed")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        bytes: 1_000_000,
        expansion: 100,
    };

    fn accepted(offer: &str) -> Option<String> {
        Agreement::of([offer].into_iter()).map(Agreement::answer)
    }

    #[test]
    fn what_browsers_offer_is_accepted_without_context_takeover() {
        let plain = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        for offer in [
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; client_max_window_bits=10; server_no_context_takeover",
            "x-webkit-deflate-frame, permessage-deflate",
            "permessage-deflate; something, permessage-deflate; server_max_window_bits=\"15\"",
        ] {
            assert_eq!(accepted(offer).as_deref(), Some(plain), "{offer}");
        }
        let small = accepted("permessage-deflate; server_max_window_bits = 10").unwrap();
        assert_eq!(small, format!("{plain}; server_max_window_bits=10"));
    }

    #[test]
    fn rfc_7692_7_1_offers_with_unknown_or_wrong_parameters_are_declined() {
        for offer in [
            "",
            "permessage-bzip2",
            "permessage-deflate; unknown",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; server_max_window_bits=09",
            "permessage-deflate; server_max_window_bits=\"10",
            "permessage-deflate; client_max_window_bits=0",
            "permessage-deflate; client_max_window_bits=10; client_max_window_bits=11",
        ] {
            assert_eq!(accepted(offer), None, "{offer}");
        }
    }

    #[test]
    fn a_message_comes_back_whatever_it_is() {
        let text = "the meeting is at nine, bring the report; ".repeat(100);
        for message in [text.as_bytes(), &text.as_bytes()[..1200]] {
            let mut packed = b"before".to_vec();
            assert!(compress(message, &mut packed));
            assert!(packed.len() < message.len() / 2);
            let mut packed = packed.split_off(6);
            assert_eq!(decompress(&mut packed, BOUNDS).unwrap(), message);
        }
        let mut state = 1_u64;
        let mut chance = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        let noise: Vec<u8> = (0..5000).map(|_| chance()).collect();
        let mut out = b"before".to_vec();
        assert!(!compress(&noise, &mut out));
        assert!(!compress(b"", &mut out));
        assert_eq!(out, b"before");
    }

    #[test]
    fn the_length_of_a_compressed_message_varies() {
        let text = "the same words over and over ".repeat(50);
        let lengths: std::collections::BTreeSet<usize> = (0..200)
            .map(|_| {
                let mut packed = Vec::new();
                assert!(compress(text.as_bytes(), &mut packed));
                let len = packed.len();
                assert_eq!(decompress(&mut packed, BOUNDS).unwrap(), text.as_bytes());
                len
            })
            .collect();
        assert_eq!(lengths.len(), usize::from(MAX_EMPTY_BLOCKS));
    }

    #[test]
    fn rfc_7692_7_2_3_the_examples_are_read() {
        for packed in [
            // One block; the same in a stored block; a block that says it is the last; two blocks.
            &[0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00][..],
            &[
                0x00, 0x05, 0x00, 0xFA, 0xFF, 0x48, 0x65, 0x6C, 0x6C, 0x6F, 0x00,
            ],
            &[0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00, 0x00],
            &[
                0xF2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xCA, 0xC9, 0xC9, 0x07, 0x00,
            ],
        ] {
            assert_eq!(decompress(&mut packed.to_vec(), BOUNDS).unwrap(), b"Hello");
        }
        assert_eq!(decompress(&mut vec![0], BOUNDS).unwrap(), b"");
    }

    #[test]
    fn a_bomb_is_refused_before_it_is_large() {
        let mut packed = Vec::new();
        assert!(compress(&vec![0; 50_000_000], &mut packed));
        assert!(packed.len() < 500_000, "{}", packed.len());
        let bomb = |bytes, expansion| {
            let refused = decompress(&mut packed.clone(), Bounds { bytes, expansion });
            refused.unwrap_err().close_code() as u16
        };
        assert_eq!(bomb(1_000_000, 1_000_000), 1009);
        assert_eq!(bomb(usize::MAX - 1, 100), 1009);
        let exact = Bounds {
            bytes: 50_000_000,
            expansion: 2000,
        };
        assert_eq!(
            decompress(&mut packed.clone(), exact).unwrap().len(),
            50_000_000
        );
    }

    #[test]
    fn what_cannot_be_decompressed_is_refused() {
        for mut packed in [vec![0xFF; 10], vec![0x07], [3, 0].repeat(50)] {
            let refused = decompress(&mut packed, BOUNDS).unwrap_err();
            assert_eq!(refused.close_code() as u16, 1007, "{refused}");
        }
    }
}
