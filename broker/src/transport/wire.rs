//! A connection below framing: a TCP or Unix socket, or TLS over one of them.
//!
//! Invariants: a plain socket is reached by a match, without a box or a table of functions; a wire
//! can be taken out of one runtime and put into another, with all that TLS knows.
//! It does not know WebSocket, HTTP or MQTT.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::net;
use rustls::ServerConnection;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::tls::Session;

/// A stream socket in the runtime of this thread.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A stream socket between two runtimes.
#[derive(Debug)]
pub(crate) enum DetachedSocket {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

/// A connection below framing, in the runtime of this thread.
#[derive(Debug)]
pub(crate) enum Wire {
    Plain(Socket),
    Tls(Socket, Box<Session>),
}

/// A connection below framing, between two runtimes.
#[derive(Debug)]
pub(crate) enum DetachedWire {
    Plain(DetachedSocket),
    Tls(DetachedSocket, Box<Session>),
}

impl From<TcpStream> for Wire {
    fn from(socket: TcpStream) -> Self {
        Self::Plain(Socket::Tcp(socket))
    }
}

impl From<UnixStream> for Wire {
    fn from(socket: UnixStream) -> Self {
        Self::Plain(Socket::Unix(socket))
    }
}

impl Socket {
    fn detach(self) -> io::Result<DetachedSocket> {
        Ok(match self {
            Self::Tcp(socket) => DetachedSocket::Tcp(socket.into_std()?),
            Self::Unix(socket) => DetachedSocket::Unix(socket.into_std()?),
        })
    }

    /// Reads without taking the bytes away; 0 at the end of the stream.
    ///
    /// # Errors
    /// What the system says of the socket.
    pub async fn peek(&self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.peek(out).await,
            Self::Unix(socket) => {
                let peek = || Ok(net::recv(socket, &mut *out, net::RecvFlags::PEEK)?.0);
                socket.async_io(Interest::READABLE, peek).await
            }
        }
    }

    /// Writes what is taken at once, without a waker. It asks the system, not the runtime: to a runtime
    /// that a socket has just come to it is not known to take anything.
    pub fn try_write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let written = match self {
            Self::Tcp(socket) => rustix::io::writev(socket, parts),
            Self::Unix(socket) => rustix::io::writev(socket, parts),
        };
        Ok(written?)
    }

    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(socket) => Pin::new(socket).poll_read(cx, out),
            Self::Unix(socket) => Pin::new(socket).poll_read(cx, out),
        }
    }

    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Unix(socket) => Pin::new(socket).poll_write(cx, bytes),
        }
    }

    pub fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(socket) => Pin::new(socket).poll_write_vectored(cx, parts),
            Self::Unix(socket) => Pin::new(socket).poll_write_vectored(cx, parts),
        }
    }

    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
        }
    }
}

impl DetachedSocket {
    fn attach(self) -> io::Result<Socket> {
        Ok(match self {
            Self::Tcp(socket) => Socket::Tcp(TcpStream::from_std(socket)?),
            Self::Unix(socket) => Socket::Unix(UnixStream::from_std(socket)?),
        })
    }
}

impl Wire {
    /// Takes the connection out of the runtime of this thread.
    ///
    /// # Errors
    /// If the socket is broken.
    pub fn detach(self) -> io::Result<DetachedWire> {
        Ok(match self {
            Self::Plain(socket) => DetachedWire::Plain(socket.detach()?),
            Self::Tls(socket, session) => DetachedWire::Tls(socket.detach()?, session),
        })
    }

    /// What came is acknowledged at once for a while (tcp(7), TCP_QUICKACK). A client whose socket gathers small
    /// packets (RFC 896) sends the next one only then; and what it has not sent when it closes with something
    /// unread, it never sends.
    pub fn quick_ack(&self) {
        let (Self::Plain(socket) | Self::Tls(socket, _)) = self;
        if let Socket::Tcp(socket) = socket {
            // Without it everything comes as well, but later.
            let _ = net::sockopt::set_tcp_quickack(socket, true);
        }
    }

