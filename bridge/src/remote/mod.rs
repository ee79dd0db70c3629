//! Links to other MQTT brokers: chosen topics carried in, out or both ways, over rumqttc.
//!
//! A link is a client of ours like any other (an in-memory connection that speaks MQTT 5, client
//! id `$link/{name}`) whose session never expires, and a client of the peer whose session never
//! expires either. So store and forward is the journal's and the peer's own work: what was not
//! acknowledged is delivered again. Nothing is kept here that could be lost.
//!
//! What holds:
//! * Out: our session is acknowledged only after the peer has acknowledged.
//! * In: the peer is acknowledged only after our broker has, and so after our journal has it.
//! * Out and in are two flows with a connection to the peer each (client ids `{id}-out` and `{id}`).
//!   When either side of a flow ends, both end, and both begin again: QoS 1 is at least once.
//! * QoS 2 is exactly once while the connections hold, and at least once when one breaks.
//! * What one side refuses for good, or is too large for it, is dropped and counted; what it cannot
//!   take now (Reason Codes 0x80, 0x83, 0x91, 0x97) ends the connections and comes again.
//! * Nothing goes round in circles: hops in a User Property (`hops`), No Local where MQTT 5 has
//!   it; with MQTT 3.1.1, which has neither, the peer's echoes are recognised (`echo`).
//!
//! What MQTT 3.1.1 peers cannot do: they send live messages without their RETAIN flag, their
//! retained messages again at each new subscription, and no properties.
//!
//! It does not know how the broker's own side works, where the options come from, nor who
//! publishes [`LinkStatus`].

mod acks;
mod backoff;
mod echo;
mod hops;
mod inward;
mod link;
mod local;
mod mapping;
mod options;
mod outstanding;
mod outward;
mod peer;
mod status;
#[cfg(test)]
mod tests;
mod tls;
mod translate;

pub use link::{Link, OpenLocal};
pub use mapping::{Direction, MapError, TopicMap};
pub use options::{LinkOptions, OptionsError, Protocol};
pub use status::{LinkState, LinkStatus};
pub use tls::{ClientTls, ClientTlsError};
