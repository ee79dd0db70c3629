//! A broker that runs inside of any program: its threads, from the first to the last.
//!
//! Order of a start: store, shards, journal, listeners; of a stop: listeners, shards, journal,
//! store. One thread, the supervisor, owns all others, does the stop, and says how it ended.
//! This module does not know settings, files or the command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidings_core::journal::ShardId;
use tidings_core::message::{Epoch, QoS};
use tidings_core::rules::{Membership, OpenRooms, RuleSource, Rules};
use tidings_core::shard::{self as core_shard, Input};
use tokio::io::DuplexStream;
use tokio::sync::{oneshot, watch};
use tracing::{error, info};

use crate::admission::Admission;
use crate::auth::{
    AccountBook, AccountOptions, Accounts, Authenticate, Commits, Hook, HookOptions, KeyError,
    OpenMode, OwnedDevices, PasswordError, PasswordOptions, Passwords, TokenOptions, Tokens,
};
use crate::clock::Clock;
use crate::counters::Counters;
use crate::handshake::{self, Origin, Reception};
use crate::listener::{self, Bound, Kind};
use crate::readiness::{Readiness, State};
use crate::rooms::{self, Rooms};
use crate::shard::{Ended, Mailboxes, Report, ShardThread, Shared, mailboxes};
use crate::store::{self, Store};
use crate::system::{self, SystemValues};
use crate::transport::Transport;

/// Bytes between the two ends of an in-memory connection, in each direction: what sockets have.
const PIPE_BYTES: usize = 64 * 1024;

/// How long a start waits until requests about rooms are heard.
const ROOM_SERVICE_START: Duration = Duration::from_secs(5);

/// How long a stop waits for shards whose journal has failed: they can only say goodbye.
const STOP_WITHOUT_JOURNAL: Duration = Duration::from_secs(2);

/// Limits on each session.
#[derive(Clone, Debug)]
pub struct SessionLimits {
    /// Bytes waiting to be written to one connection; above it the receiver reads on later.
    pub output_bytes: usize,
    /// QoS 1 and 2 publishes a client may have open.
    pub receive_maximum: u16,
    /// QoS 1 and 2 messages open towards one client.
    pub max_inflight: u16,
    /// Highest QoS granted and taken.
    pub maximum_qos: QoS,
    /// Topic aliases, in each direction.
    pub topic_alias_maximum: u16,
    /// Bytes of one packet.
    pub maximum_packet_bytes: u32,
    /// Seconds a session is kept without a connection.
    pub session_expiry_max_s: u32,
    /// Longest Keep Alive in seconds; 0: whatever clients want.
    pub keep_alive_max_s: u16,
    /// Subscriptions of one session.
    pub max_subscriptions: u32,
    /// Bytes on their way from one shard to the journal, above which publishers wait.
    pub append_queue_bytes: usize,
    /// How long the position of a session may stay unsaved.
    pub progress_interval: Duration,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            output_bytes: 64 * 1024,
            receive_maximum: 1024,
            max_inflight: 1024,
            maximum_qos: QoS::ExactlyOnce,
            topic_alias_maximum: 64,
            maximum_packet_bytes: 1024 * 1024,
            session_expiry_max_s: 30 * 24 * 60 * 60,
            keep_alive_max_s: 0,
            max_subscriptions: 1000,
            append_queue_bytes: 16 * 1024 * 1024,
            progress_interval: Duration::from_secs(1),
        }
    }
}

/// How clients prove who they are.
#[derive(Clone)]
pub enum Auth {
    /// As somebody else says.
    By(Arc<dyn Authenticate>),
    /// By the accounts of the broker, and by what else is to count.
    Accounts(AccountOptions, Box<OtherProofs>),
}

/// What counts beside accounts.
#[derive(Clone, Debug, Default)]
pub struct OtherProofs {
    /// Signed tokens.
    pub tokens: Option<TokenOptions>,
    /// Somebody who is asked about names without an account.
    pub hook: Option<HookOptions>,
}

