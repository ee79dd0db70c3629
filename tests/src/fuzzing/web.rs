//! What comes over WebSocket and HTTP before it is a packet or a request: frames, against the plainest
//! reading of RFC 6455 and however they are cut; queries, names, tokens and JSON.

use tidings_broker::fuzzing::{
    Decoded, Frames, events_query, history_request, place, room_request, token,
};

use super::choices::Choices;
use super::frames::{End, Terms, plainly};
use super::heap::peak_of;

/// Bytes of memory for the control frames in so many bytes: an empty ping takes 6 on the wire.
const MEMORY_PER_BYTE: usize = 32;
const MEMORY: usize = 4 * 1024;

/// See the module. The first byte says where the frames are cut, the rest is frames.
pub fn websocket(data: &[u8]) {
    let Some((&cut, bytes)) = data.split_first() else {
        return;
    };
    let said = plainly(bytes, Terms::default());
    let expected = match said.end {
        End::Refused(_) => None,
        end => Some((said.data, said.pings, end == End::Closed)),
    };
    for piece in [usize::MAX, 1, usize::from(cut).max(1)] {
        let (mut found, memory) = peak_of(|| in_pieces(bytes, piece));
        if let (Some((_, found, _)), Some((_, expected, _))) = (&mut found, &expected) {
            check_pings(found, expected);
            found.clone_from(expected);
        }
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
type Found = Option<(Vec<u8>, Vec<Vec<u8>>, bool)>;

/// Of Pings in a row the last is to be answered (RFC 6455 §5.5.3).
fn check_pings(found: &[Vec<u8>], said: &[Vec<u8>]) {
    let mut rest = said.iter();
    let is_said = |ping| rest.any(|one| one == ping);
    assert!(found.iter().all(is_said), "a ping that nobody said");
    assert_eq!(found.last(), said.last(), "the last ping");
}

fn in_pieces(bytes: &[u8], piece: usize) -> Found {
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
