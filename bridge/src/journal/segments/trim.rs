//! Giving disk space back: sealed segments of which nothing is needed are removed, those of which
//! little is needed are rewritten without the rest.
//!
//! Order of the steps, so that a crash between any two loses nothing that is needed: the new start
//! is made durable; segments are removed; a rewritten segment is complete and durable before it
//! takes the name of the old one. The active segment is left alone. The decision what is needed is
//! in [`crate::journal::retention`].

use std::io;
use std::sync::{Arc, PoisonError};

use tidings_core::journal::{Journal, ReadError};
use tidings_core::message::Offset;

use super::cache::Loaded;
use super::frame::{FrameBuilder, FrameScanner, HEADER_BYTES, Header, Place};
use super::fs::{FsFile, replace_file, write_whole_at};
use super::index::{SegmentIdentity, SegmentIndex};
use super::layout::{Meta, TEMPORARY_SUFFIX, index_name, segment_name};
use super::load::{damaged, read_header};
use super::reader::{Sealed, SegmentJournal};
use super::writer::install;
use crate::journal::retention::{Ledger, Retention, Stored};

/// A segment is rewritten when less than this part of it is needed: then at least as much is given
/// back as is written.
const COMPACT_BELOW_PERCENT: u64 = 50;
/// Bytes of a frame of a rewritten segment: it is read as a whole when it is verified.
const COMPACT_FRAME_BYTES: usize = 256 * 1024;

/// Most segments that are rewritten at once: bounds the memory and the load on the disk.
const COMPACTIONS_MAX: usize = 16;

/// What trimming did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrimReport {
    /// The first offset from which nothing is missing.
    pub start: Offset,
    /// Segments that were removed.
    pub removed: usize,
    /// Segments that were rewritten.
    pub compacted: usize,
    /// Bytes given back.
    pub freed_bytes: u64,
    /// True if there is more to be done: at once, or at the next time.
    pub more: bool,
}

/// What is to be done with a segment.
enum Fate {
    Keep,
    Remove,
    Compact { live: Vec<Offset> },
}

impl SegmentJournal {
    /// Removes what nobody needs any more. May take long; readers and the writer go on meanwhile,
    /// a second call waits.
    ///
    /// # Errors
    /// For a disk that fails, or damage. What was done up to then stays done; the journal is not
    /// poisoned by it.
    pub fn trim(&self, retention: &Retention) -> Result<TrimReport, ReadError> {
        let _one = self.trimming.lock().unwrap_or_else(PoisonError::into_inner);
        let start = self.move_start(retention)?;
        let mut report = TrimReport {
            start,
            ..TrimReport::default()
        };
        // First what needs no space: the disk may be full.
        let mut compactions = Vec::new();
        self.for_each_fate(retention, start, &mut |base, sealed, fate| {
            match fate {
                Fate::Keep => {}
                Fate::Remove => {
                    self.remove_segment(base)?;
                    report.removed += 1;
                    report.freed_bytes += sealed.bytes;
                }
                Fate::Compact { live } if compactions.len() < COMPACTIONS_MAX => {
                    compactions.push((base, sealed, live));
                }
                Fate::Compact { .. } => report.more = true,
            }
            Ok(())
        })?;
        if report.removed > 0 {
            self.fs.sync_dir()?;
        }
        for (base, sealed, live) in compactions {
            if self.trimming_is_stopped() {
                report.more = true;
                break;
            }
            let temporary = format!("{}{TEMPORARY_SUFFIX}", segment_name(base));
            let compacted = self.compact(base, &temporary, &live);
            if compacted.is_err() {
                // Best effort: the next start removes it too.
                let _ = self.fs.remove(&temporary);
            }
            let bytes = compacted?;
            report.compacted += 1;
            report.freed_bytes += sealed.bytes.saturating_sub(bytes);
        }
        Ok(report)
    }

