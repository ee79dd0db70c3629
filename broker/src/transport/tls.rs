//! TLS of one connection, server side: what goes between rustls, which does no I/O, and a socket.
//!
//! Invariants: at most [`WRITE_BUFFER`] bytes of output are encrypted and not yet taken by the
//! socket, and nothing is encrypted while some are left; plaintext that was decrypted is read
//! before the socket is; whoever reads never takes the place of a waker that waits to write.
//! It does not know certificates, nor what the bytes mean.

use std::io::{self, BufRead as _, IoSlice, Read, Write};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::{ServerConfig, ServerConnection};
use tokio::io::ReadBuf;

use super::wire::Socket;

/// Bytes that are encrypted at once, and all that a connection whose peer does not read holds: one
/// record of the longest kind.
const WRITE_BUFFER: usize = 16 * 1024;

/// What is known of a TLS connection apart from its socket.
#[derive(Debug)]
pub(crate) struct Session {
    rustls: ServerConnection,
    /// What went wrong after bytes that were given out first.
    failed: Option<io::Error>,
    /// `close_notify` was written, or is about to be.
    is_closed: bool,
}

/// A socket as rustls reads and writes it: with the waker of a task, or with none.
struct Io<'a, 'b> {
    socket: &'a mut Socket,
    cx: Option<&'a mut Context<'b>>,
}

impl Session {
    /// Before its handshake.
    ///
    /// # Errors
    /// If the configuration cannot serve.
    pub fn new(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self {
            rustls: ServerConnection::new(config)?,
            failed: None,
            is_closed: false,
        })
    }

    /// What was agreed on with the peer.
    pub fn agreed(&self) -> &ServerConnection {
        &self.rustls
    }

    /// Shakes hands; ready when that is over and the peer has been sent all of it.
    pub fn poll_handshake(
        &mut self,
        socket: &mut Socket,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rustls.is_handshaking() {
            ready!(self.poll_flush(socket, cx))?;
            // The last flight may have ended it.
            if !self.rustls.is_handshaking() {
                break;
            }
            if ready!(self.poll_records(socket, cx))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        ready!(self.poll_flush(socket, cx))?;
        self.rustls.set_buffer_limit(Some(WRITE_BUFFER));
        Poll::Ready(Ok(()))
    }

    /// Takes what the socket has to give; 0 at its end. What that asks to be answered is written
    /// as far as the socket takes it: the rest goes with the next output.
    fn poll_records(
        &mut self,
        socket: &mut Socket,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut from = Io {
            socket,
            cx: Some(cx),
        };
        let len = match self.rustls.read_tls(&mut from) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
            len => len?,
        };
        let processed = self.rustls.process_new_packets();
        if self.rustls.wants_write() {
            // A socket that is broken says so to who writes or reads next.
            let _ = self.write_records(socket, None);
        }
        match processed {
            Ok(_) => Poll::Ready(Ok(len)),
            Err(error) => Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error))),
        }
    }

    fn write_records(
        &mut self,
        socket: &mut Socket,
        cx: Option<&mut Context<'_>>,
    ) -> io::Result<()> {
        let mut to = Io { socket, cx };
        while self.rustls.wants_write() {
            if self.rustls.write_tls(&mut to)? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    /// The next byte, which is not taken away; nothing at the end of the stream.
    pub fn poll_first_byte(
        &mut self,
        socket: &mut Socket,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Option<u8>>> {
        loop {
            match self.rustls.reader().fill_buf() {
                Ok(bytes) => return Poll::Ready(Ok(bytes.first().copied())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            ready!(self.poll_records(socket, cx))?;
        }
    }

    pub fn poll_read(
        &mut self,
        socket: &mut Socket,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        let start = out.filled().len();
        let failed = loop {
            if out.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            let mut reader = self.rustls.reader();
            match reader.fill_buf() {
                Ok([]) => return Poll::Ready(Ok(())),
                Ok(bytes) => {
                    let len = bytes.len().min(out.remaining());
                    out.put_slice(bytes.get(..len).unwrap_or_default());
                    reader.consume(len);
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => break error,
            }
            match self.poll_records(socket, cx) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => break error,
                Poll::Pending if out.filled().len() > start => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        };
        if out.filled().len() > start {
            self.failed = Some(failed);
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(Err(failed))
    }

    /// Encrypts a part of the bytes and writes what the socket takes of it; pending while it has
    /// not taken what came before. What it does not take now is left to a flush, or to the next
    /// write.
    pub fn poll_write_vectored(
        &mut self,
        socket: &mut Socket,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(socket, cx))?;
        if self.is_closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let len = self.rustls.writer().write_vectored(parts)?;
        if len == 0 && parts.iter().any(|part| !part.is_empty()) {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        match self.poll_flush(socket, cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(len)),
        }
    }

    /// The same without a waker.
    pub fn try_write(&mut self, socket: &mut Socket, bytes: &[u8]) -> io::Result<usize> {
        self.write_records(socket, None)?;
        if self.is_closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let len = self.rustls.writer().write(bytes)?;
        match self.write_records(socket, None) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(len),
        }
    }

    /// Ready when nothing that was encrypted is left.
    pub fn poll_flush(
        &mut self,
        socket: &mut Socket,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        match self.write_records(socket, Some(cx)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            flushed => Poll::Ready(flushed),
        }
    }

    fn close(&mut self) {
        if !self.is_closed {
            self.is_closed = true;
            self.rustls.send_close_notify();
        }
    }

    /// Says that nothing more will come, as far as the socket takes it.
    pub fn try_close(&mut self, socket: &mut Socket) {
        self.close();
        // Who cannot be told finds a connection that was cut.
        let _ = self.write_records(socket, None);
    }

    /// Says that nothing more will come, and then ends the socket's output.
    pub fn poll_shutdown(
        &mut self,
        socket: &mut Socket,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        self.close();
        ready!(self.poll_flush(socket, cx))?;
        socket.poll_shutdown(cx)
    }
}

fn ready_or_would_block<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl Read for Io<'_, '_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let Some(cx) = &mut self.cx else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let mut read = ReadBuf::new(out);
        ready_or_would_block(self.socket.poll_read(cx, &mut read))?;
        Ok(read.filled().len())
    }
}

impl Write for Io<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match &mut self.cx {
            Some(cx) => ready_or_would_block(self.socket.poll_write_vectored(cx, parts)),
            None => self.socket.try_write_vectored(parts),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
