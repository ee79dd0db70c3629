//! The subscription tree: which values (ids of subscriptions) have a filter that matches a topic,
//! at a cost that depends on the topic and on the matches, not on the number of filters.
//!
//! A trie over topic levels, laid out flat: nodes are numbers, and one hash table for the whole
//! tree leads from (node, level) to the child, so that a node with one child and a node with a
//! million are the same thing. Level names are interned: each is stored once for the whole tree.
//!
//! Invariants: a node other than the root holds values or has children; a level name is interned
//! exactly as long as an edge uses it; the order in which matches are reported depends on what is
//! in the tree, never on hashes.
//!
//! The tree does not know what its values mean, and takes filters without `$share/...` or
//! `$replay/...` (see [`crate::topic::FilterKind::filter`]).

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::hash::Hasher;

use crate::hash::KeyedHash;
use crate::topic::{self, MAX_LEVELS};

/// Number of a node; the root is 0, which is nobody's child.
type Node = u32;
/// Number of an interned level name.
type Symbol = u32;

const ROOT: Node = 0;
/// "No such child": the root is nobody's child.
const NO_NODE: Node = ROOT;
/// The topic's level is not the name of any edge, so only wildcards can match it.
const UNKNOWN: Symbol = Symbol::MAX;
/// The topic has no level here.
const END: Symbol = Symbol::MAX - 1;
/// Entries above which an emptied tree gives its memory back; below, keeping it is cheaper.
const KEPT_WHEN_EMPTY: usize = 1024;

/// A map from Topic Filters to sets of values.
///
/// `T` is a small id. Its order is the order in which the values of one filter are reported.
#[derive(Debug)]
pub struct SubscriptionTree<T> {
    nodes: Vec<NodeEntry<T>>,
    free_nodes: Vec<Node>,
    edges: HashMap<Edge, Node, KeyedHash>,
    symbols: HashMap<Box<str>, Interned, KeyedHash>,
    free_symbols: Vec<Symbol>,
    next_symbol: Symbol,
    name_bytes: usize,
    len: usize,
}

#[derive(Debug)]
struct NodeEntry<T> {
    /// The child for the level `+`, or [`NO_NODE`].
    plus: Node,
    /// Children by name, without `plus`.
    named_children: u32,
    /// Values of the filter that ends in this node.
    here: Values<T>,
    /// Values of the filter that ends in `#` after this node.
    below: Values<T>,
}

/// One level name, and how many edges use it.
#[derive(Clone, Copy, Debug)]
struct Interned {
    symbol: Symbol,
    uses: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Edge {
    parent: Node,
    symbol: Symbol,
}

impl<T> Default for SubscriptionTree<T> {
    fn default() -> Self {
        Self {
            nodes: vec![NodeEntry::default()],
            free_nodes: Vec::new(),
            edges: HashMap::with_hasher(KeyedHash::default()),
            symbols: HashMap::with_hasher(KeyedHash::default()),
            free_symbols: Vec::new(),
            next_symbol: 0,
            name_bytes: 0,
            len: 0,
        }
    }
}

impl<T: Copy + Ord> SubscriptionTree<T> {
    /// An empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of (filter, value) pairs.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True if nothing is in the tree.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a value under a valid filter; false if it was already there.
    pub fn insert(&mut self, filter: &str, value: T) -> bool {
        let (path, ends_in_hash) = split_hash(filter);
        let mut node = ROOT;
        for level in path.into_iter().flat_map(|path| path.split('/')) {
            node = self.child_or_new(node, level);
        }
        let entry = &mut self.nodes[node as usize];
        let values = if ends_in_hash {
            &mut entry.below
        } else {
            &mut entry.here
        };
        let added = values.insert(value);
        self.len += usize::from(added);
        added
    }

    /// Removes a value from a filter; false if it was not there.
    pub fn remove(&mut self, filter: &str, value: &T) -> bool {
        let (path, ends_in_hash) = split_hash(filter);
        let mut trail = vec![ROOT];
        let mut node = ROOT;
        for level in path.into_iter().flat_map(|path| path.split('/')) {
            let Some(child) = self.child(node, level) else {
                return false;
            };
            node = child;
            trail.push(node);
        }
        let entry = &mut self.nodes[node as usize];
        let values = if ends_in_hash {
            &mut entry.below
        } else {
            &mut entry.here
        };
        if !values.remove(value) {
            return false;
        }
        self.len -= 1;
        if let Some(path) = path {
            self.prune(&trail, path);
        }
        if self.len == 0 && self.nodes.len() > KEPT_WHEN_EMPTY {
            *self = Self::default();
        }
        true
    }

