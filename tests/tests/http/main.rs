//! The HTTP API of the real program, over TCP: who comes in, what each resource does, and that it is
//! what MQTT does.

mod caller;
mod login;
mod messages;
mod operators;
mod people;
mod requests;
mod rooms;
mod sessions;
