//! Brokers that run already, known by address: they are used as they are, and never restarted.

use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use anyhow::{Context, bail};

use super::process_usage;
use crate::bench::target::{Carrier, Target, Usage};

/// `name=host:port[,ws=host:port[/path]][,pid=N]`, as on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name in tables.
    pub name: String,
    /// Its TCP listener.
    pub tcp: SocketAddr,
    /// Its WebSocket listener and path.
    pub ws: Option<(SocketAddr, String)>,
    /// Its process, if it runs on this machine: for CPU time and memory.
    pub pid: Option<u32>,
}

impl FromStr for Peer {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let mut parts = text.split(',');
        let (name, tcp) = parts
            .next()
            .and_then(|first| first.split_once('='))
            .context("expected name=host:port[,ws=host:port/path][,pid=N]")?;
        if name.is_empty() {
            bail!("a broker needs a name before the =");
        }
        let mut peer = Self {
            name: name.to_owned(),
            tcp: resolve(tcp)?,
            ws: None,
            pid: None,
        };
        for part in parts {
            match part.split_once('=') {
                Some(("ws", listener)) => {
                    let (address, path) = match listener.split_once('/') {
                        Some((address, path)) => (address, format!("/{path}")),
                        None => (listener, "/mqtt".to_owned()),
                    };
                    peer.ws = Some((resolve(address)?, path));
                }
                Some(("pid", id)) => {
                    let id = id.parse();
                    peer.pid = Some(id.with_context(|| format!("{part:?}: a process id?"))?);
                }
                _ => bail!("{part:?} is neither ws=host:port/path nor pid=N"),
            }
        }
        Ok(peer)
    }
}

fn resolve(address: &str) -> anyhow::Result<SocketAddr> {
    address
        .to_socket_addrs()
        .with_context(|| format!("{address:?} is no host:port"))?
        .next()
        .with_context(|| format!("{address:?} has no address"))
}

/// A [`Peer`] as a target.
pub struct Known {
    peer: Peer,
}

impl Known {
    /// Nothing is connected yet.
    pub fn new(peer: Peer) -> Self {
        Self { peer }
    }
}

impl Target for Known {
    fn name(&self) -> &str {
        &self.peer.name
    }

    fn address(&self, carrier: Carrier) -> Option<SocketAddr> {
        match carrier {
            Carrier::Tcp => Some(self.peer.tcp),
            Carrier::WebSocket => self.peer.ws.as_ref().map(|(address, _)| *address),
        }
    }

    fn websocket_path(&self) -> &str {
        self.peer.ws.as_ref().map_or("/mqtt", |(_, path)| path)
    }

    fn usage(&self) -> Option<Usage> {
        process_usage::of(self.peer.pid?)
    }

    fn kill_and_restart(&mut self) -> anyhow::Result<()> {
        bail!(
            "{} is known by its address only: it is not ours to kill",
            self.peer.name
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_read_with_all_its_parts() {
        let peer: Peer = "flash=127.0.0.1:1883,ws=127.0.0.1:8080/x/y,pid=12"
            .parse()
            .expect("a peer");
        assert_eq!(
            peer,
            Peer {
                name: "flash".to_owned(),
                tcp: ([127, 0, 0, 1], 1883).into(),
                ws: Some((([127, 0, 0, 1], 8080).into(), "/x/y".to_owned())),
                pid: Some(12),
            }
        );
    }

    #[test]
    fn name_and_tcp_address_are_enough() {
        let peer: Peer = "other=127.0.0.1:1883".parse().expect("a peer");
        assert_eq!((peer.ws, peer.pid), (None, None));
        let peer: Peer = "other=127.0.0.1:1,ws=127.0.0.1:2".parse().expect("a peer");
        assert_eq!(peer.ws.map(|(_, path)| path).as_deref(), Some("/mqtt"));
    }

    #[test]
    fn what_is_no_peer_is_refused() {
        for text in [
            "",
            "127.0.0.1:1883",
            "=127.0.0.1:1883",
            "a=127.0.0.1",
            "a=127.0.0.1:1883,pid=x",
            "a=127.0.0.1:1883,tls=127.0.0.1:8883",
            "a=127.0.0.1:1883,ws=nowhere",
        ] {
            assert!(text.parse::<Peer>().is_err(), "{text:?} was understood");
        }
    }

    #[test]
    fn a_broker_that_is_not_ours_is_never_killed() {
        let peer = "other=127.0.0.1:1883".parse().expect("a peer");
        assert!(Known::new(peer).kill_and_restart().is_err());
    }
}
