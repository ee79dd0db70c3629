//! What every implementation of the state must do.

use tidings_core::messages::{ChangeRecord, What};
use tidings_core::state::{NEVER_EXPIRES, Phase, RetainedSum};

use super::*;

fn retained_topics(state: &dyn State, filter: &str, before: Offset) -> Vec<String> {
    let mut topics = Vec::new();
    state.for_each_retained(filter, before, &mut |retained| {
        topics.push(retained.published.message.topic.to_string());
    });
    topics.sort();
    topics
}

fn members(state: &dyn State, filter: &str) -> Option<u32> {
    state.group(filter).map(|group| group.members)
}

#[test]
fn an_empty_state_has_nothing() {
    each(|subject, _| {
        let state = subject.state();
        assert_eq!(state.applied(), Offset(0));
        assert_eq!(state.session("a"), None);
        assert_eq!(state.group("$share/g/a"), None);
        assert_eq!(state.retained_count(), 0);
        assert_eq!(state.stream_head("s"), Seq(0));
        assert_eq!(state.lowest_position(), None);
        assert!(state.due_sessions(u64::MAX, 10).is_empty());
        state.for_each_session(&mut |_, _| panic!("no session"));
        state.for_each_retained("#", Offset(u64::MAX), &mut |_| panic!("none retained"));
    });
}

#[test]
fn entries_before_applied_are_skipped() {
    each(|subject, log| {
        let first = log.append([opened("a", true), subscribed("a", "x")]);
        subject.apply(&first);
        subject.apply(&log.append([unsubscribed("a", "x")]));
        subject.state().apply(&first);
        assert_eq!(subject.state().applied(), Offset(3));
        let session = subject.state().session("a").expect("a session");
        assert!(session.subscriptions.is_empty());
    });
}

#[test]
fn a_retained_message_is_set_replaced_and_removed_by_an_empty_one() {
    each(|subject, log| {
        subject.apply(&log.append([retain("a/b", "1"), retain("a/c", "2")]));
        subject.apply(&log.append([retain("a/b", "3")]));
        let mut found = Vec::new();
        let collect = &mut |retained: &tidings_core::state::Retained| {
            let payload = retained.published.message.payload.clone();
            found.push((retained.offset, payload));
        };
        subject.state().for_each_retained("a/b", Offset(9), collect);
        assert_eq!(found, [(Offset(2), Bytes::from("3"))]);
        assert_eq!(subject.state().retained_count(), 2);
        subject.apply(&log.append([retain("a/b", ""), retain("never/there", "")]));
        assert_eq!(subject.state().retained_count(), 1);
        assert_eq!(retained_topics(subject.state(), "#", Offset(9)), ["a/c"]);
    });
}

#[test]
fn retained_messages_are_counted_for_who_published_them() {
    each(|subject, log| {
        let by = |user: &str, topic: &str, payload: &str| {
            let mut record = retain(topic, payload);
            if let Record::Published(published) = &mut record {
                Arc::make_mut(published).message.publisher.user = user.into();
            }
            record
        };
        let sum = |count, bytes| RetainedSum { count, bytes };
        subject.apply(&log.append([by("a", "x", "123"), by("a", "y", "1"), by("b", "z", "1")]));
        assert_eq!(subject.state().retained_of("a"), sum(2, 6));
        // In the place of another's.
        subject.apply(&log.append([by("b", "x", "12"), by("", "n", "1")]));
        assert_eq!(subject.state().retained_of("a"), sum(1, 2));
        assert_eq!(subject.state().retained_of("b"), sum(2, 5));
        // Whoever removes it, it was b's.
        subject.apply(&log.append([by("a", "x", "")]));
        assert_eq!(subject.state().retained_of("b"), sum(1, 2));
        assert_eq!(subject.state().retained_of(""), sum(0, 0));
        assert_eq!(subject.state().retained_count(), 3);
    });
}

#[test]
fn a_message_without_the_retain_flag_is_not_retained() {
    each(|subject, log| {
        let record = published(publish("s", 1, "a", b"1", false));
        subject.apply(&log.append([record]));
        assert_eq!(subject.state().retained_count(), 0);
    });
}

