//! From our journal to the peer.

use tidings_core::codec::{Ack, ConnAckProperties, Packet, Publish, ReasonCode, Version, encode};
use tidings_core::message::QoS;
use tokio::io::DuplexStream;
use tokio::net::TcpStream;

use super::super::{Direction, LinkState, Protocol};
use super::wire::{Rig, Wire, ack, connack, publish};

async fn rig(protocol: Protocol, qos: QoS) -> Rig {
    Rig::new(protocol, Direction::Out, qos).await
}

/// Both sides connected, the peer with these properties of its CONNACK.
async fn connected(
    rig: &mut Rig,
    properties: ConnAckProperties,
) -> (Wire<DuplexStream>, Wire<TcpStream>) {
    let mut peer = rig.next_peer().await;
    peer.send(&connack(false, properties)).await;
    (rig.accept_outward().await, peer)
}

#[tokio::test]
async fn our_broker_keeps_what_is_to_go_out_before_the_peer_is_there() {
    let mut rig = rig(Protocol::V4, QoS::AtLeastOnce).await;
    rig.keeps().await;
    let _peer = rig.next_peer().await;
    rig.stop().await;
}

#[tokio::test]
async fn our_broker_is_acknowledged_after_the_peer_has_acknowledged() {
    for protocol in [Protocol::V4, Protocol::V5] {
        let mut rig = rig(protocol, QoS::AtLeastOnce).await;
        rig.keeps().await;
        let (mut local, mut peer) = connected(&mut rig, ConnAckProperties::default()).await;
        local.send(&publish(QoS::AtLeastOnce, 11, "here/a/x")).await;
        local.send(&publish(QoS::AtLeastOnce, 12, "here/a/y")).await;
        let first = peer.receive_publish("there/a/x").await;
        let second = peer.receive_publish("there/a/y").await;
        peer.send(&Packet::PubAck(ack(second))).await;
        assert_eq!(local.receive().await, Packet::PubAck(ack(12)));
        peer.send(&Packet::PubAck(ack(first))).await;
        assert_eq!(local.receive().await, Packet::PubAck(ack(11)));
        rig.await_status(|status| status.messages_out == 2 && status.state == LinkState::Up)
            .await;
        rig.stop().await;
    }
}

#[tokio::test]
async fn what_the_peer_did_not_acknowledge_is_not_acknowledged_when_it_goes() {
    let mut rig = rig(Protocol::V4, QoS::AtLeastOnce).await;
    rig.keeps().await;
    let (mut local, mut peer) = connected(&mut rig, ConnAckProperties::default()).await;
    local.send(&publish(QoS::AtLeastOnce, 11, "here/a/x")).await;
    peer.receive_publish("there/a/x").await;
    drop(peer);
    local.receive_end().await;
    let (mut local, mut peer) = connected(&mut rig, ConnAckProperties::default()).await;
    local.send(&publish(QoS::AtLeastOnce, 11, "here/a/x")).await;
    let packet_id = peer.receive_publish("there/a/x").await;
    peer.send(&Packet::PubAck(ack(packet_id))).await;
    assert_eq!(local.receive().await, Packet::PubAck(ack(11)));
    rig.stop().await;
}

async fn an_identifier_is_not_used_again_before_its_exchange_is_over(protocol: Protocol) {
    let mut rig = rig(protocol, QoS::ExactlyOnce).await;
    rig.keeps().await;
    let (mut local, mut peer) = connected(&mut rig, ConnAckProperties::default()).await;
    local
        .send(&publish(QoS::ExactlyOnce, 100, "here/a/x"))
        .await;
    let open = peer.receive_publish("there/a/x").await;
    peer.send(&Packet::PubRec(ack(open))).await;
    assert_eq!(peer.receive().await, Packet::PubRel(ack(open)));
    // Its PUBCOMP is late; meanwhile others come and go.
    for ours in 101..=140 {
        local
            .send(&publish(QoS::AtLeastOnce, ours, "here/a/y"))
            .await;
        let packet_id = peer.receive_publish("there/a/y").await;
        assert_ne!(packet_id, open, "still in use");
        peer.send(&Packet::PubAck(ack(packet_id))).await;
        assert_eq!(local.receive().await, Packet::PubAck(ack(ours)));
    }
    peer.send(&Packet::PubComp(ack(open))).await;
    assert_eq!(local.receive().await, Packet::PubRec(ack(100)));
    rig.stop().await;
}

