//! The client's half of WebSocket (RFC 6455), as far as a load needs it: frames around packets on
//! the way out, and frames taken off on the way in, in place.
//!
//! Several packets may share a frame and one may be spread over several (MQTT 3.1.1 §6 [MQTT-6.0.0-4]).
//! The masking key is always 0: it guards proxies against hostile scripts, and here is neither; the
//! broker cannot tell and does the same work.

use super::wire::Malformed;

/// Bytes of packets in one frame at most, a size that every broker takes.
const LARGEST_FRAME: usize = 16 * 1024;

/// The upgrade request (§4.1) for MQTT at this path.
#[must_use]
pub fn upgrade_request(host: &str, path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGlkaW5ncyBiZW5jaCBrZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: mqtt\r\n\r\n"
    )
    .into_bytes()
}

/// The length of the answer to the upgrade, if it is whole.
///
/// # Errors
/// The first line of the answer, if it is a refusal.
pub fn upgrade_answer(input: &[u8]) -> Result<Option<usize>, String> {
    let Some(end) = input.windows(4).position(|w| w == b"\r\n\r\n") else {
        return Ok(None);
    };
    if input.starts_with(b"HTTP/1.1 101") {
        return Ok(Some(end + 4));
    }
    let text = String::from_utf8_lossy(input);
    Err(text.lines().next().unwrap_or_default().to_owned())
}

/// Appends `packets` in as few frames as are needed.
pub fn put_frames(out: &mut Vec<u8>, packets: &[u8]) {
    for chunk in packets.chunks(LARGEST_FRAME) {
        put_frame(out, BINARY, chunk);
    }
}

const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

