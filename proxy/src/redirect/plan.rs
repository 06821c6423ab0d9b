//! What is to be redirected, read from flags into a form that cannot be wrong.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use outrigger_base::lifecycle::exit::ExitError;

use super::RedirectArgs;

/// The most ports (or ranges), and the most networks, that one flag leaves out: each is a rule in the kernel.
pub(super) const MAX_SKIPPED: usize = 256;

/// The two kinds of addresses; each has its own rules and programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

/// What to redirect to where, and what to leave alone.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) inbound_port: u16,
    pub(super) outbound_port: u16,
    /// User and group of the proxy.
    pub(super) uid: u32,
    pub(super) skip_inbound: Vec<PortRange>,
    pub(super) skip_outbound: Vec<PortRange>,
    pub(super) skip_networks: Vec<IpNet>,
}

/// A list with commas between its items; an empty text is an empty list, as an annotation that is not set gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<T>(pub Vec<T>);

/// One port (`22`) or ports from a first to a last one (`9100-9110`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// A network (`10.9.0.0/16`) or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr(IpNet);

impl Plan {
    pub(super) fn new(args: &RedirectArgs) -> Result<Self, ExitError> {
        if args.inbound_port == args.outbound_port {
            let port = args.inbound_port;
            return Err(ExitError::usage(format!(
                "--inbound-port and --outbound-port are both {port}; give each its own"
            )));
        }
        let cidrs = joined("--skip-outbound-cidrs", &args.skip_outbound_cidrs)?;
        Ok(Self {
            inbound_port: args.inbound_port,
            outbound_port: args.outbound_port,
            uid: args.uid,
            skip_inbound: joined("--skip-inbound-ports", &args.skip_inbound_ports)?,
            skip_outbound: joined("--skip-outbound-ports", &args.skip_outbound_ports)?,
            skip_networks: cidrs.into_iter().map(|Cidr(network)| network).collect(),
        })
    }
}

fn joined<T: Copy>(flag: &str, lists: &[Listed<T>]) -> Result<Vec<T>, ExitError> {
    let all: Vec<T> = lists.iter().flat_map(|list| &list.0).copied().collect();
    if all.len() > MAX_SKIPPED {
        let given = all.len();
        return Err(ExitError::usage(format!(
            "{flag} has {given} items, at most {MAX_SKIPPED} are possible; use ranges"
        )));
    }
    Ok(all)
}

impl Family {
    /// Whether the network is one of this family.
    pub(super) fn has(self, network: &IpNet) -> bool {
        match self {
            Self::V4 => matches!(network, IpNet::V4(_)),
            Self::V6 => matches!(network, IpNet::V6(_)),
        }
    }

    /// The network of loopback addresses.
    pub(super) fn loopback(self) -> &'static str {
        match self {
            Self::V4 => "127.0.0.0/8",
            Self::V6 => "::1/128",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

impl PortRange {
    /// The ports from `first` to `last`, both included.
    pub(super) const fn new(first: u16, last: u16) -> Self {
        Self { first, last }
    }

    pub(super) fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

/// As iptables writes it: `22` or `9100:9110`.
impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}:{}", self.first, self.last)
        }
    }
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let shape = || format!("{text:?} is not a port from 1 to 65535 or a range such as 9100-9110");
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(shape);
        let (first, last) = (port(first)?, port(last)?);
        if first > last { Err(shape()) } else { Ok(Self { first, last }) }
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let address = || text.parse::<IpAddr>().map(IpNet::from);
        let network = text.parse().or_else(|_| address());
        network.map(|network: IpNet| Self(network.trunc())).map_err(|_| {
            format!("{text:?} is not a network such as 10.9.0.0/16 or fd09::/16, nor an address")
        })
    }
}

impl<T: FromStr<Err = String>> FromStr for Listed<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        items.map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(text: &str) -> Result<String, String> {
        let Listed(ports) = text.parse::<Listed<PortRange>>()?;
        Ok(ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn lists_of_ports_are_read() {
        for (text, want) in
            [("", ""), ("22", "22"), ("22, 9100-9110,", "22 9100:9110"), ("1-65535", "1:65535")]
        {
            assert_eq!(ports(text).as_deref(), Ok(want), "{text}");
        }
        for text in ["0", "65536", "-1", "9-", "9110-9100", "0-5", "22;23", "ssh", "1-2-3"] {
            let error = ports(text).unwrap_err();
            assert!(error.contains(&format!("{text:?}")) && error.contains("9100-9110"), "{text}: {error}");
        }
    }

    #[test]
    fn networks_are_read_and_lose_their_host_part() {
        for (text, want) in [
            ("10.9.1.1/16", "10.9.0.0/16"),
            ("10.9.1.1", "10.9.1.1/32"),
            ("fd09::1/16", "fd09::/16"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ] {
            assert_eq!(text.parse::<Cidr>().map(|Cidr(network)| network.to_string()).as_deref(), Ok(want));
        }
        for text in ["10.9.0.0/33", "localhost", "10.9", "/8"] {
            let error = text.parse::<Cidr>().unwrap_err();
            assert!(error.contains("10.9.0.0/16"), "{text}: {error}");
        }
    }
}
