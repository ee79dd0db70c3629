//! People as others see them: who is here, and to whom that is shown.
//!
//! Plain data with time as an argument. Nothing here knows connections, topics or the journal.

mod presence;
#[cfg(test)]
mod presence_tests;

pub use presence::{Presence, PresenceOptions, Shown, Standing, Visibility};
