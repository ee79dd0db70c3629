//! TLS over a socket that takes and gives little at once, against a client that blocks.

use std::future::poll_fn;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::Pin;
use std::thread;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::super::wire::Wire;
use super::*;
use crate::tls::authority::Authority;

/// What the smallest buffers of a socket hold is some kilobytes.
const LARGE: usize = 300_000;

const DEADLINE: Duration = Duration::from_secs(20);

type Client = StreamOwned<ClientConnection, StdUnixStream>;

fn pattern() -> Vec<u8> {
    (0..LARGE).map(|at| (at % 251) as u8).collect()
}

/// A server before its handshake, and a client that has not said anything yet.
fn pair() -> (Wire, Client) {
    let folder = tempfile::tempdir().unwrap();
    let files = Authority::in_folder(folder.path());
    files.create(&[]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(&files.ca).unwrap())
        .unwrap();
    let client = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_file(&files.cert).unwrap()],
            PrivateKeyDer::from_pem_file(&files.key).unwrap(),
        )
        .unwrap();
    // Nothing comes after the handshake but what a test writes.
    server.send_tls13_tickets = 0;
    let (ours, theirs) = StdUnixStream::pair().unwrap();
    for socket in [&ours, &theirs] {
        SockRef::from(socket).set_send_buffer_size(1).unwrap();
        SockRef::from(socket).set_recv_buffer_size(1).unwrap();
    }
    ours.set_nonblocking(true).unwrap();
    theirs.set_read_timeout(Some(DEADLINE)).unwrap();
    theirs.set_write_timeout(Some(DEADLINE)).unwrap();
    let wire = Wire::from(UnixStream::from_std(ours).unwrap());
    let name = "localhost".try_into().unwrap();
    let client = ClientConnection::new(Arc::new(client), name).unwrap();
    (
        wire.with_tls(Session::new(Arc::new(server)).unwrap()),
        StreamOwned::new(client, theirs),
    )
}

/// A client that has shaken hands does something in a thread of its own.
fn in_thread<T: Send + 'static>(
    mut client: Client,
    act: impl FnOnce(Client) -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    thread::spawn(move || {
        client.conn.complete_io(&mut client.sock).unwrap();
        act(client)
    })
}

#[tokio::test]
async fn a_large_answer_arrives_whole_and_its_end_is_said() {
    let (mut wire, client) = pair();
    let client = in_thread(client, |mut client| {
        let (mut all, mut some) = (Vec::new(), [0; 777]);
        loop {
            // An end that was not said is an error here.
            match client.read(&mut some).unwrap() {
                0 => return all,
                len => all.extend_from_slice(&some[..len]),
            }
        }
    });
    wire.shake_hands().await.unwrap();
    wire.write_all(&pattern()).await.unwrap();
    wire.shutdown().await.unwrap();
    assert!(client.join().unwrap() == pattern());
}

#[tokio::test]
async fn what_the_socket_does_not_take_is_bounded_and_counts_as_waiting() {
    let (mut wire, client) = pair();
    let (read_on, may_read) = std::sync::mpsc::channel::<usize>();
    let client = in_thread(client, move |mut client| {
        let len = may_read.recv().unwrap();
        let mut all = vec![0; len];
        client.read_exact(&mut all).unwrap();
        all
    });
    wire.shake_hands().await.unwrap();
    let all = pattern();
    let mut written = 0;
    // Until the socket is full, and nothing more is taken.
    let step = poll_fn(|cx| {
        Poll::Ready(loop {
            let before = written;
            match Pin::new(&mut wire).poll_write(cx, &all[written..]) {
                Poll::Ready(len) => written += len.unwrap(),
                Poll::Pending => break before,
            }
        })
    });
    step.await;
    assert!(0 < written && written < LARGE);
    for _ in 0..3 {
        let flushed = poll_fn(|cx| Poll::Ready(Pin::new(&mut wire).poll_flush(cx))).await;
        assert!(flushed.is_pending(), "ciphertext waits");
        assert!(
            wire.try_write(b"more").is_err(),
            "nothing is encrypted meanwhile"
        );
    }
    read_on.send(written).unwrap();
    wire.flush().await.unwrap();
    assert!(client.join().unwrap() == all[..written]);
}

#[tokio::test]
async fn what_comes_is_read_in_any_portions_and_also_after_a_move_between_runtimes() {
    let (mut wire, client) = pair();
    let client = in_thread(client, |mut client| {
        client.write_all(&pattern()).unwrap();
        client.conn.send_close_notify();
        client.flush().unwrap();
        client
    });
    wire.shake_hands().await.unwrap();
    assert_eq!(wire.first_byte().await.unwrap(), Some(0));
    let mut all = vec![0; 1000];
    for portion in all.chunks_mut(7) {
        wire.read_exact(portion).await.unwrap();
    }
    // What was decrypted and not read goes along.
    let moved = wire.detach().unwrap();
    let rest = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut wire = moved.attach().unwrap();
            let mut rest = Vec::new();
            wire.read_to_end(&mut rest).await.unwrap();
            rest
        })
    });
    all.extend(rest.join().unwrap());
    assert!(all == pattern());
    drop(client.join().unwrap());
}

#[tokio::test]
async fn an_end_that_was_not_said_is_an_error_and_so_is_what_is_no_tls() {
    let (mut wire, client) = pair();
    let client = in_thread(client, |mut client| {
        client.write_all(b"cut").unwrap();
        client.flush().unwrap();
        client
    });
    wire.shake_hands().await.unwrap();
    drop(client.join().unwrap());
    let mut all = Vec::new();
    let cut = wire.read_to_end(&mut all).await.unwrap_err();
    assert_eq!(
        (all.as_slice(), cut.kind()),
        (&b"cut"[..], io::ErrorKind::UnexpectedEof)
    );

    let (mut wire, client) = pair();
    let mut socket = client.sock;
    socket.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let refused = wire.shake_hands().await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
    // The alert was sent already.
    let mut alert = [0; 7];
    socket.read_exact(&mut alert).unwrap();
    assert_eq!(alert[0], 21);
}
