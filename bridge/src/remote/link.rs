//! A link at work: two flows, out and in, each with its own connection to both sides, each begun
//! anew when either side ends.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidings_core::message::QoS;
use tokio::io::DuplexStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::backoff::Backoff;
use super::echo::Echoes;
use super::hops::Here;
use super::local::{Carried, Local, Login, Said};
use super::mapping::Routes;
use super::options::{Address, LinkOptions, OptionsError, Protocol};
use super::peer::{AckToken, Happened, Outstanding, Peer, Role};
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
struct Shared {
    options: LinkOptions,
    address: Address,
    routes: Routes,
    here: Here,
    open_local: OpenLocal,
    /// What a 3.1.1 peer will send back to us.
    echoes: Mutex<Echoes>,
    status: watch::Sender<LinkStatus>,
    /// Our journal keeps what is to go out.
    keeps: watch::Sender<bool>,
    up: Mutex<HashMap<&'static str, bool>>,
}

/// Which flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
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

    fn client_id(&self) -> String {
        format!("$link/{}", self.options.name)
    }

    /// From now on our journal keeps what is to go out, also if the peer was never reached yet.
    async fn begin_to_keep(&self, shutdown: &mut watch::Receiver<bool>) {
        loop {
            match self.open_outward().await {
                Ok(mut local) => match subscribed(&mut local).await {
                    Ok(()) => {
                        self.keeps.send_replace(true);
                        return local.close().await;
                    }
                    Err(error) => {
                        warn!(link = %self.options.name, %error, "the link cannot subscribe here");
                    }
                },
                Err(error) => {
                    warn!(link = %self.options.name, %error, "the link cannot subscribe here");
                }
            }
            tokio::select! {
                () = sleep(self.options.reconnect_max.min(OF_USE)) => {}
                () = stopped(shutdown) => return,
            }
        }
    }

    /// Our side of the flow out: a session that is never forgotten.
    async fn open_outward(&self) -> io::Result<Local> {
        let client_id = self.client_id();
        let stream = (self.open_local)(&client_id);
        let login = Login {
            client_id: &client_id,
            kept: true,
            receive_maximum: self.options.window,
        };
        let mut local = Local::open(stream, login).await?;
        local.subscribe(&self.routes.out).await?;
        Ok(local)
    }

    async fn connect(&self, role: Role) -> Result<Peer, String> {
        self.status.send_modify(|status| {
            if status.state == LinkState::Down {
                status.enter(LinkState::Connecting);
            }
        });
        let mut peer = Peer::connect(&self.options, &self.address, role);
        loop {
            match peer.next().await {
                Happened::Connected => return Ok(peer),
                Happened::Lost { error } => return Err(error),
                _ => {}
            }
        }
    }

    /// From our journal to the peer.
    async fn carry_out(&self, mut shutdown: watch::Receiver<bool>) -> Result<(), String> {
        let mut peer = self.connect(Role::Outward).await?;
        let mut local = self.open_outward().await.map_err(|e| e.to_string())?;
        let mut outstanding: Outstanding<(u16, QoS)> = Outstanding::new();
        self.set_up(Flow::Out, true);
        loop {
            let room = outstanding.len() < usize::from(self.options.window);
            tokio::select! {
                said = local.next(), if room => {
                    let said = said.map_err(|e| e.to_string())?;
                    self.handle_local(said, &mut local, &peer, &mut outstanding).await?;
                }
                happened = peer.next() => match happened {
                    Happened::Sent { packet_id } => {
                        let done = u64::from(outstanding.sent(packet_id).is_some());
                        self.status.send_modify(|status| status.messages_out += done);
                    }
                    Happened::Acked { packet_id, accepted } => {
                        if let Some((ours, qos)) = outstanding.acked(packet_id) {
                            self.count_out(accepted, outstanding.len());
                            finish_local(&mut local, ours, qos).await.map_err(|e| e.to_string())?;
                        }
                    }
                    Happened::Lost { error } => return Err(error),
                    _ => {}
                },
                () = stopped(&mut shutdown) => {
                    local.close().await;
                    peer.close().await;
                    return Ok(());
                }
            }
        }
    }

    async fn handle_local(
        &self,
        said: Said,
        local: &mut Local,
        peer: &Peer,
        outstanding: &mut Outstanding<(u16, QoS)>,
    ) -> Result<(), String> {
        match said {
            Said::Publish { packet_id, message } => {
                let qos = message.qos;
                match self.outward(message) {
                    Some(message) => {
                        peer.publish(&message)?;
                        outstanding.handed_over(qos, (packet_id, qos));
                        let open = outstanding.len();
                        self.status.send_modify(|status| status.outstanding = open);
                        Ok(())
                    }
                    None => finish_local(local, packet_id, qos)
                        .await
                        .map_err(|e| e.to_string()),
                }
            }
            Said::Release { packet_id } => {
                local.pubcomp(packet_id).await.map_err(|e| e.to_string())
            }
            Said::Subscribed { refused } if refused > 0 => {
                Err(format!("our own broker refused {refused} filters"))
            }
            _ => Ok(()),
        }
    }

    /// The message as the peer gets it; `None` if it goes no further.
    fn outward(&self, message: Carried) -> Option<Carried> {
        let Some(topic) = self.routes.outward(&message.topic) else {
            self.status.send_modify(|status| status.unmapped += 1);
            return None;
        };
        let Ok(properties) = self.here.outward(message.properties) else {
            self.status.send_modify(|status| status.loops += 1);
            return None;
        };
        let bytes = topic.len() + message.payload.len() + PACKET_OVERHEAD_BYTES;
        if bytes > self.options.max_packet_bytes as usize {
            self.status.send_modify(|status| status.refused += 1);
            return None;
        }
        if self.options.protocol == Protocol::V4 && self.routes.comes_back(&topic) {
            self.echoes()
                .expect(&topic, &message.payload, Instant::now());
        }
        Some(Carried {
            topic,
            properties,
            ..message
        })
    }

    /// From the peer to our journal.
    async fn carry_in(&self, mut shutdown: watch::Receiver<bool>) -> Result<(), String> {
        let mut peer = self.connect(Role::Inward).await?;
        let client_id = format!("{}/in", self.client_id());
        let login = Login {
            client_id: &client_id,
            kept: false,
            receive_maximum: 1,
        };
        let stream = (self.open_local)(&client_id);
        let mut local = Local::open(stream, login)
            .await
            .map_err(|e| e.to_string())?;
        peer.subscribe(&self.routes.inward)?;
        let mut waiting: HashMap<u16, (QoS, AckToken)> = HashMap::new();
        let mut last_packet_id = 0;
        self.set_up(Flow::In, true);
        loop {
            let room = waiting.len() < usize::from(self.options.window);
            tokio::select! {
                said = local.next() => {
                    let (packet_id, accepted, release) = match said.map_err(|e| e.to_string())? {
                        Said::Acked { packet_id, accepted } => (packet_id, accepted, false),
                        Said::Received { packet_id } => (packet_id, true, true),
                        _ => continue,
                    };
                    if let Some((_, token)) = waiting.remove(&packet_id) {
                        peer.ack(&token)?;
                        self.count_in(accepted);
                    }
                    if release {
                        local.pubrel(packet_id).await.map_err(|e| e.to_string())?;
                    }
                }
                happened = peer.next(), if room => match happened {
                    Happened::Message { message, ack } => {
                        let qos = message.qos;
                        let Some(message) = self.inward(message) else {
                            if qos != QoS::AtMostOnce {
                                peer.ack(&ack)?;
                            }
                            continue;
                        };
                        if qos == QoS::AtMostOnce {
                            local.publish(0, &message).await.map_err(|e| e.to_string())?;
                            self.count_in(true);
                            continue;
                        }
                        last_packet_id = free_packet_id(last_packet_id, &waiting);
                        local.publish(last_packet_id, &message).await.map_err(|e| e.to_string())?;
                        waiting.insert(last_packet_id, (qos, ack));
                    }
                    Happened::Subscribed { refused } if refused > 0 => {
                        return Err(format!("the peer refused {refused} filters"));
                    }
                    Happened::Lost { error } => return Err(error),
                    _ => {}
                },
                () = stopped(&mut shutdown) => {
                    local.close().await;
                    peer.close().await;
                    return Ok(());
                }
            }
        }
    }

    /// The message as our broker gets it; `None` if it goes no further.
    fn inward(&self, message: Carried) -> Option<Carried> {
        let Some(topic) = self.routes.inward(&message.topic) else {
            self.status.send_modify(|status| status.unmapped += 1);
            return None;
        };
        let echo = self.options.protocol == Protocol::V4
            && self
                .echoes()
                .take(&message.topic, &message.payload, Instant::now());
        let properties = if echo {
            None
        } else {
            self.here.inward(message.properties).ok()
        };
        let Some(properties) = properties else {
            self.status.send_modify(|status| status.loops += 1);
            return None;
        };
        Some(Carried {
            topic,
            properties,
            ..message
        })
    }

    fn echoes(&self) -> std::sync::MutexGuard<'_, Echoes> {
        self.echoes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count_out(&self, accepted: bool, outstanding: usize) {
        self.status.send_modify(|status| {
            status.outstanding = outstanding;
            if accepted {
                status.messages_out += 1;
            } else {
                status.refused += 1;
            }
        });
    }

    fn count_in(&self, accepted: bool) {
        self.status.send_modify(|status| {
            if accepted {
                status.messages_in += 1;
            } else {
                status.refused += 1;
            }
        });
    }

    fn set_up(&self, flow: Flow, is_up: bool) {
        let all_up = {
            let mut up = self.up.lock().unwrap_or_else(PoisonError::into_inner);
            up.insert(flow.name(), is_up);
            up.values().all(|up| *up)
        };
        self.status.send_modify(|status| {
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

/// Fixed header, identifier and lengths of a PUBLISH, and our own User Properties.
const PACKET_OVERHEAD_BYTES: usize = 128;

/// Waits for the answer to the subscription of a link.
async fn subscribed(local: &mut Local) -> io::Result<()> {
    loop {
        match local.next().await? {
            Said::Subscribed { refused: 0 } => return Ok(()),
            Said::Subscribed { refused } => {
                return Err(io::Error::other(format!("{refused} filters were refused")));
            }
            _ => {}
        }
    }
}

/// Our broker's message has arrived at the peer, or goes no further.
async fn finish_local(local: &mut Local, packet_id: u16, qos: QoS) -> io::Result<()> {
    match qos {
        QoS::AtMostOnce => Ok(()),
        QoS::AtLeastOnce => local.puback(packet_id).await,
        QoS::ExactlyOnce => local.pubrec(packet_id).await,
    }
}

fn free_packet_id<T>(last: u16, used: &HashMap<u16, T>) -> u16 {
    let mut next = last;
    loop {
        next = next.checked_add(1).unwrap_or(1);
        if !used.contains_key(&next) {
            return next;
        }
    }
}

async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// Jitter needs no more than the standard library's keyed hasher.
fn random() -> u32 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(0_u8) as u32
}
