//! The table of the design, row by row, and what must be refused.

use super::*;

const DAY: u64 = 24 * 60 * 60;

fn rule(pattern: &str, publish: &str, subscribe: &str) -> RuleSource {
    RuleSource {
        pattern: pattern.to_owned(),
        publish: publish.to_owned(),
        subscribe: subscribe.to_owned(),
        ..RuleSource::default()
    }
}

fn in_stream(mut rule: RuleSource, stream: &str) -> RuleSource {
    rule.stream = Some(stream.to_owned());
    rule
}

fn kept_days(mut rule: RuleSource, days: u64) -> RuleSource {
    rule.keep = Some(Keep {
        max_age_s: Some(days * DAY),
        ..Keep::default()
    });
    rule
}

fn table() -> Vec<RuleSource> {
    let chat = |pattern| {
        let rule = rule(pattern, "self(user) & member(room)", "member(room)");
        kept_days(in_stream(rule, "chat/{room}"), 365)
    };
    vec![
        chat("chat/{room}/{user}"),
        chat("chat/{room}/{user}/reply/{seq}"),
        chat("chat/{room}/{user}/edit/{seq}"),
        chat("chat/{room}/{user}/recall/{seq}"),
        chat("chat/{room}/{user}/react/{seq}"),
        rule(
            "typing/{room}/{user}",
            "self(user) & member(room)",
            "member(room)",
        ),
        rule(
            "read/{room}/{user}",
            "self(user) & member(room)",
            "member(room)",
        ),
        rule(
            "room/{room}",
            "broker",
            "member(room) | signed_in & public(room)",
        ),
        rule("room/{room}/member/{user}", "broker", "member(room)"),
        kept_days(
            in_stream(
                rule("dm/{to}/{from}", "self(from)", "self(to) | self(from)"),
                "dm/{pair(to,from)}",
            ),
            365,
        ),
        rule("user/{user}/presence", "broker", "signed_in"),
        kept_days(rule("user/{user}/inbox", "broker", "self(user)"), 30),
        rule(
            "device/{device}/command/#",
            "owner(device)",
            "self(device) | owner(device)",
        ),
        kept_days(
            rule(
                "device/{device}/#",
                "self(device)",
                "self(device) | owner(device)",
            ),
            7,
        ),
        rule("$SYS/#", "broker", "any"),
        rule("#", "any", "any"),
    ]
}

fn rules() -> Rules {
    Rules::compile(&table()).expect("the table compiles")
}

/// A world in which alice is in the lobby, which is public, and bob in the closed cellar; the
/// sensor is alice's.
struct House;

impl Membership for House {
    fn is_member(&self, user: &str, room: &str) -> bool {
        matches!((user, room), ("alice", "lobby") | ("bob", "cellar"))
    }

    fn is_moderator(&self, _user: &str, _room: &str) -> bool {
        false
    }

    fn is_public(&self, room: &str) -> bool {
        room == "lobby"
    }

    fn is_owner(&self, user: &str, device: &str) -> bool {
        (user, device) == ("alice", "sensor")
    }
}

/// Checks who of alice, bob, sensor and the anonymous may, as a word of their first letters.
fn who_may(ask: impl Fn(&Identity) -> Access) -> String {
    [
        ('a', Identity::user("alice")),
        ('b', Identity::user("bob")),
        ('s', Identity::user("sensor")),
        ('?', Identity::anonymous()),
    ]
    .iter()
    .filter(|(_, who)| ask(who).is_allowed())
    .map(|(letter, _)| letter)
    .collect()
}