    fn move_start(&self, retention: &Retention) -> Result<Offset, ReadError> {
        let behind = match retention.max_backlog_bytes {
            Some(max) => self.backlog_start(max)?,
            None => None,
        };
        let (old, end) = (self.start(), self.end());
        let start = retention.new_start(old, end, behind);
        if start > old {
            Meta {
                epoch: self.epoch,
                start,
            }
            .store(&*self.fs)?;
            self.shared_mut().start = start;
        }
        Ok(start)
    }

    /// The end of the newest segment that is wholly behind the allowed backlog.
    fn backlog_start(&self, max_bytes: u64) -> Result<Option<Offset>, ReadError> {
        let mut bytes = {
            let shared = self.shared();
            shared.active.index.transient_bytes()
        };
        for (base, sealed) in self.sealed_newest_first() {
            if bytes > max_bytes {
                return Ok(Some(sealed.end));
            }
            // Only here for a reader that is far behind: everything below is history.
            if sealed.end <= self.start() {
                return Ok(None);
            }
            bytes += match sealed.transient_bytes {
                Some(bytes) => bytes,
                None => self.count_transient(base)?,
            };
        }
        Ok(None)
    }

    /// Looks into the index of a segment, once.
    fn count_transient(&self, base: Offset) -> Result<u64, ReadError> {
        let Some(loaded) = self.load_uncached(base)? else {
            return Ok(0);
        };
        let bytes = loaded.index.transient_bytes();
        if let Some(sealed) = self.shared_mut().sealed.get_mut(&base) {
            sealed.transient_bytes = Some(bytes);
        }
        Ok(bytes)
    }

    fn sealed_newest_first(&self) -> Vec<(Offset, Sealed)> {
        self.shared()
            .sealed
            .iter()
            .rev()
            .map(|(base, sealed)| (*base, *sealed))
            .collect()
    }

    fn for_each_fate(
        &self,
        retention: &Retention,
        start: Offset,
        act: &mut dyn FnMut(Offset, Sealed, Fate) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        // Segments that somebody still reads stay whole, so often there is nothing to count.
        if self.shared().sealed.values().all(|one| one.end > start) {
            return Ok(());
        }
        let mut ledger = Ledger::new(retention);
        // Newest first: the ledger counts in this order, and the active segment counts too.
        let sealed = {
            let shared = self.shared();
            count(&shared.active.index, &mut ledger, &mut |_, _| {});
            shared
                .sealed
                .iter()
                .rev()
                .map(|(base, s)| (*base, *s))
                .collect::<Vec<_>>()
        };
        for (base, sealed) in sealed {
            if self.trimming_is_stopped() {
                return Ok(());
            }
            let Some(loaded) = self.load_uncached(base)? else {
                continue;
            };
            let (mut live, mut live_bytes) = (Vec::new(), 0);
            count(&loaded.index, &mut ledger, &mut |offset, bytes| {
                live.push(offset);
                live_bytes += bytes;
            });
            live.reverse();
            let fate = if sealed.end > start {
                Fate::Keep
            } else if live.is_empty() {
                Fate::Remove
            } else if live_bytes * 100 < (sealed.bytes - HEADER_BYTES) * COMPACT_BELOW_PERCENT {
                Fate::Compact { live }
            } else {
                Fate::Keep
            };
            act(base, sealed, fate)?;
        }
        Ok(())
    }

