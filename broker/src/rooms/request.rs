//! Requests about rooms as JSON, and the answer to `list`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidings_core::rooms::{Act, Command, Kind, Role, RoomEdit, RoomError, RoomView, Summary};

use crate::auth::check_user_name;
use crate::service::request;

/// Rooms in one answer to `list`.
pub(crate) const MAX_LISTED: usize = 100;

/// The fields of all requests; each method looks at its own.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Fields {
    room: Option<String>,
    user: Option<String>,
    title: Option<String>,
    kind: Option<String>,
    with: Option<String>,
    role: Option<String>,
    seconds: Option<u32>,
    slow_s: Option<u32>,
    archived: Option<bool>,
    public: bool,
    after: Option<String>,
    limit: Option<usize>,
}

/// A request that could be read.
#[derive(Debug, PartialEq)]
pub(super) enum Request {
    /// Something is to be changed.
    Change(Command),
    /// The user's rooms, or those that everyone sees.
    List {
        public: bool,
        after: String,
        limit: usize,
    },
}

/// The `id` of a request, and the request.
pub(super) fn read(method: &str, payload: &[u8]) -> (Option<Value>, Result<Request, RoomError>) {
    let (id, fields) = request::read::<Fields>(payload);
    (id, fields.and_then(|fields| fields.request(method)))
}

/// Whether a request can be understood, and the refusal if not: for [`crate::fuzzing`].
pub(crate) fn judge(method: &str, payload: &[u8]) -> (bool, Value) {
    let (id, request) = read(method, payload);
    match request {
        Ok(_) => (true, Value::Null),
        Err(error) => (false, request::refused(id.as_ref(), method, error)),
    }
}

impl Fields {
    fn request(self, method: &str) -> Result<Request, RoomError> {
        let command = match method {
            "list" => {
                return Ok(Request::List {
                    public: self.public,
                    after: self.after.unwrap_or_default(),
                    limit: self.limit.unwrap_or(MAX_LISTED).clamp(1, MAX_LISTED),
                });
            }
            "create" => {
                let kind = self.kind.as_deref().unwrap_or("open");
                let kind = Kind::from_word(kind).ok_or(RoomError::BadRequest)?;
                let with = self.with.as_deref().map(user_name).transpose()?;
                Command::Create {
                    room: self.room.map(Arc::from),
                    title: self.title.map(Arc::from),
                    kind,
                    with,
                }
            }
            _ => {
                let act = self.act(method)?;
                let room = self.room.ok_or(RoomError::BadRequest)?.into();
                Command::In { room, act }
            }
        };
        Ok(Request::Change(command))
    }

    fn act(&self, method: &str) -> Result<Act, RoomError> {
        let user = || user_name(self.user.as_deref().ok_or(RoomError::BadRequest)?);
        Ok(match method {
            "rename" => {
                let title = self.title.as_deref().ok_or(RoomError::BadRequest)?;
                Act::Rename(title.into())
            }
            "invite" => Act::Invite(user()?),
            "uninvite" => Act::Uninvite(user()?),
            "join" => Act::Join,
            "leave" => Act::Leave,
            "kick" => Act::Kick(user()?),
            "ban" => Act::Ban(user()?, self.seconds),
            "unban" => Act::Unban(user()?),
            "mute" => Act::Mute(user()?, self.seconds),
            "unmute" => Act::Unmute(user()?),
            "role" => {
                let role = self.role.as_deref().and_then(Role::from_word);
                Act::SetRole(user()?, role.ok_or(RoomError::BadRequest)?)
            }
            "transfer" => Act::Transfer(user()?),
            "archive" => Act::Archive(true),
            "unarchive" => Act::Archive(false),
            "delete" => Act::Delete,
            "slow" => Act::Slow(self.seconds.ok_or(RoomError::BadRequest)?),
            "change" => Act::Change(RoomEdit {
                title: self.title.as_deref().map(Arc::from),
                slow_s: self.slow_s,
                archived: self.archived,
            }),
            _ => return Err(RoomError::UnknownMethod),
        })
    }
}

fn user_name(name: &str) -> Result<Arc<str>, RoomError> {
    check_user_name(name).map_err(|_| RoomError::BadUser)?;
    Ok(name.into())
}

#[derive(Serialize)]
struct Listed<'a> {
    room: &'a str,
    title: &'a str,
    kind: &'a str,
    members: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'a str>,
    archived: bool,
    slow_s: u32,
}

/// What `list` is answered; `more` is true if there are rooms after the last one.
pub(super) fn list(
    view: &RoomView,
    user: &str,
    (public, after, limit): (bool, &str, usize),
) -> Value {
    let mut found = if public {
        view.public_rooms(user, after, limit + 1)
    } else {
        view.rooms_of(user, after, limit + 1)
    };
    let more = found.len() > limit;
    found.truncate(limit);
    let listed = |summary: &Summary| {
        json!(Listed {
            room: &summary.room,
            title: &summary.record.title,
            kind: summary.record.kind.as_str(),
            members: summary.members,
            role: summary.role.map(Role::as_str),
            archived: summary.record.archived,
            slow_s: summary.record.slow_s,
        })
    };
    let rooms: Vec<Value> = found.iter().map(listed).collect();
    json!({ "rooms": rooms, "more": more })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(method: &str, payload: &str) -> Result<Request, RoomError> {
        read(method, payload.as_bytes()).1
    }

    #[test]
    fn methods_take_the_fields_that_they_need() {
        let act = |act| {
            Ok(Request::Change(Command::In {
                room: "lobby".into(),
                act,
            }))
        };
        assert_eq!(command("join", r#"{"room":"lobby"}"#), act(Act::Join));
        assert_eq!(
            command("mute", r#"{"room":"lobby","user":"bob","seconds":60}"#),
            act(Act::Mute("bob".into(), Some(60)))
        );
        assert_eq!(
            command("role", r#"{"room":"lobby","user":"bob","role":"reader"}"#),
            act(Act::SetRole("bob".into(), Role::Reader))
        );
        let create = command("create", r#"{"room":"lobby"}"#);
        assert!(matches!(
            create,
            Ok(Request::Change(Command::Create {
                kind: Kind::Open,
                ..
            }))
        ));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (method, payload, error) in [
            ("join", "", RoomError::BadRequest),
            ("join", "[1]", RoomError::BadRequest),
            ("join", r#"{"room":7}"#, RoomError::BadRequest),
            ("kick", r#"{"room":"a"}"#, RoomError::BadRequest),
            ("kick", r#"{"room":"a","user":"b/c"}"#, RoomError::BadUser),
            (
                "role",
                r#"{"room":"a","user":"b","role":"king"}"#,
                RoomError::BadRequest,
            ),
            ("fly", r#"{"room":"a"}"#, RoomError::UnknownMethod),
        ] {
            assert_eq!(command(method, payload), Err(error), "{method} {payload}");
        }
    }
}
