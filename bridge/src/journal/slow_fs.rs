//! A disk whose syncs take long, in front of the simulated one: for tests of what runs beside them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use super::segments::sim_fs::SimFs;
use crate::journal::segments::fs::{Fs, FsFile};

/// Above what counts as slow.
const SYNC: Duration = Duration::from_millis(2);

/// See the module.
#[derive(Clone)]
pub struct SlowFs {
    inner: SimFs,
    running: Arc<AtomicUsize>,
    /// Most syncs that ran at once.
    pub most: Arc<AtomicUsize>,
}

impl SlowFs {
    /// In front of a simulated disk.
    pub fn new(inner: SimFs) -> Self {
        Self {
            inner,
            running: Arc::default(),
            most: Arc::default(),
        }
    }

    fn file(&self, inner: Arc<dyn FsFile>) -> Arc<dyn FsFile> {
        let fs = self.clone();
        Arc::new(SlowFile { inner, fs })
    }
}

struct SlowFile {
    inner: Arc<dyn FsFile>,
    fs: SlowFs,
}

impl Fs for SlowFs {
    fn open(&self, name: &str) -> io::Result<Arc<dyn FsFile>> {
        Ok(self.file(self.inner.open(name)?))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn FsFile>> {
        Ok(self.file(self.inner.create(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.inner.sync_dir()
    }

    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        self.inner.lock()
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}

impl FsFile for SlowFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, position)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<usize> {
        self.inner.write_at(bytes, position)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let running = self.fs.running.fetch_add(1, SeqCst) + 1;
        self.fs.most.fetch_max(running, SeqCst);
        std::thread::sleep(SYNC);
        let synced = self.inner.sync_data();
        self.fs.running.fetch_sub(1, SeqCst);
        synced
    }
}
