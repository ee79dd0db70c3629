//! Verifies a journal that nobody has open: every checksum, every record, the order of offsets and
//! seqs, and that each index says what its segment says.
//!
//! It changes nothing. A torn write at the end is told, but is no problem: the next start cuts it
//! off. Holes are allowed only where trimming may have made them: before `start`.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use tidings_core::journal::{Audience, Entry, Record};
use tidings_core::message::{Epoch, Offset, Seq};

use super::frame::{Damage, FrameScanner, HEADER_BYTES, Header, RawEntry, ScanError};
use super::fs::{Fs, FsFile, non_zero_extent, read_full_at};
use super::index::{IndexFile, SegmentIndex};
use super::layout::{index_name, segment_base, segment_name};
use super::open::{Directory, OpenError};
use super::record::decode_record;

/// More problems than anyone reads; a journal that is damaged all over stays bounded in memory.
const PROBLEMS_MAX: usize = 1000;

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: String,
    /// Where in it, bytes.
    pub position: Option<u64>,
    /// What is wrong.
    pub what: String,
}

/// What [`fsck`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FsckReport {
    /// Identity of the journal.
    pub epoch: Epoch,
    /// The first offset from which nothing is missing.
    pub start: Offset,
    /// The offset after the last entry.
    pub end: Offset,
    /// Segment files.
    pub segments: u64,
    /// Batches.
    pub batches: u64,
    /// Entries.
    pub entries: u64,
    /// Entries that are messages.
    pub messages: u64,
    /// Bytes of the segment files.
    pub bytes: u64,
    /// Sealed segments whose index has to be built anew: after a crash that is nothing unusual.
    pub missing_indexes: u64,
    /// What the next start cuts off at the end.
    pub torn: Option<String>,
    /// The last seq of each stream.
    pub heads: HashMap<Arc<str>, Seq>,
    /// What is wrong, at most a thousand.
    pub problems: Vec<Problem>,
}

/// Verifies the journal in a directory. `progress` hears bytes done and in total; `visit` gets
/// every entry that can be read, in offset order, for comparing the state with it.
///
/// # Errors
/// If there is no journal, another process has it open, or the disk fails. Damage is in the report.
pub fn fsck(
    fs: &Arc<dyn Fs>,
    progress: &mut dyn FnMut(u64, u64),
    visit: &mut dyn FnMut(Entry),
) -> Result<FsckReport, OpenError> {
    let directory = Directory { fs: &**fs };
    let _lock = directory.lock()?;
    let Some(meta) = directory.meta()? else {
        return Err(directory.damaged("meta", "it is missing: there is no journal here"));
    };
    let names = fs.list().map_err(|error| directory.io(error))?;
    let mut bases: Vec<Offset> = names.iter().filter_map(|name| segment_base(name)).collect();
    bases.sort_unstable();
    let report = FsckReport {
        epoch: meta.epoch,
        start: meta.start,
        ..FsckReport::default()
    };
    let mut check = Check {
        fs: &**fs,
        report,
        progress,
        visit,
        streams: HashMap::new(),
        done: 0,
    };
    let mut run = || {
        for base in &bases {
            check.report.bytes += fs.open(&segment_name(*base))?.len()?;
        }
        for (number, base) in bases.iter().enumerate() {
            check.segment(
                *base,
                number.checked_sub(1).map(|n| bases[n]),
                number + 1 == bases.len(),
            )?;
        }
        io::Result::Ok(())
    };
    run().map_err(|error| directory.io(error))?;
    if bases.is_empty() {
        check.problem("meta", None, "all segments are gone");
    }
    let Check {
        mut report,
        streams,
        ..
    } = check;
    report.heads = streams
        .into_iter()
        .map(|(stream, last)| (stream, last.seq))
        .collect();
    Ok(report)
}

/// The last message of a stream.
#[derive(Clone, Copy)]
struct Last {
    seq: Seq,
    offset: Offset,
}

struct Check<'a> {
    fs: &'a dyn Fs,
    report: FsckReport,
    progress: &'a mut dyn FnMut(u64, u64),
    visit: &'a mut dyn FnMut(Entry),
    streams: HashMap<Arc<str>, Last>,
    done: u64,
}