#[tokio::test]
async fn an_identifier_is_not_used_again_before_its_exchange_is_over_in_mqtt_311() {
    an_identifier_is_not_used_again_before_its_exchange_is_over(Protocol::V4).await;
}

#[tokio::test]
async fn an_identifier_is_not_used_again_before_its_exchange_is_over_in_mqtt_5() {
    an_identifier_is_not_used_again_before_its_exchange_is_over(Protocol::V5).await;
}

#[tokio::test]
async fn a_message_too_large_for_the_peer_is_dropped_and_counted_and_the_next_one_passes() {
    let mut rig = rig(Protocol::V5, QoS::AtLeastOnce).await;
    rig.keeps().await;
    let properties = ConnAckProperties {
        maximum_packet_size: Some(64),
        ..Default::default()
    };
    let (mut local, mut peer) = connected(&mut rig, properties).await;
    let topic = format!("here/a/{}", "x".repeat(90));
    local.send(&publish(QoS::AtLeastOnce, 11, &topic)).await;
    assert_eq!(local.receive().await, Packet::PubAck(ack(11)));
    rig.await_status(|status| status.refused == 1).await;
    local.send(&publish(QoS::AtLeastOnce, 12, "here/a/x")).await;
    peer.receive_publish("there/a/x").await;
    rig.stop().await;
}

#[tokio::test]
async fn a_peer_without_qos_2_and_retained_messages_gets_what_it_can_take() {
    let mut rig = rig(Protocol::V5, QoS::ExactlyOnce).await;
    rig.keeps().await;
    let properties = ConnAckProperties {
        maximum_qos: Some(QoS::AtLeastOnce),
        retain_available: Some(false),
        ..Default::default()
    };
    let (mut local, mut peer) = connected(&mut rig, properties).await;
    let Packet::Publish(message) = publish(QoS::ExactlyOnce, 11, "here/a/x") else {
        unreachable!("it is a PUBLISH");
    };
    local
        .send(&Packet::Publish(Publish {
            retain: true,
            ..message
        }))
        .await;
    let Packet::Publish(sent) = peer.receive().await else {
        panic!("not a PUBLISH");
    };
    assert_eq!((sent.qos, sent.retain), (QoS::AtLeastOnce, false));
    peer.send(&Packet::PubAck(ack(sent.packet_id.expect("QoS 1"))))
        .await;
    assert_eq!(local.receive().await, Packet::PubRec(ack(11)));
    local.send(&Packet::PubRel(ack(11))).await;
    assert_eq!(local.receive().await, Packet::PubComp(ack(11)));
    rig.stop().await;
}

#[tokio::test]
async fn what_the_peer_refuses_for_good_is_dropped_and_for_now_is_sent_again() {
    let mut rig = rig(Protocol::V5, QoS::AtLeastOnce).await;
    rig.keeps().await;
    let (mut local, mut peer) = connected(&mut rig, ConnAckProperties::default()).await;
    local.send(&publish(QoS::AtLeastOnce, 11, "here/a/x")).await;
    let packet_id = peer.receive_publish("there/a/x").await;
    peer.send(&Packet::PubAck(Ack::new(
        packet_id,
        ReasonCode::NotAuthorized,
    )))
    .await;
    assert_eq!(local.receive().await, Packet::PubAck(ack(11)));
    rig.await_status(|status| status.refused == 1).await;
    local.send(&publish(QoS::AtLeastOnce, 12, "here/a/x")).await;
    let packet_id = peer.receive_publish("there/a/x").await;
    peer.send(&Packet::PubAck(Ack::new(
        packet_id,
        ReasonCode::QuotaExceeded,
    )))
    .await;
    local.receive_end().await;
    rig.stop().await;
}

/// One message that the peer refuses; `None` if the link began anew meanwhile.
async fn refused(
    ours: u16,
    local: &mut Wire<DuplexStream>,
    peer: &mut Wire<TcpStream>,
) -> Option<()> {
    local
        .try_send(&publish(QoS::ExactlyOnce, ours, "here/a/x"))
        .await
        .then_some(())?;
    let Packet::Publish(sent) = peer.try_receive().await? else {
        panic!("not a PUBLISH");
    };
    let refusal = Ack::new(sent.packet_id?, ReasonCode::NotAuthorized);
    peer.try_send(&Packet::PubRec(refusal))
        .await
        .then_some(())?;
    assert_eq!(local.try_receive().await?, Packet::PubRec(ack(ours)));
    local
        .try_send(&Packet::PubRel(ack(ours)))
        .await
        .then_some(())?;
    assert_eq!(local.try_receive().await?, Packet::PubComp(ack(ours)));
    Some(())
}

