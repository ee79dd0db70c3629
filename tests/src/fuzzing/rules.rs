//! Topic rules: whatever is written in them is refused with a reason or compiled, and then says what
//! the plainest reading of its text says; and the questions that the broker asks in different places
//! (may this be received, subscribed, read from a stream?) have answers that fit each other.

use std::collections::HashMap;

use tidings_core::rules::{
    Decision, Identity, IdentityKind, Keep, Membership, OpenRooms, Relay, RuleSource, Rules,
};
use tidings_core::topic::{matches, validate_filter, validate_name};

/// More lines say nothing new, and each rule is held against each other one.
const MAX_LINES: usize = 48;

/// See the module. Lines of text: those with tabs are rules (pattern, publish, subscribe, stream,
/// then a number that keeps, relays or grows), the others are topics and filters to ask about.
pub fn rules(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let lines = || text.split('\n').take(MAX_LINES);
    let sources: Vec<RuleSource> = lines().filter_map(source).collect();
    let rules = match Rules::compile(&sources) {
        Ok(rules) => rules,
        Err(error) => {
            assert_eq!(error.pattern, sources[error.index].pattern);
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let asked = || lines().filter(|line| !line.contains('\t'));
    let topics: Vec<&str> = asked().filter(|line| validate_name(line).is_ok()).collect();
    for topic in &topics {
        let (decided, captures) = plainly_decided(&sources, topic);
        let decision = rules.decide(topic);
        let place = decision.rule.map(|rule| rule.0);
        assert_eq!(place, decided, "{topic:?} in {sources:#?}");
        check_decision(&rules, &sources, topic, &decision, &captures);
    }
    for filter in asked().filter(|line| is_plain_filter(line)) {
        check_filter(&rules, filter, &topics);
    }
    for room in ["a", "lobby"] {
        check_joining(&rules, room, &topics);
    }
}

fn is_plain_filter(text: &str) -> bool {
    let prefixed = text.starts_with("$share/") || text.starts_with("$replay");
    validate_filter(text).is_ok() && !prefixed
}

fn source(line: &str) -> Option<RuleSource> {
    let mut fields = line.split('\t');
    let mut source = RuleSource {
        pattern: fields.next()?.to_owned(),
        publish: fields.next()?.to_owned(),
        subscribe: fields.next().unwrap_or("any").to_owned(),
        stream: fields.next().filter(|s| !s.is_empty()).map(str::to_owned),
        ..RuleSource::default()
    };
    let number: Option<u64> = fields.next().and_then(|field| field.parse().ok());
    match number.map(|number| (number % 4, number / 4)) {
        None | Some((0, _)) => {}
        Some((1, count)) => {
            source.keep = Some(Keep {
                max_count: Some(count),
                ..Keep::default()
            });
        }
        Some((2, _)) => {
            source.relay = Some(Relay {
                per_second: 1,
                expires_s: 5,
            });
        }
        Some(_) => source.grows = source.stream.take(),
    }
    Some(source)
}

/// A few rooms with doors: who has the name of a room, or a longer one, is in it.
struct Village;

impl Membership for Village {
    fn is_member(&self, user: &str, room: &str) -> bool {
        user.len() >= room.len()
    }

    fn may_write(&self, user: &str, room: &str) -> bool {
        user.len() > room.len()
    }

    fn sees_members(&self, user: &str, room: &str) -> bool {
        user.len() >= room.len() && room.len().is_multiple_of(2)
    }

    fn is_moderator(&self, user: &str, room: &str) -> bool {
        user == room
    }

    fn is_public(&self, room: &str) -> bool {
        room.starts_with('a')
    }

    fn is_owner(&self, user: &str, device: &str) -> bool {
        device.starts_with(user)
    }

    fn is_visible(&self, user: &str, other: &str) -> bool {
        user != other
    }
}

/// One user, who is in one room or in none.
struct Alone<'a>(Option<&'a str>);

impl Membership for Alone<'_> {
    fn is_member(&self, _user: &str, room: &str) -> bool {
        self.0 == Some(room)
    }

    fn is_moderator(&self, _user: &str, room: &str) -> bool {
        self.0 == Some(room)
    }

    fn is_public(&self, _room: &str) -> bool {
        false
    }

    fn is_owner(&self, _user: &str, _device: &str) -> bool {
        false
    }
}

fn people() -> [Identity; 5] {
    [
        Identity::anonymous(),
        Identity::user("a"),
        Identity::user("lobby"),
        Identity::user("alice").with_roles(vec!["admin".into(), "a".into()]),
        Identity::broker(),
    ]
}

