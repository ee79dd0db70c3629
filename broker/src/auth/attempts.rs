//! Failed attempts to sign in, by whom they came from or were aimed at. Only failures count, so that a
//! thousand devices behind one address may reconnect at once, and one that guesses may not.
//!
//! Invariants: a fixed number of keys is remembered, and the oldest are forgotten first; a key that
//! has used up its failures gets nothing judged until time has given one back, whatever it sends.
//! It does not know secrets.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Keys that are remembered: some megabytes, and more addresses than one attacker usually has.
const MAX_KEYS: usize = 65_536;

/// How many failures are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Failures in a row, without a pause.
    pub burst: u32,
    /// Failures that a minute gives back; 0: there is no limit at all.
    pub per_minute: u32,
}

/// Failures by address and by user name.
#[derive(Debug)]
pub struct Attempts {
    of_address: Mutex<Failures<IpAddr>>,
    of_user: Mutex<Failures<Arc<str>>>,
}

impl Attempts {
    /// None so far.
    pub fn new(of_address: Limit, of_user: Limit) -> Self {
        Self {
            of_address: Mutex::new(Failures::new(of_address)),
            of_user: Mutex::new(Failures::new(of_user)),
        }
    }

    /// Whether another attempt is judged; times are of a clock that only goes forward.
    pub fn may_try(&self, now_ms: u64, address: Option<IpAddr>, user: Option<&str>) -> bool {
        let address_may = address
            .is_none_or(|address| lock(&self.of_address).has_left(now_ms, &network_of(address)));
        address_may && user.is_none_or(|user| lock(&self.of_user).has_left(now_ms, user))
    }

    /// An attempt failed.
    pub fn failed(&self, now_ms: u64, address: Option<IpAddr>, user: Option<&str>) {
        if let Some(address) = address {
            lock(&self.of_address).add(now_ms, network_of(address));
        }
        if let Some(user) = user {
            lock(&self.of_user).add(now_ms, user.into());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whoever has one IPv6 address has all of its /64.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6) >> 64 << 64)),
        v4 => v4,
    }
}

/// Failures of one kind of key.
#[derive(Debug)]
struct Failures<K> {
    limit: Limit,
    keys: HashMap<K, Spent>,
}

/// Failures in thousandths, as they were at `at_ms`; time takes them away.
#[derive(Clone, Copy, Debug)]
struct Spent {
    millis: u64,
    at_ms: u64,
}

impl<K: Hash + Eq + Clone> Failures<K> {
    fn new(limit: Limit) -> Self {
        Self {
            limit,
            keys: HashMap::new(),
        }
    }

    fn spent_now(limit: Limit, spent: Spent, now_ms: u64) -> u64 {
        let passed_ms = now_ms.saturating_sub(spent.at_ms);
        let given_back = passed_ms.saturating_mul(u64::from(limit.per_minute)) / 60;
        spent.millis.saturating_sub(given_back)
    }

    fn has_left<Q: Hash + Eq + ?Sized>(&self, now_ms: u64, key: &Q) -> bool
    where
        K: std::borrow::Borrow<Q>,
    {
        let full = u64::from(self.limit.burst.max(1)) * 1000;
        self.limit.per_minute == 0
            || self
                .keys
                .get(key)
                .is_none_or(|spent| Self::spent_now(self.limit, *spent, now_ms) + 1000 <= full)
    }

    fn add(&mut self, now_ms: u64, key: K) {
        let limit = self.limit;
        if limit.per_minute == 0 {
            return;
        }
        if self.keys.len() >= MAX_KEYS && !self.keys.contains_key(&key) {
            self.forget(now_ms);
        }
        let spent = self.keys.entry(key).or_insert(Spent {
            millis: 0,
            at_ms: now_ms,
        });
        *spent = Spent {
            millis: Self::spent_now(limit, *spent, now_ms) + 1000,
            at_ms: now_ms,
        };
    }

    /// Makes room: what time has taken away, and if that is too little the older half.
    fn forget(&mut self, now_ms: u64) {
        let limit = self.limit;
        self.keys
            .retain(|_, spent| Self::spent_now(limit, *spent, now_ms) > 0);
        if self.keys.len() > MAX_KEYS / 2 {
            let mut times: Vec<u64> = self.keys.values().map(|spent| spent.at_ms).collect();
            let middle = times.len() / 2;
            let (_, median, _) = times.select_nth_unstable(middle);
            let median = *median;
            self.keys.retain(|_, spent| spent.at_ms > median);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit {
        burst: 3,
        per_minute: 60,
    };

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn failures_of_an_address_are_limited_and_time_gives_them_back() {
        let attempts = Attempts::new(LIMIT, Limit { burst: 99, ..LIMIT });
        let here = address("192.0.2.1");
        for n in 0..3 {
            let user = format!("u{n}");
            assert!(attempts.may_try(0, here, Some(&user)));
            attempts.failed(0, here, Some(&user));
        }
        assert!(!attempts.may_try(0, here, Some("other")));
        assert!(attempts.may_try(0, address("192.0.2.2"), Some("u0")));
        assert!(!attempts.may_try(999, here, Some("other")));
        assert!(attempts.may_try(1000, here, Some("other")));
        attempts.failed(1000, here, Some("other"));
        assert!(!attempts.may_try(1000, here, Some("other")));
        assert!(attempts.may_try(600_000, here, Some("other")));
    }

    #[test]
    fn failures_for_a_user_are_limited_wherever_they_come_from() {
        let attempts = Attempts::new(LIMIT, LIMIT);
        for n in 0..3 {
            attempts.failed(0, address(&format!("192.0.2.{n}")), Some("alice"));
        }
        assert!(!attempts.may_try(0, address("192.0.2.99"), Some("alice")));
        assert!(!attempts.may_try(0, None, Some("alice")));
        assert!(attempts.may_try(0, address("192.0.2.99"), Some("bob")));
    }

    #[test]
    fn an_ipv6_network_is_one_address_and_a_mapped_one_is_ipv4() {
        let attempts = Attempts::new(LIMIT, Limit { burst: 99, ..LIMIT });
        for n in 1..=3 {
            attempts.failed(0, address(&format!("2001:db8::{n}")), Some("a"));
        }
        assert!(!attempts.may_try(0, address("2001:db8::ffff"), Some("a")));
        assert!(attempts.may_try(0, address("2001:db8:0:1::1"), Some("a")));
        for _ in 0..3 {
            attempts.failed(0, address("::ffff:192.0.2.1"), Some("a"));
        }
        assert!(!attempts.may_try(0, address("192.0.2.1"), Some("a")));
    }

    #[test]
    fn no_limit_means_none_and_memory_is_bounded() {
        let none = Attempts::new(
            Limit {
                burst: 1,
                per_minute: 0,
            },
            Limit { burst: 1, ..LIMIT },
        );
        for n in 0..2 * MAX_KEYS as u64 {
            none.failed(n, address("192.0.2.1"), Some(&format!("u{n}")));
        }
        assert!(lock(&none.of_user).keys.len() <= MAX_KEYS);
        assert!(none.may_try(0, address("192.0.2.1"), Some("u0")));
    }
}
