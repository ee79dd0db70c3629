//! The whole state at one offset, in one plain file: what a damaged view is built from again.
//!
//! ```text
//! name   = "snapshot-" offset:20 decimal digits
//! file   = header record* end
//! header = "TIDINGS\0" version:u32 record_version:u32 epoch:u64 applied:u64 crc
//! record = kind:u8 key_len:u32 value_len:u32 key value crc     kind as in Kind, never 0
//! end    = 0:u8 count:u64 crc                                  and nothing after it
//! crc    = crc32:u32 over everything since the previous crc
//! ```
//! Numbers are little-endian; values are in the form of the journal's records. Records are in
//! ascending order of kind and key, so that one that is there twice is damage too.
//!
//! A file gets its name only after it is on disk, is then read back, and never changes. The last
//! [`KEEP`] of an epoch are kept: one may be damaged. Unknown versions are skipped like damage,
//! with a warning. This module does not know what a record means.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidings_core::message::{Epoch, Offset};
use tracing::warn;

use super::record::{Kind, Records, StateRecord, every_record};
use super::store::sync_directory;
use crate::journal::segments::record::RECORD_VERSION;

/// Number of snapshots that are kept: the newest, and one to fall back to.
pub const KEEP: usize = 2;

const MAGIC: &[u8; 8] = b"TIDINGS\0";
const VERSION: u32 = 1;
const PREFIX: &str = "snapshot-";
const UNFINISHED_SUFFIX: &str = ".new";
const BUFFER_BYTES: usize = 256 * 1024;

/// A snapshot that was read to its end and found whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The file.
    pub path: PathBuf,
    /// The offset up to which the journal is in it.
    pub applied: Offset,
    /// Number of records.
    pub records: u64,
}

impl Snapshot {
    /// Its records, in order. The caller stops at the first error.
    ///
    /// # Errors
    /// If the file cannot be read, or changed since it was verified.
    pub fn records(
        &self,
        epoch: Epoch,
    ) -> io::Result<impl Iterator<Item = io::Result<StateRecord>> + use<>> {
        let mut reader = Reader::open(&self.path, epoch)?;
        Ok(std::iter::from_fn(move || reader.next_record().transpose()))
    }
}

/// Writes a snapshot of `records` into `directory` and reads it back.
///
/// # Errors
/// Of the disk, or `InvalidData` if what is read back is not whole; the file is gone then.
pub fn write(directory: &Path, epoch: Epoch, records: &dyn Records) -> io::Result<Snapshot> {
    fs::create_dir_all(directory)?;
    let name = file_name(records.applied());
    let path = directory.join(&name);
    let unfinished = directory.join(name + UNFINISHED_SUFFIX);
    write_file(&unfinished, epoch, records)?;
    fs::rename(&unfinished, &path)?;
    sync_directory(directory)?;
    match verify(&path, epoch) {
        Ok(snapshot) => Ok(snapshot),
        Err(error) => {
            fs::remove_file(&path)?;
            Err(error)
        }
    }
}

/// The newest snapshot of `epoch` that is whole and not past `end`, if there is one. Others are
/// skipped with a warning.
///
/// # Errors
/// If the directory cannot be read.
pub fn load_newest(directory: &Path, epoch: Epoch, end: Offset) -> io::Result<Option<Snapshot>> {
    for (offset, path) in list(directory)?.into_iter().rev() {
        if offset > end {
            warn!(path = %path.display(), %end, "the snapshot is past the end of the journal: skipped");
            continue;
        }
        match verify(&path, epoch) {
            Ok(snapshot) => return Ok(Some(snapshot)),
            Err(error) => {
                warn!(path = %path.display(), %error, "the snapshot cannot be used: skipped");
            }
        }
    }
    Ok(None)
}

/// Removes snapshots of `epoch` past the end of the journal: the entries they hold were lost, and
/// the journal will give their offsets to others.
///
/// # Errors
/// Of the disk.
pub(super) fn remove_past(directory: &Path, epoch: Epoch, end: Offset) -> io::Result<()> {
    let mut removed = false;
    for (offset, path) in list(directory)? {
        if offset > end && Reader::open(&path, epoch).is_ok() {
            warn!(path = %path.display(), %end, "the snapshot is past the end of the journal: removed");
            fs::remove_file(&path)?;
            removed = true;
        }
    }
    if removed {
        sync_directory(directory)?;
    }
    Ok(())
}

