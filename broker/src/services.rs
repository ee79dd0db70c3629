//! What answers requests of users: clients of the broker inside of the broker, each with a connection of its
//! own in memory.
//!
//! Invariant: a broker that has started hears requests.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::io::DuplexStream;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tracing::error;

use crate::clock::Clock;
use crate::handshake::Reception;
use crate::history::{self, History};
use crate::people::{self, Counts, People};
use crate::rooms::{self, Rooms};
use crate::running::connect_in_memory;
use crate::service::{self, Replies};

/// How long a start waits until requests to a service are heard.
const START: Duration = Duration::from_secs(5);

/// What services need to begin.
pub(crate) struct Services {
    pub reception: Arc<Reception>,
    /// Where they run.
    pub runtime: Handle,
    pub replies: Replies,
    pub clock: Clock,
    /// Bytes of an answer.
    pub max_bytes: usize,
}

impl Services {
    pub fn rooms(&self, rooms: Arc<Rooms>, options: rooms::Options) {
        let (ready, is_ready) = oneshot::channel();
        self.runtime.spawn(rooms::run(rooms::Start {
            rooms,
            replies: self.replies.clone(),
            options,
            clock: self.clock,
            connect: self.door("rooms"),
            ready,
        }));
        wait("rooms", is_ready);
    }

    pub fn history(&self, history: Arc<History>) {
        let (ready, is_ready) = oneshot::channel();
        let start = service::Start {
            client_id: history::CLIENT_ID,
            filters: history::REQUESTS,
            replies: self.replies.clone(),
            requests_per_minute: history::REQUESTS_PER_MINUTE,
            clock: self.clock,
            connect: self.door("history"),
            ready,
        };
        let answers = history::Service {
            history,
            max_bytes: self.max_bytes,
        };
        self.runtime.spawn(service::serve(start, answers));
        wait("history", is_ready);
    }

    pub fn people(&self, people: Arc<People>) {
        let (ready, is_ready) = oneshot::channel();
        self.runtime.spawn(people::run(people::Start {
            people,
            replies: self.replies.clone(),
            connect: self.door("people"),
            ready,
        }));
        wait("people", is_ready);
    }

    pub fn counts(&self, counts: Arc<Counts>, requests_per_minute: u32) {
        let (ready, is_ready) = oneshot::channel();
        let start = service::Start {
            client_id: people::COUNTS,
            filters: people::COUNT_REQUESTS,
            replies: self.replies.clone(),
            requests_per_minute,
            clock: self.clock,
            connect: self.door("unread"),
            ready,
        };
        let answers = people::CountsService {
            counts,
            max_bytes: self.max_bytes,
        };
        self.runtime.spawn(service::serve(start, answers));
        wait("unread", is_ready);
    }

    /// How a service connects, also again.
    fn door(&self, label: &'static str) -> impl Fn() -> DuplexStream + Send + Sync + use<> {
        let (reception, runtime) = (self.reception.clone(), self.runtime.clone());
        move || connect_in_memory(&reception, &runtime, label)
    }
}

/// Waits until requests to a service are heard; a broker whose journal fails meanwhile never is.
fn wait(service: &str, mut ready: oneshot::Receiver<()>) {
    let deadline = Instant::now() + START;
    while let Err(oneshot::error::TryRecvError::Empty) = ready.try_recv() {
        if Instant::now() > deadline {
            error!(service, "a service does not answer yet");
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}
