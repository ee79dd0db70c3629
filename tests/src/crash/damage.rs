//! What is done to the files of a broker that was killed: nothing that it has promised to keep.
//!
//! The view in sled may be damaged in any way: it can be built again. Of the journal only what lies
//! behind the last whole frame of the last segment is written to, as a write that was torn by a power
//! cut leaves it.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::seeded::Seeded;

/// Bytes of a segment's header.
const HEADER_BYTES: u64 = 64;
/// Bytes of a frame before what its length counts.
const LEN_AND_CRC_BYTES: u64 = 8;
/// Bytes of garbage at most: some pages.
const GARBAGE_BYTES: u64 = 20_000;

/// One way to damage files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Damage {
    /// sled's directory is gone.
    SledDeleted,
    /// One of sled's files ends early.
    SledTruncated,
    /// Some bits of sled's files are wrong.
    SledFlipped,
    /// Random bytes behind the last frame.
    TailGarbage,
    /// The beginning of an earlier frame once more behind the last one: a torn write.
    TailTorn,
    /// A whole earlier frame once more behind the last one.
    TailStale,
    /// Nothing, then random bytes: later pages of a write came to the disk, earlier ones did not.
    TailHole,
}

impl Damage {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::SledDeleted,
        Self::SledTruncated,
        Self::SledFlipped,
        Self::TailGarbage,
        Self::TailTorn,
        Self::TailStale,
        Self::TailHole,
    ];

    /// Does it.
    ///
    /// # Errors
    /// If the files are not as expected.
    pub fn inflict(self, data_dir: &Path, random: &mut Seeded) -> io::Result<()> {
        match self {
            Self::SledDeleted => match sled_directory(data_dir)? {
                Some(directory) => fs::remove_dir_all(directory),
                None => Ok(()),
            },
            Self::SledTruncated => {
                let Some(file) = sled_file(data_dir, random)? else {
                    return Ok(());
                };
                let file = OpenOptions::new().write(true).open(file)?;
                let len = file.metadata()?.len();
                file.set_len(random.within(0..len.max(1)))
            }
            Self::SledFlipped => {
                for _ in 0..random.magnitude(1..50) {
                    if let Some(file) = sled_file(data_dir, random)? {
                        flip_a_bit(&file, random)?;
                    }
                }
                Ok(())
            }
            Self::TailGarbage | Self::TailTorn | Self::TailStale | Self::TailHole => {
                self.write_behind_the_end(data_dir, random)
            }
        }
    }

    fn write_behind_the_end(self, data_dir: &Path, random: &mut Seeded) -> io::Result<()> {
        let Some(segment) = last_segment(data_dir)? else {
            return Ok(());
        };
        let file = OpenOptions::new().read(true).write(true).open(segment)?;
        let frames = whole_frames(&file)?;
        let end = frames
            .last()
            .map_or(HEADER_BYTES, |frame| frame.start + frame.len);
        // A segment has its full length from the beginning: no write goes beyond.
        let room = file.metadata()?.len().saturating_sub(end);
        if room == 0 {
            return Ok(());
        }
        let garbage: Vec<u8> = match (self, frames.is_empty()) {
            (Self::TailTorn | Self::TailStale, false) => {
                let frame = random.pick(&frames);
                let whole = usize::try_from(frame.len).map_err(io::Error::other)?;
                let mut bytes = vec![0; whole];
                file.read_exact_at(&mut bytes, frame.start)?;
                if self == Self::TailTorn {
                    bytes.truncate(random.within(1..frame.len) as usize);
                }
                bytes
            }
            _ => (0..random.magnitude(1..GARBAGE_BYTES))
                .map(|_| random.next() as u8)
                .collect(),
        };
        let hole = if self == Self::TailHole {
            random.magnitude(1..GARBAGE_BYTES)
        } else {
            0
        };
        let Some(room) = room.checked_sub(hole) else {
            return Ok(());
        };
        let len = garbage
            .len()
            .min(usize::try_from(room).unwrap_or(usize::MAX));
        file.write_all_at(&garbage[..len], end + hole)
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SledDeleted => "sled deleted",
            Self::SledTruncated => "sled truncated",
            Self::SledFlipped => "sled bit-flipped",
            Self::TailGarbage => "tail garbage",
            Self::TailTorn => "tail torn",
            Self::TailStale => "tail stale",
            Self::TailHole => "tail with a hole",
        })
    }
}

fn flip_a_bit(path: &Path, random: &mut Seeded) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let len = file.metadata()?.len();
    if len == 0 {
        return Ok(());
    }
    let at = random.within(0..len);
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    byte[0] ^= 1 << random.within(0..8);
    file.write_all_at(&byte, at)
}

/// Where a whole frame lies in its file.
#[derive(Clone, Copy, Debug)]
struct WholeFrame {
    start: u64,
    /// With its length and checksum.
    len: u64,
}

/// The frames whose checksum is right, from the beginning to the first that is not.
fn whole_frames(file: &File) -> io::Result<Vec<WholeFrame>> {
    let end = file.metadata()?.len();
    let mut epoch = [0; 8];
    file.read_exact_at(&mut epoch, 16)?;
    let mut frames = Vec::new();
    let mut start = HEADER_BYTES;
    while start + LEN_AND_CRC_BYTES <= end {
        let mut head = [0; LEN_AND_CRC_BYTES as usize];
        file.read_exact_at(&mut head, start)?;
        let number = u64::from_le_bytes(head);
        let (len, crc) = (number & 0xFFFF_FFFF, (number >> 32) as u32);
        if len == 0 || start + LEN_AND_CRC_BYTES + len > end {
            break;
        }
        let mut body = vec![0; len as usize];
        file.read_exact_at(&mut body, start + LEN_AND_CRC_BYTES)?;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&epoch);
        hasher.update(&body);
        if hasher.finalize() != crc {
            break;
        }
        let len = LEN_AND_CRC_BYTES + len;
        frames.push(WholeFrame { start, len });
        start += len;
    }
    Ok(frames)
}

fn last_segment(data_dir: &Path) -> io::Result<Option<PathBuf>> {
    let mut segments = files(data_dir)?;
    segments.retain(|file| file.extension().is_some_and(|extension| extension == "seg"));
    // Names begin with the offset, at full width.
    Ok(segments.into_iter().max())
}

/// sled's directory: the one that has its log `db`.
fn sled_directory(data_dir: &Path) -> io::Result<Option<PathBuf>> {
    let log = files(data_dir)?
        .into_iter()
        .find(|file| file.file_name().is_some_and(|name| name == "db"));
    Ok(log.and_then(|log| log.parent().map(Path::to_owned)))
}

fn sled_file(data_dir: &Path, random: &mut Seeded) -> io::Result<Option<PathBuf>> {
    let Some(directory) = sled_directory(data_dir)? else {
        return Ok(None);
    };
    let files = files(&directory)?;
    Ok((!files.is_empty()).then(|| random.pick(&files).clone()))
}

/// All files below, in the order of their paths: a seed must find them so each time.
fn files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
