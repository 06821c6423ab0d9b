//! On what a report was made: figures mean nothing without it.

use std::fs;
use std::process::Command;

use crate::site::Site;

/// One line for each thing a reader needs to know. Asked before the measurement, the load average is that of others.
pub(crate) fn describe(site: &Site) -> Vec<String> {
    let mut lines = vec![
        format!("{}, Linux {}", cpu_model(), first_line("/proc/sys/kernel/osrelease")),
        format!(
            "proxies on CPU {}, load and origin on CPU {}; load average before {}",
            site.cores.proxies.0,
            site.cores.work.0,
            first_line("/proc/loadavg"),
        ),
        format!("{} ({} build)", version(site), if cfg!(debug_assertions) { "debug" } else { "release" }),
    ];
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

fn version(site: &Site) -> String {
    let output = Command::new(&site.outrigger).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.ok().filter(|text| !text.is_empty()).unwrap_or_else(|| "outrigger of unknown version".to_owned())
}
