//! Where the broker is: `host:port` for MQTT over TCP, or a `ws://` URL for MQTT over WebSocket.

use std::fmt;
use std::str::FromStr;

/// Address of a broker, checked when it is read so that connecting cannot trip over its form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrokerAddress {
    /// MQTT directly over TCP.
    Tcp {
        /// Host name or IP address, without brackets.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// MQTT over WebSocket (§6), subprotocol `mqtt`.
    WebSocket {
        /// The whole URL, such as `ws://127.0.0.1:8083/mqtt`.
        url: String,
    },
}

impl FromStr for BrokerAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with("ws://") {
            return web_socket(text);
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(format!(
                "\"{scheme}://\" is not supported, use \"host:port\" or \"ws://host:port/path\""
            ));
        }
        let (host, port) = host_and_port(text)?;
        Ok(Self::Tcp { host, port })
    }
}

fn web_socket(url: &str) -> Result<BrokerAddress, String> {
    let rest = url.trim_start_matches("ws://");
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    host_and_port(authority)?;
    if url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(format!("{url:?} contains white space"));
    }
    Ok(BrokerAddress::WebSocket {
        url: url.to_owned(),
    })
}

fn host_and_port(text: &str) -> Result<(String, u16), String> {
    let complaint = || {
        format!("\"{text}\" is not a broker address such as \"127.0.0.1:1883\" or \"[::1]:1883\"")
    };
    let (host, port) = text.rsplit_once(':').ok_or_else(complaint)?;
    let host = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    let port: u16 = port.parse().map_err(|_| complaint())?;
    if host.is_empty() || port == 0 || host.contains(char::is_whitespace) {
        return Err(complaint());
    }
    Ok((host.to_owned(), port))
}

impl fmt::Display for BrokerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::WebSocket { url } => f.write_str(url),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_and_websocket_addresses_are_read_and_shown_again() {
        for text in [
            "127.0.0.1:1883",
            "broker.local:1883",
            "[::1]:1883",
            "ws://127.0.0.1:8083/mqtt",
        ] {
            let address: BrokerAddress = text.parse().expect(text);
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn an_address_without_host_or_port_or_with_another_scheme_is_refused() {
        for text in [
            "",
            "localhost",
            ":1883",
            "host:",
            "host:0",
            "host:70000",
            "ws://host/mqtt",
            "ws://h:1/a b",
            "wss://host:8084/mqtt",
            "mqtt://host:1883",
        ] {
            assert!(text.parse::<BrokerAddress>().is_err(), "{text}");
        }
    }
}
