//! The rules as text for `iptables-restore --noflush`: pure, the same input gives the same text.
//!
//! One text is one transaction: either all of it is in force or nothing changed. A line that declares a chain also empties
//! it, which makes a second run replace the first.

use super::plan::{Family, Plan, PortRange};
use super::present::{CHAINS, HOOKS, INBOUND, OUTBOUND, Present};

/// The proxy's own ports, from admin to health: they are reached as they are.
const OWN_PORTS: PortRange = PortRange::new(15000, 15021);

/// What makes the plan true on a system that has `present`.
pub(super) fn install(plan: &Plan, family: Family, present: &Present) -> String {
    let mut lines: Vec<String> = CHAINS.iter().map(|chain| format!(":{chain} - [0:0]")).collect();
    lines.extend(hooks(present));
    lines.extend(inbound(plan).into_iter().map(|rule| format!("-A {INBOUND} {rule}")));
    lines.extend(outbound(plan, family).into_iter().map(|rule| format!("-A {OUTBOUND} {rule}")));
    table(&lines)
}

/// What takes away all that is `present`, and nothing else.
pub(super) fn undo(present: &Present) -> String {
    let hooks = present.hooks.iter().map(|hook| format!("-D {hook}"));
    let emptied = present.chains.iter().map(|chain| format!("-F {chain}"));
    let removed = present.chains.iter().map(|chain| format!("-X {chain}"));
    table(&hooks.chain(emptied).chain(removed).collect::<Vec<_>>())
}

/// Leaves the first of each hook where it is, takes away what is more than that, and adds what is missing.
fn hooks(present: &Present) -> Vec<String> {
    let mut missing = HOOKS.to_vec();
    let mut surplus = Vec::new();
    for hook in &present.hooks {
        match missing.iter().position(|wanted| wanted == hook) {
            Some(place) => drop(missing.remove(place)),
            // Of two rules that are alike `-D` takes the first; one of them stays.
            None => surplus.push(format!("-D {hook}")),
        }
    }
    surplus.extend(missing.into_iter().map(|hook| format!("-A {hook}")));
    surplus
}

fn inbound(plan: &Plan) -> Vec<String> {
    let mut rules = vec!["-i lo -j RETURN".to_owned()];
    // A connection to a port of the proxy that was redirected to the proxy would come round for ever.
    let moved = [plan.inbound_port, plan.outbound_port].into_iter().filter(|port| !OWN_PORTS.contains(*port));
    let own = [OWN_PORTS].into_iter().chain(moved.map(|port| PortRange::new(port, port)));
    rules.extend(own.chain(plan.skip_inbound.iter().copied()).map(skip_port));
    rules.push(redirect(plan.inbound_port));
    rules
}

fn outbound(plan: &Plan, family: Family) -> Vec<String> {
    let uid = plan.uid;
    let mut rules = vec![
        format!("-m owner --uid-owner {uid} -j RETURN"),
        format!("-m owner --gid-owner {uid} -j RETURN"),
        "-o lo -j RETURN".to_owned(),
        format!("-d {} -j RETURN", family.loopback()),
    ];
    let networks = plan.skip_networks.iter().filter(|network| family.has(network));
    rules.extend(networks.map(|network| format!("-d {network} -j RETURN")));
    rules.extend(plan.skip_outbound.iter().copied().map(skip_port));
    rules.push(redirect(plan.outbound_port));
    rules
}

fn skip_port(ports: PortRange) -> String {
    format!("-p tcp -m tcp --dport {ports} -j RETURN")
}

fn redirect(port: u16) -> String {
    format!("-p tcp -j REDIRECT --to-ports {port}")
}

fn table(lines: &[String]) -> String {
    format!("*nat\n{}\nCOMMIT\n", lines.join("\n"))
}

#[cfg(test)]
mod tests;
