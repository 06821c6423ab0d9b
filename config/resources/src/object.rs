//! What every object has: a kind, a name and metadata; and the one enum that holds any object.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::authorization_policy::AuthorizationPolicy;
use crate::backend_policy::BackendPolicy;
use crate::backend_tls_policy::BackendTlsPolicy;
use crate::external_service::ExternalService;
use crate::inbound_policy::InboundPolicy;
use crate::kubernetes::{ConfigMap, EndpointSlice, Namespace, Pod, Service, ServiceAccount};
use crate::mesh_config::MeshConfig;
use crate::reference_grant::ReferenceGrant;
use crate::route::{GrpcRoute, HttpRoute, TcpRoute, TlsRoute};
use crate::route_policy::RoutePolicy;
use crate::workload::Workload;
use crate::x_backend_traffic_policy::XBackendTrafficPolicy;

/// Any object this version reads and applies.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "each variant is the kind of its name")]
pub enum Object {
    Namespace(Namespace),
    Service(Service),
    EndpointSlice(EndpointSlice),
    Pod(Pod),
    ServiceAccount(ServiceAccount),
    ConfigMap(ConfigMap),
    Workload(Workload),
    ExternalService(ExternalService),
    HttpRoute(HttpRoute),
    GrpcRoute(GrpcRoute),
    TcpRoute(TcpRoute),
    TlsRoute(TlsRoute),
    BackendPolicy(BackendPolicy),
    RoutePolicy(RoutePolicy),
    BackendTlsPolicy(BackendTlsPolicy),
    XBackendTrafficPolicy(XBackendTrafficPolicy),
    InboundPolicy(InboundPolicy),
    AuthorizationPolicy(AuthorizationPolicy),
    MeshConfig(MeshConfig),
    ReferenceGrant(ReferenceGrant),
}

/// The kinds this version knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "each variant is the kind of its name")]
pub enum Kind {
    Namespace,
    Service,
    EndpointSlice,
    Pod,
    ServiceAccount,
    ConfigMap,
    Workload,
    ExternalService,
    HttpRoute,
    GrpcRoute,
    TcpRoute,
    BackendPolicy,
    MeshConfig,
    TlsRoute,
    ReferenceGrant,
    BackendTlsPolicy,
    XBackendTrafficPolicy,
    RoutePolicy,
    InboundPolicy,
    AuthorizationPolicy,
}

/// The part of `metadata` that we read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Unique within kind and namespace.
    pub name: Arc<str>,
    /// `default` when none is written; empty for kinds that have no namespace.
    pub namespace: Arc<str>,
    /// What selectors see.
    pub labels: BTreeMap<String, String>,
    /// What people and tools attach.
    pub annotations: BTreeMap<String, String>,
    /// When the object was made; the older of two in conflict wins.
    pub creation_timestamp: Option<SystemTime>,
    /// Set while an object is on its way out (a Pod that terminates).
    pub deletion_timestamp: Option<SystemTime>,
    /// Counts changes of the spec; 0 where nobody counts.
    pub generation: i64,
}

/// Which object. Displayed as `HTTPRoute/shop/reviews`, or `Namespace/shop` where there is no namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// Its kind, which implies its group.
    pub kind: Kind,
    /// Its namespace, empty for kinds that have none.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// Whether a selector picks what carries these labels. An empty selector picks nothing, as for a Service.
pub fn select(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

impl Object {
    /// Its metadata.
    pub fn meta(&self) -> &Meta {
        match self {
            Self::Namespace(object) => &object.meta,
            Self::Service(object) => &object.meta,
            Self::EndpointSlice(object) => &object.meta,
            Self::Pod(object) => &object.meta,
            Self::ServiceAccount(object) => &object.meta,
            Self::Workload(object) => &object.meta,
            Self::ExternalService(object) => &object.meta,
            Self::HttpRoute(object) => &object.meta,
            Self::GrpcRoute(object) => &object.meta,
            Self::TcpRoute(object) => &object.meta,
            Self::TlsRoute(object) => &object.meta,
            Self::BackendPolicy(object) => &object.meta,
            Self::RoutePolicy(object) => &object.meta,
            Self::BackendTlsPolicy(object) => &object.meta,
            Self::XBackendTrafficPolicy(object) => &object.meta,
            Self::ConfigMap(object) => &object.meta,
            Self::InboundPolicy(object) => &object.meta,
            Self::AuthorizationPolicy(object) => &object.meta,
            Self::MeshConfig(object) => &object.meta,
            Self::ReferenceGrant(object) => &object.meta,
        }
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Namespace(_) => Kind::Namespace,
            Self::Service(_) => Kind::Service,
            Self::EndpointSlice(_) => Kind::EndpointSlice,
            Self::Pod(_) => Kind::Pod,
            Self::ServiceAccount(_) => Kind::ServiceAccount,
            Self::Workload(_) => Kind::Workload,
            Self::ExternalService(_) => Kind::ExternalService,
            Self::HttpRoute(_) => Kind::HttpRoute,
            Self::GrpcRoute(_) => Kind::GrpcRoute,
            Self::TcpRoute(_) => Kind::TcpRoute,
            Self::TlsRoute(_) => Kind::TlsRoute,
            Self::BackendPolicy(_) => Kind::BackendPolicy,
            Self::RoutePolicy(_) => Kind::RoutePolicy,
            Self::BackendTlsPolicy(_) => Kind::BackendTlsPolicy,
            Self::XBackendTrafficPolicy(_) => Kind::XBackendTrafficPolicy,
            Self::ConfigMap(_) => Kind::ConfigMap,
            Self::InboundPolicy(_) => Kind::InboundPolicy,
            Self::AuthorizationPolicy(_) => Kind::AuthorizationPolicy,
            Self::MeshConfig(_) => Kind::MeshConfig,
            Self::ReferenceGrant(_) => Kind::ReferenceGrant,
        }
    }

    /// Whether what is written could not be read, and this is in its place to refuse what it is about.
    pub fn is_stand_in(&self) -> bool {
        match self {
            Self::InboundPolicy(object) => object.is_stand_in,
            Self::AuthorizationPolicy(object) => object.is_stand_in,
            _ => false,
        }
    }

    /// What it is called.
    pub fn reference(&self) -> ObjectRef {
        let meta = self.meta();
        ObjectRef { kind: self.kind(), namespace: meta.namespace.clone(), name: meta.name.clone() }
    }
}

