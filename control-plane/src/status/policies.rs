//! What became of policies for backends, ours and the standard's, and of MeshConfig.

use outrigger_resources::backend_tls_policy::BackendTlsPolicy;
use outrigger_resources::mesh_config::{MESH_CONFIG_NAME, MeshConfig};
use outrigger_resources::route::TargetRef;
use outrigger_resources::x_backend_traffic_policy::XBackendTrafficPolicy;
use outrigger_resources::{Kind, Object, ObjectRef};

use super::{ObjectStatus, Verdict, reason};
use crate::translate::{
    authority_faults, has_usable_authority, policy_in_force, policy_not_applied, policy_says_budget,
};
use crate::world::{Held, World, policy_target, policy_targets};

/// One status for each target of a policy for backends.
pub(super) fn statuses(world: &World, held: &Held) -> Vec<ObjectStatus> {
    policy_targets(&held.object).iter().map(|target| status(world, held, target)).collect()
}

fn status(world: &World, held: &Held, target: &TargetRef) -> ObjectStatus {
    let mut verdict = Verdict::about(held);
    let Some(reference) = policy_target(target, &held.object.meta().namespace) else {
        let message =
            format!("targetRefs: a {} cannot be a target; use a Service or ExternalService", target.kind);
        verdict.refuse(reason::TARGET_NOT_FOUND, message);
        return verdict.done();
    };
    match world.get(&reference) {
        None => verdict.refuse(reason::TARGET_NOT_FOUND, format!("{reference} is not there")),
        Some(found) => {
            compare(world, &mut verdict, &found.object, &Attachment { held, target, reference: &reference })
        }
    }
    match &held.object {
        Object::BackendPolicy(policy) => {
            for field in policy_not_applied(&policy.spec) {
                let message = format!("{field} is not applied by this version; the default stays in force");
                verdict.invalidate(reason::UNSUPPORTED_VALUE, message);
            }
        }
        Object::BackendTlsPolicy(policy) => authorities(world, &mut verdict, policy),
        Object::XBackendTrafficPolicy(policy) => {
            overruled(world, &mut verdict, policy, (&reference, target.section_name.as_deref()));
        }
        _ => {}
    }
    verdict.with_parent(reference).done()
}

/// Whether servers can be verified; what cannot be is dialled by nobody.
fn authorities(world: &World, verdict: &mut Verdict, policy: &BackendTlsPolicy) {
    if let Err(why) = &policy.validation {
        verdict.refuse(reason::INVALID, format!("{why}; connections to the target fail"));
        return;
    }
    for fault in authority_faults(world, policy) {
        verdict.unresolve(fault.reason, format!("caCertificateRefs: {}", fault.message));
    }
    if !has_usable_authority(world, policy) {
        let message = "no authority can be used, so connections to the target fail".to_owned();
        verdict.refuse(reason::NO_VALID_CA_CERTIFICATE, message);
    }
}

/// What our own policy says of the same counts before the standard's.
fn overruled(
    world: &World,
    verdict: &mut Verdict,
    policy: &XBackendTrafficPolicy,
    (target, section): (&ObjectRef, Option<&str>),
) {
    let own = policy_in_force(world, Kind::BackendPolicy, target, section.unwrap_or_default());
    if let Some(Object::BackendPolicy(own)) = own.map(|held| &held.object)
        && policy.spec.retry_constraint.is_some()
        && policy_says_budget(&own.spec)
    {
        let message = format!(
            "spec.retryConstraint: BackendPolicy/{}/{} has a retryBudget for the target, which counts instead",
            own.meta.namespace, own.meta.name
        );
        verdict.invalidate(reason::CONFLICTED, message);
    }
}

struct Attachment<'a> {
    held: &'a Held,
    target: &'a TargetRef,
    reference: &'a ObjectRef,
}

/// Says which ports of the target go by another policy.
fn compare(world: &World, verdict: &mut Verdict, found: &Object, at: &Attachment<'_>) {
    let named = |name: &&String| at.target.section_name.as_ref().is_none_or(|section| section == *name);
    let all = port_names(found);
    let ports: Vec<_> = all.iter().filter(named).collect();
    if ports.is_empty() {
        let message = format!("{} has no port of that name", at.reference);
        verdict.refuse(reason::TARGET_NOT_FOUND, message);
        return;
    }
    let own = at.held.object.reference();
    let in_force =
        ports.iter().filter_map(|name| policy_in_force(world, at.held.object.kind(), at.reference, name));
    let others: Vec<_> = in_force.map(|held| held.object.reference()).filter(|other| *other != own).collect();
    let Some(other) = others.first() else { return };
    let message = format!("{other} is older or names the port, and counts instead");
    match others.len() == ports.len() {
        true => verdict.refuse(reason::CONFLICTED, message),
        false => verdict.invalidate(reason::CONFLICTED, format!("on some ports {message}")),
    }
}

fn port_names(object: &Object) -> Vec<String> {
    match object {
        Object::Service(service) => service.spec.ports.iter().map(|port| port.name.clone()).collect(),
        Object::ExternalService(external) => {
            external.spec.ports.iter().map(|port| port.name.clone()).collect()
        }
        _ => Vec::new(),
    }
}

/// The MeshConfig that counts, or one that does not.
pub(super) fn mesh_config(world: &World, held: &Held, mesh: &MeshConfig) -> ObjectStatus {
    let mut verdict = Verdict::about(held);
    let namespace = world.mesh_namespace();
    if *mesh.meta.namespace != *namespace || *mesh.meta.name != *MESH_CONFIG_NAME {
        let kind = Kind::MeshConfig;
        let message =
            format!("only {kind}/{namespace}/{MESH_CONFIG_NAME} counts; give it this name and namespace");
        verdict.refuse(reason::CONFLICTED, message);
    }
    if mesh.spec.tracing.is_some() {
        let message = "spec.tracing is not applied by this version".to_owned();
        verdict.invalidate(reason::UNSUPPORTED_VALUE, message);
    }
    verdict.done()
}
