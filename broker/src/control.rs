//! The control socket: how the program's own commands reach a broker that runs. A Unix socket in the
//! data directory, for its owner alone; one JSON request and one JSON answer per connection, each a
//! line.
//!
//! Invariants: only processes of the broker's own user, and root, are answered; a request is bounded in
//! bytes and time; secrets are in requests and answers, never in logs. What a request does is
//! [`execute`], with or without a socket. This module does not know the command line.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidings_core::account::Secret;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::auth::{AccountBook, AccountError, AccountInfo};
use crate::limits::{Ban, BanBook, Banned};

/// The socket's name in the data directory.
const SOCKET: &str = "control.sock";

/// Bytes of a request: names, a password, roles.
const MAX_REQUEST: u64 = 64 * 1024;

/// For a request and its answer; a change waits for the disk.
const PATIENCE: Duration = Duration::from_secs(30);

/// What can be asked for. No `Debug`: there are passwords in it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Adds a person.
    UserAdd {
        /// The user name.
        user: String,
        /// Without one, other means to sign in are needed.
        password: Option<String>,
        /// Names of roles.
        roles: Vec<String>,
    },
    /// Sets a password, and ends the sessions of the user.
    UserPasswd {
        /// The user name.
        user: String,
        /// The new password.
        password: String,
    },
    /// Sets the roles of a person.
    UserRoles {
        /// The user name.
        user: String,
        /// All roles from now on.
        roles: Vec<String>,
    },
    /// Locks a person out.
    UserDisable {
        /// The user name.
        user: String,
    },
    /// Lets a person in again.
    UserEnable {
        /// The user name.
        user: String,
    },
    /// Removes a person and their devices.
    UserDelete {
        /// The user name.
        user: String,
    },
    /// Lists people.
    UserList {},
    /// Adds a device, and answers with its token.
    DeviceAdd {
        /// Its name, which is its user name.
        device: String,
        /// Whose it is.
        owner: String,
    },
    /// Removes a device and its token.
    DeviceRevoke {
        /// Its name.
        device: String,
    },
    /// Lists devices.
    DeviceList {},
    /// Bans an address, a user or a client.
    Ban {
        /// Whom.
        who: Banned,
        /// For how long; `None`: until somebody ends it.
        seconds: Option<u64>,
        /// What for.
        why: String,
    },
    /// Ends a ban.
    Unban {
        /// Whose.
        who: Banned,
    },
    /// Lists bans.
    BanList {},
}

/// What is answered.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// It is done, and stored.
    Done,
    /// It is done; this is shown once.
    Token(String),
    /// Accounts in the order of names.
    Accounts(Vec<Account>),
    /// Bans, in order.
    Bans(Vec<BanLine>),
    /// It was not done.
    Error(String),
}

/// One ban, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanLine {
    /// Who is banned.
    pub who: Banned,
    /// Since when, for how long and why.
    pub ban: Ban,
}

/// What a request may change.
#[derive(Clone, Debug)]
pub struct Books {
    /// Accounts.
    pub accounts: Arc<AccountBook>,
    /// Bans.
    pub bans: BanBook,
}

/// One account, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Its name.
    pub user: String,
    /// Whose device it is; `None`: a person.
    pub owner: Option<String>,
    /// False: it may not sign in.
    pub enabled: bool,
    /// Names of roles.
    pub roles: Vec<String>,
    /// `"password"`, `"token"` or `"none"`.
    pub secret: String,
    /// When it was made, milliseconds since 1970.
    pub created: u64,
}

impl From<AccountInfo> for Account {
    fn from(AccountInfo { user, record }: AccountInfo) -> Self {
        let secret = match record.secret {
            Secret::None => "none",
            Secret::PasswordHash(_) => "password",
            Secret::TokenHash(_) => "token",
        };
        Self {
            user: user.to_string(),
            owner: record.owner.map(|owner| owner.to_string()),
            enabled: record.enabled,
            roles: record.roles.iter().map(ToString::to_string).collect(),
            secret: secret.to_owned(),
            created: record.created,
        }
    }
}

