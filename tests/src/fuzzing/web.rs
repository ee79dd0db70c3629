//! What comes over WebSocket and HTTP before it is a packet or a request: frames, against the plainest
//! reading of RFC 6455 and however they are cut; queries, names, tokens and JSON.

use tidings_broker::fuzzing::{
    Decoded, Frames, events_query, history_request, place, room_request, token,
};

use super::choices::Choices;
use super::heap::peak_of;

/// Bytes of memory for the control frames in so many bytes: an empty ping takes 6 on the wire.
const MEMORY_PER_BYTE: usize = 32;
const MEMORY: usize = 4 * 1024;

/// See the module. The first byte says where the frames are cut, the rest is frames.
pub fn websocket(data: &[u8]) {
    let Some((&cut, bytes)) = data.split_first() else {
        return;
    };
    let expected = plainly(bytes);
    for piece in [usize::MAX, 1, usize::from(cut).max(1)] {
        let (found, memory) = peak_of(|| in_pieces(bytes, piece));
        assert_eq!(found, expected, "in pieces of {piece}");
        let copies = 2 * bytes.len();
        assert!(
            memory <= MEMORY + copies + MEMORY_PER_BYTE * bytes.len(),
            "{memory} bytes"
        );
    }
}

/// What all frames together say: data, pings, a close; or the place of a broken rule is in between,
/// and then only that counts.
type Said = Option<(Vec<u8>, Vec<Vec<u8>>, bool)>;

fn in_pieces(bytes: &[u8], piece: usize) -> Said {
    let mut frames = Frames::default();
    let (mut data, mut pings) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(piece) {
        let mut piece = piece.to_vec();
        let Decoded {
            len,
            pings: more,
            closed,
        } = frames.decode(&mut piece)?;
        data.extend_from_slice(&piece[..len]);
        pings.extend(more);
        if closed {
            return Some((data, pings, true));
        }
    }
    Some((data, pings, false))
}

/// One frame after the other, each rule where RFC 6455 has it.
fn plainly(bytes: &[u8]) -> Said {
    let (mut data, mut pings) = (Vec::new(), Vec::new());
    let mut in_message = false;
    let mut rest = bytes;
    while let Some((&first, after)) = rest.split_first() {
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0F);
        let is_control = opcode >= 8;
        // §5.2: no extension; §5.4; §5.5. Text is no MQTT [MQTT-6.0.0-1].
        let is_sound = first & 0x70 == 0
            && matches!(opcode, 0 | 2 | 8 | 9 | 10)
            && (fin || !is_control)
            && (opcode != 0 || in_message)
            && (opcode != 2 || !in_message);
        if !is_sound {
            return None;
        }
        let Some((&second, after)) = after.split_first() else {
            break;
        };
        // §5.1: a client masks.
        if second & 0x80 == 0 {
            return None;
        }
        let short = usize::from(second & 0x7F);
        let length_bytes = match short {
            126 | 127 if is_control => return None,
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if after.len() < length_bytes {
            break;
        }
        let (length, after) = after.split_at(length_bytes);
        let length = length
            .iter()
            .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        let length = match length_bytes {
            0 => short as u64,
            // §5.2: the shortest form.
            2 if length < 126 => return None,
            8 if length < 65_536 || length >> 63 != 0 => return None,
            _ => length,
        };
        let Some((mask, after)) = after.split_first_chunk::<4>() else {
            break;
        };
        let here = usize::try_from(length)
            .unwrap_or(usize::MAX)
            .min(after.len());
        let is_whole = here as u64 == length;
        let (payload, after) = after.split_at(here);
        let payload = payload.iter().zip(mask.iter().cycle());
        let payload: Vec<u8> = payload.map(|(byte, mask)| byte ^ mask).collect();
        match opcode {
            0 | 2 => data.extend(payload),
            _ if !is_whole => break,
            9 => pings.push(payload),
            8 => return may_close(&payload).then_some((data, pings, true)),
            _ => {}
        }
        if !is_control && is_whole {
            in_message = !fin;
        }
        rest = after;
    }
    Some((data, pings, false))
}

/// §5.5.1, §7.4.
fn may_close(payload: &[u8]) -> bool {
    match payload.split_first_chunk::<2>() {
        None => payload.is_empty(),
        Some((code, reason)) => {
            let code = u16::from_be_bytes(*code);
            let is_defined = (1000..=1014).contains(&code) && !matches!(code, 1004..=1006);
            (is_defined || (3000..5000).contains(&code)) && std::str::from_utf8(reason).is_ok()
        }
    }
}

/// See the module. The first byte says what the rest is.
pub fn http(data: &[u8]) {
    let mut choices = Choices::new(data);
    let kind = choices.below(5);
    let rest = choices.bytes(usize::MAX);
    let text = String::from_utf8_lossy(rest);
    let (first, second) = text.split_once('\n').unwrap_or((&text, ""));
    match kind {
        0 => {
            if let Some((filters, limit)) = events_query(&text) {
                assert!(filters <= 50 && (1..=1000).contains(&limit));
            }
        }
        1 => request(first, second.as_bytes()),
        2 => {
            let _ = history_request(rest);
        }
        3 => {
            let (room, user, number) = place(&text);
            let is_level = !text.is_empty() && !text.contains(['/', '+', '#', '\0']);
            assert!(
                is_level || !(room || user),
                "{text:?} becomes a level of topics"
            );
            assert!(!number || text.bytes().all(|byte| byte.is_ascii_digit()));
        }
        _ => {
            for name in ["authorization", "cookie", "x"] {
                let found = token(&[(name, second)], first);
                assert_ne!(found.as_deref(), Some(""), "an empty token is none");
                // One cookie of several ends before the next; what the query says is all of it.
                let is_whole =
                    |token: &String| !token.contains(';') || first.contains(token.as_str());
                assert!(
                    name != "cookie" || found.as_ref().is_none_or(is_whole),
                    "{second:?}"
                );
            }
        }
    }
}

/// A refusal says which request it refuses, and no more than a bounded echo.
fn request(method: &str, payload: &[u8]) {
    let (understood, refusal) = room_request(method, payload);
    if understood {
        return;
    }
    assert_eq!(refusal["ok"], false);
    assert_eq!(refusal["method"], method);
    assert!(refusal["error"]["code"].is_string());
    // Each byte of an id may be escaped in six.
    let most = 512 + 6 * (128 + method.len());
    assert!(refusal.to_string().len() <= most, "{refusal}");
}
