//! Opening a directory: what was committed is found again, what was torn is cut off and reported,
//! and what is not ours, or not whole, is refused.
//!
//! Only the last segment is read: everything before it was durable when it was begun. In it, a
//! batch that cannot be read ends the journal if it can be a torn write, and is an error if it was
//! durable once (see [`super::frame`], `synced`).

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use tidings_core::message::{Epoch, Offset};

use super::frame::{FORMAT_VERSION, FrameScanner, HEADER_BYTES, Header, HeaderError, ScanError};
use super::fs::{
    Fs, FsFile, non_zero_extent, read_exact_at, read_full_at, write_whole_at, zero_fill,
};
use super::index::SegmentIndex;
use super::layout::{
    META_NAME, Meta, MetaError, TEMPORARY_SUFFIX, index_base, index_name, segment_base,
    segment_name,
};
use super::reader::{Active, Sealed, SegmentJournal, Shared};
use super::tail::Tail;
use super::writer::{Chore, HeadLookup, Options, ResealChore, Segment, Writer, install};

/// Pieces in which the end of the journal is written again.
const REWRITE_BYTES: usize = 1024 * 1024;

/// Why a journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the journal in {directory} is in use by another process")]
    Locked {
        /// The directory.
        directory: String,
    },
    /// Written by another version of Tidings.
    #[error(
        "{directory}/{file} has format version {found}; this program knows only version {FORMAT_VERSION}"
    )]
    UnknownVersion {
        /// The directory.
        directory: String,
        /// The file.
        file: String,
        /// Its version.
        found: u32,
    },
    /// A file is not as it was written, and no crash explains it.
    #[error("the journal is damaged: {directory}/{file}: {what}")]
    Damaged {
        /// The directory.
        directory: String,
        /// The file.
        file: String,
        /// What is wrong, and where.
        what: String,
    },
    /// The disk does not do what it should.
    #[error("the journal in {directory} cannot be opened: {source}")]
    Io {
        /// The directory.
        directory: String,
        /// What it says.
        source: io::Error,
    },
}

/// What was found at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// True if the journal was created.
    pub created: bool,
    /// Segments, the active one included.
    pub segments: usize,
    /// Batches in the active segment.
    pub batches: u64,
    /// Torn writes that were cut off: file, position, and what was wrong.
    pub torn: Option<String>,
}

/// What of a segment file could be read.
struct Recovered {
    index: SegmentIndex,
    position: u64,
    /// Up to here everything is durable for certain.
    synced: u64,
    next: Offset,
    batches: u64,
    torn: Option<String>,
}

/// An open directory; makes errors that name it.
pub(super) struct Directory<'a> {
    pub fs: &'a dyn Fs,
}

impl Directory<'_> {
    pub fn io(&self, source: io::Error) -> OpenError {
        OpenError::Io {
            directory: self.fs.describe(),
            source,
        }
    }

    pub fn damaged(&self, file: &str, what: impl ToString) -> OpenError {
        let (directory, file) = (self.fs.describe(), file.to_owned());
        OpenError::Damaged {
            directory,
            file,
            what: what.to_string(),
        }
    }

    fn version(&self, file: &str, found: u32) -> OpenError {
        OpenError::UnknownVersion {
            directory: self.fs.describe(),
            file: file.to_owned(),
            found,
        }
    }

    pub fn lock(&self) -> Result<Box<dyn Send + Sync>, OpenError> {
        self.fs.lock().map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => OpenError::Locked {
                directory: self.fs.describe(),
            },
            _ => self.io(error),
        })
    }

    pub fn meta(&self) -> Result<Option<Meta>, OpenError> {
        Meta::load(self.fs).map_err(|error| match error {
            MetaError::Io(error) => self.io(error),
            MetaError::Damaged => self.damaged(META_NAME, error),
            MetaError::UnknownVersion(found) => self.version(META_NAME, found),
        })
    }

    fn header(&self, base: Offset, epoch: Epoch) -> Result<(Header, Arc<dyn FsFile>), OpenError> {
        let name = segment_name(base);
        let file = self.fs.open(&name).map_err(|error| self.io(error))?;
        let mut bytes = [0; HEADER_BYTES as usize];
        let len = read_full_at(&*file, &mut bytes, 0).map_err(|error| self.io(error))?;
        let header = Header::decode(bytes.get(..len).unwrap_or_default());
        let header = header.map_err(|error| match error {
            HeaderError::Damaged => self.damaged(&name, error),
            HeaderError::UnknownVersion(found) => self.version(&name, found),
        })?;
        if header.base != base {
            let what = format!("it says that it begins at offset {}", header.base);
            return Err(self.damaged(&name, what));
        }
        if header.epoch != epoch {
            return Err(self.damaged(&name, "it belongs to another journal"));
        }
        Ok((header, file))
    }
}