    /// Calls `found` for every value of every filter that matches the valid Topic Name. A value
    /// that is under several matching filters is reported for each.
    pub fn for_each_match(&self, topic: &str, mut found: impl FnMut(&T)) {
        // [MQTT-4.7.2-1]
        let wildcard_first = !topic.starts_with('$');
        let mut levels = Levels::new(topic);
        // A depth-first walk in which each step leaves at most one sibling waiting.
        let mut waiting = [(ROOT, 0_u32); MAX_LEVELS + 2];
        let mut waiting_len = 1;
        while waiting_len > 0 {
            waiting_len -= 1;
            let (node, depth) = waiting[waiting_len];
            let entry = &self.nodes[node as usize];
            let wildcards = depth > 0 || wildcard_first;
            if wildcards {
                entry.below.for_each(&mut found);
            }
            let symbol = levels.symbol(depth as usize, &self.symbols);
            if symbol == END {
                entry.here.for_each(&mut found);
                continue;
            }
            if depth as usize >= MAX_LEVELS {
                continue;
            }
            if entry.plus != NO_NODE && wildcards {
                waiting[waiting_len] = (entry.plus, depth + 1);
                waiting_len += 1;
            }
            if symbol != UNKNOWN
                && entry.named_children > 0
                && let Some(&child) = self.edges.get(&Edge {
                    parent: node,
                    symbol,
                })
            {
                waiting[waiting_len] = (child, depth + 1);
                waiting_len += 1;
            }
        }
    }

    /// Bytes the tree occupies, without the allocator's own: for statistics and tests.
    pub fn memory_bytes(&self) -> usize {
        // A hash table of the standard library has 8/7 slots per entry and a control byte each.
        let table = |capacity: usize, entry: usize| capacity * 8 / 7 * (entry + 1);
        self.nodes.capacity() * size_of::<NodeEntry<T>>()
            + self
                .nodes
                .iter()
                .map(|node| node.here.heap_bytes() + node.below.heap_bytes())
                .sum::<usize>()
            + table(self.edges.capacity(), size_of::<(Edge, Node)>())
            + table(self.symbols.capacity(), size_of::<(Box<str>, Interned)>())
            + self.name_bytes
            + (self.free_nodes.capacity() + self.free_symbols.capacity()) * size_of::<u32>()
    }

    fn child(&self, parent: Node, level: &str) -> Option<Node> {
        if level == "+" {
            return Some(self.nodes[parent as usize].plus).filter(|&node| node != NO_NODE);
        }
        let symbol = self.symbols.get(level)?.symbol;
        self.edges.get(&Edge { parent, symbol }).copied()
    }

    fn child_or_new(&mut self, parent: Node, level: &str) -> Node {
        if let Some(child) = self.child(parent, level) {
            return child;
        }
        let child = self.new_node();
        if level == "+" {
            self.nodes[parent as usize].plus = child;
        } else {
            let symbol = self.intern(level);
            self.edges.insert(Edge { parent, symbol }, child);
            self.nodes[parent as usize].named_children += 1;
        }
        child
    }

    fn new_node(&mut self) -> Node {
        if let Some(node) = self.free_nodes.pop() {
            return node;
        }
        let node = Node::try_from(self.nodes.len()).expect("memory ends before 2^32 nodes");
        self.nodes.push(NodeEntry::default());
        node
    }

    /// Removes the nodes that `remove` left empty, from the end of the path to the root.
    fn prune(&mut self, trail: &[Node], path: &str) {
        for (step, level) in trail.windows(2).rev().zip(path.rsplit('/')) {
            let &[parent, node] = step else { return };
            if !self.nodes[node as usize].is_empty() {
                return;
            }
            self.free_nodes.push(node);
            let entry = &mut self.nodes[parent as usize];
            if level == "+" {
                entry.plus = NO_NODE;
            } else {
                entry.named_children -= 1;
                let symbol = self.release(level);
                self.edges.remove(&Edge { parent, symbol });
            }
        }
    }

