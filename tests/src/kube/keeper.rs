//! Who tidies up when nobody else can: a cluster that all tests of a program share is never dropped, and a test program
//! that is killed drops nothing.

use std::io::Write;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

use crate::process::Process;

/// Reads what to end and to remove, and does so when the pipe closes, which it does however the test program ends.
/// A number is only killed while it still is a program of the directory `$1`.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
while read -r word value; do
    case $word in
        pid) pids="$pids $value" ;;
        dir) dirs="$dirs $value" ;;
    esac
done
for pid in $pids; do
    grep -qF -- "$1" "/proc/$pid/cmdline" 2>/dev/null && kill -KILL "$pid"
done
rm -rf -- $dirs
"#;

/// A process that outlives the test program by a moment.
#[derive(Debug)]
pub(super) struct Keeper {
    shell: Child,
    /// `None` from the moment in which it is dropped.
    orders: Mutex<Option<ChildStdin>>,
}

impl Keeper {
    /// Watches over programs that have the directory in their command lines, and over the directory.
    pub(super) fn start(dir: &Path) -> Result<Self> {
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "keeper"])
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start a shell")?;
        let orders = Mutex::new(shell.stdin.take());
        let keeper = Self { shell, orders };
        keeper.tell("dir", &dir.display().to_string())?;
        Ok(keeper)
    }

    /// From now on this one ends too, and what it wrote goes.
    pub(super) fn watch(&self, process: &Process) -> Result<()> {
        self.tell("pid", &process.pid().to_string())?;
        self.tell("dir", &process.directory().display().to_string())
    }

    fn tell(&self, word: &str, value: &str) -> Result<()> {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let pipe = orders.as_mut().context("the keeper is gone")?;
        writeln!(pipe, "{word} {value}").context("the keeper does not listen")
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.orders.get_mut().unwrap_or_else(PoisonError::into_inner).take());
        // It has an end, and what it could not remove is told nobody: the directory is temporary.
        let _ = self.shell.wait();
    }
}
