//! sled, and the guards that we need around it: every value has its own checksum, the whole has a
//! sum over all of them, and a checkpoint is on disk when it says so.
//!
//! ```text
//! tree   = the default one
//! key    = kind:u8 text            kind as in Kind; 0 alone is the ledger
//! value  = crc32:u32 body          crc32 over key and body, little-endian
//! ledger = version:u8 epoch:u64 applied:u64 count:u64 sum:u64
//! ```
//! The ledger is written in the same atomic batch as the records, so that a crash leaves the old
//! view or the new one. `sum` is the wrapping sum of a number for each record (see
//! [`fingerprint`]): a record that is lost, or came back from the past, is found too, which its own
//! checksum cannot tell.
//!
//! sled's `flush` is no fsync, and values above some 128 KB are files of their own: after it, both
//! are synced here. This module does not know the overlay nor what damage leads to.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sled::IVec;
use tidings_core::message::{Epoch, Offset};

use super::record::{Kind, RecordError, StateRecord};

const VERSION: u8 = 1;
const LEDGER_KEY: [u8; 1] = [0];
const CRC_BYTES: usize = 4;

/// Bytes of records in one batch while a whole state is written; sled copies a batch in memory.
const FILL_BATCH_BYTES: usize = 1 << 20;

/// What is wrong with sled or in it.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error("sled: {0}")]
    Sled(#[from] sled::Error),
    #[error("sled panicked: {0}")]
    Panicked(String),
    #[error("another process, or a handle that is not dropped, holds the lock of sled")]
    Locked,
    #[error("the {what} {key:?} is damaged: {why}")]
    Record {
        what: &'static str,
        key: String,
        why: String,
    },
    #[error("the view was not written to its end")]
    Unfinished,
    #[error("form {0} of the view is unknown")]
    Version(u8),
    #[error("it belongs to another journal: epoch {found:016x}, not {wanted:016x}")]
    Epoch { found: u64, wanted: u64 },
    #[error("records are missing or out of date: {count} are there, {expected} should be")]
    Sum { count: u64, expected: u64 },
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<StoreError> for io::Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Io(error) | StoreError::Sled(sled::Error::Io(error)) => error,
            other => Self::other(other),
        }
    }
}

type Result<T, E = StoreError> = std::result::Result<T, E>;

/// What sled holds, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ledger {
    pub(super) applied: Offset,
    pub(super) count: u64,
    sum: u64,
}

impl Ledger {
    fn add(&mut self, value: &[u8]) {
        self.count = self.count.wrapping_add(1);
        self.sum = self.sum.wrapping_add(fingerprint(value));
    }

    fn remove(&mut self, value: &[u8]) {
        self.count = self.count.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(fingerprint(value));
    }

    fn encode(self, epoch: Epoch) -> Vec<u8> {
        let mut body = vec![VERSION];
        for number in [epoch.0, self.applied.0, self.count, self.sum] {
            body.extend_from_slice(&number.to_le_bytes());
        }
        seal(&LEDGER_KEY, &body)
    }

    fn decode(body: &[u8], epoch: Epoch) -> Result<Self> {
        let (version, body) = body.split_first().ok_or(StoreError::Unfinished)?;
        if *version != VERSION {
            return Err(StoreError::Version(*version));
        }
        let mut numbers = body
            .chunks_exact(size_of::<u64>())
            .filter_map(|chunk| Some(u64::from_le_bytes(chunk.try_into().ok()?)));
        let mut next = || numbers.next().ok_or(StoreError::Unfinished);
        let (found, applied, count, sum) = (next()?, next()?, next()?, next()?);
        if found != epoch.0 {
            let wanted = epoch.0;
            return Err(StoreError::Epoch { found, wanted });
        }
        Ok(Self {
            applied: Offset(applied),
            count,
            sum,
        })
    }
}

/// A number for a stored value and its key: their checksum and the length, well mixed
/// (the finalizer of splitmix64), so that sums of them do not cancel out.
fn fingerprint(value: &[u8]) -> u64 {
    let crc = value
        .first_chunk::<CRC_BYTES>()
        .map_or(0, |crc| u32::from_le_bytes(*crc));
    let mut mixed = u64::from(crc) | (value.len() as u64) << 32;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn checksum(key: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(body);
    hasher.finalize()
}

fn seal(key: &[u8], body: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(CRC_BYTES + body.len());
    value.extend_from_slice(&checksum(key, body).to_le_bytes());
    value.extend_from_slice(body);
    value
}

fn open_seal<'a>(key: &[u8], value: &'a [u8]) -> Option<&'a [u8]> {
    let (crc, body) = value.split_first_chunk::<CRC_BYTES>()?;
    (u32::from_le_bytes(*crc) == checksum(key, body)).then_some(body)
}

