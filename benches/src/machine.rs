//! On what a report was made: figures mean nothing without it.

use std::fs;
use std::thread::available_parallelism;

use crate::scenario::Scenario;
use crate::site::Site;
use crate::versions;

/// One line for each thing a reader needs to know. Asked before the measurement, the load average is that of others.
pub(crate) fn describe(scenarios: &[Scenario], site: &Site) -> Vec<String> {
    let mut lines = vec![
        format!(
            "{}, {} of its CPUs for all of this, Linux {}",
            cpu_model(),
            available_parallelism().map_or_else(|_| "an unknown number".to_owned(), |cpus| cpus.to_string()),
            first_line("/proc/sys/kernel/osrelease")
        ),
        format!(
            "proxies on CPU {}, load and origin on CPU {}; load average before {}",
            site.cores.proxies.0,
            site.cores.work.0,
            first_line("/proc/loadavg"),
        ),
    ];
    lines.extend(versions::describe(scenarios, site));
    if cfg!(debug_assertions) {
        lines.push("**A debug build: these figures say nothing about speed.**".to_owned());
    }
    lines
}

fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model.map_or_else(|| "a CPU without a name".to_owned(), |(_, model)| model.trim().to_owned())
}

fn first_line(file: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().next().unwrap_or("unknown").to_owned()
}