/// Does what is asked for.
pub async fn execute(books: &Books, request: Request) -> Reply {
    let book = &*books.accounts;
    let done = |result: Result<(), AccountError>| result.map(|()| Reply::Done);
    let list =
        |devices| Reply::Accounts(book.list(devices).into_iter().map(Account::from).collect());
    let result = match request {
        Request::UserAdd {
            user,
            password,
            roles,
        } => done(book.add_user(&user, password, &roles).await),
        Request::UserPasswd { user, password } => done(book.set_password(&user, password).await),
        Request::UserRoles { user, roles } => done(book.set_roles(&user, &roles).await),
        Request::UserDisable { user } => done(book.disable(&user).await),
        Request::UserEnable { user } => done(book.enable(&user).await),
        Request::UserDelete { user } => done(book.delete(&user).await),
        Request::UserList {} => Ok(list(false)),
        Request::DeviceAdd { device, owner } => book
            .add_device(&device, &owner)
            .await
            .map(|token| Reply::Token(token.expose().to_owned())),
        Request::DeviceRevoke { device } => done(book.revoke_device(&device).await),
        Request::DeviceList {} => Ok(list(true)),
        Request::Ban { who, seconds, why } => {
            return match books.bans.ban(who, seconds, why).await {
                Ok(()) => Reply::Done,
                Err(error) => Reply::Error(format!(
                    "the ban counts until the broker ends, and could not be written: {error}"
                )),
            };
        }
        Request::Unban { who } => {
            return match books.bans.unban(who).await {
                Ok(true) => Reply::Done,
                Ok(false) => Reply::Error("there is no such ban".to_owned()),
                Err(error) => Reply::Error(format!(
                    "the ban is over until the broker ends, and that could not be written: {error}"
                )),
            };
        }
        Request::BanList {} => {
            let bans = books.bans.list().into_iter();
            return Reply::Bans(bans.map(|(who, ban)| BanLine { who, ban }).collect());
        }
    };
    result.unwrap_or_else(|error| Reply::Error(error.to_string()))
}

/// A control socket that is served; it is gone when this is dropped.
#[derive(Debug)]
pub struct ControlSocket {
    path: PathBuf,
    serving: JoinHandle<()>,
}

/// Serves the control socket of a data directory that this process holds. Needs a tokio runtime.
///
/// # Errors
/// If the socket cannot be made; the path of a socket has at most some hundred bytes.
pub fn serve(data_dir: &Path, books: Books) -> io::Result<ControlSocket> {
    let path = data_dir.join(SOCKET);
    // Whoever made it is gone: the directory is ours.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    let serving = tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) if is_ours(&stream) => {
                    let books = books.clone();
                    tokio::spawn(async move {
                        match timeout(PATIENCE, answer(stream, &books)).await {
                            Ok(Ok(())) => {}
                            Ok(Err(error)) => debug!(%error, "control connection"),
                            Err(_) => debug!("control connection: too slow"),
                        }
                    });
                }
                Ok(_) => debug!("control connection of another user"),
                Err(error) => {
                    warn!(%error, "the control socket does not work any more");
                    return;
                }
            }
        }
    });
    Ok(ControlSocket { path, serving })
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        self.serving.abort();
        // If it stays, the next start removes it.
        let _ = fs::remove_file(&self.path);
    }
}

/// The permissions of the socket say the same, from the moment they are set.
fn is_ours(stream: &UnixStream) -> bool {
    let own = rustix::process::getuid().as_raw();
    stream
        .peer_cred()
        .is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

async fn answer(stream: UnixStream, books: &Books) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = Vec::new();
    tokio::io::BufReader::new(reader.take(MAX_REQUEST))
        .read_until(b'\n', &mut line)
        .await?;
    let reply = match serde_json::from_slice(&line) {
        Ok(request) => execute(books, request).await,
        // The error of serde would repeat what it found.
        Err(_) => Reply::Error("the request cannot be read".to_owned()),
    };
    let mut bytes = serde_json::to_vec(&reply).map_err(io::Error::other)?;
    bytes.push(b'\n');
    writer.write_all(&bytes).await
}

/// Asks the broker that holds a data directory; `None` if there is none.
///
/// # Errors
/// If it does not answer as it should.
pub fn ask(data_dir: &Path, request: &Request) -> io::Result<Option<Reply>> {
    use io::ErrorKind::{ConnectionRefused, NotFound};
    let mut stream = match StdUnixStream::connect(data_dir.join(SOCKET)) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), NotFound | ConnectionRefused) => return Ok(None),
        Err(error) => return Err(error),
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut bytes = serde_json::to_vec(request).map_err(io::Error::other)?;
    bytes.push(b'\n');
    stream.write_all(&bytes)?;
    let mut line = String::new();
    BufReader::new(stream.take(u64::from(u32::MAX))).read_line(&mut line)?;
    serde_json::from_str(&line)
        .map(Some)
        .map_err(|_| io::Error::other("the broker's answer cannot be read"))
}
