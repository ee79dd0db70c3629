//! What is not an MQTT client talking to us: the journal and the state on disk, links to other
//! brokers.

pub mod journal;
pub mod remote;
pub mod state;