    /// Word for logs.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Plain(Socket::Tcp(_)) => "tcp",
            Self::Plain(Socket::Unix(_)) => "unix",
            Self::Tls(..) => "tls",
        }
    }

    /// The next byte, which is not taken away; nothing at the end of the stream.
    ///
    /// # Errors
    /// What the socket or TLS says.
    pub async fn first_byte(&mut self) -> io::Result<Option<u8>> {
        match self {
            Self::Plain(socket) => {
                let mut first = [0];
                let len = socket.peek(&mut first).await?;
                Ok((len > 0).then_some(first[0]))
            }
            Self::Tls(socket, session) => {
                std::future::poll_fn(|cx| session.poll_first_byte(socket, cx)).await
            }
        }
    }

    /// The next two bytes as far as they are there, which are not taken away; neither at the end of the
    /// stream. Inside of TLS only the first one is looked for.
    ///
    /// # Errors
    /// What the socket or TLS says.
    pub async fn first_bytes(&mut self) -> io::Result<[Option<u8>; 2]> {
        match self {
            Self::Plain(socket) => {
                let mut first = [0; 2];
                let len = socket.peek(&mut first).await?;
                let [one, two] = first;
                Ok([(len > 0).then_some(one), (len > 1).then_some(two)])
            }
            Self::Tls(..) => Ok([self.first_byte().await?, None]),
        }
    }

    /// The same connection with TLS over it; TLS in TLS is not made.
    pub fn with_tls(self, session: Session) -> Self {
        match self {
            Self::Plain(socket) => Self::Tls(socket, Box::new(session)),
            Self::Tls(socket, inner) => Self::Tls(socket, inner),
        }
    }

    /// Shakes hands, where there is TLS.
    ///
    /// # Errors
    /// What the socket or TLS says; the peer was told as far as it took it.
    pub async fn shake_hands(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(socket, session) => {
                std::future::poll_fn(|cx| session.poll_handshake(socket, cx)).await
            }
        }
    }

    /// What was agreed on, where there is TLS.
    pub fn agreed(&self) -> Option<&ServerConnection> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(_, session) => Some(session.agreed()),
        }
    }

    /// Writes what is taken at once, without a waker: one who waits to write is not forgotten.
    ///
    /// # Errors
    /// What the socket says; also that it takes nothing now.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_write_vectored(&[IoSlice::new(bytes)]),
            Self::Tls(socket, session) => session.try_write(socket, bytes),
        }
    }

    /// Says that nothing more will come, as far as that goes at once, where more than the end of
    /// the socket says it: without it an end cannot be told from a cut.
    pub fn try_say_end(&mut self) {
        if let Self::Tls(socket, session) = self {
            session.try_close(socket);
        }
    }
}

impl DetachedWire {
    /// Puts the connection into the runtime of this thread.
    ///
    /// # Errors
    /// If the runtime cannot watch the socket.
    pub fn attach(self) -> io::Result<Wire> {
        Ok(match self {
            Self::Plain(socket) => Wire::Plain(socket.attach()?),
            Self::Tls(socket, session) => Wire::Tls(socket.attach()?, session),
        })
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => socket.poll_read(cx, out),
            Self::Tls(socket, session) => session.poll_read(socket, cx, out),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => socket.poll_write(cx, bytes),
            Self::Tls(socket, session) => {
                session.poll_write_vectored(socket, cx, &[IoSlice::new(bytes)])
            }
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => socket.poll_write_vectored(cx, parts),
            Self::Tls(socket, session) => session.poll_write_vectored(socket, cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            // Nothing buffers.
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(socket, session) => session.poll_flush(socket, cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => socket.poll_shutdown(cx),
            Self::Tls(socket, session) => session.poll_shutdown(socket, cx),
        }
    }
}
