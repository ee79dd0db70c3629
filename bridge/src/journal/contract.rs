//! What every journal must do, run over each implementation: the contract of
//! [`tidings_core::journal`], statement by statement.

use std::sync::Arc;

use bytes::Bytes;
use tidings_core::journal::{Append, Audience, Batch, Journal, Page, Published, ReadError, Record};
use tidings_core::message::{Epoch, Message, Offset, Publisher, QoS, Seq};
use tidings_core::rules::Keep;
use tidings_core::state::SessionChange;
use tidings_core::topic::ReplayFrom;

use super::memory::MemoryWriter;
use super::retention::Retention;
use super::segments::sim_fs::SimFs;
use super::segments::{Options, Writer};

/// A journal and the one who writes it.
pub trait Rig {
    fn commit(&mut self, appends: Vec<Append>) -> Arc<Batch>;
    fn journal(&self) -> Arc<dyn Journal>;
    fn trim(&mut self, retention: &Retention);
}

struct Memory(MemoryWriter);

impl Rig for Memory {
    fn commit(&mut self, appends: Vec<Append>) -> Arc<Batch> {
        self.0.commit(appends)
    }
    fn journal(&self) -> Arc<dyn Journal> {
        self.0.journal().clone()
    }
    fn trim(&mut self, retention: &Retention) {
        self.0.journal().trim(retention);
    }
}

/// Segments so small that a test has several.
struct Segments(Writer);

impl Rig for Segments {
    fn commit(&mut self, appends: Vec<Append>) -> Arc<Batch> {
        self.0.commit(appends).expect("the simulated disk is fine")
    }
    fn journal(&self) -> Arc<dyn Journal> {
        self.0.journal().clone()
    }
    fn trim(&mut self, retention: &Retention) {
        while let Some(chore) = self.0.next_chore() {
            chore.run();
        }
        self.0
            .journal()
            .trim(retention)
            .expect("the simulated disk is fine");
    }
}

fn memory() -> Memory {
    Memory(MemoryWriter::new(Epoch(7)))
}

fn segments_of(segment_bytes: u64, tail_bytes: usize) -> Segments {
    let options = Options {
        segment_bytes,
        tail_bytes,
        ..Options::new(Epoch(7))
    };
    let (writer, _, _) = Writer::open(Arc::new(SimFs::new(1)), options, Box::new(|_| Seq(0)))
        .expect("an empty directory can be opened");
    Segments(writer)
}

