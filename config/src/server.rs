//! `[server]`, `[[listeners]]`: the process and its doors.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;

use crate::errors::Origin;
use crate::listen::{ListenAddress, Networks, SocketMode};
use crate::reader::{Checks, Section};
use crate::websocket::check_origins;

/// Bytes of a listener's name: systemd takes 255, and people read it in logs.
const MAX_NAME: usize = 64;

/// `[server]`: the process.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Directory of journal and state, relative to the working directory.
    pub data_dir: PathBuf,
    /// True: open mode may listen on addresses that other machines reach.
    pub allow_public_open_mode: bool,
    /// Seconds a stop may take before connections are dropped.
    pub shutdown_deadline_s: u64,
    /// Shard threads; 0: one per core.
    pub shards: usize,
    /// Each shard stays on a core of its own, where there are as many of both.
    pub pin_shards: bool,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            data_dir: "data".into(),
            allow_public_open_mode: false,
            shutdown_deadline_s: 10,
            shards: 0,
            pin_shards: true,
        }
    }
}

impl Section for Server {
    fn check(&self, checks: &mut Checks<'_>) {
        checks.not_empty("data_dir", &self.data_dir.to_string_lossy());
        checks.range(
            "shutdown_deadline_s",
            self.shutdown_deadline_s,
            1..=3600,
            "a stop needs some time, and must end",
        );
        checks.range("shards", self.shards as u64, 0..=1024, "0 is one per core");
    }
}

/// `[[listeners]]`: one address that clients connect to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listener {
    /// What it is called in logs, and by whoever hands over its socket; empty until
    /// [`Settings::name_listeners`](crate::Settings::name_listeners).
    pub name: String,
    /// What is spoken there.
    pub kind: ListenerKind,
    /// Address and port, or a Unix socket.
    pub address: ListenAddress,
    /// True: an IPv6 address takes no IPv4 connections.
    pub ipv6_only: bool,
    /// Permissions of a Unix socket.
    pub socket_mode: SocketMode,
    /// Path of the WebSocket endpoint; unused by `tcp`.
    pub path: String,
    /// Pages of other hosts that may open a WebSocket here, beside those of `[websocket] origins`.
    pub origins: Vec<String>,
    /// True: nothing is spoken there but in TLS.
    pub tls: bool,
    /// Connections over this listener at one time; 0: as many as there may be at all.
    pub max_connections: usize,
    /// How clients of this listener prove who they are.
    pub auth: ListenerAuth,
    /// True: connections begin with a PROXY header, version 1 or 2.
    pub proxy_protocol: bool,
    /// True: `X-Forwarded-For` of requests over HTTP is believed.
    pub forwarded_for: bool,
    /// Whose PROXY header and `X-Forwarded-For` are believed.
    pub trusted_proxies: Networks,
    /// Where the entry begins.
    #[serde(skip)]
    pub origin: Origin,
}

/// How clients of one listener prove who they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListenerAuth {
    /// As `[auth] mode` says.
    #[default]
    Inherit,
    /// Everyone is who they say they are.
    Open,
    /// By the accounts of the broker.
    Accounts,
}

/// What a listener expects from its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListenerKind {
    /// MQTT directly on TCP.
    Tcp,
    /// MQTT over WebSocket, and plain HTTP.
    Ws,
    /// Either, recognised by the first bytes.
    Auto,
}

impl ListenerKind {
    /// The word in the settings.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Ws => "ws",
            Self::Auto => "auto",
        }
    }
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            name: String::new(),
            kind: ListenerKind::Tcp,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 1883)).into(),
            ipv6_only: false,
            socket_mode: SocketMode(0o660),
            path: "/mqtt".to_owned(),
            origins: Vec::new(),
            tls: false,
            max_connections: 0,
            auth: ListenerAuth::Inherit,
            proxy_protocol: false,
            forwarded_for: false,
            trusted_proxies: Networks::default(),
            origin: Origin::Program,
        }
    }
}

impl Section for Listener {
    const REQUIRED: &'static [&'static str] = &["kind", "address"];

    fn check(&self, checks: &mut Checks<'_>) {
        check_origins(checks, &self.origins);
        if !self.path.starts_with('/') {
            checks.refuse("path", "must begin with /");
        }
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if self.name.len() > MAX_NAME || !self.name.bytes().all(is_plain) {
            checks.refuse(
                "name",
                format_args!(
                    "has letters, digits, - _ and . alone, and at most {MAX_NAME} of them"
                ),
            );
        }
        checks.not_empty("name", &self.name);
        if self.ipv6_only && !matches!(self.address, ListenAddress::Network(SocketAddr::V6(_))) {
            checks.refuse("ipv6_only", "is about IPv6 addresses, such as [::]:1883");
        }
        let is_unix = matches!(self.address, ListenAddress::Unix(_));
        let trusts_nobody = self.trusted_proxies.0.is_empty();
        if self.proxy_protocol && trusts_nobody && !is_unix {
            checks.refuse(
                "trusted_proxies",
                "is empty, so that proxy_protocol would refuse everyone: name the addresses of the proxies",
            );
        }
        if self.forwarded_for && trusts_nobody && !is_unix {
            checks.refuse(
                "trusted_proxies",
                "is empty, so that forwarded_for would believe nobody: name the addresses of the proxies",
            );
        }
        if self.forwarded_for && self.kind == ListenerKind::Tcp {
            checks.refuse(
                "forwarded_for",
                "is about HTTP, which kind = \"tcp\" does not speak",
            );
        }
        if !self.proxy_protocol && !self.forwarded_for && !trusts_nobody {
            checks.refuse(
                "trusted_proxies",
                "counts with proxy_protocol = true or forwarded_for = true alone",
            );
        }
    }

    fn placed_at(&mut self, origin: &Origin) {
        self.origin = origin.clone();
    }
}
