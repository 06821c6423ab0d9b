//! The connection to the control plane, shared by discovery and certificates, and what proves on each call who calls.
//!
//! It connects when it is used and again when it is lost. Over `https` a valid certificate of ours is the proof: it goes with
//! the TLS handshake, and no token is sent. Everything else is proved by the token, which is read at each call: one that was
//! replaced on disk is used from the next call on. A certificate that the control plane refuses is not shown again.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use outrigger_base::tls::{MAX_ROOTS, MeshTls, client_by_name};
use rustls::ClientConfig;
use rustls::pki_types::{ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::Code;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Endpoint};

use super::refusal::Watched;
use crate::certificates::{LocalIdentity, TrustFile};

/// For the TCP and TLS handshakes together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A silent peer is asked for a sign of life after this.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// A peer that gives none for so long is dead.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest token, in bytes.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// How the control plane is reached. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ControlPlane(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    url: Uri,
    token_file: Option<PathBuf>,
    /// Of `https` alone.
    secure: Option<Secure>,
    lines: Mutex<Lines>,
}

/// What TLS to the control plane is made of, at the time of each handshake.
#[derive(Debug, Clone)]
struct Secure {
    endpoint: Endpoint,
    file: Arc<TrustFile>,
    identity: Arc<LocalIdentity>,
}

#[derive(Debug)]
struct Lines {
    /// What calls go over now.
    current: Line,
    /// A certificate that the control plane does not believe.
    refused: Option<Arc<MeshTls>>,
}

/// A channel, and the certificate it shows.
#[derive(Debug, Clone)]
struct Line {
    channel: Channel,
    certificate: Option<Arc<MeshTls>>,
    /// The control plane ended a handshake because of it.
    is_refused: Arc<AtomicBool>,
}

/// What one call, or one stream, goes over.
#[derive(Debug, Clone)]
pub struct Connection {
    line: Line,
    control_plane: ControlPlane,
}

/// Why the control plane cannot even be tried.
#[derive(Debug, thiserror::Error)]
pub enum ControlPlaneError {
    /// An `https` URL without somebody to trust.
    #[error("--control-plane {0} needs --trust-bundle FILE with the certificate of its authority")]
    NoBundle(Uri),
    /// The URL cannot be dialled.
    #[error("--control-plane {url} cannot be used")]
    Url {
        /// The URL.
        url: Uri,
        /// What is wrong with it.
        #[source]
        source: tonic::transport::Error,
    },
}

/// Why the token cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("cannot read the token in --token-file {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// What is in it is no token.
    #[error("--token-file {} holds no token: {why}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl ControlPlane {
    /// Prepares the connection; must be called on the runtime that will use it. `file` is `--trust-bundle`: it says who is
    /// believed over `https`, together with the roots of the mesh that the configuration names.
    ///
    /// # Errors
    /// A URL that cannot be dialled, or `https` without a bundle.
    pub fn new(
        url: Uri,
        file: Option<Arc<TrustFile>>,
        token_file: Option<PathBuf>,
        identity: Arc<LocalIdentity>,
    ) -> Result<Self, ControlPlaneError> {
        let failed = |source| ControlPlaneError::Url { url: url.clone(), source };
        let endpoint = Endpoint::new(url.clone()).map_err(failed)?;
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        let secure = match (url.scheme_str(), file) {
            (Some("https"), None) => return Err(ControlPlaneError::NoBundle(url)),
            (Some("https"), Some(file)) => Some(Secure { endpoint: endpoint.clone(), file, identity }),
            _ => None,
        };
        let current = Line::new(&endpoint, secure.clone(), None);
        let lines = Mutex::new(Lines { current, refused: None });
        Ok(Self(Arc::new(Inner { url, token_file, secure, lines })))
    }

    /// One that is reached over connections of a test's own.
    #[cfg(test)]
    pub(crate) fn over(channel: Channel, token_file: Option<PathBuf>) -> Self {
        let current = Line { channel, certificate: None, is_refused: Arc::default() };
        Self(Arc::new(Inner {
            url: Uri::from_static("http://control-plane.test:15010"),
            token_file,
            secure: None,
            lines: Mutex::new(Lines { current, refused: None }),
        }))
    }

    /// Where it is.
    pub fn url(&self) -> &Uri {
        &self.0.url
    }

    /// The way to it at this moment. A certificate that is newer than the last one has a way of its own.
    pub fn connection(&self) -> Connection {
        let mut lines = self.0.lines();
        if let Some(secure) = &self.0.secure {
            let certificate = secure.identity.in_force().filter(|tls| is_usable(tls, lines.refused.as_ref()));
            if !is_same(certificate.as_ref(), lines.current.certificate.as_ref()) {
                lines.current = Line::new(&secure.endpoint, Some(secure.clone()), certificate);
            }
        }
        Connection { line: lines.current.clone(), control_plane: self.clone() }
    }
}

impl Connection {
    /// The channel of a call.
    pub fn channel(&self) -> Channel {
        self.line.channel.clone()
    }

