//! A service's end of an in-memory connection: a small MQTT 5 client of the broker it is part of.
//!
//! It speaks like any client, so that what the service does goes through a session, the topic rules
//! and the journal like everything else. What it waits for at most is bounded by its Receive Maximum.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tidings_core::codec::{
    Ack, Connect, ConnectProperties, Packet, Publish, PublishProperties, ReasonCode,
    RetainHandling, Subscribe, SubscribeFilter, Version, decode, encode,
};
use tidings_core::message::QoS;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// Requests that wait for their turn here; the others wait in the session.
const RECEIVE_MAXIMUM: u16 = 100;

/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;

/// A message from the broker.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub topic: String,
    pub payload: Bytes,
    /// To be acknowledged; `None` at QoS 0.
    pub packet_id: Option<u16>,
    pub response_topic: Option<Arc<str>>,
    pub correlation_data: Option<Bytes>,
}

/// Something from the broker.
#[derive(Debug)]
pub(crate) enum Event {
    Message(Incoming),
    /// A publish is stored, or refused.
    Acked {
        packet_id: u16,
        reason: ReasonCode,
    },
    /// Everything else that answers something.
    Answer,
}

/// A message for the broker.
#[derive(Debug, Default)]
pub(crate) struct Outgoing<'a> {
    pub topic: &'a str,
    pub payload: &'a [u8],
    pub retain: bool,
    pub correlation_data: Option<&'a [u8]>,
}

pub(crate) struct Link {
    stream: DuplexStream,
    received: Vec<u8>,
    to_send: Vec<u8>,
    last_packet_id: u16,
    /// Publishes that are not acknowledged, and how many the broker takes.
    open: usize,
    send_maximum: usize,
}

impl Link {
    /// Connects with a clean session and subscribes; what comes before that is not lost: nothing
    /// comes.
    ///
    /// # Errors
    /// If the broker refuses, or ends.
    pub async fn open(stream: DuplexStream, client_id: &str, filters: &[&str]) -> io::Result<Self> {
        let mut link = Self {
            stream,
            received: Vec::new(),
            to_send: Vec::new(),
            last_packet_id: 0,
            open: 0,
            send_maximum: usize::from(u16::MAX),
        };
        link.send(&Packet::Connect(Connect {
            version: Version::V5,
            client_id,
            clean_start: true,
            keep_alive_s: 0,
            username: None,
            password: None,
            will: None,
            properties: ConnectProperties {
                receive_maximum: Some(RECEIVE_MAXIMUM),
                ..ConnectProperties::default()
            },
        }));
        let packet_id = link.next_packet_id();
        link.send(&Packet::Subscribe(Subscribe {
            packet_id,
            subscription_id: None,
            user: Vec::new(),
            filters: filters.iter().map(|filter| requests(filter)).collect(),
        }));
        link.flush().await?;
        // CONNACK and SUBACK.
        for _ in 0..2 {
            match link.next().await? {
                Event::Answer => {}
                event => return Err(unexpected(&format!("{event:?}"))),
            }
        }
        Ok(link)
    }

    /// Waits for something from the broker. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// When the connection is over.
    pub async fn next(&mut self) -> io::Result<Event> {
        loop {
            if let Some(event) = self.take()? {
                return Ok(event);
            }
            self.received.reserve(READ_BYTES);
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn take(&mut self) -> io::Result<Option<Event>> {
        let decoded = decode(Some(Version::V5), &self.received, usize::MAX);
        let (event, used) = match decoded.map_err(|error| unexpected(&error.to_string()))? {
            None => return Ok(None),
            Some((packet, used)) => {
                if let Packet::ConnAck(ack) = &packet
                    && let Some(maximum) = ack.properties.receive_maximum
                {
                    self.send_maximum = usize::from(maximum);
                }
                (event_of(packet)?, used)
            }
        };
        if matches!(event, Event::Acked { .. }) {
            self.open = self.open.saturating_sub(1);
        }
        self.received.drain(..used);
        Ok(Some(event))
    }

    /// Publishes at QoS 1; gives the identifier that [`Event::Acked`] will have. Not sent before
    /// [`Link::flush`].
    pub fn publish(&mut self, message: &Outgoing<'_>) -> u16 {
        let packet_id = self.next_packet_id();
        self.open += 1;
        self.send(&Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: message.retain,
            topic: message.topic,
            packet_id: Some(packet_id),
            properties: PublishProperties {
                payload_is_utf8: Some(true),
                correlation_data: message.correlation_data,
                ..PublishProperties::default()
            },
            payload: message.payload,
        }));
        packet_id
    }

    /// Whether half of the publishes that the broker takes at once are not acknowledged.
    pub fn is_busy(&self) -> bool {
        self.open * 2 >= self.send_maximum
    }

    /// Acknowledges a message.
    pub fn acknowledge(&mut self, packet_id: u16) {
        self.send(&Packet::PubAck(Ack::new(packet_id, ReasonCode::Success)));
    }

    /// Sends what was said.
    ///
    /// # Errors
    /// When the connection is over.
    pub async fn flush(&mut self) -> io::Result<()> {
        let result = self.stream.write_all(&self.to_send).await;
        self.to_send.clear();
        result
    }

    fn send(&mut self, packet: &Packet<'_>) {
        encode(Version::V5, packet, &mut self.to_send);
    }

    /// Identifiers are used in turn: far fewer are under way than there are.
    fn next_packet_id(&mut self) -> u16 {
        self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
        self.last_packet_id
    }
}

fn requests(filter: &str) -> SubscribeFilter {
    SubscribeFilter {
        filter: filter.to_owned(),
        qos: QoS::AtLeastOnce,
        no_local: true,
        retain_as_published: false,
        // A request is carried out once, when it comes.
        retain_handling: RetainHandling::DoNotSend,
    }
}

fn event_of(packet: Packet<'_>) -> io::Result<Event> {
    Ok(match packet {
        Packet::Publish(publish) => Event::Message(Incoming {
            topic: publish.topic.to_owned(),
            payload: Bytes::copy_from_slice(publish.payload),
            packet_id: publish.packet_id,
            response_topic: publish.properties.response_topic.map(Arc::from),
            correlation_data: publish
                .properties
                .correlation_data
                .map(Bytes::copy_from_slice),
        }),
        Packet::PubAck(ack) => Event::Acked {
            packet_id: ack.packet_id,
            reason: ack.reason,
        },
        Packet::ConnAck(ack) if ack.reason.is_failure() => {
            return Err(unexpected(&format!("refused: {:?}", ack.reason)));
        }
        Packet::Disconnect(disconnect) => {
            return Err(unexpected(&format!(
                "disconnected: {:?}",
                disconnect.reason
            )));
        }
        _ => Event::Answer,
    })
}

fn unexpected(what: &str) -> io::Error {
    io::Error::other(what.to_owned())
}
