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
        cpu: cpu(id)?,
        resident_bytes: kibibytes(&status, "VmRSS:")? * 1024,
        peak_resident_bytes: kibibytes(&status, "VmHWM:")? * 1024,
    })
}

/// From the process's own clock: of all threads, those that ended too, in nanoseconds, where
/// `/proc/<pid>/stat` counts hundredths of a second.
#[cfg(target_os = "linux")]
fn cpu(id: u32) -> Option<Duration> {
    let id = nix::unistd::Pid::from_raw(i32::try_from(id).ok()?);
    let clock = nix::time::clock_getcpuclockid(id).ok()?;
    Some(nix::time::clock_gettime(clock).ok()?.into())
}

#[cfg(not(target_os = "linux"))]
fn cpu(_: u32) -> Option<Duration> {
    None
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
    #[cfg(target_os = "linux")]
    fn the_time_of_a_thread_stays_when_the_thread_has_ended() {
        let before = of(std::process::id()).expect("this process runs");
        let work = || {
            (0..5_000_000_u64).fold(0, |sum: u64, n| {
                std::hint::black_box(sum.wrapping_mul(31) ^ n)
            })
        };
        let sum = std::thread::spawn(work).join().expect("it ends");
        let after = of(std::process::id()).expect("this process runs");
        assert!(after.cpu - before.cpu > Duration::from_millis(1), "{sum}");
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
}
