//! The tree against matching filters one by one, and what it costs.

use std::collections::BTreeSet;

use super::*;
use crate::topic::{matches, validate_filter, validate_name};

fn found(tree: &SubscriptionTree<u32>, topic: &str) -> Vec<u32> {
    let mut found = Vec::new();
    tree.for_each_match(topic, |&value| found.push(value));
    found.sort_unstable();
    found
}

fn is_as_new(tree: &SubscriptionTree<u32>) -> bool {
    tree.is_empty()
        && tree.nodes.len() - tree.free_nodes.len() == 1
        && tree.nodes[0].is_empty()
        && tree.edges.is_empty()
        && tree.symbols.is_empty()
        && tree.name_bytes == 0
}

#[test]
fn a_topic_finds_exactly_the_filters_that_match() {
    let mut tree = SubscriptionTree::new();
    for (value, filter) in [
        "chat/lobby/+",
        "chat/#",
        "chat/lobby/alice",
        "#",
        "+/+/alice",
        "$SYS/#",
        "chat/+",
    ]
    .into_iter()
    .enumerate()
    {
        assert!(tree.insert(filter, value as u32));
    }
    assert_eq!(found(&tree, "chat/lobby/alice"), [0, 1, 2, 3, 4]);
    assert_eq!(found(&tree, "chat"), [1, 3]);
    assert_eq!(found(&tree, "chat/lobby"), [1, 3, 6]);
    assert_eq!(found(&tree, "$SYS/uptime"), [5]);
    assert_eq!(found(&tree, "$SYS"), [5]);
    assert_eq!(found(&tree, "/"), [3]);
}

#[test]
fn the_same_value_is_in_a_filter_once() {
    let mut tree = SubscriptionTree::new();
    assert!(tree.insert("a/+", 1));
    assert!(!tree.insert("a/+", 1));
    assert!(tree.insert("a/+", 2));
    assert!(!tree.insert("a/+", 2));
    assert_eq!(tree.len(), 2);
    assert_eq!(found(&tree, "a/b"), [1, 2]);
}

#[test]
fn removing_what_is_not_there_changes_nothing() {
    let mut tree = SubscriptionTree::new();
    tree.insert("a/b", 1);
    for filter in ["a", "a/b/c", "a/#", "a/+", "#", "b"] {
        assert!(!tree.remove(filter, &1), "{filter}");
    }
    assert!(!tree.remove("a/b", &2));
    assert_eq!(found(&tree, "a/b"), [1]);
    assert!(tree.remove("a/b", &1));
    assert!(is_as_new(&tree));
}

#[test]
fn the_deepest_topic_is_walked_and_a_deeper_one_is_not() {
    let mut tree = SubscriptionTree::new();
    let plusses = vec!["+"; MAX_LEVELS].join("/");
    let names = vec!["x"; MAX_LEVELS].join("/");
    for prefix in 1..=MAX_LEVELS {
        tree.insert(&vec!["x"; prefix].join("/"), 1);
        tree.insert(&format!("{}/#", vec!["+"; prefix].join("/")), 2);
    }
    tree.insert(&plusses, 3);
    assert_eq!(found(&tree, &names).len(), 1 + MAX_LEVELS + 1);
    assert_eq!(found(&tree, &format!("{names}/x")), vec![2; MAX_LEVELS]);
}

/// xorshift64*: enough for tests, and the same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % bound
    }

    fn levels(&mut self, names: &[&str]) -> String {
        let count = 1 + self.below(5) as usize;
        let levels: Vec<&str> = (0..count)
            .map(|_| names[self.below(names.len() as u64) as usize])
            .collect();
        levels.join("/")
    }

    fn filter(&mut self) -> String {
        let filter = self.levels(&["", "a", "b", "$c", "+", "+"]);
        match self.below(8) {
            0 => "#".to_owned(),
            1 | 2 => format!("{filter}/#"),
            _ => filter,
        }
    }

    fn topic(&mut self) -> String {
        self.levels(&["", "a", "b", "$c", "d"])
    }
}

fn one_schedule(seed: u64) {
    let mut random = Random(seed);
    let mut tree = SubscriptionTree::new();
    let mut model: BTreeSet<(String, u32)> = BTreeSet::new();
    for step in 0..400 {
        let filter = random.filter();
        if filter.is_empty() {
            continue;
        }
        assert_eq!(validate_filter(&filter), Ok(()), "{filter}");
        let value = random.below(4) as u32;
        let known = model
            .iter()
            .nth(random.below(model.len() as u64 + 1) as usize)
            .cloned();
        match (random.below(4), known) {
            (0, Some((filter, value))) => {
                assert!(
                    tree.remove(&filter, &value),
                    "seed {seed} step {step} {filter}"
                );
                model.remove(&(filter, value));
            }
            (1, _) => {
                let removed = tree.remove(&filter, &value);
                assert_eq!(
                    removed,
                    model.remove(&(filter, value)),
                    "seed {seed} step {step}"
                );
            }
            _ => {
                let added = tree.insert(&filter, value);
                assert_eq!(
                    added,
                    model.insert((filter, value)),
                    "seed {seed} step {step}"
                );
            }
        }
        assert_eq!(tree.len(), model.len());
        let topic = random.topic();
        if validate_name(&topic).is_ok() {
            let mut expected: Vec<u32> = model
                .iter()
                .filter(|(filter, _)| matches(filter, &topic))
                .map(|&(_, value)| value)
                .collect();
            expected.sort_unstable();
            assert_eq!(
                found(&tree, &topic),
                expected,
                "seed {seed} step {step} {topic}"
            );
        }
    }
    for (filter, value) in model {
        assert!(
            tree.remove(&filter, &value),
            "seed {seed} at the end {filter}"
        );
    }
    assert!(is_as_new(&tree), "seed {seed}");
}

#[test]
fn random_schedules_agree_with_matching_one_by_one() {
    for seed in 1..=200 {
        one_schedule(seed);
    }
}

#[test]
fn two_trees_with_the_same_content_report_in_the_same_order() {
    let filters = ["a/b", "a/+", "a/#", "+/b", "+/+", "#", "+/#"];
    let (mut one, mut other) = (SubscriptionTree::new(), SubscriptionTree::new());
    for (value, filter) in filters.iter().enumerate() {
        one.insert(filter, value);
    }
    other.insert("b/c", 9);
    for (value, filter) in filters.iter().enumerate().rev() {
        other.insert(filter, value);
    }
    let order = |tree: &SubscriptionTree<usize>| {
        let mut order = Vec::new();
        tree.for_each_match("a/b", |&value| order.push(value));
        order
    };
    assert_eq!(order(&one), order(&other));
}

#[test]
fn two_hundred_thousand_filters_take_at_most_600_bytes_each_and_are_given_back() {
    const FILTERS: u32 = 200_000;
    let filter = |n: u32| match n % 3 {
        0 => format!("user/user-{n:08}/inbox"),
        1 => format!("chat/room-{n:08}/+"),
        _ => format!("device/sensor-{n:08}/telemetry/#"),
    };
    let mut tree = SubscriptionTree::new();
    for n in 0..FILTERS {
        tree.insert(&filter(n), n);
    }
    let each = tree.memory_bytes() / FILTERS as usize;
    assert!(each <= 600, "{each} bytes for each filter");
    assert_eq!(found(&tree, "device/sensor-00000002/telemetry/t"), [2]);
    for n in 0..FILTERS {
        assert!(tree.remove(&filter(n), &n));
    }
    assert!(is_as_new(&tree));
    assert!(tree.memory_bytes() < 1024);
}
