//! Clients that ask for more than anybody needs. What the broker refuses they ask for again; what it ends
//! they begin again.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use tidings_core::codec::{
    Connect, Packet, Publish, PublishProperties, RetainHandling, Subscribe, SubscribeFilter,
    Unsubscribe, Version, encode,
};
use tidings_core::message::QoS;

use super::Running;
use crate::raw_client::publish_packet;
use crate::{ClientError, Endpoint, RawClient, clean, persistent, websocket};

/// Connections that flood at the same time.
const CLIENTS: usize = 4;

/// How long a client waits for an answer before it begins again.
const PATIENCE: Duration = Duration::from_secs(5);

/// Filters of one SUBSCRIBE.
const FILTERS: usize = 100;

/// Publishes on their way at the same time, of one client.
const WINDOW: usize = 100;

/// Subscribers that do not read.
const DEAF: usize = 50;

/// A CONNECT as it is on the wire.
pub fn connect_bytes(client_id: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let connect = Packet::Connect(clean(Version::V5, client_id));
    encode(Version::V5, &connect, &mut bytes);
    bytes
}

/// Several at once, each of which begins again when it ends.
fn each(running: &Running, client: impl Fn(usize) -> Result<(), ClientError> + Sync) {
    running.is_up();
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let client = &client;
            scope.spawn(move || {
                while !running.is_over() {
                    if client(number).is_err() {
                        thread::sleep(Duration::from_millis(1));
                    }
                }
            });
        }
    });
}

fn come(running: &Running, connect: &Connect<'_>) -> Result<RawClient, ClientError> {
    let endpoint = Endpoint::Tcp(running.target.tcp);
    Ok(RawClient::try_connect(endpoint, connect, PATIENCE)?.0)
}

/// Clients that come, are let in, and go.
pub fn connects(running: &Running) {
    let number = AtomicU64::new(0);
    each(running, |_| {
        let id = format!("comes-{}", number.fetch_add(1, Relaxed));
        let mut client = come(running, &clean(Version::V5, &id))?;
        running.did(1);
        client.try_send_all([Packet::Disconnect(tidings_core::codec::Disconnect::new(
            tidings_core::codec::ReasonCode::Success,
        ))])
    });
}

/// Clients that take the same session from each other.
pub fn takeovers(running: &Running) {
    each(running, |_| {
        come(running, &persistent(Version::V5, "stolen"))?;
        running.did(1);
        Ok(())
    });
}

/// Filters below `prefix`, a hundred at once, and taken back: half of them of sessions that stay.
pub fn subscribes(running: &Running, prefix: &str) {
    each(running, |number| {
        let id = format!("greedy-{number}");
        let connect = match number % 2 {
            0 => clean(Version::V5, &id),
            _ => persistent(Version::V5, &id),
        };
        let mut client = come(running, &connect)?;
        let names: Vec<_> = (0..FILTERS)
            .map(|filter| format!("{prefix}/{number}/{filter}/+"))
            .collect();
        let filters = || names.iter().cloned().map(filter).collect();
        while !running.is_over() {
            client.try_send(&Packet::Subscribe(Subscribe {
                packet_id: 1,
                subscription_id: None,
                user: Vec::new(),
                filters: filters(),
            }))?;
            client.try_send(&Packet::Unsubscribe(Unsubscribe {
                packet_id: 2,
                user: Vec::new(),
                filters: names.clone(),
            }))?;
            while !matches!(client.try_next()?.packet(), Packet::UnsubAck(_)) {}
            running.did(2 * FILTERS as u64);
        }
        Ok(())
    });
}

/// A filter at QoS 1, without what is retained.
pub fn filter(filter: String) -> SubscribeFilter {
    SubscribeFilter {
        filter,
        qos: QoS::AtLeastOnce,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::DoNotSend,
    }
}

/// Sends what `packet` gives at QoS 1, `window` on their way at once.
fn pump<'p>(
    running: &Running,
    client: &mut RawClient,
    window: usize,
    mut packet: impl FnMut(u16) -> Packet<'p>,
) -> Result<(), ClientError> {
    let mut on_their_way = 0;
    while !running.is_over() {
        let free = window - on_their_way;
        let packets: Vec<_> = (0..free).map(|_| packet(client.new_packet_id())).collect();
        client.try_send_all(packets)?;
        on_their_way = window;
        let mut next = Some(client.try_next()?);
        while let Some(frame) = next {
            if matches!(frame.packet(), Packet::PubAck(_)) {
                on_their_way -= 1;
                running.did(1);
            }
            next = client.try_received()?;
        }
    }
    Ok(())
}

/// Retained messages, each on another topic.
pub fn retained(running: &Running) {
    let topics: Vec<String> = (0..100_000).map(|n| format!("flood/kept/{n}")).collect();
    let next = AtomicU64::new(0);
    each(running, |number| {
        let mut client = come(running, &clean(Version::V5, &format!("hoarder-{number}")))?;
        pump(running, &mut client, WINDOW, |packet_id| {
            let topic = next.fetch_add(1, Relaxed) as usize % topics.len();
            let mut packet =
                publish_packet(&topics[topic], &[b'x'; 100], QoS::AtLeastOnce, packet_id);
            if let Packet::Publish(publish) = &mut packet {
                publish.retain = true;
            }
            packet
        })
    });
}

