//! What is not an MQTT client talking to us: the journal and the state on disk, gateways to other
//! protocols, links to other brokers.

pub mod gateway;
pub mod journal;
pub mod priority;
pub mod remote;
pub mod state;