#[test]
fn each_row_of_the_table_decides_as_it_says() {
    let rules = rules();
    for (topic, publish, receive, stream, kept_days) in [
        ("chat/lobby/alice", "a", "a", "chat/lobby", Some(365)),
        ("chat/lobby/bob", "", "a", "chat/lobby", Some(365)),
        ("chat/cellar/alice", "", "b", "chat/cellar", Some(365)),
        (
            "chat/lobby/alice/reply/7",
            "a",
            "a",
            "chat/lobby",
            Some(365),
        ),
        ("chat/lobby/alice/edit/7", "a", "a", "chat/lobby", Some(365)),
        (
            "chat/lobby/alice/recall/7",
            "a",
            "a",
            "chat/lobby",
            Some(365),
        ),
        (
            "chat/lobby/alice/react/7",
            "a",
            "a",
            "chat/lobby",
            Some(365),
        ),
        ("chat/lobby/bob/react/7", "", "a", "chat/lobby", Some(365)),
        ("typing/lobby/alice", "a", "a", "typing/lobby/alice", None),
        ("typing/lobby/bob", "", "a", "typing/lobby/bob", None),
        ("read/lobby/alice", "a", "a", "read/lobby/alice", None),
        ("read/cellar/alice", "", "b", "read/cellar/alice", None),
        ("room/lobby", "", "abs", "room/lobby", None),
        ("room/cellar", "", "b", "room/cellar", None),
        (
            "room/lobby/member/bob",
            "",
            "a",
            "room/lobby/member/bob",
            None,
        ),
        ("dm/alice/bob", "b", "ab", "dm/alice/bob", Some(365)),
        ("dm/bob/alice", "a", "ab", "dm/alice/bob", Some(365)),
        ("dm/bob/sensor", "s", "bs", "dm/bob/sensor", Some(365)),
        ("user/bob/presence", "", "abs", "user/bob/presence", None),
        ("user/bob/inbox", "", "b", "user/bob/inbox", Some(30)),
        (
            "device/sensor/command/led",
            "a",
            "as",
            "device/sensor/command/led",
            None,
        ),
        (
            "device/sensor/command",
            "a",
            "as",
            "device/sensor/command",
            None,
        ),
        (
            "device/sensor/temperature",
            "s",
            "as",
            "device/sensor/temperature",
            Some(7),
        ),
        (
            "device/other/temperature",
            "",
            "",
            "device/other/temperature",
            Some(7),
        ),
        ("$SYS/uptime", "", "abs?", "$SYS/uptime", None),
        ("free/for/all", "abs?", "abs?", "free/for/all", None),
        ("/", "abs?", "abs?", "/", None),
    ] {
        assert_eq!(
            who_may(|who| rules.may_publish(topic, who, &House)),
            publish,
            "{topic}"
        );
        assert_eq!(
            who_may(|who| rules.may_receive(topic, who, &House)),
            receive,
            "{topic}"
        );
        assert_eq!(rules.stream_of(topic), stream, "{topic}");
        let keep = kept_days.map(|days| Keep {
            max_age_s: Some(days * DAY),
            ..Keep::default()
        });
        let decision = rules.decide(topic);
        assert_eq!(decision.keep, keep.as_ref(), "{topic}");
        assert_eq!(decision.stream, stream, "{topic}");
        assert_eq!(rules.keep_of_stream(stream), keep.as_ref(), "{stream}");
        assert_eq!(
            who_may(|who| decision.may_publish(who, &House)),
            publish,
            "{topic}"
        );
        assert_eq!(
            who_may(|who| decision.may_receive(who, &House)),
            receive,
            "{topic}"
        );
        assert!(
            rules
                .may_publish(topic, &Identity::broker(), &House)
                .is_allowed(),
            "{topic}"
        );
        assert!(
            rules
                .may_receive(topic, &Identity::broker(), &House)
                .is_allowed(),
            "{topic}"
        );
    }
}

#[test]
fn what_no_rule_names_belongs_to_the_broker_alone() {
    let rules = rules();
    for topic in [
        "chat",
        "chat/lobby",
        "chat//alice",
        "chat/lobby/",
        "chat/lobby/alice/x",
        "dm/bob",
        "chat/lobby/alice/edit/7/x",
        "user/bob",
        "room",
        "device",
        "$other",
        "$share/g/x",
        "$replay/last/1/x",
        "$SYSTEM/x",
    ] {
        assert_eq!(rules.decide(topic).rule, None, "{topic}");
        assert_eq!(
            who_may(|who| rules.may_publish(topic, who, &OpenRooms)),
            "",
            "{topic}"
        );
        assert_eq!(
            who_may(|who| rules.may_receive(topic, who, &OpenRooms)),
            "",
            "{topic}"
        );
        assert!(
            rules
                .may_publish(topic, &Identity::broker(), &OpenRooms)
                .is_allowed()
        );
        assert_eq!(rules.stream_of(topic), topic);
    }
    assert_eq!(
        who_may(|who| Rules::default().may_subscribe("#", who, &OpenRooms)),
        ""
    );
}

