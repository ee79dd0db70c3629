//! Accounts: who may sign in, with which secret, and what became of it. People and devices share
//! one space of names, because a name is a topic level: no device is ever called like a person.
//!
//! The name of a person who is gone stays in the book and is not given again, because messages, rooms
//! and direct messages under that name stay too.
//!
//! This module owns the record and how a journal entry changes it. It does not know how secrets are
//! made or checked, and holds none in the clear.

use std::fmt;
use std::sync::Arc;

use crate::message::UnixMillis;

/// Role of those who may do everything.
pub const ADMIN: &str = "admin";

/// One account, by its user name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRecord {
    /// The user whose device it is; `None`: a person.
    pub owner: Option<Arc<str>>,
    /// What it proves itself with.
    pub secret: Secret,
    /// False: it may not sign in.
    pub enabled: bool,
    /// Names of roles, sorted, each once.
    pub roles: Vec<Arc<str>>,
    /// When it was made.
    pub created: UnixMillis,
    /// Tokens that were issued before do not count.
    pub valid_from: UnixMillis,
    /// The person is gone; only the name is kept.
    pub deleted: bool,
}

/// What an account proves itself with, as it is stored.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Secret {
    /// Nothing does: it cannot sign in by itself.
    #[default]
    None,
    /// A password, as a PHC string (`$argon2id$...`).
    PasswordHash(Arc<str>),
    /// A random token, as its SHA-256.
    TokenHash([u8; 32]),
}

impl fmt::Debug for Secret {
    /// Says only what kind it is: hashes have no place in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::PasswordHash(_) => "PasswordHash(***)",
            Self::TokenHash(_) => "TokenHash(***)",
        })
    }
}

/// A change of one account, as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountChange {
    /// It was made, in place of one that had the name.
    Created(Box<AccountRecord>),
    /// It has another secret.
    SecretSet(Secret),
    /// It may sign in.
    Enabled,
    /// It may not sign in.
    Disabled,
    /// It has these roles.
    RolesSet(Vec<Arc<str>>),
    /// Tokens that were issued before do not count.
    TokensRevoked {
        /// As in [`AccountRecord::valid_from`].
        before: UnixMillis,
    },
    /// It is gone: of a person the name stays, of a device nothing.
    Deleted,
}

/// Applies `change` to the record of an account. Changes other than `Created` of an account that is
/// not there, or gone, are ignored: they are older than its end.
pub fn apply_account_change(record: &mut Option<AccountRecord>, change: &AccountChange) {
    if let AccountChange::Created(new) = change {
        *record = Some((**new).clone());
        return;
    }
    let Some(account) = record.as_mut().filter(|account| !account.deleted) else {
        return;
    };
    match change {
        AccountChange::Created(_) => {}
        AccountChange::SecretSet(secret) => account.secret.clone_from(secret),
        AccountChange::Enabled => account.enabled = true,
        AccountChange::Disabled => account.enabled = false,
        AccountChange::RolesSet(roles) => account.roles.clone_from(roles),
        AccountChange::TokensRevoked { before } => {
            account.valid_from = account.valid_from.max(*before);
        }
        AccountChange::Deleted if account.owner.is_some() => *record = None,
        AccountChange::Deleted => {
            account.secret = Secret::None;
            account.enabled = false;
            account.roles.clear();
            account.deleted = true;
        }
    }
}
