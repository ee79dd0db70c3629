//! What others are told, in virtual time.

use std::sync::Arc;

use super::{Presence, PresenceOptions, Shown, Standing};
use crate::shard::Now;

const GRACE: u64 = 30_000;
const INTERVAL: u64 = 5_000;
/// The wall clock when the monotonic one began.
const EPOCH: u64 = 1_795_000_000_000;

struct House {
    presence: Presence,
    at: u64,
}

impl House {
    fn new() -> Self {
        let presence = Presence::new(PresenceOptions {
            grace_ms: GRACE,
            interval_ms: INTERVAL,
        });
        Self { presence, at: 0 }
    }

    fn now(&self) -> Now {
        Now {
            monotonic_ms: self.at,
            unix_ms: EPOCH + self.at,
        }
    }

    fn comes(&mut self, user: &str, device: &str) {
        let now = self.now();
        let user: Arc<str> = user.into();
        self.presence.connected(&user, &device.into(), false, now);
    }

    fn goes(&mut self, user: &str, device: &str) {
        let now = self.now();
        self.presence.disconnected(user, device, now);
    }

    /// Everything that is told until `ms` from now: when, and what.
    fn pass(&mut self, ms: u64) -> Vec<(u64, String)> {
        let end = self.at + ms;
        let mut told = Vec::new();
        loop {
            for (user, shown) in self.presence.poll(self.now(), 10) {
                told.push((self.at, words(&user, shown)));
            }
            match self.presence.next_due() {
                Some(due) if due <= end => self.at = self.at.max(due),
                _ => break,
            }
        }
        self.at = end;
        told
    }
}

fn words(user: &str, shown: Shown) -> String {
    let Shown {
        standing,
        since,
        devices,
    } = shown;
    format!("{user} {} {} {devices}", standing.as_str(), since - EPOCH)
}

fn told(events: &[(u64, &str)]) -> Vec<(u64, String)> {
    let own = |(at, text): &(u64, &str)| (*at, (*text).to_owned());
    events.iter().map(own).collect()
}

#[test]
fn who_comes_is_online_at_once_and_offline_after_the_grace_period() {
    let mut house = House::new();
    house.at = 100;
    house.comes("alice", "phone");
    assert_eq!(house.pass(60_000), told(&[(100, "alice online 100 1")]));
    house.goes("alice", "phone");
    let end = 60_100 + GRACE;
    assert_eq!(
        house.pass(100_000),
        told(&[(end, "alice offline 60100 0")]),
        "last seen is when the device left"
    );
    assert!(house.presence.is_empty(), "nobody takes memory for ever");
}

#[test]
fn who_comes_back_within_the_grace_period_was_never_gone() {
    let mut house = House::new();
    house.comes("alice", "phone");
    assert_eq!(house.pass(10_000).len(), 1);
    for _ in 0..100 {
        house.goes("alice", "phone");
        assert_eq!(house.pass(GRACE - 1), []);
        house.comes("alice", "phone");
        assert_eq!(house.pass(1), []);
    }
    assert_eq!(house.pass(1_000_000), []);
}

#[test]
fn several_devices_are_counted_and_fewer_are_told_later() {
    let mut house = House::new();
    house.comes("alice", "phone");
    assert_eq!(house.pass(INTERVAL), told(&[(0, "alice online 0 1")]));
    house.comes("alice", "laptop");
    house.comes("alice", "tablet");
    assert_eq!(house.pass(10_000), told(&[(5_000, "alice online 0 3")]));
    house.goes("alice", "phone");
    house.goes("alice", "laptop");
    assert_eq!(
        house.pass(GRACE),
        told(&[(15_000 + GRACE, "alice online 0 1")])
    );
    house.goes("alice", "tablet");
    assert_eq!(house.pass(2 * GRACE).len(), 1);
}

#[test]
fn the_same_device_twice_is_one_device() {
    let mut house = House::new();
    house.comes("alice", "phone");
    house.comes("alice", "phone");
    assert_eq!(house.pass(INTERVAL), told(&[(0, "alice online 0 1")]));
    house.goes("alice", "laptop");
    assert_eq!(house.pass(2 * GRACE), []);
}

#[test]
fn a_storm_of_reconnects_is_at_most_one_transition_for_each_user() {
    let mut house = House::new();
    let users: Vec<String> = (0..5_000).map(|n| format!("u{n}")).collect();
    for user in &users {
        house.comes(user, "phone");
        house.comes(user, "laptop");
    }
    assert_eq!(house.pass(60_000).len(), users.len());
    for round in 0..10 {
        for user in &users {
            house.goes(user, "phone");
            house.goes(user, "laptop");
        }
        assert_eq!(house.pass(1_000), []);
        for user in &users {
            house.comes(user, "laptop");
            house.comes(user, if round % 2 == 0 { "phone" } else { "new phone" });
            if round % 2 == 0 {
                house.goes(user, "new phone");
            }
        }
        assert_eq!(house.pass(1_000), []);
    }
    assert_eq!(house.pass(1_000_000), []);
}

