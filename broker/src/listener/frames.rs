//! WebSocket frames (RFC 6455 §5), server side: what there is, how it is written, and which close code says
//! what was wrong; how they are read is in [`reading`].
//!
//! Invariant: a data frame that is being written needs no copy of its payload: only its header is made here.
//! It does not know sockets, how messages are compressed, nor what the bytes mean.

mod reading;

pub(crate) use reading::{Carries, Control, FrameReader, Whole};

/// Longest payload of a control frame (§5.5).
const MAX_CONTROL: usize = 125;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// Bit of a frame that begins a compressed message (RFC 7692 §6).
const RSV1: u8 = 0x40;

/// Close codes (RFC 6455 §7.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum CloseCode {
    /// The purpose is fulfilled.
    Normal = 1000,
    /// The server stops.
    GoingAway = 1001,
    /// A rule of the WebSocket protocol was broken.
    ProtocolError = 1002,
    /// A kind of data that is not accepted: MQTT is binary [MQTT-6.0.0-1].
    UnsupportedData = 1003,
    /// Data that is not what it says: no UTF-8 in a text, nothing that can be decompressed.
    InvalidData = 1007,
    /// A rule of the server: not allowed, or not any more.
    Policy = 1008,
    /// More than is taken.
    TooBig = 1009,
    /// Something is wrong with the server.
    InternalError = 1011,
    /// Too much at once; later it may be possible (registered with IANA).
    TryAgainLater = 1013,
}

/// Why frames are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    #[error("{0}")]
    Unsupported(&'static str),
    #[error("{0}")]
    Protocol(&'static str),
    #[error("{0}")]
    InvalidData(&'static str),
    #[error("a message of more than {0} bytes")]
    TooBig(usize),
}

impl Violation {
    /// The close code that says it.
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::Unsupported(_) => CloseCode::UnsupportedData,
            Self::Protocol(_) => CloseCode::ProtocolError,
            Self::InvalidData(_) => CloseCode::InvalidData,
            Self::TooBig(_) => CloseCode::TooBig,
        }
    }
}

const fn is_control(opcode: u8) -> bool {
    opcode & 0x8 != 0
}

/// What a message that is written is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    Binary,
    CompressedBinary,
    Text,
    CompressedText,
}

/// The header of an unmasked data frame, whole, with `len` bytes of payload.
pub(crate) fn data_header(data: Data, len: usize) -> ([u8; 10], usize) {
    let mut header = [0; 10];
    header[0] = 0x80
        | match data {
            Data::Binary => BINARY,
            Data::CompressedBinary => RSV1 | BINARY,
            Data::Text => TEXT,
            Data::CompressedText => RSV1 | TEXT,
        };
    let used = if len <= MAX_CONTROL {
        header[1] = len as u8;
        2
    } else if let Ok(len) = u16::try_from(len) {
        header[1] = 126;
        header[2..4].copy_from_slice(&len.to_be_bytes());
        4
    } else {
        header[1] = 127;
        header[2..10].copy_from_slice(&(len as u64).to_be_bytes());
        10
    };
    (header, used)
}

/// A Ping without payload: any answer will do.
pub(crate) fn ping() -> Vec<u8> {
    control(PING, &[])
}

/// A Pong with the payload of a Ping.
pub(crate) fn pong(payload: &[u8]) -> Vec<u8> {
    control(PONG, payload)
}

/// A Close frame.
pub(crate) fn close(code: CloseCode) -> Vec<u8> {
    control(CLOSE, &(code as u16).to_be_bytes())
}

fn control(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let payload = &payload[..payload.len().min(MAX_CONTROL)];
    let mut frame = vec![0x80 | opcode, payload.len() as u8];
    frame.extend_from_slice(payload);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_written_frames_have_the_shortest_length() {
        let binary_header = |len| data_header(Data::Binary, len);
        assert_eq!(binary_header(125), ([0x82, 125, 0, 0, 0, 0, 0, 0, 0, 0], 2));
        assert_eq!(
            binary_header(126),
            ([0x82, 126, 0, 126, 0, 0, 0, 0, 0, 0], 4)
        );
        assert_eq!(
            binary_header(65_536),
            ([0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0], 10)
        );
        assert_eq!(data_header(Data::CompressedText, 1).0[..2], [0xC1, 1]);
    }
}
