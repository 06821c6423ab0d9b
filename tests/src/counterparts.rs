//! The real programs that tests run against, and what to do when one is not there.
//!
//! `cargo xtask test` fetches them and sets `OUTRIGGER_REQUIRE_COUNTERPARTS`: then one that is missing is a failure.
//! Without it a test that needs one says what it leaves out and returns. Only [`need`] decides this, so that no
//! test can be left out silently.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where `cargo xtask test` keeps what it fetched; `target/counterparts` when it is not set.
const DIR: &str = "OUTRIGGER_COUNTERPARTS";
/// Set when a counterpart that is missing is a failure.
const REQUIRE: &str = "OUTRIGGER_REQUIRE_COUNTERPARTS";
/// Set when slow tests are to run too.
const ALL: &str = "OUTRIGGER_TEST_ALL";

/// Something outside this repository that a test needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counterpart {
    /// Envoy 1.40.
    Envoy,
    /// A Python with `grpcio`: gRPC's C core and its xDS client.
    GrpcPython,
    /// nginx, as an origin.
    Nginx,
    /// h2load, an HTTP/2 load generator.
    H2load,
    /// wrk, an HTTP/1.1 load generator.
    Wrk,
    /// promtool, which judges metrics.
    Promtool,
    /// tcpdump, which sees what is on a wire.
    Tcpdump,
    /// curl.
    Curl,
    /// The openssl command.
    Openssl,
    /// A Python with `sslyze`, which asks a TLS server for everything that it should refuse.
    Sslyze,
    /// `iptables-restore`, and with it the rest of iptables.
    Iptables,
    /// `ip`, for namespaces, bridges and addresses.
    Ip,
    /// To be root.
    Root,
    /// To be allowed to make network namespaces, which root in a container may not be.
    NetworkNamespaces,
    /// A Kubernetes cluster: its path is the directory with the programs in `bin` and the CRDs of the Gateway API.
    Kubernetes,
}

/// The counterparts that [`need`] found.
#[derive(Debug)]
pub struct Found {
    paths: BTreeMap<Counterpart, PathBuf>,
}

/// Looks for everything a test needs. When something is missing: says so on stderr and returns `None`.
///
/// ```no_run
/// use outrigger_tests::counterparts::{self, Counterpart};
///
/// let Some(found) = counterparts::need(&[Counterpart::Envoy]) else { return };
/// let envoy = found.command(Counterpart::Envoy).arg("--version").output();
/// ```
///
/// # Panics
/// When something is missing and `OUTRIGGER_REQUIRE_COUNTERPARTS` is set, as `cargo xtask test` does.
#[must_use = "a test that does not get what it needs has to return"]
pub fn need(wanted: &[Counterpart]) -> Option<Found> {
    let dir = env::var_os(DIR).map_or_else(default_dir, PathBuf::from);
    match find(&dir, wanted) {
        Ok(found) => Some(found),
        Err(missing) => {
            let missing = missing.join(", ");
            assert!(
                env::var_os(REQUIRE).is_none(),
                "needs {missing}: `cargo xtask test` as root fetches it; {REQUIRE} is set, so this is a failure"
            );
            leave_out(&format!("needs {missing} (run cargo xtask test)"));
            None
        }
    }
}

/// As [`need`], for a test of a real cluster: one that is slow, and that fails without the cluster.
///
/// # Panics
/// When slow tests are wanted and something is missing.
#[must_use = "a test that does not get what it needs has to return"]
pub fn need_cluster(wanted: &[Counterpart]) -> Option<Found> {
    if !slow_tests_wanted() {
        return None;
    }
    let wanted = [&[Counterpart::Kubernetes], wanted].concat();
    let found = need(&wanted);
    assert!(found.is_some(), "{ALL} is set, and what a cluster needs is missing: run cargo xtask test --all");
    found
}

/// Whether a slow test is to run. When not: says so on stderr.
#[must_use = "a slow test that is not wanted has to return"]
pub fn slow_tests_wanted() -> bool {
    let is_wanted = env::var_os(ALL).is_some();
    if !is_wanted {
        leave_out("is slow (run cargo xtask test --all)");
    }
    is_wanted
}

impl Found {
    /// The program of a counterpart.
    ///
    /// # Panics
    /// When the test did not ask [`need`] for it, or when it is no program ([`Counterpart::Root`]).
    #[must_use]
    pub fn path(&self, counterpart: Counterpart) -> &Path {
        self.paths.get(&counterpart).unwrap_or_else(|| {
            panic!("{counterpart:?} has no path here: name it, a program, in the call of counterparts::need")
        })
    }

    /// A command that starts the counterpart, without arguments yet.
    ///
    /// # Panics
    /// As [`Found::path`].
    #[must_use]
    pub fn command(&self, counterpart: Counterpart) -> Command {
        Command::new(self.path(counterpart))
    }
}

