//! A link at work: two flows, out and in, each with its own connection to both sides, each begun
//! anew when either side ends.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::DuplexStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::backoff::Backoff;
use super::echo::Echoes;
use super::hops::Here;
use super::mapping::Routes;
use super::options::{Address, LinkOptions, OptionsError};
use super::peer::{Happened, Peer, Role, Terms};
use super::status::{LinkState, LinkStatus};

/// A connection that held this long was of use: the next failure is a new one.
const OF_USE: Duration = Duration::from_secs(10);

/// How long a flow may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// Opens an in-memory connection to our own broker; the text names it in logs.
pub type OpenLocal = Arc<dyn Fn(&str) -> DuplexStream + Send + Sync>;

/// A running link. Dropping it ends it.
pub struct Link {
    status: watch::Receiver<LinkStatus>,
    keeps: watch::Receiver<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// What both flows of a link share.
pub(super) struct Shared {
    pub(super) options: LinkOptions,
    address: Address,
    pub(super) routes: Routes,
    pub(super) here: Here,
    pub(super) open_local: OpenLocal,
    /// What a 3.1.1 peer will send back to us.
    echoes: Mutex<Echoes>,
    pub(super) status: watch::Sender<LinkStatus>,
    /// Our journal keeps what is to go out.
    pub(super) keeps: watch::Sender<bool>,
    /// The peer has granted all filters, since this process began.
    pub(super) is_subscribed: AtomicBool,
    up: Mutex<HashMap<&'static str, bool>>,
}

/// Which flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Out,
    In,
}

impl Flow {
    const fn name(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::In => "in",
        }
    }
}

impl Link {
    /// Starts the link; it goes on until `shutdown` becomes true.
    ///
    /// # Errors
    /// If the options are wrong.
    pub fn start(
        options: LinkOptions,
        open_local: OpenLocal,
        shutdown: &watch::Receiver<bool>,
    ) -> Result<Self, OptionsError> {
        let (address, routes) = options.checked()?;
        let (keeping, keeps) = watch::channel(routes.out.is_empty());
        let (status, watching) = watch::channel(LinkStatus::new(&options.name));
        let flows: Vec<Flow> = [
            (!routes.out.is_empty()).then_some(Flow::Out),
            (!routes.inward.is_empty()).then_some(Flow::In),
        ]
        .into_iter()
        .flatten()
        .collect();
        let here = Here::new(&options.origin, &options.address);
        let shared = Arc::new(Shared {
            options,
            address,
            routes,
            here,
            open_local,
            echoes: Mutex::default(),
            status,
            keeps: keeping,
            is_subscribed: AtomicBool::new(false),
            up: Mutex::new(flows.iter().map(|flow| (flow.name(), false)).collect()),
        });
        let tasks = flows
            .into_iter()
            .map(|flow| tokio::spawn(shared.clone().run(flow, shutdown.clone())))
            .collect();
        Ok(Self {
            status: watching,
            keeps,
            tasks,
        })
    }

    /// How it is doing, now and whenever that changes.
    pub fn status(&self) -> watch::Receiver<LinkStatus> {
        self.status.clone()
    }

    /// Waits until our journal keeps what is to go out: from then on nothing is missed, whether the
    /// peer is there or not. At every start but the first that is so from the beginning.
    pub async fn keeps(&mut self) {
        // A link that ended keeps nothing more.
        let _ = self.keeps.wait_for(|keeps| *keeps).await;
    }

    /// Waits until both flows have ended, after shutdown.
    pub async fn join(mut self) {
        for task in std::mem::take(&mut self.tasks) {
            // A flow that panicked has said so.
            let _ = task.await;
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Shared {
    async fn run(self: Arc<Self>, flow: Flow, mut shutdown: watch::Receiver<bool>) {
        let mut backoff = Backoff::new(self.options.reconnect_min, self.options.reconnect_max);
        if flow == Flow::Out {
            self.begin_to_keep(&mut shutdown).await;
        }
        loop {
            let began = Instant::now();
            let carrying = async {
                match flow {
                    Flow::Out => self.carry_out(shutdown.clone()).await,
                    Flow::In => self.carry_in(shutdown.clone()).await,
                }
            };
            let mut stopping = shutdown.clone();
            let hangs = async {
                stopped(&mut stopping).await;
                sleep(GOODBYE).await;
            };
            let ended = tokio::select! {
                ended = carrying => ended,
                () = hangs => Ok(()),
            };
            self.set_up(flow, false);
            let Err(error) = ended else { return };
            if *shutdown.borrow() {
                return;
            }
            let (link, flow) = (&self.options.name, flow.name());
            let mut news = began.elapsed() > OF_USE;
            self.status.send_modify(|status| {
                news |= status.last_error.as_ref() != Some(&error);
                status.last_error = Some(error.clone());
            });
            if began.elapsed() > OF_USE {
                backoff.reset();
            }
            let delay = backoff.next_delay(random());
            let retry_ms = delay.as_millis();
            if news {
                warn!(%link, flow, %error, retry_ms, "link is down, and tries again by itself");
            } else {
                debug!(%link, flow, %error, retry_ms, "link is still down");
            }
            tokio::select! {
                () = sleep(delay) => {}
                () = stopped(&mut shutdown) => return,
            }
        }
    }

    pub(super) fn client_id(&self) -> String {
        format!("$link/{}", self.options.name)
    }

    pub(super) async fn connect(&self, role: Role) -> Result<(Peer, Terms), String> {
        self.status.send_modify(|status| {
            if status.state == LinkState::Down {
                status.enter(LinkState::Connecting);
            }
        });
        let mut peer = Peer::connect(&self.options, &self.address, role)?;
        loop {
            match peer.next().await {
                Happened::Connected(terms) => return Ok((peer, terms)),
                Happened::Lost { error } => return Err(error),
                _ => {}
            }
        }
    }

    pub(super) fn echoes(&self) -> std::sync::MutexGuard<'_, Echoes> {
        self.echoes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_up(&self, flow: Flow, is_up: bool) {
        let all_up = {
            let mut up = self.up.lock().unwrap_or_else(PoisonError::into_inner);
            up.insert(flow.name(), is_up);
            up.values().all(|up| *up)
        };
        self.status.send_modify(|status| {
            if flow == Flow::Out && !is_up {
                status.outstanding = 0;
            }
            let was = status.state;
            status.enter(if all_up {
                LinkState::Up
            } else {
                LinkState::Down
            });
            if all_up && was != LinkState::Up {
                status.connects += 1;
                info!(link = %self.options.name, "link is up");
            }
        });
    }
}

pub(super) async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// Jitter needs no more than the standard library's keyed hasher.
fn random() -> u32 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(0_u8) as u32
}
