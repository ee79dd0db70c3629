//! The two ends that a test plays: our own broker and the peer. Every wait has the failing bound
//! [`DEADLINE`].

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tidings_core::codec::{
    Ack, ConnAck, ConnAckProperties, Packet, Publish, PublishProperties, ReasonCode, SubAck,
    Version, decode, encode,
};
use tidings_core::message::QoS;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::super::{Direction, Link, LinkOptions, LinkStatus, Protocol, TopicMap};
use super::options;

/// Nothing here takes long unless it is broken.
const DEADLINE: Duration = Duration::from_secs(20);

pub(super) async fn in_time<T>(what: &str, waiting: impl Future<Output = T>) -> T {
    match timeout(DEADLINE, waiting).await {
        Ok(done) => done,
        Err(_) => panic!("waited too long for {what}"),
    }
}

/// A running link and both of its ends.
pub(super) struct Rig {
    pub(super) status: watch::Receiver<LinkStatus>,
    stop: watch::Sender<bool>,
    link: Link,
    locals: mpsc::UnboundedReceiver<DuplexStream>,
    listener: TcpListener,
    version: Version,
}

impl Rig {
    /// A link that carries `a/#` in one direction, with a window of four messages.
    pub(super) async fn new(protocol: Protocol, direction: Direction, qos: QoS) -> Self {
        Self::with(protocol, direction, qos, |_| {}).await
    }

    pub(super) async fn with(
        protocol: Protocol,
        direction: Direction,
        qos: QoS,
        change: impl FnOnce(&mut LinkOptions),
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let mut options = LinkOptions {
            protocol,
            window: 4,
            reconnect_min: Duration::from_millis(1),
            reconnect_max: Duration::from_millis(5),
            topics: vec![TopicMap {
                pattern: "a/#".into(),
                direction,
                qos,
                local_prefix: "here/".into(),
                remote_prefix: "there/".into(),
            }],
            ..options(&format!("tcp://{address}"))
        };
        change(&mut options);
        let (opened, locals) = mpsc::unbounded_channel();
        let open = Arc::new(move |_: &str| {
            let (ours, theirs) = tokio::io::duplex(64 * 1024);
            opened.send(ours).expect("the test is there");
            theirs
        });
        let (stop, stopped) = watch::channel(false);
        let link = Link::start(options, open, &stopped).expect("good options");
        Self {
            status: link.status(),
            stop,
            link,
            locals,
            listener,
            version: match protocol {
                Protocol::V4 => Version::V311,
                Protocol::V5 => Version::V5,
            },
        }
    }

    /// The next connection of the link to our broker, without an answer to its CONNECT yet.
    pub(super) async fn next_local(&mut self) -> Wire<DuplexStream> {
        let stream = in_time("a local connection", self.locals.recv()).await;
        let mut wire = Wire::new(stream.expect("the link runs"), Version::V5);
        assert!(matches!(wire.first().await, Packet::Connect(_)));
        wire
    }

    /// The same, and answered.
    pub(super) async fn accept_local(&mut self) -> Wire<DuplexStream> {
        let mut wire = self.next_local().await;
        wire.send(&connack(true, ConnAckProperties::default()))
            .await;
        wire
    }

    /// Our side of a flow out, subscribed.
    pub(super) async fn accept_outward(&mut self) -> Wire<DuplexStream> {
        let mut wire = self.accept_local().await;
        wire.answer_subscribe().await;
        wire
    }

    /// The short connection that makes the session of a flow out.
    pub(super) async fn keeps(&mut self) {
        let mut wire = self.accept_outward().await;
        assert!(matches!(wire.receive().await, Packet::Disconnect(_)));
    }

    /// The next connection of the link to the peer, without an answer to its CONNECT yet.
    pub(super) async fn next_peer(&mut self) -> Wire<TcpStream> {
        let (stream, _) = in_time("a connection to the peer", self.listener.accept())
            .await
            .expect("accepted");
        let mut wire = Wire::new(stream, self.version);
        assert!(matches!(wire.first().await, Packet::Connect(_)));
        wire
    }

    /// The same, and answered.
    pub(super) async fn accept_peer(&mut self, session_present: bool) -> Wire<TcpStream> {
        let mut wire = self.next_peer().await;
        wire.send(&connack(session_present, ConnAckProperties::default()))
            .await;
        wire
    }

