//! A connection that carries MQTT bytes, over TCP or WebSocket, perhaps in TLS, with a deadline on every wait.
//!
//! Invariant: [`Link::inbox`] holds MQTT bytes only, whatever carried them. It does not know packets.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::ClientError;
use crate::secure::Stream;
use crate::websocket::{self, Incoming};

/// Bytes written at once: while the kernel copies more, a client keeps the broker, on the same machine, from
/// its processor.
const PIECE: usize = 16 * 1024;

/// Where and how to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// MQTT directly on TCP.
    Tcp(SocketAddr),
    /// MQTT in binary WebSocket frames, path `/mqtt`.
    WebSocket(SocketAddr),
    /// MQTT in TLS; the certificate is believed.
    Tls(SocketAddr),
    /// The same with WebSocket in between.
    Wss(SocketAddr),
}

impl Endpoint {
    /// Address and port.
    pub fn address(self) -> SocketAddr {
        let (Self::Tcp(address)
        | Self::WebSocket(address)
        | Self::Tls(address)
        | Self::Wss(address)) = self;
        address
    }

    /// Whether it has frames.
    pub fn is_websocket(self) -> bool {
        matches!(self, Self::WebSocket(_) | Self::Wss(_))
    }
}

/// How many bytes one read asks for.
const READ_BYTES: usize = 64 * 1024;

/// One open connection.
pub struct Link {
    stream: Stream,
    frames: Option<Frames>,
    /// Received MQTT bytes that were not taken yet begin at `taken`.
    inbox: Vec<u8>,
    taken: usize,
    scratch: Box<[u8]>,
}

/// What a WebSocket connection has to remember.
#[derive(Default)]
struct Frames {
    /// Bytes of frames that are not complete yet.
    raw: Vec<u8>,
    close_code: Option<u16>,
    closed: bool,
}

impl Link {
    /// Connects, and over WebSocket shakes hands.
    ///
    /// # Errors
    /// If the broker does not take the connection within the deadline.
    pub fn open(endpoint: Endpoint, deadline: Duration) -> Result<Self, ClientError> {
        let stream = TcpStream::connect_timeout(&endpoint.address(), deadline)
            .map_err(|error| ClientError::from_io(error, deadline))?;
        stream.set_nodelay(true).map_err(ClientError::Io)?;
        stream
            .set_write_timeout(Some(deadline))
            .map_err(ClientError::Io)?;
        let stream = match endpoint {
            Endpoint::Tcp(_) | Endpoint::WebSocket(_) => Stream::Plain(stream),
            Endpoint::Tls(address) | Endpoint::Wss(address) => {
                // It reads while it shakes hands.
                stream
                    .set_read_timeout(Some(deadline))
                    .map_err(ClientError::Io)?;
                Stream::secure(stream, address).map_err(ClientError::Io)?
            }
        };
        let mut link = Self {
            stream,
            frames: None,
            inbox: Vec::new(),
            taken: 0,
            scratch: vec![0; READ_BYTES].into_boxed_slice(),
        };
        if endpoint.is_websocket() {
            link.shake_hands(endpoint.address(), deadline)?;
        }
        Ok(link)
    }