/// Removes snapshots older than the [`KEEP`] newest whole ones, of which `newest` is one, and gives
/// the offset from which the journal must be kept, so that one damaged snapshot loses nothing:
/// that of the oldest one kept, or 0 while there are too few.
///
/// # Errors
/// Of the disk.
pub fn remove_old(directory: &Path, epoch: Epoch, newest: &Snapshot) -> io::Result<Offset> {
    let mut whole = 1;
    let mut oldest = newest.applied;
    for (offset, path) in list(directory)?.into_iter().rev() {
        if offset >= newest.applied {
            continue;
        }
        if whole == KEEP {
            if Reader::open(&path, epoch).is_ok() {
                fs::remove_file(path)?;
            }
        } else {
            match verify(&path, epoch) {
                Ok(_) => (whole, oldest) = (whole + 1, offset),
                Err(error) => {
                    warn!(path = %path.display(), %error, "the snapshot cannot be used: not counted");
                }
            }
        }
    }
    remove_unfinished(directory)?;
    sync_directory(directory)?;
    Ok(if whole == KEEP { oldest } else { Offset(0) })
}

fn remove_unfinished(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(UNFINISHED_SUFFIX)) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Files that are named as snapshots, by ascending offset; none if there is no directory.
fn list(directory: &Path) -> io::Result<Vec<(Offset, PathBuf)>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(offset) = name.and_then(|name| name.strip_prefix(PREFIX)?.parse().ok()) {
            found.push((Offset(offset), path));
        }
    }
    found.sort();
    Ok(found)
}

fn file_name(applied: Offset) -> String {
    format!("{PREFIX}{:020}", applied.0)
}

/// The snapshot of exactly `applied`, if it is there and whole.
pub(super) fn find(directory: &Path, epoch: Epoch, applied: Offset) -> Option<Snapshot> {
    verify(&directory.join(file_name(applied)), epoch).ok()
}

fn verify(path: &Path, epoch: Epoch) -> io::Result<Snapshot> {
    let mut reader = Reader::open(path, epoch)?;
    let mut records = 0;
    while reader.next_record()?.is_some() {
        records += 1;
    }
    Ok(Snapshot {
        path: path.to_owned(),
        applied: reader.applied,
        records,
    })
}

fn write_file(path: &Path, epoch: Epoch, records: &dyn Records) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, File::create(path)?);
    write_to(&mut out, epoch, records.applied(), every_record(records))?;
    out.into_inner()
        .map_err(io::IntoInnerError::into_error)?
        .sync_all()
}

/// Writes the bytes of a snapshot: `records` in their order.
///
/// # Errors
/// Of `out`, or if a record is too long.
pub fn write_to(
    out: &mut impl Write,
    epoch: Epoch,
    applied: Offset,
    records: impl Iterator<Item = StateRecord>,
) -> io::Result<()> {
    let mut frame = Vec::new();
    frame.extend_from_slice(MAGIC);
    frame.extend_from_slice(&VERSION.to_le_bytes());
    frame.extend_from_slice(&RECORD_VERSION.to_le_bytes());
    frame.extend_from_slice(&epoch.0.to_le_bytes());
    frame.extend_from_slice(&applied.0.to_le_bytes());
    write_frame(out, &frame)?;
    let mut count: u64 = 0;
    let mut value = Vec::new();
    for record in records {
        value.clear();
        record.encode_value(&mut value);
        let key = record.key().as_bytes();
        frame.clear();
        frame.push(record.kind() as u8);
        frame.extend_from_slice(&length(key)?.to_le_bytes());
        frame.extend_from_slice(&length(&value)?.to_le_bytes());
        frame.extend_from_slice(key);
        frame.extend_from_slice(&value);
        write_frame(out, &frame)?;
        count += 1;
    }
    frame.clear();
    frame.push(0);
    frame.extend_from_slice(&count.to_le_bytes());
    write_frame(out, &frame)
}

/// Reads the bytes of a snapshot: its offset and its records.
///
/// # Errors
/// If they are not whole, or belong to another journal.
pub fn read_from(bytes: &[u8], epoch: Epoch) -> io::Result<(Offset, Vec<StateRecord>)> {
    let mut reader = Reader::new(bytes, bytes.len() as u64, epoch)?;
    let records: io::Result<_> = std::iter::from_fn(|| reader.next_record().transpose()).collect();
    Ok((reader.applied, records?))
}

fn length(bytes: &[u8]) -> io::Result<u32> {
    u32::try_from(bytes.len()).map_err(|_| invalid("a record is longer than 4 GiB"))
}

