//! Bans as people make and end them: what is connected ends with it.

use std::io;
use std::sync::Arc;

use super::{Ban, Banned};
use crate::handshake::Reception;

/// The book of bans of a running broker.
#[derive(Clone)]
pub struct BanBook(pub(crate) Arc<Reception>);

impl BanBook {
    /// Bans somebody for so many seconds, or until somebody ends it, and ends what they have open.
    ///
    /// # Errors
    /// If it cannot be written: then it counts until the broker ends.
    pub async fn ban(&self, who: Banned, seconds: Option<u64>, why: String) -> io::Result<()> {
        self.0.ban(who, seconds, why).await
    }

    /// Ends a ban; false if there is none.
    ///
    /// # Errors
    /// If that cannot be written: then it counts again after a restart.
    pub async fn unban(&self, who: Banned) -> io::Result<bool> {
        self.0.unban(who).await
    }

    /// All that count, in order.
    pub fn list(&self) -> Vec<(Banned, Ban)> {
        let limits = &self.0.limits;
        limits.bans.list(limits.clock.now().unix_ms)
    }
}

impl std::fmt::Debug for BanBook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BanBook").finish_non_exhaustive()
    }
}
