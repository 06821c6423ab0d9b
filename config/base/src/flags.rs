//! What flags and environment variables are made of: durations, addresses that can be off, and errors on one line.

use std::fmt;
use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::error::ErrorKind;

use crate::lifecycle::exit::ExitError;

/// Units of a duration, longest first.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Digits of one part of a duration, as Gateway API has it (GEP-2257).
const MAX_DIGITS: usize = 5;

/// Parts of a duration, as Gateway API has it (GEP-2257).
const MAX_PARTS: usize = 4;

/// Reads a duration as Gateway API writes it: `500ms`, `30s`, `1h30m`. For `clap`'s `value_parser`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    duration_parts(text)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("{text:?} is not a duration; write for example 500ms, 30s, 5m or 1h30m"))
}

fn duration_parts(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut millis = 0;
    for _ in 0..MAX_PARTS {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 || digits > MAX_DIGITS {
            return None;
        }
        let (number, behind) = rest.split_at(digits);
        let letters = behind.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, behind) = behind.split_at(letters);
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
        millis += number.parse::<u64>().ok()? * factor;
        rest = behind;
        if rest.is_empty() {
            return Some(millis);
        }
    }
    None
}

/// Where to listen, or that it is not wanted. Reads `127.0.0.1:15000`, `[::1]:0`, `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenAddr {
    /// Do not listen.
    Off,
    /// Listen here; port 0 picks a free one.
    At(SocketAddr),
}

impl ListenAddr {
    /// The address, unless it is off.
    pub fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Off => None,
            Self::At(address) => Some(address),
        }
    }
}

impl FromStr for ListenAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" {
            return Ok(Self::Off);
        }
        text.parse().map(Self::At).map_err(|_| {
            format!("{text:?} is neither an address with a port, such as 127.0.0.1:15000 or [::1]:0, nor off")
        })
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address) => address.fmt(f),
        }
    }
}

/// What a program does with a command line that clap does not run: help and version are printed, bad usage is one line that
/// names the flag.
pub fn not_run(error: &clap::Error, program: &str) -> ExitCode {
    match usage_error(error) {
        Some(usage) => usage.report(program),
        None => {
            // Whoever reads has seen enough: `outrigger --help | head`.
            let _ = write!(std::io::stdout(), "{}", error.render());
            ExitCode::SUCCESS
        }
    }
}

/// Bad usage on one line; `None` when the user asked for help or the version.
pub fn usage_error(error: &clap::Error) -> Option<ExitError> {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return None;
    }
    let text = error.render().to_string();
    // The first paragraph says what is wrong; usage and tips are for `--help`.
    let first = text.split("\n\n").next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let line: Vec<&str> = first.split_whitespace().collect();
    Some(ExitError::usage(format!("{}; see --help", line.join(" "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, millis) in [
            ("0s", 0),
            ("500ms", 500),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1h1m1s1ms", 3_661_001),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_an_example() {
        for text in ["", "30", "s", "-1s", "1.5s", "1d", "1 s", "1S", "123456s", "1s1s1s1s1s", "1s1", "1é"] {
            let error = parse_duration(text).unwrap_err();
            assert!(error.contains("for example 500ms"), "{text}: {error}");
        }
    }

    #[test]
    fn addresses_are_read_or_off() {
        assert_eq!("off".parse(), Ok(ListenAddr::Off));
        for text in ["127.0.0.1:15000", "[::1]:0"] {
            let address: ListenAddr = text.parse().unwrap();
            assert_eq!(
                (address.to_string(), address.address()),
                (text.to_owned(), Some(text.parse().unwrap()))
            );
        }
        for text in ["", "15000", "localhost:1", "127.0.0.1", "127.0.0.1:99999", "Off"] {
            let error = text.parse::<ListenAddr>().unwrap_err();
            assert!(error.contains("nor off"), "{error}");
        }
    }
}
