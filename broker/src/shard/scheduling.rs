//! Where the system runs the thread of a shard.
//!
//! A shard that has much to do does not sleep, and one that is woken beside it waits for a whole slice of
//! the scheduler, some milliseconds, though another core may be idle: so each has its own core. Other
//! threads are not bound, and go where there is time.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tracing::debug;

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
}
