//! Changes to heads.
//!
//! Envoy reads values as formats in which `%` starts a command, so a plain `%` is written twice; a value with a
//! command in it is refused, because it would reach the application as it stands.
//! A value that is not UTF-8 travels as raw bytes, which Envoy (1.40) passes over and our proxies honour.

use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::{HeaderValue as WireValue, HeaderValueOption};
use http::{HeaderName, HeaderValue, header};

use super::MAX_HEADER_CHANGES;
use super::fault::{Decoded, Fault, at_most, shorten};
use crate::route::HeaderChanges;

/// Fields that say how a message is framed or that belong to one connection (RFC 9110, section 7.6.1): changing them
/// could make two messages out of one.
const UNCHANGEABLE: [HeaderName; 7] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// Changes as they stand on the wire: what is added or replaced, and what is removed.
#[derive(Default)]
pub(super) struct WireChanges {
    pub(super) add: Vec<HeaderValueOption>,
    pub(super) remove: Vec<String>,
}

pub(super) fn encode(changes: &HeaderChanges) -> WireChanges {
    let set = changes.set.iter().map(|field| encode_field(field, HeaderAppendAction::OverwriteIfExistsOrAdd));
    let add = changes.add.iter().map(|field| encode_field(field, HeaderAppendAction::AppendIfExistsOrAdd));
    WireChanges {
        add: set.chain(add).collect(),
        remove: changes.remove.iter().map(|name| name.as_str().to_owned()).collect(),
    }
}

/// Reads changes; `what` is `request` or `response`, for the names of the fields.
pub(super) fn decode(what: &str, add: &[HeaderValueOption], remove: &[String]) -> Decoded<HeaderChanges> {
    let (add_field, remove_field) = (format!("{what}_headers_to_add"), format!("{what}_headers_to_remove"));
    at_most(&add_field, add.len(), MAX_HEADER_CHANGES)?;
    at_most(&remove_field, remove.len(), MAX_HEADER_CHANGES)?;
    let mut changes = HeaderChanges::default();
    for (at, name) in remove.iter().enumerate() {
        let name = decode_name(name).map_err(|fault| fault.within(format!("{remove_field}[{at}]")))?;
        changes.remove.push(name);
    }
    for (at, option) in add.iter().enumerate() {
        decode_option(option, &mut changes).map_err(|fault| fault.within(format!("{add_field}[{at}]")))?;
    }
    Ok(changes)
}

/// A field that both of two sets of changes replace, add to or remove.
pub(super) fn shared<'a>(one: &'a HeaderChanges, other: &HeaderChanges) -> Option<&'a HeaderName> {
    names(one).find(|name| names(other).any(|it| it == *name))
}

fn names(changes: &HeaderChanges) -> impl Iterator<Item = &HeaderName> {
    changes.remove.iter().chain(changes.set.iter().chain(&changes.add).map(|(name, _)| name))
}

fn encode_field((name, value): &(HeaderName, HeaderValue), action: HeaderAppendAction) -> HeaderValueOption {
    let (text, raw) = match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => (text.replace('%', "%%"), Vec::new()),
        Err(_) => (String::new(), double_percent(value.as_bytes())),
    };
    HeaderValueOption {
        header: Some(WireValue { key: name.as_str().to_owned(), value: text, raw_value: raw }),
        append_action: action.into(),
        keep_empty_value: value.is_empty(),
        ..HeaderValueOption::default()
    }
}

fn double_percent(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| std::iter::repeat_n(*byte, if *byte == b'%' { 2 } else { 1 })).collect()
}

fn decode_option(option: &HeaderValueOption, changes: &mut HeaderChanges) -> Decoded<()> {
    let field = option.header.as_ref().ok_or_else(|| Fault::new("header", "is missing"))?;
    let name = decode_name(&field.key).map_err(|fault| fault.within("header.key"))?;
    let bytes = if field.value.is_empty() { field.raw_value.as_slice() } else { field.value.as_bytes() };
    let bytes = single_percent(bytes).ok_or_else(|| {
        let value = shorten(&String::from_utf8_lossy(bytes));
        Fault::new("header.value", format!("{value:?} has a command in it, which is not supported"))
    })?;
    let value = HeaderValue::from_bytes(&bytes)
        .map_err(|_| Fault::new("header.value", "has a character that no header field may have"))?;
    if value.is_empty() && !option.keep_empty_value {
        return Ok(());
    }
    match append_action(option) {
        Ok(HeaderAppendAction::OverwriteIfExistsOrAdd) => changes.set.push((name, value)),
        Ok(HeaderAppendAction::AppendIfExistsOrAdd) => changes.add.push((name, value)),
        Ok(other) => {
            return Err(Fault::new("append_action", format!("{} is not supported", other.as_str_name())));
        }
        Err(unknown) => return Err(Fault::new("append_action", format!("{unknown} is not known here"))),
    }
    Ok(())
}

#[expect(deprecated, reason = "control planes still send the old spelling")]
fn append_action(option: &HeaderValueOption) -> Result<HeaderAppendAction, i32> {
    match option.append {
        Some(append) if append.value => Ok(HeaderAppendAction::AppendIfExistsOrAdd),
        Some(_) => Ok(HeaderAppendAction::OverwriteIfExistsOrAdd),
        None => HeaderAppendAction::try_from(option.append_action).map_err(|unknown| unknown.0),
    }
}

fn decode_name(name: &str) -> Decoded<HeaderName> {
    let shown = || format!("{:?}", shorten(name));
    let parsed: HeaderName =
        name.parse().map_err(|_| Fault::whole(format!("{} is not a field name", shown())))?;
    match UNCHANGEABLE.contains(&parsed) {
        true => Err(Fault::whole(format!("{} frames messages and cannot be changed", shown()))),
        false => Ok(parsed),
    }
}

/// Takes doubled percent signs back; `None` when a single one is left.
fn single_percent(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter();
    while let Some(byte) = rest.next() {
        if *byte == b'%' && rest.next() != Some(&b'%') {
            return None;
        }
        plain.push(*byte);
    }
    Some(plain)
}
