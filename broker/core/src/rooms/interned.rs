//! Names as small numbers: a name is stored once, whatever the number of records that have it, and
//! goes with the last of them.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// A hash map whose keys are numbers that are given here, and not chosen by clients.
pub(super) type IdMap<V> = HashMap<u32, V, BuildHasherDefault<IdHasher>>;

/// Spreads numbers over all bits; no defence against chosen keys is needed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let mixed = (self.0 ^ u64::from(number)).wrapping_mul(GOLDEN);
        self.0 = mixed ^ (mixed >> 32);
    }
}

/// Values by name, and by a number that stays while the value is there.
#[derive(Debug)]
pub(super) struct Interned<V> {
    by_name: HashMap<Arc<str>, u32>,
    slots: Vec<Option<(Arc<str>, V)>>,
    free: Vec<u32>,
}

impl<V> Default for Interned<V> {
    fn default() -> Self {
        Self {
            by_name: HashMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<V: Default> Interned<V> {
    pub fn find(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    /// The number of a name, with an empty value if it is new.
    pub fn intern(&mut self, name: &Arc<str>) -> u32 {
        if let Some(id) = self.find(name) {
            return id;
        }
        let slot = Some((name.clone(), V::default()));
        let id = match self.free.pop() {
            Some(id) if (id as usize) < self.slots.len() => {
                self.slots[id as usize] = slot;
                id
            }
            _ => {
                let id = u32::try_from(self.slots.len()).expect("fewer than 2^32 names at once");
                self.slots.push(slot);
                id
            }
        };
        self.by_name.insert(name.clone(), id);
        id
    }

    pub fn get(&self, id: u32) -> Option<&V> {
        Some(&self.slots.get(id as usize)?.as_ref()?.1)
    }

    pub fn get_mut(&mut self, id: u32) -> Option<&mut V> {
        Some(&mut self.slots.get_mut(id as usize)?.as_mut()?.1)
    }

    pub fn name(&self, id: u32) -> Option<&Arc<str>> {
        Some(&self.slots.get(id as usize)?.as_ref()?.0)
    }

    pub fn by_name(&self, name: &str) -> Option<&V> {
        self.get(self.find(name)?)
    }

    pub fn remove(&mut self, id: u32) {
        if let Some(slot) = self.slots.get_mut(id as usize)
            && let Some((name, _)) = slot.take()
        {
            self.by_name.remove(&name);
            self.free.push(id);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &V)> {
        self.slots
            .iter()
            .flatten()
            .map(|(name, value)| (name, value))
    }

    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// About the bytes of the tables, without what names and values point to.
    #[cfg(test)]
    pub fn table_bytes(&self) -> usize {
        let slots = self.slots.capacity() * size_of::<Option<(Arc<str>, V)>>();
        let entry = size_of::<(Arc<str>, u32)>() + 1;
        slots + self.by_name.capacity() * 8 / 7 * entry
    }
}
