//! What is in the directory of a journal, and the one small file that says whose it is.
//!
//! ```text
//! meta              "TIDEMETA" version:u32 epoch:u64 start:u64 crc:u32
//! LOCK              locked while a process has the journal open
//! {base:020}.seg    a segment, see `frame`; `base` is the offset of its first entry
//! {base:020}.idx    its index, see `index`
//! *.tmp             on its way to one of the names above; removed at the next start
//! ```
//! `start` is the first offset from which nothing is missing. It is durable before anything that
//! lies before it is removed.

use std::io;

use tidings_core::message::{Epoch, Offset};

use super::frame::FORMAT_VERSION;
use super::fs::{Fs, read_full_at, replace_file};
use super::wire::Reader;

pub const META_NAME: &str = "meta";
pub const TEMPORARY_SUFFIX: &str = ".tmp";
const SEGMENT_SUFFIX: &str = ".seg";
const INDEX_SUFFIX: &str = ".idx";
const META_MAGIC: &[u8; 8] = b"TIDEMETA";
/// More than it ever has; a longer file is not read on.
const META_BYTES: usize = 64;

pub fn segment_name(base: Offset) -> String {
    format!("{:020}{SEGMENT_SUFFIX}", base.0)
}

pub fn index_name(base: Offset) -> String {
    format!("{:020}{INDEX_SUFFIX}", base.0)
}

/// The base of a segment, from the name of its file.
pub fn segment_base(name: &str) -> Option<Offset> {
    parse(name, SEGMENT_SUFFIX)
}

/// The base of a segment, from the name of its index.
pub fn index_base(name: &str) -> Option<Offset> {
    parse(name, INDEX_SUFFIX)
}

fn parse(name: &str, suffix: &str) -> Option<Offset> {
    name.strip_suffix(suffix)?.parse().ok().map(Offset)
}

/// Whose directory it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    pub epoch: Epoch,
    pub start: Offset,
}

/// Why the meta file is refused.
#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the file meta is damaged")]
    Damaged,
    #[error("format version {0} is not known, only {FORMAT_VERSION}")]
    UnknownVersion(u32),
}

impl Meta {
    pub fn store(&self, fs: &dyn Fs) -> io::Result<()> {
        let mut out = META_MAGIC.to_vec();
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&self.epoch.0.to_le_bytes());
        out.extend_from_slice(&self.start.0.to_le_bytes());
        out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
        replace_file(fs, META_NAME, &out)
    }

    /// `None` if there is no such file.
    pub fn load(fs: &dyn Fs) -> Result<Option<Self>, MetaError> {
        let file = match fs.open(META_NAME) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut buffer = [0; META_BYTES];
        let len = read_full_at(&*file, &mut buffer, 0)?;
        Self::decode(buffer.get(..len).unwrap_or_default()).map(Some)
    }

    fn decode(bytes: &[u8]) -> Result<Self, MetaError> {
        let mut reader = Reader::new(bytes);
        let magic = reader
            .take(META_MAGIC.len())
            .map_err(|_| MetaError::Damaged)?;
        let version = reader.u32_le().map_err(|_| MetaError::Damaged)?;
        if magic != META_MAGIC {
            return Err(MetaError::Damaged);
        }
        if version != FORMAT_VERSION {
            return Err(MetaError::UnknownVersion(version));
        }
        let mut number = || reader.u64_le().map_err(|_| MetaError::Damaged);
        let meta = Self {
            epoch: Epoch(number()?),
            start: Offset(number()?),
        };
        let crc = reader.u32_le().map_err(|_| MetaError::Damaged)?;
        let content = bytes.len().checked_sub(4).and_then(|len| bytes.get(..len));
        let good = reader.is_empty() && content.is_some_and(|c| crc32fast::hash(c) == crc);
        if good {
            Ok(meta)
        } else {
            Err(MetaError::Damaged)
        }
    }
}
