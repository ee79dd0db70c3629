//! Reading everything, in order: for bringing the state up to date at a start.

use tidings_core::journal::{Batch, Entry, Journal, ReadError};
use tidings_core::message::Offset;

use super::frame::{FrameScanner, HEADER_BYTES, Header};
use super::fs::read_full_at;
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
        // Each with the offset after its last entry.
        let mut segments: Vec<(Offset, Offset)> = {
            let shared = self.shared();
            let sealed = shared.sealed.iter().filter(|(_, sealed)| sealed.end > from);
            sealed
                .map(|(base, sealed)| (*base, sealed.end))
                .chain([(shared.active.index.base(), end)])
                .collect()
        };
        segments.sort_unstable();
        for (base, expected) in segments {
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
            let mut header = [0; HEADER_BYTES as usize];
            read_full_at(&*file, &mut header, 0)?;
            let is_compacted = Header::decode(&header).is_ok_and(|header| header.end.0 != 0);
            let mut reached = base;
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
                    reached = raw.offset.next();
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
            // Zeros end a segment, also where something else was; only one that was compacted has holes.
            if reached < expected && !is_compacted {
                return Err(ReadError::Damaged(format!(
                    "{}: the entries from offset {reached} to {expected} are gone",
                    segment_name(base)
                )));
            }
        }
        Ok(())
    }
}
