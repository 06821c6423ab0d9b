//! What kube-proxy and the cluster's name server do: the addresses of Services lead to endpoints, and their names to
//! those addresses.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

use serde_json::Value;

/// The chain of our rules.
pub(super) const CHAIN: &str = "KUBE-SERVICES";
/// Where pods find the API server.
const API_SERVICE: &str = "10.96.0.1";

/// The rules for `iptables-restore --noflush`, which replace all rules of [`CHAIN`].
pub(super) fn rules(services: &[Value], slices: &[Value], api: SocketAddr) -> String {
    let mut text = format!("*nat\n:{CHAIN} - [0:0]\n-F {CHAIN}\n");
    let _ = writeln!(
        text,
        "-A {CHAIN} -d {API_SERVICE}/32 -p tcp -m tcp --dport 443 -j DNAT --to-destination {api}"
    );
    let endpoints = endpoints(slices);
    for service in services {
        let Some(address) = cluster_ip(service) else { continue };
        for port in list(&service["spec"]["ports"]) {
            let key = key(service, &service["metadata"]["name"], &port["name"]);
            let targets = endpoints.get(&key).map(Vec::as_slice).unwrap_or_default();
            let protocol = port["protocol"].as_str().unwrap_or("TCP").to_lowercase();
            for (index, target) in targets.iter().enumerate() {
                // The first of three takes a third, the second half of the rest, and the last what is left.
                let left = targets.len() - index;
                let share = if left > 1 {
                    format!(" -m statistic --mode nth --every {left} --packet 0")
                } else {
                    String::new()
                };
                let _ = writeln!(
                    text,
                    "-A {CHAIN} -d {address}/32 -p {protocol} -m {protocol} --dport {}{share} -j DNAT --to-destination {target}",
                    port["port"]
                );
            }
        }
    }
    text + "COMMIT\n"
}

/// `/etc/hosts` with the names of all Services, and those without a namespace for one namespace.
pub(super) fn hosts(services: &[Value], namespace: &str) -> String {
    let mut text = "127.0.0.1 localhost\n::1 localhost ip6-localhost\n".to_owned();
    for service in services {
        let (Some(address), Some(name), Some(of)) = (
            cluster_ip(service),
            service["metadata"]["name"].as_str(),
            service["metadata"]["namespace"].as_str(),
        ) else {
            continue;
        };
        let short = if of == namespace { name } else { "" };
        let _ = writeln!(text, "{address} {name}.{of}.svc.cluster.local {name}.{of}.svc {name}.{of} {short}");
    }
    text
}

type Key = [String; 3];

/// The endpoints that are ready, by namespace, Service and name of the port.
fn endpoints(slices: &[Value]) -> BTreeMap<Key, Vec<String>> {
    let mut found: BTreeMap<Key, Vec<String>> = BTreeMap::new();
    for slice in slices.iter().filter(|slice| slice["addressType"] == "IPv4") {
        let service = &slice["metadata"]["labels"]["kubernetes.io/service-name"];
        for port in list(&slice["ports"]) {
            let ready =
                list(&slice["endpoints"]).iter().filter(|endpoint| endpoint["conditions"]["ready"] == true);
            let targets = ready.filter_map(|endpoint| {
                Some(format!("{}:{}", endpoint["addresses"][0].as_str()?, port["port"]))
            });
            found.entry(key(slice, service, &port["name"])).or_default().extend(targets);
        }
    }
    found
}

fn key(object: &Value, service: &Value, port: &Value) -> Key {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    [text(&object["metadata"]["namespace"]), text(service), text(port)]
}

fn cluster_ip(service: &Value) -> Option<&str> {
    service["spec"]["clusterIP"].as_str().filter(|address| *address != "None" && !address.contains(':'))
}

/// The items of a list, none when there is no list.
pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_service_leads_to_its_ready_endpoints_in_turn() {
        let service = json!({"metadata": {"namespace": "shop", "name": "web"},
            "spec": {"clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}});
        let slice = json!({"addressType": "IPv4",
            "metadata": {"namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": [{"addresses": ["10.77.0.2"], "conditions": {"ready": true}},
                {"addresses": ["10.77.0.3"], "conditions": {"ready": false}},
                {"addresses": ["10.77.0.4"], "conditions": {"ready": true}}]});
        let api = "10.77.0.1:6443".parse().unwrap();
        let rules = rules(std::slice::from_ref(&service), &[slice], api);
        let ours: Vec<_> = rules.lines().filter(|line| line.contains("10.96.0.7")).collect();
        assert_eq!(
            ours,
            [
                "-A KUBE-SERVICES -d 10.96.0.7/32 -p tcp -m tcp --dport 80 -m statistic --mode nth --every 2 \
                 --packet 0 -j DNAT --to-destination 10.77.0.2:8080",
                "-A KUBE-SERVICES -d 10.96.0.7/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.77.0.4:8080",
            ]
        );
        assert!(
            rules.contains(
                "-d 10.96.0.1/32 -p tcp -m tcp --dport 443 -j DNAT --to-destination 10.77.0.1:6443"
            )
        );
        let hosts = hosts(&[service], "shop");
        assert!(
            hosts.contains("10.96.0.7 web.shop.svc.cluster.local web.shop.svc web.shop web\n"),
            "{hosts}"
        );
    }
}
