//! Shard threads: each runs one [`Shard`] of the core in a runtime of its own, with the read loops
//! of its connections and one task that flushes.
//!
//! Invariants: the shard is touched by its thread only; what comes from elsewhere comes through
//! its mailbox, which it always empties; a panic of a shard ends the process, because what it was
//! doing is not known, and a restart recovers.
//! This module does not know listeners, nor how the journal is written.

mod alarm;
mod connection;
mod flush;
mod mailbox;
mod pings;
mod reading;
mod scheduling;
mod search;
mod tap;
mod turns;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tidings_bridge::priority;
use tidings_core::journal::{Append, Journal};
use tidings_core::message::Offset;
use tidings_core::messages::Names;
use tidings_core::rules::Membership;
use tidings_core::shard::{Input, Options, Shard, Stats};
use tidings_core::state::State;
use tokio::task::{LocalSet, yield_now};
use tokio::time::{MissedTickBehavior, interval};

use crate::auth::Authenticate;
use crate::clock::Clock;
use crate::limits::Limits;
use crate::metrics::{Latencies, Via};
use crate::people::People;
use crate::rulebook::Rulebook;
use crate::trace::Tracing;
use flush::Local;
pub(crate) use pings::Pings;

pub(crate) use mailbox::{Arrival, Command, Mailboxes, mailboxes};
pub(crate) use scheduling::cores_for;
pub(crate) use search::{Online, Search};
pub(crate) use turns::TURN;

/// Time between two ticks of a shard, as the core wants it.
const TICK: Duration = Duration::from_millis(250);

/// What is taken out of a mailbox in one turn, by weight: some tens of microseconds, and then sockets are
/// looked at and what there is to write is written.
const INBOX_TURN: usize = 64;

/// Where appends go: the mailbox of the journal's writer.
pub(crate) type AppendSink = Arc<dyn Fn(Vec<Append>) + Send + Sync>;

/// What all shards share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub journal: Arc<dyn Journal>,
    pub state: Arc<dyn State>,
    pub rules: Arc<Rulebook>,
    pub members: Arc<dyn Membership + Send + Sync>,
    pub names: Arc<dyn Names>,
    pub append: AppendSink,
    /// Told who comes and goes.
    pub people: Arc<People>,
    pub mailboxes: Mailboxes,
    /// Told what passes, while somebody wants to know.
    pub tracing: Arc<Tracing>,
    pub clock: Clock,
    /// Whether peers are asked for a sign of life below MQTT.
    pub pings: Option<Pings>,
    pub limits: Arc<Limits>,
    /// Who judges newer proof of who a client is; there before there are clients.
    pub auth: Arc<OnceLock<Arc<dyn Authenticate>>>,
}

/// What a shard tells about itself, at each tick.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub stats: Stats,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    /// The slowest connected reader of the journal.
    pub lowest_reader: Option<Offset>,
    /// Offset up to which committed entries were handled.
    pub position: Offset,
    /// How long messages took.
    pub latencies: Box<Latencies>,
    /// Connections now, in the order of [`Via::ALL`](crate::metrics::Via::ALL).
    pub connections: [u64; Via::ALL.len()],
    /// When it told this; none before it begins.
    pub at: Option<Instant>,
}

/// A shard thread that runs.
pub(crate) struct ShardThread {
    report: Arc<Mutex<Report>>,
    begin: mpsc::Sender<()>,
    thread: thread::JoinHandle<()>,
}

/// How a shard thread ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// After [`Input::Shutdown`], with everything in the journal.
    Quiet,
    /// It panicked, or could not begin.
    Failed(String),
}

