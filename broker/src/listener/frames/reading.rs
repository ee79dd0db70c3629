//! The frames of a client (RFC 6455 §5), cut anywhere, as data and what control frames ask for: payloads are
//! unmasked where they were read.
//!
//! Invariants: of a stream nothing is collected, so that the size of frames and messages does not
//! matter to memory; what has to be whole (a compressed message, a text) is collected up to a limit,
//! and refused as soon as a header announces more; frames come masked and complete rules of §5 hold,
//! or the connection ends with the close code that says why.
//! It does not know how messages are compressed, nor what the bytes mean.

use super::{
    BINARY, CLOSE, CONTINUATION, MAX_CONTROL, PING, PONG, RSV1, TEXT, Violation, is_control,
};

/// Longest header of a frame: 2 bytes, 8 of length, 4 of mask.
const MAX_HEADER: usize = 14;

/// What the peer's control frames ask for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Control {
    /// Answer with a Pong of this payload.
    Ping(Vec<u8>),
    /// Answer with a Close and end.
    Close,
}

/// What messages are, to whoever reads them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Carries {
    /// Binary messages, whose borders mean nothing.
    #[default]
    Stream,
    /// Texts, each whole.
    Texts,
}

/// The frames of a client, cut anywhere.
#[derive(Debug, Default)]
pub(crate) struct FrameReader {
    header: [u8; MAX_HEADER],
    header_len: usize,
    carries: Carries,
    /// The frame whose payload is being read.
    frame: Option<Frame>,
    /// A data message has begun and its last frame has not come.
    in_message: bool,
    /// Payload of the control frame that is being read.
    control: Vec<u8>,
    /// Where messages become whole; `None`: none has to, and none may be compressed.
    collector: Option<Box<Collector>>,
}

#[derive(Debug)]
struct Collector {
    /// The extension was agreed on.
    may_be_compressed: bool,
    limit: usize,
    /// The message that is being read is collected.
    is_open: bool,
    is_compressed: bool,
    bytes: Vec<u8>,
}

/// What was decoded.
#[derive(Debug, Default)]
pub(crate) struct Decoded {
    /// Bytes of data, now at the front.
    pub data: usize,
    /// Bytes that were looked at: all, unless a whole message ends before.
    pub read: usize,
    /// A message that had to be whole. It comes after the data.
    pub whole: Option<Whole>,
}

/// A message that was collected.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Whole {
    pub bytes: Vec<u8>,
    pub is_compressed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    opcode: u8,
    fin: bool,
    is_compressed: bool,
    left: u64,
    mask: [u8; 4],
}

impl FrameReader {
    /// Reads what is carried, with compressed messages if that was agreed on. Messages that have to
    /// be whole have at most `limit` bytes.
    pub fn new(carries: Carries, may_be_compressed: bool, limit: usize) -> Self {
        let collects = may_be_compressed || carries == Carries::Texts;
        Self {
            carries,
            collector: collects.then(|| {
                Box::new(Collector {
                    may_be_compressed,
                    limit,
                    is_open: false,
                    is_compressed: false,
                    bytes: Vec::new(),
                })
            }),
            ..Self::default()
        }
    }

    /// From here on messages may have so many bytes.
    pub fn set_limit(&mut self, limit: usize) {
        if let Some(collector) = &mut self.collector {
            collector.limit = limit;
        }
    }

    /// Turns the frames in `bytes` into their data, at the front of `bytes`. It stops after a message
    /// that had to be whole; what comes after that is as it was. What control frames ask for goes to
    /// `controls`, in order, of Pings in a row only the last; nothing after a Close counts.
    ///
    /// # Errors
    /// At the first byte that breaks a rule. Data before it in `bytes` is lost: the peer is broken.
    pub fn decode(
        &mut self,
        bytes: &mut [u8],
        controls: &mut Vec<Control>,
    ) -> Result<Decoded, Violation> {
        let (mut read, mut written) = (0, 0);
        let mut whole = None;
        loop {
            let Some(frame) = &mut self.frame else {
                let Some(&byte) = bytes.get(read) else { break };
                read += 1;
                self.header[self.header_len] = byte;
                self.header_len += 1;
                if let Some(frame) = self.parse_header()? {
                    self.header_len = 0;
                    self.begin(frame)?;
                    self.frame = Some(frame);
                }
                continue;
            };
            let left = usize::try_from(frame.left).unwrap_or(usize::MAX);
            let len = left.min(bytes.len() - read);
            let payload = &mut bytes[read..read + len];
            frame.unmask(payload);
            frame.left -= len as u64;
            let (opcode, fin, is_over) = (frame.opcode, frame.fin, frame.left == 0);
            if is_control(opcode) {
                self.control.extend_from_slice(payload);
            } else if let Some(collector) = self.collector.as_mut().filter(|one| one.is_open) {
                collector.bytes.extend_from_slice(payload);
            } else {
                bytes.copy_within(read..read + len, written);
                written += len;
            }
            read += len;
            if !is_over {
                break;
            }
            self.frame = None;
            match opcode {
                PING => {
                    let payload = std::mem::take(&mut self.control);
                    match controls.last_mut() {
                        Some(Control::Ping(last)) => *last = payload,
                        _ => controls.push(Control::Ping(payload)),
                    }
                }
                PONG => self.control.clear(),
                CLOSE => {
                    check_close(&self.control)?;
                    controls.push(Control::Close);
                    break;
                }
                _ => {
                    self.in_message = !fin;
                    whole = self.finished();
                    if whole.is_some() {
                        break;
                    }
                }
            }
        }
        Ok(Decoded {
            data: written,
            read,
            whole,
        })
    }