#[tokio::test]
async fn a_peer_that_refuses_many_messages_at_qos_2_still_gets_the_next() {
    let mut rig = rig(Protocol::V5, QoS::ExactlyOnce).await;
    rig.keeps().await;
    let properties = ConnAckProperties {
        receive_maximum: Some(4),
        ..Default::default()
    };
    let (mut local, mut peer) = connected(&mut rig, properties.clone()).await;
    let mut ours = 1;
    while ours <= 20 {
        match refused(ours, &mut local, &mut peer).await {
            Some(()) => ours += 1,
            // The client library goes on counting these, so that the link begins anew at times.
            None => (local, peer) = connected(&mut rig, properties.clone()).await,
        }
    }
    assert!(rig.status.borrow().refused >= 20);
    rig.stop().await;
}

#[tokio::test]
async fn an_exchange_at_qos_2_that_broke_at_the_peer_is_begun_again() {
    for protocol in [Protocol::V4, Protocol::V5] {
        let mut rig = rig(protocol, QoS::ExactlyOnce).await;
        rig.keeps().await;
        let (mut local, mut peer) = connected(&mut rig, ConnAckProperties::default()).await;
        local.send(&publish(QoS::ExactlyOnce, 11, "here/a/x")).await;
        let packet_id = peer.receive_publish("there/a/x").await;
        peer.send(&Packet::PubRec(ack(packet_id))).await;
        assert_eq!(peer.receive().await, Packet::PubRel(ack(packet_id)));
        drop(peer);
        local.receive_end().await;
        let (mut local, mut peer) = connected(&mut rig, ConnAckProperties::default()).await;
        local.send(&publish(QoS::ExactlyOnce, 11, "here/a/x")).await;
        let packet_id = peer.receive_publish("there/a/x").await;
        peer.send(&Packet::PubRec(ack(packet_id))).await;
        assert_eq!(peer.receive().await, Packet::PubRel(ack(packet_id)));
        peer.send(&Packet::PubComp(ack(packet_id))).await;
        assert_eq!(local.receive().await, Packet::PubRec(ack(11)));
        rig.stop().await;
    }
}

#[tokio::test]
async fn a_release_of_our_broker_from_an_earlier_connection_is_answered_without_the_peer() {
    let mut rig = rig(Protocol::V5, QoS::ExactlyOnce).await;
    rig.keeps().await;
    let (mut local, mut peer) = connected(&mut rig, ConnAckProperties::default()).await;
    local.send(&Packet::PubRel(ack(11))).await;
    assert_eq!(local.receive().await, Packet::PubComp(ack(11)));
    local.send(&publish(QoS::ExactlyOnce, 12, "here/a/x")).await;
    peer.receive_publish("there/a/x").await;
    rig.stop().await;
}

#[tokio::test]
async fn the_receive_maximum_of_the_peer_is_kept() {
    let mut rig = rig(Protocol::V5, QoS::AtLeastOnce).await;
    rig.keeps().await;
    let properties = ConnAckProperties {
        receive_maximum: Some(2),
        ..Default::default()
    };
    let (mut local, mut peer) = connected(&mut rig, properties).await;
    for ours in 11..=14 {
        local
            .send(&publish(QoS::AtLeastOnce, ours, "here/a/x"))
            .await;
    }
    let first = peer.receive_publish("there/a/x").await;
    peer.receive_publish("there/a/x").await;
    peer.send(&Packet::PubAck(ack(first))).await;
    assert_eq!(local.receive().await, Packet::PubAck(ack(11)));
    peer.receive_publish("there/a/x").await;
    rig.await_status(|status| status.outstanding == 2).await;
    rig.stop().await;
    // The client library says no goodbye while its window is full.
    peer.receive_end().await;
}

