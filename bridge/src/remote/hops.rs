//! The way a message has come, in User Properties: what ends loops over several brokers.
//!
//! `tidings-hops` is the comma-separated list of brokers that have sent the message out over a
//! link, each by its origin id. It travels with the message between MQTT 5 brokers. A message that
//! has left this broker before is neither taken in nor sent out again.
//!
//! `tidings-via` stays in this broker: it names, as a hash of the address, the peer that a message
//! came from, so that no other link sends it back there (with MQTT 3.1.1 the hops do not survive
//! the way there). It is taken off before a message leaves.

use std::sync::Arc;

use tidings_core::message::MessageProperties;

use super::options::MAX_ORIGIN_BYTES;

/// User Property with the origin ids of the brokers passed.
pub(super) const HOPS: &str = "tidings-hops";
/// User Property with the [`Here::via`] of the link a message came in by.
pub(super) const VIA: &str = "tidings-via";

/// Most brokers that a message passes: more is a loop in which somebody has changed its origin id.
pub(super) const MAX_HOPS: usize = 16;

/// Most bytes of all hops: a user can write any, and a User Property has 65,535 at most.
const MAX_HOPS_BYTES: usize = MAX_HOPS * MAX_ORIGIN_BYTES;

/// Where a link stands.
#[derive(Clone, Debug)]
pub(super) struct Here {
    /// This broker, the same on all of its links.
    pub(super) origin: Arc<str>,
    /// The peer, the same for all links to it.
    pub(super) via: Arc<str>,
}

/// The message has been here, or has passed too many brokers: it goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Loop;

type Properties = Option<Box<MessageProperties>>;

impl Here {
    pub(super) fn new(origin: &str, address: &str) -> Self {
        // FNV-1a: short, and the same in every process; who is to deceive whom here?
        let hash = address
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        Self {
            origin: origin.into(),
            via: format!("{hash:016x}").into(),
        }
    }

    /// Properties of a message on its way out, with this broker added to its hops.
    pub(super) fn outward(&self, mut properties: Properties) -> Result<Properties, Loop> {
        let user = properties
            .as_ref()
            .map_or(&[][..], |properties| &properties.user);
        if user
            .iter()
            .any(|(name, value)| **name == *VIA && *value == self.via)
        {
            return Err(Loop);
        }
        let mut hops = self.foreign_hops(user)?;
        hops.push(&self.origin);
        let hops = hops.join(",").into();
        let user = &mut properties.get_or_insert_default().user;
        user.retain(|(name, _)| !matches!(&**name, HOPS | VIA));
        user.push((HOPS.into(), hops));
        Ok(properties)
    }

    /// Properties of a message on its way in, marked with the peer it came from.
    pub(super) fn inward(&self, mut properties: Properties) -> Result<Properties, Loop> {
        if let Some(properties) = &properties {
            self.foreign_hops(&properties.user)?;
        }
        let user = &mut properties.get_or_insert_default().user;
        user.retain(|(name, _)| &**name != VIA);
        user.push((VIA.into(), self.via.clone()));
        Ok(properties)
    }

    fn foreign_hops<'a>(&self, user: &'a [(Arc<str>, Arc<str>)]) -> Result<Vec<&'a str>, Loop> {
        let hops: Vec<&str> = user
            .iter()
            .filter(|(name, _)| &**name == HOPS)
            .flat_map(|(_, value)| value.split(','))
            .take(MAX_HOPS)
            .collect();
        let bytes: usize = hops.iter().map(|hop| hop.len()).sum();
        let is_too_long = hops.len() >= MAX_HOPS || bytes > MAX_HOPS_BYTES;
        if is_too_long || hops.contains(&&*self.origin) {
            return Err(Loop);
        }
        Ok(hops)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(origin: &str) -> Here {
        Here::new(origin, "tcp://peer:1883")
    }

    fn user(properties: &Properties) -> Vec<(&str, &str)> {
        let user = properties
            .as_ref()
            .map_or(&[][..], |properties| &properties.user);
        user.iter()
            .map(|(name, value)| (&**name, &**value))
            .collect()
    }

    #[test]
    fn hops_grow_and_a_message_that_left_here_before_does_not_come_back() {
        let out = here("a").outward(None).expect("a first hop");
        assert_eq!(user(&out), [(HOPS, "a")]);
        let out = here("b").outward(out).expect("a second hop");
        assert_eq!(user(&out), [(HOPS, "a,b")]);
        assert_eq!(here("a").inward(out.clone()), Err(Loop));
        assert_eq!(here("b").outward(out.clone()), Err(Loop));
        assert!(here("c").inward(out).is_ok());
    }

    #[test]
    fn a_message_is_not_sent_back_to_the_peer_it_came_from_but_on_to_others() {
        let link = here("a");
        let taken = link.inward(None).expect("no hops yet");
        assert_eq!(user(&taken), [(VIA, &*link.via)]);
        assert_eq!(link.outward(taken.clone()), Err(Loop));
        let on = Here::new("a", "tcp://other:1883")
            .outward(taken)
            .expect("another peer");
        assert_eq!(
            user(&on),
            [(HOPS, "a")],
            "what is only for this broker does not leave it"
        );
    }

    #[test]
    fn other_properties_stay_as_they_are() {
        let mut sent = MessageProperties {
            content_type: Some("t".into()),
            ..Default::default()
        };
        sent.user.push(("k".into(), "v".into()));
        let out = here("a")
            .outward(Some(Box::new(sent)))
            .expect("a first hop");
        assert_eq!(user(&out), [("k", "v"), (HOPS, "a")]);
        assert_eq!(out.and_then(|out| out.content_type).as_deref(), Some("t"));
    }

    #[test]
    fn the_way_is_bounded() {
        let mut properties = None;
        for hop in 0..MAX_HOPS {
            properties = here(&format!("b{hop}"))
                .outward(properties)
                .expect("within the bound");
        }
        assert_eq!(here("one-more").outward(properties.clone()), Err(Loop));
        assert_eq!(here("one-more").inward(properties), Err(Loop));
    }

    #[test]
    fn what_a_user_writes_as_hops_does_not_grow_longer_than_a_user_property() {
        let mut sent = MessageProperties::default();
        sent.user.push((HOPS.into(), "x".repeat(65_535).into()));
        let sent = Some(Box::new(sent));
        assert_eq!(here("a").outward(sent.clone()), Err(Loop));
        assert_eq!(here("a").inward(sent), Err(Loop));
    }
}
