//! What comes before anything is known of a peer: the header of a proxy, the first byte, and what proxies
//! and browsers say in headers. A header is read to its last byte and not further, whatever pieces it
//! comes in; who is believed, and which page may ask, is what the plainest reading says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tidings_broker::fuzzing::{deflate_answer, forwarded_for, page_may, proxy_header, speaks};

use super::choices::Choices;
use super::heap::peak_of;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes of the longest line, and of what follows the 16 bytes of the other form.
const MAX_LINE: usize = 107;
const MAX_REST: usize = 4096;

/// Bytes of the longest header with addresses alone: a line has at most as many as are looked at.
const PLAIN: usize = 16 + 12;

/// Bytes of memory for a header: it may be kept until it is judged, and there are the words of an error.
const MEMORY: usize = 1024 + 2 * (16 + MAX_REST);

/// See the module. The first byte says what the rest is.
pub fn front(data: &[u8]) {
    let mut choices = Choices::new(data);
    let kind = choices.below(5);
    let piece = usize::from(choices.byte()).max(1);
    let rest = choices.bytes(usize::MAX);
    let text = String::from_utf8_lossy(rest);
    let lines: Vec<&str> = text.lines().collect();
    match kind {
        0 => check_proxy(rest, piece),
        // The second form, which a fuzzer need not find.
        1 => check_proxy(&[SIGNATURE, rest].concat(), piece),
        2 => check_forwarded(&lines),
        3 => check_page(&lines),
        _ => check_offers(&lines),
    }
}

fn check_proxy(bytes: &[u8], piece: usize) {
    let expected = proxy_plainly(bytes);
    let whole = proxy_header(bytes, usize::MAX);
    // What is added behind the addresses has a form and a checksum of its own.
    let is_plain = matches!(expected, None | Some((None, _)) | Some((_, ..=PLAIN)));
    if is_plain || whole.is_ok() {
        assert_eq!(whole.clone().ok(), expected, "{whole:?}");
    }
    for piece in [1, piece] {
        let (found, memory) = peak_of(|| proxy_header(bytes, piece));
        assert_eq!(found, whole, "in pieces of {piece}");
        assert!(memory <= MEMORY, "{memory} bytes");
    }
    let (Ok((_, used)), Some(first)) = (&whole, bytes.first()) else {
        return;
    };
    let used = *used;
    assert!(used <= MAX_LINE.max(16 + MAX_REST));
    // Nothing less is enough, and what follows does not matter.
    assert!(proxy_header(&bytes[..used - 1], piece).is_err());
    assert_eq!(proxy_header(&bytes[..used], piece), whole);
    // On a port where anything may come, a header is nothing that another protocol begins with but HTTP.
    assert!(matches!(speaks(*first), None | Some("http")));
}

/// Whom the header names, and its bytes; nothing if it is none or not whole.
fn proxy_plainly(bytes: &[u8]) -> Option<(Option<SocketAddr>, usize)> {
    if let Some(rest) = bytes.strip_prefix(SIGNATURE) {
        let (&[command, family, high, low], rest) = rest.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let rest = rest.get(..length).filter(|_| length <= MAX_REST)?;
        let said = match (command, family) {
            (0x20, _) | (0x21, 0x00 | 0x31) => None,
            (0x21, 0x11) => {
                let rest: &[u8; 12] = rest.first_chunk()?;
                let address = Ipv4Addr::new(rest[0], rest[1], rest[2], rest[3]);
                Some((address.into(), u16::from_be_bytes([rest[8], rest[9]])))
            }
            (0x21, 0x21) => {
                let rest: &[u8; 36] = rest.first_chunk()?;
                let address = Ipv6Addr::from(*rest.first_chunk::<16>()?);
                Some((
                    IpAddr::from(address),
                    u16::from_be_bytes([rest[32], rest[33]]),
                ))
            }
            _ => return None,
        };
        let said = said.map(|(ip, port)| SocketAddr::new(ip.to_canonical(), port));
        return Some((said, 16 + length));
    }
    let end = bytes
        .iter()
        .take(MAX_LINE)
        .position(|byte| *byte == b'\n')?;
    let line = bytes[..end].strip_suffix(b"\r")?;
    let text = std::str::from_utf8(line).ok()?;
    // Twelve bytes are looked at before it is known which form it is.
    let words: Vec<&str> = text.split(' ').filter(|_| end >= 11).collect();
    let said = match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", family, from, to, port, other] => {
            let (from, to): (IpAddr, IpAddr) = (from.parse().ok()?, to.parse().ok()?);
            let is_fitting = match *family {
                "TCP4" => from.is_ipv4() && to.is_ipv4(),
                "TCP6" => from.is_ipv6() && to.is_ipv6(),
                _ => false,
            };
            let number = |text: &str| {
                let number: u16 = text.parse().ok()?;
                (number.to_string() == text).then_some(number)
            };
            let (port, _) = (number(port)?, number(other)?);
            Some(is_fitting.then(|| SocketAddr::new(from.to_canonical(), port))?)
        }
        _ => return None,
    };
    Some((said, end + 1))
}

