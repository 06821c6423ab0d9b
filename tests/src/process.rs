//! Programs of the workspace, and others, as child processes of a test.
//!
//! A child is known by its pidfd, so that a signal never hits a stranger that was given the same number. It ends with
//! the test: SIGTERM, then SIGKILL. What it wrote goes to files, and is shown when the test fails.

mod build;

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags};
use tempfile::TempDir;

pub use build::{cargo_bin, target_dir};

use crate::eventually;

/// How long a child may take to end after SIGTERM when its test is over, before SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// How much of what a child wrote is shown when something fails, in lines.
const SHOWN_LINES: usize = 60;

/// A program that is about to be started.
///
/// ```no_run
/// # use std::time::Duration;
/// # use outrigger_tests::process::{Program, Signal};
/// # async fn example() -> anyhow::Result<()> {
/// let control_plane = Program::of_workspace("outrigger")
///     .args(["run", "--xds", "127.0.0.1:0", "--config", "deploy/examples/bookstore"])
///     .start_ready(Duration::from_secs(10))
///     .await?;
/// let xds = control_plane.address("/xds")?;
/// control_plane.signal(Signal::Terminate)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a program runs when it is started"]
pub struct Program {
    path: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
}

/// A running program. Dropping it ends it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    pidfd: OwnedFd,
    ready: serde_json::Value,
    dir: TempDir,
}

/// What a test can tell a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: finish, then end.
    Terminate,
    /// SIGKILL: end without a chance to do anything.
    Kill,
    /// SIGSTOP: stand still, as a machine does that hangs.
    Stop,
    /// SIGCONT: go on after [`Signal::Stop`].
    Continue,
}

impl Program {
    /// A program of this workspace, built if it is not.
    ///
    /// # Panics
    /// When it cannot be built, with what cargo said.
    pub fn of_workspace(name: &str) -> Self {
        Self::at(cargo_bin(name))
    }

    /// Any program.
    pub fn at(path: impl AsRef<Path>) -> Self {
        Self { path: path.as_ref().to_owned(), args: Vec::new(), env: Vec::new() }
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable of the child's environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// Starts it without waiting for anything.
    ///
    /// # Errors
    /// When the program is not there or cannot be executed.
    pub fn start(self) -> Result<Process> {
        let name = self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned();
        let dir = tempfile::Builder::new()
            .prefix("outrigger-test-")
            .tempdir()
            .context("cannot make a directory")?;
        let mut command = Command::new(&self.path);
        command.args(&self.args).envs(self.env).stdin(Stdio::null());
        command.stdout(create(&dir, "stdout")?).stderr(create(&dir, "stderr")?);
        let child = command.spawn().with_context(|| format!("cannot start {}", self.path.display()))?;
        // The child cannot be reaped before `Process` waits for it, so its pid is still its own here.
        let pidfd = rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty())
            .with_context(|| format!("cannot open a pidfd of {name}"))?;
        Ok(Process { name, child, pidfd, ready: serde_json::Value::Null, dir })
    }

    /// Runs it to its end; what it wrote on standard output.
    ///
    /// # Errors
    /// When it cannot be started, does not end when `patience` is over, or ends with another exit code than 0: with
    /// what it wrote.
    pub async fn output(self, patience: Duration) -> Result<String> {
        let mut process = self.start()?;
        match process.wait_exit(patience).await? {
            0 => Ok(process.stdout()),
            code => bail!("{} ended with {code}\n{}\n{}", process.name, process.stdout(), process.tail()),
        }
    }

    /// Starts it with `--ready-file FILE` as its last arguments, and waits until it has written that file.
    ///
    /// # Errors
    /// When it cannot be started, ends before it is ready, or is not ready when `patience` is over: with what it
    /// wrote on stderr.
    pub async fn start_ready(self, patience: Duration) -> Result<Process> {
        let dir = tempfile::tempdir().context("cannot make a directory for the ready file")?;
        let file = dir.path().join("ready.json");
        let mut process = self.args([OsStr::new("--ready-file"), file.as_os_str()]).start()?;
        let outcome = eventually(patience, async || match read_ready(&file) {
            Some(ready) => Some(Ok(ready)),
            None => process.child.try_wait().ok().flatten().map(Err),
        });
        match outcome.await {
            Some(Ok(ready)) => process.ready = ready,
            Some(Err(status)) => {
                bail!("{} ended before it was ready ({status})\n{}", process.name, process.tail())
            }
            None => bail!("{} was not ready within {patience:?}\n{}", process.name, process.tail()),
        }
        Ok(process)
    }
}

