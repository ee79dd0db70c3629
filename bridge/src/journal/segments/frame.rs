//! The form of a segment file: a header, then one frame for each batch, then zeros.
//!
//! ```text
//! file   = header frame* zeros
//! header = "TIDEJRNL" version:u32 generation:u32 epoch:u64 base:u64 previous:u64 end:u64
//!          data_end:u64 crc:u32, zeros up to 64 bytes
//! frame  = len:u32 crc:u32 first:u64 count:u32 synced:u32 entry{count}
//!          len counts what follows crc; crc covers the epoch and what follows crc
//! entry  = len:u32 crc:u32 body        len counts the body; crc covers it
//! body   = delta:varint record         the entry's offset is first + delta
//! ```
//! Numbers are little-endian. `previous` is the base of the segment before (the own base for the
//! first one). `end` and `data_end` are 0 in a segment as it was written; one that was compacted
//! says there where its offsets and its bytes end, for its offsets have holes. `synced` is the
//! position in this file up to which everything was durable when the frame was written: damage
//! before it is no torn write. The epoch in the checksum keeps bytes of another journal out.
//!
//! This module does not know which entries are needed nor when a frame is durable.

use std::fmt;
use std::io;
use std::sync::Arc;

use tidings_core::journal::Record;
use tidings_core::message::{Epoch, Offset};

use super::fs::{FsFile, non_zero_extent, read_full_at};
use super::record::encode_record;
use super::wire::{Reader, put_varint};

/// Version of the files of the journal; a directory with another one is refused.
pub const FORMAT_VERSION: u32 = 1;
/// Bytes before the first frame.
pub const HEADER_BYTES: u64 = 64;
/// Bytes of a frame before its first entry.
pub const FRAME_HEADER_BYTES: usize = 24;
/// Bytes of an entry before its body.
pub const ENTRY_HEADER_BYTES: usize = 8;
/// Largest frame: positions in a segment are 32 bits wide.
pub const MAX_FRAME_BYTES: usize = 1 << 30;

const MAGIC: &[u8; 8] = b"TIDEJRNL";
/// A frame's checksum and length are not covered by its checksum.
const UNCHECKED_BYTES: usize = 8;
/// Reading ahead in scans: fewer system calls, and little memory.
const SCAN_BYTES: usize = 256 * 1024;

/// What the beginning of a segment file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Times that the file was rewritten.
    pub generation: u32,
    /// Identity of the journal.
    pub epoch: Epoch,
    /// Offset of its first entry.
    pub base: Offset,
    /// Base of the segment before.
    pub previous: Offset,
    /// Offset after its last entry; 0 if not compacted.
    pub end: Offset,
    /// Bytes of the file that hold data; 0 if not compacted.
    pub data_end: u64,
}

/// Why a header is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// No segment file, or its beginning is damaged.
    #[error("the header of the file is damaged")]
    Damaged,
    /// Written by another version.
    #[error("format version {0} is not known, only {FORMAT_VERSION}")]
    UnknownVersion(u32),
}

impl Header {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES as usize);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&self.generation.to_le_bytes());
        for number in [
            self.epoch.0,
            self.base.0,
            self.previous.0,
            self.end.0,
            self.data_end,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
        out.resize(HEADER_BYTES as usize, 0);
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let mut reader = Reader::new(bytes);
        let mut parse = || {
            let magic = reader.take(MAGIC.len())?;
            let version = reader.u32_le()?;
            let generation = reader.u32_le()?;
            let mut number = || reader.u64_le();
            let header = Self {
                generation,
                epoch: Epoch(number()?),
                base: Offset(number()?),
                previous: Offset(number()?),
                end: Offset(number()?),
                data_end: number()?,
            };
            Ok::<_, super::wire::DecodeError>((magic, version, header, reader.u32_le()?))
        };
        let (magic, version, header, crc) = parse().map_err(|_| HeaderError::Damaged)?;
        if magic != MAGIC {
            return Err(HeaderError::Damaged);
        }
        if version != FORMAT_VERSION {
            return Err(HeaderError::UnknownVersion(version));
        }
        if crc != header.crc() {
            return Err(HeaderError::Damaged);
        }
        Ok(header)
    }

    /// Names this content of the file: another generation has another one.
    pub fn crc(&self) -> u32 {
        let bytes = self.encode();
        bytes
            .get(56..60)
            .and_then(|crc| crc.try_into().ok())
            .map_or(0, u32::from_le_bytes)
    }
}

