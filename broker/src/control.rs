//! The control socket: how the program's own commands reach a broker that runs. A Unix socket in the
//! data directory, for its owner alone; one JSON request and one JSON answer per connection, each a
//! line.
//!
//! Invariants: only processes of the broker's own user, and root, are answered; a request is bounded in
//! bytes and time; secrets are in requests and answers, never in logs. What a request does is
//! [`execute`], with or without a socket. This module does not know the command line.

use std::convert::Infallible;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidings_core::account::Secret;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::Running;
use crate::audit::{Actor, AuditLog};
use crate::auth::{AccountError, AccountInfo};
use crate::limits::{Ban, Banned, Sentence};
use crate::trace::Wanted;

/// The socket's name in the data directory.
const SOCKET: &str = "control.sock";

/// Bytes of a request: names, a password, roles.
const MAX_REQUEST: u64 = 64 * 1024;

/// For a request and its answer; a change waits for the disk.
const PATIENCE: Duration = Duration::from_secs(30);

/// Before somebody is let in again, when the system could not.
const AGAIN: Duration = Duration::from_secs(1);

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
    /// Notes that a token was signed with the key of the data directory.
    TokenSigned {
        /// Whose it is.
        user: String,
        /// For how long, and what it gives.
        detail: String,
    },
    /// Ends a ban.
    Unban {
        /// Whose.
        who: Banned,
    },
    /// Lists bans.
    BanList {},
    /// Tells what something does, as [`follow`] reads it, until whoever asked goes.
    Trace {
        /// What.
        wanted: Wanted,
    },
}

impl Request {
    /// Writes down that it was done, where no broker does.
    pub fn note(&self, log: &AuditLog, actor: &Actor) {
        if let Some((what, whom, detail)) = self.act() {
            log.record(actor, what, whom, &detail, Ok::<_, Infallible>(()));
        }
    }

