//! The header of the PROXY protocol, versions 1 and 2: for whom a proxy speaks that passes a connection on.
//!
//! Invariants: exactly the header is read, the byte behind it stays where it is; what is read is bounded
//! ([`MAX_LINE`], [`MAX_REST`]); what is not understood is refused, never passed over, and so is a header
//! whose checksum is wrong. Whom to believe is not decided here, nor how long it may take.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

/// How version 2 begins: nothing that another protocol begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// How version 1 begins.
const WORD: &[u8; 6] = b"PROXY ";
/// Bytes of a header of version 1 with its CRLF, as the protocol says.
const MAX_LINE: usize = 107;
/// Bytes of version 2 behind the 16 that all have: addresses take up to 216, and what proxies add (names,
/// certificates' subjects, checksums) some hundreds.
const MAX_REST: usize = 4096;
/// TCP over IPv4.
const FAMILY_TCP4: u8 = 0x11;
/// The type of a checksum over the header (`PP2_TYPE_CRC32C`).
const CHECKSUM: u8 = 0x03;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// The proxy speaks for a client at this address.
    For(SocketAddr),
    /// The proxy speaks for itself, as it does to see whether the broker lives, or does not know for whom:
    /// the address of the connection counts.
    Nothing,
}

/// Why there is no header.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    /// The connection ended or broke.
    #[error("the connection ended in the PROXY header: {0}")]
    Ended(#[from] io::Error),
    /// Another protocol, or a client that comes without a proxy.
    #[error("the connection does not begin with a PROXY header")]
    NoHeader,
    /// A header that is none.
    #[error("malformed PROXY header: {0}")]
    Malformed(&'static str),
}

use ProxyError::Malformed;

/// Reads a header, and no byte more.
///
/// # Errors
/// If what comes is no header, or the connection ends.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Said, ProxyError> {
    let mut start = [0; SIGNATURE.len()];
    let mut filled = 0;
    while let Some(rest) = start.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match stream.read(rest).await? {
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            len => filled += len,
        }
        // Whoever speaks something else is not waited for.
        let so_far = start.get(..filled).unwrap_or_default();
        let is_line = so_far.iter().zip(WORD).all(|(byte, wanted)| byte == wanted);
        if !is_line && !SIGNATURE.starts_with(so_far) {
            return Err(ProxyError::NoHeader);
        }
    }
    if start == *SIGNATURE {
        read_binary(stream).await
    } else {
        read_line(stream, &start).await
    }
}

/// The rest of version 1: one line, read byte by byte, because what follows it is not ours.
async fn read_line(
    stream: &mut (impl AsyncRead + Unpin),
    start: &[u8],
) -> Result<Said, ProxyError> {
    let mut line = Vec::with_capacity(MAX_LINE);
    line.extend_from_slice(start);
    if line.iter().rev().skip(1).any(|byte| *byte == b'\n') {
        return Err(Malformed("the line is too short"));
    }
    while line.last() != Some(&b'\n') {
        if line.len() == MAX_LINE {
            return Err(Malformed("the line is too long"));
        }
        line.push(stream.read_u8().await?);
    }
    judge_line(&line)
}

/// The rest of version 2.
async fn read_binary(stream: &mut (impl AsyncRead + Unpin)) -> Result<Said, ProxyError> {
    let what = stream.read_u16().await?.to_be_bytes();
    let len = stream.read_u16().await?;
    if usize::from(len) > MAX_REST {
        return Err(Malformed("it is too long"));
    }
    let mut header = [&SIGNATURE[..], &what, &len.to_be_bytes()].concat();
    let start = header.len();
    header.resize(start + usize::from(len), 0);
    stream
        .read_exact(header.get_mut(start..).unwrap_or_default())
        .await?;
    let [command, family] = what;
    let said = judge_binary(command, family, header.get(start..).unwrap_or_default())?;
    if let Said::For(address) = said {
        // Of both sides, with their ports.
        let addresses = match family {
            FAMILY_TCP4 => 2 * (4 + 2),
            _ => 2 * (16 + 2),
        };
        judge_additions(&header, start + addresses)?;
        return Ok(Said::For(address));
    }
    Ok(said)
}

