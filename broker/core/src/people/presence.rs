//! Presence: whether each user is online, made from all of their connections.
//!
//! The contract: say what happens ([`Presence::connected`], [`Presence::disconnected`], ...), then
//! ask [`Presence::poll`] what others are to be told now, and [`Presence::next_due`] when to ask
//! again.
//!
//! Invariants:
//! * More is told soon, less only after the grace period: who comes back within it was never gone,
//!   however many devices were lost at once. A start of the broker is like losing all devices.
//! * Others are told about one user at most once in the interval; what was true in between is
//!   never told.
//! * Users take memory while they are connected, in their grace period, or were told about just now.
//!
//! It does not know who may see the presence of whom.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::message::UnixMillis;
use crate::shard::Now;

/// How patient presence is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PresenceOptions {
    /// How long somebody without a connection still counts as being there, milliseconds.
    pub grace_ms: u64,
    /// Between two things that others are told about one user, milliseconds.
    pub interval_ms: u64,
}

impl Default for PresenceOptions {
    fn default() -> Self {
        Self {
            grace_ms: 30_000,
            interval_ms: 5_000,
        }
    }
}

/// How somebody is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// Connected, and not away.
    Online,
    /// Connected, and away by their own word.
    Away,
    /// Not connected for longer than the grace period.
    #[default]
    Offline,
}

impl Standing {
    /// The word in topics and requests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Away => "away",
            Self::Offline => "offline",
        }
    }

    /// The standing that a word means.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Online, Self::Away, Self::Offline]
            .into_iter()
            .find(|standing| standing.as_str() == word)
    }
}

/// What others are told of one user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// How they are there.
    pub standing: Standing,
    /// Since when; of somebody offline: when they were last seen.
    pub since: UnixMillis,
    /// Connections.
    pub devices: u32,
}

/// Who may see the presence of a user; fewer are greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Visibility {
    /// Everyone who is signed in.
    #[default]
    Everyone,
    /// Who sees them in the list of members of some room.
    Rooms,
    /// Only the user.
    Nobody,
}

impl Visibility {
    /// The word in settings and requests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Everyone => "everyone",
            Self::Rooms => "rooms",
            Self::Nobody => "nobody",
        }
    }

    /// The visibility that a word means.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Everyone, Self::Rooms, Self::Nobody]
            .into_iter()
            .find(|visibility| visibility.as_str() == word)
    }
}

#[derive(Debug)]
struct Device {
    client_id: Arc<str>,
    away: bool,
}

#[derive(Debug, Default)]
struct Person {
    /// Connections that are there now.
    devices: Vec<Device>,
    /// Away by their own word, on all devices.
    away: bool,
    /// What is true, and since when.
    standing: Standing,
    since: UnixMillis,
    /// What others were told; `None`: not known.
    shown: Option<Shown>,
    told_ms: Option<u64>,
    /// Since when there is less than was told.
    less_since_ms: Option<u64>,
    /// When this person is to be looked at, as in [`Presence::due`].
    due_ms: Option<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Presence {
    options: PresenceOptions,
    people: HashMap<Arc<str>, Person>,
    due: BTreeSet<(u64, Arc<str>)>,
}

impl Presence {
    /// Nobody is there.
    pub fn new(options: PresenceOptions) -> Self {
        Self {
            options,
            ..Self::default()
        }
    }

    /// What others were told in an earlier life of the broker. The grace period begins now.
    pub fn restore(&mut self, user: &Arc<str>, shown: Shown, now: Now) {
        if shown.standing == Standing::Offline {
            return;
        }
        let person = Person {
            shown: Some(shown),
            since: now.unix_ms,
            less_since_ms: Some(now.monotonic_ms),
            ..Person::default()
        };
        self.people.insert(user.clone(), person);
        self.plan(user, now);
    }

    /// True if the user is known here, which they are from the first connection to the end.
    pub fn knows(&self, user: &str) -> bool {
        self.people.contains_key(user)
    }

    /// A device is there. `away` is what the user said for all devices, and counts if the user was
    /// not known.
    pub fn connected(&mut self, user: &Arc<str>, client_id: &Arc<str>, away: bool, now: Now) {
        let person = self.people.entry(user.clone()).or_insert_with(|| Person {
            away,
            shown: Some(Shown::default()),
            ..Person::default()
        });
        if person.devices.is_empty() {
            person.away = away;
        }
        person.devices.retain(|d| d.client_id != *client_id);
        person.devices.push(Device {
            client_id: client_id.clone(),
            away: false,
        });
        self.changed(user, now);
    }

    /// A device is gone.
    pub fn disconnected(&mut self, user: &str, client_id: &str, now: Now) {
        let Some((user, _)) = self.people.get_key_value(user) else {
            return;
        };
        let user = user.clone();
        if let Some(person) = self.people.get_mut(&user) {
            person.devices.retain(|d| *d.client_id != *client_id);
            person.devices.shrink_to_fit();
        }
        self.changed(&user, now);
    }

    /// The user is away, or back, on all devices. Nothing if they are not connected.
    pub fn set_away(&mut self, user: &str, away: bool, now: Now) {
        self.change(user, now, |person| person.away = away);
    }

    /// One device is away, or back: a user all of whose devices are away is away. False if the
    /// user has no such device.
    pub fn set_device_away(&mut self, user: &str, client_id: &str, away: bool, now: Now) -> bool {
        let mut found = false;
        self.change(user, now, |person| {
            let mut devices = person.devices.iter_mut();
            if let Some(device) = devices.find(|d| *d.client_id == *client_id) {
                device.away = away;
                found = true;
            }
        });
        found
    }