impl Counterpart {
    fn name(self) -> &'static str {
        match self {
            Self::Envoy => "envoy",
            Self::GrpcPython => "grpcio for Python",
            Self::Nginx => "nginx",
            Self::H2load => "h2load",
            Self::Wrk => "wrk",
            Self::Promtool => "promtool",
            Self::Tcpdump => "tcpdump",
            Self::Curl => "curl",
            Self::Openssl => "openssl",
            Self::Sslyze => "sslyze for Python",
            Self::Iptables => "iptables",
            Self::Ip => "ip",
            Self::Root => "root",
            Self::NetworkNamespaces => "network namespaces",
            Self::Kubernetes => "Kubernetes (cargo xtask test --all builds it)",
        }
    }

    /// The program, where it is one; `Err` when the counterpart is missing.
    fn look(self, dir: &Path) -> Result<Option<PathBuf>, ()> {
        let fetched = |path: &str| Some(dir.join(path)).filter(|path| is_program(path));
        let program = match self {
            Self::Root => return if is_root() { Ok(None) } else { Err(()) },
            Self::NetworkNamespaces => return if can_make_namespaces() { Ok(None) } else { Err(()) },
            Self::Kubernetes => {
                let kube = dir.join("kube");
                let is_there =
                    crate::kube::PROGRAMS.iter().all(|name| is_program(&kube.join("bin").join(name)));
                return if is_there { Ok(Some(kube)) } else { Err(()) };
            }
            Self::Envoy => fetched("bin/envoy"),
            Self::GrpcPython => fetched("venv/bin/python"),
            Self::Sslyze => fetched("venv/bin/sslyze"),
            Self::Iptables => find_program("iptables-restore"),
            other => find_program(other.name()),
        };
        program.map(Some).ok_or(())
    }
}

fn find(dir: &Path, wanted: &[Counterpart]) -> Result<Found, Vec<&'static str>> {
    let mut found = Found { paths: BTreeMap::new() };
    let mut missing = Vec::new();
    for &counterpart in wanted {
        match counterpart.look(dir) {
            Ok(Some(path)) => {
                found.paths.insert(counterpart, path);
            }
            Ok(None) => {}
            Err(()) => missing.push(counterpart.name()),
        }
    }
    if missing.is_empty() { Ok(found) } else { Err(missing) }
}

/// Says on stderr, past the capture of the test harness, that the test of this thread is left out.
fn leave_out(why: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // Nobody reads a closed stderr, so a failure to write there loses nothing.
    let _ = writeln!(std::io::stderr(), "left out: {test}: {why}");
}

fn default_dir() -> PathBuf {
    crate::process::target_dir().join("counterparts")
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // The PATH of a plain user often lacks the places of system programs.
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(system).map(|dir| dir.join(name)).find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn can_make_namespaces() -> bool {
    let mut unshare = Command::new("unshare");
    unshare
        .args(["--net", "--mount", "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    is_root() && unshare.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A counterparts directory that holds these programs.
    fn directory(programs: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for program in programs {
            let file = dir.path().join(program);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, "#!/bin/sh\n").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        dir
    }

    #[test]
    fn fetched_programs_are_found_in_the_directory() {
        let dir = directory(&["bin/envoy", "venv/bin/python"]);
        let found = find(dir.path(), &[Counterpart::Envoy, Counterpart::GrpcPython]).unwrap();
        assert_eq!(found.path(Counterpart::Envoy), dir.path().join("bin/envoy"));
        assert_eq!(found.command(Counterpart::GrpcPython).get_program(), dir.path().join("venv/bin/python"));
    }

    #[test]
    fn the_real_ones_answer() {
        let table: [(Counterpart, &[&str], &str); 4] = [
            (Counterpart::Envoy, &["--version"], "/1.40.0/"),
            (Counterpart::GrpcPython, &["-c", "import grpc; print(grpc.__version__)"], "1."),
            (Counterpart::Curl, &["--version"], "curl"),
            (Counterpart::Openssl, &["version"], "OpenSSL"),
        ];
        let Some(found) = need(&table.map(|(counterpart, ..)| counterpart)) else { return };
        for (counterpart, args, expected) in table {
            let output = found.command(counterpart).args(args).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(said.contains(expected), "{counterpart:?} said {said:?}");
        }
    }

    #[test]
    fn everything_that_is_missing_is_named() {
        let dir = directory(&["venv/bin/python"]);
        let missing = find(dir.path(), &[Counterpart::Envoy, Counterpart::GrpcPython]).unwrap_err();
        assert_eq!(missing, ["envoy"]);
    }

    #[test]
    fn a_file_that_cannot_be_executed_is_no_program() {
        let dir = directory(&["bin/envoy"]);
        fs::set_permissions(dir.path().join("bin/envoy"), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(find(dir.path(), &[Counterpart::Envoy]).is_err());
    }

    #[test]
    #[should_panic(expected = "Nginx has no path here")]
    fn a_counterpart_that_was_not_asked_for_has_no_path() {
        let found = find(Path::new("/nowhere"), &[]).unwrap();
        let _ = found.path(Counterpart::Nginx);
    }
}
