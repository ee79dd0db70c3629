//! Our own broker, as a link sees it: an in-memory connection that speaks MQTT 5.
//!
//! Receiving is cancel-safe: what was read stays in the buffer. It does not know what the messages
//! are for.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tidings_core::codec::{
    Ack, Connect, ConnectProperties, Disconnect, Outgoing, Packet, ReasonCode, RetainHandling,
    Subscribe, SubscribeFilter, Version, decode, encode, encode_publish, publish_len,
};
use tidings_core::message::{MessageProperties, QoS};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::{Instant, sleep_until};

use super::mapping::Route;

/// Larger packets than any setting allows do not come from our own broker.
const MAX_PACKET_BYTES: usize = 268_435_460;

/// What the receiver of a message made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It has the message.
    Accepted,
    /// It will never take this message.
    Refused,
    /// It cannot take the message now: the same may be accepted later.
    NotNow,
}

impl Outcome {
    const fn of(reason: ReasonCode) -> Self {
        match reason {
            ReasonCode::UnspecifiedError
            | ReasonCode::ImplementationSpecificError
            | ReasonCode::PacketIdentifierInUse
            | ReasonCode::QuotaExceeded => Self::NotNow,
            reason if reason.is_failure() => Self::Refused,
            _ => Self::Accepted,
        }
    }
}

/// A message, from one side for the other.
#[derive(Clone, Debug)]
pub(super) struct Carried {
    pub topic: String,
    pub payload: Bytes,
    pub qos: QoS,
    pub retain: bool,
    pub properties: Option<Box<MessageProperties>>,
}

impl Carried {
    /// As a PUBLISH, with the Packet Identifier not 0 at QoS 1 and 2.
    fn outgoing(&self, packet_id: u16) -> Outgoing<'_> {
        Outgoing {
            topic: &self.topic,
            payload: &self.payload,
            qos: self.qos,
            dup: false,
            retain: self.retain,
            packet_id,
            properties: self.properties.as_deref(),
            message_expiry_s: self.properties.as_ref().and_then(|p| p.message_expiry_s),
            topic_alias: None,
            subscription_ids: &[],
            extra_user: &[],
        }
    }

    /// Length of the whole packet in bytes.
    pub fn packet_len(&self, version: Version) -> usize {
        publish_len(version, &self.outgoing(1))
    }

    /// False for what our broker would end the connection for, such as a Response Topic with
    /// wildcards. Not every other broker looks.
    pub fn is_well_formed(&self) -> bool {
        let mut bytes = Vec::new();
        let bare = Self {
            payload: Bytes::new(),
            ..self.clone()
        };
        encode_publish(Version::V5, &bare.outgoing(1), &mut bytes);
        matches!(
            decode(Some(Version::V5), &bytes, MAX_PACKET_BYTES),
            Ok(Some(_))
        )
    }
}

/// What our broker says.
#[derive(Debug)]
pub(super) enum Said {
    Publish {
        packet_id: u16,
        message: Carried,
    },
    /// PUBACK, or a PUBREC that ends the exchange: stored, or refused.
    Acked {
        packet_id: u16,
        outcome: Outcome,
    },
    /// PUBREC: stored; PUBREL is to follow.
    Received {
        packet_id: u16,
    },
    /// PUBCOMP.
    Completed {
        packet_id: u16,
    },
    Release {
        packet_id: u16,
    },
    Subscribed {
        refused: usize,
    },
    Other,
}

/// How the session begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Login<'a> {
    pub client_id: &'a str,
    /// The session is kept for ever, not only for this connection.
    pub kept: bool,
    pub receive_maximum: u16,
}

pub(super) struct Local {
    stream: DuplexStream,
    buffer: BytesMut,
    used: usize,
    /// Most messages of ours at QoS 1 and 2 that it takes at once.
    receive_maximum: u16,
    /// Largest packet that it takes, bytes.
    maximum_packet_bytes: u32,
    /// How often it wants to hear from us.
    ping_every: Option<Duration>,
    ping_at: Option<Instant>,
}

impl Local {
    pub async fn open(stream: DuplexStream, login: Login<'_>) -> io::Result<Self> {
        let mut local = Self {
            stream,
            buffer: BytesMut::new(),
            used: 0,
            receive_maximum: u16::MAX,
            maximum_packet_bytes: u32::MAX,
            ping_every: None,
            ping_at: None,
        };
        let connect = Connect {
            version: Version::V5,
            client_id: login.client_id,
            clean_start: !login.kept,
            keep_alive_s: 0,
            username: None,
            password: None,
            will: None,
            properties: ConnectProperties {
                session_expiry_s: login.kept.then_some(u32::MAX),
                receive_maximum: Some(login.receive_maximum),
                ..ConnectProperties::default()
            },
        };
        local.send(&Packet::Connect(connect)).await?;
        loop {
            let (packet, used) = match local.decoded()? {
                Some(found) => found,
                None => {
                    local.read().await?;
                    continue;
                }
            };
            let Packet::ConnAck(ack) = packet else {
                return Err(io::Error::other(
                    "our own broker did not answer with CONNACK",
                ));
            };
            if ack.reason != ReasonCode::Success {
                let text = format!("our own broker refused the link: {:?}", ack.reason);
                return Err(io::Error::other(text));
            }
            let given = ack.properties;
            local.used = used;
            local.receive_maximum = given.receive_maximum.unwrap_or(u16::MAX);
            local.maximum_packet_bytes = given.maximum_packet_size.unwrap_or(u32::MAX);
            // Twice as often as needed: a ping may have to wait behind a large message.
            let keep_alive_s = given.server_keep_alive_s.filter(|&s| s > 0).map(u64::from);
            local.ping_every = keep_alive_s.map(|s| Duration::from_secs(s) / 2);
            local.ping_at = local.ping_every.map(|every| Instant::now() + every);
            return Ok(local);
        }
    }