    /// What is true of a user now, told or not; `None` if they are not known here.
    pub fn now(&self, user: &str) -> Option<Shown> {
        self.people.get(user).map(Person::truth)
    }

    /// What others were to be told did not reach them.
    pub fn untold(&mut self, user: &Arc<str>, told: Shown, now: Now) {
        self.people.entry(user.clone()).or_insert_with(|| Person {
            since: told.since,
            ..Person::default()
        });
        self.tell_again(user, now);
    }

    /// Others are to be told again what they know. Nothing if the user is not known here.
    pub fn tell_again(&mut self, user: &str, now: Now) {
        self.change(user, now, |person| person.shown = None);
    }

    /// What others are to be told now, of at most `limit` users. It counts as told.
    pub fn poll(&mut self, now: Now, limit: usize) -> Vec<(Arc<str>, Shown)> {
        let mut told = Vec::new();
        while told.len() < limit
            && let Some((due_ms, _)) = self.due.first()
            && *due_ms <= now.monotonic_ms
            && let Some((_, user)) = self.due.pop_first()
        {
            if let Some(person) = self.people.get_mut(&user) {
                person.due_ms = None;
                if person.is_due(&self.options, now.monotonic_ms) {
                    let shown = person.tell(now.monotonic_ms);
                    told.push((user.clone(), shown));
                }
            }
            self.plan(&user, now);
        }
        told
    }

    /// When to ask [`Presence::poll`] again, on the monotonic clock; `None`: when something
    /// happened.
    pub fn next_due(&self) -> Option<u64> {
        self.due.first().map(|(due_ms, _)| *due_ms)
    }

    /// Users that take memory.
    pub fn len(&self) -> usize {
        self.people.len()
    }

    /// True if nobody takes memory.
    pub fn is_empty(&self) -> bool {
        self.people.is_empty()
    }

    fn change(&mut self, user: &str, now: Now, change: impl FnOnce(&mut Person)) {
        let Some((user, _)) = self.people.get_key_value(user) else {
            return;
        };
        let user = user.clone();
        if let Some(person) = self.people.get_mut(&user) {
            change(person);
        }
        self.changed(&user, now);
    }

    fn changed(&mut self, user: &Arc<str>, now: Now) {
        if let Some(person) = self.people.get_mut(user) {
            person.see(now);
        }
        self.plan(user, now);
    }

    /// Notes when the user is to be looked at next, or forgets them.
    fn plan(&mut self, user: &Arc<str>, now: Now) {
        let Some(person) = self.people.get_mut(user) else {
            return;
        };
        let due_ms = person.due_at(&self.options, now.monotonic_ms);
        if due_ms != person.due_ms {
            if let Some(old) = person.due_ms {
                self.due.remove(&(old, user.clone()));
            }
            person.due_ms = due_ms;
            if let Some(due_ms) = due_ms {
                self.due.insert((due_ms, user.clone()));
            }
        }
        if due_ms.is_none() && person.devices.is_empty() {
            self.people.remove(user);
        }
    }
}

impl Person {
    fn truth(&self) -> Shown {
        let told_before = self.shown.filter(|shown| shown.standing == self.standing);
        Shown {
            standing: self.standing,
            // Blinking in between was never told.
            since: told_before.map_or(self.since, |shown| shown.since),
            devices: u32::try_from(self.devices.len()).unwrap_or(u32::MAX),
        }
    }

    /// Something happened: what is true now, and is it less than was told?
    fn see(&mut self, now: Now) {
        let standing = if self.devices.is_empty() {
            Standing::Offline
        } else if self.away || self.devices.iter().all(|device| device.away) {
            Standing::Away
        } else {
            Standing::Online
        };
        if standing != self.standing {
            self.standing = standing;
            self.since = now.unix_ms;
        }
        self.less_since_ms = if self.is_less() {
            self.less_since_ms.or(Some(now.monotonic_ms))
        } else {
            None
        };
    }

    /// There is less than was told: it may be there again in a moment.
    fn is_less(&self) -> bool {
        let truth = self.truth();
        self.shown.is_some_and(|shown| {
            let gone = truth.standing == Standing::Offline && shown.standing != Standing::Offline;
            gone || truth.standing == shown.standing && truth.devices < shown.devices
        })
    }

    fn is_told(&self) -> bool {
        let truth = self.truth();
        self.shown
            .is_some_and(|shown| (shown.standing, shown.devices) == (truth.standing, truth.devices))
    }

    /// When others are to be told, or, if they were told everything, when this can be forgotten.
    fn due_at(&self, options: &PresenceOptions, now_ms: u64) -> Option<u64> {
        let may_tell = self
            .told_ms
            .map_or(0, |told| told.saturating_add(options.interval_ms));
        if self.is_told() {
            let is_waiting = self.devices.is_empty() && may_tell > now_ms;
            return is_waiting.then_some(may_tell);
        }
        let patient = self
            .less_since_ms
            .map_or(0, |since| since.saturating_add(options.grace_ms));
        Some(may_tell.max(patient))
    }

    fn is_due(&self, options: &PresenceOptions, now_ms: u64) -> bool {
        !self.is_told()
            && self
                .due_at(options, now_ms)
                .is_some_and(|due| due <= now_ms)
    }

    fn tell(&mut self, now_ms: u64) -> Shown {
        let truth = self.truth();
        self.since = truth.since;
        self.shown = Some(truth);
        self.told_ms = Some(now_ms);
        self.less_since_ms = None;
        truth
    }
}
