//! Random journals: sled and memory must always say the same.

use tidings_core::state::Phase;

use super::*;

/// xorshift64*: enough for choosing, and the same everywhere.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }
}

/// A random record that could stand at the end of `log`.
fn random_record(random: &mut Random, end: Offset) -> Record {
    let client_id = format!("c{}", random.below(12));
    let topic = format!("t/{}/{}", random.below(5), random.below(8));
    let filter = match random.below(3) {
        0 => topic.clone(),
        1 => format!("$share/g/{topic}"),
        _ => format!("$share/h/t/{}/#", random.below(3)),
    };
    let position = |random: &mut Random| random.below(end.0 + 1);
    match random.below(17) {
        0..=3 => {
            let size = if random.below(50) == 0 {
                200_000
            } else {
                random.below(300)
            };
            let payload = vec![random.below(256) as u8; size as usize];
            let mut message = publish("t", end.0, &topic, &payload, random.below(2) == 0);
            message.message.publisher.client_id = client_id.as_str().into();
            message.inbound_packet_id = (random.below(3) == 0).then(|| random.below(9) as u16);
            published(message)
        }
        4 => {
            let will = (random.below(2) == 0).then(|| will(random.below(20) as u32));
            opened_with_will(&client_id, random.below(4) == 0, will)
        }
        5 | 6 => subscribed(&client_id, &filter),
        7 => unsubscribed(&client_id, &filter),
        8 | 9 => {
            let unfinished = (0..random.below(3))
                .map(|n| Unfinished {
                    packet_id: n as u16 + 1,
                    offset: Offset(position(random)),
                    phase: Phase::AwaitPubAck,
                    qos: QoS::AtLeastOnce,
                })
                .collect();
            progress(&client_id, position(random), unfinished)
        }
        10 => closed(&client_id, random.below(1_000), random.below(20) as u32),
        11 => session(
            &client_id,
            SessionChange::Released {
                packet_id: random.below(9) as u16,
            },
        ),
        14 => {
            let user = format!("u{}", random.below(200));
            match random.below(4) {
                0 => account(&user, AccountChange::Deleted),
                1 => account(&user, AccountChange::Disabled),
                _ => created(&user, "hash"),
            }
        }
        15 | 16 => {
            let (room, user) = (random.below(3), random.below(4));
            let of = 1 + random.below(6);
            let what = ["edit", "recall", "react"][random.below(3) as usize];
            let topic = format!("chat/r{room}/u{user}/{what}/{of}");
            let payload: &[u8] = [&b""[..], b"yes"][random.below(2) as usize];
            let mut change = publish(&format!("chat/r{room}"), end.0 + 7, &topic, payload, false);
            change.history = true;
            change.message.publisher.user = format!("u{user}").as_str().into();
            published(change)
        }
        12 => group_progress(&filter, position(random), &[position(random)]),
        _ if random.below(3) == 0 => ended(&client_id),
        _ => session(&client_id, SessionChange::WillPublished),
    }
}

pub(super) fn random_batch(random: &mut Random, log: &mut Log) -> Batch {
    let count = 1 + random.below(30);
    let mut end = log.end;
    let records: Vec<_> = (0..count)
        .map(|_| {
            let record = random_record(random, end);
            end = end.next();
            record
        })
        .collect();
    log.append(records)
}

fn assert_answers_alike(left: &dyn State, right: &dyn State, random: &mut Random) {
    assert_eq!(left.applied(), right.applied());
    assert_eq!(left.retained_count(), right.retained_count());
    assert_eq!(left.lowest_position(), right.lowest_position());
    assert_eq!(left.stream_head("t"), right.stream_head("t"));
    let (now, limit) = (random.below(30_000), random.below(5) as usize);
    assert_eq!(
        left.due_sessions(now, limit),
        right.due_sessions(now, limit)
    );
    let client_id = format!("c{}", random.below(12));
    assert_eq!(left.session(&client_id), right.session(&client_id));
    let group = format!("$share/h/t/{}/#", random.below(3));
    assert_eq!(left.group(&group), right.group(&group));
    let filters = ["#", "t/1/+", "t/+/3", "t/2/#", "t/0/0"];
    let filter = filters[random.below(5) as usize];
    let before = Offset(random.below(left.applied().0 + 1));
    let retained = |state: &dyn State| {
        let mut found = Vec::new();
        state.for_each_retained(filter, before, &mut |retained| found.push(retained.clone()));
        found.sort_by_key(|retained| retained.offset);
        found
    };
    assert_eq!(retained(left), retained(right));
    let sessions = |state: &dyn State| {
        let mut found = Vec::new();
        state.for_each_session(&mut |id, session| found.push((id.clone(), session.clone())));
        found.sort_by_key(|(id, _)| id.clone());
        found
    };
    assert_eq!(sessions(left), sessions(right));
    for room in 0..3 {
        let stream = format!("chat/r{room}");
        let of = Seq(random.below(8));
        let limit = random.below(6) as usize;
        assert_eq!(
            left.changes(&stream, of, limit),
            right.changes(&stream, of, limit)
        );
        let recalls = |state: &dyn State| {
            let mut found = Vec::new();
            state.for_each_recall(&stream, of, Seq(of.0 + 3), &mut |c| found.push(c.clone()));
            found
        };
        assert_eq!(recalls(left), recalls(right));
    }
    let user = format!("u{}", random.below(200));
    assert_eq!(left.account(&user), right.account(&user));
    let accounts = |state: &dyn State| {
        let mut found = Vec::new();
        state.for_each_account(&mut |user, account| found.push((user.clone(), account.clone())));
        found
    };
    assert_eq!(accounts(left), accounts(right));
}

fn sled_and_memory_agree(seed: u64) {
    let _named = Named(format!("seed {seed}"));
    let mut random = Random::new(seed);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut log = Log::default();
    let memory = MemoryState::new();
    let mut sled = log.open(directory.path()).0;
    for _ in 0..60 {
        let batch = random_batch(&mut random, &mut log);
        memory.apply(&batch);
        sled.apply(&batch);
        match random.below(8) {
            0 | 1 => drop(sled.checkpoint().expect("checkpoint")),
            2 => {
                drop(sled);
                let (opened, report) = log.open(directory.path());
                assert_eq!(report.set_aside, None);
                sled = opened;
            }
            3 => drop(sled.snapshot().expect("snapshot")),
            _ => {}
        }
        assert_answers_alike(&sled, &memory, &mut random);
    }
    assert_same(&sled, &log);
}

#[test]
fn sled_and_memory_agree_over_random_journals() {
    for seed in 1..=8 {
        sled_and_memory_agree(seed);
    }
}

#[test]
fn reading_and_checkpoints_go_on_while_batches_are_applied() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut random = Random::new(99);
    let mut log = Log::default();
    for _ in 0..150 {
        random_batch(&mut random, &mut log);
    }
    let options = log.options();
    let (state, _) = SledState::open(directory.path(), &options).expect("opens");
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| log.replay(&state));
        while !writer.is_finished() {
            let before = State::applied(&state);
            assert!(state.checkpoint().expect("checkpoint") >= before);
            let mut last: Option<Arc<str>> = None;
            state.for_each_session(&mut |id, _| {
                assert!(last.as_ref().is_none_or(|last| last < id));
                last = Some(id.clone());
            });
            state.for_each_retained("#", log.end, &mut |retained| {
                assert!(retained.offset < log.end);
            });
        }
    });
    assert_same(&state, &log);
}
