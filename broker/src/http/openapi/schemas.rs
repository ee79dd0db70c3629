//! The JSON of requests and answers, as JSON Schema.

use serde_json::{Map, Value, json};

/// All schemas, by name.
pub(super) fn all() -> Value {
    let groups = [
        basics(),
        rooms(),
        members(),
        messages(),
        people(),
        sessions(),
        devices(),
        streams(),
    ];
    let groups = groups.into_iter().filter_map(|group| match group {
        Value::Object(group) => Some(group),
        _ => None,
    });
    Value::Object(groups.flatten().collect::<Map<_, _>>())
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn number() -> Value {
    json!({ "type": "integer" })
}

fn flag() -> Value {
    json!({ "type": "boolean" })
}

/// What is answered: these fields, all of them there.
fn answer(properties: Value) -> Value {
    let required: Vec<&String> = properties
        .as_object()
        .into_iter()
        .flat_map(Map::keys)
        .collect();
    json!({ "type": "object", "required": required, "properties": properties })
}

/// What is asked: these fields and no others.
fn request(required: &[&str], properties: Value) -> Value {
    json!({
        "type": "object",
        "required": required,
        "additionalProperties": false,
        "properties": properties,
    })
}

fn list_of(schema: &str) -> Value {
    json!({ "type": "array", "items": { "$ref": format!("#/components/schemas/{schema}") } })
}

fn basics() -> Value {
    let password =
        json!({ "type": "string", "description": "Of a device, its token. In open mode anything" });
    let expires = json!({ "type": ["integer", "null"], "description": "When the token ends" });
    let code = json!({ "type": "string", "description": "A word for programs" });
    let sentence = json!({ "type": "string", "description": "A sentence for people" });
    json!({
        "Any": {},
        "Problem": answer(json!({
            "error": answer(json!({ "code": code, "status": number(), "text": sentence })),
        })),
        "Credentials": request(&["user"], json!({ "user": text(), "password": password })),
        "Login": answer(json!({ "token": text(), "user": text(), "expires": number() })),
        "Me": answer(json!({
            "user": text(),
            "roles": { "type": "array", "items": text() },
            "expires": expires,
        })),
    })
}

fn rooms() -> Value {
    let kind = json!({ "type": "string", "enum": ["open", "private", "channel", "direct"] });
    let role = json!({ "type": "string", "enum": ["reader", "member", "moderator", "owner"] });
    let listed = json!({
        "type": "object",
        "required": ["room", "title", "kind", "members", "archived", "slow_s"],
        "properties": {
            "room": text(), "title": text(), "kind": kind, "members": number(), "role": role,
            "archived": flag(), "slow_s": number(),
        },
    });
    let room = answer(json!({
        "room": text(),
        "title": text(),
        "kind": kind,
        "owner": text(),
        "with": { "type": ["string", "null"], "description": "The other one in a direct room" },
        "archived": flag(),
        "slow_s": { "type": "integer", "description": "Seconds between two messages of one member" },
        "since": number(),
        "members": number(),
        "role": { "type": ["string", "null"], "description": "Yours, if you are in it" },
        "muted": flag(),
    }));
    json!({
        "Rooms": answer(json!({
            "rooms": { "type": "array", "items": listed },
            "more": flag(),
            "managed": { "type": "boolean", "description": "False where every name is an open room" },
        })),
        "Room": room,
        "NewRoom": request(&[], json!({
            "room": { "type": "string", "description": "The name in topics; not for direct rooms" },
            "title": text(),
            "kind": kind,
            "with": { "type": "string", "description": "The other one of a direct room" },
        })),
        "RoomChange": request(&[], json!({ "title": text(), "slow_s": number(), "archived": flag() })),
        "ToUser": request(&["user"], json!({ "user": text() })),
    })
}

fn members() -> Value {
    let role = json!({ "type": "string", "enum": ["reader", "member", "moderator", "owner"] });
    let member = answer(json!({ "user": text(), "role": role, "since": number() }));
    let mark = json!({
        "type": "object",
        "required": ["user", "by", "since"],
        "properties": { "user": text(), "by": text(), "since": number(), "until": number() },
    });
    json!({
        "Members": answer(json!({ "members": { "type": "array", "items": member }, "more": flag() })),
        "Marks": answer(json!({ "users": { "type": "array", "items": mark }, "more": flag() })),
        "RoleChange": request(&["role"], json!({
            "role": { "type": "string", "enum": ["reader", "member", "moderator"] },
        })),
        "ForSeconds": request(&[], json!({
            "seconds": { "type": "integer", "description": "For how long; without it for good" },
        })),
    })
}

fn messages() -> Value {
    let said = json!({ "type": "string", "description": "What is said" });
    let cid = json!({
        "type": "string",
        "description": "Yours: what is sent again with the same is stored once, and answered as at first",
    });
    let mentions = json!({ "type": "array", "items": text(), "description": "Users" });
    let what = json!({ "type": "object", "description": "seq, ts and the new payload" });
    let whom = json!({ "type": "object", "description": "by and ts; what it said is gone" });
    let reactions = json!({
        "type": "object",
        "additionalProperties": { "type": "array", "items": text() },
        "description": "Users, by reaction",
    });
    let kind = json!({ "type": "string", "enum": ["message", "reply", "edit", "recall", "react"] });
    json!({
        "Message": {
            "type": "object",
            "required": ["topic", "from", "ts", "kind"],
            "properties": {
                "topic": text(), "kind": kind, "room": text(), "from": text(), "seq": number(),
                "id": text(), "ts": number(), "payload": text(),
                "payload_base64": { "type": "string", "description": "Bytes that are no text" },
                "content_type": text(), "cid": text(), "reply_to": number(),
                "of": { "type": "integer", "description": "The message that this one changes" },
                "mentions": mentions, "edited": what, "recalled": whom, "reactions": reactions,
                "more_reactions": flag(),
            },
        },
        "Page": {
            "type": "object",
            "required": ["stream", "from", "to", "first", "head", "messages"],
            "properties": {
                "stream": text(),
                "room": text(),
                "from": { "type": "integer", "description": "The first number that was looked at: go on before it" },
                "to": { "type": "integer", "description": "The last number that was looked at: go on after it" },
                "first": { "type": "integer", "description": "The first number that retention has left" },
                "head": { "type": "integer", "description": "The last number that was given" },
                "gap": { "type": "object", "description": "from and to: asked for, and taken by retention" },
                "messages": list_of("Message"),
            },
        },
        "NewMessage": request(&["text"], json!({
            "text": said, "reply_to": number(), "mentions": mentions, "cid": cid,
        })),
        "NewText": request(&["text"], json!({ "text": said })),
        "Receipt": answer(json!({
            "seq": { "type": ["integer", "null"], "description": "Number in the room; null if no history is kept" },
            "id": { "type": ["string", "null"] },
            "ts": { "type": ["integer", "null"] },
        })),
    })
}

fn streams() -> Value {
    let gap = json!({
        "type": "object",
        "description": "What no rule keeps as history was trimmed between these cursors",
        "properties": { "from": text(), "to": text() },
    });
    let reset = json!({ "type": "boolean", "description": "The cursor was of another journal: begin anew" });
    json!({
        "Polled": {
            "type": "object",
            "required": ["messages", "cursor"],
            "properties": {
                "messages": list_of("Event"),
                "cursor": { "type": "string", "description": "What to ask with next" },
                "gap": gap,
                "reset": reset,
                "more_retained": { "type": "boolean", "description": "More is retained than was given" },
            },
        },
        "Event": {
            "type": "object",
            "required": ["topic"],
            "properties": {
                "topic": text(),
                "room": text(),
                "from": { "type": "string", "description": "Who published it, if it has history" },
                "seq": { "type": "integer", "description": "Number in its stream, if it has history" },
                "id": text(),
                "ts": number(),
                "payload": text(),
                "payload_base64": { "type": "string", "description": "Instead, of bytes that are no text" },
                "content_type": text(),
                "cid": text(),
                "reply_to": number(),
                "mentions": { "type": "array", "items": text() },
                "retained": flag(),
                "cursor": { "type": "string", "description": "The position after it, if it is kept" },
            },
        },
    })
}

fn people() -> Value {
    let visible_to = json!({ "type": "string", "enum": ["everyone", "rooms", "nobody"] });
    let counted = json!({
        "type": "object",
        "required": ["head", "read", "unread"],
        "properties": {
            "room": { "type": "string", "description": "Of a room" },
            "with": { "type": "string", "description": "Of direct messages" },
            "head": number(), "read": number(), "unread": number(), "mentions": number(),
            "more": { "type": "boolean", "description": "There are more than were counted" },
            "last": { "$ref": "#/components/schemas/Message" },
            "peer_delivered": number(), "peer_read": number(),
        },
    });
    json!({
        "Unread": answer(json!({
            "rooms": { "type": "array", "items": counted }, "more": flag(),
            "direct": { "type": "array", "items": counted }, "more_direct": flag(),
        })),
        "ReadState": answer(json!({ "room": text(), "seq": number(), "head": number() })),
        "DirectReadState": answer(json!({
            "user": text(), "read": number(), "delivered": number(),
            "their_read": number(), "their_delivered": number(), "head": number(),
        })),
        "Typing": request(&[], json!({
            "typing": { "type": "boolean", "description": "False: not any more" },
        })),
        "ReadMark": request(&["seq"], json!({ "seq": number() })),
        "PresenceChange": request(&[], json!({
            "state": { "type": "string", "enum": ["online", "away"] },
            "device": { "type": "string", "description": "One Client Identifier; without it all" },
            "visible_to": visible_to,
        })),
        "PresenceChoice": answer(json!({
            "state": text(), "visible_to": visible_to, "devices": number(),
        })),
        "Presence": {
            "type": "object",
            "required": ["user", "state"],
            "properties": {
                "user": text(),
                "state": { "type": "string", "enum": ["online", "away", "offline"] },
                "since": number(),
                "last_seen": number(),
                "devices": number(),
            },
        },
    })
}

fn sessions() -> Value {
    let session = json!({
        "type": "object",
        "required": ["client_id", "user", "connected", "persistent", "expiry_s", "subscriptions", "filters"],
        "properties": {
            "client_id": text(), "user": text(), "connected": flag(), "persistent": flag(),
            "expiry_s": number(), "subscriptions": number(),
            "filters": { "type": "array", "items": text(), "description": "At most a hundred" },
            "protocol": text(), "keep_alive_s": number(), "idle_ms": number(), "lagging": flag(),
            "open_publishes": number(), "output_bytes": number(), "closed_at": number(),
        },
    });
    json!({
        "Session": session,
        "Sessions": answer(json!({ "sessions": list_of("Session"), "more": flag() })),
    })
}

fn devices() -> Value {
    let device = answer(json!({
        "device": text(), "owner": text(), "enabled": flag(), "created": number(),
    }));
    json!({
        "Devices": answer(json!({ "devices": { "type": "array", "items": device } })),
        "NewDevice": request(&["device"], json!({
            "device": { "type": "string", "description": "Begins with your name and - or ." },
        })),
        "DeviceToken": answer(json!({ "device": text(), "owner": text(), "token": text() })),
    })
}
