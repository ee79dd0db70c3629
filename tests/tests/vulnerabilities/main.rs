//! The known classes of vulnerabilities of MQTT brokers, each as a test of the whole program: what has
//! broken others must not break this one. WebSocket and HTTP have theirs in their own tests, and what
//! floods and a full disk do is tested with the limits.

mod client_ids;
mod configuration;
mod memory;
mod names;
mod races;
mod second_paths;
mod secrets;
