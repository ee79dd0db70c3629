//! Bytes under way: publishers that have to wait for the disk, and receivers that do not read.

use std::time::Duration;

use crate::peer::{TestBroker, connect, keeping, publish_bytes};
use tidings_broker::listener::Kind;
use tidings_core::codec::{Connect, ConnectProperties, Packet, Version};
use tidings_core::message::QoS;

#[test]
fn a_publisher_that_waited_for_the_disk_is_read_on() {
    let broker = TestBroker::start(|options| {
        // Everything waits: the journal never has less to do than it may have.
        options.session.append_queue_bytes = 1;
        options.session.receive_maximum = u16::MAX;
        options.rules = keeping();
    });
    const MESSAGES: u16 = 2_000;
    let mut peer = broker.peer(Kind::Tcp).join(connect(Version::V5, "eager"));
    let mut bytes = Vec::new();
    for id in 1..=MESSAGES {
        bytes.extend(publish_bytes("a/b", &[b'x'; 100], Some(id)));
    }
    let writing = std::thread::spawn({
        let mut socket = peer.socket.try_clone().unwrap();
        move || std::io::Write::write_all(&mut socket, &bytes)
    });
    for id in 1..=MESSAGES {
        peer.packet(|packet| match packet {
            Packet::PubAck(ack) => assert_eq!(ack.packet_id, id),
            other => panic!("{other:?}"),
        })
        .expect("the connection stays");
    }
    writing.join().unwrap().unwrap();
}

#[test]
fn a_receiver_that_does_not_read_holds_up_nobody_and_misses_nothing_at_qos_1() {
    let broker = TestBroker::start(|options| options.session.output_bytes = 8 * 1024);
    const MESSAGES: u16 = 4_000;
    let properties = ConnectProperties {
        receive_maximum: Some(u16::MAX),
        ..Default::default()
    };
    let as_reader = |id| Connect {
        properties: properties.clone(),
        ..connect(Version::V5, id)
    };
    let mut stopped = broker.peer(Kind::Tcp).join(as_reader("stopped"));
    let mut reader = broker.peer(Kind::Tcp).join(as_reader("reader"));
    for peer in [&mut stopped, &mut reader] {
        peer.subscribe("news", QoS::AtLeastOnce);
    }
    let mut publisher = broker
        .peer(Kind::Tcp)
        .join(connect(Version::V5, "publisher"));
    let payload = vec![b'x'; 4 * 1024];
    // More than sockets hold. The publisher waits for each acknowledgement: it is never held up.
    for id in 1..=MESSAGES {
        publisher.send(&publish_bytes("news", &payload, Some(id)));
        publisher
            .packet(|packet| assert!(matches!(packet, Packet::PubAck(_))))
            .unwrap();
        read_and_acknowledge(&mut reader);
    }
    for _ in 0..MESSAGES {
        read_and_acknowledge(&mut stopped);
    }
    stopped.ping();
}

fn read_and_acknowledge(peer: &mut crate::peer::Peer) {
    let id = peer.packet(|packet| match packet {
        Packet::Publish(publish) => publish.packet_id,
        other => panic!("no PUBLISH: {other:?}"),
    });
    let [high, low] = id.flatten().expect("QoS 1").to_be_bytes();
    peer.send(&[0x40, 2, high, low]);
}

#[test]
fn statistics_are_there_for_whoever_subscribes() {
    let broker = TestBroker::start(|options| {
        options.system_interval = Some(Duration::from_millis(20));
    });
    let mut peer = broker.peer(Kind::Tcp).join(connect(Version::V5, "watcher"));
    peer.subscribe("$SYS/broker/clients/connected", QoS::AtMostOnce);
    loop {
        let value = peer.packet(|packet| match packet {
            Packet::Publish(publish) => publish.payload.to_vec(),
            other => panic!("no PUBLISH: {other:?}"),
        });
        // The first value may be older than this client.
        if value.expect("the connection stays") == b"1" {
            return;
        }
    }
}
