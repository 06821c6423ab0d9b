//! `outrigger authz` beside live sidecars: `check` says what they do, and what `learn` makes of their logs lets in what was
//! seen and nothing else.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::net::SocketAddr;

use http::{Method, Request, Version};
use outrigger_tests::client::{self, Client, empty};
use outrigger_tests::eventually;
use outrigger_tests::origin::Origin;
use outrigger_tests::ports::Subnet;
use outrigger_tests::process::Program;
use outrigger_tests::town::{PATIENCE, Sidecar, Town, access_log, inbound, meshed, outbound, service};
use serde_json::Value;

/// Any port on loopback.
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
/// Who calls.
const CALLERS: [&str; 2] = ["web", "app"];

/// The sidecars of two callers and of `files`, behind which is an application.
struct Shop {
    town: Town,
    entrances: Vec<SocketAddr>,
    files: Sidecar,
    _callers: Vec<Sidecar>,
    _origin: Origin,
    base: String,
}

impl Shop {
    async fn start() -> Self {
        let subnet = Subnet::claim();
        let address = subnet.address(2, 9080);
        let entrances = vec![subnet.address(1, 9001), subnet.address(3, 9001)];
        let base = service("files", "http") + &meshed("files-1", "files", address);
        let town = Town::start(subnet, &base).await.unwrap();
        let origin = Origin::start("files", ANY).await.unwrap();
        let files = town.sidecar("files", &[inbound(address, origin.address())]).await.unwrap();
        let mut callers = Vec::new();
        for (caller, entrance) in CALLERS.into_iter().zip(&entrances) {
            callers.push(town.sidecar(caller, &[outbound(*entrance, "files")]).await.unwrap());
        }
        Self { town, entrances, files, _callers: callers, _origin: origin, base }
    }

    /// Puts policies in force: they are when the answer to a request that they all know is another one.
    async fn apply(&self, policies: &str) {
        self.town.rewrite(&(self.base.clone() + policies)).unwrap();
        let in_force = eventually(PATIENCE, async || {
            let answer = client::get(self.entrances[0], "/never-allowed").await.ok()?;
            (answer.status == 403).then_some(())
        });
        assert!(in_force.await.is_some(), "never in force: {}", self.town.control_plane.stderr());
    }

    /// Whether a live sidecar lets a request in.
    async fn is_let_in(&self, caller: usize, (method, path): (&str, &str)) -> bool {
        let mut client = Client::connect(self.entrances[caller], Version::HTTP_11).await.unwrap();
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = Request::builder().method(method).uri(path).header("host", "files.shop:9080");
        let answer = client.send(request.body(empty()).unwrap()).await.unwrap();
        answer.status != 403
    }

    /// What `outrigger authz check` says of it.
    async fn is_said_to_be_let_in(
        &self,
        policies: &str,
        caller: usize,
        (method, path): (&str, &str),
    ) -> bool {
        let file = self.town.control_plane.directory().join("check.yaml");
        std::fs::write(&file, self.base.clone() + policies).unwrap();
        let identity = format!("spiffe://cluster.local/ns/shop/sa/{}", CALLERS[caller]);
        let request = format!("{method} {path}");
        let words =
            ["authz", "check", "-f", file.to_str().unwrap(), "--to", "Service/shop/files:9080", "--from"];
        let program = Program::of_workspace("outrigger").args(words);
        let answer =
            program.args([identity.as_str(), "-o", "json", &request]).output(PATIENCE).await.unwrap();
        let answers: Value = serde_json::from_str(&answer).unwrap();
        answers[0]["verdict"] == "allowed"
    }
}

fn policy(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: outrigger.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{targetRefs: [{{kind: Service, name: files}}], {spec}}}\n"
    )
}

#[tokio::test]
async fn check_and_a_live_sidecar_agree() {
    let shop = Shop::start().await;
    let web = "spiffe://cluster.local/ns/shop/sa/web";
    let policies = policy(
        "allow",
        &format!(
            "rules: [{{from: [{{identities: ['{web}']}}], to: [{{paths: [/api/*]}}]}}, {{to: [{{methods: [GET], paths: [/open]}}]}}]"
        ),
    ) + &policy("deny", "action: Deny, rules: [{to: [{paths: [/api/admin/*]}]}]");
    shop.apply(&policies).await;
    let mut let_in = 0;
    for caller in [0, 1] {
        for request in [
            ("GET", "/api/a"),
            ("POST", "/api/a"),
            ("GET", "/open"),
            ("POST", "/open"),
            ("GET", "/api/admin/a"),
            ("GET", "/api//admin/a"),
            ("GET", "/api/x/..%2Fadmin/a"),
            ("GET", "/api/ADMIN/a"),
            ("GET", "/api/%61dmin/a"),
            ("GET", "/api/caf%C3%A9"),
        ] {
            let live = shop.is_let_in(caller, request).await;
            let said = shop.is_said_to_be_let_in(&policies, caller, request).await;
            assert_eq!(said, live, "{} {request:?}", CALLERS[caller]);
            let_in += u32::from(live);
        }
    }
    // web: a twice, open and café; app: open.
    assert_eq!(let_in, 5);
}

#[tokio::test]
async fn what_is_learned_lets_in_what_was_seen_and_nothing_else() {
    let shop = Shop::start().await;
    let seen = [
        (0, ("GET", "/users/1")),
        (0, ("GET", "/users/2")),
        (0, ("POST", "/orders")),
        (1, ("GET", "/healthz")),
    ];
    for (caller, request) in seen {
        assert!(shop.is_let_in(caller, request).await);
    }
    let logged = eventually(PATIENCE, async || {
        let lines = access_log(&shop.files);
        (lines.iter().filter(|line| line["direction"] == "inbound").count() >= seen.len()).then_some(())
    });
    assert!(logged.await.is_some(), "{}", shop.files.stderr());
    let file = shop.town.control_plane.directory().join("files.log");
    std::fs::write(&file, shop.files.stderr()).unwrap();
    let program = Program::of_workspace("outrigger").args(["authz", "learn", "-f", file.to_str().unwrap()]);
    let learned = program.output(PATIENCE).await.unwrap();
    assert!(learned.contains("# Service/shop/files: 2 callers with an identity"), "{learned}");
    shop.apply(&learned).await;
    for (caller, request) in seen {
        assert!(shop.is_let_in(caller, request).await, "{request:?}\n{learned}");
    }
    assert!(shop.is_let_in(0, ("GET", "/users/99")).await, "{learned}");
    for (caller, request) in [
        (1, ("GET", "/users/1")),
        (0, ("GET", "/orders")),
        (0, ("GET", "/healthz")),
        (1, ("POST", "/orders")),
    ] {
        assert!(!shop.is_let_in(caller, request).await, "{request:?}\n{learned}");
    }
}