/// What proxies add behind the addresses: each has a type, a length and a value. They are passed over, but
/// for a checksum, and have to be whole.
fn judge_additions(header: &[u8], mut at: usize) -> Result<(), ProxyError> {
    loop {
        let (kind, value) = match header.get(at..).unwrap_or_default() {
            [] => return Ok(()),
            [kind, high, low, rest @ ..] => {
                let len = usize::from(u16::from_be_bytes([*high, *low]));
                (*kind, rest.get(..len))
            }
            _ => (0, None),
        };
        let value = value.ok_or(Malformed("what is added is cut off"))?;
        at += 3;
        if kind == CHECKSUM {
            let given = <[u8; 4]>::try_from(value).map(u32::from_be_bytes);
            let given = given.map_err(|_| Malformed("a checksum has four bytes"))?;
            let is_checksum = |place: usize| (at..at + value.len()).contains(&place);
            let bytes = header.iter().enumerate();
            let sum = crc32c(bytes.map(|(place, byte)| if is_checksum(place) { 0 } else { *byte }));
            if given != sum {
                return Err(Malformed("the checksum is wrong"));
            }
        }
        at += value.len();
    }
}

/// CRC-32C (RFC 3720, B.4), bit by bit: a header has some tens of bytes.
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    !bytes.fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum: u32, _| match sum & 1 {
            0 => sum >> 1,
            _ => sum >> 1 ^ 0x82F6_3B78,
        })
    })
}

/// A line of version 1, with its end.
fn judge_line(line: &[u8]) -> Result<Said, ProxyError> {
    let line = line
        .strip_suffix(b"\r\n")
        .ok_or(Malformed("the line does not end with CRLF"))?;
    let text = std::str::from_utf8(line).map_err(|_| Malformed("the line is not text"))?;
    let mut words = text.split(' ');
    let mut word = || words.next().unwrap_or_default();
    let (proxy, family) = (word(), word());
    if proxy != "PROXY" {
        return Err(Malformed("the line does not begin with PROXY"));
    }
    // What else is on the line is to be passed over.
    if family == "UNKNOWN" {
        return Ok(Said::Nothing);
    }
    let (from, to) = (word(), word());
    let ports = (port(word())?, port(word())?);
    if words.next().is_some() {
        return Err(Malformed("there is more on the line"));
    }
    let (from, _): (IpAddr, IpAddr) = match family {
        "TCP4" => (
            parse::<Ipv4Addr>(from)?.into(),
            parse::<Ipv4Addr>(to)?.into(),
        ),
        "TCP6" => (
            parse::<Ipv6Addr>(from)?.into(),
            parse::<Ipv6Addr>(to)?.into(),
        ),
        _ => return Err(Malformed("neither TCP4 nor TCP6 nor UNKNOWN")),
    };
    Ok(Said::For(SocketAddr::new(from.to_canonical(), ports.0)))
}

fn parse<T: std::str::FromStr>(text: &str) -> Result<T, ProxyError> {
    text.parse()
        .map_err(|_| Malformed("an address cannot be read"))
}

/// A port: digits without zeros before them.
fn port(text: &str) -> Result<u16, ProxyError> {
    let is_plain = text == "0" || text.starts_with(|first| matches!(first, '1'..='9'));
    text.parse()
        .ok()
        .filter(|_| is_plain)
        .ok_or(Malformed("a port cannot be read"))
}