impl Writer {
    /// Opens or creates the journal in a directory, and keeps others out of it.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(
        fs: Arc<dyn Fs>,
        options: Options,
        heads: HeadLookup,
    ) -> Result<(Self, Arc<SegmentJournal>, Recovery), OpenError> {
        let directory = Directory { fs: &*fs };
        let lock = directory.lock()?;
        let names = fs.list().map_err(|error| directory.io(error))?;
        let mut bases: Vec<Offset> = names.iter().filter_map(|name| segment_base(name)).collect();
        bases.sort_unstable();
        clean_up(&directory, &names, &bases);
        // A killed process may have left names that are not durable, and they are built on now.
        fs.sync_dir().map_err(|error| directory.io(error))?;
        let (meta, created) = match directory.meta()? {
            Some(meta) => (meta, false),
            None => (create(&directory, &bases, &options)?, true),
        };
        if created {
            bases = vec![Offset(0)];
        }
        let (active_base, sealed_bases) = match bases.split_last() {
            Some((active, sealed)) => (*active, sealed),
            None => return Err(directory.damaged(META_NAME, "all segments are gone")),
        };
        let sealed = check_sealed(&directory, sealed_bases, active_base, &meta)?;
        let (header, file) = directory.header(active_base, meta.epoch)?;
        check_previous(&directory, &header, sealed_bases.last(), &meta)?;
        let recovered = recover(&directory, &header, &file)?;
        let capacity = make_room(&directory, &file, &recovered, options.segment_bytes)?;
        let recovery = Recovery {
            created,
            segments: bases.len(),
            batches: recovered.batches,
            torn: recovered.torn,
        };
        let end = recovered.next;
        let shared = Shared {
            start: meta.start.min(end),
            end,
            sealed,
            active: Active {
                index: recovered.index,
                file: file.clone(),
                data_end: recovered.position,
            },
            tail: Tail::new(end, options.tail_bytes),
        };
        let journal = Arc::new(SegmentJournal::new(fs.clone(), meta.epoch, shared));
        let segment = Segment {
            base: active_base,
            header_crc: header.crc(),
            file,
            position: recovered.position,
            synced: recovered.position,
            capacity,
        };
        let mut writer = Self::new(fs, options, journal.clone(), segment, heads, lock);
        for base in sealed_bases
            .iter()
            .filter(|base| !names.contains(&index_name(**base)))
        {
            let (journal, base) = (journal.clone(), *base);
            writer.add_chore(Chore::Reseal(ResealChore { journal, base }));
        }
        Ok((writer, journal, recovery))
    }
}

/// Removes what a crash left behind. Best effort: it is only space.
fn clean_up(directory: &Directory<'_>, names: &[String], bases: &[Offset]) {
    for name in names {
        let orphan = index_base(name).is_some_and(|base| bases.binary_search(&base).is_err());
        if (orphan || name.ends_with(TEMPORARY_SUFFIX))
            && let Err(error) = directory.fs.remove(name)
        {
            tracing::warn!(file = %name, %error, "cannot remove a leftover file");
        }
    }
}

/// The first segment comes before the meta file, so that one with a meta file is complete.
fn create(
    directory: &Directory<'_>,
    bases: &[Offset],
    options: &Options,
) -> Result<Meta, OpenError> {
    let fs = directory.fs;
    let unfinished = match bases {
        [] => true,
        // A crash during the creation left a segment without a batch.
        [Offset(0)] => is_empty_segment(directory)?,
        _ => false,
    };
    if !unfinished {
        return Err(directory.damaged(META_NAME, "it is missing, but there are segments"));
    }
    let meta = Meta {
        epoch: options.new_epoch,
        start: Offset(0),
    };
    let header = Header {
        generation: 0,
        epoch: meta.epoch,
        base: Offset(0),
        previous: Offset(0),
        end: Offset(0),
        data_end: 0,
    };
    let temporary = format!("first{TEMPORARY_SUFFIX}");
    let make = || {
        let file = fs.create(&temporary)?;
        zero_fill(&*file, 0, options.segment_bytes.max(HEADER_BYTES))?;
        install(fs, &temporary, &*file, &header)?;
        meta.store(fs)
    };
    make().map_err(|error| directory.io(error))?;
    Ok(meta)
}

fn is_empty_segment(directory: &Directory<'_>) -> Result<bool, OpenError> {
    let name = segment_name(Offset(0));
    let file = directory
        .fs
        .open(&name)
        .map_err(|error| directory.io(error))?;
    non_zero_extent(&*file, HEADER_BYTES)
        .map(|x| x.is_none())
        .map_err(|e| directory.io(e))
}

fn check_sealed(
    directory: &Directory<'_>,
    bases: &[Offset],
    active: Offset,
    meta: &Meta,
) -> Result<BTreeMap<Offset, Sealed>, OpenError> {
    let mut sealed = BTreeMap::new();
    let mut before = None;
    let next = bases.iter().skip(1).chain([&active]);
    for (base, next) in bases.iter().zip(next) {
        let (header, file) = directory.header(*base, meta.epoch)?;
        check_previous(directory, &header, before, meta)?;
        let end = if header.end == Offset(0) {
            *next
        } else {
            header.end
        };
        if end > *next {
            let what = format!("it ends at offset {end}, after the begin of the next segment");
            return Err(directory.damaged(&segment_name(*base), what));
        }
        let bytes = file.len().map_err(|error| directory.io(error))?;
        if bytes < header.data_end {
            let what = format!("it has {bytes} bytes instead of {}", header.data_end);
            return Err(directory.damaged(&segment_name(*base), what));
        }
        sealed.insert(
            *base,
            Sealed {
                end,
                generation: header.generation,
                bytes,
                transient_bytes: None,
            },
        );
        before = Some(base);
    }
    Ok(sealed)
}

