//! A directory in memory whose disk can be cut off, torn, filled and broken, from a seed.
//!
//! What was written and not synced is kept apart: [`SimFs::crash`] lets a seeded part of it
//! survive. Per file that is a prefix of its writes, the last of them torn (at a byte, or into
//! 512-byte sectors of which any may be missing); of the directory a prefix of its changes.
//! Everything that was open before a crash answers with an error afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::fs::{Fs, FsFile};

/// What a disk persists as a whole.
const SECTOR_BYTES: usize = 512;

/// Something that goes wrong once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A write fails; nothing of it is written.
    Write,
    /// A write stores only half of its bytes and says so.
    ShortWrite,
    /// A sync fails, and what was to be synced is lost at the next crash.
    Sync,
    /// A read fails.
    Read,
}

/// What happened on the disk so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls of `write_at`.
    pub writes: u64,
    /// Calls of `sync_data`.
    pub syncs: u64,
    /// Bytes that were read.
    pub read_bytes: u64,
}

/// The directory. Clones are the same directory.
#[derive(Clone, Debug)]
pub struct SimFs {
    disk: Arc<Mutex<Disk>>,
}

#[derive(Debug)]
struct Disk {
    random: u64,
    /// Power cycles so far: handles of earlier ones are dead.
    life: u64,
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    unsynced_names: Vec<NameChange>,
    locked: bool,
    capacity: Option<u64>,
    faults: Vec<(Fault, u64)>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Inode {
    content: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Write { position: usize, bytes: Vec<u8> },
    SetLen(usize),
}

#[derive(Debug)]
enum NameChange {
    Set(String, usize),
    Rename(String, String),
    Remove(String),
}

impl SimFs {
    /// An empty directory. The same seed and the same calls lead to the same survivors.
    pub fn new(seed: u64) -> Self {
        let disk = Disk {
            random: seed ^ 0x9E37_79B9_7F4A_7C15,
            life: 0,
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
            locked: false,
            capacity: None,
            faults: Vec::new(),
            counts: Counts::default(),
        };
        Self {
            disk: Arc::new(Mutex::new(disk)),
        }
    }

    /// Cuts the power: a seeded part of what was not synced is lost, the lock is free again.
    pub fn crash(&self) {
        self.disk().crash(true);
    }

    /// Kills the process: the files stay as they are, the lock is free again.
    pub fn kill(&self) {
        self.disk().new_life();
    }

    /// Cuts the power of a disk that loses everything that was not synced.
    pub fn crash_hard(&self) {
        self.disk().crash(false);
    }

    /// Lets `fault` happen once, at the operation of its kind after `skip` others.
    pub fn inject(&self, fault: Fault, skip: u64) {
        self.disk().faults.push((fault, skip));
    }

    /// Limits the sum of all file lengths, bytes; `None` for no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.disk().capacity = bytes;
    }

    /// The sum of all file lengths, bytes.
    pub fn used_bytes(&self) -> u64 {
        self.disk().used_bytes()
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        self.disk().counts
    }

