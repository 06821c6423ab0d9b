//! The mesh that the fleet lives in, in YAML, and what each of its proxies asks for: a company of teams, one file and
//! one namespace a team, whose services call their neighbours, a few services elsewhere, and one that everybody calls.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::Ipv4Addr;

/// Services of one team.
const SERVICES_PER_TEAM: usize = 100;
/// Workloads behind each Service; behind the one that everybody calls there are more.
const WORKLOADS_EACH: usize = 2;
const HOT_WORKLOADS: usize = 10;
/// One in so many Services has routes and a policy.
const ROUTED_ONE_IN: usize = 10;
/// What a proxy's application dials besides the hot Service: of its own team, and of others.
const OWN_TEAM: usize = 14;
const ELSEWHERE: usize = 15;
/// The port of every Service and every workload.
const PORT: u16 = 9080;
/// The number of the Service that everybody calls.
const HOT: usize = 0;

/// How the address of the workload that moves starts; the rest is the number of the change.
const MARK: &str = "10.254.";

/// How large everything is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
pub(crate) struct Mesh {
    /// Proxies that are simulated
    #[arg(long, default_value_t = 1_000)]
    pub(crate) proxies: usize,
    /// Services that are configured
    #[arg(long, default_value_t = 5_000)]
    pub(crate) services: usize,
}

/// A file of the configuration directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) text: String,
}

/// The workload that a proxy stands beside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Home {
    pub(crate) namespace: String,
    pub(crate) service_account: String,
    pub(crate) workload: String,
    pub(crate) address: Ipv4Addr,
}

impl Mesh {
    /// The whole directory before any change.
    pub(crate) fn files(self) -> impl Iterator<Item = File> {
        let teams = self.services.div_ceil(SERVICES_PER_TEAM);
        (0..teams).map(move |team| self.file(team, 0)).chain([mesh_config()])
    }

    /// The file that changes, as it is after a change.
    pub(crate) fn changed(self, change: u16) -> File {
        self.file(HOT / SERVICES_PER_TEAM, change)
    }

    /// Where a proxy stands. Proxies are spread over all teams.
    pub(crate) fn home(self, proxy: usize) -> Home {
        let service = self.home_service(proxy);
        Home {
            namespace: namespace(service),
            service_account: name(service),
            workload: format!("{}-0", name(service)),
            address: address(service, 0),
        }
    }

    /// What a proxy's application dials, as full host names with their port. The hot Service is among them.
    pub(crate) fn destinations(self, proxy: usize) -> Vec<String> {
        let home = self.home_service(proxy);
        let (team, place) = (home / SERVICES_PER_TEAM, home % SERVICES_PER_TEAM);
        let neighbours =
            (1..=OWN_TEAM).map(|step| team * SERVICES_PER_TEAM + (place + 7 * step) % SERVICES_PER_TEAM);
        let others = (1..=ELSEWHERE).map(|step| home + 331 * step);
        let all = neighbours.chain(others).chain([HOT]);
        let distinct: BTreeSet<usize> = all.map(|service| service % self.services).collect();
        distinct.into_iter().map(|service| format!("{}:{PORT}", host(service))).collect()
    }

    fn home_service(self, proxy: usize) -> usize {
        let apart = (self.services / self.proxies.max(1)).max(1);
        (proxy * apart + 1) % self.services
    }

    fn file(self, team: usize, change: u16) -> File {
        let first = team * SERVICES_PER_TEAM;
        let mut text = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {}}}\n", namespace(first));
        for number in first..self.services.min(first + SERVICES_PER_TEAM) {
            service(&mut text, number);
            if number % ROUTED_ONE_IN == 0 {
                route_and_policy(&mut text, number);
            }
            let moving = (number == HOT).then_some(change);
            workloads(&mut text, number, moving);
        }
        File { name: format!("{}.yaml", namespace(first)), text }
    }
}

/// The number of the change after which an endpoint list was made, when it is that of the hot Service.
pub(crate) fn change_in(endpoints: &[u8]) -> Option<u16> {
    let at = endpoints.windows(MARK.len()).position(|window| window == MARK.as_bytes())?;
    let rest = endpoints.get(at + MARK.len()..)?;
    let end = rest.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.').unwrap_or(rest.len());
    let (high, low) = std::str::from_utf8(&rest[..end]).ok()?.split_once('.')?;
    Some(u16::from_be_bytes([high.parse().ok()?, low.parse().ok()?]))
}

/// The names of the resources of a destination, by which a proxy asks for them.
pub(crate) fn cluster(destination: &str) -> String {
    let (host, port) = destination.rsplit_once(':').unwrap_or((destination, ""));
    format!("outbound|{port}|{host}")
}

fn mesh_config() -> File {
    let text = "apiVersion: outrigger.dev/v1alpha1\nkind: MeshConfig\n\
                metadata: {name: mesh, namespace: outrigger-system}\nspec: {mtls: Strict}\n";
    File { name: "mesh.yaml".to_owned(), text: text.to_owned() }
}

fn service(text: &mut String, number: usize) {
    let [_, _, high, low] = ip(number).octets();
    // Writing to a String cannot fail, here and below.
    let _ = write!(
        text,
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {}, namespace: {}}}\nspec:\n  \
         clusterIP: 172.16.{high}.{low}\n  selector: {{app: {}}}\n  \
         ports: [{{name: http, port: {PORT}, targetPort: http, appProtocol: http}}]\n",
        name(number),
        namespace(number),
        name(number),
    );
}

