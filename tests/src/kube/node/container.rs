//! A container: a program in the network of its pod, with a root of its own over that of this machine, its volumes mounted,
//! as the user and with the rights that its spec says.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process::Program;

use super::environment::{command_line, environment};
use super::identity::setpriv;
use super::image::Image;
use super::services::list;
use super::volumes::Volumes;

/// Makes the root and replaces itself by the program. Its arguments: a directory, `ro` or `rw` for the root, then
/// `source target ro|rw` for each mount, `--`, then the command line. What it mounts goes with its mount namespace.
///
/// A target is resolved inside of the new root: `/var/run` is an absolute link.
const SCRIPT: &str = r#"
set -eu
own=$1 mode=$2
shift 2
mount -t tmpfs -o mode=755 tmpfs "$own"
mkdir "$own/upper" "$own/work" "$own/root"
root=$own/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$own/upper,workdir=$own/work" "$root"
for place in proc dev sys; do mount --rbind "/$place" "$root/$place"; done
mount -t tmpfs -o mode=755 tmpfs "$root/run"
while [ "$1" != -- ]; do
    if [ -d "$1" ]; then
        chroot "$root" mkdir -p "$2"
    else
        chroot "$root" mkdir -p "$(dirname "$2")"
        chroot "$root" touch "$2"
    fi
    target=$root$(chroot "$root" realpath "$2")
    mount --bind "$1" "$target"
    if [ "$3" = ro ]; then mount -o remount,bind,ro "$target"; fi
    shift 3
done
shift
if [ "$mode" = ro ]; then mount -o remount,ro "$root"; fi
exec chroot "$root" env -i "$@"
"#;

/// What a container is made of besides its spec.
#[derive(Debug)]
pub(super) struct Ground<'a> {
    /// The pod, its addresses filled in.
    pub(super) pod: &'a Value,
    pub(super) image: &'a Image,
    pub(super) volumes: &'a Volumes,
    /// The file of the network namespace.
    pub(super) network: PathBuf,
    /// What it sees as `/etc/hosts`.
    pub(super) hosts: &'a Path,
    /// A directory that nothing else uses.
    pub(super) own: PathBuf,
}

/// The words before every program of a container: its environment, then its user and rights.
///
/// # Errors
/// When its spec has something that cannot be done, with what the kubelet would say.
pub(super) fn surroundings(ground: &Ground<'_>, container: &Value) -> Result<Vec<String>> {
    let variables = environment(ground.pod, container)?;
    let mut words: Vec<_> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
    words.push("setpriv".into());
    words.extend(setpriv(ground.pod, container, ground.image)?);
    Ok(words)
}

/// The program of a container, about to be started. `surroundings` are its own.
///
/// # Errors
/// As [`surroundings`].
pub(super) fn program(ground: &Ground<'_>, container: &Value, surroundings: &[String]) -> Result<Program> {
    let line = command_line(container, ground.image, &environment(ground.pod, container)?);
    fs::create_dir_all(&ground.own).context("cannot make a directory")?;
    let is_read_only = container["securityContext"]["readOnlyRootFilesystem"] == true;
    let mut net = OsString::from("--net=");
    net.push(&ground.network);
    let program = Program::at("nsenter").args([net]).args(["unshare", "--mount", "--propagation", "private"]);
    let program = program.args(["sh", "-c", SCRIPT, "container"]).args([&ground.own]);
    let program = program.args([if is_read_only { "ro" } else { "rw" }]).args(mounts(ground, container)?);
    Ok(program.args(["--"]).args(surroundings).args(line))
}

/// A command beside the program of a container, whose process this is.
pub(super) fn exec(pid: u32, surroundings: &[String], words: &[&str]) -> Program {
    let program = Program::at("nsenter").args([format!("--target={pid}")]);
    let program = program.args(["--net", "--mount", "--root", "--", "env", "-i"]);
    program.args(surroundings).args(words)
}

/// The mounts of a container, three words each.
fn mounts(ground: &Ground<'_>, container: &Value) -> Result<Vec<OsString>> {
    let mut words: Vec<OsString> = vec![ground.hosts.into(), "/etc/hosts".into(), "rw".into()];
    if let Some(program) = &ground.image.program {
        words.extend([program.source.clone().into(), program.target.clone().into(), "ro".into()]);
    }
    for mount in list(&container["volumeMounts"]) {
        let name = mount["name"].as_str().context("a mount names a volume")?;
        let target = mount["mountPath"].as_str().context("a mount has a path")?;
        let source = ground.volumes.path(name).join(mount["subPath"].as_str().unwrap_or_default());
        let mode = if mount["readOnly"] == true { "ro" } else { "rw" };
        words.extend([source.into(), target.into(), mode.into()]);
    }
    Ok(words)
}
