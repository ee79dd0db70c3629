//! When and where the system runs the thread of a shard.
//!
//! A shard that has much to do does not sleep, and one that is woken beside it waits for a whole slice of
//! the scheduler, some milliseconds, though another core may be idle: so each has its own core. Other
//! threads are not bound, and go where there is time. A shard that wakes up does not wait for their slices
//! either: it asks for short ones itself, and who does comes first (Linux 6.12, EEVDF).

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tracing::debug;

/// The slice of a shard, nanoseconds: the shortest that the system grants.
const SLICE_NS: u64 = 100_000;

/// A core for each shard, if this process may use just as many cores and more than one; else none.
pub(crate) fn cores_for(shards: u16) -> Vec<usize> {
    let Ok(allowed) = sched_getaffinity(None) else {
        return Vec::new();
    };
    let cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
    let cores: Vec<usize> = cores.collect();
    match cores.len() == usize::from(shards) && shards > 1 {
        true => cores,
        false => Vec::new(),
    }
}

/// Of the calling thread.
pub(super) fn stay_on(core: usize) {
    let mut only = CpuSet::new();
    only.set(core);
    if let Err(error) = sched_setaffinity(None, &only) {
        debug!(%error, core, "a shard goes from core to core");
    }
}

/// Of the calling thread. An older system takes it and does not mind.
pub(super) fn ask_for_short_slices() {
    if let Err(error) = set_slice(SLICE_NS) {
        debug!(%error, "a shard has slices as long as others");
    }
}

/// The priority stays what it is (sched_setattr(2)).
fn set_slice(nanoseconds: u64) -> std::io::Result<()> {
    let mut attributes = attributes()?;
    attributes.sched_runtime = nanoseconds;
    // SAFETY: the kernel reads as many bytes as the structure says that it has.
    #[expect(unsafe_code, reason = "no library has this call for ordinary threads")]
    let done = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    match done {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// How the system runs the calling thread (sched_getattr(2)).
fn attributes() -> std::io::Result<libc::sched_attr> {
    let size = size_of::<libc::sched_attr>() as u32;
    #[expect(unsafe_code, reason = "no library has this call for ordinary threads")]
    // SAFETY: all fields are integers; the kernel writes at most `size` bytes.
    let (got, mut attributes) = unsafe {
        let mut attributes: libc::sched_attr = std::mem::zeroed();
        let to = &raw mut attributes;
        (
            libc::syscall(libc::SYS_sched_getattr, 0, to, size, 0),
            attributes,
        )
    };
    attributes.size = size;
    match got {
        0 => Ok(attributes),
        _ => Err(std::io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_as_many_shards_as_cores_has_one() {
        let allowed = sched_getaffinity(None).unwrap();
        let count = u16::try_from(allowed.count()).unwrap();
        let cores = cores_for(count);
        assert_eq!(cores.len(), if count > 1 { usize::from(count) } else { 0 });
        assert!(cores_for(count + 1).is_empty());
        let Some(core) = cores.last() else { return };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                stay_on(*core);
                let stays = sched_getaffinity(None).unwrap();
                assert!(stays.count() == 1 && stays.is_set(*core));
            });
        });
    }

    #[test]
    fn slices_are_short_and_the_priority_stays() {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let before = attributes().unwrap();
                set_slice(SLICE_NS).unwrap();
                let after = attributes().unwrap();
                let priority = |a: &libc::sched_attr| (a.sched_policy, a.sched_nice);
                assert_eq!(priority(&after), priority(&before));
                // Systems before Linux 6.12 have none.
                assert!([0, SLICE_NS].contains(&after.sched_runtime));
            });
        });
    }
}
