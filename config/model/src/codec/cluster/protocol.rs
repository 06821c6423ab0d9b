//! What is spoken to endpoints, and how old a connection gets: `HttpProtocolOptions`.

use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster as Wire;
use envoy_types::pb::envoy::config::cluster::v3::cluster::ClusterProtocolSelection;
use envoy_types::pb::envoy::config::core::v3::{
    Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions as Common,
};
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig,
};

use crate::cluster::UpstreamProtocol;
use crate::codec::Any;
use crate::codec::fault::{Decoded, Fault, refuse};
use crate::codec::wire;
use crate::policy::ConnectionPolicy;

const KEY: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// How old a connection gets, where the message says so.
#[derive(Default)]
pub(super) struct Ages {
    pub(super) idle_timeout: Option<Duration>,
    pub(super) max_lifetime: Option<Duration>,
}

/// The options with the key under which they stand.
pub(super) fn encode(protocol: UpstreamProtocol, connection: &ConnectionPolicy) -> (String, Any) {
    let (http1, http2) = (Http1ProtocolOptions::default(), Http2ProtocolOptions::default());
    let explicit = |config| {
        UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig { protocol_config: Some(config) })
    };
    let protocol = match protocol {
        UpstreamProtocol::AsDownstream => {
            UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
                http_protocol_options: Some(http1),
                http2_protocol_options: Some(http2),
                http3_protocol_options: None,
            })
        }
        UpstreamProtocol::Http1 => explicit(ProtocolConfig::HttpProtocolOptions(http1)),
        UpstreamProtocol::Http2 => explicit(ProtocolConfig::Http2ProtocolOptions(http2)),
    };
    let common = Common {
        idle_timeout: Some(wire::duration(connection.idle_timeout)),
        max_connection_duration: Some(wire::duration(connection.max_lifetime)),
        ..Common::default()
    };
    let options = HttpProtocolOptions {
        common_http_protocol_options: Some(common),
        upstream_protocol_options: Some(protocol),
        ..HttpProtocolOptions::default()
    };
    (KEY.to_owned(), wire::pack(&options))
}

pub(super) fn decode(wire: &Wire) -> Decoded<UpstreamProtocol> {
    let Some(options) = options(wire)? else { return Ok(decode_old(wire)) };
    refuse(&[
        ("http_filters", !options.http_filters.is_empty()),
        ("outlier_detection", options.outlier_detection.is_some()),
        ("request_mirror_policies", !options.request_mirror_policies.is_empty()),
        ("retry_policy", options.retry_policy.is_some()),
    ])
    .map_err(within)?;
    match options.upstream_protocol_options {
        Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(_)) => Ok(UpstreamProtocol::AsDownstream),
        Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)) => match explicit.protocol_config {
            Some(ProtocolConfig::Http2ProtocolOptions(_)) => Ok(UpstreamProtocol::Http2),
            Some(ProtocolConfig::HttpProtocolOptions(_)) | None => Ok(UpstreamProtocol::Http1),
            Some(ProtocolConfig::Http3ProtocolOptions(_)) => {
                Err(within(Fault::new("explicit_http_config.http3_protocol_options", "is not supported")))
            }
        },
        Some(UpstreamProtocolOptions::AutoConfig(_)) => {
            Err(within(Fault::new("auto_config", "is not supported")))
        }
        None => Ok(UpstreamProtocol::Http1),
    }
}

/// Reads how old a connection gets.
pub(super) fn decode_ages(wire: &Wire) -> Decoded<Ages> {
    let common = options(wire)?.and_then(|options| options.common_http_protocol_options);
    let Some(common) = common else { return Ok(Ages::default()) };
    let within = |fault: Fault| within(fault.within("common_http_protocol_options"));
    refuse(&[
        ("max_stream_duration", wire::limits(common.max_stream_duration.as_ref())),
        ("max_requests_per_connection", common.max_requests_per_connection.is_some_and(|it| it.value != 0)),
    ])
    .map_err(within)?;
    // 0 means "never" there; closing what is not used, or old, is safe all the same.
    let age = |field, value: Option<_>| {
        let age = wire::optional_duration(field, value.as_ref()).map_err(within)?;
        Ok(age.filter(|age| !age.is_zero()))
    };
    Ok(Ages {
        idle_timeout: age("idle_timeout", common.idle_timeout)?,
        max_lifetime: age("max_connection_duration", common.max_connection_duration)?,
    })
}

fn options(wire: &Wire) -> Decoded<Option<HttpProtocolOptions>> {
    let any = wire.typed_extension_protocol_options.get(KEY);
    any.map(|any| wire::unpack(any).map_err(within)).transpose()
}

fn within(fault: Fault) -> Fault {
    fault.within(format!("typed_extension_protocol_options[{KEY}]"))
}

/// Without options the standard says HTTP/1.1, unless one of the older fields asks for more.
#[expect(deprecated, reason = "control planes still send the old spelling")]
fn decode_old(wire: &Wire) -> UpstreamProtocol {
    if wire.protocol_selection() == ClusterProtocolSelection::UseDownstreamProtocol {
        return UpstreamProtocol::AsDownstream;
    }
    match wire.http2_protocol_options {
        Some(_) => UpstreamProtocol::Http2,
        None => UpstreamProtocol::Http1,
    }
}
