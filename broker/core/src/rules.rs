//! Topic rules: who may publish and receive on a topic, which stream it belongs to, and what of it
//! is kept. The rules are data, from the configuration; the first whose pattern matches decides.
//!
//! Invariants: a topic that no rule names belongs to the broker alone; a rule that begins with a
//! wildcard never reaches into `$` topics or into named spaces (first levels that another rule
//! spells out), so that a last rule `#` opens what is free and nothing else; the broker itself may
//! do everything.
//!
//! The rules do not know rooms or accounts: they ask [`Membership`]. Nor do they know sessions:
//! callers check again at delivery and at replay, because membership changes.

mod expression;
mod pattern;
mod stream;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use self::expression::{Expression, Truth};
use self::pattern::{Captures, FirstLevel, Overlap, Pattern};
use self::stream::StreamTemplate;
use crate::message::UnixMillis;

pub use self::expression::{ExpressionFault, ExpressionProblem, MAX_DEPTH};
pub use self::pattern::{MAX_CAPTURES, PatternProblem};
pub use self::stream::StreamProblem;

/// One topic rule, as written in the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleSource {
    /// Which topics: `chat/{room}/{user}`, with `{_}` for any one level and `#` at the end.
    pub pattern: String,
    /// Who may publish: an expression such as `self(user) & member(room)`.
    pub publish: String,
    /// Who may subscribe and receive: an expression.
    pub subscribe: String,
    /// The stream, such as `chat/{room}` or `dm/{pair(to,from)}`; `None`: one for each topic.
    pub stream: Option<String>,
    /// How long messages are kept as history; `None`: only as long as a session needs them.
    pub keep: Option<Keep>,
    /// Messages are of interest now or never.
    pub relay: Option<Relay>,
    /// Messages are numbers of this stream, such as `chat/{room}`; the largest is retained.
    pub grows: Option<String>,
}

/// Messages that are handed to whoever is there, at QoS 0, and never stored: not retained, not for
/// sessions that are away or slow, whatever the publisher asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relay {
    /// Messages a second of one user on one topic; some more may come at once. What is more is
    /// acknowledged and dropped.
    pub per_second: u32,
    /// Seconds that a message is true for. When no other follows, an empty one does.
    pub expires_s: u32,
}

/// How much history a stream has. What is over any of the limits goes; no limit keeps forever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// Seconds since the message was published.
    pub max_age_s: Option<u64>,
    /// Messages in a stream.
    pub max_count: Option<u64>,
    /// Bytes of the messages in a stream.
    pub max_bytes: Option<u64>,
}

/// A rule that cannot be used, by its place in the list, so that the caller can name the line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("topic rule \"{pattern}\": {problem}")]
pub struct RuleError {
    /// Place of the rule in the list given to [`Rules::compile`], from 0.
    pub index: usize,
    /// The pattern of the rule.
    pub pattern: String,
    /// What is wrong with it.
    pub problem: RuleProblem,
}

