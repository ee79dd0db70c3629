//! From the peer to our journal.

use tidings_core::codec::{Ack, ConnAckProperties, Packet, Publish, ReasonCode};
use tidings_core::message::QoS;

use super::super::{Direction, LinkState, Protocol};
use super::wire::{Rig, ack, connack, publish};

async fn rig(protocol: Protocol, qos: QoS) -> Rig {
    Rig::new(protocol, Direction::In, qos).await
}

#[tokio::test]
async fn the_peer_is_acknowledged_after_our_broker_has_acknowledged() {
    let mut rig = rig(Protocol::V4, QoS::AtLeastOnce).await;
    let mut peer = rig.accept_peer(false).await;
    let mut local = rig.accept_local().await;
    peer.answer_subscribe().await;
    peer.send(&publish(QoS::AtLeastOnce, 1, "there/a/x")).await;
    peer.send(&publish(QoS::AtLeastOnce, 2, "there/a/y")).await;
    let first = local.receive_publish("here/a/x").await;
    let second = local.receive_publish("here/a/y").await;
    local.send(&Packet::PubAck(ack(second))).await;
    rig.await_status(|status| status.messages_in == 1).await;
    local.send(&Packet::PubAck(ack(first))).await;
    // In the order of its messages.
    assert_eq!(peer.receive().await, Packet::PubAck(ack(1)));
    assert_eq!(peer.receive().await, Packet::PubAck(ack(2)));
    rig.await_status(|status| status.messages_in == 2 && status.state == LinkState::Up)
        .await;
    rig.stop().await;
}

#[tokio::test]
async fn what_our_broker_did_not_acknowledge_is_taken_again_after_its_connection_ended() {
    let mut rig = rig(Protocol::V5, QoS::AtLeastOnce).await;
    let mut peer = rig.accept_peer(false).await;
    let mut local = rig.accept_local().await;
    peer.answer_subscribe().await;
    peer.send(&publish(QoS::AtLeastOnce, 1, "there/a/x")).await;
    local.receive_publish("here/a/x").await;
    drop(local);
    peer.receive_end().await;
    let mut peer = rig.accept_peer(true).await;
    let mut local = rig.accept_local().await;
    peer.send(&publish(QoS::AtLeastOnce, 1, "there/a/x")).await;
    let packet_id = local.receive_publish("here/a/x").await;
    local.send(&Packet::PubAck(ack(packet_id))).await;
    assert_eq!(peer.receive().await, Packet::PubAck(ack(1)));
    rig.stop().await;
}

#[tokio::test]
async fn a_session_that_the_peer_still_has_is_not_subscribed_again() {
    // A 3.1.1 peer would send all of its retained messages again, old ones over newer ones here.
    let mut rig = rig(Protocol::V4, QoS::AtLeastOnce).await;
    let mut peer = rig.accept_peer(true).await;
    let local = rig.accept_local().await;
    // The session may be from another configuration: the first time it is subscribed.
    peer.answer_subscribe().await;
    peer.send(&publish(QoS::AtMostOnce, 0, "there/a/x")).await;
    rig.await_status(|status| status.messages_in == 1).await;
    drop((local, peer));
    let mut peer = rig.accept_peer(true).await;
    let mut local = rig.accept_local().await;
    peer.send(&publish(QoS::AtLeastOnce, 1, "there/a/x")).await;
    let packet_id = local.receive_publish("here/a/x").await;
    local.send(&Packet::PubAck(ack(packet_id))).await;
    assert_eq!(
        peer.receive().await,
        Packet::PubAck(ack(1)),
        "and not a SUBSCRIBE"
    );
    drop((local, peer));
    let mut peer = rig.accept_peer(false).await;
    let _local = rig.accept_local().await;
    peer.answer_subscribe().await;
    rig.stop().await;
}

async fn a_release_of_an_earlier_connection_is_answered(protocol: Protocol) {
    let mut rig = rig(protocol, QoS::ExactlyOnce).await;
    let mut peer = rig.accept_peer(true).await;
    let mut local = rig.accept_local().await;
    peer.answer_subscribe().await;
    peer.send(&Packet::PubRel(ack(7))).await;
    assert_eq!(peer.receive().await, Packet::PubComp(ack(7)));
    peer.send(&publish(QoS::ExactlyOnce, 7, "there/a/x")).await;
    let packet_id = local.receive_publish("here/a/x").await;
    local.send(&Packet::PubRec(ack(packet_id))).await;
    assert_eq!(peer.receive().await, Packet::PubRec(ack(7)));
    assert_eq!(local.receive().await, Packet::PubRel(ack(packet_id)));
    peer.send(&Packet::PubRel(ack(7))).await;
    assert_eq!(peer.receive().await, Packet::PubComp(ack(7)));
    rig.stop().await;
}

