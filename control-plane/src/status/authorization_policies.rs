//! What became of AuthorizationPolicies, for each of their targets, and which of their rules do not do what they seem to.

use outrigger_resources::authorization_policy::{Action, AuthorizationPolicy, Rule, Scope, Subject};
use outrigger_resources::kubernetes::{Service, TargetPort};
use outrigger_resources::mesh_config::Mtls;
use outrigger_resources::route::TargetRef;
use outrigger_resources::{Kind, ObjectRef};

use super::{ObjectStatus, Verdict, reason};
use crate::translate::{
    Declared, PortOf, declared_or_opaque, inbound_policies, inbound_policy, is_about_the_mesh,
};
use crate::world::{Held, World, policy_target};

/// One status for each Service of a policy; one for the policy itself when it names none.
pub(super) fn statuses(world: &World, held: &Held, policy: &AuthorizationPolicy) -> Vec<ObjectStatus> {
    match &policy.spec.scope {
        Scope::Targets(targets) => {
            targets.iter().map(|target| targeted(world, held, policy, target)).collect()
        }
        Scope::Namespace | Scope::Labels(_) => {
            let mut verdict = Verdict::about(held);
            say(&mut verdict, general_notes(world, policy));
            vec![verdict.done()]
        }
    }
}

fn targeted(world: &World, held: &Held, policy: &AuthorizationPolicy, target: &TargetRef) -> ObjectStatus {
    let mut verdict = Verdict::about(held);
    let namespace = &policy.meta.namespace;
    let service = policy_target(target, namespace).filter(|reference| reference.kind == Kind::Service);
    let Some(reference) = service else {
        let message = format!("targetRefs: a {} cannot be a target; use a Service", target.kind);
        verdict.refuse(reason::TARGET_NOT_FOUND, message.clone());
        verdict.unresolve(reason::TARGET_NOT_FOUND, message);
        return verdict.done();
    };
    let mut notes = general_notes(world, policy);
    match world.service(&reference.namespace, &reference.name) {
        Some(service) => notes.extend(opaque_notes(world, policy, service)),
        None => not_there(&mut verdict, &reference),
    }
    say(&mut verdict, notes);
    verdict.with_parent(reference).done()
}

fn not_there(verdict: &mut Verdict, reference: &ObjectRef) {
    let message = format!("{reference} is not there");
    verdict.refuse(reason::TARGET_NOT_FOUND, message.clone());
    verdict.unresolve(reason::TARGET_NOT_FOUND, message);
}

fn say(verdict: &mut Verdict, notes: Vec<String>) {
    if !notes.is_empty() {
        verdict.note(&notes.join("; "));
    }
}

/// What is worth knowing whatever the target is.
fn general_notes(world: &World, policy: &AuthorizationPolicy) -> Vec<String> {
    let spec = &policy.spec;
    let mut notes = Vec::new();
    if spec.rules.is_empty() {
        notes.push(match spec.action {
            Action::Allow => {
                "no rule allows anything, so that what no other policy allows is refused".to_owned()
            }
            Action::Deny | Action::Audit => "without rules it matches nothing".to_owned(),
        });
    }
    if let Some(index) = first(policy, asks_for_claims)
        && !has_tokens(world, policy)
    {
        notes.push(format!(
            "spec.rules[{index}].when asks for a claim, and no InboundPolicy of the namespace has jwt: no request has claims"
        ));
    }
    if let Some(index) = first(policy, asks_for_identity)
        && lets_plaintext_in(world, policy)
    {
        notes.push(format!(
            "spec.rules[{index}].from asks for an identity, and plaintext is let in (mtls: Permissive): it has none, and \
             the rule does not match it"
        ));
    }
    notes
}

/// The index of the first rule that is so.
fn first(policy: &AuthorizationPolicy, is_so: fn(&Rule) -> bool) -> Option<usize> {
    policy.spec.rules.iter().find(|rule| is_so(rule)).map(|rule| rule.index)
}

fn asks_for_claims(rule: &Rule) -> bool {
    rule.when.iter().any(|condition| matches!(condition.subject, Subject::Claim(_)))
}

fn asks_for_identity(rule: &Rule) -> bool {
    rule.from.iter().any(|from| !from.identities.is_empty() || !from.namespaces.is_empty())
}

fn has_tokens(world: &World, policy: &AuthorizationPolicy) -> bool {
    let policies = inbound_policies(world, &policy.meta.namespace);
    let mut policies = policies.into_iter().filter_map(inbound_policy);
    is_about_the_mesh(world, policy) || policies.any(|policy| policy.spec.jwt.is_some())
}

/// Whether nothing in sight says Strict. A closer look, workload by workload, would cost more than a note is worth.
fn lets_plaintext_in(world: &World, policy: &AuthorizationPolicy) -> bool {
    let policies = inbound_policies(world, &policy.meta.namespace);
    let mut policies = policies.into_iter().filter_map(inbound_policy);
    let mesh = world.mesh_config().map_or(Mtls::Permissive, |mesh| mesh.spec.mtls);
    mesh == Mtls::Permissive && !policies.any(|policy| policy.spec.mtls == Some(Mtls::Strict))
}

/// Rules that ask for what only HTTP has, at ports that do not speak it.
fn opaque_notes(world: &World, policy: &AuthorizationPolicy, service: &Service) -> Vec<String> {
    let mesh = world.mesh();
    let opaque = PortOf::all(service).filter(|at| declared_or_opaque(at.port, &mesh) == Declared::Opaque);
    let effect = match policy.spec.action {
        Action::Allow => "allows no connection",
        Action::Deny => "denies every connection that is so otherwise",
        Action::Audit => "records every connection that is so otherwise",
    };
    let notes = opaque.filter_map(|at| {
        let behind = match at.port.target_port {
            TargetPort::Number(number) => Some(number),
            TargetPort::Name(_) => None,
        };
        let rule = policy.spec.rules.iter().find(|rule| asks_for_http(rule, behind))?;
        Some(format!(
            "spec.rules[{}] asks for what only HTTP has, and port {} carries bytes: there it {effect}",
            rule.index, at.port.port
        ))
    });
    notes.collect()
}

/// Whether a rule is about a port, if its number is known, and asks for what only HTTP has.
fn asks_for_http(rule: &Rule, port: Option<u16>) -> bool {
    let is_about = |ports: &[u16]| ports.is_empty() || port.is_none_or(|port| ports.contains(&port));
    let mut about = rule.to.iter().filter(|to| is_about(&to.ports));
    let by_when = !rule.when.is_empty() && (rule.to.is_empty() || about.clone().next().is_some());
    by_when || about.any(|to| !to.methods.is_empty() || !to.paths.is_empty())
}
