//! Space comes back, what stays is right, and a crash in between harms nothing.

use super::*;
use crate::journal::retention::Retention;
use crate::journal::segments::sim_fs::Fault;
use tidings_core::rules::Keep;

const MESSAGES: u64 = 400;

fn filled(seed: u64) -> (SimFs, Writer) {
    let fs = SimFs::new(seed);
    let (mut writer, ..) = open(&fs, 4096);
    let payload = "x".repeat(100);
    commit_each(
        &mut writer,
        (0..MESSAGES).map(|n| {
            let text = format!("{n} {payload}");
            if n % 10 == 3 {
                kept("k", &text)
            } else {
                message("m", &text)
            }
        }),
    );
    do_chores(&mut writer);
    (fs, writer)
}

fn retention(keep_from: u64, keep: Keep) -> Retention {
    Retention {
        keep_from: Offset(keep_from),
        snapshot: Offset(u64::MAX),
        now: 0,
        history: Arc::new(move |_| Some(keep)),
        max_backlog_bytes: None,
    }
}

fn expected(start: u64) -> Vec<u64> {
    (0..MESSAGES)
        .filter(|n| *n >= start || n % 10 == 3)
        .collect()
}

fn offsets(journal: &SegmentJournal) -> Vec<u64> {
    everything(journal)
        .into_iter()
        .map(|(offset, _)| offset)
        .collect()
}

#[test]
fn compaction_gives_space_back_and_changes_nothing_that_stays() {
    let (fs, writer) = filled(1);
    let journal = writer.journal();
    let (before, used) = (everything(journal), fs.used_bytes());
    let mut report = journal
        .trim(&retention(MESSAGES, Keep::default()))
        .expect("the disk is fine");
    assert!(report.compacted > 10 && report.removed == 0, "{report:?}");
    while report.more {
        report = journal
            .trim(&retention(MESSAGES, Keep::default()))
            .expect("the disk is fine");
    }
    let now = fs.used_bytes();
    // One message of ten is left, and the active segment with its zeros.
    assert!(now < used / 4, "{now} of {used} bytes are left");
    assert!(journal.disk_bytes() <= now);
    assert!(journal.stored_bytes() <= journal.disk_bytes());
    let kept: Vec<_> = before
        .into_iter()
        .filter(|(offset, _)| offset % 10 == 3)
        .collect();
    assert_eq!(everything(journal), kept);
    let seqs = journal.history("k", Seq(0), usize::MAX).expect("readable");
    assert_eq!(
        seqs.iter().map(|e| e.published.seq.0).collect::<Vec<_>>(),
        (1..=40).collect::<Vec<_>>()
    );
    drop(writer);
    let report = check(&fs);
    assert_eq!((report.problems, report.missing_indexes), (vec![], 0));
    let (writer, journal, _) = open(&fs, 4096);
    assert_eq!(everything(&journal), kept);
    assert_eq!(journal.start(), Offset(MESSAGES));
    drop(writer);
}

#[test]
fn segments_without_anything_needed_are_removed() {
    let (fs, writer) = filled(2);
    let journal = writer.journal();
    let used = fs.used_bytes();
    let keep = Keep {
        max_count: Some(2),
        ..Keep::default()
    };
    let report = journal
        .trim(&retention(MESSAGES, keep))
        .expect("the disk is fine");
    assert!(report.removed > 10, "{report:?}");
    assert!(report.freed_bytes > used / 2, "{report:?}");
    assert!(fs.used_bytes() < used / 5);
    // At least one segment is written; what is in it stays.
    let left = offsets(journal);
    assert!(left.ends_with(&[383, 393]) && left.len() < 6, "{left:?}");
    drop(writer);
    let (mut writer, journal, _) = open(&fs, 4096);
    assert_eq!(offsets(&journal), left);
    commit_each(&mut writer, [message("m", "new")]);
    assert_eq!(journal.end(), Offset(MESSAGES + 1));
    drop(writer);
    assert_eq!(check(&fs).problems, []);
}

#[test]
fn a_failure_at_any_step_of_trimming_loses_nothing_that_is_needed() {
    for fault in [Fault::Sync, Fault::Write, Fault::ShortWrite] {
        for skip in 0..60 {
            let (fs, writer) = filled(skip);
            fs.inject(fault, skip);
            let failed = writer
                .journal()
                .trim(&retention(300, Keep::default()))
                .is_err();
            let start = writer.journal().start().0;
            assert!(start == 300 || (failed && start == 0));
            assert_eq!(
                offsets(writer.journal()),
                expected(start),
                "{fault:?} {skip}"
            );
            drop(writer);
            fs.crash();
            let (writer, journal, _) = open(&fs, 4096);
            let found = journal.start().0;
            assert!(found == 300 || found == 0, "{fault:?} {skip}: {found}");
            assert_eq!(offsets(&journal), expected(found), "{fault:?} {skip}");
            journal
                .trim(&retention(300, Keep::default()))
                .expect("the disk is fine again");
            assert_eq!(offsets(&journal), expected(300));
            drop(writer);
            assert_eq!(check(&fs).problems, [], "{fault:?} {skip}");
            if !failed {
                break;
            }
        }
    }
}

#[test]
fn readers_are_told_or_served_while_segments_go() {
    let (_fs, mut writer) = filled(9);
    let journal = writer.journal().clone();
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let journal = journal.clone();
                scope.spawn(move || {
                    let mut from = Offset(0);
                    while from < Offset(MESSAGES) {
                        match journal.read(&filters(&["k", "m"]), from, Offset(MESSAGES), 300) {
                            Ok(page) => {
                                let first = page.entries.first().map(|entry| entry.offset);
                                assert_eq!(first, Some(from), "nothing is skipped silently");
                                from = page.next;
                            }
                            Err(tidings_core::journal::ReadError::Trimmed { first }) => {
                                assert!(first > from);
                                from = first;
                            }
                            Err(error) => panic!("{error}"),
                        }
                    }
                })
            })
            .collect();
        for keep_from in (0..=MESSAGES).step_by(20) {
            let keep = Keep {
                max_count: Some(keep_from % 40),
                ..Keep::default()
            };
            journal
                .trim(&retention(keep_from, keep))
                .expect("the disk is fine");
            commit_each(&mut writer, [message("other", "x")]);
        }
        for reader in readers {
            reader.join().expect("a reader failed");
        }
    });
}
