//! Bounds on how many peers there are, and how fast they come: those in a handshake, of whom nothing is
//! known yet, and connections, each of which holds a place until it ends.
//!
//! Invariants: a place is given back when it is dropped, and counts for the address and the user that
//! it was given to; an address or a user without places is not remembered, but for the seconds in which
//! its connects count. This module does not know sockets or packets.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Resource, getrlimit};
use tidings_bridge::journal::segments::SEALED_OPEN_MAX;
use tidings_core::codec::ReasonCode;
use tidings_core::limits::{Bucket, Limit, Rate};
use tokio::sync::OwnedSemaphorePermit;

use crate::limits::{Limits, network_of};
use crate::listener::Peer;

/// File descriptors that are not given to peers: segments of the journal that are being read, and the one that is
/// written, the state, listeners, logs. So the journal can be written whatever comes in.
const RESERVED_FILES: u64 = SEALED_OPEN_MAX as u64 + 128;

/// Addresses above which those that hold nothing are forgotten.
const SWEEP_AT: usize = 4096;

/// The places that are left.
#[derive(Clone)]
pub(crate) struct Admission(Arc<Inner>);

struct Inner {
    limits: Arc<Limits>,
    /// Sockets that may be open.
    max_open: usize,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    handshakes: usize,
    connections: usize,
    /// Places that are sockets of peers.
    open: usize,
    connects: Bucket,
    addresses: HashMap<IpAddr, OfAddress>,
    users: HashMap<Arc<str>, u32>,
    sweep_at: usize,
}

#[derive(Default)]
struct OfAddress {
    handshakes: u32,
    connections: u32,
    connects: Bucket,
}

/// What a place is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Handshake,
    Connection,
}

/// A place; given back when dropped.
pub(crate) struct Place {
    of: Arc<Inner>,
    kind: Kind,
    /// The address that it counts for.
    address: Option<IpAddr>,
    /// The user that it counts for.
    user: Option<Arc<str>>,
    is_socket: bool,
    /// One of those of its listener, if that has places of its own.
    _here: Option<OwnedSemaphorePermit>,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Place").finish_non_exhaustive()
    }
}

/// Whether there is another one; a limit of 0 is none.
fn is_full(count: u32, limit: u32) -> bool {
    limit > 0 && count >= limit
}

impl Inner {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an address is counted as; `None`: it is not.
    fn key_of(&self, address: Option<IpAddr>) -> Option<IpAddr> {
        let address = address.filter(|address| self.limits.is_limited(address))?;
        Some(network_of(address))
    }
}

impl Counts {
    fn of(&mut self, address: IpAddr, rate: Rate, now_ms: u64) -> &mut OfAddress {
        if self.addresses.len() >= self.sweep_at.max(SWEEP_AT) {
            self.addresses.retain(|_, of| {
                of.handshakes + of.connections > 0 || !of.connects.is_idle(rate, now_ms)
            });
            self.sweep_at = 2 * self.addresses.len();
        }
        self.addresses.entry(address).or_default()
    }
}

impl Admission {
    pub fn new(limits: Arc<Limits>) -> Self {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let max_open = files.saturating_sub(RESERVED_FILES).max(files / 4);
        Self(Arc::new(Inner {
            limits,
            max_open: usize::try_from(max_open).unwrap_or(usize::MAX),
            counts: Mutex::default(),
        }))
    }

    /// A place for a peer that nothing is known of but its address, if that.
    ///
    /// # Errors
    /// The limit that is reached; it was counted.
    pub fn handshake(&self, address: Option<IpAddr>) -> Result<Place, Limit> {
        if address.is_some_and(|address| self.0.limits.is_address_banned(address)) {
            return Err(Limit::Banned);
        }
        let key = self.0.key_of(address);
        let place = self.take_handshake(key);
        if let Err(limit) = &place {
            self.0.limits.hit(*limit);
            self.0.limits.offence(address);
        }
        place
    }

