//! Doors for the fuzz targets in `tests/src/fuzzing`, to what reads the bytes of strangers and is
//! nobody's interface. Nothing else uses them, and they may change at any time.

mod credentials;
mod front;
mod talk;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use serde_json::Value;

use crate::listener::frames::{Control, FrameReader};

pub use crate::http::Understood;
pub use credentials::{Token, certificate_names, hs256, token_says, tokens_of_key};
pub use front::{deflate_answer, forwarded_for, page_may, proxy_header, speaks};
pub use talk::{Talked, Terms as TalkTerms, compress, talk};

/// What one call of [`Frames::decode`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes of data, at the front of what was given.
    pub len: usize,
    /// Payloads of pings.
    pub pings: Vec<Vec<u8>>,
    /// The peer closes.
    pub closed: bool,
}

/// The reader of WebSocket frames.
#[derive(Debug, Default)]
pub struct Frames(FrameReader);

impl Frames {
    /// As the reader does; `None` if a rule is broken.
    pub fn decode(&mut self, bytes: &mut [u8]) -> Option<Decoded> {
        let mut controls = Vec::new();
        let len = self.0.decode(bytes, &mut controls).ok()?.data;
        let mut decoded = Decoded {
            len,
            ..Decoded::default()
        };
        for control in controls {
            match control {
                Control::Ping(payload) => decoded.pings.push(payload),
                Control::Close => decoded.closed = true,
            }
        }
        Some(decoded)
    }
}

/// The token of a request that asks for a WebSocket; what is no header or URI is left out.
pub fn token(headers: &[(&str, &str)], uri: &str) -> Option<String> {
    let parsed = headers.iter().filter_map(|(name, value)| {
        let name = HeaderName::try_from(*name).ok()?;
        Some((name, HeaderValue::try_from(*value).ok()?))
    });
    let headers: HeaderMap = parsed.collect();
    crate::listener::token_of(&headers, &Uri::try_from(uri).ok()?, true)
}

/// Filters and limit of a query of `/v1/events`; `None` if it is refused.
pub fn events_query(query: &str) -> Option<(usize, usize)> {
    crate::http::events_query(query)
}

/// The answer to a request by MQTT if it is refused, and whether it is.
pub fn room_request(method: &str, payload: &[u8]) -> (bool, Value) {
    crate::rooms::judge_request(method, payload)
}

/// Whether a request for history can be understood.
pub fn history_request(payload: &[u8]) -> bool {
    let (_, fields) = crate::service::request::read::<crate::history::Fields>(payload);
    fields.and_then(crate::history::Fields::query).is_ok()
}

/// Whether these can be the name of a room, of a user, and the number of a message.
pub fn place(text: &str) -> (bool, bool, bool) {
    crate::http::place(text)
}

/// What a text at `/chat` means, said by `from`, and what the answer refers to; or the refusal.
///
/// # Errors
/// The JSON of what is answered if it cannot be understood.
pub fn chat(text: &str, from: &str) -> Result<(Value, Understood), Value> {
    crate::http::chat_text(text, from).map_err(|problem| problem.to_json())
}
