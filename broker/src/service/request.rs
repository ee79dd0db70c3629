//! The form of every request and answer, JSON:
//!
//! ```text
//! request  {"id":7, ...}                                        id is optional: a number or a short text
//! answer   {"id":7,"method":"join","ok":true, ...}
//! refusal  {"id":7,"method":"join","ok":false,"error":{"code","status","reason","text"}}
//! ```
//! This module does not know the fields of any method.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tidings_core::rooms::RoomError;

/// Bytes of a request; the longest that makes sense has a title and two names.
pub(crate) const MAX_REQUEST_BYTES: usize = 4096;

/// Bytes of an `id`, which is held and sent back.
const MAX_ID_BYTES: usize = 128;

/// The `id` of a request, and its fields; no payload is the same as `{}`.
pub(crate) fn read<F: DeserializeOwned>(payload: &[u8]) -> (Option<Value>, Result<F, RoomError>) {
    let bad = RoomError::BadRequest;
    let value = match payload.len() {
        0 => Ok(json!({})),
        1..=MAX_REQUEST_BYTES => serde_json::from_slice(payload),
        _ => return (None, Err(bad)),
    };
    let Ok(Value::Object(mut fields)) = value else {
        return (None, Err(bad));
    };
    let id = fields.remove("id").filter(|id| !id.is_null());
    let is_plain = match &id {
        None | Some(Value::Number(_)) => true,
        Some(Value::String(text)) => text.len() <= MAX_ID_BYTES,
        Some(_) => false,
    };
    if !is_plain {
        return (None, Err(bad));
    }
    let fields = serde_json::from_value(Value::Object(fields)).map_err(|_| bad);
    (id, fields)
}

/// The `id` alone.
pub(crate) fn id(payload: &[u8]) -> Option<Value> {
    read::<Value>(payload).0
}

/// The answer to a request that was carried out, with `fields` beside `ok` and `method`.
pub(crate) fn done(id: Option<&Value>, method: &str, fields: Value) -> Value {
    let mut fields = fields;
    if let Some(object) = fields.as_object_mut() {
        object.insert("ok".to_owned(), true.into());
    }
    framed(id, method, fields)
}

/// The answer to a request that was refused.
pub(crate) fn refused(id: Option<&Value>, method: &str, error: RoomError) -> Value {
    framed(
        id,
        method,
        json!({ "ok": false, "error": error_json(error) }),
    )
}

/// One or the other.
pub(crate) fn answer(id: Option<&Value>, method: &str, result: Result<Value, RoomError>) -> Value {
    match result {
        Ok(fields) => done(id, method, fields),
        Err(error) => refused(id, method, error),
    }
}

/// An error as every door shows it.
pub(crate) fn error_json(error: RoomError) -> Value {
    json!({
        "code": error.code(),
        "status": error.http_status(),
        "reason": error.reason() as u8,
        "text": error.to_string(),
    })
}

fn framed(id: Option<&Value>, method: &str, mut answer: Value) -> Value {
    if let Some(object) = answer.as_object_mut() {
        object.insert("method".to_owned(), method.into());
        if let Some(id) = id {
            object.insert("id".to_owned(), id.clone());
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_carry_the_id_of_the_request() {
        let (id, _) = read::<Value>(br#"{"room":"lobby","id":"a7"}"#);
        let refused = refused(id.as_ref(), "join", RoomError::NoSuchRoom);
        assert_eq!(refused["id"], "a7");
        assert_eq!(refused["error"]["code"], "no_such_room");
        assert_eq!(refused["error"]["status"], 404);
        assert_eq!(
            done(None, "join", json!({ "room": "lobby" })).to_string(),
            r#"{"method":"join","ok":true,"room":"lobby"}"#
        );
    }

    #[test]
    fn an_id_comes_back_as_it_was() {
        // The first is what a client made of its random numbers; it came back one step lower.
        for id in [
            "0.9437065303659813",
            "5e-324",
            "18446744073709551615",
            r#""7\u0000""#,
        ] {
            let (read, _) = read::<Value>(format!(r#"{{"id":{id}}}"#).as_bytes());
            let told = done(read.as_ref(), "join", json!({}));
            assert_eq!(told["id"].to_string(), id);
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let long = format!(r#"{{"room":"{}"}}"#, "x".repeat(MAX_REQUEST_BYTES));
        let long_id = format!(r#"{{"id":"{}"}}"#, "x".repeat(MAX_ID_BYTES + 1));
        for payload in ["[1]", "no json", r#"{"id":{"deep":1}}"#, &long, &long_id] {
            let (id, fields) = read::<Value>(payload.as_bytes());
            assert_eq!(
                (id, fields),
                (None, Err(RoomError::BadRequest)),
                "{payload}"
            );
        }
        assert_eq!(read::<Value>(b""), (None, Ok(json!({}))));
    }

    #[test]
    fn a_request_that_cannot_be_meant_keeps_its_id() {
        let (id, fields) = read::<Vec<u8>>(br#"{"id":7}"#);
        assert_eq!((id, fields), (Some(json!(7)), Err(RoomError::BadRequest)));
    }
}
