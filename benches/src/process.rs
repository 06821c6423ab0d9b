//! Child processes of a measurement: started on a core, ready when they say so, ended with their owner.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::cores::Core;

/// A child must be ready within this time.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// How often it is looked whether it is.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How much of its log is shown when it fails, in lines.
const SHOWN_LINES: usize = 8;

/// A program that is about to be started.
#[derive(Debug)]
pub(crate) struct Program<'a> {
    /// What it is called in messages and in the names of its files.
    pub(crate) name: &'static str,
    pub(crate) path: &'a Path,
    pub(crate) args: Vec<String>,
    pub(crate) core: Core,
}

/// A running child. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    pid: u32,
    log: PathBuf,
    ready: Value,
}

impl Program<'_> {
    /// Starts it with its log in `dir`; its standard output is the caller's to read, or nobody's.
    pub(crate) fn spawn(&self, dir: &Path, stdout: Stdio) -> Result<(Child, PathBuf)> {
        let log = dir.join(format!("{}.log", self.name));
        let stderr = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(self.path);
        command.args(&self.args).stdin(Stdio::null()).stdout(stdout).stderr(stderr).kill_on_drop(true);
        // A variable of whoever measures must not configure what is measured.
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("OUTRIGGER_"))
        {
            command.env_remove(name);
        }
        let child = self.core.start(|| command.spawn())?;
        let child = child.with_context(|| format!("cannot start {} ({})", self.name, self.path.display()))?;
        Ok((child, log))
    }
}

impl Process {
    /// Starts a program with `--ready-file` and waits until it is ready. Its files go to `dir`.
    pub(crate) async fn start(mut program: Program<'_>, dir: &Path) -> Result<Self> {
        let ready_file = dir.join(format!("{}.ready", program.name));
        program.args.extend(["--ready-file".to_owned(), ready_file.display().to_string()]);
        let mut process = Self::spawn(&program, dir)?;
        process.ready = process.wait_ready(&ready_file).await?;
        Ok(process)
    }

    /// Starts a program that does not say when it is ready, and waits until it listens at `address`.
    pub(crate) async fn start_listening(
        program: Program<'_>,
        dir: &Path,
        address: SocketAddr,
    ) -> Result<Self> {
        let mut process = Self::spawn(&program, dir)?;
        let deadline = Instant::now() + READY_WITHIN;
        while TcpStream::connect(address).await.is_err() {
            process.wait_more(deadline).await?;
        }
        Ok(process)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// An address from what it said when it was ready, by JSON pointer.
    pub(crate) fn address(&self, pointer: &str) -> Result<SocketAddr> {
        let value = self.ready.pointer(pointer).and_then(Value::as_str);
        let text = value.with_context(|| format!("{} did not say {pointer} in {}", self.name, self.ready))?;
        text.parse().with_context(|| format!("{} said {text:?} for {pointer}", self.name))
    }

    /// Fails when it has ended, which none of them does by itself.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.child.try_wait().with_context(|| format!("{} cannot be looked after", self.name))? {
            Some(status) => Err(anyhow!("{} ended with {status}{}", self.name, last_lines(&self.log))),
            None => Ok(()),
        }
    }

    /// Kills it and waits until it is gone, so that the next one has the machine for itself.
    pub(crate) async fn end(mut self) -> Result<()> {
        self.child.kill().await.with_context(|| format!("{} cannot be ended", self.name))
    }

    fn spawn(program: &Program<'_>, dir: &Path) -> Result<Self> {
        let (child, log) = program.spawn(dir, Stdio::null())?;
        let pid = child.id().with_context(|| format!("{} ended at once", program.name))?;
        Ok(Self { name: program.name, child, pid, log, ready: Value::Null })
    }

    async fn wait_ready(&mut self, file: &Path) -> Result<Value> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            if let Ok(text) = fs::read_to_string(file) {
                return serde_json::from_str(&text)
                    .with_context(|| format!("{} is not JSON", file.display()));
            }
            self.wait_more(deadline).await?;
        }
    }

    /// Waits a little more, unless it has ended or the deadline is over.
    async fn wait_more(&mut self, deadline: Instant) -> Result<()> {
        self.check()?;
        if Instant::now() > deadline {
            bail!("{} was not ready within {READY_WITHIN:?}{}", self.name, last_lines(&self.log));
        }
        sleep(LOOK_EVERY).await;
        Ok(())
    }
}

/// The end of a log, to go behind a message.
pub(crate) fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    match &lines[lines.len().saturating_sub(SHOWN_LINES)..] {
        [] => String::new(),
        last => format!("; the last it said:\n{}", last.join("\n")),
    }
}
