//! The audit log: who changed what on whom, when, from where, and how it ended. One JSON object per line in
//! `data_dir/audit/audit.jsonl`; when that is full it becomes `audit.1.jsonl`, and so on, and the oldest goes.
//!
//! Invariants: a line is on disk (fsync) a moment after the act, in the order of acts; lines hold names and
//! results, never secrets; the files are for their owner alone. An act is not undone because it cannot be
//! written down: that is an ERROR in the log.
//! This module does not know what an act means.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tracing::{error, info};

/// The directory in the data directory.
const FOLDER: &str = "audit";

/// Acts that wait to be written; people and scripts do not act faster than a disk syncs.
const WAITING: usize = 1000;

/// Bytes of a line when it is read: one that is longer is damaged.
const MAX_LINE: usize = 64 * 1024;

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes after which a file is closed and another one begun.
    pub max_file_bytes: u64,
    /// Files beside the one that is written.
    pub max_old_files: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_file_bytes: 16 * 1024 * 1024,
            max_old_files: 8,
        }
    }
}

/// One act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// When, milliseconds since 1970.
    pub ts: u64,
    /// A user, or `uid:1000` for who asked over the control socket, or `broker`.
    pub who: String,
    /// An address, or `control socket`, or `signal`.
    pub from: String,
    /// What was done, such as `user_add`.
    pub what: String,
    /// On whom or what; empty if that is clear.
    #[serde(default)]
    pub whom: String,
    /// More about it, without secrets; empty if there is nothing to say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// `done`, or why not.
    pub result: String,
}

/// Who acts, and from where.
#[derive(Clone, Debug)]
pub struct Actor {
    /// As in [`Act`].
    pub who: String,
    /// As in [`Act`].
    pub from: String,
}

impl Actor {
    /// Who asks over the control socket, by user id.
    pub fn local(uid: u32) -> Self {
        Self {
            who: format!("uid:{uid}"),
            from: "control socket".to_owned(),
        }
    }

    /// This process, by its own command line.
    pub fn command_line() -> Self {
        Self {
            who: format!("uid:{}", rustix::process::getuid().as_raw()),
            from: "command line".to_owned(),
        }
    }
}

/// The way to the file. Clones lead to the same one.
#[derive(Clone, Debug)]
pub struct AuditLog {
    folder: Arc<Path>,
    options: Options,
    waiting: SyncSender<Work>,
    writer: Arc<Mutex<Option<thread::JoinHandle<()>>>>,
}

enum Work {
    Write(Act),
    /// Tells when everything before is on disk.
    Flush(SyncSender<()>),
    Stop,
}

impl AuditLog {
    /// Opens the audit log of a data directory that is ours, and starts its thread.
    ///
    /// # Errors
    /// If the directory cannot be made, or there is no thread.
    pub fn open(data_dir: &Path, options: Options) -> io::Result<Self> {
        let folder: Arc<Path> = data_dir.join(FOLDER).into();
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)?;
        let (waiting, work) = mpsc::sync_channel(WAITING);
        let files = Files {
            folder: folder.clone(),
            options,
        };
        let writer = thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || files.run(&work))?;
        Ok(Self {
            folder,
            options,
            waiting,
            writer: Arc::new(Mutex::new(Some(writer))),
        })
    }

    /// Writes down an act. Does not wait.
    pub fn record<E: std::fmt::Display>(
        &self,
        actor: &Actor,
        what: &str,
        whom: &str,
        detail: &str,
        result: Result<(), E>,
    ) {
        let result = match result {
            Ok(()) => "done".to_owned(),
            Err(error) => error.to_string(),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let act = Act {
            ts: now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX)),
            who: actor.who.clone(),
            from: actor.from.clone(),
            what: what.to_owned(),
            whom: whom.to_owned(),
            detail: detail.to_owned(),
            result,
        };
        info!(
            who = act.who,
            from = act.from,
            what,
            whom,
            result = act.result,
            "audit"
        );
        if self.waiting.try_send(Work::Write(act)).is_err() {
            error!(
                what,
                whom, "the audit log cannot keep up: this act is not in it"
            );
        }
    }

    /// Waits until everything so far is on disk.
    pub fn flush(&self) {
        let (done, is_done) = mpsc::sync_channel(1);
        if self.waiting.send(Work::Flush(done)).is_ok() {
            let _ = is_done.recv();
        }
    }

    /// Writes what waits, and ends the thread.
    pub(crate) fn stop(&self) {
        let _ = self.waiting.send(Work::Stop);
        let writer = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(writer) = writer {
            let _ = writer.join();
        }
    }

    /// The newest acts that fit, at most `limit`, in their order.
    ///
    /// # Errors
    /// If the files cannot be read.
    pub fn last(&self, limit: usize, fits: impl Fn(&Act) -> bool) -> io::Result<Vec<Act>> {
        read_last(&self.folder, self.options.max_old_files, limit, fits)
    }
}

/// The newest acts that fit in the audit log of a data directory, at most `limit`, in their order.
///
/// # Errors
/// If the files cannot be read.
pub fn last_of(data_dir: &Path, limit: usize, fits: impl Fn(&Act) -> bool) -> io::Result<Vec<Act>> {
    // Whatever the settings are now, what is there is read.
    const ANY: u32 = 1000;
    read_last(&data_dir.join(FOLDER), ANY, limit, fits)
}

/// The file that is written is the 0th.
fn path(folder: &Path, age: u32) -> PathBuf {
    match age {
        0 => folder.join("audit.jsonl"),
        age => folder.join(format!("audit.{age}.jsonl")),
    }
}

