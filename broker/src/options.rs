//! What a broker is told when it starts. This module knows neither files nor the command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tidings_core::journal::ShardId;
use tidings_core::limits::{Bounds, Metered};
use tidings_core::message::QoS;
use tidings_core::rules::{Membership, OpenRooms, RuleSource, Rules};
use tidings_core::shard::{self as core_shard, Takeover};

use crate::audit;
use crate::auth::{
    AccountOptions, Authenticate, HookOptions, OpenMode, PasswordOptions, TokenOptions,
};
use crate::handshake;
use crate::heartbeat;
use crate::http;
use crate::limits;
use crate::listener::{self, Kind};
use crate::log_tail::LogTail;
use crate::otel;
use crate::people;
use crate::rooms;
use crate::store;
use crate::tls;

/// Limits on each session.
#[derive(Clone, Debug)]
pub struct SessionLimits {
    /// Bytes waiting to be written to one connection; above it the receiver reads on later.
    pub output_bytes: usize,
    /// QoS 1 and 2 publishes a client may have open.
    pub receive_maximum: u16,
    /// QoS 1 and 2 messages open towards one client.
    pub max_inflight: u16,
    /// Highest QoS granted and taken.
    pub maximum_qos: QoS,
    /// Topic aliases, in each direction.
    pub topic_alias_maximum: u16,
    /// Bytes of one packet.
    pub maximum_packet_bytes: u32,
    /// Seconds a session is kept without a connection.
    pub session_expiry_max_s: u32,
    /// Longest Keep Alive in seconds; 0: whatever clients want.
    pub keep_alive_max_s: u16,
    /// Subscriptions of one session.
    pub max_subscriptions: u32,
    /// Bytes on their way from one shard to the journal, above which publishers wait.
    pub append_queue_bytes: usize,
    /// How long the position of a session may stay unsaved.
    pub progress_interval: Duration,
    /// What clients are held to beside that; whether users and rooms are is seen from their rates.
    pub bounds: Bounds,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            output_bytes: 64 * 1024,
            receive_maximum: 1024,
            max_inflight: 1024,
            maximum_qos: QoS::ExactlyOnce,
            topic_alias_maximum: 64,
            maximum_packet_bytes: 1024 * 1024,
            session_expiry_max_s: 30 * 24 * 60 * 60,
            keep_alive_max_s: 0,
            max_subscriptions: 1000,
            append_queue_bytes: 16 * 1024 * 1024,
            progress_interval: Duration::from_secs(1),
            bounds: Bounds::default(),
        }
    }
}

/// How clients prove who they are.
#[derive(Clone)]
pub enum Auth {
    /// As somebody else says.
    By(Arc<dyn Authenticate>),
    /// By the accounts of the broker, and by what else is to count.
    Accounts(AccountOptions, Box<OtherProofs>),
}

/// What counts beside accounts.
#[derive(Clone, Debug, Default)]
pub struct OtherProofs {
    /// Signed tokens.
    pub tokens: Option<TokenOptions>,
    /// Somebody who is asked about names without an account.
    pub hook: Option<HookOptions>,
}

/// Everything a broker is told when it starts.
#[derive(Clone)]
pub struct BrokerOptions {
    /// Journal and state.
    pub store: store::Options,
    /// Shard threads; 0: one per core.
    pub shards: u16,
    /// Each shard stays on a core of its own, where there are as many of both.
    pub pin_shards: bool,
    /// Where clients connect.
    pub listeners: Vec<listener::Options>,
    /// Certificates of listeners; `None`: there is no TLS.
    pub tls: Option<tls::Options>,
    /// How WebSockets are spoken.
    pub websocket: listener::WebSocketOptions,
    /// Limits on peers before they are clients.
    pub handshake: handshake::Options,
    /// Limits on clients, one by one and all together.
    pub limits: limits::Options,
    /// The HTTP API.
    pub http: http::Options,
    /// Limits on each session.
    pub session: SessionLimits,
    /// Who may use which topics, and what is kept.
    pub rules: Arc<Rules>,
    /// Who is who.
    pub auth: Auth,
    /// The same for listeners of [`DoorMode::Accounts`](crate::auth::DoorMode), where `auth` is something
    /// else; `None`: nobody comes in there.
    pub door_accounts: Option<(AccountOptions, OtherProofs)>,
    /// What hashing a password costs.
    pub passwords: PasswordOptions,
    /// Who is a member of what, unless `rooms` are managed.
    pub members: Arc<dyn Membership + Send + Sync>,
    /// Rooms that users make, join and leave; `None`: as `members` says.
    pub rooms: Option<rooms::Options>,
    /// Presence, and what people may ask.
    pub people: people::Options,
    /// How much the audit log keeps.
    pub audit: audit::Options,
    /// A collector of figures; `None`: nobody is sent any.
    pub otel: Option<otel::Options>,
    /// The last lines of the log, to be shown to administrators.
    pub log: Option<Arc<LogTail>>,
    /// Time between updates of `$SYS`; `None`: never.
    pub system_interval: Option<Duration>,
    /// How long a stop may take.
    pub shutdown_deadline: Duration,
    /// Who is told at intervals whether the broker's threads turn.
    pub heartbeat: Option<heartbeat::Options>,
}

