//! The accounts at one moment, and what a run cost from one to the next.

use std::time::Instant;

use anyhow::Result;

use crate::account::{CpuTimes, busy, resident_kib};
use crate::contender::Running;
use crate::figures::Cost;
use crate::site::Site;

/// What the kernel has accounted until now.
pub(super) struct Reading {
    at: Instant,
    proxies: CpuTimes,
    work: CpuTimes,
    /// Everything that we have started, and this process.
    ours: CpuTimes,
    /// Both cores, whoever it was.
    busy: std::time::Duration,
}

impl Reading {
    /// Reads all of it; `ours` are the processes of all contenders.
    pub(super) fn take(running: &Running, (load, ours): (u32, &[u32]), site: &Site) -> Result<Self> {
        let all = ours.iter().copied().chain([load, std::process::id()]);
        Ok(Self {
            at: Instant::now(),
            proxies: CpuTimes::read(running.proxy_pids())?,
            work: CpuTimes::read([running.origin_pid(), load])?,
            ours: CpuTimes::read_living(all),
            busy: busy(&[site.cores.proxies, site.cores.work])?,
        })
    }

    /// What was spent since an earlier reading.
    pub(super) fn since(&self, earlier: &Self, running: &Running) -> Result<Cost> {
        let ours = self.ours.since(&earlier.ours);
        Ok(Cost {
            wall: self.at - earlier.at,
            proxies: self.proxies.since(&earlier.proxies),
            work: self.work.since(&earlier.work),
            // Two accounts that are not kept in the same way: what is less than nothing is nothing.
            others: self.busy.saturating_sub(earlier.busy).saturating_sub(ours),
            rss_kib: resident_kib(running.proxy_pids())?,
        })
    }
}
