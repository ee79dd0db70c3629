//! The data types of §1.5, read from a borrowed body and appended to an output.
//!
//! Invariants: reading never goes past the body it was given and never panics; what is written
//! is always well-formed, so a text or binary longer than its length field can say is cut.
//! It does not know packets.

use super::{DecodeError, Most};

/// The largest Variable Byte Integer (§1.5.5), so also the largest Remaining Length.
pub(super) const MAX_VARINT: usize = 268_435_455;

/// The largest length of a UTF-8 string or Binary Data: its length field has two bytes (§1.5.4).
const MAX_SHORT: usize = u16::MAX as usize;

/// A Variable Byte Integer as found.
pub(super) struct VarInt {
    pub(super) value: u32,
    /// Bytes it took, 1 to 4.
    pub(super) len: usize,
    /// Whether fewer bytes could not have said the same.
    pub(super) minimal: bool,
}

/// Reads a Variable Byte Integer at the start of `buf`; `None`: it goes on after the end of `buf`.
pub(super) fn read_varint(buf: &[u8]) -> Result<Option<VarInt>, DecodeError> {
    let mut value = 0;
    for (index, &byte) in buf.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            let minimal = index == 0 || byte != 0;
            return Ok(Some(VarInt {
                value,
                len: index + 1,
                minimal,
            }));
        }
    }
    if buf.len() >= 4 {
        return Err(DecodeError::Malformed(
            "variable byte integer of more than four bytes",
        ));
    }
    Ok(None)
}

/// What is left to read of a body.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    buf: &'a [u8],
    /// See [`Most`].
    pub(super) most_user_properties: usize,
}

const SHORT_BODY: DecodeError = DecodeError::Malformed("a field goes past the end of the packet");

impl<'a> Reader<'a> {
    pub(super) const fn new(buf: &'a [u8]) -> Self {
        Self {
            buf,
            most_user_properties: usize::MAX,
        }
    }

    pub(super) const fn of_packet(body: &'a [u8], most: Most) -> Self {
        Self {
            buf: body,
            most_user_properties: most.user_properties,
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.buf.is_empty()
    }

    /// Everything that is left.
    pub(super) const fn rest(&mut self) -> &'a [u8] {
        let rest = self.buf;
        self.buf = &[];
        rest
    }

    /// # Errors
    /// If bytes are left over.
    pub(super) const fn finish(&self) -> Result<(), DecodeError> {
        if self.buf.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Malformed(
                "bytes left over after the end of the packet",
            ))
        }
    }

    pub(super) fn bytes(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self.buf.split_at_checked(len).ok_or(SHORT_BODY)?;
        self.buf = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, tail) = self.buf.split_first_chunk().ok_or(SHORT_BODY)?;
        self.buf = tail;
        Ok(*head)
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    /// A Variable Byte Integer in its shortest form [MQTT-1.5.5-1].
    pub(super) fn varint(&mut self) -> Result<u32, DecodeError> {
        let found = read_varint(self.buf)?.ok_or(SHORT_BODY)?;
        if !found.minimal {
            return Err(DecodeError::Malformed(
                "variable byte integer is not minimal",
            ));
        }
        self.bytes(found.len)?;
        Ok(found.value)
    }

    /// Binary Data (§1.5.6).
    pub(super) fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.u16()?;
        self.bytes(usize::from(len))
    }

    /// A UTF-8 Encoded String without U+0000 (§1.5.4).
    pub(super) fn str(&mut self) -> Result<&'a str, DecodeError> {
        Reader::new(self.binary()?).rest_as_str()
    }

    /// What such a string holds.
    pub(super) fn rest_as_str(&mut self) -> Result<&'a str, DecodeError> {
        let text = std::str::from_utf8(self.rest())
            .map_err(|_| DecodeError::Malformed("a string is not UTF-8"))?;
        if text.as_bytes().contains(&0) {
            return Err(DecodeError::Malformed("a string contains U+0000"));
        }
        Ok(text)
    }

    /// A Packet Identifier [MQTT-2.2.1-3].
    pub(super) fn packet_id(&mut self) -> Result<u16, DecodeError> {
        match self.u16()? {
            0 => Err(DecodeError::Protocol("packet identifier 0")),
            id => Ok(id),
        }
    }
}

/// The part of `text` that a length field can describe, cut between characters.
fn fitting(text: &str) -> &str {
    if text.len() <= MAX_SHORT {
        return text;
    }
    let end = (0..=MAX_SHORT)
        .rev()
        .find(|&end| text.is_char_boundary(end))
        .unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

pub(super) fn str_len(text: &str) -> usize {
    2 + fitting(text).len()
}

pub(super) fn write_str(text: &str, out: &mut Vec<u8>) {
    write_binary(fitting(text).as_bytes(), out);
}

pub(super) fn binary_len(data: &[u8]) -> usize {
    2 + data.len().min(MAX_SHORT)
}

pub(super) fn write_binary(data: &[u8], out: &mut Vec<u8>) {
    let data = data.get(..MAX_SHORT).unwrap_or(data);
    let len = u16::try_from(data.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(data);
}

pub(super) const fn varint_len(value: usize) -> usize {
    match value {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4,
    }
}

pub(super) fn write_varint(mut value: usize, out: &mut Vec<u8>) {
    debug_assert!(value <= MAX_VARINT, "above what four bytes can say");
    while value > 127 {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends `first_byte`, the length of what `body` appends, and that.
///
/// The length is not known before; it is one byte for nearly every packet but PUBLISH, which does
/// not come this way, so the body is moved only in the rare case that it needs more.
/// A body longer than a Remaining Length can say is taken back: `out` is as before.
pub(super) fn write_framed(first_byte: u8, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[first_byte, 0]);
    body(out);
    let len = out.len() - start - 2;
    if len > MAX_VARINT {
        out.truncate(start);
        return;
    }
    if let (Ok(short @ 0..128), Some(place)) = (u8::try_from(len), out.get_mut(start + 1)) {
        *place = short;
        return;
    }
    let mut length = Vec::with_capacity(4);
    write_varint(len, &mut length);
    out.splice(start + 1..start + 2, length);
}
