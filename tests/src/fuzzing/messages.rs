//! Whole WebSocket messages over real sockets, through what carries MQTT and `/chat`: in parts, with
//! control frames between them, compressed, and bombs. What is heard is what the plainest reading has,
//! however the bytes are cut; what is said back is that again; and memory is bounded by what may come.

use tidings_broker::fuzzing::{TalkTerms, Talked, compress, talk};

use super::choices::Choices;
use super::frames::{End, Said, Terms, plainly};
use super::heap::peak_of;
use super::inflate::inflate;

/// Bytes of memory of two sockets and their buffers.
const MEMORY: usize = 64 * 1024;

/// Copies of what came and of what it became, while buffers grow.
const COPIES: usize = 8;

/// Frames, or whatever, of one input.
const MAX_STEPS: usize = 24;

/// Bytes that the buffer of a socket has room for.
const SURELY_TAKEN: usize = 64 * 1024;

/// More answers than any limit here lets through.
const NO_LIMIT: usize = 1 << 24;

const OFFERS: &[(&str, usize)] = &[
    ("permessage-deflate", usize::MAX),
    ("permessage-deflate; server_max_window_bits=9", 1 << 9),
    (
        "permessage-deflate; client_max_window_bits=8, other",
        usize::MAX,
    ),
    ("none", 0),
];

/// See the module. Some bytes say what was agreed on and where it is cut, the rest is frames, or
/// choices of what frames are made of.
pub fn messages(data: &[u8]) {
    let mut choices = Choices::new(data);
    let how = choices.byte();
    let (offer, largest_packed) = choices.pick(OFFERS);
    let terms = Terms {
        texts: how & 1 != 0,
        may_be_compressed: largest_packed > 0,
        limit: choices.pick(&[4096, 65_536, 200, 16]),
        expansion: choices.pick(&[100, 2000, 1]),
    };
    let cut = usize::from(choices.byte()).max(1);
    let bytes = if how & 2 == 0 {
        choices.bytes(usize::MAX).to_vec()
    } else {
        made_of(&mut choices, terms.texts)
    };
    let talk_terms = TalkTerms {
        texts: terms.texts,
        offer,
        limit: terms.limit,
        expansion: terms.expansion,
        compress_from: 20,
    };
    let expected = plainly(&bytes, terms);
    let texts: usize = expected.texts.iter().map(Vec::len).sum();
    let most = bytes.len() + expected.data.len() + texts + terms.limit;
    // What a thread keeps for all its connections.
    let _ = compress(&[0; 64]);
    let (first, rest) = bytes.split_at(cut.min(bytes.len()));
    let pieces = [first].into_iter().chain(rest.chunks(cut.max(16)));
    for pieces in [vec![&*bytes], vec![&[][..], &bytes], pieces.collect()] {
        let (talked, memory) = peak_of(|| talk(talk_terms, &pieces).expect("two sockets"));
        assert!(memory <= MEMORY + COPIES * most, "{memory} bytes, {most}");
        check(&expected, &talked, terms, largest_packed);
    }
}

fn check(expected: &Said, talked: &Talked, terms: Terms, largest_packed: usize) {
    let refused = match expected.end {
        End::Refused(code) => Some(code),
        End::Open | End::Closed => None,
    };
    // A bomb is found before it is known whether there is an error behind it.
    let is_same = match (talked.refused, refused) {
        (Some(1007 | 1009), Some(1007)) => true,
        (found, expected) => found == expected,
    };
    assert!(is_same, "{:?} instead of {refused:?}", talked.refused);
    assert!(
        talked
            .texts
            .iter()
            .map(String::as_bytes)
            .eq(&expected.texts),
        "{:?} instead of {:?}",
        talked.texts,
        expected.texts
    );
    // What came together with a broken rule is lost.
    assert!(expected.data.starts_with(&talked.data));
    if refused.is_none() {
        assert_eq!(talked.data, expected.data);
    }
    let said = answers(&talked.answered, terms.texts, largest_packed);
    assert!(talked.data.starts_with(&said.data), "not what was heard");
    assert_eq!(said.texts, expected.texts, "not what was heard");
    if expected.end == End::Open {
        assert_eq!(said.data, talked.data, "something was not said back");
    }
    let mut pings = expected.pings.iter();
    let is_asked = |pong| pings.any(|ping| ping == pong);
    assert!(
        said.pings.iter().all(is_asked),
        "a Pong that nobody asked for"
    );
    // It goes out as far as the socket takes it at once.
    if !terms.texts && said.data.len() < SURELY_TAKEN {
        let goodbye = End::Refused(talked.refused.unwrap_or(1000));
        assert_eq!(said.end, goodbye, "the goodbye");
    }
}

