//! The reading side: [`SegmentJournal`] finds messages by topic, stream, offset and time.
//!
//! Invariants: readers see a batch as a whole or not at all (it is published under one lock, after
//! it is durable); sealed segments never change except that trimming replaces or removes them, and
//! who has one open reads on; disk is never read under the lock. It does not know how batches are
//! written (see [`super::writer`]) nor what may be removed (see [`super::trim`]).

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tidings_core::journal::{
    Audience, Batch, Entry, Journal, Page, Published, ReadEntry, ReadError, Record,
};
use tidings_core::message::{Epoch, Offset, Seq};
use tidings_core::topic::ReplayFrom;

use super::cache::{IndexCache, Loaded};
use super::frame::{
    ENTRY_HEADER_BYTES, FrameScanner, HEADER_BYTES, Header, ScanError, check_entry,
};
use super::fs::{Fs, FsFile, read_exact_at, read_full_at, replace_file};
use super::index::{IndexEntry, IndexFile, SegmentIdentity, SegmentIndex};
use super::layout::{index_name, segment_name};
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
}

/// The segment that is written.
pub struct Active {
    pub index: SegmentIndex,
    pub file: Arc<dyn FsFile>,
}

/// Where to find a message that is wanted.
struct Pick {
    offset: Offset,
    from: Source,
}

enum Source {
    Memory(Arc<Published>),
    Disk { position: u64, len: u64 },
}

/// A step of reading on: what one segment has, up to `covered`.
struct Step {
    picks: Vec<Pick>,
    file: Arc<dyn FsFile>,
    base: Offset,
    covered: Offset,
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

    /// Lets a running trim, and all later ones, end after the segment they are at.
    pub fn stop_trimming(&self) {
        self.stop_trimming.store(true, Ordering::Relaxed);
    }

    pub(super) fn trimming_is_stopped(&self) -> bool {
        self.stop_trimming.load(Ordering::Relaxed)
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

    /// Every entry from `from` on, batch by batch as it was committed (the shards are not known any
    /// more: all 0). For bringing the state up to date at a start.
    ///
    /// # Errors
    /// As [`Journal::read`]; whatever `apply` returns.
    pub fn replay(
        &self,
        from: Offset,
        apply: &mut dyn FnMut(Batch) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let (start, end) = (self.start(), self.end());
        if from < start {
            return Err(ReadError::Trimmed { first: start });
        }
        let mut bases: Vec<Offset> = {
            let shared = self.shared();
            let sealed = shared.sealed.iter().filter(|(_, sealed)| sealed.end > from);
            sealed
                .map(|(base, _)| *base)
                .chain([shared.active.index.base()])
                .collect()
        };
        bases.sort_unstable();
        for base in bases {
            let file = match self.fs.open(&segment_name(base)) {
                Ok(file) => file,
                Err(_) if from < self.start() => {
                    return Err(ReadError::Trimmed {
                        first: self.start(),
                    });
                }
                Err(error) => return Err(error.into()),
            };
            let data_end = file.len()?;
            let mut scanner = FrameScanner::new(file, self.epoch, HEADER_BYTES, data_end);
            loop {
                let frame = scanner.next_frame().map_err(|error| damaged(base, error))?;
                let Some(frame) = frame else { break };
                if frame.first >= end {
                    return Ok(());
                }
                let mut batch = Batch::default();
                for raw in frame.entries() {
                    let raw = raw.map_err(|damage| damaged(base, damage.into()))?;
                    if raw.offset < from {
                        continue;
                    }
                    let record = decode_record(raw.record).map_err(|error| {
                        ReadError::Damaged(format!("{}: {error}", place_name(base, raw.offset)))
                    })?;
                    batch.entries.push((
                        0,
                        Entry {
                            offset: raw.offset,
                            record,
                        },
                    ));
                }
                if !batch.entries.is_empty() {
                    apply(batch)?;
                }
            }
        }
        Ok(())
    }

    /// A sealed segment; `None` if it was removed meanwhile.
    pub(super) fn load(&self, base: Offset) -> Result<Option<Arc<Loaded>>, ReadError> {
        if let Some(loaded) = self.cache().get(base) {
            return Ok(Some(loaded));
        }
        let Some(loaded) = self.load_uncached(base)? else {
            return Ok(None);
        };
        // Trimming may have replaced the file meanwhile; what was read is right all the same, but
        // must not stay.
        let shared = self.shared();
        if shared
            .sealed
            .get(&base)
            .is_some_and(|s| s.generation == loaded.generation)
        {
            self.cache().insert(base, loaded.clone());
        }
        Ok(Some(loaded))
    }

    /// As [`SegmentJournal::load`], for one who looks at every segment once.
    pub(super) fn load_uncached(&self, base: Offset) -> Result<Option<Arc<Loaded>>, ReadError> {
        let file = match self.fs.open(&segment_name(base)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let removed = !self.shared().sealed.contains_key(&base);
                return if removed { Ok(None) } else { Err(error.into()) };
            }
            Err(error) => return Err(error.into()),
        };
        let header = read_header(&*file, base)?;
        let index = match IndexFile::load(&*self.fs, &index_name(base), header.crc())? {
            IndexFile::Good(index) => *index,
            _ => self.rebuild_index(base, &header, &file)?,
        };
        Ok(Some(Arc::new(Loaded {
            index,
            file,
            generation: header.generation,
        })))
    }