#[test]
fn one_user_is_told_about_once_in_the_interval() {
    let mut house = House::new();
    house.comes("alice", "phone");
    let mut told = 0;
    for n in 0..1_000 {
        let now = house.now();
        house.presence.set_away("alice", n % 2 == 0, now);
        told += house.pass(100).len();
    }
    assert!(told <= 1 + 100_000 / INTERVAL as usize, "{told}");
}

#[test]
fn away_is_of_the_user_or_of_all_devices() {
    let mut house = House::new();
    house.comes("alice", "phone");
    house.comes("alice", "laptop");
    house.pass(10_000);
    let now = house.now();
    let presence = &mut house.presence;
    assert!(presence.set_device_away("alice", "laptop", true, now));
    assert!(!presence.set_device_away("alice", "watch", true, now));
    assert!(!presence.set_device_away("bob", "phone", true, now));
    assert_eq!(house.pass(10_000), [], "the phone is in use");
    let now = house.now();
    house.presence.set_device_away("alice", "phone", true, now);
    assert_eq!(house.pass(10_000), told(&[(20_000, "alice away 20000 2")]));
    let now = house.now();
    house.presence.set_device_away("alice", "phone", false, now);
    house.presence.set_away("alice", true, now);
    assert_eq!(house.pass(10_000), [], "still away, by word");
    let now = house.now();
    house.presence.set_away("alice", false, now);
    assert_eq!(
        house.pass(10_000),
        told(&[(40_000, "alice online 40000 2")])
    );
}

#[test]
fn who_is_away_stays_so_on_another_device() {
    let mut house = House::new();
    let now = house.now();
    house
        .presence
        .connected(&"alice".into(), &"phone".into(), true, now);
    assert_eq!(house.pass(0), told(&[(0, "alice away 0 1")]));
    house.comes("alice", "laptop");
    assert_eq!(house.pass(10_000), told(&[(5_000, "alice away 0 2")]));
}

#[test]
fn a_restart_makes_nobody_flap() {
    let mut house = House::new();
    let shown = |devices| Shown {
        standing: Standing::Online,
        since: EPOCH,
        devices,
    };
    let now = house.now();
    for (user, devices) in [("alice", 1), ("bob", 2), ("carol", 1)] {
        house.presence.restore(&user.into(), shown(devices), now);
    }
    let offline = Shown::default();
    house.presence.restore(&"dave".into(), offline, now);
    assert_eq!(house.presence.len(), 3, "who is offline takes no memory");
    assert_eq!(house.pass(GRACE - 1), []);
    house.comes("alice", "phone");
    house.comes("bob", "phone");
    let mut after = Vec::new();
    for (at, text) in house.pass(1_000_000) {
        assert_eq!(at, GRACE);
        after.push(text);
    }
    after.sort();
    assert_eq!(after.len(), 2, "{after:?}");
    assert_eq!(after[1], "carol offline 0 0");
    assert_eq!(after[0], "bob online 0 1");
}

#[test]
fn what_did_not_reach_others_is_told_again() {
    let mut house = House::new();
    house.comes("alice", "phone");
    assert_eq!(house.pass(0).len(), 1);
    let now = house.now();
    house.presence.tell_again("alice", now);
    assert_eq!(
        house.pass(1_000_000),
        told(&[(INTERVAL, "alice online 0 1")])
    );
}

#[test]
fn what_did_not_reach_others_is_told_again_also_of_who_was_forgotten() {
    let mut house = House::new();
    house.comes("alice", "phone");
    house.pass(10_000);
    house.goes("alice", "phone");
    let end = 10_000 + GRACE;
    let offline = told(&[(end, "alice offline 10000 0")]);
    assert_eq!(house.pass(100_000), offline);
    assert!(house.presence.is_empty());
    let shown = Shown {
        since: EPOCH + 10_000,
        ..Shown::default()
    };
    let now = house.now();
    house.presence.untold(&"alice".into(), shown, now);
    assert_eq!(
        house.pass(10_000),
        told(&[(110_000, "alice offline 10000 0")])
    );
    assert!(house.presence.is_empty());
}

#[test]
fn a_grace_period_of_nothing_still_keeps_the_interval() {
    let presence = Presence::new(PresenceOptions {
        grace_ms: 0,
        interval_ms: INTERVAL,
    });
    let mut house = House { presence, at: 0 };
    let mut told = 0;
    for _ in 0..100 {
        house.comes("alice", "phone");
        told += house.pass(50).len();
        house.goes("alice", "phone");
        told += house.pass(50).len();
    }
    assert!(told <= 3, "{told}");
}