    fn shake_hands(&mut self, address: SocketAddr, deadline: Duration) -> Result<(), ClientError> {
        let until = Instant::now() + deadline;
        let request = websocket::request(&address.to_string(), "/mqtt", Some("mqtt"));
        self.write_raw(request.as_bytes())?;
        loop {
            if let Some(end) = find(&self.inbox, b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.inbox[..end]).into_owned();
                websocket::check_answer(&head).map_err(ClientError::Transport)?;
                let frames = Frames {
                    raw: self.inbox.split_off(end + 4),
                    ..Frames::default()
                };
                self.inbox.clear();
                self.frames = Some(frames);
                return self.unwrap_frames();
            }
            self.receive(until)?;
        }
    }

    /// Sends MQTT bytes; over WebSocket in one frame.
    ///
    /// # Errors
    /// If the connection is gone, or takes nothing for the deadline it was opened with.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        if self.frames.is_some() {
            self.send_frame(true, websocket::BINARY, bytes)
        } else {
            self.write_raw(bytes)
        }
    }

    /// Sends one WebSocket frame of any kind.
    ///
    /// # Errors
    /// As [`Link::send`].
    pub fn send_frame(&mut self, fin: bool, opcode: u8, payload: &[u8]) -> Result<(), ClientError> {
        let mut out = Vec::with_capacity(payload.len() + 14);
        websocket::write_frame(fin, opcode, payload, &mut out);
        self.write_raw(&out)
    }

    /// Sends bytes as they are, below WebSocket framing.
    ///
    /// # Errors
    /// As [`Link::send`].
    pub fn write_raw(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        for piece in bytes.chunks(PIECE) {
            let written = self.stream.write_all(piece);
            written.map_err(|error| ClientError::from_io(error, crate::DEADLINE))?;
        }
        Ok(())
    }

    /// MQTT bytes that came and were not taken.
    pub fn received(&self) -> &[u8] {
        &self.inbox[self.taken..]
    }

    /// Takes `len` of the received bytes.
    pub fn take(&mut self, len: usize) -> &[u8] {
        let start = self.taken;
        self.taken += len;
        &self.inbox[start..self.taken]
    }

    /// Waits until more MQTT bytes have come.
    ///
    /// # Errors
    /// [`ClientError::Deadline`] at `until`, [`ClientError::Closed`] at the end.
    pub fn receive(&mut self, until: Instant) -> Result<(), ClientError> {
        let before = self.received().len();
        loop {
            if self.frames.as_ref().is_some_and(|frames| frames.closed) {
                return Err(ClientError::Closed);
            }
            self.read_once(until)?;
            if self.received().len() > before {
                return Ok(());
            }
        }
    }

    fn read_once(&mut self, until: Instant) -> Result<(), ClientError> {
        if self.taken > 0 {
            self.inbox.drain(..self.taken);
            self.taken = 0;
        }
        let wait = until.saturating_duration_since(Instant::now());
        // A read timeout of zero would be none at all.
        self.stream
            .socket()
            .set_read_timeout(Some(wait.max(Duration::from_micros(1))))
            .map_err(ClientError::Io)?;
        let len = self
            .stream
            .read(&mut self.scratch)
            .map_err(|error| ClientError::from_io(error, wait))?;
        let bytes = &self.scratch[..len];
        if bytes.is_empty() {
            return Err(ClientError::Closed);
        }
        if let Some(frames) = &mut self.frames {
            frames.raw.extend_from_slice(bytes);
            return self.unwrap_frames();
        }
        self.inbox.extend_from_slice(bytes);
        Ok(())
    }

    fn unwrap_frames(&mut self) -> Result<(), ClientError> {
        let mut pongs = Vec::new();
        let Some(frames) = &mut self.frames else {
            return Ok(());
        };
        let mut start = 0;
        while let Some(Incoming { opcode, payload }) =
            websocket::read_frame(&frames.raw[start..]).map_err(ClientError::Transport)?
        {
            let bytes = &frames.raw[start..][payload.clone()];
            match opcode {
                websocket::BINARY | websocket::CONTINUATION => self.inbox.extend_from_slice(bytes),
                websocket::PING => websocket::write_frame(true, websocket::PONG, bytes, &mut pongs),
                websocket::PONG => {}
                websocket::CLOSE => {
                    frames.closed = true;
                    frames.close_code = bytes
                        .first_chunk()
                        .map(|&bytes: &[u8; 2]| u16::from_be_bytes(bytes));
                }
                other => {
                    return Err(ClientError::Transport(format!(
                        "a frame with opcode {other}"
                    )));
                }
            }
            start += payload.end;
        }
        frames.raw.drain(..start);
        if !pongs.is_empty() {
            self.write_raw(&pongs)?;
        }
        Ok(())
    }

    /// Status code of the close frame, if one came.
    pub fn close_code(&self) -> Option<u16> {
        self.frames.as_ref()?.close_code
    }

    /// Tells the other side that no more will be sent.
    pub fn shut_write(&mut self) {
        self.stream.say_end();
        // An error means that the connection is gone, which is at least as much.
        let _ = self.stream.socket().shutdown(Shutdown::Write);
    }
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes
        .windows(needle.len())
        .position(|window| window == needle)
}
