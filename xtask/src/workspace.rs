//! Where the workspace and its target directory are, and how cargo is called in it.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

/// The places that every task needs.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// Finds the workspace this program was built from.
    pub(crate) fn locate() -> Result<Self> {
        let crate_dir = env::var_os("CARGO_MANIFEST_DIR")
            .map(PathBuf::from)
            .context("CARGO_MANIFEST_DIR is not set: start this as `cargo xtask`, not as a bare program")?;
        let root = crate_dir.parent().context("the xtask crate has no parent directory")?.to_owned();
        // Cargo reads a relative target directory from where it was called; the tasks call it in the root.
        let target =
            env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir));
        Ok(Self { root, target })
    }

    /// The directory the real counterparts are kept in.
    pub(crate) fn counterparts(&self) -> PathBuf {
        self.target.join("counterparts")
    }

    /// The Go module that names the versions of Kubernetes and its companions.
    pub(crate) fn kube_module(&self) -> PathBuf {
        self.root.join("tests/kube")
    }

    /// A program that cargo has built in release.
    pub(crate) fn released(&self, program: &str) -> PathBuf {
        self.target.join("release").join(program)
    }

    /// The directory the profiles of the instruction gate are kept in.
    pub(crate) fn gate(&self) -> PathBuf {
        self.target.join("gate")
    }

    /// The cargo that started this task, called in the root of the workspace.
    pub(crate) fn cargo(&self) -> Command {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(&self.root);
        // These describe the xtask crate; they are not the business of what is built or tested next.
        for (name, _) in env::vars_os() {
            if name
                .to_str()
                .is_some_and(|name| name.starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR")
            {
                cargo.env_remove(name);
            }
        }
        cargo
    }
}
