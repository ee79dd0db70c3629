//! DISCONNECT (§3.14).

use super::header::PacketType;
use super::primitive::Reader;
use super::property::{Property, owned_pair, read_properties, user_properties, write_properties};
use super::{DecodeError, ReasonCode, Version};

/// The last packet of a connection. In MQTT 3.x only a client sends it, and it says nothing more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnect {
    /// `Success` is a normal disconnection.
    pub reason: ReasonCode,
    /// A new Session Expiry Interval, seconds (§3.14.2.2.2); only a client may send it.
    pub session_expiry_s: Option<u32>,
    /// For people and logs (§3.14.2.2.3).
    pub reason_string: Option<String>,
    /// Another server to use (§3.14.2.2.5).
    pub server_reference: Option<String>,
    /// User Properties, in the order sent.
    pub user: Vec<(String, String)>,
}

impl Disconnect {
    /// A DISCONNECT that says no more than its Reason Code.
    pub const fn new(reason: ReasonCode) -> Self {
        Self {
            reason,
            session_expiry_s: None,
            reason_string: None,
            server_reference: None,
            user: Vec::new(),
        }
    }

    pub(super) fn read(version: Version, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut disconnect = Self::new(ReasonCode::Success);
        // Reason Code and properties may be missing from the end (§3.14.2.1, §3.14.2.2.1).
        if version == Version::V5 && !reader.is_empty() {
            disconnect.reason = ReasonCode::read(reader, PacketType::Disconnect)?;
            if !reader.is_empty() {
                read_properties(
                    reader,
                    PacketType::Disconnect.bit(),
                    |property| match property {
                        Property::SessionExpiryInterval(s) => disconnect.session_expiry_s = Some(s),
                        Property::ReasonString(text) => {
                            disconnect.reason_string = Some(text.to_owned());
                        }
                        Property::ServerReference(server) => {
                            disconnect.server_reference = Some(server.to_owned());
                        }
                        Property::User(pair) => disconnect.user.push(owned_pair(pair)),
                        _ => {}
                    },
                )?;
            }
        }
        Ok(disconnect)
    }

    pub(super) fn write(&self, version: Version, out: &mut Vec<u8>) {
        if version != Version::V5 {
            return;
        }
        let properties = [
            self.session_expiry_s.map(Property::SessionExpiryInterval),
            self.reason_string.as_deref().map(Property::ReasonString),
            self.server_reference
                .as_deref()
                .map(Property::ServerReference),
        ]
        .into_iter()
        .flatten()
        .chain(user_properties(&self.user));
        let has_properties = properties.clone().next().is_some();
        if has_properties || self.reason != ReasonCode::Success {
            out.push(self.reason as u8);
        }
        if has_properties {
            write_properties(properties, out);
        }
    }
}
