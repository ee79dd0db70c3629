//! A message as its delivery sees it: shared, or only passing through.
//!
//! A message that is not kept is read where its publisher's bytes are and written straight into the
//! outputs of its receivers; it becomes a [`Published`] only if somebody has to hold it: the
//! journal, another shard, a shared subscription.

use std::sync::Arc;

use bytes::Bytes;

use super::Route;
use crate::journal::{Audience, Published};
use crate::message::{Message, MessageProperties, Publisher, QoS, Seq, UnixMillis};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content<'a> {
    Shared(&'a Arc<Published>),
    Passing(&'a Passing<'a>),
}

/// A message that nobody holds yet. Its topic's rule keeps no history.
#[derive(Debug)]
pub(crate) struct Passing<'a> {
    pub route: &'a Route,
    pub publisher: &'a Publisher,
    pub payload: &'a [u8],
    pub qos: QoS,
    pub retain: bool,
    pub properties: Option<Box<MessageProperties>>,
    pub time: UnixMillis,
    /// As in [`Published`].
    pub read_us: u64,
}

impl Passing<'_> {
    /// A copy that can be held.
    pub fn to_published(&self) -> Published {
        let mut published = self.route.published(Message {
            topic: self.route.topic.clone(),
            payload: Bytes::copy_from_slice(self.payload),
            qos: self.qos,
            retain: self.retain,
            properties: self.properties.clone(),
            publisher: self.publisher.clone(),
            time: self.time,
        });
        published.read_us = self.read_us;
        published
    }
}

impl Route {
    /// The message in its stream, on its way to the journal or to receivers.
    pub fn published(&self, message: Message) -> Published {
        Published {
            stream: self.stream.clone(),
            seq: Seq(0),
            history: self.history,
            audience: Audience::Everyone,
            inbound_packet_id: None,
            read_us: 0,
            message,
        }
    }
}

impl<'a> Content<'a> {
    pub fn topic(self) -> &'a Arc<str> {
        match self {
            Self::Shared(published) => &published.message.topic,
            Self::Passing(passing) => &passing.route.topic,
        }
    }

    pub fn payload(self) -> &'a [u8] {
        match self {
            Self::Shared(published) => &published.message.payload,
            Self::Passing(passing) => passing.payload,
        }
    }

    pub fn qos(self) -> QoS {
        match self {
            Self::Shared(published) => published.message.qos,
            Self::Passing(passing) => passing.qos,
        }
    }

    pub fn retain(self) -> bool {
        match self {
            Self::Shared(published) => published.message.retain,
            Self::Passing(passing) => passing.retain,
        }
    }

    pub fn properties(self) -> Option<&'a MessageProperties> {
        match self {
            Self::Shared(published) => published.message.properties.as_deref(),
            Self::Passing(passing) => passing.properties.as_deref(),
        }
    }

    /// When the broker read it.
    fn time(self) -> UnixMillis {
        match self {
            Self::Shared(published) => published.message.time,
            Self::Passing(passing) => passing.time,
        }
    }

    /// When its packet was read, if it is timed; else 0.
    pub fn read_us(self) -> u64 {
        match self {
            Self::Shared(published) => published.read_us,
            Self::Passing(passing) => passing.read_us,
        }
    }

    /// Client Identifier of the publisher.
    pub fn client_id(self) -> &'a str {
        match self {
            Self::Shared(published) => &published.message.publisher.client_id,
            Self::Passing(passing) => &passing.publisher.client_id,
        }
    }

    /// The lifetime that its publisher gave it, seconds.
    pub fn expiry_s(self) -> Option<u32> {
        self.properties()?.message_expiry_s
    }

    /// When it expires; `None`: never.
    pub fn expires_at(self) -> Option<UnixMillis> {
        let seconds = self.expiry_s()?;
        Some(self.time().saturating_add(u64::from(seconds) * 1000))
    }

    /// The message with its place in its stream, if it has one.
    pub fn with_history(self) -> Option<&'a Published> {
        match self {
            Self::Shared(published) => Some(&**published).filter(|p| p.history),
            Self::Passing(_) => None,
        }
    }

    /// The message, to be held.
    pub fn to_shared(self) -> Arc<Published> {
        match self {
            Self::Shared(published) => published.clone(),
            Self::Passing(passing) => Arc::new(passing.to_published()),
        }
    }
}
