//! A broker that runs inside of any program: its threads, from the first to the last.
//!
//! Order of a start: store, shards, journal, listeners; of a stop: listeners, shards, journal,
//! store. One thread, the supervisor, owns all others, does the stop, and says how it ended.
//! This module does not know settings, files or the command line.

use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;

use tidings_core::rooms::AccessChange;
use tidings_core::shard::Input;
use tokio::sync::watch;
use tracing::info;

use crate::admission::Admission;
use crate::audit::AuditLog;
use crate::auth::{
    AccountBook, Accounts, Authenticate, ByDoor, Commits, Hook, KeyError, Logins, OpenMode,
    PasswordError, Passwords, Tokens, WithLogins,
};
use crate::clock::Clock;
use crate::counters::Counters;
use crate::handshake::Reception;
use crate::heartbeat::{Heartbeat, Pulse};
use crate::history::History;
use crate::http;
use crate::limits::Limits;
use crate::listener::{self, Address, Bound, ListeningAt};
use crate::listening::Listening;
use crate::metrics::{Hour, Sources, Surveyor};
use crate::names::SharedNames;
use crate::options::{Auth, BrokerOptions, OtherProofs};
use crate::otel;
use crate::people::{Counts, People, Rights};
use crate::readiness::{Readiness, State};
use crate::rooms::Rooms;
use crate::rulebook::Rulebook;
use crate::running::Running;
use crate::service::{self, Replies};
use crate::services::Services;
use crate::shard::{Pings, Report, ShardThread, Shared, cores_for, mailboxes};
use crate::store::{self, Store};
use crate::supervisor::{Happened, Supervisor};
use crate::system::SystemValues;
use crate::tls::{Front, TlsError};
use crate::trace::Tracing;

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
        let cores = match options.pin_shards {
            true => cores_for(shards),
            false => Vec::new(),
        };
        for (id, inbox) in (0..shards).zip(inboxes) {
            let core = cores.get(usize::from(id)).copied();
            let events = events.clone();
            let ended = move |ended| {
                let _ = events.send(Happened::ShardEnded(id, ended));
            };
            let options = options.shard_options(id, shards);
            threads.push(Arc::new(ShardThread::start(
                options,
                shared.clone(),
                inbox,
                core,
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
            pressure: (limits, data_dir, mailboxes.clone(), readiness.clone()),
            api,
            tls: tls.clone(),
            heartbeat: heartbeat
                .as_ref()
                .map(|heartbeat| (heartbeat.options.every / 2, heartbeat.listening.clone())),
            stop: stopped,
        };
        let (runtime, listening) = listening.start()?;
        let services = Services {
            reception: reception.clone(),
            runtime: runtime.clone(),
            replies: Replies::new(rules.clone(), shared.members.clone()),
            clock,
            max_bytes: options.session.maximum_packet_bytes as usize,
        };
        if let Some((rooms, room_options)) = room_service {
            services.rooms(rooms, room_options);
        }
        services.history(history);
        services.people(people);
        services.counts(counts, options.people.requests_per_minute);
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