/// The checksum that frames of a journal start from.
#[derive(Clone, Debug)]
pub struct FrameCrc(crc32fast::Hasher);

impl FrameCrc {
    pub fn new(epoch: Epoch) -> Self {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&epoch.0.to_le_bytes());
        Self(hasher)
    }

    fn of(&self, bytes: &[u8]) -> u32 {
        let mut hasher = self.0.clone();
        hasher.update(bytes);
        hasher.finalize()
    }
}

/// Where an entry's body is: position from the start of the frame until the frame is placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// First byte of the body.
    pub position: u32,
    /// Bytes of the body.
    pub len: u32,
}

/// Builds frames in one buffer that is used again and again.
#[derive(Debug)]
pub struct FrameBuilder {
    crc: FrameCrc,
    buffer: Vec<u8>,
    first: Offset,
    count: u32,
}

impl FrameBuilder {
    pub fn new(epoch: Epoch) -> Self {
        let crc = FrameCrc::new(epoch);
        Self {
            crc,
            buffer: Vec::new(),
            first: Offset(0),
            count: 0,
        }
    }

    /// Begins an empty frame.
    pub fn begin(&mut self, first: Offset) {
        self.buffer.clear();
        self.buffer.resize(FRAME_HEADER_BYTES, 0);
        self.first = first;
        self.count = 0;
    }

    pub fn push(&mut self, offset: Offset, record: &Record) -> Place {
        self.push_body(offset, |out| encode_record(record, out))
    }

    /// Adds an entry whose record is encoded already.
    pub fn push_encoded(&mut self, offset: Offset, record: &[u8]) -> Place {
        self.push_body(offset, |out| out.extend_from_slice(record))
    }

    fn push_body(&mut self, offset: Offset, put: impl FnOnce(&mut Vec<u8>)) -> Place {
        let header = self.buffer.len();
        let body = header + ENTRY_HEADER_BYTES;
        self.buffer.resize(body, 0);
        put_varint(&mut self.buffer, offset.0 - self.first.0);
        put(&mut self.buffer);
        // Larger frames are refused before they are written, see `MAX_FRAME_BYTES`.
        let len = (self.buffer.len() - body) as u32;
        let crc = crc32fast::hash(&self.buffer[body..]);
        self.buffer[header..header + 4].copy_from_slice(&len.to_le_bytes());
        self.buffer[header + 4..body].copy_from_slice(&crc.to_le_bytes());
        self.count += 1;
        Place {
            position: body as u32,
            len,
        }
    }

    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// The whole frame.
    pub fn finish(&mut self, synced: u32) -> &[u8] {
        let len = (self.buffer.len() - UNCHECKED_BYTES) as u32;
        self.buffer[0..4].copy_from_slice(&len.to_le_bytes());
        self.buffer[8..16].copy_from_slice(&self.first.0.to_le_bytes());
        self.buffer[16..20].copy_from_slice(&self.count.to_le_bytes());
        self.buffer[20..24].copy_from_slice(&synced.to_le_bytes());
        let crc = self.crc.of(&self.buffer[UNCHECKED_BYTES..]);
        self.buffer[4..8].copy_from_slice(&crc.to_le_bytes());
        &self.buffer
    }

    /// Gives memory back after an unusually large batch.
    pub fn shrink_to(&mut self, bytes: usize) {
        self.buffer.clear();
        self.buffer.shrink_to(bytes);
    }
}

/// A frame that was read.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Where it begins in the file.
    pub position: u64,
    /// Offset that deltas are relative to.
    pub first: Offset,
    /// Position in the file before which everything was durable when the frame was written.
    pub synced: u64,
    bytes: &'a [u8],
    count: u32,
}

/// An entry of a frame.
#[derive(Clone, Copy, Debug)]
pub struct RawEntry<'a> {
    /// Its offset.
    pub offset: Offset,
    /// The record as it was encoded.
    pub record: &'a [u8],
    /// Where the body is in the file.
    pub place: Place,
}

