//! MQTT over WebSocket (§6): the stream of bytes inside the frames.
//!
//! One write becomes one binary frame; where frames begin and end in what comes in means nothing
//! [MQTT-6.0.0-2]. A write that the socket takes in part leaves the frame open, and the next write
//! goes on in it, so that nothing is copied and nothing buffered. Only where compression was agreed on
//! there is a buffer: a message that comes has to be whole before it is decompressed, and the rest of
//! one that goes is held until the socket takes it; both are bounded.
//! It does not know packets.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::deflate::{self, Agreement, Bounds};
use super::frames::{self, Carries, CloseCode, Control, Data, FrameReader, Violation};
use crate::transport::Wire;

/// Bytes that are compressed into one message at most: what a shard writes at once, by default.
const MAX_PACKED: usize = 64 * 1024;

/// Bytes that were read too early, and are decoded at once: a message ends in them now and then, and the
/// rest comes again.
const AGAIN: usize = 4096;

/// Writes that are not compressed after one that did not become smaller, as a power of two: what is
/// encrypted or a picture is mostly followed by more of it.
const MAX_HOPELESS: u8 = 5;

/// How messages of a connection are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Compression {
    pub agreement: Agreement,
    /// Bytes of a write below which it goes as it is.
    pub from_bytes: usize,
    /// What a message of a peer that is not known may become.
    pub before: Bounds,
    /// What a message of a client may become.
    pub after: Bounds,
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
    /// What a goodbye says, if something is to be said.
    closes_as: Option<CloseCode>,
    /// Something came since the last Ping.
    heard: bool,
    /// Everything that came was read.
    drained: bool,
    /// What was agreed on about compression.
    deflate: Option<Box<Deflate>>,
}

/// Messages on their way to be smaller, or back.
#[derive(Debug)]
struct Deflate {
    compression: Compression,
    bounds: Bounds,
    /// What a message became, and was not read.
    inflated: Bytes,
    /// Rest of a frame that is being written, and the bytes that it stands for.
    packed: Bytes,
    stands_for: usize,
    /// Writes that did not become smaller in a row, and those that are not tried for that.
    hopeless: u8,
    not_tried: u8,
}

impl FrameState {
    /// Begins with raw bytes that were read too early. They are copied: what was read of the
    /// request may be a buffer of many kilobytes.
    pub fn new(early: &[u8], compression: Option<Compression>) -> Self {
        let reader = compression
            .map(|compression| FrameReader::new(Carries::Stream, true, compression.before.bytes));
        Self {
            early: Bytes::copy_from_slice(early),
            reader: reader.unwrap_or_default(),
            deflate: compression.map(|compression| {
                Box::new(Deflate {
                    compression,
                    bounds: compression.before,
                    inflated: Bytes::new(),
                    packed: Bytes::new(),
                    stands_for: 0,
                    hopeless: 0,
                    not_tried: 0,
                })
            }),
            heard: true,
            ..Self::default()
        }
    }

