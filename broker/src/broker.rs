//! A broker that runs inside of any program: its threads, from the first to the last.
//!
//! Order of a start: store, shards, journal, listeners; of a stop: listeners, shards, journal,
//! store. One thread, the supervisor, owns all others, does the stop, and says how it ended.
//! This module does not know settings, files or the command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidings_core::message::Epoch;
use tidings_core::rooms::AccessChange;
use tidings_core::rules::Rules;
use tidings_core::shard::Input;
use tokio::io::DuplexStream;
use tokio::sync::{oneshot, watch};
use tokio::time::sleep;
use tracing::{error, info};

use crate::admission::Admission;
use crate::audit::AuditLog;
use crate::auth::{
    AccountBook, Accounts, Admitted, Authenticate, ByDoor, Commits, Hook, KeyError, Logins,
    OpenMode, PasswordError, Passwords, Tokens, WithLogins,
};
use crate::clock::Clock;
use crate::counters::Counters;
use crate::handshake::{Origin, Reception};
use crate::heartbeat::{Heartbeat, Pulse};
use crate::history::{self, History};
use crate::http;
use crate::limits::{self, BanBook, Limits};
use crate::listener::{self, Address, Bound, Kind, ListeningAt};
use crate::metrics::{Hour, Sources, Surveyor, Via};
use crate::names::SharedNames;
use crate::options::{Auth, BrokerOptions, OtherProofs};
use crate::otel;
use crate::people::{self, Counts, People, Rights};
use crate::readiness::{Readiness, State};
use crate::rooms::{self, Rooms};
use crate::rulebook::Rulebook;
use crate::service::{self, Replies};
use crate::shard::{Mailboxes, Pings, Report, ShardThread, Shared, mailboxes};
use crate::store::{self, Store};
use crate::supervisor::{Happened, StopError, Supervisor};
use crate::system::{self, SystemValues};
use crate::tls::{self, Front, TlsError};
use crate::trace::{Following, TraceError, Tracing, Wanted};

