//! What all shards count together: what users and rooms publish, and who is in shared subscriptions.
//!
//! Shards ask once per read of a socket, or per message of a room, and only if there is such a rate.
//! Whoever has spent nothing that time has not given back is not remembered; what there are more of than
//! fits is forgotten, to the benefit of publishers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidings_core::limits::{Flow, FlowRate, Limit, Meters};

use super::Options;

/// Users, or rooms, above which those who have spent nothing are forgotten.
const SWEEP_AT: usize = 4096;

/// The most that are remembered: some 10 MB.
const MAX_FLOWS: usize = 131_072;

/// See the module.
pub(crate) struct SharedMeters {
    users: Flows,
    rooms: Flows,
    max_groups: usize,
    max_groups_per_user: usize,
    shares: Mutex<Shares>,
}

struct Flows {
    rate: FlowRate,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    flows: HashMap<Arc<str>, Flow>,
    sweep_at: usize,
}

/// Who is in which shared subscription, with how many sessions.
#[derive(Default)]
struct Shares {
    members: HashMap<(Arc<str>, Arc<str>), usize>,
    groups: HashMap<Arc<str>, usize>,
    users: HashMap<Arc<str>, usize>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Flows {
    fn new(rate: FlowRate) -> Self {
        Self {
            rate,
            table: Mutex::default(),
        }
    }

    /// Does something with what was spent, of whoever it is.
    fn with<T>(&self, name: &str, now_ms: u64, act: impl FnOnce(&mut Flow, &FlowRate) -> T) -> T {
        let mut table = lock(&self.table);
        if table.flows.len() >= table.sweep_at.max(SWEEP_AT) {
            table
                .flows
                .retain(|_, flow| !flow.is_idle(&self.rate, now_ms));
            if table.flows.len() >= MAX_FLOWS {
                table.flows.clear();
            }
            table.sweep_at = 2 * table.flows.len();
        }
        match table.flows.get_mut(name) {
            Some(flow) => act(flow, &self.rate),
            None => {
                let mut flow = Flow::default();
                let done = act(&mut flow, &self.rate);
                if !flow.is_idle(&self.rate, now_ms) {
                    table.flows.insert(name.into(), flow);
                }
                done
            }
        }
    }
}

impl SharedMeters {
    pub fn new(options: &Options) -> Self {
        let or_all = |limit: u32| match limit {
            0 => usize::MAX,
            limit => limit as usize,
        };
        Self {
            users: Flows::new(options.user_rate),
            rooms: Flows::new(options.room_rate),
            max_groups: or_all(options.max_share_groups),
            max_groups_per_user: or_all(options.max_share_groups_per_user),
            shares: Mutex::default(),
        }
    }
}

impl Meters for SharedMeters {
    fn allowance_of_user(&self, user: &str, now_ms: u64) -> Result<u64, u64> {
        self.users
            .with(user, now_ms, |flow, rate| flow.allowance(rate, now_ms))
    }

    fn charge_user(&self, user: &str, messages: u64, bytes: u64, now_ms: u64) -> u64 {
        self.users.with(user, now_ms, |flow, rate| {
            flow.spend(rate, messages, bytes, now_ms)
        })
    }

    fn charge_room(&self, room: &str, bytes: u64, now_ms: u64) -> Result<(), u64> {
        self.rooms.with(room, now_ms, |flow, rate| {
            // One that is there in full is not overdrawn: the next one would be.
            match flow.allowance(rate, now_ms) {
                Err(wait_ms) => Err(wait_ms),
                Ok(_) => {
                    flow.spend(rate, 1, bytes, now_ms);
                    Ok(())
                }
            }
        })
    }

    fn may_share(&self, user: &str, filter: &str, more: usize) -> Result<(), Limit> {
        let shares = lock(&self.shares);
        let is_member = || {
            let key = (Arc::from(user), Arc::from(filter));
            shares.members.contains_key(&key)
        };
        let is_new = !shares.groups.contains_key(filter);
        if is_new && shares.groups.len().saturating_add(more) >= self.max_groups {
            return Err(Limit::ShareGroups);
        }
        let own = shares.users.get(user).copied().unwrap_or(0);
        if own.saturating_add(more) >= self.max_groups_per_user && !is_member() {
            return Err(Limit::ShareGroupsPerUser);
        }
        Ok(())
    }

