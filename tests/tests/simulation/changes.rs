//! Messages about messages, step by step: names that are claimed at the same time, and recalls that come
//! while somebody is reading.

use tidings_core::codec::ReasonCode;
use tidings_core::message::Seq;
use tidings_tests::simulation::{
    ClientId, Filter, House, Login, Post, Said, Setup, room_rules, talk_schedule,
};

fn room(shards: u16) -> House {
    House::new(Setup {
        rules: room_rules(),
        ..Setup::shards(shards)
    })
}

fn join(house: &mut House, id: &str, user: &str) -> ClientId {
    house.connect(Login::v5(id).user(user))
}

/// The reason and the number of each PUBACK since the last question.
fn answers(house: &mut House, client: ClientId) -> Vec<(ReasonCode, Option<String>)> {
    let said = house.take_said(client);
    let answer = |said: Said| match said {
        Said::PubAck(ack) => {
            let seq = ack.user.iter().find(|(key, _)| key == "seq");
            Some((ack.reason, seq.map(|(_, seq)| seq.clone())))
        }
        _ => None,
    };
    said.into_iter().filter_map(answer).collect()
}

fn stored_as(seq: &str) -> (ReasonCode, Option<String>) {
    (ReasonCode::Success, Some(seq.to_owned()))
}

#[test]
fn of_two_with_one_name_in_two_shards_the_second_waits_for_the_commit_of_the_first() {
    let mut house = room(4);
    let phones: Vec<ClientId> = (0..6)
        .map(|n| join(&mut house, &format!("phone-{n}"), "ann"))
        .collect();
    house.hold_commits = true;
    for phone in &phones {
        let post = Post::qos1("chat/hall/ann", "hello").cid("a1");
        house.tell(*phone, |c| c.publish(post));
        let after = Post::qos1("chat/hall/ann", &format!("after {}", phone.0));
        house.tell(*phone, |c| c.publish(after));
    }
    for phone in &phones {
        assert!(answers(&mut house, *phone).is_empty());
    }
    house.hold_commits = false;
    house.settle();
    for phone in &phones {
        let answers = answers(&mut house, *phone);
        assert_eq!(answers.len(), 2, "{answers:?}");
        // In the order of the publishes, and the same for all.
        assert_eq!(answers[0], stored_as("1"));
    }
    let head = house.disk.state().stream_head("chat/hall");
    assert_eq!(head.0, 1 + phones.len() as u64);
}

#[test]
fn a_name_is_known_after_a_crash_and_other_words_are_refused() {
    let mut house = room(2);
    let ann = join(&mut house, "phone", "ann");
    house.publish(ann, Post::qos1("chat/hall/ann", "hello").cid("a1"));
    assert_eq!(answers(&mut house, ann), [stored_as("1")]);
    house.crash(0);
    let ann = join(&mut house, "laptop", "ann");
    house.publish(ann, Post::qos1("chat/hall/ann", "hello").cid("a1"));
    house.publish(ann, Post::qos1("chat/hall/ann", "other").cid("a1"));
    house.publish(ann, Post::qos1("chat/hall/ann/reply/1", "hello").cid("a1"));
    let refused = (ReasonCode::ImplementationSpecificError, None);
    let said = answers(&mut house, ann);
    assert_eq!(said, [stored_as("1"), refused.clone(), refused]);
}

#[test]
fn what_was_claimed_and_lost_in_a_crash_can_be_said_again() {
    let mut house = room(1);
    let ann = join(&mut house, "phone", "ann");
    house.hold_commits = true;
    house.publish(ann, Post::qos1("chat/hall/ann", "hello").cid("a1"));
    house.crash(0);
    house.hold_commits = false;
    let ann = join(&mut house, "phone", "ann");
    house.publish(ann, Post::qos1("chat/hall/ann", "hello").cid("a1"));
    assert_eq!(answers(&mut house, ann), [stored_as("1")]);
}

#[test]
fn a_recall_reaches_what_a_slow_reader_has_not_been_sent_yet() {
    let mut house = room(2);
    let ann = join(&mut house, "phone", "ann");
    for n in 1..=20 {
        house.publish(ann, Post::qos1("chat/hall/ann", &format!("secret {n}")));
    }
    let bob = house.connect(Login::v5("bob").user("bob").receive_maximum(2));
    house.clients[bob.0].auto_ack = false;
    house.tell(bob, |c| {
        c.subscribe(&[Filter::qos1("$replay/seq/1/chat/hall/#")], None);
    });
    assert_eq!(house.take_payloads(bob), ["secret 1", "secret 2"]);
    for n in 1..=20 {
        house.publish(ann, Post::qos1(&format!("chat/hall/ann/recall/{n}"), ""));
    }
    house.clients[bob.0].auto_ack = true;
    house.tell(bob, |c| c.reply_all());
    house.advance(1_000);
    let later = house.take_arrivals(bob);
    assert_eq!(later.len(), 18 + 20);
    for delivery in &later {
        assert_eq!(delivery.payload, "", "{delivery:?}");
    }
    assert_eq!(later[0].user("recalled"), Some("ann"));
    assert_eq!(later[0].user("seq"), Some("3"));
}

#[test]
fn random_talks_keep_numbers_names_and_rights() {
    let (mut numbered, mut refused, mut recalls) = (0, 0, 0);
    let (mut markers, mut outside) = (0, 0);
    for seed in 0..200 {
        let talk = talk_schedule(seed);
        assert!(talk.faults.is_empty(), "seed {seed}: {:#?}", talk.faults);
        numbered += talk.numbered;
        refused += talk.refused;
        recalls += talk.recalls;
        markers += talk.markers;
        outside += talk.outside;
    }
    assert!(markers > 100 && outside > 50, "{markers} {outside}");
    assert!(
        numbered > 1_000 && refused > 100 && recalls > 10,
        "{numbered} {refused} {recalls}"
    );
}

#[test]
fn who_is_mentioned_by_the_last_message_before_a_crash_is_told_once_after_it() {
    for shards in [1, 4] {
        let mut house = room(shards);
        let ann = join(&mut house, "phone", "ann");
        let inbox = |house: &House| -> Vec<String> {
            let journal = house.disk.journal();
            let stored = journal.history("user/bob/inbox", Seq(0), 100).unwrap();
            let texts = stored.iter().map(|entry| &entry.published.message.payload);
            texts
                .map(|payload| String::from_utf8_lossy(payload).into_owned())
                .collect()
        };
        let notice = |seq: u64| {
            format!("{{\"event\":\"mentioned\",\"room\":\"hall\",\"seq\":{seq},\"from\":\"ann\"}}")
        };
        house.publish(ann, Post::qos1("chat/hall/ann", "hello @bob"));
        assert_eq!(inbox(&house), [notice(1)]);
        house.hold_commits = true;
        house.tell(ann, |c| {
            c.publish(Post::qos1("chat/hall/ann", "still there, @bob?"))
        });
        house.settle();
        // The message reached the disk, and what was to follow did not.
        let waiting = house.disk.waiting();
        assert!(waiting > 0, "nothing waits for the disk");
        house.crash(waiting);
        house.hold_commits = false;
        house.settle();
        assert_eq!(inbox(&house), [notice(1), notice(2)]);
        for _ in 0..2 {
            house.crash(0);
            house.settle();
        }
        assert_eq!(inbox(&house), [notice(1), notice(2)]);
    }
}
