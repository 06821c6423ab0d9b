//! Failures made on purpose, as Envoy's fault filter is told them for a route.

use envoy_types::pb::envoy::extensions::filters::common::fault::v3::FaultDelay;
use envoy_types::pb::envoy::extensions::filters::common::fault::v3::fault_delay::FaultDelaySecifier;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::fault_abort::ErrorType;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::{FaultAbort, HttpFault};
use envoy_types::pb::envoy::r#type::v3::FractionalPercent;
use http::StatusCode;

use crate::codec::fault::{Decoded, Fault as Wrong, refuse};
use crate::codec::{Any, share, wire};
use crate::filter::{Fault, Share};

/// Statuses that Envoy answers with.
const STATUSES: std::ops::Range<u32> = 200..600;

pub(super) fn encode(fault: &Fault) -> Any {
    let delay = fault.delay.map(|(share, time)| FaultDelay {
        percentage: Some(share::encode(share)),
        fault_delay_secifier: Some(FaultDelaySecifier::FixedDelay(wire::duration(time))),
    });
    let abort = fault.abort.map(|(share, status)| FaultAbort {
        percentage: Some(share::encode(share)),
        error_type: Some(ErrorType::HttpStatus(status.as_u16().into())),
        ..FaultAbort::default()
    });
    wire::pack(&HttpFault { delay, abort, ..HttpFault::default() })
}

pub(super) fn decode(any: &Any) -> Decoded<Fault> {
    let wire: HttpFault = wire::unpack(any)?;
    refuse(&[
        ("upstream_cluster", !wire.upstream_cluster.is_empty()),
        ("headers", !wire.headers.is_empty()),
        ("downstream_nodes", !wire.downstream_nodes.is_empty()),
        ("max_active_faults", wire.max_active_faults.is_some()),
        ("response_rate_limit", wire.response_rate_limit.is_some()),
    ])?;
    let delay = wire.delay.as_ref().map(decode_delay).transpose();
    let abort = wire.abort.as_ref().map(decode_abort).transpose();
    Ok(Fault {
        delay: delay.map_err(|wrong| wrong.within("delay"))?,
        abort: abort.map_err(|wrong| wrong.within("abort"))?,
    })
}

fn decode_delay(wire: &FaultDelay) -> Decoded<(Share, std::time::Duration)> {
    let time = match &wire.fault_delay_secifier {
        Some(FaultDelaySecifier::FixedDelay(time)) => wire::read_duration("fixed_delay", time)?,
        Some(FaultDelaySecifier::HeaderDelay(_)) => {
            return Err(Wrong::new("header_delay", "is not supported"));
        }
        None => return Err(Wrong::new("fault_delay_secifier", "is missing")),
    };
    Ok((decode_share(wire.percentage.as_ref())?, time))
}

fn decode_abort(wire: &FaultAbort) -> Decoded<(Share, StatusCode)> {
    refuse(&[("response_body", !wire.response_body.is_empty())])?;
    let status = match &wire.error_type {
        Some(ErrorType::HttpStatus(status)) => Some(*status).filter(|status| STATUSES.contains(status)),
        Some(ErrorType::GrpcStatus(_)) => return Err(Wrong::new("grpc_status", "is not supported")),
        Some(ErrorType::HeaderAbort(_)) => return Err(Wrong::new("header_abort", "is not supported")),
        None => return Err(Wrong::new("error_type", "is missing")),
    };
    let status = status.and_then(|status| u16::try_from(status).ok());
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    let status = status.ok_or_else(|| Wrong::new("http_status", "is not a status from 200 to 599"))?;
    Ok((decode_share(wire.percentage.as_ref())?, status))
}

/// No share is none of the requests, as in Envoy.
fn decode_share(wire: Option<&FractionalPercent>) -> Decoded<Share> {
    let none = Share { numerator: 0, denominator: 100 };
    let share = wire.map(share::decode).transpose().map_err(|wrong| wrong.within("percentage"))?;
    Ok(share.unwrap_or(none))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_filter_could_also_do_is_refused_by_name() {
        let percentage = Some(share::encode(Share::ALL));
        let abort = |error_type| FaultAbort { percentage, error_type, ..FaultAbort::default() };
        let fault = |abort| HttpFault { abort: Some(abort), ..HttpFault::default() };
        for (wire, expected) in [
            (
                HttpFault { upstream_cluster: "c".into(), ..HttpFault::default() },
                "upstream_cluster is not supported",
            ),
            (fault(abort(None)), "abort.error_type is missing"),
            (fault(abort(Some(ErrorType::GrpcStatus(14)))), "abort.grpc_status is not supported"),
            (
                fault(abort(Some(ErrorType::HttpStatus(99)))),
                "abort.http_status is not a status from 200 to 599",
            ),
            (
                HttpFault { delay: Some(FaultDelay::default()), ..HttpFault::default() },
                "delay.fault_delay_secifier is missing",
            ),
        ] {
            let wrong = decode(&wire::pack(&wire)).unwrap_err();
            assert_eq!(format!("{} {}", wrong.field, wrong.why), expected);
        }
    }

    #[test]
    fn nobody_is_meant_where_no_share_is_written() {
        let abort = FaultAbort { error_type: Some(ErrorType::HttpStatus(503)), ..FaultAbort::default() };
        let read = decode(&wire::pack(&HttpFault { abort: Some(abort), ..HttpFault::default() })).unwrap();
        assert_eq!(read.abort.map(|(share, _)| share.numerator), Some(0));
    }
}