#[test]
fn retained_messages_are_found_by_every_kind_of_filter() {
    let topics = ["a", "a/b", "a/b/c", "ab", "a/x/c", "$SYS/a", "", "/", "é/b"];
    each(|subject, log| {
        subject.apply(&log.append(topics.map(|topic| retain(topic, "x"))));
        for filter in [
            "#", "+", "+/+", "a", "a/#", "a/+", "a/+/c", "a/b/#", "$SYS/#", "/#", "/", "é/+",
            "+/b", "a/b/c/d", "z/#",
        ] {
            let mut expected: Vec<_> = topics
                .into_iter()
                .filter(|topic| tidings_core::topic::matches(filter, topic))
                .map(str::to_owned)
                .collect();
            expected.sort();
            let found = retained_topics(subject.state(), filter, Offset(99));
            assert_eq!(found, expected, "{filter}");
        }
    });
}

#[test]
fn retained_messages_from_the_given_offset_on_are_not_shown() {
    each(|subject, log| {
        subject.apply(&log.append(["a", "b", "c"].map(|topic| retain(topic, "x"))));
        assert_eq!(retained_topics(subject.state(), "+", Offset(2)), ["a", "b"]);
        assert!(retained_topics(subject.state(), "c", Offset(2)).is_empty());
        assert!(retained_topics(subject.state(), "#", Offset(0)).is_empty());
    });
}

#[test]
fn more_than_one_page_of_retained_messages_and_sessions_is_shown_once_each() {
    each(|subject, log| {
        let mut expected: Vec<String> = (0..700).map(|n| format!("t/{n}")).collect();
        expected.sort();
        for part in expected.chunks(350) {
            let sessions = part.iter().map(|name| opened(name, true));
            let retained = part.iter().map(|name| retain(name, "x"));
            let batch = log.append(sessions.chain(retained));
            subject.apply(&batch);
        }
        // Some that were written before, and are gone.
        let gone: Vec<String> = expected.drain(100..350).collect();
        let ended = gone.iter().map(|name| ended(name));
        let removed = gone.iter().map(|name| retain(name, ""));
        subject.apply(&log.append(ended.chain(removed)));
        assert_eq!(retained_topics(subject.state(), "t/+", log.end), expected);
        let mut sessions = Vec::new();
        let visit = &mut |id: &Arc<str>, _: &_| sessions.push(id.to_string());
        subject.state().for_each_session(visit);
        sessions.sort();
        assert_eq!(sessions, expected);
        assert_eq!(subject.state().retained_count(), 450);
    });
}

#[test]
fn a_visitor_may_ask_the_state() {
    each(|subject, log| {
        subject.apply(&log.append([opened("a", true), retain("x", "1")]));
        let state = subject.state();
        let mut visits = 0;
        state.for_each_session(&mut |id, session| {
            assert_eq!(state.session(id).as_ref(), Some(session));
            visits += 1;
        });
        state.for_each_retained("#", Offset(9), &mut |_| {
            assert_eq!(state.retained_count(), 1);
            visits += 1;
        });
        assert_eq!(visits, 2);
    });
}

#[test]
fn each_message_moves_the_head_of_its_stream_but_a_copy_for_single_sessions_does_not() {
    each(|subject, log| {
        let message = |seq| publish("room", seq, "room/alice", b"x", false);
        subject.apply(&log.append([published(message(1)), published(message(2))]));
        assert_eq!(subject.state().stream_head("room"), Seq(2));
        let mut copy = message(0);
        copy.audience = Audience::Only(vec!["b".into()]);
        subject.apply(&log.append([published(copy)]));
        assert_eq!(subject.state().stream_head("room"), Seq(2));
        assert_eq!(subject.state().stream_head("room/alice"), Seq(0));
    });
}

