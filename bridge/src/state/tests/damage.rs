//! Damage to the view on disk: found when it is opened, set aside, and mended without loss.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::random::{Random, random_batch};
use super::*;
use crate::state::OpenError;

/// A data directory with a view at its log's end, and snapshots of earlier offsets.
struct Damaged {
    directory: TempDir,
    log: Log,
}

impl Damaged {
    fn new(seed: u64, batches: usize) -> Self {
        let mut random = Random::new(seed);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut log = Log::default();
        let (state, _) = log.open(directory.path());
        for n in 0..batches {
            state.apply(&random_batch(&mut random, &mut log));
            if n % 10 == 3 {
                state.checkpoint().expect("checkpoint");
            }
            if n == batches / 3 || n == batches / 2 {
                state.snapshot().expect("snapshot");
            }
        }
        state.checkpoint().expect("checkpoint");
        Self { directory, log }
    }

    fn view(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    fn open(&self) -> OpenReport {
        let (state, report) = self.log.open(self.directory.path());
        assert_same(&state, &self.log);
        report
    }

    fn assert_mended(&self) {
        let report = self.open();
        let aside = report.set_aside.expect("set aside");
        assert!(aside.path.is_dir());
        assert!(report.rebuilt_from.is_some());
        // And then all is well again.
        assert_eq!(self.open().set_aside, None);
    }
}

#[test]
fn a_whole_view_is_opened_where_it_stands() {
    let damaged = Damaged::new(1, 30);
    let report = damaged.open();
    assert_eq!(report.applied, damaged.log.end);
    assert_eq!((report.set_aside, report.rebuilt_from), (None, None));
    assert!(report.records > 0);
}

#[test]
fn a_deleted_view_is_built_again() {
    let damaged = Damaged::new(2, 30);
    fs::remove_dir_all(damaged.view()).expect("removed");
    let report = damaged.open();
    assert!(report.rebuilt_from.is_some());
    assert!(report.applied > Offset(0) && report.applied < damaged.log.end);
}

#[test]
fn a_view_without_its_files_or_with_garbage_is_set_aside() {
    for file in ["db", "conf"] {
        let damaged = Damaged::new(3, 20);
        fs::write(damaged.view().join(file), b"not what it was").expect("written");
        damaged.assert_mended();
    }
    let damaged = Damaged::new(3, 20);
    fs::remove_file(damaged.view().join("db")).expect("removed");
    damaged.assert_mended();
    fs::remove_dir_all(damaged.view()).expect("removed");
    fs::write(damaged.view(), b"a file").expect("written");
    let report = damaged.open();
    assert!(report.set_aside.is_some());
}

#[test]
fn a_truncated_view_is_mended() {
    let mut random = Random::new(4);
    for seed in 0..6 {
        let damaged = Damaged::new(seed, 25);
        let path = damaged.view().join("db");
        let file = fs::OpenOptions::new().write(true).open(path).expect("open");
        let len = file.metadata().expect("metadata").len();
        file.set_len(random.below(len)).expect("truncated");
        drop(file);
        damaged.open();
    }
}

#[test]
fn flipped_bits_never_change_what_the_state_says() {
    // More by hand: each round is another place.
    let rounds =
        std::env::var("TIDINGS_DAMAGE_ROUNDS").map_or(12, |n| n.parse().expect("a number"));
    let mut random = Random::new(rounds);
    let mut set_aside = 0;
    for seed in 0..rounds {
        let _named = Named(format!("seed {seed} of {rounds}"));
        let damaged = Damaged::new(seed, 20);
        for entry in fs::read_dir(damaged.view()).expect("read") {
            let path = entry.expect("an entry").path();
            if path.is_file() {
                flip_bits(&path, 1 + random.below(20), &mut random);
            }
        }
        set_aside += usize::from(damaged.open().set_aside.is_some());
    }
    assert!(set_aside > 0, "no flip hit anything");
}

fn flip_bits(path: &Path, count: u64, random: &mut Random) {
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .expect("open");
    let len = file.metadata().expect("metadata").len();
    // Most of a segment may be padding: hit what is not.
    for _ in 0..count.min(len) {
        for _ in 0..1_000 {
            let at = random.below(len);
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).expect("read");
            if byte != [0] {
                byte[0] ^= 1 << random.below(8);
                file.write_all_at(&byte, at).expect("written");
                break;
            }
        }
    }
}

