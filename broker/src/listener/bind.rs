//! Sockets that listen: made here, or handed over by whoever started the program.
//!
//! Invariants: nobody connects to a Unix socket before its permissions are set; a file that is no socket,
//! or on whose other end somebody listens, is never removed; what was made here is removed in the end,
//! unless somebody else has put another in its place; what was handed over stays.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use super::{Address, Options, Source};
use crate::transport::Wire;

/// Connections that the kernel completes while nobody accepts: a burst of reconnecting clients.
const BACKLOG: i32 = 1024;

/// Bytes that the system keeps for a connection and could not send yet (tcp(7), `TCP_NOTSENT_LOWAT`). What is not
/// read stays in the journal then, and not as megabytes in a socket: of each of those who do not read, of
/// each who went without a word, and at once when many come back. Enough for a large write, and the next one.
const UNSENT: u32 = 256 * 1024;

/// A listener that is bound and does not accept yet.
pub(crate) struct Bound {
    pub options: Options,
    socket: Socket,
    file: Option<SocketFile>,
    /// Where it really listens.
    pub address: Address,
}

/// The file of a Unix socket that was made here; removed when this is dropped.
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode: another file of that path is not ours.
    identity: (u64, u64),
}

/// Binds the socket, without a runtime.
///
/// # Errors
/// What the system says: the address is in use, or not ours.
pub(crate) fn bind(options: Options) -> io::Result<Bound> {
    let (socket, file) = match (&options.handed_over, &options.address) {
        (Some(socket), _) => (adopt(socket)?, None),
        (None, Address::Network(address)) => (bind_network(*address, options.ipv6_only)?, None),
        (None, Address::Unix(path)) => {
            let (socket, file) = bind_unix(path, options.socket_mode)?;
            (socket, Some(file))
        }
    };
    let address = Address::of(&socket.local_addr()?).ok_or_else(|| {
        io::Error::other("the socket is neither one of TCP nor a Unix socket with a path")
    })?;
    Ok(Bound {
        options,
        socket,
        file,
        address,
    })
}

fn bind_network(address: SocketAddr, ipv6_only: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A restart must not wait for connections of the last run to be forgotten.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // Said in any case: what holds without it is the machine's choice.
        socket.set_only_v6(ipv6_only)?;
    }
    prepare(&socket, true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

fn bind_unix(path: &Path, mode: u32) -> io::Result<(Socket, SocketFile)> {
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    prepare(&socket, false)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile {
        identity: identity(path)?,
        path: path.to_owned(),
    };
    // Before it listens nobody can connect, whatever the permissions are now.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    socket.listen(BACKLOG)?;
    Ok((socket, file))
}

/// Removes a socket that nobody listens on any more.
fn remove_stale(path: &Path) -> io::Result<()> {
    let in_use = |why: &str| Err(io::Error::new(io::ErrorKind::AddrInUse, why.to_owned()));
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(there) if !there.file_type().is_socket() => {
            return in_use("there is a file of that name which is no socket");
        }
        Ok(_) => {}
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Somebody who listens and does not accept is not waited for.
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(()) => in_use("somebody listens on that socket"),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            in_use("somebody listens on that socket")
        }
        Err(error) => Err(error),
    }
}

/// A socket that somebody else has bound, and perhaps listens on already.
fn adopt(socket: &Arc<OwnedFd>) -> io::Result<Socket> {
    let socket = Socket::from(socket.try_clone()?);
    if socket.r#type()? != Type::STREAM {
        return Err(io::Error::other(
            "the socket that was handed over is not one of streams",
        ));
    }
    prepare(&socket, socket.domain()? != Domain::UNIX)?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