impl Process {
    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the program wrote into its ready file; `null` when it was not started with one.
    #[must_use]
    pub fn ready(&self) -> &serde_json::Value {
        &self.ready
    }

    /// An address out of the ready file, by JSON pointer: `/xds`, `/inbound/0`.
    ///
    /// # Errors
    /// When there is none at that place.
    pub fn address(&self, pointer: &str) -> Result<SocketAddr> {
        let value = self.ready.pointer(pointer).and_then(serde_json::Value::as_str);
        value.and_then(|text| text.parse().ok()).ok_or_else(|| {
            anyhow!("{} has no address at {pointer} in its ready file: {}", self.name, self.ready)
        })
    }

    /// The directory of what it writes, which is removed with it.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.dir.path()
    }

    /// What it has written on standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.written("stdout")
    }

    /// What it has written on standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.written("stderr")
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let number = match signal {
            Signal::Terminate => rustix::process::Signal::TERM,
            Signal::Kill => rustix::process::Signal::KILL,
            Signal::Stop => rustix::process::Signal::STOP,
            Signal::Continue => rustix::process::Signal::CONT,
        };
        rustix::process::pidfd_send_signal(&self.pidfd, number)
            .with_context(|| format!("cannot send {signal:?} to {} (pid {})", self.name, self.pid()))
    }

    /// Whether it has ended by now.
    #[must_use]
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// The exit code once it has ended, or 128 plus the signal that ended it, as a shell counts.
    #[must_use]
    pub fn ended(&mut self) -> Option<i32> {
        self.child.try_wait().ok().flatten().map(exit_code)
    }

    /// Waits for the end; the exit code, or 128 plus the signal that ended it, as a shell counts.
    ///
    /// # Errors
    /// When it has not ended when `patience` is over: with what it wrote on stderr.
    pub async fn wait_exit(&mut self, patience: Duration) -> Result<i32> {
        let child = &mut self.child;
        match eventually(patience, async || child.try_wait().transpose()).await {
            Some(status) => {
                status.map(exit_code).with_context(|| format!("cannot learn how {} ended", self.name))
            }
            None => {
                bail!("{} (pid {}) did not end within {patience:?}\n{}", self.name, self.pid(), self.tail())
            }
        }
    }

    fn written(&self, stream: &str) -> String {
        let bytes = fs::read(self.dir.path().join(stream)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last lines of stderr, with a headline.
    fn tail(&self) -> String {
        let text = self.stderr();
        let lines: Vec<_> = text.lines().collect();
        let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
        format!("--- stderr of {} (pid {}):\n{}\n---", self.name, self.pid(), shown.join("\n"))
    }

    /// Ends the child and reaps it. Every step may find that it is gone already, which is what is wanted.
    fn end(&mut self) {
        if self.has_ended() {
            return;
        }
        // A child that was stopped handles SIGTERM only when it goes on.
        let _ = self.signal(Signal::Terminate);
        let _ = self.signal(Signal::Continue);
        if !ends_within(&self.pidfd, GRACE) {
            let _ = self.signal(Signal::Kill);
        }
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            eprintln!("{}", self.tail());
        }
    }
}

fn create(dir: &TempDir, name: &str) -> Result<File> {
    let path = dir.path().join(name);
    File::create(&path).with_context(|| format!("cannot create {}", path.display()))
}

fn read_ready(file: &Path) -> Option<serde_json::Value> {
    // The file appears atomically, so one that does not parse is not there yet only for a program that breaks that.
    serde_json::from_slice(&fs::read(file).ok()?).ok()
}

fn exit_code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}

/// Blocks until the process has ended, for at most `patience`: a pidfd is readable from then on.
fn ends_within(pidfd: &OwnedFd, patience: Duration) -> bool {
    let timeout = Timespec::try_from(patience).ok();
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    rustix::event::poll(&mut fds, timeout.as_ref()).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests;
