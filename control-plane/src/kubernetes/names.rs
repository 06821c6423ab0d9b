//! Names of our objects in a cluster. People script against them: changing one is a change of the product.

/// The namespace that an installation lives in unless another is chosen.
pub const DEFAULT_NAMESPACE: &str = "outrigger-system";
/// The Deployment, Service, ServiceAccount, ClusterRole, ClusterRoleBinding, Role, RoleBinding and
/// PodDisruptionBudget of the control plane.
pub const CONTROL_PLANE: &str = "outrigger-control-plane";
/// Who writes fields, as server-side apply has it.
pub const FIELD_MANAGER: &str = "outrigger-control-plane";
/// The Lease that the replica holds which writes status.
pub const LEADER_LEASE: &str = "outrigger-control-plane-leader";
/// The Secret with the root: `tls.crt`, `tls.key` and `ca.crt`, as cert-manager writes them.
pub const ROOT_SECRET: &str = "outrigger-ca";
/// The ConfigMap with the roots that workloads trust, in every namespace with meshed pods.
pub const TRUST_BUNDLE: &str = "outrigger-trust-bundle";
/// The key of [`TRUST_BUNDLE`] and of [`ROOT_SECRET`] that holds certificates of authorities.
pub const AUTHORITIES_KEY: &str = "ca.crt";
/// The MutatingWebhookConfiguration of the injector.
pub const INJECTOR_WEBHOOK: &str = "outrigger-injector";
/// The webhook of [`INJECTOR_WEBHOOK`] for namespaces that are labelled.
pub const INJECT_NAMESPACE_WEBHOOK: &str = "namespace.inject.outrigger.dev";
/// The webhook of [`INJECTOR_WEBHOOK`] for single pods that ask by annotation.
pub const INJECT_POD_WEBHOOK: &str = "pod.inject.outrigger.dev";
/// The ValidatingWebhookConfiguration of our kinds.
pub const VALIDATOR_WEBHOOK: &str = "outrigger-validator";
/// The webhook of [`VALIDATOR_WEBHOOK`] for all kinds but MeshConfig.
pub const VALIDATE_WEBHOOK: &str = "validate.outrigger.dev";
/// The webhook of [`VALIDATOR_WEBHOOK`] for MeshConfig, which an installation applies before there is a control plane.
pub const VALIDATE_MESH_CONFIG_WEBHOOK: &str = "mesh-config.validate.outrigger.dev";

/// The audience of the tokens that prove who a workload is.
pub const TOKEN_AUDIENCE: &str = "outrigger";
/// The audience of the tokens with which the control plane's JSON API is read from other hosts.
pub const API_AUDIENCE: &str = "outrigger-api";

/// The image of the sidecar and of the redirect step, without its tag.
pub const PROXY_IMAGE: &str = "outrigger/outrigger-proxy";

/// The container that is the sidecar.
pub use outrigger_resources::kubernetes::PROXY_CONTAINER;
/// The init container that programs packet redirection.
pub const REDIRECT_CONTAINER: &str = "outrigger-redirect";
/// The label of a namespace and the annotation of a pod that ask for a sidecar: `enabled` or `disabled`.
pub const INJECT: &str = "outrigger.dev/inject";
/// The annotation that the injector leaves on a pod: the version that was injected.
pub const INJECTED: &str = "outrigger.dev/injected";
/// The volume of a pod with the token that proves who it is.
pub const TOKEN_VOLUME: &str = "outrigger-token";
/// The volume of a pod with the roots that it trusts.
pub const TRUST_BUNDLE_VOLUME: &str = "outrigger-trust-bundle";
/// The volume of a pod with the last good configuration of its sidecar.
pub const STATE_VOLUME: &str = "outrigger-state";
/// The name of the sidecar's port for metrics, by which a PodMonitor finds it.
pub const METRICS_PORT_NAME: &str = "proxy-metrics";

/// The ports of a sidecar: admin, captured outbound and inbound connections, metrics, health.
pub const PROXY_PORTS: [u16; 5] = [15000, 15001, 15006, PROXY_METRICS_PORT, PROXY_HEALTH_PORT];
/// The port of a sidecar's metrics, the application's merged in.
pub const PROXY_METRICS_PORT: u16 = 15020;
/// The port on which a sidecar and its application say how they are.
pub const PROXY_HEALTH_PORT: u16 = 15021;
/// The user and group id of the sidecar, whose traffic is never redirected.
pub const PROXY_UID: i64 = 1337;

/// The port of the control plane's Service for discovery and certificates, over TLS.
pub const XDS_TLS_PORT: u16 = 15012;
/// The port of metrics, health and the JSON API.
pub const HTTP_PORT: u16 = 15014;
/// The port of the webhooks in the control plane's pods; its Service has it as 443.
pub const WEBHOOK_PORT: u16 = 15017;
