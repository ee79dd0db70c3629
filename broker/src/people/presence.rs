//! Requests about presence, JSON, and what is answered:
//!
//! ```text
//! {"state":"away"}                       away on all devices, until {"state":"online"}
//! {"state":"away","device":"laptop"}     one device, by its Client Identifier, while it is connected
//! {"visible_to":"rooms"}                 everyone, rooms (who sees one as a member) or nobody
//! {}                                     how it is
//! ```

use serde::Deserialize;
use serde_json::{Value, json};
use tidings_core::people::{Standing, Visibility};
use tidings_core::rooms::RoomError;

use super::People;
use super::topics::Choice;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Fields {
    state: Option<String>,
    device: Option<String>,
    visible_to: Option<String>,
}

/// A request that can be meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wish {
    /// One device is away, or back.
    pub device: Option<(String, bool)>,
    /// What the user chooses; as it is, if nothing else was said.
    pub choice: Choice,
}

impl Fields {
    pub fn wish(self, before: Choice) -> Result<Wish, RoomError> {
        let away = match self.state.as_deref().map(Standing::from_word) {
            None => None,
            Some(Some(Standing::Away)) => Some(true),
            Some(Some(Standing::Online)) => Some(false),
            Some(_) => return Err(RoomError::BadRequest),
        };
        let visible_to = match self.visible_to.as_deref().map(Visibility::from_word) {
            None => before.visible_to,
            Some(None) => return Err(RoomError::BadRequest),
            Some(chosen) => chosen,
        };
        let mut wish = Wish {
            device: None,
            choice: Choice {
                visible_to,
                ..before
            },
        };
        match (self.device, away) {
            (Some(device), Some(away)) => wish.device = Some((device, away)),
            (Some(_), None) => return Err(RoomError::BadRequest),
            (None, Some(away)) => wish.choice.away = away,
            (None, None) => {}
        }
        Ok(wish)
    }
}

/// How it is with a user, to that user.
pub(super) fn answer(people: &People, user: &str) -> Value {
    let now = people.presence().now(user).unwrap_or_default();
    json!({
        "state": now.standing.as_str(),
        "devices": now.devices,
        "visible_to": people.visibility(user).as_str(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(json: Value, before: Choice) -> Result<Wish, RoomError> {
        let fields: Fields = serde_json::from_value(json).expect("fields");
        fields.wish(before)
    }

    #[test]
    fn what_is_not_said_stays_as_it_was() {
        let hidden = Choice {
            away: false,
            visible_to: Some(Visibility::Nobody),
        };
        let away = Choice {
            away: true,
            ..hidden
        };
        let choice = |choice| {
            Ok(Wish {
                device: None,
                choice,
            })
        };
        assert_eq!(wish(json!({}), hidden), choice(hidden));
        assert_eq!(wish(json!({"state": "away"}), hidden), choice(away));
        assert_eq!(wish(json!({"state": "online"}), away), choice(hidden));
        let shown = Choice {
            visible_to: Some(Visibility::Everyone),
            ..away
        };
        assert_eq!(wish(json!({"visible_to": "everyone"}), away), choice(shown));
        let of_device = wish(json!({"state": "away", "device": "laptop"}), hidden);
        assert_eq!(
            of_device,
            Ok(Wish {
                device: Some(("laptop".to_owned(), true)),
                choice: hidden
            })
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for json in [
            json!({"state": "offline"}),
            json!({"state": "asleep"}),
            json!({"visible_to": "friends"}),
            json!({"device": "laptop"}),
        ] {
            let refused = wish(json.clone(), Choice::default());
            assert_eq!(refused, Err(RoomError::BadRequest), "{json}");
        }
    }
}