/// What is wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RuleProblem {
    /// The pattern cannot be read.
    #[error("pattern: {0}")]
    Pattern(#[source] PatternProblem),
    /// The expression for publishing cannot be read.
    #[error("publish, {0}")]
    Publish(#[source] ExpressionProblem),
    /// The expression for subscribing cannot be read.
    #[error("subscribe, {0}")]
    Subscribe(#[source] ExpressionProblem),
    /// The stream template cannot be read.
    #[error("stream: {0}")]
    Stream(#[source] StreamProblem),
    /// The template of a stream of numbers cannot be read.
    #[error("grows: {0}")]
    Grows(#[source] StreamProblem),
    /// What is relayed, or only grows, has no stream and no history.
    #[error("{0} goes without stream, keep and other such properties")]
    Alone(&'static str),
    /// An earlier rule matches every topic of this one.
    #[error("it is never used: rule \"{pattern}\" comes first and matches the same topics")]
    Unreachable {
        /// Place of the earlier rule.
        earlier: usize,
        /// Pattern of the earlier rule.
        pattern: String,
    },
    /// A stream is trimmed as a whole, so all its rules keep the same or nothing.
    #[error("keep differs from rule \"{pattern}\", which has the same stream")]
    KeepDiffers {
        /// Place of the earlier rule.
        earlier: usize,
        /// Pattern of the earlier rule.
        pattern: String,
    },
}

/// Place of a rule in the list given to [`Rules::compile`], from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub usize);

/// Whether something may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Access {
    /// It may.
    Allowed,
    /// It may not.
    Denied,
}

impl Access {
    /// True if it may be done.
    pub const fn is_allowed(self) -> bool {
        matches!(self, Self::Allowed)
    }

    const fn from_bool(allowed: bool) -> Self {
        if allowed { Self::Allowed } else { Self::Denied }
    }
}

/// Who asks, as the broker established it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The user name; empty unless [`IdentityKind::User`].
    pub user: Arc<str>,
    /// What kind of client it is.
    pub kind: IdentityKind,
    /// Names of roles that it has; `None`: none.
    pub roles: Option<Arc<Vec<Arc<str>>>>,
    /// Rooms that what it proved itself with lets it into, member or not; `None`: none.
    pub rooms: Option<Arc<Vec<Arc<str>>>>,
}

/// What kind of client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IdentityKind {
    /// A client without a user name.
    Anonymous,
    /// A signed-in user or device.
    User,
    /// The broker itself, which may do everything.
    Broker,
}

impl Identity {
    /// A client without a user name.
    pub fn anonymous() -> Self {
        Self {
            user: Arc::from(""),
            kind: IdentityKind::Anonymous,
            roles: None,
            rooms: None,
        }
    }

    /// A signed-in user or device; without a name it is anonymous.
    pub fn user(name: &str) -> Self {
        if name.is_empty() {
            return Self::anonymous();
        }
        Self {
            user: Arc::from(name),
            kind: IdentityKind::User,
            roles: None,
            rooms: None,
        }
    }

    /// The broker itself.
    pub fn broker() -> Self {
        Self {
            user: Arc::from(""),
            kind: IdentityKind::Broker,
            roles: None,
            rooms: None,
        }
    }

    /// The same, with these roles.
    #[must_use]
    pub fn with_roles(mut self, roles: Vec<Arc<str>>) -> Self {
        self.roles = (!roles.is_empty()).then(|| Arc::new(roles));
        self
    }

    /// The same, let into these rooms.
    #[must_use]
    pub fn with_rooms(mut self, rooms: Vec<Arc<str>>) -> Self {
        self.rooms = (!rooms.is_empty()).then(|| Arc::new(rooms));
        self
    }

    /// Whether what it proved itself with names the room.
    pub fn is_let_into(&self, room: &str) -> bool {
        let rooms = self.rooms.iter().flat_map(|rooms| rooms.iter());
        rooms.into_iter().any(|named| **named == *room)
    }

    /// Whether it has the role.
    pub fn has_role(&self, role: &str) -> bool {
        let roles = self.roles.iter().flat_map(|roles| roles.iter());
        roles.into_iter().any(|has| **has == *role)
    }
}

/// What the rules ask about rooms and devices. `user` is always a signed-in user.
pub trait Membership {
    /// `member(room)`: the user is in the room now.
    fn is_member(&self, user: &str, room: &str) -> bool;

    /// `writer(room)`: the user may write in the room now.
    fn may_write(&self, user: &str, room: &str) -> bool {
        self.is_member(user, room)
    }

    /// `member(room)` and `writer(room)` of who is no member, and whom a token lets into the room: whether
    /// the room admits them, and to write.
    fn admits(&self, _user: &str, _room: &str, _to_write: bool) -> bool {
        false
    }

    /// `roster(room)`: the user sees who else is in the room.
    fn sees_members(&self, user: &str, room: &str) -> bool {
        self.is_member(user, room)
    }

    /// `paced(room)`: seconds between two messages of the user in the room; 0: none.
    fn pace_s(&self, _user: &str, _room: &str) -> u32 {
        0
    }

    /// When the user may write again in a room with a pace; `None`: now.
    fn next_turn(&self, _user: &str, _room: &str, _now: UnixMillis) -> Option<UnixMillis> {
        None
    }

    /// The user wrote in a room with a pace.
    fn took_turn(&self, _user: &str, _room: &str, _now: UnixMillis) {}

    /// `moderator(room)`: the user may act on what others wrote in the room.
    fn is_moderator(&self, user: &str, room: &str) -> bool;

    /// `public(room)`: the room shows itself to those who are not in it.
    fn is_public(&self, room: &str) -> bool;

    /// `owner(device)`: the device is the user's.
    fn is_owner(&self, user: &str, device: &str) -> bool;

    /// `visible(user)`: who asks may see whether the other one is there.
    fn is_visible(&self, _user: &str, _other: &str) -> bool {
        true
    }
}

/// Rooms without doors and devices without owners: every signed-in user is a member of every room
/// and an owner of every device, nobody is a moderator.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenRooms;

impl Membership for OpenRooms {
    fn is_member(&self, _user: &str, _room: &str) -> bool {
        true
    }

    fn is_moderator(&self, _user: &str, _room: &str) -> bool {
        false
    }

    fn is_public(&self, _room: &str) -> bool {
        true
    }

    fn is_owner(&self, _user: &str, _device: &str) -> bool {
        true
    }
}

/// The compiled topic rules. Without any rule, only the broker may do anything.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    rules: Vec<Rule>,
    /// First levels that are spelled out by some rule, sorted.
    spaces: Vec<Box<str>>,
    /// The rules of each named space, in the order of `spaces`, by their place in `rules`.
    of_space: Vec<Vec<usize>>,
    /// The rules that begin with a wildcard, by their place in `rules`.
    free: Vec<usize>,
}

#[derive(Clone, Debug)]
struct Rule {
    pattern: Pattern,
    publish: Expression,
    /// The capture that names the room whose pace a publisher keeps.
    paced_by: Option<usize>,
    /// Pattern, publish and subscribe as they were written.
    text: Box<[Box<str>; 3]>,
    subscribe: Expression,
    stream: Option<StreamTemplate>,
    keep: Option<Keep>,
    relay: Option<Relay>,
    grows: Option<StreamTemplate>,
}

/// What the rules say about one topic. It depends on the topic alone, so callers may remember it
/// for as long as the rules are the same.
#[derive(Clone, Debug)]
pub struct Decision<'a> {
    /// The rule that decides; `None`: no rule names the topic.
    pub rule: Option<RuleId>,
    /// The stream that the topic belongs to.
    pub stream: Cow<'a, str>,
    /// The history that the topic has; `None`: kept only as long as a session needs it.
    pub keep: Option<&'a Keep>,
    found: Option<Found<'a, 'a>>,
}

