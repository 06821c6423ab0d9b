//! Who may call, through real sidecars: each word of a policy, every way around one, and what is open when it changes.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::net::SocketAddr;

use http::{Request, Version};
use outrigger_tests::client::{self, Answer, Client, empty, read_until, talk};
use outrigger_tests::eventually;
use outrigger_tests::origin::{Origin, TcpEcho};
use outrigger_tests::ports::Subnet;
use outrigger_tests::town::{
    PATIENCE, Sidecar, Town, ask, inbound, logged, mesh_config, meshed, metric, outbound, service,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[path = "mesh_authorization/lasting.rs"]
mod lasting;
#[path = "mesh_authorization/tricks.rs"]
mod tricks;

/// Any port on loopback.
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
/// Both versions, each of which is kept from end to end.
const VERSIONS: [Version; 2] = [Version::HTTP_11, Version::HTTP_2];
const WEB: &str = "from: [{identities: ['spiffe://cluster.local/ns/shop/sa/web']}]";

/// A server behind its sidecar, and the sidecars of two callers.
struct Shop {
    town: Town,
    /// Where `web` dials the server.
    web: SocketAddr,
    /// Where `batch` does.
    batch: SocketAddr,
    /// Where the sidecar of the server is dialled.
    inbound: SocketAddr,
    files: Sidecar,
    base: String,
    _callers: [Sidecar; 2],
}

impl Shop {
    async fn of(protocol: &str, application: SocketAddr) -> Self {
        let subnet = Subnet::claim();
        let (web, batch) = (subnet.address(1, 9001), subnet.address(3, 9001));
        let address = subnet.address(2, 9080);
        let base = service("files", protocol) + &meshed("files-1", "files", address);
        let town = Town::start(subnet, &base).await.unwrap();
        let files = town.sidecar("files", &[inbound(address, application)]).await.unwrap();
        let callers = [
            town.sidecar("web", &[outbound(web, "files")]).await.unwrap(),
            town.sidecar("batch", &[outbound(batch, "files")]).await.unwrap(),
        ];
        Self { town, web, batch, inbound: address, files, base, _callers: callers }
    }

    /// Replaces all policies with these, each an action and its rules, and waits until they are in force.
    async fn enforce(&self, policies: &[(&str, &str)]) {
        let stamp = fastrand::u32(..);
        let names = (0..policies.len()).map(|place| format!("p{place}-{stamp}"));
        let written = policies.iter().zip(names).map(|((action, rules), name)| policy(&name, action, rules));
        self.town.rewrite(&(self.base.clone() + &written.collect::<String>())).unwrap();
        let count = policies.len();
        let in_force = async || {
            let dump = ask(&self.files, "/admin", "/config_dump").await.ok()?.to_string();
            let dump = dump.split("\"snapshot\"").last()?;
            let stamped = (0..count).all(|place| dump.contains(&format!("p{place}-{stamp}")));
            stamped.then_some(())
        };
        assert!(eventually(PATIENCE, in_force).await.is_some(), "the policies are not in force");
    }

    /// Lets plaintext in.
    fn be_permissive(&self) {
        self.town.mesh.write("mesh.yaml", &mesh_config("Permissive")).unwrap();
    }
}

fn policy(name: &str, action: &str, rules: &str) -> String {
    format!(
        "---\napiVersion: outrigger.dev/v1alpha1\nkind: AuthorizationPolicy\n\
         metadata: {{name: {name}, namespace: shop}}\n\
         spec: {{targetRefs: [{{group: '', kind: Service, name: files}}], action: {action}, rules: [{rules}]}}\n"
    )
}

async fn origin() -> Origin {
    Origin::start("files", ANY).await.unwrap()
}

/// A request in one line, `<caller> <method> <path> [<name>:<value> ...]`, and its answer.
async fn call(shop: &Shop, line: &str, version: Version) -> Answer {
    let words: Vec<&str> = line.split(' ').collect();
    let address = match words[0] {
        "web" => shop.web,
        "batch" => shop.batch,
        _ => shop.inbound,
    };
    let mut request = Request::builder().method(words[1]).uri(words[2]);
    for field in &words[3..] {
        let (name, value) = field.split_once(':').unwrap();
        request = request.header(name, value);
    }
    let mut client = Client::connect(address, version).await.unwrap();
    client.send(request.body(empty()).unwrap()).await.unwrap()
}

#[tokio::test]
async fn each_word_of_a_policy_lets_in_and_keeps_out() {
    let origin = origin().await;
    let shop = Shop::of("http", origin.address()).await;
    let rules = [
        (WEB, "web GET /", "batch GET /"),
        ("from: [{identities: ['spiffe://cluster.local/ns/shop/sa/w*']}]", "web GET /", "batch GET /"),
        ("to: [{methods: [GET, HEAD]}]", "batch GET /", "web POST /echo"),
        ("to: [{paths: [/a/*, /b]}]", "web GET /a/x?y", "web GET /c"),
        ("to: [{paths: [/b]}]", "web GET /b?x", "web GET /b/c"),
        (
            "when: [{header: x-tier, values: [gold, sil*]}]",
            "web GET / x-tier:silver",
            "web GET / x-tier:lead",
        ),
    ];
    for (rule, matching, other) in rules {
        for (action, passing, refused) in [("Allow", matching, other), ("Deny", other, matching)] {
            shop.enforce(&[(action, &format!("{{{rule}}}"))]).await;
            for version in VERSIONS {
                let answer = call(&shop, passing, version).await;
                assert_eq!(answer.status.as_u16(), 200, "{action} {rule}: {passing}");
                let answer = call(&shop, refused, version).await;
                assert_eq!(
                    (answer.status.as_u16(), answer.reason()),
                    (403, "denied"),
                    "{action} {rule}: {refused}"
                );
                let object = answer.header("x-outrigger-reason").rsplit("object=").next().unwrap().to_owned();
                let expected =
                    if action == "Deny" { "AuthorizationPolicy/shop/p0-" } else { "Workload/shop/files" };
                assert!(object.starts_with(expected), "{action} {rule}: {object}");
            }
        }
    }
    let matching_all = [
        "from: [{namespaces: [shop]}]",
        "from: [{sourceIps: [127.0.0.0/8]}]",
        "to: [{ports: [9080]}]",
        "from: [{namespaces: [bank]}, {namespaces: ['sh*']}]",
    ];
    let matching_none = [
        "from: [{namespaces: [bank]}]",
        "from: [{sourceIps: [10.0.0.0/8]}]",
        "to: [{ports: [9081]}]",
        "from: [{namespaces: [shop], sourceIps: [10.0.0.0/8]}]",
    ];
    let both =
        matching_all.map(|rule| (rule, true)).into_iter().chain(matching_none.map(|rule| (rule, false)));
    for (rule, matches) in both {
        for (action, passes) in [("Allow", matches), ("Deny", !matches)] {
            shop.enforce(&[(action, &format!("{{{rule}}}"))]).await;
            let expected = if passes { 200 } else { 403 };
            let answer = call(&shop, "web GET /", Version::HTTP_11).await;
            assert_eq!(answer.status.as_u16(), expected, "{action} {rule}");
        }
    }
}

#[tokio::test]
async fn deny_wins_audit_records_and_everything_is_counted() {
    let origin = origin().await;
    let shop = Shop::of("http", origin.address()).await;
    let all = [
        ("Allow", "{to: [{paths: ['/*']}]}"),
        ("Deny", "{to: [{paths: [/admin/*]}]}"),
        ("Audit", "{to: [{paths: [/seen, /admin/seen]}]}"),
    ];
    shop.enforce(&all).await;
    assert_eq!(call(&shop, "web GET /seen", Version::HTTP_2).await.status.as_u16(), 200);
    assert_eq!(call(&shop, "web GET /unseen", Version::HTTP_2).await.status.as_u16(), 200);
    assert_eq!(call(&shop, "web GET /admin/seen", Version::HTTP_2).await.status.as_u16(), 403);
    let grpc = call(&shop, "web POST /admin/Call content-type:application/grpc", Version::HTTP_2).await;
    assert_eq!((grpc.status.as_u16(), grpc.header("grpc-status")), (200, "7"));
    for (path, recorded) in [("/seen", true), ("/unseen", false), ("/admin/seen", true)] {
        let line = logged(&shop.files, path).await.unwrap();
        let audit = line["audit"].as_str().unwrap_or_default();
        assert_eq!(audit.starts_with("AuthorizationPolicy/shop/p2-"), recorded, "{line}");
    }
    for (name, place, expected) in [("denied", "p1-", 2.0), ("audited", "p2-", 2.0)] {
        let name = format!("outrigger_authorization_{name}_total");
        let labels = [format!("policy=\"AuthorizationPolicy/shop/{place}")];
        let counted = metric(&shop.files, "/metrics", &name, &[&labels[0]]).await.unwrap();
        assert!((counted - expected).abs() < 0.1, "{name}: {counted}");
    }
}
