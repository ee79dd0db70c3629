//! The thread that owns all other threads of a broker: it hears when one fails, stops the rest in
//! order, and says how it ended.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tidings_core::journal::ShardId;
use tidings_core::shard::Input;
use tokio::sync::watch;
use tracing::{error, info};

use crate::heartbeat::Heartbeat;
use crate::readiness::{Readiness, State};
use crate::shard::{Ended, Mailboxes, ShardThread};
use crate::store;

/// How long a stop waits for shards whose journal has failed: they can only say goodbye.
const STOP_WITHOUT_JOURNAL: Duration = Duration::from_secs(2);

/// Why a broker stopped otherwise than it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StopError {
    /// Something was not finished in time, and was given up.
    #[error("not everything was finished within {0:?}")]
    Deadline(Duration),
    /// A shard failed. What it was doing is not known; a restart recovers from the journal.
    #[error("shard {shard} failed: {cause}")]
    Shard {
        /// Which.
        shard: ShardId,
        /// Why.
        cause: String,
    },
    /// The journal or the state failed, or could not be closed in order. A restart recovers.
    #[error("the store failed: {0}")]
    Store(String),
    /// The supervisor is gone.
    #[error("the broker ended without saying how")]
    Unknown,
}

/// What the supervisor hears.
pub(crate) enum Happened {
    Stop,
    ShardEnded(ShardId, Ended),
    StoreFailed(Arc<str>),
}

pub(crate) struct Supervisor {
    pub deadline: Duration,
    pub readiness: Readiness,
    pub mailboxes: Mailboxes,
    pub threads: Vec<Arc<ShardThread>>,
    pub store: Option<store::RunningStore>,
    pub heartbeat: Option<Heartbeat>,
    pub stop_listening: watch::Sender<bool>,
    pub listening: Option<thread::JoinHandle<()>>,
    pub happened: mpsc::Receiver<Happened>,
}

impl Supervisor {
    /// Until the broker has stopped.
    pub fn run(mut self) -> Result<(), StopError> {
        loop {
            match self.next() {
                Ok(Happened::StoreFailed(cause)) => self.store_failed(cause),
                Ok(Happened::ShardEnded(shard, ended)) => {
                    return Err(self.shard_failed(shard, ended));
                }
                // Whoever started the broker is gone, and wants it gone too.
                Ok(Happened::Stop) | Err(mpsc::RecvError) => return self.stop(),
            }
        }
    }

    /// What happens next; meanwhile whoever wants to know is told how the broker does.
    fn next(&self) -> Result<Happened, mpsc::RecvError> {
        let Some(heartbeat) = &self.heartbeat else {
            return self.happened.recv();
        };
        loop {
            match self.happened.recv_timeout(heartbeat.options.every) {
                Ok(happened) => return Ok(happened),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    heartbeat.tell(&self.readiness, &self.threads);
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err(mpsc::RecvError),
            }
        }
    }

    fn store_failed(&self, cause: Arc<str>) {
        error!(%cause, "the store failed: nothing is acknowledged any more, a restart recovers");
        self.readiness.set(State::StoreFailed(cause.clone()));
        self.mailboxes
            .broadcast(|| Input::JournalPoisoned(cause.clone()));
        if let Some(heartbeat) = &self.heartbeat {
            heartbeat.tell(&self.readiness, &self.threads);
        }
    }

    fn shard_failed(&mut self, shard: ShardId, ended: Ended) -> StopError {
        let cause = match ended {
            Ended::Failed(cause) => cause,
            Ended::Quiet => "it ended without being told to".to_owned(),
        };
        error!(
            shard,
            cause, "a shard failed: the broker ends, a restart recovers"
        );
        self.readiness.set(State::Stopping);
        self.stop_listening.send_replace(true);
        self.mailboxes.abandon();
        // What was handed over is valid, whatever happened to who did.
        if let Some(Err(error)) = self.store.take().map(store::RunningStore::stop) {
            error!(%error, "the store was not closed in order");
        }
        StopError::Shard { shard, cause }
    }

    fn stop(&mut self) -> Result<(), StopError> {
        let begin = Instant::now();
        let deadline = match self.readiness.get() {
            State::StoreFailed(_) => self.deadline.min(STOP_WITHOUT_JOURNAL),
            _ => self.deadline,
        };
        self.readiness.set(State::Stopping);
        self.stop_listening.send_replace(true);
        if let Some(listening) = self.listening.take() {
            let _ = listening.join();
        }
        self.mailboxes.broadcast(|| Input::Shutdown);
        let mut result = self.wait_for_shards(begin, deadline);
        // Before the stop, or during it.
        if let State::StoreFailed(cause) = self.readiness.get() {
            result = Err(StopError::Store(cause.to_string()));
        }
        for thread in self.threads.drain(..) {
            if result.is_ok()
                && let Some(thread) = Arc::into_inner(thread)
            {
                thread.join();
            }
        }
        if let Some(store) = self.store.take()
            && let Err(error) = store.stop()
            && result.is_ok()
        {
            result = Err(StopError::Store(error.to_string()));
        }
        info!(took_ms = begin.elapsed().as_millis() as u64, "stopped");
        result
    }

    fn wait_for_shards(&mut self, begin: Instant, deadline: Duration) -> Result<(), StopError> {
        let mut running = self.threads.len();
        while running > 0 {
            let left = deadline.saturating_sub(begin.elapsed());
            match self.happened.recv_timeout(left) {
                Ok(Happened::ShardEnded(_, Ended::Quiet)) => running -= 1,
                Ok(Happened::ShardEnded(shard, ended @ Ended::Failed(_))) => {
                    return Err(self.shard_failed(shard, ended));
                }
                Ok(Happened::StoreFailed(cause)) => self.store_failed(cause),
                Ok(Happened::Stop) => {}
                Err(_) => {
                    error!(
                        shards = running,
                        "shards did not finish in time and are given up"
                    );
                    self.mailboxes.abandon();
                    return Err(StopError::Deadline(deadline));
                }
            }
        }
        Ok(())
    }
}