fn check_decision(
    rules: &Rules,
    sources: &[RuleSource],
    topic: &str,
    decision: &Decision<'_>,
    captures: &HashMap<&str, &str>,
) {
    let rule = decision.rule.map(|rule| &sources[rule.0]);
    let named: HashMap<&str, &str> = decision.captures().collect();
    assert_eq!(&named, captures, "{topic:?}");
    assert_eq!(validate_name(&decision.stream), Ok(()), "of {topic:?}");
    assert_eq!(rules.stream_of(topic), decision.stream);
    assert_eq!(decision.keep, rule.and_then(|rule| rule.keep.as_ref()));
    assert_eq!(decision.relay(), rule.and_then(|rule| rule.relay));
    if let Some(stream) = decision.grows() {
        assert_eq!(validate_name(&stream), Ok(()), "grows from {topic:?}");
    }
    let worlds: [&dyn Membership; 4] = [&Village, &OpenRooms, &Alone(None), &Alone(Some("a"))];
    for who in &people() {
        for members in worlds {
            let publish = decision.may_publish(who, members);
            let receive = decision.may_receive(who, members);
            assert_eq!(publish, rules.may_publish(topic, who, members));
            assert_eq!(receive, rules.may_receive(topic, who, members));
            let plainly = |expression: fn(&RuleSource) -> &String| {
                who.kind == IdentityKind::Broker
                    || rule.is_some_and(|rule| {
                        Reading::of(expression(rule)).holds(captures, who, members)
                    })
            };
            assert_eq!(
                publish.is_allowed(),
                plainly(|rule| &rule.publish),
                "{topic:?} {who:?}"
            );
            assert_eq!(
                receive.is_allowed(),
                plainly(|rule| &rule.subscribe),
                "{topic:?} {who:?}"
            );
        }
    }
}

/// Streams, and what is looked for among retained messages, are read level by level: what stands in front
/// (`$share`, `$replay`) means nothing there.
fn below(levels: &str) -> String {
    match levels.strip_prefix('$') {
        Some(rest) => format!("_{rest}"),
        None => levels.to_owned(),
    }
}

fn check_filter(rules: &Rules, filter: &str, topics: &[&str]) {
    let streams = rules.streams_of_filter(filter);
    let streams: Vec<_> = streams.iter().map(|stream| below(stream)).collect();
    for stream in &streams {
        assert_eq!(validate_filter(stream), Ok(()), "streams of {filter:?}");
    }
    for topic in topics.iter().filter(|topic| matches(filter, topic)) {
        let stream = below(&rules.stream_of(topic));
        assert!(
            streams.iter().any(|one| matches(one, &stream)),
            "{topic:?} is of {filter:?}, but its stream {stream:?} is not of {streams:?}"
        );
        for who in &people() {
            for members in [&Village as &dyn Membership, &OpenRooms] {
                let received = rules.may_receive(topic, who, members).is_allowed();
                let subscribed = rules.may_subscribe(filter, who, members).is_allowed();
                assert!(
                    subscribed || !received,
                    "{who:?} may receive {topic:?} and not subscribe {filter:?}"
                );
            }
        }
    }
}

/// Whoever may receive more by joining a room gets what is retained there: the filters name it.
fn check_joining(rules: &Rules, room: &str, topics: &[&str]) {
    let filters = rules.filters_about_room(room);
    for filter in &filters {
        assert_eq!(validate_filter(&below(filter)), Ok(()), "about {room:?}");
    }
    let who = Identity::user("alice");
    for topic in topics {
        let outside = rules.may_receive(topic, &who, &Alone(None));
        let inside = rules.may_receive(topic, &who, &Alone(Some(room)));
        if inside.is_allowed() && !outside.is_allowed() {
            assert!(
                filters.iter().any(|filter| matches(filter, topic)),
                "{topic:?} opens with {room:?}, but {filters:?} do not name it"
            );
        }
    }
}

