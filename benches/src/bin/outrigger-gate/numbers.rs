//! The numbers in the repository (`benches/gate.toml`), and what a count means beside one.
//!
//! The file is TOML of the plainest kind, a comment and one `name = number` a line, so that a change of a number is a line of a
//! diff that somebody has to agree with.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// A count may be this many percent above its number, and should not be further below it.
const TOLERANCE_PERCENT: u128 = 5;

const HEAD: &str = "\
# Instructions of one sidecar for one request, counted by callgrind (`cargo xtask gate`), which fails when a count is more
# than 5 % above its number here. `cargo xtask gate --bless` writes this file; the commit says what changed the numbers.

";

/// Instructions per request, by the name of the scenario.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Numbers(BTreeMap<String, u64>);

/// What a count means.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Verdict {
    /// The repository has no number for it.
    Unknown,
    /// Within the tolerance of this number.
    Held { number: u64 },
    /// More than the tolerance above this number.
    Above { number: u64 },
    /// More than the tolerance below this number, which is out of date: it would let a regression through.
    Below { number: u64 },
}

impl Numbers {
    /// Reads a file.
    pub(crate) fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file);
        let text = text.with_context(|| {
            format!("cannot read {}: `cargo xtask gate --bless` writes it", file.display())
        })?;
        Self::parse(&text).with_context(|| format!("{} is not understood", file.display()))
    }

    /// Writes a file, whole.
    pub(crate) fn write(&self, file: &Path) -> Result<()> {
        let partial = file.with_extension("toml.partial");
        let written = fs::write(&partial, self.render()).and_then(|()| fs::rename(&partial, file));
        written.with_context(|| format!("cannot write {}", file.display()))
    }

    pub(crate) fn get(&self, name: &str) -> Option<u64> {
        self.0.get(name).copied()
    }

    /// Sets a number and returns the one before.
    pub(crate) fn set(&mut self, name: &str, number: u64) -> Option<u64> {
        self.0.insert(name.to_owned(), number)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &u64)> {
        self.0.iter()
    }

    fn parse(text: &str) -> Result<Self> {
        let mut numbers = Self::default();
        for (place, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let at = || format!("line {}: {line:?} is not `name = number`", place + 1);
            let (name, number) = line.split_once('=').with_context(at)?;
            let number =
                number.trim().replace('_', "").parse().ok().filter(|number| *number > 0).with_context(at)?;
            if numbers.set(name.trim(), number).is_some() {
                bail!("line {}: {} was there before", place + 1, name.trim());
            }
        }
        Ok(numbers)
    }

    fn render(&self) -> String {
        let mut text = HEAD.to_owned();
        for (name, number) in &self.0 {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name} = {number}");
        }
        text
    }
}

impl Verdict {
    /// Compares a count with the number in the repository.
    pub(crate) fn of(number: Option<u64>, count: u64) -> Self {
        let Some(number) = number else { return Self::Unknown };
        // In whole numbers: exactly the tolerance is let through.
        let (parts, whole) = (u128::from(count) * 100, u128::from(number));
        match parts {
            _ if parts > whole * (100 + TOLERANCE_PERCENT) => Self::Above { number },
            _ if parts < whole * (100 - TOLERANCE_PERCENT) => Self::Below { number },
            _ => Self::Held { number },
        }
    }

    /// Whether the gate fails.
    pub(crate) fn fails(self) -> bool {
        matches!(self, Self::Above { .. } | Self::Unknown)
    }

    /// What happened, by how much, and what to do.
    pub(crate) fn describe(self, name: &str, count: u64, kept: &Path) -> String {
        let against = |number| {
            let change = change_percent(number, count);
            format!("{name}: {count} instructions per request, {change:+.1} % of {number}")
        };
        match self {
            Self::Unknown => format!(
                "FAILED {name}: {count} instructions per request, and no number to hold that to: \
                 run `cargo xtask gate --bless`"
            ),
            Self::Held { number } => format!("ok     {}", against(number)),
            Self::Above { number } => format!(
                "FAILED {}; {TOLERANCE_PERCENT} % more is the most\n       \
                 where they go: callgrind_annotate {}/{name}.callgrind\n       \
                 when they are worth it: cargo xtask gate --bless, and say why in the commit message",
                against(number),
                kept.display()
            ),
            Self::Below { number } => format!(
                "ok     {}: keep what was gained, lower the number with `cargo xtask gate --bless`",
                against(number)
            ),
        }
    }
}

fn change_percent(number: u64, count: u64) -> f64 {
    (count as f64 / number as f64 - 1.0) * 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(of: &[(&str, u64)]) -> Numbers {
        Numbers(of.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect())
    }

    #[test]
    fn what_is_written_is_read_again() {
        let numbers = numbers(&[("one-hop-http1", 23_456), ("pair-client-http1", 1)]);
        assert_eq!(Numbers::parse(&numbers.render()).unwrap(), numbers);
    }

    #[test]
    fn a_line_is_a_name_and_a_number() {
        let read = Numbers::parse("# a comment\n\n a = 1_000 # why\nb=2\n").unwrap();
        assert_eq!(read, numbers(&[("a", 1000), ("b", 2)]));
        for (broken, said) in
            [("a = 1\nb 2", "line 2"), ("a = -1", "line 1"), ("a = 0", "line 1"), ("a = 1\na = 1", "before")]
        {
            let error = format!("{:#}", Numbers::parse(broken).unwrap_err());
            assert!(error.contains(said), "{broken:?}: {error}");
        }
    }

    #[test]
    fn five_percent_more_is_let_through_and_anything_beyond_is_not() {
        let number = 10_000;
        for (count, verdict) in [
            (10_000, Verdict::Held { number }),
            (10_500, Verdict::Held { number }),
            (10_501, Verdict::Above { number }),
            (9_500, Verdict::Held { number }),
            (9_499, Verdict::Below { number }),
        ] {
            assert_eq!(Verdict::of(Some(number), count), verdict, "{count}");
            assert_eq!(verdict.fails(), count > 10_500, "{count}");
        }
        assert!(Verdict::of(None, 10_000).fails());
    }

    #[test]
    fn a_failure_says_what_by_how_much_and_how_to_look() {
        let said = |count| {
            Verdict::of(Some(20_000), count).describe("one-hop-http1", count, Path::new("target/gate"))
        };
        assert_eq!(
            said(22_000),
            "FAILED one-hop-http1: 22000 instructions per request, +10.0 % of 20000; 5 % more is the most\n       \
             where they go: callgrind_annotate target/gate/one-hop-http1.callgrind\n       \
             when they are worth it: cargo xtask gate --bless, and say why in the commit message"
        );
        assert_eq!(said(20_100), "ok     one-hop-http1: 20100 instructions per request, +0.5 % of 20000");
        assert!(said(18_000).contains("-10.0 % of 20000: keep what was gained"), "{}", said(18_000));
    }
}