#[tokio::test]
async fn a_release_of_an_earlier_connection_is_answered_in_mqtt_311() {
    a_release_of_an_earlier_connection_is_answered(Protocol::V4).await;
}

#[tokio::test]
async fn a_release_of_an_earlier_connection_is_answered_in_mqtt_5() {
    a_release_of_an_earlier_connection_is_answered(Protocol::V5).await;
}

#[tokio::test]
async fn what_our_broker_refuses_for_good_is_dropped_and_for_now_is_taken_again() {
    let mut rig = rig(Protocol::V5, QoS::AtLeastOnce).await;
    let mut peer = rig.accept_peer(false).await;
    let mut local = rig.accept_local().await;
    peer.answer_subscribe().await;
    peer.send(&publish(QoS::AtLeastOnce, 1, "there/a/x")).await;
    let packet_id = local.receive_publish("here/a/x").await;
    local
        .send(&Packet::PubAck(Ack::new(
            packet_id,
            ReasonCode::NotAuthorized,
        )))
        .await;
    assert_eq!(peer.receive().await, Packet::PubAck(ack(1)));
    rig.await_status(|status| status.refused == 1).await;
    peer.send(&publish(QoS::AtLeastOnce, 2, "there/a/x")).await;
    let packet_id = local.receive_publish("here/a/x").await;
    local
        .send(&Packet::PubAck(Ack::new(
            packet_id,
            ReasonCode::QuotaExceeded,
        )))
        .await;
    peer.receive_end().await;
    rig.await_status(|status| status.refused == 1 && status.last_error.is_some())
        .await;
    rig.stop().await;
}

#[tokio::test]
async fn the_receive_maximum_of_our_broker_is_kept_until_the_last_step_of_qos_2() {
    let mut rig = rig(Protocol::V4, QoS::ExactlyOnce).await;
    let mut peer = rig.accept_peer(false).await;
    let mut local = rig.next_local().await;
    let properties = ConnAckProperties {
        receive_maximum: Some(1),
        ..Default::default()
    };
    local.send(&connack(false, properties)).await;
    peer.answer_subscribe().await;
    for packet_id in [1, 2] {
        peer.send(&publish(QoS::ExactlyOnce, packet_id, "there/a/x"))
            .await;
    }
    let first = local.receive_publish("here/a/x").await;
    local.send(&Packet::PubRec(ack(first))).await;
    assert_eq!(
        local.receive().await,
        Packet::PubRel(ack(first)),
        "and not the second PUBLISH"
    );
    assert_eq!(peer.receive().await, Packet::PubRec(ack(1)));
    local.send(&Packet::PubComp(ack(first))).await;
    local.receive_publish("here/a/x").await;
    rig.stop().await;
}

#[tokio::test]
async fn a_keep_alive_that_our_broker_wants_is_kept() {
    let mut rig = rig(Protocol::V4, QoS::AtLeastOnce).await;
    let mut peer = rig.accept_peer(false).await;
    let mut local = rig.next_local().await;
    let properties = ConnAckProperties {
        server_keep_alive_s: Some(1),
        ..Default::default()
    };
    local.send(&connack(false, properties)).await;
    peer.answer_subscribe().await;
    local.receive_ping().await;
    rig.stop().await;
}

#[tokio::test]
async fn a_message_that_grows_too_large_on_the_way_in_is_dropped_and_counted() {
    let mut rig = Rig::with(Protocol::V5, Direction::In, QoS::AtLeastOnce, |o| {
        o.max_packet_bytes = 128
    })
    .await;
    let mut peer = rig.accept_peer(false).await;
    let mut local = rig.accept_local().await;
    peer.answer_subscribe().await;
    let topic = format!("there/a/{}", "x".repeat(90));
    peer.send(&publish(QoS::AtLeastOnce, 1, &topic)).await;
    assert_eq!(peer.receive().await, Packet::PubAck(ack(1)));
    rig.await_status(|status| status.refused == 1).await;
    peer.send(&publish(QoS::AtLeastOnce, 2, "there/a/x")).await;
    local.receive_publish("here/a/x").await;
    rig.stop().await;
}

