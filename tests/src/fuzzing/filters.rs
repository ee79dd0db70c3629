//! Topic filters: what is well formed, what matches, and what the subscription tree finds, against
//! the plainest reading of §4.7 and §4.8.2; and cursors, which stand in filters.

use std::collections::BTreeSet;

use tidings_core::message::Cursor;
use tidings_core::topic::{
    FilterKind, MAX_BYTES, MAX_LEVELS, matches, parse_filter, validate_filter, validate_name,
};
use tidings_core::tree::SubscriptionTree;

/// See the module. Lines of text: each is a name and a filter; one that begins with `!` is also a
/// filter that leaves the tree again.
pub fn filters(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let lines: Vec<&str> = text.split('\n').take(40).collect();
    let mut names = Vec::new();
    let mut tree = SubscriptionTree::new();
    let mut inside: BTreeSet<(&str, usize)> = BTreeSet::new();
    for (number, line) in lines.iter().enumerate() {
        let gone = line.strip_prefix('!');
        let line = gone.unwrap_or(line);
        assert_eq!(validate_name(line).is_ok(), is_name(line), "{line:?}");
        if is_name(line) {
            names.push(line);
        }
        is_read_as_meant(line);
        let Ok(kind) = parse_filter(line) else {
            continue;
        };
        let filter = kind.filter();
        // Values repeat, so that one filter has several and one value has several filters.
        let value = number % 3;
        match gone {
            None => assert_eq!(
                tree.insert(filter, value),
                inside.insert((filter, value)),
                "{filter:?} with {value} is there once"
            ),
            Some(_) => assert_eq!(
                tree.remove(filter, &value),
                inside.remove(&(filter, value)),
                "{filter:?} with {value} goes if it was there"
            ),
        }
        assert_eq!(tree.len(), inside.len());
        assert_eq!(tree.is_empty(), inside.is_empty());
    }
    for name in names {
        let mut found = Vec::new();
        tree.for_each_match(name, |value| found.push(*value));
        found.sort_unstable();
        let mut expected = Vec::new();
        for (filter, value) in &inside {
            let reached = reaches(filter, name);
            assert_eq!(matches(filter, name), reached, "{filter:?} and {name:?}");
            expected.extend(reached.then_some(*value));
        }
        expected.sort_unstable();
        assert_eq!(found, expected, "{name:?} in {inside:?}");
    }
    for (filter, value) in &inside {
        assert!(tree.remove(filter, value), "{filter:?} is there");
    }
    assert!(tree.is_empty());
}

fn is_read_as_meant(text: &str) {
    let found = parse_filter(text);
    assert_eq!(validate_filter(text).is_ok(), found.is_ok());
    match found {
        Err(_) => assert!(
            text.starts_with("$share/")
                || text == "$replay"
                || text.starts_with("$replay/")
                || !is_filter(text),
            "{text:?} is a sound filter"
        ),
        Ok(FilterKind::Plain(filter)) => {
            assert_eq!(filter, text);
            assert!(is_filter(filter), "{filter:?}");
        }
        Ok(FilterKind::Shared { group, filter }) => {
            assert_eq!(format!("$share/{group}/{filter}"), text);
            assert!(!group.is_empty() && !group.contains(['/', '+', '#', '\0']));
            is_inside_of_a_prefix(filter);
        }
        Ok(FilterKind::Replay { filter, .. }) => {
            assert!(text.starts_with("$replay/") && text.ends_with(&format!("/{filter}")));
            is_inside_of_a_prefix(filter);
        }
        Ok(FilterKind::After { cursor, filter }) => {
            let cursor = cursor.map_or("now".to_owned(), |cursor| {
                let text = cursor.to_string();
                assert_eq!(text.parse::<Cursor>(), Ok(cursor));
                text
            });
            assert_eq!(format!("$replay/after/{cursor}/{filter}"), text);
            is_inside_of_a_prefix(filter);
        }
    }
}

fn is_inside_of_a_prefix(filter: &str) {
    assert!(is_filter(filter), "{filter:?}");
    let nested = filter.starts_with("$share/") || filter.starts_with("$replay/");
    assert!(!nested, "{filter:?}");
}

fn is_name(text: &str) -> bool {
    is_filter(text) && !text.contains(['+', '#'])
}

fn is_filter(text: &str) -> bool {
    let levels: Vec<&str> = text.split('/').collect();
    let last = levels.len() - 1;
    let is_level = |(at, level): (usize, &&str)| match *level {
        "+" => true,
        "#" => at == last,
        level => !level.contains(['+', '#', '\0']),
    };
    !text.is_empty()
        && text.len() <= MAX_BYTES
        && levels.len() <= MAX_LEVELS
        && levels.iter().enumerate().all(is_level)
}

fn reaches(filter: &str, name: &str) -> bool {
    fn levels_reach(filter: &[&str], name: &[&str]) -> bool {
        match (filter, name) {
            (["#"], _) | ([], []) => true,
            ([wanted, filter @ ..], [found, name @ ..]) => {
                (*wanted == "+" || wanted == found) && levels_reach(filter, name)
            }
            _ => false,
        }
    }
    let hidden = name.starts_with('$') && (filter.starts_with('+') || filter.starts_with('#'));
    let (wanted, found): (Vec<&str>, Vec<&str>) =
        (filter.split('/').collect(), name.split('/').collect());
    !hidden && levels_reach(&wanted, &found)
}
