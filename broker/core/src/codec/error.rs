//! Why bytes were refused, and the Reason Code that says so.
//!
//! Any of these ends the connection (§4.13): nothing is decoded after an error.
//! Whether the Reason Code is sent, and in which packet, is the session's business.

use super::ReasonCode;

/// What is wrong with the bytes of a peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The packet cannot be parsed as the specification says (§1.2, Malformed Packet).
    #[error("malformed packet: {0}")]
    Malformed(&'static str),
    /// The packet can be parsed, but says what the protocol does not allow (§1.2, Protocol Error).
    #[error("protocol error: {0}")]
    Protocol(&'static str),
    /// The fixed header announces more than the receiver takes; sizes in bytes, header included.
    #[error("packet of {len} bytes, {max} are allowed")]
    PacketTooLarge {
        /// Announced size.
        len: usize,
        /// Allowed size.
        max: usize,
    },
    /// A CONNECT with a protocol level that is not spoken here [MQTT-3.1.2-2].
    #[error("protocol level {0} is not supported")]
    UnsupportedVersion(u8),
    /// A Topic Name (of a PUBLISH or a Will) that is empty or has wildcards [MQTT-3.3.2-2].
    #[error("invalid topic name")]
    TopicNameInvalid,
    /// A Topic Filter that breaks §4.7 or, for shared subscriptions, §4.8.2.
    #[error("invalid topic filter")]
    TopicFilterInvalid,
    /// A Topic Alias of 0 [MQTT-3.3.2-8].
    #[error("invalid topic alias")]
    TopicAliasInvalid,
}

impl DecodeError {
    /// The Reason Code for the CONNACK or DISCONNECT that ends the connection.
    pub const fn reason(&self) -> ReasonCode {
        match self {
            Self::Malformed(_) => ReasonCode::MalformedPacket,
            Self::Protocol(_) => ReasonCode::ProtocolError,
            Self::PacketTooLarge { .. } => ReasonCode::PacketTooLarge,
            Self::UnsupportedVersion(_) => ReasonCode::UnsupportedProtocolVersion,
            Self::TopicNameInvalid => ReasonCode::TopicNameInvalid,
            Self::TopicFilterInvalid => ReasonCode::TopicFilterInvalid,
            Self::TopicAliasInvalid => ReasonCode::TopicAliasInvalid,
        }
    }
}
