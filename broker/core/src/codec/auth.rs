//! AUTH (§3.15), which only MQTT 5 has.

use super::header::PacketType;
use super::primitive::Reader;
use super::property::{Property, owned_pair, read_properties, user_properties, write_properties};
use super::{DecodeError, ReasonCode};

/// A step of an extended authentication (§4.12).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// `Success`, `ContinueAuthentication` or `ReAuthenticate`.
    pub reason: ReasonCode,
    /// Authentication Method; always there unless `reason` is `Success`.
    pub method: Option<String>,
    /// Authentication Data; never without a method.
    pub data: Option<Vec<u8>>,
    /// For people and logs (§3.15.2.2.4).
    pub reason_string: Option<String>,
    /// User Properties, in the order sent.
    pub user: Vec<(String, String)>,
}

impl Auth {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut auth = Self {
            reason: ReasonCode::Success,
            method: None,
            data: None,
            reason_string: None,
            user: Vec::new(),
        };
        // Nothing at all stands for Success without properties (§3.15.2.1).
        if reader.is_empty() {
            return Ok(auth);
        }
        auth.reason = ReasonCode::read(reader, PacketType::Auth)?;
        read_properties(reader, PacketType::Auth.bit(), |property| match property {
            Property::AuthenticationMethod(method) => auth.method = Some(method.to_owned()),
            Property::AuthenticationData(data) => auth.data = Some(data.to_owned()),
            Property::ReasonString(text) => auth.reason_string = Some(text.to_owned()),
            Property::User(pair) => auth.user.push(owned_pair(pair)),
            _ => {}
        })?;
        let needs_method = auth.reason != ReasonCode::Success || auth.data.is_some();
        if needs_method && auth.method.is_none() {
            return Err(DecodeError::Protocol("AUTH without authentication method"));
        }
        Ok(auth)
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let properties = [
            self.method.as_deref().map(Property::AuthenticationMethod),
            self.data.as_deref().map(Property::AuthenticationData),
            self.reason_string.as_deref().map(Property::ReasonString),
        ]
        .into_iter()
        .flatten()
        .chain(user_properties(&self.user));
        if self.reason == ReasonCode::Success && properties.clone().next().is_none() {
            return;
        }
        out.push(self.reason as u8);
        write_properties(properties, out);
    }
}
