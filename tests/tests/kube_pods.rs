//! Pods of the test node run as a kubelet runs them: reachable, in order, as whom they should be, and ended gracefully.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use outrigger_tests::counterparts::{self, Counterpart};
use outrigger_tests::kube::node::{COUNTERPARTS, Images, Node};
use serde_json::json;

/// Answers every request with its host name, says when it is told to end, and takes a moment for it.
const ECHO: &str = r#"
import http.server, os, signal, sys, threading
class Echo(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = os.environ["HOSTNAME"].encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
server = http.server.ThreadingHTTPServer(("", 8080), Echo)
def end(*_):
    print("ending", flush=True)
    threading.Thread(target=server.shutdown).start()
signal.signal(signal.SIGTERM, end)
print("serving", flush=True)
server.serve_forever()
"#;

#[tokio::test]
async fn pods_run_as_their_specs_say() {
    let wanted = [&COUNTERPARTS[..], &[Counterpart::Curl, Counterpart::GrpcPython]].concat();
    let Some(found) = counterparts::need_cluster(&wanted) else { return };
    let python = found.path(Counterpart::GrpcPython).display().to_string();
    let images = Images::default().command("test/echo", &[&python, "-c", ECHO], 1000).command(
        "test/shell",
        &["sh", "-c"],
        1000,
    );
    let node = Node::start(&found, images).await.unwrap();
    services_lead_to_pods(&node).await;
    containers_are_as_their_specs_say(&node).await;
    what_an_api_server_gives_is_there(&node).await;
    init_containers_and_sidecars_come_in_order(&node).await;
    a_job_ends_with_its_sidecar(&node).await;
    deletion_is_graceful(&node).await;
}

async fn services_lead_to_pods(node: &Node) {
    node.apply(ECHO_DEPLOYMENT).await.unwrap();
    node.apply(CLIENT).await.unwrap();
    let pods = node.all_ready("default", "app=echo", 2).await.unwrap();
    node.ready("default", "client").await.unwrap();
    for name in &pods {
        let pod = node.get_json("pod", "default", name).await.unwrap();
        let url = format!("http://{}:8080/", pod["status"]["podIP"].as_str().unwrap());
        assert_eq!(curl(node, &url).await, *name);
    }
    // Both, by name and by the address of the Service.
    let is_listed = |slices: &[serde_json::Value]| {
        slices.iter().any(|slice| slice["endpoints"].as_array().is_some_and(|all| all.len() == 2))
    };
    let of_echo = "kubernetes.io/service-name=echo";
    node.wait_for_list("endpointslices", "default", of_echo, is_listed).await.unwrap();
    for url in ["http://echo/", "http://echo.default.svc/", "http://echo.default.svc.cluster.local/"] {
        let patient = ["--retry", "20", "--retry-all-errors", "--retry-delay", "1"];
        let words = [&["curl", "-sS", "--noproxy", "*"], &patient[..], &[url]].concat();
        let said = node.exec(["default", "client", "main"], &words).await.unwrap();
        assert!(pods.contains(&said), "{said}");
    }
}

async fn containers_are_as_their_specs_say(node: &Node) {
    let main = ["default", "client", "main"];
    assert_eq!(node.exec(main, &["id", "-u"]).await.unwrap().trim(), "1234");
    let status = node.exec(main, &["cat", "/proc/self/status"]).await.unwrap();
    assert!(status.contains("CapBnd:\t0000000000000000"), "{status}");
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    let env = node.exec(main, &["env"]).await.unwrap();
    for line in ["WHO=client of default", "APP=client", "KUBERNETES_SERVICE_HOST=10.96.0.1"] {
        assert!(env.lines().any(|found| found == line), "{line}: {env}");
    }
    let refused = node.exec(main, &["touch", "/usr/file"]).await.unwrap_err().to_string();
    assert!(refused.contains("Read-only file system"), "{refused}");
    node.exec(main, &["touch", "/var/lib/client/file"]).await.unwrap();
}

async fn what_an_api_server_gives_is_there(node: &Node) {
    let main = ["default", "client", "main"];
    let dir = "/var/run/secrets/kubernetes.io/serviceaccount";
    let token = node.exec(main, &["cat", &format!("{dir}/token")]).await.unwrap();
    assert_eq!(token.matches('.').count(), 2, "a JWT: {token}");
    // The account may ask who it is, at the address and under the certificate of the cluster.
    let ask = format!(
        "curl -sS --noproxy '*' --cacert {dir}/ca.crt -H \"Authorization: Bearer $(cat {dir}/token)\" \
         -H 'content-type: application/json' -d '{}' \
         https://kubernetes.default.svc/apis/authentication.k8s.io/v1/selfsubjectreviews",
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"})
    );
    let said = node.exec(main, &["sh", "-c", &ask]).await.unwrap();
    assert!(said.contains("system:serviceaccount:default:default"), "{said}");
    assert_eq!(node.exec(main, &["cat", "/etc/client/greeting"]).await.unwrap(), "hello");
}

async fn init_containers_and_sidecars_come_in_order(node: &Node) {
    node.apply(ORDERED).await.unwrap();
    node.ready("default", "ordered").await.unwrap();
    let log = node.exec(["default", "ordered", "main"], &["cat", "/log/log"]).await.unwrap();
    assert_eq!(log, "init\nsidecar\nmain\n");
    let rights = node.logs(["default", "ordered", "init"]);
    assert!(rights.contains("CapBnd:\t0000000000003000"), "NET_ADMIN and NET_RAW, no other: {rights}");
}

async fn a_job_ends_with_its_sidecar(node: &Node) {
    node.apply(JOB).await.unwrap();
    let job = node.wait_for("job", "default", "sum", |job| job["status"]["succeeded"] == 1).await.unwrap();
    assert_eq!(job["status"]["failed"], serde_json::Value::Null, "{job:#}");
}

async fn deletion_is_graceful(node: &Node) {
    let pods = node.list_json("pods", "default", "app=echo").await.unwrap();
    let name = pods[0]["metadata"]["name"].as_str().unwrap();
    let address = pods[0]["status"]["podIP"].as_str().unwrap();
    node.kubectl(&["delete", "pod", name, "--wait=false"]).await.unwrap();
    node.logged(["default", name, "main"], "/hook").await.unwrap();
    // While its hook holds it, it still answers.
    assert_eq!(curl(node, &format!("http://{address}:8080/")).await, name);
    node.logged(["default", name, "main"], "ending").await.unwrap();
    node.kubectl(&["wait", "--for=delete", &format!("pod/{name}"), "--timeout=30s"]).await.unwrap();
    node.all_ready("default", "app=echo", 2).await.unwrap();
}

async fn curl(node: &Node, url: &str) -> String {
    let curl = ["curl", "-sS", "--noproxy", "*", "--max-time", "10", url];
    node.exec(["default", "client", "main"], &curl).await.unwrap()
}

const ECHO_DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: echo, namespace: default}
spec:
  replicas: 2
  selector: {matchLabels: {app: echo}}
  template:
    metadata: {labels: {app: echo}}
    spec:
      containers:
      - name: main
        image: test/echo:1
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {port: http, path: /}, periodSeconds: 1}
        lifecycle: {preStop: {exec: {command: [sh, -c, 'curl -sS http://localhost:8080/hook; sleep 2']}}}
