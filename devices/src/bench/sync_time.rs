//! How fast a disk syncs: what an acknowledgement of a kept message waits for.

use std::fs::{self, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::measure::median;

/// As much as a small group commit.
const BLOCK: usize = 4096;

/// Enough for a median.
const BLOCKS: usize = 256;

/// A slow disk has fewer samples.
const AT_MOST: Duration = Duration::from_millis(500);

/// The median time of a sync in this directory, in microseconds; `None` if nothing can be written.
pub fn in_micros(directory: &Path) -> Option<f64> {
    let path = directory.join("sync-time");
    let micros = samples(&path);
    // If it cannot be removed, it goes with the directory.
    let _ = fs::remove_file(&path);
    median(micros.ok()?)
}

/// Blocks of a file that is there already are written over and synced, as a journal does with its
/// segments.
fn samples(path: &Path) -> io::Result<Vec<f64>> {
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .open(path)?;
    file.write_all(&[0; BLOCK * BLOCKS])?;
    file.sync_all()?;
    file.seek(SeekFrom::Start(0))?;
    let began = Instant::now();
    let mut micros = Vec::with_capacity(BLOCKS);
    for _ in 0..BLOCKS {
        let before = Instant::now();
        file.write_all(&[1; BLOCK])?;
        file.sync_data()?;
        micros.push(before.elapsed().as_secs_f64() * 1e6);
        if began.elapsed() > AT_MOST {
            break;
        }
    }
    Ok(micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_takes_time_and_leaves_no_file() {
        let directory = tempfile::tempdir().expect("a directory");
        assert!(in_micros(directory.path()).is_some_and(|micros| micros > 0.0));
        let mut left = fs::read_dir(directory.path()).expect("it is there");
        assert!(left.next().is_none());
    }

    #[test]
    fn where_nothing_can_be_written_there_is_no_time() {
        assert_eq!(in_micros(Path::new("/no/such/directory")), None);
    }
}
