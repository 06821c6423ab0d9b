//! What every run of a measurement shares: the programs, and the CPUs they are given.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cores::Cores;
use crate::descriptors;

/// The programs of the mesh, each in the package of its name.
const PROGRAMS: [&str; 2] = ["outrigger", "outrigger-proxy"];

/// Programs and CPUs.
#[derive(Debug)]
pub(crate) struct Site {
    /// This program, which plays origin, load and relay.
    pub(crate) benches: PathBuf,
    /// The control plane and the tools, as users run them.
    pub(crate) outrigger: PathBuf,
    /// The sidecar by itself, as images carry it.
    pub(crate) sidecar: PathBuf,
    pub(crate) cores: Cores,
}

impl Site {
    /// Finds the programs. The mesh's are those beside this program, in the same profile; what is not there is built.
    pub(crate) fn prepare() -> Result<Self> {
        let benches = env::current_exe().context("the path of this program is not known")?;
        let [outrigger, sidecar] = PROGRAMS.map(|name| benches.with_file_name(name));
        if ![&outrigger, &sidecar].into_iter().all(|program| program.is_file()) {
            build(&outrigger)?;
            ensure!(sidecar.is_file(), "there is no {} although it was built", sidecar.display());
        }
        descriptors::allow_all()?;
        Ok(Self { benches, outrigger, sidecar, cores: Cores::claim()? })
    }
}

/// Builds both programs at once: their features unify, so that nothing is compiled twice.
fn build(outrigger: &Path) -> Result<()> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let profile_dir = outrigger.parent().context("this program is in no directory")?;
    let target = profile_dir.parent().context("this program is not in a target directory")?;
    eprintln!("building {}", PROGRAMS.join(" and "));
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--bins", "--profile", profile(profile_dir)]);
    cargo.args(PROGRAMS.iter().flat_map(|package| ["--package", package]));
    cargo.arg("--target-dir").arg(target).current_dir(&workspace);
    let advice =
        "run `cargo build --release --package outrigger --package outrigger-proxy` and see what it says";
    let status = cargo.status().with_context(|| format!("cannot start cargo: {advice}"))?;
    let built = status.success() && outrigger.is_file();
    ensure!(built, "there is no {} and it cannot be built: {advice}", outrigger.display());
    Ok(())
}

/// The profile that cargo builds into this directory.
fn profile(dir: &Path) -> &str {
    match dir.file_name().and_then(|name| name.to_str()) {
        None | Some("debug") => "dev",
        Some(profile) => profile,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mesh_is_built_in_the_profile_of_this_program() {
        assert_eq!(profile(Path::new("/t/target/debug")), "dev");
        assert_eq!(profile(Path::new("/t/target/release")), "release");
    }
}