#[test]
fn in_open_rooms_every_signed_in_user_is_a_member_and_nobody_is_another() {
    let rules = rules();
    assert_eq!(
        who_may(|who| rules.may_publish("chat/x/bob", who, &OpenRooms)),
        "b"
    );
    assert_eq!(
        who_may(|who| rules.may_receive("chat/x/bob", who, &OpenRooms)),
        "abs"
    );
    assert_eq!(
        who_may(|who| rules.may_publish("device/d/command/x", who, &OpenRooms)),
        "abs"
    );
    assert_eq!(
        who_may(|who| rules.may_publish("device/d/x", who, &OpenRooms)),
        ""
    );
}

#[test]
fn a_filter_is_refused_only_if_nothing_it_matches_could_be_received() {
    let rules = rules();
    for (filter, expected) in [
        ("#", "abs?"),
        ("+/+/+", "abs?"),
        ("chat/#", "abs"),
        ("chat/+/+", "abs"),
        ("chat/lobby/+", "a"),
        ("chat/lobby/#", "a"),
        ("chat/cellar/#", "b"),
        ("chat/lobby/alice", "a"),
        ("chat/lobby", ""),
        ("chat/+", ""),
        ("+/lobby", "abs?"),
        ("typing/+/alice", "abs"),
        ("room/#", "abs"),
        ("room/cellar", "b"),
        ("room/cellar/#", "b"),
        ("dm/bob/+", "abs"),
        ("dm/bob/alice", "ab"),
        ("dm/#", "abs"),
        ("user/+/presence", "abs"),
        ("user/bob/inbox", "b"),
        ("user/bob/+", "abs"),
        ("user/+/inbox", "abs"),
        ("device/sensor/#", "as"),
        ("device/sensor/command/#", "as"),
        ("device/sensor/command/x", "as"),
        ("device/other/#", ""),
        ("device/+/temperature", "abs"),
        ("$SYS/#", "abs?"),
        ("$SYS/uptime", "abs?"),
        ("$other/#", ""),
        ("free/#", "abs?"),
    ] {
        assert_eq!(
            who_may(|who| rules.may_subscribe(filter, who, &House)),
            expected,
            "{filter}"
        );
        assert!(
            rules
                .may_subscribe(filter, &Identity::broker(), &House)
                .is_allowed()
        );
    }
}

#[test]
fn a_filter_that_an_earlier_rule_decides_whole_does_not_reach_a_later_one() {
    let rules = Rules::compile(&[
        rule("a/{x}/secret", "none", "none"),
        rule("a/#", "any", "any"),
    ])
    .expect("compiles");
    let may = |filter| rules.may_subscribe(filter, &Identity::anonymous(), &OpenRooms);
    assert_eq!(may("a/b/secret"), Access::Denied);
    assert_eq!(may("a/b/+"), Access::Allowed);
    assert_eq!(may("a//secret"), Access::Allowed);
}

#[test]
fn users_named_like_wildcards_or_paths_are_nobody() {
    let rules = rules();
    for name in ["+", "#", "lobby/alice", "", "$SYS"] {
        let who = Identity::user(name);
        assert_eq!(
            rules.may_publish("chat/lobby/alice", &who, &OpenRooms),
            Access::Denied
        );
        assert_eq!(
            rules.may_publish("$SYS/x", &who, &OpenRooms),
            Access::Denied
        );
    }
    assert_eq!(Identity::user("").kind, IdentityKind::Anonymous);
}

#[test]
fn decisions_name_their_rule_and_captures() {
    let rules = rules();
    let decision = rules.decide("chat/lobby/alice/edit/7");
    assert_eq!(decision.rule, Some(RuleId(2)));
    let captures: Vec<_> = decision.captures().collect();
    assert_eq!(
        captures,
        [("room", "lobby"), ("user", "alice"), ("seq", "7")]
    );
    assert_eq!(rules.decide("chat").captures().count(), 0);
}

