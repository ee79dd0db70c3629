//! Records of rooms as retained messages: topic and JSON.
//!
//! ```text
//! room/{room}                {"title":"Lobby","kind":"open","owner":"alice","since":1795239065794}
//! room/{room}/member/{user}  {"role":"member","since":1795239065000}
//! room/{room}/ban/{user}     {"by":"alice","since":1795239065794,"until":1795242665794}
//! room/{room}/mute/{user}, room/{room}/invite/{user}: as ban
//! ```
//! Times are milliseconds since the Unix epoch; without `until` there is no end. An empty payload
//! removes the record. Keys that are not known are passed over: a later version may have them.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidings_core::message::UnixMillis;
use tidings_core::rooms::{Change, Kind, Mark, MarkKind, MemberRecord, Record, Role, RoomRecord};

#[derive(Serialize, Deserialize)]
struct RoomJson<'a> {
    title: String,
    kind: &'a str,
    owner: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    with: Option<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    archived: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    deleted: bool,
    #[serde(default, skip_serializing_if = "is_zero")]
    slow_s: u32,
    since: UnixMillis,
}

#[derive(Serialize, Deserialize)]
struct MemberJson<'a> {
    role: &'a str,
    since: UnixMillis,
}

#[derive(Serialize, Deserialize)]
struct MarkJson {
    by: String,
    since: UnixMillis,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<UnixMillis>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// The topic and payload of a change; the payload is empty if it removes the record.
pub(super) fn write(change: &Change) -> (String, Bytes) {
    let room = &change.room;
    match &change.record {
        Record::Room(record) => {
            let json = record.as_ref().map(|record| RoomJson {
                title: record.title.to_string(),
                kind: record.kind.as_str(),
                owner: record.owner.to_string(),
                with: record.with.as_ref().map(ToString::to_string),
                archived: record.archived,
                deleted: record.deleted,
                slow_s: record.slow_s,
                since: record.since,
            });
            (format!("room/{room}"), to_json(json))
        }
        Record::Member { user, member } => {
            let json = member.map(|member| MemberJson {
                role: member.role.as_str(),
                since: member.since,
            });
            (format!("room/{room}/member/{user}"), to_json(json))
        }
        Record::Mark { kind, user, mark } => {
            let json = mark.as_ref().map(|mark| MarkJson {
                by: mark.by.to_string(),
                since: mark.since,
                until: mark.until,
            });
            let kind = kind.as_str();
            (format!("room/{room}/{kind}/{user}"), to_json(json))
        }
    }
}

fn to_json(value: Option<impl Serialize>) -> Bytes {
    // Strings and numbers can always be written.
    value
        .and_then(|value| serde_json::to_vec(&value).ok())
        .unwrap_or_default()
        .into()
}

/// The change that a retained message is; `None` if it is no record of a room.
pub(super) fn read(topic: &str, payload: &[u8]) -> Option<Change> {
    let mut levels = topic.strip_prefix(super::RECORDS)?.split('/');
    let room: Arc<str> = levels.next().filter(|room| !room.is_empty())?.into();
    let below = levels.next();
    let user = levels.next().filter(|user| !user.is_empty());
    if levels.next().is_some() {
        return None;
    }
    let record = match (below, user) {
        (None, None) => Record::Room(from_json(payload, room_record)?),
        (Some("member"), Some(user)) => Record::Member {
            user: user.into(),
            member: from_json(payload, |json: MemberJson<'_>| {
                Some(MemberRecord {
                    role: Role::from_word(json.role)?,
                    since: json.since,
                })
            })?,
        },
        (Some(kind), Some(user)) => Record::Mark {
            kind: MarkKind::from_word(kind)?,
            user: user.into(),
            mark: from_json(payload, |json: MarkJson| {
                Some(Mark {
                    by: json.by.into(),
                    since: json.since,
                    until: json.until,
                })
            })?,
        },
        _ => return None,
    };
    Some(Change { room, record })
}

fn room_record(json: RoomJson<'_>) -> Option<RoomRecord> {
    Some(RoomRecord {
        title: json.title.into(),
        kind: Kind::from_word(json.kind)?,
        owner: json.owner.into(),
        with: json.with.map(Arc::from),
        archived: json.archived,
        deleted: json.deleted,
        slow_s: json.slow_s,
        since: json.since,
    })
}

/// `Some(None)` for an empty payload.
fn from_json<'a, J: Deserialize<'a>, T>(
    payload: &'a [u8],
    take: impl FnOnce(J) -> Option<T>,
) -> Option<Option<T>> {
    if payload.is_empty() {
        return Some(None);
    }
    let json = serde_json::from_slice(payload).ok()?;
    Some(Some(take(json)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_comes_back_as_it_was_written() {
        let record = RoomRecord {
            title: "The \"Lobby\"\u{e9}".into(),
            kind: Kind::Direct,
            owner: "alice".into(),
            with: Some("bob".into()),
            archived: true,
            deleted: true,
            slow_s: 7,
            since: 1_795_239_065_794,
        };
        let mark = Mark {
            by: "alice".into(),
            since: 5,
            until: Some(6),
        };
        let member = MemberRecord {
            role: Role::Moderator,
            since: 4000,
        };
        let mut records = vec![
            Record::Room(Some(record)),
            Record::Room(None),
            Record::Member {
                user: "bob".into(),
                member: Some(member),
            },
            Record::Member {
                user: "bob".into(),
                member: None,
            },
        ];
        for kind in MarkKind::ALL {
            for mark in [None, Some(mark.clone())] {
                let user = "bob".into();
                records.push(Record::Mark { kind, user, mark });
            }
        }
        for record in records {
            let room = "lobby".into();
            let change = Change { room, record };
            let (topic, payload) = write(&change);
            assert_eq!(read(&topic, &payload), Some(change), "{topic} {payload:?}");
        }
    }

    #[test]
    fn what_is_no_record_is_not_taken_for_one() {
        for (topic, payload) in [
            ("room/", ""),
            ("room/a", "no json"),
            (
                "room/a",
                "{\"title\":\"x\",\"kind\":\"castle\",\"owner\":\"a\",\"since\":1}",
            ),
            ("room/a/member", ""),
            ("room/a/member/", ""),
            ("room/a/member/b/c", ""),
            ("room/a/guest/b", ""),
            ("chat/a", ""),
        ] {
            assert_eq!(read(topic, payload.as_bytes()), None, "{topic} {payload}");
        }
    }
}
