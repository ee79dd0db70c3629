//! Streams over HTTP: Server-Sent Events (`/v1/events`), polling (`/v1/poll`) and JSON over WebSocket
//! (`/chat`), on one cursor.
//!
//! ```text
//! SSE, /chat: Reader (a session that subscribed `$replay/after/{cursor}/{filter}`) -> events
//! poll: the journal from the cursor on, at once; if there is nothing, a Reader until there is
//! ```
//! The cursor is that of MQTT, so that a client may change between WebSocket, SSE and polling with
//! each message. A reader that does not read takes a session's bounded memory: it lags, and reads on
//! from the journal. What is handed over is judged when it is handed over, beside what the session's
//! shard judged: a pipe lies between them.
//! This module does not know how clients prove who they are.

mod asked;
mod backlog;
mod chat;
mod places;
mod poll;
mod reader;
mod sse;

pub(crate) use places::Streams;
pub(super) use sse::Chunks;

use super::{Endpoint, get};

pub(crate) use asked::measure_query;
pub use chat::Understood;
pub(crate) use chat::understand;

pub(super) fn endpoints() -> Vec<Endpoint> {
    let filter = "A topic filter, several times if wanted; without any, everything of yours";
    vec![
        get(
            "/v1/events",
            sse::events,
            "What happens, as Server-Sent Events",
        )
        .query("filter", "string", filter)
        .query(
            "since",
            "string",
            "A cursor; Last-Event-ID counts before it",
        )
        .query("token", "string", "The token, where no header can be set")
        .answers_with(
            200,
            "Events message, gap, reset and end; the id is the cursor",
            "Any",
            "text/event-stream",
        ),
        get("/v1/poll", poll::poll, "What happened since a cursor")
            .query("filter", "string", filter)
            .query(
                "since",
                "string",
                "A cursor; now, or nothing, gives the first",
            )
            .query(
                "wait",
                "integer",
                "Seconds to wait if there is nothing; 0: none",
            )
            .query("limit", "integer", "Messages at most")
            .query("token", "string", "The token, where no header can be set")
            .answers(200, "Messages, and the cursor to ask with next", "Polled"),
        get(
            "/chat",
            chat::chat,
            "A WebSocket of JSON texts: {\"subscribe\":[...],\"since\":...}, {\"publish\":{...}}, ping",
        )
        .query("filter", "string", "As in subscribe, from the start")
        .query("since", "string", "A cursor, for these filters")
        .query("token", "string", "The token, where no header can be set")
        .answers_with(
            101,
            "Texts: message, published, subscribed, error, gap, reset, cursor, end",
            "Any",
            "application/json",
        ),
    ]
}
