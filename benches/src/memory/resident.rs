//! What processes have in memory, and when that no longer changes.

use std::collections::VecDeque;
use std::fs;

use anyhow::{Context, Result};

/// Looks that must agree: a second of them.
const LOOKS: usize = 6;
/// By how much they may differ, as a share of the least.
const AGREE: f64 = 0.01;
pub(super) const KIB_OF_MIB: f64 = 1024.0;

/// Memory of some processes together, in MiB.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Resident {
    /// Everything that is in memory.
    pub(crate) rss_mib: f64,
    /// The same, but a page that several processes have counts as their share of it.
    pub(crate) pss_mib: f64,
    /// What is no file's.
    pub(crate) anonymous_mib: f64,
}

/// Looks at memory until it stays as it is.
#[derive(Debug, Default)]
pub(super) struct Settling {
    /// The last looks, at most [`LOOKS`].
    looks: VecDeque<f64>,
}

impl Resident {
    /// Reads `/proc/PID/smaps_rollup` of each process.
    pub(super) fn read(pids: impl IntoIterator<Item = u32>) -> Result<Self> {
        let mut all = Self::default();
        for pid in pids {
            let file = format!("/proc/{pid}/smaps_rollup");
            let text = fs::read_to_string(&file)
                .with_context(|| format!("cannot read {file}: the process is gone, or is somebody else's"))?;
            let one = Self::parse(&text).with_context(|| format!("{file} says {text:?}"))?;
            all.rss_mib += one.rss_mib;
            all.pss_mib += one.pss_mib;
            all.anonymous_mib += one.anonymous_mib;
        }
        Ok(all)
    }

    fn parse(smaps_rollup: &str) -> Option<Self> {
        let mib = |name: &str| {
            let value = smaps_rollup.lines().find_map(|line| line.strip_prefix(name))?;
            let kib: u32 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
            Some(f64::from(kib) / KIB_OF_MIB)
        };
        Some(Self { rss_mib: mib("Rss:")?, pss_mib: mib("Pss:")?, anonymous_mib: mib("Anonymous:")? })
    }
}

impl Settling {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Takes another look; says whether all of the last second agree.
    pub(super) fn has_settled(&mut self, rss_mib: f64) -> bool {
        if self.looks.len() == LOOKS {
            self.looks.pop_front();
        }
        self.looks.push_back(rss_mib);
        let least = self.looks.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.looks.iter().copied().fold(0.0, f64::max);
        self.looks.len() == LOOKS && most - least <= least * AGREE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLLUP: &str = "55d0-7ffd ---p 00000000 00:00 0    [rollup]\nRss:               18432 kB\n\
                          Pss:               12288 kB\nPss_Dirty:          6000 kB\nAnonymous:          6144 kB\n\
                          LazyFree:              0 kB\n";

    #[test]
    fn memory_is_read_in_mib() {
        let resident = Resident { rss_mib: 18.0, pss_mib: 12.0, anonymous_mib: 6.0 };
        assert_eq!(Resident::parse(ROLLUP), Some(resident));
        assert_eq!(Resident::parse(&ROLLUP.replace("Anonymous", "Else")), None);
        assert_eq!(Resident::parse("Rss: many kB\n"), None);
    }

    #[test]
    fn this_process_is_in_memory() {
        let resident = Resident::read([std::process::id()]).unwrap();
        assert!(resident.rss_mib >= resident.pss_mib && resident.anonymous_mib > 0.0, "{resident:?}");
        let twice = Resident::read([std::process::id(); 2]).unwrap();
        assert!(twice.rss_mib > resident.rss_mib);
        assert!(Resident::read([u32::MAX]).is_err());
    }

    #[test]
    fn memory_has_settled_when_a_second_of_looks_agrees() {
        let mut settling = Settling::new();
        let mut look = |rss_mib| settling.has_settled(rss_mib);
        assert!([10.0, 20.0, 30.0, 40.0, 40.1, 40.2, 40.3, 40.4].iter().all(|rss_mib| !look(*rss_mib)));
        assert!(look(40.4), "six looks are within one percent");
        assert!(!look(39.9));
        assert!(![40.0; 4].iter().any(|rss_mib| look(*rss_mib)));
        assert!(look(40.0));
    }
}
