//! MQTT over WebSocket (§6): the answer to the upgrade request, and the stream of bytes inside the
//! frames.
//!
//! One write becomes one binary frame; where frames begin and end in what comes in means nothing
//! [MQTT-6.0.0-2]. A write that the socket takes in part leaves the frame open, and the next write
//! goes on in it, so that nothing is copied and nothing buffered.
//! It does not know packets.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use base64::Engine as _;
use bytes::{Buf, Bytes};
use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::{self, CloseCode, Control, FrameReader};
use crate::transport::Wire;

/// What a server appends to the key of a client before hashing it (RFC 6455 §1.3).
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Subprotocols that are spoken; the second is what MQTT 3.1 clients offer [MQTT-6.0.0-3].
const SUBPROTOCOLS: &[&str] = &["mqtt", "mqttv3.1"];

/// The header fields of an upgrade that was agreed on.
pub(crate) struct Agreed {
    /// Sec-WebSocket-Accept.
    pub accept: HeaderValue,
    /// Sec-WebSocket-Protocol.
    pub subprotocol: HeaderValue,
}

/// Judges an upgrade request (RFC 6455 §4.2.1).
///
/// # Errors
/// The status that refuses it, and why.
pub(crate) fn agree(
    method: &Method,
    headers: &HeaderMap,
) -> Result<Agreed, (StatusCode, &'static str)> {
    let has = |name, token| tokens(headers, name).any(|found| found.eq_ignore_ascii_case(token));
    if *method != Method::GET
        || !has(header::CONNECTION, "upgrade")
        || !has(header::UPGRADE, "websocket")
    {
        return Err((
            StatusCode::UPGRADE_REQUIRED,
            "this is the address of MQTT over WebSocket",
        ));
    }
    if headers
        .get(header::SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        return Err((
            StatusCode::UPGRADE_REQUIRED,
            "Sec-WebSocket-Version must be 13",
        ));
    }
    if !is_same_host(headers) {
        return Err((
            StatusCode::FORBIDDEN,
            "pages of other hosts may not connect",
        ));
    }
    let key = headers
        .get(header::SEC_WEBSOCKET_KEY)
        .filter(|key| is_nonce(key.as_bytes()))
        .ok_or((
            StatusCode::BAD_REQUEST,
            "Sec-WebSocket-Key is missing or wrong",
        ))?;
    let subprotocol = tokens(headers, header::SEC_WEBSOCKET_PROTOCOL)
        .find_map(|offered| SUBPROTOCOLS.iter().find(|ours| **ours == offered))
        .ok_or((
            StatusCode::BAD_REQUEST,
            "the subprotocol mqtt must be offered",
        ))?;
    Ok(Agreed {
        accept: accept_value(key.as_bytes()).ok_or((
            StatusCode::BAD_REQUEST,
            "Sec-WebSocket-Key is missing or wrong",
        ))?,
        subprotocol: HeaderValue::from_static(subprotocol),
    })
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
    base64::engine::general_purpose::STANDARD
        .decode(key)
        .is_ok_and(|nonce| nonce.len() == 16)
}

fn accept_value(key: &[u8]) -> Option<HeaderValue> {
    let digest = Sha1::new()
        .chain_update(key)
        .chain_update(ACCEPT_GUID)
        .finalize();
    let text = base64::engine::general_purpose::STANDARD.encode(digest);
    HeaderValue::from_str(&text).ok()
}

