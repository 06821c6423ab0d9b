//! What became of BackendPolicies and of MeshConfig.

use outrigger_resources::backend_policy::BackendPolicy;
use outrigger_resources::mesh_config::{MESH_CONFIG_NAME, MeshConfig};
use outrigger_resources::route::TargetRef;
use outrigger_resources::{Kind, Object, ObjectRef};

use super::{ObjectStatus, Verdict, reason};
use crate::translate::{policy_in_force, policy_not_applied};
use crate::world::{Held, MESH_NAMESPACE, World, policy_target};

/// One status for each target of a BackendPolicy.
pub(super) fn statuses(world: &World, held: &Held, policy: &BackendPolicy) -> Vec<ObjectStatus> {
    policy.spec.target_refs.iter().map(|target| status(world, held, target, policy)).collect()
}

fn status(world: &World, held: &Held, target: &TargetRef, policy: &BackendPolicy) -> ObjectStatus {
    let mut verdict = Verdict::about(held);
    let Some(reference) = policy_target(target, &policy.meta.namespace) else {
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
    for field in policy_not_applied(&policy.spec) {
        let message = format!("{field} is not applied by this version; the default stays in force");
        verdict.invalidate(reason::UNSUPPORTED_VALUE, message);
    }
    verdict.with_parent(reference).done()
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
    let in_force = ports.iter().filter_map(|name| policy_in_force(world, at.reference, name));
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
pub(super) fn mesh_config(held: &Held, mesh: &MeshConfig) -> ObjectStatus {
    let mut verdict = Verdict::about(held);
    if *mesh.meta.namespace != *MESH_NAMESPACE || *mesh.meta.name != *MESH_CONFIG_NAME {
        let kind = Kind::MeshConfig;
        let message = format!(
            "only {kind}/{MESH_NAMESPACE}/{MESH_CONFIG_NAME} counts; give it this name and namespace"
        );
        verdict.refuse(reason::CONFLICTED, message);
    }
    if mesh.spec.tracing.is_some() {
        let message = "spec.tracing is not applied by this version".to_owned();
        verdict.invalidate(reason::UNSUPPORTED_VALUE, message);
    }
    verdict.done()
}
