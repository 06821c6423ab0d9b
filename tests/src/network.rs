//! Network namespaces on a bridge: hosts of their own for one test, with a kernel's real routing and redirection.
//!
//! The bridge stands in a namespace of its own, the hub, so that nothing of the machine's network is touched and the
//! addresses need not be free on it. Every namespace is deleted on drop, in a test that fails too.

mod capture;

use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

pub use capture::{Capture, Stream};

use crate::process::Program;

/// Where `ip netns` keeps its namespaces.
const NAMESPACES: &str = "/run/netns";
/// The bridge in the hub.
const BRIDGE: &str = "br0";
/// The last part of the hub's addresses; hosts have those above it.
const HUB: u8 = 1;
/// The most hosts a network has; the fourth part of their addresses is counted on from [`HUB`].
const MAX_HOSTS: u8 = 250;

/// A bridge and the hosts on it. Dropping it deletes every namespace.
#[derive(Debug)]
pub struct Network {
    ip: PathBuf,
    hub: Namespace,
    hosts: Vec<Namespace>,
    /// How many hosts it has had: nobody gets the address of one that is gone.
    count: u8,
}

/// A network namespace.
#[derive(Debug)]
pub struct Namespace {
    ip: PathBuf,
    name: String,
    number: u8,
}

impl Network {
    /// A hub without hosts. `name` is part of the names of the namespaces and has to be unique in this process; `ip`
    /// is the program.
    ///
    /// # Errors
    /// When the namespace or its bridge cannot be made.
    pub fn new(ip: &Path, name: &str) -> Result<Self> {
        let hub = Namespace::add(ip, &format!("outrigger-{}-{name}", std::process::id()), HUB)?;
        let network = Self { ip: ip.to_owned(), hub, hosts: Vec::new(), count: 0 };
        // Without snooping the first neighbour solicitation reaches everybody at once.
        network.hub.ip(&["link", "add", BRIDGE, "type", "bridge", "mcast_snooping", "0"])?;
        network.hub.bring_up(BRIDGE)?;
        Ok(network)
    }

    /// Adds a host with addresses of both families, whose default routes lead to the hub.
    ///
    /// # Errors
    /// When one of the steps fails.
    pub fn add_host(&mut self, name: &str) -> Result<&Namespace> {
        let host = self.lend_host(name)?;
        self.hosts.push(host);
        self.hosts.last().context("a host was added")
    }

    /// As [`Network::add_host`], for a host that goes when the caller drops it.
    ///
    /// # Errors
    /// When one of the steps fails.
    pub fn lend_host(&mut self, name: &str) -> Result<Namespace> {
        let count = self.count;
        if count >= MAX_HOSTS {
            bail!("a test network has at most {MAX_HOSTS} hosts");
        }
        self.count += 1;
        let host = Namespace::add(&self.ip, &format!("{}-{name}", self.hub.name), HUB + 1 + count)?;
        let port = format!("port{count}");
        self.hub.ip(&["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &host.name])?;
        self.hub.ip(&["link", "set", &port, "master", BRIDGE, "up"])?;
        host.bring_up("eth0")?;
        let (v4, v6) = (self.hub.ipv4().to_string(), self.hub.ipv6().to_string());
        host.ip(&["route", "add", "default", "via", &v4])?;
        host.ip(&["-6", "route", "add", "default", "via", &v6])?;
        Ok(host)
    }

    /// The namespace of the bridge, itself a host at it.
    #[must_use]
    pub fn hub(&self) -> &Namespace {
        &self.hub
    }

    /// The hosts, in the order in which they were added.
    #[must_use]
    pub fn hosts(&self) -> &[Namespace] {
        &self.hosts
    }

    /// Records what passes the bridge from now on. `tcpdump` is the program.
    ///
    /// # Errors
    /// When it does not begin.
    pub async fn capture(&self, tcpdump: &Path) -> Result<Capture> {
        Capture::start(self.hub.program(tcpdump), BRIDGE).await
    }
}

impl Namespace {
    fn add(ip: &Path, name: &str, number: u8) -> Result<Self> {
        run(ip, &["netns", "add", name])?;
        let namespace = Self { ip: ip.to_owned(), name: name.to_owned(), number };
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// The file that stands for it.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        Path::new(NAMESPACES).join(&self.name)
    }

    /// Its IPv4 address.
    #[must_use]
    pub fn ipv4(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, self.number)
    }

    /// Its IPv6 address.
    #[must_use]
    pub fn ipv6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, self.number.into())
    }

    /// Its addresses.
    #[must_use]
    pub fn addresses(&self) -> [IpAddr; 2] {
        [self.ipv4().into(), self.ipv6().into()]
    }

    /// A program that runs inside.
    pub fn program(&self, path: impl AsRef<Path>) -> Program {
        self.inside(&[], path.as_ref())
    }

    /// A program that runs inside as this user and group, with no other groups.
    pub fn program_as(&self, id: u32, path: impl AsRef<Path>) -> Program {
        let id = id.to_string();
        self.inside(&["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"], path.as_ref())
    }

    /// Each program of the line replaces itself by the next, so that the process stays the one that was started.
    fn inside(&self, before: &[&str], path: &Path) -> Program {
        let mut net = OsString::from("--net=");
        net.push(self.file());
        let before = before.iter().map(OsStr::new);
        Program::at("nsenter").args([net.as_os_str()].into_iter().chain(before).chain([path.as_os_str()]))
    }

    fn ip(&self, args: &[&str]) -> Result<()> {
        run(&self.ip, &[&["-n", &self.name], args].concat())
    }

    fn bring_up(&self, link: &str) -> Result<()> {
        self.ip(&["addr", "add", &format!("{}/24", self.ipv4()), "dev", link])?;
        // Nobody else can have the address, and looking for somebody would take a second.
        self.ip(&["addr", "add", &format!("{}/64", self.ipv6()), "dev", link, "nodad"])?;
        self.ip(&["link", "set", link, "up"])
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // With a namespace go its links; that one is left over is told, and hides no failure.
        if let Err(error) = run(&self.ip, &["netns", "delete", &self.name]) {
            eprintln!("{error:#}");
        }
    }
}

fn run(ip: &Path, args: &[&str]) -> Result<()> {
    let output = Command::new(ip).args(args).stdin(Stdio::null()).output().context("cannot run ip")?;
    if !output.status.success() {
        bail!("ip {} failed: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