fn prepare(socket: &Socket, is_network: bool) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    if is_network {
        // Messages are small and people wait for them. Accepted sockets inherit it.
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_notsent_lowat(UNSENT)?;
    }
    Ok(())
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let there = fs::symlink_metadata(path)?;
    Ok((there.dev(), there.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // If it stays, the next start removes it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Address {
    /// Where a socket is bound; `None`: neither to a port nor to a path.
    fn of(address: &SockAddr) -> Option<Self> {
        let network = address.as_socket().map(Self::Network);
        network.or_else(|| Some(Self::Unix(address.as_pathname()?.to_owned())))
    }
}

impl Bound {
    /// Begins to accept, in the runtime of this thread.
    ///
    /// # Errors
    /// If the runtime cannot watch the socket.
    pub fn into_acceptor(self) -> io::Result<Acceptor> {
        Ok(match &self.address {
            Address::Network(_) => Acceptor::Network(TcpListener::from_std(self.socket.into())?),
            Address::Unix(_) => {
                let socket = StdUnixListener::from(OwnedFd::from(self.socket));
                Acceptor::Unix(UnixListener::from_std(socket)?, self.file)
            }
        })
    }
}

/// A listener that accepts.
pub(crate) enum Acceptor {
    Network(TcpListener),
    Unix(
        UnixListener,
        #[expect(dead_code, reason = "held for its drop")] Option<SocketFile>,
    ),
}

impl Acceptor {
    /// The next connection.
    ///
    /// # Errors
    /// What the system says, of the connection or of the listener.
    pub async fn accept(&self) -> io::Result<(Wire, Source)> {
        match self {
            Self::Network(listener) => {
                let (socket, address) = listener.accept().await?;
                Ok((socket.into(), Source::network(address)))
            }
            Self::Unix(listener, _) => {
                let (socket, _) = listener.accept().await?;
                let uid = socket.peer_cred().ok().map(|peer| peer.uid());
                Ok((socket.into(), Source::Unix { uid }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};
    use std::os::unix::net::UnixStream;

    use tempfile::TempDir;

    use super::super::Kind;
    use super::*;

    fn unix(path: &Path, mode: u32) -> Options {
        Options {
            socket_mode: mode,
            ..Options::new(Kind::Tcp, Address::Unix(path.to_owned()))
        }
    }

    #[test]
    fn a_unix_socket_has_its_permissions_and_goes_with_its_listener() {
        let home = TempDir::new().unwrap();
        let path = home.path().join("a.sock");
        for mode in [0o600, 0o666] {
            let bound = bind(unix(&path, mode)).unwrap();
            assert_eq!(bound.address, Address::Unix(path.clone()));
            let there = fs::metadata(&path).unwrap();
            assert_eq!(there.permissions().mode() & 0o777, mode);
            drop(UnixStream::connect(&path).unwrap());
            drop(bound);
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_socket_that_nobody_listens_on_is_replaced_and_every_other_file_stays() {
        let home = TempDir::new().unwrap();
        let path = home.path().join("a.sock");
        drop(StdUnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let bound = bind(unix(&path, 0o600)).unwrap();
        let refused = bind(unix(&path, 0o600)).err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        drop(UnixStream::connect(&path).unwrap());

        // Another in its place is not ours to remove.
        fs::remove_file(&path).unwrap();
        let other = StdUnixListener::bind(&path).unwrap();
        drop(bound);
        drop(UnixStream::connect(&path).unwrap());
        drop(other);

        let file = home.path().join("file");
        fs::write(&file, "words").unwrap();
        let refused = bind(unix(&file, 0o600)).err().unwrap();
        assert!(refused.to_string().contains("no socket"), "{refused}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "words");
    }

    #[test]
    fn an_ipv6_address_takes_ipv4_too_unless_it_is_told_not_to() {
        for ipv6_only in [false, true] {
            let all = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
            let bound = bind(Options {
                ipv6_only,
                ..Options::new(Kind::Tcp, all)
            });
            let bound = bound.unwrap();
            let Address::Network(address) = bound.address else {
                panic!("{:?}", bound.address);
            };
            let port = address.port();
            assert!(TcpStream::connect((Ipv6Addr::LOCALHOST, port)).is_ok());
            let by_ipv4 = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
            assert_eq!(by_ipv4.is_err(), ipv6_only);
        }
    }

    #[test]
    fn who_does_not_read_has_little_in_its_socket() {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let bound = bind(Options::new(Kind::Tcp, any)).unwrap();
        let Address::Network(address) = bound.address else {
            panic!("{:?}", bound.address);
        };
        let deaf = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        // What its own side takes is not ours to say.
        deaf.set_recv_buffer_size(16 * 1024).unwrap();
        deaf.connect(&address.into()).unwrap();
        let (accepted, _) = bound.socket.accept().unwrap();
        accepted.set_nonblocking(true).unwrap();
        let mut accepted = TcpStream::from(accepted);
        let mut taken = 0;
        let full = loop {
            match accepted.write(&[0; 16 * 1024]) {
                Ok(len) => taken += len,
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
        let (least, most) = (UNSENT as usize / 2, UNSENT as usize + 128 * 1024);
        assert!((least..=most).contains(&taken), "{taken}");
    }

    #[tokio::test]
    async fn a_socket_that_was_handed_over_is_used_as_it_is_and_stays() {
        let home = TempDir::new().unwrap();
        let path = home.path().join("a.sock");
        let made = StdUnixListener::bind(&path).unwrap();
        let options = Options {
            handed_over: Some(Arc::new(OwnedFd::from(made.try_clone().unwrap()))),
            // What it is bound to counts.
            ..Options::new(Kind::Tcp, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        };
        let bound = bind(options).unwrap();
        assert_eq!(bound.address, Address::Unix(path.clone()));
        let acceptor = bound.into_acceptor().unwrap();
        let mut client = UnixStream::connect(&path).unwrap();
        let (wire, source) = acceptor.accept().await.unwrap();
        assert!(
            matches!(source, Source::Unix { uid: Some(_) }),
            "{source:?}"
        );
        drop(wire);
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        drop(acceptor);
        assert!(path.exists());
    }
}