/// How long a start waits until requests to a service are heard.
const SERVICE_START: Duration = Duration::from_secs(5);

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
        address: Address,
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
    /// The key of logins cannot be read or made.
    #[error("the key of logins: {0}")]
    Logins(std::io::Error),
    /// Listeners cannot speak TLS.
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    /// No threads or other resources are to be had.
    #[error("cannot start: {0}")]
    System(#[from] std::io::Error),
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
            let address = listener.address.clone();
            listener::bind(listener.clone())
                .map_err(|source| StartError::Listen { address, source })
        });
        // Before the store: recovering takes a while, an address in use is known at once.
        let bound: Vec<Bound> = bound.collect::<Result<_, _>>()?;
        let listeners: Vec<_> = bound
            .iter()
            .map(|bound| ListeningAt {
                name: bound.options.name.clone(),
                kind: bound.options.kind,
                tls: bound.options.tls,
                address: bound.address.clone(),
            })
            .collect();
        let tls = options.tls.clone().map(Front::open).transpose()?;
        let tls = tls.map(Arc::new);
        if tls.is_none() && listeners.iter().any(|at| at.tls) {
            return Err(TlsError::NoCertificates.into());
        }

        let passwords = Passwords::new(options.passwords)?;
        let (other_judge, accounts) = match options.auth.clone() {
            Auth::By(other) => (Some(other), options.door_accounts.clone()),
            Auth::Accounts(accounts, others) => (None, Some((accounts, *others))),
        };
        let has_accounts = accounts.is_some();
        let others = match &accounts {
            Some((_, others)) => others.clone(),
            None => OtherProofs::default(),
        };
        let tokens = others.tokens.map(Tokens::new).transpose()?.map(Arc::new);
        let hook = others.hook.map(Hook::new).transpose()?;
        let clock = Clock::new();
        let readiness = Readiness::default();
        let (events, happened) = mpsc::channel();
        let shards = shard_count(options.shards);
        let (mailboxes, inboxes) = mailboxes(shards);
        let rules = Arc::new(Rulebook::new(options.rules.clone()));
        let store = Store::open(&options.store, &rules)?;
        // After the store: the directory is ours now.
        let audit = AuditLog::open(&options.store.data_dir, options.audit)?;
        let logins = Logins::open(&options.store.data_dir).map_err(StartError::Logins)?;
        let logins = Arc::new(logins);
        let (committed, failed) = (mailboxes.clone(), events.clone());
        let managed: Arc<OnceLock<Arc<Rooms>>> = Arc::default();
        let room_commits = managed.clone();
        let known: Arc<OnceLock<Arc<People>>> = Arc::default();
        let people_commits = known.clone();
        let counted: Arc<OnceLock<Arc<Counts>>> = Arc::default();
        let counts_commits = counted.clone();
        let commits = Arc::new(Commits::new());
        let names = Arc::new(SharedNames::default());
        let names_committed = names.clone();
        let (book_committed, book_failed) = (commits.clone(), commits.clone());
        let mut store = store.start(store::Sinks {
            committed: Box::new(move |batch| {
                book_committed.committed(&batch);
                names_committed.committed(&batch);
                // Before the batch: what is in it is judged by the rooms as they are with it.
                if let Some(changes) = room_commits.get().and_then(|rooms| rooms.committed(&batch))
                {
                    committed.broadcast(|| Input::AccessChanged(changes.clone()));
                }
                if let Some(counts) = counts_commits.get() {
                    counts.committed(&batch);
                }
                if people_commits.get().is_some_and(|p| p.committed(&batch)) {
                    let changes: Arc<[AccessChange]> = Arc::new([AccessChange::Other]);
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
        let data_dir = options.store.data_dir.clone();
        let limits = Arc::new(Limits::new(options.limits.clone(), clock, data_dir.clone()));
        let people = Arc::new(People::load(options.people, store.state(), clock));
        let people = known.get_or_init(|| people).clone();
        let members = Arc::new(Rights {
            rooms: members,
            managed: managed.get().cloned(),
            owners: has_accounts.then(|| store.state()),
            people: people.clone(),
        });
        let tracing = Arc::<Tracing>::default();
        let shared = Shared {
            journal: store.journal(),
            state: store.state(),
            rules: rules.clone(),
            members,
            names,
            append: store.append_sink(),
            people: people.clone(),
            mailboxes: mailboxes.clone(),
            tracing: tracing.clone(),
            clock,
            pings: options
                .websocket
                .ping_interval
                .map(|interval| Pings::new(interval, options.websocket.ping_timeout)),
            limits: limits.clone(),
            auth: Arc::default(),
        };
        let history = Arc::new(History::new(
            shared.journal.clone(),
            shared.state.clone(),
            rules.clone(),
            shared.members.clone(),
            clock,
        ));
        let counts = Arc::new(Counts::load(
            &shared,
            history.clone(),
            managed.get().cloned(),
        ));
        let counts = counted.get_or_init(|| counts).clone();
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
        let with_logins = |other| -> Arc<dyn Authenticate> {
            Arc::new(WithLogins {
                logins: logins.clone(),
                other,
            })
        };
        let accounts = accounts.map(|(options, _)| -> Arc<dyn Authenticate> {
            let (book, logins) = (book.clone(), logins.clone());
            Arc::new(Accounts::new(options, book, logins, tokens.clone(), hook))
        });
        let open = with_logins(Arc::new(OpenMode));
        let auth: Arc<dyn Authenticate> = Arc::new(ByDoor {
            default: match (other_judge, &accounts) {
                (Some(other), _) => with_logins(other),
                (None, Some(accounts)) => accounts.clone(),
                (None, None) => open.clone(),
            },
            open,
            accounts,
        });
        // Before there are clients; nobody else sets it.
        let _ = shared.auth.set(auth.clone());
        let counters = Arc::new(Counters::default());
        let reception = Arc::new(Reception {
            options: options.handshake,
            websocket: options.websocket.clone(),
            max_packet_bytes: options.session.maximum_packet_bytes as usize,
            takeover: options.takeover(),
            auth,
            book: book.clone(),
            logins,
            admission: Admission::new(limits.clone()),
            limits: limits.clone(),
            shards: mailboxes.clone(),
            counters: counters.clone(),
            tracing: tracing.clone(),
            clock,
        });
        let system = SystemValues::new(mailboxes.clone());
        let sources = Arc::new(Sources {
            clock,
            threads: threads.clone(),
            journal: shared.journal.clone(),
            state: shared.state.clone(),
            counters,
            store: store.probe(),
            surveyor: Surveyor::new(shared.state.clone(), options.store.data_dir.clone()),
            tls: tls.clone(),
            limits: limits.clone(),
        });
        let hour = Arc::<Hour>::default();
        let api = http::Api::new(http::Parts {
            options: options.http,
            reception: reception.clone(),
            rooms: room_service.as_ref().map(|(rooms, _)| rooms.clone()),
            rules: rules.clone(),
            members: shared.members.clone(),
            state: shared.state.clone(),
            history: history.clone(),
            counts: counts.clone(),
            sources: sources.clone(),
            readiness: readiness.clone(),
            has_accounts,
            max_packet_bytes: options.session.maximum_packet_bytes as usize,
            hands: http::Hands::default(),
            requests: http::Requests::default(),
            pace: Mutex::new(service::pace::Pace::new(options.http.requests_per_minute)),
            streams: Arc::default(),
            journal: shared.journal.clone(),
            audit: audit.clone(),
            tracing: tracing.clone(),
            hour: hour.clone(),
            log: options.log,
        });
        let heartbeat = options.heartbeat.map(|options| Heartbeat {
            options,
            listening: Pulse::default(),
        });
        let (stop, stopped) = watch::channel(false);
        let listening = Listening {
            bound,
            reception: reception.clone(),
            statistics: options
                .system_interval
                .map(|every| (every, sources.clone(), system.clone())),
            tokens,
            pressure: (limits, data_dir, mailboxes.clone()),
            api,
            tls: tls.clone(),
            heartbeat: heartbeat
                .as_ref()
                .map(|heartbeat| (heartbeat.options.every / 2, heartbeat.listening.clone())),
            stop: stopped,
        };
        let (runtime, listening) = listening.start()?;
        if let Some((rooms, room_options)) = room_service {
            let (ready, is_ready) = oneshot::channel();
            let door = (reception.clone(), runtime.clone());
            let start = rooms::Start {
                rooms,
                replies: Replies::new(rules.clone(), shared.members.clone()),
                options: room_options,
                clock,
                connect: move || connect_in_memory(&door.0, &door.1, "rooms"),
                ready,
            };
            runtime.spawn(rooms::run(start));
            service_is_ready("rooms", is_ready);
        }
        let door = (reception.clone(), runtime.clone());
        let (ready, is_ready) = oneshot::channel();
        let start = service::Start {
            client_id: history::CLIENT_ID,
            filters: history::REQUESTS,
            replies: Replies::new(rules.clone(), shared.members.clone()),
            requests_per_minute: history::REQUESTS_PER_MINUTE,
            clock,
            connect: move || connect_in_memory(&door.0, &door.1, "history"),
            ready,
        };
        let answers = history::Service {
            history: history.clone(),
            max_bytes: options.session.maximum_packet_bytes as usize,
        };
        runtime.spawn(service::serve(start, answers));
        service_is_ready("history", is_ready);
        let (ready, is_ready) = oneshot::channel();
        let door = (reception.clone(), runtime.clone());
        let start = people::Start {
            people,
            replies: Replies::new(rules.clone(), shared.members.clone()),
            connect: move || connect_in_memory(&door.0, &door.1, "people"),
            ready,
        };
        runtime.spawn(people::run(start));
        service_is_ready("people", is_ready);
        let (ready, is_ready) = oneshot::channel();
        let door = (reception.clone(), runtime.clone());
        let start = service::Start {
            client_id: people::COUNTS,
            filters: people::COUNT_REQUESTS,
            replies: Replies::new(rules.clone(), shared.members.clone()),
            requests_per_minute: options.people.requests_per_minute,
            clock,
            connect: move || connect_in_memory(&door.0, &door.1, "unread"),
            ready,
        };
        let answers = people::CountsService {
            counts,
            max_bytes: options.session.maximum_packet_bytes as usize,
        };
        runtime.spawn(service::serve(start, answers));
        service_is_ready("unread", is_ready);
        if let Some(otel) = options.otel {
            otel::Exporter::new(otel, sources.clone(), epoch).start()?;
        }
        runtime.spawn(hour.keep(sources));
        readiness.set(State::Ready);

        let (done, is_done) = watch::channel(None);
        let written = audit.clone();
        let supervisor = Supervisor {
            deadline: options.shutdown_deadline,
            readiness: readiness.clone(),
            mailboxes,
            threads,
            store: Some(store),
            heartbeat,
            stop_listening: stop,
            listening: Some(listening),
            happened,
        };
        thread::Builder::new()
            .name("supervisor".to_owned())
            .spawn(move || {
                let ended = supervisor.run();
                written.stop();
                done.send_replace(Some(ended));
            })?;
        Ok(Running {
            listeners,
            events,
            done: is_done,
            readiness,
            reception,
            runtime,
            system,
            epoch,
            book,
            rules,
            tls,
            audit,
            tracing,
        })
    }
}

/// Waits until requests to a service are heard; a broker whose journal fails meanwhile never is.
fn service_is_ready(service: &str, mut ready: oneshot::Receiver<()>) {
    let deadline = Instant::now() + SERVICE_START;
    while let Err(oneshot::error::TryRecvError::Empty) = ready.try_recv() {
        if Instant::now() > deadline {
            error!(service, "a service does not answer yet");
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
    let label = label.into();
    let _inside = runtime.enter();
    reception.connect_in_memory(Origin::Broker { label })
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
    statistics: Option<(Duration, Arc<Sources>, SystemValues)>,
    tokens: Option<Arc<Tokens>>,
    pressure: (Arc<Limits>, PathBuf, Mailboxes),
    api: http::Api,
    tls: Option<Arc<Front>>,
    heartbeat: Option<(Duration, Pulse)>,
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
            let address = bound.address.clone();
            let (reception, api) = (self.reception.clone(), self.api.clone());
            let tls = self.tls.clone();
            let accepting = listener::accept_loop(bound, reception, api, tls, self.stop.clone());
            tokio::spawn(async move {
                if let Err(error) = accepting.await {
                    error!(%address, %error, "this listener does not work");
                }
            });
        }
        if let Some((every, sources, values)) = self.statistics {
            tokio::spawn(system::publish(every, sources, values));
        }
        let (limits, data_dir, shards) = self.pressure;
        tokio::spawn(limits::watch(limits, data_dir, shards));
        if let Some(tokens) = self.tokens {
            tokio::spawn(tokens.keep_fresh());
        }
        if let Some(tls) = self.tls {
            tokio::spawn(end_revoked(tls.clone(), self.reception.clone()));
            tokio::spawn(tls.keep_fresh());
        }
        if let Some((every, pulse)) = self.heartbeat {
            tokio::spawn(async move {
                loop {
                    pulse.beat();
                    sleep(every).await;
                }
            });
        }
        let mut stop = self.stop;
        // An error means that nobody can stop it any more, which is a stop too.
        let _ = stop.wait_for(|stop| *stop).await;
    }
}

/// Ends what is open with certificates that do not count any more, for ever.
async fn end_revoked(tls: Arc<Front>, reception: Arc<Reception>) {
    loop {
        tls.revoked().await;
        reception.shards.end_revoked();
    }
}

/// A broker that runs. Dropping it stops the broker without waiting for the end.
pub struct Running {
    listeners: Vec<ListeningAt>,
    events: mpsc::Sender<Happened>,
    done: watch::Receiver<Option<Result<(), StopError>>>,
    readiness: Readiness,
    reception: Arc<Reception>,
    runtime: tokio::runtime::Handle,
    system: SystemValues,
    epoch: Epoch,
    book: Arc<AccountBook>,
    rules: Arc<Rulebook>,
    tls: Option<Arc<Front>>,
    audit: AuditLog,
    tracing: Arc<Tracing>,
}

impl Running {
    /// Lets other topic rules count from now on: for what is published, subscribed, delivered and
    /// replayed, on connections that are open too.
    pub fn replace_rules(&self, rules: Rules) {
        let rules = Arc::new(rules);
        self.rules.replace(rules.clone());
        let shards = &self.reception.shards;
        shards.broadcast(|| Input::SetRules(rules.clone()));
    }

    /// The audit log.
    pub fn audit(&self) -> &AuditLog {
        &self.audit
    }

    /// Tells what something does, packet by packet, until what is given is dropped.
    ///
    /// # Errors
    /// If there is nothing to trace, or too much.
    pub fn trace(&self, wanted: Wanted) -> Result<Following, TraceError> {
        self.tracing.follow(wanted)
    }

    /// The book of bans.
    pub fn bans(&self) -> BanBook {
        BanBook {
            reception: self.reception.clone(),
            audit: self.audit.clone(),
        }
    }

    /// The book of accounts.
    pub fn accounts(&self) -> &Arc<AccountBook> {
        &self.book
    }

    /// Identity of this broker: that of its journal, as text.
    pub fn identity(&self) -> String {
        format!("{:016x}", self.epoch.0)
    }

    /// The listeners, in the order of the options.
    pub fn listeners(&self) -> &[ListeningAt] {
        &self.listeners
    }

    /// Addresses and ports where the listeners of a kind really listen, in the order of the options;
    /// those that speak nothing but TLS are of [`Running::tls_addresses`].
    pub fn addresses(&self, kind: Kind) -> impl Iterator<Item = SocketAddr> + '_ {
        self.addresses_of(kind, false)
    }

    /// The same for listeners that speak nothing but TLS.
    pub fn tls_addresses(&self, kind: Kind) -> impl Iterator<Item = SocketAddr> + '_ {
        self.addresses_of(kind, true)
    }

    fn addresses_of(&self, kind: Kind, tls: bool) -> impl Iterator<Item = SocketAddr> + '_ {
        let listeners = self.listeners.iter();
        let found = listeners.filter(move |at| (at.kind, at.tls) == (kind, tls));
        found.filter_map(|at| match at.address {
            Address::Network(address) => Some(address),
            Address::Unix(_) => None,
        })
    }

    /// Lets other certificates, keys and lists count for connections that come from now on, or the
    /// same read anew; open connections stay.
    ///
    /// # Errors
    /// The first thing that is wrong, or that the broker was started without TLS; nothing has changed
    /// then.
    pub fn replace_tls(&self, options: tls::Options) -> Result<(), TlsError> {
        match &self.tls {
            Some(tls) => tls.replace(options),
            None => Err(TlsError::NoCertificates),
        }
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

    /// A connection that speaks MQTT like a socket, for someone who was let in already; its client
    /// identifier must begin with [`handshake::HTTP_PREFIX`]. It ends like a socket's: when the
    /// account may not be here any more, or at `valid_until`.
    ///
    /// [`handshake::HTTP_PREFIX`]: crate::handshake::HTTP_PREFIX
    pub fn connect_as(&self, admitted: Admitted) -> DuplexStream {
        let admitted = Arc::new(admitted);
        let _inside = self.runtime.enter();
        self.reception.connect_in_memory(Origin::Gateway {
            admitted,
            via: Via::Gateway,
        })
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
