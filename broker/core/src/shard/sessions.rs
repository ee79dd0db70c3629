//! The sessions of one shard, found by connection.
//!
//! A [`ConnId`] is a slot and a generation: a command for an earlier connection in the same slot
//! finds nothing.

use crate::session::Session;

/// One network connection, as the shell and the shard call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    slot: u32,
    generation: u32,
}

impl ConnId {
    /// A small number that no two connections of a shard have at the same time.
    pub fn slot(self) -> usize {
        self.slot as usize
    }
}

#[derive(Debug, Default)]
pub(super) struct Sessions {
    slots: Vec<(u32, Option<Box<Session>>)>,
    free: Vec<u32>,
    count: usize,
}

impl Sessions {
    pub fn insert(&mut self, session: Session) -> ConnId {
        self.count += 1;
        let session = Some(Box::new(session));
        if let Some(slot) = self.free.pop()
            && let Some(place) = self.slots.get_mut(slot as usize)
        {
            place.1 = session;
            return ConnId {
                slot,
                generation: place.0,
            };
        }
        let slot = u32::try_from(self.slots.len()).expect("fewer than 2^32 connections at once");
        self.slots.push((0, session));
        ConnId {
            slot,
            generation: 0,
        }
    }

    pub fn get(&self, conn: ConnId) -> Option<&Session> {
        let (generation, session) = self.slots.get(conn.slot as usize)?;
        session
            .as_deref()
            .filter(|_| *generation == conn.generation)
    }

    pub fn get_mut(&mut self, conn: ConnId) -> Option<&mut Session> {
        let (generation, session) = self.slots.get_mut(conn.slot as usize)?;
        session
            .as_deref_mut()
            .filter(|_| *generation == conn.generation)
    }

    pub fn remove(&mut self, conn: ConnId) -> Option<Box<Session>> {
        let (generation, session) = self.slots.get_mut(conn.slot as usize)?;
        if *generation != conn.generation {
            return None;
        }
        let session = session.take()?;
        *generation = generation.wrapping_add(1);
        self.free.push(conn.slot);
        self.count -= 1;
        Some(session)
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn ids(&self) -> Vec<ConnId> {
        self.iter().map(|(id, _)| id).collect()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Session> {
        self.slots
            .iter_mut()
            .filter_map(|(_, session)| session.as_deref_mut())
    }

    pub fn iter(&self) -> impl Iterator<Item = (ConnId, &Session)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(slot, (generation, session))| {
                let slot = u32::try_from(slot).ok()?;
                Some((
                    ConnId {
                        slot,
                        generation: *generation,
                    },
                    session.as_deref()?,
                ))
            })
    }
}