fn write_frame(out: &mut impl Write, frame: &[u8]) -> io::Result<()> {
    out.write_all(frame)?;
    out.write_all(&crc32fast::hash(frame).to_le_bytes())
}

fn invalid(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

/// Reads a snapshot from its beginning, and checks all that can be checked on the way.
struct Reader<R> {
    file: R,
    /// Bytes of the file that are not read yet: no length in the file can ask for more.
    left: u64,
    hasher: crc32fast::Hasher,
    applied: Offset,
    count: u64,
    last: Option<(Kind, Arc<str>)>,
    finished: bool,
}

impl Reader<BufReader<File>> {
    fn open(path: &Path, epoch: Epoch) -> io::Result<Self> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        let reader = Self::new(BufReader::with_capacity(BUFFER_BYTES, file), bytes, epoch)?;
        let name = path.file_name().and_then(|name| name.to_str());
        if name != Some(&file_name(reader.applied)) {
            let why = format!("its name is not that of offset {}", reader.applied);
            return Err(invalid(why));
        }
        Ok(reader)
    }
}

impl<R: Read> Reader<R> {
    /// Begins with the header of what has so many bytes.
    fn new(file: R, bytes: u64, epoch: Epoch) -> io::Result<Self> {
        let mut reader = Self {
            left: bytes,
            file,
            hasher: crc32fast::Hasher::new(),
            applied: Offset(0),
            count: 0,
            last: None,
            finished: false,
        };
        let magic: [u8; MAGIC.len()] = reader.array()?;
        let version = u32::from_le_bytes(reader.array()?);
        let record_version = u32::from_le_bytes(reader.array()?);
        let found = Epoch(u64::from_le_bytes(reader.array()?));
        let applied = Offset(u64::from_le_bytes(reader.array()?));
        reader.check_crc()?;
        if magic != *MAGIC {
            return Err(invalid("it is no snapshot"));
        }
        if (version, record_version) != (VERSION, RECORD_VERSION) {
            return Err(invalid(format!(
                "its version {version}.{record_version} is unknown"
            )));
        }
        if found != epoch {
            return Err(invalid(format!(
                "it belongs to another journal: epoch {:016x}, not {:016x}",
                found.0, epoch.0
            )));
        }
        reader.applied = applied;
        Ok(reader)
    }

    /// The next record; `None` after the last one, when the file was found whole.
    fn next_record(&mut self) -> io::Result<Option<StateRecord>> {
        if self.finished {
            return Ok(None);
        }
        let [kind] = self.array()?;
        if kind == 0 {
            let count = u64::from_le_bytes(self.array()?);
            self.check_crc()?;
            if count != self.count || self.left != 0 {
                return Err(invalid("records are missing, or bytes follow the end"));
            }
            self.finished = true;
            return Ok(None);
        }
        let key_len = u32::from_le_bytes(self.array()?);
        let value_len = u32::from_le_bytes(self.array()?);
        let key = self.bytes(key_len)?;
        let value = self.bytes(value_len)?;
        self.check_crc()?;
        let kind = Kind::from_byte(kind).ok_or_else(|| invalid("a kind of record is unknown"))?;
        let key: Arc<str> = std::str::from_utf8(&key)
            .map_err(|_| invalid("a key is not UTF-8"))?
            .into();
        let record = StateRecord::decode(kind, &key, &value)
            .map_err(|error| invalid(format!("the {kind} {key:?} is damaged: {error}")))?;
        let place = Some((kind, key));
        if self.last >= place {
            return Err(invalid("records are not in order"));
        }
        self.last = place;
        self.count += 1;
        Ok(Some(record))
    }

    fn take(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.file.read_exact(bytes)?;
        self.left = self.left.saturating_sub(bytes.len() as u64);
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.take(&mut bytes)?;
        self.hasher.update(&bytes);
        Ok(bytes)
    }

    fn bytes(&mut self, len: u32) -> io::Result<Vec<u8>> {
        if u64::from(len) > self.left {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = vec![0; len as usize];
        self.take(&mut bytes)?;
        self.hasher.update(&bytes);
        Ok(bytes)
    }

    fn check_crc(&mut self) -> io::Result<()> {
        let mut crc = [0; 4];
        self.take(&mut crc)?;
        if std::mem::take(&mut self.hasher).finalize() == u32::from_le_bytes(crc) {
            return Ok(());
        }
        Err(invalid("a checksum is wrong"))
    }
}
