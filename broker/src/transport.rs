//! The byte streams that carry MQTT: a TCP socket, the inside of a WebSocket, or a pipe in memory.
//!
//! A transport is made by a listener and moves, as [`Detached`], to the thread of the shard that
//! owns its client. It does not know packets.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::listener::websocket::{FrameState, WebSocket};

/// A byte stream in the runtime of this thread.
#[derive(Debug)]
pub(crate) enum Transport {
    Tcp(TcpStream),
    WebSocket(Box<WebSocket<TcpStream>>),
    Memory(DuplexStream),
}

/// A byte stream between two runtimes.
#[derive(Debug)]
pub(crate) enum Detached {
    Tcp(std::net::TcpStream),
    WebSocket(std::net::TcpStream, Box<FrameState>),
    Memory(DuplexStream),
}

impl Transport {
    /// Takes the stream out of the runtime of this thread.
    ///
    /// # Errors
    /// If the socket is broken.
    pub fn detach(self) -> io::Result<Detached> {
        Ok(match self {
            Self::Tcp(socket) => Detached::Tcp(socket.into_std()?),
            Self::WebSocket(stream) => {
                let (socket, frames) = stream.into_parts();
                Detached::WebSocket(socket.into_std()?, Box::new(frames))
            }
            Self::Memory(pipe) => Detached::Memory(pipe),
        })
    }

    /// Word for logs.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Tcp(_) => "tcp",
            Self::WebSocket(_) => "ws",
            Self::Memory(_) => "memory",
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
            Self::Tcp(socket) => Transport::Tcp(TcpStream::from_std(socket)?),
            Self::WebSocket(socket, frames) => Transport::WebSocket(Box::new(WebSocket::new(
                TcpStream::from_std(socket)?,
                *frames,
            ))),
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
            Self::Tcp(socket) => Pin::new(socket).poll_read(cx, out),
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
            Self::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::WebSocket(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
            Self::Memory(pipe) => Pin::new(pipe).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nothing here buffers.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::WebSocket(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            Self::Memory(pipe) => Pin::new(pipe).poll_shutdown(cx),
        }
    }
}

/// How long a peer may take to read the last bytes before the socket is dropped.
const FAREWELL: Duration = Duration::from_secs(2);
/// Bytes that are read and thrown away meanwhile; a peer that sends more does not listen.
const FAREWELL_BYTES: usize = 256 * 1024;

/// Ends the stream so that the peer gets what was written last: a socket closed with unread input
/// would reset the connection, and the reason for the end would be lost.
pub(crate) async fn close_gently(mut transport: Transport) {
    let farewell = async {
        transport.shutdown().await?;
        let mut scrap = [0; 1024];
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