/// The right to receive what is published on one topic; see [`Rules::right_to_receive`].
#[derive(Debug)]
pub struct Right<'a> {
    found: Option<Found<'a, 'a>>,
}

impl Right<'_> {
    /// Whether `who` has it now.
    pub fn is_held_by(&self, who: &Identity, members: &dyn Membership) -> Access {
        may(self.found.as_ref(), |rule| &rule.subscribe, who, members)
    }
}

#[derive(Clone, Debug)]
struct Found<'r, 't> {
    rule: &'r Rule,
    captures: Captures<'t>,
}

impl Rules {
    /// Compiles the rules, in the order in which they are tried.
    ///
    /// # Errors
    /// The first rule that cannot be read, is never reached, or contradicts an earlier one.
    pub fn compile(sources: &[RuleSource]) -> Result<Self, RuleError> {
        let mut rules: Vec<Rule> = Vec::with_capacity(sources.len());
        for (index, source) in sources.iter().enumerate() {
            let fault = |problem| RuleError {
                index,
                pattern: source.pattern.clone(),
                problem,
            };
            let rule = Rule::compile(source).map_err(fault)?;
            let pattern_of = |earlier: usize| {
                sources
                    .get(earlier)
                    .map(|source| source.pattern.clone())
                    .unwrap_or_default()
            };
            if let Some(earlier) = rules
                .iter()
                .position(|one| one.pattern.covers(&rule.pattern))
            {
                let pattern = pattern_of(earlier);
                return Err(fault(RuleProblem::Unreachable { earlier, pattern }));
            }
            if let Some(earlier) = rules.iter().position(|one| one.keeps_differently(&rule)) {
                let pattern = pattern_of(earlier);
                return Err(fault(RuleProblem::KeepDiffers { earlier, pattern }));
            }
            rules.push(rule);
        }
        let mut spaces: Vec<Box<str>> = rules
            .iter()
            .filter_map(|rule| rule.pattern.named_space())
            .map(Box::from)
            .collect();
        spaces.sort_unstable();
        spaces.dedup();
        let places = |begin: &dyn Fn(&Rule) -> bool| {
            let found = rules.iter().enumerate().filter(|(_, rule)| begin(rule));
            found.map(|(place, _)| place).collect()
        };
        let named = |space: &str| places(&|rule| rule.pattern.named_space() == Some(space));
        Ok(Self {
            of_space: spaces.iter().map(|space| named(space)).collect(),
            free: places(&|rule| rule.pattern.named_space().is_none()),
            rules,
            spaces,
        })
    }