    pub(super) async fn await_status(&mut self, what: impl FnMut(&LinkStatus) -> bool) {
        in_time("a status", self.status.wait_for(what))
            .await
            .expect("the link runs");
    }

    pub(super) async fn stop(self) {
        self.stop.send_replace(true);
        in_time("the end of the link", self.link.join()).await;
    }
}

pub(super) fn connack(session_present: bool, properties: ConnAckProperties) -> Packet<'static> {
    Packet::ConnAck(ConnAck {
        session_present,
        reason: ReasonCode::Success,
        properties,
    })
}

pub(super) fn publish(qos: QoS, packet_id: u16, topic: &str) -> Packet<'_> {
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        topic,
        packet_id: (qos != QoS::AtMostOnce).then_some(packet_id),
        properties: PublishProperties::default(),
        payload: b"text",
    })
}

pub(super) const fn ack(packet_id: u16) -> Ack {
    Ack::new(packet_id, ReasonCode::Success)
}

/// A connection, as the side that accepted it.
pub(super) struct Wire<S> {
    stream: S,
    buffer: BytesMut,
    version: Version,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    fn new(stream: S, version: Version) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            version,
        }
    }

    async fn first(&mut self) -> Packet<'static> {
        self.read(None).await.expect("a CONNECT")
    }

    /// The next packet, which must come.
    pub(super) async fn receive(&mut self) -> Packet<'static> {
        loop {
            let packet = self.read(Some(self.version)).await.expect("another packet");
            if packet != Packet::PingReq {
                return packet;
            }
            self.send(&Packet::PingResp).await;
        }
    }

    /// The next packet, unless the connection ends.
    pub(super) async fn try_receive(&mut self) -> Option<Packet<'static>> {
        self.read(Some(self.version)).await
    }

    pub(super) async fn receive_ping(&mut self) {
        assert_eq!(self.read(Some(self.version)).await, Some(Packet::PingReq));
    }

    /// Nothing comes but the end.
    pub(super) async fn receive_end(&mut self) {
        assert_eq!(self.read(Some(self.version)).await, None);
    }

    /// The identifier of the next packet, a PUBLISH at QoS 1 or 2 to this topic.
    pub(super) async fn receive_publish(&mut self, topic: &str) -> u16 {
        match self.receive().await {
            Packet::Publish(publish) if publish.topic == topic => publish.packet_id.unwrap_or(0),
            other => panic!("not a PUBLISH to {topic}: {other:?}"),
        }
    }

    pub(super) async fn answer_subscribe(&mut self) {
        self.suback(ReasonCode::GrantedQoS2).await;
    }

    pub(super) async fn refuse_subscribe(&mut self) {
        self.suback(ReasonCode::UnspecifiedError).await;
    }

    async fn suback(&mut self, reason: ReasonCode) {
        let Packet::Subscribe(subscribe) = self.receive().await else {
            panic!("not a SUBSCRIBE");
        };
        self.send(&Packet::SubAck(SubAck {
            packet_id: subscribe.packet_id,
            reasons: vec![reason; subscribe.filters.len()],
            reason_string: None,
            user: Vec::new(),
        }))
        .await;
    }

    /// `None` at the end. What is read is leaked, which is well in a test.
    async fn read(&mut self, version: Option<Version>) -> Option<Packet<'static>> {
        loop {
            let found = decode(version, &self.buffer, 1 << 20).expect("well-formed packets");
            if let Some((_, used)) = found {
                let bytes: &'static [u8] = self.buffer.split_to(used).to_vec().leak();
                let (packet, _) = decode(version, bytes, 1 << 20).expect("the same")?;
                return Some(packet);
            }
            let read = in_time("a packet", self.stream.read_buf(&mut self.buffer)).await;
            if read.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    pub(super) async fn send(&mut self, packet: &Packet<'_>) {
        assert!(self.try_send(packet).await, "the connection has ended");
    }

    /// False if the connection has ended.
    pub(super) async fn try_send(&mut self, packet: &Packet<'_>) -> bool {
        let mut bytes = Vec::new();
        encode(self.version, packet, &mut bytes);
        in_time("room to write", self.stream.write_all(&bytes))
            .await
            .is_ok()
    }
}
