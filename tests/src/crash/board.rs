//! What the threads of the crash test tell each other: whether the broker is up and where, what was
//! counted, what was violated, and when to end.
//!
//! Everyone waits on one condition, with a time limit; nobody holds the lock while doing anything.

use std::net::SocketAddr;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::message::{Arrivals, Line};
use crate::{Endpoint, TidingsProcess};

/// Where one life of the broker listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    number: u64,
    tcp: Endpoint,
    websocket: Endpoint,
    tls: Option<SocketAddr>,
}

impl Life {
    /// Where to connect.
    pub fn endpoint(self, over_websocket: bool) -> Endpoint {
        if over_websocket {
            self.websocket
        } else {
            self.tcp
        }
    }

    /// Where MQTT is spoken in TLS, if it is.
    pub fn tls(self) -> Option<SocketAddr> {
        self.tls
    }
}

/// How long everybody waits between two things that they do.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// A publisher, between two windows of messages.
    pub publish: Duration,
    /// A talker, between two sayings.
    pub talk: Duration,
    /// A guest, between coming and going.
    pub come_and_go: Duration,
}

/// Counts of all threads together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Different messages handed to the broker.
    pub published: u64,
    /// PUBLISH and PUBREL packets sent once more after a reconnect.
    pub resent: u64,
    /// Messages whose PUBACK or PUBREC came.
    pub acked: u64,
    /// First arrivals at a subscriber.
    pub delivered: u64,
    /// Further arrivals of the same message at a subscriber.
    pub duplicates: u64,
    /// Connections of clients that the broker accepted.
    pub connections: u64,
}

/// How far the test is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Publish, come and go.
    Work,
    /// Publishers: bring to an end what was begun. Subscribers: stay until all has arrived.
    Finish,
    /// End at once.
    GiveUp,
}

#[derive(Debug)]
struct State {
    life: Option<Life>,
    lives: u64,
    stage: Stage,
    counts: Counts,
    violations: Vec<String>,
    publishers_at_work: usize,
    subscribers_at_work: usize,
    /// The last number of each line, of publishers that are done.
    sent: Vec<(Line, u64)>,
}

/// The board itself.
#[derive(Debug)]
pub struct Board {
    pace: Pace,
    state: Mutex<State>,
    changed: Condvar,
}

/// Ends everything when it goes, also by a panic.
pub struct GiveUp<'b>(&'b Board);

impl Drop for GiveUp<'_> {
    fn drop(&mut self) {
        self.0.lock().stage = Stage::GiveUp;
        self.0.changed.notify_all();
    }
}

impl Board {
    /// For so many clients.
    pub fn new(pace: Pace, publishers: usize, subscribers: usize) -> Self {
        Self {
            pace,
            state: Mutex::new(State {
                life: None,
                lives: 0,
                stage: Stage::Work,
                counts: Counts::default(),
                violations: Vec::new(),
                publishers_at_work: publishers,
                subscribers_at_work: subscribers,
                sent: Vec::new(),
            }),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'s>(&self, state: MutexGuard<'s, State>, time: Duration) -> MutexGuard<'s, State> {
        let (state, _) = self
            .changed
            .wait_timeout(state, time)
            .unwrap_or_else(PoisonError::into_inner);
        state
    }

    // ---- The broker's side

    pub fn broker_is_up(&self, broker: &TidingsProcess) {
        let mut state = self.lock();
        state.lives += 1;
        state.life = Some(Life {
            number: state.lives,
            tcp: broker.tcp(),
            websocket: broker.ws(),
            tls: broker.speaks_tls().then(|| broker.mqtts()),
        });
        self.changed.notify_all();
    }

    pub fn broker_is_down(&self) {
        self.lock().life = None;
    }

    pub fn give_up_at_the_end(&self) -> GiveUp<'_> {
        GiveUp(self)
    }

    /// Waits until `count` more messages are acknowledged, or for `time`; returns how many were.
    pub fn wait_for_acks(&self, count: u64, time: Duration) -> u64 {
        let until = Instant::now() + time;
        let mut state = self.lock();
        let before = state.counts.acked;
        loop {
            let acks = state.counts.acked - before;
            let left = until.saturating_duration_since(Instant::now());
            if acks >= count || left.is_zero() {
                return acks;
            }
            state = self.wait(state, left);
        }
    }

    /// Ends the work, and waits until all clients are done; false if for `standstill` nothing
    /// happened any more.
    pub fn finish(&self, standstill: Duration) -> bool {
        let mut state = self.lock();
        state.stage = Stage::Finish;
        self.changed.notify_all();
        let mut seen = (state.counts, Instant::now());
        while state.publishers_at_work + state.subscribers_at_work > 0 {
            if !state.violations.is_empty() {
                return true;
            }
            if state.counts != seen.0 {
                seen = (state.counts, Instant::now());
            } else if seen.1.elapsed() >= standstill {
                return false;
            }
            state = self.wait(state, Duration::from_secs(1));
        }
        true
    }

    // ---- The clients' side

    pub fn is_down(&self) -> bool {
        self.lock().life.is_none()
    }

    /// Waits for a broker that is not the one of `known`; `None` at [`Stage::GiveUp`].
    pub fn wait_for_broker(&self, known: Option<Life>) -> Option<Life> {
        let mut state = self.lock();
        loop {
            if state.stage == Stage::GiveUp {
                return None;
            }
            if let Some(life) = state.life
                && Some(life) != known
            {
                return Some(life);
            }
            state = self.wait(state, Duration::from_secs(1));
        }
    }

    /// How long everybody waits between two things.
    pub fn pace(&self) -> Pace {
        self.pace
    }

    /// Waits for `time`, or less if the test comes to its next stage.
    pub fn stay_away(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut state = self.lock();
        let stage = state.stage;
        while state.stage == stage {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.wait(state, left);
        }
    }

    pub fn stage(&self) -> Stage {
        self.lock().stage
    }

    /// True when publishers have nothing more to send, and all of it arrived.
    pub fn is_complete(&self, arrivals: &Arrivals) -> bool {
        let state = self.lock();
        let mut sent = state.sent.iter();
        state.publishers_at_work == 0 && sent.all(|&(line, sent)| arrivals.last(line) == sent)
    }

    /// A publisher has sent all of this, and it was acknowledged.
    pub fn publisher_is_done(&self, sent: impl Iterator<Item = (Line, u64)>) {
        let mut state = self.lock();
        state.sent.extend(sent);
        state.publishers_at_work -= 1;
        self.changed.notify_all();
    }

    pub fn subscriber_is_done(&self) {
        self.lock().subscribers_at_work -= 1;
        self.changed.notify_all();
    }

    pub fn count(&self, count: impl FnOnce(&mut Counts)) {
        count(&mut self.lock().counts);
        self.changed.notify_all();
    }

    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    pub fn violation(&self, what: String) {
        self.lock().violations.push(what);
        self.changed.notify_all();
    }

    /// Waits for `time`, or less if something is violated.
    pub fn wait_for_violations(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut state = self.lock();
        while state.violations.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.wait(state, left);
        }
    }

    pub fn has_violations(&self) -> bool {
        !self.lock().violations.is_empty()
    }

    pub fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }
}
