//! The threads of the generator, seen from the one who conducts them: start, stages, counts, harvest.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::OwnedFd;
use rustix::thread::{CpuSet, sched_setaffinity};

use super::Settings;
use super::books::Counts;
use super::link::Broken;
use super::plan::Plan;
use super::setup::{Endpoint, allow_connections};
use super::window::Flow;
use super::worker::{Harvest, Worker};

/// What the threads do. Stages are entered in this order; some may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// Connected; nobody publishes.
    Hold,
    /// Publishing.
    Run,
    /// Publishing, and latencies are recorded.
    Measure,
    /// Publishing has stopped; what is under way arrives.
    Drain,
    /// Over.
    End,
}

const STAGES: [Stage; 5] = [
    Stage::Hold,
    Stage::Run,
    Stage::Measure,
    Stage::Drain,
    Stage::End,
];

/// Nanoseconds since the run began, the same for all threads.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Nanoseconds since the run began.
    #[inline]
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "64 bits of nanoseconds are 584 years"
    )]
    pub fn nanos(&self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}

/// What the threads share.
#[derive(Debug)]
pub struct Shared {
    stage: AtomicU8,
    /// The run's clock.
    pub clock: Clock,
    /// Windows of the publishers, by number.
    pub flows: Arc<[Flow]>,
    counts: Vec<SharedCounts>,
    /// For each thread: its publishers whose window others have moved, and what wakes it.
    mail: Vec<(Mutex<Vec<u32>>, OwnedFd)>,
    ready: AtomicUsize,
    sessions_present: AtomicUsize,
    closed: AtomicU64,
    first_closed: Mutex<Option<String>>,
    closing_is_expected: AtomicBool,
}

#[derive(Debug, Default)]
struct SharedCounts {
    sent: AtomicU64,
    acknowledged: AtomicU64,
    delivered: AtomicU64,
    /// The stage that the thread has entered.
    stage: AtomicU8,
}

impl Shared {
    fn new(plan: &Plan, threads: usize) -> anyhow::Result<Self> {
        let mut flows = Vec::new();
        let mut publishing: Vec<_> = plan
            .clients
            .iter()
            .filter_map(|c| c.publishes.as_ref().map(|p| (p, c.thread)))
            .collect();
        publishing.sort_by_key(|(p, _)| p.publisher);
        for (publish, thread) in publishing {
            let needs = publish.receivers + u32::from(plan.qos > 0);
            flows.push(Flow::new(needs, plan.window, thread));
        }
        let mail = (0..threads)
            .map(|_| {
                Ok((
                    Mutex::default(),
                    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
                ))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self {
            stage: AtomicU8::new(Stage::Hold as u8),
            clock: Clock(Instant::now()),
            flows: flows.into(),
            counts: (0..threads).map(|_| SharedCounts::default()).collect(),
            mail,
            ready: AtomicUsize::new(0),
            sessions_present: AtomicUsize::new(0),
            closed: AtomicU64::new(0),
            first_closed: Mutex::default(),
            closing_is_expected: AtomicBool::new(false),
        })
    }

    /// Number of threads.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.mail.len()
    }

    /// The stage now.
    #[inline]
    #[must_use]
    pub fn stage(&self) -> Stage {
        let number = usize::from(self.stage.load(Ordering::Acquire));
        STAGES.get(number).copied().unwrap_or(Stage::End)
    }

    /// What wakes a thread.
    #[must_use]
    pub fn waker(&self, thread: usize) -> Option<&OwnedFd> {
        self.mail.get(thread).map(|(_, waker)| waker)
    }

    fn wake(&self, thread: usize) {
        if let Some(waker) = self.waker(thread) {
            // It fails only if the thread has 2^64 - 2 wake-ups to come, and then it wakes anyway.
            let _full = rustix::io::write(waker, &1_u64.to_ne_bytes());
        }
    }

    /// Tells threads which of their publishers' windows have moved.
    pub fn send_mail(&self, moved: &mut Vec<(usize, u32)>) {
        moved.sort_unstable();
        moved.dedup();
        for group in moved.chunk_by(|a, b| a.0 == b.0) {
            let Some(&(thread, _)) = group.first() else {
                continue;
            };
            if let Some((letters, _)) = self.mail.get(thread) {
                let mut letters = letters.lock().unwrap_or_else(PoisonError::into_inner);
                letters.extend(group.iter().map(|(_, publisher)| publisher));
            }
            self.wake(thread);
        }
        moved.clear();
    }

