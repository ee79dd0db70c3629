//! What is certainly not in a sealed segment: so that a reader far behind does not load the index
//! of every segment on its way.
//!
//! A Bloom filter over the topics, all their parents, and the streams. It is made from the index
//! when that is first loaded, and stays in memory. It may say "perhaps" of what is not there, and
//! never "no" of what is.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use tidings_core::message::UnixMillis;

use super::index::SegmentIndex;
use super::select::literal_prefix;

/// Bits for each name: one of a hundred names that are not there is "perhaps".
const BITS_PER_NAME: usize = 10;
/// Bits that are set for each name: the best number for so many bits is 7, and 4 is nearly as good.
const PROBES: u64 = 4;
/// Most bytes: what a thousand segments have together stays small. With more names than this has
/// room for the answer is "perhaps" more often.
const MAX_BYTES: usize = 32 * 1024;

/// See the module.
#[derive(Debug)]
pub struct Summary {
    newest: UnixMillis,
    words: Box<[u64]>,
}

#[derive(Clone, Copy, Hash)]
enum Kind {
    TopicOrParent,
    Stream,
}

impl Summary {
    pub fn new(index: &SegmentIndex) -> Self {
        let topics = index.topics();
        let levels = |name: &Arc<str>| name.matches('/').count() + 1;
        let names = topics.iter().map(levels).sum::<usize>() + index.streams().len();
        let words = (names * BITS_PER_NAME / 64 + 1).min(MAX_BYTES / size_of::<u64>());
        let mut summary = Self {
            newest: index.newest(),
            words: vec![0; words].into(),
        };
        for topic in topics {
            for (end, _) in topic.match_indices('/').chain([(topic.len(), "")]) {
                summary.add(Kind::TopicOrParent, topic.get(..end).unwrap_or_default());
            }
        }
        for stream in index.streams() {
            summary.add(Kind::Stream, stream);
        }
        summary
    }

    /// False if no message has a topic that matches one of the filters.
    pub fn may_match(&self, filters: &[Arc<str>]) -> bool {
        filters.iter().any(|filter| {
            let prefix = literal_prefix(filter);
            let parent = prefix
                .strip_suffix('/')
                .filter(|_| prefix.len() < filter.len());
            let parent = parent.unwrap_or(prefix);
            let has_no_beginning = prefix.is_empty();
            has_no_beginning || self.has(Kind::TopicOrParent, parent)
        })
    }

    /// False if no message is in the stream.
    pub fn may_have_stream(&self, stream: &str) -> bool {
        self.has(Kind::Stream, stream)
    }

    /// The time of the newest message.
    pub fn newest(&self) -> UnixMillis {
        self.newest
    }

    fn add(&mut self, kind: Kind, name: &str) {
        for (word, bit) in places(kind, name, self.words.len()) {
            if let Some(word) = self.words.get_mut(word) {
                *word |= bit;
            }
        }
    }

    fn has(&self, kind: Kind, name: &str) -> bool {
        let set = |(word, bit): (usize, u64)| self.words.get(word).is_some_and(|w| w & bit != 0);
        places(kind, name, self.words.len()).all(set)
    }
}

/// The bits of a name: word and mask.
fn places(kind: Kind, name: &str, words: usize) -> impl Iterator<Item = (usize, u64)> {
    let mut hasher = DefaultHasher::new();
    (kind, name).hash(&mut hasher);
    let hash = hasher.finish();
    // Two halves of one hash make as many probes as are wanted.
    let (first, step) = (hash & 0xffff_ffff, hash >> 32 | 1);
    (0..PROBES).map(move |probe| {
        let bit = first.wrapping_add(probe.wrapping_mul(step)) % (words as u64 * 64);
        ((bit / 64) as usize, 1 << (bit % 64))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::segments::frame::Place;
    use crate::journal::segments::record::PublishedHead;
    use tidings_core::message::{Offset, Seq};

    #[test]
    fn what_is_there_is_never_denied_and_what_is_not_nearly_always() {
        let mut index = SegmentIndex::new(Offset(0));
        for n in 0..1000 {
            let name = format!("chat/room{n}/alice");
            let (topic, seq) = (name.as_str(), Seq(1));
            let (history, everyone, stream) = (true, true, "chat/room");
            let head = PublishedHead {
                stream,
                topic,
                seq,
                time: n,
                history,
                everyone,
            };
            index.push(
                Offset(n),
                Place {
                    position: 0,
                    len: 1,
                },
                &topic.into(),
                &stream.into(),
                &head,
            );
        }
        let summary = Summary::new(&index);
        let may = |filter: &str| summary.may_match(&[filter.into()]);
        for filter in [
            "#",
            "+/x",
            "chat/#",
            "chat/room7/+",
            "chat/room7/#",
            "chat/room7/alice",
        ] {
            assert!(may(filter), "{filter}");
        }
        assert!(
            may("chat/room7/alice/#"),
            "a filter matches the parent level too"
        );
        let wrong = (0..1000)
            .filter(|n| may(&format!("chat/other{n}/+")))
            .count();
        assert!(wrong < 50, "{wrong}");
        assert!(summary.may_have_stream("chat/room") && !summary.may_have_stream("dm"));
        assert_eq!(summary.newest(), 999);
    }
}
