//! Our codec against independent ones, `mqtt-proto` and `rmqtt-codec`, over packets made from a seed:
//! nearly valid ones, with wrong values, wrong properties and damaged bytes among them.
//!
//! Both must accept the same packets and mean the same by them: what one writes the other reads as
//! the packet it began with. Each disagreement that remains is listed there with its reason, and each
//! reason must occur, so that the list stays true.

mod foreign;
mod packets;
mod proto;
mod rmqtt;