    /// The peer is a client now, and may send what clients may.
    pub fn admit(&mut self) {
        if let Some(deflate) = &mut self.deflate {
            deflate.bounds = deflate.compression.after;
            self.reader.set_limit(deflate.bounds.bytes);
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

    /// When it is closed, this is why.
    pub const fn close_as(&mut self, code: CloseCode) {
        self.frames.closes_as = Some(code);
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

    /// Asks the peer for a sign of life.
    pub fn ping(&mut self) {
        if !self.frames.close_sent {
            self.frames.heard = false;
            self.queue_control(&frames::ping());
            self.try_write_control();
        }
    }

    /// Whether nothing came since it was asked, although all that came was read.
    pub const fn is_silent(&self) -> bool {
        self.frames.drained && !self.frames.heard
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

    fn is_in_data_frame(&self) -> bool {
        let is_packed = || {
            self.deflate
                .as_ref()
                .is_some_and(|deflate| deflate.stands_for > 0)
        };
        self.promised > 0 || self.header_from < self.header_to || is_packed()
    }

    /// Turns raw bytes into data at their front. What comes after a message that had to be whole is
    /// put back, unless it lies in `early` anyway.
    fn decode(&mut self, raw: &mut [u8], is_early: bool) -> Result<usize, Violation> {
        let decoded = self.reader.decode(raw, &mut self.controls)?;
        if is_early {
            self.early.advance(decoded.read);
            if self.early.is_empty() {
                self.early = Bytes::new();
            }
        } else if decoded.whole.is_some() {
            let rest = raw.get(decoded.read..).unwrap_or_default();
            self.early = Bytes::copy_from_slice(rest);
        }
        if let (Some(mut whole), Some(deflate)) = (decoded.whole, &mut self.deflate) {
            deflate.inflated = deflate::decompress(&mut whole.bytes, deflate.bounds)?.into();
        }
        Ok(decoded.data)
    }

    /// Gives what a compressed message became; false if there is none.
    fn read_inflated(&mut self, out: &mut ReadBuf<'_>) -> bool {
        let Some(deflate) = &mut self.deflate else {
            return false;
        };
        let len = deflate.inflated.len().min(out.remaining());
        out.put_slice(&deflate.inflated.split_to(len));
        if deflate.inflated.is_empty() {
            deflate.inflated = Bytes::new();
        }
        len > 0
    }

    /// Makes a compressed frame of `bytes`, if that is agreed on and worth it.
    fn pack(&mut self, bytes: &[u8]) {
        let Some(deflate) = &mut self.deflate else {
            return;
        };
        let compression = deflate.compression;
        let most = compression.agreement.max_message().min(MAX_PACKED);
        let message = bytes.get(..most).unwrap_or(bytes);
        if message.len() < compression.from_bytes {
            return;
        }
        if deflate.not_tried > 0 {
            deflate.not_tried -= 1;
            return;
        }
        let mut frame = Vec::new();
        if !deflate::compress(message, &mut frame) {
            deflate.hopeless = (deflate.hopeless + 1).min(MAX_HOPELESS);
            deflate.not_tried = (1 << deflate.hopeless) - 1;
            return;
        }
        deflate.hopeless = 0;
        let (header, len) = frames::data_header(Data::CompressedBinary, frame.len());
        frame.splice(..0, header.into_iter().take(len));
        // It may wait for the socket.
        frame.shrink_to_fit();
        deflate.packed = frame.into();
        deflate.stands_for = message.len();
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
            if this.frames.read_inflated(out) {
                return Poll::Ready(Ok(()));
            }
            let is_early = !this.frames.early.is_empty();
            if is_early {
                let len = this.frames.early.len().min(out.remaining()).min(AGAIN);
                out.put_slice(this.frames.early.get(..len).unwrap_or_default());
            } else {
                let read = Pin::new(&mut this.wire).poll_read(cx, out);
                this.frames.drained = read.is_pending();
                ready!(read)?;
                this.frames.heard = true;
            }
            let raw = &mut out.filled_mut()[start..];
            if raw.is_empty() {
                return Poll::Ready(Ok(()));
            }
            match this.frames.decode(raw, is_early) {
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
            frames.pack(bytes);
        }
        if let Some(deflate) = &mut frames.deflate
            && deflate.stands_for > 0
        {
            return poll_write_packed(deflate, &mut this.wire, cx);
        }
        if !frames.is_in_data_frame() {
            let (header, len) = frames::data_header(Data::Binary, bytes.len());
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
        this.close(this.frames.closes_as.unwrap_or(CloseCode::Normal));
        Pin::new(&mut this.wire).poll_shutdown(cx)
    }
}

/// Writes on in a compressed frame. What it stands for counts as written when all of it is.
fn poll_write_packed(
    deflate: &mut Deflate,
    wire: &mut Wire,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    while !deflate.packed.is_empty() {
        match Pin::new(&mut *wire).poll_write(cx, &deflate.packed) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(written)) => deflate.packed.advance(written),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        }
    }
    deflate.packed = Bytes::new();
    Poll::Ready(Ok(std::mem::take(&mut deflate.stands_for)))
}
