//! The reading side: [`SegmentJournal`] finds messages by topic, stream, offset and time.
//!
//! Invariants: readers see a batch as a whole or not at all (it is published under one lock, after
//! it is durable); sealed segments never change except that trimming replaces or removes them, and
//! who has one open reads on; disk is never read under the lock. It does not know how batches are
//! written (see [`super::writer`]) nor what may be removed (see [`super::trim`]).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tidings_core::journal::{Audience, Journal, Page, Published, ReadEntry, ReadError};
use tidings_core::message::{Epoch, Offset, Seq, UnixMillis};
use tidings_core::topic::ReplayFrom;

use super::cache::IndexCache;
use super::fetch::Located;
use super::fs::{Fs, FsFile};
use super::index::{IndexEntry, SegmentIndex};
use super::summary::Summary;
use super::tail::Tail;

/// The journal on segment files, for reading. Cheap to share; every method may be called from
/// several threads.
pub struct SegmentJournal {
    pub(super) fs: Arc<dyn Fs>,
    pub(super) epoch: Epoch,
    shared: RwLock<Shared>,
    cache: Mutex<IndexCache>,
    /// Held by the one who trims.
    pub(super) trimming: Mutex<()>,
    /// Held while the files of a sealed segment are replaced or removed.
    pub(super) replacing: Mutex<()>,
    stop_trimming: AtomicBool,
    decoded: AtomicU64,
}

/// What changes while readers read.
pub struct Shared {
    pub start: Offset,
    pub end: Offset,
    pub sealed: BTreeMap<Offset, Sealed>,
    pub active: Active,
    pub tail: Tail,
}

/// A segment that is complete.
#[derive(Clone, Copy, Debug)]
pub struct Sealed {
    /// Offset after its last entry.
    pub end: Offset,
    /// Times that it was rewritten.
    pub generation: u32,
    /// Bytes of its file.
    pub bytes: u64,
    /// Bytes of its messages that no rule keeps; `None`: its index was not looked at yet.
    pub transient_bytes: Option<u64>,
}

/// The segment that is written.
pub struct Active {
    pub index: SegmentIndex,
    pub file: Arc<dyn FsFile>,
    /// Bytes that hold data; the rest is preallocated.
    pub data_end: u64,
}

/// What a selection may see.
#[derive(Clone, Copy)]
pub(super) struct View {
    pub start: Offset,
    pub end: Offset,
}

impl View {
    /// Before `start` only history is left.
    pub fn shows(&self, offset: Offset, entry: &IndexEntry) -> bool {
        offset < self.end && (offset >= self.start || entry.is_history())
    }
}

impl SegmentJournal {
    pub(super) fn new(fs: Arc<dyn Fs>, epoch: Epoch, shared: Shared) -> Self {
        Self {
            fs,
            epoch,
            shared: RwLock::new(shared),
            cache: Mutex::default(),
            trimming: Mutex::default(),
            replacing: Mutex::default(),
            stop_trimming: AtomicBool::new(false),
            decoded: AtomicU64::new(0),
        }
    }

    // A panic under these locks leaves nothing half done that a reader could trip over.
    pub(super) fn shared(&self) -> RwLockReadGuard<'_, Shared> {
        self.shared.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn shared_mut(&self) -> RwLockWriteGuard<'_, Shared> {
        self.shared.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Entries read from disk and decoded so far.
    pub fn decoded_count(&self) -> u64 {
        self.decoded.load(Ordering::Relaxed)
    }

