//! One session of a gateway: a small MQTT 5 client over a pipe in memory, with a clean session that
//! ends with it.
//!
//! Invariants: at most `receive_maximum` messages of QoS 1 are handed out and not acknowledged, and
//! beside them only what the pipe holds; nothing is lost if a future of this module is dropped.
//! It does not know what becomes of a message, nor reconnects.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tidings_core::codec::{
    Ack, Connect, ConnectProperties, Disconnect, Packet, Publish, PublishProperties, ReasonCode,
    RetainHandling, Subscribe, SubscribeFilter, Unsubscribe, Version, decode, encode,
};
use tidings_core::message::{MessageProperties, QoS};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;

/// How a session is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Client Identifier, of the kind that the door asks for.
    pub client_id: String,
    /// Messages of QoS 1 that the broker hands over before the first is acknowledged.
    pub receive_maximum: u16,
}

/// A message from the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Topic Name.
    pub topic: String,
    /// As it was published.
    pub payload: Bytes,
    /// To be given to [`Session::acknowledge`]; `None` at QoS 0.
    pub packet_id: Option<u16>,
    /// It was retained, and is from before the subscription.
    pub retain: bool,
    /// What the publisher and the broker say about it; `None`: nothing.
    pub properties: Option<Box<MessageProperties>>,
}

impl Message {
    /// The last User Property of this name: the broker's own come after the publisher's.
    pub fn user_property(&self, name: &str) -> Option<&str> {
        let user = &self.properties.as_ref()?.user;
        let found = user.iter().rev().find(|(found, _)| **found == *name);
        found.map(|(_, value)| &**value)
    }

    /// The position after it, if it came through a subscription with a cursor and is kept. Such a
    /// subscription always says it last, so that nobody else can.
    pub fn cursor(&self) -> Option<&str> {
        let (name, cursor) = self.properties.as_ref()?.user.last()?;
        let is_told = **name == *"cursor" && !cursor.is_empty() && !self.retain;
        is_told.then_some(&**cursor)
    }
}

/// What became of a publish (§3.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acked {
    /// As [`Session::publish`] gave it.
    pub packet_id: u16,
    /// Success, or why it was refused.
    pub reason: ReasonCode,
    /// The same in words.
    pub reason_string: Option<String>,
    /// User Properties: `seq`, `id`, `ts` of a message with history.
    pub user: Vec<(String, String)>,
}

/// What became of a SUBSCRIBE (§3.9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// As [`Session::subscribe`] gave it.
    pub packet_id: u16,
    /// One for each filter.
    pub reasons: Vec<ReasonCode>,
    /// Why, in words.
    pub reason_string: Option<String>,
    /// User Properties.
    pub user: Vec<(String, String)>,
}

impl Granted {
    /// A User Property of the answer.
    pub fn user_property(&self, name: &str) -> Option<&str> {
        let found = self.user.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| &**value)
    }
}

/// Something from the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message.
    Message(Message),
    /// A publish is stored, or refused.
    Acked(Acked),
    /// A SUBSCRIBE is answered.
    Granted(Granted),
    /// An UNSUBSCRIBE is answered.
    Unsubscribed {
        /// As [`Session::unsubscribe`] gave it.
        packet_id: u16,
    },
}

/// A message for the broker, at QoS 1.
#[derive(Clone, Debug, Default)]
pub struct Outgoing {
    /// Topic Name.
    pub topic: String,
    /// Any bytes.
    pub payload: Bytes,
    /// RETAIN (§3.3.1.3).
    pub retain: bool,
    /// Properties that travel with it.
    pub properties: MessageProperties,
}

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The broker refused or ended it: revoked, too late, stopping, ...
    #[error("{reason:?}: {}", text.as_deref().unwrap_or("no text"))]
    Ended {
        /// Of its CONNACK or DISCONNECT.
        reason: ReasonCode,
        /// The same in words.
        text: Option<String>,
    },
    /// The pipe ended without a word.
    #[error("the session ended")]
    Closed,
    /// The broker said something that it cannot have said.
    #[error("unexpected: {0}")]
    Protocol(String),
}

impl From<io::Error> for SessionError {
    fn from(_: io::Error) -> Self {
        // A pipe in memory fails only when the other end is gone.
        Self::Closed
    }
}

/// See the module.
#[derive(Debug)]
pub struct Session {
    stream: DuplexStream,
    received: BytesMut,
    to_send: BytesMut,
    scratch: Vec<u8>,
    last_packet_id: u16,
    send_maximum: u16,
}

impl Session {
    /// Connects with a clean session.
    ///
    /// # Errors
    /// [`SessionError::Ended`] if the broker refuses.
    pub async fn open(stream: DuplexStream, options: &Options) -> Result<Self, SessionError> {
        let mut session = Self {
            stream,
            received: BytesMut::new(),
            to_send: BytesMut::new(),
            scratch: Vec::new(),
            last_packet_id: 0,
            send_maximum: u16::MAX,
        };
        session.send(&Packet::Connect(Connect {
            version: Version::V5,
            client_id: &options.client_id,
            clean_start: true,
            keep_alive_s: 0,
            username: None,
            password: None,
            will: None,
            properties: ConnectProperties {
                receive_maximum: Some(options.receive_maximum.max(1)),
                ..ConnectProperties::default()
            },
        }));
        session.flush().await?;
        loop {
            if let Some((packet, used)) = decoded(&session.received)? {
                let Packet::ConnAck(ack) = packet else {
                    return Err(SessionError::Protocol(format!("{packet:?}")));
                };
                if ack.reason.is_failure() {
                    return Err(SessionError::Ended {
                        reason: ack.reason,
                        text: ack.properties.reason_string,
                    });
                }
                session.send_maximum = ack.properties.receive_maximum.unwrap_or(u16::MAX);
                session.received.advance(used);
                return Ok(session);
            }
            session.read().await?;
        }
    }

