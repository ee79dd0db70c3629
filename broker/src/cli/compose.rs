//! From settings to options: the names and units of the file become those of the modules.

use std::sync::Arc;
use std::time::Duration;

use tidings_broker::auth::{
    self, AccountOptions, DoorMode, HookOptions, Limit, OpenMode, PasswordOptions, TokenOptions,
};
use tidings_broker::listener::{Address, Kind};
use tidings_broker::{
    Auth, BrokerOptions, OtelOptions, OtherProofs, PeopleOptions, RoomOptions, SessionLimits,
    audit, handshake, http, limits, listener, store, tls,
};
use tidings_config::{
    AuthMode, ClientAuth, ClientName, Durability, ListenAddress, Listener, ListenerAuth,
    ListenerKind, MetricsAccess, MinVersion, RoomMode, Settings, TopicRule, VisibleTo,
};
use tidings_core::limits::{Bounds, FlowRate, Rate};
use tidings_core::message::QoS;
use tidings_core::people::{PresenceOptions, Visibility};
use tidings_core::rooms::Limits;
use tidings_core::rules::{Keep, OpenRooms, Relay, RuleSource, Rules};

/// What is wrong with the topic rules, with the place where the rule begins.
///
/// # Errors
/// One line for the first rule that cannot be used.
pub(super) fn rules(topics: &[TopicRule]) -> Result<Rules, String> {
    let sources: Vec<_> = topics.iter().map(rule_source).collect();
    Rules::compile(&sources).map_err(|error| match topics.get(error.index) {
        Some(rule) => format!("{}: {error}", rule.origin),
        None => error.to_string(),
    })
}

fn rule_source(rule: &TopicRule) -> RuleSource {
    RuleSource {
        pattern: rule.pattern.clone(),
        publish: rule.publish.clone(),
        subscribe: rule.subscribe.clone(),
        stream: rule.stream.clone(),
        keep: rule.keep.map(|keep| Keep {
            max_age_s: keep.days.map(|days| u64::from(days) * 24 * 60 * 60),
            max_count: keep.count,
            max_bytes: keep.mib.map(|mib| mib.saturating_mul(1024 * 1024)),
        }),
        relay: rule.relay.map(|relay| Relay {
            per_second: relay.per_second,
            expires_s: relay.expires_s,
        }),
        grows: rule.grows.clone(),
    }
}

