//! Kubernetes itself: API server, controllers, storage, kubectl and Helm, built from the Go modules that `tests/kube` names.
//!
//! No package has them all in versions that go together, and binaries from elsewhere would be taken on trust; the
//! checksums of `go.sum` hold what is built here to the byte.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::shell;
use crate::workspace::Workspace;

/// The programs, as file name and Go package.
const PROGRAMS: [(&str, &str); 5] = [
    ("etcd", "./etcd"),
    ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
    ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
    ("helm", "helm.sh/helm/v4/cmd/helm"),
];
/// The module whose version the programs of Kubernetes say that they are.
const KUBERNETES: &str = "k8s.io/kubernetes";
/// The modules whose versions the closing line names.
const NAMED: [&str; 4] =
    [KUBERNETES, "go.etcd.io/etcd/server/v3", "helm.sh/helm/v4", "sigs.k8s.io/gateway-api"];
/// The module that holds the CRDs of the Gateway API, and where in it.
const GATEWAY_API: &str = "sigs.k8s.io/gateway-api";
/// The release channels of the Gateway API, each a directory of CRDs.
const CHANNELS: [&str; 2] = ["standard", "experimental"];
/// Where the Go distribution puts itself, which is not in everybody's PATH.
const GO_HOME: &str = "/usr/local/go/bin";

/// Builds what is not there in the versions that `go.mod` names; returns those versions.
///
/// # Errors
/// When Go is missing or too old, or a module cannot be fetched or built.
pub(super) fn fetch(workspace: &Workspace) -> Result<String> {
    let module = Module::read(workspace.kube_module())?;
    let dir = workspace.counterparts().join("kube");
    let stamp = dir.join("stamp");
    let is_current = fs::read_to_string(&stamp).is_ok_and(|found| found == module.identity);
    if is_current && PROGRAMS.iter().all(|(name, _)| dir.join("bin").join(name).is_file()) {
        shell::step("Kubernetes: all there");
        return Ok(module.versions());
    }
    let go = Go::find(&module)?;
    let linked = linker_flags(required(&module.go_mod, KUBERNETES).unwrap_or_default());
    fs::create_dir_all(dir.join("bin")).with_context(|| format!("cannot make {}", dir.display()))?;
    for (name, package) in PROGRAMS {
        go.build(package, &linked, &dir.join("bin").join(name))?;
    }
    go.copy_crds(&dir)?;
    // Last, so that an interrupted run starts afresh.
    fs::write(&stamp, &module.identity).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(module.versions())
}

/// Our Go module.
#[derive(Debug)]
struct Module {
    dir: PathBuf,
    go_mod: String,
    /// What tells one set of programs from another: `go.mod`, and the checksums of what it names.
    identity: String,
}

impl Module {
    fn read(dir: PathBuf) -> Result<Self> {
        let read = |name: &str| {
            let file = dir.join(name);
            fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
        };
        let go_mod = read("go.mod")?;
        let identity = format!("{go_mod}\n{}", read("go.sum")?);
        Ok(Self { dir, go_mod, identity })
    }

    fn versions(&self) -> String {
        let named = NAMED.map(|name| format!("{name} {}", required(&self.go_mod, name).unwrap_or("?")));
        named.join(", ")
    }
}

/// The version of a module that `go.mod` requires.
fn required<'a>(go_mod: &'a str, module: &str) -> Option<&'a str> {
    go_mod.lines().filter(|line| !line.contains("=>")).find_map(|line| {
        let line = line.trim().trim_start_matches("require").trim_start();
        line.strip_prefix(module)?.strip_prefix(' ')?.split(' ').next()
    })
}

/// The Go toolchain, called in our module.
#[derive(Debug)]
struct Go {
    program: PathBuf,
    module: PathBuf,
}

impl Go {
    /// Finds a toolchain that is new enough for the module.
    fn find(module: &Module) -> Result<Self> {
        let path = env::var_os("PATH").unwrap_or_default();
        let mut files = env::split_paths(&path).chain([PathBuf::from(GO_HOME)]).map(|dir| dir.join("go"));
        let wanted = required(&module.go_mod, "go").unwrap_or_default();
        let advice = format!("install Go {wanted} or newer from https://go.dev/dl into /usr/local/go");
        let Some(program) = files.find(|file| file.is_file()) else {
            bail!("Kubernetes is built with Go, and there is no `go`: {advice}, run this again");
        };
        let go = Self { program, module: module.dir.clone() };
        let mut version = go.command(&["env", "GOVERSION"]);
        // Outside of the module, whose demands an old toolchain would refuse to read.
        let found = shell::capture(version.current_dir("/"), &advice)?;
        if numbers(found.trim_start_matches("go")) < numbers(wanted) {
            bail!("{} is {found}, and Kubernetes needs Go {wanted} or newer: {advice}", go.program.display());
        }
        Ok(go)
    }

