//! A queue that is nearly always empty: then it takes the room of one pointer, and no memory.

use std::collections::VecDeque;

/// See the module. Not empty means boxed.
#[derive(Debug)]
#[expect(
    clippy::box_collection,
    reason = "one pointer instead of four words, for each idle connection"
)]
pub(crate) struct RareQueue<T>(Option<Box<VecDeque<T>>>);

impl<T> RareQueue<T> {
    pub const fn new() -> Self {
        Self(None)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.len())
    }

    pub fn push_back(&mut self, item: T) {
        self.0.get_or_insert_default().push_back(item);
    }

    pub fn push_front(&mut self, item: T) {
        self.0.get_or_insert_default().push_front(item);
    }

    pub fn append(&mut self, items: &mut VecDeque<T>) {
        if !items.is_empty() {
            self.0.get_or_insert_default().append(items);
        }
    }

    pub fn front(&self) -> Option<&T> {
        self.0.as_ref()?.front()
    }

    pub fn pop_front(&mut self) -> Option<T> {
        let item = self.0.as_mut()?.pop_front();
        self.give_back();
        item
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flat_map(|queue| queue.iter())
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut().flat_map(|queue| queue.iter_mut())
    }

    pub fn retain(&mut self, keep: impl FnMut(&mut T) -> bool) {
        if let Some(queue) = &mut self.0 {
            queue.retain_mut(keep);
            self.give_back();
        }
    }

    pub fn clear(&mut self) {
        self.0 = None;
    }

    fn give_back(&mut self) {
        self.0.take_if(|queue| queue.is_empty());
    }
}

impl<T> From<Vec<T>> for RareQueue<T> {
    fn from(items: Vec<T>) -> Self {
        let queue = (!items.is_empty()).then(|| Box::new(items.into()));
        Self(queue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_queue_is_one_pointer_and_holds_nothing() {
        assert_eq!(size_of::<RareQueue<[u8; 100]>>(), size_of::<usize>());
        let mut queue = RareQueue::from(vec![1, 2]);
        queue.push_front(0);
        assert_eq!((queue.pop_front(), queue.len()), (Some(0), 2));
        queue.retain(|item| *item > 5);
        assert!(queue.is_empty());
    }
}
