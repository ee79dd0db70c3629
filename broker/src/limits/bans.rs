//! Who is banned, and how they came to it: offences of an address, a client that connects again and
//! again, or a person's word.
//!
//! Invariants: a ban that is over bans nobody; what people said is on disk and counts after a restart,
//! the others are forgotten with the process; every table is bounded. Whoever took somebody else's
//! Client Identifier does not get that one banned: what a client did counts for its user.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::{self, File};
use std::hash::Hash;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tidings_core::limits::{Bucket, Rate};
use tidings_core::message::UnixMillis;
use tidings_core::shard::Now;
use tracing::{info, warn};

use super::{Options, network_of};

/// In the data directory.
const FILE: &str = "bans.json";

/// Bans at one time, and addresses or clients that are counted: some megabytes. At the limit what time
/// has taken away is forgotten, and then everything: who goes on is counted anew.
const MAX_KEYS: usize = 65_536;

/// Who is banned.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Banned {
    /// An address; of IPv6 its /64.
    Address(IpAddr),
    /// A user, on all devices.
    User(String),
    /// A Client Identifier, of one user if that is said.
    Client(String, Option<String>),
}

impl fmt::Display for Banned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "address {address}"),
            Self::User(user) => write!(f, "user {user}"),
            Self::Client(client, None) => write!(f, "client {client}"),
            Self::Client(client, Some(user)) => write!(f, "client {client} of {user}"),
        }
    }
}

/// A ban.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    /// When it began, milliseconds since 1970.
    pub since: UnixMillis,
    /// When it ends; `None`: when somebody ends it.
    pub until: Option<UnixMillis>,
    /// What for, in words.
    pub why: String,
    /// Somebody said so; else the broker did.
    pub by_hand: bool,
    /// How often it kept somebody out.
    #[serde(default)]
    pub refused: u64,
}

impl Ban {
    fn counts(&self, now: UnixMillis) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// The bans of a broker.
pub(crate) struct Bans {
    file: PathBuf,
    offences: Allowed,
    connects: Allowed,
    ban_ms: u64,
    book: Mutex<Book>,
}

/// So many within a window.
#[derive(Clone, Copy, Debug)]
struct Allowed {
    count: u64,
    window_s: u64,
}

#[derive(Default)]
struct Book {
    bans: BTreeMap<Banned, Ban>,
    offences: HashMap<IpAddr, Bucket>,
    connects: HashMap<(Arc<str>, Arc<str>), Bucket>,
}

impl Allowed {
    /// Each takes a window, and a window gives back as many as are allowed.
    fn rate(self) -> Rate {
        Rate::new(self.count, self.window_s)
    }

