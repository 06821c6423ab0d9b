//! Child processes of the demo: this same binary under another subcommand.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;
use tokio::process::{Child, Command};

/// A child must be ready within this time.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// A child that was asked to end is killed after this time.
const END_WITHIN: Duration = Duration::from_secs(3);

/// A running child. Dropping it kills it.
pub(super) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    /// What it wrote when it was ready.
    pub(super) ready: Value,
}

impl Process {
    /// Starts `outrigger ARGS… --ready-file …` and waits until it is ready. Its log goes to a file in `dir`.
    pub(super) async fn start(dir: &Path, name: &str, args: &[String]) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("the path of this program is not known")?;
        let log = dir.join(format!("{name}.log"));
        let ready_file = dir.join(format!("{name}.ready"));
        if ready_file.exists() {
            std::fs::remove_file(&ready_file)
                .with_context(|| format!("cannot remove {}", ready_file.display()))?;
        }
        let stderr = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let child = Command::new(program)
            .args(args)
            .arg("--ready-file")
            .arg(&ready_file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let mut process = Self { name: name.to_owned(), child, log, ready: Value::Null };
        process.ready = process.wait_ready(&ready_file).await?;
        Ok(process)
    }

    async fn wait_ready(&mut self, file: &Path) -> anyhow::Result<Value> {
        let start = Instant::now();
        loop {
            if let Ok(text) = std::fs::read_to_string(file) {
                return serde_json::from_str(&text)
                    .with_context(|| format!("{} is not JSON", file.display()));
            }
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "{} ended with {status} before it was ready; its last lines:\n{}",
                    self.name,
                    self.last_lines()
                );
            }
            if start.elapsed() > READY_WITHIN {
                bail!(
                    "{} is not ready after {READY_WITHIN:?}; its last lines:\n{}",
                    self.name,
                    self.last_lines()
                );
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn last_lines(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }

    /// Ends it at once, as a crash would.
    pub(super) async fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill().await.with_context(|| format!("cannot kill {}", self.name))
    }

    /// Asks it to end, and kills it when it does not.
    pub(super) async fn end(mut self) {
        if let Some(pid) = self.child.id() {
            let asked =
                Command::new("kill").arg("-TERM").arg(pid.to_string()).stderr(Stdio::null()).status().await;
            let waited = tokio::time::timeout(END_WITHIN, self.child.wait()).await;
            if asked.is_ok() && waited.is_ok() {
                return;
            }
        }
        // Already gone is as good as killed.
        let _ = self.child.kill().await;
    }

    /// A `host:port` from what it wrote when it was ready.
    pub(super) fn address(&self, key: &str) -> anyhow::Result<std::net::SocketAddr> {
        let text = self.ready[key]
            .as_str()
            .with_context(|| format!("{} did not say its {key} address", self.name))?;
        text.parse().with_context(|| format!("{} said {text:?} for {key}", self.name))
    }
}