fn read_last(
    folder: &Path,
    oldest: u32,
    limit: usize,
    fits: impl Fn(&Act) -> bool,
) -> io::Result<Vec<Act>> {
    let mut found: VecDeque<Act> = VecDeque::new();
    for age in 0..=oldest {
        let file = match File::open(path(folder, age)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        };
        let left = limit - found.len();
        let mut of_file: VecDeque<Act> = VecDeque::new();
        for line in BufReader::new(file).split(b'\n') {
            let line = line?;
            // A line that was torn by a crash is passed over.
            let act = (line.len() <= MAX_LINE).then(|| serde_json::from_slice::<Act>(&line));
            if let Some(Ok(act)) = act
                && fits(&act)
            {
                if of_file.len() >= left {
                    of_file.pop_front();
                }
                of_file.push_back(act);
            }
        }
        of_file.extend(found);
        found = of_file;
        if found.len() >= limit {
            break;
        }
    }
    Ok(found.into())
}

/// What the thread owns.
struct Files {
    folder: Arc<Path>,
    options: Options,
}

impl Files {
    fn run(self, work: &Receiver<Work>) {
        let mut file: Option<(File, u64)> = None;
        for work in work {
            match work {
                Work::Write(act) => {
                    if let Err(error) = self.write(&mut file, &act) {
                        file = None;
                        error!(%error, what = act.what, whom = act.whom, "the audit log cannot be written");
                    }
                }
                Work::Flush(done) => {
                    let _ = done.send(());
                }
                Work::Stop => return,
            }
        }
    }

    fn write(&self, file: &mut Option<(File, u64)>, act: &Act) -> io::Result<()> {
        let mut line = serde_json::to_vec(act).map_err(io::Error::other)?;
        line.push(b'\n');
        let is_full = |len: u64| len > 0 && len + line.len() as u64 > self.options.max_file_bytes;
        if file.is_none() {
            *file = Some(self.open()?);
        }
        if file.as_ref().is_some_and(|(_, len)| is_full(*len)) {
            *file = None;
            self.rotate()?;
            *file = Some(self.open()?);
        }
        if let Some((file, len)) = file {
            file.write_all(&line)?;
            file.sync_data()?;
            *len += line.len() as u64;
        }
        Ok(())
    }

    fn open(&self) -> io::Result<(File, u64)> {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path(&self.folder, 0))?;
        let len = file.metadata()?.len();
        // After a torn line the next one begins anew; an empty line is none.
        if len > 0 {
            file.write_all(b"\n")?;
        }
        Ok((file, len))
    }

    /// Every file grows older by one, and the oldest goes.
    fn rotate(&self) -> io::Result<()> {
        let oldest = self.options.max_old_files;
        let gone = path(&self.folder, oldest);
        if let Err(error) = fs::remove_file(gone)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        for age in (0..oldest).rev() {
            match fs::rename(path(&self.folder, age), path(&self.folder, age + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        File::open(&self.folder)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn act(log: &AuditLog, whom: &str) {
        let actor = Actor::local(7);
        log.record(&actor, "user_add", whom, "", Ok::<_, io::Error>(()));
    }

    fn names(acts: &[Act]) -> Vec<&str> {
        acts.iter().map(|act| &*act.whom).collect()
    }

    #[test]
    fn what_was_done_is_there_after_a_restart_and_behind_a_torn_line() {
        let home = tempfile::tempdir().unwrap();
        let log = AuditLog::open(home.path(), Options::default()).unwrap();
        act(&log, "ann");
        log.stop();
        let file = home.path().join("audit/audit.jsonl");
        let mut torn = OpenOptions::new().append(true).open(&file).unwrap();
        torn.write_all(b"{\"ts\":1,\"who").unwrap();
        let log = AuditLog::open(home.path(), Options::default()).unwrap();
        act(&log, "ben");
        log.flush();
        let acts = log.last(10, |_| true).unwrap();
        assert_eq!(names(&acts), ["ann", "ben"]);
        assert_eq!(
            (acts[0].who.as_str(), acts[0].result.as_str()),
            ("uid:7", "done")
        );
        assert_eq!(names(&log.last(1, |_| true).unwrap()), ["ben"]);
        assert_eq!(
            names(&log.last(1, |act| act.whom == "ann").unwrap()),
            ["ann"]
        );
        assert_eq!(last_of(home.path(), 10, |_| true).unwrap(), acts);
    }

    #[test]
    fn files_are_turned_over_by_size_and_the_oldest_goes() {
        let home = tempfile::tempdir().unwrap();
        let options = Options {
            max_file_bytes: 300,
            max_old_files: 2,
        };
        let log = AuditLog::open(home.path(), options).unwrap();
        let all: Vec<String> = (10..40).map(|number| format!("user-{number}")).collect();
        all.iter().for_each(|name| act(&log, name));
        log.flush();
        let mut sizes = Vec::new();
        for entry in fs::read_dir(home.path().join("audit")).unwrap() {
            sizes.push(entry.unwrap().metadata().unwrap().len());
        }
        assert_eq!(sizes.len(), 3);
        assert!(sizes.iter().all(|size| *size <= 300), "{sizes:?}");
        let kept = log.last(100, |_| true).unwrap();
        let kept = names(&kept);
        assert!(
            kept.len() >= 3
                && all.ends_with(&kept.iter().map(ToString::to_string).collect::<Vec<_>>()),
            "{kept:?}"
        );
    }
}
