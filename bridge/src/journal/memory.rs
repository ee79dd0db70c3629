//! The journal in memory: for tests, and for a broker that need not remember.
//!
//! It keeps the contract of [`Journal`] in the plainest way, so that others can be compared with
//! it. Nothing is bounded but by trimming.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use tidings_core::journal::{
    Append, Audience, Batch, Entry, Journal, Page, Published, ReadEntry, ReadError, Record,
};
use tidings_core::message::{Epoch, Offset, Seq};
use tidings_core::topic::{self, ReplayFrom};

use super::page::Collector;
use super::retention::{Ledger, Retention, Stored};

/// The writing side.
#[derive(Debug)]
pub struct MemoryWriter {
    journal: Arc<MemoryJournal>,
    heads: HashMap<Arc<str>, Seq>,
}

/// The reading side.
#[derive(Debug)]
pub struct MemoryJournal {
    epoch: Epoch,
    log: RwLock<Log>,
}

#[derive(Debug, Default)]
struct Log {
    start: Offset,
    end: Offset,
    entries: BTreeMap<Offset, Entry>,
}

impl MemoryWriter {
    /// An empty journal.
    pub fn new(epoch: Epoch) -> Self {
        let journal = Arc::new(MemoryJournal {
            epoch,
            log: RwLock::default(),
        });
        Self {
            journal,
            heads: HashMap::new(),
        }
    }

    /// The reading side.
    pub fn journal(&self) -> &Arc<MemoryJournal> {
        &self.journal
    }

    /// Appends everything and shows it to readers.
    pub fn commit(&mut self, appends: Vec<Append>) -> Arc<Batch> {
        let mut log = self
            .journal
            .log
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let mut batch = Batch::default();
        for Append { shard, mut record } in appends {
            if let Record::Published(published) = &mut record {
                let seq = match published.audience {
                    Audience::Everyone => {
                        let head = self.heads.entry(published.stream.clone()).or_default();
                        head.0 += 1;
                        *head
                    }
                    Audience::Only(_) | Audience::Growing => Seq(0),
                };
                Arc::make_mut(published).seq = seq;
            }
            let entry = Entry {
                offset: log.end,
                record,
            };
            log.end = log.end.next();
            log.entries.insert(entry.offset, entry.clone());
            batch.entries.push((shard, entry));
        }
        Arc::new(batch)
    }
}

impl MemoryJournal {
    /// Removes what nobody needs any more.
    pub fn trim(&self, retention: &Retention) {
        let mut log = self.log.write().unwrap_or_else(PoisonError::into_inner);
        let newest_first = log.messages().rev();
        let transient = newest_first.filter(|(_, published)| !published.history);
        let mut backlog = 0;
        let behind = retention.max_backlog_bytes.and_then(|max| {
            let mut newest_first = transient;
            newest_first.find_map(|(offset, published)| {
                backlog += content_bytes(published);
                (backlog > max).then(|| offset.next())
            })
        });
        log.start = retention.new_start(log.start, log.end, behind);
        let mut ledger = Ledger::new(retention);
        let start = log.start;
        let gone: Vec<Offset> = log
            .entries
            .values()
            .rev()
            .filter(|entry| {
                let needed = entry.offset >= start;
                match &entry.record {
                    Record::Published(published) if published.history => {
                        let kept = ledger.count(&Stored {
                            topic: &published.message.topic,
                            stream: &published.stream,
                            time: published.message.time,
                            bytes: content_bytes(published),
                        });
                        !kept && !needed
                    }
                    _ => !needed,
                }
            })
            .map(|entry| entry.offset)
            .collect();
        for offset in gone {
            log.entries.remove(&offset);
        }
    }

    fn collect(&self, filters: &[Arc<str>], from: Offset, to: Offset, max_bytes: usize) -> Page {
        let log = self.log();
        let to = to.min(log.end);
        let mut collector = Collector::new(max_bytes);
        for (offset, published) in log
            .messages_from(from)
            .take_while(|(offset, _)| *offset < to)
        {
            let wanted = |filter: &Arc<str>| topic::matches(filter, &published.message.topic);
            if filters.iter().any(wanted)
                && collector.push(ReadEntry {
                    offset,
                    published: published.clone(),
                })
            {
                return collector.page(offset.next());
            }
        }
        collector.page(from.max(to))
    }

    fn log(&self) -> std::sync::RwLockReadGuard<'_, Log> {
        self.log.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    fn messages(&self) -> impl DoubleEndedIterator<Item = (Offset, &Arc<Published>)> {
        self.messages_from(Offset(0))
    }

    fn messages_from(
        &self,
        from: Offset,
    ) -> impl DoubleEndedIterator<Item = (Offset, &Arc<Published>)> {
        self.entries
            .range(from..)
            .filter_map(|(offset, entry)| match &entry.record {
                Record::Published(published) => Some((*offset, published)),
                Record::Session { .. } | Record::Group { .. } | Record::Account { .. } => None,
            })
    }
}

fn content_bytes(published: &Published) -> u64 {
    (published.message.topic.len() + published.message.payload.len()) as u64
}

impl Journal for MemoryJournal {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn start(&self) -> Offset {
        self.log().start
    }

    fn end(&self) -> Offset {
        self.log().end
    }

    fn read(
        &self,
        filters: &[Arc<str>],
        from: Offset,
        to: Offset,
        max_bytes: usize,
    ) -> Result<Page, ReadError> {
        let page = self.collect(filters, from, to, max_bytes);
        let first = self.start();
        if from < first {
            Err(ReadError::Trimmed { first })
        } else {
            Ok(page)
        }
    }

    fn read_history(
        &self,
        filters: &[Arc<str>],
        from: Offset,
        to: Offset,
        max_bytes: usize,
    ) -> Result<Page, ReadError> {
        Ok(self.collect(filters, from, to, max_bytes))
    }

    fn read_at(&self, offset: Offset) -> Result<Option<Arc<Published>>, ReadError> {
        let log = self.log();
        match log.entries.get(&offset).map(|entry| &entry.record) {
            Some(Record::Published(published)) => Ok(Some(published.clone())),
            None if offset < log.start => Err(ReadError::Trimmed { first: log.start }),
            _ => Ok(None),
        }
    }

    fn locate(&self, filter: &str, from: ReplayFrom) -> Result<Offset, ReadError> {
        let log = self.log();
        let mut wanted = log.messages().filter(|(_, published)| {
            published.audience == Audience::Everyone
                && topic::matches(filter, &published.message.topic)
        });
        let found = match from {
            ReplayFrom::Last(count) => wanted.rev().take(count as usize).last(),
            ReplayFrom::Seq(seq) => wanted.find(|(_, published)| published.seq.0 >= seq),
            ReplayFrom::Ts(ms) => wanted.find(|(_, published)| published.message.time >= ms),
        };
        Ok(found.map_or(log.end, |(offset, _)| offset))
    }

    fn history(&self, stream: &str, from: Seq, limit: usize) -> Result<Vec<ReadEntry>, ReadError> {
        let log = self.log();
        let wanted = log.messages().filter(|(_, published)| {
            *published.stream == *stream
                && published.audience == Audience::Everyone
                && published.seq >= from
        });
        let entry = |(offset, published): (Offset, &Arc<Published>)| ReadEntry {
            offset,
            published: published.clone(),
        };
        Ok(wanted.take(limit).map(entry).collect())
    }
}
