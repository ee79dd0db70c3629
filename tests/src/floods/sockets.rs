//! Connections of which nothing comes, or hardly anything: each costs the sender a socket, and the broker
//! whatever it spends before it knows who is there.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::Running;
use super::clients::connect_bytes;

/// What a page would begin a WebSocket with.
pub const HALF_A_REQUEST: &[u8] = b"GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: webs";

/// Between two looks at connections that are held.
const LOOK: Duration = Duration::from_millis(20);

/// Between two bytes of one connection: a CONNECT of forty takes ten seconds.
const DRIP: Duration = Duration::from_millis(250);

/// ClientHellos that are not answered yet: the broker always has one to work on.
const HELLOS: usize = 32;

/// Files of a test program that are no sockets of a flood.
const OTHER_FILES: usize = 300;

/// A PUBLISH of nearly 1 MiB, of which ten bytes come.
pub const ANNOUNCED: [u8; 11] = [0x30, 0xF0, 0xFF, 0x3F, 0x00, 0x01, b't', 0x00, 1, 2, 3];

/// The first packet of TLS, with a key share that the server can use: answering costs it a key exchange
/// and a signature.
///
/// # Panics
/// If rustls has changed its mind.
pub fn client_hello() -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions that the provider knows")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a configuration");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("memory is there");
    hello
}

/// Lets this process open so many sockets, or as many as the system allows; how many that is.
pub fn allow(sockets: usize) -> usize {
    let wanted = (sockets + OTHER_FILES) as u64;
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return sockets;
    };
    let raised = wanted.min(hard).max(soft);
    // What cannot be raised stays as it is.
    let there_are = match setrlimit(Resource::RLIMIT_NOFILE, raised, hard) {
        Ok(()) => raised,
        Err(_) => soft,
    };
    sockets.min((there_are as usize).saturating_sub(OTHER_FILES))
}

/// A connection that says `first`; nothing if the system or the broker does not take it.
pub fn open(to: SocketAddr, first: &[u8]) -> Option<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&to, crate::DEADLINE).ok()?;
    stream.set_nodelay(true).ok()?;
    // Who is turned away may be gone by now, and is seen to be.
    let _ = stream.write_all(first);
    stream.set_nonblocking(true).ok()?;
    Some(stream)
}

/// Whether the broker has ended a connection; what it said is thrown away.
pub fn is_over(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 4096]) {
        Ok(len) => len == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

fn fill(running: &Running, open_now: &mut Vec<TcpStream>, to: SocketAddr, first: &[u8]) {
    while open_now.len() < running.size && !running.is_over() {
        match open(to, first) {
            Some(stream) => open_now.push(stream),
            None => thread::sleep(LOOK),
        }
        running.did(1);
    }
    running.is_up();
}

/// Holds as many connections open as the flood is large; those that the broker ends come again.
pub fn hold(running: &Running, to: SocketAddr, first: &[u8]) {
    let mut held = Vec::new();
    while !running.is_over() {
        fill(running, &mut held, to, first);
        held.retain_mut(|stream| !is_over(stream));
        thread::sleep(LOOK);
    }
}

/// The same, with one more byte of `slowly` after another.
pub fn drip(running: &Running, first: &[u8], slowly: &[u8]) {
    let mut held: Vec<TcpStream> = Vec::new();
    let mut said: usize = 0;
    while !running.is_over() {
        let began = Instant::now();
        fill(running, &mut held, running.target.tcp, first);
        let byte = slowly[said % slowly.len()];
        said += 1;
        held.retain_mut(|stream| !is_over(stream) && stream.write_all(&[byte]).is_ok());
        thread::sleep(DRIP.saturating_sub(began.elapsed()));
    }
}

/// Clients that announce a large packet, and then drip.
pub fn announce(running: &Running) {
    let mut held: Vec<TcpStream> = Vec::new();
    let mut number = 0;
    while !running.is_over() {
        let began = Instant::now();
        while held.len() < running.size && !running.is_over() {
            number += 1;
            let first = [&connect_bytes(&format!("big-{number}"))[..], &ANNOUNCED].concat();
            held.extend(open(running.target.tcp, &first));
            running.did(1);
        }
        running.is_up();
        held.retain_mut(|stream| !is_over(stream) && stream.write_all(b"x").is_ok());
        thread::sleep(DRIP.saturating_sub(began.elapsed()));
    }
}

/// One ClientHello after another; each connection is left when it is answered.
pub fn hellos(running: &Running) {
    let hello = client_hello();
    let mut waiting: Vec<TcpStream> = Vec::new();
    while !running.is_over() {
        while waiting.len() < HELLOS {
            match open(running.target.tls, &hello) {
                Some(stream) => waiting.push(stream),
                None => thread::sleep(LOOK),
            }
        }
        running.is_up();
        let before = waiting.len();
        waiting.retain(|stream| {
            matches!((&*stream).read(&mut [0; 1]), Err(error) if error.kind() == ErrorKind::WouldBlock)
        });
        running.did((before - waiting.len()) as u64);
        thread::yield_now();
    }
}