#[tokio::test]
async fn a_peer_that_takes_one_message_at_a_time_gets_all_at_qos_1_and_2() {
    let mut rig = rig(Protocol::V5, QoS::ExactlyOnce).await;
    rig.keeps().await;
    let properties = ConnAckProperties {
        receive_maximum: Some(1),
        ..Default::default()
    };
    let (mut local, mut peer) = connected(&mut rig, properties).await;
    for (ours, qos) in [
        (1, QoS::ExactlyOnce),
        (2, QoS::AtLeastOnce),
        (3, QoS::ExactlyOnce),
    ] {
        local.send(&publish(qos, ours, "here/a/x")).await;
    }
    for expected in [
        Packet::PubRec(ack(1)),
        Packet::PubAck(ack(2)),
        Packet::PubRec(ack(3)),
    ] {
        let packet_id = peer.receive_publish("there/a/x").await;
        if matches!(expected, Packet::PubAck(_)) {
            peer.send(&Packet::PubAck(ack(packet_id))).await;
        } else {
            peer.send(&Packet::PubRec(ack(packet_id))).await;
            assert_eq!(peer.receive().await, Packet::PubRel(ack(packet_id)));
            peer.send(&Packet::PubComp(ack(packet_id))).await;
        }
        assert_eq!(local.receive().await, expected);
    }
    rig.stop().await;
}

#[tokio::test]
async fn the_maximum_packet_size_of_the_peer_is_kept_to_the_byte() {
    let mut rig = rig(Protocol::V5, QoS::AtLeastOnce).await;
    rig.keeps().await;
    let properties = ConnAckProperties {
        maximum_packet_size: Some(200),
        ..Default::default()
    };
    let (mut local, mut peer) = connected(&mut rig, properties).await;
    let mut largest = 0;
    for (ours, len) in (1..).zip(40..=200) {
        let Packet::Publish(message) = publish(QoS::AtLeastOnce, ours, "here/a/x") else {
            unreachable!("it is a PUBLISH");
        };
        let payload = &vec![0; len];
        local
            .send(&Packet::Publish(Publish { payload, ..message }))
            .await;
        let refused = rig.status.borrow().refused;
        if refused == 0 {
            tokio::select! {
                sent = peer.receive() => {
                    let Packet::Publish(sent) = sent else { panic!("not a PUBLISH") };
                    let packet_id = sent.packet_id.expect("QoS 1");
                    let mut bytes = Vec::new();
                    encode(Version::V5, &Packet::Publish(sent), &mut bytes);
                    largest = bytes.len();
                    peer.send(&Packet::PubAck(ack(packet_id))).await;
                }
                answer = local.receive() => {
                    assert_eq!(answer, Packet::PubAck(ack(ours)));
                    continue;
                }
            }
        }
        assert_eq!(local.receive().await, Packet::PubAck(ack(ours)));
    }
    assert_eq!(largest, 200);
    assert_eq!(rig.status.borrow().last_error, None);
    rig.stop().await;
}

#[tokio::test]
async fn a_peer_that_takes_qos_0_only_gets_it_and_our_broker_is_acknowledged() {
    let mut rig = rig(Protocol::V5, QoS::ExactlyOnce).await;
    rig.keeps().await;
    let properties = ConnAckProperties {
        maximum_qos: Some(QoS::AtMostOnce),
        ..Default::default()
    };
    let (mut local, mut peer) = connected(&mut rig, properties).await;
    local.send(&publish(QoS::AtLeastOnce, 11, "here/a/x")).await;
    assert_eq!(peer.receive_publish("there/a/x").await, 0);
    assert_eq!(local.receive().await, Packet::PubAck(ack(11)));
    local.send(&publish(QoS::ExactlyOnce, 12, "here/a/x")).await;
    assert_eq!(peer.receive_publish("there/a/x").await, 0);
    assert_eq!(local.receive().await, Packet::PubRec(ack(12)));
    rig.await_status(|status| status.messages_out == 2).await;
    rig.stop().await;
}

#[tokio::test]
async fn what_the_peer_cannot_take_now_at_qos_2_is_sent_again() {
    let mut rig = rig(Protocol::V5, QoS::ExactlyOnce).await;
    rig.keeps().await;
    let (mut local, mut peer) = connected(&mut rig, ConnAckProperties::default()).await;
    local.send(&publish(QoS::ExactlyOnce, 11, "here/a/x")).await;
    let packet_id = peer.receive_publish("there/a/x").await;
    let not_now = Ack::new(packet_id, ReasonCode::QuotaExceeded);
    peer.send(&Packet::PubRec(not_now)).await;
    local.receive_end().await;
    let (mut local, mut peer) = connected(&mut rig, ConnAckProperties::default()).await;
    local.send(&publish(QoS::ExactlyOnce, 11, "here/a/x")).await;
    peer.receive_publish("there/a/x").await;
    assert_eq!(rig.status.borrow().refused, 0);
    rig.stop().await;
}
