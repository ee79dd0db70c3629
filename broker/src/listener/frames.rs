//! WebSocket frames (RFC 6455 §5) as a byte stream, server side: payloads are unmasked where they
//! were read, and a frame that is being written needs no copy of its payload.
//!
//! Invariants: nothing is collected, so that the size of frames and messages does not matter to
//! memory; frames come masked and complete rules of §5 hold, or the connection ends with the close
//! code that says why; at most one Pong waits to be written, the newest.
//! It does not know sockets, nor what the bytes mean.

/// Longest header of a frame: 2 bytes, 8 of length, 4 of mask.
const MAX_HEADER: usize = 14;
/// Longest payload of a control frame (§5.5).
const MAX_CONTROL: usize = 125;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// Close codes (RFC 6455 §7.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum CloseCode {
    /// The purpose is fulfilled.
    Normal = 1000,
    /// A rule of the WebSocket protocol was broken.
    ProtocolError = 1002,
    /// A kind of data that is not accepted: MQTT is binary [MQTT-6.0.0-1].
    UnsupportedData = 1003,
}

/// Why frames are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    #[error("a text frame: MQTT is binary")]
    Text,
    #[error("{0}")]
    Protocol(&'static str),
}

impl Violation {
    /// The close code that says it.
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::Text => CloseCode::UnsupportedData,
            Self::Protocol(_) => CloseCode::ProtocolError,
        }
    }
}

/// What the peer's control frames ask for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Control {
    /// Answer with a Pong of this payload.
    Ping(Vec<u8>),
    /// Answer with a Close and end.
    Close,
}

/// The frames of a client, cut anywhere.
#[derive(Debug, Default)]
pub(crate) struct FrameReader {
    header: [u8; MAX_HEADER],
    header_len: usize,
    /// The frame whose payload is being read.
    frame: Option<Frame>,
    /// A data message has begun and its last frame has not come.
    in_message: bool,
    /// Payload of the control frame that is being read.
    control: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    opcode: u8,
    fin: bool,
    left: u64,
    mask: [u8; 4],
}

impl FrameReader {
    /// Turns the frames in `bytes` into their data, at the front of `bytes`, and says how long it
    /// is. What control frames ask for goes to `controls`, in order; nothing after a Close counts.
    ///
    /// # Errors
    /// At the first byte that breaks a rule. Data before it in `bytes` is lost: the peer is broken.
    pub fn decode(
        &mut self,
        bytes: &mut [u8],
        controls: &mut Vec<Control>,
    ) -> Result<usize, Violation> {
        let (mut read, mut written) = (0, 0);
        loop {
            let Some(frame) = &mut self.frame else {
                let Some(&byte) = bytes.get(read) else { break };
                read += 1;
                self.header[self.header_len] = byte;
                self.header_len += 1;
                if let Some(frame) = self.parse_header()? {
                    self.header_len = 0;
                    self.frame = Some(frame);
                }
                continue;
            };
            let left = usize::try_from(frame.left).unwrap_or(usize::MAX);
            let len = left.min(bytes.len() - read);
            let payload = &mut bytes[read..read + len];
            frame.unmask(payload);
            frame.left -= len as u64;
            if is_control(frame.opcode) {
                self.control.extend_from_slice(payload);
            } else {
                bytes.copy_within(read..read + len, written);
                written += len;
            }
            read += len;
            if frame.left > 0 {
                break;
            }
            let (opcode, fin) = (frame.opcode, frame.fin);
            self.frame = None;
            match opcode {
                PING => controls.push(Control::Ping(std::mem::take(&mut self.control))),
                PONG => self.control.clear(),
                CLOSE => {
                    check_close(&self.control)?;
                    controls.push(Control::Close);
                    break;
                }
                _ => self.in_message = !fin,
            }
        }
        Ok(written)
    }

