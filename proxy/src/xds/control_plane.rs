//! The connection to the control plane, shared by discovery and certificates, and the token that goes with each call.
//!
//! It connects when it is used and again when it is lost. The token is read at each call: a token that was replaced on
//! disk is used from the next call on.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use outrigger_base::tls::{TlsError, client_with_bundle};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Endpoint};

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
pub struct ControlPlane {
    url: Uri,
    channel: Channel,
    token_file: Option<PathBuf>,
}

/// Why the control plane cannot even be tried.
#[derive(Debug, thiserror::Error)]
pub enum ControlPlaneError {
    /// An `https` URL without somebody to trust.
    #[error("--control-plane {0} needs --trust-bundle FILE with the certificate of its authority")]
    NoBundle(Uri),
    /// The bundle cannot be used.
    #[error("--trust-bundle cannot be used")]
    Bundle(#[source] TlsError),
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
    /// Prepares the connection; must be called on the runtime that will use it. `bundle` is the PEM text of
    /// `--trust-bundle`.
    pub fn new(
        url: Uri,
        bundle: Option<&[u8]>,
        token_file: Option<PathBuf>,
    ) -> Result<Self, ControlPlaneError> {
        let tls = match (url.scheme_str(), bundle) {
            (Some("https"), None) => return Err(ControlPlaneError::NoBundle(url)),
            (Some("https"), Some(bundle)) => {
                Some(client_with_bundle(bundle).map_err(ControlPlaneError::Bundle)?)
            }
            _ => None,
        };
        let failed = |source| ControlPlaneError::Url { url: url.clone(), source };
        let endpoint = Endpoint::new(url.clone()).map_err(failed)?;
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        let channel = endpoint.connect_with_connector_lazy(Dialler { tls });
        Ok(Self { url, channel, token_file })
    }

    /// One that is reached over connections of a test's own.
    #[cfg(test)]
    pub(crate) fn over(channel: Channel, token_file: Option<PathBuf>) -> Self {
        Self { url: Uri::from_static("http://control-plane.test:15010"), channel, token_file }
    }

    /// Where it is.
    pub fn url(&self) -> &Uri {
        &self.url
    }

    /// The connection.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Whether this workload can prove who it is.
    pub fn has_token(&self) -> bool {
        self.token_file.is_some()
    }

    /// Adds the token of this moment to a call; nothing when there is no token file.
    pub fn authorize<T>(&self, request: &mut tonic::Request<T>) -> Result<(), TokenError> {
        let Some(path) = &self.token_file else { return Ok(()) };
        request.metadata_mut().insert("authorization", bearer(path)?);
        Ok(())
    }
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
    tls: Option<Arc<ClientConfig>>,
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
        let tls = self.tls.clone();
        Box::pin(async move { Ok(TokioIo::new(dial(&url, tls).await?)) })
    }
}

async fn dial(url: &Uri, tls: Option<Arc<ClientConfig>>) -> Result<Box<dyn Stream>, BoxError> {
    let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let port = url.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = tls else { return Ok(Box::new(stream)) };
    let name = ServerName::try_from(host.to_owned())?;
    let stream = TlsConnector::from(tls).connect(name, stream).await;
    let stream = stream.map_err(|error| outrigger_base::tls::describe_io(&error))?;
    Ok(Box::new(stream))
}

impl fmt::Debug for Dialler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialler").field("tls", &self.tls.is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control_plane(token_file: &Path) -> ControlPlane {
        let url = "http://127.0.0.1:1".parse().unwrap();
        ControlPlane::new(url, None, Some(token_file.to_owned())).unwrap()
    }

    fn authorization(control_plane: &ControlPlane) -> Result<String, String> {
        let mut request = tonic::Request::new(());
        control_plane.authorize(&mut request).map_err(|error| error.to_string())?;
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
        let error = ControlPlane::new(url.clone(), None, None).unwrap_err();
        assert!(error.to_string().contains("--trust-bundle FILE"), "{error}");
        assert!(matches!(ControlPlane::new(url, Some(b"x"), None), Err(ControlPlaneError::Bundle(_))));
    }
}
