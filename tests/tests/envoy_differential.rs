//! The same route configurations, from our control plane, in Envoy and in our proxy: the same requests must come to the same
//! end. What may differ is told in `docs/envoy-differences.md`, and nothing else does.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use fastrand::Rng;
use generate::Asked;
use http::Version;
use outrigger_tests::client::{Answer, Client};
use outrigger_tests::counterparts::{self, Counterpart};
use outrigger_tests::eventually;
use outrigger_tests::mesh::{Mesh, READY_WITHIN};
use outrigger_tests::origin::Origin;
use outrigger_tests::ports::Subnet;
use outrigger_tests::process::{Process, Program};
use outrigger_tests::town::{PORT, http_route, plain, service};
use serde_json::{Value, json};

#[path = "envoy_differential/generate.rs"]
mod generate;

/// Each makes one Service with a route of its own. A failure names the seed.
const SEEDS: std::ops::Range<u64> = 1..13;
/// Requests for each seed.
const REQUESTS: usize = 250;
/// How long everything may take to start.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where the differences are told.
const LIST: &str = include_str!("../../docs/envoy-differences.md");
const MANAGER: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// A difference that is known; each has a heading in [`LIST`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// The same address, written with the port that its scheme implies.
    WellKnownPort,
    /// Another rule, because the query is compared as it stands.
    EncodedQuery,
    /// Changes of heads on an error of the proxy's own.
    OwnErrors,
    /// Another rule, because several fields of one name are not one value.
    RepeatedFields,
}

impl Known {
    const ALL: [Self; 4] = [Self::WellKnownPort, Self::EncodedQuery, Self::OwnErrors, Self::RepeatedFields];

    fn heading(self) -> &'static str {
        match self {
            Self::WellKnownPort => "## A port that the scheme implies",
            Self::EncodedQuery => "## Query parameters that are percent-encoded",
            Self::RepeatedFields => "## Several fields of one name",
            Self::OwnErrors => "## Header changes on errors of the proxy's own",
        }
    }
}

/// What became of a request, as far as users care.
#[derive(Debug, Clone, PartialEq, Eq)]
struct End {
    status: u16,
    location: String,
    /// Which backend answered, and what it saw.
    origin: String,
    target: String,
    seen: Vec<String>,
    /// Changed fields of the answer.
    fields: Vec<String>,
}

impl End {
    /// What does not repeat the query and the fields of the request.
    fn without_what_was_asked(mut self) -> Self {
        self.target.truncate(self.target.find('?').unwrap_or(self.target.len()));
        self.location.truncate(self.location.find('?').unwrap_or(self.location.len()));
        self.seen.retain(|field| !field.starts_with("x-a="));
        self
    }

    fn of(answer: &Answer) -> Self {
        let json = answer.json();
        let text = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
        let pairs = json["headers"].as_array().cloned().unwrap_or_default();
        let pairs = pairs.iter().filter_map(|pair| Some((pair[0].as_str()?, pair[1].as_str()?)));
        let mut seen: Vec<_> = pairs.filter(|(name, _)| is_ours(name)).map(field).collect();
        let fields = answer.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
        let mut fields: Vec<_> = fields.filter(|(name, _)| is_ours(name)).map(field).collect();
        seen.sort();
        fields.sort();
        let location = answer.header("location").to_owned();
        Self {
            status: answer.status.as_u16(),
            location,
            origin: text("origin"),
            target: text("target"),
            seen,
            fields,
        }
    }
}

/// Whether a field is one that requests and rules are made of.
fn is_ours(name: &str) -> bool {
    ["host", "x-a", "x-b", "x-s", "x-t", "x-own"].contains(&name)
}

fn field((name, value): (&str, &str)) -> String {
    format!("{name}={value}")
}

/// Everything that runs.
struct Sides {
    subnet: Subnet,
    envoy: Process,
    proxy: Process,
    control_plane: Process,
    _mesh: Mesh,
    _origins: [Origin; 2],
}

/// Where a seed's Service is reached.
fn port_of(seed: u64) -> u16 {
    9100 + u16::try_from(seed).unwrap()
}

