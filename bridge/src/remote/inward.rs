//! The flow in: from the peer to our journal. The peer is acknowledged after our broker has
//! acknowledged, so that what we have not got comes again, from its session, on the next connection.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use tidings_core::codec::Version;
use tidings_core::message::QoS;
use tokio::sync::watch;
use tokio::time::Instant;

use super::acks::Acks;
use super::link::{Flow, Shared, stopped};
use super::local::{Carried, Local, Login, Outcome, Said};
use super::options::Protocol;
use super::peer::{AckToken, Happened, Peer, Role};

/// What is on its way into our broker.
struct Entering {
    acks: Acks<AckToken>,
    /// By our Packet Identifier, until our broker needs it no more: the ticket of its
    /// acknowledgement.
    open: HashMap<u16, u64>,
    last_packet_id: u16,
}

impl Shared {
    /// Carries until something ends; `Ok` if that was asked for.
    pub(super) async fn carry_in(&self, mut shutdown: watch::Receiver<bool>) -> Result<(), String> {
        let (mut peer, terms) = self.connect(Role::Inward).await?;
        let mut local = self.open_inward().await.map_err(|e| e.to_string())?;
        // Subscribing again would bring all retained messages of a 3.1.1 peer again, old ones over
        // newer ones here. The first time the session may be from another configuration.
        if !(terms.session_present && self.is_subscribed.load(Ordering::Relaxed)) {
            peer.subscribe(&self.routes.inward)?;
        }
        let window = usize::from(self.options.window);
        let our_window = window.min(local.receive_maximum());
        let mut entering = Entering {
            acks: Acks::new(),
            open: HashMap::new(),
            last_packet_id: 0,
        };
        self.set_up(Flow::In, true);
        loop {
            let room = entering.open.len() < our_window && entering.acks.len() < window;
            let ping_due = local.ping_due();
            tokio::select! {
                said = local.next() => {
                    let said = said.map_err(|e| e.to_string())?;
                    self.handle_answer(said, &mut local, &peer, &mut entering).await?;
                }
                happened = peer.next(), if room => match happened {
                    Happened::Message { message, ack } => {
                        self.enter(message, ack, &mut local, &peer, &mut entering).await?;
                    }
                    Happened::TooLarge { qos, ack } => {
                        self.count_in(Outcome::Refused);
                        let ticket = (qos != QoS::AtMostOnce).then(|| entering.acks.open(ack));
                        entering.settle(ticket, &peer)?;
                    }
                    Happened::Subscribed { refused: 0 } => {
                        self.is_subscribed.store(true, Ordering::Relaxed);
                    }
                    Happened::Subscribed { refused } => {
                        return Err(format!("the peer refused {refused} filters"));
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

    /// Our side: a session of this connection only, for it receives nothing.
    async fn open_inward(&self) -> std::io::Result<Local> {
        let client_id = format!("{}/in", self.client_id());
        let login = Login {
            client_id: &client_id,
            kept: false,
            receive_maximum: 1,
        };
        Local::open((self.open_local)(&client_id), login).await
    }

    /// A message of the peer.
    async fn enter(
        &self,
        message: Carried,
        ack: AckToken,
        local: &mut Local,
        peer: &Peer,
        entering: &mut Entering,
    ) -> Result<(), String> {
        let needs_ack = message.qos != QoS::AtMostOnce;
        let ticket = needs_ack.then(|| entering.acks.open(ack));
        let Some(message) = self.inward(message, local.maximum_packet_bytes()) else {
            return entering.settle(ticket, peer);
        };
        let packet_id = match ticket {
            Some(ticket) => entering.new_packet_id(ticket),
            None => 0,
        };
        let published = local.publish(packet_id, &message).await;
        if !needs_ack {
            self.count_in(Outcome::Accepted);
        }
        published.map_err(|e| e.to_string())
    }

    /// What our broker says to a message.
    async fn handle_answer(
        &self,
        said: Said,
        local: &mut Local,
        peer: &Peer,
        entering: &mut Entering,
    ) -> Result<(), String> {
        match said {
            Said::Acked {
                packet_id,
                outcome: Outcome::NotNow,
            } => Err(format!(
                "our own broker cannot take message {packet_id} now"
            )),
            Said::Acked { packet_id, outcome } => {
                let ticket = entering.open.remove(&packet_id);
                self.count_in(outcome);
                entering.settle(ticket, peer)
            }
            Said::Received { packet_id } => {
                let ticket = entering.open.get(&packet_id).copied();
                self.count_in(Outcome::Accepted);
                entering.settle(ticket, peer)?;
                local.pubrel(packet_id).await.map_err(|e| e.to_string())
            }
            Said::Completed { packet_id } => {
                entering.open.remove(&packet_id);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The message as our broker gets it; `None` if it goes no further.
    fn inward(&self, message: Carried, maximum_packet_bytes: usize) -> Option<Carried> {
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
        let message = Carried {
            topic,
            properties,
            ..message
        };
        let most = maximum_packet_bytes.min(self.options.max_packet_bytes as usize);
        // In MQTT 3.1.1 there is only the topic, and that is well.
        let malformed = self.options.protocol == Protocol::V5 && !message.is_well_formed();
        if malformed || message.packet_len(Version::V5) > most {
            self.status.send_modify(|status| status.refused += 1);
            return None;
        }
        Some(message)
    }

    fn count_in(&self, outcome: Outcome) {
        self.status.send_modify(|status| match outcome {
            Outcome::Accepted => status.messages_in += 1,
            _ => status.refused += 1,
        });
    }
}

impl Entering {
    fn new_packet_id(&mut self, ticket: u64) -> u16 {
        loop {
            self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
            if !self.open.contains_key(&self.last_packet_id) {
                self.open.insert(self.last_packet_id, ticket);
                return self.last_packet_id;
            }
        }
    }

    fn settle(&mut self, ticket: Option<u64>, peer: &Peer) -> Result<(), String> {
        let Some(ticket) = ticket else { return Ok(()) };
        self.acks.settle(ticket);
        while let Some(token) = self.acks.pop() {
            peer.ack(&token)?;
        }
        Ok(())
    }
}
