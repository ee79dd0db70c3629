//! Who a client is. The rest of the broker sees only the [`Identity`] that comes out.
//!
//! A user name becomes a topic level, so whatever establishes identities must give none that could
//! not be one: [`check_user_name`] says which. No secret is ever logged, and none is in an error or in
//! what `Debug` prints. This module does not know connections.

mod accounts;
mod attempts;
mod book;
mod certificate;
mod doors;
mod hook;
mod jwt;
mod logins;
mod open;
mod passwords;
pub mod signing;
mod token;

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use tidings_core::codec::ReasonCode;
use tidings_core::message::UnixMillis;
use tidings_core::rules::Identity;

pub use accounts::{Accounts, Options as AccountOptions};
pub use attempts::{Attempts, Limit};
pub(crate) use book::Commits;
pub use book::{AccountBook, AccountError, AccountInfo};
pub(crate) use certificate::certified;
pub use certificate::{Certified, ClientName, NameError};
pub(crate) use doors::ByDoor;
pub use hook::{Hook, Options as HookOptions};
pub use jwt::{KeyError, Options as TokenOptions, Tokens};
pub(crate) use logins::WithLogins;
pub use logins::{Login, Logins};
pub use open::OpenMode;
pub use passwords::{Options as PasswordOptions, PasswordError, Passwords};
pub use token::DeviceToken;

/// Bytes of a user name: it is part of topics, of sessions and of every stored message.
pub const MAX_USER_NAME_BYTES: usize = 256;

/// What a client says about itself in its CONNECT.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    /// User Name (§3.1.3.5).
    pub username: Option<&'a str>,
    /// Password (§3.1.3.6).
    pub password: Option<&'a [u8]>,
    /// Client Identifier; empty if one will be assigned.
    pub client_id: &'a str,
    /// Where it comes from, if from the network.
    pub address: Option<IpAddr>,
    /// A token that came with the request for a WebSocket.
    pub bearer: Option<&'a str>,
    /// What the certificate says that it showed when TLS began; it was found good, and it counts for
    /// the name in it alone.
    pub certificate: Option<&'a Certified>,
    /// How those who come by its listener prove who they are.
    pub door: DoorMode,
}

/// How those who come by one listener prove who they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DoorMode {
    /// As the broker wants it.
    #[default]
    Inherit,
    /// Everyone is who they say they are.
    Open,
    /// By the accounts of the broker.
    Accounts,
}

impl fmt::Debug for Credentials<'_> {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .field("password", &self.password.map(|_| "***"))
            .field("client_id", &self.client_id)
            .field("address", &self.address)
            .field("bearer", &self.bearer.map(|_| "***"))
            .field("certificate", &self.certificate)
            .field("door", &self.door)
            .finish()
    }
}

/// A client that may come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Who it is.
    pub identity: Identity,
    /// When what it proved ends, and its connection with it; `None`: never by itself.
    pub valid_until: Option<UnixMillis>,
    /// There is an account of this name: without it, the client is not welcome any more.
    pub has_account: bool,
    /// The login that it showed: when that is given back, its connection ends.
    pub login: Option<Arc<str>>,
    /// The [`Certified::thumbprint`] of a certificate that alone proved it: what it is given counts beside that one.
    pub thumbprint: Option<Arc<str>>,
    /// It was believed without proof: what it is given counts where that is enough.
    pub unproved: bool,
    /// The roles that the account had: with others, the client has to come again.
    pub account_roles: Vec<Arc<str>>,
}

impl Admitted {
    /// Until further notice.
    pub const fn as_one(identity: Identity) -> Self {
        Self {
            identity,
            valid_until: None,
            has_account: false,
            login: None,
            thumbprint: None,
            unproved: false,
            account_roles: Vec::new(),
        }
    }
}

/// Why a client may not come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The user name cannot be a topic level.
    #[error("the user name is not allowed: {0}")]
    UserName(&'static str),
    /// The certificate names nobody who may come in.
    #[error(transparent)]
    Certificate(NameError),
    /// The user name or the password is wrong; which one is not said.
    #[error("user name or password is wrong")]
    Credentials,
    /// A token that counted once, and does not any more.
    #[error("the token has come to its end, sign in again")]
    Outdated,
    /// The client is known and may not come in.
    #[error("not authorized")]
    NotAuthorized,
    /// Too many wrong passwords from this address, or for this user.
    #[error("too many failed attempts, try again later")]
    TooManyAttempts,
    /// Whoever has to decide cannot be reached. Nobody comes in meanwhile.
    #[error("authentication is not available")]
    Unavailable,
}

impl Denied {
    /// The Reason Code of the CONNACK.
    pub const fn reason(self) -> ReasonCode {
        match self {
            Self::UserName(_) | Self::Credentials | Self::Outdated => {
                ReasonCode::BadUserNameOrPassword
            }
            Self::NotAuthorized | Self::Certificate(_) => ReasonCode::NotAuthorized,
            Self::TooManyAttempts => ReasonCode::ConnectionRateExceeded,
            Self::Unavailable => ReasonCode::ServerUnavailable,
        }
    }
}

/// The answer to [`Authenticate::authenticate`], perhaps later.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<Admitted, Denied>> + Send + 'a>>;

/// Establishes who a client is.
pub trait Authenticate: Send + Sync {
    /// Judges credentials. It may take its time: only the one client waits, and not for ever.
    fn authenticate<'a>(&'a self, credentials: Credentials<'a>) -> Answer<'a>;

    /// Whether someone who was admitted is still welcome: asked again once its session is on its
    /// way, so that a ban while a password was being checked is not missed.
    fn is_welcome(&self, _admitted: &Admitted) -> bool {
        true
    }

    /// Whether it tells users apart: a session is then its user's, and nobody else ends it by coming with
    /// its Client Identifier.
    fn tells_apart(&self) -> bool {
        true
    }
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
    } else if name.contains(['/', '+', '#']) {
        refuse("it contains one of / + and #")
    } else if name.contains(char::is_control) {
        refuse("it contains a control character")
    } else {
        Ok(())
    }
}
