//! TLS to endpoints without a sidecar, ready for dialling; part of the key of pools.
//!
//! Made once for a cluster, on the control thread. What cannot be verified is never dialled in plaintext instead: every
//! connection fails and says why.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use outrigger_base::tls::{OriginError, OriginTls};
use outrigger_model::upstream_tls::UpstreamTls;

/// What a cluster asks of servers outside the mesh. Two are equal when they ask the same.
#[derive(Debug)]
pub struct Origin {
    config: Arc<UpstreamTls>,
    tls: Result<OriginTls, OriginError>,
}

impl Origin {
    /// Reads the host's authorities where those are trusted: I/O, for the control thread.
    pub(super) fn new(config: Arc<UpstreamTls>) -> Self {
        let system = || {
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                tracing::warn!(%error, "an authority of this host cannot be read");
            }
            found.certs
        };
        let tls = OriginTls::build(&config, system);
        if let Err(error) = &tls {
            let server = &*config.server_name;
            tracing::warn!(server, %error, "no server can be verified: every connection will fail");
        }
        Self { config, tls }
    }

    pub(super) fn config(&self) -> &Arc<UpstreamTls> {
        &self.config
    }

    pub(super) fn tls(&self) -> Result<&OriginTls, OriginError> {
        self.tls.as_ref().map_err(Clone::clone)
    }
}

impl PartialEq for Origin {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config) || self.config == other.config
    }
}

impl Eq for Origin {}

impl Hash for Origin {
    /// The name alone tells most apart; equality looks at everything.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.config.server_name.hash(state);
    }
}