impl BrokerOptions {
    /// A broker in open mode with its data in `data_dir`, without listeners, where everyone may use
    /// every topic.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        let rule = |pattern: &str, publish: &str| RuleSource {
            pattern: pattern.to_owned(),
            publish: publish.to_owned(),
            subscribe: "any".to_owned(),
            ..RuleSource::default()
        };
        let rules = [rule("$SYS/#", "broker"), rule("#", "any")];
        Self {
            store: store::Options::new(data_dir.into()),
            shards: 0,
            pin_shards: true,
            listeners: Vec::new(),
            tls: None,
            websocket: listener::WebSocketOptions::default(),
            handshake: handshake::Options {
                connect_timeout: Duration::from_secs(10),
                max_connect_bytes: 16 * 1024,
                max_client_id_bytes: 256,
            },
            limits: limits::Options::default(),
            http: http::Options::default(),
            session: SessionLimits::default(),
            rules: Arc::new(Rules::compile(&rules).unwrap_or_default()),
            auth: Auth::By(Arc::new(OpenMode)),
            door_accounts: None,
            passwords: PasswordOptions::default(),
            members: Arc::new(OpenRooms),
            rooms: None,
            people: people::Options::default(),
            audit: audit::Options::default(),
            otel: None,
            log: None,
            system_interval: Some(Duration::from_secs(10)),
            shutdown_deadline: Duration::from_secs(10),
            heartbeat: None,
        }
    }

    /// Adds a listener; port 0 takes a free one.
    #[must_use]
    pub fn listen(mut self, kind: Kind, address: SocketAddr) -> Self {
        self.listeners.push(listener::Options::new(kind, address));
        self
    }

    /// Adds a listener where nothing is spoken but in TLS; [`BrokerOptions::tls`] says with which
    /// certificate.
    #[must_use]
    pub fn listen_tls(mut self, kind: Kind, address: SocketAddr) -> Self {
        self.listeners.push(listener::Options {
            tls: true,
            ..listener::Options::new(kind, address)
        });
        self
    }

    /// Who may connect with a Client Identifier that has a session: if anybody has to prove who they are
    /// by any listener, its user.
    pub(crate) fn takeover(&self) -> Takeover {
        let tells_apart = match &self.auth {
            Auth::By(judge) => judge.tells_apart() || self.door_accounts.is_some(),
            Auth::Accounts(..) => true,
        };
        match tells_apart {
            true => Takeover::ByItsUser,
            false => Takeover::ByAnyone,
        }
    }

    /// What one of `shards` shards is told.
    pub(crate) fn shard_options(&self, id: ShardId, shards: u16) -> core_shard::Options {
        let session = &self.session;
        core_shard::Options {
            id,
            shards,
            output_bytes: session.output_bytes,
            receive_maximum: session.receive_maximum,
            max_inflight: session.max_inflight,
            maximum_qos: session.maximum_qos,
            topic_alias_maximum: session.topic_alias_maximum,
            maximum_packet_bytes: session.maximum_packet_bytes,
            session_expiry_max_s: session.session_expiry_max_s,
            keep_alive_max_s: session.keep_alive_max_s,
            max_subscriptions: session.max_subscriptions,
            append_queue_bytes: session.append_queue_bytes / usize::from(shards.max(1)),
            turn: crate::shard::TURN,
            progress_interval_ms: u64::try_from(session.progress_interval.as_millis())
                .unwrap_or(u64::MAX),
            takeover: self.takeover(),
            bounds: Bounds {
                metered: Metered {
                    users: !self.limits.user_rate.is_off(),
                    rooms: !self.limits.room_rate.is_off(),
                },
                ..session.bounds.clone()
            },
        }
    }
}