#[test]
fn of_numbers_that_grow_the_largest_is_retained() {
    each(|subject, log| {
        let growing = |number: &str| {
            let mut message = publish("read/a", 0, "read/a", number.as_bytes(), true);
            message.audience = Audience::Growing;
            published(message)
        };
        let retained = |subject: &dyn State| {
            let retained = tidings_core::state::retained_on(subject, "read/a");
            retained.map(|r| (r.offset.0, r.published.message.payload.clone()))
        };
        // Two of one batch, one of a later one.
        subject.apply(&log.append([growing("9"), growing("7")]));
        assert_eq!(retained(subject.state()), Some((0, "9".into())));
        subject.apply(&log.append([growing("8"), growing("9")]));
        assert_eq!(retained(subject.state()), Some((0, "9".into())));
        subject.apply(&log.append([growing("10")]));
        assert_eq!(retained(subject.state()), Some((4, "10".into())));
        assert_eq!(subject.state().stream_head("read/a"), Seq(0));
        subject.apply(&log.append([growing("")]));
        assert_eq!(retained(subject.state()), None);
        subject.apply(&log.append([growing("3")]));
        assert_eq!(retained(subject.state()), Some((6, "3".into())));
    });
}

#[test]
fn streams_are_found_by_the_beginning_of_their_names() {
    each(|subject, log| {
        let message = |stream: &str, seq| published(publish(stream, seq, "t", b"x", false));
        subject.apply(&log.append([message("dm/a/b", 1), message("chat/a", 1)]));
        subject.apply(&log.append([message("dm/a/c", 1), message("dm/a/b", 2)]));
        let mut found = Vec::new();
        let visit = &mut |stream: &Arc<str>, seq: Seq| found.push((stream.to_string(), seq.0));
        subject.state().for_each_stream("dm/", visit);
        found.sort();
        assert_eq!(found, [("dm/a/b".into(), 2), ("dm/a/c".into(), 1)]);
    });
}

#[test]
fn an_inbound_packet_identifier_is_remembered_by_the_publishers_session_until_released() {
    each(|subject, log| {
        let mut message = publish("s", 1, "a", b"x", false);
        message.inbound_packet_id = Some(7);
        let record = published(message);
        // No session yet: nothing to remember it in.
        subject.apply(&log.append([record.clone()]));
        assert_eq!(subject.state().session("alice-1"), None);
        subject.apply(&log.append([opened("alice-1", true), record.clone(), record]));
        let inbound = |subject: &Subject| {
            let session = subject.state().session("alice-1").expect("a session");
            session.inbound_qos2
        };
        assert_eq!(inbound(subject), [7]);
        subject.apply(&log.append([session("alice-1", SessionChange::Released { packet_id: 7 })]));
        assert!(inbound(subject).is_empty());
    });
}

#[test]
fn a_new_filter_starts_after_its_entry_and_a_replaced_one_keeps_its_start() {
    each(|subject, log| {
        subject.apply(&log.append([opened("a", true), subscribed("a", "x")]));
        subject.apply(&log.append([subscribed("a", "x"), subscribed("a", "y")]));
        let session = subject.state().session("a").expect("a session");
        let since: Vec<_> = session.subscriptions.iter().map(|s| s.since).collect();
        assert_eq!(since, [Offset(2), Offset(4)]);
    });
}

#[test]
fn changes_of_a_session_that_is_not_there_are_ignored() {
    each(|subject, log| {
        subject.apply(&log.append([
            subscribed("a", "$share/g/x"),
            progress("a", 1, Vec::new()),
            closed("a", 1, 1),
            group_progress("$share/g/x", 5, &[]),
            ended("a"),
        ]));
        assert_eq!(subject.state().session("a"), None);
        assert_eq!(subject.state().group("$share/g/x"), None);
        assert_eq!(subject.state().lowest_position(), None);
    });
}