    fn build(&self, package: &str, linked: &str, file: &Path) -> Result<()> {
        shell::step(&format!("building {package}; minutes, the first time"));
        let mut build = self.command(&["build", "-trimpath", linked, "-o"]);
        build.arg(file).arg(package);
        shell::run(
            &mut build,
            "check that this machine reaches its Go proxy (go env GOPROXY), then run this again",
        )
    }

    /// Copies the CRDs of the Gateway API, one directory for each channel.
    fn copy_crds(&self, dir: &Path) -> Result<()> {
        let mut download = self.command(&["mod", "download", GATEWAY_API]);
        shell::run(&mut download, "check that this machine reaches its Go proxy (go env GOPROXY)")?;
        let mut list = self.command(&["list", "-m", "-f", "{{.Dir}}", GATEWAY_API]);
        let source = PathBuf::from(shell::capture(&mut list, "run `go mod download` in tests/kube")?);
        for channel in CHANNELS {
            let target = dir.join("gateway-api").join(channel);
            copy_kinds(&source.join("config/crd").join(channel), &target).with_context(|| {
                format!("cannot copy the CRDs of the Gateway API to {}", target.display())
            })?;
        }
        Ok(())
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut go = Command::new(&self.program);
        go.args(args).current_dir(&self.module).stdin(Stdio::null());
        // The programs run wherever the tests do, and the toolchain is the one that was looked at.
        go.env("CGO_ENABLED", "0").env("GOFLAGS", "-mod=readonly").env("GOTOOLCHAIN", "local");
        go
    }
}

/// What the linker is told: no symbols for a debugger, and the version, which clients look at and which a build out of
/// a module does not know.
fn linker_flags(version: &str) -> String {
    let [major, minor, ..] = numbers(version.trim_start_matches('v'))[..] else {
        return "-ldflags=-s -w".into();
    };
    let set = |name: &str, value: &str| format!(" -X k8s.io/component-base/version.{name}={value}");
    let version = [
        set("gitVersion", version),
        set("gitMajor", &major.to_string()),
        set("gitMinor", &minor.to_string()),
    ];
    format!("-ldflags=-s -w{}", version.concat())
}

/// Copies the files of the kinds: `group_plural.yaml`. What else is there would forbid one channel beside the other.
fn copy_kinds(source: &Path, target: &Path) -> Result<()> {
    fs::create_dir_all(target)?;
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        let name = entry.file_name();
        let text = name.to_string_lossy();
        if text.starts_with("gateway.networking") && !text.contains("_vap_") {
            // Written anew, because what the module cache holds is read-only.
            fs::write(target.join(&name), fs::read(entry.path())?)?;
        }
    }
    Ok(())
}

/// The numbers of a version, which compare as versions do.
fn numbers(version: &str) -> Vec<u64> {
    let digits = |part: &str| part.chars().take_while(char::is_ascii_digit).collect::<String>();
    version.split('.').map_while(|part| digits(part).parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_required_version_is_not_a_replaced_one() {
        let go_mod = "go 1.26.0\nrequire k8s.io/kubernetes v1.36.3\nrequire (\n\tk8s.io/api v0.37.1 // indirect\n)\n\
                      replace (\n\tk8s.io/api => k8s.io/api v0.36.3\n)\n";
        assert_eq!(required(go_mod, "go"), Some("1.26.0"));
        assert_eq!(required(go_mod, "k8s.io/kubernetes"), Some("v1.36.3"));
        assert_eq!(required(go_mod, "k8s.io/api"), Some("v0.37.1"));
        assert_eq!(required(go_mod, "k8s.io"), None);
    }

    #[test]
    fn the_programs_say_the_version_of_their_module() {
        let flags = linker_flags("v1.36.3");
        for (name, value) in [("gitVersion", "v1.36.3"), ("gitMajor", "1"), ("gitMinor", "36")] {
            assert!(flags.contains(&format!("version.{name}={value}")), "{flags}");
        }
    }

    #[test]
    fn versions_of_go_compare_by_number() {
        assert!(numbers("1.9.7") < numbers("1.26.0"));
        assert!(numbers("1.26rc1") < numbers("1.26.8"));
        assert!(numbers("1.27") > numbers("1.26.8"));
    }
}