fn route_and_policy(text: &mut String, number: usize) {
    let (name, namespace) = (name(number), namespace(number));
    let _ = write!(
        text,
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
         metadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  \
         parentRefs: [{{group: \"\", kind: Service, name: {name}, port: {PORT}}}]\n  rules:\n  \
         - matches: [{{path: {{type: Exact, value: /healthz}}}}]\n    \
         backendRefs: [{{name: {name}, port: {PORT}}}]\n  \
         - matches: [{{path: {{type: PathPrefix, value: /items}}}}]\n    timeouts: {{request: 10s}}\n    \
         backendRefs: [{{name: {name}, port: {PORT}}}]\n  \
         - backendRefs: [{{name: {name}, port: {PORT}}}]\n\
         ---\napiVersion: outrigger.dev/v1alpha1\nkind: BackendPolicy\n\
         metadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  \
         targetRefs: [{{group: \"\", kind: Service, name: {name}}}]\n  \
         retryBudget: {{percent: 20, minRetriesPerSecond: 10, interval: 10s}}\n",
    );
}

/// The workloads of a Service; the last one of the hot Service is where the change has put it.
fn workloads(text: &mut String, number: usize, moving: Option<u16>) {
    let (name, namespace) = (name(number), namespace(number));
    let count = if number == HOT { HOT_WORKLOADS } else { WORKLOADS_EACH };
    for place in 0..count {
        let address = match moving.filter(|_| place + 1 == count) {
            Some(change) => moved(change),
            None => address(number, place).to_string(),
        };
        let _ = write!(
            text,
            "---\napiVersion: outrigger.dev/v1alpha1\nkind: Workload\n\
             metadata: {{name: {name}-{place}, namespace: {namespace}, labels: {{app: {name}}}}}\n\
             spec: {{address: {address}, ports: {{http: {PORT}}}, serviceAccount: {name}, meshed: true}}\n",
        );
    }
}

fn moved(change: u16) -> String {
    let [high, low] = change.to_be_bytes();
    format!("{MARK}{high}.{low}")
}

fn namespace(service: usize) -> String {
    format!("team-{:03}", service / SERVICES_PER_TEAM)
}

fn name(service: usize) -> String {
    format!("svc-{service:05}")
}

fn host(service: usize) -> String {
    format!("{}.{}.svc.cluster.local", name(service), namespace(service))
}

/// The address of a workload. Those of the hot Service beyond the usual number have a range of their own.
fn address(service: usize, place: usize) -> Ipv4Addr {
    if place >= WORKLOADS_EACH {
        // The hot Service has ten.
        return Ipv4Addr::new(10, 253, 0, place as u8);
    }
    ip(service * WORKLOADS_EACH + place)
}

fn ip(number: usize) -> Ipv4Addr {
    // A mesh has far fewer than 2^20 workloads: 10.0.0.0 to 10.15.255.255.
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 0)) + number as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESH: Mesh = Mesh { proxies: 60, services: 300 };

    #[test]
    fn the_mesh_is_read_without_a_problem() {
        let mut kinds = std::collections::BTreeMap::new();
        for file in MESH.files().chain([MESH.changed(7)]) {
            let parsed = outrigger_resources::parse_yaml(&file.name, &file.text);
            assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
            for sourced in parsed.objects {
                *kinds.entry(sourced.object.kind().name()).or_insert(0) += 1;
            }
        }
        // Three teams, and the first once more with the hot Service moved.
        assert_eq!((kinds["Namespace"], kinds["Service"], kinds["HTTPRoute"]), (4, 400, 40));
        assert_eq!((kinds["BackendPolicy"], kinds["MeshConfig"], kinds["Workload"]), (40, 1, 816));
    }

    #[test]
    fn a_change_moves_one_workload_and_nothing_else() {
        let lines = |change| MESH.changed(change).text.lines().map(str::to_owned).collect::<Vec<_>>();
        let (before, after) = (lines(0), lines(513));
        let different: Vec<_> = before.iter().zip(&after).filter(|(before, after)| before != after).collect();
        assert_eq!(before.len(), after.len());
        assert!(
            matches!(&different[..], [(_, after)] if after.contains("address: 10.254.2.1,")),
            "{different:?}"
        );
        assert_eq!(MESH.files().next().unwrap(), MESH.changed(0));
    }

    #[test]
    fn the_change_is_found_in_an_endpoint_list() {
        let list =
            |address: &str| [b"\x0a\x0b10.0.0.1\x12\x07", address.as_bytes(), b"\x18\xf8\x46"].concat();
        for change in [0, 1, 255, 256, 513, u16::MAX] {
            assert_eq!(change_in(&list(&moved(change))), Some(change));
        }
        assert_eq!(change_in(&list("10.253.0.9")), None);
        assert_eq!(change_in(b"10.254."), None);
        assert_eq!(change_in(b""), None);
    }

    #[test]
    fn every_proxy_stands_elsewhere_and_dials_the_hot_service() {
        let homes: BTreeSet<_> = (0..MESH.proxies).map(|proxy| MESH.home(proxy).workload).collect();
        assert_eq!(homes.len(), MESH.proxies);
        for proxy in 0..MESH.proxies {
            let destinations = MESH.destinations(proxy);
            assert!(destinations.contains(&"svc-00000.team-000.svc.cluster.local:9080".to_owned()));
            assert!((20..=30).contains(&destinations.len()), "{}", destinations.len());
        }
        assert_eq!(cluster("a.b.svc.cluster.local:80"), "outbound|80|a.b.svc.cluster.local");
    }
}
