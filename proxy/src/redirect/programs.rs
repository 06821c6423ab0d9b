//! The programs that read and change the kernel's rules: which ones there are, and what they answer.
//!
//! iptables comes with two back ends. The one on nf_tables is preferred; where it is missing or the kernel does not take
//! it, the next one is tried. What is to be done comes in as text; this knows no rule.

use std::env;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::plan::Family;
use super::present::Present;
use super::rules;

/// Where these programs are when `PATH` does not say, as it often does not for a user who is not root.
const ALSO_IN: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

/// Back ends, preferred first: the part of the name after `iptables`.
const BACKENDS: [&str; 3] = ["-nft", "", "-legacy"];

/// How long another program may hold the lock of the tables, in seconds.
const LOCK_WAIT_SECONDS: u32 = 30;

/// The most that is read of what a program prints, in bytes; a pod has a few KiB of rules.
const MAX_OUTPUT_BYTES: u64 = 16 << 20;

/// The most that is told of a program's complaint, in bytes.
const MAX_COMPLAINT_BYTES: u64 = 1 << 10;

/// Why the rules could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum RedirectError {
    #[error(
        "there is no iptables-restore with its iptables-save for {family} (looked for {looked_for} in PATH, /usr/sbin, \
         /sbin and /usr/local/sbin): install the iptables package{}", leave_alone(*family)
    )]
    Missing { family: Family, looked_for: String },
    #[error(
        "{program} may not touch packet rules: run this as root or with NET_ADMIN (in a pod it runs in the init \
         container), or see what it would do with --dry-run"
    )]
    NotAllowed { program: String },
    #[error("{program} refused the {family} rules: {complaint}{}", leave_alone(*family))]
    Refused { program: String, family: Family, complaint: String },
    #[error(
        "{program} printed more than {MAX_OUTPUT_BYTES} bytes of rules: remove rules, this namespace is no pod's"
    )]
    TooMuch { program: String },
    #[error("{program} could not be run")]
    Io {
        program: String,
        #[source]
        source: io::Error,
    },
}

/// What an undo came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Removed {
    Rules,
    Nothing,
}

/// The two programs of one back end.
#[derive(Debug, PartialEq, Eq)]
struct Backend {
    family: Family,
    restore: PathBuf,
    save: PathBuf,
}

