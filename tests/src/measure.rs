//! What a process uses of memory and a directory of the disk, as the system sees it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::{fs, io};

/// Memory of a process, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Resident now.
    pub resident: u64,
    /// Resident at most, since its start.
    pub peak: u64,
}

/// Memory of the process `id`.
///
/// # Errors
/// If there is no such process.
pub fn memory(id: u32) -> io::Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let bytes_of = |key: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(key)?.trim().strip_suffix("kB"))
            .and_then(|number| number.trim().parse::<u64>().ok())
            .map(|kib| kib * 1024)
            .ok_or_else(|| io::Error::other(format!("no {key} in /proc/{id}/status")))
    };
    Ok(Memory {
        resident: bytes_of("VmRSS:")?,
        peak: bytes_of("VmHWM:")?,
    })
}

/// Time of CPUs that the process `id` and its threads used so far, in user and system mode, seconds.
///
/// # Errors
/// If there is no such process.
pub fn cpu_seconds(id: u32) -> io::Result<f64> {
    /// Linux counts in these for every program, whatever its own clock has (`USER_HZ`).
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    // The name of the program may have blanks; it ends with the last parenthesis.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = |at: usize| -> io::Result<f64> {
        let field = after_name.split_whitespace().nth(at);
        field
            .and_then(|field| field.parse().ok())
            .ok_or_else(|| io::Error::other(format!("/proc/{id}/stat: {stat}")))
    };
    // Fields 14 and 15 of proc(5); the first after the name is field 3.
    Ok((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
}

/// File descriptors and threads of the process `id`.
///
/// # Errors
/// If there is no such process.
pub fn descriptors_and_threads(id: u32) -> io::Result<(usize, usize)> {
    let count =
        |what: &str| Ok::<_, io::Error>(fs::read_dir(format!("/proc/{id}/{what}"))?.count());
    Ok((count("fd")?, count("task")?))
}

/// Bytes that the files below `path` take on the disk: blocks that are there, not lengths.
///
/// # Errors
/// If the directory cannot be read; files that vanish meanwhile count nothing.
pub fn disk_bytes(path: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        sum += match entry.metadata() {
            Ok(data) if data.is_dir() => disk_bytes(&entry.path())?,
            // POSIX counts blocks of 512 bytes here, whatever the file system has.
            Ok(data) => data.blocks() * 512,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
    }
    Ok(sum)
}

/// Bytes that are written in the files below `path`: up to the last one that is not zero. Files that
/// are made larger than needed at once, so that writing is quick, count what is used of them. What
/// is no file, such as a socket, has no bytes.
///
/// # Errors
/// If a directory or a file cannot be read; files that vanish meanwhile count nothing.
pub fn written_bytes(path: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        let written = if path.is_dir() {
            written_bytes(&path)
        } else if !path.is_file() {
            Ok(0)
        } else {
            fs::read(&path).map(|bytes| {
                let last = bytes.iter().rposition(|&byte| byte != 0);
                last.map_or(0, |last| last as u64 + 1)
            })
        };
        sum += match written {
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            written => written?,
        };
    }
    Ok(sum)
}

/// Bytes as MiB, for people.
pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1 << 20) as f64
}
