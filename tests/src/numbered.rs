//! Many messages of one size on one topic, each with its number, published and received as fast as
//! it goes, with every number checked.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Instant;

use tidings_core::codec::{Ack, Packet, Publish, ReasonCode};
use tidings_core::message::QoS;

use crate::raw_client::publish_packet;
use crate::{ClientError, RawClient};

/// Publishes on their way at once: less than any broker's default.
const WINDOW: usize = 500;
/// Acknowledgements sent with one write.
const ACKS_AT_ONCE: usize = 100;

/// The message `number`: its decimal digits, filled up to `size` bytes.
pub fn payload(number: u64, size: usize) -> Vec<u8> {
    let mut payload = number.to_string().into_bytes();
    payload.push(b' ');
    // Not all the same, so that nothing between here and the disk can make it smaller.
    payload.extend((payload.len()..size).map(|at| (number as usize * 31 + at * 7) as u8));
    payload
}

/// The number of a payload.
///
/// # Panics
/// If it is not one of [`payload`].
#[track_caller]
pub fn number(payload: &[u8]) -> u64 {
    let text = payload.split(|&byte| byte == b' ').next().unwrap_or(&[]);
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("a payload without a number: {payload:02x?}"))
}

/// Publishes at QoS 1, and calls `acked` for each number whose PUBACK came, in order.
///
/// # Errors
/// If the connection ends before all are acknowledged, or a message is refused.
pub fn try_publish(
    client: &mut RawClient,
    topic: &str,
    numbers: RangeInclusive<u64>,
    size: usize,
    mut acked: impl FnMut(u64),
) -> Result<(), ClientError> {
    let mut waiting = VecDeque::new();
    let mut next = *numbers.start();
    while !waiting.is_empty() || numbers.contains(&next) {
        let mut payloads = Vec::new();
        while waiting.len() < WINDOW && numbers.contains(&next) {
            let packet_id = client.new_packet_id();
            waiting.push_back((packet_id, next));
            payloads.push((packet_id, payload(next, size)));
            next += 1;
        }
        client.try_send_all(payloads.iter().map(|(packet_id, payload)| {
            publish_packet(topic, payload, QoS::AtLeastOnce, *packet_id)
        }))?;
        let mut frame = Some(client.try_next()?);
        while let Some(answer) = frame {
            let Packet::PubAck(ack) = answer.packet() else {
                return Err(ClientError::Transport(format!("unexpected {answer:?}")));
            };
            // [MQTT-4.6.0-2] makes clients acknowledge in order, and this broker does too.
            match waiting.pop_front() {
                Some((packet_id, number))
                    if packet_id == ack.packet_id && !ack.reason.is_failure() =>
                {
                    acked(number);
                }
                other => {
                    return Err(ClientError::Transport(format!(
                        "{ack:?} instead of {other:?}"
                    )));
                }
            }
            frame = client.try_received()?;
        }
    }
    Ok(())
}

/// As [`try_publish`], for a broker that is expected to live.
#[track_caller]
pub fn publish(client: &mut RawClient, topic: &str, numbers: RangeInclusive<u64>, size: usize) {
    if let Err(error) = try_publish(client, topic, numbers, size, |_| {}) {
        panic!("could not publish: {error}");
    }
}

/// Receives `numbers` at QoS 1 in order, each once, none in between, and acknowledges them.
#[track_caller]
pub fn receive(client: &mut RawClient, topic: &str, numbers: RangeInclusive<u64>, size: usize) {
    let mut acks: Vec<Packet<'static>> = Vec::with_capacity(ACKS_AT_ONCE);
    for expected in numbers {
        let frame = match client.try_received() {
            Ok(Some(frame)) => frame,
            _ => {
                // All that came is taken: now the broker may want to hear of it before it goes on.
                send_all(client, &mut acks);
                client.next()
            }
        };
        let Packet::Publish(Publish {
            topic: got_topic,
            packet_id,
            payload: got,
            qos,
            ..
        }) = frame.packet()
        else {
            panic!("expected message {expected}, got {frame:?}");
        };
        assert_eq!(
            (got_topic, qos),
            (topic, QoS::AtLeastOnce),
            "message {expected}"
        );
        assert!(
            got == payload(expected, size),
            "expected message {expected}, got {}",
            number(got)
        );
        let packet_id = packet_id.expect("a message at QoS 1 has one");
        acks.push(Packet::PubAck(Ack::new(packet_id, ReasonCode::Success)));
        if acks.len() == ACKS_AT_ONCE {
            send_all(client, &mut acks);
        }
    }
    send_all(client, &mut acks);
}

#[track_caller]
fn send_all(client: &mut RawClient, acks: &mut Vec<Packet<'static>>) {
    if let Err(error) = client.try_send_all(acks.drain(..)) {
        panic!("could not acknowledge: {error}");
    }
}

/// Messages in a second, for reports.
pub fn rate(count: u64, since: Instant) -> String {
    let seconds = since.elapsed().as_secs_f64();
    format!("{count} in {seconds:.1} s, {:.0}/s", count as f64 / seconds)
}