fn key_of(kind: Kind, text: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + text.len());
    key.push(kind as u8);
    key.extend_from_slice(text.as_bytes());
    key
}

/// Runs `action`; a panic, which is how sled answers some damage, becomes an error.
pub(super) fn without_panic<T>(action: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(action)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(StoreError::Panicked(text.to_owned()))
    })
}

/// An open sled. Reading is for all threads, writing for one at a time.
pub(super) struct Store {
    db: sled::Db,
    /// The file that holds everything but large values: ours, to sync it.
    file: File,
    path: PathBuf,
    epoch: Epoch,
}

impl Store {
    /// Opens or creates sled at `path`.
    pub(super) fn open(path: &Path, epoch: Epoch, cache_bytes: u64) -> Result<Self> {
        without_panic(|| {
            let db = sled::Config::new()
                .path(path)
                .cache_capacity(cache_bytes)
                // Checkpoints flush: a flush in between would only cost.
                .flush_every_ms(None)
                .open()
                .map_err(|error| match error {
                    // The only sign of it that sled gives.
                    sled::Error::Io(error) if error.to_string().contains("acquire lock") => {
                        StoreError::Locked
                    }
                    error => error.into(),
                })?;
            Ok(Self {
                db,
                file: File::open(path.join("db"))?,
                path: path.to_owned(),
                epoch,
            })
        })
    }

    /// Reads and checks everything, shows each record to `visit`, and gives the ledger.
    pub(super) fn verify(&self, mut visit: impl FnMut(StateRecord)) -> Result<Ledger> {
        without_panic(|| {
            let value = self.db.get(LEDGER_KEY)?.ok_or(StoreError::Unfinished)?;
            let body = open_seal(&LEDGER_KEY, &value)
                .ok_or_else(|| damaged_record(&LEDGER_KEY, "checksum"))?;
            let ledger = Ledger::decode(body, self.epoch)?;
            let mut found = Ledger {
                applied: ledger.applied,
                ..Ledger::default()
            };
            let mut previous = None;
            for item in self.db.iter() {
                let (key, value) = item?;
                // A damaged tree could go in circles.
                if previous.as_ref().is_some_and(|previous| *previous >= key) {
                    return Err(damaged_record(&key, "order"));
                }
                if *key != LEDGER_KEY {
                    visit(read_record(&key, &value)?);
                    found.add(&value);
                }
                previous = Some(key);
            }
            if found != ledger {
                let (count, expected) = (found.count, ledger.count);
                return Err(StoreError::Sum { count, expected });
            }
            Ok(ledger)
        })
    }

    /// The record of a key.
    pub(super) fn get(&self, kind: Kind, key: &str) -> Result<Option<StateRecord>> {
        without_panic(|| {
            let key = key_of(kind, key);
            let value = self.db.get(&key)?;
            value.map(|value| read_record(&key, &value)).transpose()
        })
    }