/// Applies the text made from what is there with the first back end that takes it; says which program did.
pub(super) fn install(family: Family, text: impl Fn(&Present) -> String) -> Result<String, RedirectError> {
    let mut first_error = None;
    for backend in backends(family) {
        match backend.present().and_then(|present| backend.apply(&text(&present))) {
            Ok(()) => return Ok(name(&backend.restore)),
            // The preferred back end's complaint is the one to tell.
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    Err(first_error.unwrap_or_else(|| missing(family)))
}

/// Takes away what is ours from every back end that can be read.
pub(super) fn undo(family: Family) -> Result<Removed, RedirectError> {
    let mut answer = None;
    let mut first_error = None;
    for backend in backends(family) {
        match backend.present() {
            Ok(present) if present.is_empty() => answer = answer.or(Some(Removed::Nothing)),
            Ok(present) => {
                backend.apply(&rules::undo(&present))?;
                answer = Some(Removed::Rules);
            }
            // A back end that the kernel does not have has no rules either.
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    answer.ok_or_else(|| first_error.unwrap_or_else(|| missing(family)))
}

/// The command line that rules are fed to, for people to read.
pub(super) fn preferred_command(family: Family) -> String {
    format!("{} {}", restore_name(family, BACKENDS[0]), restore_flags().join(" "))
}

impl Backend {
    fn present(&self) -> Result<Present, RedirectError> {
        // Without `-t nat`: naming a table would have the legacy back end create it.
        let saved = self.run(Command::new(&self.save).stdin(Stdio::null()), "")?;
        Ok(Present::read(&saved))
    }

    fn apply(&self, text: &str) -> Result<(), RedirectError> {
        self.run(Command::new(&self.restore).args(restore_flags()).stdin(Stdio::piped()), text).map(drop)
    }

    /// Gives the program its input and returns what it printed.
    fn run(&self, command: &mut Command, input: &str) -> Result<String, RedirectError> {
        let program = name(Path::new(command.get_program()));
        let io = |source| RedirectError::Io { program: program.clone(), source };
        // Complaints are matched and told: in one language.
        command.env("LC_ALL", "C").stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(io)?;
        let fed = feed(&mut child, input);
        let printed = take(child.stdout.take(), MAX_OUTPUT_BYTES + 1).map_err(io)?;
        let complaint = take(child.stderr.take(), MAX_COMPLAINT_BYTES).map_err(io)?;
        let status = child.wait().map_err(io)?;
        if printed.len() as u64 > MAX_OUTPUT_BYTES {
            return Err(RedirectError::TooMuch { program });
        }
        if !status.success() {
            let complaint = if complaint.trim().is_empty() { status.to_string() } else { complaint };
            return Err(refusal(program, self.family, &complaint));
        }
        fed.map_err(io)?;
        Ok(printed)
    }
}

fn backends(family: Family) -> Vec<Backend> {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs: Vec<PathBuf> = env::split_paths(&path).chain(ALSO_IN.map(PathBuf::from)).collect();
    backends_in(family, &dirs)
}

/// The back ends in these directories, each program once although it has several names.
fn backends_in(family: Family, dirs: &[PathBuf]) -> Vec<Backend> {
    let mut found: Vec<Backend> = Vec::new();
    let mut seen = Vec::new();
    for backend in BACKENDS {
        let restore = locate(&restore_name(family, backend), dirs);
        let save = locate(&save_name(family, backend), dirs);
        let (Some(restore), Some(save)) = (restore, save) else { continue };
        let real = fs::canonicalize(&restore).unwrap_or_else(|_| restore.clone());
        if !seen.contains(&real) {
            seen.push(real);
            found.push(Backend { family, restore, save });
        }
    }
    found
}

fn locate(program: &str, dirs: &[PathBuf]) -> Option<PathBuf> {
    // An empty part of PATH means the working directory: a program that runs as root is not taken from there.
    dirs.iter().filter(|dir| dir.is_absolute()).map(|dir| dir.join(program)).find(|path| path.is_file())
}

fn restore_name(family: Family, backend: &str) -> String {
    format!("{}{backend}-restore", tool(family))
}

fn save_name(family: Family, backend: &str) -> String {
    format!("{}{backend}-save", tool(family))
}

fn tool(family: Family) -> &'static str {
    match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    }
}

fn restore_flags() -> [String; 2] {
    ["--noflush".to_owned(), format!("--wait={LOCK_WAIT_SECONDS}")]
}

fn feed(child: &mut Child, input: &str) -> io::Result<()> {
    // Dropped at the end: the program sees the end of its input.
    child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()))
}

/// Reads to the end or to `limit`; the rest is dropped with the pipe.
fn take(pipe: Option<impl Read>, limit: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(limit).read_to_end(&mut bytes)?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn refusal(program: String, family: Family, complaint: &str) -> RedirectError {
    let denied = ["Permission denied", "Operation not permitted", "must be root"];
    if denied.iter().any(|words| complaint.contains(words)) {
        return RedirectError::NotAllowed { program };
    }
    let complaint = complaint.split_whitespace().collect::<Vec<_>>().join(" ");
    RedirectError::Refused { program, family, complaint }
}

fn missing(family: Family) -> RedirectError {
    let looked_for = BACKENDS.map(|backend| restore_name(family, backend)).join(", ");
    RedirectError::Missing { family, looked_for }
}

fn leave_alone(family: Family) -> &'static str {
    match family {
        Family::V4 => "",
        Family::V6 => "; --ipv6 off leaves IPv6 alone",
    }
}

fn name(program: &Path) -> String {
    program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
