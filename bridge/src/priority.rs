//! Threads that let others go first.

use tracing::debug;

/// How nice those are whose work somebody waits for, but not every client: a third of the weight of who serves.
/// The writer of the journal makes larger batches meanwhile, which costs no throughput; a shard that waits
/// behind it on a busy core keeps all its clients waiting, also those who ask nothing of the journal.
pub const BEHIND: i32 = 5;

/// How nice those are that nobody waits for: a tenth is enough to come along while every core is busy.
pub const LAST: i32 = 10;

/// Makes this thread nice (nice(2)): who waits for the processor would otherwise wait for it for a whole slice of the
/// scheduler. On Linux this is of the calling thread alone, and of those that it starts.
pub fn be_nice(nice: i32) {
    if let Err(error) = rustix::process::nice(nice) {
        debug!(%error, "a thread gets as much of the processor as who serves");
    }
}