macro_rules! contract {
    ($($name:ident)*) => {
        mod memory_journal {
            $(#[test] fn $name() { super::$name(&mut super::memory()); })*
        }
        mod segments_with_the_newest_in_memory {
            $(#[test] fn $name() { super::$name(&mut super::segments_of(2048, 1 << 20)); })*
        }
        mod small_segments_read_from_disk {
            $(#[test] fn $name() { super::$name(&mut super::segments_of(512, 0)); })*
        }
    };
}

contract! {
    offsets_are_dense_and_a_batch_comes_back_in_order
    seqs_count_each_stream_and_only_what_is_for_everyone
    reading_finds_what_matches_in_offset_order
    a_page_ends_after_about_the_wanted_bytes_and_has_at_least_one_entry
    reading_past_the_end_means_the_end
    read_at_gives_messages_only
    locate_finds_the_last_messages_for_everyone
    locate_finds_a_seq_and_a_time
    history_gives_a_stream_by_seq
    what_comes_back_is_what_is_read
    trimmed_entries_are_an_error_that_names_the_first_readable_offset
    history_stays_by_age_count_and_bytes_of_its_stream
    what_someone_still_needs_stays_whatever_the_rule
    a_backlog_over_its_limit_is_trimmed_although_needed
    the_snapshot_holds_back_trimming
    trimming_never_goes_back
}

pub fn published(topic: &str, payload: &str) -> Published {
    Published {
        stream: topic
            .split_once("/from/")
            .map_or(topic, |(stream, _)| stream)
            .into(),
        seq: Seq(0),
        message: Message {
            topic: topic.into(),
            payload: Bytes::copy_from_slice(payload.as_bytes()),
            qos: QoS::AtLeastOnce,
            retain: false,
            properties: None,
            publisher: Publisher {
                user: "".into(),
                client_id: "tester".into(),
            },
            time: 0,
        },
        history: false,
        audience: Audience::Everyone,
        inbound_packet_id: None,
        read_us: 0,
    }
}

pub fn append(published: Published) -> Append {
    Append {
        shard: 0,
        record: Record::Published(Arc::new(published)),
    }
}

pub fn message(topic: &str, payload: &str) -> Append {
    append(published(topic, payload))
}

fn kept(topic: &str, payload: &str, time: u64) -> Append {
    let mut published = published(topic, payload);
    published.history = true;
    published.message.time = time;
    append(published)
}

fn private(topic: &str) -> Append {
    let audience = Audience::Only(vec!["slow".into()]);
    append(Published {
        audience,
        ..published(topic, "x")
    })
}

fn session() -> Append {
    let record = Record::Session {
        client_id: "c".into(),
        change: SessionChange::WillPublished,
    };
    Append { shard: 3, record }
}

pub fn filters(filters: &[&str]) -> Vec<Arc<str>> {
    filters.iter().map(|filter| (*filter).into()).collect()
}

pub fn payloads(page: &Page) -> Vec<String> {
    let text = |p: &Published| String::from_utf8_lossy(&p.message.payload).into_owned();
    page.entries
        .iter()
        .map(|entry| text(&entry.published))
        .collect()
}

fn offsets(page: &Page) -> Vec<u64> {
    page.entries.iter().map(|entry| entry.offset.0).collect()
}

fn read_all(journal: &dyn Journal, wanted: &[&str], from: u64) -> Page {
    journal
        .read(&filters(wanted), Offset(from), Offset(u64::MAX), usize::MAX)
        .expect("nothing is trimmed here")
}

fn history_from_the_beginning(journal: &dyn Journal) -> Vec<u64> {
    let end = journal.end();
    let page = journal.read_history(&filters(&["#"]), Offset(0), end, usize::MAX);
    offsets(&page.expect("history is never trimmed"))
}

/// One commit per message: in small segments that is several segments.
fn commit_each(rig: &mut dyn Rig, appends: Vec<Append>) {
    for append in appends {
        rig.commit(vec![append]);
    }
}

fn retention(keep_from: u64, keep: Option<Keep>) -> Retention {
    Retention {
        keep_from: Offset(keep_from),
        snapshot: Offset(u64::MAX),
        now: 1_000_000,
        history: Arc::new(move |_| keep),
        max_backlog_bytes: None,
    }
}

fn offsets_are_dense_and_a_batch_comes_back_in_order(rig: &mut dyn Rig) {
    let first = rig.commit(vec![message("a", "1"), session(), message("b", "2")]);
    let second = rig.commit(vec![message("a", "3")]);
    let offsets = |batch: &Batch| -> Vec<(u16, u64)> {
        batch
            .entries
            .iter()
            .map(|(shard, entry)| (*shard, entry.offset.0))
            .collect()
    };
    assert_eq!(offsets(&first), [(0, 0), (3, 1), (0, 2)]);
    assert_eq!(offsets(&second), [(0, 3)]);
    assert_eq!(rig.commit(Vec::new()).end(), None);
    let journal = rig.journal();
    assert_eq!((journal.start(), journal.end()), (Offset(0), Offset(4)));
    assert_eq!(journal.epoch(), Epoch(7));
}

fn seqs_count_each_stream_and_only_what_is_for_everyone(rig: &mut dyn Rig) {
    let batch = rig.commit(vec![
        message("room/from/a", "1"),
        message("room/from/b", "2"),
        private("room/from/a"),
        message("other", "3"),
        message("room/from/a", "4"),
    ]);
    let seqs: Vec<u64> = batch
        .entries
        .iter()
        .filter_map(|(_, entry)| match &entry.record {
            Record::Published(published) => Some(published.seq.0),
            _ => None,
        })
        .collect();
    assert_eq!(seqs, [1, 2, 0, 1, 3]);
}

fn reading_finds_what_matches_in_offset_order(rig: &mut dyn Rig) {
    commit_each(
        rig,
        vec![
            message("a/b", "0"),
            session(),
            message("a", "2"),
            message("c", "3"),
        ],
    );
    rig.commit(vec![
        message("a/b", "4"),
        private("a/c"),
        message("$x", "6"),
    ]);
    let journal = rig.journal();
    let read = |wanted: &[&str], from| offsets(&read_all(&*journal, wanted, from));
    assert_eq!(read(&["a/b"], 0), [0, 4]);
    assert_eq!(read(&["a/#"], 0), [0, 2, 4, 5]);
    assert_eq!(read(&["a/+"], 1), [4, 5]);
    assert_eq!(read(&["#"], 0), [0, 2, 3, 4, 5]);
    assert_eq!(read(&["c", "$x", "a/b", "a/+"], 0), [0, 3, 4, 5, 6]);
    assert_eq!(read(&["nothing/+"], 0), [0_u64; 0]);
    assert_eq!(read(&[], 0), [0_u64; 0]);
    let page = journal.read(&filters(&["#"]), Offset(2), Offset(4), usize::MAX);
    let page = page.expect("nothing is trimmed");
    assert_eq!((offsets(&page), page.next), (vec![2, 3], Offset(4)));
}

fn a_page_ends_after_about_the_wanted_bytes_and_has_at_least_one_entry(rig: &mut dyn Rig) {
    let payload = "x".repeat(99);
    commit_each(rig, (0..10).map(|_| message("t", &payload)).collect());
    let journal = rig.journal();
    let mut from = Offset(0);
    for expected in [vec![0, 1, 2], vec![3, 4, 5], vec![6, 7, 8], vec![9]] {
        let page = journal
            .read(&filters(&["t"]), from, Offset(u64::MAX), 250)
            .expect("readable");
        assert_eq!(offsets(&page), expected);
        from = page.next;
    }
    assert_eq!(from, Offset(10));
    let page = journal
        .read(&filters(&["t"]), Offset(4), Offset(10), 0)
        .expect("readable");
    assert_eq!((offsets(&page), page.next), (vec![4], Offset(5)));
}

fn reading_past_the_end_means_the_end(rig: &mut dyn Rig) {
    let journal = rig.journal();
    assert_eq!(
        read_all(&*journal, &["#"], 0),
        Page {
            entries: Vec::new(),
            next: Offset(0)
        }
    );
    rig.commit(vec![message("a", "1")]);
    assert_eq!(read_all(&*journal, &["#"], 1).next, Offset(1));
    assert_eq!(read_all(&*journal, &["b"], 0).next, Offset(1));
}

fn read_at_gives_messages_only(rig: &mut dyn Rig) {
    commit_each(rig, vec![message("a", "1"), session(), message("b", "2")]);
    let journal = rig.journal();
    let topic = |offset| {
        let found = journal.read_at(Offset(offset)).expect("readable");
        found.map(|published| published.message.topic.to_string())
    };
    assert_eq!(topic(0).as_deref(), Some("a"));
    assert_eq!(topic(1), None);
    assert_eq!(topic(2).as_deref(), Some("b"));
    assert_eq!(topic(3), None);
}

fn locate_finds_the_last_messages_for_everyone(rig: &mut dyn Rig) {
    let mut appends: Vec<Append> = (0..20)
        .map(|n| message(["a/x", "a/y", "b"][n % 3], "payload"))
        .collect();
    appends.push(private("a/x"));
    commit_each(rig, appends);
    let journal = rig.journal();
    let last = |filter, count| {
        journal
            .locate(filter, ReplayFrom::Last(count))
            .expect("readable")
            .0
    };
    assert_eq!(last("a/x", 1), 18);
    assert_eq!(last("a/+", 3), 16);
    assert_eq!(last("a/+", 1000), 0);
    assert_eq!(last("#", 20), 0);
    assert_eq!(last("b", 0), 21);
    assert_eq!(last("nothing", 5), 21);
}

fn locate_finds_a_seq_and_a_time(rig: &mut dyn Rig) {
    commit_each(
        rig,
        (0..20)
            .map(|n| kept(["a", "b"][n % 2], "x", n as u64 * 10))
            .collect(),
    );
    let journal = rig.journal();
    let locate = |filter, from| journal.locate(filter, from).expect("readable").0;
    assert_eq!(locate("a", ReplayFrom::Seq(0)), 0);
    assert_eq!(locate("b", ReplayFrom::Seq(5)), 9);
    assert_eq!(locate("+", ReplayFrom::Seq(10)), 18);
    assert_eq!(locate("a", ReplayFrom::Seq(11)), 20);
    assert_eq!(locate("a", ReplayFrom::Ts(95)), 10);
    assert_eq!(locate("b", ReplayFrom::Ts(190)), 19);
    assert_eq!(locate("a", ReplayFrom::Ts(190)), 20);
}

fn history_gives_a_stream_by_seq(rig: &mut dyn Rig) {
    let topics = ["room/from/a", "other", "room/from/b"];
    commit_each(
        rig,
        (0..12)
            .map(|n| message(topics[n % 3], &n.to_string()))
            .collect(),
    );
    rig.commit(vec![private("room/from/a")]);
    let journal = rig.journal();
    let history = |stream, from, limit| -> Vec<(u64, u64)> {
        let found = journal.history(stream, Seq(from), limit).expect("readable");
        found
            .iter()
            .map(|entry| (entry.published.seq.0, entry.offset.0))
            .collect()
    };
    assert_eq!(history("room", 3, 4), [(3, 3), (4, 5), (5, 6), (6, 8)]);
    assert_eq!(history("room", 0, 2), [(1, 0), (2, 2)]);
    assert_eq!(history("room", 8, 100), [(8, 11)]);
    assert_eq!(history("room", 9, 100), []);
    assert_eq!(history("room/from/a", 0, 100), []);
}

fn what_comes_back_is_what_is_read(rig: &mut dyn Rig) {
    let mut full = published("a/b", "payload");
    full.history = true;
    full.inbound_packet_id = Some(9);
    full.message.retain = true;
    full.message.properties = Some(Box::default());
    let batch = rig.commit(vec![append(full), session(), private("a/c")]);
    let page = read_all(&*rig.journal(), &["#"], 0);
    let written: Vec<_> = batch
        .entries
        .iter()
        .filter_map(|(_, entry)| match &entry.record {
            Record::Published(published) => Some((entry.offset, published.clone())),
            _ => None,
        })
        .collect();
    let read: Vec<_> = page
        .entries
        .into_iter()
        .map(|e| (e.offset, e.published))
        .collect();
    assert_eq!(written, read);
}

fn trimmed_entries_are_an_error_that_names_the_first_readable_offset(rig: &mut dyn Rig) {
    let payload = "x".repeat(60);
    commit_each(rig, (0..40).map(|_| message("a", &payload)).collect());
    rig.trim(&retention(30, None));
    let journal = rig.journal();
    assert_eq!((journal.start(), journal.end()), (Offset(30), Offset(40)));
    let read = |from| journal.read(&filters(&["a"]), Offset(from), Offset(40), usize::MAX);
    assert!(matches!(
        read(29),
        Err(ReadError::Trimmed { first: Offset(30) })
    ));
    assert_eq!(
        offsets(&read(30).expect("readable")),
        (30..40).collect::<Vec<_>>()
    );
    assert!(matches!(
        journal.read_at(Offset(29)),
        Err(ReadError::Trimmed { .. })
    ));
    assert!(journal.read_at(Offset(30)).expect("readable").is_some());
    assert_eq!(
        history_from_the_beginning(&*journal),
        (30..40).collect::<Vec<_>>()
    );
    assert_eq!(
        journal
            .locate("a", ReplayFrom::Last(100))
            .expect("readable"),
        Offset(30)
    );
    assert_eq!(
        journal.history("a", Seq(1), 1).expect("readable")[0]
            .published
            .seq,
        Seq(31)
    );
    rig.commit(vec![message("a", "new")]);
    let newest = read_all(&*journal, &["a"], 40);
    assert_eq!(newest.entries[0].published.seq, Seq(41));
}

fn history_stays_by_age_count_and_bytes_of_its_stream(rig: &mut dyn Rig) {
    let payload = "x".repeat(60);
    let appends = (0..60).flat_map(|n| {
        [
            kept(["a", "b"][n % 2], &payload, 900_000 + n as u64 * 1000),
            message("c", &payload),
        ]
    });
    commit_each(rig, appends.collect());
    let journal = rig.journal();

    rig.trim(&retention(
        120,
        Some(Keep {
            max_age_s: Some(80),
            ..Keep::default()
        }),
    ));
    // The oldest that may stay is from 920,000: the 20th.
    let left = history_from_the_beginning(&*journal);
    assert!(left.iter().all(|offset| offset % 2 == 0), "{left:?}");
    assert!(
        (40..120).step_by(2).all(|offset| left.contains(&offset)),
        "{left:?}"
    );
    assert!(left.len() < 60, "{left:?}");

    rig.trim(&retention(
        120,
        Some(Keep {
            max_count: Some(3),
            ..Keep::default()
        }),
    ));
    let left = history_from_the_beginning(&*journal);
    assert!(
        [108, 110, 112, 114, 116, 118]
            .iter()
            .all(|o| left.contains(o)),
        "{left:?}"
    );
    assert!(left.len() < 20, "{left:?}");

    rig.trim(&retention(
        120,
        Some(Keep {
            max_bytes: Some(150),
            ..Keep::default()
        }),
    ));
    let left = history_from_the_beginning(&*journal);
    assert!([116, 118].iter().all(|o| left.contains(o)), "{left:?}");

    let page = journal.read_history(&filters(&["b"]), Offset(0), Offset(120), usize::MAX);
    let last = page
        .expect("readable")
        .entries
        .pop()
        .expect("the newest stays");
    assert_eq!((last.offset, last.published.seq), (Offset(118), Seq(30)));
    assert_eq!(
        journal.read_at(Offset(118)).expect("readable"),
        Some(last.published)
    );
    let last = journal.history("b", Seq(30), 10).expect("readable");
    assert_eq!(
        last.iter().map(|e| e.offset).collect::<Vec<_>>(),
        [Offset(118)]
    );
    assert_eq!(
        journal.locate("b", ReplayFrom::Last(1)).expect("readable"),
        Offset(118)
    );
}

fn what_someone_still_needs_stays_whatever_the_rule(rig: &mut dyn Rig) {
    commit_each(rig, (0..30).map(|n| kept("a", "0123456789", n)).collect());
    rig.trim(&retention(
        10,
        Some(Keep {
            max_count: Some(1),
            ..Keep::default()
        }),
    ));
    let journal = rig.journal();
    assert_eq!(journal.start(), Offset(10));
    assert_eq!(
        offsets(&read_all(&*journal, &["a"], 10)),
        (10..30).collect::<Vec<_>>()
    );
}

fn a_backlog_over_its_limit_is_trimmed_although_needed(rig: &mut dyn Rig) {
    let payload = "x".repeat(100);
    commit_each(rig, (0..100).map(|_| message("a", &payload)).collect());
    commit_each(rig, (0..100).map(|_| kept("k", &payload, 0)).collect());
    let journal = rig.journal();
    let limit = |bytes| Retention {
        max_backlog_bytes: Some(bytes),
        ..retention(0, Some(Keep::default()))
    };
    rig.trim(&limit(1 << 30));
    assert_eq!(journal.start(), Offset(0));
    // One large segment is never cut: there the rest of the test says nothing.
    rig.trim(&limit(5_000));
    let start = journal.start();
    assert!(start < Offset(60), "history does not count: {start}");
    if start > Offset(0) {
        let page = journal.read(&filters(&["a"]), Offset(0), Offset(200), usize::MAX);
        assert!(matches!(page, Err(ReadError::Trimmed { first }) if first == start));
        let left = history_from_the_beginning(&*journal);
        assert_eq!(left, (start.0..200).collect::<Vec<_>>());
    }
}

fn the_snapshot_holds_back_trimming(rig: &mut dyn Rig) {
    commit_each(rig, (0..30).map(|_| message("a", "0123456789")).collect());
    rig.trim(&Retention {
        snapshot: Offset(5),
        ..retention(30, None)
    });
    assert_eq!(rig.journal().start(), Offset(5));
    let limit = Retention {
        snapshot: Offset(5),
        max_backlog_bytes: Some(0),
        ..retention(0, None)
    };
    rig.trim(&limit);
    assert_eq!(rig.journal().start(), Offset(5));
}

fn trimming_never_goes_back(rig: &mut dyn Rig) {
    commit_each(rig, (0..30).map(|_| message("a", "0123456789")).collect());
    rig.trim(&retention(20, None));
    rig.trim(&retention(10, None));
    assert_eq!(rig.journal().start(), Offset(20));
    rig.trim(&retention(1000, None));
    assert_eq!(rig.journal().start(), Offset(30));
    rig.commit(vec![message("a", "1")]);
    assert_eq!(offsets(&read_all(&*rig.journal(), &["a"], 30)), [30]);
}
