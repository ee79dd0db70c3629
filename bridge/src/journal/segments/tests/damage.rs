//! Directories that are not ours, not whole, or in use: a clear error instead of silence.

use super::*;
use crate::journal::segments::fs::{Fs, RealFs};
use tidings_core::journal::ReadError;

const FIRST: &str = "00000000000000000000.seg";

fn error(fs: &SimFs) -> String {
    match try_open(fs, options(1024), &Heads::default()) {
        Ok(_) => panic!("it must not open"),
        Err(error) => error.to_string(),
    }
}

fn change(fs: &SimFs, name: &str, at: usize) {
    let mut content = fs.content(name).expect("the file is there");
    content[at] ^= 0x40;
    fs.overwrite(name, &content);
}

/// Several sealed segments and an active one, all closed.
fn filled(messages: u32) -> SimFs {
    let fs = SimFs::new(11);
    let (mut writer, ..) = open(&fs, 1024);
    commit_each(
        &mut writer,
        (0..messages).map(|n| message("a/b", &format!("message {n}"))),
    );
    do_chores(&mut writer);
    fs
}

fn segments(fs: &SimFs) -> Vec<String> {
    let names = fs.list().expect("listable").into_iter();
    names.filter(|name| name.ends_with(".seg")).collect()
}

#[test]
fn a_second_process_is_kept_out() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let open = || {
        let fs = Arc::new(RealFs::new(directory.path())?);
        Ok::<_, Box<dyn std::error::Error>>(Writer::open(fs, options(4096), Box::new(|_| Seq(0))))
    };
    let first = open()?;
    assert!(first.is_ok());
    let refused = open()?.err().ok_or("two writers")?.to_string();
    assert!(refused.contains("in use by another process"), "{refused}");
    assert!(
        refused.contains(&directory.path().display().to_string()),
        "{refused}"
    );
    drop(first);
    assert!(open()?.is_ok());
    Ok(())
}

#[test]
fn a_real_directory_keeps_what_was_committed() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let fs = Arc::new(RealFs::new(directory.path().join("new"))?);
    let (mut writer, ..) = Writer::open(fs.clone(), options(4096), Box::new(|_| Seq(0)))?;
    commit_each(&mut writer, (0..200).map(|n| message("a", &n.to_string())));
    do_chores(&mut writer);
    drop(writer);
    let (writer, journal, recovery) =
        Writer::open(fs.clone(), options(4096), Box::new(|_| Seq(0)))?;
    assert!(recovery.segments > 1 && recovery.torn.is_none() && !recovery.created);
    assert_eq!(everything(&journal).len(), 200);
    assert_eq!(journal.epoch(), Epoch(99));
    drop(writer);
    let fs: Arc<dyn Fs> = fs;
    assert_eq!(fsck(&fs, &mut |_, _| {}, &mut |_| {})?.problems, []);
    Ok(())
}

#[test]
fn an_unknown_version_is_refused_by_name() {
    let fs = filled(3);
    change(&fs, "meta", 8);
    assert!(error(&fs).contains("meta has format version 65; this program knows only version 1"));
    change(&fs, "meta", 8);
    change(&fs, FIRST, 8);
    assert!(
        error(&fs).contains(&format!("{FIRST} has format version 65")),
        "{}",
        error(&fs)
    );
}

#[test]
fn a_damaged_or_missing_meta_file_is_refused() {
    let fs = filled(3);
    change(&fs, "meta", 13);
    assert!(error(&fs).contains("meta is damaged"));
    fs.remove("meta").expect("removable");
    assert!(error(&fs).contains("it is missing, but there are segments"));
}

#[test]
fn a_segment_of_another_journal_is_refused() {
    let fs = filled(3);
    let other = SimFs::new(1);
    let another = Options {
        new_epoch: Epoch(5),
        ..options(1024)
    };
    drop(try_open(&other, another, &Heads::default()));
    fs.overwrite(FIRST, &other.content(FIRST).expect("it was created"));
    assert!(error(&fs).contains("belongs to another journal"));
}

#[test]
fn missing_segments_are_noticed() {
    let fs = filled(60);
    let names = segments(&fs);
    let content = fs.content(&names[1]).expect("there are several segments");
    fs.remove(&names[1]).expect("removable");
    assert!(
        error(&fs).contains(&format!("{}: the file is missing", names[1])),
        "{}",
        error(&fs)
    );
    fs.overwrite(&names[1], &content);
    assert_eq!(segments(&fs), names);
    for name in names {
        fs.remove(&name).expect("removable");
    }
    assert!(error(&fs).contains("all segments are gone"));
}

#[test]
fn damage_before_batches_that_were_written_later_is_no_torn_write() {
    let fs = filled(5);
    change(&fs, FIRST, 100);
    let message = error(&fs);
    assert!(
        message.contains(FIRST) && message.contains("at byte 64"),
        "{message}"
    );
    assert_eq!(check(&fs).problems.len(), 1);
}

