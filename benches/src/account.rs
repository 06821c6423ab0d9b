//! What processes have cost, as the kernel accounts it: CPU time of every thread to the nanosecond, resident memory.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cores::Core;

/// A step of /proc/stat: USER_HZ is 100 on every machine that we know.
const MILLIS_OF_TICK: u64 = 10;

/// The CPU time of every living thread of some processes, at one moment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct CpuTimes(BTreeMap<u32, Duration>);

impl CpuTimes {
    /// Reads `/proc/PID/task/*/schedstat` of each process.
    pub(crate) fn read(pids: impl IntoIterator<Item = u32>) -> Result<Self> {
        let mut times = BTreeMap::new();
        for pid in pids {
            let dir = format!("/proc/{pid}/task");
            let threads =
                fs::read_dir(&dir).with_context(|| format!("cannot read {dir}: the process is gone"))?;
            for thread in threads {
                let name = thread.with_context(|| format!("cannot read {dir}"))?.file_name();
                let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
                let file = format!("{dir}/{id}/schedstat");
                // A thread that ended since it was listed has nothing more to say.
                let Ok(text) = fs::read_to_string(&file) else { continue };
                let time = cpu_time(&text).with_context(|| format!("{file} says {text:?}"))?;
                times.insert(id, time);
            }
        }
        Ok(Self(times))
    }

    /// The same of those processes that are still there.
    pub(crate) fn read_living(pids: impl IntoIterator<Item = u32>) -> Self {
        Self(pids.into_iter().filter_map(|pid| Self::read([pid]).ok()).flat_map(|times| times.0).collect())
    }

    /// What was spent since an earlier reading. A thread that is new counts whole; one that ended is lost.
    pub(crate) fn since(&self, earlier: &Self) -> Duration {
        let spent = |(id, time): (&u32, &Duration)| {
            time.saturating_sub(earlier.0.get(id).copied().unwrap_or_default())
        };
        self.0.iter().map(spent).sum()
    }
}

/// The resident memory of some processes together, in KiB.
pub(crate) fn resident_kib(pids: impl IntoIterator<Item = u32>) -> Result<u64> {
    let one = |pid| {
        let file = format!("/proc/{pid}/status");
        let text =
            fs::read_to_string(&file).with_context(|| format!("cannot read {file}: the process is gone"))?;
        kib(&text, "VmRSS:").with_context(|| format!("{file} has no VmRSS"))
    };
    pids.into_iter().map(one).sum()
}

/// The most memory a process ever had resident, in KiB.
pub(crate) fn peak_resident_kib(pid: u32) -> Result<u64> {
    let file = format!("/proc/{pid}/status");
    let text =
        fs::read_to_string(&file).with_context(|| format!("cannot read {file}: the process is gone"))?;
    kib(&text, "VmHWM:").with_context(|| format!("{file} has no VmHWM"))
}

/// How long some CPUs have been busy since the machine was started, with whatever it was; time that a hypervisor took from
/// them is busy too. The kernel counts it in steps, so it is good to some percent of a second.
pub(crate) fn busy(cores: &[Core]) -> Result<Duration> {
    let file = "/proc/stat";
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
    let one = |core: &Core| busy_time(&text, *core).with_context(|| format!("{file} has no CPU {}", core.0));
    cores.iter().map(one).sum()
}

/// Of `user nice system idle iowait irq softirq steal` all but idle and iowait, in USER_HZ (proc_stat(5)).
fn busy_time(stat: &str, core: Core) -> Option<Duration> {
    let name = format!("cpu{}", core.0);
    let line = stat.lines().find(|line| line.split_whitespace().next() == Some(&name))?;
    let fields: Vec<u64> = line.split_whitespace().skip(1).map(str::parse).collect::<Result<_, _>>().ok()?;
    let [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = fields[..] else { return None };
    Some(Duration::from_millis((user + nice + system + irq + softirq + steal) * MILLIS_OF_TICK))
}

/// The first field of a schedstat: time spent on a CPU, in nanoseconds. Time spent waiting for one is the second.
fn cpu_time(schedstat: &str) -> Option<Duration> {
    let mut fields = schedstat.split_whitespace().map(str::parse::<u64>);
    let (on_cpu, _waiting, _slices) = (fields.next()?.ok()?, fields.next()?.ok()?, fields.next()?.ok()?);
    Some(Duration::from_nanos(on_cpu))
}

fn kib(status: &str, field: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(field))?;
    value.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cores::Cores;

    fn times(times: &[(u32, u64)]) -> CpuTimes {
        CpuTimes(times.iter().map(|&(id, nanos)| (id, Duration::from_nanos(nanos))).collect())
    }

    #[test]
    fn schedstat_is_nanoseconds_on_a_cpu() {
        assert_eq!(cpu_time("468035451 172513440 93\n"), Some(Duration::from_nanos(468_035_451)));
        for broken in ["", "468035451", "1 2", "a 2 3", "-1 2 3"] {
            assert_eq!(cpu_time(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn a_cpu_is_busy_unless_it_idles_or_waits() {
        let stat = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 1 2 3 4000 5000 6 7 8 9 10\ncpu10 1 0 0 0 0 0 0 0 0 0\nintr 1 2\n";
        assert_eq!(busy_time(stat, Core(0)), Some(Duration::from_millis(270)));
        assert_eq!(busy_time(stat, Core(10)), Some(Duration::from_millis(10)));
        assert_eq!(busy_time(stat, Core(1)), None);
        assert_eq!(busy_time("cpu0 1 2 x\n", Core(0)), None);
    }

    #[test]
    fn what_was_spent_is_counted_by_thread() {
        let before = times(&[(1, 100), (2, 1000)]);
        // Thread 2 ended, 3 is new; what 2 had spent before must not be taken off.
        let after = times(&[(1, 150), (3, 7)]);
        assert_eq!(after.since(&before), Duration::from_nanos(57));
        assert_eq!(before.since(&before), Duration::ZERO);
    }

    #[test]
    fn resident_memory_is_read_in_kib() {
        let status = "Name:\tenvoy\nVmHWM:\t   99999 kB\nVmRSS:\t   12340 kB\nThreads:\t3\n";
        assert_eq!((kib(status, "VmRSS:"), kib(status, "VmHWM:")), (Some(12_340), Some(99_999)));
        assert_eq!(kib("Name:\tkthreadd\n", "VmRSS:"), None);
    }

    #[test]
    fn this_process_has_spent_something() {
        let id = std::process::id();
        let before = CpuTimes::read([id]).unwrap();
        // The kernel brings the account of a running thread up to date when it is read, so any work shows.
        let mut sum = 0_u64;
        while CpuTimes::read([id]).unwrap().since(&before) == Duration::ZERO {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(resident_kib([id]).unwrap() > 100);
        assert!(CpuTimes::read([u32::MAX]).is_err());
        assert!(!CpuTimes::read_living([u32::MAX, id]).0.is_empty());
        let first = Cores::claim().unwrap().proxies;
        assert!(busy(&[first]).unwrap() > Duration::ZERO);
    }
}