impl ShardThread {
    /// Starts the thread, and returns when its shard stands at the end of the journal. It does
    /// nothing before [`ShardThread::begin`], so that nothing is committed until all shards stand
    /// there. It stays on `core`, if there is one. `ended` is called once, from the thread.
    ///
    /// # Errors
    /// If there is no thread, or no runtime, to be had.
    pub fn start(
        options: Options,
        shared: Shared,
        inbox: mailbox::Inbox,
        core: Option<usize>,
        ended: impl FnOnce(Ended) + Send + 'static,
    ) -> std::io::Result<Self> {
        let report = Arc::new(Mutex::new(Report::default()));
        let (ready, is_ready) = mpsc::channel();
        let (begin, may_begin) = mpsc::channel();
        let start = Start { ready, may_begin };
        let name = format!("shard-{}", options.id);
        let shared_report = report.clone();
        let thread = thread::Builder::new().name(name).spawn(move || {
            core.into_iter().for_each(scheduling::stay_on);
            priority::ask_for_short_slices();
            let run = || run(options, shared, inbox, shared_report, start);
            ended(match catch_unwind(AssertUnwindSafe(run)) {
                Ok(Ok(())) => Ended::Quiet,
                Ok(Err(error)) => Ended::Failed(format!("no runtime: {error}")),
                Err(panic) => Ended::Failed(panic_text(panic.as_ref())),
            });
        })?;
        is_ready
            .recv()
            .map_err(|_| std::io::Error::other("the shard did not start"))?;
        Ok(Self {
            report,
            begin,
            thread,
        })
    }

    /// All shards are there.
    pub fn begin(&self) {
        // A thread that has ended has said so.
        let _ = self.begin.send(());
    }

    /// What it told last.
    pub fn report(&self) -> Report {
        self.report
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits for a thread that has said that it ended.
    pub fn join(self) {
        // A panic was reported by the thread itself.
        let _ = self.thread.join();
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("without a message"))
}

/// The two steps of a start.
struct Start {
    ready: mpsc::Sender<()>,
    may_begin: mpsc::Receiver<()>,
}

fn run(
    options: Options,
    shared: Shared,
    inbox: mailbox::Inbox,
    report: Arc<Mutex<Report>>,
    start: Start,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let shard = Shard::new(
        options.clone(),
        shared.clock.now(),
        shared.journal.clone(),
        shared.state.clone(),
        shared.rules.current(),
        shared.members.clone(),
    )
    .with_names(shared.names.clone())
    .with_meters(shared.limits.meters.clone());
    let pings = shared.pings;
    let local = Rc::new(Local::new(options.id, shard, shared, report));
    local.publish_report();
    if start.ready.send(()).is_err() || start.may_begin.recv().is_err() {
        // Another part of the broker could not be started.
        return Ok(());
    }
    LocalSet::new().block_on(&runtime, async {
        local.spawn(local.clone().flush_loop());
        local.spawn(tick_loop(local.clone()));
        local.spawn(alarm::alarm_loop(local.clone()));
        if let Some(pings) = pings {
            local.spawn(pings::ping_loop(local.clone(), pings));
        }
        inbox_loop(local, inbox).await;
    });
    Ok(())
}

async fn tick_loop(local: Rc<Local>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        local.input(Input::Tick);
        local.publish_report();
    }
}

/// Runs until the shard was told to stop and is quiet, or until everyone who could tell it
/// something is gone.
async fn inbox_loop(local: Rc<Local>, mut inbox: mailbox::Inbox) {
    let mut commands = Vec::new();
    let mut stopping = false;
    while !(stopping && local.is_quiet()) {
        tokio::select! {
            received = inbox.receive(&mut commands) => if received == 0 { return },
            () = local.needs_attention() => {}
        }
        if let Some(panic) = local.take_panic() {
            resume_unwind(panic);
        }
        let mut weight = 0;
        for command in commands.drain(..) {
            weight += command.weight();
            match command {
                Command::Adopt(arrival) => local.adopt(*arrival),
                Command::Input(input) => {
                    stopping |= matches!(input, Input::Shutdown);
                    local.input(input);
                }
                Command::Visit(visit) => local.visit(visit),
                Command::Search(search) => local.search(*search),
                Command::EndLogin(login) => local.end_login(&login),
                Command::EndAddress(address) => local.end_address(address),
                Command::EndRevoked => local.end_revoked(),
                Command::Abandon => return,
            }
            if weight >= INBOX_TURN {
                weight = 0;
                yield_now().await;
            }
        }
    }
    local.publish_report();
}
