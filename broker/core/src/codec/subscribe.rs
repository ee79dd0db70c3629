//! SUBSCRIBE and SUBACK (§3.8, §3.9).

use super::header::PacketType;
use super::primitive::{Reader, write_str};
use super::property::{
    Property, Variable, owned_pair, read_properties, user_properties, write_properties,
};
use super::{DecodeError, ReasonCode, Version};
use crate::message::QoS;
use crate::topic::TopicError;

const QOS: u8 = 0b0000_0011;
const NO_LOCAL: u8 = 0b0000_0100;
const RETAIN_AS_PUBLISHED: u8 = 0b0000_1000;
const RETAIN_HANDLING_SHIFT: u8 = 4;
const RESERVED: u8 = 0b1100_0000;

/// A request for one or more subscriptions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// Packet Identifier, not 0 when decoded.
    pub packet_id: u16,
    /// Subscription Identifier for all of `filters`, not 0.
    pub subscription_id: Option<u32>,
    /// User Properties, in the order sent.
    pub user: Vec<(String, String)>,
    /// At least one when decoded.
    pub filters: Vec<SubscribeFilter>,
}

/// One requested subscription (§3.8.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscribeFilter {
    /// Topic Filter as sent, `$share/...` and `$replay/...` included. Well formed by §4.7 and
    /// §4.8.2, but perhaps beyond our own limits: see [`crate::topic::parse_filter`].
    pub filter: String,
    /// Maximum QoS.
    pub qos: QoS,
    /// No Local; never with `$share`. `false` in MQTT 3.x.
    pub no_local: bool,
    /// Retain As Published; `false` in MQTT 3.x.
    pub retain_as_published: bool,
    /// Retain Handling; `SendAtSubscribe` in MQTT 3.x.
    pub retain_handling: RetainHandling,
}

/// When a subscription gets retained messages (§3.8.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RetainHandling {
    /// At each SUBSCRIBE.
    #[default]
    SendAtSubscribe = 0,
    /// At a SUBSCRIBE that makes a new subscription.
    SendIfNew = 1,
    /// Never.
    DoNotSend = 2,
}

impl RetainHandling {
    const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::SendAtSubscribe),
            1 => Some(Self::SendIfNew),
            2 => Some(Self::DoNotSend),
            _ => None,
        }
    }
}

/// The answer to a SUBSCRIBE: one code per filter, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubAck {
    /// Packet Identifier of the SUBSCRIBE.
    pub packet_id: u16,
    /// What became of each filter; in MQTT 3.x all failures are 0x80, `UnspecifiedError`.
    pub reasons: Vec<ReasonCode>,
    /// For people and logs (§3.9.2.1.2).
    pub reason_string: Option<String>,
    /// User Properties, in the order sent.
    pub user: Vec<(String, String)>,
}

impl Subscribe {
    pub(super) fn read(version: Version, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut subscribe = Self {
            packet_id: reader.packet_id()?,
            subscription_id: None,
            user: Vec::new(),
            filters: Vec::new(),
        };
        if version == Version::V5 {
            read_properties(
                reader,
                PacketType::Subscribe.bit(),
                |property| match property {
                    Property::SubscriptionIdentifier(Variable(id)) => {
                        subscribe.subscription_id = Some(id);
                    }
                    Property::User(pair) => subscribe.user.push(owned_pair(pair)),
                    _ => {}
                },
            )?;
        }
        if reader.is_empty() {
            return Err(DecodeError::Protocol("SUBSCRIBE without topic filter"));
        }
        while !reader.is_empty() {
            subscribe
                .filters
                .push(SubscribeFilter::read(version, reader)?);
        }
        Ok(subscribe)
    }

    pub(super) fn write(&self, version: Version, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.packet_id.to_be_bytes());
        if version == Version::V5 {
            let id = self
                .subscription_id
                .map(|id| Property::SubscriptionIdentifier(Variable(id)));
            write_properties(id.into_iter().chain(user_properties(&self.user)), out);
        }
        for filter in &self.filters {
            write_str(&filter.filter, out);
            out.push(match version {
                Version::V5 => filter.options(),
                _ => filter.qos as u8,
            });
        }
    }
}