/// Networks whose proxies are believed.
const TRUSTED: &[&str] = &["10.0.0.0/8", "fd00::/8"];

fn is_trusted(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[0] == 10,
        IpAddr::V6(ip) => ip.octets()[0] == 0xFD,
    }
}

/// Whoever is named was written by one who is trusted: all that stands behind are.
fn check_forwarded(lines: &[&str]) {
    let Some(client) = forwarded_for(lines, TRUSTED) else {
        return;
    };
    assert_eq!(client, client.to_canonical());
    let read = |entry: &str| -> Option<IpAddr> {
        let entry = entry.trim();
        let bare = entry
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let ip = entry.parse::<SocketAddr>().map(|address| address.ip());
        let ip = ip.or_else(|_| bare.unwrap_or(entry).parse());
        Some(ip.ok()?.to_canonical())
    };
    // What is no header is left out.
    let is_header = |line: &&str| line.bytes().all(|byte| (32..127).contains(&byte));
    if !lines.iter().all(is_header) {
        return;
    }
    let mut seen = None;
    for entry in lines.join(",").rsplit(',') {
        let Some(ip) = read(entry) else { break };
        seen = Some(ip);
        if !is_trusted(ip) {
            break;
        }
    }
    assert_eq!(seen, Some(client), "{lines:?}");
}

/// The first line is the host that is asked, the second the page, the others are listed.
fn check_page(lines: &[&str]) {
    let [host, origin, list @ ..] = lines else {
        return;
    };
    let list: Vec<String> = list.iter().map(|&line| line.to_owned()).collect();
    let (judged, is_list) = page_may(&list, host, &[origin]);
    let (twice, _) = page_may(&list, host, &[origin, origin]);
    let Some(is_known) = judged.filter(|_| is_list) else {
        return;
    };
    // Whether it was a header at all is not known here.
    if !origin.bytes().all(|byte| (32..127).contains(&byte)) {
        return;
    }
    assert_eq!(twice, None, "two pages at once");
    let any = list.iter().any(|entry| entry == "*");
    assert!(is_known || any, "nobody said that all may");
    if !is_known {
        return;
    }
    let origin = origin.to_ascii_lowercase();
    let of_page = host_of(origin.split_once("://").map_or("", |(_, rest)| rest));
    let is_same = of_page.eq_ignore_ascii_case(host_of(host));
    let is_listed = list.iter().any(|entry| {
        let entry = entry.to_ascii_lowercase();
        match entry.split_once("*.") {
            Some((scheme, below)) => origin
                .strip_prefix(scheme)
                .and_then(|rest| rest.strip_suffix(&format!(".{below}")))
                .is_some_and(|label| !label.is_empty() && !label.contains(['/', ':', '@'])),
            None => entry == origin,
        }
    });
    assert!(
        is_same || is_listed,
        "{origin:?} is neither {host:?} nor in {list:?}"
    );
}

fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// What is agreed on was offered, word by word.
fn check_offers(lines: &[&str]) {
    let Some(answer) = deflate_answer(lines) else {
        return;
    };
    let plain = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    let bits = answer
        .strip_prefix(plain)
        .expect("without context takeover");
    let offers = lines.iter().flat_map(|line| line.split(','));
    let words = |offer: &str| -> Vec<String> {
        let offer = offer.replace('"', "");
        let word = |word: &str| {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            format!("{}={}", name.trim(), value.trim())
        };
        offer.split(';').map(word).collect()
    };
    let mut offers = offers
        .map(words)
        .filter(|words| words[0] == "permessage-deflate=");
    let is_fitting = |words: &Vec<String>| match bits.strip_prefix("; server_max_window_bits=") {
        Some(bits) => words.contains(&format!("server_max_window_bits={bits}")),
        // 15 is what there is without a word.
        None => words.iter().all(|word| {
            !word.starts_with("server_max_window_bits=") || word == "server_max_window_bits=15"
        }),
    };
    assert!(
        offers.any(|words| is_fitting(&words)),
        "{answer:?} to {lines:?}"
    );
}