#[test]
fn rules_that_cannot_work_are_errors_that_name_them() {
    let any = |pattern| rule(pattern, "any", "any");
    for (bad, message) in [
        (
            any("a/+"),
            "topic rule \"a/+\": pattern: level \"+\" must be a plain name, {name}, {_} for any \
             one level, or # at the end",
        ),
        (
            rule("a/{x}", "self(y)", "any"),
            "topic rule \"a/{x}\": publish, column 6: the pattern does not capture {y}",
        ),
        (
            rule("a/{x}", "any", "any |"),
            "topic rule \"a/{x}\": subscribe, column 6: expected a condition such as any, \
             signed_in or self(user), found the end",
        ),
        (
            in_stream(any("a/{x}"), "a/{y}"),
            "topic rule \"a/{x}\": stream: the pattern does not capture {y}",
        ),
        (
            in_stream(any("a/{x}"), "a/{pair(x)}"),
            "topic rule \"a/{x}\": stream: level \"{pair(x)}\" must be a plain name, {name}, or \
             {pair(name,name)}",
        ),
        (
            any("first/{other}"),
            "topic rule \"first/{other}\": it is never used: rule \"first/{x}\" comes first and \
             matches the same topics",
        ),
        (
            any("first/b"),
            "topic rule \"first/b\": it is never used: rule \"first/{x}\" comes first and \
             matches the same topics",
        ),
        (
            kept_days(in_stream(any("second/{z}"), "s/{z}"), 2),
            "topic rule \"second/{z}\": keep differs from rule \"first/{x}\", which has the same \
             stream",
        ),
    ] {
        let first = kept_days(in_stream(any("first/{x}"), "s/{x}"), 1);
        let error = Rules::compile(&[first, bad]).expect_err(message);
        assert_eq!(error.to_string(), message);
        assert_eq!(error.index, 1);
    }
}

#[test]
fn malformed_streams_are_refused() {
    for stream in [
        "",
        "/",
        "a//b",
        "a/#",
        "+",
        "a{x}",
        "{}",
        "{pair(x,)}",
        "{pair(x,x,x)}",
        "{_}",
    ] {
        let source = in_stream(rule("a/{x}", "any", "any"), stream);
        assert!(Rules::compile(&[source]).is_err(), "{stream}");
    }
    let spaced = in_stream(rule("a/{x}/{y}", "any", "any"), "{pair(y, x)}");
    let rules = Rules::compile(&[spaced]).expect("spaces after the comma are fine");
    assert_eq!(rules.stream_of("a/2/1"), "1/2");
    assert_eq!(rules.stream_of("a/1/2"), "1/2");
}

#[test]
fn the_stream_keeps_what_any_of_its_rules_keeps() {
    let mut table = table();
    table[0].keep = None;
    let rules = Rules::compile(&table).expect("compiles");
    assert_eq!(rules.decide("chat/lobby/alice").keep, None);
    let year = Keep {
        max_age_s: Some(365 * DAY),
        ..Keep::default()
    };
    assert_eq!(rules.keep_of_stream("chat/lobby"), Some(&year));
    assert_eq!(rules.keep_of_stream("chat"), None);
    assert_eq!(
        rules.keep_of_stream("dm/bob/alice"),
        None,
        "no stream has this order"
    );
}

#[test]
fn the_streams_of_a_filter_are_few() {
    let rules = rules();
    for (filter, streams) in [
        ("chat/lobby/alice", &["chat/lobby"][..]),
        ("dm/bob/alice", &["dm/alice/bob"]),
        ("dm/bob/+", &["dm/+/+", "dm/bob/+"]),
        ("chat/#", &["chat/#", "chat/+"]),
        ("device/sensor/#", &["device/sensor/#"]),
        ("free/#", &["free/#"]),
    ] {
        assert_eq!(rules.streams_of_filter(filter), streams, "{filter}");
    }
}

