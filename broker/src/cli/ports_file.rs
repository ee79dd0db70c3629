//! `--ports-file`: where the listeners really listen, for programs that start a broker on port 0.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;
use tidings_broker::Running;
use tidings_broker::listener::Kind;

/// The content: addresses and ports by kind, in the order of the flags or settings.
#[derive(Debug, Serialize)]
struct Ports {
    tcp: Vec<SocketAddr>,
    ws: Vec<SocketAddr>,
    auto: Vec<SocketAddr>,
    mqtts: Vec<SocketAddr>,
    wss: Vec<SocketAddr>,
    /// All listeners by name, Unix sockets as `unix:/path`.
    listeners: BTreeMap<String, String>,
}

/// Writes the file whole or not at all: whoever sees it can read it.
///
/// # Errors
/// If the file cannot be written.
pub(super) fn write(path: &Path, broker: &Running) -> anyhow::Result<()> {
    let ports = Ports {
        tcp: broker.addresses(Kind::Tcp).collect(),
        ws: broker.addresses(Kind::WebSocket).collect(),
        auto: broker
            .addresses(Kind::Auto)
            .chain(broker.tls_addresses(Kind::Auto))
            .collect(),
        mqtts: broker.tls_addresses(Kind::Tcp).collect(),
        wss: broker.tls_addresses(Kind::WebSocket).collect(),
        listeners: broker
            .listeners()
            .iter()
            .map(|at| (at.name.clone(), at.address.to_string()))
            .collect(),
    };
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(format!(".{}", std::process::id()));
    let write = || {
        let mut file = std::fs::File::create(&unfinished)?;
        serde_json::to_writer(&mut file, &ports)?;
        file.write_all(b"\n")?;
        std::fs::rename(&unfinished, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
