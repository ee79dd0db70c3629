//! The header `X-Forwarded-For`: whom a request is for that came through proxies that speak HTTP.
//!
//! Invariant: each proxy adds the address that it saw at the end, so that the list is believed from its end
//! on as long as those who wrote it are trusted; what stands before was written by anyone.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use ipnet::IpNet;

/// The name of the header.
const NAME: &str = "x-forwarded-for";

/// The address that the last trusted proxy saw; `None`: there is none that can be read.
pub(crate) fn client(headers: &HeaderMap, trusted: &[IpNet]) -> Option<IpAddr> {
    let lines = headers.get_all(NAME).iter().rev();
    let entries = lines.flat_map(|line| line.to_str().unwrap_or("?").rsplit(','));
    let mut seen = None;
    for entry in entries {
        let Some(address) = address(entry.trim()) else {
            // Whoever wrote this is not trusted to have seen what stands before it.
            return seen;
        };
        seen = Some(address);
        if !trusted.iter().any(|network| network.contains(&address)) {
            return seen;
        }
    }
    seen
}

/// An address, perhaps with a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let alone = bare.unwrap_or(text).parse::<IpAddr>();
    let with_port = || text.parse::<SocketAddr>().map(|address| address.ip());
    alone
        .or_else(|_| with_port())
        .ok()
        .map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_last_address_that_no_trusted_proxy_has_is_whom_a_request_is_for() {
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|text| text.parse().unwrap());
        for (lines, expected) in [
            (&["192.0.2.1"][..], Some("192.0.2.1")),
            // What a client wrote itself stands first.
            (&["127.0.0.1, 192.0.2.1"], Some("192.0.2.1")),
            (&["127.0.0.1", "192.0.2.1"], Some("192.0.2.1")),
            (&["192.0.2.1, 10.0.0.3,10.0.0.2"], Some("192.0.2.1")),
            (&["192.0.2.1:4711"], Some("192.0.2.1")),
            (&["[2001:db8::1]:4711, fd00::1"], Some("2001:db8::1")),
            (&["[2001:db8::1]"], Some("2001:db8::1")),
            (&["::ffff:192.0.2.1"], Some("192.0.2.1")),
            (&["10.0.0.3, 10.0.0.2"], Some("10.0.0.3")),
            (&["192.0.2.1, unknown, 10.0.0.2"], Some("10.0.0.2")),
            (&["unknown"], None),
            (&["192.0.2.1,"], None),
            (&[""], None),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(NAME, HeaderValue::from_static(line));
            }
            let expected = expected.map(|text| text.parse().unwrap());
            assert_eq!(client(&headers, &trusted), expected, "{lines:?}");
        }
    }
}
