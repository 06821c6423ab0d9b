//! Finding the programs of the workspace, and building them first.
//!
//! Cargo builds the programs of other packages for no test, so a test that starts one has to see to it. Building
//! them when they are there already costs one look of cargo at the sources, and a test never runs against
//! yesterday's program.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Set by `cargo xtask test`, which has built the programs.
const PROGRAMS_BUILT: &str = "OUTRIGGER_PROGRAMS_BUILT";

/// The path of a program of this workspace, built from what the sources are now.
///
/// # Panics
/// When it cannot be built, with what cargo said, or when no program of the workspace has this name.
#[must_use]
pub fn cargo_bin(name: &str) -> PathBuf {
    static BUILT: OnceLock<Result<(), String>> = OnceLock::new();
    if let Err(reason) = BUILT.get_or_init(build_programs) {
        panic!("the programs of the workspace are not there: {reason}");
    }
    let program = profile_dir().join(name);
    assert!(
        program.is_file(),
        "{} is not there: run `cargo build --workspace --bins`, and see that a package has a program {name}",
        program.display()
    );
    program
}

/// The target directory that this test was built into.
#[must_use]
pub fn target_dir() -> PathBuf {
    profile_dir().parent().map_or_else(|| workspace_root().join("target"), Path::to_owned)
}

/// `target/<profile>`: a test program is in its `deps`. Documentation tests run from elsewhere.
fn profile_dir() -> PathBuf {
    let from_program = env::current_exe().ok().and_then(|program| {
        let dir = program.parent()?;
        if dir.ends_with("deps") { dir.parent().map(Path::to_owned) } else { None }
    });
    from_program.unwrap_or_else(|| {
        let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
        workspace_root().join(target).join("debug")
    })
}

fn workspace_root() -> PathBuf {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_dir.parent().unwrap_or(crate_dir).to_owned()
}

fn build_programs() -> Result<(), String> {
    if env::var_os(PROGRAMS_BUILT).is_some() {
        return Ok(());
    }
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--workspace", "--bins"]).args(profile_args(&profile_dir()));
    cargo.arg("--target-dir").arg(target_dir()).current_dir(workspace_root()).stdin(Stdio::null());
    let output = cargo.output().map_err(|error| format!("cannot start cargo: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// What makes cargo build into `dir`, the directory of a profile.
fn profile_args(dir: &Path) -> Vec<String> {
    match dir.file_name().and_then(|name| name.to_str()) {
        None | Some("debug") => Vec::new(),
        Some(profile) => vec!["--profile".into(), profile.into()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_of_the_test_is_the_profile_of_the_programs() {
        assert_eq!(profile_args(Path::new("/t/target/debug")), Vec::<String>::new());
        assert_eq!(profile_args(Path::new("/t/target/release")), ["--profile", "release"]);
    }

    #[test]
    fn the_target_directory_holds_this_test() {
        assert!(env::current_exe().unwrap().starts_with(target_dir()));
    }
}
