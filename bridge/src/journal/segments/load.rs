//! Sealed segments on their way into memory: opened, indexed, and kept for a while.

use std::io;
use std::sync::{Arc, PoisonError};

use tidings_core::journal::ReadError;
use tidings_core::message::Offset;

use super::cache::Loaded;
use super::frame::{FrameScanner, HEADER_BYTES, Header, ScanError};
use super::fs::{FsFile, read_full_at, replace_file};
use super::index::{IndexFile, SegmentIdentity, SegmentIndex};
use super::layout::{index_name, segment_name};
use super::reader::{SegmentJournal, Shared};
use super::summary::Summary;

impl SegmentJournal {
    /// A sealed segment; `None` if it was removed meanwhile.
    pub(super) fn load(&self, base: Offset) -> Result<Option<Arc<Loaded>>, ReadError> {
        let (cached, summary) = {
            let mut cache = self.cache();
            (cache.get(base), cache.summary(base))
        };
        if let (Some(loaded), Some(_)) = (&cached, &summary) {
            return Ok(Some(loaded.clone()));
        }
        let loaded = match cached {
            Some(loaded) => loaded,
            None => match self.load_uncached(base)? {
                Some(loaded) => loaded,
                None => return Ok(None),
            },
        };
        let summary = summary.is_none().then(|| Summary::new(&loaded.index));
        // Trimming may have replaced the file meanwhile; what was read is right all the same, but
        // must not stay.
        let shared = self.shared();
        let current = shared.sealed.get(&base).map(|sealed| sealed.generation);
        if current == Some(loaded.generation) {
            let mut cache = self.cache();
            cache.insert(base, loaded.clone());
            summary
                .into_iter()
                .for_each(|summary| cache.insert_summary(base, summary));
        }
        Ok(Some(loaded))
    }

    /// True if it is known, without loading it, that a segment has nothing that is wanted.
    pub(super) fn denies(&self, base: Offset, may: impl Fn(&Summary) -> bool) -> bool {
        let summary = self.cache().summary(base);
        summary.is_some_and(|summary| !may(&summary))
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

    /// Takes a segment that was just sealed or rewritten.
    pub(super) fn keep_loaded(&self, base: Offset, loaded: Arc<Loaded>) {
        let mut cache = self.cache();
        cache.remove(base);
        cache.insert(base, loaded);
    }

    pub(super) fn forget(&self, base: Offset) {
        self.cache().remove(base);
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
}

pub(super) fn place_name(base: Offset, at: Offset) -> String {
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
