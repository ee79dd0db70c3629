//! The shell of the broker, seen from outside: what comes in and what does not, what happens when
//! something fails, and what is there after a restart.

mod certificates;
mod chat;
mod command_line;
mod compression;
mod denials;
mod edges;
mod failure;
mod flow;
mod frames;
mod gateway;
mod goodbyes;
mod handshake;
mod many_rooms;
mod peer;
mod reauthentication;
mod records;
mod restart;
mod rights;
mod rooms;
mod secrets;
mod streams;
mod unread;
mod websocket;
