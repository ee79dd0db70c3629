//! What clients ask for: CONNECT, SUBSCRIBE and PUBLISH with the usual values filled in.

use tidings_core::codec::{
    Connect, ConnectProperties, Packet, PublishProperties, RetainHandling, SubscribeFilter,
    Version, Will, encode,
};
use tidings_core::message::QoS;

/// A CONNECT.
#[derive(Clone, Debug)]
pub struct Login {
    /// Protocol version.
    pub version: Version,
    /// Client Identifier.
    pub client_id: String,
    /// User name.
    pub user: Option<String>,
    /// Clean Start.
    pub clean_start: bool,
    /// Session Expiry Interval, seconds (MQTT 5).
    pub session_expiry_s: Option<u32>,
    /// Keep Alive, seconds.
    pub keep_alive_s: u16,
    /// Receive Maximum (MQTT 5).
    pub receive_maximum: Option<u16>,
    /// Maximum Packet Size (MQTT 5).
    pub maximum_packet_size: Option<u32>,
    /// Topic Alias Maximum (MQTT 5).
    pub topic_alias_maximum: Option<u16>,
    /// Will Message.
    pub will: Option<Post>,
    /// Will Delay Interval, seconds (MQTT 5).
    pub will_delay_s: u32,
}

impl Login {
    /// A clean MQTT 5 session that ends with its connection.
    pub fn v5(client_id: &str) -> Self {
        Self {
            version: Version::V5,
            client_id: client_id.to_owned(),
            user: None,
            clean_start: true,
            session_expiry_s: None,
            keep_alive_s: 0,
            receive_maximum: None,
            maximum_packet_size: None,
            topic_alias_maximum: None,
            will: None,
            will_delay_s: 0,
        }
    }

    /// A clean MQTT 3.1.1 session.
    pub fn v3(client_id: &str) -> Self {
        Self {
            version: Version::V311,
            ..Self::v5(client_id)
        }
    }

    /// The session goes on where it was, and stays for an hour.
    pub fn persistent(mut self) -> Self {
        self.clean_start = false;
        if self.version == Version::V5 {
            self.session_expiry_s = Some(3600);
        }
        self
    }

    /// With a user name.
    pub fn user(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        self
    }

    /// With a Receive Maximum.
    pub fn receive_maximum(mut self, maximum: u16) -> Self {
        self.receive_maximum = Some(maximum);
        self
    }

    /// With a Will Message after `delay_s` seconds.
    pub fn will(mut self, will: Post, delay_s: u32) -> Self {
        self.will = Some(will);
        self.will_delay_s = delay_s;
        self
    }

    /// The bytes of the CONNECT.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let connect = Connect {
            version: self.version,
            client_id: &self.client_id,
            clean_start: self.clean_start,
            keep_alive_s: self.keep_alive_s,
            username: self.user.as_deref(),
            password: None,
            will: self.will.as_ref().map(|will| Will {
                topic: &will.topic,
                payload: will.payload.as_bytes(),
                qos: will.qos,
                retain: will.retain,
                delay_s: self.will_delay_s,
                properties: will.properties(),
            }),
            properties: ConnectProperties {
                session_expiry_s: self.session_expiry_s,
                receive_maximum: self.receive_maximum,
                maximum_packet_size: self.maximum_packet_size,
                topic_alias_maximum: self.topic_alias_maximum,
                ..ConnectProperties::default()
            },
        };
        encode(self.version, &Packet::Connect(connect), &mut out);
        out
    }
}

/// A message to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    /// Topic Name; may be empty with an alias.
    pub topic: String,
    /// Payload.
    pub payload: String,
    /// QoS.
    pub qos: QoS,
    /// RETAIN flag.
    pub retain: bool,
    /// Message Expiry Interval, seconds (MQTT 5).
    pub expiry_s: Option<u32>,
    /// Topic Alias (MQTT 5).
    pub alias: Option<u16>,
    /// User property `cid` (MQTT 5).
    pub cid: Option<String>,
}

impl Post {
    /// QoS 0.
    pub fn new(topic: &str, payload: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            payload: payload.to_owned(),
            qos: QoS::AtMostOnce,
            retain: false,
            expiry_s: None,
            alias: None,
            cid: None,
        }
    }

    /// QoS 1.
    pub fn qos1(topic: &str, payload: &str) -> Self {
        Self {
            qos: QoS::AtLeastOnce,
            ..Self::new(topic, payload)
        }
    }

    /// QoS 2.
    pub fn qos2(topic: &str, payload: &str) -> Self {
        Self {
            qos: QoS::ExactlyOnce,
            ..Self::new(topic, payload)
        }
    }

    /// With the RETAIN flag.
    pub fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    /// With a Message Expiry Interval.
    pub fn expires(mut self, seconds: u32) -> Self {
        self.expiry_s = Some(seconds);
        self
    }

    /// With a Topic Alias.
    pub fn alias(mut self, alias: u16) -> Self {
        self.alias = Some(alias);
        self
    }

    /// With a `cid`.
    pub fn cid(mut self, cid: &str) -> Self {
        self.cid = Some(cid.to_owned());
        self
    }

    /// Its properties.
    pub fn properties(&self) -> PublishProperties<'_> {
        PublishProperties {
            message_expiry_s: self.expiry_s,
            topic_alias: self.alias,
            user: self.cid.iter().map(|cid| ("cid", &**cid)).collect(),
            ..PublishProperties::default()
        }
    }
}

/// A filter of a SUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter(pub SubscribeFilter);

impl Filter {
    /// A filter with this maximum QoS.
    pub fn new(filter: &str, qos: QoS) -> Self {
        Self(SubscribeFilter {
            filter: filter.to_owned(),
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::SendAtSubscribe,
        })
    }

    /// QoS 0.
    pub fn qos0(filter: &str) -> Self {
        Self::new(filter, QoS::AtMostOnce)
    }

    /// QoS 1.
    pub fn qos1(filter: &str) -> Self {
        Self::new(filter, QoS::AtLeastOnce)
    }

    /// QoS 2.
    pub fn qos2(filter: &str) -> Self {
        Self::new(filter, QoS::ExactlyOnce)
    }

    /// With No Local.
    pub fn no_local(mut self) -> Self {
        self.0.no_local = true;
        self
    }

    /// With Retain As Published.
    pub fn retain_as_published(mut self) -> Self {
        self.0.retain_as_published = true;
        self
    }

    /// With a Retain Handling.
    pub fn retain_handling(mut self, handling: RetainHandling) -> Self {
        self.0.retain_handling = handling;
        self
    }
}