/// The options of a broker with these settings.
///
/// # Errors
/// As for [`rules`].
pub(super) fn broker_options(settings: &Settings) -> Result<BrokerOptions, String> {
    let (server, mqtt, limits) = (&settings.server, &settings.mqtt, &settings.limits);
    let others = OtherProofs {
        tokens: token_options(&settings.jwt),
        hook: hook_options(&settings.auth_hook),
    };
    let accounts = account_options(&settings.auth);
    let wants_accounts = |listener: &Listener| listener.auth == ListenerAuth::Accounts;
    let (auth, door_accounts) = match settings.auth.mode {
        AuthMode::Open => (
            Auth::By(Arc::new(OpenMode)),
            settings
                .listeners
                .iter()
                .any(wants_accounts)
                .then_some((accounts, others)),
        ),
        AuthMode::Accounts => (Auth::Accounts(accounts, Box::new(others)), None),
    };
    Ok(BrokerOptions {
        store: store_options(settings),
        shards: u16::try_from(server.shards).unwrap_or(u16::MAX),
        pin_shards: server.pin_shards,
        listeners: settings.listeners.iter().map(listener_options).collect(),
        tls: tls_options(&settings.tls),
        websocket: websocket_options(settings)?,
        handshake: handshake::Options {
            connect_timeout: Duration::from_secs(mqtt.connect_timeout_s),
            max_connect_bytes: mqtt.max_connect_bytes as usize,
            max_client_id_bytes: usize::from(mqtt.max_client_id_bytes),
        },
        limits: limit_options(limits),
        http: http::Options {
            login_hours: settings.http.login_hours,
            max_body_bytes: settings.http.max_body_bytes,
            requests_per_minute: settings.http.requests_per_minute,
            metrics: match settings.http.metrics {
                MetricsAccess::Local => http::MetricsFor::Local,
                MetricsAccess::Admin => http::MetricsFor::Admin,
                MetricsAccess::Anyone => http::MetricsFor::Anyone,
            },
            heartbeat_s: settings.http.heartbeat_s,
            max_poll_s: settings.http.max_poll_s,
            max_streams_per_user: settings.http.max_streams_per_user,
        },
        session: SessionLimits {
            output_bytes: limits.output_bytes_per_connection,
            receive_maximum: mqtt.receive_maximum,
            max_inflight: mqtt.max_inflight_out,
            maximum_qos: QoS::from_bits(mqtt.max_qos).unwrap_or(QoS::ExactlyOnce),
            topic_alias_maximum: mqtt.topic_alias_maximum,
            maximum_packet_bytes: mqtt.max_packet_bytes,
            session_expiry_max_s: mqtt.session_expiry_max_s,
            keep_alive_max_s: mqtt.keep_alive_max_s,
            max_subscriptions: mqtt.max_subscriptions_per_session,
            append_queue_bytes: settings.journal.queue_max_bytes,
            bounds: bounds(limits, mqtt.max_subscriptions_per_session),
            ..SessionLimits::default()
        },
        rules: Arc::new(rules(&settings.topics)?),
        auth,
        door_accounts,
        passwords: PasswordOptions {
            memory_kib: settings.auth.password_memory_kib,
            passes: settings.auth.password_passes,
            at_once: settings.auth.password_hashes_at_once as usize,
        },
        members: Arc::new(OpenRooms),
        rooms: match settings.rooms.mode {
            RoomMode::Open => None,
            RoomMode::Managed => Some(room_options(&settings.rooms)),
        },
        people: people_options(&settings.people),
        audit: audit::Options {
            max_file_bytes: settings.audit.max_file_mib * 1024 * 1024,
            max_old_files: settings.audit.max_old_files,
        },
        otel: (!settings.otel.endpoint.is_empty()).then(|| OtelOptions {
            endpoint: settings.otel.endpoint.clone(),
            interval: Duration::from_secs(settings.otel.interval_s),
        }),
        log: None,
        system_interval: match settings.sys.interval_s {
            0 => None,
            seconds => Some(Duration::from_secs(seconds)),
        },
        shutdown_deadline: Duration::from_secs(server.shutdown_deadline_s),
        heartbeat: None,
    })
}

const MIB: u64 = 1024 * 1024;

fn limit_options(limits: &tidings_config::Limits) -> limits::Options {
    let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
    let rate = |messages: u32, bytes: u64| flow_rate(limits, messages, bytes);
    limits::Options {
        max_connections: limits.max_connections,
        max_connections_per_address: limits.max_connections_per_address,
        max_connections_per_user: limits.max_connections_per_user,
        connects_per_second: limits.connects_per_second,
        connects_per_second_per_address: limits.connects_per_second_per_address,
        max_handshakes: limits.max_handshakes,
        max_handshakes_per_address: limits.max_handshakes_per_address,
        unlimited: limits.unlimited_addresses.0.clone(),
        max_share_groups: limits.max_share_groups,
        max_share_groups_per_user: limits.max_share_groups_per_user,
        user_rate: rate(
            limits.publishes_per_second_per_user,
            limits.publish_bytes_per_second_per_user,
        ),
        room_rate: rate(
            limits.publishes_per_second_per_room,
            limits.publish_bytes_per_second_per_room,
        ),
        slow_after: seconds(limits.slow_after_s),
        memory_bytes: limits.memory_mib.saturating_mul(MIB),
        disk_free_bytes: limits.disk_free_mib.saturating_mul(MIB),
        ban_after_offences: limits.ban_after_offences,
        ban_after_connects: limits.ban_after_connects,
        ban_window: seconds(limits.ban_window_s),
        ban: seconds(limits.ban_s),
    }
}

fn bounds(limits: &tidings_config::Limits, subscriptions: u32) -> Bounds {
    Bounds {
        topic_bytes: limits.max_topic_bytes as usize,
        topic_levels: limits.max_topic_levels as usize,
        user_properties: limits.max_user_properties as usize,
        user_property_bytes: limits.max_user_property_bytes as usize,
        filters_per_subscribe: limits.max_filters_per_subscribe as usize,
        filters: Rate {
            per_second: u64::from(limits.filters_per_second_per_client),
            // Who comes back asks for all of them.
            burst: u64::from(subscriptions),
        },
        retained_messages: limits.max_retained_messages,
        retained_bytes: limits.max_retained_mib.saturating_mul(MIB),
        retained_messages_per_user: limits.max_retained_messages_per_user,
        retained_bytes_per_user: limits.max_retained_mib_per_user.saturating_mul(MIB),
        sessions: limits.max_sessions,
        publish: flow_rate(
            limits,
            limits.publishes_per_second_per_client,
            limits.publish_bytes_per_second_per_client,
        ),
        ..Bounds::default()
    }
}

