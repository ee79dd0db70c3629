//! What comes before anything is known of a peer: PROXY headers, first bytes, what proxies and browsers
//! say in headers, what is offered.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;
use tokio::io::{AsyncRead, ReadBuf};

use crate::listener::deflate::Agreement;
use crate::listener::detect::{Speaks, speaks as judge_first};
use crate::listener::origins::Page;
use crate::listener::{Origins, forwarded, proxy};

/// Bytes that come in pieces.
struct Pieces<'a> {
    left: &'a [u8],
    piece: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let len = this.piece.min(this.left.len()).min(out.remaining());
        let (now, later) = this.left.split_at(len);
        out.put_slice(now);
        this.left = later;
        Poll::Ready(Ok(()))
    }
}

/// Reads a PROXY header from bytes that come in pieces: whom it names, and how many bytes it has.
///
/// # Errors
/// Why there is none, in words.
pub fn proxy_header(bytes: &[u8], piece: usize) -> Result<(Option<SocketAddr>, usize), String> {
    let mut stream = Pieces { left: bytes, piece };
    let mut context = Context::from_waker(Waker::noop());
    let read = match pin!(proxy::read(&mut stream)).poll(&mut context) {
        Poll::Ready(read) => read,
        Poll::Pending => return Err("it waits".to_owned()),
    };
    let said = match read.map_err(|error| error.to_string())? {
        proxy::Said::For(address) => Some(address),
        proxy::Said::Nothing => None,
    };
    Ok((said, bytes.len() - stream.left.len()))
}

/// What a connection speaks that begins with this byte: a word, or nothing that is known.
pub fn speaks(first: u8) -> Option<&'static str> {
    match judge_first(first) {
        Speaks::Mqtt => Some("mqtt"),
        Speaks::Http => Some("http"),
        Speaks::Tls => Some("tls"),
        Speaks::Unknown => None,
    }
}

/// Whom a request is for that has these lines of `X-Forwarded-For`.
pub fn forwarded_for(lines: &[&str], trusted: &[&str]) -> Option<IpAddr> {
    let trusted: Vec<IpNet> = trusted.iter().flat_map(|text| text.parse()).collect();
    forwarded::client(&headers("x-forwarded-for", lines), &trusted)
}

/// Whether a page may open a WebSocket, and whether it is known by name; `None`: it may not. The second
/// is whether the list can be read at all.
pub fn page_may(list: &[String], host: &str, origins: &[&str]) -> (Option<bool>, bool) {
    let Ok(list) = Origins::parse(list) else {
        return (None, false);
    };
    let mut headers = headers("origin", origins);
    if let Ok(host) = HeaderValue::try_from(host) {
        headers.insert("host", host);
    }
    let page = list.judge(&headers, None);
    (page.map(|page| page != Page::Any), true)
}

/// What is answered to these lines of `Sec-WebSocket-Extensions`, if any of it is agreed on.
pub fn deflate_answer(lines: &[&str]) -> Option<String> {
    Agreement::of(lines.iter().copied()).map(Agreement::answer)
}

fn headers(name: &'static str, lines: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in lines
        .iter()
        .filter_map(|line| HeaderValue::try_from(*line).ok())
    {
        headers.append(HeaderName::from_static(name), value);
    }
    headers
}