/// The peer has had its PUBREC when the connection ends: the message is ours, once.
async fn what_was_received_is_not_taken_again_after_a_reconnect(protocol: Protocol) {
    let mut rig = rig(protocol, QoS::ExactlyOnce).await;
    let mut peer = rig.accept_peer(false).await;
    let mut local = rig.accept_local().await;
    peer.answer_subscribe().await;
    peer.send(&publish(QoS::ExactlyOnce, 7, "there/a/x")).await;
    let packet_id = local.receive_publish("here/a/x").await;
    local.send(&Packet::PubRec(ack(packet_id))).await;
    assert_eq!(peer.receive().await, Packet::PubRec(ack(7)));
    drop(peer);
    let mut peer = rig.accept_peer(true).await;
    let mut local = rig.accept_local().await;
    peer.send(&Packet::PubRel(ack(7))).await;
    assert_eq!(peer.receive().await, Packet::PubComp(ack(7)));
    peer.send(&publish(QoS::ExactlyOnce, 8, "there/a/y")).await;
    local.receive_publish("here/a/y").await;
    rig.stop().await;
}

#[tokio::test]
async fn what_was_received_is_not_taken_again_after_a_reconnect_in_mqtt_311() {
    what_was_received_is_not_taken_again_after_a_reconnect(Protocol::V4).await;
}

#[tokio::test]
async fn what_was_received_is_not_taken_again_after_a_reconnect_in_mqtt_5() {
    what_was_received_is_not_taken_again_after_a_reconnect(Protocol::V5).await;
}

#[tokio::test]
async fn what_was_not_received_at_qos_2_is_taken_again_after_a_reconnect() {
    for protocol in [Protocol::V4, Protocol::V5] {
        let mut rig = rig(protocol, QoS::ExactlyOnce).await;
        let mut peer = rig.accept_peer(false).await;
        let mut local = rig.accept_local().await;
        peer.answer_subscribe().await;
        peer.send(&publish(QoS::ExactlyOnce, 7, "there/a/x")).await;
        local.receive_publish("here/a/x").await;
        drop(peer);
        local.receive_end().await;
        let mut peer = rig.accept_peer(true).await;
        let mut local = rig.accept_local().await;
        let Packet::Publish(again) = publish(QoS::ExactlyOnce, 7, "there/a/x") else {
            unreachable!("it is a PUBLISH");
        };
        let again = Publish { dup: true, ..again };
        peer.send(&Packet::Publish(again)).await;
        let packet_id = local.receive_publish("here/a/x").await;
        local.send(&Packet::PubRec(ack(packet_id))).await;
        assert_eq!(peer.receive().await, Packet::PubRec(ack(7)));
        rig.stop().await;
    }
}

#[tokio::test]
async fn a_release_is_answered_after_the_qos_of_the_map_was_lowered() {
    for protocol in [Protocol::V4, Protocol::V5] {
        let mut rig = rig(protocol, QoS::AtMostOnce).await;
        let mut peer = rig.accept_peer(true).await;
        let _local = rig.accept_local().await;
        peer.answer_subscribe().await;
        peer.send(&Packet::PubRel(ack(65_535))).await;
        assert_eq!(peer.receive().await, Packet::PubComp(ack(65_535)));
        rig.stop().await;
    }
}

