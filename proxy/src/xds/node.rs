//! Who this proxy says it is (contracts, section 4).

use std::net::IpAddr;

use envoy_types::pb::envoy::config::core::v3::{Locality as NodeLocality, Node};
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};
use outrigger_model::endpoint::Locality;

/// The kind of proxy we are.
const KIND: &str = "sidecar";

/// The workload this proxy stands beside, as the flags say.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub workload: String,
    /// Its service account.
    pub service_account: String,
    /// The address others reach it at.
    pub address: IpAddr,
    /// Its labels.
    pub labels: Vec<(String, String)>,
    /// Where it runs.
    pub locality: Option<Locality>,
}

/// The node of the first message of a stream.
pub fn node(identity: &Identity) -> Node {
    let Identity { namespace, workload, service_account, address, labels, locality } = identity;
    let labels = labels.iter().map(|(key, value)| (key.clone(), string(value))).collect();
    let mut fields = vec![
        ("NAMESPACE".to_owned(), string(namespace)),
        ("SERVICE_ACCOUNT".to_owned(), string(service_account)),
        ("LABELS".to_owned(), Value { kind: Some(Kind::StructValue(Struct { fields: labels })) }),
    ];
    if let Some(locality) = locality {
        fields.push(("LOCALITY".to_owned(), string(&format!("{}/{}", locality.region, locality.zone))));
    }
    Node {
        id: format!("{KIND}~{address}~{workload}.{namespace}~{namespace}.svc.cluster.local"),
        cluster: format!("{workload}.{namespace}"),
        metadata: Some(Struct { fields: fields.into_iter().collect() }),
        locality: locality.as_ref().map(node_locality),
        user_agent_name: "outrigger-proxy".to_owned(),
        ..Node::default()
    }
}

/// Where a node says that it runs.
pub(super) fn locality_of(node: &Node) -> Locality {
    let said = node.locality.clone().unwrap_or_default();
    Locality { region: said.region.into(), zone: said.zone.into() }
}

fn node_locality(locality: &Locality) -> NodeLocality {
    NodeLocality {
        region: locality.region.to_string(),
        zone: locality.zone.to_string(),
        ..NodeLocality::default()
    }
}

fn string(text: &str) -> Value {
    Value { kind: Some(Kind::StringValue(text.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_the_id_of_the_contract_and_what_is_known() {
        let node = node(&Identity {
            namespace: "shop".into(),
            workload: "web-1".into(),
            service_account: "web".into(),
            address: "127.0.1.1".parse().unwrap(),
            labels: vec![("app".into(), "web".into())],
            locality: Some(Locality { region: "eu".into(), zone: "eu-a".into() }),
        });
        assert_eq!(node.id, "sidecar~127.0.1.1~web-1.shop~shop.svc.cluster.local");
        let fields = node.metadata.unwrap().fields;
        assert_eq!(fields["SERVICE_ACCOUNT"], string("web"));
        assert_eq!(fields["LOCALITY"], string("eu/eu-a"));
        let Some(Kind::StructValue(labels)) = &fields["LABELS"].kind else { panic!("no labels") };
        assert_eq!(labels.fields["app"], string("web"));
    }
}