    /// Takes what others sent to this thread.
    pub fn take_mail(&self, thread: usize, moved: &mut Vec<u32>) {
        if let Some((letters, _)) = self.mail.get(thread) {
            moved.append(&mut letters.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Makes a thread's counts visible to the conductor.
    pub fn publish_counts(&self, thread: usize, counts: &Counts, stage: Stage) {
        if let Some(shared) = self.counts.get(thread) {
            shared.sent.store(counts.sent, Ordering::Relaxed);
            shared
                .acknowledged
                .store(counts.acknowledged, Ordering::Relaxed);
            shared.delivered.store(counts.delivered, Ordering::Relaxed);
            shared.stage.store(stage as u8, Ordering::Release);
        }
    }

    /// Notes that a connection is lost.
    pub fn note_closed(&self, why: &Broken) {
        self.closed.fetch_add(1, Ordering::AcqRel);
        let mut first = self
            .first_closed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| why.to_string());
    }
}

/// How far all threads together are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Messages sent.
    pub sent: u64,
    /// Messages acknowledged.
    pub acknowledged: u64,
    /// Deliveries, without doubled ones.
    pub delivered: u64,
}

/// The generator at work: all its clients are connected.
#[derive(Debug)]
pub struct Engine {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<anyhow::Result<Harvest>>>,
}

impl Engine {
    /// Starts the threads and waits until all clients are connected and subscribed.
    ///
    /// # Errors
    /// If one of them cannot be.
    pub fn start(plan: &Plan, endpoint: &Endpoint, settings: &Settings) -> anyhow::Result<Self> {
        allow_connections(plan.clients.len())?;
        let count = 1 + plan.clients.iter().map(|c| c.thread).max().unwrap_or(0);
        let shared = Arc::new(Shared::new(plan, count)?);
        let plan = Arc::new(plan.clone());
        let mut threads = Vec::with_capacity(count);
        for thread in 0..count {
            let (shared, plan, endpoint) =
                (Arc::clone(&shared), Arc::clone(&plan), endpoint.clone());
            let core = settings.core(thread);
            let run = move || {
                pin(core)?;
                let worker = Worker::bring_up(thread, &plan, &endpoint, Arc::clone(&shared))?;
                drop(plan);
                shared
                    .sessions_present
                    .fetch_add(worker.sessions_present(), Ordering::AcqRel);
                shared.ready.fetch_add(1, Ordering::AcqRel);
                worker.run()
            };
            threads.push(
                std::thread::Builder::new()
                    .name(format!("load-{thread}"))
                    .spawn(run)?,
            );
        }
        let engine = Self { shared, threads };
        while engine.shared.ready.load(Ordering::Acquire) < count {
            if engine.threads.iter().any(JoinHandle::is_finished) {
                engine.stage(Stage::End);
                return Err(engine
                    .finish()
                    .err()
                    .unwrap_or_else(|| anyhow!("{endpoint}: not connected")));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(engine)
    }

    /// Enters a stage.
    pub fn stage(&self, stage: Stage) {
        self.shared.stage.store(stage as u8, Ordering::Release);
        for thread in 0..self.shared.threads() {
            self.shared.wake(thread);
        }
    }

    /// From now on it is no surprise that the broker closes connections.
    pub fn expect_closing(&self) {
        self.shared
            .closing_is_expected
            .store(true, Ordering::Release);
    }

    /// How far all threads together are.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for counts in &self.shared.counts {
            totals.sent += counts.sent.load(Ordering::Relaxed);
            totals.acknowledged += counts.acknowledged.load(Ordering::Relaxed);
            totals.delivered += counts.delivered.load(Ordering::Relaxed);
        }
        totals
    }

    /// Whether publishing has stopped and everything that was sent has all its confirmations.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        // Until a thread has entered the stage, it may have sent what its counts do not say yet.
        let quiet = |c: &SharedCounts| c.stage.load(Ordering::Acquire) >= Stage::Drain as u8;
        if !self.shared.counts.iter().all(quiet) {
            return false;
        }
        let completed: u64 = self.shared.flows.iter().map(Flow::completed).sum();
        completed >= self.totals().sent
    }

    /// How many connections are lost.
    #[must_use]
    pub fn connections_lost(&self) -> u64 {
        self.shared.closed.load(Ordering::Acquire)
    }

    /// Clients whose session the broker still had.
    #[must_use]
    pub fn sessions_present(&self) -> usize {
        self.shared.sessions_present.load(Ordering::Acquire)
    }

    /// How many connections are lost and why the first was, unless that was to be expected.
    #[must_use]
    pub fn closed(&self) -> Option<String> {
        if self.shared.closing_is_expected.load(Ordering::Acquire) {
            return None;
        }
        let count = self.connections_lost();
        let first = self
            .shared
            .first_closed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        first
            .as_ref()
            .map(|why| format!("{count} connections lost; the first: {why}"))
    }

    /// Whether a thread ended before it was told to.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Ends the threads and takes what they have.
    ///
    /// # Errors
    /// If a thread failed.
    pub fn finish(mut self) -> anyhow::Result<Vec<Harvest>> {
        self.stage(Stage::End);
        let threads = std::mem::take(&mut self.threads);
        // All are joined before the first error is told, so that no thread goes on by itself.
        let all: Vec<_> = threads
            .into_iter()
            .map(|t| {
                t.join()
                    .unwrap_or_else(|_| Err(anyhow!("a thread of the generator panicked")))
            })
            .collect();
        all.into_iter().collect()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stage(Stage::End);
        for thread in self.threads.drain(..) {
            // Who drops an engine has an error to tell already.
            let _left = thread.join();
        }
    }
}

fn pin(core: Option<usize>) -> anyhow::Result<()> {
    let Some(core) = core else { return Ok(()) };
    if core >= CpuSet::MAX_CPU {
        return Err(anyhow!("there is no CPU {core}"));
    }
    let mut cpus = CpuSet::new();
    cpus.set(core);
    sched_setaffinity(None, &cpus).with_context(|| format!("pinning the generator to CPU {core}"))
}
