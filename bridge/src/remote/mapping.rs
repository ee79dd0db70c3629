//! Which topics a link carries, and how they are called on the other side.
//!
//! A map is a pattern with a prefix for each side: the local filter is `local_prefix` + `pattern`,
//! the remote one `remote_prefix` + `pattern`, and what the pattern matched is the same on both.
//!
//! Invariant of [`Routes`]: of the maps of one direction no two match the same topic, so that a
//! message is carried once.

use thiserror::Error;
use tidings_core::message::QoS;
use tidings_core::topic::{TopicError, matches, validate_filter, validate_name};

/// Which way a [`TopicMap`] carries messages, seen from this broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the peer to us.
    In,
    /// From us to the peer.
    Out,
    /// Both ways.
    Both,
}

impl Direction {
    pub(super) const fn is_in(self) -> bool {
        matches!(self, Self::In | Self::Both)
    }

    pub(super) const fn is_out(self) -> bool {
        matches!(self, Self::Out | Self::Both)
    }
}

/// A set of topics that a link carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicMap {
    /// Topic Filter of what is carried, without the prefixes.
    pub pattern: String,
    /// Which way.
    pub direction: Direction,
    /// Maximum QoS of the messages carried.
    pub qos: QoS,
    /// What stands before the pattern in this broker; often empty, else it usually ends in `/`.
    pub local_prefix: String,
    /// What stands before the pattern at the peer.
    pub remote_prefix: String,
}

/// Why a [`TopicMap`] is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MapError {
    /// A prefix is literal text.
    #[error("the prefix {0:?} must not contain + or #")]
    WildcardInPrefix(String),
    /// The pattern is not a Topic Filter.
    #[error("the pattern {filter:?} is not a topic filter: {source}")]
    Pattern {
        /// The pattern.
        filter: String,
        /// What is wrong with it.
        source: TopicError,
    },
    /// Prefix and pattern together are not a Topic Filter; mostly a `/` is missing between them.
    #[error("prefix and pattern together are not a topic filter: {filter:?}: {source}")]
    Filter {
        /// Prefix and pattern.
        filter: String,
        /// What is wrong with them.
        source: TopicError,
    },
    /// `$share/...` and `$replay/...` are not topics but ways to subscribe.
    #[error("{0:?}: a link cannot carry $share/... nor $replay/...")]
    NotATopic(String),
    /// Two maps would carry the same message.
    #[error("{first:?} and {second:?} overlap: a message that both match would be carried twice")]
    Overlap {
        /// A filter.
        first: String,
        /// Another filter of the same direction and side.
        second: String,
    },
}

impl TopicMap {
    /// The Topic Filter in this broker.
    pub fn local_filter(&self) -> String {
        format!("{}{}", self.local_prefix, self.pattern)
    }

    /// The Topic Filter at the peer.
    pub fn remote_filter(&self) -> String {
        format!("{}{}", self.remote_prefix, self.pattern)
    }

    /// Checks pattern and prefixes.
    ///
    /// # Errors
    /// Wildcards in a prefix, or something that is not a plain Topic Filter on either side.
    pub fn validate(&self) -> Result<(), MapError> {
        validate_filter(&self.pattern).map_err(|source| MapError::Pattern {
            filter: self.pattern.clone(),
            source,
        })?;
        for prefix in [&self.local_prefix, &self.remote_prefix] {
            if prefix.contains(['+', '#']) {
                return Err(MapError::WildcardInPrefix(prefix.clone()));
            }
        }
        for filter in [self.local_filter(), self.remote_filter()] {
            if ["$share/", "$replay/"]
                .iter()
                .any(|special| filter.starts_with(special))
            {
                return Err(MapError::NotATopic(filter));
            }
            if let Err(source) = validate_filter(&filter) {
                return Err(MapError::Filter { filter, source });
            }
        }
        Ok(())
    }
}

/// One direction of a [`TopicMap`], ready to be matched.
#[derive(Debug)]
pub(super) struct Route {
    /// What is subscribed where messages come from.
    pub(super) filter: String,
    /// Maximum QoS.
    pub(super) qos: QoS,
    from_prefix: String,
    to_prefix: String,
}