    /// The frame whose header is complete; each rule is checked as soon as its byte is there.
    fn parse_header(&self) -> Result<Option<Frame>, Violation> {
        let header = &self.header[..self.header_len];
        let &[first, ref rest @ ..] = header else {
            return Ok(None);
        };
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0F);
        if first & 0x70 != 0 {
            return Err(Violation::Protocol("reserved bits without an extension"));
        }
        match opcode {
            TEXT => return Err(Violation::Text),
            CONTINUATION if !self.in_message => {
                return Err(Violation::Protocol("a continuation of nothing"));
            }
            BINARY if self.in_message => {
                return Err(Violation::Protocol("a new message inside of another"));
            }
            CLOSE | PING | PONG if !fin => {
                return Err(Violation::Protocol("a control frame in parts"));
            }
            CONTINUATION | BINARY | CLOSE | PING | PONG => {}
            _ => return Err(Violation::Protocol("a reserved opcode")),
        }
        let &[second, ref rest @ ..] = rest else {
            return Ok(None);
        };
        if second & 0x80 == 0 {
            return Err(Violation::Protocol("a frame without a mask"));
        }
        let (left, mask) = match (second & 0x7F, rest) {
            (126 | 127, _) if is_control(opcode) => {
                return Err(Violation::Protocol(
                    "a control frame of more than 125 bytes",
                ));
            }
            (126, &[a, b, ref mask @ ..]) => {
                let len = u16::from_be_bytes([a, b]);
                if usize::from(len) <= MAX_CONTROL {
                    return Err(Violation::Protocol("a length that is not minimal"));
                }
                (u64::from(len), mask)
            }
            (127, &[a, b, c, d, e, f, g, h, ref mask @ ..]) => {
                let len = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
                if len <= u64::from(u16::MAX) || len >> 63 != 0 {
                    return Err(Violation::Protocol("a length that is not minimal"));
                }
                (len, mask)
            }
            (126 | 127, _) => return Ok(None),
            (len, mask) => (u64::from(len), mask),
        };
        let &[a, b, c, d] = mask else { return Ok(None) };
        Ok(Some(Frame {
            opcode,
            fin,
            left,
            mask: [a, b, c, d],
        }))
    }
}

impl Frame {
    /// Unmasks the next bytes of the payload (§5.3) and turns the mask on for those after them.
    fn unmask(&mut self, payload: &mut [u8]) {
        let (words, rest) = payload.as_chunks_mut::<4>();
        let mask = u32::from_ne_bytes(self.mask);
        for word in words {
            *word = (u32::from_ne_bytes(*word) ^ mask).to_ne_bytes();
        }
        for (byte, mask) in rest.iter_mut().zip(self.mask) {
            *byte ^= mask;
        }
        self.mask.rotate_left(rest.len());
    }
}

const fn is_control(opcode: u8) -> bool {
    opcode & 0x8 != 0
}

/// The payload of a Close: nothing, or a code that may be sent and a reason in UTF-8 (§5.5.1, §7.4).
fn check_close(payload: &[u8]) -> Result<(), Violation> {
    match payload {
        [] => Ok(()),
        [a, b, reason @ ..] => {
            let code = u16::from_be_bytes([*a, *b]);
            let may_be_sent = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
            if may_be_sent && std::str::from_utf8(reason).is_ok() {
                Ok(())
            } else {
                Err(Violation::Protocol(
                    "a close code or reason that must not be sent",
                ))
            }
        }
        _ => Err(Violation::Protocol("half a close code")),
    }
}

