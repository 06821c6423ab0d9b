//! Who exactly is measured: the version of every program, as it says itself.

use std::path::Path;
use std::process::Command;

use crate::contender::{Contender, Peer, find};
use crate::scenario::Scenario;
use crate::site::Site;

/// How much of a commit's name is shown, in digits.
const COMMIT_DIGITS: &str = "--short=12";

/// One line for Outrigger, and one for every peer that takes part in one of these scenarios.
pub(crate) fn describe(scenarios: &[Scenario], site: &Site) -> Vec<String> {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let ours = said(&site.outrigger, "--version");
    let ours = ours.lines().next().map_or_else(|| "outrigger of unknown version".to_owned(), str::to_owned);
    let takes_part = |contender| scenarios.iter().any(|scenario| scenario.contenders().contains(&contender));
    let peers = Peer::ALL.into_iter().filter(|&peer| takes_part(contender(peer))).map(version);
    [format!("{ours}, {} ({profile} build)", commit())].into_iter().chain(peers).collect()
}

fn contender(peer: Peer) -> Contender {
    match peer {
        Peer::Envoy => Contender::Envoy,
        Peer::Nginx => Contender::Nginx,
        Peer::Haproxy => Contender::Haproxy,
    }
}

fn version(peer: Peer) -> String {
    let flag = match peer {
        Peer::Envoy => "--version",
        Peer::Nginx | Peer::Haproxy => "-v",
    };
    let text = find(peer).map(|program| said(&program, flag)).unwrap_or_default();
    read(peer, &text).unwrap_or_else(|| format!("{} of unknown version", contender(peer)))
}

/// What a program says of its version, without where it is and where its home page is.
fn read(peer: Peer, text: &str) -> Option<String> {
    let mut lines = text.lines();
    match peer {
        Peer::Envoy => {
            // <path>  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL
            let (_, build) = lines.find_map(|line| line.split_once("version: "))?;
            let (_commit, rest) = build.trim().split_once('/')?;
            let (number, rest) = rest.split_once('/')?;
            Some(format!("Envoy {number} ({})", rest.replace('/', ", ")))
        }
        Peer::Nginx => {
            let (_, number) = lines.find_map(|line| line.split_once("nginx version: nginx/"))?;
            Some(format!("nginx {}", number.trim()))
        }
        Peer::Haproxy => {
            let (_, number) = lines.find_map(|line| line.split_once("HAProxy version "))?;
            Some(format!("HAProxy {}", number.split_whitespace().next()?))
        }
    }
}

/// The commit these programs are built from, if they are built from what is there now.
fn commit() -> String {
    let git = |args: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-C", env!("CARGO_MANIFEST_DIR")]).args(args);
        let output = git.output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", COMMIT_DIGITS, "HEAD"]) else {
        return "commit not known".to_owned();
    };
    let changed =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|files| !files.is_empty());
    format!("commit {commit}{}", if changed { " with changes" } else { "" })
}

/// What a program says when it is given this flag; nginx says it on standard error.
fn said(program: &Path, flag: &str) -> String {
    let output = Command::new(program).arg(flag).output();
    let text = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_from_what_each_program_says() {
        let envoy = "\nbin/envoy  version: 9e5580933739/1.40.0/Clean/RELEASE/BoringSSL\n\n";
        assert_eq!(read(Peer::Envoy, envoy).unwrap(), "Envoy 1.40.0 (Clean, RELEASE, BoringSSL)");
        assert_eq!(read(Peer::Nginx, "nginx version: nginx/1.22.1\n").unwrap(), "nginx 1.22.1");
        let haproxy = "HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/\nStatus: long\n";
        assert_eq!(read(Peer::Haproxy, haproxy).unwrap(), "HAProxy 2.6.12-1+deb12u4");
        for peer in Peer::ALL {
            assert_eq!(read(peer, "cannot load a library\n"), None);
        }
    }

    #[test]
    fn a_program_that_is_not_there_says_nothing() {
        assert_eq!(said(Path::new("/nowhere/envoy"), "--version"), "");
    }
}
