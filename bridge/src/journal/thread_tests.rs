//! Tests of the journal's thread. They wait for events; the deadline only bounds a failure.

use std::sync::mpsc::RecvTimeoutError;

use tidings_core::journal::Journal;
use tidings_core::message::{Epoch, Offset, Seq};
use tidings_core::rules::Keep;

use super::*;
use crate::journal::contract::{filters, message, payloads};
use crate::journal::segments::fs::Fs;
use crate::journal::segments::sim_fs::{Fault, SimFs};
use crate::journal::slow_fs::SlowFs;

const DEADLINE: Duration = Duration::from_secs(60);

fn writer(fs: &SimFs) -> Writer {
    writer_on(Arc::new(fs.clone()), 16 * 1024)
}

fn writer_on(fs: Arc<dyn Fs>, segment_bytes: u64) -> Writer {
    let options = segments::Options {
        segment_bytes,
        ..segments::Options::new(Epoch(1))
    };
    let opened = Writer::open(fs, options, Box::new(|_| Seq(0)));
    opened.expect("an empty directory can be opened").0
}

fn start(fs: &SimFs, options: Options) -> (JournalHandle, Receiver<Commit>) {
    spawn(writer(fs), options)
}

fn spawn(writer: Writer, options: Options) -> (JournalHandle, Receiver<Commit>) {
    let (sender, commits) = channel();
    let sink = Box::new(move |commit| {
        let _ = sender.send(commit);
    });
    let handle = JournalThread::spawn(writer, options, sink).expect("threads can be started");
    (handle, commits)
}

/// Hands over single messages so that batches form while syncs run.
fn append_steadily(handle: &JournalHandle, count: u64) {
    for n in 0..count {
        handle.append(vec![message("t", &n.to_string())]);
        if n % 4 == 0 {
            std::thread::sleep(Duration::from_micros(500));
        }
    }
}

#[test]
fn on_a_slow_disk_two_syncs_run_at_once_and_batches_still_come_back_in_order() {
    let fs = SimFs::new(6);
    let slow = SlowFs::new(fs.clone());
    // One segment, so that nobody but the writer syncs.
    let writer_on_slow = writer_on(Arc::new(slow.clone()), 1024 * 1024);
    slow.most.store(0, Ordering::SeqCst);
    let (handle, commits) = spawn(writer_on_slow, Options::default());
    append_steadily(&handle, 800);
    await_entries(&commits, 800);
    handle.stop();
    assert_eq!(handle.queued_bytes(), 0);
    assert_eq!(slow.most.load(Ordering::SeqCst), DEPTH);
    fs.crash_hard();
    let writer = writer(&fs);
    let journal = writer.journal();
    let page = journal.read(&filters(&["t"]), Offset(0), Offset(800), usize::MAX);
    let expected: Vec<_> = (0..800).map(|n| n.to_string()).collect();
    assert_eq!(payloads(&page.expect("readable")), expected);
}

#[test]
fn when_one_of_two_syncs_fails_nothing_after_it_comes_back() {
    for skip in [0, 1, 2, 7] {
        let fs = SimFs::new(7 + skip);
        let slow = SlowFs::new(fs.clone());
        let (handle, commits) = spawn(writer_on(Arc::new(slow), 16 * 1024), Options::default());
        append_steadily(&handle, 100);
        await_entries(&commits, 100);
        fs.inject(Fault::Sync, skip);
        append_steadily(&handle, 200);
        let mut end = handle.journal().end().0;
        let told = loop {
            match commits.recv_timeout(DEADLINE).expect("it is told") {
                Commit::Batch(batch) => end = end.max(batch.end().map_or(0, |end| end.0)),
                Commit::Poisoned(cause) => break cause,
            }
        };
        handle.stop();
        assert!(!told.is_empty());
        assert_eq!(
            commits.recv_timeout(DEADLINE),
            Err(RecvTimeoutError::Disconnected)
        );
        assert_eq!(handle.journal().end(), Offset(end), "skip {skip}");
        assert!(end < 300, "something was refused");
    }
}

/// Waits until `count` entries came back; their payloads' offsets must be dense.
fn await_entries(commits: &Receiver<Commit>, count: u64) {
    let mut next = Offset(0);
    while next < Offset(count) {
        match commits.recv_timeout(DEADLINE).expect("batches come back") {
            Commit::Batch(batch) => {
                assert_eq!(batch.entries.first().map(|(_, e)| e.offset), Some(next));
                next = batch.end().expect("batches are not empty");
            }
            Commit::Poisoned(cause) => panic!("{cause}"),
        }
    }
}