/// Everything a broker is told when it starts.
#[derive(Clone)]
pub struct BrokerOptions {
    /// Journal and state.
    pub store: store::Options,
    /// Shard threads; 0: one per core.
    pub shards: u16,
    /// Where clients connect.
    pub listeners: Vec<listener::Options>,
    /// Limits on peers before they are clients.
    pub handshake: handshake::Options,
    /// Connections at one time.
    pub max_connections: usize,
    /// Limits on each session.
    pub session: SessionLimits,
    /// Who may use which topics, and what is kept.
    pub rules: Arc<Rules>,
    /// Who is who.
    pub auth: Auth,
    /// What hashing a password costs.
    pub passwords: PasswordOptions,
    /// Who is a member of what, unless `rooms` are managed.
    pub members: Arc<dyn Membership + Send + Sync>,
    /// Rooms that users make, join and leave; `None`: as `members` says.
    pub rooms: Option<rooms::Options>,
    /// Time between updates of `$SYS`; `None`: never.
    pub system_interval: Option<Duration>,
    /// How long a stop may take.
    pub shutdown_deadline: Duration,
}

impl BrokerOptions {
    /// A broker in open mode with its data in `data_dir`, without listeners, where everyone may use
    /// every topic.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        let rule = |pattern: &str, publish: &str| RuleSource {
            pattern: pattern.to_owned(),
            publish: publish.to_owned(),
            subscribe: "any".to_owned(),
            ..RuleSource::default()
        };
        let rules = [rule("$SYS/#", "broker"), rule("#", "any")];
        Self {
            store: store::Options::new(data_dir.into()),
            shards: 0,
            listeners: Vec::new(),
            handshake: handshake::Options {
                connect_timeout: Duration::from_secs(10),
                max_connect_bytes: 16 * 1024,
                max_client_id_bytes: 256,
            },
            max_connections: 10_000,
            session: SessionLimits::default(),
            rules: Arc::new(Rules::compile(&rules).unwrap_or_default()),
            auth: Auth::By(Arc::new(OpenMode)),
            passwords: PasswordOptions::default(),
            members: Arc::new(OpenRooms),
            rooms: None,
            system_interval: Some(Duration::from_secs(10)),
            shutdown_deadline: Duration::from_secs(10),
        }
    }

    /// Adds a listener; port 0 takes a free one.
    #[must_use]
    pub fn listen(mut self, kind: Kind, address: SocketAddr) -> Self {
        self.listeners.push(listener::Options {
            kind,
            address,
            path: "/mqtt".to_owned(),
        });
        self
    }

    fn shard_options(&self, id: ShardId, shards: u16) -> core_shard::Options {
        let session = &self.session;
        core_shard::Options {
            id,
            shards,
            output_bytes: session.output_bytes,
            receive_maximum: session.receive_maximum,
            max_inflight: session.max_inflight,
            maximum_qos: session.maximum_qos,
            topic_alias_maximum: session.topic_alias_maximum,
            maximum_packet_bytes: session.maximum_packet_bytes,
            session_expiry_max_s: session.session_expiry_max_s,
            keep_alive_max_s: session.keep_alive_max_s,
            max_subscriptions: session.max_subscriptions,
            append_queue_bytes: session.append_queue_bytes / usize::from(shards.max(1)),
            progress_interval_ms: u64::try_from(session.progress_interval.as_millis())
                .unwrap_or(u64::MAX),
        }
    }
}