impl Sides {
    async fn start() -> Option<Self> {
        let found = counterparts::need(&[Counterpart::Envoy])?;
        let subnet = Subnet::claim();
        let v1 = Origin::start("v1", subnet.address(1, PORT)).await.unwrap();
        let v2 = Origin::start("v2", subnet.address(2, PORT)).await.unwrap();
        let mesh = Mesh::new().unwrap();
        let mut yaml = String::new();
        for (name, origin) in [("v1", &v1), ("v2", &v2)] {
            yaml += &service(name, "http");
            yaml += &plain(&format!("{name}-1"), name, origin.address());
        }
        for seed in SEEDS {
            let name = format!("s{seed}");
            yaml += &service(&name, "http");
            yaml += &http_route(&name, &generate::rules(&mut Rng::with_seed(seed)));
        }
        mesh.write("shop.yaml", &yaml).unwrap();
        let control_plane = mesh.start_control_plane().await.unwrap();
        let xds = control_plane.address("/xds").unwrap();
        let outbound =
            SEEDS.map(|seed| format!("--outbound={}=s{seed}.shop:{PORT}", subnet.address(8, port_of(seed))));
        let proxy = mesh.sidecar(xds, "shop", "web").await.unwrap().args(outbound);
        let proxy = proxy.start_ready(READY_WITHIN).await.unwrap();
        let file = bootstrap_file(&mesh, xds, &subnet);
        let args = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning", "--config-path"];
        let envoy = Program::at(found.path(Counterpart::Envoy)).args(args).args([file]).start().unwrap();
        let sides = Self { subnet, envoy, proxy, control_plane, _mesh: mesh, _origins: [v1, v2] };
        for seed in SEEDS {
            sides.until_ready(seed).await;
        }
        Some(sides)
    }

    /// The same Service through Envoy and through our proxy.
    fn entrances(&self, seed: u64) -> [SocketAddr; 2] {
        [9, 8].map(|host| self.subnet.address(host, port_of(seed)))
    }

    async fn until_ready(&self, seed: u64) {
        for entrance in self.entrances(seed) {
            let ready = eventually(PATIENCE, async || {
                let answer = outrigger_tests::client::get(entrance, "/ready").await.ok()?;
                (answer.origin() == "v1").then_some(())
            });
            assert!(ready.await.is_some(), "seed {seed} at {entrance} is not ready\n{}", self.logs());
        }
    }

    fn logs(&self) -> String {
        [&self.envoy, &self.proxy, &self.control_plane].map(Process::stderr).join("\n")
    }
}

#[tokio::test]
async fn the_same_requests_come_to_the_same_end() {
    for known in Known::ALL {
        assert!(LIST.contains(known.heading()), "{known:?} is not told in docs/envoy-differences.md");
    }
    let Some(sides) = Sides::start().await else { return };
    let (mut differences, mut met, mut ends) = (Vec::new(), Vec::new(), [0_usize; 4]);
    for seed in SEEDS {
        let mut pair = Pair::connect(sides.entrances(seed)).await;
        let mut rng = Rng::with_seed(seed.wrapping_mul(0x9E37_79B9));
        for number in 0..REQUESTS {
            let asked = generate::asked(&mut rng);
            let compared = pair.compare(&asked).await;
            ends[usize::from(compared.ours.status / 100 - 2).min(3)] += 1;
            match compared.known {
                Ok(known) => met.extend(known),
                Err(Unknown) => {
                    let Compared { envoy, ours, .. } = compared;
                    let asked = format!("seed {seed}, request {number}: {asked:?}");
                    differences.push(format!("{asked}\n  Envoy {envoy:?}\n  ours  {ours:?}"));
                }
            }
        }
    }
    let told = differences.iter().take(10).cloned().collect::<Vec<_>>().join("\n");
    assert!(
        differences.is_empty(),
        "{} differences, among them\n{told}\n{}",
        differences.len(),
        rules_of(&told)
    );
    // Otherwise nothing was compared: answers of applications, redirects, no route and no backend.
    assert!(ends.iter().all(|number| *number > 20), "{ends:?}");
    for known in Known::ALL {
        assert!(
            met.contains(&known),
            "{known:?} does not come up any more: take it out of docs/envoy-differences.md"
        );
    }
}

/// A connection to each side.
struct Pair {
    envoy: Client,
    ours: Client,
}

/// Two ends of one request.
struct Compared {
    envoy: End,
    ours: End,
    /// What sets them apart, if anything does.
    known: Result<Option<Known>, Unknown>,
}

/// A difference that is not in the list.
#[derive(Debug)]
struct Unknown;

