//! Responses as bytes. A resource is encoded once for all streams; a response is what is its own, and copies of those.
//!
//! Protobuf allows that: a message may be written in parts, one behind the other, and a field that repeats is one part
//! for each time (<https://protobuf.dev/programming-guides/encoding/#last-one-wins>). Both responses of discovery have
//! their resources in field 2.

use std::fmt::Write;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use envoy_types::pb::google::protobuf::Any;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len, string};

/// Bytes of the hash that are the version of a resource.
const VERSION_BYTES: usize = 16;

/// `Resource.name`, `Resource.version` and `Resource.resource` of incremental discovery.
const NAME: u32 = 3;
const VERSION: u32 = 1;
const RESOURCE: u32 = 2;
/// `resources` of both responses.
const RESOURCES: u32 = 2;

/// What stands in front of a message of gRPC: whether it is compressed, and its length.
/// <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>
const PREFIX_BYTES: usize = 5;

/// A resource as it goes on the wire.
#[derive(Debug, PartialEq)]
pub(crate) struct Encoded {
    /// A hash of the bytes: the same in every replica and after a restart.
    pub(crate) version: Arc<str>,
    /// The `Resource` of incremental discovery, which ends with the resource itself.
    named: Box<[u8]>,
    /// Where the resource itself starts.
    bare_from: usize,
}

/// How a response writes resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// With name and version: incremental.
    Named,
    /// The resources alone: state of the world.
    Bare,
}

impl Encoded {
    pub(crate) fn new(name: &str, any: &Any) -> Self {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &any.value);
        let version = hash.as_ref().iter().take(VERSION_BYTES).fold(String::new(), |mut text, byte| {
            // Writing to a String does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        });
        let bare_bytes = any.encoded_len();
        let mut named = Vec::with_capacity(bare_bytes + name.len() + version.len() + 16);
        string::encode(NAME, &name.to_owned(), &mut named);
        string::encode(VERSION, &version, &mut named);
        encode_key(RESOURCE, WireType::LengthDelimited, &mut named);
        encode_varint(bare_bytes as u64, &mut named);
        let bare_from = named.len();
        any.encode_raw(&mut named);
        Self { version: version.into(), named: named.into(), bare_from }
    }

    /// About what it adds to a response, in bytes.
    pub(crate) fn len(&self) -> usize {
        self.named.len()
    }

    fn in_form(&self, form: Form) -> &[u8] {
        match form {
            Form::Named => &self.named,
            Form::Bare => &self.named[self.bare_from..],
        }
    }
}

/// A response without its resources, and the resources, as one message of gRPC. It has exactly the room it needs, which
/// is free again as soon as it is sent.
pub(crate) fn message(response: &impl Message, resources: &[Arc<Encoded>], form: Form) -> Bytes {
    let field = |encoded: &Arc<Encoded>| {
        let bytes = encoded.in_form(form).len();
        key_len(RESOURCES) + encoded_len_varint(bytes as u64) + bytes
    };
    let length = response.encoded_len() + resources.iter().map(field).sum::<usize>();
    let mut message = BytesMut::with_capacity(PREFIX_BYTES + length);
    message.put_u8(0);
    // Responses end at 2 MiB and one resource more.
    message.put_u32(length as u32);
    response.encode_raw(&mut message);
    for encoded in resources {
        encode_key(RESOURCES, WireType::LengthDelimited, &mut message);
        let bytes = encoded.in_form(form);
        encode_varint(bytes.len() as u64, &mut message);
        message.put_slice(bytes);
    }
    message.freeze()
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::service::discovery::v3::{
        DeltaDiscoveryResponse, DiscoveryResponse, Resource,
    };

    use super::*;

    fn any(value: &[u8]) -> Any {
        Any { type_url: "type.googleapis.com/x.Y".to_owned(), value: value.to_vec() }
    }

    fn encoded() -> Vec<Arc<Encoded>> {
        let large = vec![7; 70_000];
        [("a", &b"1"[..]), ("b", b""), ("c", &large)]
            .map(|(name, value)| Arc::new(Encoded::new(name, &any(value))))
            .into()
    }

    #[test]
    fn both_responses_are_read_as_they_were_meant() {
        let delta = DeltaDiscoveryResponse {
            system_version_info: "7".to_owned(),
            type_url: "t".to_owned(),
            nonce: "9".to_owned(),
            removed_resources: vec!["gone".to_owned()],
            ..DeltaDiscoveryResponse::default()
        };
        let sotw = DiscoveryResponse { nonce: "9".to_owned(), ..DiscoveryResponse::default() };
        let resources = encoded();
        let named = |encoded: &Arc<Encoded>, name: &str, value: &[u8]| Resource {
            name: name.to_owned(),
            version: encoded.version.to_string(),
            resource: Some(any(value)),
            ..Resource::default()
        };
        let large = vec![7; 70_000];
        let expected = vec![
            named(&resources[0], "a", b"1"),
            named(&resources[1], "b", b""),
            named(&resources[2], "c", &large),
        ];
        let bytes = message(&delta, &resources, Form::Named);
        let read = DeltaDiscoveryResponse::decode(&bytes[PREFIX_BYTES..]).unwrap();
        assert_eq!(read, DeltaDiscoveryResponse { resources: expected, ..delta });
        let bytes = message(&sotw, &resources, Form::Bare);
        let read = DiscoveryResponse::decode(&bytes[PREFIX_BYTES..]).unwrap();
        assert_eq!(read, DiscoveryResponse { resources: vec![any(b"1"), any(b""), any(&large)], ..sotw });
    }

    #[test]
    fn the_prefix_says_how_long_the_message_is() {
        let empty = message(&DiscoveryResponse::default(), &[], Form::Bare);
        assert_eq!(&empty[..], [0; PREFIX_BYTES]);
        let bytes = message(&DiscoveryResponse::default(), &encoded(), Form::Bare);
        assert_eq!(
            u32::from_be_bytes(bytes[1..PREFIX_BYTES].try_into().unwrap()) as usize,
            bytes.len() - PREFIX_BYTES
        );
    }

    #[test]
    fn a_message_has_exactly_the_room_it_needs() {
        let bytes = message(&DiscoveryResponse::default(), &encoded(), Form::Named);
        let length = bytes.len();
        assert_eq!(bytes.try_into_mut().unwrap().capacity(), length);
    }

    #[test]
    fn the_version_is_that_of_the_content() {
        let version = |name, value: &[u8]| Encoded::new(name, &any(value)).version;
        assert_eq!(version("a", b"1"), version("b", b"1"));
        assert_ne!(version("a", b"1"), version("a", b"2"));
        assert_eq!(version("a", b"1").len(), 2 * VERSION_BYTES);
    }
}
