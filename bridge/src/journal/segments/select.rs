//! Choosing the entries of a segment by Topic Filters, in offset order.
//!
//! Two ways: merging the lists of the topics that match, whose cost is that of the topics that may
//! match and of the entries that do; and walking over all entries, which is better when a filter
//! may match very many topics and the wanted entries are soon found. A walk that finds little goes
//! over to merging.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::sync::Arc;

use tidings_core::message::Offset;
use tidings_core::topic;

use super::index::{IndexEntry, SegmentIndex};

/// Topics that may match, above which a walk is tried: matching them costs some ten microseconds.
const WALK_ABOVE_TOPICS: usize = 256;
/// Entries after which a walk is given up: about as much work as matching as many topics.
const WALK_MAX_ENTRIES: usize = 8192;

/// An iterator over the entries that were chosen, with their offsets.
#[derive(Debug)]
pub struct Selection<'a> {
    index: &'a SegmentIndex,
    way: Way<'a>,
}

#[derive(Debug)]
enum Way<'a> {
    Merge(Merge<'a>),
    Walk(Walk<'a>),
}

/// Entries of several topics, merged.
#[derive(Debug, Default)]
struct Merge<'a> {
    lists: Vec<&'a [u32]>,
    heads: BinaryHeap<Reverse<(u32, usize)>>,
}

/// All entries, one after the other.
#[derive(Debug)]
struct Walk<'a> {
    filters: &'a [Arc<str>],
    next: usize,
    left: usize,
    /// By topic: not asked yet, or whether it matches.
    known: Vec<Option<bool>>,
}

impl<'a> Selection<'a> {
    pub fn new(index: &'a SegmentIndex, filters: &'a [Arc<str>], from: Offset) -> Self {
        let first = index.first_at(from);
        let many = |filter: &Arc<str>| {
            is_wildcard(filter)
                && index
                    .names_from(literal_prefix(filter))
                    .nth(WALK_ABOVE_TOPICS)
                    .is_some()
        };
        let way = if filters.iter().any(many) {
            let known = vec![None; index.topic_count()];
            Way::Walk(Walk {
                filters,
                next: first,
                left: WALK_MAX_ENTRIES,
                known,
            })
        } else {
            Way::Merge(Merge::new(index, filters, first))
        };
        Self { index, way }
    }
}

impl<'a> Iterator for Selection<'a> {
    type Item = (Offset, &'a IndexEntry);

    fn next(&mut self) -> Option<Self::Item> {
        if let Way::Walk(walk) = &mut self.way {
            if let Some(number) = walk.next(self.index) {
                let entry = self.index.entries().get(number)?;
                return Some((self.index.offset_of(entry), entry));
            }
            self.way = Way::Merge(Merge::new(self.index, walk.filters, walk.next));
        }
        let Way::Merge(merge) = &mut self.way else {
            return None;
        };
        let entry = self.index.entries().get(merge.next()? as usize)?;
        Some((self.index.offset_of(entry), entry))
    }
}

impl<'a> Merge<'a> {
    fn new(index: &'a SegmentIndex, filters: &[Arc<str>], first: usize) -> Self {
        let mut merge = Self::default();
        if first >= index.entries().len() {
            return merge;
        }
        for number in matching(index, filters) {
            let list = index.entries_of_topic(number);
            let begin = list.partition_point(|&entry| (entry as usize) < first);
            if let Some((head, rest)) = list.get(begin..).and_then(<[u32]>::split_first) {
                merge.heads.push(Reverse((*head, merge.lists.len())));
                merge.lists.push(rest);
            }
        }
        merge
    }

    fn next(&mut self) -> Option<u32> {
        let mut top = self.heads.peek_mut()?;
        let Reverse((number, which)) = *top;
        let rest = self.lists.get_mut(which)?;
        match rest.split_first() {
            Some((next, after)) => {
                *top = Reverse((*next, which));
                *rest = after;
            }
            None => {
                PeekMut::pop(top);
            }
        }
        Some(number)
    }
}

impl Walk<'_> {
    /// The next entry that matches; `None` if the walk is given up, or at the end.
    fn next(&mut self, index: &SegmentIndex) -> Option<usize> {
        while self.left > 0 {
            let entry = index.entries().get(self.next)?;
            self.left -= 1;
            self.next += 1;
            let topic = index.topic_number(entry);
            let known = self.known.get_mut(topic)?;
            let matches = *known.get_or_insert_with(|| {
                let name = index.topic(topic);
                self.filters
                    .iter()
                    .any(|filter| topic::matches(filter, name))
            });
            if matches {
                self.left = WALK_MAX_ENTRIES;
                return Some(self.next - 1);
            }
        }
        None
    }
}

