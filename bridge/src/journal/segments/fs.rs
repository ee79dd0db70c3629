//! File access of the journal: the seam at which tests lose unsynced writes, tear the last one,
//! return errors and fill the disk.
//!
//! An [`Fs`] is one directory with flat names. What was written is visible at once; it is durable
//! after [`FsFile::sync_data`], and a new, renamed or removed name after [`Fs::sync_dir`]. This
//! module does not know what is in the files. [`super::sim_fs::SimFs`] is the other implementation.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Name of the file whose lock keeps a second process out.
const LOCK_NAME: &str = "LOCK";
/// Zeros are written in pieces of this size: large enough that the system call does not count.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Zeros are synced in steps of this size: the sync of a batch does not wait behind a whole segment.
const FILL_SYNC_BYTES: u64 = 2 * 1024 * 1024;

/// One directory.
pub trait Fs: Send + Sync {
    /// Opens a file that exists, for reading and writing.
    ///
    /// # Errors
    /// As for every method here: what the disk says.
    fn open(&self, name: &str) -> io::Result<Arc<dyn FsFile>>;

    /// Creates a file, or empties the one that exists.
    ///
    /// # Errors
    /// What the disk says.
    fn create(&self, name: &str) -> io::Result<Arc<dyn FsFile>>;

    /// Renames a file; one that has the new name is replaced.
    ///
    /// # Errors
    /// What the disk says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Who has it open can read on.
    ///
    /// # Errors
    /// What the disk says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// The names of all files, in no particular order.
    ///
    /// # Errors
    /// What the disk says.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes creations, renames and removals durable.
    ///
    /// # Errors
    /// What the disk says.
    fn sync_dir(&self) -> io::Result<()>;

    /// Locks the directory against others until the guard is dropped.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if it is locked already.
    fn lock(&self) -> io::Result<Box<dyn Send + Sync>>;

    /// The directory as a person would name it.
    fn describe(&self) -> String;
}

/// One open file. Calls may come from several threads.
pub trait FsFile: Send + Sync {
    /// Its length in bytes.
    ///
    /// # Errors
    /// What the disk says.
    fn len(&self) -> io::Result<u64>;

    /// True if the file has no bytes.
    ///
    /// # Errors
    /// What the disk says.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads at a position; fewer bytes than asked for, 0 at the end.
    ///
    /// # Errors
    /// What the disk says.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;

    /// Writes at a position; possibly fewer bytes than given.
    ///
    /// # Errors
    /// What the disk says.
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<usize>;

    /// Cuts or extends the file.
    ///
    /// # Errors
    /// What the disk says.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Returns when what was written is durable.
    ///
    /// # Errors
    /// What the disk says. Afterwards nobody knows what is durable.
    fn sync_data(&self) -> io::Result<()>;
}

/// Reads exactly `buffer.len()` bytes.
pub fn read_exact_at(file: &dyn FsFile, buffer: &mut [u8], position: u64) -> io::Result<()> {
    if read_full_at(file, buffer, position)? < buffer.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

/// Reads until the buffer is full or the file ends; returns how many bytes.
pub fn read_full_at(file: &dyn FsFile, buffer: &mut [u8], position: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], position + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Writes everything in one call. A short write is an error: on a disk it means that the disk is
/// full or failing, and the rest would be written into the unknown.
pub fn write_whole_at(file: &dyn FsFile, bytes: &[u8], position: u64) -> io::Result<()> {
    loop {
        match file.write_at(bytes, position) {
            Ok(n) if n == bytes.len() => return Ok(()),
            Ok(n) => {
                let what = format!("short write: {n} of {} bytes", bytes.len());
                return Err(io::Error::new(io::ErrorKind::WriteZero, what));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Fills `from..to` with zeros, so that later writes there change no metadata, and syncs.
pub fn zero_fill(file: &dyn FsFile, from: u64, to: u64) -> io::Result<()> {
    let mut position = from;
    while position < to {
        let len = ZEROS
            .len()
            .min(usize::try_from(to - position).unwrap_or(usize::MAX));
        write_whole_at(file, &ZEROS[..len], position)?;
        position += len as u64;
        if position.is_multiple_of(FILL_SYNC_BYTES) && position < to {
            file.sync_data()?;
        }
    }
    file.sync_data()
}

/// The first byte from `from` on that is not zero, and a position after which all are zero.
pub fn non_zero_extent(file: &dyn FsFile, from: u64) -> io::Result<Option<Range<u64>>> {
    let mut buffer = vec![0; ZEROS.len()];
    let mut found: Option<Range<u64>> = None;
    let mut position = from;
    loop {
        let len = read_full_at(file, &mut buffer, position)?;
        let piece = buffer.get(..len).unwrap_or_default();
        // Comparing whole pieces is much faster than looking at bytes.
        if piece != &ZEROS[..len] {
            let at = piece.iter().position(|byte| *byte != 0).unwrap_or(0) as u64;
            let start = found.map_or(position + at, |found| found.start);
            found = Some(start..position + len as u64);
        }
        if len < buffer.len() {
            return Ok(found);
        }
        position += len as u64;
    }
}

/// Replaces the file `name` so that after a crash either the old or the new content is there.
pub fn replace_file(fs: &dyn Fs, name: &str, content: &[u8]) -> io::Result<()> {
    let temporary = format!("{name}.tmp");
    let file = fs.create(&temporary)?;
    write_whole_at(&*file, content, 0)?;
    file.sync_data()?;
    fs.rename(&temporary, name)?;
    fs.sync_dir()
}

/// A directory of the machine.
#[derive(Debug)]
pub struct RealFs {
    path: PathBuf,
    directory: File,
}

impl RealFs {
    /// Opens the directory, creating it if it is not there.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn new(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        if !path.is_dir() {
            fs::create_dir_all(&path)?;
            if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
                File::open(parent)?.sync_all()?;
            }
        }
        let directory = File::open(&path)?;
        Ok(Self { path, directory })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Fs for RealFs {
    fn open(&self, name: &str) -> io::Result<Arc<dyn FsFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.path.join(name))?;
        Ok(Arc::new(file))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn FsFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        Ok(Arc::new(options.open(self.path.join(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            // Other names are none of ours.
            if let Ok(name) = entry.file_name().into_string()
                && entry.file_type()?.is_file()
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.directory.sync_all()
    }

    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.path.join(LOCK_NAME))?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn describe(&self) -> String {
        self.path.display().to_string()
    }
}

impl FsFile for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, position)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, position)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }
}