#[test]
fn a_group_comes_with_its_first_member_and_goes_with_its_last() {
    each(|subject, log| {
        let filter = "$share/g/x";
        subject.apply(&log.append([opened("a", true), opened("b", true)]));
        subject.apply(&log.append([subscribed("a", filter)]));
        let group = subject.state().group(filter).expect("a group");
        assert_eq!((group.cursor, group.members), (Offset(3), 1));
        // The same filter again is no second member.
        subject.apply(&log.append([subscribed("a", filter), subscribed("b", filter)]));
        subject.apply(&log.append([group_progress(filter, 4, &[1])]));
        let group = subject.state().group(filter).expect("a group");
        assert_eq!((group.cursor, group.members), (Offset(4), 2));
        assert_eq!(group.unfinished, [Offset(1)]);
        subject.apply(&log.append([unsubscribed("a", filter), unsubscribed("a", filter)]));
        assert_eq!(members(subject.state(), filter), Some(1));
        subject.apply(&log.append([ended("b")]));
        assert_eq!(subject.state().group(filter), None);
        // A later one is a new one.
        subject.apply(&log.append([subscribed("a", filter)]));
        let group = subject.state().group(filter).expect("a group");
        assert_eq!(group.cursor, log.end);
    });
}

#[test]
fn a_session_that_is_replaced_by_a_clean_one_leaves_its_groups() {
    each(|subject, log| {
        let filter = "$share/g/x";
        for client_id in ["a", "b"] {
            subject.apply(&log.append([opened(client_id, true), subscribed(client_id, filter)]));
        }
        subject.apply(&log.append([opened("a", false)]));
        assert_eq!(members(subject.state(), filter), Some(2));
        subject.apply(&log.append([opened("a", true)]));
        assert_eq!(members(subject.state(), filter), Some(1));
        subject.apply(&log.append([opened("b", true)]));
        assert_eq!(members(subject.state(), filter), None);
    });
}

#[test]
fn sessions_are_due_when_they_expire_or_their_will_is_due() {
    each(|subject, log| {
        subject.apply(&log.append([
            opened("expires", true),
            closed("expires", 1_000, 10),
            opened("never", true),
            closed("never", 1_000, NEVER_EXPIRES),
            opened_with_will("will", true, Some(will(5))),
            closed("will", 1_000, NEVER_EXPIRES),
            opened("online", true),
        ]));
        let due = |subject: &Subject, now| -> Vec<String> {
            let due = subject.state().due_sessions(now, 10);
            due.iter().map(ToString::to_string).collect()
        };
        assert!(due(subject, 5_999).is_empty());
        assert_eq!(due(subject, 6_000), ["will"]);
        assert_eq!(due(subject, 11_000), ["will", "expires"]);
        assert_eq!(subject.state().due_sessions(11_000, 1).len(), 1);
        subject.apply(&log.append([
            session("will", SessionChange::WillPublished),
            opened("expires", false),
        ]));
        assert!(due(subject, u64::MAX).is_empty());
        subject.apply(&log.append([closed("expires", 2_000, 1), ended("expires")]));
        assert!(due(subject, u64::MAX).is_empty());
    });
}

#[test]
fn the_lowest_position_is_that_of_the_slowest_session_or_group() {
    each(|subject, log| {
        let filter = "$share/g/x";
        subject.apply(&log.append((0..10).map(|_| retain("a", "x"))));
        subject.apply(&log.append([opened("a", true), opened("b", true)]));
        assert_eq!(subject.state().lowest_position(), Some(Offset(11)));
        subject.apply(&log.append([progress("a", 20, Vec::new())]));
        assert_eq!(subject.state().lowest_position(), Some(Offset(12)));
        let unfinished = Unfinished {
            packet_id: 1,
            offset: Offset(3),
            phase: Phase::AwaitPubRec,
            qos: QoS::ExactlyOnce,
        };
        subject.apply(&log.append([progress("b", 20, vec![unfinished])]));
        assert_eq!(subject.state().lowest_position(), Some(Offset(3)));
        subject.apply(&log.append([subscribed("a", filter), group_progress(filter, 9, &[2])]));
        assert_eq!(subject.state().lowest_position(), Some(Offset(2)));
        subject.apply(&log.append([unsubscribed("a", filter), ended("b")]));
        assert_eq!(subject.state().lowest_position(), Some(Offset(20)));
        subject.apply(&log.append([ended("a")]));
        assert_eq!(subject.state().lowest_position(), None);
    });
}