/// What stands behind the signature of version 2; `addresses` is what follows its length.
fn judge_binary(command: u8, family: u8, addresses: &[u8]) -> Result<Said, ProxyError> {
    match command {
        // LOCAL: the rest is to be passed over.
        0x20 => return Ok(Said::Nothing),
        0x21 => {}
        _ if command >> 4 == 2 => return Err(Malformed("unknown command")),
        _ => return Err(Malformed("unknown version")),
    }
    let short = || Malformed("there is no room for the addresses");
    match family {
        // UNSPEC, and a Unix socket of the proxy's.
        0x00 | 0x31 => Ok(Said::Nothing),
        FAMILY_TCP4 => match addresses {
            &[a, b, c, d, _, _, _, _, high, low, _, _, ..] => {
                let port = u16::from_be_bytes([high, low]);
                Ok(Said::For((Ipv4Addr::new(a, b, c, d), port).into()))
            }
            _ => Err(short()),
        },
        0x21 => {
            let address = addresses.first_chunk::<16>().ok_or_else(short)?;
            let &[high, low, _, _] = addresses
                .get(32..36)
                .and_then(|ports| ports.first_chunk())
                .ok_or_else(short)?;
            let address = IpAddr::from(*address).to_canonical();
            Ok(Said::For((address, u16::from_be_bytes([high, low])).into()))
        }
        0x12 | 0x22 | 0x32 => Err(Malformed("datagrams do not come here")),
        _ => Err(Malformed("unknown address family")),
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::ReadBuf;

    use super::*;

    /// Bytes that come one by one, or all at once.
    struct Bytes<'a> {
        left: &'a [u8],
        at_once: usize,
    }

    impl AsyncRead for Bytes<'_> {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            out: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let this = self.get_mut();
            let len = this.at_once.min(this.left.len()).min(out.remaining());
            let (now, later) = this.left.split_at(len);
            out.put_slice(now);
            this.left = later;
            Poll::Ready(Ok(()))
        }
    }

    /// What is said, and how many bytes are left; the same however the bytes come.
    fn read(bytes: &[u8]) -> Result<(Said, usize), String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let mut results = [1, 7, usize::MAX].map(|at_once| {
            let mut stream = Bytes {
                left: bytes,
                at_once,
            };
            let said = runtime.block_on(super::read(&mut stream));
            said.map(|said| (said, stream.left.len()))
                .map_err(|error| error.to_string())
        });
        let last = std::mem::replace(&mut results[2], Err(String::new()));
        assert_eq!(results[0], last);
        assert_eq!(results[1], last);
        last
    }

    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([command, family]);
        bytes.extend((rest.len() as u16).to_be_bytes());
        bytes.extend(rest);
        bytes
    }

    fn with_behind(mut header: Vec<u8>) -> Vec<u8> {
        header.extend(b"\x10\x0c");
        header
    }

    fn said_for(text: &str) -> Said {
        Said::For(text.parse().unwrap())
    }

    const V4: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0x30, 0x39, 0x07, 0x5b];

    fn v6() -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend("2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
        bytes.extend(Ipv6Addr::LOCALHOST.octets());
        bytes.extend([0x30, 0x39, 0x07, 0x5b]);
        bytes
    }

    #[test]
    fn a_line_says_the_address_and_nothing_behind_it_is_read() {
        for (line, said) in [
            (
                "PROXY TCP4 192.0.2.7 10.0.0.1 12345 1883\r\n",
                said_for("192.0.2.7:12345"),
            ),
            (
                "PROXY TCP6 2001:db8::7 ::1 12345 1883\r\n",
                said_for("[2001:db8::7]:12345"),
            ),
            (
                "PROXY TCP6 ::ffff:192.0.2.7 ::1 0 0\r\n",
                said_for("192.0.2.7:0"),
            ),
            ("PROXY UNKNOWN\r\n", Said::Nothing),
            ("PROXY UNKNOWN ff:: what ever 1 2\r\n", Said::Nothing),
        ] {
            let bytes = with_behind(line.as_bytes().to_vec());
            assert_eq!(read(&bytes), Ok((said, 2)), "{line}");
        }
    }

    #[test]
    fn a_binary_header_says_the_address_and_what_it_adds_is_passed_over() {
        let mut more = V4.to_vec();
        more.extend([0x05, 0, 3, 1, 2, 3]);
        more.extend([0xEE, 0x03, 0xE8]);
        more.extend(vec![0xEE; 1000]);
        for (header, said) in [
            (binary(0x21, 0x11, &V4), said_for("192.0.2.7:12345")),
            (binary(0x21, 0x11, &more), said_for("192.0.2.7:12345")),
            (binary(0x21, 0x21, &v6()), said_for("[2001:db8::7]:12345")),
            (binary(0x20, 0x00, &[]), Said::Nothing),
            // LOCAL counts whatever else is said.
            (binary(0x20, 0x11, &V4), Said::Nothing),
            (binary(0x21, 0x00, &[1, 2, 3]), Said::Nothing),
            (binary(0x21, 0x31, &[0; 216]), Said::Nothing),
        ] {
            assert_eq!(read(&with_behind(header)), Ok((said, 2)));
        }
    }

    /// A header with a checksum between other things.
    fn with_checksum() -> Vec<u8> {
        let mut rest = V4.to_vec();
        rest.extend([0x04, 0, 2, 9, 9, CHECKSUM, 0, 4, 0, 0, 0, 0, 0x05, 0, 1, 7]);
        let mut header = binary(0x21, 0x11, &rest);
        let sum = crc32c(header.iter().copied());
        let at = SIGNATURE.len() + 4 + V4.len() + 5 + 3;
        header[at..at + 4].copy_from_slice(&sum.to_be_bytes());
        header
    }

    #[test]
    fn a_checksum_counts_if_there_is_one() {
        // RFC 3720, B.4, and the check value of this CRC.
        assert_eq!(crc32c([0; 32].into_iter()), 0x8A91_36AA);
        assert_eq!(crc32c(b"123456789".iter().copied()), 0xE306_9283);
        let header = with_checksum();
        let said = said_for("192.0.2.7:12345");
        assert_eq!(read(&with_behind(header.clone())), Ok((said, 2)));
        // With another type it is no checksum.
        let kind = SIGNATURE.len() + 4 + V4.len() + 5;
        for place in (16..header.len()).filter(|place| *place != kind) {
            let mut other = header.clone();
            other[place] ^= 0x10;
            let error = read(&with_behind(other)).unwrap_err();
            assert!(error.contains("malformed"), "{place}: {error}");
        }
        for (rest, why) in [
            (&[CHECKSUM, 0, 3, 1, 2, 3][..], "four bytes"),
            (&[0x05, 0, 3, 1, 2], "cut off"),
            (&[0x05, 0], "cut off"),
        ] {
            let error = read(&binary(0x21, 0x11, &[&V4[..], rest].concat())).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let too_long = format!("PROXY TCP4 192.0.2.7 10.0.0.1 1 {}\r\n", "1".repeat(100));
        let lines = [
            "PROXY TCP4 192.0.2.7 10.0.0.1 12345 1883\n",
            "PROXY TCP4 192.0.2.7  10.0.0.1 12345 1883\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 12345 1883 \r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 12345 65536\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 +1 1883\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 01 1883\r\n",
            "PROXY TCP4 192.0.2.07 10.0.0.1 1 1883\r\n",
            "PROXY TCP4 2001:db8::7 ::1 1 1883\r\n",
            "PROXY TCP6 192.0.2.7 10.0.0.1 1 1883\r\n",
            "PROXY TCP6 fe80::1%eth0 ::1 1 1883\r\n",
            "PROXY TCP4 evil\nline=1 10.0.0.1 1 1883\r\n",
            "PROXY UDP4 192.0.2.7 10.0.0.1 1 1883\r\n",
            "PROXY tcp4 192.0.2.7 10.0.0.1 1 1883\r\n",
            "PROXY TCP4\r\n    ",
            "PROXY \r\n        ",
            "PROXY UNKNOWN\n",
            &too_long,
        ];
        let lines = lines.iter().map(|line| line.as_bytes().to_vec());
        let binaries = [
            binary(0x11, 0x11, &V4),
            binary(0x22, 0x11, &V4),
            binary(0x21, 0x12, &V4),
            binary(0x21, 0x01, &V4),
            binary(0x21, 0x41, &V4),
            binary(0x21, 0x11, &V4[..11]),
            binary(0x21, 0x21, &v6()[..35]),
            binary(0x21, 0x11, &[0; MAX_REST + 1]),
        ];
        for header in lines.chain(binaries) {
            let text = String::from_utf8_lossy(&header).into_owned();
            let refused = read(&header).unwrap_err();
            assert!(refused.starts_with("malformed"), "{text}: {refused}");
        }
    }

    #[test]
    fn what_is_no_header_is_refused_at_its_first_other_byte() {
        for bytes in [
            &b"\x10\x0c\0\x04MQTT"[..],
            b"\x16",
            b"G",
            b"PROXYING",
            b"\r\n\r\n\0\r\nQUIX",
        ] {
            let refused = read(bytes).unwrap_err();
            assert!(refused.contains("does not begin"), "{refused}");
        }
    }

    #[test]
    fn a_header_that_ends_early_is_refused() {
        for header in [
            binary(0x21, 0x21, &v6()),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 12345 1883\r\n".to_vec(),
        ] {
            for len in 0..header.len() {
                let refused = read(&header[..len]).unwrap_err();
                assert!(refused.contains("ended"), "{len}: {refused}");
            }
            assert!(read(&header).is_ok());
        }
    }

    /// splitmix64, so that a failure has a seed.
    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    #[test]
    fn no_bytes_make_it_panic_and_it_never_reads_more_than_its_bounds() {
        let mut accepted = 0;
        for seed in 0..3000 {
            let state = &mut { seed };
            let mut bytes = match random(state) % 4 {
                0 => Vec::new(),
                1 => b"PROXY TCP4 192.0.2.7 10.0.0.1 12345 1883\r\n".to_vec(),
                2 => binary(0x21, 0x11, &V4),
                _ => binary(0x21, 0x21, &v6()),
            };
            for _ in 0..random(state) % 4 {
                let at = random(state) as usize;
                let byte = random(state) as u8;
                match bytes.len() {
                    0 => bytes.extend([byte; 40]),
                    len => bytes[at % len] = byte,
                }
            }
            bytes.resize(bytes.len() + (random(state) % 8192) as usize, seed as u8);
            if let Ok((_, left)) = read(&bytes) {
                accepted += 1;
                let used = bytes.len() - left;
                assert!(used <= MAX_LINE.max(16 + MAX_REST), "seed {seed}");
            }
        }
        assert!(accepted > 100, "only {accepted} were headers at all");
    }
}
