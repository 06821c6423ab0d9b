//! What became of InboundPolicies, for each of their targets.

use std::sync::Arc;

use outrigger_base::jwks::PublicKeys;
use outrigger_resources::inbound_policy::{InboundPolicy, Jwt, JwtKeys, Scope};
use outrigger_resources::route::TargetRef;
use outrigger_resources::{Kind, ObjectRef};

use super::{ObjectStatus, Verdict, reason};
use crate::translate::{InboundSection, inbound_policies, inbound_policy};
use crate::world::{Held, World, policy_target};

/// One status for each Service of a policy; one for the policy itself when it names none.
pub(super) fn statuses(world: &World, held: &Held, policy: &InboundPolicy) -> Vec<ObjectStatus> {
    match &policy.spec.scope {
        Scope::Targets(targets) => {
            targets.iter().map(|target| targeted(world, held, policy, target)).collect()
        }
        Scope::Namespace | Scope::Labels(_) => {
            let same = |other: &Scope| *other == policy.spec.scope;
            vec![finish(world, Verdict::about(held), policy, same)]
        }
    }
}

fn targeted(world: &World, held: &Held, policy: &InboundPolicy, target: &TargetRef) -> ObjectStatus {
    let mut verdict = Verdict::about(held);
    let namespace = &policy.meta.namespace;
    let service = policy_target(target, namespace).filter(|reference| reference.kind == Kind::Service);
    let Some(reference) = service else {
        let message = format!("targetRefs: a {} cannot be a target; use a Service", target.kind);
        verdict.refuse(reason::TARGET_NOT_FOUND, message);
        return verdict.done();
    };
    if world.get(&reference).is_none() {
        verdict.refuse(reason::TARGET_NOT_FOUND, format!("{reference} is not there"));
    }
    let names_it = |target: &TargetRef| policy_target(target, namespace).as_ref() == Some(&reference);
    let same = |other: &Scope| matches!(other, Scope::Targets(targets) if targets.iter().any(names_it));
    finish(world, verdict.with_parent(reference.clone()), policy, same)
}

/// Says which sections count, where an older policy is about the same.
fn finish(
    world: &World,
    mut verdict: Verdict,
    policy: &InboundPolicy,
    same: impl Fn(&Scope) -> bool,
) -> ObjectStatus {
    let spec = &policy.spec;
    let all = inbound_policies(world, &policy.meta.namespace);
    let older: Vec<_> = all
        .into_iter()
        .filter_map(inbound_policy)
        .take_while(|other| other.meta != policy.meta)
        .filter(|other| same(&other.spec.scope))
        .collect();
    for section in InboundSection::ALL.into_iter().filter(|section| section.is_in(spec)) {
        let Some(other) = older.iter().find(|other| section.is_in(&other.spec)) else { continue };
        let (kind, meta) = (Kind::InboundPolicy, &other.meta);
        let other = ObjectRef { kind, namespace: meta.namespace.clone(), name: meta.name.clone() };
        let message = format!("{}: {other} is older, and counts instead", section.field());
        verdict.invalidate(reason::CONFLICTED, message);
    }
    if spec.priorities.is_some() && spec.concurrency.is_none() {
        let message =
            "spec.priorities says who is refused first by spec.concurrency, which is not written here";
        verdict.note(message);
    }
    if let Some(jwt) = &spec.jwt {
        judge_keys(world, jwt, &mut verdict);
    }
    verdict.done()
}

/// Says what is wrong with the keys that verify tokens.
fn judge_keys(world: &World, jwt: &Jwt, verdict: &mut Verdict) {
    match &jwt.keys {
        JwtKeys::At(url) => judge_url(world, url, verdict),
        JwtKeys::Here(json) => match PublicKeys::read(json.as_bytes()) {
            Ok(keys) => {
                for left_out in keys.left_out() {
                    verdict.invalidate(reason::INVALID, format!("spec.jwt.jwks: {left_out}; it is left out"));
                }
            }
            Err(error) => {
                let message =
                    format!("spec.jwt.jwks: {error}; until then every request is refused (unauthenticated)");
                verdict.invalidate(reason::INVALID, message);
            }
        },
    }
}

fn judge_url(world: &World, url: &Arc<str>, verdict: &mut Verdict) {
    let facts = world.facts();
    let consequence = match facts.keys.contains_key(url) {
        true => "the last good ones are used, for a day at most",
        false => "until then every request is refused (unauthenticated)",
    };
    match (facts.key_faults.get(url), facts.keys.contains_key(url)) {
        (Some(fault), _) => {
            let message = format!("spec.jwt.jwksUri: no keys from {url}: {fault}; {consequence}");
            verdict.unresolve(reason::INVALID, message);
        }
        (None, false) => {
            let message = format!("spec.jwt.jwksUri: the keys of {url} are not fetched yet; {consequence}");
            verdict.unresolve(reason::INVALID, message);
        }
        (None, true) => {}
    }
}
