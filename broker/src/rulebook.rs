//! The topic rules that count now, for everyone who asks them outside of a shard. Rules can be
//! replaced while the broker runs; shards hear of it as an input.

use std::sync::{Arc, PoisonError, RwLock};

use tidings_core::rules::{Access, Identity, Membership, Rules};

/// See the module.
#[derive(Debug)]
pub(crate) struct Rulebook {
    current: RwLock<Arc<Rules>>,
}

impl Rulebook {
    /// With these rules at first.
    pub fn new(rules: Arc<Rules>) -> Self {
        Self {
            current: RwLock::new(rules),
        }
    }

    /// The rules as they are now.
    pub fn current(&self) -> Arc<Rules> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }

    /// Other rules count from now on.
    pub fn replace(&self, rules: Arc<Rules>) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    /// As [`Rules::may_receive`].
    pub fn may_receive(&self, topic: &str, who: &Identity, members: &dyn Membership) -> Access {
        self.current().may_receive(topic, who, members)
    }

    /// As [`Rules::may_publish`].
    pub fn may_publish(&self, topic: &str, who: &Identity, members: &dyn Membership) -> Access {
        self.current().may_publish(topic, who, members)
    }
}
