//! Where a listener listens and whom it believes, as text in the settings: an address and port or a
//! Unix socket, the permissions of that socket, networks of proxies.
//!
//! Nothing is looked up: what a name means is decided elsewhere, and a listener must not become public by it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;
use serde::de::{Deserialize, Deserializer, Error as _};

/// What an address of a Unix socket begins with.
const UNIX: &str = "unix:";

/// Bytes of the path of a Unix socket: `sun_path` of the system has 108, the last one 0.
const MAX_SOCKET_PATH: usize = 107;

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// IP address and port; port 0 takes a free one.
    Network(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// Text that is no [`ListenAddress`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenAddressError {
    /// Neither an address and port nor `unix:`.
    #[error(
        "\"{0}\" is not an address and port, such as 127.0.0.1:1883, [::1]:1883 or 0.0.0.0:1883, nor a Unix \
         socket, such as unix:/run/tidings/mqtt.sock"
    )]
    Network(String),
    /// The path is empty or longer than the system can take.
    #[error("\"{0}\" is no path for a Unix socket: it has 1 to {MAX_SOCKET_PATH} bytes")]
    Path(String),
}

impl ListenAddress {
    /// Whether other machines can reach it.
    pub fn is_public(&self) -> bool {
        match self {
            Self::Network(address) => !address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => false,
        }
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Network(address)
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

impl FromStr for ListenAddress {
    type Err = ListenAddressError;

    fn from_str(text: &str) -> Result<Self, ListenAddressError> {
        if let Some(path) = text.strip_prefix(UNIX) {
            return if path.is_empty() || path.len() > MAX_SOCKET_PATH || path.contains('\0') {
                Err(ListenAddressError::Path(path.to_owned()))
            } else {
                Ok(Self::Unix(path.into()))
            };
        }
        // Of names only this one.
        let numeric = match text.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}"),
            None => text.to_owned(),
        };
        numeric
            .parse()
            .map(Self::Network)
            .map_err(|_| ListenAddressError::Network(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for ListenAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

/// Permissions of a Unix socket, as octal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketMode(pub u32);

impl<'de> Deserialize<'de> for SocketMode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let is_octal =
            matches!(text.len(), 3 | 4) && text.bytes().all(|b| matches!(b, b'0'..=b'7'));
        u32::from_str_radix(&text, 8)
            .ok()
            .filter(|mode| is_octal && *mode <= 0o777)
            .map(Self)
            .ok_or_else(|| {
                D::Error::custom(format_args!(
                    "\"{text}\" is not permissions in octal digits, such as \"0660\""
                ))
            })
    }
}

/// Networks, such as `10.0.0.0/8`; an address alone is a network of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(pub Vec<IpNet>);

impl<'de> Deserialize<'de> for Networks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let network = |text: String| {
            let alone = text.parse::<IpAddr>().map(IpNet::from);
            alone.or_else(|_| text.parse()).map_err(|_| {
                D::Error::custom(format_args!(
                    "\"{text}\" is not an address or network, such as 10.0.0.0/8, 192.0.2.7 or fd00::/8"
                ))
            })
        };
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts
            .into_iter()
            .map(network)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Result<ListenAddress, ListenAddressError> {
        text.parse()
    }

    #[test]
    fn an_address_is_numbers_or_a_path_and_is_written_as_it_was_read() {
        for text in [
            "127.0.0.1:1883",
            "[::1]:0",
            "0.0.0.0:8083",
            "unix:/run/tidings/mqtt.sock",
            "unix:mqtt.sock",
        ] {
            assert_eq!(address(text).unwrap().to_string(), text);
        }
        let here = address("localhost:1883").unwrap();
        assert_eq!(here.to_string(), "127.0.0.1:1883");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long = format!("unix:/{}", "x".repeat(107));
        for text in [
            "",
            "1883",
            "example.org:1883",
            "127.0.0.1",
            "unix:",
            "unix:a\0b",
            &long,
        ] {
            assert!(address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_loopback_and_unix_sockets_are_not_public() {
        for (text, is_public) in [
            ("127.0.0.1:1", false),
            ("[::1]:1", false),
            ("[::ffff:127.0.0.1]:1", false),
            ("unix:/tmp/a", false),
            ("0.0.0.0:1", true),
            ("[::]:1", true),
            ("192.0.2.1:1", true),
        ] {
            assert_eq!(address(text).unwrap().is_public(), is_public, "{text}");
        }
    }
}
