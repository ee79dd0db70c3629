//! The JSON of requests and answers, as JSON Schema.

use serde_json::{Value, json};

/// All schemas, by name.
pub(super) fn all() -> Value {
    json!({
        "Any": {},
        "Problem": {
            "type": "object",
            "required": ["error"],
            "properties": {
                "error": {
                    "type": "object",
                    "required": ["code", "status", "text"],
                    "properties": {
                        "code": { "type": "string", "description": "A word for programs" },
                        "status": { "type": "integer" },
                        "text": { "type": "string", "description": "A sentence for people" },
                    },
                },
            },
        },
        "Credentials": {
            "type": "object",
            "required": ["user"],
            "additionalProperties": false,
            "properties": {
                "user": { "type": "string" },
                "password": { "type": "string", "description": "Of a device, its token. In open mode anything" },
            },
        },
        "Login": {
            "type": "object",
            "required": ["token", "user", "expires"],
            "properties": {
                "token": { "type": "string" },
                "user": { "type": "string" },
                "expires": { "type": "integer" },
            },
        },
        "Me": {
            "type": "object",
            "required": ["user", "roles", "expires"],
            "properties": {
                "user": { "type": "string" },
                "roles": { "type": "array", "items": { "type": "string" } },
                "expires": { "type": ["integer", "null"], "description": "When the token ends" },
            },
        },
    })
}