    /// What the rules say about a valid Topic Name.
    pub fn decide<'a>(&'a self, topic: &'a str) -> Decision<'a> {
        let Some((rule, found)) = self.find(topic) else {
            return Decision {
                rule: None,
                stream: Cow::Borrowed(topic),
                keep: None,
                found: None,
            };
        };
        Decision {
            rule: Some(rule),
            stream: found.stream(topic),
            keep: found.rule.keep.as_ref(),
            found: Some(found),
        }
    }

    /// Whether `who` may publish on a valid Topic Name.
    pub fn may_publish(&self, topic: &str, who: &Identity, members: &dyn Membership) -> Access {
        let found = self.find(topic).map(|(_, found)| found);
        may(found.as_ref(), |rule| &rule.publish, who, members)
    }

    /// Whether `who` may receive what is published on a valid Topic Name.
    pub fn may_receive(&self, topic: &str, who: &Identity, members: &dyn Membership) -> Access {
        self.right_to_receive(topic).is_held_by(who, members)
    }

    /// The right to receive what is published on a valid Topic Name, to be asked for many users.
    pub fn right_to_receive<'a>(&'a self, topic: &'a str) -> Right<'a> {
        Right {
            found: self.find(topic).map(|(_, found)| found),
        }
    }

    /// Whether `who` may subscribe with a valid filter (without `$share/...` or `$replay/...`).
    ///
    /// Denied only if no topic that it matches could ever be received by `who`: `chat/#` is for
    /// every signed-in user, and each delivery is checked with [`Self::may_receive`].
    pub fn may_subscribe(&self, filter: &str, who: &Identity, members: &dyn Membership) -> Access {
        if who.kind == IdentityKind::Broker {
            return Access::Allowed;
        }
        let (overlapping, _) = self.overlapping(filter);
        Access::from_bool(
            overlapping.iter().any(|found| {
                found.rule.subscribe.evaluate(&found.captures, who, members) != Truth::No
            }),
        )
    }

    /// Pattern, expression for publishing and expression for subscribing, as they were written, of the rule
    /// that decides about a topic, or is the first that topics of a filter can have.
    pub fn text_for(&self, topic_or_filter: &str) -> Option<(&str, &str, &str)> {
        let (overlapping, _) = self.overlapping(topic_or_filter);
        let [pattern, publish, subscribe] = &*overlapping.first()?.rule.text;
        Some((pattern, publish, subscribe))
    }