    /// What the audit log calls it, and on whom it acts; `None`: it changes nothing, or is a ban, and
    /// written down with all others.
    fn act(&self) -> Option<(&'static str, &str, String)> {
        let plain = String::new;
        Some(match self {
            Self::UserAdd { user, roles, .. } => ("user_add", user, roles.join(" ")),
            Self::UserPasswd { user, .. } => ("user_passwd", user, plain()),
            Self::UserRoles { user, roles } => ("user_roles", user, roles.join(" ")),
            Self::UserDisable { user } => ("user_disable", user, plain()),
            Self::UserEnable { user } => ("user_enable", user, plain()),
            Self::UserDelete { user } => ("user_delete", user, plain()),
            Self::DeviceAdd { device, owner } => ("device_add", device, format!("of {owner}")),
            Self::DeviceRevoke { device } => ("device_revoke", device, plain()),
            Self::Trace { wanted } => {
                let told = serde_json::to_string(wanted).unwrap_or_default();
                ("trace", "", told)
            }
            Self::TokenSigned { user, detail } => ("token", user, detail.clone()),
            Self::Ban { .. }
            | Self::Unban { .. }
            | Self::UserList {}
            | Self::DeviceList {}
            | Self::BanList {} => return None,
        })
    }
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

/// Does what is asked for, and writes down who did.
pub async fn execute(broker: &Running, actor: &Actor, request: Request) -> Reply {
    let act = request
        .act()
        .map(|(what, whom, detail)| (what, whom.to_owned(), detail));
    let result = carry_out(broker, actor, request).await;
    if let Some((what, whom, detail)) = act {
        let told = result.as_ref().map(|_| ());
        broker.audit().record(actor, what, &whom, &detail, told);
    }
    result.unwrap_or_else(Reply::Error)
}

async fn carry_out(broker: &Running, actor: &Actor, request: Request) -> Result<Reply, String> {
    let (book, bans) = (broker.accounts(), broker.bans());
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
        Request::Trace { .. } => {
            return Err("only a broker that runs can be traced".to_owned());
        }
        // It is the note that counts.
        Request::TokenSigned { .. } => Ok(Reply::Done),
        Request::Ban { who, seconds, why } => {
            let banned = bans.ban(actor, Sentence { who, seconds, why }).await;
            return banned
                .map(|()| Reply::Done)
                .map_err(|error| error.to_string());
        }
        Request::Unban { who } => {
            let ended = bans.unban(actor, who).await;
            return ended
                .map(|()| Reply::Done)
                .map_err(|error| error.to_string());
        }
        Request::BanList {} => {
            let bans = bans.list().into_iter();
            Ok(Reply::Bans(
                bans.map(|(who, ban)| BanLine { who, ban }).collect(),
            ))
        }
    };
    result.map_err(|error| error.to_string())
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
pub fn serve(data_dir: &Path, broker: Arc<Running>) -> io::Result<ControlSocket> {
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
                Ok((stream, _)) => match ours(&stream) {
                    Some(actor) => {
                        let broker = broker.clone();
                        tokio::spawn(async move {
                            if let Err(error) = answer(stream, &broker, &actor).await {
                                debug!(%error, "control connection");
                            }
                        });
                    }
                    None => debug!("control connection of another user"),
                },
                // There may be no file descriptor to be had: whoever is to mend that needs this door.
                Err(error) => {
                    warn!(%error, "the control socket lets nobody in for a moment");
                    sleep(AGAIN).await;
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
fn ours(stream: &UnixStream) -> Option<Actor> {
    let own = rustix::process::getuid().as_raw();
    let peer = stream.peer_cred().ok()?.uid();
    (peer == own || peer == 0).then(|| Actor::local(peer))
}

async fn answer(stream: UnixStream, broker: &Running, actor: &Actor) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = tokio::io::BufReader::new(reader.take(MAX_REQUEST));
    let mut line = Vec::new();
    let too_slow = |_| io::Error::from(io::ErrorKind::TimedOut);
    timeout(PATIENCE, reader.read_until(b'\n', &mut line))
        .await
        .map_err(too_slow)??;
    let reply = match serde_json::from_slice(&line) {
        Ok(Request::Trace { wanted }) => {
            return tell(reader, writer, broker, actor, wanted).await;
        }
        Ok(request) => timeout(PATIENCE, execute(broker, actor, request))
            .await
            .map_err(too_slow)?,
        // The error of serde would repeat what it found.
        Err(_) => Reply::Error("the request cannot be read".to_owned()),
    };
    timeout(PATIENCE, write(&mut writer, &reply))
        .await
        .map_err(too_slow)?
}

async fn write(writer: &mut OwnedWriteHalf, value: &impl Serialize) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(value).map_err(io::Error::other)?;
    bytes.push(b'\n');
    writer.write_all(&bytes).await
}

/// A trace, a line each, until the other end is closed.
async fn tell(
    mut reader: impl AsyncRead + Unpin,
    mut writer: OwnedWriteHalf,
    broker: &Running,
    actor: &Actor,
    wanted: Wanted,
) -> io::Result<()> {
    let detail = serde_json::to_string(&wanted).unwrap_or_default();
    let following = broker.trace(wanted);
    let result = following.as_ref().map(|_| ()).map_err(|error| *error);
    broker.audit().record(actor, "trace", "", &detail, result);
    let mut following = match following {
        Ok(following) => following,
        Err(error) => return write(&mut writer, &Reply::Error(error.to_string())).await,
    };
    write(&mut writer, &Reply::Done).await?;
    let mut end = [0];
    loop {
        tokio::select! {
            told = following.next() => timeout(PATIENCE, write(&mut writer, &told))
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??,
            _ = reader.read(&mut end) => return Ok(()),
            () = ended(broker) => return Ok(()),
        }
    }
}

/// Waits until the broker has ended, however.
async fn ended(broker: &Running) {
    let _ = broker.wait().await;
}

/// Begins something that the broker tells line by line, and gives each line that is no [`Reply`] to `told`
/// until that says false, or the broker ends; false if there is no broker.
///
/// # Errors
/// If the broker refuses, or does not answer as it should.
pub fn follow(
    data_dir: &Path,
    request: &Request,
    mut told: impl FnMut(&str) -> bool,
) -> io::Result<bool> {
    let Some(mut stream) = connect(data_dir)? else {
        return Ok(false);
    };
    send(&mut stream, request)?;
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    match serde_json::from_str(&first) {
        Ok(Reply::Done) => {}
        Ok(Reply::Error(error)) => return Err(io::Error::other(error)),
        _ => return Err(io::Error::other("the broker's answer cannot be read")),
    }
    for line in lines {
        if !told(&line?) {
            break;
        }
    }
    Ok(true)
}

fn connect(data_dir: &Path) -> io::Result<Option<StdUnixStream>> {
    use io::ErrorKind::{ConnectionRefused, NotFound};
    match StdUnixStream::connect(data_dir.join(SOCKET)) {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if matches!(error.kind(), NotFound | ConnectionRefused) => Ok(None),
        Err(error) => Err(error),
    }
}

fn send(stream: &mut StdUnixStream, request: &Request) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut bytes = serde_json::to_vec(request).map_err(io::Error::other)?;
    bytes.push(b'\n');
    stream.write_all(&bytes)
}

/// Asks the broker that holds a data directory; `None` if there is none.
///
/// # Errors
/// If it does not answer as it should.
pub fn ask(data_dir: &Path, request: &Request) -> io::Result<Option<Reply>> {
    let Some(mut stream) = connect(data_dir)? else {
        return Ok(None);
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    send(&mut stream, request)?;
    let mut line = String::new();
    BufReader::new(stream.take(u64::from(u32::MAX))).read_line(&mut line)?;
    serde_json::from_str(&line)
        .map(Some)
        .map_err(|_| io::Error::other("the broker's answer cannot be read"))
}