    pub fn receive_maximum(&self) -> usize {
        usize::from(self.receive_maximum)
    }

    pub fn maximum_packet_bytes(&self) -> usize {
        self.maximum_packet_bytes as usize
    }

    /// Waits until [`Local::ping`] is to be called, for ever if our broker wants no Keep Alive.
    /// Cancel-safe.
    pub fn ping_due(&self) -> impl Future<Output = ()> + use<> {
        let at = self.ping_at;
        async move {
            match at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        }
    }

    pub async fn ping(&mut self) -> io::Result<()> {
        self.ping_at = self.ping_every.map(|every| Instant::now() + every);
        self.send(&Packet::PingReq).await
    }

    /// Asks for what is to go out, with No Local and the RETAIN flag as it was published.
    pub async fn subscribe(&mut self, routes: &[Route]) -> io::Result<()> {
        let filters = routes
            .iter()
            .map(|route| SubscribeFilter {
                filter: route.filter.clone(),
                qos: route.qos,
                no_local: true,
                retain_as_published: true,
                retain_handling: RetainHandling::SendIfNew,
            })
            .collect();
        let subscribe = Subscribe {
            packet_id: 1,
            subscription_id: None,
            user: Vec::new(),
            filters,
        };
        self.send(&Packet::Subscribe(subscribe)).await
    }

    pub async fn publish(&mut self, packet_id: u16, message: &Carried) -> io::Result<()> {
        let mut bytes = Vec::new();
        encode_publish(Version::V5, &message.outgoing(packet_id), &mut bytes);
        self.stream.write_all(&bytes).await
    }

    pub async fn puback(&mut self, packet_id: u16) -> io::Result<()> {
        self.send(&Packet::PubAck(Ack::new(packet_id, ReasonCode::Success)))
            .await
    }

    pub async fn pubrec(&mut self, packet_id: u16) -> io::Result<()> {
        self.send(&Packet::PubRec(Ack::new(packet_id, ReasonCode::Success)))
            .await
    }

    pub async fn pubrel(&mut self, packet_id: u16) -> io::Result<()> {
        self.send(&Packet::PubRel(Ack::new(packet_id, ReasonCode::Success)))
            .await
    }

    pub async fn pubcomp(&mut self, packet_id: u16) -> io::Result<()> {
        self.send(&Packet::PubComp(Ack::new(packet_id, ReasonCode::Success)))
            .await
    }

    /// Goodbye; a kept session stays.
    pub async fn close(mut self) {
        // The broker may be stopping: then it knows already.
        let _ = self
            .send(&Packet::Disconnect(Disconnect::new(ReasonCode::Success)))
            .await;
        let _ = self.stream.shutdown().await;
    }

    async fn send(&mut self, packet: &Packet<'_>) -> io::Result<()> {
        let mut bytes = Vec::new();
        encode(Version::V5, packet, &mut bytes);
        self.stream.write_all(&bytes).await
    }

    async fn read(&mut self) -> io::Result<()> {
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "our own broker ended the connection",
            ));
        }
        Ok(())
    }

    fn decoded(&mut self) -> io::Result<Option<(Packet<'_>, usize)>> {
        let used = std::mem::take(&mut self.used);
        let _ = self.buffer.split_to(used);
        decode(Some(Version::V5), &self.buffer, MAX_PACKET_BYTES).map_err(io::Error::other)
    }

    /// The next thing that our broker says. Cancel-safe.
    pub async fn next(&mut self) -> io::Result<Said> {
        loop {
            if let Some((packet, used)) = self.decoded()? {
                let said = said(packet)?;
                self.used = used;
                return Ok(said);
            }
            self.read().await?;
        }
    }
}

fn said(packet: Packet<'_>) -> io::Result<Said> {
    Ok(match packet {
        Packet::Publish(publish) => Said::Publish {
            packet_id: publish.packet_id.unwrap_or(0),
            message: Carried {
                topic: publish.topic.to_owned(),
                payload: Bytes::copy_from_slice(publish.payload),
                qos: publish.qos,
                retain: publish.retain,
                properties: publish.properties.to_message_properties(),
            },
        },
        Packet::PubAck(ack) => Said::Acked {
            packet_id: ack.packet_id,
            outcome: Outcome::of(ack.reason),
        },
        Packet::PubRec(ack) if ack.reason.is_failure() => Said::Acked {
            packet_id: ack.packet_id,
            outcome: Outcome::of(ack.reason),
        },
        Packet::PubRec(ack) => Said::Received {
            packet_id: ack.packet_id,
        },
        Packet::PubComp(ack) => Said::Completed {
            packet_id: ack.packet_id,
        },
        Packet::PubRel(ack) => Said::Release {
            packet_id: ack.packet_id,
        },
        Packet::SubAck(ack) => Said::Subscribed {
            refused: ack.reasons.iter().filter(|r| r.is_failure()).count(),
        },
        Packet::Disconnect(disconnect) => {
            let text = format!(
                "our own broker ended the connection: {:?}",
                disconnect.reason
            );
            return Err(io::Error::other(text));
        }
        _ => Said::Other,
    })
}