/// Why a broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Store(#[from] store::StoreError),
    /// A listener cannot be bound.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address that was wanted.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// Without managed rooms everyone would see private and direct rooms.
    #[error(
        "there are private or direct rooms, which rooms.mode = \"open\" would open to everyone: set \
         rooms.mode = \"managed\""
    )]
    ClosedRooms,
    /// Passwords cannot be hashed.
    #[error(transparent)]
    Passwords(#[from] PasswordError),
    /// The keys of signed tokens cannot be read.
    #[error("keys of tokens: {0}")]
    Keys(#[from] KeyError),
    /// No threads or other resources are to be had.
    #[error("cannot start: {0}")]
    System(#[from] std::io::Error),
}

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

/// A broker; see [`Broker::start`].
#[derive(Debug)]
pub struct Broker;

impl Broker {
    /// Opens the store, recovers, and starts all threads; when it returns, the listeners accept.
    ///
    /// # Errors
    /// If the store cannot be opened or recovered, or an address cannot be bound.
    pub fn start(options: BrokerOptions) -> Result<Running, StartError> {
        let bound = options.listeners.iter().map(|listener| {
            let address = listener.address;
            listener::bind(listener.clone())
                .map_err(|source| StartError::Listen { address, source })
        });
        // Before the store: recovering takes a while, an address in use is known at once.
        let bound: Vec<Bound> = bound.collect::<Result<_, _>>()?;
        let addresses: Vec<_> = bound
            .iter()
            .map(|bound| (bound.kind(), bound.address))
            .collect();

        let passwords = Passwords::new(options.passwords)?;
        let others = match &options.auth {
            Auth::Accounts(_, others) => (**others).clone(),
            Auth::By(_) => OtherProofs::default(),
        };
        let tokens = others.tokens.map(Tokens::new).transpose()?.map(Arc::new);
        let hook = others.hook.map(Hook::new).transpose()?;
        let clock = Clock::new();
        let readiness = Readiness::default();
        let (events, happened) = mpsc::channel();
        let shards = shard_count(options.shards);
        let (mailboxes, inboxes) = mailboxes(shards);
        let store = Store::open(&options.store, &options.rules)?;
        let (committed, failed) = (mailboxes.clone(), events.clone());
        let managed: Arc<OnceLock<Arc<Rooms>>> = Arc::default();
        let room_commits = managed.clone();
        let commits = Arc::new(Commits::new());
        let (book_committed, book_failed) = (commits.clone(), commits.clone());
        let mut store = store.start(store::Sinks {
            committed: Box::new(move |batch| {
                book_committed.committed(&batch);
                // Before the batch: what is in it is judged by the rooms as they are with it.
                if let Some(changes) = room_commits.get().and_then(|rooms| rooms.committed(&batch))
                {
                    committed.broadcast(|| Input::AccessChanged(changes.clone()));
                }
                committed.broadcast(|| Input::Committed(batch.clone()))
            }),
            failed: Arc::new(move |cause| {
                book_failed.failed();
                let _ = failed.send(Happened::StoreFailed(cause));
            }),
        })?;
        let mut members = options.members.clone();
        let mut room_service = None;
        // Nothing is committed before the shards begin.
        let rooms = Arc::new(Rooms::load(&*store.state()));
        if options.rooms.is_none() && rooms.has_closed_ones() {
            // Nothing was changed; what cannot be closed now is recovered at the next start.
            let _ = store.stop();
            return Err(StartError::ClosedRooms);
        }
        if let Some(room_options) = options.rooms {
            let (count, users) = rooms.view().counts();
            info!(rooms = count, users, "rooms are managed");
            members = rooms.clone();
            let rooms = managed.get_or_init(|| rooms);
            room_service = Some((rooms.clone(), room_options));
        }
        if matches!(options.auth, Auth::Accounts(..)) {
            let (rooms, state) = (members, store.state());
            members = Arc::new(OwnedDevices { rooms, state });
        }
        let shared = Shared {
            journal: store.journal(),
            state: store.state(),
            rules: options.rules.clone(),
            members,
            append: store.append_sink(),
            mailboxes: mailboxes.clone(),
            clock,
        };
        let epoch = shared.journal.epoch();
        let mut threads = Vec::with_capacity(inboxes.len());
        for (id, inbox) in (0..shards).zip(inboxes) {
            let events = events.clone();
            let ended = move |ended| {
                let _ = events.send(Happened::ShardEnded(id, ended));
            };
            let options = options.shard_options(id, shards);
            threads.push(Arc::new(ShardThread::start(
                options,
                shared.clone(),
                inbox,
                ended,
            )?));
        }
        store.start_upkeep(clock, lowest_reader(&threads))?;
        for thread in &threads {
            thread.begin();
        }

        let book = Arc::new(AccountBook::new(
            store.state(),
            store.append_sink(),
            commits,
            mailboxes.clone(),
            passwords,
            clock,
        ));
        let auth: Arc<dyn Authenticate> = match options.auth {
            Auth::By(auth) => auth,
            Auth::Accounts(options, _) => {
                Arc::new(Accounts::new(options, book.clone(), tokens.clone(), hook))
            }
        };
        let counters = Arc::new(Counters::default());
        let reception = Arc::new(Reception {
            options: options.handshake,
            auth,
            book: book.clone(),
            admission: Admission::new(options.max_connections),
            shards: mailboxes.clone(),
            counters: counters.clone(),
            clock,
        });
        let system = SystemValues::new(mailboxes.clone());
        let sources = system::Sources {
            clock,
            threads: threads.clone(),
            journal: shared.journal.clone(),
            state: shared.state.clone(),
            counters,
        };
        let (stop, stopped) = watch::channel(false);
        let listening = Listening {
            bound,
            reception: reception.clone(),
            readiness: readiness.clone(),
            statistics: options
                .system_interval
                .map(|every| (every, sources, system.clone())),
            tokens,
            stop: stopped,
        };
        let (runtime, listening) = listening.start()?;
        if let Some((rooms, room_options)) = room_service {
            let (ready, is_ready) = oneshot::channel();
            let door = (reception.clone(), runtime.clone());
            let start = rooms::Start {
                rooms,
                rules: options.rules.clone(),
                members: shared.members.clone(),
                options: room_options,
                clock,
                connect: move || connect_in_memory(&door.0, &door.1, "rooms"),
                ready,
            };
            runtime.spawn(rooms::run(start));
            room_service_is_ready(is_ready);
        }
        readiness.set(State::Ready);

        let (done, is_done) = watch::channel(None);
        let supervisor = Supervisor {
            deadline: options.shutdown_deadline,
            readiness: readiness.clone(),
            mailboxes,
            threads,
            store: Some(store),
            stop_listening: stop,
            listening: Some(listening),
            happened,
        };
        thread::Builder::new()
            .name("supervisor".to_owned())
            .spawn(move || {
                let ended = supervisor.run();
                done.send_replace(Some(ended));
            })?;
        Ok(Running {
            addresses,
            events,
            done: is_done,
            readiness,
            reception,
            runtime,
            system,
            epoch,
            book,
        })
    }
}

/// Waits until requests about rooms are heard; a broker whose journal fails meanwhile never is.
fn room_service_is_ready(mut ready: oneshot::Receiver<()>) {
    let deadline = Instant::now() + ROOM_SERVICE_START;
    while let Err(oneshot::error::TryRecvError::Empty) = ready.try_recv() {
        if Instant::now() > deadline {
            error!("the service of rooms does not answer yet");
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// A connection with the broker's own rights, whose other end is in memory.
fn connect_in_memory(
    reception: &Arc<Reception>,
    runtime: &tokio::runtime::Handle,
    label: &str,
) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
    let reception = reception.clone();
    let origin = Origin::Broker {
        label: label.into(),
    };
    runtime.spawn(async move {
        let deadline = reception.deadline();
        reception
            .receive(Transport::Memory(ours), origin, deadline, None)
            .await;
    });
    theirs
}

fn shard_count(wanted: u16) -> u16 {
    if wanted > 0 {
        return wanted;
    }
    thread::available_parallelism()
        .map_or(1, |cores| u16::try_from(cores.get()).unwrap_or(u16::MAX))
}

/// The first offset that a connected session may still read. A reader that began to lag after its
/// shard's report stands at that report's position or later.
fn lowest_reader(threads: &[Arc<ShardThread>]) -> store::LowestReader {
    let threads = threads.to_vec();
    let lowest = |report: Report| {
        report
            .lowest_reader
            .map_or(report.position, |reader| reader.min(report.position))
    };
    Box::new(move || threads.iter().map(|thread| lowest(thread.report())).min())
}

/// The thread of the listeners: acceptors, handshakes, pages, statistics.
struct Listening {
    bound: Vec<Bound>,
    reception: Arc<Reception>,
    readiness: Readiness,
    statistics: Option<(Duration, system::Sources, SystemValues)>,
    tokens: Option<Arc<Tokens>>,
    stop: watch::Receiver<bool>,
}

impl Listening {
    fn start(self) -> std::io::Result<(tokio::runtime::Handle, thread::JoinHandle<()>)> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        let thread = thread::Builder::new()
            .name("listeners".to_owned())
            .spawn(move || runtime.block_on(self.run()))?;
        Ok((handle, thread))
    }

    async fn run(self) {
        for bound in self.bound {
            let address = bound.address;
            let (reception, readiness) = (self.reception.clone(), self.readiness.clone());
            let accepting = listener::accept_loop(bound, reception, readiness, self.stop.clone());
            tokio::spawn(async move {
                if let Err(error) = accepting.await {
                    error!(%address, %error, "this listener does not work");
                }
            });
        }
        if let Some((every, sources, values)) = self.statistics {
            tokio::spawn(system::publish(every, sources, values));
        }
        if let Some(tokens) = self.tokens {
            tokio::spawn(tokens.keep_fresh());
        }
        let mut stop = self.stop;
        // An error means that nobody can stop it any more, which is a stop too.
        let _ = stop.wait_for(|stop| *stop).await;
    }
}

/// What the supervisor hears.
enum Happened {
    Stop,
    ShardEnded(ShardId, Ended),
    StoreFailed(Arc<str>),
}

struct Supervisor {
    deadline: Duration,
    readiness: Readiness,
    mailboxes: Mailboxes,
    threads: Vec<Arc<ShardThread>>,
    store: Option<store::RunningStore>,
    stop_listening: watch::Sender<bool>,
    listening: Option<thread::JoinHandle<()>>,
    happened: mpsc::Receiver<Happened>,
}

impl Supervisor {
    fn run(mut self) -> Result<(), StopError> {
        loop {
            match self.happened.recv() {
                Ok(Happened::StoreFailed(cause)) => self.store_failed(cause),
                Ok(Happened::ShardEnded(shard, ended)) => {
                    return Err(self.shard_failed(shard, ended));
                }
                // Whoever started the broker is gone, and wants it gone too.
                Ok(Happened::Stop) | Err(mpsc::RecvError) => return self.stop(),
            }
        }
    }

    fn store_failed(&self, cause: Arc<str>) {
        error!(%cause, "the store failed: nothing is acknowledged any more, a restart recovers");
        self.readiness.set(State::StoreFailed(cause.clone()));
        self.mailboxes
            .broadcast(|| Input::JournalPoisoned(cause.clone()));
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

/// A broker that runs. Dropping it stops the broker without waiting for the end.
pub struct Running {
    addresses: Vec<(Kind, SocketAddr)>,
    events: mpsc::Sender<Happened>,
    done: watch::Receiver<Option<Result<(), StopError>>>,
    readiness: Readiness,
    reception: Arc<Reception>,
    runtime: tokio::runtime::Handle,
    system: SystemValues,
    epoch: Epoch,
    book: Arc<AccountBook>,
}

impl Running {
    /// The book of accounts.
    pub fn accounts(&self) -> &Arc<AccountBook> {
        &self.book
    }

    /// Identity of this broker: that of its journal, as text.
    pub fn identity(&self) -> String {
        format!("{:016x}", self.epoch.0)
    }

    /// Where the listeners of a kind really listen, in the order of the options.
    pub fn addresses(&self, kind: Kind) -> impl Iterator<Item = SocketAddr> + '_ {
        let of_kind =
            move |&(found, address): &(Kind, SocketAddr)| (found == kind).then_some(address);
        self.addresses.iter().filter_map(of_kind)
    }

    /// Whether it can do its work.
    pub fn readiness(&self) -> State {
        self.readiness.get()
    }

    /// A connection that speaks MQTT like a socket, but with the broker's own rights; its client
    /// identifier must begin with [`handshake::LINK_PREFIX`]. `label` names it in logs.
    pub fn connect_in_memory(&self, label: &str) -> DuplexStream {
        connect_in_memory(&self.reception, &self.runtime, label)
    }

    /// Sets a value of the `$SYS` tree; `topic` begins with `$SYS/`.
    pub fn set_system_value(&self, topic: &str, payload: impl Into<Bytes>) {
        self.system.set(topic, payload.into());
    }

    /// Asks the broker to stop; [`Running::wait`] says when it has.
    pub fn stop(&self) {
        let _ = self.events.send(Happened::Stop);
    }

    /// Waits until the broker has stopped, for whatever reason.
    ///
    /// # Errors
    /// If it did not stop in order.
    pub async fn wait(&self) -> Result<(), StopError> {
        let mut done = self.done.clone();
        let ended = done.wait_for(Option::is_some).await;
        ended
            .ok()
            .and_then(|ended| ended.clone())
            .unwrap_or(Err(StopError::Unknown))
    }

    /// Stops the broker: no more clients, goodbye to those that are there, everything on disk.
    ///
    /// # Errors
    /// If it did not stop in order.
    pub async fn shutdown(self) -> Result<(), StopError> {
        self.stop();
        self.wait().await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}