impl Route {
    /// The topic on the other side; `None` if it would not be a Topic Name.
    fn rename(&self, topic: &str) -> Option<String> {
        let renamed = match topic.strip_prefix(&self.from_prefix) {
            Some(rest) => format!("{}{rest}", self.to_prefix),
            // `a/#` matches `a` too, which is shorter than the prefix `a/`.
            None => self.to_prefix.strip_suffix('/')?.to_owned(),
        };
        validate_name(&renamed).is_ok().then_some(renamed)
    }
}

/// All the maps of a link.
#[derive(Debug)]
pub(super) struct Routes {
    /// From us to the peer.
    pub(super) out: Vec<Route>,
    /// From the peer to us.
    pub(super) inward: Vec<Route>,
}

impl Routes {
    /// Checks all maps, alone and together.
    pub(super) fn new(maps: &[TopicMap]) -> Result<Self, MapError> {
        let mut routes = Self {
            out: Vec::new(),
            inward: Vec::new(),
        };
        for map in maps {
            map.validate()?;
            if map.direction.is_out() {
                routes.out.push(Route {
                    filter: map.local_filter(),
                    qos: map.qos,
                    from_prefix: map.local_prefix.clone(),
                    to_prefix: map.remote_prefix.clone(),
                });
            }
            if map.direction.is_in() {
                routes.inward.push(Route {
                    filter: map.remote_filter(),
                    qos: map.qos,
                    from_prefix: map.remote_prefix.clone(),
                    to_prefix: map.local_prefix.clone(),
                });
            }
        }
        disjoint(&routes.out)?;
        disjoint(&routes.inward)?;
        Ok(routes)
    }

    /// The peer's name of a topic of ours; `None`: not carried.
    pub(super) fn outward(&self, topic: &str) -> Option<String> {
        rename(&self.out, topic)
    }

    /// Our name of a topic of the peer; `None`: not carried.
    pub(super) fn inward(&self, topic: &str) -> Option<String> {
        rename(&self.inward, topic)
    }

    /// True if what is published at the peer under this topic comes back to us.
    pub(super) fn comes_back(&self, remote_topic: &str) -> bool {
        self.inward
            .iter()
            .any(|route| matches(&route.filter, remote_topic))
    }
}

fn rename(routes: &[Route], topic: &str) -> Option<String> {
    routes
        .iter()
        .find(|route| matches(&route.filter, topic))?
        .rename(topic)
}

fn disjoint(routes: &[Route]) -> Result<(), MapError> {
    for (index, first) in routes.iter().enumerate() {
        for second in routes.iter().skip(index + 1) {
            if overlap(&first.filter, &second.filter) {
                return Err(MapError::Overlap {
                    first: first.filter.clone(),
                    second: second.filter.clone(),
                });
            }
        }
    }
    Ok(())
}

