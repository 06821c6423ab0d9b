//! What tokens requests must carry: all of it is ours.

use super::fault::{Decoded, at_most};
use super::wire::{self, ours};
use super::{MAX_AUDIENCES, MAX_KEY_SET_BYTES};
use crate::jwt::{JwtRule, KeySet};

pub(super) fn encode(rule: &JwtRule) -> ours::JwtRule {
    let keys = rule.keys.as_ref();
    let keys =
        keys.map(|keys| ours::KeySet { json: keys.json.as_ref().into(), usable_until: keys.usable_until });
    ours::JwtRule {
        name: rule.name.as_ref().into(),
        issuer: rule.issuer.as_ref().into(),
        audiences: rule.audiences.iter().map(|audience| audience.as_ref().into()).collect(),
        keys,
    }
}

pub(super) fn decode(wire: &ours::JwtRule) -> Decoded<JwtRule> {
    wire::not_empty("name", &wire.name)?;
    wire::not_empty("issuer", &wire.issuer)?;
    at_most("audiences", wire.audiences.len(), MAX_AUDIENCES)?;
    let keys = wire.keys.as_ref().map(|keys| {
        at_most("keys.json", keys.json.len(), MAX_KEY_SET_BYTES)?;
        Ok(KeySet { json: keys.json.as_str().into(), usable_until: keys.usable_until })
    });
    Ok(JwtRule {
        name: wire.name.as_str().into(),
        issuer: wire.issuer.as_str().into(),
        audiences: wire.audiences.iter().map(|audience| audience.as_str().into()).collect(),
        keys: keys.transpose()?,
    })
}