    /// The stream that a valid Topic Name belongs to.
    pub fn stream_of<'a>(&self, topic: &'a str) -> Cow<'a, str> {
        self.find(topic)
            .map_or(Cow::Borrowed(topic), |(_, found)| found.stream(topic))
    }

    /// Filters over stream names: every topic that the valid filter matches belongs to a stream
    /// that one of them matches, level by level: a wildcard in front also matches `$` there. With it, a
    /// reader looks at few streams and not at all.
    pub fn streams_of_filter(&self, filter: &str) -> Vec<String> {
        let (overlapping, whole) = self.overlapping(filter);
        let mut filters: Vec<String> = overlapping
            .iter()
            .map(|Found { rule, captures }| match &rule.stream {
                Some(template) => template.fill(captures),
                None => filter.to_owned(),
            })
            .collect();
        if !whole {
            // Topics that no rule names have a stream each.
            filters.push(filter.to_owned());
        }
        filters.sort_unstable();
        filters.dedup();
        filters
    }

    /// Filters for the topics of which somebody may receive more by becoming a member of `room`.
    pub fn filters_about_room(&self, room: &str) -> Vec<String> {
        let mut filters = Vec::new();
        for Rule {
            pattern, subscribe, ..
        } in &self.rules
        {
            let about = subscribe.rooms().into_iter();
            filters.extend(about.map(|capture| pattern.filter_with(capture, room)));
        }
        filters.sort_unstable();
        filters.dedup();
        filters
    }

    /// The history that a stream has, for trimming; `None`: only what sessions need.
    pub fn keep_of_stream(&self, stream: &str) -> Option<&Keep> {
        let by_template = |rule: &Rule| rule.stream.as_ref().is_some_and(|one| one.names(stream));
        let first = FirstLevel::of(stream, &self.spaces);
        for rule in &self.rules {
            if by_template(rule) {
                // Another rule of the same stream may be the one that keeps it.
                return self
                    .rules
                    .iter()
                    .filter(|rule| by_template(rule))
                    .find_map(Rule::kept);
            }
            if rule.stream.is_none() && rule.pattern.matches(stream, first).is_some() {
                return rule.kept();
            }
        }
        None
    }

    fn find<'r, 't>(&'r self, topic: &'t str) -> Option<(RuleId, Found<'r, 't>)> {
        let first = FirstLevel::of(topic, &self.spaces);
        self.rules_for(first).iter().find_map(|&place| {
            let rule = self.rules.get(place)?;
            let captures = rule.pattern.matches(topic, first)?;
            Some((RuleId(place), Found { rule, captures }))
        })
    }

    /// Places of the rules that topics with this first level can have.
    fn rules_for(&self, first: FirstLevel<'_>) -> &[usize] {
        match first.space() {
            Some(space) => self.of_space.get(space).map_or(&[], Vec::as_slice),
            None if first.is_free() => &self.free,
            None => &[],
        }
    }

    /// The rules that can decide about topics of a filter; true if no topic is left without one.
    fn overlapping<'r, 't>(&'r self, filter: &'t str) -> (Vec<Found<'r, 't>>, bool) {
        let first = FirstLevel::of(filter, &self.spaces);
        let all: Vec<usize>;
        let places = if first.is_open() {
            all = (0..self.rules.len()).collect();
            &all
        } else {
            self.rules_for(first)
        };
        let mut overlapping = Vec::new();
        for rule in places.iter().filter_map(|&place| self.rules.get(place)) {
            let (overlap, captures) = rule.pattern.overlap(filter, first, &self.spaces);
            if overlap != Overlap::None {
                overlapping.push(Found { rule, captures });
            }
            if overlap == Overlap::Whole {
                return (overlapping, true);
            }
        }
        (overlapping, false)
    }
}

