//! Programs that come as Debian packages.
//!
//! A program that is there already is taken as it is, whoever installed it.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::shell;

/// Where system programs live that are not in everybody's PATH.
const SYSTEM_DIRS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Where Debian and others put the modules of nginx.
const NGINX_MODULE_DIRS: [&str; 3] =
    ["/usr/lib/nginx/modules", "/usr/share/nginx/modules", "/usr/lib64/nginx/modules"];

/// How the presence of a package shows.
#[derive(Debug, Clone, Copy)]
enum Sign {
    /// A program of this name can be found.
    Program(&'static str),
    /// nginx has a module in a file of this name.
    NginxModule(&'static str),
    /// Python can import these modules, separated by commas.
    PythonModules(&'static str),
}

/// A package, and how it shows that it is there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Package {
    name: &'static str,
    sign: Sign,
}

const NGINX: Package = Package { name: "nginx-light", sign: Sign::Program("nginx") };
const NGINX_STREAM: Package =
    Package { name: "libnginx-mod-stream", sign: Sign::NginxModule("ngx_stream_module.so") };
const HAPROXY: Package = Package { name: "haproxy", sign: Sign::Program("haproxy") };
/// Envoy comes from PyPI.
const PYTHON: Package = Package { name: "python3-venv", sign: Sign::PythonModules("venv,ensurepip") };

/// What the tests need; those of the benches try the configuration of every peer.
pub(super) const TESTS: [Package; 12] = [
    NGINX,
    NGINX_STREAM,
    HAPROXY,
    Package { name: "nghttp2-client", sign: Sign::Program("h2load") },
    Package { name: "wrk", sign: Sign::Program("wrk") },
    Package { name: "iptables", sign: Sign::Program("iptables-restore") },
    Package { name: "iproute2", sign: Sign::Program("ip") },
    Package { name: "tcpdump", sign: Sign::Program("tcpdump") },
    Package { name: "curl", sign: Sign::Program("curl") },
    Package { name: "openssl", sign: Sign::Program("openssl") },
    Package { name: "prometheus", sign: Sign::Program("promtool") },
    PYTHON,
];
/// What the benches need.
pub(super) const BENCHES: [Package; 4] = [NGINX, NGINX_STREAM, HAPROXY, PYTHON];
/// What the instruction gate counts with.
pub(super) const GATE: [Package; 1] = [Package { name: "valgrind", sign: Sign::Program("valgrind") }];

/// Installs the packages whose sign is missing; returns the names of the programs for the closing line.
///
/// # Errors
/// When something is missing and this is not root or there is no apt-get, or when apt-get fails.
pub(super) fn fetch(packages: &[Package]) -> Result<String> {
    let missing = missing(packages);
    if missing.is_empty() {
        shell::step("Debian packages: all there");
    } else {
        install(&missing)?;
        let still = self::missing(packages);
        if !still.is_empty() {
            bail!(
                "apt-get installed {}, yet what it is for is not found: look into `dpkg -L`",
                still.join(" ")
            );
        }
    }
    let programs: Vec<_> = packages.iter().filter_map(Package::program).collect();
    Ok(programs.join(", "))
}

impl Package {
    fn program(&self) -> Option<&'static str> {
        match self.sign {
            Sign::Program(name) => Some(name),
            Sign::NginxModule(_) | Sign::PythonModules(_) => None,
        }
    }

    fn is_there(&self) -> bool {
        match self.sign {
            Sign::Program(name) => find_program(name).is_some(),
            Sign::NginxModule(file) => {
                NGINX_MODULE_DIRS.iter().any(|dir| Path::new(dir).join(file).is_file())
            }
            Sign::PythonModules(modules) => python_has(modules),
        }
    }
}

fn missing(packages: &[Package]) -> Vec<&'static str> {
    packages.iter().filter(|package| !package.is_there()).map(|package| package.name).collect()
}

fn install(missing: &[&str]) -> Result<()> {
    let names = missing.join(" ");
    if find_program("apt-get").is_none() {
        bail!(
            "missing: {names} (names of Debian packages), and there is no apt-get here: install them, run this again"
        );
    }
    if !is_root()? {
        bail!(
            "missing: {names}: run `apt-get install {names}` as root, or run this as root, then run it again"
        );
    }
    let advice =
        "check that this machine reaches its Debian mirror (/etc/apt/sources.list), then run this again";
    shell::step("fetching the list of Debian packages");
    shell::run(&mut apt_get(&["update", "-qq"]), advice)?;
    shell::step(&format!("installing {names}"));
    let mut apt = apt_get(&["install", "-y", "-qq", "--no-install-recommends"]);
    shell::run(apt.args(missing), advice)
}

fn apt_get(args: &[&str]) -> Command {
    let mut apt = Command::new("apt-get");
    // apt may ask questions; nobody is there to answer. What it says is progress, so it goes to stderr.
    apt.args(args).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null()).stdout(std::io::stderr());
    apt
}

fn python_has(modules: &str) -> bool {
    let mut python = Command::new("python3");
    python.args(["-c", &format!("import {modules}")]).stdin(Stdio::null());
    python.stdout(Stdio::null()).stderr(Stdio::null());
    python.status().is_ok_and(|status| status.success())
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = env::split_paths(&path).chain(SYSTEM_DIRS.iter().map(PathBuf::from));
    dirs.map(|dir| dir.join(name)).find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.mode() & 0o111 != 0)
}

fn is_root() -> Result<bool> {
    let meta =
        fs::metadata("/proc/self").context("cannot read /proc/self to learn who runs this: mount /proc")?;
    Ok(meta.uid() == 0)
}
