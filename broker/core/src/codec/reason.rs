//! Reason Codes (§2.4): one table of value, name and the packets that may carry it, and what
//! becomes of them in CONNACK and SUBACK of MQTT 3.x.

use super::DecodeError;
use super::header::{PacketType, Places};
use super::primitive::Reader;

const CONNACK: Places = PacketType::ConnAck.bit();
/// PUBACK and PUBREC have the same Reason Codes (§3.4.2.1, §3.5.2.1).
const PUBLISHED: Places = PacketType::PubAck.bit() | PacketType::PubRec.bit();
/// PUBREL and PUBCOMP have the same Reason Codes (§3.6.2.1, §3.7.2.1).
const RELEASED: Places = PacketType::PubRel.bit() | PacketType::PubComp.bit();
const SUBACK: Places = PacketType::SubAck.bit();
const UNSUBACK: Places = PacketType::UnsubAck.bit();
const DISCONNECT: Places = PacketType::Disconnect.bit();
const AUTH: Places = PacketType::Auth.bit();

macro_rules! reason_codes {
    ($($(#[$doc:meta])* $value:literal $name:ident in $places:expr;)*) => {
        /// Why, or how well: the outcome of an operation (§2.4). 0x80 and above are failures.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum ReasonCode {
            $($(#[$doc])* $name = $value,)*
        }

        impl ReasonCode {
            /// All of them, in the order of their values.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The code with this value; `None` if §2.4 has none.
            pub const fn from_u8(value: u8) -> Option<Self> {
                match value {
                    $($value => Some(Self::$name),)*
                    _ => None,
                }
            }

            const fn places(self) -> Places {
                match self {
                    $(Self::$name => $places,)*
                }
            }
        }
    };
}

reason_codes! {
    /// Success; in DISCONNECT a normal disconnection, in SUBACK a granted QoS 0.
    0x00 Success in CONNACK | PUBLISHED | RELEASED | SUBACK | UNSUBACK | DISCONNECT | AUTH;
    /// The subscription is accepted, QoS 1 at most will be sent.
    0x01 GrantedQoS1 in SUBACK;
    /// The subscription is accepted, QoS 2 at most will be sent.
    0x02 GrantedQoS2 in SUBACK;
    /// The client goes, but wants its Will Message published.
    0x04 DisconnectWithWill in DISCONNECT;
    /// The message is accepted, but nobody subscribes to it.
    0x10 NoMatchingSubscribers in PUBLISHED;
    /// No such Topic Filter was subscribed.
    0x11 NoSubscriptionExisted in UNSUBACK;
    /// Another step of the authentication follows.
    0x18 ContinueAuthentication in AUTH;
    /// The client wants to authenticate again.
    0x19 ReAuthenticate in AUTH;
    /// A failure that the one who reports it does not want to name, or that has no other code.
    0x80 UnspecifiedError in CONNACK | PUBLISHED | SUBACK | UNSUBACK | DISCONNECT;
    /// The packet could not be parsed.
    0x81 MalformedPacket in CONNACK | DISCONNECT;
    /// An unexpected packet, or data that the protocol does not allow.
    0x82 ProtocolError in CONNACK | DISCONNECT;
    /// Valid, but not accepted by this implementation.
    0x83 ImplementationSpecificError in CONNACK | PUBLISHED | SUBACK | UNSUBACK | DISCONNECT;
    /// The server does not speak the version of the CONNECT.
    0x84 UnsupportedProtocolVersion in CONNACK;
    /// The Client Identifier is valid, but not allowed here.
    0x85 ClientIdentifierNotValid in CONNACK;
    /// The user name or the password is not accepted.
    0x86 BadUserNameOrPassword in CONNACK;
    /// The client may not do this.
    0x87 NotAuthorized in CONNACK | PUBLISHED | SUBACK | UNSUBACK | DISCONNECT;
    /// The server is not available.
    0x88 ServerUnavailable in CONNACK;
    /// The server is busy, try again later.
    0x89 ServerBusy in CONNACK | DISCONNECT;
    /// An administrator has banned this client.
    0x8A Banned in CONNACK;
    /// The server is shutting down.
    0x8B ServerShuttingDown in DISCONNECT;
    /// The authentication method is not supported or is not the one in use.
    0x8C BadAuthenticationMethod in CONNACK | DISCONNECT;
    /// No packet came within one and a half times the Keep Alive.
    0x8D KeepAliveTimeout in DISCONNECT;
    /// Another connection uses the same Client Identifier.
    0x8E SessionTakenOver in DISCONNECT;
    /// The Topic Filter is not accepted.
    0x8F TopicFilterInvalid in SUBACK | UNSUBACK | DISCONNECT;
    /// The Topic Name is not accepted.
    0x90 TopicNameInvalid in CONNACK | PUBLISHED | DISCONNECT;
    /// The Packet Identifier is in use already.
    0x91 PacketIdentifierInUse in PUBLISHED | SUBACK | UNSUBACK;
    /// The Packet Identifier is not known; not an error during recovery.
    0x92 PacketIdentifierNotFound in RELEASED;
    /// More unacknowledged messages than Receive Maximum allows.
    0x93 ReceiveMaximumExceeded in DISCONNECT;
    /// A Topic Alias of 0, above the maximum, or not known.
    0x94 TopicAliasInvalid in DISCONNECT;
    /// The packet is larger than Maximum Packet Size.
    0x95 PacketTooLarge in CONNACK | DISCONNECT;
    /// The rate of messages is too high.
    0x96 MessageRateTooHigh in DISCONNECT;
    /// A limit of the implementation or the administrator is exceeded.
    0x97 QuotaExceeded in CONNACK | PUBLISHED | SUBACK | DISCONNECT;
    /// An administrator has closed the connection.
    0x98 AdministrativeAction in DISCONNECT;
    /// The payload is not what the Payload Format Indicator says.
    0x99 PayloadFormatInvalid in CONNACK | PUBLISHED | DISCONNECT;
    /// Retained messages are not supported.
    0x9A RetainNotSupported in CONNACK | DISCONNECT;
    /// The QoS is above the server's maximum.
    0x9B QoSNotSupported in CONNACK | DISCONNECT;
    /// Use another server for now.
    0x9C UseAnotherServer in CONNACK | DISCONNECT;
    /// Use another server from now on.
    0x9D ServerMoved in CONNACK | DISCONNECT;
    /// Shared subscriptions are not supported.
    0x9E SharedSubscriptionsNotSupported in SUBACK | DISCONNECT;
    /// Too many connections in too short a time.
    0x9F ConnectionRateExceeded in CONNACK | DISCONNECT;
    /// The connection has lasted as long as it may.
    0xA0 MaximumConnectTime in DISCONNECT;
    /// Subscription Identifiers are not supported.
    0xA1 SubscriptionIdentifiersNotSupported in SUBACK | DISCONNECT;
    /// Wildcard subscriptions are not supported.
    0xA2 WildcardSubscriptionsNotSupported in SUBACK | DISCONNECT;
}

impl ReasonCode {
    /// Whether the operation failed.
    pub const fn is_failure(self) -> bool {
        self as u8 >= 0x80
    }

    /// The Connect Return Code of MQTT 3.x (3.1.1 §3.2.2.3) that comes nearest; every failure
    /// without one of its own is 3, server unavailable.
    pub const fn connect_return_code(self) -> u8 {
        match self {
            Self::UnsupportedProtocolVersion => 1,
            Self::ClientIdentifierNotValid => 2,
            Self::BadUserNameOrPassword | Self::BadAuthenticationMethod => 4,
            Self::NotAuthorized | Self::Banned => 5,
            code if code.is_failure() => 3,
            _ => 0,
        }
    }

    /// The code that a Connect Return Code of MQTT 3.x stands for; `None` for a reserved one.
    pub const fn from_connect_return_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Success,
            1 => Self::UnsupportedProtocolVersion,
            2 => Self::ClientIdentifierNotValid,
            3 => Self::ServerUnavailable,
            4 => Self::BadUserNameOrPassword,
            5 => Self::NotAuthorized,
            _ => return None,
        })
    }

    /// The SUBACK return code of MQTT 3.x (3.1.1 §3.9.3): the granted QoS, or 0x80 for any failure.
    pub const fn suback_return_code(self) -> u8 {
        if self.is_failure() { 0x80 } else { self as u8 }
    }

    /// Whether a packet of this type may carry this code (§2.4, last column).
    pub(super) const fn is_allowed_in(self, packet: PacketType) -> bool {
        self.places() & packet.bit() != 0
    }

    /// Reads a code that `packet` may carry.
    pub(super) fn read(reader: &mut Reader<'_>, packet: PacketType) -> Result<Self, DecodeError> {
        Self::from_u8(reader.u8()?)
            .filter(|code| code.is_allowed_in(packet))
            .ok_or(DecodeError::Protocol("reason code of another packet type"))
    }
}