fn put_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    let masked = 0x80;
    out.push(0x80 | opcode);
    match payload.len() {
        short @ 0..=125 => out.push(masked | short as u8),
        length @ 126..=0xffff => {
            let [high, low] = (length as u16).to_be_bytes();
            out.extend_from_slice(&[masked | 126, high, low]);
        }
        long => {
            out.push(masked | 127);
            out.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

/// Takes the frames off what a server sends, wherever reads cut it.
#[derive(Debug, Default)]
pub struct Unframer {
    /// Bytes of the current data frame that are still to come.
    remaining: u64,
    /// The beginning of a frame whose header (or, of a control frame, payload) is not whole yet.
    partial: Vec<u8>,
}

/// What a piece of input was, besides packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unframed {
    /// This many bytes of packets are at the beginning of the buffer.
    Packets(usize),
    /// The server closes; this many bytes of packets came before.
    Closed(usize),
}

impl Unframer {
    /// Moves bytes of an unfinished header to the beginning of `buffer`, and says how many: they
    /// belong before the next input.
    pub fn take_partial(&mut self, buffer: &mut [u8]) -> usize {
        let bytes = self.partial.len();
        if bytes > 0
            && let Some(place) = buffer.get_mut(..bytes)
        {
            place.copy_from_slice(&self.partial);
            self.partial.clear();
        }
        bytes
    }

    /// Moves the packets in `buffer` to its beginning. Answers to pings go to `out`.
    ///
    /// # Errors
    /// If the bytes are not the frames of a server.
    pub fn unframe(&mut self, buffer: &mut [u8], out: &mut Vec<u8>) -> Result<Unframed, Malformed> {
        let mut read = 0;
        let mut written = 0;
        while read < buffer.len() {
            if self.remaining > 0 {
                let here = usize::try_from(self.remaining).unwrap_or(usize::MAX);
                let here = here.min(buffer.len() - read);
                buffer.copy_within(read..read + here, written);
                read += here;
                written += here;
                self.remaining -= here as u64;
                continue;
            }
            let rest = buffer.get(read..).unwrap_or_default();
            let Some(header) = Header::read(rest)? else {
                self.partial.extend_from_slice(rest);
                break;
            };
            if header.opcode <= BINARY {
                self.remaining = header.payload;
                read += header.bytes;
                continue;
            }
            // Control frames have at most 125 bytes (§5.5), so they are taken whole.
            let end = header.bytes + usize::try_from(header.payload).unwrap_or(usize::MAX);
            let Some(payload) = rest.get(header.bytes..end) else {
                self.partial.extend_from_slice(rest);
                break;
            };
            match header.opcode {
                PING => put_frame(out, PONG, payload),
                CLOSE => return Ok(Unframed::Closed(written)),
                _ => {}
            }
            read += end;
        }
        Ok(Unframed::Packets(written))
    }
}

struct Header {
    opcode: u8,
    bytes: usize,
    payload: u64,
}

impl Header {
    #[inline]
    fn read(input: &[u8]) -> Result<Option<Self>, Malformed> {
        let &[first, second, ref rest @ ..] = input else {
            return Ok(None);
        };
        let opcode = first & 0x0f;
        if second & 0x80 != 0 {
            return Err(Malformed("a server must not mask its WebSocket frames"));
        }
        if first & 0x70 != 0 {
            return Err(Malformed(
                "a WebSocket frame with an extension that was not asked for",
            ));
        }
        let (bytes, payload) = match second {
            126 => match rest.first_chunk::<2>() {
                Some(length) => (4, u64::from(u16::from_be_bytes(*length))),
                None => return Ok(None),
            },
            127 => match rest.first_chunk::<8>() {
                Some(length) => (10, u64::from_be_bytes(*length)),
                None => return Ok(None),
            },
            short => (2, u64::from(short)),
        };
        if opcode >= CLOSE && payload > 125 {
            return Err(Malformed(
                "a WebSocket control frame of more than 125 bytes",
            ));
        }
        if opcode == 1 {
            return Err(Malformed("a WebSocket text frame"));
        }
        Ok(Some(Self {
            opcode,
            bytes,
            payload,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        put_frame(&mut frame, opcode, payload);
        let header = frame.len() - payload.len();
        frame[1] &= 0x7f;
        frame.drain(header - 4..header);
        frame
    }

    #[test]
    fn packets_come_out_whole_wherever_frames_and_reads_are_cut() {
        let wanted: Vec<u8> = (0..70_200_u32).map(|n| n as u8).collect();
        let mut stream = Vec::new();
        for part in [
            &wanted[..5],
            &wanted[5..5],
            &wanted[5..300],
            &wanted[300..70_000],
            &wanted[70_000..],
        ] {
            stream.extend(server_frame(BINARY, part));
            stream.extend(server_frame(PING, b"are you there"));
        }
        for step in [1, 2, 3, 7, 1_000, 65_536, stream.len()] {
            let mut unframer = Unframer::default();
            let (mut got, mut answers) = (Vec::new(), Vec::new());
            for piece in stream.chunks(step) {
                let mut buffer = [0; 200];
                let partial = unframer.take_partial(&mut buffer);
                let mut buffer = [&buffer[..partial], piece].concat();
                match unframer.unframe(&mut buffer, &mut answers) {
                    Ok(Unframed::Packets(n)) => got.extend_from_slice(&buffer[..n]),
                    other => panic!("{other:?} in steps of {step}"),
                }
            }
            assert!(got == wanted, "differs in steps of {step}");
            let mut pong = Vec::new();
            put_frame(&mut pong, PONG, b"are you there");
            assert_eq!(answers, pong.repeat(5));
        }
    }

    #[test]
    fn a_close_ends_it_after_the_packets_before() {
        let mut stream = server_frame(BINARY, b"abc");
        stream.extend(server_frame(CLOSE, &[3, 232]));
        let unframed = Unframer::default().unframe(&mut stream, &mut Vec::new());
        assert_eq!(unframed, Ok(Unframed::Closed(3)));
    }

    #[test]
    fn a_masked_or_compressed_or_text_frame_is_refused() {
        for bytes in [[0x82, 0x81], [0xc2, 0x01], [0x81, 0x01]] {
            let refused = Unframer::default().unframe(&mut bytes.to_vec(), &mut Vec::new());
            assert!(refused.is_err(), "{bytes:?} was taken");
        }
    }

    #[test]
    fn the_upgrade_is_over_when_its_answer_is_whole_and_says_101() {
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x20";
        assert_eq!(upgrade_answer(&answer[..20]), Ok(None));
        assert_eq!(upgrade_answer(answer), Ok(Some(answer.len() - 1)));
        let refused = upgrade_answer(b"HTTP/1.1 404 Not Found\r\n\r\n");
        assert_eq!(refused, Err("HTTP/1.1 404 Not Found".to_owned()));
    }

    #[test]
    fn client_frames_are_masked_and_no_longer_than_a_broker_takes() {
        let mut out = Vec::new();
        put_frames(&mut out, &[7; LARGEST_FRAME + 1]);
        assert_eq!(&out[..4], &[0x82, 0x80 | 126, 0x40, 0x00]);
        assert_eq!(&out[8 + LARGEST_FRAME..], &[0x82, 0x81, 0, 0, 0, 0, 7]);
    }
}
