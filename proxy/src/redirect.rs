//! `outrigger-proxy redirect`: the init step of a pod. It has the kernel hand the pod's TCP connections to the proxy.
//!
//! The rules are text ([`rules`]) that `iptables-restore` puts in force all at once; what is there already is read first,
//! so that a second run changes nothing and `--undo` takes away exactly what is ours. It knows the ports and the user of
//! the proxy, and nothing of what the proxy does with a connection. Traffic of the proxy's user is never redirected.

use std::fs;
use std::io::{self, Write};

use clap::{Args, ValueEnum, value_parser};
use outrigger_base::lifecycle::exit::ExitError;

mod plan;
mod present;
mod programs;
mod rules;

pub use plan::{Cidr, Listed, PortRange};

use plan::{Family, Plan};
use present::Present;
use programs::{RedirectError, Removed};

const EXAMPLE: &str =
    "Example: outrigger-proxy redirect --skip-inbound-ports 22,9100-9110 --skip-outbound-cidrs 10.9.0.0/16";

/// The addresses of the network namespace this process is in, one a line (proc(5)).
const IPV6_ADDRESSES: &str = "/proc/net/if_inet6";

/// Flags of `redirect`.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLE)]
pub struct RedirectArgs {
    /// Print what would be done to a pod without rules, and do nothing; needs no rights
    #[arg(long, env = "OUTRIGGER_DRY_RUN")]
    pub dry_run: bool,
    /// Take the redirection away again
    #[arg(long, env = "OUTRIGGER_UNDO")]
    pub undo: bool,
    /// The proxy's port for connections to the pod
    #[arg(long, value_name = "PORT", env = "OUTRIGGER_INBOUND_PORT", default_value_t = 15006, value_parser = value_parser!(u16).range(1..))]
    pub inbound_port: u16,
    /// The proxy's port for connections from the pod
    #[arg(long, value_name = "PORT", env = "OUTRIGGER_OUTBOUND_PORT", default_value_t = 15001, value_parser = value_parser!(u16).range(1..))]
    pub outbound_port: u16,
    /// The user and group id the proxy runs as: what they send is never redirected
    #[arg(long, value_name = "ID", env = "OUTRIGGER_UID", default_value_t = 1337, value_parser = value_parser!(u32).range(1..))]
    pub uid: u32,
    /// Ports of the pod that are reached without the proxy: 22,9100-9110
    #[arg(long, value_name = "PORTS", env = "OUTRIGGER_SKIP_INBOUND_PORTS")]
    pub skip_inbound_ports: Vec<Listed<PortRange>>,
    /// Ports that the pod dials without the proxy
    #[arg(long, value_name = "PORTS", env = "OUTRIGGER_SKIP_OUTBOUND_PORTS")]
    pub skip_outbound_ports: Vec<Listed<PortRange>>,
    /// Addresses that the pod dials without the proxy: 10.9.0.0/16,fd09::/16
    #[arg(long, value_name = "CIDRS", env = "OUTRIGGER_SKIP_OUTBOUND_CIDRS")]
    pub skip_outbound_cidrs: Vec<Listed<Cidr>>,
    /// Whether IPv6 is redirected too; auto: when an interface other than lo has an IPv6 address of more than its link
    #[arg(long, value_name = "WHEN", env = "OUTRIGGER_IPV6", value_enum, default_value_t)]
    pub ipv6: Ipv6,
}

/// Whether IPv6 is redirected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Ipv6 {
    /// When an interface other than `lo` has an address that is good beyond its link.
    #[default]
    Auto,
    /// Always; a system that cannot is an error.
    On,
    /// Never.
    Off,
}

/// Puts the redirection in force, takes it away, or prints what would be done.
///
/// # Errors
/// Exit code 2 when the flags contradict each other, 1 when iptables is missing, not permitted or refuses.
pub fn run(args: &RedirectArgs) -> Result<(), ExitError> {
    let plan = Plan::new(args)?;
    let out = &mut io::stdout().lock();
    for family in families(args) {
        let said = match (args.dry_run, args.undo) {
            (true, _) => Ok(rehearse(args, &plan, family)),
            (false, false) => install(&plan, family),
            (false, true) => undo(args, family),
        };
        let said = said.map_err(|error| ExitError::caused_by(&error))?;
        out.write_all(said.as_bytes())
            .map_err(|error| ExitError::failure(format!("standard output: {error}")))?;
    }
    Ok(())
}

fn families(args: &RedirectArgs) -> Vec<Family> {
    let wanted = match args.ipv6 {
        Ipv6::On => true,
        Ipv6::Off => false,
        // The address that called for the rules may be gone when they are taken away.
        Ipv6::Auto => args.undo || ipv6_is_used(),
    };
    if wanted { vec![Family::V4, Family::V6] } else { vec![Family::V4] }
}

fn ipv6_is_used() -> bool {
    // No such file: the kernel has no IPv6.
    fs::read_to_string(IPV6_ADDRESSES).is_ok_and(|addresses| has_address_beyond_link(&addresses))
}

/// Reads lines such as `fd77…0002 02 40 00 80 eth0`: address, interface, prefix, scope, flags, name.
fn has_address_beyond_link(addresses: &str) -> bool {
    addresses.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // Scope 10 is the host's own (::1), 20 the link's.
        matches!(fields[..], [_, _, _, scope, _, name] if name != "lo" && !matches!(scope, "10" | "20"))
    })
}

fn rehearse(args: &RedirectArgs, plan: &Plan, family: Family) -> String {
    let text = if args.undo {
        rules::undo(&Present::complete())
    } else {
        rules::install(plan, family, &Present::default())
    };
    format!("# {}\n{text}", programs::preferred_command(family))
}

fn install(plan: &Plan, family: Family) -> Result<String, RedirectError> {
    let program = programs::install(family, |present| rules::install(plan, family, present))?;
    let Plan { inbound_port, outbound_port, .. } = plan;
    Ok(format!(
        "{family}: TCP is redirected, inbound to port {inbound_port}, outbound to port {outbound_port} ({program})\n"
    ))
}

fn undo(args: &RedirectArgs, family: Family) -> Result<String, RedirectError> {
    match programs::undo(family) {
        Ok(Removed::Rules) => Ok(format!("{family}: the redirection is removed\n")),
        Ok(Removed::Nothing) => Ok(format!("{family}: there is no redirection to remove\n")),
        // What cannot be read where IPv6 is not used has no rules of ours.
        Err(_) if family == Family::V6 && args.ipv6 == Ipv6::Auto && !ipv6_is_used() => Ok(String::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