    fn intern(&mut self, level: &str) -> Symbol {
        if let Some(interned) = self.symbols.get_mut(level) {
            interned.uses += 1;
            return interned.symbol;
        }
        let symbol = self.free_symbols.pop().unwrap_or_else(|| {
            self.next_symbol += 1;
            self.next_symbol - 1
        });
        self.name_bytes += level.len();
        self.symbols
            .insert(level.into(), Interned { symbol, uses: 1 });
        symbol
    }

    fn release(&mut self, level: &str) -> Symbol {
        let interned = self
            .symbols
            .get_mut(level)
            .expect("the name of an edge is interned");
        interned.uses -= 1;
        let Interned { symbol, uses } = *interned;
        if uses == 0 {
            self.symbols.remove(level);
            self.name_bytes -= level.len();
            self.free_symbols.push(symbol);
        }
        symbol
    }
}

/// The filter without a last level `#`, and whether it had one; no path at all for `#` alone.
fn split_hash(filter: &str) -> (Option<&str>, bool) {
    match filter.strip_suffix('#') {
        Some("") => (None, true),
        Some(path) => (path.strip_suffix('/'), true),
        None => (Some(filter), false),
    }
}

/// The symbols of a topic's levels, each looked up when the walk first gets that deep.
struct Levels<'a> {
    rest: topic::Levels<'a>,
    symbols: [Symbol; MAX_LEVELS + 1],
    looked_up: usize,
}

impl<'a> Levels<'a> {
    fn new(topic: &'a str) -> Self {
        Self {
            rest: topic::levels(topic),
            symbols: [END; MAX_LEVELS + 1],
            looked_up: 0,
        }
    }

    fn symbol(&mut self, depth: usize, names: &HashMap<Box<str>, Interned, KeyedHash>) -> Symbol {
        while self.looked_up <= depth {
            let level = self.rest.next();
            self.symbols[self.looked_up] = match level {
                Some(level) => names.get(level).map_or(UNKNOWN, |interned| interned.symbol),
                None => END,
            };
            self.looked_up += 1;
        }
        self.symbols[depth]
    }
}

impl<T> Default for NodeEntry<T> {
    fn default() -> Self {
        Self {
            plus: NO_NODE,
            named_children: 0,
            here: Values::None,
            below: Values::None,
        }
    }
}

impl<T: Copy + Ord> NodeEntry<T> {
    const fn is_empty(&self) -> bool {
        self.plus == NO_NODE
            && self.named_children == 0
            && matches!(self.here, Values::None)
            && matches!(self.below, Values::None)
    }
}

/// A sorted set that needs no allocation for the usual one value.
#[derive(Debug)]
enum Values<T> {
    None,
    One(T),
    /// Sorted: found by halving, and always reported in the same order.
    Many(Vec<T>),
}

impl<T: Copy + Ord> Values<T> {
    fn insert(&mut self, value: T) -> bool {
        match self {
            Self::None => *self = Self::One(value),
            Self::One(only) if *only == value => return false,
            Self::One(only) => {
                *self = Self::Many(vec![value.min(*only), value.max(*only)]);
            }
            Self::Many(many) => match many.binary_search(&value) {
                Ok(_) => return false,
                Err(at) => many.insert(at, value),
            },
        }
        true
    }

    fn remove(&mut self, value: &T) -> bool {
        match self {
            Self::None => return false,
            Self::One(only) if only != value => return false,
            Self::One(_) => *self = Self::None,
            Self::Many(many) => {
                let Ok(at) = many.binary_search(value) else {
                    return false;
                };
                many.remove(at);
                if let [only] = many[..] {
                    *self = Self::One(only);
                } else if many.len() * 4 <= many.capacity() {
                    many.shrink_to(many.len() * 2);
                }
            }
        }
        true
    }

    fn for_each(&self, found: &mut impl FnMut(&T)) {
        match self {
            Self::None => {}
            Self::One(only) => found(only),
            Self::Many(many) => many.iter().for_each(found),
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Self::Many(many) => many.capacity() * size_of::<T>(),
            Self::None | Self::One(_) => 0,
        }
    }
}

impl std::hash::Hash for Edge {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from(self.parent) << 32 | u64::from(self.symbol));
    }
}
