//! A message as JSON: the one form in which every gateway, and history, tells of it.
//!
//! ```text
//! {"topic":"chat/lobby/alice","room":"lobby","from":"alice","seq":7,"id":"chat/lobby/7",
//!  "ts":1795239065794,"payload":"hello","cursor":"00000000deadbeef-1234"}
//! ```
//! Bytes that are not UTF-8 are in `payload_base64` instead. What is not known is not there.
//! This module does not know who may see a message.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use tidings_core::journal::Published;
use tidings_core::message::MessageProperties;
use tidings_core::rules::Decision;

use super::session::Message;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MessageJson<'a> {
    /// Topic Name.
    pub topic: &'a str,
    /// The room that the topic's rule names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room: Option<&'a str>,
    /// The user who published it, of a message with history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<&'a str>,
    /// Number in its stream, of a message with history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// Identity: stream and number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Cow<'a, str>>,
    /// When the broker read it, milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ts: Option<u64>,
    /// The payload, if it is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<&'a str>,
    /// The payload, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<String>,
    /// Content Type (§3.3.2.3.9).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<&'a str>,
    /// The publisher's own number for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cid: Option<&'a str>,
    /// The number of the message that it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<u64>,
    /// Users it speaks of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<&'a str>,
    /// It was retained, and is from before the reader came.
    #[serde(skip_serializing_if = "is_false")]
    pub retained: bool,
    /// The position after it, of a message that is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<&'a str>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(value: &bool) -> bool {
    !value
}

impl<'a> MessageJson<'a> {
    /// A message that a session received. What the rule of its topic has no history of has no place
    /// in a stream, whatever its publisher says.
    pub fn of_delivery(message: &'a Message, rule: &'a Decision<'_>) -> Self {
        let place = |name| message.user_property(name).filter(|_| rule.keep.is_some());
        let number = |name| place(name).and_then(|value| value.parse().ok());
        Self {
            from: place("from"),
            seq: number("seq"),
            id: place("id").map(Cow::Borrowed),
            ts: number("ts"),
            retained: message.retain,
            cursor: message.cursor(),
            ..Self::of_parts(
                &message.topic,
                &message.payload,
                message.properties.as_deref(),
                rule,
            )
        }
    }

    /// A message of the journal.
    pub fn of_published(published: &'a Published, rule: &'a Decision<'_>) -> Self {
        let Published { message, seq, .. } = published;
        let numbered = published.history.then_some(seq.0);
        Self {
            from: numbered.map(|_| &*message.publisher.user),
            seq: numbered,
            id: numbered.map(|seq| format!("{}/{seq}", published.stream).into()),
            ts: Some(message.time),
            ..Self::of_parts(
                &message.topic,
                &message.payload,
                message.properties.as_deref(),
                rule,
            )
        }
    }

    fn of_parts(
        topic: &'a str,
        payload: &'a [u8],
        properties: Option<&'a MessageProperties>,
        rule: &'a Decision<'_>,
    ) -> Self {
        let text = std::str::from_utf8(payload).ok();
        let capture = |wanted| {
            let mut captures = rule.captures();
            captures.find_map(|(name, value)| (name == wanted).then_some(value))
        };
        let user = properties.map_or(&[][..], |properties| &properties.user);
        let named = move |wanted: &'static str| {
            let found = user.iter().filter(move |(name, _)| **name == *wanted);
            found.map(|(_, value)| &**value)
        };
        Self {
            topic,
            room: capture("room"),
            payload: text,
            payload_base64: text.is_none().then(|| STANDARD.encode(payload)),
            content_type: properties.and_then(|properties| properties.content_type.as_deref()),
            cid: named("cid").next(),
            reply_to: reply_to(topic),
            mentions: named("mention").collect(),
            ..Self::default()
        }
    }
}

/// `.../reply/{seq}` at the end of a topic.
fn reply_to(topic: &str) -> Option<u64> {
    let (before, seq) = topic.rsplit_once('/')?;
    before.ends_with("/reply").then(|| seq.parse().ok())?
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use tidings_core::rules::{Keep, RuleSource, Rules};

    use super::*;

    fn rules() -> Rules {
        let rule = |pattern: &str, keep| RuleSource {
            pattern: pattern.to_owned(),
            publish: "any".to_owned(),
            subscribe: "any".to_owned(),
            keep,
            ..RuleSource::default()
        };
        let kept = Some(Keep::default());
        let rules = [rule("chat/{room}/#", kept), rule("#", None)];
        Rules::compile(&rules).expect("rules")
    }

    fn json(topic: &str, payload: &'static [u8], user: &[(&str, &str)]) -> String {
        let pairs = user.iter();
        let message = Message {
            topic: topic.to_owned(),
            payload: Bytes::from_static(payload),
            packet_id: None,
            retain: false,
            properties: Some(Box::new(MessageProperties {
                user: pairs
                    .map(|&(name, value)| (Arc::from(name), Arc::from(value)))
                    .collect(),
                ..MessageProperties::default()
            })),
        };
        let rules = rules();
        let rule = rules.decide(&message.topic);
        serde_json::to_string(&MessageJson::of_delivery(&message, &rule)).expect("JSON")
    }

    #[test]
    fn a_message_of_a_room_says_everything_that_the_broker_says_of_it() {
        let user = [
            ("cid", "c1"),
            ("seq", "999"),
            ("mention", "bob"),
            ("mention", "carol"),
            ("seq", "7"),
            ("id", "chat/lobby/7"),
            ("ts", "1795239065794"),
            ("from", "alice"),
            ("cursor", "00000000deadbeef-12"),
        ];
        assert_eq!(
            json("chat/lobby/alice/reply/3", b"h\xc3\xa9", &user),
            "{\"topic\":\"chat/lobby/alice/reply/3\",\"room\":\"lobby\",\"from\":\"alice\",\
             \"seq\":7,\"id\":\"chat/lobby/7\",\"ts\":1795239065794,\"payload\":\"h\u{e9}\",\
             \"cid\":\"c1\",\"reply_to\":3,\"mentions\":[\"bob\",\"carol\"],\
             \"cursor\":\"00000000deadbeef-12\"}"
        );
    }

    #[test]
    fn bytes_that_are_no_text_come_as_base64() {
        assert_eq!(
            json("free", &[0xff, 0], &[]),
            "{\"topic\":\"free\",\"payload_base64\":\"/wA=\"}"
        );
    }

    #[test]
    fn what_has_no_history_has_no_place_whatever_its_publisher_says() {
        let user = [
            ("from", "admin"),
            ("seq", "1"),
            ("id", "x/1"),
            ("ts", "5"),
            ("cursor", "00000000deadbeef-12"),
            ("cursor", ""),
        ];
        assert_eq!(
            json("free", b"", &user),
            "{\"topic\":\"free\",\"payload\":\"\"}"
        );
    }
}
