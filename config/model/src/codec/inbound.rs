//! The listener named `inbound`: all of it is ours, in the metadata of an otherwise empty `Listener`.

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3::Listener;

use super::fault::{Decoded, Fault, at_most};
use super::wire::{self, ours};
use super::{MAX_INBOUND_PORTS, MAX_OPAQUE_PORTS, authorization, jwt, limit, trust};
use crate::endpoint::Locality;
use crate::identity::check_trust_domain;
use crate::inbound::{AccessLogFormat, Egress, Inbound, InboundPort, MeshSettings, MtlsMode, Protocol};
use crate::name::INBOUND;

pub(super) fn encode(inbound: &Inbound) -> Listener {
    let mtls = match inbound.mtls {
        MtlsMode::Strict => ours::MtlsMode::Strict,
        MtlsMode::Permissive => ours::MtlsMode::Permissive,
    };
    let extension = ours::InboundListener {
        mtls: mtls.into(),
        ports: inbound.ports.iter().map(encode_port).collect(),
        mesh: Some(encode_mesh(&inbound.mesh)),
        limits: inbound.limits.as_deref().map(limit::encode_inbound),
        closed_by: inbound.closed_by.as_deref().map(str::to_owned),
        region: inbound.locality.region.to_string(),
        zone: inbound.locality.zone.to_string(),
        authorization: inbound.authorization.as_deref().map(authorization::encode),
        jwt: inbound.jwt.as_deref().map(jwt::encode),
        trust: inbound.trust.as_deref().map(trust::encode),
    };
    Listener {
        name: INBOUND.to_owned(),
        traffic_direction: TrafficDirection::Inbound.into(),
        metadata: Some(wire::metadata(&extension)),
        ..Listener::default()
    }
}

pub(super) fn decode(listener: &Listener) -> Decoded<Inbound> {
    let extension: Option<ours::InboundListener> = wire::extension(listener.metadata.as_ref())?;
    let missing = || Fault::new("metadata", "says nothing of how traffic is received");
    let extension = extension.ok_or_else(missing)?;
    let mtls = match extension.mtls() {
        ours::MtlsMode::Strict => MtlsMode::Strict,
        ours::MtlsMode::Permissive => MtlsMode::Permissive,
        ours::MtlsMode::Unspecified => return Err(unknown("mtls", extension.mtls)),
    };
    at_most("ports", extension.ports.len(), MAX_INBOUND_PORTS)?;
    let ports = extension.ports.iter().enumerate();
    let ports =
        ports.map(|(at, port)| decode_port(port).map_err(|fault| fault.within(format!("ports[{at}]"))));
    let ports = ports.collect::<Decoded<_>>()?;
    let mesh = extension.mesh.ok_or_else(|| Fault::new("mesh", "is missing"))?;
    let mesh = decode_mesh(&mesh).map_err(|fault| fault.within("mesh"))?;
    let limits = extension.limits.as_ref().map(limit::decode_inbound).transpose();
    let limits = limits.map_err(|fault| fault.within("limits"))?.map(Box::new);
    let closed_by = extension.closed_by.as_deref().map(Into::into);
    let locality = Locality { region: extension.region.into(), zone: extension.zone.into() };
    let authorization = extension.authorization.as_ref().map(authorization::decode).transpose();
    let authorization = authorization.map_err(|fault| fault.within("authorization"))?.map(Box::new);
    let jwt = extension.jwt.as_ref().map(jwt::decode).transpose();
    let jwt = jwt.map_err(|fault| fault.within("jwt"))?.map(Box::new);
    let trust = extension.trust.as_ref().map(trust::decode).transpose();
    let trust = trust.map_err(|fault| fault.within("trust"))?.map(Arc::new);
    Ok(Inbound { mtls, ports, mesh, limits, closed_by, locality, authorization, jwt, trust })
}

fn encode_port(port: &InboundPort) -> ours::InboundPort {
    let protocol = match port.protocol {
        Protocol::Detect => ours::Protocol::Detect,
        Protocol::Http1 => ours::Protocol::Http1,
        Protocol::Http2 => ours::Protocol::Http2,
        Protocol::Opaque => ours::Protocol::Opaque,
    };
    ours::InboundPort {
        port: port.port.into(),
        protocol: protocol.into(),
        service: port.service.as_ref().into(),
    }
}

fn decode_port(port: &ours::InboundPort) -> Decoded<InboundPort> {
    let protocol = match port.protocol() {
        ours::Protocol::Detect => Protocol::Detect,
        ours::Protocol::Http1 => Protocol::Http1,
        ours::Protocol::Http2 => Protocol::Http2,
        ours::Protocol::Opaque => Protocol::Opaque,
        ours::Protocol::Unspecified => return Err(unknown("protocol", port.protocol)),
    };
    Ok(InboundPort { port: wire::port("port", port.port)?, protocol, service: port.service.as_str().into() })
}

fn encode_mesh(mesh: &MeshSettings) -> ours::MeshSettings {
    let egress = match mesh.egress {
        Egress::Allow => ours::Egress::Allow,
        Egress::Deny => ours::Egress::Deny,
    };
    let access_log = match mesh.access_log {
        None => ours::AccessLog::Off,
        Some(AccessLogFormat::Json) => ours::AccessLog::Json,
        Some(AccessLogFormat::Text) => ours::AccessLog::Text,
    };
    ours::MeshSettings {
        trust_domain: mesh.trust_domain.as_ref().into(),
        egress: egress.into(),
        opaque_ports: mesh.opaque_ports.iter().map(|port| u32::from(*port)).collect(),
        access_log: access_log.into(),
    }
}

fn decode_mesh(mesh: &ours::MeshSettings) -> Decoded<MeshSettings> {
    check_trust_domain(&mesh.trust_domain).map_err(|error| Fault::new("trust_domain", error))?;
    let egress = match mesh.egress() {
        ours::Egress::Allow => Egress::Allow,
        ours::Egress::Deny => Egress::Deny,
        ours::Egress::Unspecified => return Err(unknown("egress", mesh.egress)),
    };
    let access_log = match mesh.access_log() {
        ours::AccessLog::Off => None,
        ours::AccessLog::Json => Some(AccessLogFormat::Json),
        ours::AccessLog::Text => Some(AccessLogFormat::Text),
        ours::AccessLog::Unspecified => return Err(unknown("access_log", mesh.access_log)),
    };
    at_most("opaque_ports", mesh.opaque_ports.len(), MAX_OPAQUE_PORTS)?;
    let ports = mesh.opaque_ports.iter().map(|port| wire::port("opaque_ports", *port));
    let opaque_ports = ports.collect::<Decoded<Vec<_>>>()?;
    if !opaque_ports.is_sorted() {
        return Err(Fault::new("opaque_ports", "is not in ascending order"));
    }
    Ok(MeshSettings { trust_domain: mesh.trust_domain.as_str().into(), egress, opaque_ports, access_log })
}

/// An enumeration value that we do not know is refused: what it would allow or forbid is unknown too.
fn unknown(field: &str, value: i32) -> Fault {
    Fault::new(field, format!("has the value {value}, which is not known here"))
}