#[test]
fn large_retained_messages_and_long_names_survive() {
    each(|subject, log| {
        let long = "x".repeat(60_000);
        let large = vec![7; 3 << 20];
        subject.apply(&log.append([
            published(publish("s", 1, "large", &large, true)),
            retain(&long, "x"),
            opened(&long, true),
        ]));
        subject.apply(&log.append([retain("small", "x")]));
        let mut found = 0;
        subject
            .state()
            .for_each_retained("large", log.end, &mut |retained| {
                assert_eq!(retained.published.message.payload, large);
                found += 1;
            });
        assert_eq!(found, 1);
        assert!(subject.state().session(&long).is_some());
        assert_eq!(retained_topics(subject.state(), "+", log.end).len(), 3);
    });
}

#[test]
fn an_account_is_created_changed_and_deleted() {
    each(|subject, log| {
        assert_eq!(subject.state().account("alice"), None);
        subject.apply(&log.append([created("alice", "one"), created("bob", "two")]));
        let changes = [
            AccountChange::SecretSet(Secret::PasswordHash("three".into())),
            AccountChange::RolesSet(vec!["admin".into()]),
            AccountChange::Disabled,
            AccountChange::TokensRevoked { before: 2_000 },
            AccountChange::TokensRevoked { before: 1_500 },
        ];
        subject.apply(&log.append(changes.map(|change| account("alice", change))));
        let found = subject.state().account("alice").expect("an account");
        assert_eq!(found.secret, Secret::PasswordHash("three".into()));
        assert_eq!(found.roles, ["admin".into()]);
        assert_eq!((found.enabled, found.valid_from), (false, 2_000));

        let mut names = Vec::new();
        subject
            .state()
            .for_each_account(&mut |user, _| names.push(user.to_string()));
        assert_eq!(names, ["alice", "bob"]);

        subject.apply(&log.append([
            account("alice", AccountChange::Enabled),
            account("bob", AccountChange::Deleted),
            account("bob", AccountChange::Enabled),
        ]));
        assert!(subject.state().account("alice").is_some_and(|a| a.enabled));
        let bob = subject.state().account("bob").expect("the name stays");
        assert!(bob.deleted && !bob.enabled);
        assert_eq!(bob.secret, Secret::None);
    });
}

#[test]
fn of_a_device_that_is_deleted_nothing_stays() {
    each(|subject, log| {
        let thermo = AccountRecord {
            owner: Some("alice".into()),
            secret: Secret::TokenHash([1; 32]),
            enabled: true,
            roles: Vec::new(),
            created: 1,
            valid_from: 1,
            deleted: false,
        };
        let made = AccountChange::Created(Box::new(thermo.clone()));
        subject.apply(&log.append([account("thermo", made)]));
        assert_eq!(subject.state().account("thermo"), Some(thermo));
        subject.apply(&log.append([account("thermo", AccountChange::Deleted)]));
        assert_eq!(subject.state().account("thermo"), None);
        subject
            .state()
            .for_each_account(&mut |user, _| panic!("{user} is still there"));
    });
}

fn entry_of_room(seq: u64, topic: &str, payload: &str) -> Record {
    let mut message = publish("chat/r", seq, topic, payload.as_bytes(), false);
    message.history = true;
    let user = topic.split('/').nth(2).expect("a user");
    message.message.publisher.user = user.into();
    published(message)
}

