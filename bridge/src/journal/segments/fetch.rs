//! Reading messages by filters: what the indexes choose, in few and large reads.
//!
//! Picking looks at one segment at a time and takes no disk; fetching reads what was picked,
//! neighbours together. It does not know which segments there are (see [`super::reader`]).

use std::sync::Arc;

use tidings_core::journal::{Page, Published, ReadEntry, ReadError, Record};
use tidings_core::message::{Offset, Seq};

use super::cache::Loaded;
use super::frame::{ENTRY_HEADER_BYTES, check_entry};
use super::fs::{FsFile, read_exact_at};
use super::index::{IndexEntry, SegmentIndex};
use super::load::place_name;
use super::reader::{Active, SegmentJournal, View, segment_from};
use super::record::decode_record;
use super::tail::Tail;
use crate::journal::page::Collector;

/// Entries that lie closer together than this are read at once: a system call costs as much as
/// copying some kilobytes.
const READ_GAP_BYTES: u64 = 4 * 1024;
/// Most bytes that are read at once.
const READ_SPAN_BYTES: u64 = 512 * 1024;
/// Most entries that are looked up before their messages are read.
const PICKS_MAX: usize = 4096;

/// Where to find a message that is wanted.
struct Pick {
    offset: Offset,
    from: Source,
}

enum Source {
    Memory(Arc<Published>),
    Disk(Located),
}

/// Where an index says that a message is, and which one: in a file that is not as it was, another one
/// may be there, with checksums that are right.
pub(super) struct Located {
    position: u64,
    len: u64,
    seq: Seq,
    topic: Arc<str>,
}

impl Located {
    pub fn of(index: &SegmentIndex, entry: &IndexEntry) -> Self {
        // With its header.
        let position = u64::from(entry.place.position).saturating_sub(ENTRY_HEADER_BYTES as u64);
        Self {
            position,
            len: entry.stored_bytes(),
            seq: entry.seq,
            topic: index.topic_of(entry),
        }
    }
}

/// A step of reading on: what one segment has, up to `covered`.
struct Step {
    picks: Vec<Pick>,
    file: Arc<dyn FsFile>,
    base: Offset,
    covered: Offset,
}

impl SegmentJournal {
    /// What the segment that holds `from`, or the next one, has to offer.
    fn step(
        &self,
        filters: &[Arc<str>],
        from: Offset,
        view: View,
        max_bytes: usize,
    ) -> Result<Step, ReadError> {
        let mut from = from;
        loop {
            let sealed = {
                let shared = self.shared();
                match segment_from(&shared, from) {
                    Some((base, sealed)) => (base, sealed.end),
                    None => {
                        let Active { index, file, .. } = &shared.active;
                        let tail = Some(&shared.tail);
                        return Ok(pick(
                            index, file, tail, filters, from, view, view.end, max_bytes,
                        ));
                    }
                }
            };
            let (base, end) = sealed;
            if end < view.end && self.denies(base, |summary| summary.may_match(filters)) {
                from = end;
                continue;
            }
            if let Some(loaded) = self.load(base)? {
                let end = end.min(view.end);
                let Loaded { index, file, .. } = &*loaded;
                return Ok(pick(index, file, None, filters, from, view, end, max_bytes));
            }
        }
    }

    pub(super) fn collect(
        &self,
        filters: &[Arc<str>],
        from: Offset,
        to: Offset,
        max_bytes: usize,
    ) -> Result<Page, ReadError> {
        let mut view = self.view();
        view.end = view.end.min(to);
        let mut collector = Collector::new(max_bytes);
        let mut from = from;
        while from < view.end {
            let step = self.step(filters, from, view, collector.left())?;
            if let Some(next) = self.fetch(&step, &mut collector)? {
                return Ok(collector.page(next));
            }
            from = step.covered;
        }
        Ok(collector.page(from.max(view.end)))
    }

    /// Reads what was picked; returns where to read on if the collector is full.
    fn fetch(&self, step: &Step, collector: &mut Collector) -> Result<Option<Offset>, ReadError> {
        let mut span = Span::default();
        for (number, pick) in step.picks.iter().enumerate() {
            let published = match &pick.from {
                Source::Memory(published) => published.clone(),
                Source::Disk(located) => {
                    if !span.holds(located) {
                        let rest = step.picks.get(number..).unwrap_or_default();
                        span.fill(&*step.file, rest, collector.left())?;
                    }
                    self.decode(step.base, pick.offset, located, span.bytes(located))?
                }
            };
            if collector.push(ReadEntry {
                offset: pick.offset,
                published,
            }) {
                return Ok(Some(pick.offset.next()));
            }
        }
        Ok(None)
    }

