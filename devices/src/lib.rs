//! The other side of the wire: simulated sensors and fleets of them, as a library.
//!
//! Speaks MQTT 3.1.1 and 5.0 over TCP or WebSocket through rumqttc, and knows nothing of the inside
//! of any broker: it works against every one.

pub mod bench;
pub mod broker_address;
pub mod connection;
pub mod fleet;
pub mod outbox;
pub mod report;
pub mod scenario;
pub mod sensor;
pub mod time_span;
pub mod walk;
