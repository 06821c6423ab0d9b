//! Shares of requests. The standard counts in hundreds, ten thousands and millions only.

use envoy_types::pb::envoy::config::core::v3::RuntimeFractionalPercent;
use envoy_types::pb::envoy::r#type::v3::FractionalPercent;
use envoy_types::pb::envoy::r#type::v3::fractional_percent::DenominatorType;

use super::fault::{Decoded, Fault};
use crate::filter::Share;

/// Writes a share; one of another denominator becomes the nearest one of a million, and what is above 0 stays so.
pub(super) fn encode(share: Share) -> FractionalPercent {
    let denominator = match share.denominator {
        100 => DenominatorType::Hundred,
        10_000 => DenominatorType::TenThousand,
        _ => DenominatorType::Million,
    };
    let numerator = match denominator {
        DenominatorType::Million => share.in_millionths(),
        DenominatorType::Hundred | DenominatorType::TenThousand => share.numerator,
    };
    FractionalPercent { numerator, denominator: denominator.into() }
}

/// Writes a share that Envoy could also be told at run time; this one it cannot.
pub(super) fn encode_fixed(share: Share) -> RuntimeFractionalPercent {
    RuntimeFractionalPercent { default_value: Some(encode(share)), runtime_key: String::new() }
}

/// Reads a share. More than the whole is the whole.
pub(super) fn decode(wire: &FractionalPercent) -> Decoded<Share> {
    let denominator = match DenominatorType::try_from(wire.denominator) {
        Ok(DenominatorType::Hundred) => 100,
        Ok(DenominatorType::TenThousand) => 10_000,
        Ok(DenominatorType::Million) => 1_000_000,
        Err(unknown) => {
            return Err(Fault::new("denominator", format!("{} is not known here", unknown.0)));
        }
    };
    Ok(Share { numerator: wire.numerator.min(denominator), denominator })
}

/// Reads a share that may be set at run time, which our proxies are not.
pub(super) fn decode_fixed(wire: &RuntimeFractionalPercent) -> Decoded<Share> {
    let value = wire.default_value.as_ref().ok_or_else(|| Fault::new("default_value", "is missing"))?;
    decode(value).map_err(|fault| fault.within("default_value"))
}
