//! The answer to a request that wants a WebSocket (RFC 6455 §4.2): whether the page may, in which
//! subprotocol, and whether messages may be compressed.
//!
//! It does not know connections, nor what is spoken inside.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use axum::response::IntoResponse;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use super::deflate::Agreement;
use super::origins::{Origins, Page};
use super::page;

/// What a server appends to the key of a client before hashing it (RFC 6455 §1.3).
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// How WebSockets are spoken.
#[derive(Clone, Debug)]
pub struct WebSocketOptions {
    /// Messages may be compressed, if the client wants it (RFC 7692).
    pub compression: bool,
    /// Bytes below which a message goes as it is.
    pub compress_from_bytes: usize,
    /// Times the bytes of a compressed message that it may become.
    pub max_expansion: usize,
    /// Pages of other hosts that may connect.
    pub origins: Origins,
    /// Between two Pings; `None`: none are sent.
    pub ping_interval: Option<Duration>,
    /// How long a peer may take to answer one; shorter than the interval.
    pub ping_timeout: Duration,
}

impl Default for WebSocketOptions {
    fn default() -> Self {
        Self {
            compression: true,
            compress_from_bytes: 1024,
            max_expansion: 100,
            origins: Origins::default(),
            ping_interval: Some(Duration::from_secs(50)),
            ping_timeout: Duration::from_secs(25),
        }
    }
}

/// What is asked of a request.
pub(crate) struct Terms<'a> {
    /// Subprotocols that are spoken, and whether one of them has to be offered.
    pub subprotocols: &'a [&'static str],
    pub needs_subprotocol: bool,
    pub origins: &'a Origins,
    /// Those of the listener.
    pub door_origins: Option<&'a Origins>,
    /// Messages may be compressed.
    pub compression: bool,
}

/// An upgrade that was agreed on.
#[derive(Debug)]
pub(crate) struct Agreed {
    /// Sec-WebSocket-Accept.
    accept: HeaderValue,
    /// Sec-WebSocket-Protocol.
    subprotocol: Option<HeaderValue>,
    /// How messages are compressed.
    pub deflate: Option<Agreement>,
    /// Which page asked.
    pub page: Page,
}

/// Why there is no upgrade.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused(pub StatusCode, &'static str);

impl Terms<'_> {
    /// Judges a request (RFC 6455 §4.2.1).
    ///
    /// # Errors
    /// The status that refuses it, and why.
    pub fn agree(&self, method: &Method, headers: &HeaderMap) -> Result<Agreed, Refused> {
        let has =
            |name, token| tokens(headers, name).any(|found| found.eq_ignore_ascii_case(token));
        if *method != Method::GET
            || !has(header::CONNECTION, "upgrade")
            || !has(header::UPGRADE, "websocket")
        {
            let text = "this is the address of a WebSocket";
            return Err(Refused(StatusCode::UPGRADE_REQUIRED, text));
        }
        let version = headers.get(header::SEC_WEBSOCKET_VERSION);
        if version.is_none_or(|version| version != "13") {
            let text = "Sec-WebSocket-Version must be 13";
            return Err(Refused(StatusCode::UPGRADE_REQUIRED, text));
        }
        let foreign = Refused(
            StatusCode::FORBIDDEN,
            "pages of other hosts may not connect",
        );
        let page = self
            .origins
            .judge(headers, self.door_origins)
            .ok_or(foreign)?;
        let accept = headers
            .get(header::SEC_WEBSOCKET_KEY)
            .filter(|key| is_nonce(key.as_bytes()))
            .and_then(|key| accept_value(key.as_bytes()));
        let no_key = Refused(
            StatusCode::BAD_REQUEST,
            "Sec-WebSocket-Key is missing or wrong",
        );
        let accept = accept.ok_or(no_key)?;
        let mut offered = tokens(headers, header::SEC_WEBSOCKET_PROTOCOL);
        let subprotocol =
            offered.find_map(|offered| self.subprotocols.iter().find(|ours| **ours == offered));
        if self.needs_subprotocol && subprotocol.is_none() {
            let text = "the subprotocol mqtt must be offered";
            return Err(Refused(StatusCode::BAD_REQUEST, text));
        }
        let extensions = headers
            .get_all(header::SEC_WEBSOCKET_EXTENSIONS)
            .into_iter();
        let extensions = extensions.filter_map(|value| value.to_str().ok());
        Ok(Agreed {
            accept,
            subprotocol: subprotocol.map(|name| HeaderValue::from_static(name)),
            deflate: Agreement::of(extensions).filter(|_| self.compression),
            page,
        })
    }
}

impl IntoResponse for Agreed {
    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, self.accept);
        if let Some(subprotocol) = self.subprotocol {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
        }
        let deflate = self.deflate.map(Agreement::answer);
        if let Some(Ok(deflate)) = deflate.map(HeaderValue::try_from) {
            headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, deflate);
        }
        response
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response<Body> {
        let Self(status, why) = self;
        let mut refused = page::text(status, format!("{why}\n"));
        if status == StatusCode::UPGRADE_REQUIRED {
            let headers = refused.headers_mut();
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(
                header::SEC_WEBSOCKET_VERSION,
                HeaderValue::from_static("13"),
            );
        }
        refused
    }
}

fn tokens(headers: &HeaderMap, name: header::HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

/// 16 bytes in Base64.
fn is_nonce(key: &[u8]) -> bool {
    STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16)
}

fn accept_value(key: &[u8]) -> Option<HeaderValue> {
    let digest = Sha1::new()
        .chain_update(key)
        .chain_update(ACCEPT_GUID)
        .finalize();
    HeaderValue::from_str(&STANDARD.encode(digest)).ok()
}