/// Small messages at QoS 0, as fast as the socket takes them.
pub fn publishes(running: &Running) {
    let mut bytes = Vec::new();
    for _ in 0..1000 {
        let packet = publish_packet("flood/nobody", b"x", QoS::AtMostOnce, 0);
        encode(Version::V5, &packet, &mut bytes);
    }
    each(running, |number| {
        let mut client = come(running, &clean(Version::V5, &format!("talker-{number}")))?;
        while !running.is_over() {
            client.link().send(&bytes)?;
            running.did(1000);
        }
        Ok(())
    });
}

/// Publishes with 50,000 User Properties, which are refused after they were read.
pub fn user_properties(running: &Running) {
    let names: Vec<String> = (0..50_000).map(|n| format!("k{n}")).collect();
    let user: Vec<(&str, &str)> = names.iter().map(|name| (&**name, "v")).collect();
    each(running, |number| {
        let mut client = come(running, &clean(Version::V5, &format!("wordy-{number}")))?;
        pump(running, &mut client, 1, |packet_id| {
            Packet::Publish(Publish {
                dup: false,
                qos: QoS::AtLeastOnce,
                retain: false,
                topic: "flood/words",
                packet_id: Some(packet_id),
                properties: PublishProperties {
                    user: user.clone(),
                    ..PublishProperties::default()
                },
                payload: b"",
            })
        })
    });
}

/// Subscribers that do not read, and clients that publish for them what a socket takes.
pub fn deaf_readers(running: &Running) {
    let mut deaf = Vec::new();
    for number in 0..DEAF {
        let subscribed = || {
            let id = format!("deaf-{number}");
            let mut client = come(running, &persistent(Version::V5, &id))?;
            client.try_send(&Packet::Subscribe(Subscribe {
                packet_id: 1,
                subscription_id: None,
                user: Vec::new(),
                filters: vec![filter("flood/deaf".to_owned())],
            }))?;
            Ok::<_, ClientError>(client)
        };
        deaf.extend(subscribed());
    }
    let payload = vec![b'x'; 16 * 1024];
    each(running, |number| {
        let mut client = come(running, &clean(Version::V5, &format!("loud-{number}")))?;
        pump(running, &mut client, 10, |packet_id| {
            publish_packet("flood/deaf", &payload, QoS::AtLeastOnce, packet_id)
        })
    });
}

/// A WebSocket message that says that it is compressed, and is a thousand times as long inflated.
pub fn bombs(running: &Running) {
    let bomb = bomb(4 << 20);
    let host = running.target.ws.to_string();
    let ask = websocket::request(&host, "/mqtt", Some("mqtt")).replace(
        "Sec-WebSocket-Version: 13\r\n",
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Extensions: permessage-deflate\r\n",
    );
    each(running, |_| {
        let mut stream =
            super::sockets::open(running.target.ws, ask.as_bytes()).ok_or(ClientError::Closed)?;
        let io = |error| ClientError::from_io(error, PATIENCE);
        stream.set_nonblocking(false).map_err(io)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(io)?;
        let mut answer = [0; 1024];
        let len = std::io::Read::read(&mut stream, &mut answer).map_err(io)?;
        if !answer[..len].starts_with(b"HTTP/1.1 101") {
            return Err(ClientError::Closed);
        }
        std::io::Write::write_all(&mut stream, &bomb).map_err(io)?;
        // Until the broker has ended it.
        while std::io::Read::read(&mut stream, &mut answer).map_err(io)? > 0 {}
        running.did(1);
        Ok(())
    });
}

/// A frame (RFC 7692: RSV1 is set) of zeros: DEFLATE with the codes that need no table (RFC 1951 §3.2.6),
/// 258 bytes more for each 13 bits.
pub fn bomb(inflated: usize) -> Vec<u8> {
    let mut bits = Bits::default();
    bits.put(0b011, 3);
    // The literal 0, and then "258 bytes, from one byte before", again and again.
    bits.put_code(0b0011_0000, 8);
    for _ in 0..inflated / 258 {
        bits.put_code(0b1100_0101, 8);
        bits.put_code(0, 5);
    }
    let mut frame = Vec::new();
    websocket::write_frame(true, websocket::BINARY, &bits.bytes, &mut frame);
    frame[0] |= 0x40;
    frame
}

/// Bits as DEFLATE packs them: numbers begin with the lowest bit, codes with the highest.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    fn put(&mut self, value: u32, count: u32) {
        for bit in 0..count {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let last = self.bytes.len() - 1;
            self.bytes[last] |= ((value >> bit & 1) as u8) << (self.used % 8);
            self.used += 1;
        }
    }

    fn put_code(&mut self, code: u32, count: u32) {
        self.put(code.reverse_bits() >> (32 - count), count);
    }
}
