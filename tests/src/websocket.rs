//! The client's side of RFC 6455, as little as a test needs, and without its protections: a fixed
//! key and a fixed mask, so that what is on the wire is the same in every run.
//!
//! It does not know MQTT: it turns frames into one stream of bytes.

/// The example of RFC 6455 §1.3; a fixed key has a fixed answer.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Opcode of a continuation frame.
pub const CONTINUATION: u8 = 0x0;
/// Opcode of a text frame.
pub const TEXT: u8 = 0x1;
/// Opcode of a binary frame.
pub const BINARY: u8 = 0x2;
/// Opcode of a close frame.
pub const CLOSE: u8 = 0x8;
/// Opcode of a ping frame.
pub const PING: u8 = 0x9;
/// Opcode of a pong frame.
pub const PONG: u8 = 0xA;

/// The request that opens the connection; no `Sec-WebSocket-Protocol` if `subprotocol` is `None`.
pub fn request(host: &str, path: &str, subprotocol: Option<&str>) -> String {
    let subprotocol = subprotocol
        .map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n"))
        .unwrap_or_default();
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{subprotocol}\r\n"
    )
}

/// Says what is wrong with the answer to [`request`], if anything is.
///
/// # Errors
/// A sentence, if the answer does not open a connection for MQTT.
pub fn check_answer(head: &str) -> Result<(), String> {
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    if !status.starts_with("HTTP/1.1 101 ") {
        return Err(format!("not upgraded: {head:?}"));
    }
    let header = |name: &str| {
        head.split("\r\n").skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    };
    if header("Sec-WebSocket-Accept") != Some(ACCEPT) {
        return Err(format!("wrong Sec-WebSocket-Accept: {head:?}"));
    }
    // [MQTT-6.0.0-4]
    if header("Sec-WebSocket-Protocol") != Some("mqtt") {
        return Err(format!("wrong subprotocol: {head:?}"));
    }
    Ok(())
}

/// Appends one masked frame to `out`.
pub fn write_frame(fin: bool, opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.push(u8::from(fin) << 7 | opcode);
    match payload.len() {
        len @ 0..126 => out.push(0x80 | len as u8),
        len @ 126..0x1_0000 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    out.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
}

/// One frame that came from the server.
#[derive(Debug, PartialEq, Eq)]
pub struct Incoming {
    /// Its opcode.
    pub opcode: u8,
    /// Where its payload lies in the buffer.
    pub payload: std::ops::Range<usize>,
}

/// Reads the frame at the start of `buf`; `None`: more bytes are needed.
///
/// # Errors
/// A sentence, for frames that a server must not send.
pub fn read_frame(buf: &[u8]) -> Result<Option<Incoming>, String> {
    let (Some(&first), Some(&second)) = (buf.first(), buf.get(1)) else {
        return Ok(None);
    };
    if first & 0x70 != 0 {
        return Err("reserved bits are set".into());
    }
    if second & 0x80 != 0 {
        return Err("a server must not mask".into());
    }
    let (header, len) = match second {
        126 => {
            let Some(bytes) = buf.get(2..4) else {
                return Ok(None);
            };
            (
                4,
                bytes
                    .iter()
                    .fold(0, |len, &byte| len << 8 | u64::from(byte)),
            )
        }
        127 => {
            let Some(bytes) = buf.get(2..10) else {
                return Ok(None);
            };
            (
                10,
                bytes
                    .iter()
                    .fold(0, |len, &byte| len << 8 | u64::from(byte)),
            )
        }
        len => (2, u64::from(len)),
    };
    let end = usize::try_from(len)
        .ok()
        .and_then(|len| len.checked_add(header))
        .ok_or("a frame of absurd length")?;
    Ok((buf.len() >= end).then_some(Incoming {
        opcode: first & 0x0F,
        payload: header..end,
    }))
}