#[tokio::test]
async fn a_refusal_at_qos_2_ends_the_exchange() {
    let mut rig = Rig::with(Protocol::V5, Direction::In, QoS::ExactlyOnce, |o| {
        o.window = 1;
    })
    .await;
    let mut peer = rig.accept_peer(false).await;
    let mut local = rig.accept_local().await;
    peer.answer_subscribe().await;
    for packet_id in [1, 2] {
        peer.send(&publish(QoS::ExactlyOnce, packet_id, "there/a/x"))
            .await;
        let ours = local.receive_publish("here/a/x").await;
        let refusal = Ack::new(ours, ReasonCode::NotAuthorized);
        local.send(&Packet::PubRec(refusal)).await;
        assert_eq!(peer.receive().await, Packet::PubRec(ack(packet_id)));
        peer.send(&Packet::PubRel(ack(packet_id))).await;
        assert_eq!(peer.receive().await, Packet::PubComp(ack(packet_id)));
    }
    rig.await_status(|status| status.refused == 2).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_message_too_large_to_be_carried_is_acknowledged_though_mqtt_311_cannot_forbid_it() {
    let mut rig = Rig::with(Protocol::V4, Direction::In, QoS::AtLeastOnce, |o| {
        o.max_packet_bytes = 128;
    })
    .await;
    let mut peer = rig.accept_peer(false).await;
    let mut local = rig.accept_local().await;
    peer.answer_subscribe().await;
    let Packet::Publish(small) = publish(QoS::AtLeastOnce, 1, "there/a/x") else {
        unreachable!("it is a PUBLISH");
    };
    let payload = &[0; 100_000];
    peer.send(&Packet::Publish(Publish { payload, ..small }))
        .await;
    assert_eq!(peer.receive().await, Packet::PubAck(ack(1)));
    rig.await_status(|status| status.refused == 1).await;
    peer.send(&publish(QoS::AtLeastOnce, 2, "there/a/x")).await;
    local.receive_publish("here/a/x").await;
    rig.stop().await;
}

#[tokio::test]
async fn what_our_broker_would_call_malformed_does_not_reach_it() {
    let mut rig = rig(Protocol::V5, QoS::AtLeastOnce).await;
    let mut peer = rig.accept_peer(false).await;
    let mut local = rig.accept_local().await;
    peer.answer_subscribe().await;
    let Packet::Publish(mut strange) = publish(QoS::AtLeastOnce, 1, "there/a/x") else {
        unreachable!("it is a PUBLISH");
    };
    strange.properties.response_topic = Some("answers/#");
    peer.send(&Packet::Publish(strange)).await;
    assert_eq!(peer.receive().await, Packet::PubAck(ack(1)));
    rig.await_status(|status| status.refused == 1).await;
    peer.send(&publish(QoS::AtLeastOnce, 2, "there/a/x")).await;
    local.receive_publish("here/a/x").await;
    rig.stop().await;
}

#[tokio::test]
async fn what_no_map_carries_is_acknowledged_and_counted() {
    let mut rig = rig(Protocol::V5, QoS::AtLeastOnce).await;
    let mut peer = rig.accept_peer(false).await;
    let _local = rig.accept_local().await;
    peer.answer_subscribe().await;
    peer.send(&publish(QoS::AtLeastOnce, 1, "elsewhere")).await;
    assert_eq!(peer.receive().await, Packet::PubAck(ack(1)));
    rig.await_status(|status| status.unmapped == 1).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_peer_that_wants_no_keep_alive_gets_no_storm_of_pings() {
    let mut rig = rig(Protocol::V5, QoS::AtLeastOnce).await;
    let mut peer = rig.next_peer().await;
    let properties = ConnAckProperties {
        server_keep_alive_s: Some(0),
        ..Default::default()
    };
    peer.send(&connack(false, properties)).await;
    let mut local = rig.accept_local().await;
    peer.answer_subscribe().await;
    for packet_id in 1..=50 {
        peer.send(&publish(QoS::AtLeastOnce, packet_id, "there/a/x"))
            .await;
        let ours = local.receive_publish("here/a/x").await;
        local.send(&Packet::PubAck(ack(ours))).await;
        assert_eq!(peer.receive().await, Packet::PubAck(ack(packet_id)));
    }
    assert_eq!(rig.status.borrow().last_error, None);
    rig.stop().await;
}

#[tokio::test]
async fn a_peer_that_refuses_a_filter_is_told_in_the_state_and_asked_again() {
    for protocol in [Protocol::V4, Protocol::V5] {
        let mut rig = rig(protocol, QoS::AtLeastOnce).await;
        let mut peer = rig.accept_peer(false).await;
        let _local = rig.accept_local().await;
        peer.refuse_subscribe().await;
        rig.await_status(|status| {
            status.last_error.as_deref() == Some("the peer refused 1 filters")
        })
        .await;
        let mut peer = rig.accept_peer(true).await;
        let _local = rig.accept_local().await;
        peer.answer_subscribe().await;
        rig.stop().await;
    }
}
