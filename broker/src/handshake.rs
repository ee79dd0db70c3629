//! From a byte stream to a client: CONNECT within a time and a number of bytes, authentication, a
//! Client Identifier, and the way to the thread of its shard.
//!
//! Invariants: nothing is kept for a peer but the bytes of its CONNECT, and no session is touched
//! before it is authenticated; each peer has a task of its own, so that one which is slow or
//! silent holds up nobody; Client Identifiers that begin with `$` never come from the network.
//! It does not know sessions.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tidings_core::codec::{
    self, ConnAck, ConnAckProperties, Connect, DecodeError, Packet, ReasonCode, Version,
};
use tidings_core::limits::Limit;
use tidings_core::rules::Identity;
use tidings_core::shard::{ConnectRequest, Shard, Takeover, shard_of};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use crate::admission::{Admission, Place, refusal_of};
use crate::auth::{
    AccountBook, Admitted, Authenticate, Certified, Credentials, Denied, DoorMode, Logins,
};
use crate::clock::Clock;
use crate::counters::Counters;
use crate::limits::Limits;
use crate::listener::{Peer, WebSocketOptions};
use crate::metrics::Via;
use crate::shard::{Arrival, Mailboxes};
use crate::tls::Shown;
use crate::trace::{self, Tracing};
use crate::transport::{Transport, close_gently};

/// The Authentication Method of those who may show newer proof on an open connection (§4.12.1): the
/// Authentication Data is what could be the password, which is a token or a password.
pub const TOKEN_METHOD: &str = "token";

/// What Client Identifiers of links to other brokers begin with.
pub const LINK_PREFIX: &str = "$link/";

/// What Client Identifiers of sessions that come over HTTP begin with.
pub const HTTP_PREFIX: &str = "$http/";

/// Whether it is the session of requests over HTTP, `$http/{user}/{number}`: it does something for its user,
/// who need not be there. Streams and polls are `$http/{unique}`, and somebody who reads them is there.
pub fn is_hand(client_id: &str) -> bool {
    client_id
        .strip_prefix(HTTP_PREFIX)
        .is_some_and(|rest| rest.contains('/'))
}

/// Bytes between the two ends of an in-memory connection, in each direction: what sockets have.
const PIPE_BYTES: usize = 64 * 1024;

/// Bytes asked for at first: nearly every CONNECT fits, and it is not long-lived.
const FIRST_READ: usize = 512;

const TOO_LONG: &str = "the client identifier is too long";

/// A refusal without a text, where the client takes only small packets (§3.1.2.11.4).
const SMALL_PACKET: u32 = 256;

/// Limits on what a peer may do before it is known.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// From the accepted connection to the whole CONNECT.
    pub connect_timeout: Duration,
    /// Bytes of the CONNECT.
    pub max_connect_bytes: usize,
    /// Bytes of a Client Identifier.
    pub max_client_id_bytes: usize,
}

/// Where a stream comes from, and with it what is believed of it.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// Anyone.
    Network { peer: Peer },
    /// A part of the broker, by name: it has the broker's rights.
    Broker { label: Arc<str> },
    /// A gateway, for someone who was let in already: the session has that user's rights, takes a
    /// place, and ends like one that came over a socket.
    Gateway {
        admitted: Arc<Admitted>,
        /// How they came.
        via: Via,
    },
}

impl Origin {
    /// The address of a peer in the network.
    pub fn address(&self) -> Option<std::net::IpAddr> {
        match self {
            Self::Network { peer } => peer.ip(),
            Self::Broker { .. } | Self::Gateway { .. } => None,
        }
    }

    /// What a certificate says of who is there.
    pub fn certificate(&self) -> Option<&Certified> {
        match self {
            Self::Network { peer } => peer.certified(),
            Self::Broker { .. } | Self::Gateway { .. } => None,
        }
    }

    /// The certificate that was shown.
    fn shown(&self) -> Option<Arc<Shown>> {
        match self {
            Self::Network { peer } => peer.certificate.clone(),
            Self::Broker { .. } | Self::Gateway { .. } => None,
        }
    }