fn flow_rate(limits: &tidings_config::Limits, messages: u32, bytes: u64) -> FlowRate {
    let burst_s = u64::from(limits.publish_burst_s);
    FlowRate {
        messages: Rate::new(u64::from(messages), burst_s),
        bytes: Rate::new(bytes, burst_s),
    }
}

fn account_options(auth: &tidings_config::Auth) -> AccountOptions {
    let limit = |burst, per_minute| Limit { burst, per_minute };
    AccountOptions {
        guests: auth.guests,
        failures_of_address: limit(
            auth.failures_per_address,
            auth.failures_per_address_per_minute,
        ),
        failures_of_user: limit(auth.failures_per_user, auth.failures_per_user_per_minute),
    }
}

fn room_options(rooms: &tidings_config::Rooms) -> RoomOptions {
    RoomOptions {
        limits: Limits {
            members_per_room: rooms.max_members,
            rooms_per_user: rooms.max_rooms_per_user,
            owned_per_user: rooms.max_owned_per_user,
            marks_per_room: rooms.max_marks_per_room,
            invitation_s: u64::from(rooms.invitation_days) * 24 * 60 * 60,
        },
        requests_per_minute: rooms.requests_per_minute,
    }
}

fn people_options(people: &tidings_config::People) -> PeopleOptions {
    PeopleOptions {
        presence: people.presence,
        patience: PresenceOptions {
            grace_ms: u64::from(people.grace_s) * 1000,
            interval_ms: u64::from(people.interval_s) * 1000,
        },
        visible_to: match people.visible_to {
            VisibleTo::Everyone => Visibility::Everyone,
            VisibleTo::Rooms => Visibility::Rooms,
            VisibleTo::Nobody => Visibility::Nobody,
        },
        requests_per_minute: people.requests_per_minute,
    }
}

fn token_options(jwt: &tidings_config::Jwt) -> Option<TokenOptions> {
    let text = |text: &String| (!text.is_empty()).then(|| text.clone());
    jwt.is_used().then(|| TokenOptions {
        key_files: jwt.key_files.clone(),
        jwks_url: text(&jwt.jwks_url),
        reload: Duration::from_secs(jwt.reload_s),
        timeout: Duration::from_secs(jwt.timeout_s),
        issuer: text(&jwt.issuer),
        audience: text(&jwt.audience),
        user_claim: jwt.user_claim.clone(),
        roles_claim: jwt.roles_claim.clone(),
        rooms_claim: jwt.rooms_claim.clone(),
        leeway: Duration::from_secs(jwt.leeway_s),
    })
}

fn hook_options(hook: &tidings_config::AuthHook) -> Option<HookOptions> {
    (!hook.url.is_empty()).then(|| HookOptions {
        url: hook.url.clone(),
        timeout: Duration::from_millis(hook.timeout_ms),
        remember: Duration::from_secs(hook.remember_s),
        at_once: hook.at_once as usize,
    })
}

fn websocket_options(settings: &Settings) -> Result<listener::WebSocketOptions, String> {
    for listener in &settings.listeners {
        let wrong = |error| format!("{}: origins: {error}", listener.origin);
        listener::Origins::parse(&listener.origins).map_err(wrong)?;
    }
    let websocket = &settings.websocket;
    let origins = listener::Origins::parse(&websocket.origins);
    Ok(listener::WebSocketOptions {
        compression: websocket.compression,
        compress_from_bytes: websocket.compress_from_bytes as usize,
        max_expansion: websocket.max_expansion as usize,
        origins: origins.map_err(|error| format!("[websocket] origins: {error}"))?,
        ping_interval: (websocket.ping_interval_s > 0)
            .then(|| Duration::from_secs(u64::from(websocket.ping_interval_s))),
        ping_timeout: Duration::from_secs(u64::from(websocket.ping_timeout_s)),
    })
}

