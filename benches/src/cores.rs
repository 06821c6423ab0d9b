//! Which CPU does what: the proxies under test have one to themselves, load and origin share another.

use anyhow::{Context, Result, bail};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The two CPUs of a measurement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cores {
    /// For the proxies under test, and nothing else.
    pub(crate) proxies: Core,
    /// For load, origin and whatever configures the proxies.
    pub(crate) work: Core,
}

/// One CPU, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Core(pub(crate) usize);

impl Cores {
    /// The first two CPUs that this process may use.
    pub(crate) fn claim() -> Result<Self> {
        let allowed = sched_getaffinity(None).context("the CPUs of this process are not known")?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).map(Core);
        match (cores.next(), cores.next()) {
            (Some(proxies), Some(work)) => Ok(Self { proxies, work }),
            _ => bail!("this process may use one CPU only; proxies and load need one each: give it two"),
        }
    }
}

impl Core {
    /// Runs `spawn` with this thread on this core. What it starts stays there: children inherit it, and their threads too.
    pub(crate) fn start<T>(self, spawn: impl FnOnce() -> T) -> Result<T> {
        let before = sched_getaffinity(None).context("the CPUs of this thread are not known")?;
        let mut only = CpuSet::new();
        only.set(self.0);
        sched_setaffinity(None, &only).with_context(|| format!("nothing can be pinned to CPU {}", self.0))?;
        let started = spawn();
        sched_setaffinity(None, &before).context("this thread cannot have its CPUs back")?;
        Ok(started)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_child_stays_on_its_core_and_its_parent_does_not() {
        let before = sched_getaffinity(None).unwrap();
        let last = (0..CpuSet::MAX_CPU).rfind(|&cpu| before.is_set(cpu)).unwrap();
        let output = Core(last)
            .start(|| Command::new("grep").args(["Cpus_allowed_list", "/proc/self/status"]).output());
        let said = String::from_utf8(output.unwrap().unwrap().stdout).unwrap();
        assert_eq!(said.split_whitespace().last(), Some(last.to_string().as_str()));
        assert_eq!(sched_getaffinity(None).unwrap(), before);
    }
}
