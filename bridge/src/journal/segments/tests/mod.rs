//! What the segment files promise beyond the contract: crashes, broken disks, damage, space.

mod crash;
mod damage;
mod poison;
mod reading;
mod trim;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tidings_core::journal::{Append, Audience, Entry, Journal, Published, Record};
use tidings_core::message::{Epoch, Offset, Seq};

use super::sim_fs::SimFs;
use super::{FsckReport, HeadLookup, OpenError, Options, Recovery, SegmentJournal, Writer, fsck};
use crate::journal::contract::{append, filters, published};

/// What the state would know: the last seq of each stream.
#[derive(Clone, Default)]
pub struct Heads(Arc<Mutex<HashMap<Arc<str>, Seq>>>);

impl Heads {
    pub fn lookup(&self) -> HeadLookup {
        let heads = self.0.clone();
        Box::new(move |stream| {
            let heads = heads.lock().unwrap_or_else(PoisonError::into_inner);
            heads.get(stream).copied().unwrap_or_default()
        })
    }

    pub fn apply(&self, entry: &Entry) {
        if let Record::Published(published) = &entry.record
            && published.audience == Audience::Everyone
        {
            let mut heads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            heads.insert(published.stream.clone(), published.seq);
        }
    }

    pub fn set(&self, stream: &str, seq: Seq) {
        let mut heads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heads.insert(stream.into(), seq);
    }
}

pub type Opened = (Writer, Arc<SegmentJournal>, Recovery);

pub fn options(segment_bytes: u64) -> Options {
    Options {
        segment_bytes,
        tail_bytes: 0,
        ..Options::new(Epoch(99))
    }
}

pub fn try_open(fs: &SimFs, options: Options, heads: &Heads) -> Result<Opened, OpenError> {
    Writer::open(Arc::new(fs.clone()), options, heads.lookup())
}

pub fn open(fs: &SimFs, segment_bytes: u64) -> Opened {
    try_open(fs, options(segment_bytes), &Heads::default()).expect("the journal can be opened")
}

pub fn message(topic: &str, payload: &str) -> Append {
    append(published(topic, payload))
}

pub fn kept(topic: &str, payload: &str) -> Append {
    append(Published {
        history: true,
        ..published(topic, payload)
    })
}

/// Runs what another thread would do.
pub fn do_chores(writer: &mut Writer) {
    while let Some(chore) = writer.next_chore() {
        chore.run();
    }
}

pub fn commit_each(writer: &mut Writer, appends: impl IntoIterator<Item = Append>) {
    for append in appends {
        writer
            .commit(vec![append])
            .expect("the simulated disk is fine");
    }
}

/// Offsets and payloads of everything that is left.
pub fn everything(journal: &SegmentJournal) -> Vec<(u64, String)> {
    let page = journal.read_history(&filters(&["#"]), Offset(0), journal.end(), usize::MAX);
    let text = |p: &Published| String::from_utf8_lossy(&p.message.payload).into_owned();
    let page = page.expect("what is left can be read");
    page.entries
        .iter()
        .map(|entry| (entry.offset.0, text(&entry.published)))
        .collect()
}

pub fn check(fs: &SimFs) -> FsckReport {
    let fs: Arc<dyn super::fs::Fs> = Arc::new(fs.clone());
    fsck(&fs, &mut |_, _| {}, &mut |_| {}).expect("the journal can be checked")
}
