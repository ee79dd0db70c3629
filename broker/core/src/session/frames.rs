//! The PUBLISH packets of one message, encoded once and shared by all receivers that get the same
//! bytes but for the Packet Identifier.
//!
//! The first receiver of a kind encodes the packet into its own output; the others copy it from
//! here. The memory is used again for the next message.

use super::CursorMark;
use crate::codec::{Version, publish_packet_id_at};
use crate::message::QoS;

/// Packets of one message; see the module.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    bytes: Vec<u8>,
    made: Vec<Made>,
}

/// What makes packets of one message differ between receivers. MQTT 3.1 and 3.1.1 write the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kind {
    has_properties: bool,
    qos: QoS,
    retain: bool,
    has_cursor: bool,
}

#[derive(Clone, Copy, Debug)]
struct Made {
    kind: Kind,
    start: usize,
    end: usize,
    /// Where the Packet Identifier is, bytes from the start; there at QoS 1 and 2 only.
    packet_id_at: Option<usize>,
}

/// A packet of a message, but for the Packet Identifier.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    bytes: &'a [u8],
    packet_id_at: Option<usize>,
}

impl Kind {
    fn new(version: Version, qos: QoS, retain: bool, cursor: CursorMark) -> Self {
        let has_properties = version == Version::V5;
        Self {
            has_properties,
            qos,
            retain,
            // The position after a message is the same for all that are told it.
            has_cursor: has_properties && cursor != CursorMark::Untold,
        }
    }
}

impl Frames {
    /// Another message follows.
    pub fn begin(&mut self) {
        self.bytes.clear();
        self.made.clear();
    }

    /// The packet for such a receiver, if there was one before.
    pub fn find(
        &self,
        version: Version,
        qos: QoS,
        retain: bool,
        cursor: CursorMark,
    ) -> Option<Frame<'_>> {
        let kind = Kind::new(version, qos, retain, cursor);
        let made = self.made.iter().find(|made| made.kind == kind)?;
        Some(Frame {
            bytes: self.bytes.get(made.start..made.end)?,
            packet_id_at: made.packet_id_at,
        })
    }

    /// Keeps the packet that the first such receiver got.
    pub fn remember(
        &mut self,
        version: Version,
        qos: QoS,
        retain: bool,
        cursor: CursorMark,
        frame: &[u8],
    ) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(frame);
        self.made.push(Made {
            kind: Kind::new(version, qos, retain, cursor),
            start,
            end: self.bytes.len(),
            packet_id_at: publish_packet_id_at(frame).filter(|_| qos != QoS::AtMostOnce),
        });
    }
}

impl Frame<'_> {
    /// Bytes of the packet.
    pub fn len(self) -> usize {
        self.bytes.len()
    }

    /// Appends the packet with a Packet Identifier, which is 0 at QoS 0.
    pub fn append(self, packet_id: u16, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(self.bytes);
        let place = self
            .packet_id_at
            .and_then(|at| out.get_mut(start + at..)?.first_chunk_mut::<2>());
        if let Some(place) = place {
            *place = packet_id.to_be_bytes();
        }
    }
}
