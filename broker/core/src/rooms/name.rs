//! What a room may be called: a name is a topic level, and direct rooms have names of their own.

use super::RoomError;

/// Bytes of a chosen room name: it is part of every topic of the room.
pub const MAX_ROOM_NAME_BYTES: usize = 128;

/// Joins the two names of a direct room; no chosen name has it, so that nobody takes one first.
const JOINT: char = '&';

/// Whether a name can be chosen for a room.
///
/// # Errors
/// [`RoomError::BadName`].
pub fn check_room_name(name: &str) -> Result<(), RoomError> {
    let bad = name.is_empty()
        || name.len() > MAX_ROOM_NAME_BYTES
        || name.starts_with(['$', '.'])
        || name
            .chars()
            .any(|c| matches!(c, '/' | '+' | '#' | JOINT) || c.is_control());
    if bad { Err(RoomError::BadName) } else { Ok(()) }
}

/// The name of the direct room of two users, whoever asks.
pub fn direct_room_name(one: &str, other: &str) -> String {
    let (first, second) = if one <= other {
        (one, other)
    } else {
        (other, one)
    };
    // Escaped, so that different pairs never have one name.
    let escape = |name: &str| name.replace('%', "%25").replace(JOINT, "%26");
    format!("{}{JOINT}{}", escape(first), escape(second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_be_another_topic_are_refused() {
        for bad in ["", "a/b", "+", "a#", "$x", ".", "a&b", "a\u{7}", "a\0"] {
            assert_eq!(check_room_name(bad), Err(RoomError::BadName), "{bad:?}");
        }
        assert_eq!(check_room_name(&"x".repeat(129)), Err(RoomError::BadName));
        for good in ["lobby", "Küche 7", "東京", "a.b"] {
            assert_eq!(check_room_name(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn direct_rooms_are_the_same_from_both_sides_and_never_another_pair_s() {
        assert_eq!(direct_room_name("bob", "alice"), "alice&bob");
        assert_ne!(direct_room_name("x&y", "z"), direct_room_name("x", "y&z"));
        assert_ne!(direct_room_name("a%26", "b"), direct_room_name("a&", "b"));
    }
}