impl SubscribeFilter {
    fn read(version: Version, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let filter = read_filter(reader)?;
        let options = reader.u8()?;
        let reserved = match version {
            // Reserved without a value in MQTT 3.1.
            Version::V31 => 0,
            Version::V311 => !QOS,
            Version::V5 => RESERVED,
        };
        if options & reserved != 0 {
            return Err(DecodeError::Malformed("reserved subscription options"));
        }
        let qos = QoS::from_bits(options & QOS).ok_or(match version {
            Version::V5 => DecodeError::Protocol("maximum QoS 3"),
            _ => DecodeError::Malformed("requested QoS 3"),
        })?;
        let options = if version == Version::V5 { options } else { 0 };
        let no_local = options & NO_LOCAL != 0;
        if no_local && filter.starts_with("$share/") {
            return Err(DecodeError::Protocol("no local on a shared subscription"));
        }
        Ok(Self {
            filter: filter.to_owned(),
            qos,
            no_local,
            retain_as_published: options & RETAIN_AS_PUBLISHED != 0,
            retain_handling: RetainHandling::from_bits(options >> RETAIN_HANDLING_SHIFT & 0b11)
                .ok_or(DecodeError::Protocol("retain handling 3"))?,
        })
    }

    const fn options(&self) -> u8 {
        let no_local = if self.no_local { NO_LOCAL } else { 0 };
        let retain_as_published = if self.retain_as_published {
            RETAIN_AS_PUBLISHED
        } else {
            0
        };
        let retain_handling = (self.retain_handling as u8) << RETAIN_HANDLING_SHIFT;
        self.qos as u8 | no_local | retain_as_published | retain_handling
    }
}

/// Reads a Topic Filter that the specification allows.
///
/// What only this broker refuses (too many levels, a `$replay` that makes no sense) is no reason to
/// close a connection: the session says so in the SUBACK.
pub(super) fn read_filter<'a>(reader: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
    let filter = reader.str()?;
    match crate::topic::validate_filter(filter) {
        Ok(())
        | Err(
            TopicError::TooManyLevels
            | TopicError::BadReplayStart
            | TopicError::BadReplayNumber
            | TopicError::BadCursor
            | TopicError::MissingReplayFilter
            | TopicError::NestedPrefix,
        ) => Ok(filter),
        Err(_) => Err(DecodeError::TopicFilterInvalid),
    }
}

impl SubAck {
    pub(super) fn read(version: Version, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut suback = Self {
            packet_id: reader.packet_id()?,
            reasons: Vec::new(),
            reason_string: None,
            user: Vec::new(),
        };
        if version == Version::V5 {
            read_properties(
                reader,
                PacketType::SubAck.bit(),
                |property| match property {
                    Property::ReasonString(text) => suback.reason_string = Some(text.to_owned()),
                    Property::User(pair) => suback.user.push(owned_pair(pair)),
                    _ => {}
                },
            )?;
        }
        if reader.is_empty() {
            return Err(DecodeError::Protocol("SUBACK without reason code"));
        }
        while !reader.is_empty() {
            let code = ReasonCode::read(reader, PacketType::SubAck)?;
            if version != Version::V5 && code.suback_return_code() != code as u8 {
                return Err(DecodeError::Malformed("reserved SUBACK return code"));
            }
            suback.reasons.push(code);
        }
        Ok(suback)
    }

    pub(super) fn write(&self, version: Version, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.packet_id.to_be_bytes());
        if version == Version::V5 {
            let reason_string = self.reason_string.as_deref().map(Property::ReasonString);
            write_properties(
                reason_string.into_iter().chain(user_properties(&self.user)),
                out,
            );
            out.extend(self.reasons.iter().map(|&code| code as u8));
        } else {
            out.extend(self.reasons.iter().map(|code| code.suback_return_code()));
        }
    }
}
