//! Reading and writing of the smallest parts of the binary formats: numbers, texts, lists.
//!
//! ```text
//! varint = LEB128, least significant group first, at most 10 bytes, no longer than needed
//! bytes  = varint length, then so many bytes
//! text   = bytes that are valid UTF-8
//! list   = varint count, then so many items
//! ```
//! Reading never panics and never reserves more memory than the input could fill: what comes from
//! disk may be anything. This module does not know what the parts mean.

use std::sync::Arc;

use bytes::Bytes;

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The input ends inside an item.
    #[error("the data ends too early")]
    Truncated,
    /// A number does not fit its type, or is written longer than needed.
    #[error("a number is out of range")]
    BadNumber,
    /// A text is not UTF-8.
    #[error("a text is not UTF-8")]
    BadText,
    /// A kind or flag that this version does not know.
    #[error("unknown {what} {value}")]
    Unknown {
        /// What is unknown.
        what: &'static str,
        /// The value found.
        value: u8,
    },
    /// There are bytes after the end.
    #[error("there is data after the end")]
    Trailing,
}

pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub fn put_text(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, text.as_bytes());
}

/// Signed numbers with small magnitudes stay short.
pub fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// What is left to read.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub fn u32_le(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64_le(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let group = u64::from(byte & 0x7f);
            if shift == 63 && group > 1 {
                return Err(DecodeError::BadNumber);
            }
            value |= group << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    return Err(DecodeError::BadNumber);
                }
                return Ok(value);
            }
        }
        Err(DecodeError::BadNumber)
    }

    pub fn number<T: TryFrom<u64>>(&mut self) -> Result<T, DecodeError> {
        T::try_from(self.varint()?).map_err(|_| DecodeError::BadNumber)
    }

    pub fn signed(&mut self) -> Result<i64, DecodeError> {
        let value = self.varint()?;
        Ok(((value >> 1) as i64) ^ -((value & 1) as i64))
    }

    pub fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.number()?;
        self.take(len)
    }

    pub fn owned_bytes(&mut self) -> Result<Bytes, DecodeError> {
        self.bytes().map(Bytes::copy_from_slice)
    }

    pub fn str(&mut self) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| DecodeError::BadText)
    }

    pub fn text(&mut self) -> Result<Arc<str>, DecodeError> {
        self.str().map(Arc::from)
    }

    pub fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count: usize = self.number()?;
        // Each item takes at least one byte.
        if count > self.rest.len() {
            return Err(DecodeError::Truncated);
        }
        (0..count).map(|_| item(self)).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What was not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Everything must have been read.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Trailing)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_longer_forms_are_refused() {
        for value in [
            0,
            1,
            127,
            128,
            300,
            u64::from(u32::MAX),
            u64::MAX - 1,
            u64::MAX,
        ] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            let mut reader = Reader::new(&out);
            assert_eq!(reader.varint(), Ok(value));
            assert!(reader.is_empty());
        }
        for value in [0, 1, -1, i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            put_signed(&mut out, value);
            assert_eq!(Reader::new(&out).signed(), Ok(value));
        }
        for bad in [&[0x80, 0][..], &[0xff; 10], &[0x80]] {
            assert!(Reader::new(bad).varint().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_length_larger_than_the_input_is_an_error_and_reserves_nothing() {
        let mut out = Vec::new();
        put_varint(&mut out, u64::MAX);
        assert_eq!(Reader::new(&out).bytes(), Err(DecodeError::Truncated));
        assert_eq!(
            Reader::new(&out).list(|r| r.u8()),
            Err(DecodeError::Truncated)
        );
    }
}