/// Numbers of the topics that match one of the filters, each once.
fn matching(index: &SegmentIndex, filters: &[Arc<str>]) -> Vec<u32> {
    let mut found = Vec::new();
    for filter in filters {
        if is_wildcard(filter) {
            let candidates = index.names_from(literal_prefix(filter));
            found.extend(
                candidates
                    .filter(|(n, _)| topic::matches(filter, n))
                    .map(|(_, n)| n),
            );
        } else {
            found.extend(index.number_of_topic(filter));
        }
    }
    if filters.len() > 1 {
        found.sort_unstable();
        found.dedup();
    }
    found
}

fn is_wildcard(filter: &str) -> bool {
    filter.contains(['+', '#'])
}

/// What every name that matches the filter begins with: `a/b/` for `a/b/+`, `a/b` for `a/b/#`,
/// which matches `a/b` too.
pub fn literal_prefix(filter: &str) -> &str {
    let wildcard = filter.find(['+', '#']).unwrap_or(filter.len());
    let prefix = filter.get(..wildcard).unwrap_or_default();
    match filter.get(wildcard..) {
        Some("#") => prefix.strip_suffix('/').unwrap_or(prefix),
        _ => prefix,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::segments::frame::Place;
    use crate::journal::segments::record::PublishedHead;
    use tidings_core::message::Seq;

    fn index_of(topics: impl IntoIterator<Item = String>) -> SegmentIndex {
        let mut index = SegmentIndex::new(Offset(100));
        for (number, topic) in (0..).zip(topics) {
            let place = Place {
                position: 64 + number as u32 * 10,
                len: 9,
            };
            let name: Arc<str> = topic.as_str().into();
            let (stream, topic) = (topic.as_str(), topic.as_str());
            let (history, everyone) = (false, true);
            let head = PublishedHead {
                stream,
                topic,
                seq: Seq(0),
                time: 0,
                history,
                everyone,
            };
            index.push(Offset(100 + number * 2), place, &name, &name, &head);
        }
        index
    }

    fn selected(index: &SegmentIndex, filters: &[&str], from: u64) -> Vec<u64> {
        let filters: Vec<Arc<str>> = filters.iter().map(|f| (*f).into()).collect();
        Selection::new(index, &filters, Offset(from))
            .map(|(offset, _)| offset.0)
            .collect()
    }

    #[test]
    fn filters_select_in_offset_order_and_each_entry_once() {
        let topics = ["a/b", "a", "ab", "a/c", "a/b", "$x"];
        let index = index_of(topics.map(str::to_owned));
        assert_eq!(selected(&index, &["a/b"], 0), [100, 108]);
        assert_eq!(selected(&index, &["a/#"], 0), [100, 102, 106, 108]);
        assert_eq!(selected(&index, &["a/+"], 101), [106, 108]);
        assert_eq!(
            selected(&index, &["#", "a/b", "+"], 0),
            [100, 102, 104, 106, 108]
        );
        assert_eq!(selected(&index, &["$x", "ab"], 104), [104, 110]);
        assert_eq!(selected(&index, &["$x", "ab"], 111), [0_u64; 0]);
    }

    #[test]
    fn walking_and_merging_choose_the_same() {
        // Matches are dense at first, then there are none for long, then some again.
        let dense = (0..5_000).map(|n| format!("t/{}/{}", n % 1000, n % 2));
        let other = (0..2 * WALK_MAX_ENTRIES).map(|n| format!("other/{}", n % 700));
        let rare = (0..3).map(|n| format!("t/{n}/0"));
        let topics: Vec<String> = dense.chain(other).chain(rare).collect();
        let index = index_of(topics.iter().cloned());
        for filter in ["t/+/0", "+/+/1", "#", "other/+", "+/5/+"] {
            for from in [0, 101, 4_000, 11_000, 40_000] {
                let expected: Vec<u64> = (0..)
                    .zip(&topics)
                    .map(|(number, topic)| (100 + 2 * number, topic))
                    .filter(|(offset, topic)| *offset >= from && topic::matches(filter, topic))
                    .map(|(offset, _)| offset)
                    .collect();
                assert_eq!(
                    selected(&index, &[filter], from),
                    expected,
                    "{filter} {from}"
                );
            }
        }
    }
}
