//! What is there after a restart, and who may use a data directory.

use crate::peer::{Connect, TestBroker, Version, connect, options, publish_bytes};
use tidings_broker::listener::Kind;
use tidings_broker::{Broker, StartError};
use tidings_core::codec::{ConnectProperties, Packet};
use tidings_core::message::QoS;

fn staying(id: &str) -> Connect<'_> {
    let properties = ConnectProperties {
        session_expiry_s: Some(3600),
        ..Default::default()
    };
    Connect {
        clean_start: false,
        properties,
        ..connect(Version::V5, id)
    }
}

#[tokio::test]
async fn an_acknowledged_message_is_there_after_a_restart() {
    let broker = TestBroker::start(|_| {});
    let mut away = broker.peer(Kind::Tcp).join(staying("away"));
    away.subscribe("news/#", QoS::AtLeastOnce);
    drop(away);
    let mut publisher = broker
        .peer(Kind::Tcp)
        .join(connect(Version::V5, "publisher"));
    publisher.send(&publish_bytes("news/1", b"hello", Some(7)));
    publisher
        .packet(|packet| assert!(matches!(packet, Packet::PubAck(_))))
        .unwrap();
    drop(publisher);
    let TestBroker { running, folder } = broker;
    running.shutdown().await.unwrap();

    let broker = TestBroker::start_in(folder, |options| options.shards = 1);
    let mut back = broker.peer(Kind::Tcp).join(staying("away"));
    back.packet(|packet| match packet {
        Packet::Publish(publish) => {
            assert_eq!((publish.topic, publish.payload), ("news/1", &b"hello"[..]))
        }
        other => panic!("no PUBLISH: {other:?}"),
    })
    .unwrap();
}

#[test]
fn a_data_directory_is_used_by_one_broker_at_a_time() {
    let broker = TestBroker::start(|_| {});
    let second = Broker::start(options(&broker.folder, |_| {}));
    match second.map(|_| ()) {
        Err(StartError::Store(error)) => {
            assert!(
                error.to_string().contains("in use by another process"),
                "{error}"
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_address_in_use_is_named() {
    let broker = TestBroker::start(|_| {});
    let taken = broker.address(Kind::Tcp);
    let folder = tempfile::tempdir().unwrap();
    let second = Broker::start(options(&folder, |options| {
        options.listeners[0].address = taken.into()
    }));
    match second.map(|_| ()) {
        Err(StartError::Listen { address, .. }) => assert_eq!(address, taken.into()),
        other => panic!("{other:?}"),
    }
}
