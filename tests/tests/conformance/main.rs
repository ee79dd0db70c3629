//! Conformance with MQTT 3.1.1 and 5.0, through the real listeners: one test for each statement of
//! the specifications that a server can be held to, named by its number in 5.0.
//!
//! `tests/CONFORMANCE.md` lists every statement with the tests that hold it, or why none does;
//! [`table`] keeps that list true. Tests of one packet alone are in the codec, beside its code.
//! All tests share one broker and use topics and client identifiers of their own; few start another
//! one, with other limits.

mod connect;
mod door;
mod flow_control;
mod limits;
mod malformed;
mod properties;
mod publish;
mod qos;
mod retained;
mod session;
mod shared;
mod subscribe;
mod table;
mod unsubscribe;
mod websocket;
mod will;