#[test]
fn filters_and_topics_agree_about_access_and_streams() {
    let rules = rules();
    let names = [
        "chat", "dm", "user", "device", "room", "$SYS", "free", "lobby", "alice", "bob",
    ];
    let more = [
        "command", "presence", "inbox", "", "sensor", "member", "edit",
    ];
    let levels: Vec<&str> = names.into_iter().chain(more).collect();
    // A linear congruential sequence: enough to pick levels, and the same on every machine.
    let mut state: u64 = 7;
    let mut pick = |bound: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    let people = [
        Identity::user("alice"),
        Identity::user("bob"),
        Identity::anonymous(),
    ];
    let mut matched = 0;
    for _ in 0..50_000 {
        let count = 1 + pick(5);
        let topic: Vec<&str> = (0..count).map(|_| levels[pick(levels.len())]).collect();
        let mut filter = topic.clone();
        for level in &mut filter {
            if pick(3) == 0 {
                *level = "+";
            }
        }
        if pick(4) == 0 {
            filter.truncate(pick(count + 1));
            filter.push("#");
        }
        let (topic, filter) = (topic.join("/"), filter.join("/"));
        if topic.is_empty() || !crate::topic::matches(&filter, &topic) {
            continue;
        }
        matched += 1;
        for who in &people {
            assert!(
                rules.may_subscribe(&filter, who, &House).is_allowed()
                    || !rules.may_receive(&topic, who, &House).is_allowed(),
                "{who:?} may receive {topic} but not subscribe {filter}"
            );
        }
        let stream = rules.stream_of(&topic);
        let streams = rules.streams_of_filter(&filter);
        assert!(
            streams
                .iter()
                .any(|one| crate::topic::matches(one, &stream)),
            "{topic} of {filter} is in {stream}, not in {streams:?}"
        );
    }
    assert!(matched > 10_000);
}

/// The rules of a room where members have different rights.
fn managed() -> Rules {
    let rule = |pattern: &str, publish: &str, subscribe: &str| RuleSource {
        pattern: pattern.to_owned(),
        publish: publish.to_owned(),
        subscribe: subscribe.to_owned(),
        ..RuleSource::default()
    };
    Rules::compile(&[
        rule(
            "chat/{room}/{user}",
            "self(user) & writer(room) & paced(room)",
            "member(room)",
        ),
        rule(
            "room/{room}/member/{user}",
            "broker",
            "roster(room) | self(user)",
        ),
        rule("user/{user}/inbox", "broker", "self(user)"),
        rule("log/{_}/{room}/#", "none", "moderator(room)"),
    ])
    .expect("the table compiles")
}

/// Alice writes in the lobby, bob reads there and sees nobody else, everyone keeps a pace of 7 s.
struct Lobby;

impl Membership for Lobby {
    fn is_member(&self, user: &str, room: &str) -> bool {
        room == "lobby" && matches!(user, "alice" | "bob")
    }

    fn may_write(&self, user: &str, room: &str) -> bool {
        self.is_member(user, room) && user == "alice"
    }

    fn sees_members(&self, user: &str, room: &str) -> bool {
        self.may_write(user, room)
    }

    fn pace_s(&self, _user: &str, _room: &str) -> u32 {
        7
    }

    fn is_moderator(&self, _user: &str, _room: &str) -> bool {
        false
    }

    fn is_public(&self, _room: &str) -> bool {
        false
    }

    fn is_owner(&self, _user: &str, _device: &str) -> bool {
        false
    }
}

#[test]
fn writing_needs_more_than_membership_and_the_roster_is_not_for_everyone() {
    let rules = managed();
    let publish = |topic: &str| who_may(|who| rules.may_publish(topic, who, &Lobby));
    let receive = |topic: &str| who_may(|who| rules.may_receive(topic, who, &Lobby));
    assert_eq!(publish("chat/lobby/alice"), "a");
    assert_eq!(publish("chat/lobby/bob"), "");
    assert_eq!(receive("chat/lobby/alice"), "ab");
    assert_eq!(receive("room/lobby/member/alice"), "a");
    assert_eq!(receive("room/lobby/member/sensor"), "as");
    let decision = rules.decide("chat/lobby/alice");
    assert_eq!(decision.paced_by(), Some("lobby"));
    assert_eq!(rules.decide("user/alice/inbox").paced_by(), None);
}

