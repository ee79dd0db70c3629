//! The machine that figures were taken on, as far as it can be found out.

use std::fs;
use std::path::Path;
use std::thread;

use crate::bench::sync_time;

/// What figures depend on.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Model of the processor.
    pub processor: String,
    /// Cores that programs may use.
    pub cores: usize,
    /// Operating system and its version.
    pub system: String,
    /// Memory of the machine.
    pub memory_bytes: Option<u64>,
    /// Programs that wanted to run in the minute before: above 1 others disturbed the figures.
    pub load: Option<f64>,
    /// How long a sync takes, in microseconds.
    pub sync_micros: Option<f64>,
    /// File system of the brokers' data.
    pub filesystem: String,
}

impl Machine {
    /// Finds out; writes and syncs in `directory` for a moment.
    pub fn examine(directory: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self {
            processor: after_colon(&read("/proc/cpuinfo"), "model name")
                .unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: thread::available_parallelism().map_or(1, usize::from),
            system: format!(
                "{} {}",
                std::env::consts::OS,
                read("/proc/sys/kernel/osrelease").trim()
            ),
            memory_bytes: after_colon(&read("/proc/meminfo"), "MemTotal")
                .and_then(|text| text.split(' ').next()?.parse::<u64>().ok())
                .map(|kibibytes| kibibytes * 1024),
            load: read("/proc/loadavg")
                .split(' ')
                .next()
                .and_then(|load| load.parse().ok()),
            sync_micros: sync_time::in_micros(directory),
            filesystem: filesystem(directory, &read("/proc/mounts"))
                .unwrap_or_else(|| "unknown file system".to_owned()),
        }
    }

    /// In one line.
    pub fn in_words(&self) -> String {
        let memory = self.memory_bytes.map_or(String::new(), |bytes| {
            format!(", {} GiB", (bytes + (1 << 29)) >> 30)
        });
        let sync = self.sync_micros.map_or(String::new(), |micros| {
            format!(", a sync takes {micros:.0} us")
        });
        let load = self.load.map_or(String::new(), |load| {
            format!(", load {load:.1} before the first run")
        });
        format!(
            "{}, {} cores{memory}, {}, {}{sync}{load}",
            self.processor, self.cores, self.system, self.filesystem
        )
    }
}

/// The value of a line `name : value`.
fn after_colon(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    let (_, value) = line.split_once(':')?;
    Some(value.trim().to_owned())
}

/// Type of the mount that `directory` is in: the longest mount point that it begins with.
fn filesystem(directory: &Path, mounts: &str) -> Option<String> {
    let directory = directory.canonicalize().ok()?;
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    mounts
        .filter(|(point, _)| directory.starts_with(point))
        .max_by_key(|(point, _)| point.len())
        .map(|(_, kind)| kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_on_the_mount_nearest_to_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let point = directory.path().canonicalize().expect("it is there");
        let mounts = format!("a / ext4 rw 0 0\nb {} tmpfs rw 0 0\n", point.display());
        let kind = |path: &Path| filesystem(path, &mounts);
        assert_eq!(kind(directory.path()).as_deref(), Some("tmpfs"));
        assert_eq!(kind(Path::new("/")).as_deref(), Some("ext4"));
    }

    #[test]
    fn a_machine_is_described_in_one_line() {
        let directory = tempfile::tempdir().expect("a directory");
        let machine = Machine::examine(directory.path());
        assert!(machine.cores >= 1);
        assert!(machine.sync_micros.is_some_and(|micros| micros > 0.0));
        assert!(!machine.in_words().contains('\n'));
    }

    #[test]
    fn a_value_stands_behind_its_colon() {
        assert_eq!(
            after_colon("model name\t: A B\nx: y", "model name").as_deref(),
            Some("A B")
        );
        assert_eq!(after_colon("x: y", "model name"), None);
    }
}