    /// Whether it does not count any more.
    pub fn is_revoked(&self) -> bool {
        matches!(self, Self::Network { peer } if peer.is_revoked())
    }

    /// How whoever comes from there proves who they are.
    pub fn door(&self) -> DoorMode {
        match self {
            Self::Network { peer } => peer.door.mode,
            Self::Broker { .. } | Self::Gateway { .. } => DoorMode::Inherit,
        }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Network { peer } => peer.fmt(f),
            Self::Broker { label } => f.write_str(label),
            Self::Gateway { admitted, .. } => write!(f, "gateway:{}", admitted.identity.user),
        }
    }
}

/// Receives peers and hands clients to their shards.
pub(crate) struct Reception {
    pub options: Options,
    pub websocket: WebSocketOptions,
    /// Bytes of the largest packet of a client.
    pub max_packet_bytes: usize,
    /// Whether Client Identifiers belong to users.
    pub takeover: Takeover,
    pub auth: Arc<dyn Authenticate>,
    pub book: Arc<AccountBook>,
    pub logins: Arc<Logins>,
    pub admission: Admission,
    pub shards: Mailboxes,
    pub counters: Arc<Counters>,
    pub tracing: Arc<Tracing>,
    pub limits: Arc<Limits>,
    pub clock: Clock,
}

/// A CONNECT that is accepted.
struct Judged {
    request: ConnectRequest,
    admitted: Admitted,
    place: Option<Place>,
}

/// A CONNECT that is refused.
struct Refusal {
    /// What the CONNACK is written in; `None`: nothing is said, the peer may not speak MQTT.
    version: Option<Version>,
    reason: ReasonCode,
    why: String,
    has_room: bool,
    /// The limit that was reached, if it is not counted yet.
    limit: Option<Limit>,
    /// Who does so often is banned.
    is_offence: bool,
}

