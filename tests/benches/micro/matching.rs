//! From a topic to what the filters and the topic rules say about it. An operation is one topic,
//! one receiver or one filter, as the name of the case says.

use std::hint::black_box;

use tidings_core::rules::{Access, Identity, OpenRooms};
use tidings_core::tree::SubscriptionTree;

use crate::case::{Case, many};
use crate::topic_rules;

/// Topics of a round.
const TOPICS: usize = 512;
/// Values under one filter.
const RECEIVERS: u32 = 1000;

pub fn cases() -> Vec<Case> {
    vec![
        distinct("topic among 1,000 filters", 1_000),
        distinct("topic among 200,000 filters", many(200_000)),
        wildcards(),
        receivers(),
        subscribing(),
        deciding("publish to a room by the shipped rules", "chat/17/alice"),
        deciding(
            "publish to a free topic by the shipped rules",
            "bench/17/alice",
        ),
    ]
}

fn filter(number: usize) -> String {
    format!("site/{}/sensor/{number}", number % 100)
}

/// Topics spread over all filters, in an order that is not theirs.
fn topics(filters: usize) -> Vec<String> {
    let step = 7919;
    (0..TOPICS).map(|n| filter(n * step % filters)).collect()
}

fn found(tree: &SubscriptionTree<u32>, topics: &[String]) -> u64 {
    let mut found = 0;
    for topic in topics {
        tree.for_each_match(topic, |value| {
            black_box(value);
            found += 1;
        });
    }
    found
}

fn distinct(name: &'static str, filters: usize) -> Case {
    Case::new("matching", name, TOPICS as u64, move || {
        let mut tree = SubscriptionTree::new();
        for number in 0..filters {
            tree.insert(&filter(number), number as u32);
        }
        let topics = topics(filters);
        Box::new(move |meter| {
            let found = meter.count(|_| found(&tree, &topics));
            assert_eq!(found, TOPICS as u64);
        })
    })
}

/// Rooms as in a chat: someone reads a room with `+`, someone everything with `#`.
fn wildcards() -> Case {
    Case::new(
        "matching",
        "topic with + and # filters",
        TOPICS as u64,
        || {
            let mut tree = SubscriptionTree::new();
            for room in 0..1000 {
                tree.insert(&format!("chat/{room}/+"), room);
                tree.insert(&format!("chat/{room}/#"), room);
            }
            tree.insert("chat/#", u32::MAX);
            let topics: Vec<_> = (0..TOPICS)
                .map(|n| format!("chat/{}/user-{n}", n % 1000))
                .collect();
            Box::new(move |meter| {
                let found = meter.count(|_| found(&tree, &topics));
                assert_eq!(found, 3 * TOPICS as u64);
            })
        },
    )
}

fn receivers() -> Case {
    let operations = u64::from(RECEIVERS);
    Case::new(
        "matching",
        "receiver of 1,000 with the same filter",
        operations,
        move || {
            let mut tree = SubscriptionTree::new();
            for value in 0..RECEIVERS {
                tree.insert("bench/run/all", value);
            }
            let topics = ["bench/run/all".to_owned()];
            Box::new(move |meter| {
                let found = meter.count(|_| found(&tree, &topics));
                assert_eq!(found, operations);
            })
        },
    )
}

fn subscribing() -> Case {
    Case::new(
        "matching",
        "filter added and removed among 10,000",
        TOPICS as u64,
        || {
            let mut tree = SubscriptionTree::new();
            for number in 0..many(10_000) {
                tree.insert(&filter(number), number as u32);
            }
            let new: Vec<_> = (0..TOPICS).map(|n| filter(1_000_000 + n)).collect();
            Box::new(move |meter| {
                meter.count(|_| {
                    for filter in &new {
                        assert!(tree.insert(filter, 1));
                    }
                    for filter in &new {
                        assert!(tree.remove(filter, &1));
                    }
                });
            })
        },
    )
}

fn deciding(name: &'static str, topic: &'static str) -> Case {
    Case::new("matching", name, TOPICS as u64, move || {
        let rules = topic_rules::shipped();
        let alice = Identity::user("alice");
        Box::new(move |meter| {
            meter.count(|_| {
                for _ in 0..TOPICS {
                    let decision = rules.decide(black_box(topic));
                    let access = decision.may_publish(&alice, &OpenRooms);
                    assert_eq!(access, Access::Allowed);
                    black_box(decision);
                }
            });
        })
    })
}