    /// Adds the token of this moment to a call; nothing when a certificate is the proof, or when there is no token file.
    ///
    /// # Errors
    /// A token file that holds none.
    pub fn authorize<T>(&self, request: &mut tonic::Request<T>) -> Result<(), TokenError> {
        match &self.control_plane.0.token_file {
            Some(path) if self.line.certificate.is_none() => {
                request.metadata_mut().insert("authorization", bearer(path)?);
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether a call that ended so failed because our certificate proves nothing to the control plane. It is not shown
    /// again then: the next [`ControlPlane::connection`] is without it.
    pub fn is_refused_for_its_certificate(&self, status: &tonic::Status) -> bool {
        let Some(certificate) = &self.line.certificate else { return false };
        let is_refused = matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied)
            || self.line.is_refused.load(Ordering::Relaxed);
        if is_refused {
            tracing::info!(
                reason = status.message(),
                "the control plane does not take our certificate as proof"
            );
            self.control_plane.0.lines().refused = Some(certificate.clone());
        }
        is_refused
    }
}

impl Inner {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn new(endpoint: &Endpoint, secure: Option<Secure>, certificate: Option<Arc<MeshTls>>) -> Self {
        let is_refused = Arc::new(AtomicBool::new(false));
        let dialler = Dialler { secure, certificate: certificate.clone(), is_refused: is_refused.clone() };
        Self { channel: endpoint.connect_with_connector_lazy(dialler), certificate, is_refused }
    }
}

impl Secure {
    /// Believes the file as it is now and the roots of the mesh, so that the control plane may move from one to the other.
    fn config(&self, certificate: Option<&MeshTls>) -> Result<Arc<ClientConfig>, BoxError> {
        let mut roots = self.file.roots();
        let more = self.identity.own_roots().into_iter().filter(|root| !roots.contains(root));
        let more: Vec<_> = more.take(MAX_ROOTS.saturating_sub(roots.len())).collect();
        roots.extend(more);
        Ok(client_by_name(&roots, certificate)?)
    }
}

fn is_usable(tls: &Arc<MeshTls>, refused: Option<&Arc<MeshTls>>) -> bool {
    tls.facts().check_time(UnixTime::now()).is_ok()
        && !refused.is_some_and(|refused| Arc::ptr_eq(refused, tls))
}

fn is_same(one: Option<&Arc<MeshTls>>, other: Option<&Arc<MeshTls>>) -> bool {
    one.map(Arc::as_ptr) == other.map(Arc::as_ptr)
}

/// The file is small and on disk or in memory: reading it does not hold up the control thread.
fn bearer(path: &Path) -> Result<AsciiMetadataValue, TokenError> {
    let content = |why| TokenError::Content { path: path.to_owned(), why };
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|source| TokenError::File { path: path.to_owned(), source })?;
    let token = text.trim();
    if token.is_empty() {
        return Err(content("it is empty"));
    }
    if token.len() > MAX_TOKEN_BYTES {
        return Err(content("it is too long"));
    }
    let mut value: AsciiMetadataValue =
        format!("Bearer {token}").parse().map_err(|_| content("it has characters that no token has"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Dials for tonic: TCP, and TLS of ours where the URL asks for it.
struct Dialler {
    secure: Option<Secure>,
    certificate: Option<Arc<MeshTls>>,
    is_refused: Arc<AtomicBool>,
}

type BoxError = Box<dyn Error + Send + Sync>;
type Dialling = Pin<Box<dyn Future<Output = Result<TokioIo<Box<dyn Stream>>, BoxError>> + Send>>;

/// TCP, with or without TLS.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl tower::Service<Uri> for Dialler {
    type Response = TokioIo<Box<dyn Stream>>;
    type Error = BoxError;
    type Future = Dialling;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, url: Uri) -> Dialling {
        let tls = self.secure.as_ref().map(|secure| secure.config(self.certificate.as_deref())).transpose();
        let is_refused = self.is_refused.clone();
        Box::pin(async move { Ok(TokioIo::new(dial(&url, tls?, is_refused).await?)) })
    }
}

async fn dial(
    url: &Uri,
    tls: Option<Arc<ClientConfig>>,
    is_refused: Arc<AtomicBool>,
) -> Result<Box<dyn Stream>, BoxError> {
    let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let port = url.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = tls else { return Ok(Box::new(stream)) };
    let name = ServerName::try_from(host.to_owned())?;
    let stream = TlsConnector::from(tls).connect(name, stream).await;
    let stream = stream.map_err(|error| outrigger_base::tls::describe_io(&error))?;
    Ok(Box::new(Watched::new(stream, is_refused)))
}

impl fmt::Debug for Dialler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialler").field("tls", &self.secure.is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Arc<LocalIdentity> {
        LocalIdentity::new(crate::xds::support::shared().0, None)
    }

    fn control_plane(token_file: &Path) -> ControlPlane {
        let url = "http://127.0.0.1:1".parse().unwrap();
        ControlPlane::new(url, None, Some(token_file.to_owned()), identity()).unwrap()
    }

    fn authorization(control_plane: &ControlPlane) -> Result<String, String> {
        let mut request = tonic::Request::new(());
        control_plane.connection().authorize(&mut request).map_err(|error| error.to_string())?;
        Ok(request.metadata().get("authorization").unwrap().to_str().unwrap().to_owned())
    }

    #[tokio::test]
    async fn the_token_is_the_one_on_disk_at_the_time_of_the_call() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.token");
        let control_plane = control_plane(&path);
        assert!(authorization(&control_plane).unwrap_err().contains("web.token"));
        std::fs::write(&path, "one\n").unwrap();
        assert_eq!(authorization(&control_plane).unwrap(), "Bearer one");
        std::fs::write(&path, "two\n").unwrap();
        assert_eq!(authorization(&control_plane).unwrap(), "Bearer two");
        for bad in ["", " \n", "a\u{7f}b", &"x".repeat(MAX_TOKEN_BYTES + 1)] {
            std::fs::write(&path, bad).unwrap();
            assert!(authorization(&control_plane).unwrap_err().contains("holds no token"));
        }
    }

    #[tokio::test]
    async fn https_needs_somebody_to_trust() {
        let url: Uri = "https://127.0.0.1:15012".parse().unwrap();
        let error = ControlPlane::new(url, None, None, identity()).unwrap_err();
        assert!(error.to_string().contains("--trust-bundle FILE"), "{error}");
    }
}
