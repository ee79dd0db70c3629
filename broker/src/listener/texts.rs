//! A WebSocket that carries texts, each a message: for who speaks no MQTT.
//!
//! Invariants: what is not written yet is bounded by whoever says it, since nothing is read while more
//! than [`MAX_WAITING`] waits; a text is whole, valid UTF-8, and within a limit; a connection that is
//! quiet holds no buffer.
//! It does not know what texts mean.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Instant, timeout};

use super::deflate;
use super::frames::{self, Carries, CloseCode, Control, Data, FrameReader, Violation, Whole};
use super::websocket::Compression;
use crate::transport::Wire;

/// Bytes that wait to be written, above which nothing more is read.
const MAX_WAITING: usize = 64 * 1024;

/// Bytes that are read at once.
const READ: usize = 4096;

/// How long the last words may take.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug)]
pub(crate) struct Texts {
    wire: Wire,
    reader: FrameReader,
    /// Raw bytes that were read and not decoded.
    early: Bytes,
    controls: Vec<Control>,
    waiting: BytesMut,
    is_flushed: bool,
    compression: Option<Compression>,
    /// When something was written last.
    written_at: Instant,
    /// Something came since the last Ping.
    heard: bool,
    said_goodbye: bool,
}

/// What happened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Happened {
    /// A text came.
    Text(String),
    /// Everything that was said is written.
    Written,
    /// The peer said goodbye, or is gone.
    Over,
    /// The peer broke a rule.
    Broken(Violation),
}

impl Texts {
    /// Begins with raw bytes that were read too early. A text has at most `limit` bytes.
    pub fn new(wire: Wire, early: &[u8], compression: Option<Compression>, limit: usize) -> Self {
        Self {
            wire,
            reader: FrameReader::new(Carries::Texts, compression.is_some(), limit),
            early: Bytes::copy_from_slice(early),
            controls: Vec::new(),
            waiting: BytesMut::new(),
            is_flushed: true,
            compression,
            written_at: Instant::now(),
            heard: true,
            said_goodbye: false,
        }
    }

    /// Says a text; [`Texts::next`] writes it.
    pub fn say(&mut self, text: &str) {
        let (mut packed, mut data) = (Vec::new(), Data::Text);
        if let Some(compression) = &self.compression {
            let range = compression.from_bytes..=compression.agreement.max_message();
            if range.contains(&text.len()) && deflate::compress(text.as_bytes(), &mut packed) {
                data = Data::CompressedText;
            }
        }
        let payload = match data {
            Data::CompressedText => &packed,
            _ => text.as_bytes(),
        };
        let (header, len) = frames::data_header(data, payload.len());
        self.put(header.get(..len).unwrap_or_default());
        self.put(payload);
    }

    fn put(&mut self, bytes: &[u8]) {
        if self.waiting.is_empty() {
            self.written_at = Instant::now();
        }
        self.waiting.extend_from_slice(bytes);
        self.is_flushed = false;
    }

    /// Bytes that wait to be written.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether all is written.
    pub fn is_written(&self) -> bool {
        self.waiting.is_empty() && self.is_flushed
    }

    /// Since when the peer has taken nothing, if something waits for it.
    pub fn stalled_since(&self) -> Option<Instant> {
        (!self.is_written()).then_some(self.written_at)
    }

    /// Asks for a sign of life; says whether there was one since this was asked last.
    pub fn ping(&mut self) -> bool {
        self.put(&frames::ping());
        std::mem::replace(&mut self.heard, false)
    }

    /// Writes what waits, and waits for what happens; does not read unless it `listens`. Nothing is lost
    /// if the future is dropped.
    pub async fn next(&mut self, listens: bool) -> Happened {
        poll_fn(|cx| self.poll_next(cx, listens)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>, listens: bool) -> Poll<Happened> {
        loop {
            let was_written = self.is_written();
            match self.poll_write(cx) {
                Poll::Ready(Ok(())) if !was_written => return Poll::Ready(Happened::Written),
                Poll::Ready(Err(_)) => return Poll::Ready(Happened::Over),
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
            if !listens || self.waiting.len() >= MAX_WAITING {
                return Poll::Pending;
            }
            if let Some(happened) = ready!(self.poll_read(cx)) {
                return Poll::Ready(happened);
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            let written = ready!(Pin::new(&mut self.wire).poll_write(cx, &self.waiting))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.waiting.advance(written);
            self.written_at = Instant::now();
        }
        if !self.is_flushed {
            ready!(Pin::new(&mut self.wire).poll_flush(cx))?;
            self.is_flushed = true;
            // Nothing is held while idle.
            self.waiting = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Reads and decodes once; nothing if what came was only part of something.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Option<Happened>> {
        let mut scratch = [0; READ];
        let mut read = ReadBuf::new(&mut scratch);
        if self.early.is_empty() {
            match ready!(Pin::new(&mut self.wire).poll_read(cx, &mut read)) {
                Ok(()) if !read.filled().is_empty() => self.heard = true,
                Ok(()) | Err(_) => return Poll::Ready(Some(Happened::Over)),
            }
        } else {
            let len = self.early.len().min(READ);
            read.put_slice(&self.early.split_to(len));
        }
        let raw = read.filled_mut();
        let decoded = match self.reader.decode(raw, &mut self.controls) {
            Ok(decoded) => decoded,
            Err(violation) => return Poll::Ready(Some(Happened::Broken(violation))),
        };
        let rest = raw.get(decoded.read..).unwrap_or_default();
        if !rest.is_empty() {
            self.early = Bytes::from([rest, &self.early].concat());
        }
        for control in std::mem::take(&mut self.controls) {
            match control {
                Control::Ping(payload) => self.put(&frames::pong(&payload)),
                Control::Close => return Poll::Ready(Some(Happened::Over)),
            }
        }
        Poll::Ready(decoded.whole.map(|whole| match self.text(whole) {
            Ok(text) => Happened::Text(text),
            Err(violation) => Happened::Broken(violation),
        }))
    }

    fn text(&self, mut whole: Whole) -> Result<String, Violation> {
        let bytes = match (&self.compression, whole.is_compressed) {
            (Some(compression), true) => deflate::decompress(&mut whole.bytes, compression.after)?,
            _ => whole.bytes,
        };
        let no_text = |_| Violation::InvalidData("a text that is no UTF-8");
        String::from_utf8(bytes).map_err(no_text)
    }

    /// Ends it, saying why, in a way that lets the peer read the last words.
    pub async fn close(mut self, code: CloseCode) {
        self.put(&frames::close(code));
        self.said_goodbye = true;
        let farewell = async {
            poll_fn(|cx| self.poll_write(cx)).await?;
            self.wire.shutdown().await?;
            // A socket closed with unread input would take the last words back.
            let (mut scrap, mut left) = ([0; 1024], MAX_WAITING);
            loop {
                let len = self.wire.read(&mut scrap).await?;
                if len == 0 || len > left {
                    return io::Result::Ok(());
                }
                left -= len;
            }
        };
        // However it ends, the socket is dropped.
        let _ = timeout(LAST_WORDS, farewell).await;
    }
}

impl Drop for Texts {
    /// The broker stops: it says so, as far as that goes at once.
    fn drop(&mut self) {
        if !self.said_goodbye && self.is_written() {
            let _ = self.wire.try_write(&frames::close(CloseCode::GoingAway));
            self.wire.try_say_end();
        }
    }
}
