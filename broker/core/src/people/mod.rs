//! People as others see them: who is here, and to whom that is shown; and what they have not read.
//!
//! Plain data with time as an argument. Nothing here knows connections, topics or the journal.

mod presence;
#[cfg(test)]
mod presence_tests;
mod unread;

pub use presence::{Presence, PresenceOptions, Shown, Standing, Visibility};
pub use unread::{MAX_TAIL, Reader, Tail, Unread};
