//! Server-Sent Events and polling, against the real program: the same messages as over MQTT, on one
//! cursor, for who may have them, while they may.

mod bounds;
mod reader;
mod rights;
mod same;
mod wanderer;