#[test]
fn what_a_new_member_may_see_is_known_as_filters() {
    let rules = managed();
    assert_eq!(
        rules.filters_about_room("lobby"),
        ["chat/lobby/+", "log/+/lobby/#", "room/lobby/member/+"]
    );
}

#[test]
fn a_role_is_asked_for_by_its_name_which_is_no_capture() {
    let rule = |pattern: &str, publish: &str| RuleSource {
        pattern: pattern.to_owned(),
        publish: publish.to_owned(),
        subscribe: "any".to_owned(),
        ..RuleSource::default()
    };
    let rules = Rules::compile(&[rule("notice/{room}", "role(press) | role(admin)")]).unwrap();
    let may = |who: &Identity| {
        let access = rules.may_publish("notice/lobby", who, &OpenRooms);
        access.is_allowed()
    };
    assert!(may(
        &Identity::user("alice").with_roles(vec!["x".into(), "press".into()])
    ));
    assert!(!may(
        &Identity::user("press").with_roles(vec!["pres".into()])
    ));
    assert!(!may(&Identity::user("alice")));
    assert!(!may(&Identity::anonymous()));
    for wrong in ["role", "role()", "role(", "role(a", "role(a b)"] {
        assert!(Rules::compile(&[rule("a", wrong)]).is_err(), "{wrong}");
    }
}

#[test]
fn what_is_relayed_or_only_grows_says_so_and_has_no_history() {
    let relay = Relay {
        per_second: 2,
        expires_s: 7,
    };
    let relayed = RuleSource {
        relay: Some(relay),
        ..rule("typing/{room}/{user}", "any", "any")
    };
    let growing = RuleSource {
        grows: Some("dm/{pair(to,from)}".to_owned()),
        ..rule("dm/{to}/{from}/read", "any", "any")
    };
    let rules = Rules::compile(&[relayed.clone(), growing.clone()]).expect("rules");
    assert_eq!(rules.decide("typing/lobby/alice").relay(), Some(relay));
    assert_eq!(rules.decide("typing/lobby/alice").grows(), None);
    let read = rules.decide("dm/bob/alice/read");
    let stream = read.grows();
    assert_eq!(
        (stream.as_deref(), read.relay()),
        (Some("dm/alice/bob"), None)
    );
    assert_eq!(rules.decide("dm/bob/alice").grows(), None);

    let problem = |rule: RuleSource| Rules::compile(&[rule]).expect_err("a problem").problem;
    let both = RuleSource {
        grows: growing.grows.clone(),
        ..relayed.clone()
    };
    assert!(matches!(problem(both), RuleProblem::Grows(_)));
    for alone in [
        kept_days(relayed.clone(), 1),
        in_stream(relayed, "typing/{room}"),
    ] {
        assert_eq!(problem(alone), RuleProblem::Alone("relay"));
    }
    for alone in [
        kept_days(growing.clone(), 1),
        in_stream(growing.clone(), "x"),
    ] {
        assert_eq!(problem(alone), RuleProblem::Alone("grows"));
    }
    let unknown = RuleSource {
        grows: Some("chat/{room}".to_owned()),
        ..growing
    };
    assert!(matches!(problem(unknown), RuleProblem::Grows(_)));
}

#[test]
fn who_sees_whom_is_asked_for_the_one_who_asks() {
    struct Shy;
    impl Membership for Shy {
        fn is_member(&self, _user: &str, _room: &str) -> bool {
            false
        }
        fn is_moderator(&self, _user: &str, _room: &str) -> bool {
            false
        }
        fn is_public(&self, _room: &str) -> bool {
            false
        }
        fn is_owner(&self, _user: &str, _device: &str) -> bool {
            false
        }
        fn is_visible(&self, user: &str, other: &str) -> bool {
            (user, other) == ("bob", "alice")
        }
    }
    let presence = rule("user/{user}/presence", "broker", "visible(user)");
    let rules = Rules::compile(&[presence]).expect("a rule");
    let seen = |topic: &str| who_may(|who| rules.may_receive(topic, who, &Shy));
    assert_eq!(seen("user/alice/presence"), "b");
    assert_eq!(seen("user/bob/presence"), "");
}
