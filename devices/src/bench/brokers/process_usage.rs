//! What a process has used so far: CPU time of all its threads, memory now and at its peak.
//!
//! Where the system does not say (anything but Linux), the answer is `None`, never zero.

use std::fs;
use std::time::Duration;

use crate::bench::target::Usage;

/// Of the process with this id.
pub fn of(id: u32) -> Option<Usage> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    Some(Usage {
        // The first is exact but forgets threads that ended, the second forgets nothing but counts
        // in hundredths of a second, rounded down.
        cpu: cpu_of_its_threads(id)
            .unwrap_or_default()
            .max(cpu_of_the_process(id)?),
        resident_bytes: kibibytes(&status, "VmRSS:")? * 1024,
        peak_resident_bytes: kibibytes(&status, "VmHWM:")? * 1024,
    })
}

/// Of the threads that live: the scheduler's own count, in nanoseconds.
fn cpu_of_its_threads(id: u32) -> Option<Duration> {
    let nanos = fs::read_dir(format!("/proc/{id}/task"))
        .ok()?
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|text| text.split_whitespace().next()?.parse::<u64>().ok())
        .sum();
    Some(Duration::from_nanos(nanos))
}

/// Of all threads that ever were: `utime` and `stime`.
fn cpu_of_the_process(id: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let ticks = ticks(&stat)?;
    let per_second = rustix::param::clock_ticks_per_second();
    Some(Duration::from_millis(ticks * 1000 / per_second.max(1)))
}

/// The sum of fields 14 and 15. The second field is a name that may hold blanks and parentheses.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// A line of `/proc/<pid>/status`, as in `VmRSS:     1234 kB`.
fn kibibytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn work_done_shows_as_cpu_time_of_this_process() {
        let before = of(std::process::id()).expect("this process runs");
        let mut sum = 0_u64;
        for n in 0..5_000_000_u64 {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(n));
        }
        let after = of(std::process::id()).expect("this process runs");
        assert!(after.cpu > before.cpu, "{sum}");
        assert!(after.resident_bytes > 0 && after.peak_resident_bytes > 0);
    }

    #[test]
    fn a_process_that_is_gone_has_no_usage() {
        let mut child = std::process::Command::new("true").spawn().expect("true");
        child.wait().expect("it ends");
        assert!(of(child.id()).is_none());
    }

    #[test]
    fn a_line_of_the_status_file_is_read_in_kibibytes() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t 12 kB\n";
        assert_eq!(kibibytes(status, "VmRSS:"), Some(12));
        assert_eq!(kibibytes(status, "VmHWM:"), Some(2048));
        assert_eq!(kibibytes(status, "VmSwap:"), None);
    }

    #[test]
    fn ticks_are_found_behind_a_name_with_blanks_and_parentheses() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194304 100 0 0 0 56 4 0 0 20 0 3 0 1 2 3";
        assert_eq!(ticks(stat), Some(60));
    }
}
