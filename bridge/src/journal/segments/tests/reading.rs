//! Reading costs what it finds.

use super::*;
use crate::journal::contract::payloads;
use crate::journal::segments::SEALED_OPEN_MAX;

#[test]
fn a_narrow_filter_does_not_read_unrelated_entries() {
    let fs = SimFs::new(2);
    let (mut writer, ..) = open(&fs, 64 * 1024);
    let payload = "x".repeat(500);
    for n in 0..2000 {
        let topic = if n % 100 == 50 { "rare" } else { "common" };
        commit_each(&mut writer, [message(topic, &payload)]);
    }
    do_chores(&mut writer);
    drop(writer);
    let (_writer, journal, _) = open(&fs, 64 * 1024);
    let (decoded, bytes) = (journal.decoded_count(), fs.counts().read_bytes);
    let wanted = filters(&["rare", "none/+"]);
    let page = journal.read(&wanted, Offset(0), Offset(2000), usize::MAX);
    assert_eq!(page.expect("readable").entries.len(), 20);
    assert_eq!(journal.decoded_count() - decoded, 20);
    // The messages, and the indexes of some fifteen segments.
    let read = fs.counts().read_bytes - bytes;
    assert!(read < 100_000, "{read} bytes were read for 20 messages");
}

#[test]
fn the_newest_entries_are_read_without_the_disk() {
    let fs = SimFs::new(2);
    let options = Options {
        tail_bytes: 1 << 20,
        ..options(1 << 20)
    };
    let (mut writer, journal, _) =
        try_open(&fs, options, &Heads::default()).expect("it can be opened");
    commit_each(&mut writer, (0..100).map(|n| message("a", &n.to_string())));
    let before = fs.counts().read_bytes;
    assert_eq!(everything(&journal).len(), 100);
    assert_eq!(fs.counts().read_bytes, before);
}

#[test]
fn more_segments_than_may_be_open_are_read_all_the_same() {
    let fs = SimFs::new(3);
    let (mut writer, journal, _) = open(&fs, 512);
    let payload = "x".repeat(400);
    commit_each(
        &mut writer,
        (0..SEALED_OPEN_MAX + 20).map(|_| message("a", &payload)),
    );
    do_chores(&mut writer);
    assert_eq!(everything(&journal).len(), SEALED_OPEN_MAX + 20);
    let page = journal.read(&filters(&["a"]), Offset(3), Offset(5), usize::MAX);
    assert_eq!(payloads(&page.expect("readable")).len(), 2);
}

#[test]
fn stream_heads_are_looked_up_once_and_then_counted() {
    let fs = SimFs::new(4);
    let lookups = Arc::new(Mutex::new(Vec::new()));
    let seen = lookups.clone();
    let heads: HeadLookup = Box::new(move |stream| {
        seen.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(stream.to_owned());
        Seq(41)
    });
    let (mut writer, journal, _) =
        Writer::open(Arc::new(fs), options(512), heads).expect("it can be opened");
    commit_each(&mut writer, (0..20).map(|_| message("a", "payload")));
    let last = journal.history("a", Seq(60), 10).expect("readable");
    assert_eq!(last[0].published.seq, Seq(60));
    assert_eq!(
        *lookups.lock().unwrap_or_else(PoisonError::into_inner),
        ["a"]
    );
}

#[test]
fn segments_that_have_nothing_are_not_loaded_a_second_time() {
    let fs = SimFs::new(5);
    let (mut writer, journal, _) = open(&fs, 512);
    let payload = "x".repeat(400);
    commit_each(&mut writer, [message("rare/a", &payload)]);
    commit_each(
        &mut writer,
        (0..SEALED_OPEN_MAX * 2).map(|_| message("common/a", &payload)),
    );
    do_chores(&mut writer);
    let find = || {
        let end = journal.end();
        let page = journal.read(&filters(&["rare/+", "rare/#"]), Offset(0), end, usize::MAX);
        assert_eq!(page.expect("readable").entries.len(), 1);
        let last = journal.locate("rare/a", tidings_core::topic::ReplayFrom::Last(1));
        assert_eq!(last.expect("readable"), Offset(0));
        assert_eq!(
            journal
                .history("rare/a", Seq(1), 9)
                .expect("readable")
                .len(),
            1
        );
    };
    find();
    let before = fs.counts().read_bytes;
    find();
    let read = fs.counts().read_bytes - before;
    assert!(
        read < 20_000,
        "{read} bytes were read to find one message three times"
    );
}
