//! Whose the files of a data directory are: what root makes in one of another user's is that user's, who
//! could not open it otherwise.
//!
//! Invariants: only a thread of its own acts as the owner, with the threads that it starts; root stays root.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// Does something in a data directory: as its owner, if that is not root and root asks.
///
/// # Errors
/// Of the work; or if this root may not act as others.
pub(super) fn as_owner<T: Send>(
    data_dir: &Path,
    work: impl FnOnce() -> anyhow::Result<T> + Send,
) -> anyhow::Result<T> {
    let Some((user, group)) = other_owner(data_dir) else {
        return work();
    };
    thread::scope(|scope| {
        let worker = scope.spawn(move || {
            act_as(user, group)?;
            work()
        });
        worker.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

fn other_owner(data_dir: &Path) -> Option<(Uid, Gid)> {
    // What is not there yet will be of who makes it.
    let found = fs::metadata(data_dir).ok()?;
    let is_others = geteuid().is_root() && found.uid() != 0;
    is_others.then(|| (Uid::from_raw(found.uid()), Gid::from_raw(found.gid())))
}

/// The calling thread alone, for good. The user last: who is not root any more may not change the groups.
fn act_as(user: Uid, group: Gid) -> io::Result<()> {
    set_thread_groups(&[])?;
    set_thread_res_gid(group, group, group)?;
    set_thread_res_uid(user, user, user)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::chown;

    use super::*;

    #[test]
    fn what_root_makes_is_the_owners_and_root_stays_root() {
        let folder = tempfile::tempdir().unwrap();
        let own = geteuid();
        let owner = match own.is_root() {
            true => 65_534,
            false => own.as_raw(),
        };
        chown(folder.path(), Some(owner), None).unwrap();
        let made = folder.path().join("made");
        as_owner(folder.path(), || Ok(fs::write(&made, "")?)).unwrap();
        assert_eq!(fs::metadata(&made).unwrap().uid(), owner);
        assert_eq!(geteuid(), own);
    }
}