    /// What was loaded is still in the cache of the one who sealed it.
    pub(super) fn keep_loaded(&self, base: Offset, loaded: Arc<Loaded>) {
        self.cache().insert(base, loaded);
    }

    pub(super) fn forget(&self, base: Offset) {
        self.cache().remove(base);
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, IndexCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rebuild_index(
        &self,
        base: Offset,
        header: &Header,
        file: &Arc<dyn FsFile>,
    ) -> Result<SegmentIndex, ReadError> {
        let (index, identity) = build_index(file, header)?;
        let expected = {
            let shared = self.shared();
            // Where segments before `start` were removed, the end of one is not known.
            shared
                .sealed
                .get(&base)
                .map(|s| s.end)
                .filter(|end| *end > shared.start)
        };
        if let Some(end) = expected.filter(|end| identity.end != *end) {
            return Err(ReadError::Damaged(format!(
                "{}: its batches end before offset {}, not {end}",
                segment_name(base),
                identity.end,
            )));
        }
        tracing::info!(segment = %segment_name(base), "rebuilt the index of a segment");
        // Best effort: without it the next one rebuilds it again.
        if let Err(error) = self.reseal(header, file, &index, &identity, expected.is_some()) {
            tracing::warn!(segment = %segment_name(base), %error, "cannot write an index");
        }
        Ok(index)
    }

    /// What sealing does, for a segment that was found without its index.
    fn reseal(
        &self,
        header: &Header,
        file: &Arc<dyn FsFile>,
        index: &SegmentIndex,
        identity: &SegmentIdentity,
        is_whole: bool,
    ) -> io::Result<()> {
        let _alone = self
            .replacing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let base = header.base;
        let generation = |shared: &Shared| shared.sealed.get(&base).map(|s| s.generation);
        if generation(&self.shared()) != Some(header.generation) {
            return Ok(());
        }
        if is_whole && file.len()? > identity.data_end {
            file.set_len(identity.data_end)?;
            if let Some(sealed) = self.shared_mut().sealed.get_mut(&base) {
                sealed.bytes = identity.data_end;
            }
        }
        replace_file(&*self.fs, &index_name(base), &index.encode(identity))
    }

    fn view(&self) -> View {
        let shared = self.shared();
        View {
            start: shared.start,
            end: shared.end,
        }
    }

    /// What the segment that holds `from`, or the next one, has to offer.
    fn step(
        &self,
        filters: &[Arc<str>],
        from: Offset,
        view: View,
        max_bytes: usize,
    ) -> Result<Step, ReadError> {
        loop {
            let sealed = {
                let shared = self.shared();
                match segment_from(&shared, from) {
                    Some((base, sealed)) => (base, sealed.end),
                    None => {
                        let Active { index, file } = &shared.active;
                        let tail = Some(&shared.tail);
                        return Ok(pick(
                            index, file, tail, filters, from, view, view.end, max_bytes,
                        ));
                    }
                }
            };
            let (base, end) = sealed;
            if let Some(loaded) = self.load(base)? {
                let end = end.min(view.end);
                let Loaded { index, file, .. } = &*loaded;
                return Ok(pick(index, file, None, filters, from, view, end, max_bytes));
            }
        }
    }

    fn collect(
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
                Source::Disk { position, len } => {
                    if !span.holds(*position, *len) {
                        let rest = step.picks.get(number..).unwrap_or_default();
                        span.fill(&*step.file, rest, collector.left())?;
                    }
                    self.decode(step.base, pick.offset, span.bytes(*position, *len))?
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

    fn decode(&self, base: Offset, at: Offset, bytes: &[u8]) -> Result<Arc<Published>, ReadError> {
        let damage = |what: &dyn std::fmt::Display| {
            ReadError::Damaged(format!("{}: {what}", place_name(base, at)))
        };
        self.decoded.fetch_add(1, Ordering::Relaxed);
        let (_, record) = check_entry(bytes).map_err(|what| damage(&what))?;
        match decode_record(record).map_err(|error| damage(&error))? {
            Record::Published(published) => Ok(published),
            Record::Session { .. } | Record::Group { .. } => Err(damage(&"it is no message")),
        }
    }

    fn read_one(
        &self,
        base: Offset,
        file: &dyn FsFile,
        offset: Offset,
        entry: &IndexEntry,
    ) -> Result<Arc<Published>, ReadError> {
        let (position, len) = whole_entry(entry);
        let mut bytes = vec![0; len as usize];
        read_exact_at(file, &mut bytes, position)?;
        self.decode(base, offset, &bytes)
    }

    /// Calls `visit` for segments from the newest to the oldest until it returns `Some`.
    fn newest_first<T>(
        &self,
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
            if let Some(loaded) = self.load(base)?
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
        let found = self.newest_first(|index, view| {
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
        })?;
        Ok(found.or(oldest).unwrap_or_else(|| self.end()))
    }

    fn locate_first(
        &self,
        filter: &[Arc<str>],
        wanted: impl Fn(&IndexEntry) -> bool,
        possible: impl Fn(&SegmentIndex) -> bool,
    ) -> Result<Offset, ReadError> {
        let view = self.view();
        let in_index = |index: &SegmentIndex, end: Offset| {
            if !possible(index) {
                return None;
            }
            let view = View { end, ..view };
            let mut selection = index.select(filter, index.base());
            selection
                .find(|(o, e)| e.is_for_everyone() && wanted(e) && view.shows(*o, e))
                .map(|(offset, _)| offset)
        };
        let bases: Vec<Offset> = self.shared().sealed.keys().copied().collect();
        for base in bases {
            if let Some(loaded) = self.load(base)?
                && let Some(found) = in_index(&loaded.index, view.end)
            {
                return Ok(found);
            }
        }
        // What was active above may be sealed by now: then the rest of it, at most, is given twice.
        let shared = self.shared();
        Ok(in_index(&shared.active.index, shared.end).unwrap_or(view.end))
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
            ReplayFrom::Seq(seq) => self.locate_first(&filter, |e| e.seq.0 >= seq, |_| true),
            ReplayFrom::Ts(ms) => {
                self.locate_first(&filter, |e| e.time >= ms, |index| index.newest() >= ms)
            }
        }
    }

    fn history(&self, stream: &str, from: Seq, limit: usize) -> Result<Vec<ReadEntry>, ReadError> {
        let mut bases = Vec::new();
        self.newest_first(|index, view| {
            let shown = |e: &&IndexEntry| view.shows(index.offset_of(e), e);
            if index.stream(stream, from).any(|e| shown(&e)) {
                bases.push(index.base());
            }
            // Older segments have smaller numbers only.
            let older = index
                .stream(stream, Seq(1))
                .next()
                .is_some_and(|e| e.seq <= from);
            older.then_some(())
        })?;
        let mut found = Vec::new();
        for base in bases.into_iter().rev() {
            self.history_in(base, stream, from, limit, &mut found)?;
        }
        Ok(found)
    }
}

impl SegmentJournal {
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
                    let Active { index, file } = &shared.active;
                    (
                        index.base(),
                        Some(file.clone()),
                        index.at(offset).copied(),
                        view,
                    )
                }
            }
        };
        let (file, entry) = match file {
            Some(file) => (file, entry),
            None => match self.load(base)? {
                Some(loaded) => (loaded.file.clone(), loaded.index.at(offset).copied()),
                None => return Ok(None),
            },
        };
        match entry.filter(|entry| view.shows(offset, entry)) {
            Some(entry) => self.read_one(base, &*file, offset, &entry).map(Some),
            None => Ok(None),
        }
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
            let entries = index.stream(stream, from).map(|e| (index.offset_of(e), *e));
            entries
                .filter(|(offset, e)| view.shows(*offset, e))
                .take(missing)
                .collect()
        };
        let missing = limit.saturating_sub(found.len());
        let view = self.view();
        let active = {
            let shared = self.shared();
            let Active { index, file } = &shared.active;
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

/// The sealed segment that holds `from`, or the next one after it; `None` for the active one.
fn segment_from(shared: &Shared, from: Offset) -> Option<(Offset, Sealed)> {
    let before = shared
        .sealed
        .range(..=from)
        .next_back()
        .filter(|(_, sealed)| sealed.end > from);
    before
        .or_else(|| shared.sealed.range(from..).next())
        .map(|(base, sealed)| (*base, *sealed))
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
            None => {
                let (position, len) = whole_entry(entry);
                Source::Disk { position, len }
            }
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

/// Position and length of an entry with its header.
fn whole_entry(entry: &IndexEntry) -> (u64, u64) {
    let position = u64::from(entry.place.position).saturating_sub(ENTRY_HEADER_BYTES as u64);
    (position, entry.stored_bytes())
}

/// A piece of a file in memory.
#[derive(Default)]
struct Span {
    position: u64,
    bytes: Vec<u8>,
}

impl Span {
    fn holds(&self, position: u64, len: u64) -> bool {
        position >= self.position && position + len <= self.position + self.bytes.len() as u64
    }

    fn bytes(&self, position: u64, len: u64) -> &[u8] {
        let at = usize::try_from(position.saturating_sub(self.position)).unwrap_or(usize::MAX);
        self.bytes
            .get(at..)
            .and_then(|rest| rest.get(..len as usize))
            .unwrap_or_default()
    }

    /// Reads the first of `picks`, and those after it that lie near.
    fn fill(&mut self, file: &dyn FsFile, picks: &[Pick], wanted: usize) -> Result<(), ReadError> {
        let disk = |pick: &Pick| match pick.from {
            Source::Disk { position, len } => Some((position, len)),
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

fn place_name(base: Offset, at: Offset) -> String {
    format!("{}, offset {at}", segment_name(base))
}

pub(super) fn damaged(base: Offset, error: ScanError) -> ReadError {
    match error {
        ScanError::Io(error) => error.into(),
        ScanError::Damaged(damage) => {
            ReadError::Damaged(format!("{}: {damage}", segment_name(base)))
        }
    }
}

pub(super) fn read_header(file: &dyn FsFile, base: Offset) -> Result<Header, ReadError> {
    let mut bytes = [0; HEADER_BYTES as usize];
    let len = read_full_at(file, &mut bytes, 0)?;
    let name = || segment_name(base);
    let header = Header::decode(bytes.get(..len).unwrap_or_default())
        .map_err(|error| ReadError::Damaged(format!("{}: {error}", name())))?;
    if header.base != base {
        let what = format!(
            "{}: it says that it begins at offset {}",
            name(),
            header.base
        );
        return Err(ReadError::Damaged(what));
    }
    Ok(header)
}

/// Reads a sealed segment from its first to its last batch.
pub(super) fn build_index(
    file: &Arc<dyn FsFile>,
    header: &Header,
) -> Result<(SegmentIndex, SegmentIdentity), ReadError> {
    let base = header.base;
    let mut index = SegmentIndex::new(base);
    let end = if header.data_end == 0 {
        file.len()?
    } else {
        header.data_end
    };
    let mut scanner = FrameScanner::new(file.clone(), header.epoch, HEADER_BYTES, end);
    let mut next = base;
    while let Some(frame) = scanner.next_frame().map_err(|error| damaged(base, error))? {
        for entry in frame.entries() {
            let entry = entry.map_err(|damage| damaged(base, damage.into()))?;
            index.push_raw(&entry).map_err(|error| {
                ReadError::Damaged(format!("{}: {error}", place_name(base, entry.offset)))
            })?;
            next = entry.offset.next();
        }
    }
    let data_end = scanner.position();
    let end = if header.end == Offset(0) {
        next
    } else {
        header.end
    };
    let identity = SegmentIdentity {
        header_crc: header.crc(),
        base,
        end,
        data_end,
    };
    Ok((index, identity))
}