#[test]
fn what_many_threads_hand_over_comes_back_in_order_and_is_kept() {
    let fs = SimFs::new(1);
    let (handle, commits) = start(&fs, Options::default());
    std::thread::scope(|scope| {
        for shard in 0..4 {
            let handle = handle.clone();
            scope.spawn(move || {
                for n in 0..250 {
                    handle.append(vec![message(&format!("t/{shard}"), &format!("{n}"))]);
                }
            });
        }
    });
    await_entries(&commits, 1000);
    handle.stop();
    assert_eq!(handle.queued_bytes(), 0);
    let (batches, entries) = handle.committed();
    assert_eq!(entries, 1000);
    assert!(batches <= 1000);
    fs.crash_hard();
    let writer = writer(&fs);
    let journal = writer.journal();
    for shard in 0..4 {
        let wanted = filters(&[&format!("t/{shard}")]);
        let page = journal
            .read(&wanted, Offset(0), Offset(1000), usize::MAX)
            .expect("readable");
        let expected: Vec<_> = (0..250).map(|n| n.to_string()).collect();
        assert_eq!(payloads(&page), expected);
    }
}

#[test]
fn stop_writes_what_was_handed_over_and_then_takes_nothing() {
    let fs = SimFs::new(2);
    for durability in [Durability::Fsync, Durability::Interval(DEADLINE)] {
        let (handle, commits) = start(
            &fs,
            Options {
                durability,
                ..Options::default()
            },
        );
        let before = handle.journal().end().0;
        for n in 0..100 {
            handle.append(vec![message("t", &n.to_string())]);
        }
        handle.stop();
        handle.append(vec![message("t", "late")]);
        assert_eq!(handle.queued_bytes(), 0);
        let entries = commits.iter().map(|commit| match commit {
            Commit::Batch(batch) => batch.entries.len(),
            Commit::Poisoned(cause) => panic!("{cause}"),
        });
        assert_eq!(entries.sum::<usize>(), 100);
        fs.crash_hard();
        assert_eq!(
            writer(&fs).journal().end().0,
            before + 100,
            "{durability:?}"
        );
    }
}

#[test]
fn with_an_interval_a_batch_becomes_durable_by_itself() {
    let fs = SimFs::new(3);
    let durability = Durability::Interval(Duration::from_millis(1));
    let (handle, commits) = start(
        &fs,
        Options {
            durability,
            ..Options::default()
        },
    );
    let before = fs.counts().syncs;
    handle.append(vec![message("t", "1")]);
    await_entries(&commits, 1);
    let deadline = Instant::now() + DEADLINE;
    while fs.counts().syncs == before {
        assert!(Instant::now() < deadline, "it was never synced");
        std::thread::yield_now();
    }
    handle.stop();
}

#[test]
fn a_batch_takes_no_more_than_its_limit() {
    let mut queue = Queue::default();
    for bytes in [50, 50, 60, 500, 10] {
        queue.waiting.push_back(Handover {
            appends: vec![message("t", "x")],
            bytes,
        });
    }
    let sizes: Vec<_> = std::iter::from_fn(|| {
        (!queue.waiting.is_empty())
            .then(|| together(queue.gather(100)))
            .map(|(a, bytes)| (a.len(), bytes))
    })
    .collect();
    assert_eq!(sizes, [(2, 100), (1, 60), (1, 500), (1, 10)]);
}

#[test]
fn a_broken_disk_is_told_once_and_nothing_comes_back_after_it() {
    let fs = SimFs::new(4);
    let (handle, commits) = start(&fs, Options::default());
    handle.append(vec![message("t", "1")]);
    await_entries(&commits, 1);
    fs.inject(Fault::Sync, 0);
    handle.append(vec![message("t", "2")]);
    let told = commits.recv_timeout(DEADLINE);
    assert!(matches!(told, Ok(Commit::Poisoned(_))), "{told:?}");
    handle.append(vec![message("t", "3")]);
    handle.stop();
    assert_eq!(handle.queued_bytes(), 0);
    // The sink is gone with the thread.
    assert_eq!(
        commits.recv_timeout(DEADLINE),
        Err(RecvTimeoutError::Disconnected)
    );
    assert_eq!(handle.journal().end(), Offset(1));
}

#[test]
fn trimming_runs_beside_writing() {
    let fs = SimFs::new(5);
    let (handle, commits) = start(&fs, Options::default());
    // One after the other: together they would be one batch in one segment.
    for n in 0..1000 {
        handle.append(vec![message("t", &format!("{n} {}", "x".repeat(100)))]);
        assert!(matches!(
            commits.recv_timeout(DEADLINE),
            Ok(Commit::Batch(_))
        ));
    }
    let retention = Retention {
        keep_from: Offset(900),
        snapshot: Offset(1000),
        now: 0,
        history: Arc::new(|_| Some(Keep::default())),
        max_backlog_bytes: None,
    };
    let (sender, done) = channel();
    handle.trim(retention, Box::new(move |report| drop(sender.send(report))));
    let report = done
        .recv_timeout(DEADLINE)
        .expect("trimming ends")
        .expect("the disk is fine");
    assert_eq!(report.start, Offset(900));
    assert!(report.removed > 3, "{report:?}");
    handle.stop();
}
