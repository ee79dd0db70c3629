//! Conversations over real sockets, with what carries MQTT and texts inside of WebSockets: a peer says
//! bytes, and the broker's side says back all that it hears.

use std::any::Any;
use std::convert::Infallible;
use std::future::pending;
use std::io::{self, Read};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;

use crate::listener::deflate::{Agreement, Bounds};
use crate::listener::frames::{CloseCode, Violation};
use crate::listener::texts::{Happened, Texts};
use crate::listener::websocket::{Compression, FrameState, WebSocket};
use crate::transport::Wire;

/// What was agreed on.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// Texts, not the bytes of MQTT.
    pub texts: bool,
    /// What the peer offers in `Sec-WebSocket-Extensions`.
    pub offer: &'a str,
    /// Bytes of a message that has to be whole.
    pub limit: usize,
    /// Times the bytes of a compressed message that it may become.
    pub expansion: usize,
    /// Bytes below which an answer is not compressed.
    pub compress_from: usize,
}

/// What was heard.
#[derive(Debug, Default)]
pub struct Talked {
    /// What binary messages carried.
    pub data: Vec<u8>,
    /// Texts, whole.
    pub texts: Vec<String>,
    /// A rule was broken: the close code that says which.
    pub refused: Option<u16>,
    /// The raw bytes that were said back.
    pub answered: Vec<u8>,
}

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread()
        .enable_io()
        .build()
        .expect("a runtime of one thread");
}

/// Says `pieces`, the first of them together with the upgrade.
///
/// # Errors
/// If there are no sockets.
pub fn talk(terms: Terms<'_>, pieces: &[&[u8]]) -> io::Result<Talked> {
    RUNTIME.with(|runtime| runtime.block_on(converse(terms, pieces)))
}

/// The compressed message, without frames; nothing if it would not become smaller.
pub fn compress(message: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    crate::listener::deflate::compress(message, &mut out).then_some(out)
}

async fn converse(terms: Terms<'_>, pieces: &[&[u8]]) -> io::Result<Talked> {
    let bounds = Bounds {
        bytes: terms.limit,
        expansion: terms.expansion,
    };
    let compression = Agreement::of(std::iter::once(terms.offer)).map(|agreement| Compression {
        agreement,
        from_bytes: terms.compress_from,
        before: bounds,
        after: bounds,
    });
    let (ours, theirs) = UnixStream::pair()?;
    let (early, pieces) = match pieces.split_first() {
        Some((early, rest)) => (*early, rest),
        None => (&[][..], pieces),
    };
    let mut talked = Talked::default();
    let mut answered = Vec::new();
    let (mut hears, mut says) = theirs.into_split();
    let peer_says = async {
        for piece in pieces {
            says.write_all(piece).await?;
            // So that it is read before there is more.
            yield_now().await;
        }
        says.shutdown().await
    };
    let broker = async {
        let wire = Wire::from(ours);
        if terms.texts {
            let texts = Texts::new(wire, early, compression, terms.limit);
            Ok(answer_texts(texts, &mut talked).await)
        } else {
            let stream = WebSocket::new(wire, FrameState::new(early, compression));
            answer_stream(stream, &mut talked).await
        }
    };
    let peer_hears = async {
        loop {
            if hears.read_buf(&mut answered).await? == 0 {
                return io::Result::Ok(());
            }
        }
    };
    // The broker's side decides when it is over, and holds the socket until then.
    let peer = async {
        let (said, heard) = tokio::join!(peer_says, peer_hears);
        said.and(heard)?;
        pending::<io::Result<Infallible>>().await
    };
    // Held until all is read: a socket that is closed with unread input takes its last words back.
    let held = tokio::select! {
        held = broker => held?,
        never = peer => return never.map(|never| match never {}),
    };
    let mut rest = hears.reunite(says).map_err(io::Error::other)?.into_std()?;
    match rest.read_to_end(&mut answered) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        done => drop(done?),
    }
    drop(held);
    talked.answered = answered;
    Ok(talked)
}

/// What has the socket, until it is dropped.
type Held = Box<dyn Any>;

async fn answer_texts(mut texts: Texts, talked: &mut Talked) -> Held {
    loop {
        match texts.next(true).await {
            Happened::Text(text) => {
                texts.say(&text);
                talked.texts.push(text);
            }
            Happened::Written => {}
            Happened::Over => break,
            Happened::Broken(violation) => {
                talked.refused = Some(violation.close_code() as u16);
                break;
            }
        }
    }
    while !texts.is_written() && texts.next(false).await == Happened::Written {}
    Box::new(texts)
}

async fn answer_stream(mut stream: WebSocket, talked: &mut Talked) -> io::Result<Held> {
    let mut buffer = [0; 3000];
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) => break,
            Ok(len) => {
                let data = buffer.get(..len).unwrap_or_default();
                talked.data.extend_from_slice(data);
                match stream.write_all(data).await {
                    // The peer has said goodbye.
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                    done => done?,
                }
            }
            Err(error) => {
                let violation = error.get_ref().and_then(|inner| inner.downcast_ref());
                let code = violation.map(|violation: &Violation| violation.close_code() as u16);
                talked.refused = Some(code.ok_or(error)?);
                break;
            }
        }
    }
    stream.close(CloseCode::Normal);
    Ok(Box::new(stream))
}
