//! Valgrind's callgrind: how a program is started under it, how a running one is told to count, and what it wrote.
//!
//! Counting starts and ends while the program runs, through `vgdb`, so that start, handshakes and the first
//! configuration are not in the count.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::process::Command;
use tokio::time::timeout;

use std::time::Duration;

/// A program under Valgrind must do as it is told within this time; it looks whenever it runs or waits.
const OBEYS_WITHIN: Duration = Duration::from_secs(60);

const ADVICE: &str = "install it (Debian: `apt-get install valgrind`), or run `cargo xtask gate` as root";

/// A running program whose instructions are counted.
#[derive(Debug)]
pub(crate) struct Profiled {
    pid: u32,
    dir: PathBuf,
    name: &'static str,
}

/// Fails when Valgrind is not there.
pub(crate) fn check() -> Result<()> {
    for program in ["valgrind", "vgdb"] {
        let mut command = std::process::Command::new(program);
        command.arg("--help").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().with_context(|| format!("`{program}` cannot be started: {ADVICE}"))?;
    }
    Ok(())
}

/// What goes before a command line so that callgrind runs it, with its files in `dir`.
pub(crate) fn prefix(dir: &Path, name: &str) -> Vec<OsString> {
    let mut words: Vec<OsString> =
        ["valgrind", "--tool=callgrind", "--instr-atstart=no"].map(Into::into).into();
    let mut flag = |flag: &str, value: &Path| {
        let mut word = OsString::from(flag);
        word.push(value);
        words.push(word);
    };
    flag("--callgrind-out-file=", &out_file(dir, name));
    flag("--log-file=", &dir.join(format!("{name}.valgrind")));
    flag("--vgdb-prefix=", &pipe(dir));
    words
}

/// The `totals` of a profile: instructions of all functions and threads.
pub(crate) fn total(profile: &str) -> Result<u64> {
    let field = |name: &str| profile.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let events = field("events:").context("it names no events")?;
    if events != "Ir" {
        bail!("it counts {events:?}, not instructions alone (Ir)");
    }
    let totals = field("totals:").context("it has no totals: it was not written to its end")?;
    totals.parse().with_context(|| format!("its totals are {totals:?}, which is no number"))
}

impl Profiled {
    /// The program that was started behind [`prefix`] with the same `dir` and `name`.
    pub(crate) fn new(pid: u32, dir: &Path, name: &'static str) -> Self {
        Self { pid, dir: dir.to_owned(), name }
    }

    /// Starts to count.
    pub(crate) async fn begin(&self) -> Result<()> {
        self.tell(&["instrumentation", "on"]).await
    }

    /// Forgets what was counted before.
    pub(crate) async fn forget(&self) -> Result<()> {
        self.tell(&["zero"]).await
    }

    /// Writes what was counted since [`Self::forget`]; once.
    pub(crate) async fn dump(&self) -> Result<PathBuf> {
        self.tell(&["dump"]).await?;
        // Callgrind numbers the dumps of a run.
        let mut file = out_file(&self.dir, self.name).into_os_string();
        file.push(".1");
        Ok(file.into())
    }

    async fn tell(&self, words: &[&str]) -> Result<()> {
        let mut prefix = OsString::from("--vgdb-prefix=");
        prefix.push(pipe(&self.dir));
        let mut vgdb = Command::new("vgdb");
        vgdb.arg(prefix)
            .arg(format!("--pid={}", self.pid))
            .args(words)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let told = words.join(" ");
        let output = timeout(OBEYS_WITHIN, vgdb.output()).await;
        let output =
            output.with_context(|| format!("vgdb had no answer to {told:?} within {OBEYS_WITHIN:?}"))?;
        let output = output.with_context(|| format!("cannot start vgdb: {ADVICE}"))?;
        if !output.status.success() {
            bail!("vgdb could not {told:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }
}

fn out_file(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.callgrind"))
}

fn pipe(dir: &Path) -> PathBuf {
    dir.join("vgdb-pipe")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = "# callgrind format\nversion: 1\ncreator: callgrind-3.19.0\npid: 1\npart: 1\n\
        desc: Trigger: Client Request\npositions: line\nevents: Ir\nsummary: 1234\n\n\
        fl=(1) ???\nfn=(1) select\n0 1200\ncfn=(2) holds\ncalls=2 0\n0 34\n\ntotals: 1234\n";

    #[test]
    fn the_totals_of_a_profile_are_its_instructions() {
        assert_eq!(total(PROFILE).unwrap(), 1234);
    }

    #[test]
    fn what_is_not_a_whole_profile_of_instructions_is_refused() {
        let refused = |profile: &str| total(profile).unwrap_err().to_string();
        assert_eq!(refused(""), "it names no events");
        assert!(refused(&PROFILE.replace("totals: 1234\n", "")).contains("not written to its end"));
        assert!(refused(&PROFILE.replace("events: Ir", "events: Ir Dr Dw")).contains("Ir Dr Dw"));
        assert!(refused(&PROFILE.replace("totals: 1234", "totals: many")).contains("no number"));
    }

    #[test]
    fn files_of_one_run_stay_in_its_directory() {
        let words = prefix(Path::new("/d"), "proxy");
        for path in [
            "--callgrind-out-file=/d/proxy.callgrind",
            "--log-file=/d/proxy.valgrind",
            "--vgdb-prefix=/d/vgdb-pipe",
        ] {
            assert!(words.iter().any(|word| word == path), "{path} is not in {words:?}");
        }
    }
}