    fn take_handshake(&self, key: Option<IpAddr>) -> Result<Place, Limit> {
        let options = &self.0.limits.options;
        let counts = &mut *self.0.counts();
        if counts.handshakes >= options.max_handshakes as usize {
            return Err(Limit::Handshakes);
        }
        if counts.open >= self.0.max_open {
            return Err(Limit::Connections);
        }
        if let Some(key) = key {
            let of = counts.of(key, self.rate_of_address(), self.now_ms());
            if is_full(of.handshakes, options.max_handshakes_per_address) {
                return Err(Limit::HandshakesPerAddress);
            }
            of.handshakes += 1;
        }
        counts.handshakes += 1;
        counts.open += 1;
        Ok(Place {
            of: self.0.clone(),
            kind: Kind::Handshake,
            address: key,
            user: None,
            is_socket: true,
            _here: None,
        })
    }

    /// Whether a CONNECT comes slowly enough behind others to be looked at.
    ///
    /// # Errors
    /// The limit that is reached; it was counted.
    pub fn may_connect(&self, address: Option<IpAddr>) -> Result<(), Limit> {
        let limits = &self.0.limits;
        let taken = if limits.pressure.memory_is_scarce() {
            Err(Limit::Memory)
        } else {
            self.take_connect(self.0.key_of(address))
        };
        if let Err(limit) = taken {
            limits.hit(limit);
            if limit == Limit::ConnectRatePerAddress {
                limits.offence(address);
            }
        }
        taken
    }

    fn take_connect(&self, key: Option<IpAddr>) -> Result<(), Limit> {
        let now_ms = self.now_ms();
        let rate = self.rate_of_address();
        let all = Rate::new(u64::from(self.0.limits.options.connects_per_second), 1);
        if key.is_none() && all.per_second == 0 {
            return Ok(());
        }
        let counts = &mut *self.0.counts();
        if let Some(key) = key
            && !counts.of(key, rate, now_ms).connects.take(rate, now_ms)
        {
            return Err(Limit::ConnectRatePerAddress);
        }
        match counts.connects.take(all, now_ms) {
            true => Ok(()),
            false => Err(Limit::ConnectRate),
        }
    }

    /// A place for a client; one without a peer is no socket.
    ///
    /// # Errors
    /// The limit that is reached; it was counted.
    pub fn connection(&self, peer: Option<&Peer>, user: &Arc<str>) -> Result<Place, Limit> {
        let address = peer.and_then(Peer::ip);
        let here = match peer.and_then(|peer| peer.door.places.as_ref()) {
            Some(places) => places.clone().try_acquire_owned().map(Some),
            None => Ok(None),
        };
        match here {
            Ok(here) => self.connection_from(address, user, peer.is_some(), here),
            Err(_) => {
                self.0.limits.hit(Limit::ConnectionsOfListener);
                Err(Limit::ConnectionsOfListener)
            }
        }
    }

    fn connection_from(
        &self,
        address: Option<IpAddr>,
        user: &Arc<str>,
        is_socket: bool,
        here: Option<OwnedSemaphorePermit>,
    ) -> Result<Place, Limit> {
        let place = self.take_connection(address, user, is_socket, here);
        if let Err(limit) = &place {
            self.0.limits.hit(*limit);
            if *limit != Limit::Connections {
                self.0.limits.offence(address);
            }
        }
        place
    }

    fn take_connection(
        &self,
        address: Option<IpAddr>,
        user: &Arc<str>,
        is_socket: bool,
        here: Option<OwnedSemaphorePermit>,
    ) -> Result<Place, Limit> {
        let options = &self.0.limits.options;
        let key = self.0.key_of(address);
        let counts = &mut *self.0.counts();
        if counts.connections >= options.max_connections {
            return Err(Limit::Connections);
        }
        let of_user = counts.users.get(user).copied().unwrap_or(0);
        if !user.is_empty() && is_full(of_user, options.max_connections_per_user) {
            return Err(Limit::ConnectionsPerUser);
        }
        if let Some(key) = key {
            let of = counts.of(key, self.rate_of_address(), self.now_ms());
            if is_full(of.connections, options.max_connections_per_address) {
                return Err(Limit::ConnectionsPerAddress);
            }
            of.connections += 1;
        }
        let user = (!user.is_empty()).then(|| user.clone());
        if let Some(user) = &user {
            *counts.users.entry(user.clone()).or_default() += 1;
        }
        counts.connections += 1;
        counts.open += usize::from(is_socket);
        Ok(Place {
            of: self.0.clone(),
            kind: Kind::Connection,
            address: key,
            user,
            is_socket,
            _here: here,
        })
    }