impl Reception {
    /// The instant by which a peer that comes now must have sent its CONNECT.
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.options.connect_timeout
    }

    /// A connection in memory that speaks MQTT like a socket, in the current runtime.
    pub fn connect_in_memory(self: &Arc<Self>, origin: Origin) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        let reception = self.clone();
        tokio::spawn(async move {
            let deadline = reception.deadline();
            reception
                .receive(Transport::Memory(ours), origin, deadline, None)
                .await;
        });
        theirs
    }

    /// Takes a peer from its first byte to its shard, or to its end. `place` is given back when
    /// the peer is known.
    pub async fn receive(
        &self,
        transport: Transport,
        origin: Origin,
        deadline: Instant,
        place: Option<Place>,
    ) {
        self.receive_with(transport, origin, deadline, place, None)
            .await;
    }

    /// The same, of a peer that has shown a token already.
    pub async fn receive_with(
        &self,
        mut transport: Transport,
        origin: Origin,
        deadline: Instant,
        place: Option<Place>,
        bearer: Option<String>,
    ) {
        let kind = transport.kind();
        let result = match timeout_at(
            deadline,
            self.judge(&mut transport, &origin, bearer.as_deref()),
        )
        .await
        {
            Ok(Some(judged)) => judged,
            Ok(None) => Err(Refusal::silent(
                ReasonCode::ProtocolError,
                "the connection ended before CONNECT",
            )),
            Err(_) => Err(
                Refusal::silent(ReasonCode::KeepAliveTimeout, "no CONNECT in time")
                    .over(Limit::ConnectTime),
            ),
        };
        drop(place);
        match result {
            Ok((
                Judged {
                    request,
                    admitted,
                    place,
                },
                rest,
            )) => {
                let shard = shard_of(&request.client_id, self.shards.len());
                let (certificate, address) = (origin.shown(), origin.address());
                let (user, client_id) = (&admitted.identity.user, request.client_id.clone());
                match transport.detach() {
                    Ok(stream) => self.shards.adopt(
                        shard,
                        Box::new(Arrival {
                            request,
                            stream,
                            rest,
                            origin,
                            place,
                            login: admitted.login.clone(),
                        }),
                    ),
                    Err(error) => debug!(peer = %origin, %error, "lost before its session"),
                }
                // Sent away while it was judged: its shard may have heard of it before it came.
                if certificate.is_some_and(|shown| shown.is_revoked()) {
                    self.shards.end_revoked();
                }
                if !self.auth.is_welcome(&admitted) {
                    self.book.send_unwelcome_away(&admitted.identity.user);
                }
                if let Some(login) = &admitted.login
                    && self.logins.is_given_back(login)
                {
                    self.shards.end_login(login);
                }
                if self.is_banned(user, &client_id, address) {
                    let user = user.clone();
                    let end = move |now, shard: &mut Shard| {
                        shard.disconnect_client(now, &client_id, Some(&user))
                    };
                    // It may be gone already.
                    let _ = self.shards.visit(shard, end).await;
                }
            }
            Err(refusal) => {
                self.counters.refused.add(1);
                if let Some(limit) = refusal.limit {
                    self.limits.hit(limit);
                }
                if refusal.is_offence {
                    self.limits.offence(origin.address());
                }
                debug!(peer = %origin, kind, reason = ?refusal.reason, why = refusal.why, "refused");
                let connack = refusal.connack();
                if let Some(connack) = &connack {
                    let _ = timeout_at(deadline, transport.write_all(connack)).await;
                }
                // A WebSocket has a goodbye of its own.
                transport.close_as(refusal.reason);
                if connack.is_some() || matches!(transport, Transport::WebSocket(_)) {
                    close_gently(transport).await;
                } else {
                    transport.try_say_end();
                }
            }
        }
    }

    /// Reads the CONNECT and judges it; `None` if the stream ended first.
    async fn judge(
        &self,
        transport: &mut Transport,
        origin: &Origin,
        bearer: Option<&str>,
    ) -> Option<Result<(Judged, Vec<u8>), Refusal>> {
        let limit = self.options.max_connect_bytes;
        let mut bytes = Vec::with_capacity(FIRST_READ.min(limit));
        loop {
            let room = limit.saturating_sub(bytes.len()).max(1) as u64;
            match (&mut *transport).take(room).read_buf(&mut bytes).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
            match codec::decode(None, &bytes, limit) {
                Ok(None) => {}
                Ok(Some((Packet::Connect(connect), used))) => {
                    let judged = self.judge_connect(&connect, origin, bearer).await;
                    if let Err(refusal) = &judged {
                        self.trace_refusal(&connect, origin, transport.kind(), refusal);
                    }
                    let rest = bytes.get(used..).unwrap_or_default().to_vec();
                    return Some(judged.map(|judged| (judged, rest)));
                }
                Ok(Some(_)) => {
                    return Some(Err(Refusal {
                        is_offence: true,
                        ..Refusal::silent(ReasonCode::ProtocolError, "not a CONNECT")
                    }));
                }
                Err(error) => return Some(Err(Refusal::undecoded(&bytes, &error))),
            }
        }
    }

    /// Tells who traces that somebody was not let in, and why.
    fn trace_refusal(&self, connect: &Connect<'_>, origin: &Origin, kind: &str, refusal: &Refusal) {
        if !self.tracing.is_on() {
            return;
        }
        let subject = trace::Subject {
            client_id: connect.client_id.into(),
            user: connect.username.unwrap_or_default().into(),
            address: origin.address(),
            door: Via::of_transport(kind),
        };
        let told = trace::Told {
            direction: trace::Direction::Aside,
            topics: &[],
            fields: json!({
                "event": "refused",
                "reason": refusal.reason as u8,
                "reason_name": format!("{:?}", refusal.reason),
                "text": refusal.why,
            }),
            payload: None,
        };
        self.tracing.tell(&subject, &told);
    }

    async fn judge_connect(
        &self,
        connect: &Connect<'_>,
        origin: &Origin,
        bearer: Option<&str>,
    ) -> Result<Judged, Refusal> {
        let refuse = |reason, why: String| Refusal {
            version: Some(connect.version),
            reason,
            why,
            has_room: connect
                .properties
                .maximum_packet_size
                .is_none_or(|max| max >= SMALL_PACKET),
            limit: None,
            is_offence: false,
        };
        let over = |limit| {
            let (reason, why) = refusal_of(limit);
            refuse(reason, why.to_owned())
        };
        if !matches!(origin, Origin::Broker { .. }) {
            // Before anything that costs: a password takes some tens of milliseconds.
            self.admission.may_connect(origin.address()).map_err(over)?;
        }
        let (client_id, assigned) = self.client_id(connect, origin).map_err(|why| Refusal {
            limit: (why == TOO_LONG).then_some(Limit::ClientIdBytes),
            ..refuse(ReasonCode::ClientIdentifierNotValid, why.to_owned())
        })?;
        let method = connect.properties.authentication_method;
        if method.is_some_and(|method| method != TOKEN_METHOD) {
            let why = format!("the only Authentication Method is \"{TOKEN_METHOD}\"");
            return Err(refuse(ReasonCode::BadAuthenticationMethod, why));
        }
        let (admitted, place) = match origin {
            Origin::Broker { .. } => (Admitted::as_one(Identity::broker()), None),
            Origin::Gateway { admitted, .. } => {
                let place = self.admission.connection(None, &admitted.identity.user);
                ((**admitted).clone(), Some(place.map_err(over)?))
            }
            Origin::Network { peer } => {
                let credentials = Credentials {
                    username: connect.username,
                    // With a method, what is proved is in the Authentication Data.
                    password: connect.properties.authentication_data.or(connect.password),
                    client_id: connect.client_id,
                    address: peer.ip(),
                    bearer,
                    certificate: peer.certified(),
                    door: peer.door.mode,
                };
                let admitted = self
                    .auth
                    .authenticate(credentials)
                    .await
                    .map_err(|denied| Refusal {
                        is_offence: matches!(denied, Denied::Credentials | Denied::TooManyAttempts),
                        ..refuse(denied.reason(), denied.to_string())
                    })?;
                self.refuse_banned(&admitted.identity.user, &client_id, peer.ip())
                    .map_err(over)?;
                let user = &admitted.identity.user;
                if self.is_a_devices(&client_id, user) {
                    self.counters.refused_client_ids.add(1);
                    let why = "the client identifier is not valid".to_owned();
                    return Err(refuse(ReasonCode::ClientIdentifierNotValid, why));
                }
                let place = self.admission.connection(Some(peer), user);
                (admitted, Some(place.map_err(over)?))
            }
        };
        let now = self.clock.now();
        let identity = admitted.identity.clone();
        let mut request = ConnectRequest::from_packet(connect, client_id, assigned, identity, now);
        request.valid_until = admitted.valid_until;
        Ok(Judged {
            request,
            admitted,
            place,
        })
    }

    /// Refuses who is banned, and who connects too often from now on.
    fn refuse_banned(
        &self,
        user: &Arc<str>,
        client_id: &Arc<str>,
        address: Option<IpAddr>,
    ) -> Result<(), Limit> {
        let limits = &self.limits;
        if self.is_banned(user, client_id, address) {
            return Err(Limit::Banned);
        }
        let is_counted = address.is_some_and(|address| limits.is_limited(&address));
        if is_counted && limits.bans.connects(user, client_id, self.clock.now()) {
            limits.hit(Limit::Banned);
            return Err(Limit::Banned);
        }
        Ok(())
    }

    /// Whether a client is banned; its address may have been since it was let in.
    fn is_banned(&self, user: &str, client_id: &str, address: Option<IpAddr>) -> bool {
        address.is_some_and(|address| self.limits.is_address_banned(address))
            || self.limits.is_client_banned(user, client_id)
    }

    /// Whether the Client Identifier is the name of a device, and somebody else comes with it: the device
    /// would find itself locked out.
    fn is_a_devices(&self, client_id: &str, user: &str) -> bool {
        self.takeover == Takeover::ByItsUser && client_id != user && self.book.is_device(client_id)
    }

    /// The Client Identifier of the session, and whether it was invented here (§3.1.3.1).
    fn client_id(
        &self,
        connect: &Connect<'_>,
        origin: &Origin,
    ) -> Result<(Arc<str>, bool), &'static str> {
        let id = connect.client_id;
        if id.is_empty() {
            // [MQTT-3.1.3-7] of 3.1.1; MQTT 3.1 knows no empty ones.
            let may_be_empty = match connect.version {
                Version::V31 => false,
                Version::V311 => connect.clean_start,
                Version::V5 => true,
            };
            return if may_be_empty {
                Ok((
                    format!("auto-{}", uuid::Uuid::new_v4().simple()).into(),
                    true,
                ))
            } else {
                Err("a session that stays needs a client identifier")
            };
        }
        if id.len() > self.options.max_client_id_bytes {
            return Err(TOO_LONG);
        }
        match origin {
            Origin::Network { .. } if id.starts_with('$') => {
                Err("client identifiers that begin with $ are reserved")
            }
            Origin::Broker { .. } if !id.starts_with(LINK_PREFIX) => {
                Err("the client identifier of a link begins with $link/")
            }
            Origin::Gateway { .. } if !id.starts_with(HTTP_PREFIX) => {
                Err("the client identifier of a gateway's session begins with $http/")
            }
            _ => Ok((id.into(), false)),
        }
    }
}