impl Check<'_> {
    fn problem(&mut self, file: &str, position: Option<u64>, what: impl ToString) {
        if self.report.problems.len() < PROBLEMS_MAX {
            let what = what.to_string();
            self.report.problems.push(Problem {
                file: file.to_owned(),
                position,
                what,
            });
        }
    }

    fn segment(&mut self, base: Offset, before: Option<Offset>, is_last: bool) -> io::Result<()> {
        let name = segment_name(base);
        self.report.segments += 1;
        let file = self.fs.open(&name)?;
        let len = file.len()?;
        if let Some(header) = self.header(&name, base, &*file)? {
            if base > self.report.start && before != Some(header.previous) {
                self.problem(&segment_name(header.previous), None, "the file is missing");
            }
            if before.is_some() && base > self.report.start && base != self.report.end {
                let what = format!(
                    "it begins at offset {base}, the one before ends at {}",
                    self.report.end
                );
                self.problem(&name, None, what);
            }
            let (index, whole) = self.frames(&name, &header, &file, len, is_last)?;
            if whole && !is_last {
                self.index(&header, &index)?;
            }
        }
        self.done += len;
        (self.progress)(self.done, self.report.bytes);
        Ok(())
    }

    fn header(
        &mut self,
        name: &str,
        base: Offset,
        file: &dyn FsFile,
    ) -> io::Result<Option<Header>> {
        let mut bytes = [0; HEADER_BYTES as usize];
        let len = read_full_at(file, &mut bytes, 0)?;
        let what = match Header::decode(bytes.get(..len).unwrap_or_default()) {
            Ok(header) if header.base != base => "its header belongs to another file".to_owned(),
            Ok(header) if header.epoch != self.report.epoch => {
                "it belongs to another journal".to_owned()
            }
            Ok(header) => return Ok(Some(header)),
            Err(error) => error.to_string(),
        };
        self.problem(name, Some(0), what);
        Ok(None)
    }

    /// Checks the batches of a segment; false if something in it could not be read.
    fn frames(
        &mut self,
        name: &str,
        header: &Header,
        file: &Arc<dyn FsFile>,
        len: u64,
        is_last: bool,
    ) -> io::Result<(SegmentIndex, bool)> {
        let mut index = SegmentIndex::new(header.base);
        let mut scanner = FrameScanner::new(file.clone(), header.epoch, HEADER_BYTES, len);
        let is_dense = header.end == Offset(0);
        let mut next = header.base;
        let mut damage = None;
        loop {
            let frame = match scanner.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(ScanError::Io(error)) => return Err(error),
                Err(ScanError::Damaged(found)) => {
                    damage = Some(found);
                    break;
                }
            };
            self.report.batches += 1;
            (self.progress)(self.done + frame.position, self.report.bytes);
            for entry in frame.entries() {
                let checked = entry
                    .map_err(|damage| damage.to_string())
                    .and_then(|entry| {
                        if entry.offset < next || (is_dense && entry.offset > next) {
                            return Err(format!("offset {} where {next} should be", entry.offset));
                        }
                        next = entry.offset.next();
                        index.push_raw(&entry).map_err(|error| error.to_string())?;
                        self.entry(name, &entry)
                    });
                if let Err(what) = checked {
                    self.problem(name, Some(frame.position), what);
                    return Ok((index, false));
                }
            }
        }
        let position = scanner.position();
        if damage.is_none() {
            damage = non_zero_extent(&**file, position)?.map(|rest| Damage {
                position: rest.start,
                what: "data after the end",
            });
        }
        if !is_dense && (header.data_end != position || next > header.end) {
            self.problem(
                name,
                Some(position),
                "its data does not end where its header says",
            );
        }
        self.report.end = if is_dense { next } else { header.end };
        match damage {
            None => return Ok((index, true)),
            Some(found) if is_last => match scanner.was_durable_at(position, next) {
                Ok(false) => self.report.torn = Some(format!("{name}: {found}")),
                Ok(true) => {
                    let what = format!("{found}; batches after it were written later");
                    self.problem(name, Some(position), what);
                }
                Err(ScanError::Io(error)) => return Err(error),
                Err(ScanError::Damaged(other)) => self.problem(name, Some(position), other),
            },
            Some(found) => self.problem(name, Some(found.position), found.what),
        }
        Ok((index, false))
    }

    fn entry(&mut self, name: &str, raw: &RawEntry<'_>) -> Result<(), String> {
        let at = |what: &dyn std::fmt::Display| format!("offset {}: {what}", raw.offset);
        let record = decode_record(raw.record).map_err(|error| at(&error))?;
        self.report.entries += 1;
        if let Record::Published(published) = &record {
            self.report.messages += 1;
            let everyone = published.audience == Audience::Everyone;
            if everyone && let Err(what) = self.seq(&published.stream, published.seq, raw.offset) {
                let position = u64::from(raw.place.position);
                self.problem(name, Some(position), at(&what));
            }
        }
        (self.visit)(Entry {
            offset: raw.offset,
            record,
        });
        Ok(())
    }

    /// A stream counts 1, 2, 3, ...: what is missing must have been before `start`.
    fn seq(&mut self, stream: &Arc<str>, seq: Seq, offset: Offset) -> Result<(), String> {
        let start = self.report.start;
        let before = self.streams.insert(stream.clone(), Last { seq, offset });
        let (last, may_have_holes) = match before {
            Some(last) => (last.seq, last.offset < start),
            None => (Seq(0), start > Offset(0)),
        };
        let follows = seq.0 == last.0 + 1 || (may_have_holes && seq > last);
        if follows {
            return Ok(());
        }
        Err(format!(
            "stream {stream} has number {} after {}",
            seq.0, last.0
        ))
    }

    fn index(&mut self, header: &Header, built: &SegmentIndex) -> io::Result<()> {
        let name = index_name(header.base);
        match IndexFile::load(self.fs, &name, header.crc())? {
            IndexFile::Missing | IndexFile::Stale => self.report.missing_indexes += 1,
            IndexFile::Damaged => {
                self.problem(&name, None, "the index is damaged; it will be rebuilt")
            }
            IndexFile::Good(index) if index.says_the_same_as(built) => {}
            IndexFile::Good(_) => self.problem(&name, None, "the index differs from its segment"),
        }
        Ok(())
    }
}
