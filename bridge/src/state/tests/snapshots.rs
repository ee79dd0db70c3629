//! Snapshot files: written whole, found whole, or not used.

use std::fs;

use super::random::{Random, random_batch};
use super::*;
use crate::state::{rebuild_in_memory, snapshot};

fn random_log(seed: u64, batches: usize) -> Log {
    let mut random = Random::new(seed);
    let mut log = Log::default();
    for _ in 0..batches {
        random_batch(&mut random, &mut log);
    }
    log
}

#[test]
fn a_snapshot_holds_the_whole_state() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log = random_log(1, 40);
    let memory = log.in_memory();
    let written = snapshot::write(directory.path(), EPOCH, &memory).expect("written");
    assert_eq!(written.applied, log.end);
    let read = rebuild_in_memory(directory.path(), EPOCH, log.end).expect("read");
    assert_eq!(differences(&memory, &read), Vec::<String>::new());
    assert_eq!(memory.lowest_position(), read.lowest_position());
    assert_eq!(
        memory.due_sessions(u64::MAX, 100),
        read.due_sessions(u64::MAX, 100)
    );
}

#[test]
fn no_flipped_bit_and_no_missing_byte_goes_unnoticed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log = random_log(2, 3);
    let written = snapshot::write(directory.path(), EPOCH, &log.in_memory()).expect("written");
    let whole = fs::read(&written.path).expect("read");
    let refused = |bytes: &[u8]| {
        fs::write(&written.path, bytes).expect("written");
        let found = snapshot::load_newest(directory.path(), EPOCH, log.end);
        found.expect("the directory can be read").is_none()
    };
    assert!(!refused(&whole));
    let mut random = Random::new(3);
    let flips = (0..64).chain((0..400).map(|_| random.below(whole.len() as u64) as usize));
    for at in flips.collect::<Vec<_>>() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << random.below(8);
        assert!(refused(&damaged), "byte {at}");
    }
    for _ in 0..200 {
        let len = random.below(whole.len() as u64) as usize;
        assert!(refused(&whole[..len]), "length {len}");
    }
    assert!(refused(&[&whole[..], &[0]].concat()));
    assert!(refused(&[]));
}

#[test]
fn snapshots_of_another_epoch_past_the_end_or_renamed_are_not_used() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log = random_log(4, 5);
    let written = snapshot::write(directory.path(), EPOCH, &log.in_memory()).expect("written");
    let newest = |epoch, end| {
        snapshot::load_newest(directory.path(), epoch, end).expect("the directory can be read")
    };
    assert_eq!(newest(EPOCH, log.end), Some(written.clone()));
    assert_eq!(newest(Epoch(1), log.end), None);
    assert_eq!(newest(EPOCH, Offset(log.end.0 - 1)), None);
    let renamed = directory.path().join(format!("snapshot-{:020}", 1));
    fs::rename(&written.path, renamed).expect("renamed");
    assert_eq!(newest(EPOCH, log.end), None);
}

#[test]
fn the_last_two_snapshots_are_kept_and_the_journal_is_needed_from_the_older_one() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut log = Log::default();
    let state = log.open(directory.path()).0;
    let mut ends = Vec::new();
    let mut needed = Vec::new();
    for n in 0..4 {
        state.apply(&log.append([retain(&format!("t/{n}"), "x"), opened("a", false)]));
        ends.push(log.end);
        needed.push(state.snapshot().expect("snapshot"));
        // Nothing new: nothing is written, and the answer is the same.
        assert_eq!(state.snapshot().expect("snapshot"), needed[n]);
    }
    assert_eq!(needed, [Offset(0), ends[0], ends[1], ends[2]]);
    let snapshots = SledState::snapshots_in(directory.path());
    let files = fs::read_dir(&snapshots).expect("read").count();
    assert_eq!(files, snapshot::KEEP);
}

#[test]
fn a_damaged_snapshot_is_not_counted_when_the_journal_is_trimmed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut log = Log::default();
    let state = log.open(directory.path()).0;
    let snapshots = SledState::snapshots_in(directory.path());
    let mut take = |topic: &str| {
        state.apply(&log.append([retain(topic, "x")]));
        (log.end, state.snapshot().expect("snapshot"))
    };
    let (first, _) = take("a");
    let (second, _) = take("b");
    let path = snapshots.join(format!("snapshot-{:020}", second.0));
    let mut bytes = fs::read(&path).expect("read");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&path, bytes).expect("written");
    let (_, needed) = take("c");
    assert_eq!(needed, first);
}

#[test]
fn differences_are_found_and_named() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut log = Log::default();
    let state = log.open(directory.path()).0;
    state.apply(&log.append([opened("a", true), retain("x", "1"), retain("y", "1")]));
    let mut other = Log::default();
    other.append([opened("b", true), retain("x", "2"), retain("y", "1")]);
    let settled = state.settle().expect("checkpoint");
    let mut found = Vec::new();
    let mut seen = Vec::new();
    let other = other.in_memory();
    let progress = &mut |n| seen.push(n);
    compare(&settled, &other, progress, &mut |difference| {
        found.push(difference.to_string());
    });
    assert_eq!(
        found,
        [
            "session \"a\" is only in the first",
            "session \"b\" is only in the second",
            "retained message \"x\" differs",
        ]
    );
    assert_eq!(seen, [1, 2, 3, 4, 5, 6]);
}
