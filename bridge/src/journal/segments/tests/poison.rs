//! A disk that fails: nothing more comes back, reading goes on, opening anew recovers.

use super::*;
use crate::journal::segments::JournalError;
use crate::journal::segments::sim_fs::Fault;

fn is_poisoned_by(fault: Fault) {
    let fs = SimFs::new(5);
    let (mut writer, journal, _) = open(&fs, 4096);
    commit_each(&mut writer, [message("a", "good")]);
    fs.inject(fault, 0);
    let failed = writer.commit(vec![message("a", "lost")]);
    assert!(
        matches!(failed, Err(JournalError::Poisoned { .. })),
        "{fault:?}: {failed:?}"
    );
    let again = writer.commit(vec![message("a", "refused")]);
    assert_eq!(again, failed, "{fault:?}");
    assert_eq!(writer.sync().err(), failed.err(), "{fault:?}");
    assert!(writer.poisoned().is_some());
    assert_eq!(everything(&journal), [(0, "good".into())], "{fault:?}");
    assert_eq!(journal.end(), Offset(1));
    drop(writer);
    fs.crash_hard();
    let (mut writer, journal, _) = open(&fs, 4096);
    assert_eq!(everything(&journal), [(0, "good".into())], "{fault:?}");
    commit_each(&mut writer, [message("a", "on")]);
    assert_eq!(journal.end(), Offset(2));
}

#[test]
fn a_failed_write_poisons() {
    is_poisoned_by(Fault::Write);
}

#[test]
fn a_short_write_poisons() {
    is_poisoned_by(Fault::ShortWrite);
}

#[test]
fn a_failed_sync_poisons() {
    is_poisoned_by(Fault::Sync);
}

#[test]
fn a_full_disk_poisons_and_is_recovered_from_when_there_is_space() {
    let fs = SimFs::new(6);
    let (mut writer, journal, _) = open(&fs, 1024);
    fs.set_capacity(Some(4096));
    let failed = (0..100).find_map(|n| writer.commit(vec![message("a", &n.to_string())]).err());
    let cause = failed.expect("the disk is full").to_string();
    assert!(
        cause.contains("no storage space") || cause.contains("short write"),
        "{cause}"
    );
    let committed = everything(&journal);
    assert!(committed.len() > 10);
    drop(writer);
    // Reading is possible while the disk is full.
    let (writer, journal, _) = open(&fs, 1024);
    assert_eq!(everything(&journal), committed);
    drop(writer);
    fs.set_capacity(None);
    let (mut writer, journal, _) = open(&fs, 1024);
    commit_each(&mut writer, (0..50).map(|_| message("a", "more")));
    assert_eq!(journal.end().0, committed.len() as u64 + 50);
    drop(writer);
    assert_eq!(check(&fs).problems, []);
}

#[test]
fn a_batch_that_is_larger_than_a_segment_gets_one_of_its_own() {
    let fs = SimFs::new(7);
    let (mut writer, journal, _) = open(&fs, 1024);
    let large = "x".repeat(10_000);
    commit_each(
        &mut writer,
        [message("a", "1"), message("b", &large), message("a", "2")],
    );
    assert_eq!(everything(&journal).len(), 3);
    drop(writer);
    let (_, journal, _) = open(&fs, 1024);
    assert_eq!(everything(&journal)[1], (1, large));
}

#[test]
fn one_batch_is_one_write_and_one_sync() {
    let fs = SimFs::new(8);
    let (mut writer, ..) = open(&fs, 1 << 20);
    let before = fs.counts();
    writer
        .commit((0..1000).map(|n| message("a", &n.to_string())).collect())
        .expect("fine");
    let after = fs.counts();
    assert_eq!(
        (after.writes - before.writes, after.syncs - before.syncs),
        (1, 1)
    );
}