    /// A frame begins: whether its message is collected, and whether it may be that long.
    fn begin(&mut self, frame: Frame) -> Result<(), Violation> {
        let Some(collector) = &mut self.collector else {
            return Ok(());
        };
        if is_control(frame.opcode) {
            return Ok(());
        }
        if frame.opcode != CONTINUATION {
            collector.is_compressed = frame.is_compressed;
            collector.is_open = frame.is_compressed || self.carries == Carries::Texts;
        }
        let room = collector.limit.saturating_sub(collector.bytes.len());
        if collector.is_open && frame.left > room as u64 {
            return Err(Violation::TooBig(collector.limit));
        }
        Ok(())
    }

    /// The collected message, if its last frame has come.
    fn finished(&mut self) -> Option<Whole> {
        let collector = self.collector.as_mut()?;
        let is_finished = collector.is_open && !self.in_message;
        is_finished.then(|| {
            collector.is_open = false;
            Whole {
                bytes: std::mem::take(&mut collector.bytes),
                is_compressed: collector.is_compressed,
            }
        })
    }

    /// The frame whose header is complete; each rule is checked as soon as its byte is there.
    fn parse_header(&self) -> Result<Option<Frame>, Violation> {
        let header = &self.header[..self.header_len];
        let &[first, ref rest @ ..] = header else {
            return Ok(None);
        };
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0F);
        let is_compressed = first & RSV1 != 0;
        let may_be_compressed = || {
            let collector = self.collector.as_ref();
            collector.is_some_and(|collector| collector.may_be_compressed)
        };
        if first & 0x30 != 0 || (is_compressed && !may_be_compressed()) {
            return Err(Violation::Protocol("reserved bits without an extension"));
        }
        if is_compressed && !matches!(opcode, TEXT | BINARY) {
            // RFC 7692 §6.1: only the first frame of a message has it, and no control frame.
            return Err(Violation::Protocol(
                "a compressed frame inside of a message",
            ));
        }
        match (opcode, self.carries) {
            (TEXT, Carries::Stream) => {
                return Err(Violation::Unsupported("a text frame: MQTT is binary"));
            }
            (BINARY, Carries::Texts) => {
                return Err(Violation::Unsupported(
                    "a binary frame: text is spoken here",
                ));
            }
            (CONTINUATION, _) if !self.in_message => {
                return Err(Violation::Protocol("a continuation of nothing"));
            }
            (BINARY | TEXT, _) if self.in_message => {
                return Err(Violation::Protocol("a new message inside of another"));
            }
            (CLOSE | PING | PONG, _) if !fin => {
                return Err(Violation::Protocol("a control frame in parts"));
            }
            (CONTINUATION | BINARY | TEXT | CLOSE | PING | PONG, _) => {}
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
            is_compressed,
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

#[cfg(test)]
mod tests {
    use super::super::CloseCode;
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
            let len = reader.decode(&mut piece, &mut controls)?.data;
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

    /// What a reader makes of bytes in pieces: data, and whole messages in their places.
    fn decode_all(
        mut reader: FrameReader,
        bytes: &[u8],
        piece: usize,
    ) -> Result<Vec<(Vec<u8>, bool)>, Violation> {
        let (mut found, mut controls) = (Vec::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            let mut piece = piece.to_vec();
            while !piece.is_empty() {
                let decoded = reader.decode(&mut piece, &mut controls)?;
                if decoded.data > 0 {
                    found.push((piece[..decoded.data].to_vec(), false));
                }
                if let Some(whole) = decoded.whole {
                    found.push((whole.bytes, whole.is_compressed));
                }
                piece.drain(..decoded.read);
            }
        }
        Ok(found)
    }

    #[test]
    fn compressed_messages_are_collected_and_others_stream_past_them() {
        let mut bytes = masked(0x82, b"plain");
        bytes.extend(masked(0x42, b"squee"));
        bytes.extend(masked(0x89, b"ping"));
        bytes.extend(masked(0x00, b""));
        bytes.extend(masked(0x80, b"zed"));
        bytes.extend(masked(0xC2, b""));
        bytes.extend(masked(0x82, b"again"));
        for piece in [1, 2, 5, 11, usize::MAX] {
            let reader = FrameReader::new(Carries::Stream, true, 8);
            let found = decode_all(reader, &bytes, piece).unwrap();
            let whole: Vec<_> = found.iter().filter(|(_, compressed)| *compressed).collect();
            let [first, second] = whole[..] else {
                panic!("{found:?}");
            };
            assert_eq!((&*first.0, &*second.0), (&b"squeezed"[..], &b""[..]));
            let plain: Vec<u8> = found
                .iter()
                .filter(|(_, compressed)| !compressed)
                .flat_map(|(bytes, _)| bytes.clone())
                .collect();
            assert_eq!(plain, b"plainagain", "in pieces of {piece}");
        }
    }

    #[test]
    fn texts_are_whole_and_nothing_else_is_taken() {
        let texts = |compressed| FrameReader::new(Carries::Texts, compressed, 5);
        let bytes = [masked(0x01, b"he"), masked(0x80, b"llo"), masked(0x81, b"")].concat();
        for piece in [1, 3, usize::MAX] {
            let found = decode_all(texts(false), &bytes, piece).unwrap();
            assert_eq!(found, [(b"hello".to_vec(), false), (Vec::new(), false)]);
        }
        let refused = |bytes: &[u8]| decode_all(texts(false), bytes, 1).unwrap_err();
        assert_eq!(
            refused(&masked(0x82, b"x")).close_code(),
            CloseCode::UnsupportedData
        );
        assert_eq!(
            refused(&masked(0xC1, b"x")).close_code(),
            CloseCode::ProtocolError
        );
        let both = decode_all(texts(true), &masked(0xC1, b"x"), 1).unwrap();
        assert_eq!(both, [(b"x".to_vec(), true)]);
    }

    #[test]
    fn what_has_to_be_whole_is_refused_when_its_header_announces_too_much() {
        let reader = || FrameReader::new(Carries::Stream, true, 1000);
        // 2^62 bytes are announced, and none of them sent.
        let mut huge = vec![0xC2, 0xFF, 0x40];
        huge.extend([0; 7 + 4]);
        let cases = [
            huge,
            masked(0xC2, &[0; 1001]),
            [masked(0x42, &[0; 600]), masked(0x00, &[0; 401])].concat(),
        ];
        for bytes in cases {
            let refused = decode_all(reader(), &bytes, 7).unwrap_err();
            assert_eq!(refused, Violation::TooBig(1000));
            assert_eq!(refused.close_code(), CloseCode::TooBig);
        }
    }

    #[test]
    fn rfc_7692_6_1_only_the_first_frame_of_a_data_message_says_that_it_is_compressed() {
        for bytes in [
            // Without the extension; a continuation; control frames; the other reserved bits.
            [masked(0x42, b"x"), masked(0xC0, b"y")].concat(),
            [masked(0x02, b"x"), masked(0xC0, b"y")].concat(),
            masked(0xC8, b""),
            masked(0xC9, b""),
            masked(0xCA, b""),
            masked(0xA2, b"x"),
            masked(0x92, b"x"),
            masked(0xE2, b"x"),
        ] {
            let reader = FrameReader::new(Carries::Stream, true, 100);
            let refused = decode_all(reader, &bytes, 1).unwrap_err();
            assert_eq!(refused.close_code(), CloseCode::ProtocolError, "{refused}");
        }
    }

    #[test]
    fn endless_fragments_of_nothing_collect_nothing() {
        let mut reader = FrameReader::new(Carries::Stream, true, 100);
        let mut controls = Vec::new();
        let mut first = masked(0x42, b"x");
        reader.decode(&mut first, &mut controls).unwrap();
        for _ in 0..10_000 {
            let mut empty = masked(0x00, b"");
            let decoded = reader.decode(&mut empty, &mut controls).unwrap();
            assert!(decoded.whole.is_none());
        }
        let collector = reader.collector.as_ref().unwrap();
        assert!(collector.bytes.capacity() <= 64);
        let mut pings = masked(0x89, b"1").repeat(1000);
        reader.decode(&mut pings, &mut controls).unwrap();
        assert_eq!(controls, [Control::Ping(b"1".to_vec())]);
    }
}
