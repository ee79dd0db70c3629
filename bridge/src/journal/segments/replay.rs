//! Reading everything, in order: for bringing the state up to date at a start.

use tidings_core::journal::{Batch, Entry, Journal, ReadError};
use tidings_core::message::Offset;

use super::frame::{FrameScanner, HEADER_BYTES};
use super::layout::segment_name;
use super::load::{damaged, place_name};
use super::reader::SegmentJournal;
use super::record::decode_record;

impl SegmentJournal {
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
}
