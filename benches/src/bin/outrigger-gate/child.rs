//! Child processes: started with a ready file, waited for, and ended with their owner.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

/// A child must be ready within this time; under Valgrind everything takes fifty times as long.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// How often it is looked whether it is.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How much of its log is shown when it fails, in lines.
const SHOWN_LINES: usize = 12;

/// A running child. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Child {
    name: &'static str,
    process: tokio::process::Child,
    ready: Value,
}

/// A command that no variable of whoever calls this configures.
pub(crate) fn command(words: &[OsString]) -> Result<Command> {
    let (program, args) = words.split_first().context("there is no program to start")?;
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    let ours = |name: &OsString| name.to_string_lossy().starts_with("OUTRIGGER_");
    for name in std::env::vars_os().map(|(name, _)| name).filter(ours) {
        command.env_remove(name);
    }
    Ok(command)
}

impl Child {
    /// Starts a program that has `--ready-file`, and waits until it is ready. Its files go to `dir`.
    pub(crate) async fn start(name: &'static str, mut words: Vec<OsString>, dir: &Path) -> Result<Self> {
        let ready_file = dir.join(format!("{name}.ready"));
        words.extend(["--ready-file".into(), ready_file.clone().into()]);
        let log = dir.join(format!("{name}.log"));
        let stderr = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let spawned = command(&words)?.stdout(Stdio::null()).stderr(stderr).spawn();
        let process = spawned.with_context(|| format!("cannot start {name} ({words:?})"))?;
        let mut child = Self { name, process, ready: Value::Null };
        child.ready = child.wait_ready(&ready_file, &log).await?;
        Ok(child)
    }

    /// What it was started as.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> Result<u32> {
        self.process.id().with_context(|| format!("{} has ended", self.name))
    }

    /// An address from what it said when it was ready, by JSON pointer.
    pub(crate) fn address(&self, pointer: &str) -> Result<SocketAddr> {
        let value = self.ready.pointer(pointer).and_then(Value::as_str);
        let text = value.with_context(|| format!("{} did not say {pointer} in {}", self.name, self.ready))?;
        text.parse().with_context(|| format!("{} said {text:?} for {pointer}", self.name))
    }

    async fn wait_ready(&mut self, file: &Path, log: &Path) -> Result<Value> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            if let Ok(text) = fs::read_to_string(file) {
                return serde_json::from_str(&text)
                    .with_context(|| format!("{} is not JSON", file.display()));
            }
            if let Some(status) = self.process.try_wait().context("a child cannot be looked after")? {
                bail!("{} ended with {status}{}", self.name, last_lines(log));
            }
            if Instant::now() > deadline {
                bail!("{} was not ready within {READY_WITHIN:?}{}", self.name, last_lines(log));
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    match &lines[lines.len().saturating_sub(SHOWN_LINES)..] {
        [] => String::new(),
        last => format!("; the last it said:\n{}", last.join("\n")),
    }
}