    fn shares(&self, user: &str, filter: &str, is_member: bool) {
        let shares = &mut *lock(&self.shares);
        let (user, filter): (Arc<str>, Arc<str>) = (user.into(), filter.into());
        let key = (user.clone(), filter.clone());
        if is_member {
            let sessions = shares.members.entry(key).or_default();
            *sessions += 1;
            if *sessions == 1 {
                *shares.groups.entry(filter).or_default() += 1;
                *shares.users.entry(user).or_default() += 1;
            }
            return;
        }
        let Some(sessions) = shares.members.get_mut(&key) else {
            return;
        };
        *sessions -= 1;
        if *sessions == 0 {
            shares.members.remove(&key);
            one_less(&mut shares.groups, &filter);
            one_less(&mut shares.users, &user);
        }
    }
}

fn one_less(counts: &mut HashMap<Arc<str>, usize>, name: &str) {
    if let Some(count) = counts.get_mut(name) {
        *count -= 1;
        if *count == 0 {
            counts.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use tidings_core::limits::Rate;

    use super::*;

    fn meters(change: impl FnOnce(&mut Options)) -> SharedMeters {
        let mut options = Options::default();
        change(&mut options);
        SharedMeters::new(&options)
    }

    #[test]
    fn a_user_has_one_allowance_for_all_connections() {
        let meters = meters(|options| options.user_rate.messages = Rate::new(10, 1));
        assert_eq!(meters.allowance_of_user("alice", 0), Ok(11));
        assert_eq!(meters.charge_user("alice", 11, 0, 0), 100);
        assert_eq!(meters.allowance_of_user("alice", 0), Err(100));
        assert_eq!(meters.allowance_of_user("bob", 0), Ok(11));
        assert_eq!(meters.allowance_of_user("alice", 100), Ok(1));
    }

    #[test]
    fn a_room_takes_what_its_rate_allows_and_says_when_to_come_back() {
        let meters = meters(|options| options.room_rate.messages = Rate::new(2, 1));
        let taken = (0..60).filter(|n| meters.charge_room("lobby", 1, n * 100).is_ok());
        assert_eq!(taken.count(), 2 + 12);
        assert!(
            meters
                .charge_room("lobby", 1, 5900)
                .is_err_and(|wait| wait <= 500)
        );
        assert_eq!(meters.charge_room("cellar", 1, 5900), Ok(()));
    }

    #[test]
    fn shared_subscriptions_are_limited_for_a_user_and_for_all_and_members_may_come_again() {
        let meters = meters(|options| {
            options.max_share_groups = 3;
            options.max_share_groups_per_user = 2;
        });
        assert_eq!(meters.may_share("a", "$share/g/1", 0), Ok(()));
        meters.shares("a", "$share/g/1", true);
        assert_eq!(
            meters.may_share("a", "$share/g/2", 1),
            Err(Limit::ShareGroupsPerUser)
        );
        meters.shares("a", "$share/g/2", true);
        assert_eq!(
            meters.may_share("a", "$share/g/2", 0),
            Ok(()),
            "another session of it"
        );
        assert_eq!(meters.may_share("b", "$share/g/3", 0), Ok(()));
        meters.shares("b", "$share/g/3", true);
        assert_eq!(
            meters.may_share("c", "$share/g/4", 0),
            Err(Limit::ShareGroups)
        );
        assert_eq!(
            meters.may_share("c", "$share/g/3", 0),
            Ok(()),
            "it is there"
        );
        meters.shares("a", "$share/g/2", true);
        meters.shares("a", "$share/g/2", false);
        assert_eq!(
            meters.may_share("c", "$share/g/4", 0),
            Err(Limit::ShareGroups)
        );
        meters.shares("a", "$share/g/2", false);
        assert_eq!(meters.may_share("c", "$share/g/4", 0), Ok(()));
    }

    #[test]
    fn who_does_not_publish_takes_no_memory() {
        let meters = meters(|options| options.user_rate.messages = Rate::new(1, 1));
        for n in 0..20_000_u64 {
            meters.charge_user(&n.to_string(), 1, 0, n * 1000);
        }
        assert!(lock(&meters.users.table).flows.len() <= 2 * SWEEP_AT);
    }
}