/// A frame or entry is not as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Position in the file.
    pub position: u64,
    /// What is wrong.
    pub what: &'static str,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.position)
    }
}

impl<'a> Frame<'a> {
    /// Bytes of the frame.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Its entries, each checked.
    pub fn entries(&self) -> impl Iterator<Item = Result<RawEntry<'a>, Damage>> + use<'a> {
        let (bytes, start, first) = (self.bytes, self.position, self.first);
        let mut at = FRAME_HEADER_BYTES;
        (0..self.count).map(move |_| {
            let position = start + at as u64;
            let damage = |what| Damage { position, what };
            let rest = bytes.get(at..).unwrap_or_default();
            let (len, crc) = entry_header(rest).ok_or(damage("an entry is cut"))?;
            let body_at = at + ENTRY_HEADER_BYTES;
            let body = rest
                .get(ENTRY_HEADER_BYTES..)
                .and_then(|rest| rest.get(..len as usize))
                .ok_or(damage("an entry is longer than its frame"))?;
            let (delta, record) = check_body(body, crc).map_err(damage)?;
            let place = Place {
                position: (start + body_at as u64) as u32,
                len,
            };
            at = body_at + len as usize;
            let offset = first
                .0
                .checked_add(delta)
                .ok_or(damage("an offset is out of range"))?;
            Ok(RawEntry {
                offset: Offset(offset),
                record,
                place,
            })
        })
    }
}

fn entry_header(bytes: &[u8]) -> Option<(u32, u32)> {
    let mut reader = Reader::new(bytes);
    Some((reader.u32_le().ok()?, reader.u32_le().ok()?))
}

/// Checks an entry of which header and body were read together; returns delta and record.
pub fn check_entry(bytes: &[u8]) -> Result<(u64, &[u8]), &'static str> {
    let (len, crc) = entry_header(bytes).ok_or("an entry is cut")?;
    let body = bytes.get(ENTRY_HEADER_BYTES..).unwrap_or_default();
    if body.len() != len as usize {
        return Err("an entry has another length than its index says");
    }
    check_body(body, crc)
}

fn check_body(body: &[u8], crc: u32) -> Result<(u64, &[u8]), &'static str> {
    if crc32fast::hash(body) != crc {
        return Err("the checksum of an entry is wrong");
    }
    let mut reader = Reader::new(body);
    let delta = reader.varint().map_err(|_| "an entry has no offset")?;
    Ok((delta, reader.rest()))
}

/// Why a scan stopped early.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The disk does not answer.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What it answers is not what was written.
    #[error("{0}")]
    Damaged(Damage),
}

impl From<Damage> for ScanError {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}

/// Reads the frames of a segment file one after the other.
pub struct FrameScanner {
    file: Arc<dyn FsFile>,
    crc: FrameCrc,
    position: u64,
    end: u64,
    window: Vec<u8>,
    window_at: u64,
}

impl FrameScanner {
    /// Scans `from..end`, both byte positions.
    pub fn new(file: Arc<dyn FsFile>, epoch: Epoch, from: u64, end: u64) -> Self {
        let crc = FrameCrc::new(epoch);
        Self {
            file,
            crc,
            position: from,
            end,
            window: Vec::new(),
            window_at: from,
        }
    }

