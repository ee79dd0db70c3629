//! Between the client library's words and ours: QoS, properties of a message, and what a Reason Code
//! means for a message.

use rumqttc::v5::mqttbytes as v5bytes;
use tidings_core::message::{MessageProperties, QoS};

use super::local::Outcome;

pub(super) const fn puback_outcome(reason: v5bytes::v5::PubAckReason) -> Outcome {
    use v5bytes::v5::PubAckReason as Reason;
    match reason {
        Reason::Success | Reason::NoMatchingSubscribers => Outcome::Accepted,
        Reason::NotAuthorized | Reason::TopicNameInvalid | Reason::PayloadFormatInvalid => {
            Outcome::Refused
        }
        Reason::UnspecifiedError
        | Reason::ImplementationSpecificError
        | Reason::PacketIdentifierInUse
        | Reason::QuotaExceeded => Outcome::NotNow,
    }
}

pub(super) const fn pubrec_outcome(reason: v5bytes::v5::PubRecReason) -> Outcome {
    use v5bytes::v5::PubRecReason as Reason;
    match reason {
        Reason::Success | Reason::NoMatchingSubscribers => Outcome::Accepted,
        Reason::NotAuthorized | Reason::TopicNameInvalid | Reason::PayloadFormatInvalid => {
            Outcome::Refused
        }
        Reason::UnspecifiedError
        | Reason::ImplementationSpecificError
        | Reason::PacketIdentifierInUse
        | Reason::QuotaExceeded => Outcome::NotNow,
    }
}

pub(super) const fn qos_v4(qos: QoS) -> rumqttc::QoS {
    match qos {
        QoS::AtMostOnce => rumqttc::QoS::AtMostOnce,
        QoS::AtLeastOnce => rumqttc::QoS::AtLeastOnce,
        QoS::ExactlyOnce => rumqttc::QoS::ExactlyOnce,
    }
}

pub(super) const fn qos_from_v4(qos: rumqttc::QoS) -> QoS {
    match qos {
        rumqttc::QoS::AtMostOnce => QoS::AtMostOnce,
        rumqttc::QoS::AtLeastOnce => QoS::AtLeastOnce,
        rumqttc::QoS::ExactlyOnce => QoS::ExactlyOnce,
    }
}

pub(super) const fn qos_v5(qos: QoS) -> v5bytes::QoS {
    match qos {
        QoS::AtMostOnce => v5bytes::QoS::AtMostOnce,
        QoS::AtLeastOnce => v5bytes::QoS::AtLeastOnce,
        QoS::ExactlyOnce => v5bytes::QoS::ExactlyOnce,
    }
}

pub(super) const fn qos_from_v5(qos: v5bytes::QoS) -> QoS {
    match qos {
        v5bytes::QoS::AtMostOnce => QoS::AtMostOnce,
        v5bytes::QoS::AtLeastOnce => QoS::AtLeastOnce,
        v5bytes::QoS::ExactlyOnce => QoS::ExactlyOnce,
    }
}

pub(super) fn to_v5(properties: Option<&MessageProperties>) -> v5bytes::v5::PublishProperties {
    let Some(p) = properties else {
        return v5bytes::v5::PublishProperties::default();
    };
    v5bytes::v5::PublishProperties {
        payload_format_indicator: p.payload_is_utf8.map(u8::from),
        message_expiry_interval: p.message_expiry_s,
        topic_alias: None,
        response_topic: p.response_topic.as_deref().map(str::to_owned),
        correlation_data: p.correlation_data.clone(),
        user_properties: p
            .user
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect(),
        subscription_identifiers: Vec::new(),
        content_type: p.content_type.as_deref().map(str::to_owned),
    }
}

pub(super) fn from_v5(p: &v5bytes::v5::PublishProperties) -> Option<Box<MessageProperties>> {
    let properties = MessageProperties {
        payload_is_utf8: p.payload_format_indicator.map(|value| value == 1),
        message_expiry_s: p.message_expiry_interval,
        response_topic: p.response_topic.as_deref().map(Into::into),
        correlation_data: p.correlation_data.clone(),
        user: p
            .user_properties
            .iter()
            .map(|(k, v)| (k.as_str().into(), v.as_str().into()))
            .collect(),
        content_type: p.content_type.as_deref().map(Into::into),
    };
    (!properties.is_empty()).then(|| Box::new(properties))
}
