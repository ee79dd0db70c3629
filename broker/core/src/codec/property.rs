//! Properties of MQTT 5 (§2.2.2): one table of identifier, type and the packets they belong to.
//!
//! Invariants: what [`read_properties`] hands out is allowed in that place, not given twice unless
//! it may be, and of an allowed value. It does not know what a packet does with them.

use super::DecodeError;
use super::header::{PacketType, Places, WILL};
use super::primitive::{
    Reader, binary_len, str_len, varint_len, write_binary, write_str, write_varint,
};
use crate::message::QoS;

const CONNECT: Places = PacketType::Connect.bit();
const CONNACK: Places = PacketType::ConnAck.bit();
pub(super) const PUBLISH: Places = PacketType::Publish.bit();
const SUBSCRIBE: Places = PacketType::Subscribe.bit();
const DISCONNECT: Places = PacketType::Disconnect.bit();
const AUTH: Places = PacketType::Auth.bit();
/// Every packet that answers or ends something, and so may say why.
const ANSWERS: Places = CONNACK
    | PacketType::PubAck.bit()
    | PacketType::PubRec.bit()
    | PacketType::PubRel.bit()
    | PacketType::PubComp.bit()
    | PacketType::SubAck.bit()
    | PacketType::UnsubAck.bit()
    | DISCONNECT
    | AUTH;
const ANYWHERE: Places =
    ANSWERS | CONNECT | WILL | PUBLISH | SUBSCRIBE | PacketType::Unsubscribe.bit();

macro_rules! properties {
    ($($id:literal $name:ident($wire:ty) in $places:expr;)*) => {
        /// One property, by its name in §2.2.2.2.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Property<'a> {
            $($name($wire),)*
        }

        impl<'a> Property<'a> {
            fn read(id: u8, place: Places, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
                match id {
                    $($id if $places & place != 0 => Ok(Self::$name(<$wire>::read(reader)?)),)*
                    $($id)|* => Err(DecodeError::Malformed("property of another packet type")),
                    _ => Err(DecodeError::Malformed("unknown property")),
                }
            }

            /// Bytes on the wire, identifier included.
            pub(super) fn wire_len(self) -> usize {
                match self {
                    $(Self::$name(value) => 1 + value.wire_len(),)*
                }
            }

            pub(super) fn write(self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$name(value) => {
                        out.push($id);
                        value.write(out);
                    })*
                }
            }
        }
    };
}