/// True if some topic matches both filters.
fn overlap(first: &str, second: &str) -> bool {
    let dollar = |filter: &str| filter.starts_with('$');
    let wild = |filter: &str| filter.starts_with(['+', '#']);
    if dollar(first) && wild(second) || dollar(second) && wild(first) {
        return false;
    }
    let (mut first, mut second) = (first.split('/'), second.split('/'));
    loop {
        match (first.next(), second.next()) {
            (None, None) | (Some("#"), _) | (_, Some("#")) => return true,
            (Some(one), Some(other)) if one == other || one == "+" || other == "+" => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pattern: &str, direction: Direction, local: &str, remote: &str) -> TopicMap {
        TopicMap {
            pattern: pattern.into(),
            direction,
            qos: QoS::AtLeastOnce,
            local_prefix: local.into(),
            remote_prefix: remote.into(),
        }
    }

    fn both(pattern: &str, local: &str, remote: &str) -> Routes {
        Routes::new(&[map(pattern, Direction::Both, local, remote)]).expect("a good map")
    }

    #[test]
    fn prefixes_are_stripped_and_added() {
        let routes = both("room/+", "here/", "site/7/");
        assert_eq!(
            routes.outward("here/room/a").as_deref(),
            Some("site/7/room/a")
        );
        assert_eq!(
            routes.inward("site/7/room/a").as_deref(),
            Some("here/room/a")
        );
        assert_eq!(routes.outward("room/a"), None);
        assert_eq!(routes.outward("here/room/a/b"), None);
        let same = both("#", "", "");
        assert_eq!(same.outward("a/b").as_deref(), Some("a/b"));
        assert_eq!(same.outward("$SYS/x"), None);
    }

    #[test]
    fn a_prefix_need_not_end_at_a_level() {
        let routes = both("door", "dev-", "x/");
        assert_eq!(routes.outward("dev-door").as_deref(), Some("x/door"));
        assert_eq!(routes.inward("x/door").as_deref(), Some("dev-door"));
    }

    #[test]
    fn the_parent_level_that_hash_matches_is_carried_if_it_has_a_name_there() {
        assert_eq!(both("#", "a/", "b/c/").outward("a").as_deref(), Some("b/c"));
        assert_eq!(both("#", "a/", "").outward("a"), None);
        assert_eq!(
            both("#", "a/", "").outward("a/"),
            None,
            "an empty name is none"
        );
    }

    #[test]
    fn patterns_and_prefixes_that_are_no_filters_are_refused() {
        let check = |pattern, local, remote| map(pattern, Direction::Out, local, remote).validate();
        assert_eq!(check("a/+", "x/", ""), Ok(()));
        for pattern in ["", "a/#/b", "a+", "$share/g", "\0"] {
            assert!(
                matches!(check(pattern, "", ""), Err(MapError::Pattern { .. })),
                "{pattern}"
            );
        }
        for prefix in ["+/", "a/#"] {
            let error = Err(MapError::WildcardInPrefix(prefix.into()));
            assert_eq!(check("a", prefix, ""), error);
            assert_eq!(check("a", "", prefix), error);
        }
        assert!(
            matches!(check("#", "", "site"), Err(MapError::Filter { .. })),
            "site#"
        );
        assert!(
            matches!(check("+/a", "site", ""), Err(MapError::Filter { .. })),
            "site+/a"
        );
        assert_eq!(
            check("g/a", "", "$share/"),
            Err(MapError::NotATopic("$share/g/a".into()))
        );
        let replay = "$replay/last/5/a";
        assert_eq!(
            check(replay, "", ""),
            Err(MapError::NotATopic(replay.into()))
        );
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let error = map("#", Direction::In, "", "site")
            .validate()
            .expect_err("site#");
        assert_eq!(
            error.to_string(),
            "prefix and pattern together are not a topic filter: \"site#\": \
             # must be alone in the last level of a filter"
        );
    }

    #[test]
    fn maps_that_would_carry_a_message_twice_are_refused() {
        use Direction::{Both, In, Out};
        let pair = |first, second| Routes::new(&[first, second]).map(|_| ());
        let overlapping = pair(map("a/+", Out, "", ""), map("+/b", Both, "", "x/"));
        assert!(matches!(overlapping, Err(MapError::Overlap { .. })));
        assert_eq!(
            pair(map("a/+", Out, "", ""), map("a/+", In, "", "")),
            Ok(())
        );
        assert_eq!(
            pair(map("a/+", Out, "", ""), map("a/+/c", Out, "", "")),
            Ok(())
        );
        assert_eq!(
            pair(map("#", Out, "", ""), map("$SYS/#", Out, "", "")),
            Ok(())
        );
        for (first, second) in [("#", "a"), ("a/#", "a"), ("a/#", "+"), ("a/b", "a/b")] {
            assert!(
                overlap(first, second) && overlap(second, first),
                "{first} {second}"
            );
        }
        for (first, second) in [("a", "b"), ("a/b", "a"), ("a/#", "b/#"), ("+", "$x")] {
            assert!(
                !overlap(first, second) && !overlap(second, first),
                "{first} {second}"
            );
        }
    }
}