impl Pair {
    async fn connect([envoy, ours]: [SocketAddr; 2]) -> Self {
        let envoy = Client::connect(envoy, Version::HTTP_11).await.unwrap();
        Self { envoy, ours: Client::connect(ours, Version::HTTP_11).await.unwrap() }
    }

    async fn compare(&mut self, asked: &Asked) -> Compared {
        let envoy = send(&mut self.envoy, asked).await;
        let ours = send(&mut self.ours, asked).await;
        let mut known = judge(&envoy, &ours);
        // What our proxy understands of a request, Envoy understands when it is said more plainly.
        let both = asked.decoded().and_then(|decoded| decoded.joined());
        let plainer = [
            (asked.decoded(), Known::EncodedQuery),
            (asked.joined(), Known::RepeatedFields),
            (both, Known::RepeatedFields),
        ];
        for (plainer, why) in plainer {
            if let (Err(Unknown), Some(plainer)) = (&known, plainer) {
                let envoy = send(&mut self.envoy, &plainer).await.without_what_was_asked();
                known = judge(&envoy, &ours.clone().without_what_was_asked()).map(|_| Some(why));
            }
        }
        Compared { envoy, ours, known }
    }
}

async fn send(client: &mut Client, asked: &Asked) -> End {
    End::of(&client.send(asked.request()).await.unwrap())
}

/// The known difference between two ends, if there is any.
fn judge(envoy: &End, ours: &End) -> Result<Option<Known>, Unknown> {
    if envoy == ours {
        return Ok(None);
    }
    let without_fields = End { fields: Vec::new(), ..envoy.clone() };
    if ours.status == 500 && without_fields == *ours {
        return Ok(Some(Known::OwnErrors));
    }
    let location = without_implied_port(&envoy.location);
    match (End { location, ..envoy.clone() } == *ours) {
        true => Ok(Some(Known::WellKnownPort)),
        false => Err(Unknown),
    }
}

fn without_implied_port(location: &str) -> String {
    let Some((scheme, rest)) = location.split_once("://") else { return location.to_owned() };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let port = if scheme == "https" { ":443" } else { ":80" };
    format!("{scheme}://{}{path}", host.strip_suffix(port).unwrap_or(host))
}

/// The rules of the first seed that failed.
fn rules_of(told: &str) -> String {
    let seed = told.strip_prefix("seed ").and_then(|rest| rest.split(',').next()?.parse().ok());
    seed.map(|seed| generate::rules(&mut Rng::with_seed(seed)).join("\n")).unwrap_or_default()
}

/// Envoy reads JSON as well as YAML. It has a listener for each Service.
fn bootstrap_file(mesh: &Mesh, xds: SocketAddr, subnet: &Subnet) -> PathBuf {
    let ads = json!({"ads": {}, "resource_api_version": "V3"});
    let listeners: Vec<_> =
        SEEDS.map(|seed| listener(seed, subnet.address(9, port_of(seed)), &ads)).collect();
    let bootstrap = json!({
        "node": {"id": "envoy~127.0.0.1~gateway.shop~shop.svc.cluster.local", "cluster": "gateway"},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "control-plane"}}],
            },
            "cds_config": ads,
        },
        "static_resources": {"listeners": listeners, "clusters": [control_plane_cluster(xds)]},
    });
    let file = mesh.path().join("envoy.json");
    fs::write(&file, bootstrap.to_string()).unwrap();
    file
}

fn listener(seed: u64, address: SocketAddr, ads: &Value) -> Value {
    let name = format!("s{seed}");
    let router = json!({"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}});
    let manager = json!({
        "@type": MANAGER,
        "stat_prefix": name,
        "rds": {"route_config_name": format!("{name}.shop.svc.cluster.local:{PORT}"), "config_source": ads},
        "http_filters": [router],
    });
    let filter = json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": manager});
    json!({"name": name, "address": socket_address(address), "filter_chains": [{"filters": [filter]}]})
}

fn control_plane_cluster(xds: SocketAddr) -> Value {
    let http2 = json!({
        "@type": format!("type.googleapis.com/{HTTP_OPTIONS}"),
        "explicit_http_config": {"http2_protocol_options": {}},
    });
    let endpoint = json!({"endpoint": {"address": socket_address(xds)}});
    json!({
        "name": "control-plane",
        "type": "STATIC",
        "typed_extension_protocol_options": {HTTP_OPTIONS: http2},
        "load_assignment": {"cluster_name": "control-plane", "endpoints": [{"lb_endpoints": [endpoint]}]},
    })
}

fn socket_address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}
