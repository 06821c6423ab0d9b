//! A mesh of real programs for one test: a directory of YAML, the control plane that reads it, tokens, and the flags that
//! every sidecar needs.
//!
//! It knows the command lines of the product and nothing of what a mesh is expected to do.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::process::{Process, Program};

/// How long a program of the product may take to be ready; a debug build on a busy machine is slow.
pub const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long a command that only writes something may take.
const COMMAND_WITHIN: Duration = Duration::from_secs(20);

/// The directories of a mesh. Dropping it removes them; its programs belong to the caller.
#[derive(Debug)]
pub struct Mesh {
    dir: TempDir,
}

impl Mesh {
    /// An empty mesh. Other users may read its directories, as a sidecar does that runs as one of its own.
    ///
    /// # Errors
    /// When the directories cannot be made.
    pub fn new() -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("outrigger-mesh-")
            .tempdir()
            .context("cannot make a directory")?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))
            .context("cannot open the directory")?;
        let mesh = Self { dir };
        fs::create_dir(mesh.config()).context("cannot make the directory of the configuration")?;
        Ok(mesh)
    }

    /// Where files may be put that belong to this mesh.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The control plane's data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// Writes a file of the configuration, all of it at once.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.config().join(file);
        // Not a YAML file until it is complete.
        let new = path.with_extension("new");
        let written = fs::write(&new, text).and_then(|()| fs::rename(&new, &path));
        written.with_context(|| format!("cannot write {}", path.display()))
    }

    /// The arguments of `outrigger` that run the control plane, on free ports.
    #[must_use]
    pub fn control_plane_args(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec!["run".into(), "--config".into(), self.config().into()];
        args.extend(["--data".into(), self.data().into()]);
        args.extend(["--xds", "127.0.0.1:0", "--http", "127.0.0.1:0"].map(OsString::from));
        args
    }

    /// Starts the control plane on loopback and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start_control_plane(&self) -> Result<Process> {
        Program::of_workspace("outrigger").args(self.control_plane_args()).start_ready(READY_WITHIN).await
    }

    /// Makes a token; the file that holds it, which everybody may read.
    ///
    /// # Errors
    /// When `outrigger token create` fails.
    pub async fn token(&self, namespace: &str, service_account: &str) -> Result<PathBuf> {
        let create =
            Program::of_workspace("outrigger").args(["token", "create", "--data"]).args([self.data()]);
        let create = create.args(["--namespace", namespace, "--service-account", service_account]);
        let token = create.output(COMMAND_WITHIN).await?;
        let file = self.path().join(format!("{namespace}-{service_account}.token"));
        fs::write(&file, token).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(file)
    }

    /// A sidecar of a workload whose service account has its name, with everything but `--inbound` and `--outbound`.
    ///
    /// # Errors
    /// When there is no token for it.
    pub async fn sidecar(&self, xds: SocketAddr, namespace: &str, workload: &str) -> Result<Program> {
        let token = self.token(namespace, workload).await?;
        let control_plane = format!("http://{xds}");
        let program =
            Program::of_workspace("outrigger-proxy").args(["run", "--control-plane", &control_plane]);
        let program =
            program.args(["--namespace", namespace, "--service-account", workload, "--workload", workload]);
        let program = program.args([OsString::from("--token-file"), token.into()]);
        Ok(program.args(["--admin", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--health", "127.0.0.1:0"]))
    }

    fn config(&self) -> PathBuf {
        self.path().join("config")
    }
}
