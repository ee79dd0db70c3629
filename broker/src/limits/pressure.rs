//! Memory and disk: looked at each second, so that nobody new comes in before the machine swaps, and
//! nothing more is kept before the disk is full.
//!
//! Both end by themselves when there is room again; so that they do not flicker, that is a little more
//! than where they began. What cannot be measured limits nothing, and is said once.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tidings_core::limits::{Limit, Room};
use tidings_core::shard::Input;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use super::Limits;
use crate::readiness::Readiness;
use crate::shard::Mailboxes;

/// How often they are looked at. A disk of 500 MB/s loses as much meanwhile: less than two of the
/// default reserve.
const LOOK: Duration = Duration::from_secs(1);

/// What is known of memory and disk.
#[derive(Debug, Default)]
pub(crate) struct Pressure {
    memory_is_scarce: AtomicBool,
    room: AtomicU8,
    resident_bytes: AtomicU64,
    /// Clients that were cut off because they did not read while memory was scarce.
    shed: AtomicU64,
}

impl Pressure {
    /// Nobody new is let in.
    pub fn memory_is_scarce(&self) -> bool {
        self.memory_is_scarce.load(Relaxed)
    }

    /// What the disk has.
    pub fn room(&self) -> Room {
        match self.room.load(Relaxed) {
            0 => Room::Enough,
            1 => Room::Little,
            _ => Room::None,
        }
    }

    /// Memory of the process when it was looked at last; 0: not yet.
    pub fn resident_bytes(&self) -> u64 {
        self.resident_bytes.load(Relaxed)
    }

    /// Clients that were cut off.
    pub fn shed(&self) -> u64 {
        self.shed.load(Relaxed)
    }
}

/// Where the limits are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Marks {
    memory_bytes: u64,
    disk_free_bytes: u64,
}

/// One look.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    resident_bytes: Option<u64>,
    free_bytes: Option<u64>,
}

impl Marks {
    /// Nineteen twentieths are where it ends.
    fn memory_is_scarce(self, was: bool, resident_bytes: u64) -> bool {
        let end = self.memory_bytes - self.memory_bytes / 20;
        resident_bytes > if was { end } else { self.memory_bytes }
    }

    /// It ends when there is a sixteenth more than where it began.
    fn room(self, was: Room, free_bytes: u64) -> Room {
        let mark = |mark: u64, is_below: bool| {
            if is_below { mark + mark / 16 } else { mark }
        };
        if free_bytes < mark(self.disk_free_bytes / 2, was == Room::None) {
            Room::None
        } else if free_bytes < mark(self.disk_free_bytes, was != Room::Enough) {
            Room::Little
        } else {
            Room::Enough
        }
    }
}

/// Looks each second, for ever.
pub(crate) async fn watch(
    limits: Arc<Limits>,
    data_dir: PathBuf,
    shards: Mailboxes,
    readiness: Readiness,
) {
    let options = &limits.options;
    let marks = Marks {
        memory_bytes: match options.memory_bytes {
            0 => memory_there_is().map_or(u64::MAX, |bytes| bytes / 4 * 3),
            bytes => bytes,
        },
        disk_free_bytes: options.disk_free_bytes,
    };
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_blind = false;
    loop {
        ticks.tick().await;
        let data_dir = data_dir.clone();
        // A disk that hangs must not hold up those who are in their handshake.
        let sampled = tokio::task::spawn_blocking(move || sample(&data_dir)).await;
        let sample = sampled.unwrap_or_default();
        if (sample.resident_bytes.is_none() || sample.free_bytes.is_none()) && !is_blind {
            is_blind = true;
            warn!("memory or free disk cannot be measured: they are not limited");
        }
        look(&limits, marks, sample, &shards);
        readiness.set_room(limits.pressure.room() == Room::Enough);
    }
}