#[test]
fn missing_or_damaged_files_of_large_values_are_found() {
    let with_large_value = || {
        let mut damaged = Damaged::new(6, 10);
        let (state, _) = damaged.log.open(damaged.directory.path());
        let large = publish("s", 1, "large", &[9; 1 << 20], true);
        state.apply(&damaged.log.append([published(large)]));
        state.checkpoint().expect("checkpoint");
        drop(state);
        // All of them: some may be of earlier checkpoints, and not needed any more.
        let files: Vec<_> = fs::read_dir(damaged.view().join("blobs"))
            .expect("read")
            .map(|entry| entry.expect("an entry").path())
            .collect();
        assert!(!files.is_empty());
        (damaged, files)
    };
    let (damaged, files) = with_large_value();
    for file in files {
        fs::remove_file(file).expect("removed");
    }
    assert_noticed(&damaged);
    let (damaged, files) = with_large_value();
    for file in files {
        flip_bits(&file, 3, &mut Random::new(7));
    }
    assert_noticed(&damaged);
}

/// sled may also go back to the checkpoint before the one whose files are gone: as good.
fn assert_noticed(damaged: &Damaged) {
    let report = damaged.open();
    assert!(report.set_aside.is_some() || report.applied < damaged.log.end);
    assert_eq!(damaged.open().set_aside, None);
}

#[test]
fn a_copy_taken_while_a_checkpoint_runs_opens_to_the_same_state() {
    let damaged = Damaged::new(19, 5);
    let mut log = damaged.log;
    let (state, _) = log.open(damaged.directory.path());
    let mut random = Random::new(20);
    for _ in 0..12 {
        for _ in 0..5 {
            state.apply(&random_batch(&mut random, &mut log));
        }
        let copy = tempfile::tempdir().expect("a temporary directory");
        std::thread::scope(|scope| {
            let checkpoint = scope.spawn(|| state.checkpoint().expect("checkpoint"));
            copy_directory(damaged.directory.path(), copy.path());
            checkpoint.join().expect("joined");
        });
        let (copied, _) = log.open(copy.path());
        assert_same(&copied, &log);
    }
}

fn copy_directory(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("read") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir(&target).expect("created");
            copy_directory(&entry.path(), &target);
        } else {
            // Files come and go meanwhile.
            let _ = fs::copy(entry.path(), target);
        }
    }
}

/// Writes to the view behind our back, with sled itself.
fn tamper(damaged: &Damaged, change: impl Fn(&sled::Db)) {
    let db = sled::open(damaged.view()).expect("opens");
    change(&db);
    db.flush().expect("flushed");
}

#[test]
fn a_record_that_is_lost_added_or_out_of_date_is_found() {
    let any_record = |db: &sled::Db| {
        let found = db
            .iter()
            .filter_map(Result::ok)
            .find(|(key, _)| key.len() > 1);
        found.expect("a record")
    };
    let damaged = Damaged::new(8, 20);
    tamper(&damaged, |db| drop(db.remove(any_record(db).0)));
    damaged.assert_mended();
    let damaged = Damaged::new(8, 20);
    tamper(&damaged, |db| {
        let (key, mut value) = any_record(db);
        value[4] ^= 1;
        db.insert(key, value).expect("inserted");
    });
    damaged.assert_mended();

    // A whole record, from the past.
    let mut damaged = Damaged::new(8, 20);
    let key = [&[3], "old".as_bytes()].concat();
    let (state, _) = damaged.log.open(damaged.directory.path());
    state.apply(&damaged.log.append([retain("old", "1")]));
    state.checkpoint().expect("checkpoint");
    drop(state);
    let old = std::cell::RefCell::new(None);
    tamper(&damaged, |db| {
        *old.borrow_mut() = db.get(&key).expect("read")
    });
    let (state, _) = damaged.log.open(damaged.directory.path());
    state.apply(&damaged.log.append([retain("old", "2")]));
    state.checkpoint().expect("checkpoint");
    drop(state);
    tamper(&damaged, |db| {
        let old = old.take().expect("a record");
        db.insert(&key, old).expect("inserted");
    });
    damaged.assert_mended();
}

#[test]
fn a_view_without_its_ledger_was_not_finished() {
    let damaged = Damaged::new(9, 20);
    tamper(&damaged, |db| drop(db.remove([0])));
    damaged.assert_mended();
}

