//! What `tidings pub` and `tidings sub` have in common: how to reach a broker, and what it says.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use rumqttc::Transport;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::{AsyncClient, ConnectionError, EventLoop, MqttOptions};
use tidings_bridge::remote::ClientTls;
use tidings_config::{BridgeAddress, Transport as Carrier};

/// Requests on their way to the event loop: enough to keep the connection busy.
const REQUESTS: usize = 256;

/// Unacknowledged publishes at one time.
const INFLIGHT: u16 = 256;

#[derive(Clone, Debug, Args)]
pub(super) struct Client {
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Host of the broker
    #[arg(short = 'h', long, default_value = "127.0.0.1")]
    host: String,
    /// Port of the broker; without it 1883, and 8883 with TLS
    #[arg(short, long)]
    port: Option<u16>,
    /// mqtt:// or mqtts://HOST:PORT, or ws:// or wss://HOST:PORT/PATH, instead of host and port
    #[arg(short = 'L', long, value_name = "URL", conflicts_with_all = ["host", "port"])]
    url: Option<BridgeAddress>,
    /// Speak TLS; whom to believe says --cafile, or else the system
    #[arg(long)]
    tls: bool,
    /// Speak TLS, and believe the CAs in this file (PEM)
    #[arg(long, value_name = "FILE")]
    cafile: Option<PathBuf>,
    /// Speak TLS, and show the certificate in this file (PEM)
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// User name; without it the client is anonymous
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,
    /// Password
    #[arg(short = 'P', long, requires = "username")]
    password: Option<String>,
    /// Client identifier; without it one is made up
    #[arg(short, long, value_name = "CLIENT_ID")]
    id: Option<String>,
    /// Seconds without a packet after which the connection is checked
    #[arg(short, long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u16).range(5..))]
    keepalive: u16,
}

impl Client {
    /// A client that connects when its event loop is polled. `session_s`: how long the broker keeps
    /// the session after the end of the connection; `None`: not at all.
    ///
    /// # Errors
    /// If there is to be TLS, and cannot be.
    pub fn connect(&self, session_s: Option<u32>) -> anyhow::Result<(AsyncClient, EventLoop)> {
        let id = self
            .id
            .clone()
            .unwrap_or_else(|| format!("tidings-{}", uuid::Uuid::new_v4().simple()));
        let address = self.address();
        let host = match address.transport {
            Carrier::Tcp | Carrier::Mqtts => address.host.clone(),
            // The whole of it, as the client library wants it.
            Carrier::Ws | Carrier::Wss => address.to_string(),
        };
        let mut options = MqttOptions::new(id, host, address.port);
        let tls = || {
            let tls = ClientTls {
                ca_file: self.cafile.clone(),
                certificate: self.cert.clone().zip(self.key.clone()),
            };
            tls.configuration().context("TLS")
        };
        options.set_transport(match address.transport {
            Carrier::Tcp => Transport::Tcp,
            Carrier::Ws => Transport::Ws,
            Carrier::Mqtts => Transport::Tls(tls()?),
            Carrier::Wss => Transport::Wss(tls()?),
        });
        options.set_keep_alive(Duration::from_secs(u64::from(self.keepalive)));
        options.set_clean_start(session_s.is_none());
        options.set_session_expiry_interval(session_s);
        // Those who print must keep up with everything the broker can send.
        options.set_max_packet_size(Some(u32::MAX));
        options.set_outgoing_inflight_upper_limit(INFLIGHT);
        options.set_manual_acks(true);
        if let Some(username) = &self.username {
            options.set_credentials(username, self.password.as_deref().unwrap_or_default());
        }
        Ok(AsyncClient::new(options, REQUESTS))
    }

    fn address(&self) -> BridgeAddress {
        let wants_tls = self.tls || self.cafile.is_some() || self.cert.is_some();
        let secure = |transport| match transport {
            Carrier::Tcp if wants_tls => Carrier::Mqtts,
            Carrier::Ws if wants_tls => Carrier::Wss,
            transport => transport,
        };
        match &self.url {
            Some(url) => BridgeAddress {
                transport: secure(url.transport),
                ..url.clone()
            },
            None => BridgeAddress {
                transport: secure(Carrier::Tcp),
                host: self.host.clone(),
                port: self.port.unwrap_or(if wants_tls { 8883 } else { 1883 }),
                path: String::new(),
            },
        }
    }

    /// What went wrong, in words for the one who gave the address.
    pub fn explain(&self, error: &ConnectionError) -> anyhow::Error {
        let address = self.address();
        match error {
            ConnectionError::ConnectionRefused(reason) => {
                anyhow!("{address} refused the connection: {reason:?}")
            }
            error => anyhow!("connection to {address}: {error}"),
        }
    }

    /// Whether the client identifier was chosen, and can be found again.
    pub fn has_id(&self) -> bool {
        self.id.is_some()
    }
}

/// The QoS of a number on the command line.
///
/// # Errors
/// If it is not 0, 1 or 2.
pub(super) fn qos(text: &str) -> anyhow::Result<QoS> {
    Ok(match text {
        "0" => QoS::AtMostOnce,
        "1" => QoS::AtLeastOnce,
        "2" => QoS::ExactlyOnce,
        _ => bail!("it is 0, 1 or 2"),
    })
}

/// A runtime for one client.
///
/// # Errors
/// If there is none to be had.
pub(super) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}
