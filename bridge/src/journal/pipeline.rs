//! Syncs that run beside the writer, for a disk that takes long: while one batch is being made
//! durable, the next one is written and its sync begins.
//!
//! On a fast disk that is not worth the way to another thread; so the writer syncs itself until
//! syncs turn out to be slow.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::priority;

/// Batches that are being synced at once.
pub(super) const DEPTH: usize = 2;
/// Syncs that take longer are worth another thread (measured: between 0.5 and 1 ms)...
const SLOW: Duration = Duration::from_micros(700);
/// ...until they take less than this.
const FAST: Duration = Duration::from_micros(400);
/// Weight of the newest sync in the average: one slow sync among fast ones changes nothing.
const NEWEST: u32 = 8;

type Sync = Box<dyn FnOnce() -> io::Result<()> + Send>;

/// Told from another thread when a sync is done: its number, and what the disk said.
pub(super) type Done = Arc<dyn Fn(u64, io::Result<()>) + Send + std::marker::Sync>;

/// Threads that sync. They end when this is dropped and they are joined.
pub(super) struct Syncers {
    jobs: Sender<(u64, Sync)>,
    threads: Vec<JoinHandle<()>>,
}

impl Syncers {
    /// Starts the threads.
    ///
    /// # Errors
    /// If the operating system gives no thread.
    pub fn start(done: &Done) -> io::Result<Self> {
        let (jobs, to_do) = channel();
        let to_do = Arc::new(Mutex::new(to_do));
        let mut threads = Vec::new();
        for number in 0..DEPTH {
            let (to_do, done) = (to_do.clone(), done.clone());
            let thread = std::thread::Builder::new().name(format!("journal-sync-{number}"));
            let work = move || {
                priority::ask_for_short_slices();
                run(&to_do, &done);
            };
            threads.push(thread.spawn(work)?);
        }
        Ok(Self { jobs, threads })
    }

    /// Begins a sync.
    pub fn begin(&self, number: u64, sync: impl FnOnce() -> io::Result<()> + Send + 'static) {
        // The threads end only after the sender is gone.
        let _ = self.jobs.send((number, Box::new(sync)));
    }

    /// Ends the threads, after what they are doing.
    pub fn stop(self) {
        drop(self.jobs);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a thread that syncs the journal panicked");
            }
        }
    }
}

fn run(jobs: &Mutex<Receiver<(u64, Sync)>>, done: &Done) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((number, sync)) = job else { return };
        done(number, sync());
    }
}

/// How long syncs take, and what follows from it.
#[derive(Debug, Default)]
pub(super) struct Pace {
    average: Duration,
    is_slow: bool,
}

impl Pace {
    /// A sync took so long.
    pub fn took(&mut self, time: Duration) {
        self.average = (self.average * (NEWEST - 1) + time) / NEWEST;
        self.is_slow = self.average > if self.is_slow { FAST } else { SLOW };
    }

    /// True if the next batch should not wait for the last one.
    pub fn is_slow(&self) -> bool {
        self.is_slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_slow_when_many_syncs_are_and_fast_again_only_when_clearly_so() {
        let mut pace = Pace::default();
        let ms = Duration::from_millis;
        pace.took(ms(3));
        assert!(!pace.is_slow());
        (0..20).for_each(|_| pace.took(ms(1)));
        assert!(pace.is_slow());
        (0..50).for_each(|_| pace.took(Duration::from_micros(500)));
        assert!(pace.is_slow());
        (0..50).for_each(|_| pace.took(Duration::from_micros(100)));
        assert!(!pace.is_slow());
    }
}