/// The API group of Kubernetes' own first objects.
pub const CORE_GROUP: &str = "";
/// The API group of EndpointSlice.
pub const DISCOVERY_GROUP: &str = "discovery.k8s.io";
/// The API group of Gateway API.
pub const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";
/// The API group of Gateway API's experiments.
pub const GATEWAY_X_GROUP: &str = "gateway.networking.x-k8s.io";
/// Our own API group.
pub const OUTRIGGER_GROUP: &str = "outrigger.dev";

const GATEWAY_VERSIONS: &[&str] = &["v1", "v1beta1", "v1alpha2", "v1alpha3"];
const OUTRIGGER_VERSIONS: &[&str] = &["v1alpha1"];

impl Kind {
    /// Whether objects of the kind keep others out, so that one that cannot be read must not be as if it were not there.
    pub fn protects(self) -> bool {
        matches!(self, Self::InboundPolicy | Self::AuthorizationPolicy)
    }

    /// Every kind, in the order of the enum.
    pub const ALL: [Self; 20] = [
        Self::Namespace,
        Self::Service,
        Self::EndpointSlice,
        Self::Pod,
        Self::ServiceAccount,
        Self::ConfigMap,
        Self::Workload,
        Self::ExternalService,
        Self::HttpRoute,
        Self::GrpcRoute,
        Self::TcpRoute,
        Self::BackendPolicy,
        Self::MeshConfig,
        Self::TlsRoute,
        Self::ReferenceGrant,
        Self::BackendTlsPolicy,
        Self::XBackendTrafficPolicy,
        Self::RoutePolicy,
        Self::InboundPolicy,
        Self::AuthorizationPolicy,
    ];

    /// The kind by API group and name.
    pub fn find(group: &str, name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.group() == group && kind.name() == name)
    }

    /// The name as users write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Pod => "Pod",
            Self::ServiceAccount => "ServiceAccount",
            Self::ConfigMap => "ConfigMap",
            Self::Workload => "Workload",
            Self::ExternalService => "ExternalService",
            Self::HttpRoute => "HTTPRoute",
            Self::GrpcRoute => "GRPCRoute",
            Self::TcpRoute => "TCPRoute",
            Self::BackendPolicy => "BackendPolicy",
            Self::MeshConfig => "MeshConfig",
            Self::TlsRoute => "TLSRoute",
            Self::ReferenceGrant => "ReferenceGrant",
            Self::BackendTlsPolicy => "BackendTLSPolicy",
            Self::XBackendTrafficPolicy => "XBackendTrafficPolicy",
            Self::RoutePolicy => "RoutePolicy",
            Self::InboundPolicy => "InboundPolicy",
            Self::AuthorizationPolicy => "AuthorizationPolicy",
        }
    }

    /// The API group, empty for Kubernetes' own first objects.
    pub fn group(self) -> &'static str {
        match self {
            Self::Namespace | Self::Service | Self::Pod | Self::ServiceAccount | Self::ConfigMap => {
                CORE_GROUP
            }
            Self::EndpointSlice => DISCOVERY_GROUP,
            Self::HttpRoute | Self::GrpcRoute | Self::TcpRoute | Self::TlsRoute => GATEWAY_GROUP,
            Self::ReferenceGrant | Self::BackendTlsPolicy => GATEWAY_GROUP,
            Self::XBackendTrafficPolicy => GATEWAY_X_GROUP,
            Self::Workload | Self::ExternalService | Self::BackendPolicy | Self::MeshConfig => {
                OUTRIGGER_GROUP
            }
            Self::RoutePolicy | Self::InboundPolicy | Self::AuthorizationPolicy => OUTRIGGER_GROUP,
        }
    }

    /// The versions of the group that we read.
    pub fn versions(self) -> &'static [&'static str] {
        match self.group() {
            GATEWAY_GROUP => GATEWAY_VERSIONS,
            GATEWAY_X_GROUP | OUTRIGGER_GROUP => OUTRIGGER_VERSIONS,
            _ => &["v1"],
        }
    }

    /// Whether objects of the kind live in a namespace.
    pub fn is_namespaced(self) -> bool {
        self != Self::Namespace
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind.is_namespaced() {
            true => write!(f, "{}/{}/{}", self.kind, self.namespace, self.name),
            false => write!(f, "{}/{}", self.kind, self.name),
        }
    }
}
