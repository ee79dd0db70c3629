//! Which cores the brokers and the load generator run on.
//!
//! Invariants: a core is given only if this process may run on it; broker and generator never share
//! one, or neither is pinned. Where cores cannot be chosen (other systems than Linux, one core) all
//! is left to the system, and the report says so.

/// Who runs where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cores {
    /// Of the broker; empty: wherever the system puts it.
    pub broker: Vec<usize>,
    /// Of the generator's threads; empty: wherever the system puts them.
    pub generator: Vec<usize>,
}

impl Cores {
    /// The first `wanted` of `allowed` for the broker, the rest for the generator. If none is left
    /// for the generator, nobody is pinned.
    pub fn share(allowed: &[usize], wanted: usize) -> Self {
        match allowed.split_at_checked(wanted) {
            Some((broker, generator)) if !broker.is_empty() && !generator.is_empty() => Self {
                broker: broker.to_vec(),
                generator: generator.to_vec(),
            },
            _ => Self::default(),
        }
    }

    /// For a report.
    pub fn in_words(&self) -> String {
        if self.are_apart() {
            format!(
                "broker on {}, generator on {}",
                list(&self.broker),
                list(&self.generator)
            )
        } else {
            "shared by broker and generator, which is unfair to whoever needs more".to_owned()
        }
    }

    /// True if broker and generator have cores of their own.
    pub fn are_apart(&self) -> bool {
        !self.broker.is_empty()
    }
}

/// `0,2,3`, as the command line has it.
pub fn list(cores: &[usize]) -> String {
    let numbers: Vec<String> = cores.iter().map(usize::to_string).collect();
    numbers.join(",")
}

/// The cores that this process may run on; empty if that cannot be known.
#[cfg(target_os = "linux")]
pub fn allowed() -> Vec<usize> {
    use rustix::thread::{CpuSet, sched_getaffinity};
    let Ok(set) = sched_getaffinity(None) else {
        return Vec::new();
    };
    (0..CpuSet::MAX_CPU)
        .filter(|core| set.is_set(*core))
        .collect()
}

/// The cores that this process may run on; empty if that cannot be known.
#[cfg(not(target_os = "linux"))]
pub fn allowed() -> Vec<usize> {
    Vec::new()
}

/// Restricts the calling thread, and what it starts, to these cores.
///
/// # Errors
/// If there is no such core, or the system refuses.
#[cfg(target_os = "linux")]
pub fn pin_this_thread(cores: &[usize]) -> anyhow::Result<()> {
    use rustix::thread::{CpuSet, sched_setaffinity};
    let mut set = CpuSet::new();
    for core in cores {
        anyhow::ensure!(*core < CpuSet::MAX_CPU, "no core {core}");
        set.set(*core);
    }
    sched_setaffinity(None, &set)?;
    Ok(())
}

/// Restricts the calling thread, and what it starts, to these cores.
///
/// # Errors
/// Always: this system has no way to do so.
#[cfg(not(target_os = "linux"))]
pub fn pin_this_thread(_: &[usize]) -> anyhow::Result<()> {
    anyhow::bail!("cores can be chosen on Linux only")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_broker_takes_the_first_cores_and_the_generator_the_rest() {
        let cores = Cores::share(&[0, 2, 3, 5], 1);
        assert_eq!((cores.broker, cores.generator), (vec![0], vec![2, 3, 5]));
    }

    #[test]
    fn nobody_is_pinned_where_no_core_is_left_for_the_generator() {
        for (allowed, wanted) in [(&[0, 1][..], 2), (&[0], 1), (&[0, 1], 3), (&[], 1)] {
            assert!(!Cores::share(allowed, wanted).are_apart());
        }
    }

    #[test]
    fn a_list_of_cores_reads_as_on_the_command_line() {
        assert_eq!(list(&[0, 2, 3]), "0,2,3");
    }
}