    /// One more; true if that is too many.
    fn is_too_many<K: Hash + Eq>(
        self,
        counted: &mut HashMap<K, Bucket>,
        key: K,
        now_ms: u64,
    ) -> bool {
        if self.count == 0 {
            return false;
        }
        let rate = self.rate();
        if counted.len() >= MAX_KEYS && !counted.contains_key(&key) {
            counted.retain(|_, bucket| !bucket.is_idle(rate, now_ms));
            if counted.len() >= MAX_KEYS {
                counted.clear();
            }
        }
        let bucket = counted.entry(key).or_default();
        bucket.spend(rate, self.window_s, now_ms);
        bucket.wait_ms(rate, now_ms) > 0
    }
}

impl Bans {
    /// With the bans that people made before. A file that cannot be read is said and left alone.
    pub fn load(options: &Options, folder: PathBuf) -> Self {
        let file = folder.join(FILE);
        let window_s = options.ban_window.as_secs().max(1);
        let allowed = |count: u32| Allowed {
            count: u64::from(count),
            window_s,
        };
        let bans = match fs::read(&file).map(|bytes| serde_json::from_slice(&bytes)) {
            Ok(Ok(list)) => Vec::<(Banned, Ban)>::into_iter(list).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Ok(Err(_)) => {
                warn!(file = %file.display(), "the bans of before cannot be read");
                BTreeMap::new()
            }
            Err(error) => {
                warn!(file = %file.display(), %error, "the bans of before cannot be read");
                BTreeMap::new()
            }
        };
        Self {
            file,
            offences: allowed(options.ban_after_offences),
            connects: allowed(options.ban_after_connects),
            ban_ms: u64::try_from(options.ban.as_millis()).unwrap_or(u64::MAX),
            book: Mutex::new(Book {
                bans,
                ..Book::default()
            }),
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An address did something that it should not.
    pub fn offence(&self, address: IpAddr, now: Now) {
        let book = &mut *self.book();
        let address = network_of(address);
        if self
            .offences
            .is_too_many(&mut book.offences, address, now.monotonic_ms)
        {
            book.offences.remove(&address);
            let why = "failed logins, protocol errors or limits reached, again and again";
            self.ban_for_a_while(book, Banned::Address(address), why, now);
        }
    }

    /// A client connects; true if it does so too often, and is banned from now on.
    pub fn connects(&self, user: &Arc<str>, client_id: &Arc<str>, now: Now) -> bool {
        let book = &mut *self.book();
        let key = (user.clone(), client_id.clone());
        let too_many = self
            .connects
            .is_too_many(&mut book.connects, key.clone(), now.monotonic_ms);
        if too_many {
            book.connects.remove(&key);
            let banned = Banned::Client(client_id.to_string(), Some(user.to_string()));
            self.ban_for_a_while(book, banned, "connects again and again", now);
        }
        too_many
    }

    fn ban_for_a_while(&self, book: &mut Book, who: Banned, why: &str, now: Now) {
        if book.bans.len() >= MAX_KEYS {
            book.bans.retain(|_, ban| ban.counts(now.unix_ms));
        }
        let is_banned = |ban: &Ban| ban.counts(now.unix_ms);
        if book.bans.len() >= MAX_KEYS || book.bans.get(&who).is_some_and(is_banned) {
            return;
        }
        info!(?who, why, seconds = self.ban_ms / 1000, "banned");
        let ban = Ban {
            since: now.unix_ms,
            until: Some(now.unix_ms.saturating_add(self.ban_ms)),
            why: why.to_owned(),
            by_hand: false,
            refused: 0,
        };
        book.bans.insert(who, ban);
    }

    /// Whether an address is banned; it is kept out then.
    pub fn refuses_address(&self, address: IpAddr, now: UnixMillis) -> bool {
        refuses(&mut self.book(), now, &Banned::Address(network_of(address)))
    }

    /// Whether a user, or one of their clients, is banned; it is kept out then.
    pub fn refuses_client(&self, user: &str, client_id: &str, now: UnixMillis) -> bool {
        let book = &mut *self.book();
        if book.bans.is_empty() {
            return false;
        }
        let (user, client) = (user.to_owned(), client_id.to_owned());
        refuses(
            book,
            now,
            &Banned::Client(client.clone(), Some(user.clone())),
        ) || refuses(book, now, &Banned::Client(client, None))
            || (!user.is_empty() && refuses(book, now, &Banned::User(user)))
    }

    /// Somebody bans somebody; `until` is when it ends.
    ///
    /// # Errors
    /// If it cannot be written: then it counts until the broker ends.
    pub fn ban(
        &self,
        who: Banned,
        until: Option<UnixMillis>,
        why: &str,
        now: UnixMillis,
    ) -> io::Result<()> {
        let who = match who {
            Banned::Address(address) => Banned::Address(network_of(address)),
            other => other,
        };
        let book = &mut *self.book();
        let ban = Ban {
            since: now,
            until,
            why: why.to_owned(),
            by_hand: true,
            refused: 0,
        };
        book.bans.insert(who, ban);
        self.save(book, now)
    }

    /// Ends a ban; false if there is none.
    ///
    /// # Errors
    /// If that cannot be written: then it counts again after a restart.
    pub fn unban(&self, who: &Banned, now: UnixMillis) -> io::Result<bool> {
        let who = match who {
            Banned::Address(address) => &Banned::Address(network_of(*address)),
            other => other,
        };
        let book = &mut *self.book();
        match book.bans.remove(who) {
            None => Ok(false),
            Some(ban) if ban.by_hand => self.save(book, now).map(|()| ban.counts(now)),
            Some(ban) => Ok(ban.counts(now)),
        }
    }

    /// All that count, in order.
    pub fn list(&self, now: UnixMillis) -> Vec<(Banned, Ban)> {
        let book = &mut *self.book();
        book.bans.retain(|_, ban| ban.counts(now));
        let bans = book.bans.iter();
        bans.map(|(who, ban)| (who.clone(), ban.clone())).collect()
    }

    /// Replaces the file; the lock is held, so that the last word is the one that is written.
    fn save(&self, book: &Book, now: UnixMillis) -> io::Result<()> {
        let by_hand = book.bans.iter();
        let by_hand: Vec<_> = by_hand
            .filter(|(_, ban)| ban.by_hand && ban.counts(now))
            .collect();
        let bytes = serde_json::to_vec_pretty(&by_hand).map_err(io::Error::other)?;
        let new = self.file.with_extension("json.new");
        let mut file = File::create(&new)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&new, &self.file)?;
        match self.file.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }
}

fn refuses(book: &mut Book, now: UnixMillis, who: &Banned) -> bool {
    match book.bans.get_mut(who) {
        Some(ban) if ban.counts(now) => {
            ban.refused += 1;
            true
        }
        Some(_) => {
            book.bans.remove(who);
            false
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(ms: u64) -> Now {
        Now {
            monotonic_ms: ms,
            unix_ms: 1_000_000 + ms,
        }
    }

    fn options() -> Options {
        Options {
            ban_after_offences: 3,
            ban_after_connects: 5,
            ban_window: Duration::from_secs(60),
            ban: Duration::from_secs(300),
            ..Options::default()
        }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_that_offends_too_often_is_banned_for_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let bans = Bans::load(&options(), folder.path().to_owned());
        let bad = address("192.0.2.1");
        for _ in 0..3 {
            bans.offence(bad, at(0));
        }
        assert!(!bans.refuses_address(bad, at(0).unix_ms));
        bans.offence(bad, at(0));
        assert!(bans.refuses_address(bad, at(0).unix_ms));
        assert!(!bans.refuses_address(address("192.0.2.2"), at(0).unix_ms));
        assert_eq!(bans.list(at(299_999).unix_ms).len(), 1);
        assert!(bans.refuses_address(bad, at(299_999).unix_ms));
        assert!(!bans.refuses_address(bad, at(300_000).unix_ms));
        assert!(bans.list(at(300_000).unix_ms).is_empty());
    }

    #[test]
    fn who_offends_seldom_is_not_banned() {
        let folder = tempfile::tempdir().unwrap();
        let bans = Bans::load(&options(), folder.path().to_owned());
        for n in 0..1000 {
            bans.offence(address("192.0.2.1"), at(n * 20_000));
        }
        assert!(bans.list(at(20_000_000).unix_ms).is_empty());
    }

    #[test]
    fn a_client_that_connects_again_and_again_is_banned_and_not_another_users() {
        let folder = tempfile::tempdir().unwrap();
        let bans = Bans::load(&options(), folder.path().to_owned());
        let (eve, phone): (Arc<str>, Arc<str>) = ("eve".into(), "phone".into());
        let banned = (0..6).map(|n| bans.connects(&eve, &phone, at(n)));
        assert_eq!(banned.filter(|banned| *banned).count(), 1);
        assert!(bans.refuses_client("eve", "phone", at(10).unix_ms));
        assert!(!bans.refuses_client("eve", "laptop", at(10).unix_ms));
        assert!(!bans.refuses_client("alice", "phone", at(10).unix_ms));
    }

    #[test]
    fn what_people_said_counts_after_a_restart_and_until_somebody_ends_it() {
        let folder = tempfile::tempdir().unwrap();
        let load = || Bans::load(&options(), folder.path().to_owned());
        let bans = load();
        let now = at(0).unix_ms;
        let eve = Banned::User("eve".to_owned());
        bans.ban(eve.clone(), None, "spam", now).unwrap();
        let net = Banned::Address(address("2001:db8::1"));
        bans.ban(net, Some(now + 1000), "", now).unwrap();
        for _ in 0..4 {
            bans.offence(address("192.0.2.1"), at(0));
        }
        let bans = load();
        assert!(bans.refuses_client("eve", "any", now));
        assert!(bans.refuses_address(address("2001:db8::ffff"), now));
        assert!(
            !bans.refuses_address(address("192.0.2.1"), now),
            "by itself"
        );
        assert!(bans.unban(&eve, now).unwrap());
        assert!(!bans.unban(&eve, now).unwrap());
        assert!(!load().refuses_client("eve", "any", now));
        assert!(load().list(now + 1000).is_empty());
    }

    #[test]
    fn memory_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let bans = Bans::load(&options(), folder.path().to_owned());
        for n in 0..3 * MAX_KEYS as u32 {
            bans.offence(IpAddr::V4(n.into()), at(0));
        }
        assert!(bans.book().offences.len() <= MAX_KEYS);
    }
}