    fn remove_segment(&self, base: Offset) -> io::Result<()> {
        let _alone = self
            .replacing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.shared_mut().sealed.remove(&base);
        self.forget(base);
        self.fs.remove(&segment_name(base))?;
        match self.fs.remove(&index_name(base)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Rewrites a segment with only the entries in `live`; returns its new length.
    fn compact(&self, base: Offset, temporary: &str, live: &[Offset]) -> Result<u64, ReadError> {
        let old = self.fs.open(&segment_name(base))?;
        let old_header = read_header(&*old, base)?;
        let end = self
            .shared()
            .sealed
            .get(&base)
            .map_or(base, |sealed| sealed.end);
        let mut copy = Copy::new(self, base, self.fs.create(temporary)?);
        let mut live = live.iter().peekable();
        let mut scanner = FrameScanner::new(old.clone(), self.epoch, HEADER_BYTES, old.len()?);
        while let Some(frame) = scanner.next_frame().map_err(|error| damaged(base, error))? {
            for entry in frame.entries() {
                let entry = entry.map_err(|damage| damaged(base, damage.into()))?;
                if live.next_if_eq(&&entry.offset).is_some() {
                    copy.push(entry.offset, entry.record)?;
                }
            }
        }
        if live.peek().is_some() {
            let what = format!(
                "{}: its index names an entry that is not there",
                segment_name(base)
            );
            return Err(ReadError::Damaged(what));
        }
        copy.flush()?;
        let Copy {
            file,
            position,
            index,
            ..
        } = copy;
        let header = Header {
            generation: old_header.generation + 1,
            end,
            data_end: position,
            ..old_header
        };
        let _alone = self
            .replacing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        install(&*self.fs, temporary, &*file, &header)?;
        let identity = SegmentIdentity {
            header_crc: header.crc(),
            base,
            end,
            data_end: position,
        };
        let encoded = index.encode(&identity);
        let generation = header.generation;
        {
            let transient_bytes = Some(index.transient_bytes());
            let mut shared = self.shared_mut();
            shared.sealed.insert(
                base,
                Sealed {
                    end,
                    generation,
                    bytes: position,
                    transient_bytes,
                },
            );
            self.keep_loaded(
                base,
                Arc::new(Loaded {
                    index,
                    file,
                    generation,
                }),
            );
        }
        replace_file(&*self.fs, &index_name(base), &encoded)?;
        Ok(position)
    }
}

/// Shows the history of a segment to the ledger, newest first, and what it keeps to `kept`.
fn count(index: &SegmentIndex, ledger: &mut Ledger<'_>, kept: &mut dyn FnMut(Offset, u64)) {
    let (topics, streams) = (index.topics(), index.streams());
    for entry in index
        .entries()
        .iter()
        .rev()
        .filter(|entry| entry.is_history())
    {
        let (Some(topic), Some(stream)) = (
            topics.get(index.topic_number(entry)),
            streams.get(index.stream_number(entry)),
        ) else {
            continue;
        };
        let (time, bytes) = (entry.time, entry.stored_bytes());
        if ledger.count(&Stored {
            topic,
            stream,
            time,
            bytes,
        }) {
            kept(index.offset_of(entry), bytes);
        }
    }
}

/// A segment on its way into a new file.
struct Copy {
    base: Offset,
    file: Arc<dyn FsFile>,
    position: u64,
    frame: FrameBuilder,
    /// Entries of the frame that is not written yet.
    places: Vec<(Offset, Place)>,
    records: Vec<Vec<u8>>,
    index: SegmentIndex,
}

impl Copy {
    fn new(journal: &SegmentJournal, base: Offset, file: Arc<dyn FsFile>) -> Self {
        Self {
            base,
            file,
            position: HEADER_BYTES,
            frame: FrameBuilder::new(journal.epoch),
            places: Vec::new(),
            records: Vec::new(),
            index: SegmentIndex::new(base),
        }
    }

    fn push(&mut self, offset: Offset, record: &[u8]) -> Result<(), ReadError> {
        if self.places.is_empty() {
            self.frame.begin(offset);
        }
        self.places
            .push((offset, self.frame.push_encoded(offset, record)));
        self.records.push(record.to_vec());
        if self.frame.len() >= COMPACT_FRAME_BYTES {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> Result<(), ReadError> {
        if self.places.is_empty() {
            return Ok(());
        }
        let bytes = self.frame.finish(0);
        write_whole_at(&*self.file, bytes, self.position)?;
        for ((offset, place), record) in self.places.drain(..).zip(self.records.drain(..)) {
            let place = Place {
                position: place.position + self.position as u32,
                len: place.len,
            };
            let entry = super::frame::RawEntry {
                offset,
                record: &record,
                place,
            };
            self.index.push_raw(&entry).map_err(|error| {
                let name = segment_name(self.base);
                ReadError::Damaged(format!("{name}, offset {offset}: {error}"))
            })?;
        }
        self.position += bytes.len() as u64;
        Ok(())
    }
}
