//! TLS towards endpoints without a sidecar: from BackendTLSPolicy, and for ExternalServices that say HTTPS.
//!
//! A policy that cannot be used never means plaintext: it becomes TLS that trusts nobody, and connections fail.

use std::sync::Arc;

use outrigger_base::tls::check_authorities;
use outrigger_model::upstream_tls::{PeerName, Trust, UpstreamTls};
use outrigger_resources::backend_tls_policy::{
    Authorities, AuthorityRef, BackendTlsPolicy, SubjectAltName, Validation,
};
use outrigger_resources::external_service::ExternalProtocol;
use outrigger_resources::{Kind, Object};

use super::policy::in_force;
use super::target::Target;
use crate::world::{World, authority_reference};

/// The name that is asked for when the policy does not say one that can be used.
const NO_NAME: &str = "unknown.invalid";

/// The TLS of a destination.
pub(super) fn of(world: &World, target: &Target<'_>) -> Option<Arc<UpstreamTls>> {
    let (reference, port_name) = match target {
        Target::Service(port) => (port.reference(), &port.port.name),
        Target::External(port) => (port.reference(), &port.port.name),
        Target::Outside(outside) => outside.passed_http()?,
        Target::Workload(_) => return None,
    };
    let held = in_force(world, Kind::BackendTlsPolicy, &reference, port_name);
    if let Some(Object::BackendTlsPolicy(policy)) = held.map(|held| &held.object) {
        return Some(Arc::new(of_policy(world, policy)));
    }
    match target {
        Target::External(port) if port.port.protocol == ExternalProtocol::Https => {
            let server_name = port.host.clone();
            let names = vec![PeerName::Dns(server_name.clone())];
            Some(Arc::new(UpstreamTls { server_name, trust: Trust::System, names }))
        }
        _ => None,
    }
}

fn of_policy(world: &World, policy: &BackendTlsPolicy) -> UpstreamTls {
    let validation = match &policy.validation {
        Ok(validation) => validation,
        Err(why) => {
            let names = vec![PeerName::Dns(NO_NAME.into())];
            return UpstreamTls { server_name: NO_NAME.into(), trust: Trust::Nobody(why.clone()), names };
        }
    };
    UpstreamTls {
        server_name: validation.hostname.clone(),
        trust: trust(world, policy, validation),
        names: names(validation),
    }
}

/// As the standard has it, the host name counts unless other names are given.
fn names(validation: &Validation) -> Vec<PeerName> {
    let name = |name: &SubjectAltName| match name {
        SubjectAltName::Hostname(host) => PeerName::Dns(host.clone()),
        SubjectAltName::Uri(uri) => PeerName::Uri(uri.clone()),
    };
    match validation.names.is_empty() {
        true => vec![PeerName::Dns(validation.hostname.clone())],
        false => validation.names.iter().map(name).collect(),
    }
}

/// The authorities that can be read; nobody when none can.
fn trust(world: &World, policy: &BackendTlsPolicy, validation: &Validation) -> Trust {
    let Authorities::Refs(refs) = &validation.authorities else { return Trust::System };
    let mut bundle = String::new();
    let mut faults = Vec::new();
    for reference in refs {
        match authorities(world, policy, reference) {
            Ok(pem) => {
                bundle.push_str(pem);
                bundle.push('\n');
            }
            Err(fault) => faults.push(fault.message),
        }
    }
    match bundle.is_empty() {
        true => Trust::Nobody(faults.join("; ").into()),
        false => Trust::Roots(bundle.into()),
    }
}

/// Why a reference gives no authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AuthorityFault {
    /// The word of Gateway API.
    pub(crate) reason: &'static str,
    /// For people.
    pub(crate) message: String,
}

/// The certificates that a reference of a policy means.
pub(crate) fn authorities<'w>(
    world: &'w World,
    policy: &BackendTlsPolicy,
    reference: &AuthorityRef,
) -> Result<&'w str, AuthorityFault> {
    let invalid = |message: String| AuthorityFault { reason: "InvalidCACertificateRef", message };
    let Some(meant) = authority_reference(reference, &policy.meta.namespace) else {
        let message =
            format!("{}/{} cannot hold authorities; use a ConfigMap", reference.kind, reference.name);
        return Err(AuthorityFault { reason: "InvalidKind", message });
    };
    let found = world.get(&meant).map(|held| &held.object);
    let Some(Object::ConfigMap(map)) = found else { return Err(invalid(format!("{meant} is not there"))) };
    let pem = map.authorities.as_deref().ok_or_else(|| invalid(format!("{meant} has no key ca.crt")))?;
    check_authorities(pem).map_err(|error| invalid(format!("{meant}, ca.crt: {error}")))?;
    Ok(pem)
}

/// Whether some references, all of them perhaps, give no authority; in order.
pub(crate) fn authority_faults(world: &World, policy: &BackendTlsPolicy) -> Vec<AuthorityFault> {
    let Ok(Validation { authorities: Authorities::Refs(refs), .. }) = &policy.validation else {
        return Vec::new();
    };
    refs.iter().filter_map(|reference| authorities(world, policy, reference).err()).collect()
}

/// Whether a server could be verified at all.
pub(crate) fn has_usable_authority(world: &World, policy: &BackendTlsPolicy) -> bool {
    match &policy.validation {
        Ok(Validation { authorities: Authorities::Refs(refs), .. }) => {
            refs.iter().any(|reference| authorities(world, policy, reference).is_ok())
        }
        Ok(_) => true,
        Err(_) => false,
    }
}
