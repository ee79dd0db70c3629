//! What a process has used so far: CPU time of all its threads, memory now and at its peak.
//!
//! Where the system does not say, the answer is `None`, never zero.

use crate::bench::target::Usage;

/// Of the process with this id, all threads that live or ended. CPU time is read from the process's
/// own clock: nanoseconds, where `/proc/<pid>/stat` has hundredths of a second.
#[cfg(target_os = "linux")]
pub fn of(id: u32) -> Option<Usage> {
    use nix::time::ClockId;
    let pid = nix::unistd::Pid::from_raw(i32::try_from(id).ok()?);
    let cpu = ClockId::pid_cpu_clock_id(pid).ok()?.now().ok()?;
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    Some(Usage {
        cpu: cpu.into(),
        resident_bytes: kibibytes(&status, "VmRSS:")? * 1024,
        peak_resident_bytes: kibibytes(&status, "VmHWM:")? * 1024,
    })
}

/// Of the process with this id: not known on this system.
#[cfg(not(target_os = "linux"))]
pub fn of(_: u32) -> Option<Usage> {
    None
}

/// A line of `/proc/<pid>/status`, as in `VmRSS:     1234 kB`.
#[cfg(target_os = "linux")]
fn kibibytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn work_done_shows_as_cpu_time_of_this_process() {
        let before = of(std::process::id()).expect("this process runs");
        let mut sum = 0_u64;
        for n in 0..5_000_000_u64 {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(n));
        }
        let after = of(std::process::id()).expect("this process runs");
        assert!(after.cpu > before.cpu, "{sum}");
        assert!(after.resident_bytes > 0 && after.peak_resident_bytes >= after.resident_bytes / 2);
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
