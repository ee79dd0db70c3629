//! Threads for the cryptography of handshakes: nothing that a stranger can ask for costs more.
//!
//! Invariants: nothing else runs here; there are few of these threads, and they yield to all others, so
//! that who is connected comes before those of whom nothing is known. Who does not wait for a handshake
//! any more ends it.

use std::fmt;
use std::io;
use std::thread::available_parallelism;

use tidings_bridge::priority;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

/// See the module.
pub(super) struct Handshakes(Option<Runtime>);

impl Handshakes {
    /// Half as many threads as there are cores.
    ///
    /// # Errors
    /// If there are no threads to be had.
    pub fn start() -> io::Result<Self> {
        let cores = available_parallelism().map_or(1, usize::from);
        let runtime = Builder::new_multi_thread()
            .worker_threads((cores / 2).max(1))
            .thread_name("handshakes")
            .on_thread_start(priority::go_last)
            .enable_io()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// Does something on these threads; dropping this ends it.
    ///
    /// # Errors
    /// If it panicked, or the broker stops.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> io::Result<T> {
        let stopped = || io::Error::other("the broker stops");
        let runtime = self.0.as_ref().ok_or_else(stopped)?;
        let mut one = JoinSet::new();
        one.spawn_on(work, runtime.handle());
        let done = one.join_next().await.ok_or_else(stopped)?;
        done.map_err(io::Error::other)
    }
}

impl Drop for Handshakes {
    fn drop(&mut self) {
        // In whatever thread it is dropped: nobody waits for those who are not known.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Handshakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshakes").finish_non_exhaustive()
    }
}