#[test]
fn a_message_knows_its_recall_its_newest_edit_and_one_reaction_of_each_user() {
    each(|subject, log| {
        subject.apply(&log.append([
            entry_of_room(1, "chat/r/ann", "helo"),
            entry_of_room(2, "chat/r/ann/edit/1", "hello"),
            entry_of_room(3, "chat/r/bob/react/1", "+1"),
            entry_of_room(4, "chat/r/ann/edit/1", "hello!"),
            entry_of_room(5, "chat/r/bob/react/1", "-1"),
            entry_of_room(6, "chat/r/eve/react/1", "?"),
            entry_of_room(7, "chat/r/eve/react/1", ""),
            entry_of_room(8, "chat/r/ann/recall/1", ""),
            // About nothing that was there.
            entry_of_room(9, "chat/r/ann/recall/9", ""),
        ]));
        let state = subject.state();
        let found = state.changes("chat/r", Seq(1), 10);
        let seqs: Vec<u64> = found.iter().map(|change| change.seq.0).collect();
        assert_eq!(seqs, [8, 4, 5]);
        assert_eq!(found[0].what, What::Recalled);
        assert_eq!(found[2].what, What::Reaction("-1".into()));
        assert_eq!((&*found[2].by, found[2].offset), ("bob", Offset(4)));
        assert_eq!(state.changes("chat/r", Seq(1), 2).len(), 2);
        assert!(state.changes("chat/r", Seq(2), 10).is_empty());
        assert!(state.changes("chat", Seq(1), 10).is_empty());
    });
}

#[test]
fn what_became_of_messages_that_are_gone_is_forgotten() {
    each(|subject, log| {
        subject.apply(&log.append([
            entry_of_room(1, "chat/r/ann", "helo"),
            entry_of_room(2, "chat/r/ann/edit/1", "hello"),
            entry_of_room(3, "chat/r/bob/react/1", "+1"),
            entry_of_room(4, "chat/r/ann", "oh"),
            entry_of_room(5, "chat/r/ann/edit/4", "oh!"),
            entry_of_room(6, "chat/r/ann/recall/4", ""),
            entry_of_room(7, "chat/r/ann", "well"),
            entry_of_room(8, "chat/r/bob/react/7", "?"),
        ]));
        let counts = |subject: &Subject| {
            [1, 4, 7].map(|of| subject.state().changes("chat/r", Seq(of), 10).len())
        };
        assert_eq!(counts(subject), [2, 2, 1]);
        let mut asked = Vec::new();
        let mut forget = |subject: &Subject, first| {
            subject.forget_changes(&mut |stream| {
                asked.push(stream.to_owned());
                first
            })
        };
        assert_eq!(forget(&*subject, None), 0);
        // Of message 4 an edit is left, which says what was recalled.
        assert_eq!(forget(subject, Some(Seq(5))), 3);
        assert_eq!(counts(subject), [0, 1, 1]);
        assert_eq!(forget(subject, Some(Seq(7))), 1);
        assert_eq!(counts(subject), [0, 0, 1]);
        assert_eq!(asked, ["chat/r"; 3]);
    });
}

#[test]
fn what_is_forgotten_goes_to_disk_without_an_entry_after_it() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut log = Log::default();
    log.append([
        entry_of_room(1, "chat/r/ann", "helo"),
        entry_of_room(2, "chat/r/ann/edit/1", "hello"),
    ]);
    let (state, _) = log.open(directory.path());
    assert_eq!(state.checkpoint().expect("checkpoint"), log.end);
    assert_eq!(state.forget_changes(&mut |_| Some(Seq(3))), 1);
    assert_eq!(state.checkpoint().expect("checkpoint"), log.end);
    assert_eq!(state.pending_records(), 0);
    drop(state);
    let (state, report) = log.open(directory.path());
    assert_eq!(report.set_aside, None);
    assert!(State::changes(&state, "chat/r", Seq(1), 10).is_empty());
}

#[test]
fn recalls_are_found_by_range() {
    each(|subject, log| {
        let recall = |seq: u64, of: u64| entry_of_room(seq, &format!("chat/r/ann/recall/{of}"), "");
        subject.apply(&log.append([recall(100, 7), recall(101, 40), recall(102, 9)]));
        let recalls = |from: u64, to: u64| {
            let mut found = Vec::new();
            let collect = &mut |change: &ChangeRecord| found.push(change.of.0);
            subject
                .state()
                .for_each_recall("chat/r", Seq(from), Seq(to), collect);
            found
        };
        assert_eq!(recalls(0, u64::MAX), [7, 9, 40]);
        assert_eq!(recalls(8, 9), [9]);
        assert_eq!(recalls(10, 39), [0_u64; 0]);
        assert_eq!(recalls(9, 7), [0_u64; 0]);
    });
}
