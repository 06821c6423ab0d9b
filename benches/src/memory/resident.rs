//! What processes have in memory, and when that no longer changes.

use std::collections::VecDeque;
use std::fs;

use anyhow::{Context, Result};

/// Looks that must agree: a second of them.
const LOOKS: usize = 6;
/// By how much they may differ, in percent.
const AGREE_PERCENT: u64 = 1;

/// Memory of some processes together, in KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Resident {
    /// Everything that is in memory.
    pub(super) rss_kib: u64,
    /// The same, but a page that several processes have counts as their share of it.
    pub(super) pss_kib: u64,
    /// What is no file's.
    pub(super) anonymous_kib: u64,
}

/// Looks at memory until it stays as it is.
#[derive(Debug, Default)]
pub(super) struct Settling {
    /// The last looks, at most [`LOOKS`].
    looks: VecDeque<u64>,
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
            all.rss_kib += one.rss_kib;
            all.pss_kib += one.pss_kib;
            all.anonymous_kib += one.anonymous_kib;
        }
        Ok(all)
    }

    fn parse(smaps_rollup: &str) -> Option<Self> {
        let kib = |name: &str| {
            let value = smaps_rollup.lines().find_map(|line| line.strip_prefix(name))?;
            value.trim().strip_suffix("kB")?.trim().parse().ok()
        };
        Some(Self { rss_kib: kib("Rss:")?, pss_kib: kib("Pss:")?, anonymous_kib: kib("Anonymous:")? })
    }
}

impl Settling {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Takes another look; says whether all of the last second agree.
    pub(super) fn has_settled(&mut self, rss_kib: u64) -> bool {
        if self.looks.len() == LOOKS {
            self.looks.pop_front();
        }
        self.looks.push_back(rss_kib);
        let (least, most) = (self.looks.iter().min(), self.looks.iter().max());
        let agree = least.zip(most).is_some_and(|(least, most)| most - least <= least * AGREE_PERCENT / 100);
        self.looks.len() == LOOKS && agree
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLLUP: &str = "55d0-7ffd ---p 00000000 00:00 0    [rollup]\nRss:               18204 kB\n\
                          Pss:               12345 kB\nPss_Dirty:          6000 kB\nAnonymous:          6100 kB\n\
                          LazyFree:              0 kB\n";

    #[test]
    fn memory_is_read_in_kib() {
        let resident = Resident { rss_kib: 18_204, pss_kib: 12_345, anonymous_kib: 6100 };
        assert_eq!(Resident::parse(ROLLUP), Some(resident));
        assert_eq!(Resident::parse(&ROLLUP.replace("Anonymous", "Else")), None);
        assert_eq!(Resident::parse("Rss: many kB\n"), None);
    }

    #[test]
    fn this_process_is_in_memory() {
        let resident = Resident::read([std::process::id()]).unwrap();
        assert!(resident.rss_kib >= resident.pss_kib && resident.anonymous_kib > 0, "{resident:?}");
        let twice = Resident::read([std::process::id(); 2]).unwrap();
        assert!(twice.rss_kib > resident.rss_kib);
        assert!(Resident::read([u32::MAX]).is_err());
    }

    #[test]
    fn memory_has_settled_when_a_second_of_looks_agrees() {
        let mut settling = Settling::new();
        let mut look = |rss_kib| settling.has_settled(rss_kib);
        assert!([1000, 2000, 3000, 4000, 4010, 4020, 4030, 4040].iter().all(|rss_kib| !look(*rss_kib)));
        assert!(look(4040), "six looks are within one percent");
        assert!(!look(3990));
        assert!(![4000, 4000, 4000, 4000].iter().any(|rss_kib| look(*rss_kib)));
        assert!(look(4000));
    }
}
