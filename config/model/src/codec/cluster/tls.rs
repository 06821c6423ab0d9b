//! TLS to endpoints outside the mesh: `UpstreamTlsContext` as the cluster's transport socket.

use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType;
use envoy_types::pb::envoy::config::core::v3::{DataSource, TransportSocket};
use envoy_types::pb::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::certificate_validation_context::SystemRootCerts;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, SubjectAltNameMatcher, UpstreamTlsContext,
};
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use prost::Name;

use crate::codec::fault::{Decoded, Fault, at_most, refuse};
use crate::codec::wire;
use crate::codec::{MAX_PEER_NAMES, MAX_ROOTS_BYTES};
use crate::upstream_tls::{PeerName, Trust, UpstreamTls};

const SOCKET: &str = "envoy.transport_sockets.tls";

/// No public authority signs for a name below `.invalid` (RFC 6761, section 6.4): clients that do not read our extension
/// fail as well when nobody is trusted.
const NOBODY: &str = "nobody.invalid";

pub(super) fn encode(tls: &UpstreamTls) -> TransportSocket {
    let mut context = CertificateValidationContext {
        match_typed_subject_alt_names: tls.names.iter().map(encode_name).collect(),
        ..CertificateValidationContext::default()
    };
    match &tls.trust {
        Trust::System => context.system_root_certs = Some(SystemRootCerts {}),
        Trust::Roots(pem) => {
            let specifier = Some(Specifier::InlineString(pem.as_ref().into()));
            context.trusted_ca = Some(DataSource { specifier, ..DataSource::default() });
        }
        Trust::Nobody(_) => {
            context.system_root_certs = Some(SystemRootCerts {});
            context.match_typed_subject_alt_names = vec![encode_name(&PeerName::Dns(NOBODY.into()))];
        }
    }
    let common = CommonTlsContext {
        validation_context_type: Some(ValidationContextType::ValidationContext(context)),
        ..CommonTlsContext::default()
    };
    let context = UpstreamTlsContext {
        sni: tls.server_name.as_ref().into(),
        common_tls_context: Some(common),
        ..UpstreamTlsContext::default()
    };
    TransportSocket {
        name: SOCKET.to_owned(),
        config_type: Some(ConfigType::TypedConfig(wire::pack(&context))),
    }
}

/// `untrusted`: why nobody is trusted, from our extension; with the names that were meant.
pub(super) fn decode(
    socket: Option<&TransportSocket>,
    untrusted: Option<&wire::ours::UntrustedServer>,
) -> Decoded<Option<UpstreamTls>> {
    let Some(socket) = socket else { return Ok(None) };
    let Some(ConfigType::TypedConfig(any)) = &socket.config_type else {
        return Err(Fault::whole("is not supported"));
    };
    if any.type_url == RawBuffer::type_url() {
        return Ok(None);
    }
    let context: UpstreamTlsContext = wire::unpack(any)?;
    wire::not_empty("sni", &context.sni)?;
    refuse(&[
        ("allow_renegotiation", context.allow_renegotiation),
        ("auto_host_sni", context.auto_host_sni),
    ])?;
    let common = context.common_tls_context.as_ref();
    let common = common.ok_or_else(|| Fault::new("common_tls_context", "is missing"))?;
    let validation = decode_common(common).map_err(|fault| fault.within("common_tls_context"))?;
    let (trust, mut names) = decode_validation(validation)
        .map_err(|fault| fault.within("common_tls_context.validation_context"))?;
    if names.is_empty() && context.auto_sni_san_validation {
        names.push(PeerName::Dns(context.sni.as_str().into()));
    }
    let (trust, names) = match untrusted {
        Some(untrusted) => (Trust::Nobody(untrusted.why.as_str().into()), decode_meant(untrusted)?),
        None => (trust, names),
    };
    if names.is_empty() {
        let why = "is empty, so that any certificate of the authority would do";
        return Err(Fault::new("common_tls_context.validation_context.match_typed_subject_alt_names", why));
    }
    Ok(Some(UpstreamTls { server_name: context.sni.as_str().into(), trust, names }))
}

/// What our extension says when nobody is trusted.
pub(super) fn encode_untrusted(tls: &UpstreamTls) -> Option<wire::ours::UntrustedServer> {
    let Trust::Nobody(why) = &tls.trust else { return None };
    let mut untrusted = wire::ours::UntrustedServer { why: why.as_ref().into(), ..Default::default() };
    for name in &tls.names {
        let (PeerName::Dns(text) | PeerName::Uri(text)) = name;
        let uri = matches!(name, PeerName::Uri(_));
        untrusted.names.push(wire::ours::PeerName { text: text.as_ref().into(), uri });
    }
    Some(untrusted)
}

fn decode_meant(untrusted: &wire::ours::UntrustedServer) -> Decoded<Vec<PeerName>> {
    at_most("untrusted_server.names", untrusted.names.len(), MAX_PEER_NAMES)?;
    let name = |name: &wire::ours::PeerName| match name.uri {
        true => PeerName::Uri(name.text.as_str().into()),
        false => PeerName::Dns(name.text.as_str().into()),
    };
    Ok(untrusted.names.iter().map(name).collect())
}

