//! What the broker carries: a published message, its quality of service, and the numbers that
//! place it in the journal.
//!
//! A message is made once, when its PUBLISH is read, and then shared by everything that needs it.
//! It does not know who receives it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;

/// Milliseconds since the Unix epoch: wall-clock time, as stored and as shown to people.
pub type UnixMillis = u64;

/// Quality of Service (§4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum QoS {
    /// QoS 0 (§4.3.1).
    AtMostOnce = 0,
    /// QoS 1 (§4.3.2).
    AtLeastOnce = 1,
    /// QoS 2 (§4.3.3).
    ExactlyOnce = 2,
}

impl QoS {
    /// The QoS for the two bits of the wire; `None` for the reserved value 3 [MQTT-3.3.1-4].
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

/// Place of an entry in the journal. Dense over everything appended, never reused in an [`Epoch`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub u64);

impl Offset {
    /// The offset after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Identity of a journal: an offset from another life of the journal is an error, never silence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Epoch(pub u64);

/// A position that knows its journal: everything before it was handed over. The one text with which
/// every transport resumes: `{epoch:016x}-{offset}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// The journal.
    pub epoch: Epoch,
    /// The first offset that was not handed over.
    pub offset: Offset,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.epoch.0, self.offset)
    }
}

/// A text that is no [`Cursor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a cursor is 16 hexadecimal digits, a hyphen, and a decimal number")]
pub struct NoCursor;

impl FromStr for Cursor {
    type Err = NoCursor;

    /// Takes only what [`Display`](fmt::Display) writes, so that texts can be compared.
    fn from_str(text: &str) -> Result<Self, NoCursor> {
        let (epoch, offset) = text.split_once('-').ok_or(NoCursor)?;
        let cursor = Self {
            epoch: Epoch(u64::from_str_radix(epoch, 16).map_err(|_| NoCursor)?),
            offset: Offset(offset.parse().map_err(|_| NoCursor)?),
        };
        if cursor.to_string() == text {
            Ok(cursor)
        } else {
            Err(NoCursor)
        }
    }
}

/// Contiguous number of a message within its stream: 1, 2, 3, ... (0: not assigned).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// The MQTT 5 properties of a PUBLISH that travel with the message to its receivers (§3.3.2.3).
///
/// Topic Alias and Subscription Identifier belong to one connection and are not here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageProperties {
    /// Payload Format Indicator (§3.3.2.3.2): true if the payload is UTF-8 text.
    pub payload_is_utf8: Option<bool>,
    /// Message Expiry Interval (§3.3.2.3.3), seconds, as the publisher sent it.
    pub message_expiry_s: Option<u32>,
    /// Response Topic (§3.3.2.3.5).
    pub response_topic: Option<Arc<str>>,
    /// Correlation Data (§3.3.2.3.6).
    pub correlation_data: Option<Bytes>,
    /// User Properties (§3.3.2.3.7), in the order sent.
    pub user: Vec<(Arc<str>, Arc<str>)>,
    /// Content Type (§3.3.2.3.9).
    pub content_type: Option<Arc<str>>,
}

impl MessageProperties {
    /// True if no property is set, the usual case.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Who published a message, as the broker established it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publisher {
    /// The authenticated user; empty for an anonymous client and for the broker itself.
    pub user: Arc<str>,
    /// The Client Identifier; empty for the broker itself.
    pub client_id: Arc<str>,
}

/// One published application message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Topic Name, valid and without wildcards.
    pub topic: Arc<str>,
    /// Payload, opaque bytes.
    pub payload: Bytes,
    /// QoS of the publish; a receiver gets at most its subscription's.
    pub qos: QoS,
    /// RETAIN flag as published (§3.3.1.3).
    pub retain: bool,
    /// Properties that travel; `None` means none set.
    pub properties: Option<Box<MessageProperties>>,
    /// Who sent it.
    pub publisher: Publisher,
    /// When the broker read it.
    pub time: UnixMillis,
}

impl Message {
    /// When the message expires; `None`: never.
    pub fn expires_at(&self) -> Option<UnixMillis> {
        let seconds = self.properties.as_ref()?.message_expiry_s?;
        Some(self.time.saturating_add(u64::from(seconds) * 1000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_was_written_and_nothing_else_is_one() {
        for (epoch, offset) in [(0, 0), (0xf00d, 7), (u64::MAX, u64::MAX)] {
            let cursor = Cursor {
                epoch: Epoch(epoch),
                offset: Offset(offset),
            };
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        for text in [
            "",
            "-",
            "now",
            "0-0",
            "000000000000f00d",
            "000000000000F00D-1",
            "+00000000000f00d-1",
            "000000000000f00d-+1",
            "000000000000f00d-01",
            "000000000000f00d-18446744073709551616",
            "000000000000f00d--1",
            "\u{e9}00000000000f00d-1",
        ] {
            assert_eq!(text.parse::<Cursor>(), Err(NoCursor), "{text}");
        }
    }
}