    pub(super) fn count_decoded(&self) {
        self.decoded.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn cache(&self) -> MutexGuard<'_, IndexCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a running trim, and all later ones, end after the segment they are at.
    pub fn stop_trimming(&self) {
        self.stop_trimming.store(true, Ordering::Relaxed);
    }

    pub(super) fn trimming_is_stopped(&self) -> bool {
        self.stop_trimming.load(Ordering::Relaxed)
    }

    /// Bytes of all entries, with what frames them; what is preallocated and the indexes are not
    /// counted.
    pub fn stored_bytes(&self) -> u64 {
        let shared = self.shared();
        shared
            .sealed
            .values()
            .map(|sealed| sealed.bytes)
            .sum::<u64>()
            + shared.active.data_end
    }

    /// Segment files, with the one that is written.
    pub fn segment_count(&self) -> u64 {
        self.shared().sealed.len() as u64 + 1
    }

    /// Bytes of all segment files, indexes not counted.
    pub fn disk_bytes(&self) -> u64 {
        let shared = self.shared();
        let active = shared.active.file.len().unwrap_or(0);
        shared
            .sealed
            .values()
            .map(|sealed| sealed.bytes)
            .sum::<u64>()
            + active
    }

    pub(super) fn view(&self) -> View {
        let shared = self.shared();
        View {
            start: shared.start,
            end: shared.end,
        }
    }

    /// Calls `visit` for segments from the newest to the oldest until it returns `Some`.
    fn newest_first<T>(
        &self,
        may: impl Fn(&Summary) -> bool,
        mut visit: impl FnMut(&SegmentIndex, View) -> Option<T>,
    ) -> Result<Option<T>, ReadError> {
        let (view, bases) = {
            let shared = self.shared();
            let view = View {
                start: shared.start,
                end: shared.end,
            };
            if let Some(found) = visit(&shared.active.index, view) {
                return Ok(Some(found));
            }
            (
                view,
                shared.sealed.keys().rev().copied().collect::<Vec<_>>(),
            )
        };
        for base in bases {
            if !self.denies(base, &may)
                && let Some(loaded) = self.load(base)?
                && let Some(found) = visit(&loaded.index, view)
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn locate_last(&self, filter: &[Arc<str>], count: usize) -> Result<Offset, ReadError> {
        let mut missing = count;
        let mut oldest = None;
        let found = self.newest_first(
            |summary| summary.may_match(filter),
            |index, view| {
                let offsets: Vec<Offset> = index
                    .select(filter, index.base())
                    .filter(|(offset, e)| e.is_for_everyone() && view.shows(*offset, e))
                    .map(|(offset, _)| offset)
                    .collect();
                oldest = offsets.first().copied().or(oldest);
                if offsets.len() >= missing {
                    return offsets.get(offsets.len() - missing).copied();
                }
                missing -= offsets.len();
                None
            },
        )?;
        Ok(found.or(oldest).unwrap_or_else(|| self.end()))
    }

    fn locate_first(
        &self,
        filter: &[Arc<str>],
        wanted: impl Fn(&IndexEntry) -> bool,
        newest_from: UnixMillis,
    ) -> Result<Offset, ReadError> {
        let view = self.view();
        let first = |index: &SegmentIndex| {
            let mut selection = index.select(filter, index.base());
            selection
                .find(|(o, e)| e.is_for_everyone() && wanted(e) && view.shows(*o, e))
                .map(|(offset, _)| offset)
        };
        let may = |summary: &Summary| summary.newest() >= newest_from && summary.may_match(filter);
        let mut from = Offset(0);
        while from < view.end {
            let (base, end) = {
                let shared = self.shared();
                match segment_from(&shared, from) {
                    Some((base, sealed)) => (base, sealed.end),
                    None => return Ok(first(&shared.active.index).unwrap_or(view.end)),
                }
            };
            if !self.denies(base, may)
                && let Some(loaded) = self.load(base)?
                && let Some(found) = first(&loaded.index)
            {
                return Ok(found);
            }
            from = end;
        }
        Ok(view.end)
    }
}

impl Journal for SegmentJournal {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn start(&self) -> Offset {
        self.shared().start
    }

    fn end(&self) -> Offset {
        self.shared().end
    }

    fn read(
        &self,
        filters: &[Arc<str>],
        from: Offset,
        to: Offset,
        max_bytes: usize,
    ) -> Result<Page, ReadError> {
        let page = self.collect(filters, from, to, max_bytes);
        // Asked last: trimming moves the start before it removes anything, so if it has not moved
        // past `from` by now, nothing was missing.
        let first = self.start();
        if from < first {
            Err(ReadError::Trimmed { first })
        } else {
            page
        }
    }

    fn read_history(
        &self,
        filters: &[Arc<str>],
        from: Offset,
        to: Offset,
        max_bytes: usize,
    ) -> Result<Page, ReadError> {
        self.collect(filters, from, to, max_bytes)
    }

    fn read_at(&self, offset: Offset) -> Result<Option<Arc<Published>>, ReadError> {
        let found = self.find(offset)?;
        let first = self.start();
        if found.is_none() && offset < first {
            return Err(ReadError::Trimmed { first });
        }
        Ok(found)
    }

    fn locate(&self, filter: &str, from: ReplayFrom) -> Result<Offset, ReadError> {
        let filter = [Arc::from(filter)];
        match from {
            ReplayFrom::Last(0) => Ok(self.end()),
            ReplayFrom::Last(count) => self.locate_last(&filter, count as usize),
            ReplayFrom::Seq(seq) => self.locate_first(&filter, |e| e.seq.0 >= seq, 0),
            ReplayFrom::Ts(ms) => self.locate_first(&filter, |e| e.time >= ms, ms),
        }
    }

    fn history(&self, stream: &str, from: Seq, limit: usize) -> Result<Vec<ReadEntry>, ReadError> {
        let bases: Vec<Offset> = {
            let shared = self.shared();
            let sealed = shared.sealed.keys().copied();
            sealed.chain([shared.active.index.base()]).collect()
        };
        let begin = self.segment_of_seq(&bases, stream, from)?;
        let mut found = Vec::new();
        for base in bases.get(begin..).unwrap_or_default() {
            if found.len() >= limit {
                break;
            }
            if self.may_have_stream(*base, stream) {
                self.history_in(*base, stream, from, limit, &mut found)?;
            }
        }
        Ok(found)
    }
}

impl SegmentJournal {
    fn may_have_stream(&self, base: Offset, stream: &str) -> bool {
        !self.denies(base, |summary| summary.may_have_stream(stream))
    }

    /// Which of the segments, oldest first, is the last that begins in the stream at or before `from`;
    /// 0 if none does. Numbers ascend with offsets, so few indexes are looked at.
    fn segment_of_seq(
        &self,
        bases: &[Offset],
        stream: &str,
        from: Seq,
    ) -> Result<usize, ReadError> {
        let (mut begin, mut low, mut high) = (0, 0, bases.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let mut first = None;
            let mut probe = middle;
            while let Some(base) = bases.get(probe).filter(|_| probe < high) {
                first = self.first_seq(*base, stream)?;
                if first.is_some() {
                    break;
                }
                probe += 1;
            }
            match first {
                Some(first) if first <= from => (begin, low) = (probe, probe + 1),
                _ => high = middle,
            }
        }
        Ok(begin)
    }

    /// The first number of a stream in a segment.
    fn first_seq(&self, base: Offset, stream: &str) -> Result<Option<Seq>, ReadError> {
        let first = |index: &SegmentIndex| index.stream(stream, Seq(1)).next().map(|e| e.seq);
        {
            let shared = self.shared();
            if shared.active.index.base() == base {
                return Ok(first(&shared.active.index));
            }
        }
        if !self.may_have_stream(base, stream) {
            return Ok(None);
        }
        Ok(self.load(base)?.and_then(|loaded| first(&loaded.index)))
    }

    fn find(&self, offset: Offset) -> Result<Option<Arc<Published>>, ReadError> {
        let (base, file, entry, view) = {
            let shared = self.shared();
            let view = View {
                start: shared.start,
                end: shared.end,
            };
            if let Some(published) = shared.tail.get(offset) {
                let shown = offset >= view.start || published.history;
                return Ok(shown.then(|| published.clone()));
            }
            match segment_from(&shared, offset) {
                Some((base, _)) => (base, None, None, view),
                None => {
                    let Active { index, file, .. } = &shared.active;
                    (
                        index.base(),
                        Some(file.clone()),
                        located(index, offset, view),
                        view,
                    )
                }
            }
        };
        let (file, entry) = match file {
            Some(file) => (file, entry),
            None => match self.load(base)? {
                Some(loaded) => (loaded.file.clone(), located(&loaded.index, offset, view)),
                None => return Ok(None),
            },
        };
        entry
            .map(|entry| self.read_one(base, &*file, offset, &entry))
            .transpose()
    }

    fn history_in(
        &self,
        base: Offset,
        stream: &str,
        from: Seq,
        limit: usize,
        found: &mut Vec<ReadEntry>,
    ) -> Result<(), ReadError> {
        let choose = |index: &SegmentIndex, view: View, missing: usize| -> Vec<_> {
            let entries = index.stream(stream, from).map(|e| (index.offset_of(e), e));
            entries
                .filter(|(offset, e)| view.shows(*offset, e))
                .take(missing)
                .map(|(offset, e)| (offset, Located::of(index, e)))
                .collect()
        };
        let missing = limit.saturating_sub(found.len());
        let view = self.view();
        let active = {
            let shared = self.shared();
            let Active { index, file, .. } = &shared.active;
            (index.base() == base).then(|| (choose(index, view, missing), file.clone()))
        };
        let (chosen, file) = match active {
            Some(active) => active,
            None => match self.load(base)? {
                Some(loaded) => (choose(&loaded.index, view, missing), loaded.file.clone()),
                None => return Ok(()),
            },
        };
        for (offset, entry) in chosen {
            let in_memory = self.shared().tail.get(offset).cloned();
            let published = match in_memory {
                Some(published) => published,
                None => self.read_one(base, &*file, offset, &entry)?,
            };
            debug_assert_eq!(published.audience, Audience::Everyone);
            found.push(ReadEntry { offset, published });
        }
        Ok(())
    }
}

/// Where the message at an offset is, if it is shown.
fn located(index: &SegmentIndex, offset: Offset, view: View) -> Option<Located> {
    let entry = index.at(offset)?;
    view.shows(offset, entry).then(|| Located::of(index, entry))
}

/// The sealed segment that holds `from`, or the next one after it; `None` for the active one.
pub(super) fn segment_from(shared: &Shared, from: Offset) -> Option<(Offset, Sealed)> {
    let before = shared
        .sealed
        .range(..=from)
        .next_back()
        .filter(|(_, sealed)| sealed.end > from);
    before
        .or_else(|| shared.sealed.range(from..).next())
        .map(|(base, sealed)| (*base, *sealed))
}
