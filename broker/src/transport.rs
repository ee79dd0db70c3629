//! The byte streams that carry MQTT: a wire (a socket, or TLS over one), the inside of a WebSocket
//! on a wire, or a pipe in memory.
//!
//! A transport is made by a listener and moves, as [`Detached`], to the thread of the shard that
//! owns its client. What was written is not on its way before it is flushed: TLS buffers.
//! It does not know packets.

pub(crate) mod tls;
pub(crate) mod wire;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tidings_core::codec::ReasonCode;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::time::timeout;

use crate::listener::websocket::{FrameState, WebSocket};
use wire::DetachedWire;
pub(crate) use wire::Wire;

/// A byte stream in the runtime of this thread.
#[derive(Debug)]
pub(crate) enum Transport {
    Wire(Wire),
    WebSocket(Box<WebSocket>),
    Memory(DuplexStream),
}

/// A byte stream between two runtimes.
#[derive(Debug)]
pub(crate) enum Detached {
    Wire(DetachedWire),
    WebSocket(DetachedWire, Box<FrameState>),
    Memory(DuplexStream),
}

impl Transport {
    /// Takes the stream out of the runtime of this thread.
    ///
    /// # Errors
    /// If the socket is broken.
    pub fn detach(self) -> io::Result<Detached> {
        Ok(match self {
            Self::Wire(wire) => Detached::Wire(wire.detach()?),
            Self::WebSocket(stream) => {
                let (wire, mut frames) = stream.into_parts();
                // It goes to its shard: the peer is a client.
                frames.admit();
                Detached::WebSocket(wire.detach()?, Box::new(frames))
            }
            Self::Memory(pipe) => Detached::Memory(pipe),
        })
    }

    /// Word for logs.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Wire(wire) => wire.kind(),
            Self::WebSocket(stream) if stream.is_tls() => "wss",
            Self::WebSocket(_) => "ws",
            Self::Memory(_) => "memory",
        }
    }

    /// When it is closed, this is why, where that can be said below MQTT.
    pub fn close_as(&mut self, reason: ReasonCode) {
        if let Self::WebSocket(stream) = self {
            stream.close_as(reason.into());
        }
    }

    /// What came is acknowledged at once, below MQTT: see [`Wire::quick_ack`].
    pub fn quick_ack(&self) {
        if let Self::Wire(wire) = self {
            wire.quick_ack();
        }
    }

    /// Asks the peer for a sign of life, where that can be asked below MQTT.
    pub fn ping(&mut self) {
        if let Self::WebSocket(stream) = self {
            stream.ping();
        }
    }

    /// Whether nothing came since it was asked.
    pub const fn is_silent(&self) -> bool {
        match self {
            Self::WebSocket(stream) => stream.is_silent(),
            Self::Wire(_) | Self::Memory(_) => false,
        }
    }

    /// Says that nothing more will come, as far as that goes at once.
    pub fn try_say_end(&mut self) {
        match self {
            Self::Wire(wire) => wire.try_say_end(),
            Self::WebSocket(stream) => stream.try_say_end(),
            Self::Memory(_) => {}
        }
    }
}

impl Detached {
    /// Puts the stream into the runtime of this thread.
    ///
    /// # Errors
    /// If the runtime cannot watch the socket.
    pub fn attach(self) -> io::Result<Transport> {
        Ok(match self {
            Self::Wire(wire) => Transport::Wire(wire.attach()?),
            Self::WebSocket(wire, frames) => {
                Transport::WebSocket(Box::new(WebSocket::new(wire.attach()?, *frames)))
            }
            Self::Memory(pipe) => Transport::Memory(pipe),
        })
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Wire(wire) => Pin::new(wire).poll_read(cx, out),
            Self::WebSocket(stream) => Pin::new(stream.as_mut()).poll_read(cx, out),
            Self::Memory(pipe) => Pin::new(pipe).poll_read(cx, out),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Wire(wire) => Pin::new(wire).poll_write(cx, bytes),
            Self::WebSocket(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
            Self::Memory(pipe) => Pin::new(pipe).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Wire(wire) => Pin::new(wire).poll_flush(cx),
            Self::WebSocket(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
            Self::Memory(pipe) => Pin::new(pipe).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Wire(wire) => Pin::new(wire).poll_shutdown(cx),
            Self::WebSocket(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            Self::Memory(pipe) => Pin::new(pipe).poll_shutdown(cx),
        }
    }
}

/// How long a peer may take to read the last bytes before the socket is dropped.
const FAREWELL: Duration = Duration::from_secs(2);
/// Bytes that are read and thrown away meanwhile, also those of a packet that was refused as too large
/// before it came; a peer that sends more does not listen.
const FAREWELL_BYTES: usize = 4 * 1024 * 1024;

/// Ends the stream so that the peer gets what was written last: a socket closed with unread input
/// would reset the connection, and the reason for the end would be lost.
pub(crate) async fn close_gently(mut transport: Transport) {
    let farewell = async {
        transport.shutdown().await?;
        let mut scrap = [0; 4096];
        let mut left = FAREWELL_BYTES;
        loop {
            let len = transport.read(&mut scrap).await?;
            if len == 0 || len > left {
                return io::Result::Ok(());
            }
            left -= len;
        }
    };
    // However it ends, the socket is dropped.
    let _ = timeout(FAREWELL, farewell).await;
}
