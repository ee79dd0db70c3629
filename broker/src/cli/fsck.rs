//! `tidings fsck`: every checksum of the journal, and whether the state on disk says what the
//! journal says. It changes nothing: the state is opened as a copy.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tidings_bridge::journal::segments::fs::{Fs, RealFs};
use tidings_bridge::journal::segments::{FsckReport, fsck};
use tidings_bridge::state::{Options, Records as _, SledState, compare, rebuild_in_memory};
use tidings_broker::store::journal_folder;
use tidings_core::journal::{Audience, Batch, Entry, Record};
use tidings_core::message::{Offset, Seq};
use tidings_core::state::State;

use super::{FOUND_PROBLEMS, SettingsArgs};

/// Entries that are applied to the states at once.
const BATCH: usize = 1024;

/// Changed records after which the copy of the state is written.
const CHECKPOINT_RECORDS: usize = 100_000;

/// Differences between the states that are printed.
const DIFFERENCES: usize = 100;

/// The state's directory in the data directory.
const STATE: &str = "state";

#[derive(Clone, Debug, Args)]
pub(super) struct Fsck {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Data directory, instead of server.data_dir
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

pub(super) fn run(args: &Fsck) -> anyhow::Result<ExitCode> {
    let data_dir = args.settings.data_dir(args.data_dir.as_ref())?;
    let folder = journal_folder(&data_dir);
    if !folder.is_dir() {
        bail!("there is no journal in {}", data_dir.display());
    }
    let journal: Arc<dyn Fs> = Arc::new(RealFs::new(folder)?);
    let report = check_journal(&journal)?;
    let mut problems: Vec<String> = report.problems.iter().map(in_words).collect();
    if problems.is_empty() {
        problems = check_state(&data_dir, &journal, &report)?;
    } else {
        eprintln!("the state is not compared with a damaged journal");
    }
    eprintln!(
        "journal: offsets {} to {}, {} entries, {} messages in {} streams, {} segments, {} bytes",
        report.start,
        report.end,
        report.entries,
        report.messages,
        report.heads.len(),
        report.segments,
        report.bytes
    );
    if let Some(torn) = &report.torn {
        eprintln!(
            "a write at the end was torn, as after a crash; the next start cuts it off: {torn}"
        );
    }
    for problem in &problems {
        eprintln!("problem: {problem}");
    }
    if problems.is_empty() {
        eprintln!("no problems");
        Ok(ExitCode::SUCCESS)
    } else {
        Ok(ExitCode::from(FOUND_PROBLEMS))
    }
}

fn in_words(problem: &tidings_bridge::journal::segments::Problem) -> String {
    match problem.position {
        Some(position) => format!("{}, at byte {position}: {}", problem.file, problem.what),
        None => format!("{}: {}", problem.file, problem.what),
    }
}

/// A bar that shows only where somebody looks.
fn bar(what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:20} {wide_bar} {bytes}/{total_bytes} {eta}");
    let bar = ProgressBar::new(0).with_message(what);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn check_journal(journal: &Arc<dyn Fs>) -> anyhow::Result<FsckReport> {
    let bar = bar("journal");
    let mut progress = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let report = fsck(journal, &mut progress, &mut |_| {});
    bar.finish_and_clear();
    Ok(report?)
}

/// Builds the state from snapshot and journal in memory, brings a copy of the one on disk to the
/// same offset, and compares.
fn check_state(
    data_dir: &Path,
    journal: &Arc<dyn Fs>,
    report: &FsckReport,
) -> anyhow::Result<Vec<String>> {
    let mut problems = Vec::new();
    let built = rebuild_in_memory(&SledState::snapshots_in(data_dir), report.epoch, report.end)?;
    let (applied, start) = (State::applied(&built), report.start);
    if applied < start {
        problems.push(format!(
            "the newest whole snapshot is of offset {applied}, and the journal begins at {start}"
        ));
        return Ok(problems);
    }
    if !data_dir.join(STATE).is_dir() {
        eprintln!("there is no state on disk; the next start builds it");
        return Ok(problems);
    }
    let copy = Copy::of(&data_dir.join(STATE))?;
    let options = Options::new(report.epoch, report.start, report.end);
    // The copy is opened where there are no snapshots, so what is not whole is not built either.
    let on_disk = match SledState::open(&copy.folder, &options) {
        Ok((state, opened)) => match opened.set_aside {
            None => state,
            Some(aside) => {
                problems.push(format!(
                    "the state on disk is not whole; the next start builds it anew: {}",
                    aside.reason
                ));
                return Ok(problems);
            }
        },
        Err(error) => {
            problems.push(format!(
                "the state on disk cannot be opened; the next start builds it anew: {error}"
            ));
            return Ok(problems);
        }
    };
    let bar = bar("state");
    let mut waiting = Batch::default();
    let mut failed = None;
    let mut apply = |batch: &mut Batch| {
        built.apply(batch);
        on_disk.apply(batch);
        batch.entries.clear();
        if on_disk.pending_records() > CHECKPOINT_RECORDS
            && let Err(error) = on_disk.checkpoint()
        {
            failed = Some(error);
        }
    };
    let mut progress = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let mut left = Left::new(report.start);
    fsck(journal, &mut progress, &mut |entry: Entry| {
        left.note(&entry);
        waiting.entries.push((0, entry));
        if waiting.entries.len() >= BATCH {
            apply(&mut waiting);
        }
    })?;
    apply(&mut waiting);
    if let Some(error) = failed {
        return Err(error).context("the copy of the state cannot be written");
    }
    // The broker forgets what became of messages that are gone when it comes to it: one of the two may have,
    // and the other not yet. Of messages that are left, both must know the same.
    let mut first = |stream: &str| Some(left.first_of(stream, &built));
    built.forget_changes(&mut first);
    on_disk.forget_changes(&mut first);
    let settled = on_disk
        .settle()
        .context("the copy of the state cannot be written")?;
    debug_assert_eq!(settled.applied(), report.end);
    compare(
        &settled,
        &built,
        &mut |done| bar.set_position(done),
        &mut |difference| {
            if problems.len() < DIFFERENCES {
                problems.push(format!(
                    "state on disk (left) and journal (right): {difference}"
                ));
            }
        },
    );
    bar.finish_and_clear();
    Ok(problems)
}

/// What retention has left of each stream, as the broker sees it.
struct Left {
    /// Where nothing is missing from on: before it only history counts.
    start: Offset,
    firsts: HashMap<Arc<str>, Seq>,
}

impl Left {
    fn new(start: Offset) -> Self {
        Self {
            start,
            firsts: HashMap::new(),
        }
    }

    /// Takes an entry of the journal into account; they come in their order.
    fn note(&mut self, entry: &Entry) {
        let Record::Published(published) = &entry.record else {
            return;
        };
        let is_left = entry.offset >= self.start || published.history;
        if is_left && published.audience == Audience::Everyone {
            let first = self.firsts.entry(published.stream.clone());
            first.or_insert(published.seq);
        }
    }

    /// The number of the first message that is left, or of the next one that will come.
    fn first_of(&self, stream: &str, state: &dyn State) -> Seq {
        let next = || Seq(state.stream_head(stream).0 + 1);
        self.firsts.get(stream).copied().unwrap_or_else(next)
    }
}

/// A copy of a directory beside it; removed when dropped.
struct Copy {
    folder: PathBuf,
}

impl Copy {
    /// Copies `original` into a new directory, under its own name.
    fn of(original: &Path) -> anyhow::Result<Self> {
        let folder = original.with_file_name(format!("fsck-{}", std::process::id()));
        let copy = Self { folder };
        copy_files(original, &copy.folder.join(STATE))
            .with_context(|| format!("cannot copy the state to {}", copy.folder.display()))?;
        Ok(copy)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // Best effort: the name says what it is.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn copy_files(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_files(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