/// Browsers say which page opens a WebSocket, and let every page open one to any address, loopback
/// included: so pages of other hosts are refused. The port may differ, as it does in development.
pub(crate) fn is_same_host(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    let (Ok(origin), Some(Ok(host))) = (
        origin.to_str(),
        headers.get(header::HOST).map(HeaderValue::to_str),
    ) else {
        return false;
    };
    let origin = origin.split_once("://").map(|(_, authority)| authority);
    origin.is_some_and(|origin| without_port(origin).eq_ignore_ascii_case(without_port(host)))
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// The bytes inside the frames of one connection.
#[derive(Debug)]
pub(crate) struct WebSocket {
    wire: Wire,
    frames: FrameState,
}

/// All that is known of a WebSocket apart from its wire, which can be moved between threads.
#[derive(Debug, Default)]
pub(crate) struct FrameState {
    /// Raw bytes that came together with the upgrade request.
    early: Bytes,
    reader: FrameReader,
    controls: Vec<Control>,
    /// No more data comes: the peer closed, or broke a rule.
    ended: bool,
    /// Bytes of the open data frame that were promised by its header and not written yet.
    promised: usize,
    /// Rest of a data frame's header.
    header: [u8; 10],
    header_from: u8,
    header_to: u8,
    /// Rest of a control frame; goes out between data frames.
    control: Bytes,
    control_begun: bool,
    close_sent: bool,
}

impl FrameState {
    /// Begins with raw bytes that were read too early. They are copied: what was read of the
    /// request may be a buffer of many kilobytes.
    pub fn new(early: &[u8]) -> Self {
        Self {
            early: Bytes::copy_from_slice(early),
            ..Self::default()
        }
    }
}

impl WebSocket {
    /// A wire that was upgraded.
    pub fn new(wire: Wire, frames: FrameState) -> Self {
        Self { wire, frames }
    }

    /// The wire, and what is known of its frames.
    pub fn into_parts(self) -> (Wire, FrameState) {
        (self.wire, self.frames)
    }

    /// Whether the wire is one of TLS.
    pub const fn is_tls(&self) -> bool {
        matches!(self.wire, Wire::Tls(..))
    }

    /// Says that nothing more will come below the frames, as far as that goes at once.
    pub fn try_say_end(&mut self) {
        self.wire.try_say_end();
    }

    /// Says goodbye, as far as the socket takes it at once.
    pub fn close(&mut self, code: CloseCode) {
        if !self.frames.close_sent {
            self.frames.close_sent = true;
            self.queue_control(&frames::close(code));
            self.try_write_control();
        }
    }

    /// A control frame that has begun is completed; a Pong that has not is replaced (§5.5.3).
    fn queue_control(&mut self, frame: &[u8]) {
        let frames = &mut self.frames;
        frames.control = if frames.control_begun {
            Bytes::from([frames.control.as_ref(), frame].concat())
        } else {
            Bytes::copy_from_slice(frame)
        };
    }

    /// Without a waker, so that a writer that waits for the socket is not forgotten: what the
    /// socket does not take goes with the next data.
    fn try_write_control(&mut self) {
        let frames = &mut self.frames;
        while !frames.control.is_empty() && !frames.is_in_data_frame() {
            match self.wire.try_write(&frames.control) {
                Ok(written) => frames.control_was_written(written),
                Err(_) => return,
            }
        }
    }

    fn answer_controls(&mut self) {
        for control in std::mem::take(&mut self.frames.controls) {
            match control {
                Control::Ping(payload) => self.queue_control(&frames::pong(&payload)),
                Control::Close => {
                    self.frames.ended = true;
                    self.close(CloseCode::Normal);
                }
            }
        }
        self.try_write_control();
    }
}

impl FrameState {
    fn control_was_written(&mut self, bytes: usize) {
        self.control.advance(bytes);
        self.control_begun = !self.control.is_empty();
    }

    const fn is_in_data_frame(&self) -> bool {
        self.promised > 0 || self.header_from < self.header_to
    }
}

impl AsyncRead for WebSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let start = out.filled().len();
        while !this.frames.ended {
            if this.frames.early.is_empty() {
                ready!(Pin::new(&mut this.wire).poll_read(cx, out))?;
            } else {
                let len = this.frames.early.len().min(out.remaining());
                out.put_slice(&this.frames.early.split_to(len));
                if this.frames.early.is_empty() {
                    this.frames.early = Bytes::new();
                }
            }
            let raw = &mut out.filled_mut()[start..];
            if raw.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let decoded = this.frames.reader.decode(raw, &mut this.frames.controls);
            match decoded {
                Ok(len) => {
                    out.set_filled(start + len);
                    if !this.frames.controls.is_empty() {
                        this.answer_controls();
                    }
                    if len > 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
                Err(violation) => {
                    out.set_filled(start);
                    this.frames.ended = true;
                    this.close(violation.close_code());
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, violation)));
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WebSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let frames = &mut this.frames;
        if frames.close_sent {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        while !frames.control.is_empty() && !frames.is_in_data_frame() {
            let written = ready!(Pin::new(&mut this.wire).poll_write(cx, &frames.control))?;
            frames.control_was_written(written);
        }
        if !frames.is_in_data_frame() {
            let (header, len) = frames::binary_header(bytes.len());
            frames.header = header;
            (frames.header_from, frames.header_to) = (0, len as u8);
            frames.promised = bytes.len();
        }
        loop {
            let header =
                &frames.header[usize::from(frames.header_from)..usize::from(frames.header_to)];
            let payload = &bytes[..bytes.len().min(frames.promised)];
            let parts = [IoSlice::new(header), IoSlice::new(payload)];
            let written = ready!(Pin::new(&mut this.wire).poll_write_vectored(cx, &parts))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_header = written.min(header.len());
            frames.header_from += of_header as u8;
            let of_payload = written - of_header;
            frames.promised -= of_payload;
            if of_payload > 0 {
                return Poll::Ready(Ok(of_payload));
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().wire).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.close(CloseCode::Normal);
        Pin::new(&mut this.wire).poll_shutdown(cx)
    }
}