    /// Where the next frame begins, or the data ends.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next frame; `None` at the end of the file or where zeros begin.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, ScanError> {
        let position = self.position;
        let left = self.end.saturating_sub(position);
        let header = self.bytes(position, FRAME_HEADER_BYTES.min(left as usize))?;
        let Some(total) = frame_bytes(header) else {
            return Ok(None);
        };
        let damage = |what| Damage { position, what };
        if total as u64 > left || !(FRAME_HEADER_BYTES..=MAX_FRAME_BYTES).contains(&total) {
            return Err(damage("a batch has an impossible length").into());
        }
        let crc = self.crc.clone();
        let bytes = self.bytes(position, total)?;
        let header = parse_frame(&crc, bytes).ok_or(damage("the checksum of a batch is wrong"))?;
        let FrameHeader {
            first,
            count,
            synced,
            ..
        } = header;
        self.position += total as u64;
        let at = usize::try_from(position - self.window_at).unwrap_or(usize::MAX);
        let bytes = self
            .window
            .get(at..)
            .and_then(|w| w.get(..total))
            .unwrap_or_default();
        Ok(Some(Frame {
            position,
            first,
            synced: u64::from(synced),
            bytes,
            count,
        }))
    }

    /// True if a whole frame lies after `position` that was written when what is at `position`
    /// was durable already: then a frame that cannot be read there is damage, no torn write.
    /// `expected` is the offset of the frame that cannot be read.
    pub fn was_durable_at(&mut self, position: u64, expected: Offset) -> Result<bool, ScanError> {
        let Some(extent) = non_zero_extent(&*self.file, position + 1)? else {
            return Ok(false);
        };
        let last = extent
            .end
            .min(self.end)
            .saturating_sub(FRAME_HEADER_BYTES as u64);
        for candidate in position + 1..last {
            let left = self.end - candidate;
            let Some(header) = FrameHeader::parse(self.bytes(candidate, FRAME_HEADER_BYTES)?)
            else {
                continue;
            };
            if !header.is_plausible_after(position, expected)
                || header.total > left
                || u64::from(header.synced) > candidate
            {
                continue;
            }
            let crc = self.crc.clone();
            if parse_frame(&crc, self.bytes(candidate, header.total as usize)?).is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// `len` bytes at `at`, or fewer at the end of the file.
    fn bytes(&mut self, at: u64, len: usize) -> io::Result<&[u8]> {
        let window_end = self.window_at + self.window.len() as u64;
        if at < self.window_at || at + len as u64 > window_end {
            let wanted = len
                .max(SCAN_BYTES)
                .min((self.end.saturating_sub(at)) as usize);
            self.window.resize(wanted, 0);
            let got = read_full_at(&*self.file, &mut self.window, at)?;
            self.window.truncate(got);
            self.window_at = at;
        }
        let from = usize::try_from(at - self.window_at).unwrap_or(usize::MAX);
        let rest = self.window.get(from..).unwrap_or_default();
        Ok(rest.get(..len).unwrap_or(rest))
    }
}

/// Length of the frame that begins with these bytes; `None` where zeros begin.
fn frame_bytes(header: &[u8]) -> Option<usize> {
    let mut reader = Reader::new(header);
    let len = reader.u32_le().ok()? as usize;
    (len > 0).then_some(len + UNCHECKED_BYTES)
}

/// The numbers at the beginning of a frame.
struct FrameHeader {
    total: u64,
    crc: u32,
    first: Offset,
    count: u32,
    synced: u32,
}

impl FrameHeader {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        Some(Self {
            total: u64::from(reader.u32_le().ok()?) + UNCHECKED_BYTES as u64,
            crc: reader.u32_le().ok()?,
            first: Offset(reader.u64_le().ok()?),
            count: reader.u32_le().ok()?,
            synced: reader.u32_le().ok()?,
        })
    }

    /// Cheap tests that almost no other bytes pass, so that few checksums are calculated.
    fn is_plausible_after(&self, position: u64, expected: Offset) -> bool {
        let entries = u64::from(self.count);
        let offsets = expected.0..expected.0.saturating_add(u64::from(u32::MAX));
        u64::from(self.synced) > position
            && entries > 0
            && self.total >= FRAME_HEADER_BYTES as u64 + entries * ENTRY_HEADER_BYTES as u64
            && offsets.contains(&self.first.0)
    }
}

fn parse_frame(crc: &FrameCrc, bytes: &[u8]) -> Option<FrameHeader> {
    let header = FrameHeader::parse(bytes)?;
    (crc.of(bytes.get(UNCHECKED_BYTES..)?) == header.crc).then_some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_back_and_a_changed_one_does_not() {
        let header = Header {
            generation: 3,
            epoch: Epoch(77),
            base: Offset(10),
            previous: Offset(5),
            end: Offset(20),
            data_end: 4096,
        };
        let bytes = header.encode();
        assert_eq!(bytes.len() as u64, HEADER_BYTES);
        assert_eq!(Header::decode(&bytes), Ok(header));
        for at in 0..60 {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(Header::decode(&changed).is_err(), "byte {at}");
        }
        let mut newer = bytes;
        newer[8] = 9;
        assert_eq!(Header::decode(&newer), Err(HeaderError::UnknownVersion(9)));
    }
}