    /// Peers in their handshake, and connections.
    #[cfg(test)]
    pub fn taken(&self) -> (usize, usize) {
        let counts = self.0.counts();
        (counts.handshakes, counts.connections)
    }

    fn rate_of_address(&self) -> Rate {
        let options = &self.0.limits.options;
        Rate::new(u64::from(options.connects_per_second_per_address), 1)
    }

    fn now_ms(&self) -> u64 {
        self.0.limits.clock.now().monotonic_ms
    }
}

impl Place {
    /// The place of a handshake counts for this address from now on: a proxy said who the peer is.
    ///
    /// # Errors
    /// The limit that the address has reached; it was counted, and the place counts for nobody.
    pub fn belongs_to(&mut self, address: IpAddr) -> Result<(), Limit> {
        let limits = self.of.limits.clone();
        if limits.is_address_banned(address) {
            return Err(Limit::Banned);
        }
        let key = self.of.key_of(Some(address));
        let counts = &mut *self.of.counts();
        give_back(counts, self.kind, self.address.take());
        let Some(key) = key else {
            return Ok(());
        };
        let of = counts.addresses.entry(key).or_default();
        if is_full(of.handshakes, limits.options.max_handshakes_per_address) {
            limits.hit(Limit::HandshakesPerAddress);
            return Err(Limit::HandshakesPerAddress);
        }
        of.handshakes += 1;
        self.address = Some(key);
        Ok(())
    }
}

fn give_back(counts: &mut Counts, kind: Kind, address: Option<IpAddr>) {
    let Some(of) = address.and_then(|address| counts.addresses.get_mut(&address)) else {
        return;
    };
    match kind {
        Kind::Handshake => of.handshakes -= 1,
        Kind::Connection => of.connections -= 1,
    }
    // What it spent of its connects is remembered until others need the room.
}

impl Drop for Place {
    fn drop(&mut self) {
        let counts = &mut *self.of.counts();
        match self.kind {
            Kind::Handshake => counts.handshakes -= 1,
            Kind::Connection => counts.connections -= 1,
        }
        counts.open -= usize::from(self.is_socket);
        give_back(counts, self.kind, self.address);
        if let Some(user) = &self.user
            && let Some(count) = counts.users.get_mut(user)
        {
            *count -= 1;
            if *count == 0 {
                counts.users.remove(user);
            }
        }
    }
}