    fn decode(
        &self,
        base: Offset,
        at: Offset,
        located: &Located,
        bytes: &[u8],
    ) -> Result<Arc<Published>, ReadError> {
        let damage = |what: &dyn std::fmt::Display| {
            ReadError::Damaged(format!("{}: {what}", place_name(base, at)))
        };
        self.count_decoded();
        let (_, record) = check_entry(bytes).map_err(|what| damage(&what))?;
        match decode_record(record).map_err(|error| damage(&error))? {
            Record::Published(published)
                if (published.seq, &published.message.topic) == (located.seq, &located.topic) =>
            {
                Ok(published)
            }
            Record::Published(_) => Err(damage(&"it is another message than its index says")),
            Record::Session { .. } | Record::Group { .. } | Record::Account { .. } => {
                Err(damage(&"it is no message"))
            }
        }
    }

    pub(super) fn read_one(
        &self,
        base: Offset,
        file: &dyn FsFile,
        offset: Offset,
        located: &Located,
    ) -> Result<Arc<Published>, ReadError> {
        let mut bytes = vec![0; located.len as usize];
        read_exact_at(file, &mut bytes, located.position)?;
        self.decode(base, offset, located, &bytes)
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "one leaf for the active and for sealed segments"
)]
fn pick(
    index: &SegmentIndex,
    file: &Arc<dyn FsFile>,
    tail: Option<&Tail>,
    filters: &[Arc<str>],
    from: Offset,
    view: View,
    end: Offset,
    max_bytes: usize,
) -> Step {
    let mut picks = Vec::new();
    let mut covered = end;
    let mut bytes = 0;
    for (offset, entry) in index.select(filters, from) {
        if offset >= end {
            break;
        }
        if bytes >= max_bytes || picks.len() >= PICKS_MAX {
            covered = offset;
            break;
        }
        if !view.shows(offset, entry) {
            continue;
        }
        bytes += entry.place.len as usize;
        let from = match tail.and_then(|tail| tail.get(offset)) {
            Some(published) => Source::Memory(published.clone()),
            None => Source::Disk(Located::of(index, entry)),
        };
        picks.push(Pick { offset, from });
    }
    Step {
        picks,
        file: file.clone(),
        base: index.base(),
        covered,
    }
}

/// A piece of a file in memory.
#[derive(Default)]
struct Span {
    position: u64,
    bytes: Vec<u8>,
}

impl Span {
    fn holds(&self, located: &Located) -> bool {
        let Located { position, len, .. } = *located;
        position >= self.position && position + len <= self.position + self.bytes.len() as u64
    }

    fn bytes(&self, located: &Located) -> &[u8] {
        let Located { position, len, .. } = *located;
        let at = usize::try_from(position.saturating_sub(self.position)).unwrap_or(usize::MAX);
        self.bytes
            .get(at..)
            .and_then(|rest| rest.get(..len as usize))
            .unwrap_or_default()
    }

    /// Reads the first of `picks`, and those after it that lie near.
    fn fill(&mut self, file: &dyn FsFile, picks: &[Pick], wanted: usize) -> Result<(), ReadError> {
        let disk = |pick: &Pick| match &pick.from {
            Source::Disk(Located { position, len, .. }) => Some((*position, *len)),
            Source::Memory(_) => None,
        };
        let mut places = picks.iter().map_while(disk);
        let Some((begin, len)) = places.next() else {
            return Ok(());
        };
        let mut end = begin + len;
        for (position, len) in places {
            let far = position > end + READ_GAP_BYTES || position + len > begin + READ_SPAN_BYTES;
            if far || end - begin >= wanted as u64 {
                break;
            }
            end = position + len;
        }
        self.position = begin;
        self.bytes
            .resize(usize::try_from(end - begin).unwrap_or(usize::MAX), 0);
        read_exact_at(file, &mut self.bytes, begin)?;
        Ok(())
    }
}