impl Rule {
    fn compile(source: &RuleSource) -> Result<Self, RuleProblem> {
        let pattern = Pattern::compile(&source.pattern).map_err(RuleProblem::Pattern)?;
        let publish =
            Expression::compile(&source.publish, &pattern).map_err(RuleProblem::Publish)?;
        let subscribe =
            Expression::compile(&source.subscribe, &pattern).map_err(RuleProblem::Subscribe)?;
        let stream = source
            .stream
            .as_deref()
            .map(|template| StreamTemplate::compile(template, &pattern))
            .transpose()
            .map_err(RuleProblem::Stream)?;
        let grows = source
            .grows
            .as_deref()
            .map(|template| StreamTemplate::compile(template, &pattern))
            .transpose()
            .map_err(RuleProblem::Grows)?;
        let has_history = stream.is_some() || source.keep.is_some();
        if source.relay.is_some() && (has_history || grows.is_some()) {
            return Err(RuleProblem::Alone("relay"));
        }
        if grows.is_some() && has_history {
            return Err(RuleProblem::Alone("grows"));
        }
        let written = [&source.pattern, &source.publish, &source.subscribe];
        Ok(Self {
            text: Box::new(written.map(|text| text.as_str().into())),
            pattern,
            paced_by: publish.paced_by(),
            publish,
            subscribe,
            stream,
            keep: source.keep,
            relay: source.relay,
            grows,
        })
    }

    const fn kept(&self) -> Option<&Keep> {
        self.keep.as_ref()
    }

    fn keeps_differently(&self, other: &Self) -> bool {
        match (&self.stream, &other.stream) {
            (Some(mine), Some(theirs)) if mine.same_shape(theirs) => {
                self.keep.is_some() && other.keep.is_some() && self.keep != other.keep
            }
            _ => false,
        }
    }
}

impl<'t> Found<'_, 't> {
    fn stream(&self, topic: &'t str) -> Cow<'t, str> {
        match &self.rule.stream {
            Some(template) => Cow::Owned(template.fill(&self.captures)),
            None => Cow::Borrowed(topic),
        }
    }
}

impl Decision<'_> {
    /// Whether `who` may publish on this topic.
    pub fn may_publish(&self, who: &Identity, members: &dyn Membership) -> Access {
        may(self.found.as_ref(), |rule| &rule.publish, who, members)
    }

    /// Whether `who` may receive what is published on this topic.
    pub fn may_receive(&self, who: &Identity, members: &dyn Membership) -> Access {
        may(self.found.as_ref(), |rule| &rule.subscribe, who, members)
    }

    /// The room whose pace counts for who publishes on this topic.
    pub fn paced_by(&self) -> Option<&str> {
        let found = self.found.as_ref()?;
        found.captures.get(found.rule.paced_by?).copied().flatten()
    }

    /// How messages are relayed, if they are never stored.
    pub fn relay(&self) -> Option<Relay> {
        self.found.as_ref()?.rule.relay
    }

    /// The stream whose numbers the messages are, if only the largest counts.
    pub fn grows(&self) -> Option<String> {
        let found = self.found.as_ref()?;
        Some(found.rule.grows.as_ref()?.fill(&found.captures))
    }

    /// What the pattern's captures hold, by name, in the order of the pattern.
    pub fn captures(&self) -> impl Iterator<Item = (&str, &str)> {
        self.found.iter().flat_map(|Found { rule, captures }| {
            rule.pattern
                .names()
                .iter()
                .zip(captures)
                .filter_map(|(name, value)| Some((&**name, (*value)?)))
        })
    }
}

fn may(
    found: Option<&Found<'_, '_>>,
    right: fn(&Rule) -> &Expression,
    who: &Identity,
    members: &dyn Membership,
) -> Access {
    if who.kind == IdentityKind::Broker {
        return Access::Allowed;
    }
    Access::from_bool(found.is_some_and(|Found { rule, captures }| {
        right(rule).evaluate(captures, who, members) == Truth::Yes
    }))
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