/// How a client is told that it is not let in.
pub(crate) fn refusal_of(limit: Limit) -> (ReasonCode, &'static str) {
    match limit {
        Limit::Connections | Limit::ConnectionsOfListener => {
            (ReasonCode::QuotaExceeded, "too many connections")
        }
        Limit::ConnectionsPerAddress => (
            ReasonCode::QuotaExceeded,
            "too many connections from your address",
        ),
        Limit::ConnectionsPerUser => (
            ReasonCode::QuotaExceeded,
            "too many connections of this user",
        ),
        Limit::ConnectRate => (
            ReasonCode::ConnectionRateExceeded,
            "too many connect at once: try again later",
        ),
        Limit::ConnectRatePerAddress => (
            ReasonCode::ConnectionRateExceeded,
            "too many connect from your address at once: try again later",
        ),
        Limit::Memory => (ReasonCode::ServerBusy, "memory is scarce: try again later"),
        Limit::Banned => (ReasonCode::Banned, "you are banned for a while"),
        _ => (ReasonCode::QuotaExceeded, "a limit is reached"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::limits::Options;

    fn admission(change: impl FnOnce(&mut Options)) -> (Admission, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let mut options = Options::default();
        change(&mut options);
        let limits = Limits::new(options, Clock::new(), folder.path().to_owned());
        (Admission::new(Arc::new(limits)), folder)
    }

    impl Admission {
        fn connect(&self, address: Option<IpAddr>, user: &Arc<str>) -> Result<Place, Limit> {
            self.connection_from(address, user, true, None)
        }
    }

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    fn nobody() -> Arc<str> {
        "".into()
    }

    #[test]
    fn places_are_counted_by_address_and_user_and_given_back() {
        let (admission, _folder) = admission(|options| {
            options.max_connections_per_address = 2;
            options.max_connections_per_user = 1;
        });
        let (here, alice): (_, Arc<str>) = (address("192.0.2.1"), "alice".into());
        let first = admission.connect(here, &alice).unwrap();
        assert_eq!(
            admission.connect(here, &alice).unwrap_err(),
            Limit::ConnectionsPerUser
        );
        let second = admission.connect(here, &nobody()).unwrap();
        assert_eq!(
            admission.connect(here, &nobody()).unwrap_err(),
            Limit::ConnectionsPerAddress
        );
        let other = admission.connect(address("192.0.2.2"), &nobody());
        drop((first, second, other));
        assert_eq!(admission.taken(), (0, 0));
        assert!(admission.connect(here, &alice).is_ok());
        let hits = admission.0.limits.hits();
        assert_eq!(hits.of(Limit::ConnectionsPerUser), 1);
        assert_eq!(hits.of(Limit::ConnectionsPerAddress), 1);
        assert!(admission.0.counts().users.is_empty());
    }

    #[test]
    fn an_ipv6_network_is_one_address_and_unlimited_ones_are_not_counted() {
        let (admission, _folder) = admission(|options| {
            options.max_handshakes = 5;
            options.max_handshakes_per_address = 2;
            options.unlimited = vec!["127.0.0.0/8".parse().unwrap()];
        });
        let mut places = Vec::new();
        for n in 1..=2 {
            places.push(
                admission
                    .handshake(address(&format!("2001:db8::{n}")))
                    .unwrap(),
            );
        }
        let limit = admission.handshake(address("2001:db8::3")).unwrap_err();
        assert_eq!(limit, Limit::HandshakesPerAddress);
        for _ in 0..3 {
            places.push(admission.handshake(address("127.0.0.1")).unwrap());
        }
        let limit = admission.handshake(address("127.0.0.1")).unwrap_err();
        assert_eq!(limit, Limit::Handshakes);
    }

    #[test]
    fn a_place_can_go_over_to_the_address_that_a_proxy_names() {
        let (admission, _folder) = admission(|options| options.max_handshakes_per_address = 1);
        let mut one = admission.handshake(address("192.0.2.1")).unwrap();
        one.belongs_to("198.51.100.7".parse().unwrap()).unwrap();
        let mut two = admission.handshake(address("192.0.2.1")).unwrap();
        let to = "198.51.100.7".parse().unwrap();
        assert_eq!(two.belongs_to(to), Err(Limit::HandshakesPerAddress));
        drop((one, two));
        assert!(admission.handshake(address("198.51.100.7")).is_ok());
        assert_eq!(admission.taken(), (0, 0));
    }

    #[test]
    fn connects_have_a_rate_for_an_address_and_for_all() {
        let (admission, _folder) = admission(|options| {
            options.connects_per_second = 1_000_000;
            options.connects_per_second_per_address = 1;
        });
        assert_eq!(admission.may_connect(address("192.0.2.1")), Ok(()));
        let again = admission.may_connect(address("192.0.2.1"));
        assert_eq!(again, Err(Limit::ConnectRatePerAddress));
        assert_eq!(admission.may_connect(address("192.0.2.2")), Ok(()));
    }
}
