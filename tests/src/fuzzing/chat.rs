//! What is said at `/chat`: texts that are JSON, signs of life, or nothing of ours. What is understood is
//! what the JSON says, in a place that is the speaker's own; what is not is answered in bounded words.

use std::sync::Arc;

use serde_json::Value;
use tidings_bridge::gateway::Outgoing;
use tidings_broker::fuzzing::{Understood, chat as understand};
use tidings_core::messages::{CID, MAX_MENTIONS, MENTION};
use tidings_core::topic::validate_name;

use super::heap::peak_of;

/// Bytes of memory for each byte of a text: an element of a list takes two, and becomes a value of 32
/// in a list that has room for twice as many and was just copied.
const MEMORY_PER_BYTE: usize = 128;
const MEMORY: usize = 8 * 1024;

/// Bytes of what an answer refers to.
const MAX_REF: usize = 256;

/// Filters of one text.
const MAX_FILTERS: usize = 50;

/// See the module. All of it is one text.
pub fn chat(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (found, memory) = peak_of(|| understand(text, "alice"));
    assert!(
        memory <= MEMORY + MEMORY_PER_BYTE * text.len(),
        "{memory} bytes"
    );
    let (of, found) = match found {
        Ok(found) => found,
        Err(refusal) => {
            assert!(refusal["code"].is_string() && refusal["status"].is_u64());
            // What is not known may be named, each byte escaped in six.
            let most = 512 + 6 * text.len();
            assert!(refusal.to_string().len() <= most, "{refusal}");
            return;
        }
    };
    assert!(of.to_string().len() <= MAX_REF, "{of}");
    let json: Option<Value> = serde_json::from_str(text).ok();
    let said = |name: &str| json.as_ref().map_or(&Value::Null, |json| &json[name]);
    assert_eq!(&of, said("ref"));
    match found {
        Understood::Nothing | Understood::Pong => {
            assert!(said("publish").is_null() && said("subscribe").is_null());
        }
        Understood::Subscribe(filters) => {
            assert!(filters.len() <= MAX_FILTERS && said("publish").is_null());
            let said = said("subscribe").as_array().expect("filters");
            assert!(
                filters
                    .iter()
                    .map(|one| &**one)
                    .eq(said.iter().map(text_of))
            );
        }
        Understood::Publish(outgoing) => {
            assert!(said("subscribe").is_null());
            check_message(&outgoing, said("publish"));
        }
    }
}

/// Fields by name, or by their places in a list, as `serde` reads both.
const FIELDS: [&str; 10] = [
    "room",
    "to",
    "topic",
    "payload",
    "payload_base64",
    "content_type",
    "reply_to",
    "mentions",
    "cid",
    "retain",
];

fn check_message(outgoing: &Outgoing, said: &Value) {
    let field = |name: &str| match said {
        Value::Array(fields) => {
            let place = FIELDS.iter().position(|field| *field == name);
            place
                .and_then(|place| fields.get(place))
                .unwrap_or(&Value::Null)
        }
        said => &said[name],
    };
    let levels: Vec<&str> = outgoing.topic.split('/').collect();
    assert_eq!(validate_name(&outgoing.topic), Ok(()));
    match (field("room"), field("to"), field("topic")) {
        (Value::String(room), Value::Null, Value::Null) => {
            let place = ["chat", room, "alice"];
            assert_eq!(levels[..3], place, "another place");
            match field("reply_to") {
                Value::Null => assert_eq!(levels.len(), 3),
                seq => assert_eq!(levels[3..], ["reply", &seq.to_string()]),
            }
        }
        (Value::Null, Value::String(to), Value::Null) => {
            assert_eq!(levels, ["dm", to, "alice"]);
        }
        (Value::Null, Value::Null, Value::String(topic)) => assert_eq!(&outgoing.topic, topic),
        other => panic!("{other:?} is no place"),
    }
    match field("payload") {
        Value::String(payload) => {
            assert_eq!(outgoing.payload, payload);
            assert_eq!(outgoing.properties.payload_is_utf8, Some(true));
        }
        _ => assert_eq!(
            base64_of(&outgoing.payload),
            text_of(field("payload_base64"))
        ),
    }
    assert_eq!(outgoing.retain, *field("retain") == Value::Bool(true));
    let properties = &outgoing.properties;
    let content_type = properties.content_type.as_deref();
    assert_eq!(content_type, field("content_type").as_str());
    let named = |name: &str| -> Vec<Arc<str>> {
        let pairs = properties.user.iter().filter(|(key, _)| **key == *name);
        pairs.map(|(_, value)| value.clone()).collect()
    };
    let mentions = named(MENTION);
    assert!(mentions.len() <= MAX_MENTIONS);
    let mentioned = field("mentions").as_array().map_or(&[][..], Vec::as_slice);
    assert!(
        mentions
            .iter()
            .map(|one| &**one)
            .eq(mentioned.iter().map(text_of))
    );
    assert_eq!(named(CID).first().map(|cid| &**cid), field("cid").as_str());
    let words = properties
        .user
        .iter()
        .map(|(_, word)| &**word)
        .chain(content_type);
    for word in words {
        assert!(!word.is_empty() && !word.contains('\0'), "{word:?}");
    }
}

fn text_of(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// RFC 4648 §4.
fn base64_of(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for three in bytes.chunks(3) {
        let mut padded = [0; 4];
        padded[1..=three.len()].copy_from_slice(three);
        let number = u32::from_be_bytes(padded);
        for digit in 0..4 {
            let value = number >> (18 - 6 * digit) & 0x3F;
            let is_there = digit <= three.len();
            out.push(if is_there {
                char::from(DIGITS[value as usize])
            } else {
                '='
            });
        }
    }
    out
}
