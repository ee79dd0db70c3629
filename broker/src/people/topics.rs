//! The topics of people, and what is in them (JSON).
//!
//! ```text
//! user/{user}/presence  {"state":"online","since":1795249632921,"devices":2}
//!                       {"state":"offline","last_seen":1795249632921,"devices":0}
//! user/{user}/settings  {"away":true,"visible_to":"rooms"}
//! ```

use serde::{Deserialize, Serialize};
use tidings_core::people::{Shown, Standing, Visibility};

/// Every user's presence.
pub(super) const PRESENCE: &str = "user/+/presence";

/// What users chose.
pub(super) const SETTINGS: &str = "user/+/settings";

/// What a user chose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Choice {
    /// Away, on all devices, until they say otherwise.
    pub away: bool,
    /// Who sees their presence; `None`: as the broker's settings say.
    pub visible_to: Option<Visibility>,
}

#[derive(Serialize, Deserialize)]
struct PresenceText {
    state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen: Option<u64>,
    devices: u32,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct SettingsText {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    away: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    visible_to: Option<String>,
}

pub(super) fn presence(user: &str) -> String {
    format!("user/{user}/presence")
}

pub(super) fn settings(user: &str) -> String {
    format!("user/{user}/settings")
}

pub(super) fn user_of_presence(topic: &str) -> Option<&str> {
    user_of(topic, "/presence")
}

pub(super) fn user_of_settings(topic: &str) -> Option<&str> {
    user_of(topic, "/settings")
}

fn user_of<'a>(topic: &'a str, what: &str) -> Option<&'a str> {
    let user = topic.strip_prefix("user/")?.strip_suffix(what)?;
    (!user.is_empty() && !user.contains('/')).then_some(user)
}

pub(super) fn write_presence(shown: &Shown) -> String {
    let offline = shown.standing == Standing::Offline;
    let text = PresenceText {
        state: shown.standing.as_str().to_owned(),
        since: (!offline).then_some(shown.since),
        last_seen: (offline && shown.since > 0).then_some(shown.since),
        devices: shown.devices,
    };
    serde_json::to_string(&text).unwrap_or_default()
}

pub(super) fn read_presence(payload: &[u8]) -> Option<Shown> {
    let text: PresenceText = serde_json::from_slice(payload).ok()?;
    Some(Shown {
        standing: Standing::from_word(&text.state)?,
        since: text.since.or(text.last_seen).unwrap_or(0),
        devices: text.devices,
    })
}

/// What is retained of a choice: nothing, if it is none.
pub(super) fn write_settings(choice: Choice) -> String {
    if choice == Choice::default() {
        return String::new();
    }
    let text = SettingsText {
        away: choice.away,
        visible_to: choice.visible_to.map(|v| v.as_str().to_owned()),
    };
    serde_json::to_string(&text).unwrap_or_default()
}

pub(super) fn read_settings(payload: &[u8]) -> Option<Choice> {
    let text: SettingsText = serde_json::from_slice(payload).ok()?;
    Some(Choice {
        away: text.away,
        visible_to: text.visible_to.as_deref().and_then(Visibility::from_word),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (standing, text) in [
            (
                Standing::Online,
                r#"{"state":"online","since":7,"devices":2}"#,
            ),
            (Standing::Away, r#"{"state":"away","since":7,"devices":2}"#),
            (
                Standing::Offline,
                r#"{"state":"offline","last_seen":7,"devices":2}"#,
            ),
        ] {
            let shown = Shown {
                standing,
                since: 7,
                devices: 2,
            };
            assert_eq!(write_presence(&shown), text);
            assert_eq!(read_presence(text.as_bytes()), Some(shown));
        }
        for choice in [
            Choice {
                away: true,
                visible_to: None,
            },
            Choice {
                away: false,
                visible_to: Some(Visibility::Rooms),
            },
        ] {
            let text = write_settings(choice);
            assert_eq!(read_settings(text.as_bytes()), Some(choice), "{text}");
        }
        assert_eq!(write_settings(Choice::default()), "");
        assert_eq!(read_settings(b""), None);
    }

    #[test]
    fn a_topic_names_one_user() {
        assert_eq!(user_of_presence("user/alice/presence"), Some("alice"));
        assert_eq!(user_of_settings("user/alice/settings"), Some("alice"));
        for topic in [
            "user//presence",
            "user/presence",
            "user/a/b/presence",
            "x/a/presence",
        ] {
            assert_eq!(user_of_presence(topic), None, "{topic}");
        }
    }
}
