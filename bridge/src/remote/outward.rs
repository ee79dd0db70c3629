//! The flow out: from our journal to the peer. Our session is acknowledged after the peer has
//! acknowledged, so that what it has not got comes again, from the journal, on the next connection.

use std::io;
use std::time::Duration;

use tidings_core::codec::Version;
use tidings_core::message::QoS;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::link::{Flow, Shared, stopped};
use super::local::{Carried, Local, Login, Outcome, Said};
use super::options::Protocol;
use super::outstanding::Outstanding;
use super::peer::{Happened, Peer, Role, Terms};

/// Longest delay between attempts to subscribe in our own broker: it is there, or it is stopping.
const SUBSCRIBE_AGAIN: Duration = Duration::from_secs(10);

/// What our broker waits for: its Packet Identifier and its QoS.
type Ours = (u16, QoS);

impl Shared {
    /// From now on our journal keeps what is to go out, also if the peer was never reached yet.
    pub(super) async fn begin_to_keep(&self, shutdown: &mut watch::Receiver<bool>) {
        loop {
            match self.subscribe_once().await {
                Ok(()) => {
                    self.keeps.send_replace(true);
                    return;
                }
                Err(error) => {
                    warn!(link = %self.options.name, %error, "the link cannot subscribe here");
                }
            }
            tokio::select! {
                () = sleep(self.options.reconnect_max.min(SUBSCRIBE_AGAIN)) => {}
                () = stopped(shutdown) => return,
            }
        }
    }

    async fn subscribe_once(&self) -> io::Result<()> {
        let mut local = self.open_outward().await?;
        loop {
            match local.next().await? {
                Said::Subscribed { refused: 0 } => {
                    local.close().await;
                    return Ok(());
                }
                Said::Subscribed { refused } => {
                    return Err(io::Error::other(format!("{refused} filters were refused")));
                }
                _ => {}
            }
        }
    }

    /// Our side: a session that is never forgotten.
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

    /// Carries until something ends; `Ok` if that was asked for.
    pub(super) async fn carry_out(
        &self,
        mut shutdown: watch::Receiver<bool>,
    ) -> Result<(), String> {
        let (mut peer, terms) = self.connect(Role::Outward).await?;
        let mut local = self.open_outward().await.map_err(|e| e.to_string())?;
        let window = usize::from(self.options.window.min(terms.receive_maximum));
        let mut outstanding: Outstanding<Ours> = Outstanding::new(terms.packet_ids());
        self.set_up(Flow::Out, true);
        loop {
            let ping_due = local.ping_due();
            tokio::select! {
                said = local.next(), if outstanding.has_room(window) => {
                    let said = said.map_err(|e| e.to_string())?;
                    self.handle_local(said, &mut local, &peer, &terms, &mut outstanding).await?;
                }
                happened = peer.next() => match happened {
                    Happened::Sent { packet_id } => {
                        // At QoS 0 that is all that the peer will say, whatever ours was.
                        if let Some(ours) = outstanding.sent(packet_id)? {
                            self.count_out(Outcome::Accepted, outstanding.len());
                            finish(&mut local, ours).await.map_err(|e| e.to_string())?;
                        }
                    }
                    Happened::Acked { packet_id, outcome: Outcome::NotNow } => {
                        return Err(format!("the peer cannot take message {packet_id} now"));
                    }
                    Happened::Acked { packet_id, outcome } => {
                        if let Some(ours) = outstanding.acked(packet_id) {
                            self.count_out(outcome, outstanding.len());
                            finish(&mut local, ours).await.map_err(|e| e.to_string())?;
                        }
                    }
                    Happened::Lost { error } => return Err(error),
                    _ => {}
                },
                () = ping_due => local.ping().await.map_err(|e| e.to_string())?,
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
        terms: &Terms,
        outstanding: &mut Outstanding<Ours>,
    ) -> Result<(), String> {
        match said {
            Said::Publish { packet_id, message } => {
                let ours = (packet_id, message.qos);
                match self.outward(message, terms) {
                    Some(message) => {
                        peer.publish(&message)?;
                        outstanding.handed_over(message.qos, ours);
                        let open = outstanding.len();
                        self.status.send_modify(|status| status.outstanding = open);
                        Ok(())
                    }
                    None => finish(local, ours).await.map_err(|e| e.to_string()),
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
    fn outward(&self, message: Carried, terms: &Terms) -> Option<Carried> {
        let Some(topic) = self.routes.outward(&message.topic) else {
            self.status.send_modify(|status| status.unmapped += 1);
            return None;
        };
        let Ok(properties) = self.here.outward(message.properties) else {
            self.status.send_modify(|status| status.loops += 1);
            return None;
        };
        let message = Carried {
            topic,
            properties,
            qos: message.qos.min(terms.maximum_qos),
            retain: message.retain && terms.retain,
            ..message
        };
        let version = match self.options.protocol {
            Protocol::V4 => Version::V311,
            Protocol::V5 => Version::V5,
        };
        // Sent, it would end the connection, and come again on the next one.
        let most = self
            .options
            .max_packet_bytes
            .min(terms.maximum_packet_bytes);
        if message.packet_len(version) > most as usize {
            self.status.send_modify(|status| status.refused += 1);
            return None;
        }
        if self.options.protocol == Protocol::V4 && self.routes.comes_back(&message.topic) {
            self.echoes()
                .expect(&message.topic, &message.payload, Instant::now());
        }
        Some(message)
    }

    fn count_out(&self, outcome: Outcome, outstanding: usize) {
        self.status.send_modify(|status| {
            status.outstanding = outstanding;
            match outcome {
                Outcome::Accepted => status.messages_out += 1,
                _ => status.refused += 1,
            }
        });
    }
}

/// Our broker's message has arrived at the peer, or goes no further.
async fn finish(local: &mut Local, (packet_id, qos): Ours) -> io::Result<()> {
    match qos {
        QoS::AtMostOnce => Ok(()),
        QoS::AtLeastOnce => local.puback(packet_id).await,
        QoS::ExactlyOnce => local.pubrec(packet_id).await,
    }
}