---
apiVersion: v1
kind: Service
metadata: {name: echo, namespace: default}
spec: {selector: {app: echo}, ports: [{name: http, port: 80, targetPort: http}]}
";

const CLIENT: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: client, namespace: default}
data: {greeting: hello}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: default, labels: {app: client}}
spec:
  volumes: [{name: greetings, configMap: {name: client}}, {name: state, emptyDir: {medium: Memory}}]
  containers:
  - name: main
    image: test/shell
    args: ['sleep 1000']
    env:
    - {name: APP, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['app']\"}}}
    - {name: SPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
    - {name: WHO, value: $(APP) of $(SPACE)}
    volumeMounts: [{name: greetings, mountPath: /etc/client}, {name: state, mountPath: /var/lib/client}]
    securityContext:
      runAsUser: 1234
      runAsNonRoot: true
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: {drop: [ALL]}
";

const ORDERED: &str = "
apiVersion: v1
kind: Pod
metadata: {name: ordered, namespace: default}
spec:
  volumes: [{name: log, emptyDir: {}}]
  initContainers:
  - name: init
    image: test/shell
    args: ['echo init >> /log/log; grep Cap /proc/self/status']
    securityContext: {runAsUser: 0, capabilities: {drop: [ALL], add: [NET_ADMIN, NET_RAW]}}
    volumeMounts: [{name: log, mountPath: /log}]
  - name: sidecar
    image: test/shell
    restartPolicy: Always
    args: ['sleep 1; echo sidecar >> /log/log; exec sleep 1000']
    securityContext: {runAsUser: 0}
    startupProbe: {exec: {command: [grep, sidecar, /log/log]}, periodSeconds: 1, failureThreshold: 30}
    volumeMounts: [{name: log, mountPath: /log}]
  containers:
  - name: main
    image: test/shell
    args: ['echo main >> /log/log; exec sleep 1000']
    securityContext: {runAsUser: 0}
    readinessProbe: {exec: {command: [grep, main, /log/log]}, periodSeconds: 1}
    volumeMounts: [{name: log, mountPath: /log}]
";

const JOB: &str = "
apiVersion: batch/v1
kind: Job
metadata: {name: sum, namespace: default}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      initContainers: [{name: sidecar, image: test/shell, restartPolicy: Always, args: ['exec sleep 1000']}]
      containers: [{name: main, image: test/shell, args: ['echo $((1 + 2))']}]
";
