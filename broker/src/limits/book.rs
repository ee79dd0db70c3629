//! Bans as people make and end them: what is connected ends with a ban, and the audit log has who said so.
//!
//! Invariant: whatever door a word comes by, it goes through here, so that it is bounded, carried out and
//! written down in one way.

use std::fmt;
use std::io;
use std::sync::Arc;

use tidings_core::shard::{Shard, shard_of};

use super::{Ban, Banned};
use crate::audit::{Actor, AuditLog};
use crate::handshake::Reception;

/// Bytes of a name, and of a reason: a line, not a letter.
pub(crate) const MAX_WORDS: usize = 1024;

/// A ban as somebody pronounces it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// Whom.
    pub who: Banned,
    /// For how long; `None`: until somebody ends it.
    pub seconds: Option<u64>,
    /// What for; may be empty.
    pub why: String,
}

impl fmt::Display for Sentence {
    /// How long, and what for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seconds {
            Some(seconds) => write!(f, "for {seconds} s")?,
            None => f.write_str("for good")?,
        }
        match &*self.why {
            "" => Ok(()),
            why => write!(f, ": {why}"),
        }
    }
}

/// Why a ban was not made or ended, or not for good.
#[derive(Debug, thiserror::Error)]
pub enum BanError {
    /// A name is empty or too long.
    #[error("a name is empty or too long")]
    Name,
    /// The reason is too long.
    #[error("the reason is too long")]
    Why,
    /// Nobody is banned who could be let in.
    #[error("there is no such ban")]
    NoBan,
    /// It counts, and is forgotten with the process.
    #[error("it counts until the broker ends, and could not be written: {0}")]
    NotWritten(#[from] io::Error),
}

/// The book of bans of a running broker.
#[derive(Clone)]
pub struct BanBook {
    pub(crate) reception: Arc<Reception>,
    pub(crate) audit: AuditLog,
}

impl BanBook {
    /// Bans somebody, and ends what they have open; their sessions stay for when they may come again.
    ///
    /// # Errors
    /// If a name or the reason is too long, or it cannot be written: then it counts until the broker ends.
    pub async fn ban(&self, actor: &Actor, sentence: Sentence) -> Result<(), BanError> {
        check(&sentence.who)?;
        if sentence.why.len() > MAX_WORDS {
            return Err(BanError::Why);
        }
        let (whom, detail) = (sentence.who.to_string(), sentence.to_string());
        let banned = self.carry_out(sentence).await;
        let told = banned.as_ref().copied();
        self.audit.record(actor, "ban", &whom, &detail, told);
        banned
    }

    /// Ends a ban.
    ///
    /// # Errors
    /// If there is none, or that cannot be written: then it counts again after a restart.
    pub async fn unban(&self, actor: &Actor, who: Banned) -> Result<(), BanError> {
        check(&who)?;
        let whom = who.to_string();
        let ended = self.let_in(who).await;
        let told = ended.as_ref().copied();
        self.audit.record(actor, "unban", &whom, "", told);
        ended
    }

    /// All that count, in order.
    pub fn list(&self) -> Vec<(Banned, Ban)> {
        let limits = &self.reception.limits;
        limits.bans.list(limits.clock.now().unix_ms)
    }

    async fn carry_out(&self, sentence: Sentence) -> Result<(), BanError> {
        let Sentence { who, seconds, why } = sentence;
        let Reception {
            limits,
            clock,
            shards,
            book,
            ..
        } = &*self.reception;
        let now = clock.now().unix_ms;
        let until = seconds.map(|seconds| now.saturating_add(seconds.saturating_mul(1000)));
        let (bans, banned) = (limits.clone(), who.clone());
        let written = move || bans.bans.ban(banned, until, &why, now);
        let written = tokio::task::spawn_blocking(written).await;
        match who {
            Banned::Address(address) => shards.end_address(address),
            Banned::User(user) => book.disconnect(&user.as_str().into()),
            Banned::Client(client_id, user) => {
                let shard = shard_of(&client_id, shards.len());
                let end = move |now, shard: &mut Shard| {
                    shard.disconnect_client(now, &client_id, user.as_deref())
                };
                // If nobody is connected there is nothing to end.
                let _ = shards.visit(shard, end).await;
            }
        }
        Ok(written.map_err(io::Error::other)??)
    }

    async fn let_in(&self, who: Banned) -> Result<(), BanError> {
        let limits = self.reception.limits.clone();
        let now = self.reception.clock.now().unix_ms;
        let written = tokio::task::spawn_blocking(move || limits.bans.unban(&who, now)).await;
        match written.map_err(io::Error::other)?? {
            true => Ok(()),
            false => Err(BanError::NoBan),
        }
    }
}

fn check(who: &Banned) -> Result<(), BanError> {
    let is_name = |word: &String| !word.is_empty() && word.len() <= MAX_WORDS;
    let are_names = match who {
        Banned::Address(_) => true,
        Banned::User(user) => is_name(user),
        Banned::Client(client_id, user) => is_name(client_id) && user.as_ref().is_none_or(is_name),
    };
    are_names.then_some(()).ok_or(BanError::Name)
}

impl fmt::Debug for BanBook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BanBook").finish_non_exhaustive()
    }
}