/// The first rule whose pattern fits, and what it captures.
fn plainly_decided<'a>(
    sources: &'a [RuleSource],
    topic: &'a str,
) -> (Option<usize>, HashMap<&'a str, &'a str>) {
    fn first_level(text: &str) -> &str {
        text.split('/').next().unwrap_or_default()
    }
    let spelled_out = |level: &str| !level.starts_with('{') && level != "#";
    let space = first_level(topic);
    let is_named = sources
        .iter()
        .any(|rule| spelled_out(first_level(&rule.pattern)) && first_level(&rule.pattern) == space);
    for (place, rule) in sources.iter().enumerate() {
        let open = !spelled_out(first_level(&rule.pattern));
        if open && (is_named || space.starts_with('$')) {
            continue;
        }
        if let Some(captures) = plainly_captured(&rule.pattern, topic) {
            return (Some(place), captures);
        }
    }
    (None, HashMap::new())
}

fn plainly_captured<'a>(pattern: &'a str, topic: &'a str) -> Option<HashMap<&'a str, &'a str>> {
    let mut captures = HashMap::new();
    let mut levels = topic.split('/');
    for wanted in pattern.split('/') {
        if wanted == "#" {
            return Some(captures);
        }
        let found = levels.next()?;
        match wanted
            .strip_prefix('{')
            .and_then(|name| name.strip_suffix('}'))
        {
            Some("_") => {}
            Some(_) if found.is_empty() => return None,
            Some(name) => {
                captures.insert(name, found);
            }
            None if wanted == found => {}
            None => return None,
        }
    }
    levels.next().is_none().then_some(captures)
}

/// An expression that compiles, read word by word.
struct Reading<'a> {
    words: Vec<&'a str>,
    at: usize,
}

impl<'a> Reading<'a> {
    fn of(text: &'a str) -> Self {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let mut words = Vec::new();
        let mut rest = text.trim_start();
        while let Some(first) = rest.chars().next() {
            let end = match rest.find(|c| !is_word(c)) {
                Some(0) => first.len_utf8(),
                Some(end) => end,
                None => rest.len(),
            };
            let (word, after) = rest.split_at(end);
            words.push(word);
            rest = after.trim_start();
        }
        Self { words, at: 0 }
    }

    fn holds(
        mut self,
        captures: &HashMap<&str, &str>,
        who: &Identity,
        members: &dyn Membership,
    ) -> bool {
        let holds = self.any_of(captures, who, members);
        assert_eq!(self.at, self.words.len(), "{:?} was read whole", self.words);
        holds
    }

    fn next(&mut self) -> &'a str {
        let word = self.words.get(self.at).copied().unwrap_or_default();
        self.at += 1;
        word
    }

    fn takes(&mut self, word: &str) -> bool {
        let is_next = self.words.get(self.at) == Some(&word);
        self.at += usize::from(is_next);
        is_next
    }

    fn any_of(
        &mut self,
        captures: &HashMap<&str, &str>,
        who: &Identity,
        members: &dyn Membership,
    ) -> bool {
        let mut holds = self.all_of(captures, who, members);
        while self.takes("|") {
            holds |= self.all_of(captures, who, members);
        }
        holds
    }

    fn all_of(
        &mut self,
        captures: &HashMap<&str, &str>,
        who: &Identity,
        members: &dyn Membership,
    ) -> bool {
        let mut holds = self.one(captures, who, members);
        while self.takes("&") {
            holds &= self.one(captures, who, members);
        }
        holds
    }

    fn one(
        &mut self,
        captures: &HashMap<&str, &str>,
        who: &Identity,
        members: &dyn Membership,
    ) -> bool {
        let word = self.next();
        let is_user = who.kind == IdentityKind::User;
        match word {
            "!" => return !self.one(captures, who, members),
            "(" => {
                let holds = self.any_of(captures, who, members);
                assert!(self.takes(")"), "{:?}", self.words);
                return holds;
            }
            "any" => return true,
            "none" => return false,
            "signed_in" => return is_user,
            "anonymous" => return who.kind == IdentityKind::Anonymous,
            "broker" => return who.kind == IdentityKind::Broker,
            _ => {}
        }
        assert!(self.takes("("), "{word:?} in {:?}", self.words);
        let name = self.next();
        assert!(self.takes(")"), "{word:?} in {:?}", self.words);
        if word == "role" {
            return who.has_role(name);
        }
        let named = captures[name];
        let user = &*who.user;
        (is_user || word == "public")
            && match word {
                "self" => user == named,
                "member" => members.is_member(user, named),
                "writer" => members.may_write(user, named),
                "paced" => true,
                "roster" => members.sees_members(user, named),
                "moderator" => members.is_moderator(user, named),
                "public" => members.is_public(named),
                "owner" => members.is_owner(user, named),
                "visible" => members.is_visible(user, named),
                other => panic!("{other:?} is no condition"),
            }
    }
}