fn encode_name(name: &PeerName) -> SubjectAltNameMatcher {
    let (kind, text) = match name {
        PeerName::Dns(text) => (SanType::Dns, text),
        PeerName::Uri(text) => (SanType::Uri, text),
    };
    let matcher = StringMatcher {
        match_pattern: Some(MatchPattern::Exact(text.as_ref().into())),
        ..StringMatcher::default()
    };
    SubjectAltNameMatcher {
        san_type: kind.into(),
        matcher: Some(matcher),
        ..SubjectAltNameMatcher::default()
    }
}

#[expect(deprecated, reason = "control planes still send the old spelling")]
fn decode_common(common: &CommonTlsContext) -> Decoded<&CertificateValidationContext> {
    refuse(&[
        ("tls_certificates", !common.tls_certificates.is_empty()),
        ("tls_certificate_sds_secret_configs", !common.tls_certificate_sds_secret_configs.is_empty()),
        ("tls_certificate_provider_instance", common.tls_certificate_provider_instance.is_some()),
        ("tls_certificate_certificate_provider", common.tls_certificate_certificate_provider.is_some()),
        (
            "tls_certificate_certificate_provider_instance",
            common.tls_certificate_certificate_provider_instance.is_some(),
        ),
        ("custom_tls_certificate_selector", common.custom_tls_certificate_selector.is_some()),
        ("custom_handshaker", common.custom_handshaker.is_some()),
        ("tls_params", common.tls_params.is_some()),
    ])?;
    match &common.validation_context_type {
        Some(ValidationContextType::ValidationContext(context)) => Ok(context),
        Some(_) => Err(Fault::new("validation_context_type", "is not supported")),
        None => Err(Fault::new("validation_context", "is missing, so that any certificate would do")),
    }
}

#[expect(deprecated, reason = "control planes still send the old spelling")]
fn decode_validation(context: &CertificateValidationContext) -> Decoded<(Trust, Vec<PeerName>)> {
    refuse(&[
        ("ca_certificate_provider_instance", context.ca_certificate_provider_instance.is_some()),
        ("watched_directory", context.watched_directory.is_some()),
        ("verify_certificate_spki", !context.verify_certificate_spki.is_empty()),
        ("verify_certificate_hash", !context.verify_certificate_hash.is_empty()),
        ("match_subject_alt_names", !context.match_subject_alt_names.is_empty()),
        ("require_signed_certificate_timestamp", context.require_signed_certificate_timestamp.is_some()),
        ("crl", context.crl.is_some()),
        ("allow_expired_certificate", context.allow_expired_certificate),
        ("trust_chain_verification", context.trust_chain_verification != 0),
        ("custom_validator_config", context.custom_validator_config.is_some()),
        ("max_verify_depth", context.max_verify_depth.is_some()),
    ])?;
    at_most("match_typed_subject_alt_names", context.match_typed_subject_alt_names.len(), MAX_PEER_NAMES)?;
    let names = context.match_typed_subject_alt_names.iter().enumerate().map(|(at, name)| {
        decode_name(name).map_err(|fault| fault.within(format!("match_typed_subject_alt_names[{at}]")))
    });
    let names = names.collect::<Decoded<_>>()?;
    match (&context.trusted_ca, &context.system_root_certs) {
        (Some(source), None) => Ok((Trust::Roots(decode_roots(source)?.into()), names)),
        (None, Some(_)) => Ok((Trust::System, names)),
        _ => Err(Fault::new("trusted_ca", "is needed, or system_root_certs, and not both")),
    }
}

fn decode_roots(source: &DataSource) -> Decoded<&str> {
    let text = match &source.specifier {
        Some(Specifier::InlineString(text)) => Some(text.as_str()),
        Some(Specifier::InlineBytes(bytes)) => std::str::from_utf8(bytes).ok(),
        _ => None,
    };
    let text = text.ok_or_else(|| Fault::new("trusted_ca", "is not inline PEM"))?;
    match text.len() <= MAX_ROOTS_BYTES {
        true => Ok(text),
        false => {
            let why = format!("has {} bytes, at most {MAX_ROOTS_BYTES} are read", text.len());
            Err(Fault::new("trusted_ca", why))
        }
    }
}

fn decode_name(name: &SubjectAltNameMatcher) -> Decoded<PeerName> {
    let matcher = name.matcher.as_ref();
    let exact = matcher.filter(|matcher| !matcher.ignore_case).and_then(|it| it.match_pattern.as_ref());
    let Some(MatchPattern::Exact(text)) = exact else {
        return Err(Fault::new("matcher", "is not exact, which is all that is supported"));
    };
    wire::not_empty("matcher.exact", text)?;
    match name.san_type() {
        SanType::Dns => Ok(PeerName::Dns(text.as_str().into())),
        SanType::Uri => Ok(PeerName::Uri(text.as_str().into())),
        _ => Err(Fault::new("san_type", "is neither DNS nor URI")),
    }
}