/// No segment is missing between this one and the one before, except where trimming took it.
fn check_previous(
    directory: &Directory<'_>,
    header: &Header,
    before: Option<&Offset>,
    meta: &Meta,
) -> Result<(), OpenError> {
    if header.base <= meta.start || before == Some(&header.previous) {
        return Ok(());
    }
    Err(directory.damaged(&segment_name(header.previous), "the file is missing"))
}

/// Reads the last segment to its last whole batch.
fn recover(
    directory: &Directory<'_>,
    header: &Header,
    file: &Arc<dyn FsFile>,
) -> Result<Recovered, OpenError> {
    let name = segment_name(header.base);
    let len = file.len().map_err(|error| directory.io(error))?;
    let mut scanner = FrameScanner::new(file.clone(), header.epoch, HEADER_BYTES, len);
    let mut found = Recovered {
        index: SegmentIndex::new(header.base),
        position: HEADER_BYTES,
        synced: HEADER_BYTES,
        next: header.base,
        batches: 0,
        torn: None,
    };
    loop {
        match read_batch(&mut scanner, &mut found) {
            Ok(true) => found.batches += 1,
            Ok(false) => break,
            Err(ScanError::Io(error)) => return Err(directory.io(error)),
            Err(ScanError::Damaged(damage)) => {
                found.torn = Some(format!("{name}: {damage}"));
                break;
            }
        }
    }
    if found.torn.is_none() {
        let rest = non_zero_extent(&**file, found.position).map_err(|error| directory.io(error))?;
        found.torn =
            rest.map(|rest| format!("{name}: a batch without a beginning at byte {}", rest.start));
    }
    if let Some(what) = &found.torn {
        let durable = scanner.was_durable_at(found.position, found.next);
        match durable {
            Ok(false) => {}
            Ok(true) => {
                let what = format!("{what}; batches after it were written later");
                return Err(directory.damaged(&name, what));
            }
            Err(ScanError::Io(error)) => return Err(directory.io(error)),
            Err(ScanError::Damaged(damage)) => return Err(directory.damaged(&name, damage)),
        }
    }
    Ok(found)
}

/// Reads one batch; false at the end. What is not dense was not written by us.
fn read_batch(scanner: &mut FrameScanner, found: &mut Recovered) -> Result<bool, ScanError> {
    let Some(frame) = scanner.next_frame()? else {
        return Ok(false);
    };
    let damage = |what| super::frame::Damage {
        position: frame.position,
        what,
    };
    let after = frame.position + frame.len() as u64;
    let mut next = found.next;
    // First all checks: a batch counts as a whole or not at all.
    for entry in frame.entries() {
        if entry?.offset != next {
            return Err(damage("the offsets of a batch do not follow").into());
        }
        next = next.next();
    }
    for entry in frame.entries() {
        found
            .index
            .push_raw(&entry?)
            .map_err(|_| damage("a record cannot be read"))?;
    }
    found.synced = frame.synced;
    found.next = next;
    found.position = after;
    Ok(true)
}

/// Makes durable what was found. It may be in memory only, and after a failed sync the operating
/// system may take it for written: so it is written once more.
fn write_again(file: &dyn FsFile, from: u64, to: u64) -> io::Result<()> {
    let mut buffer = vec![0; REWRITE_BYTES];
    let mut position = from;
    while position < to {
        let len = REWRITE_BYTES.min(usize::try_from(to - position).unwrap_or(REWRITE_BYTES));
        let piece = buffer.get_mut(..len).unwrap_or_default();
        read_exact_at(file, piece, position)?;
        write_whole_at(file, piece, position)?;
        position += len as u64;
    }
    file.sync_data()
}

/// Cuts off what is torn, and fills the segment with zeros again; returns its capacity.
fn make_room(
    directory: &Directory<'_>,
    file: &Arc<dyn FsFile>,
    recovered: &Recovered,
    segment_bytes: u64,
) -> Result<u64, OpenError> {
    let io = |error| directory.io(error);
    if recovered.torn.is_some() {
        file.set_len(recovered.position).map_err(io)?;
    }
    write_again(&**file, recovered.synced, recovered.position).map_err(io)?;
    let len = file.len().map_err(io)?;
    if len < segment_bytes
        && let Err(error) = zero_fill(&**file, len, segment_bytes)
    {
        // A full disk: reading must go on being possible.
        tracing::warn!(directory = %directory.fs.describe(), %error, "cannot preallocate a segment");
    }
    file.len().map_err(io)
}
