//! What a client of `/chat` says: one JSON object, or a sign of life.
//!
//! It does not know who says it.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use tidings_bridge::gateway::Outgoing;
use tidings_core::message::MessageProperties;
use tidings_core::messages::{CID, MAX_MENTIONS, MENTION};
use tidings_core::topic::validate_name;

use super::super::super::Problem;
use super::super::super::messages::check_word;
use super::super::super::place::{room, user};
use super::super::asked::{MAX_FILTERS, Since, since};

/// Bytes of what an answer refers to, as JSON: it is said back as it is.
const MAX_REF: usize = 256;

/// Something that was said.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// What the answer refers to; null: nothing.
    pub of: Value,
    pub want: Want,
}

/// What is wanted.
#[derive(Debug, Default)]
pub(super) enum Want {
    /// A sign of life.
    #[default]
    Nothing,
    Pong,
    Publish(Box<Publish>),
    Subscribe {
        filters: Vec<Arc<str>>,
        since: Since,
    },
}

/// A text of a client, understood.
#[derive(Clone, Debug)]
pub enum Understood {
    /// A sign of life.
    Nothing,
    /// A sign of life is asked for.
    Pong,
    /// A message.
    Publish(Outgoing),
    /// Filters.
    Subscribe(Vec<Arc<str>>),
}

/// What a text of a user means, and what the answer refers to.
pub(crate) fn understand(text: &str, from: &str) -> Result<(Value, Understood), Problem> {
    let Said { of, want } = read(text)?;
    let understood = match want {
        Want::Nothing => Understood::Nothing,
        Want::Pong => Understood::Pong,
        Want::Publish(publish) => Understood::Publish(publish.into_outgoing(from)?),
        Want::Subscribe { filters, .. } => Understood::Subscribe(filters),
    };
    Ok((of, understood))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Object {
    #[serde(rename = "ref", default)]
    of: Value,
    publish: Option<Publish>,
    subscribe: Option<Vec<String>>,
    since: Option<String>,
    heartbeat: Option<Value>,
    ping: Option<Value>,
}

/// A message; the place is one of room, user and topic.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Publish {
    room: Option<String>,
    /// A user, for a direct message.
    to: Option<String>,
    topic: Option<String>,
    payload: Option<String>,
    payload_base64: Option<String>,
    content_type: Option<String>,
    reply_to: Option<u64>,
    #[serde(default)]
    mentions: Vec<String>,
    cid: Option<String>,
    #[serde(default)]
    retain: bool,
}

/// # Errors
/// If it is none of what can be said.
pub(super) fn read(text: &str) -> Result<Said, Problem> {
    let plain = |want| {
        Ok(Said {
            of: Value::Null,
            want,
        })
    };
    match text.trim() {
        "" | "heartbeat" | "\"heartbeat\"" | "pong" => return plain(Want::Nothing),
        "ping" | "\"ping\"" => return plain(Want::Pong),
        // A list of a message's fields without their names would be read, too.
        text if !text.starts_with('{') => {
            let text = "one JSON object or a sign of life is to be said";
            return Err(Problem::bad_request(text));
        }
        _ => {}
    }
    let bad = |error: serde_json::Error| Problem::bad_request(format!("not understood: {error}"));
    let object: Object = serde_json::from_str(text).map_err(bad)?;
    if object.of.to_string().len() > MAX_REF {
        let text = format!("ref has at most {MAX_REF} bytes");
        return Err(Problem::bad_request(text));
    }
    let want = match object {
        Object {
            publish: Some(publish),
            subscribe: None,
            since: None,
            heartbeat: None,
            ping: None,
            ..
        } => Want::Publish(Box::new(publish)),
        Object {
            subscribe: Some(filters),
            publish: None,
            heartbeat: None,
            ping: None,
            since: place,
            ..
        } => {
            if filters.len() > MAX_FILTERS {
                let text = format!("more than {MAX_FILTERS} filters");
                return Err(Problem::bad_request(text));
            }
            Want::Subscribe {
                filters: filters.into_iter().map(Arc::from).collect(),
                since: since(place.as_deref().unwrap_or_default()),
            }
        }
        Object {
            publish: None,
            subscribe: None,
            since: None,
            heartbeat,
            ping,
            ..
        } if heartbeat.is_some() || ping.is_some() => match ping {
            Some(_) => Want::Pong,
            None => Want::Nothing,
        },
        _ => {
            let text = "one of publish, subscribe, ping and heartbeat is to be said";
            return Err(Problem::bad_request(text));
        }
    };
    Ok(Said {
        of: object.of,
        want,
    })
}