#[test]
fn damage_in_a_sealed_segment_is_an_error_that_names_it() {
    let fs = filled(60);
    change(&fs, FIRST, 120);
    let (writer, journal, _) = open(&fs, 1024);
    let read = |from| journal.read(&filters(&["#"]), Offset(from), Offset(60), usize::MAX);
    match read(0) {
        Err(ReadError::Damaged(what)) => assert!(what.contains(FIRST), "{what}"),
        other => panic!("{other:?}"),
    }
    assert!(read(30).is_ok());
    assert!(matches!(
        journal.replay(Offset(0), &mut |_| Ok(())),
        Err(ReadError::Damaged(_))
    ));
    drop(writer);
    let report = check(&fs);
    assert!(
        report
            .problems
            .iter()
            .any(|p| p.file == FIRST && p.position.is_some()),
        "{report:?}"
    );
}

#[test]
fn entries_that_became_zeros_at_the_end_of_a_sealed_segment_are_damage_and_no_gap() {
    let fs = filled(60);
    let mut content = fs.content(FIRST).expect("the file is there");
    // The header has 64 bytes; a batch begins with the length of what follows its first eight bytes.
    let first = u32::from_le_bytes([content[64], content[65], content[66], content[67]]);
    for from in [64 + 8 + first as usize, 64] {
        content[from..].fill(0);
        fs.overwrite(FIRST, &content);
        let (writer, journal, _) = open(&fs, 1024);
        let mut last = None;
        let replayed = journal.replay(Offset(0), &mut |batch| {
            last = batch.end();
            Ok(())
        });
        assert!(
            matches!(&replayed, Err(ReadError::Damaged(what)) if what.contains(FIRST)),
            "{replayed:?}"
        );
        assert!(
            last <= Some(Offset(1)),
            "nothing comes after a gap: {last:?}"
        );
        drop(writer);
    }
}

#[test]
fn a_message_that_stands_where_another_was_is_damage_and_not_the_other() {
    let fs = filled(60);
    let mut content = fs.content(FIRST).expect("the file is there");
    let first = u32::from_le_bytes([content[64], content[65], content[66], content[67]]);
    // Batches of one size move by one, so that each checksum is right where the index looks.
    let frame = content[64..64 + 8 + first as usize].to_vec();
    content.splice(64..64, frame);
    fs.overwrite(FIRST, &content);
    let (_writer, journal, _) = open(&fs, 1024);
    let is_damage = |read: &ReadError| match read {
        ReadError::Damaged(what) => what.contains("another message"),
        _ => false,
    };
    let one = journal.read_at(Offset(1));
    assert!(one.as_ref().is_err_and(is_damage), "{one:?}");
    let page = journal.read(&filters(&["a/b"]), Offset(1), Offset(2), usize::MAX);
    assert!(page.as_ref().is_err_and(is_damage), "{page:?}");
    let history = journal.history("a/b", Seq(2), 1);
    assert!(history.as_ref().is_err_and(is_damage), "{history:?}");
}

#[test]
fn an_index_that_is_missing_or_damaged_is_built_anew() {
    let fs = filled(60);
    let indexes: Vec<String> = fs
        .list()
        .expect("listable")
        .into_iter()
        .filter(|n| n.ends_with(".idx"))
        .collect();
    assert!(indexes.len() > 2, "{indexes:?}");
    let good: Vec<_> = indexes.iter().map(|name| fs.content(name)).collect();
    fs.remove(&indexes[0]).expect("removable");
    change(&fs, &indexes[1], 30);
    let report = check(&fs);
    assert_eq!(
        (report.missing_indexes, report.problems.len()),
        (1, 1),
        "{report:?}"
    );
    let (writer, journal, _) = open(&fs, 1024);
    assert_eq!(everything(&journal).len(), 60);
    drop(writer);
    assert_eq!(
        indexes
            .iter()
            .map(|name| fs.content(name))
            .collect::<Vec<_>>(),
        good
    );
    assert_eq!(check(&fs).problems, []);
}

#[test]
fn fsck_counts_what_is_there() {
    let fs = filled(60);
    let report = check(&fs);
    assert_eq!(
        (report.entries, report.messages, report.batches),
        (60, 60, 60)
    );
    assert_eq!((report.start, report.end), (Offset(0), Offset(60)));
    assert_eq!(report.heads.get("a/b"), Some(&Seq(60)));
    assert_eq!(
        (report.problems, report.missing_indexes, report.torn),
        (vec![], 0, None)
    );
    let dump = crate::journal::segments::dump(Arc::new(fs), Offset(58)).expect("listable");
    let lines: Vec<_> = dump
        .map(|line| line.expect("readable").to_string())
        .collect();
    assert_eq!(lines.len(), 2);
    assert!(
        lines[1].contains(r#""payload":"message 59""#),
        "{}",
        lines[1]
    );
    assert!(lines[1].contains(r#""offset":59"#) && lines[1].contains(r#""seq":60"#));
}

#[test]
fn a_crash_while_the_journal_is_created_is_no_damage() {
    for seed in 0..40 {
        for skip in 0..8 {
            let fs = SimFs::new(seed);
            fs.inject(crate::journal::segments::sim_fs::Fault::Sync, skip);
            drop(try_open(&fs, options(1024), &Heads::default()));
            fs.crash();
            let (mut writer, ..) = open(&fs, 1024);
            commit_each(&mut writer, [message("a", "1")]);
        }
    }
}
