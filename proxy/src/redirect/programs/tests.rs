//! Finding and running iptables, with shell scripts in its place.

use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

/// A directory with programs that are these shell scripts.
fn dir_with(programs: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, script) in programs {
        // Written by another process: a file that this one has open for writing, and a fork of another test's thread
        // with it, cannot be run ("Text file busy").
        let written = Command::new("sh")
            .args(["-c", "printf '#!/bin/sh\n%s\n' \"$2\" > \"$1\" && chmod 755 \"$1\"", "sh"])
            .args([dir.path().join(name).as_os_str(), script.as_ref()])
            .status();
        assert!(written.unwrap().success());
    }
    dir
}

fn only_backend(programs: &[(&str, &str)]) -> (TempDir, Backend) {
    let dir = dir_with(programs);
    let mut found = backends_in(Family::V4, &[dir.path().to_owned()]);
    assert_eq!(found.len(), 1);
    (dir, found.remove(0))
}

#[test]
fn the_back_end_on_nf_tables_comes_first_and_each_program_once() {
    let dir = dir_with(&[
        ("iptables-nft-restore", ""),
        ("iptables-nft-save", ""),
        ("iptables-legacy-restore", ""),
        ("iptables-legacy-save", ""),
    ]);
    for name in ["restore", "save"] {
        symlink(format!("iptables-nft-{name}"), dir.path().join(format!("iptables-{name}"))).unwrap();
    }
    let dirs = [PathBuf::from("/nowhere"), dir.path().to_owned()];
    let found: Vec<_> = backends_in(Family::V4, &dirs).iter().map(|found| name(&found.restore)).collect();
    assert_eq!(found, ["iptables-nft-restore", "iptables-legacy-restore"]);
    assert_eq!(backends_in(Family::V6, &dirs), []);
}

#[test]
fn a_program_is_not_taken_from_the_working_directory() {
    assert_eq!(locate("Cargo.toml", &[PathBuf::new(), PathBuf::from(".")]), None);
}

#[test]
fn the_text_reaches_the_program_and_its_rules_come_back() {
    let restore = "[ \"$1 $2\" = '--noflush --wait=30' ] && cat > \"$(dirname \"$0\")/got\"";
    let save = "echo '*nat'; echo ':OUTRIGGER_INBOUND - [0:0]'";
    let (dir, backend) = only_backend(&[("iptables-restore", restore), ("iptables-save", save)]);
    backend.apply("*nat\nCOMMIT\n").unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("got")).unwrap(), "*nat\nCOMMIT\n");
    assert_eq!(backend.present().unwrap().chains, ["OUTRIGGER_INBOUND"]);
}

#[test]
fn refusals_are_one_line_with_what_to_do() {
    let denied =
        "iptables-save v1.8.9 (nf_tables): Could not fetch rule set generation id: Permission denied";
    for (family, complaint, parts) in [
        (Family::V4, denied, ["iptables-restore may not", "NET_ADMIN"]),
        (Family::V4, "line 3:\n  unknown option", ["IPv4 rules: line 3: unknown option", ""]),
        (
            Family::V6,
            "can't initialize ip6tables table `nat'",
            ["IPv6 rules: can't initialize", "--ipv6 off"],
        ),
    ] {
        let error = refusal("iptables-restore".to_owned(), family, complaint).to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    let error = missing(Family::V6).to_string();
    for part in ["ip6tables-nft-restore", "install the iptables package", "--ipv6 off"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_program_that_fails_is_told_by_its_own_words_or_its_exit_code() {
    for (script, want) in
        [("echo 'no such table' >&2; exit 3", "no such table"), ("exit 4", "exit status: 4")]
    {
        let (_dir, backend) = only_backend(&[("iptables-restore", script), ("iptables-save", script)]);
        let error = backend.present().unwrap_err().to_string();
        assert!(error.starts_with("iptables-save refused") && error.contains(want), "{error}");
    }
}

#[test]
fn endless_rules_are_refused() {
    let (_dir, backend) = only_backend(&[("iptables-restore", ""), ("iptables-save", "exec yes rule")]);
    let error = backend.present().unwrap_err();
    assert!(matches!(error, RedirectError::TooMuch { .. }), "{error:?}");
}
