//! Who is mentioned in a message: by the user property `mention`, which may repeat, or by `@name` in a
//! text.

use std::sync::Arc;

use crate::journal::Published;
use crate::message::Message;

use super::Kind;

/// The user property that names one who is mentioned.
pub const MENTION: &str = "mention";

/// People that one message may mention; the others are not told.
pub const MAX_MENTIONS: usize = 16;

/// Bytes of text that are looked through.
const MAX_TEXT_BYTES: usize = 16 * 1024;

/// Bytes of a name.
const MAX_NAME_BYTES: usize = 64;

/// Those whom a stored message mentions, as far as it is one of people: the first
/// [`MAX_MENTIONS`], each once. Whether they may read it is not asked.
pub fn mentions_of(published: &Published) -> Vec<Arc<str>> {
    let message = &published.message;
    if !published.history || *published.stream == *message.topic {
        return Vec::new();
    }
    match Kind::of(&message.topic, &published.stream) {
        Kind::Message | Kind::Reply(_) => named_in(message),
        Kind::Edit(_) | Kind::Recall(_) | Kind::React(_) => Vec::new(),
    }
}

fn named_in(message: &Message) -> Vec<Arc<str>> {
    let mut names: Vec<Arc<str>> = Vec::new();
    let mut add = |name: &str| {
        let is_name = !name.is_empty() && name.len() <= MAX_NAME_BYTES && is_level(name);
        if is_name && names.len() < MAX_MENTIONS && !names.iter().any(|known| **known == *name) {
            names.push(name.into());
        }
    };
    let properties = message.properties.iter().flat_map(|p| p.user.iter());
    for (_, name) in properties.filter(|(key, _)| **key == *MENTION) {
        add(name);
    }
    let text = message.payload.get(..MAX_TEXT_BYTES);
    let text = text.unwrap_or(&message.payload);
    if text.contains(&b'@')
        && let Some(text) = text.utf8_chunks().next()
    {
        let mut before = None;
        let text = text.valid();
        for (at, c) in text.char_indices() {
            // No mention in alice@example.org.
            if c == '@' && !before.is_some_and(is_part) {
                let rest = text.get(at + 1..).unwrap_or_default();
                let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
                // A sentence may end behind a name.
                add(rest
                    .get(..end)
                    .unwrap_or_default()
                    .trim_end_matches(['.', '-']));
            }
            before = Some(c);
        }
    }
    names
}

fn is_level(name: &str) -> bool {
    !name.contains(['/', '+', '#', '\0'])
}

fn is_part(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Audience;
    use crate::message::{MessageProperties, Publisher, QoS, Seq};
    use bytes::Bytes;

    fn message(topic: &str, payload: &[u8], mentions: &[&str]) -> Published {
        let user = mentions.iter().map(|name| (MENTION.into(), (*name).into()));
        Published {
            stream: "chat/lobby".into(),
            seq: Seq(3),
            history: true,
            audience: Audience::Everyone,
            inbound_packet_id: None,
            read_us: 0,
            message: Message {
                topic: topic.into(),
                payload: Bytes::copy_from_slice(payload),
                qos: QoS::AtLeastOnce,
                retain: false,
                properties: Some(Box::new(MessageProperties {
                    user: user.collect(),
                    ..MessageProperties::default()
                })),
                publisher: Publisher {
                    user: "alice".into(),
                    client_id: "a".into(),
                },
                time: 0,
            },
        }
    }

    fn named(payload: &str, mentions: &[&str]) -> Vec<String> {
        let found = mentions_of(&message("chat/lobby/alice", payload.as_bytes(), mentions));
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_are_found_in_text_and_in_properties() {
        assert_eq!(named("hi @bob, @carol. And @bob", &[]), ["bob", "carol"]);
        assert_eq!(named("你好@王五 @a_b-c", &["dave"]), ["dave", "a_b-c"]);
        assert_eq!(named("问 @王五。", &[]), ["王五"]);
        assert!(named("mail alice@example.org, @ and @/x", &[]).is_empty());
        assert!(named("", &["a/b", "#", ""]).is_empty());
    }

    #[test]
    fn bytes_that_are_no_text_and_changes_mention_nobody() {
        let edit = message("chat/lobby/alice/edit/2", b"@bob", &["bob"]);
        assert!(mentions_of(&edit).is_empty());
        let bytes = message("chat/lobby/alice", b"\xff@bob", &[]);
        assert!(mentions_of(&bytes).is_empty());
    }

    #[test]
    fn one_message_mentions_a_bounded_number() {
        let many: String = (0..100).map(|n| format!("@user{n} ")).collect();
        assert_eq!(named(&many, &[]).len(), MAX_MENTIONS);
    }
}
