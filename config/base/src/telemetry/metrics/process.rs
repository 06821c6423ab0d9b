//! What the kernel says about this process, read from `/proc` at each scrape.
//!
//! What cannot be read is left out; a scrape never fails because of it.

use std::fs;

/// The kernel's unit of CPU time in `/proc`, in ticks a second: 100 on every architecture Linux exports it for.
const TICKS_PER_SECOND: f64 = 100.0;

/// The figures of one moment; `None` is what could not be read.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Process {
    cpu_seconds: Option<f64>,
    max_fds: Option<f64>,
    open_fds: Option<f64>,
    resident_bytes: Option<f64>,
    start_seconds: Option<f64>,
    threads: Option<f64>,
}

impl Process {
    pub(super) fn read() -> Self {
        let stat = read("/proc/self/stat");
        let status = read("/proc/self/status");
        Self {
            cpu_seconds: cpu_seconds(&stat),
            max_fds: max_fds(&read("/proc/self/limits")),
            open_fds: open_fds(),
            resident_bytes: field(&status, "VmRSS:").map(|kib| kib * 1024.0),
            start_seconds: start_seconds(&stat, &read("/proc/stat")),
            threads: field(&status, "Threads:"),
        }
    }

    pub(super) fn samples(&self) -> impl Iterator<Item = (&'static str, f64)> {
        [
            ("process_cpu_seconds_total", self.cpu_seconds),
            ("process_max_fds", self.max_fds),
            ("process_open_fds", self.open_fds),
            ("process_resident_memory_bytes", self.resident_bytes),
            ("process_start_time_seconds", self.start_seconds),
            ("process_threads", self.threads),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Field `number` of `/proc/<pid>/stat`, counted from 1 as proc_pid_stat(5) does. The name of the program (field 2)
/// may hold blanks and parentheses, so counting starts behind its last `)`.
fn stat_field(stat: &str, number: usize) -> Option<f64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    behind_name.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((stat_field(stat, 14)? + stat_field(stat, 15)?) / TICKS_PER_SECOND)
}

fn start_seconds(stat: &str, machine: &str) -> Option<f64> {
    Some(field(machine, "btime")? + stat_field(stat, 22)? / TICKS_PER_SECOND)
}

/// The first number of the line that starts with `name`.
fn field(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn max_fds(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(f64::INFINITY),
        soft => soft.parse().ok(),
    }
}

fn open_fds() -> Option<f64> {
    // One of the entries is the descriptor that reads the directory.
    let entries = fs::read_dir("/proc/self/fd").ok()?.count();
    Some(entries.saturating_sub(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "42 (a (b) c) S 1 1 1 0 -1 4 0 0 0 0 150 50 0 0 20 0 7 0 1000 0 0";

    #[test]
    fn figures_are_read_behind_a_name_with_parentheses() {
        assert_eq!(cpu_seconds(STAT), Some(2.0));
        assert_eq!(start_seconds(STAT, "cpu 1\nbtime 5000\n"), Some(5010.0));
        assert_eq!(field("Name: x\nVmRSS:\t  12 kB\n", "VmRSS:"), Some(12.0));
        assert_eq!(max_fds("Max open files            1024                 4096     files\n"), Some(1024.0));
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        assert_eq!((cpu_seconds(""), field("", "VmRSS:"), max_fds("")), (None, None, None));
        assert_eq!(Process::default().samples().count(), 0);
    }

    #[test]
    fn this_process_has_all_figures() {
        let names: Vec<_> = Process::read().samples().collect();
        assert_eq!(names.len(), 6, "{names:?}");
        assert!(names.iter().all(|(_, value)| *value >= 0.0), "{names:?}");
    }
}