properties! {
    0x01 PayloadIsUtf8(bool) in WILL | PUBLISH;
    0x02 MessageExpiryInterval(u32) in WILL | PUBLISH;
    0x03 ContentType(&'a str) in WILL | PUBLISH;
    0x08 ResponseTopic(&'a str) in WILL | PUBLISH;
    0x09 CorrelationData(&'a [u8]) in WILL | PUBLISH;
    0x0B SubscriptionIdentifier(Variable) in PUBLISH | SUBSCRIBE;
    0x11 SessionExpiryInterval(u32) in CONNECT | CONNACK | DISCONNECT;
    0x12 AssignedClientIdentifier(&'a str) in CONNACK;
    0x13 ServerKeepAlive(u16) in CONNACK;
    0x15 AuthenticationMethod(&'a str) in CONNECT | CONNACK | AUTH;
    0x16 AuthenticationData(&'a [u8]) in CONNECT | CONNACK | AUTH;
    0x17 RequestProblemInformation(bool) in CONNECT;
    0x18 WillDelayInterval(u32) in WILL;
    0x19 RequestResponseInformation(bool) in CONNECT;
    0x1A ResponseInformation(&'a str) in CONNACK;
    0x1C ServerReference(&'a str) in CONNACK | DISCONNECT;
    0x1F ReasonString(&'a str) in ANSWERS;
    0x21 ReceiveMaximum(u16) in CONNECT | CONNACK;
    0x22 TopicAliasMaximum(u16) in CONNECT | CONNACK;
    0x23 TopicAlias(u16) in PUBLISH;
    0x24 MaximumQoS(QoS) in CONNACK;
    0x25 RetainAvailable(bool) in CONNACK;
    0x26 User((&'a str, &'a str)) in ANYWHERE;
    0x27 MaximumPacketSize(u32) in CONNECT | CONNACK;
    0x28 WildcardSubscriptionAvailable(bool) in CONNACK;
    0x29 SubscriptionIdentifiersAvailable(bool) in CONNACK;
    0x2A SharedSubscriptionAvailable(bool) in CONNACK;
}

impl Property<'_> {
    /// Values that their type could say, but the specification does not allow.
    fn check_value(self) -> Result<Self, DecodeError> {
        match self {
            Self::ReceiveMaximum(0) => Err(DecodeError::Protocol("receive maximum 0")),
            Self::MaximumPacketSize(0) => Err(DecodeError::Protocol("maximum packet size 0")),
            Self::SubscriptionIdentifier(Variable(0)) => {
                Err(DecodeError::Protocol("subscription identifier 0"))
            }
            Self::TopicAlias(0) => Err(DecodeError::TopicAliasInvalid),
            Self::ResponseTopic(topic) if crate::topic::validate_name(topic).is_err() => {
                Err(DecodeError::Protocol("response topic is not a topic name"))
            }
            valid => Ok(valid),
        }
    }

    /// Several User Properties may be anywhere, several Subscription Identifiers in a PUBLISH that
    /// matched several subscriptions (§3.3.2.3.8); everything else is there once.
    const fn may_repeat(self, place: Places) -> bool {
        match self {
            Self::User(_) => true,
            Self::SubscriptionIdentifier(_) => place == PUBLISH,
            _ => false,
        }
    }
}

/// Reads a Property Length and that many bytes of properties of `place`, handing out each.
///
/// The table holds which ones may come, so a caller ignores those that it does not match. What
/// follows one User Property too many is not read.
pub(super) fn read_properties<'a>(
    reader: &mut Reader<'a>,
    place: Places,
    mut each: impl FnMut(Property<'a>),
) -> Result<(), DecodeError> {
    let len = reader.varint()?;
    let mut section = Reader::new(reader.bytes(len as usize)?);
    let mut seen = 0_u64;
    let mut user = 0_usize;
    while !section.is_empty() {
        // Identifiers are Variable Byte Integers, but all of them have one byte (§2.2.2.2).
        let id = section.u8()?;
        let property = Property::read(id, place, &mut section)?.check_value()?;
        let bit = 1_u64 << (id & 63);
        if seen & bit != 0 && !property.may_repeat(place) {
            return Err(DecodeError::Protocol("property given twice"));
        }
        seen |= bit;
        let is_user = matches!(property, Property::User(_));
        each(property);
        if is_user {
            if user == reader.most_user_properties {
                return Ok(());
            }
            user += 1;
        }
    }
    Ok(())
}

/// Bytes of the properties without their Property Length.
pub(super) fn properties_len<'a>(properties: impl Iterator<Item = Property<'a>>) -> usize {
    properties.map(Property::wire_len).sum()
}

/// Appends Property Length and properties.
pub(super) fn write_properties<'a>(
    properties: impl Iterator<Item = Property<'a>> + Clone,
    out: &mut Vec<u8>,
) {
    write_varint(properties_len(properties.clone()), out);
    properties.for_each(|property| property.write(out));
}

/// User Properties as they are kept in packets that own their text.
pub(super) fn owned_pair((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// The User Properties of a packet that owns them, to be written.
pub(super) fn user_properties(
    user: &[(String, String)],
) -> impl Iterator<Item = Property<'_>> + Clone {
    user.iter()
        .map(|(name, value)| Property::User((name, value)))
}

/// A Variable Byte Integer as the value of a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Variable(pub(super) u32);

/// A type that a property's value can have (§2.2.2.2).
trait Wire<'a>: Copy {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError>;
    fn wire_len(self) -> usize;
    fn write(self, out: &mut Vec<u8>);
}

impl Wire<'_> for bool {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Protocol("property is neither 0 nor 1")),
        }
    }
    fn wire_len(self) -> usize {
        1
    }
    fn write(self, out: &mut Vec<u8>) {
        out.push(u8::from(self));
    }
}

/// Maximum QoS (§3.2.2.3.4): 2 is said by leaving the property out.
impl Wire<'_> for QoS {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match Self::from_bits(reader.u8()?) {
            Some(qos) if qos < Self::ExactlyOnce => Ok(qos),
            _ => Err(DecodeError::Protocol("maximum QoS is neither 0 nor 1")),
        }
    }
    fn wire_len(self) -> usize {
        1
    }
    fn write(self, out: &mut Vec<u8>) {
        out.push(self as u8);
    }
}

impl Wire<'_> for u16 {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.u16()
    }
    fn wire_len(self) -> usize {
        2
    }
    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_be_bytes());
    }
}

impl Wire<'_> for u32 {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.u32()
    }
    fn wire_len(self) -> usize {
        4
    }
    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_be_bytes());
    }
}

impl Wire<'_> for Variable {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.varint().map(Self)
    }
    fn wire_len(self) -> usize {
        varint_len(self.0 as usize)
    }
    fn write(self, out: &mut Vec<u8>) {
        write_varint(self.0 as usize, out);
    }
}

impl<'a> Wire<'a> for &'a str {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.str()
    }
    fn wire_len(self) -> usize {
        str_len(self)
    }
    fn write(self, out: &mut Vec<u8>) {
        write_str(self, out);
    }
}

impl<'a> Wire<'a> for &'a [u8] {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.binary()
    }
    fn wire_len(self) -> usize {
        binary_len(self)
    }
    fn write(self, out: &mut Vec<u8>) {
        write_binary(self, out);
    }
}

impl<'a> Wire<'a> for (&'a str, &'a str) {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok((reader.str()?, reader.str()?))
    }
    fn wire_len(self) -> usize {
        str_len(self.0) + str_len(self.1)
    }
    fn write(self, out: &mut Vec<u8>) {
        write_str(self.0, out);
        write_str(self.1, out);
    }
}