impl Publish {
    /// The message of a user.
    ///
    /// # Errors
    /// If it is not one message for one place.
    pub fn into_outgoing(self, from: &str) -> Result<Outgoing, Problem> {
        let bad = |text: &'static str| Problem::bad_request(text);
        let topic = match (&self.room, &self.to, &self.topic, self.reply_to) {
            (Some(name), None, None, None) => format!("chat/{}/{from}", room(name)?),
            (Some(_), None, None, Some(0)) => return Err(bad("reply_to is 1 or more")),
            (Some(name), None, None, Some(seq)) => {
                format!("chat/{}/{from}/reply/{seq}", room(name)?)
            }
            (None, Some(name), None, None) => format!("dm/{}/{from}", user(name)?),
            (None, None, Some(topic), None) => {
                validate_name(topic).map_err(|error| Problem::bad_request(error.to_string()))?;
                topic.clone()
            }
            (_, _, _, None) => return Err(bad("one of room, to and topic is to be said")),
            (_, _, _, Some(_)) => return Err(bad("reply_to belongs to a room")),
        };
        let is_text = self.payload.is_some();
        let payload = match (self.payload, self.payload_base64) {
            (Some(text), None) => Bytes::from(text),
            (None, Some(text)) => STANDARD
                .decode(text)
                .map_err(|_| bad("payload_base64 is no Base64"))?
                .into(),
            _ => return Err(bad("one of payload and payload_base64 is to be said")),
        };
        let words = self.content_type.iter().chain(&self.cid);
        words
            .chain(&self.mentions)
            .try_for_each(|word| check_word(word))?;
        if self.mentions.len() > MAX_MENTIONS {
            let text = format!("a message mentions at most {MAX_MENTIONS}");
            return Err(Problem::bad_request(text));
        }
        let pair = |name: &str, value: String| (Arc::from(name), Arc::from(value));
        let mentions = self.mentions.into_iter().map(|user| pair(MENTION, user));
        let cid = self.cid.map(|cid| pair(CID, cid));
        Ok(Outgoing {
            topic,
            payload,
            retain: self.retain,
            properties: MessageProperties {
                payload_is_utf8: is_text.then_some(true),
                content_type: self.content_type.map(Arc::from),
                user: cid.into_iter().chain(mentions).collect(),
                ..MessageProperties::default()
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic_of(text: &str) -> Result<String, String> {
        let publish = match read(text).map_err(|problem| problem.text.to_string())?.want {
            Want::Publish(publish) => publish,
            other => panic!("{other:?}"),
        };
        let outgoing = publish.into_outgoing("alice");
        outgoing
            .map(|outgoing| outgoing.topic)
            .map_err(|problem| problem.text.to_string())
    }

    #[test]
    fn signs_of_life_are_no_requests() {
        for text in [
            "",
            " ",
            "{\"heartbeat\":1}",
            "heartbeat",
            "pong",
            "{\"heartbeat\":{}}",
        ] {
            assert!(matches!(read(text).unwrap().want, Want::Nothing), "{text}");
        }
        for text in ["ping", "\"ping\"", "{\"ping\":7,\"ref\":1}"] {
            assert!(matches!(read(text).unwrap().want, Want::Pong), "{text}");
        }
    }

    #[test]
    fn what_an_answer_refers_to_is_kept_as_it_was() {
        for of in ["0.9437065303659813", "[5e-324,{\"n\":2}]"] {
            let said = read(&format!("{{\"ping\":1,\"ref\":{of}}}")).unwrap();
            assert_eq!(said.of.to_string(), of);
        }
    }

    #[test]
    fn a_message_has_one_place_and_one_payload() {
        let topic = |fields: &str| topic_of(&format!("{{\"publish\":{{{fields}}}}}"));
        let says = "\"payload\":\"hi\"";
        let ok = |text: &str| Ok(text.to_owned());
        assert_eq!(
            topic(&format!("\"room\":\"lobby\",{says}")),
            ok("chat/lobby/alice")
        );
        let reply = format!("\"room\":\"lobby\",\"reply_to\":3,{says}");
        assert_eq!(topic(&reply), ok("chat/lobby/alice/reply/3"));
        assert_eq!(topic(&format!("\"to\":\"bob\",{says}")), ok("dm/bob/alice"));
        assert_eq!(
            topic("\"topic\":\"a/b\",\"payload_base64\":\"/wA=\""),
            ok("a/b")
        );
        for fields in [
            says.to_owned(),
            "\"room\":\"lobby\"".to_owned(),
            format!("\"room\":\"lobby\",\"to\":\"bob\",{says}"),
            format!("\"room\":\"a/b\",{says}"),
            format!("\"room\":\"+\",{says}"),
            format!("\"to\":\"#\",{says}"),
            format!("\"topic\":\"a/+\",{says}"),
            format!("\"topic\":\"\",{says}"),
            format!("\"topic\":\"a\",\"reply_to\":1,{says}"),
            format!("\"room\":\"lobby\",\"reply_to\":0,{says}"),
            format!("\"room\":\"lobby\",\"payload_base64\":\"\",{says}"),
            "\"room\":\"lobby\",\"payload_base64\":\"!\"".to_owned(),
            format!("\"room\":\"lobby\",\"cid\":\"\",{says}"),
            format!("\"room\":\"lobby\",\"colour\":\"red\",{says}"),
        ] {
            assert!(topic(&fields).is_err(), "{fields}");
        }
    }

    #[test]
    fn what_is_neither_is_refused() {
        let long = format!("{{\"ping\":1,\"ref\":\"{}\"}}", "x".repeat(300));
        let deep = "[".repeat(100_000);
        let many = format!("{{\"subscribe\":[{}\"a\"]}}", "\"a\",".repeat(60));
        for text in [
            "hello",
            "{}",
            "[]",
            "[null,null,null,null,1,null]",
            "1",
            "{\"since\":\"now\"}",
            &long,
            &deep,
            &many,
            "{\"publish\":{},\"subscribe\":[]}",
            "{\"ref\":1}",
            "{\"unknown\":1}",
        ] {
            assert!(read(text).is_err(), "{}", text.get(..50).unwrap_or(text));
        }
    }
}