/// The header of an unmasked binary frame, whole, with `len` bytes of payload.
pub(crate) fn binary_header(len: usize) -> ([u8; 10], usize) {
    let mut header = [0; 10];
    header[0] = 0x80 | BINARY;
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

    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [0x11, 0x22, 0x33, 0x44];
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
        frame.extend(
            payload
                .iter()
                .zip(mask.iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
        frame
    }

    fn decode_in_pieces(bytes: &[u8], piece: usize) -> Result<(Vec<u8>, Vec<Control>), Violation> {
        let mut reader = FrameReader::default();
        let (mut data, mut controls) = (Vec::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            let mut piece = piece.to_vec();
            let len = reader.decode(&mut piece, &mut controls)?;
            data.extend_from_slice(&piece[..len]);
        }
        Ok((data, controls))
    }

    #[test]
    fn frames_cut_anywhere_give_their_data_in_order() {
        let long: Vec<u8> = (0..70_000_u32).map(|n| n as u8).collect();
        let mut bytes = masked(0x02, b"be");
        bytes.extend(masked(0x89, b"are you there"));
        bytes.extend(masked(0x00, b""));
        bytes.extend(masked(0x80, &long[..300]));
        bytes.extend(masked(0x8A, b"unasked"));
        bytes.extend(masked(0x82, &long));
        bytes.extend(masked(0x88, &[0x03, 0xE8, b'b', b'y', b'e']));
        let mut expected = b"be".to_vec();
        expected.extend_from_slice(&long[..300]);
        expected.extend_from_slice(&long);
        for piece in [1, 2, 3, 7, 64, 4096, usize::MAX] {
            let (data, controls) = decode_in_pieces(&bytes, piece).unwrap();
            assert!(data == expected, "in pieces of {piece}");
            assert_eq!(
                controls,
                [Control::Ping(b"are you there".to_vec()), Control::Close]
            );
        }
    }

    #[test]
    fn what_breaks_a_rule_is_refused() {
        let mut unmasked = masked(0x82, b"x");
        unmasked[1] &= 0x7F;
        let cases: &[(&str, Vec<u8>, CloseCode)] = &[
            ("text", masked(0x81, b"hello"), CloseCode::UnsupportedData),
            ("no mask", unmasked, CloseCode::ProtocolError),
            ("reserved bit", masked(0xC2, b"x"), CloseCode::ProtocolError),
            (
                "reserved opcode",
                masked(0x83, b"x"),
                CloseCode::ProtocolError,
            ),
            (
                "reserved control",
                masked(0x8B, b"x"),
                CloseCode::ProtocolError,
            ),
            (
                "continuation of nothing",
                masked(0x80, b"x"),
                CloseCode::ProtocolError,
            ),
            (
                "ping in parts",
                masked(0x09, b"x"),
                CloseCode::ProtocolError,
            ),
            (
                "long ping",
                masked(0x89, &[0; 126]),
                CloseCode::ProtocolError,
            ),
            (
                "half a close code",
                masked(0x88, &[3]),
                CloseCode::ProtocolError,
            ),
            (
                "close code 1005",
                masked(0x88, &[3, 0xED]),
                CloseCode::ProtocolError,
            ),
            (
                "reason not UTF-8",
                masked(0x88, &[3, 0xE8, 0xFF]),
                CloseCode::ProtocolError,
            ),
            (
                "16 bits for 5",
                vec![0x82, 0xFE, 0, 5],
                CloseCode::ProtocolError,
            ),
            (
                "64 bits for 5",
                vec![0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0, 5],
                CloseCode::ProtocolError,
            ),
            (
                "a message inside of another",
                [masked(0x02, b"x"), masked(0x82, b"y")].concat(),
                CloseCode::ProtocolError,
            ),
        ];
        for (name, bytes, code) in cases {
            let refused = decode_in_pieces(bytes, 1).unwrap_err();
            assert_eq!(refused.close_code(), *code, "{name}: {refused}");
        }
    }

    #[test]
    fn headers_of_written_frames_have_the_shortest_length() {
        assert_eq!(binary_header(125), ([0x82, 125, 0, 0, 0, 0, 0, 0, 0, 0], 2));
        assert_eq!(
            binary_header(126),
            ([0x82, 126, 0, 126, 0, 0, 0, 0, 0, 0], 4)
        );
        assert_eq!(
            binary_header(65_536),
            ([0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0], 10)
        );
    }
}