    /// The content of a file; `None` if there is none of this name.
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let disk = self.disk();
        disk.names
            .get(name)
            .map(|&inode| disk.inodes[inode].content.clone())
    }

    /// Puts a file there, durably: to damage what is on the disk.
    pub fn overwrite(&self, name: &str, content: &[u8]) {
        let mut disk = self.disk();
        disk.inodes.push(Inode {
            content: content.to_vec(),
            durable: content.to_vec(),
            unsynced: Vec::new(),
        });
        let inode = disk.inodes.len() - 1;
        disk.names.insert(name.to_owned(), inode);
        disk.durable_names.insert(name.to_owned(), inode);
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk {
    fn next_random(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as usize % below.max(1)
    }

    fn used_bytes(&self) -> u64 {
        self.names
            .values()
            .map(|&inode| self.inodes[inode].content.len() as u64)
            .sum()
    }

    fn crash(&mut self, some_survives: bool) {
        let changes = std::mem::take(&mut self.unsynced_names);
        let kept = if some_survives {
            self.next_random(changes.len() + 1)
        } else {
            0
        };
        for change in changes.into_iter().take(kept) {
            change.apply(&mut self.durable_names);
        }
        self.names = self.durable_names.clone();
        for index in 0..self.inodes.len() {
            let changes = std::mem::take(&mut self.inodes[index].unsynced);
            if some_survives && !changes.is_empty() {
                let kept = self.next_random(changes.len() + 1);
                let tear = self.next_random(usize::MAX);
                for (number, change) in changes.into_iter().enumerate().take(kept + 1) {
                    let left = if number == kept {
                        self.torn(change, tear)
                    } else {
                        vec![change]
                    };
                    left.iter()
                        .for_each(|change| change.apply(&mut self.inodes[index].durable));
                }
            }
            let inode = &mut self.inodes[index];
            inode.content.clone_from(&inode.durable);
        }
        self.new_life();
    }

    fn new_life(&mut self) {
        self.life += 1;
        self.locked = false;
        self.faults.clear();
        // No handle reaches what has no name any more.
        let named: BTreeSet<usize> = self
            .names
            .values()
            .chain(self.durable_names.values())
            .copied()
            .collect();
        for (number, inode) in self.inodes.iter_mut().enumerate() {
            if !named.contains(&number) {
                *inode = Inode::default();
            }
        }
    }

    /// What is left of the change during which the power went.
    fn torn(&mut self, change: Change, tear: usize) -> Vec<Change> {
        let Change::Write {
            position,
            mut bytes,
        } = change
        else {
            return Vec::new();
        };
        if tear.is_multiple_of(2) {
            let kept = self.next_random(bytes.len() + 1);
            bytes.truncate(kept);
            return vec![Change::Write { position, bytes }];
        }
        let mut left = Vec::new();
        for (number, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
            if self.next_random(2) == 0 {
                let position = position + number * SECTOR_BYTES;
                left.push(Change::Write {
                    position,
                    bytes: sector.to_vec(),
                });
            }
        }
        left
    }

    fn fault(&mut self, wanted: Fault) -> bool {
        let mut hit = false;
        self.faults.retain_mut(|(fault, skip)| {
            if *fault != wanted {
                return true;
            }
            if *skip == 0 && !hit {
                hit = true;
                return false;
            }
            *skip = skip.saturating_sub(1);
            true
        });
        hit
    }

    fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.unsynced_names.push(change);
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { position, bytes } => {
                if bytes.is_empty() {
                    return;
                }
                let end = position + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*position..end].copy_from_slice(bytes);
            }
            Self::SetLen(len) => content.resize(*len, 0),
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Set(name, inode) => {
                names.insert(name.clone(), *inode);
            }
            Self::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
            Self::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

struct SimFile {
    fs: SimFs,
    inode: usize,
    life: u64,
}

struct SimLock {
    fs: SimFs,
    life: u64,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut disk = self.fs.disk();
        if disk.life == self.life {
            disk.locked = false;
        }
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::other(format!("injected: {what}"))
}

impl SimFs {
    fn handle(&self, inode: usize, life: u64) -> Arc<dyn FsFile> {
        Arc::new(SimFile {
            fs: self.clone(),
            inode,
            life,
        })
    }
}

impl Fs for SimFs {
    fn open(&self, name: &str) -> io::Result<Arc<dyn FsFile>> {
        let disk = self.disk();
        let inode = *disk.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.handle(inode, disk.life))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn FsFile>> {
        let mut disk = self.disk();
        disk.inodes.push(Inode::default());
        let inode = disk.inodes.len() - 1;
        disk.change_name(NameChange::Set(name.to_owned(), inode));
        Ok(self.handle(inode, disk.life))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.disk();
        if !disk.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        disk.change_name(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk();
        if !disk.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        disk.change_name(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.disk().names.keys().cloned().collect())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut disk = self.disk();
        if disk.fault(Fault::Sync) {
            return Err(broken("sync of the directory"));
        }
        disk.durable_names = disk.names.clone();
        disk.unsynced_names.clear();
        Ok(())
    }

    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        let mut disk = self.disk();
        if disk.locked {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        disk.locked = true;
        Ok(Box::new(SimLock {
            fs: self.clone(),
            life: disk.life,
        }))
    }

    fn describe(&self) -> String {
        "simulated directory".to_owned()
    }
}

impl SimFile {
    fn disk(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let disk = self.fs.disk();
        if disk.life == self.life {
            Ok(disk)
        } else {
            Err(broken("the machine went down"))
        }
    }
}

impl FsFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk()?.inodes[self.inode].content.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut disk = self.disk()?;
        if disk.fault(Fault::Read) {
            return Err(broken("read"));
        }
        let content = &disk.inodes[self.inode].content;
        let start = usize::try_from(position)
            .unwrap_or(usize::MAX)
            .min(content.len());
        let len = buffer.len().min(content.len() - start);
        buffer[..len].copy_from_slice(&content[start..start + len]);
        disk.counts.read_bytes += len as u64;
        Ok(len)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<usize> {
        let mut disk = self.disk()?;
        disk.counts.writes += 1;
        if disk.fault(Fault::Write) {
            return Err(broken("write"));
        }
        let position = usize::try_from(position).map_err(io::Error::other)?;
        let mut len = if disk.fault(Fault::ShortWrite) {
            bytes.len() / 2
        } else {
            bytes.len()
        };
        if let Some(capacity) = disk.capacity {
            let free = usize::try_from(capacity.saturating_sub(disk.used_bytes()));
            let old = disk.inodes[self.inode].content.len();
            let end = old.saturating_add(free.unwrap_or(usize::MAX));
            len = len.min(end.saturating_sub(position));
            if len == 0 && !bytes.is_empty() {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        let change = Change::Write {
            position,
            bytes: bytes[..len].to_vec(),
        };
        let inode = &mut disk.inodes[self.inode];
        change.apply(&mut inode.content);
        inode.unsynced.push(change);
        Ok(len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut disk = self.disk()?;
        let change = Change::SetLen(usize::try_from(len).map_err(io::Error::other)?);
        let inode = &mut disk.inodes[self.inode];
        change.apply(&mut inode.content);
        inode.unsynced.push(change);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.disk()?;
        disk.counts.syncs += 1;
        let failed = disk.fault(Fault::Sync);
        let inode = &mut disk.inodes[self.inode];
        let changes = std::mem::take(&mut inode.unsynced);
        if failed {
            return Err(broken("sync"));
        }
        for change in changes {
            change.apply(&mut inode.durable);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_synced_survives_and_the_rest_is_a_torn_prefix() -> io::Result<()> {
        for seed in 0..50 {
            let fs = SimFs::new(seed);
            let file = fs.create("a")?;
            file.write_at(&[1; 1000], 0)?;
            file.sync_data()?;
            fs.sync_dir()?;
            file.write_at(&[2; 2000], 1000)?;
            file.write_at(&[3; 10], 3000)?;
            fs.crash();
            assert!(file.read_at(&mut [0], 0).is_err());
            let content = fs.content("a").unwrap_or_default();
            assert_eq!(content[..1000], [1; 1000]);
            assert!(
                content[1000..content.len().min(3000)]
                    .iter()
                    .all(|b| [0, 2].contains(b))
            );
        }
        Ok(())
    }

    #[test]
    fn a_full_disk_writes_what_fits_and_then_says_so() -> io::Result<()> {
        let fs = SimFs::new(1);
        fs.set_capacity(Some(10));
        let file = fs.create("a")?;
        assert_eq!(file.write_at(&[1; 20], 0)?, 10);
        let full = file.write_at(&[1; 20], 10).map_err(|error| error.kind());
        assert_eq!(full, Err(io::ErrorKind::StorageFull));
        assert_eq!(file.write_at(&[2; 10], 0)?, 10);
        Ok(())
    }

    #[test]
    fn a_new_name_is_durable_only_after_the_directory_was_synced() -> io::Result<()> {
        let fs = SimFs::new(3);
        fs.create("a")?.sync_data()?;
        fs.crash_hard();
        assert_eq!(fs.content("a"), None);
        fs.create("a")?;
        fs.sync_dir()?;
        fs.rename("a", "b")?;
        fs.crash_hard();
        assert_eq!(fs.list()?, ["a"]);
        Ok(())
    }
}
