//! Who a client says it is (contracts, section 4), and what of it is believed.
//!
//! `node.id` is `<kind>~<ip>~<name>.<namespace>~<dns domain>`; ids of other shapes (gRPC, Envoy) are clients without a
//! workload. A caller with a token is in the namespace of its token, whatever else it says.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::google::protobuf::value::Kind;
use tonic::Status;

use crate::token::Caller;
use crate::translate::Client;

/// The longest `node.id`, in bytes.
const MAX_ID_BYTES: usize = 1024;
/// Labels a client may have.
const MAX_LABELS: usize = 128;
/// The longest key, value or name in the metadata that is looked at, in bytes.
const MAX_TEXT_BYTES: usize = 512;

/// The client behind a node.
pub(crate) fn client(node: &Node, caller: Option<&Caller>) -> Result<Client, Status> {
    if node.id.len() > MAX_ID_BYTES {
        return Err(Status::invalid_argument(format!("node.id is longer than {MAX_ID_BYTES} bytes")));
    }
    let workload = workload(&node.id);
    let claimed = text(node, "NAMESPACE").or_else(|| workload.as_ref().map(|workload| workload.namespace));
    let namespace = caller.map(|caller| caller.namespace.as_str()).or(claimed).unwrap_or_default();
    // A workload of another namespace than the caller's is not the caller.
    let workload = workload.filter(|workload| workload.namespace == namespace);
    Ok(Client {
        namespace: namespace.into(),
        name: workload.as_ref().map(|workload| workload.name).unwrap_or_default().into(),
        address: workload.and_then(|workload| workload.address.parse().ok()),
        labels: labels(node)?,
    })
}

/// What a `node.id` of our shape says.
struct WorkloadId<'a> {
    address: &'a str,
    name: &'a str,
    namespace: &'a str,
}

fn workload(id: &str) -> Option<WorkloadId<'_>> {
    let mut parts = id.split('~');
    let (_kind, address, full_name) = (parts.next()?, parts.next()?, parts.next()?);
    let (_domain, None) = (parts.next()?, parts.next()) else { return None };
    let (name, namespace) = full_name.rsplit_once('.')?;
    let fits = |text: &str| !text.is_empty() && text.len() <= MAX_TEXT_BYTES;
    (fits(name) && fits(namespace)).then_some(WorkloadId { address, name, namespace })
}

fn text<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    match node.metadata.as_ref()?.fields.get(key)?.kind.as_ref()? {
        Kind::StringValue(value) if !value.is_empty() && value.len() <= MAX_TEXT_BYTES => Some(value),
        _ => None,
    }
}

fn labels(node: &Node) -> Result<BTreeMap<String, String>, Status> {
    let fields = node.metadata.as_ref().and_then(|metadata| metadata.fields.get("LABELS"));
    let Some(Kind::StructValue(fields)) = fields.and_then(|value| value.kind.as_ref()) else {
        return Ok(BTreeMap::new());
    };
    if fields.fields.len() > MAX_LABELS {
        return Err(Status::invalid_argument(format!(
            "node.metadata.LABELS has more than {MAX_LABELS} labels"
        )));
    }
    let label = |(key, value): (&String, &envoy_types::pb::google::protobuf::Value)| match &value.kind {
        Some(Kind::StringValue(value)) if key.len().max(value.len()) <= MAX_TEXT_BYTES => {
            Some((key.clone(), value.clone()))
        }
        _ => None,
    };
    Ok(fields.fields.iter().filter_map(label).collect())
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::google::protobuf::{Struct, Value};

    use super::*;

    fn string(value: &str) -> Value {
        Value { kind: Some(Kind::StringValue(value.to_owned())) }
    }

    fn node(id: &str, namespace: &str) -> Node {
        let labels = Struct { fields: [("app".to_owned(), string("web"))].into() };
        let labels = Value { kind: Some(Kind::StructValue(labels)) };
        let fields = [("NAMESPACE".to_owned(), string(namespace)), ("LABELS".to_owned(), labels)].into();
        Node { id: id.to_owned(), metadata: Some(Struct { fields }), ..Node::default() }
    }

    fn caller(namespace: &str) -> Caller {
        Caller { namespace: namespace.to_owned(), service_account: "web".to_owned() }
    }

    #[test]
    fn a_node_of_ours_is_a_workload() {
        let client =
            client(&node("sidecar~127.0.1.1~web-1.shop~shop.svc.cluster.local", "shop"), None).unwrap();
        assert_eq!((&*client.namespace, &*client.name), ("shop", "web-1"));
        assert_eq!(client.address, Some("127.0.1.1".parse().unwrap()));
        assert_eq!(client.labels.get("app").map(String::as_str), Some("web"));
    }

    #[test]
    fn a_token_decides_the_namespace_and_takes_away_a_foreign_workload() {
        let node = node("sidecar~127.0.1.1~web-1.shop~d", "shop");
        let same = client(&node, Some(&caller("shop"))).unwrap();
        assert_eq!((&*same.namespace, &*same.name), ("shop", "web-1"));
        let other = client(&node, Some(&caller("bank"))).unwrap();
        assert_eq!((&*other.namespace, &*other.name, other.address), ("bank", "", None));
    }

    #[test]
    fn foreign_ids_are_clients_without_a_workload() {
        for id in ["", "grpc-node", "a~b", "a~b~c~d", "a~b~.ns~d", "a~1.2.3.4~n.ns~d~e"] {
            let client = client(&node(id, ""), None).unwrap();
            assert_eq!((&*client.namespace, &*client.name, client.address), ("", "", None), "{id:?}");
        }
    }

    #[test]
    fn what_is_too_much_is_refused() {
        let long = client(&node(&"x".repeat(MAX_ID_BYTES + 1), ""), None).unwrap_err();
        assert_eq!(long.code(), tonic::Code::InvalidArgument);
        let fields = (0..=MAX_LABELS).map(|n| (n.to_string(), string("v"))).collect();
        let labels = Value { kind: Some(Kind::StructValue(Struct { fields })) };
        let mut node = node("", "");
        node.metadata = Some(Struct { fields: [("LABELS".to_owned(), labels)].into() });
        assert_eq!(client(&node, None).unwrap_err().code(), tonic::Code::InvalidArgument);
    }
}