    /// Publishes that the broker takes before it has acknowledged the first (§3.2.2.3.3).
    pub const fn send_maximum(&self) -> u16 {
        self.send_maximum
    }

    /// Waits for something from the broker; what was said before is sent meanwhile.
    ///
    /// # Errors
    /// When the session is over.
    pub async fn next(&mut self) -> Result<Event, SessionError> {
        loop {
            while let Some((packet, used)) = decoded(&self.received)? {
                let event = event_of(packet)?;
                self.received.advance(used);
                if let Some(event) = event {
                    return Ok(event);
                }
            }
            self.flush().await?;
            self.read().await?;
        }
    }

    async fn read(&mut self) -> Result<(), SessionError> {
        self.received.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.received).await? {
            0 => Err(SessionError::Closed),
            _ => Ok(()),
        }
    }

    /// Publishes at QoS 1; gives the identifier that [`Event::Acked`] will have. Sent by
    /// [`Session::flush`] or [`Session::next`].
    pub fn publish(&mut self, message: &Outgoing) -> u16 {
        let packet_id = self.next_packet_id();
        let properties = &message.properties;
        let user = properties.user.iter();
        self.send(&Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: message.retain,
            topic: &message.topic,
            packet_id: Some(packet_id),
            properties: PublishProperties {
                payload_is_utf8: properties.payload_is_utf8,
                message_expiry_s: properties.message_expiry_s,
                response_topic: properties.response_topic.as_deref(),
                correlation_data: properties.correlation_data.as_deref(),
                user: user.map(|(name, value)| (&**name, &**value)).collect(),
                content_type: properties.content_type.as_deref(),
                ..PublishProperties::default()
            },
            payload: &message.payload,
        }));
        packet_id
    }

    /// Subscribes to all of `filters` at `qos`; gives the identifier that [`Event::Granted`] will
    /// have.
    pub fn subscribe(&mut self, filters: &[String], qos: QoS, retained: RetainHandling) -> u16 {
        let packet_id = self.next_packet_id();
        let filters = filters.iter().map(|filter| SubscribeFilter {
            filter: filter.clone(),
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: retained,
        });
        self.send(&Packet::Subscribe(Subscribe {
            packet_id,
            subscription_id: None,
            user: Vec::new(),
            filters: filters.collect(),
        }));
        packet_id
    }

    /// Ends subscriptions; gives the identifier that [`Event::Unsubscribed`] will have.
    pub fn unsubscribe(&mut self, filters: &[String]) -> u16 {
        let packet_id = self.next_packet_id();
        self.send(&Packet::Unsubscribe(Unsubscribe {
            packet_id,
            user: Vec::new(),
            filters: filters.to_vec(),
        }));
        packet_id
    }

    /// The message was handed on: the broker may send another.
    pub fn acknowledge(&mut self, packet_id: u16) {
        self.send(&Packet::PubAck(Ack::new(packet_id, ReasonCode::Success)));
    }

    /// Sends what was said.
    ///
    /// # Errors
    /// When the session is over.
    pub async fn flush(&mut self) -> Result<(), SessionError> {
        while !self.to_send.is_empty() {
            self.stream.write_buf(&mut self.to_send).await?;
        }
        Ok(())
    }

    /// Says goodbye.
    ///
    /// # Errors
    /// When the session is over already.
    pub async fn disconnect(mut self) -> Result<(), SessionError> {
        self.send(&Packet::Disconnect(Disconnect::new(ReasonCode::Success)));
        self.flush().await
    }

    fn send(&mut self, packet: &Packet<'_>) {
        self.scratch.clear();
        encode(Version::V5, packet, &mut self.scratch);
        self.to_send.extend_from_slice(&self.scratch);
    }

    /// Identifiers are used in turn: far fewer are under way than there are.
    fn next_packet_id(&mut self) -> u16 {
        self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
        self.last_packet_id
    }
}

fn decoded(bytes: &[u8]) -> Result<Option<(Packet<'_>, usize)>, SessionError> {
    decode(Some(Version::V5), bytes, usize::MAX)
        .map_err(|error| SessionError::Protocol(error.to_string()))
}

/// What a packet means to the owner; `None`: nothing.
fn event_of(packet: Packet<'_>) -> Result<Option<Event>, SessionError> {
    Ok(Some(match packet {
        Packet::Publish(publish) => Event::Message(Message {
            topic: publish.topic.to_owned(),
            payload: Bytes::copy_from_slice(publish.payload),
            packet_id: publish.packet_id,
            retain: publish.retain,
            properties: publish.properties.to_message_properties(),
        }),
        Packet::PubAck(ack) => Event::Acked(Acked {
            packet_id: ack.packet_id,
            reason: ack.reason,
            reason_string: ack.reason_string,
            user: ack.user,
        }),
        Packet::SubAck(ack) => Event::Granted(Granted {
            packet_id: ack.packet_id,
            reasons: ack.reasons,
            reason_string: ack.reason_string,
            user: ack.user,
        }),
        Packet::UnsubAck(ack) => Event::Unsubscribed {
            packet_id: ack.packet_id,
        },
        Packet::Disconnect(disconnect) => {
            return Err(SessionError::Ended {
                reason: disconnect.reason,
                text: disconnect.reason_string,
            });
        }
        Packet::PingResp => return Ok(None),
        other => return Err(SessionError::Protocol(format!("{other:?}"))),
    }))
}
