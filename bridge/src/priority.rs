//! Which threads come first when there is no core for all.

use std::io;

use tracing::debug;

/// How nice those are that nobody waits for: a tenth of the weight of who serves is enough to come along while every
/// core is busy.
const NICE: i32 = 10;

/// The slice of who is waited for, nanoseconds: the shortest that the system grants.
const SLICE_NS: u64 = 100_000;

/// Nobody waits for this thread, and who waits for the processor is not to wait for it (nice(2)). On Linux this is
/// of the calling thread alone, and of those that it starts.
pub fn go_last() {
    if let Err(error) = rustix::process::nice(NICE) {
        debug!(%error, "a thread gets as much of the processor as who serves");
    }
}

/// This thread does little at a time, and clients wait for it: when it wakes up it is not to wait for the slices of
/// others, some milliseconds. Who asks for short ones comes first (Linux 6.12, EEVDF); an older system
/// takes it and does not mind.
pub fn ask_for_short_slices() {
    if let Err(error) = set_slice(SLICE_NS) {
        debug!(%error, "a thread has slices as long as others");
    }
}

/// The priority stays what it is (sched_setattr(2)).
fn set_slice(nanoseconds: u64) -> io::Result<()> {
    let mut attributes = attributes()?;
    attributes.sched_runtime = nanoseconds;
    // SAFETY: the kernel reads as many bytes as the structure says that it has.
    #[expect(unsafe_code, reason = "no library has this call for ordinary threads")]
    let done = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// How the system runs the calling thread (sched_getattr(2)).
fn attributes() -> io::Result<libc::sched_attr> {
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
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
