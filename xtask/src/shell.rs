//! Running other programs so that a person can follow: what runs, and what to do when it fails.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Says which stage begins.
pub(crate) fn stage(what: &str) {
    eprintln!("== {what}");
}

/// Says what one step of a stage does.
pub(crate) fn step(what: &str) {
    eprintln!("   {what}");
}

/// Runs a program to its end; `advice` tells the reader what to do when it fails.
pub(crate) fn run(command: &mut Command, advice: &str) -> Result<()> {
    let line = describe(command);
    let status = command.status().with_context(|| format!("cannot start `{line}`: {advice}"))?;
    if !status.success() {
        bail!("`{line}` failed ({status}): {advice}");
    }
    Ok(())
}

/// Runs a program and returns what it wrote on its standard output, trimmed; its errors go to ours.
pub(crate) fn capture(command: &mut Command, advice: &str) -> Result<String> {
    let line = describe(command);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{line}`: {advice}"))?;
    if !output.status.success() {
        bail!("`{line}` failed ({}): {advice}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The command as a person would type it.
pub(crate) fn describe(command: &Command) -> String {
    let words: Vec<_> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(quoted).collect();
    words.join(" ")
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    if word.contains(char::is_whitespace) { format!("'{word}'") } else { word.into_owned() }
}
