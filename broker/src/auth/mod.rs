//! Who a client is. The rest of the broker sees only the [`Identity`] that comes out.
//!
//! A user name becomes a topic level, so whatever establishes identities must give none that could
//! not be one: [`check_user_name`] says which. This module does not know connections.

mod open;

use std::future::Future;
use std::pin::Pin;

use tidings_core::codec::ReasonCode;
use tidings_core::rules::Identity;

pub use open::OpenMode;

/// Bytes of a user name: it is part of topics, of sessions and of every stored message.
pub const MAX_USER_NAME_BYTES: usize = 256;

/// What a client says about itself in its CONNECT.
#[derive(Clone, Copy, Debug)]
pub struct Credentials<'a> {
    /// User Name (§3.1.3.5).
    pub username: Option<&'a str>,
    /// Password (§3.1.3.6).
    pub password: Option<&'a [u8]>,
    /// Client Identifier; empty if one will be assigned.
    pub client_id: &'a str,
}

/// Why a client may not come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The user name cannot be a topic level.
    #[error("the user name is not allowed: {0}")]
    UserName(&'static str),
    /// The user name or the password is wrong; which one is not said.
    #[error("user name or password is wrong")]
    Credentials,
    /// The client is known and may not come in.
    #[error("not authorized")]
    NotAuthorized,
}

impl Denied {
    /// The Reason Code of the CONNACK.
    pub const fn reason(self) -> ReasonCode {
        match self {
            Self::UserName(_) | Self::Credentials => ReasonCode::BadUserNameOrPassword,
            Self::NotAuthorized => ReasonCode::NotAuthorized,
        }
    }
}

/// The answer to [`Authenticate::authenticate`], perhaps later.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<Identity, Denied>> + Send + 'a>>;

/// Establishes who a client is.
pub trait Authenticate: Send + Sync {
    /// Judges credentials. It may take its time: only the one client waits, and not for ever.
    fn authenticate<'a>(&'a self, credentials: Credentials<'a>) -> Answer<'a>;
}

/// Whether a user name can be a topic level of its own.
///
/// # Errors
/// [`Denied::UserName`].
pub fn check_user_name(name: &str) -> Result<(), Denied> {
    let refuse = |why| Err(Denied::UserName(why));
    if name.is_empty() {
        refuse("it is empty")
    } else if name.len() > MAX_USER_NAME_BYTES {
        refuse("it is too long")
    } else if name.starts_with('$') {
        refuse("names that begin with $ are reserved")
    } else if name.contains(['/', '+', '#', '\0']) {
        refuse("it contains one of / + # and U+0000")
    } else {
        Ok(())
    }
}