/// What the broker's side says: frames without masks, each message in one. `pings` are Pongs, and
/// `Refused` is the code of the goodbye.
fn answers(bytes: &[u8], texts: bool, largest_packed: usize) -> Said {
    let mut said = Said::default();
    let mut rest = bytes;
    while let Some((&[first, second], after)) = rest.split_first_chunk::<2>() {
        assert_eq!(said.end, End::Open, "something after the goodbye");
        let (length, after) = match second {
            126 => {
                let (length, after) = after.split_first_chunk::<2>().expect("a length");
                (u64::from(u16::from_be_bytes(*length)), after)
            }
            127 => {
                let (length, after) = after.split_first_chunk::<8>().expect("a length");
                (u64::from_be_bytes(*length), after)
            }
            length => (u64::from(length), after),
        };
        let (payload, after) = after.split_at(usize::try_from(length).expect("a small length"));
        rest = after;
        let message = match first {
            0x81 | 0x82 => payload.to_vec(),
            0xC1 | 0xC2 => {
                let message = inflate(payload.to_vec(), NO_LIMIT).expect("a compressed message");
                assert!(message.len() <= largest_packed, "more than the window");
                assert!(payload.len() < message.len(), "compressed for nothing");
                message
            }
            0x8A => {
                said.pings.push(payload.to_vec());
                continue;
            }
            0x88 => {
                let code = payload.try_into().expect("a code without a reason");
                said.end = End::Refused(u16::from_be_bytes(code));
                continue;
            }
            _ => panic!("a frame that begins with {first:#x}"),
        };
        assert_eq!(first & 0x0F, if texts { 1 } else { 2 });
        if texts {
            said.texts.push(message);
        } else {
            said.data.extend(message);
        }
    }
    assert!(rest.is_empty(), "half a frame");
    said
}

/// Frames, mostly sound.
fn made_of(choices: &mut Choices<'_>, texts: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..MAX_STEPS {
        if choices.is_empty() {
            break;
        }
        match choices.below(8) {
            0..=4 => message(choices, texts, &mut out),
            5 => control(choices, &mut out),
            6 => {
                let len = choices.below(16);
                out.extend(choices.bytes(len));
            }
            _ => frame(0x88, choices, &[0x03, 0xE8], &mut out),
        }
    }
    out
}

fn message(choices: &mut Choices<'_>, texts: bool, out: &mut Vec<u8>) {
    let len = choices.below(256);
    let payload = match choices.below(4) {
        0 | 1 => choices.bytes(len).to_vec(),
        2 => choices.bytes(4).repeat(len),
        _ => vec![choices.byte(); usize::from(choices.short())],
    };
    let packed = match choices.below(3) {
        0 => None,
        1 => compress(&payload),
        // Something that was never compressed.
        _ => Some(payload.clone()),
    };
    let opcode = if texts { 1 } else { 2 };
    let opcode = if packed.is_some() { 0x40 } else { 0 } | opcode;
    let payload = packed.unwrap_or(payload);
    let parts = 1 + choices.below(4);
    let len = payload.len().div_ceil(parts).max(1);
    let mut parts: Vec<&[u8]> = payload.chunks(len).collect();
    if parts.is_empty() || choices.one_in(4) {
        parts.push(&[]);
    }
    let last = parts.len() - 1;
    for (number, part) in parts.into_iter().enumerate() {
        let first = if number == 0 { opcode } else { 0 };
        let fin = if number == last { 0x80 } else { 0 };
        frame(fin | first, choices, part, out);
        if number < last && choices.one_in(2) {
            control(choices, out);
        }
    }
}

fn control(choices: &mut Choices<'_>, out: &mut Vec<u8>) {
    let opcode = choices.pick(&[0x89, 0x89, 0x8A]);
    let len = choices.below(126);
    let payload = choices.bytes(len);
    frame(opcode, choices, payload, out);
}

fn frame(first: u8, choices: &mut Choices<'_>, payload: &[u8], out: &mut Vec<u8>) {
    out.push(first);
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | len as u8),
        len @ 126..=0xFFFF => {
            out.push(0x80 | 126);
            out.extend((len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    let mask = [choices.byte(), 0x5A, 0, 0xFF];
    out.extend(mask);
    let masked = payload.iter().zip(mask.iter().cycle());
    out.extend(masked.map(|(byte, mask)| byte ^ mask));
}