fn look(limits: &Arc<Limits>, marks: Marks, sample: Sample, shards: &Mailboxes) {
    let pressure = &limits.pressure;
    if let Some(resident) = sample.resident_bytes {
        pressure.resident_bytes.store(resident, Relaxed);
        let was = pressure.memory_is_scarce();
        let is_scarce = marks.memory_is_scarce(was, resident);
        pressure.memory_is_scarce.store(is_scarce, Relaxed);
        if is_scarce != was {
            let (resident_mib, limit_mib) = (resident >> 20, marks.memory_bytes >> 20);
            match is_scarce {
                true => error!(
                    resident_mib,
                    limit_mib, "memory is scarce: nobody new is let in"
                ),
                false => info!(resident_mib, limit_mib, "there is memory again"),
            }
        }
        if is_scarce {
            limits.hit(Limit::Memory);
            shed(limits, shards);
        }
    }
    if let Some(free) = sample.free_bytes {
        let was = pressure.room();
        let room = marks.room(was, free);
        pressure.room.store(room as u8, Relaxed);
        if room != was {
            let (free_mib, limit_mib) = (free >> 20, marks.disk_free_bytes >> 20);
            match room {
                Room::Enough => info!(free_mib, limit_mib, "the disk has room again"),
                _ => error!(
                    free_mib,
                    limit_mib, "the disk is nearly full: nothing more is kept"
                ),
            }
            shards.broadcast(|| Input::Storage(room));
        }
    }
}

/// Cuts off those who do not read.
fn shed(limits: &Arc<Limits>, shards: &Mailboxes) {
    let least_ms = u64::try_from(limits.options.slow_after.as_millis()).unwrap_or(u64::MAX);
    for shard in 0..shards.len() {
        let cut_off = shards.visit(shard, move |now, shard| shard.shed(now, least_ms));
        let limits = limits.clone();
        tokio::spawn(async move {
            // A shard that has ended cut nobody off.
            if let Ok(count) = cut_off.await {
                limits.pressure.shed.fetch_add(count as u64, Relaxed);
            }
        });
    }
}

fn sample(data_dir: &Path) -> Sample {
    let free = rustix::fs::statvfs(data_dir).ok();
    Sample {
        resident_bytes: resident_bytes(),
        free_bytes: free.map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize)),
    }
}

/// `VmRSS` of this process: pages of statm, in a unit of its own.
fn resident_bytes() -> Option<u64> {
    kib_of(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

/// Memory of the machine, or of the control group if that is less.
fn memory_there_is() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.and_then(|text| kib_of(&text, "MemTotal:"));
    let group = fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let group = group.and_then(|text| text.trim().parse().ok());
    machine.into_iter().chain(group).min()
}

/// A line such as `VmRSS:  1234 kB`, in bytes.
fn kib_of(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number: u64 = line.split_whitespace().next()?.parse().ok()?;
    number.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_and_this_machine_have_memory_and_disk() {
        let sample = sample(Path::new("/"));
        assert!(sample.resident_bytes.is_some_and(|bytes| bytes > 100_000));
        assert!(sample.free_bytes.is_some());
        assert!(memory_there_is() > sample.resident_bytes);
    }

    #[test]
    fn what_was_scarce_is_not_enough_before_there_is_a_little_more() {
        let marks = Marks {
            memory_bytes: 1000,
            disk_free_bytes: 1600,
        };
        assert!(!marks.memory_is_scarce(false, 1000));
        assert!(marks.memory_is_scarce(false, 1001));
        assert!(marks.memory_is_scarce(true, 951));
        assert!(!marks.memory_is_scarce(true, 950));
        assert_eq!(marks.room(Room::Enough, 1600), Room::Enough);
        assert_eq!(marks.room(Room::Enough, 1599), Room::Little);
        assert_eq!(marks.room(Room::Little, 1699), Room::Little);
        assert_eq!(marks.room(Room::Little, 1700), Room::Enough);
        assert_eq!(marks.room(Room::Little, 799), Room::None);
        assert_eq!(marks.room(Room::None, 849), Room::None);
        assert_eq!(marks.room(Room::None, 850), Room::Little);
        assert_eq!(marks.room(Room::None, 5000), Room::Enough);
    }

    #[test]
    fn no_reserve_means_that_the_disk_is_never_too_full() {
        let marks = Marks {
            memory_bytes: u64::MAX,
            disk_free_bytes: 0,
        };
        assert_eq!(marks.room(Room::Enough, 0), Room::Enough);
        assert!(!marks.memory_is_scarce(false, u64::MAX - 1));
    }
}
