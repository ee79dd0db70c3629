//! A WebSocket client that may do anything: frames of bare bytes, compressed or not.

use std::io::{Read, Write};
use std::net::TcpStream;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use tidings_broker::listener::Kind;
use tidings_core::codec::{self, Packet, Version};

use crate::peer::{DEADLINE, TestBroker};

pub const DEFLATE: &str =
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";

/// What ends each compressed message, and is not sent (RFC 7692 §7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xFF, 0xFF];

pub struct Framed {
    socket: TcpStream,
    /// The answer to the request.
    pub head: String,
    raw: Vec<u8>,
    /// What came in binary messages, and was not looked at.
    data: Vec<u8>,
    /// Messages that came, and those that were compressed.
    pub messages: usize,
    pub compressed: usize,
    /// Bytes of payload that came over the wire.
    pub payload_bytes: usize,
    pub close_code: Option<u16>,
}

impl Framed {
    /// A WebSocket for MQTT; `headers` are whole lines.
    #[track_caller]
    pub fn open(broker: &TestBroker, headers: &str) -> Self {
        let headers = format!("Sec-WebSocket-Protocol: mqtt\r\n{headers}");
        let framed = Self::ask(broker, "/mqtt", &headers);
        assert!(framed.head.starts_with("HTTP/1.1 101 "), "{}", framed.head);
        framed
    }

    /// Asks for a WebSocket at any path, and takes whatever is answered.
    #[track_caller]
    pub fn ask(broker: &TestBroker, path: &str, headers: &str) -> Self {
        let address = broker.address(Kind::WebSocket);
        let mut socket = TcpStream::connect(address).expect("a connection");
        socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        socket.set_write_timeout(Some(DEADLINE)).expect("a timeout");
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
        );
        socket.write_all(request.as_bytes()).expect("it reads");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            match socket.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => break,
            }
        }
        Self {
            socket,
            head: String::from_utf8_lossy(&head).into_owned(),
            raw: Vec::new(),
            data: Vec::new(),
            messages: 0,
            compressed: 0,
            payload_bytes: 0,
            close_code: None,
        }
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).expect("it reads");
    }

    /// As long as the broker takes it.
    pub fn try_send_raw(&mut self, bytes: &[u8]) -> bool {
        self.socket.write_all(bytes).is_ok()
    }

    /// A masked frame with this first byte.
    pub fn send(&mut self, first: u8, payload: &[u8]) {
        self.send_raw(&frame(first, payload));
    }

    /// The next frame: its first byte, and its payload; `None` at the end.
    pub fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let head = self.take(2)?;
        let len = match head[1] {
            126 => u64::from(u16::from_be_bytes(self.take(2)?.try_into().unwrap())),
            127 => u64::from_be_bytes(self.take(8)?.try_into().unwrap()),
            len => u64::from(len),
        };
        let payload = self.take(usize::try_from(len).unwrap())?;
        self.payload_bytes += payload.len();
        Some((head[0], payload))
    }

    fn take(&mut self, len: usize) -> Option<Vec<u8>> {
        while self.raw.len() < len {
            let mut more = [0; 16 * 1024];
            match self.socket.read(&mut more) {
                Ok(0) => return None,
                Ok(len) => self.raw.extend_from_slice(&more[..len]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("nothing came in time: {error}"),
            }
        }
        Some(self.raw.drain(..len).collect())
    }

    /// The next MQTT packet; `None` at the end, whose close code is then known.
    pub fn packet<T>(&mut self, see: impl FnOnce(&Packet<'_>) -> T) -> Option<T> {
        loop {
            let decoded = codec::decode(Some(Version::V5), &self.data, usize::MAX);
            if let Some((packet, len)) = decoded.expect("a packet") {
                let seen = see(&packet);
                self.data.drain(..len);
                return Some(seen);
            }
            let (first, payload) = self.frame()?;
            match first {
                0x82 => self.data.extend_from_slice(&payload),
                0xC2 => {
                    self.compressed += 1;
                    self.data.extend_from_slice(&inflated(&payload));
                }
                0x88 => {
                    let code = payload.get(..2).and_then(|code| code.try_into().ok());
                    self.close_code = code.map(u16::from_be_bytes);
                    return None;
                }
                0x89 | 0x8A => continue,
                other => panic!("a frame that begins with {other:02x}"),
            }
            self.messages += 1;
        }
    }

    /// Reads to the end, and gives the close code.
    pub fn end(&mut self) -> Option<u16> {
        while self.packet(|_| ()).is_some() {}
        self.close_code
    }
}

/// A masked frame with this first byte.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0xA1, 0xB2, 0xC3, 0xD4];
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..=125 => frame.push(0x80 | len as u8),
        len @ 126..=0xFFFF => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&mask);
    let masked = payload.iter().zip(mask.iter().cycle());
    frame.extend(masked.map(|(byte, mask)| byte ^ mask));
    frame
}

/// As a client compresses.
pub fn deflated(message: &[u8]) -> Vec<u8> {
    let mut compress = Compress::new(Compression::best(), false);
    let mut out = Vec::with_capacity(message.len() + 1024);
    compress
        .compress_vec(message, &mut out, FlushCompress::Sync)
        .unwrap();
    assert!(out.ends_with(&TAIL));
    out.truncate(out.len() - TAIL.len());
    out
}

fn inflated(message: &[u8]) -> Vec<u8> {
    let mut decompress = Decompress::new(false);
    let mut out = Vec::with_capacity(message.len() * 50 + 1024);
    let whole = [message, &TAIL].concat();
    decompress
        .decompress_vec(&whole, &mut out, FlushDecompress::Sync)
        .unwrap();
    assert_eq!(decompress.total_in(), whole.len() as u64);
    out
}