    /// Up to `limit` records that come after `after` and begin with `prefix`, not yet read.
    pub(super) fn page(
        &self,
        kind: Kind,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<VecDeque<(Arc<str>, Stored)>> {
        without_panic(|| {
            let prefix = key_of(kind, prefix);
            let from = match after {
                // The least key after it: one byte longer.
                Some(after) => [&key_of(kind, after)[..], &[0]].concat(),
                None => prefix.clone(),
            };
            let mut page = VecDeque::new();
            for item in self.db.range(from..).take(limit) {
                let (key, value) = item?;
                if !key.starts_with(&prefix) {
                    break;
                }
                let (_, text) = split_key(&key)?;
                page.push_back((text.into(), Stored { key, value }));
            }
            Ok(page)
        })
    }

    /// Writes changed records and the offset up to which they are complete, in one atomic step,
    /// and returns when it is on disk. After an error what is in sled is unknown.
    pub(super) fn write(
        &self,
        mut ledger: Ledger,
        applied: Offset,
        changes: impl FnOnce(
            &mut dyn FnMut(Kind, &str, Option<StateRecord>) -> Result<()>,
        ) -> Result<()>,
    ) -> Result<Ledger> {
        without_panic(|| {
            let mut batch = sled::Batch::default();
            let mut body = Vec::new();
            changes(&mut |kind, text, record| {
                let key = key_of(kind, text);
                let old = self.db.get(&key)?;
                if let Some(old) = &old {
                    ledger.remove(old);
                }
                match record {
                    Some(record) => {
                        body.clear();
                        record.encode_value(&mut body);
                        let value = seal(&key, &body);
                        ledger.add(&value);
                        batch.insert(key, value);
                    }
                    None if old.is_some() => batch.remove(key),
                    None => {}
                }
                Ok(())
            })?;
            ledger.applied = applied;
            batch.insert(&LEDGER_KEY, ledger.encode(self.epoch));
            self.db.apply_batch(batch)?;
            self.sync()?;
            Ok(ledger)
        })
    }

    /// Fills an empty sled with a whole state at `applied`. The ledger comes last, on its own:
    /// what has none was not finished.
    pub(super) fn fill(
        &self,
        applied: Offset,
        records: impl Iterator<Item = io::Result<StateRecord>>,
        mut visit: impl FnMut(&StateRecord),
    ) -> Result<Ledger> {
        without_panic(|| {
            let mut ledger = Ledger {
                applied,
                ..Ledger::default()
            };
            let mut batch = sled::Batch::default();
            let mut batch_bytes = 0;
            let mut body = Vec::new();
            for record in records {
                let record = record?;
                visit(&record);
                body.clear();
                record.encode_value(&mut body);
                let key = key_of(record.kind(), record.key());
                let value = seal(&key, &body);
                ledger.add(&value);
                batch_bytes += key.len() + value.len();
                batch.insert(key, value);
                if batch_bytes >= FILL_BATCH_BYTES {
                    self.db.apply_batch(std::mem::take(&mut batch))?;
                    batch_bytes = 0;
                }
            }
            self.db.apply_batch(batch)?;
            self.sync()?;
            self.db.insert(LEDGER_KEY, ledger.encode(self.epoch))?;
            self.sync()?;
            sync_directory(&self.path)?;
            Ok(ledger)
        })
    }

    #[cfg(test)]
    pub(super) fn damage_for_test(&self, kind: Kind, text: &str) {
        self.db
            .insert(key_of(kind, text), b"damaged")
            .expect("sled takes anything");
    }

    fn sync(&self) -> Result<()> {
        self.db.flush()?;
        self.sync_large_values()?;
        self.file.sync_data()?;
        Ok(())
    }

    /// Files of large values are written once and then only removed, so one that is there twice
    /// is synced twice at no cost.
    fn sync_large_values(&self) -> Result<()> {
        let directory = self.path.join("blobs");
        let mut any = false;
        for entry in fs::read_dir(&directory)? {
            // One that is gone was replaced meanwhile.
            if let Ok(file) = File::open(entry?.path()) {
                file.sync_data()?;
                any = true;
            }
        }
        if any {
            sync_directory(&directory)?;
        }
        Ok(())
    }
}

/// A record as it is in sled.
pub(super) struct Stored {
    key: IVec,
    value: IVec,
}

impl Stored {
    pub(super) fn read(&self) -> Result<StateRecord> {
        read_record(&self.key, &self.value)
    }
}

fn split_key(key: &[u8]) -> Result<(Kind, &str)> {
    let parts = key.split_first().and_then(|(kind, text)| {
        let text = std::str::from_utf8(text).ok()?;
        Some((Kind::from_byte(*kind)?, text))
    });
    parts.ok_or_else(|| damaged_record(key, "key"))
}

fn read_record(key: &[u8], value: &[u8]) -> Result<StateRecord> {
    let (kind, text) = split_key(key)?;
    let body = open_seal(key, value).ok_or_else(|| damaged_record(key, "checksum"))?;
    StateRecord::decode(kind, text, body)
        .map_err(|error: RecordError| damaged_record(key, &error.to_string()))
}

fn damaged_record(key: &[u8], why: &str) -> StoreError {
    let (kind, text) = key.split_first().unwrap_or((&0, &[]));
    StoreError::Record {
        what: Kind::from_byte(*kind).map_or("record", Kind::name),
        key: String::from_utf8_lossy(text).into_owned(),
        why: why.to_owned(),
    }
}

/// Makes the names in a directory durable.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
