//! What the journal's thread does with what it is handed: bytes of records, and batches on segment
//! files. Nothing is synced here, for that is the disk's time and not ours. An operation is one
//! record.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use tidings_bridge::journal::segments::fs::RealFs;
use tidings_bridge::journal::segments::record::{decode_record, encode_record};
use tidings_bridge::journal::segments::{Durability, Options, Writer};
use tidings_core::journal::{Append, Audience, Published, Record};
use tidings_core::message::{Epoch, Message, Publisher, QoS, Seq};

use crate::case::Case;

/// Records of a round.
const RECORDS: usize = 512;

pub fn cases() -> Vec<Case> {
    vec![
        encoding(),
        decoding(),
        appending("append 64 B, 1 record per batch", 64, 1),
        appending("append 64 B, 512 records per batch", 64, RECORDS),
        appending("append 256 B, 512 records per batch", 256, RECORDS),
        appending("append 4 KiB, 512 records per batch", 4096, RECORDS),
    ]
}

/// A message of one of 50 publishers to its own topic.
fn record(number: usize, payload_bytes: usize) -> Record {
    let topic: Arc<str> = format!("bench/run/in/{}", number % 50).into();
    Record::Published(Arc::new(Published {
        stream: topic.clone(),
        seq: Seq(0),
        message: Message {
            topic,
            payload: Bytes::from(vec![b'x'; payload_bytes]),
            qos: QoS::AtLeastOnce,
            retain: false,
            properties: None,
            publisher: Publisher {
                user: "".into(),
                client_id: format!("publisher-{}", number % 50).into(),
            },
            time: 1_700_000_000_000,
        },
        history: false,
        audience: Audience::Everyone,
        inbound_packet_id: None,
        read_us: 0,
    }))
}

fn records(payload_bytes: usize) -> Vec<Record> {
    (0..RECORDS).map(|n| record(n, payload_bytes)).collect()
}

fn encoding() -> Case {
    Case::new("journal", "encode a record of 64 B", RECORDS as u64, || {
        let records = records(64);
        let mut out = Vec::new();
        Box::new(move |meter| {
            out.clear();
            meter.count(|_| {
                for record in &records {
                    encode_record(black_box(record), &mut out);
                }
            });
            black_box(&out);
        })
    })
}

fn decoding() -> Case {
    Case::new("journal", "decode a record of 64 B", RECORDS as u64, || {
        let encoded: Vec<Vec<u8>> = records(64)
            .iter()
            .map(|record| {
                let mut bytes = Vec::new();
                encode_record(record, &mut bytes);
                bytes
            })
            .collect();
        Box::new(move |meter| {
            meter.count(|_| {
                for bytes in &encoded {
                    assert!(black_box(decode_record(black_box(bytes))).is_ok());
                }
            });
        })
    })
}

fn appending(name: &'static str, payload_bytes: usize, per_batch: usize) -> Case {
    Case::new("journal", name, RECORDS as u64, move || {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let fs = Arc::new(RealFs::new(directory.path()).expect("the directory opens"));
        let options = Options {
            durability: Durability::Interval,
            segment_bytes: 16 * 1024 * 1024,
            ..Options::new(Epoch(1))
        };
        let heads = Box::new(|_: &str| Seq(0));
        let (mut writer, _, _) = Writer::open(fs, options, heads).expect("a new journal opens");
        Box::new(move |meter| {
            // The round owns the directory.
            black_box(&directory);
            let mut batches: Vec<Vec<Append>> = Vec::new();
            for number in 0..RECORDS {
                if number % per_batch == 0 {
                    batches.push(Vec::with_capacity(per_batch));
                }
                if let Some(batch) = batches.last_mut() {
                    batch.push(Append {
                        shard: 0,
                        record: record(number, payload_bytes),
                    });
                }
            }
            let committed = meter.count(|_| {
                let mut committed = Vec::with_capacity(batches.len());
                for appends in batches {
                    committed.push(writer.commit(appends).expect("the disk takes a batch"));
                }
                committed
            });
            let entries: usize = committed.iter().map(|batch| batch.entries.len()).sum();
            assert_eq!(entries, RECORDS);
            while let Some(chore) = writer.next_chore() {
                chore.run();
            }
        })
    })
}