#[test]
fn a_view_of_another_journal_is_set_aside_and_its_snapshots_are_not_used() {
    let damaged = Damaged::new(10, 20);
    let options = Options::new(Epoch(1), Offset(0), Offset(0));
    let (state, report) = SledState::open(damaged.directory.path(), &options).expect("opens");
    let aside = report.set_aside.expect("set aside");
    assert!(aside.reason.contains("epoch"), "{}", aside.reason);
    assert_eq!((report.applied, report.records), (Offset(0), 0));
    assert_eq!(State::applied(&state), Offset(0));
}

#[test]
fn what_stands_past_the_end_of_the_journal_is_not_used() {
    let mut damaged = Damaged::new(11, 20);
    damaged.log.batches.truncate(3);
    let end = damaged.log.batches.last().and_then(Batch::end);
    damaged.log.end = end.expect("not empty");
    let report = damaged.open();
    assert!(report.set_aside.is_some());
    assert_eq!(report.rebuilt_from, None);
    assert_eq!(report.applied, Offset(0));
    // The journal grows past those offsets with other entries: the old snapshots must be gone.
    let mut random = Random::new(12);
    for _ in 0..40 {
        random_batch(&mut random, &mut damaged.log);
    }
    fs::remove_dir_all(damaged.view()).expect("removed");
    assert_eq!(damaged.open().rebuilt_from, None);
}

#[test]
fn without_a_snapshot_a_trimmed_journal_is_an_error_and_never_an_empty_state() {
    let damaged = Damaged::new(13, 20);
    let mut options = damaged.log.options();
    options.journal_start = damaged.log.end;
    let data_dir = damaged.directory.path();
    assert!(SledState::open(data_dir, &options).is_ok());
    fs::remove_dir_all(damaged.view()).expect("removed");
    assert!(matches!(
        SledState::open(data_dir, &options),
        Err(OpenError::NothingToBuildFrom { .. })
    ));
    assert!(!damaged.view().exists());
    options.journal_start = Offset(1);
    let (_, report) = SledState::open(data_dir, &options).expect("opens");
    assert!(report.rebuilt_from.is_some());
}

#[test]
fn a_damaged_newest_snapshot_is_replaced_by_the_one_before_it() {
    let damaged = Damaged::new(14, 30);
    let snapshots = SledState::snapshots_in(damaged.directory.path());
    let mut files: Vec<_> = fs::read_dir(&snapshots)
        .expect("read")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    flip_bits(&files[1], 1, &mut Random::new(15));
    fs::remove_dir_all(damaged.view()).expect("removed");
    assert_eq!(damaged.open().rebuilt_from, Some(files[0].clone()));
}

#[test]
fn only_the_latest_two_damaged_views_are_kept() {
    let damaged = Damaged::new(16, 10);
    for _ in 0..4 {
        fs::write(damaged.view().join("db"), b"garbage").expect("written");
        damaged.assert_mended();
    }
    let mut aside: Vec<_> = fs::read_dir(damaged.directory.path())
        .expect("read")
        .filter_map(|entry| entry.expect("an entry").file_name().into_string().ok())
        .filter(|name| name.starts_with("state.damaged-"))
        .collect();
    aside.sort();
    assert_eq!(aside, ["state.damaged-3", "state.damaged-4"]);
}

#[test]
fn a_locked_view_is_an_error_and_stays_where_it_is() {
    let damaged = Damaged::new(17, 10);
    let (state, _) = damaged.log.open(damaged.directory.path());
    assert!(matches!(
        SledState::open(damaged.directory.path(), &damaged.log.options()),
        Err(OpenError::Locked)
    ));
    drop(state);
    assert_eq!(damaged.open().set_aside, None);
}

#[test]
fn damage_met_while_running_stops_the_reader_and_the_next_start_builds_anew() {
    let mut damaged = Damaged::new(18, 10);
    let (state, _) = damaged.log.open(damaged.directory.path());
    state.apply(&damaged.log.append([retain("x", "1")]));
    state.checkpoint().expect("checkpoint");
    state.damage_for_test("x");
    let read = std::panic::AssertUnwindSafe(|| {
        state.for_each_retained("x", damaged.log.end, &mut |_| {});
    });
    assert!(std::panic::catch_unwind(read).is_err());
    drop(state);
    let report = damaged.open();
    let reason = report.set_aside.expect("set aside").reason;
    assert!(reason.contains("while running"), "{reason}");
    assert_eq!(damaged.open().set_aside, None);
}