impl Refusal {
    fn silent(reason: ReasonCode, why: &str) -> Self {
        Self {
            version: None,
            reason,
            why: why.to_owned(),
            has_room: false,
            limit: None,
            is_offence: false,
        }
    }

    /// Because of a limit, by a peer that nothing is known of.
    fn over(self, limit: Limit) -> Self {
        Self {
            limit: Some(limit),
            is_offence: true,
            ..self
        }
    }

    /// A CONNECT that cannot be decoded: MQTT 5 has codes for that, older versions only for a
    /// protocol level that is not spoken [MQTT-3.1.2-2]; other peers get nothing.
    fn undecoded(bytes: &[u8], error: &DecodeError) -> Self {
        let version = match (error, protocol_level(bytes)) {
            (DecodeError::UnsupportedVersion(level), _) if *level < 5 => Some(Version::V311),
            (DecodeError::UnsupportedVersion(_), _) | (_, Some(5)) => Some(Version::V5),
            _ => None,
        };
        Self {
            version,
            reason: error.reason(),
            why: error.to_string(),
            has_room: true,
            limit: matches!(error, DecodeError::PacketTooLarge { .. })
                .then_some(Limit::ConnectBytes),
            is_offence: true,
        }
    }

    fn connack(&self) -> Option<Vec<u8>> {
        let version = self.version?;
        let reason_string = self.has_room.then(|| self.why.clone());
        let connack = ConnAck {
            session_present: false,
            reason: self.reason,
            properties: ConnAckProperties {
                reason_string,
                ..ConnAckProperties::default()
            },
        };
        let mut bytes = Vec::new();
        codec::encode(version, &Packet::ConnAck(connack), &mut bytes);
        Some(bytes)
    }
}

/// The protocol level that a CONNECT of MQTT 3.1.1 or later announces, whatever else is wrong
/// with it.
fn protocol_level(bytes: &[u8]) -> Option<u8> {
    let (&0x10, rest) = bytes.split_first()? else {
        return None;
    };
    // Remaining Length: at most four bytes, the last one without the highest bit (§1.5.5).
    let end = rest.iter().take(4).position(|byte| byte & 0x80 == 0)?;
    match rest.get(end + 1..)? {
        [0, 4, b'M', b'Q', b'T', b'T', level, ..] => Some(*level),
        _ => None,
    }
}
