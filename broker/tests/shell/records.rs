//! Records of rooms, stored at once: what the service of rooms would have made one by one.

use std::time::Duration;

use tidings_core::codec::{Packet, Publish, PublishProperties, decode};
use tidings_core::message::QoS;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::timeout;

use crate::peer::{TestBroker, Version, connect, connect_bytes, encode};

/// The Client Identifier of the service of rooms, which alone may write its records.
const SERVICE: &str = "$link/@rooms";

/// How long the broker may take to store them.
const DEADLINE: Duration = Duration::from_secs(120);

/// Stores retained messages with the broker's rights, and returns when all are stored. The broker must
/// not manage rooms itself meanwhile.
pub fn store_records(broker: &TestBroker, records: impl Iterator<Item = (String, String)>) {
    let stream = broker.running.connect_in_memory("test");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let records: Vec<_> = records.collect();
    runtime.block_on(async {
        let stored = timeout(DEADLINE, store(stream, records));
        stored.await.expect("in time");
    });
}

async fn store(stream: DuplexStream, records: Vec<(String, String)>) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let count = records.len();
    let writing = tokio::spawn(async move {
        let mut bytes = connect_bytes(connect(Version::V311, SERVICE));
        for (n, (topic, payload)) in records.iter().enumerate() {
            let packet_id = u16::try_from(n % 60_000 + 1).expect("an identifier");
            bytes.extend(retained(topic, payload, packet_id));
            if bytes.len() > 16 * 1024 {
                writer.write_all(&bytes).await.expect("the broker reads");
                bytes.clear();
            }
        }
        writer.write_all(&bytes).await.expect("the broker reads");
        writer
    });
    let mut acknowledged = 0;
    let mut received = Vec::new();
    while acknowledged < count {
        assert_ne!(reader.read_buf(&mut received).await.expect("bytes"), 0);
        let mut used = 0;
        while let Some((packet, len)) =
            decode(Some(Version::V311), &received[used..], usize::MAX).expect("a packet")
        {
            acknowledged += usize::from(matches!(packet, Packet::PubAck(_)));
            used += len;
        }
        received.drain(..used);
    }
    drop(writing.await.expect("written"));
}

fn retained(topic: &str, payload: &str, packet_id: u16) -> Vec<u8> {
    let publish = Packet::Publish(Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: true,
        topic,
        packet_id: Some(packet_id),
        properties: PublishProperties::default(),
        payload: payload.as_bytes(),
    });
    encode(Version::V311, &publish)
}