fn listener_options(listener: &Listener) -> listener::Options {
    let kind = match listener.kind {
        ListenerKind::Tcp => Kind::Tcp,
        ListenerKind::Ws => Kind::WebSocket,
        ListenerKind::Auto => Kind::Auto,
    };
    let address = match &listener.address {
        ListenAddress::Network(address) => Address::Network(*address),
        ListenAddress::Unix(path) => Address::Unix(path.clone()),
    };
    listener::Options {
        name: listener.name.clone(),
        ipv6_only: listener.ipv6_only,
        socket_mode: listener.socket_mode.0,
        path: listener.path.clone(),
        // Said to be wrong by [`broker_options`].
        origins: listener::Origins::parse(&listener.origins).unwrap_or_default(),
        tls: listener.tls,
        max_connections: match listener.max_connections {
            0 => None,
            places => Some(places),
        },
        mode: match listener.auth {
            ListenerAuth::Inherit => DoorMode::Inherit,
            ListenerAuth::Open => DoorMode::Open,
            ListenerAuth::Accounts => DoorMode::Accounts,
        },
        proxies: listener
            .proxy_protocol
            .then(|| listener.trusted_proxies.0.clone()),
        forwarders: listener
            .forwarded_for
            .then(|| listener.trusted_proxies.0.clone()),
        ..listener::Options::new(kind, address)
    }
}

/// Certificates, if there are any.
pub(super) fn tls_options(tls: &tidings_config::Tls) -> Option<tls::Options> {
    let files = |files: &tidings_config::Certificate| tls::CertificateFiles {
        cert: files.cert.clone(),
        key: files.key.clone(),
    };
    tls.is_used().then(|| tls::Options {
        certificates: tls.certificates.iter().map(files).collect(),
        client_ca: tls.client_ca.clone(),
        client_auth: match tls.client_auth {
            ClientAuth::None => tls::ClientAuth::None,
            ClientAuth::Optional => tls::ClientAuth::Optional,
            ClientAuth::Required => tls::ClientAuth::Required,
        },
        crl_files: tls.crl_files.clone(),
        client_name: match tls.client_name {
            ClientName::None => auth::ClientName::None,
            ClientName::SubjectCn => auth::ClientName::SubjectCn,
            ClientName::SanDns => auth::ClientName::SanDns,
            ClientName::SanEmail => auth::ClientName::SanEmail,
            ClientName::SanUri => auth::ClientName::SanUri,
        },
        min_version: match tls.min_version {
            MinVersion::Tls12 => tls::MinVersion::Tls12,
            MinVersion::Tls13 => tls::MinVersion::Tls13,
        },
        reload: Duration::from_secs(tls.reload_s),
        warn: Duration::from_secs(u64::from(tls.warn_days) * 24 * 60 * 60),
    })
}

fn store_options(settings: &Settings) -> store::Options {
    let (journal, state) = (&settings.journal, &settings.state);
    store::Options {
        durability: match journal.durability {
            Durability::Fsync => store::Durability::Fsync,
            Durability::Interval => {
                store::Durability::Interval(Duration::from_millis(journal.interval_ms))
            }
        },
        segment_bytes: journal.segment_bytes,
        batch_max_bytes: journal.batch_max_bytes,
        backlog_max_bytes: journal.backlog_max_bytes,
        backlog_max_age: Duration::from_secs(journal.backlog_max_age_s),
        snapshot_every_bytes: state.snapshot_every_bytes,
        snapshot_every_entries: state.snapshot_every_entries,
        ..store::Options::new(settings.server.data_dir.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_settings_make_a_broker() {
        let options = broker_options(&Settings::default()).unwrap();
        assert_eq!(options.listeners.len(), 2);
    }

    #[test]
    fn a_rule_that_cannot_be_used_is_reported_with_its_place() {
        let settings = tidings_config::Sources {
            file: None,
            env: Vec::new(),
            set: vec![
                "topics=[{ pattern = \"a/{b\", publish = \"any\", subscribe = \"any\" }]"
                    .to_owned(),
            ],
        };
        let settings = Settings::load(&settings).unwrap();
        let problem = rules(&settings.topics).unwrap_err();
        assert!(problem.starts_with("--set topics: "), "{problem}");
        assert!(problem.contains("a/{b"), "{problem}");
    }
}
